//! What is kept of tokens, and what a replay leads to.

use super::*;

/// Whether the bytes stand in any file of the server, and in which.
fn files_with(server: &TestServer, text: &str) -> Vec<String> {
    let found = server.files().into_iter().filter(|file| {
        let bytes = std::fs::read(file).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    });
    found.map(|file| file.display().to_string()).collect()
}

#[tokio::test]
async fn s4_01_no_copy_of_a_token_is_kept() {
    let (server, user, mut browser) = start().await;
    let first = signed_in_tokens(&server, &mut browser).await;
    let second = refresh(&server, &text(&first, "refresh_token"), &[]).await;
    let mut access = Vec::new();
    for answer in [&first, &second] {
        let token = text(answer, "access_token");
        assert_eq!(userinfo(&server, &token).await.status, StatusCode::OK);
        access.push(token);
    }
    // The search finds what is there, so what it does not find is not there.
    assert!(!files_with(&server, &user.id).is_empty());
    for answer in [&first, &second] {
        for name in ["access_token", "id_token"] {
            let token = text(answer, name);
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let claims = signed.split_once('.').unwrap().1;
            for part in [signature, claims] {
                assert_eq!(files_with(&server, part), Vec::<String>::new(), "{name}");
            }
        }
        let refresh = text(answer, "refresh_token");
        assert_eq!(files_with(&server, &refresh), Vec::<String>::new());
    }
    // Nor need one be kept: the process that comes next takes them.
    let server = server.again().await;
    for token in &access {
        assert_eq!(userinfo(&server, token).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn s4_37_a_replay_ends_the_family_and_is_told_to_who_watches() {
    use crate::webhooks::events;
    let (server, _user, mut browser) = start().await;
    let first = signed_in_tokens(&server, &mut browser).await;
    let second = refresh(&server, &text(&first, "refresh_token"), &[]).await;
    server.pass(10_001);
    let replayed = refresh(&server, &text(&first, "refresh_token"), &[]).await;
    assert_eq!(error(&replayed), "invalid_grant");
    // Whoever has the newest one, thief or not, has nothing.
    let newest = refresh(&server, &text(&second, "refresh_token"), &[]).await;
    assert_eq!(error(&newest), "invalid_grant");
    let info = userinfo(&server, &text(&second, "access_token")).await;
    assert_eq!(info.json()["code"], "token_revoked");
    let query = AuditQuery {
        limit: 200,
        ..AuditQuery::default()
    };
    let page = server.registry().list_audit_events(query).await.unwrap();
    let told = page.items.iter().filter_map(events::of_audit);
    let told: Vec<_> = told.filter(|event| event.kind == "grant.reused").collect();
    assert_eq!(told.len(), 1);
    let body = String::from_utf8(told[0].body()).unwrap();
    assert!(!body.contains(&text(&first, "refresh_token")), "{body}");
}

/// The desktop app is a public client: there is no secret that could ship with it, and one that somebody claims is
/// refused.
#[tokio::test]
async fn s4_17_the_desktop_has_no_secret_to_ship() {
    let server = TestServer::start().await;
    let id = crate::DESKTOP_CLIENT;
    let client = server.registry().find_client(id).await.unwrap();
    assert_eq!(client.settings.auth_method, AuthMethod::None);
    assert!(client.settings.require_pkce);
    let secrets = server.registry().list_client_secrets(id).await.unwrap();
    assert!(secrets.is_empty());
    let form = format!("grant_type=refresh_token&client_id={id}&refresh_token=x");
    let plain = token_request(&server, &[], form.clone()).await;
    assert_eq!(error(&plain), "invalid_grant");
    let claimed = token_request(&server, &[], format!("{form}&client_secret=x")).await;
    assert_eq!(error(&claimed), "invalid_client");
}
