//! What the database holds of tokens.

use keywright_domain::SecretText;
use keywright_domain::people::TokenDigest;

use super::*;

#[tokio::test]
async fn s1_01_s1_30_of_refresh_tokens_the_database_has_digests_and_of_access_tokens_nothing() {
    let (server, _user, mut browser) = start().await;
    let mut all = vec![signed_in_tokens(&server, &mut browser).await];
    for at in 0..2 {
        let token = text(&all[at], "refresh_token");
        all.push(refresh(&server, &token, &[]).await);
    }
    server.registry().close().await;
    let files = server.files();
    let contents: Vec<_> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let holds = |part: &[u8]| {
        let mut all = contents.iter();
        all.any(|bytes| bytes.windows(part.len()).any(|window| window == part))
    };
    for (at, tokens) in all.iter().enumerate() {
        let token = text(tokens, "refresh_token");
        assert!(!holds(token.as_bytes()), "a refresh token is on disk");
        let digest = TokenDigest::of(&SecretText::new(token));
        assert!(holds(digest.as_bytes()), "the search saw the rows");
        let access = text(tokens, "access_token");
        let (signed, signature) = access.rsplit_once('.').unwrap();
        assert!(!holds(signed.as_bytes()) && !holds(signature.as_bytes()));
        // Its number stands beside a code that was used, which may come again and then takes it back. Of
        // what was refreshed not even that is kept.
        let jti = part(&access, 1)["jti"].as_str().unwrap().to_owned();
        assert_eq!(holds(jti.as_bytes()), at == 0, "{at}");
    }
}
