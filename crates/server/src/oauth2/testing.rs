//! What tests of the OpenID Provider share: the authorization code flow, step by step.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::test_support::{Answer, Browser, TestServer};

/// RFC 7636 appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Its challenge.
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Where answers go.
pub(crate) const REDIRECT: &str = "http://127.0.0.1:4000/callback";
/// The issuer of test servers.
pub(crate) const ISSUER: &str = "http://127.0.0.1:8377";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Parameters with changes; an empty value leaves one out.
fn with_changes(base: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in base {
        if !changes.iter().any(|(changed, _)| changed == name) {
            form.append_pair(name, value);
        }
    }
    form.extend_pairs(changes.iter().filter(|(_, value)| !value.is_empty()));
    form.finish()
}

/// An authorization request of client `app`.
pub(crate) fn request(changes: &[(&str, &str)]) -> String {
    let base = [
        ("client_id", "app"),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("scope", "openid profile email offline_access"),
        ("state", "s t&ate"),
        ("nonce", "n-1"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    with_changes(&base, changes)
}

/// The same as an address.
pub(crate) fn authorize_path(changes: &[(&str, &str)]) -> String {
    format!("/oauth2/authorize?{}", request(changes))
}

/// Answers the consent page with yes.
pub(crate) async fn consent(browser: &mut Browser, page: &Answer, decision: &str) -> Answer {
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let sealed = page.field("request").unwrap();
    let csrf = page.field("csrf_token").unwrap();
    let fields = [
        ("request", sealed.as_str()),
        ("csrf_token", csrf.as_str()),
        ("decision", decision),
    ];
    browser.post("/oauth2/authorize/consent", &fields).await
}

/// Asks, and says yes where the person is asked.
pub(crate) async fn authorize(browser: &mut Browser, changes: &[(&str, &str)]) -> Answer {
    let answer = browser.get(&authorize_path(changes)).await;
    if answer.status == StatusCode::OK {
        return consent(browser, &answer, "allow").await;
    }
    answer
}

/// A code.
pub(crate) async fn code(browser: &mut Browser, changes: &[(&str, &str)]) -> String {
    let answer = authorize(browser, changes).await;
    answer
        .location_param("code")
        .unwrap_or_else(|| panic!("{} {}", answer.status, answer.text))
}

/// `Authorization: Basic`.
pub(crate) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// A token request as it is.
pub(crate) async fn token_request(
    server: &TestServer,
    headers: &[(&str, &str)],
    form: String,
) -> Answer {
    let headers: Vec<_> = [FORM].into_iter().chain(headers.iter().copied()).collect();
    let mut client = server.browser();
    client
        .send(Method::POST, "/oauth2/token", &headers, Body::from(form))
        .await
}

/// Redeems a code as client `app`.
pub(crate) async fn exchange(server: &TestServer, code: &str, changes: &[(&str, &str)]) -> Answer {
    let base = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    token_request(server, &[], with_changes(&base, changes)).await
}

/// Refreshes as client `app`.
pub(crate) async fn refresh(server: &TestServer, token: &str, changes: &[(&str, &str)]) -> Answer {
    let base = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", token),
    ];
    token_request(server, &[], with_changes(&base, changes)).await
}

/// UserInfo with a token.
pub(crate) async fn userinfo(server: &TestServer, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut client = server.browser();
    client
        .send(Method::GET, "/oauth2/userinfo", &headers, Body::empty())
        .await
}

/// A part of a signed token: 0 the header, 1 the claims.
pub(crate) fn part(token: &str, at: usize) -> Value {
    let text = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// A member of an answer as text.
pub(crate) fn text(answer: &Answer, name: &str) -> String {
    answer.json()[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {}", answer.text))
        .to_owned()
}

/// The `error` of an answer.
pub(crate) fn error(answer: &Answer) -> String {
    assert!(
        answer.status.is_client_error(),
        "{} {}",
        answer.status,
        answer.text
    );
    text(answer, "error")
}
