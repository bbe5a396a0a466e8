//! How a sign-in by a provider begins: by a form or a link of a page, below the issuer's path, and what is said
//! of a target under a wrong name.

use axum::body::Body;
use axum::http::{Method, StatusCode};

use super::stub::{Stub, callback};
use crate::settings::Settings;
use crate::test_support::TestServer;

#[tokio::test]
async fn s2_15_callback_cookies_and_pages_follow_the_path_of_the_issuer() {
    let server = TestServer::with(|settings| {
        let data = settings.data.clone();
        *settings = Settings::new("http://127.0.0.1:8377/id", data).unwrap();
        settings.allow_private_addresses = true;
    })
    .await;
    let stub = Stub::start().await;
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    for (path, back) in [
        ("/id/auth/signIn/corp?redirectTo=/id/here", "/id/auth"),
        ("/id/rp/authorize?idp=corp&redirect_uri=/id/here", "/id/rp"),
    ] {
        let mut browser = server.browser();
        let sent = browser.get(path).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER, "{path} {}", sent.text);
        stub.note(&sent);
        assert_eq!(
            sent.location_param("redirect_uri").unwrap(),
            format!("http://127.0.0.1:8377{back}/callback/corp")
        );
        let answer = callback("corp", &sent, "&code=good").replace("/rp", back);
        let done = browser.get(&answer).await;
        assert_eq!(done.location(), "/id/here", "{}", done.text);
        let session = browser.get("/id/auth/session").await;
        assert_eq!(session.status, StatusCode::OK, "{}", session.text);
        // And nothing stands where it would without the path.
        assert_eq!(
            browser.get("/auth/session").await.status,
            StatusCode::NOT_FOUND
        );
    }
}

/// What a browser makes of `<form action="/auth/signIn/corp">` with one hidden field, and of a link.
#[tokio::test]
async fn s2_39_s2_41_s2_42_a_form_or_a_link_starts_a_sign_in_and_says_where_it_ends() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("redirectTo", "/reports?year=2026&open=1")
        .finish();
    for (path, target) in [
        (
            format!("/auth/signIn/corp?{form}"),
            "/reports?year=2026&open=1",
        ),
        ("/auth/signIn/corp".to_owned(), "/account"),
    ] {
        // Another page of this host, or of another: a navigation like any other, with no script.
        for site in ["same-origin", "cross-site", "none"] {
            let mut browser = server.browser();
            let headers = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
            let sent = browser
                .send(Method::GET, &path, &headers, Body::empty())
                .await;
            assert_eq!(sent.status, StatusCode::SEE_OTHER, "{site} {}", sent.text);
            stub.note(&sent);
            let answer = callback("corp", &sent, "&code=good").replace("/rp/", "/auth/");
            let done = browser.get(&answer).await;
            assert_eq!(done.location(), target, "{site} {}", done.text);
        }
    }
    // A sign-in changes nothing here, so it is no POST.
    let posted = server.browser().post("/auth/signIn/corp", &[]).await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn s2_40_ac_119_a_target_under_a_wrong_name_is_named_and_not_lost() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add(&server, "corp", "openid").await;
    for (path, given, meant) in [
        ("/auth/signIn/corp?redirecTo=/x", "redirecTo", "redirectTo"),
        (
            "/auth/signIn/corp?redirectto=/x",
            "redirectto",
            "redirectTo",
        ),
        (
            "/auth/signIn/corp?redirect_to=/x",
            "redirect_to",
            "redirectTo",
        ),
        (
            "/auth/signIn/corp?redirect_uri=/x",
            "redirect_uri",
            "redirectTo",
        ),
        (
            "/rp/authorize?idp=corp&redirecturi=/x",
            "redirecturi",
            "redirect_uri",
        ),
        (
            "/rp/authorize?idp=corp&redirectTo=/x",
            "redirectTo",
            "redirect_uri",
        ),
        (
            "/rp/authorize?idp=corp&redirecTo=/x",
            "redirecTo",
            "redirect_uri",
        ),
        // Foreign text stays text.
        (
            "/auth/signIn/corp?%3Cb%3EredirectTo=/x",
            "&lt;b&gt;redirectTo",
            "redirectTo",
        ),
    ] {
        let mut browser = server.browser();
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.text.contains("unknown_parameter"), "{}", answer.text);
        let said = format!("The parameter {given} is not known here: did you mean {meant}?");
        assert!(answer.text.contains(&said), "{path} {}", answer.text);
        assert!(browser.cookie("login").is_none(), "no trip began");
    }
    // Others are ignored, as everywhere.
    let mut browser = server.browser();
    let sent = browser
        .get("/auth/signIn/corp?redirectTo=/x&utm_source=mail&state=1&login_hint=ada")
        .await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.text);
}
