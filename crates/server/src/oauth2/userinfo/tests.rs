use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_registry::people::User;

use crate::oauth2::testing::*;
use crate::test_support::{Answer, Browser, TestServer};

async fn start(scope: &str) -> (TestServer, User, Answer, Browser) {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let code = code(&mut browser, &[("scope", scope)]).await;
    let tokens = exchange(&server, &code, &[]).await;
    (server, user, tokens, browser)
}

async fn post(server: &TestServer, headers: &[(&str, &str)], body: String) -> Answer {
    let mut client = server.browser();
    client
        .send(Method::POST, "/oauth2/userinfo", headers, Body::from(body))
        .await
}

#[tokio::test]
async fn s39_ac_043_get_and_post_tell_what_the_scopes_allow() {
    let (server, user, tokens, _browser) = start("openid profile email").await;
    let access = text(&tokens, "access_token");
    let info = userinfo(&server, &access).await;
    assert_eq!(info.header("content-type"), "application/json");
    assert_eq!(info.header("cache-control"), "no-store");
    let expected = serde_json::json!({
        "sub": user.id, "name": "ada", "email": "ada@example.org", "email_verified": true,
    });
    assert_eq!(info.json(), expected);
    assert_eq!(
        info.json()["sub"],
        part(&text(&tokens, "id_token"), 1)["sub"],
        "ac_043"
    );
    let bearer = format!("Bearer {access}");
    let by_header = post(&server, &[("authorization", &bearer)], String::new()).await;
    assert_eq!(by_header.json(), expected);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let by_body = post(&server, &[form], format!("access_token={access}")).await;
    assert_eq!(by_body.json(), expected);
    // S27: two at once are refused.
    let headers = [form, ("authorization", bearer.as_str())];
    let both = post(&server, &headers, format!("access_token={access}")).await;
    assert_eq!(both.status, StatusCode::BAD_REQUEST);
    assert!(both.header("www-authenticate").contains("invalid_request"));
}

#[tokio::test]
async fn userinfo_without_profile_or_email_is_sub_alone() {
    let (server, user, tokens, _browser) = start("openid").await;
    let info = userinfo(&server, &text(&tokens, "access_token")).await;
    assert_eq!(info.json(), serde_json::json!({ "sub": user.id }));
}

#[tokio::test]
async fn s27_s39_ac_030_ac_031_ac_035_ac_040_bad_tokens_get_a_challenge() {
    let (server, _user, tokens, mut browser) = start("openid offline_access").await;
    let none = browser.get("/oauth2/userinfo").await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(none.header("www-authenticate"), "Bearer");
    let access = text(&tokens, "access_token");
    let in_address = browser
        .get(&format!("/oauth2/userinfo?access_token={access}"))
        .await;
    assert_eq!(in_address.status, StatusCode::UNAUTHORIZED);
    let (message, signature) = access.rsplit_once('.').unwrap();
    let turned: String = signature.chars().rev().collect();
    let claims = message.split('.').nth(1).unwrap();
    // {"alg":"none"} and {"alg":"HS256"}: what a token says of itself decides nothing.
    let (none, hs256) = ("eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9");
    for (token, code) in [
        (format!("{none}.{claims}."), "unknown_key"),
        (format!("{hs256}.{claims}.{signature}"), "unknown_key"),
        (text(&tokens, "id_token"), "wrong_token_use"),
        (text(&tokens, "refresh_token"), "wrong_token_use"),
        (format!("{access}x"), "token_malformed"),
        (
            format!("{message}.{}AA", &turned[..340]),
            "invalid_signature",
        ),
        ("e30.e30.e30".into(), "unknown_key"),
    ] {
        let answer = userinfo(&server, &token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{code}");
        assert_eq!(answer.json()["code"], code);
        let challenge = answer.header("www-authenticate");
        assert!(
            challenge.starts_with("Bearer error=\"invalid_token\""),
            "{challenge}"
        );
    }
    server.pass(929_999);
    assert_eq!(
        userinfo(&server, &access).await.status,
        StatusCode::OK,
        "ac_035 leeway"
    );
    server.pass(1);
    assert_eq!(
        userinfo(&server, &access).await.json()["code"],
        "token_expired"
    );
}

#[tokio::test]
async fn s28_a_token_without_openid_is_not_enough() {
    let (server, _user, tokens, _browser) = start("email").await;
    let answer = userinfo(&server, &text(&tokens, "access_token")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(
        answer
            .header("www-authenticate")
            .contains("insufficient_scope")
    );
}

#[tokio::test]
async fn programs_in_browsers_can_read_why_they_are_told_nothing() {
    let (server, _user, tokens, mut browser) = start("openid").await;
    let own = ("origin", "http://127.0.0.1");
    let foreign = ("origin", "https://evil.example");
    let expired = format!("Bearer {}", text(&tokens, "access_token"));
    let ask = async |browser: &mut Browser, headers: &[(&str, &str)]| {
        let path = "/oauth2/userinfo";
        browser
            .send(Method::GET, path, headers, Body::empty())
            .await
    };
    let good = ask(&mut browser, &[own, ("authorization", &expired)]).await;
    assert_eq!(good.status, StatusCode::OK);
    assert_eq!(good.header("access-control-allow-origin"), own.1);
    let good = ask(&mut browser, &[foreign, ("authorization", &expired)]).await;
    assert_eq!(good.header("access-control-allow-origin"), "");
    server.pass(3_600_000);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let both = [own, form, ("authorization", expired.as_str())];
    for refused in [
        ask(&mut browser, &[own, ("authorization", &expired)]).await,
        ask(&mut browser, &[foreign, ("authorization", "Bearer x")]).await,
        ask(&mut browser, &[own]).await,
        post(&server, &both, "access_token=x".to_owned()).await,
    ] {
        assert!(refused.status.is_client_error(), "{}", refused.text);
        assert_eq!(refused.header("access-control-allow-origin"), "*");
        assert_eq!(refused.header("access-control-allow-credentials"), "");
        let exposed = refused.header("access-control-expose-headers");
        assert!(exposed.contains("www-authenticate"), "{exposed}");
        assert!(exposed.contains("dpop-nonce"), "{exposed}");
        assert_ne!(refused.header("www-authenticate"), "");
    }
}
