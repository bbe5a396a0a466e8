//! `response_mode=form_post`: the answer is a form that the browser posts to the client.

use axum::http::StatusCode;

use super::start;
use crate::oauth2::testing::*;
use crate::test_support::Answer;

const MODE: (&str, &str) = ("response_mode", "form_post");

#[track_caller]
fn assert_form(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.location(), "");
    assert!(answer.text.contains(&format!("action=\"{REDIRECT}\"")));
    assert!(
        answer.text.contains("type=\"submit\""),
        "it works without scripts"
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let policy = answer.header("content-security-policy");
    // Where the client sends the browser on to counts too, and is its own affair.
    assert!(
        policy.contains("form-action 'self' https: http:;"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.field("state").as_deref(), Some("s t&ate"));
    assert_eq!(answer.field("iss").as_deref(), Some(ISSUER));
}

#[tokio::test]
async fn s11_s12_an_answer_by_form_carries_code_state_and_iss() {
    let (server, _user, mut browser) = start().await;
    let page = browser.get(&authorize_path(&[MODE])).await;
    let answer = consent(&mut browser, &page, "allow").await;
    assert_form(&answer);
    let code = answer.field("code").unwrap();
    let tokens = exchange(&server, &code, &[]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
    // And where nobody is asked, at once.
    let answer = browser.get(&authorize_path(&[MODE])).await;
    assert_form(&answer);
    let script = browser.get("/assets/form_post.js").await;
    assert_eq!(script.status, StatusCode::OK);
    assert!(script.header("content-type").starts_with("text/javascript"));
}

#[tokio::test]
async fn s11_errors_go_by_form_too_and_what_cannot_take_a_form_is_refused() {
    let (server, _user, mut browser) = start().await;
    let answer = browser
        .get(&authorize_path(&[MODE, ("prompt", "none")]))
        .await;
    assert_form(&answer);
    assert_eq!(answer.field("error").as_deref(), Some("consent_required"));
    assert!(answer.field("code").is_none());
    // A state that would be markup is text.
    let evil = ("state", "\"><script>alert(1)</script>");
    let answer = browser
        .get(&authorize_path(&[MODE, ("prompt", "none"), evil]))
        .await;
    assert!(!answer.text.contains("<script>alert"), "{}", answer.text);

    server
        .add_client("native", None, |new| {
            new.redirect_uris = vec!["com.example.app:/callback".into()];
        })
        .await;
    let changes = [
        MODE,
        ("client_id", "native"),
        ("redirect_uri", "com.example.app:/callback"),
    ];
    let answer = browser.get(&authorize_path(&changes)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("invalid_request")
    );
}
