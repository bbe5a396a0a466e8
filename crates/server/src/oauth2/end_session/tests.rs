use keywright_domain::audit::Actor;
use keywright_domain::people::{ACCESS_KEPT_MS, KeyState};

use crate::oauth2::testing::{self, text};
use crate::signing::{ACCESS_TYPE, Alg, ID_TYPE, TokenProblem};
use crate::test_support::{Answer, Browser, TestServer};
use axum::body::Body;
use axum::http::{Method, StatusCode};

const BYE: &str = "https://app.example.com/bye?x=1";

/// A browser in which `app` is signed in, and the ID token.
async fn start() -> (TestServer, Browser, String) {
    let server = TestServer::start().await;
    for id in ["app", "other"] {
        server
            .add_client(id, None, |new| {
                new.post_logout_redirect_uris = vec![BYE.into()];
            })
            .await;
    }
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let code = testing::code(&mut browser, &[]).await;
    let answer = testing::exchange(&server, &code, &[]).await;
    let token = text(&answer, "id_token");
    (server, browser, token)
}

async fn get(browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    browser.get(&format!("/oauth2/end_session?{query}")).await
}

/// Whether this browser's cookie is still good: an application gets a code without a page.
async fn is_signed_in(browser: &Browser) -> bool {
    let mut copy = browser.clone();
    let path = testing::authorize_path(&[("prompt", "none")]);
    copy.get(&path).await.location_param("code").is_some()
}

#[tokio::test]
async fn s42_s43_s45_with_our_id_token_it_is_done_at_once() {
    let (server, mut browser, token) = start().await;
    let old = browser.clone();
    assert!(is_signed_in(&old).await);
    // Expired is as good.
    server.pass(4_000_000);
    assert!(is_signed_in(&old).await);
    let fields = [
        ("id_token_hint", token.as_str()),
        ("client_id", "app"),
        ("post_logout_redirect_uri", BYE),
        ("state", "a b&c"),
    ];
    let answer = get(&mut browser, &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.location(), format!("{BYE}&state=a+b%26c"));
    assert!(
        browser.cookie("session").is_none(),
        "the cookie is taken away"
    );
    assert!(!is_signed_in(&old).await, "and worth nothing");
}

/// A form of another site comes without the cookies, and goes on at an address, to which they come along.
async fn post_from_elsewhere(browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    let mut without = browser.clone();
    without.cookies.clear();
    let hop = without.post("/oauth2/end_session", fields).await;
    assert_eq!(hop.status, StatusCode::SEE_OTHER, "{}", hop.text);
    assert!(
        hop.location().starts_with("/oauth2/end_session?"),
        "{hop:?}"
    );
    assert_eq!(hop.header("set-cookie"), "", "nothing ended yet");
    browser.get(hop.location()).await
}

#[tokio::test]
async fn s42_a_form_of_another_site_comes_without_the_cookie_and_ends_the_session() {
    let (server, browser, token) = start().await;
    let fields = [
        ("id_token_hint", token.as_str()),
        ("post_logout_redirect_uri", BYE),
        ("state", "a b&c"),
        ("ui_locales", "de"),
    ];
    let mut own = browser.clone();
    let answer = post_from_elsewhere(&mut own, &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.location(), format!("{BYE}&state=a+b%26c"));
    assert!(own.cookie("session").is_none(), "the cookie is taken away");
    assert!(!is_signed_in(&browser).await);
    // Again, and where nobody is signed in: it is over, and that is no failure.
    for mut browser in [own, server.browser()] {
        let again = post_from_elsewhere(&mut browser, &fields).await;
        assert_eq!(again.status, StatusCode::SEE_OTHER);
        assert_eq!(again.location(), format!("{BYE}&state=a+b%26c"));
    }
    let long = "x".repeat(8_000);
    let fields = [("state", long.as_str())];
    let refused = server.browser().post("/oauth2/end_session", &fields).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn s42_s46_s47_a_form_of_another_site_never_says_signed_out_while_the_session_lives() {
    let (server, mut browser, old_token) = start().await;
    // Without a hint the person is asked.
    let page = post_from_elsewhere(&mut browser, &[("client_id", "app")]).await;
    assert!(page.text.contains("Sign out?"), "{}", page.text);
    assert!(is_signed_in(&browser).await);
    // The hint of a session that ended, in a browser that signed in again: this one is another session.
    get(&mut browser, &[("id_token_hint", &old_token)]).await;
    let user = testing::part(&old_token, 1)["sub"]
        .as_str()
        .map(str::to_owned);
    let user = server.registry().find_user(&user.unwrap()).await.unwrap();
    let mut again = server.sign_in_as(&user).await;
    let fields = [
        ("id_token_hint", old_token.as_str()),
        ("post_logout_redirect_uri", BYE),
    ];
    let page = post_from_elsewhere(&mut again, &fields).await;
    assert!(page.text.contains("Sign out?"), "{}", page.text);
    assert_eq!(page.location(), "");
    assert!(is_signed_in(&again).await);
}

#[tokio::test]
async fn s46_strict_cookies_come_along_after_a_page_of_ours() {
    let server = TestServer::with(|settings| {
        settings.same_site = crate::settings::SameSite::Strict;
    })
    .await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let path = "/oauth2/end_session?client_id=app";
    let cross = [("sec-fetch-site", "cross-site")];
    let mut from_elsewhere = server.browser();
    let first = from_elsewhere
        .send(Method::GET, path, &cross, Body::empty())
        .await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    assert!(!first.text.contains("signed out"), "{}", first.text);
    assert_eq!(first.leads_to(), format!("{}{path}", testing::ISSUER));
    let own = [("sec-fetch-site", "same-origin")];
    let page = browser.send(Method::GET, path, &own, Body::empty()).await;
    assert!(page.text.contains("Sign out?"), "{}", page.text);
}

/// A new key takes the place of the one that signed so far, and that one is retired: in its time, or by hand.
async fn replace_signing_key(server: &TestServer, by_hand: bool) {
    let app = server.server.app();
    let before = app.keys.current().signer(Alg::Rs256).unwrap().kid.clone();
    let rotated = app.keys.rotate(
        &app.registry,
        &app.secrets,
        &app.settings,
        (Alg::Rs256, None),
    );
    rotated.await.unwrap();
    if by_hand {
        let actor = Actor::person("test");
        let retired = app.registry.retire_signing_key(&actor, &before).await;
        assert_eq!(retired.unwrap().state, KeyState::Retired);
    } else {
        server.pass(ACCESS_KEPT_MS + 1);
    }
    let settled = app
        .keys
        .settle(&app.registry, &app.secrets, &app.settings, app.now());
    settled.await.unwrap();
    assert!(
        !app.keys.current().jwks().contains(&before),
        "published no more"
    );
}

#[tokio::test]
async fn s38_s43_an_id_token_is_a_hint_for_as_long_as_its_session_may_live() {
    let (server, mut browser, token) = start().await;
    let code = testing::code(&mut browser, &[]).await;
    let access = text(
        &testing::exchange(&server, &code, &[]).await,
        "access_token",
    );
    replace_signing_key(&server, false).await;
    let silent = [("prompt", "none"), ("id_token_hint", token.as_str())];
    let renewed = browser.get(&testing::authorize_path(&silent)).await;
    let error = renewed.location_param("error");
    assert!(renewed.location_param("code").is_some(), "{error:?}");
    // What it signed is good for nothing else: not as a token of any kind.
    let keys = server.server.app().keys.current();
    for typ in [ACCESS_TYPE, ID_TYPE] {
        let opened = keys.open::<serde_json::Value>(typ, &token);
        assert_eq!(opened.unwrap_err(), TokenProblem::UnknownKey);
    }
    let used = testing::userinfo(&server, &access).await;
    assert_eq!(used.status, StatusCode::UNAUTHORIZED);
    let as_hint = keys.open_hint::<serde_json::Value>(&access);
    assert_eq!(as_hint.unwrap_err(), TokenProblem::UnknownKey);
    // A changed one is none.
    let mut forged = token.clone();
    forged.replace_range(token.len() - 6.., "AAAAAA");
    let page = get(&mut browser, &[("id_token_hint", &forged)]).await;
    assert!(page.text.contains("Sign out?"), "{}", page.text);
    let fields = [
        ("id_token_hint", token.as_str()),
        ("post_logout_redirect_uri", BYE),
    ];
    let answer = get(&mut browser.clone(), &fields).await;
    assert_eq!(answer.location(), BYE, "{}", answer.text);
    // No session of its time is left, and no refresh token.
    server.pass(server.server.app().settings.refresh.absolute_ms);
    let app = server.server.app();
    let settled = app
        .keys
        .settle(&app.registry, &app.secrets, &app.settings, app.now());
    settled.await.unwrap();
    let late = app.keys.current().open_hint::<serde_json::Value>(&token);
    assert_eq!(late.unwrap_err(), TokenProblem::UnknownKey);
}

#[tokio::test]
async fn s43_what_a_key_signed_that_was_ended_by_hand_is_no_hint() {
    let (server, mut browser, token) = start().await;
    replace_signing_key(&server, true).await;
    let page = get(&mut browser, &[("id_token_hint", &token)]).await;
    assert!(page.text.contains("Sign out?"), "{}", page.text);
}

#[tokio::test]
async fn s44_s45_other_clients_and_other_addresses_are_refused() {
    let (server, mut browser, token) = start().await;
    for fields in [
        vec![("client_id", "other")],
        vec![("post_logout_redirect_uri", "https://evil.example/")],
        vec![("post_logout_redirect_uri", "https://app.example.com/bye")],
        vec![(
            "post_logout_redirect_uri",
            "https://app.example.com/bye?x=1&y",
        )],
    ] {
        let mut all = vec![("id_token_hint", token.as_str())];
        all.extend(fields.clone());
        let answer = get(&mut browser, &all).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{fields:?}");
        assert_eq!(answer.location(), "");
    }
    assert!(is_signed_in(&browser).await);
    let twice = "/oauth2/end_session?state=a&state=b";
    assert_eq!(browser.get(twice).await.status, StatusCode::BAD_REQUEST);
    // One that is disabled leads nobody to its own address either.
    let actor = Actor::person("test");
    let done = server.registry().disable_client(&actor, "app").await;
    done.unwrap();
    let own = [
        ("id_token_hint", token.as_str()),
        ("post_logout_redirect_uri", BYE),
    ];
    let answer = get(&mut browser, &own).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.location(), "");
}

#[tokio::test]
async fn s46_s47_without_a_good_hint_the_person_is_asked() {
    let (server, mut browser, token) = start().await;
    let mut forged = token.clone();
    forged.replace_range(token.len() - 6.., "AAAAAA");
    for hint in ["", "nonsense", forged.as_str()] {
        let fields = [
            ("id_token_hint", hint),
            ("client_id", "app"),
            ("post_logout_redirect_uri", BYE),
        ];
        let page = get(&mut browser, &fields).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text.contains("Sign out?"), "{hint}");
        // A hint that is not ours takes its address with it.
        let address = page.field("post_logout_redirect_uri");
        assert_eq!(address.is_some(), hint.is_empty(), "{hint}");
    }
    assert!(is_signed_in(&browser).await);
    // The access token is no ID token.
    let fields = [
        ("client_id", "app"),
        ("post_logout_redirect_uri", "https://evil.example/"),
    ];
    let page = get(&mut browser, &fields).await;
    assert!(page.field("post_logout_redirect_uri").is_none());

    // S14: from our page only.
    let path = "/oauth2/end_session/confirm";
    let mut attacked = browser.clone();
    let refused = attacked.post(path, &[("csrf_token", "AAAA")]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(is_signed_in(&browser).await);
    let fields = [
        ("client_id", "app"),
        ("post_logout_redirect_uri", BYE),
        ("state", "s"),
    ];
    let old = browser.clone();
    let answer = browser.post(path, &fields).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.location(), "");
    assert_eq!(answer.leads_to(), format!("{BYE}&state=s"));
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert!(!is_signed_in(&old).await);
    // Nobody is there any more: a page, and no redirect.
    let nobody = get(&mut server.browser(), &fields).await;
    assert!(nobody.text.contains("You are signed out"));
    assert_eq!(nobody.location(), "");
}

#[tokio::test]
async fn s46_a_hint_of_somebody_else_or_another_session_asks() {
    let (server, browser, token) = start().await;
    let other = server.add_user("bob@example.org", &[]).await;
    let mut bobs = server.sign_in_as(&other).await;
    let fields = [("id_token_hint", token.as_str())];
    let page = get(&mut bobs, &fields).await;
    assert!(page.text.contains("Sign out?"), "{}", page.text);
    assert!(is_signed_in(&browser).await, "ann's stays");
}

#[tokio::test]
async fn s3_51_logout_is_another_name_for_sign_out_with_the_same_rules() {
    let (_server, mut browser, _) = start().await;
    let mut bare = browser.clone();
    bare.cookies.retain(|(name, _)| name == "session");
    let refused = bare.post("/logout", &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    let looked = browser.get("/logout").await;
    assert_eq!(looked.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(is_signed_in(&browser).await);
    let old = browser.clone();
    let done = browser.post("/logout", &[]).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert!(!is_signed_in(&old).await);
}

#[tokio::test]
async fn s50_an_application_may_stay_signed_in_while_its_person_is_away() {
    let (server, mut browser, _) = start().await;
    let code = testing::code(&mut browser, &[]).await;
    let tokens = testing::exchange(&server, &code, &[]).await;
    let sid = testing::part(&text(&tokens, "id_token"), 1)["sid"].clone();
    assert!(sid.is_string());
    let page = get(&mut browser, &[("client_id", "app")]).await;
    assert!(page.text.contains("while you are away"), "{}", page.text);
    browser.post("/oauth2/end_session/confirm", &[]).await;
    let used = testing::userinfo(&server, &text(&tokens, "access_token")).await;
    assert_eq!(used.json()["code"], "token_revoked", "{}", used.text);
    let next = testing::refresh(&server, &text(&tokens, "refresh_token"), &[]).await;
    assert_eq!(next.status, StatusCode::OK, "{}", next.text);
    for name in ["access_token", "id_token"] {
        assert!(testing::part(&text(&next, name), 1).get("sid").is_none());
    }
    let access = text(&next, "access_token");
    let used = testing::userinfo(&server, &access).await;
    assert_eq!(used.status, StatusCode::OK, "{}", used.text);
    // Ended in the list of sessions it ends with the session, also by the browser that it is.
    let user = used.json()["sub"].as_str().map(str::to_owned).unwrap();
    let user = server.registry().find_user(&user).await.unwrap();
    let mut browser = server.sign_in_as(&user).await;
    let code = testing::code(&mut browser, &[]).await;
    let tokens = testing::exchange(&server, &code, &[]).await;
    let sid = testing::part(&text(&tokens, "id_token"), 1)["sid"].clone();
    let path = format!("/api/v1/sessions/{}", sid.as_str().unwrap());
    let ended = browser
        .json(Method::DELETE, &path, &serde_json::Value::Null)
        .await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text);
    let refused = testing::refresh(&server, &text(&tokens, "refresh_token"), &[]).await;
    assert_eq!(testing::error(&refused), "invalid_grant");
}
