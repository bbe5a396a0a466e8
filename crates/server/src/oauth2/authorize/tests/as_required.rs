//! Rows of the requirements (`docs/requirements/`) that go through several of our endpoints.

use super::*;
use crate::sign_in::tests::sign_in;
use crate::test_support::PASSWORD;

#[tokio::test]
async fn s0_17_scopes_are_parted_by_plus_and_by_percent_20() {
    let (server, _user, mut browser) = start().await;
    let rest = authorize_path(&[("scope", "")]);
    for between in ["+", "%20"] {
        let path = format!("{rest}&scope=openid{between}profile{between}email");
        let mut answer = browser.get(&path).await;
        if answer.status == StatusCode::OK {
            answer = consent(&mut browser, &answer, "allow").await;
        }
        let code = answer.location_param("code").unwrap();
        let tokens = exchange(&server, &code, &[]).await;
        assert_eq!(text(&tokens, "scope"), "email openid profile", "{between}");
    }
}

#[tokio::test]
async fn s0_52_an_access_token_lives_a_quarter_of_an_hour_and_an_hour_where_that_is_set() {
    for (set, life) in [(None, 900), (Some(3_600_000), 3_600)] {
        let server = TestServer::with(|settings| {
            settings.access_ms = set.unwrap_or(settings.access_ms);
        })
        .await;
        server.add_client("app", None, |_| {}).await;
        let user = server.add_user("ada@example.org", &[]).await;
        let mut browser = server.sign_in_as(&user).await;
        let code = code(&mut browser, &[]).await;
        let tokens = exchange(&server, &code, &[]).await;
        assert_eq!(tokens.json()["expires_in"], life);
        let access = text(&tokens, "access_token");
        let claims = part(&access, 1);
        let at = |name: &str| claims[name].as_i64().unwrap();
        assert_eq!(at("exp") - at("iat"), life);
        server.pass(life * 1000 - 1);
        assert_eq!(userinfo(&server, &access).await.status, StatusCode::OK);
        // And half a minute for clocks that differ.
        server.pass(30_001);
        let late = userinfo(&server, &access).await;
        assert_eq!(late.json()["code"], "token_expired", "{}", late.text);
    }
}

#[tokio::test]
async fn s1_33_one_sign_in_serves_several_applications_and_one_sign_out_ends_it_for_all() {
    let (server, _user, _browser) = start().await;
    server.add_client("other", None, |_| {}).await;
    let mut browser = server.browser();
    let return_to = assert_sign_in(&browser.get(&authorize_path(&[])).await);
    let signed_in = sign_in(&mut browser, "ada@example.org", PASSWORD).await;
    assert_eq!(
        signed_in.status,
        StatusCode::SEE_OTHER,
        "{}",
        signed_in.text
    );
    let page = browser.get(&return_to).await;
    let first = consent(&mut browser, &page, "allow").await;
    // The other application asks what it may do, and nobody who that is.
    let other = ("client_id", "other");
    let page = browser.get(&authorize_path(&[other])).await;
    let second = consent(&mut browser, &page, "allow").await;
    let (mut sessions, mut access) = (Vec::new(), Vec::new());
    for (client, answer) in [("app", first), ("other", second)] {
        let code = answer.location_param("code").unwrap();
        let tokens = exchange(&server, &code, &[("client_id", client)]).await;
        let claims = part(&text(&tokens, "id_token"), 1);
        assert_eq!(claims["aud"], client);
        sessions.push(claims["sid"].as_str().unwrap().to_owned());
        access.push(text(&tokens, "access_token"));
    }
    assert_eq!(sessions[0], sessions[1]);
    let out = browser.post("/auth/signOut", &[]).await;
    assert_eq!(out.status, StatusCode::OK, "{}", out.text);
    for token in &access {
        let denied = userinfo(&server, token).await;
        assert_eq!(denied.json()["code"], "token_revoked", "{}", denied.text);
    }
    for changes in [&[][..], &[other]] {
        assert_sign_in(&browser.get(&authorize_path(changes)).await);
    }
}
