//! When somebody who was here before is asked again: to sign in, to allow, or by strict cookies.

use super::*;

#[tokio::test]
async fn s41_a_new_sign_in_is_asked_for_also_where_nobody_is_signed_in() {
    let (server, _user, _browser) = start().await;
    for (name, value, again) in [
        ("prompt", "login", true),
        ("prompt", "select_account", true),
        ("max_age", "300", true),
        ("prompt", "consent", false),
        ("state", "x", false),
    ] {
        let answer = server
            .browser()
            .get(&authorize_path(&[(name, value)]))
            .await;
        assert_sign_in(&answer);
        let asked = answer.location_param("again").is_some();
        assert_eq!(asked, again, "{name}={value}");
    }
}

/// Another node, a little behind, wrote down when the passkey was used.
#[tokio::test]
async fn s41_a_proof_at_a_node_whose_clock_is_behind_is_one() {
    let (server, _user, mut browser) = start().await;
    authorize(&mut browser, &[]).await;
    server.pass(60_000);
    for (behind, counts) in [(4_999, true), (60_000, false)] {
        let answer = browser_get(&mut browser, &[("prompt", "login")]).await;
        let return_to = assert_sign_in(&answer);
        // Nothing counts without a new proof.
        assert_sign_in(&browser.get(&return_to).await);
        server.pass(-behind);
        prove_again(&server, &mut browser, "pwd", "aal1").await;
        server.pass(behind);
        let back = browser.get(&return_to).await;
        assert_eq!(back.location_param("code").is_some(), counts, "{behind}");
    }
}

#[tokio::test]
async fn s59_what_was_allowed_for_one_resource_is_asked_for_another() {
    const API: &str = "https://api.example.com/v1";
    const OTHER: &str = "https://other.example.com";
    let server = TestServer::with(|settings| {
        settings.resources = vec![API.into(), OTHER.into()];
    })
    .await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let page = browser.get(&authorize_path(&[("resource", API)])).await;
    assert!(page.text.contains(API), "{}", page.text);
    consent(&mut browser, &page, "allow").await;
    let again = browser.get(&authorize_path(&[("resource", API)])).await;
    assert!(again.location_param("code").is_some(), "{}", again.text);
    // Neither another resource nor our own API.
    for other in [OTHER, ""] {
        let silent = [("resource", other), ("prompt", "none")];
        let answer = browser.get(&authorize_path(&silent)).await;
        assert_sent(&answer, "consent_required");
        let page = browser.get(&authorize_path(&[("resource", other)])).await;
        let given = consent(&mut browser, &page, "allow").await;
        assert!(given.location_param("code").is_some(), "{}", given.text);
        let again = browser.get(&authorize_path(&[("resource", other)])).await;
        assert!(again.location_param("code").is_some(), "{}", again.text);
    }
    // Taken back is taken back for all of them.
    let (actor, id) = (Actor::person("test"), &user.id);
    let registry = server.registry();
    registry.revoke_consent(&actor, id, "app").await.unwrap();
    for one in [API, OTHER, ""] {
        let silent = [("resource", one), ("prompt", "none")];
        let answer = browser.get(&authorize_path(&silent)).await;
        assert_sent(&answer, "consent_required");
    }
}

#[tokio::test]
async fn strict_cookies_come_along_after_a_page_of_ours() {
    let server = TestServer::with(|settings| {
        settings.same_site = crate::settings::SameSite::Strict;
    })
    .await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let path = authorize_path(&[]);
    let mut from_elsewhere = server.browser();
    let cross = [("sec-fetch-site", "cross-site")];
    let first = from_elsewhere
        .send(Method::GET, &path, &cross, Body::empty())
        .await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let next = first.header("refresh").strip_prefix("0; url=").unwrap();
    assert_eq!(next, format!("{ISSUER}{path}"));
    // A frame is told at once: no page of ours is shown in it.
    let frame = [cross[0], ("sec-fetch-dest", "iframe")];
    let silent = authorize_path(&[("prompt", "none")]);
    let answer = from_elsewhere
        .send(Method::GET, &silent, &frame, Body::empty())
        .await;
    assert_sent(&answer, "login_required");
    let own = [("sec-fetch-site", "same-origin")];
    let page = browser.send(Method::GET, &path, &own, Body::empty()).await;
    let answer = consent(&mut browser, &page, "allow").await;
    assert!(answer.location_param("code").is_some(), "{}", answer.text);
    // Lax cookies came along: nobody waits.
    let (_server, _user, mut browser) = start().await;
    let page = browser
        .send(Method::GET, &path, &cross, Body::empty())
        .await;
    assert!(page.field("request").is_some(), "{}", page.text);
}
