mod as_required;
mod asked_anew;
mod before_sign_in;
mod form_post;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{AuthMethod, ClientType, OAuthScopes, TokenDigest};
use keywright_registry::people::User;

use super::*;
use crate::browser_session::{self, ACR_TWO, Found};
use crate::oauth2::testing::*;
use crate::test_support::{Answer, Browser, TestServer};

async fn start() -> (TestServer, User, Browser) {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let browser = server.sign_in_as(&user).await;
    (server, user, browser)
}

/// A page with an error, and no redirect (S4).
fn assert_shown(answer: &Answer, code: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    assert_eq!(answer.location(), "");
    assert!(answer.text.contains(code), "{code}: {}", answer.text);
}

/// An error at the client's address.
fn assert_sent(answer: &Answer, error: &str) {
    // A redirect, or after a form a page that goes on.
    let goes_on = answer.status == StatusCode::OK && answer.location().is_empty();
    let redirects = answer.status == StatusCode::SEE_OTHER && answer.header("refresh").is_empty();
    assert!(goes_on || redirects, "{} {}", answer.status, answer.text);
    assert!(
        answer.leads_to().starts_with(REDIRECT),
        "{}",
        answer.leads_to()
    );
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some(error),
        "{}",
        answer.location()
    );
    assert_eq!(answer.location_param("state").as_deref(), Some("s t&ate"));
    assert_eq!(answer.location_param("iss").as_deref(), Some(ISSUER));
    assert_eq!(answer.location_param("code"), None);
}

/// The end of a form's redirects: a page of ours that goes on to the client, and gives nothing away.
fn assert_goes_on(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.location(), "");
    assert!(answer.leads_to().starts_with(REDIRECT));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("form-action 'self';"), "{policy}");
    // Without `Refresh` there is a link, byte for byte the same address.
    let link = answer.leads_to().replace('&', "&amp;");
    assert!(answer.text.contains(&format!("href=\"{link}\"")));
    let title = answer.text.split("<title>").nth(1).unwrap();
    assert!(title.starts_with("Back to the application · "), "{title}");
}

fn assert_sign_in(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert!(
        answer.location().starts_with("/sign-in?"),
        "{}",
        answer.location()
    );
    answer.location_param("return_to").unwrap()
}

/// Proves the person anew, as the sign-in page does.
async fn prove_again(server: &TestServer, browser: &mut Browser, amr: &str, acr: &str) {
    let app = server.server.app();
    let text = format!("session={}", browser.cookie("session").unwrap());
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, text.parse().unwrap());
    let peer = Peer {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        user_agent: String::new(),
    };
    let cookies = Cookies::read(&headers);
    let Found::SignedIn(signed_in) = browser_session::find(app, &cookies, &peer).await.unwrap()
    else {
        panic!("nobody is signed in");
    };
    let (_, headers) = browser_session::renew(app, &signed_in, amr, acr, Some(app.now()))
        .await
        .unwrap();
    let value = headers.get(header::SET_COOKIE).unwrap().to_str().unwrap();
    let value = value.split(';').next().unwrap().split_once('=').unwrap().1;
    browser.cookies.retain(|(name, _)| name != "session");
    browser.cookies.push(("session".into(), value.into()));
}

#[track_caller]
fn assert_code(answer: &Answer) {
    let begin = "http://127.0.0.1:4000/callback?code=";
    assert!(answer.leads_to().starts_with(begin));
    assert_eq!(answer.location_param("state").as_deref(), Some("s t&ate"));
    assert_eq!(answer.location_param("iss").as_deref(), Some(ISSUER));
    assert_eq!(answer.location_param("code").unwrap().len(), 43);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("access-control-allow-origin"), "", "S13");
}

#[tokio::test]
async fn s11_s12_a_code_comes_with_state_and_iss() {
    let (_server, _user, mut browser) = start().await;
    let answer = authorize(&mut browser, &[]).await;
    // After the consent page's form: a page that goes on.
    assert_goes_on(&answer);
    assert_code(&answer);
    // Where nobody is asked: a redirect.
    let answer = authorize(&mut browser, &[]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.header("refresh"), "");
    assert_code(&answer);
}

#[tokio::test]
async fn ac_056_s4_an_address_that_is_not_registered_is_shown_and_never_followed() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("web", None, |new| {
            new.redirect_uris = vec!["https://app.example.com/cb".into()];
        })
        .await;
    for (client, uri) in [
        ("app", "http://127.0.0.1:4000/callback/x"),
        ("app", "http://127.0.0.1:4000/callback?x=1"),
        ("app", "http://127.0.0.1:4000/call"),
        ("app", "http://localhost:4000/callback"),
        ("app", "http://127.0.0.1@evil.example/callback"),
        ("app", ""),
        ("web", "https://app.example.com/cb/"),
        ("web", "https://app.example.com/cb#x"),
        ("web", "https://u@app.example.com/cb"),
        ("web", "http://app.example.com/cb"),
        ("web", "https://app.example.com.evil.example/cb"),
    ] {
        let changes = [("client_id", client), ("redirect_uri", uri)];
        let answer = browser.get(&authorize_path(&changes)).await;
        assert_shown(&answer, "invalid_redirect_uri");
    }
}

#[tokio::test]
async fn s3_ac_057_a_loopback_address_may_have_any_port() {
    let (_server, _user, mut browser) = start().await;
    for port in ["", ":1", ":65535"] {
        let uri = format!("http://127.0.0.1{port}/callback");
        let answer = authorize(&mut browser, &[("redirect_uri", &uri)]).await;
        assert!(
            answer.leads_to().starts_with(&format!("{uri}?code=")),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn ac_058_an_unknown_or_disabled_client_is_shown() {
    let (server, _user, mut browser) = start().await;
    let answer = browser.get(&authorize_path(&[("client_id", "x")])).await;
    assert_shown(&answer, "invalid_client");
    let answer = browser.get(&authorize_path(&[("client_id", "")])).await;
    assert_shown(&answer, "invalid_request");
    let actor = keywright_domain::audit::Actor::person("test");
    server
        .registry()
        .disable_client(&actor, "app")
        .await
        .unwrap();
    let answer = browser.get(&authorize_path(&[])).await;
    assert_shown(&answer, "invalid_client");
}

#[tokio::test]
async fn s7_a_parameter_that_comes_twice_is_refused() {
    let (_server, _user, mut browser) = start().await;
    for twice in ["client_id=app", "state=x", "unknown=1&unknown=2"] {
        let path = format!("{}&{twice}", authorize_path(&[]));
        assert_shown(&browser.get(&path).await, "invalid_request");
    }
    // An unknown one is ignored, an empty one is none.
    let path = format!("{}&unknown=1&claims=", authorize_path(&[]));
    let page = browser.get(&path).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
}

#[tokio::test]
async fn ac_050_s8_pkce_is_s256_or_nothing() {
    let (server, _user, mut browser) = start().await;
    for changes in [
        vec![("code_challenge", ""), ("code_challenge_method", "")],
        vec![("code_challenge", "")],
        vec![("code_challenge_method", "plain")],
        vec![("code_challenge_method", "")],
        vec![("code_challenge", "short")],
        vec![
            ("code_challenge", VERIFIER),
            ("code_challenge_method", "s256"),
        ],
    ] {
        let answer = browser.get(&authorize_path(&changes)).await;
        assert_sent(&answer, "invalid_request");
    }
    // A confidential client that was let off may leave it out, and may not weaken it.
    server
        .add_client("old", Some("secret-of-the-old-client"), |new| {
            new.require_pkce = false
        })
        .await;
    let none = [
        ("client_id", "old"),
        ("code_challenge", ""),
        ("code_challenge_method", ""),
    ];
    assert!(!code(&mut browser, &none).await.is_empty());
    let plain = [("client_id", "old"), ("code_challenge_method", "plain")];
    assert_sent(
        &browser.get(&authorize_path(&plain)).await,
        "invalid_request",
    );
}

#[tokio::test]
async fn ac_059_ac_060_s11_errors_go_to_the_client_with_state_and_iss() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("machine", Some("secret-of-the-machine"), |new| {
            new.grant_types = vec!["client_credentials".into()];
        })
        .await;
    for (changes, error) in [
        (
            vec![("response_type", "token")],
            "unsupported_response_type",
        ),
        (
            vec![("response_type", "code id_token")],
            "unsupported_response_type",
        ),
        (vec![("response_type", "")], "invalid_request"),
        (vec![("response_mode", "fragment")], "invalid_request"),
        (vec![("scope", "openid keys:*")], "invalid_scope"),
        (vec![("scope", "openid \"")], "invalid_scope"),
        (vec![("request", "e30.e30.")], "request_not_supported"),
        (
            vec![("request_uri", "https://x.example/r")],
            "request_uri_not_supported",
        ),
        (vec![("registration", "{}")], "registration_not_supported"),
        (vec![("prompt", "none login")], "invalid_request"),
        (vec![("prompt", "create")], "invalid_request"),
        (vec![("max_age", "-1")], "invalid_request"),
        (vec![("max_age", "ten")], "invalid_request"),
        (vec![("claims", "[]")], "invalid_request"),
        (vec![("id_token_hint", "e30.e30.e30")], "invalid_request"),
        (
            vec![("resource", "https://api.example.com")],
            "invalid_target",
        ),
        (vec![("resource", "not-a-uri")], "invalid_target"),
        (vec![("dpop_jkt", "short")], "invalid_request"),
        (
            vec![("client_id", "machine"), ("scope", "openid")],
            "unauthorized_client",
        ),
    ] {
        let answer = browser.get(&authorize_path(&changes)).await;
        assert_sent(&answer, error);
        let described = answer.location_param("error_description").unwrap();
        assert_eq!(
            described,
            crate::problem::plain_description(&described),
            "S12"
        );
    }
    let long = "x".repeat(6_000);
    let answer = browser.get(&authorize_path(&[("claims", &long)])).await;
    assert_sent(&answer, "invalid_request");
}

#[tokio::test]
async fn ac_060_without_a_scope_the_client_gets_what_it_is_registered_for() {
    let (server, _user, mut browser) = start().await;
    let code = code(&mut browser, &[("scope", "")]).await;
    let answer = exchange(&server, &code, &[]).await;
    assert_eq!(
        text(&answer, "scope"),
        "account email offline_access openid profile"
    );
}

#[tokio::test]
async fn ac_061_consent_is_asked_once_for_the_same_scopes() {
    let (_server, _user, mut browser) = start().await;
    let asks = |answer: &Answer| answer.status == StatusCode::OK;
    let page = browser.get(&authorize_path(&[("scope", "openid")])).await;
    assert!(
        asks(&page) && page.text.contains("Know that it is you"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("e-mail address"));
    let silent = [("scope", "openid"), ("prompt", "none")];
    assert_sent(
        &browser.get(&authorize_path(&silent)).await,
        "consent_required",
    );
    let answer = consent(&mut browser, &page, "allow").await;
    assert!(answer.location_param("code").is_some());
    // The same again, more, again with more, and when the client insists.
    let again = browser.get(&authorize_path(&[("scope", "openid")])).await;
    assert!(again.location_param("code").is_some(), "{}", again.text);
    let silent = browser.get(&authorize_path(&silent)).await;
    assert!(silent.location_param("code").is_some());
    let more = browser
        .get(&authorize_path(&[("scope", "openid email")]))
        .await;
    assert!(asks(&more) && more.text.contains("e-mail address"));
    let insists = [("scope", "openid"), ("prompt", "consent")];
    let page = browser.get(&authorize_path(&insists)).await;
    assert!(asks(&page));
    let answer = consent(&mut browser, &page, "allow").await;
    assert!(answer.location_param("code").is_some(), "{}", answer.text);
}

#[tokio::test]
async fn s4_13_the_consent_page_has_a_line_for_each_scope_and_no_more() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("keys", None, |new| {
            new.name = "<i>Keys</i>".into();
            new.scopes = OAuthScopes::parse("openid keys:read orders:write").unwrap();
        })
        .await;
    for (client, scope) in [
        ("app", "openid"),
        ("app", "openid profile email offline_access account"),
        ("keys", "keys:read openid orders:write"),
    ] {
        let changes = [("client_id", client), ("scope", scope)];
        let page = browser.get(&authorize_path(&changes)).await;
        let list = page.text.split("<ul class=\"scopes\">").nth(1).unwrap();
        let list = list.split("</ul>").next().unwrap();
        let lines: Vec<_> = list.split("<li>").skip(1).collect();
        assert_eq!(lines.len(), scope.split(' ').count(), "{list}");
        for scope in scope.split(' ') {
            let line = format!("{}</li>", crate::oauth2::consent::line(scope));
            assert!(lines.contains(&line.as_str()), "{scope}: {list}");
        }
        // Who asks is named, as text.
        assert!(!page.text.contains("<i>Keys"), "{}", page.text);
    }
}

#[tokio::test]
async fn ac_008_a_no_goes_to_the_client_and_is_not_remembered() {
    let (_server, _user, mut browser) = start().await;
    let page = browser.get(&authorize_path(&[])).await;
    assert_sent(&consent(&mut browser, &page, "deny").await, "access_denied");
    assert_eq!(
        browser.get(&authorize_path(&[])).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn ac_062_s14_the_consent_page_is_not_framed_and_needs_its_token() {
    let (server, _user, mut browser) = start().await;
    let page = browser.get(&authorize_path(&[])).await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(policy.contains("form-action 'self';"), "{policy}");
    assert_eq!(page.header("x-frame-options"), "DENY");
    let sealed = page.field("request").unwrap();
    for token in ["", "AAAA"] {
        let fields = [
            ("request", sealed.as_str()),
            ("decision", "allow"),
            ("csrf_token", token),
        ];
        let answer = browser.post("/oauth2/authorize/consent", &fields).await;
        assert_eq!(
            answer.status,
            StatusCode::FORBIDDEN,
            "{token}: {}",
            answer.text
        );
        assert_eq!(answer.location(), "");
    }
    // From another site, even with the token.
    let csrf = page.field("csrf_token").unwrap();
    let form = format!("request={sealed}&decision=allow&csrf_token={csrf}");
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", "https://evil.example"),
    ];
    let answer = browser
        .send(
            Method::POST,
            "/oauth2/authorize/consent",
            &headers,
            Body::from(form),
        )
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // Another person's browser, with a token of its own, does not answer for this one.
    let other = server.add_user("eve@example.org", &[]).await;
    let mut other = server.sign_in_as(&other).await;
    let fields = [("request", sealed.as_str()), ("decision", "allow")];
    let answer = other.post("/oauth2/authorize/consent", &fields).await;
    assert!(
        answer.location().starts_with("/oauth2/authorize/resume?"),
        "{}",
        answer.text
    );
    assert_eq!(other.get(answer.location()).await.status, StatusCode::OK);
    // What was changed opens for nobody.
    let mut changed = sealed.clone();
    changed.pop();
    let fields = [("request", changed.as_str()), ("decision", "allow")];
    assert_shown(
        &browser.post("/oauth2/authorize/consent", &fields).await,
        "request_expired",
    );
}

#[tokio::test]
async fn s15_s41_a_stranger_signs_in_first_and_comes_back() {
    let (server, user, _browser) = start().await;
    let mut stranger = server.browser();
    let silent = browser_get(&mut stranger, &[("prompt", "none")]).await;
    assert_sent(&silent, "login_required");
    let answer = browser_get(&mut stranger, &[("login_hint", "ada@example.org")]).await;
    let return_to = assert_sign_in(&answer);
    assert_eq!(
        answer.location_param("login_hint").as_deref(),
        Some("ada@example.org")
    );
    assert_eq!(answer.location_param("again"), None);
    assert!(crate::http::local_path::LocalPath::parse(&return_to).is_some());
    let mut browser = server.sign_in_as(&user).await;
    let page = browser.get(&return_to).await;
    let answer = consent(&mut browser, &page, "allow").await;
    assert!(answer.location_param("code").is_some());
    assert_eq!(answer.location_param("state").as_deref(), Some("s t&ate"));
    // Somebody who allowed it lately comes back to the client without a question, by a page.
    let answer = browser.get(&return_to).await;
    assert_goes_on(&answer);
    assert!(answer.location_param("code").is_some());
    // The form stays here; only a program's own scheme is in its page's policy.
    let app = server.server.app();
    assert_eq!(form_target(app, &return_to), None);
    assert_eq!(form_target(app, "/account?request=x"), None);
    // It waits half an hour, and no longer.
    server.pass(30 * 60 * 1000);
    assert_shown(&browser.get(&return_to).await, "request_expired");
    assert_shown(
        &browser.get("/oauth2/authorize/resume?request=AAAA").await,
        "request_expired",
    );
}

async fn browser_get(browser: &mut Browser, changes: &[(&str, &str)]) -> Answer {
    browser.get(&authorize_path(changes)).await
}

#[tokio::test]
async fn s41_login_forces_a_new_proof_and_max_age_an_old_one() {
    let (server, _user, mut browser) = start().await;
    authorize(&mut browser, &[]).await;
    server.pass(10_000);
    for prompt in ["login", "select_account"] {
        let answer = browser_get(&mut browser, &[("prompt", prompt)]).await;
        let return_to = assert_sign_in(&answer);
        assert_eq!(answer.location_param("again").as_deref(), Some("1"));
        // Coming back without a new proof leads there again.
        assert_sign_in(&browser.get(&return_to).await);
        server.pass(1_000);
        prove_again(&server, &mut browser, "pwd", "aal1").await;
        let answer = browser.get(&return_to).await;
        assert!(
            answer.location_param("code").is_some(),
            "{}",
            answer.location()
        );
    }
    // A proof of five seconds ago is good for ten, not for four, and never for none.
    server.pass(5_000);
    let good = browser_get(&mut browser, &[("max_age", "10")]).await;
    assert!(good.location_param("code").is_some());
    for old in ["4", "0"] {
        let silent = browser_get(&mut browser, &[("max_age", old), ("prompt", "none")]).await;
        assert_sent(&silent, "login_required");
        let answer = browser_get(&mut browser, &[("max_age", old)]).await;
        let return_to = assert_sign_in(&answer);
        prove_again(&server, &mut browser, "pwd", "aal1").await;
        server.pass(5_000);
        let answer = browser.get(&return_to).await;
        assert!(
            answer.location_param("code").is_some(),
            "{old}: {}",
            answer.location()
        );
    }
    // One of this very moment is not, either.
    prove_again(&server, &mut browser, "pwd", "aal1").await;
    let silent = browser_get(&mut browser, &[("max_age", "0"), ("prompt", "none")]).await;
    assert_sent(&silent, "login_required");
}

#[tokio::test]
async fn a_hint_names_who_has_to_sign_in() {
    let (server, user, mut browser) = start().await;
    let own = code(&mut browser, &[]).await;
    let own = text(&exchange(&server, &own, &[]).await, "id_token");
    let answer = browser_get(&mut browser, &[("id_token_hint", &own), ("prompt", "none")]).await;
    assert!(
        answer.location_param("code").is_some(),
        "{}",
        answer.location()
    );
    // An hour later it has expired, and is still a hint.
    server.pass(3_600_000);
    let answer = browser_get(&mut browser, &[("id_token_hint", &own), ("prompt", "none")]).await;
    assert!(
        answer.location_param("code").is_some(),
        "{}",
        answer.location()
    );
    let other = server.add_user("eve@example.org", &[]).await;
    let mut eve = server.sign_in_as(&other).await;
    let silent = browser_get(&mut eve, &[("id_token_hint", &own), ("prompt", "none")]).await;
    assert_sent(&silent, "login_required");
    let return_to = assert_sign_in(&browser_get(&mut eve, &[("id_token_hint", &own)]).await);
    server.pass(1_000);
    prove_again(&server, &mut eve, "pwd", "aal1").await;
    assert_sent(&eve.get(&return_to).await, "login_required");
    // The sub claim says the same.
    let claims = format!("{{\"id_token\":{{\"sub\":{{\"value\":\"{}\"}}}}}}", user.id);
    let silent = browser_get(&mut eve, &[("claims", &claims), ("prompt", "none")]).await;
    assert_sent(&silent, "login_required");
    // A hint for another client is none.
    server.add_client("other", None, |_| {}).await;
    let changes = [("client_id", "other"), ("id_token_hint", own.as_str())];
    assert_sent(
        &browser_get(&mut browser, &changes).await,
        "invalid_request",
    );
}

#[tokio::test]
async fn a_level_is_stepped_up_to_or_refused() {
    let (server, _user, mut browser) = start().await;
    authorize(&mut browser, &[]).await;
    let essential = r#"{"id_token":{"acr":{"essential":true,"values":["aal2"]}}}"#;
    let silent = [("claims", essential), ("prompt", "none")];
    let unmet = "unmet_authentication_requirements";
    assert_sent(&browser_get(&mut browser, &silent).await, unmet);
    let unknown = r#"{"id_token":{"acr":{"essential":true,"value":"urn:x"}}}"#;
    assert_sent(
        &browser_get(&mut browser, &[("claims", unknown)]).await,
        unmet,
    );
    // One of these is there already.
    let any = browser_get(&mut browser, &[("acr_values", "aal2 aal1")]).await;
    assert!(any.location_param("code").is_some(), "{}", any.location());
    server.pass(1_000);
    for (name, value) in [("acr_values", "aal2"), ("claims", essential)] {
        let answer = browser_get(&mut browser, &[(name, value)]).await;
        let return_to = assert_sign_in(&answer);
        assert_eq!(answer.location_param("acr").as_deref(), Some("aal2"));
        assert_eq!(answer.location_param("again"), None);
        assert_sign_in(&browser.get(&return_to).await);
        // They proved who they are once more, with less than was asked for.
        prove_again(&server, &mut browser, "pwd", "aal1").await;
        let less = browser.get(&return_to).await;
        match name {
            "claims" => assert_sent(&less, unmet),
            _ => assert!(less.location_param("code").is_some(), "{}", less.location()),
        }
        server.pass(1_000);
    }
    let return_to = assert_sign_in(&browser_get(&mut browser, &[("claims", essential)]).await);
    prove_again(&server, &mut browser, "pwd otp mfa", ACR_TWO).await;
    let answer = browser.get(&return_to).await;
    let code = answer.location_param("code").unwrap();
    let claims = part(&text(&exchange(&server, &code, &[]).await, "id_token"), 1);
    assert_eq!(claims["acr"], "aal2");
    assert_eq!(claims["amr"], serde_json::json!(["pwd", "otp", "mfa"]));
}

#[tokio::test]
async fn s13_a_form_is_parked_and_comes_back_by_get() {
    let (_server, _user, mut browser) = start().await;
    let mut without_cookies = browser.clone();
    without_cookies.cookies.clear();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = without_cookies
        .send(
            Method::POST,
            "/oauth2/authorize",
            &headers,
            Body::from(request(&[])),
        )
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let page = browser.get(answer.location()).await;
    let answer = consent(&mut browser, &page, "allow").await;
    assert!(answer.location_param("code").is_some());
    let bad = request(&[("response_type", "token")]);
    let answer = without_cookies
        .send(Method::POST, "/oauth2/authorize", &headers, Body::from(bad))
        .await;
    let there = answer.location();
    assert!(there.starts_with("/oauth2/authorize?"), "{there}");
    assert_shown(
        &without_cookies.get(there).await,
        "unsupported_response_type",
    );
    assert_sent(&browser.get(there).await, "unsupported_response_type");
    let long = request(&[("response_type", "token"), ("claims", &"x".repeat(8_000))]);
    let answer = without_cookies
        .send(
            Method::POST,
            "/oauth2/authorize",
            &headers,
            Body::from(long),
        )
        .await;
    assert_shown(&answer, "unsupported_response_type");
    let json = [("content-type", "application/json")];
    let answer = without_cookies
        .send(Method::POST, "/oauth2/authorize", &json, Body::from("{}"))
        .await;
    assert_shown(&answer, "invalid_request");
}

async fn push(server: &TestServer, uri: &str, parameters: &str) {
    let digest = TokenDigest::of(&SecretText::new(uri.to_owned()));
    let registry = server.registry();
    registry
        .push_request(&digest, "app", parameters, 60_000)
        .await
        .unwrap();
}

#[tokio::test]
async fn s57_a_pushed_request_is_taken_once_by_its_client_and_alone_counts() {
    let (server, _user, mut browser) = start().await;
    server.add_client("other", None, |_| {}).await;
    let uri = format!("{PUSHED}abc");
    push(&server, &uri, &request(&[("scope", "openid")])).await;
    let path = |client: &str, more: &str| {
        let uri = uri.replace(':', "%3A");
        format!("/oauth2/authorize?client_id={client}&request_uri={uri}{more}")
    };
    assert_shown(
        &browser.get(&path("other", "")).await,
        "invalid_request_uri",
    );
    // What stands beside it does not count.
    let page = browser
        .get(&path("app", "&scope=openid+email&state=evil"))
        .await;
    assert!(!page.text.contains("e-mail address"), "{}", page.text);
    let answer = consent(&mut browser, &page, "allow").await;
    assert_eq!(answer.location_param("state").as_deref(), Some("s t&ate"));
    assert_shown(&browser.get(&path("app", "")).await, "invalid_request_uri");
    push(&server, &uri, &request(&[])).await;
    server.pass(60_001);
    assert_shown(&browser.get(&path("app", "")).await, "invalid_request_uri");
}

#[tokio::test]
async fn fapi_clients_push_their_requests() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("bank", None, |new| {
            new.client_type = ClientType::Confidential;
            new.auth_method = AuthMethod::PrivateKeyJwt;
            new.jwks = Some("{\"keys\":[]}".into());
            new.signing_alg = "ES256".into();
            new.fapi = true;
        })
        .await;
    let answer = browser.get(&authorize_path(&[("client_id", "bank")])).await;
    assert_sent(&answer, "invalid_request");
    let uri = format!("{PUSHED}bank");
    let digest = TokenDigest::of(&SecretText::new(uri.clone()));
    let pushed = request(&[("client_id", "bank")]);
    server
        .registry()
        .push_request(&digest, "bank", &pushed, 60_000)
        .await
        .unwrap();
    let page = browser
        .get(&format!(
            "/oauth2/authorize?client_id=bank&request_uri={uri}"
        ))
        .await;
    let answer = consent(&mut browser, &page, "allow").await;
    assert!(answer.location_param("code").is_some(), "{}", answer.text);
}

#[tokio::test]
async fn s57_pushed_requests_are_checked_like_others() {
    let (server, _user, _browser) = start().await;
    let app = server.server.app();
    let client = server.registry().find_client("app").await.unwrap();
    let check = async |changes: &[(&str, &str)]| {
        let params = Params::parse(&request(changes)).unwrap();
        let checked = authorization_request::check_pushed(app, &client, &params).await;
        checked.map_err(|error| error.error)
    };
    assert_eq!(check(&[]).await, Ok(()));
    for (changes, error) in [
        (("request_uri", "urn:x"), "invalid_request"),
        (("redirect_uri", "https://evil.example/"), "invalid_request"),
        (("redirect_uri", ""), "invalid_request"),
        (("client_id", "other"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("scope", "keys:*"), "invalid_scope"),
        (("response_type", "token"), "unsupported_response_type"),
    ] {
        assert_eq!(check(&[changes]).await, Err(error), "{changes:?}");
    }
}

#[tokio::test]
async fn claims_by_name_come_by_their_scope_if_the_client_may_have_it() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("small", None, |new| {
            new.scopes = OAuthScopes::parse("openid email").unwrap();
        })
        .await;
    let claims = r#"{"userinfo":{"email":{"essential":true},"name":null}}"#;
    let changes = [
        ("client_id", "small"),
        ("scope", "openid"),
        ("claims", claims),
    ];
    let code = code(&mut browser, &changes).await;
    let answer = exchange(&server, &code, &[("client_id", "small")]).await;
    assert_eq!(text(&answer, "scope"), "email openid");
    let info = userinfo(&server, &text(&answer, "access_token"))
        .await
        .json();
    assert_eq!(info["email"], "ada@example.org");
    assert!(info.get("name").is_none());
}

#[tokio::test]
async fn aliases_stand_only_where_the_settings_say_so() {
    let plain = TestServer::start().await;
    assert_eq!(
        plain.browser().get("/authorize").await.status,
        StatusCode::NOT_FOUND
    );
    let server = TestServer::with(|settings| settings.short_aliases = true).await;
    assert_shown(
        &server.browser().get("/authorize?client_id=x").await,
        "invalid_client",
    );
    assert_eq!(
        server.browser().post("/token", &[]).await.json()["error"],
        "invalid_request"
    );
}
