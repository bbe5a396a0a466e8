use axum::http::StatusCode;

use crate::oauth2::introspect::tests::{is_active, post_as, start};
use crate::oauth2::testing::{self, text};
use crate::test_support::{Answer, TestServer};

async fn revoke(server: &TestServer, fields: &[(&str, &str)]) -> Answer {
    server.browser().post("/oauth2/revoke", fields).await
}

#[tokio::test]
async fn s30_ac_095_an_unknown_token_is_as_good_as_revoked() {
    let (server, _, tokens) = start().await;
    for token in ["unknown", "a.b.c"] {
        let answer = revoke(&server, &[("client_id", "app"), ("token", token)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.text, "");
    }
    assert!(is_active(&server, &text(&tokens, "access_token")).await);
    let without = revoke(&server, &[("client_id", "app")]).await;
    assert_eq!(testing::error(&without), "invalid_request");
}

#[tokio::test]
async fn s31_ac_095_a_refresh_token_takes_its_access_tokens_with_it_at_once() {
    let (server, _, tokens) = start().await;
    let access = text(&tokens, "access_token");
    let refresh = text(&tokens, "refresh_token");
    assert!(is_active(&server, &access).await);
    // S32: a wrong hint changes nothing.
    let fields = [
        ("client_id", "app"),
        ("token", refresh.as_str()),
        ("token_type_hint", "access_token"),
    ];
    assert_eq!(revoke(&server, &fields).await.status, StatusCode::OK);
    assert!(!is_active(&server, &access).await);
    let used = testing::userinfo(&server, &access).await;
    assert_eq!(used.json()["code"], "token_revoked");
    let refreshed = testing::refresh(&server, &refresh, &[]).await;
    assert_eq!(testing::error(&refreshed), "invalid_grant");
    assert_eq!(
        revoke(&server, &fields).await.status,
        StatusCode::OK,
        "again"
    );
}

#[tokio::test]
async fn ac_094_a_revoked_access_token_is_not_active_and_the_refresh_token_stays() {
    let (server, _, tokens) = start().await;
    let access = text(&tokens, "access_token");
    let fields = [("client_id", "app"), ("token", access.as_str())];
    assert_eq!(revoke(&server, &fields).await.status, StatusCode::OK);
    assert!(!is_active(&server, &access).await);
    // Not good for the leeway after its end either.
    server.pass(915_000);
    let used = testing::userinfo(&server, &access).await;
    assert_eq!(used.status, StatusCode::UNAUTHORIZED);
    assert_eq!(used.json()["code"], "token_revoked");
    let refreshed = testing::refresh(&server, &text(&tokens, "refresh_token"), &[]).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.text);
}

#[tokio::test]
async fn s29_ac_095_another_clients_token_stays_as_it_is() {
    let (server, _, tokens) = start().await;
    let access = text(&tokens, "access_token");
    let refresh = text(&tokens, "refresh_token");
    for token in [access.as_str(), refresh.as_str()] {
        let answer = post_as(&server, "other", "/oauth2/revoke", &[("token", token)]).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert!(is_active(&server, &access).await);
    let refreshed = testing::refresh(&server, &refresh, &[]).await;
    assert_eq!(refreshed.status, StatusCode::OK);
    // Who asks comes first.
    let nobody = revoke(&server, &[("token", access.as_str())]).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn s32_an_id_token_cannot_be_revoked() {
    let (server, _, tokens) = start().await;
    let token = text(&tokens, "id_token");
    let answer = revoke(&server, &[("client_id", "app"), ("token", &token)]).await;
    assert_eq!(testing::error(&answer), "unsupported_token_type");
}
