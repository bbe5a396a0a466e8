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

async fn from_a_page(browser: &mut Browser, path: &str, site: &str) -> Answer {
    let headers = [("sec-fetch-site", site), ("sec-fetch-dest", "document")];
    browser
        .send(Method::GET, path, &headers, Body::empty())
        .await
}

#[tokio::test]
async fn ac_061_a_page_of_another_site_gets_no_code_for_a_program_without_a_question() {
    let (server, user, mut browser) = start().await;
    let web = "https://app.example.com/callback";
    for (id, secret, uri) in [
        ("scheme", None, "com.example.app:/callback"),
        ("web", None, web),
        (
            "secret",
            Some("secret-of-the-client"),
            "http://127.0.0.1/callback",
        ),
    ] {
        server
            .add_client(id, secret, |new| new.redirect_uris = vec![uri.into()])
            .await;
    }
    for (client, uri, asks) in [
        ("app", REDIRECT, true),
        ("scheme", "com.example.app:/callback", true),
        ("web", web, false),
        ("secret", REDIRECT, false),
    ] {
        let changes = [("client_id", client), ("redirect_uri", uri)];
        let path = authorize_path(&changes);
        authorize(&mut browser, &changes).await;
        // The program opens the browser; an application on the web sends it here.
        for site in ["none", "same-site"] {
            let given = from_a_page(&mut browser, &path, site).await;
            assert!(given.location_param("code").is_some(), "{client} {site}");
        }
        let linked = from_a_page(&mut browser, &path, "cross-site").await;
        assert_eq!(
            linked.status == StatusCode::OK,
            asks,
            "{client}: {}",
            linked.text
        );
        let silent = format!("{path}&prompt=none");
        let silent = from_a_page(&mut browser, &silent, "cross-site").await;
        let error = silent.location_param("error");
        assert_eq!(
            error.as_deref(),
            asks.then_some("consent_required"),
            "{client}"
        );
        if asks {
            let answer = consent(&mut browser, &linked, "allow").await;
            let leads_to = format!("{}{}", answer.leads_to(), answer.text);
            assert!(leads_to.contains("code="), "{client}: {}", answer.text);
        }
    }
    // After a sign-in, and by a form, it is the same request.
    let path = authorize_path(&[]);
    let first = from_a_page(&mut server.browser(), &path, "cross-site").await;
    let return_to = assert_sign_in(&first);
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "cross-site"),
    ];
    let body = Body::from(request(&[]));
    let form = server
        .browser()
        .send(Method::POST, "/oauth2/authorize", &headers, body)
        .await;
    let mut again = server.sign_in_as(&user).await;
    for path in [return_to.as_str(), form.location()] {
        let page = again.get(path).await;
        assert!(page.field("decision").is_some() || page.text.contains("decision"));
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        assert_eq!(page.leads_to(), "", "it asks");
    }
}

#[tokio::test]
async fn ac_061_a_page_of_another_site_gets_no_code_with_strict_cookies_either() {
    let server = TestServer::with(|settings| {
        settings.same_site = crate::settings::SameSite::Strict;
    })
    .await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    authorize(&mut browser, &[]).await;
    let path = authorize_path(&[]);
    let given = from_a_page(&mut browser, &path, "none").await;
    assert!(given.location_param("code").is_some(), "{}", given.text);
    // By the page of ours that takes strict cookies along.
    let hop = from_a_page(&mut browser, &path, "cross-site").await;
    assert!(hop.leads_to().ends_with(&path), "{}", hop.text);
    let page = from_a_page(&mut browser, &path, "same-origin").await;
    assert!(page.field("request").is_some(), "{}", page.text);
}
