//! What lies on the way of a sign-in by a provider: the application that waits behind it, and what is kept
//! of it.

use axum::http::StatusCode;
use keywright_domain::SecretText;
use keywright_domain::people::TokenDigest;
use serde_json::json;

use super::stub::{Stub, callback};
use crate::oauth2::testing;
use crate::test_support::TestServer;

#[tokio::test]
async fn s0_18_s0_19_a_person_signs_in_at_a_provider_and_the_application_gets_its_code() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_client("app", None, |_| {}).await;
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.browser();
    let asked = browser.get(&testing::authorize_path(&[])).await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER, "{}", asked.text);
    // The page of ours in between: a password, or the provider.
    let page = browser.get(asked.location()).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    assert!(page.text.contains("name=\"password\""), "{}", page.text);
    let links = page.text.split("href=\"").skip(1);
    let mut links = links.filter_map(|rest| rest.split('"').next());
    let link = links.find(|link| link.starts_with("/rp/authorize?idp=corp"));
    let sent = browser.get(&link.unwrap().replace("&amp;", "&")).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.text);
    stub.note(&sent);
    let back = browser.get(&callback("corp", &sent, "&code=good")).await;
    // Back at what the application asked for, and from there to the application.
    assert!(
        back.location().starts_with("/oauth2/authorize/resume?"),
        "{} {}",
        back.location(),
        back.text
    );
    let page = browser.get(back.location()).await;
    let answer = testing::consent(&mut browser, &page, "allow").await;
    assert!(answer.leads_to().starts_with(testing::REDIRECT));
    assert_eq!(answer.location_param("state").as_deref(), Some("s t&ate"));
    let code = answer.location_param("code").unwrap();
    let tokens = testing::exchange(&server, &code, &[]).await;
    let claims = testing::part(&testing::text(&tokens, "id_token"), 1);
    assert_eq!(claims["sub"], ada.id.as_str());
    assert_eq!(claims["amr"], json!(["fed"]));
}

#[tokio::test]
async fn s0_32_s0_33_s0_35_of_a_state_the_database_has_the_digest_and_the_cookie_is_another_secret()
{
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add(&server, "corp", "openid").await;
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let mut browser = server.browser();
        let sent = stub.begin(&mut browser, "corp").await;
        let state = sent.location_param("state").unwrap();
        let cookie = browser.cookie("login").unwrap().to_owned();
        // 32 bytes each.
        assert_eq!((state.len(), cookie.len()), (43, 43));
        secrets.extend([state, cookie]);
    }
    let mut different = secrets.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 4);
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
    for secret in secrets {
        assert!(!holds(secret.as_bytes()), "a secret of a trip is on disk");
        let digest = TokenDigest::of(&SecretText::new(secret));
        assert!(holds(digest.as_bytes()), "the search saw the rows");
    }
}
