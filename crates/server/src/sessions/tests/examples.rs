//! The reference applications of the verifier crate, the very files, against a server (S2-06).

use std::net::SocketAddr;

use axum::Router;
use axum::http::{Request, header};
use keywright_domain::people::OAuthScopes;
use keywright_verifier::{Gate, Offline, WebSessions};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::*;
use crate::oauth2::testing::{code, exchange, text};
use crate::settings::Settings;

#[path = "../../../../verifier/examples/offline.rs"]
#[expect(dead_code, reason = "its main is for whoever starts it")]
mod offline;
#[path = "../../../../verifier/examples/web_application.rs"]
#[expect(dead_code, reason = "its main is for whoever starts it")]
mod web_application;

const NOTES: &str = "https://notes.example.com";

/// A server that really listens where its issuer says.
async fn listening() -> (TestServer, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let server = TestServer::now(|settings| {
        let data = settings.data.clone();
        *settings = Settings::new(&issuer, data).unwrap();
        settings.resources = vec![NOTES.into()];
    })
    .await;
    let service = server
        .router
        .clone()
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    (server, issuer)
}

/// Asks an application, which is no server of ours.
async fn ask(
    application: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = application.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_06_s2_25_s2_37_the_example_web_application_shows_who_it_is_and_hands_cookies_on() {
    let (server, issuer) = listening().await;
    let ada = server.add_user("ada@example.org", &[]).await;
    let browser = server.sign_in_as(&ada).await;
    let session = format!("session={}", browser.cookie("session").unwrap());
    let application = web_application::application(WebSessions::new(&issuer).unwrap());

    let nobody = ask(&application, Method::GET, "/", &[], "").await;
    assert!(nobody.text.contains("Nobody is signed in"));
    let hers = [(header::COOKIE.as_str(), session.as_str())];
    let page = ask(&application, Method::GET, "/", &hers, "").await;
    assert!(page.text.contains("Hello, ada."), "{}", page.text);
    // The token of its form comes with a cookie, which it hands on.
    let token = page.field("csrf_token").unwrap();
    let cookie = set_cookies(&page)[0].split(';').next().unwrap().to_owned();
    assert_eq!(cookie, format!("csrf_token={token}"));

    let both = format!("{session}; {cookie}");
    let form = |token: &str| format!("csrf_token={token}");
    let headers = [
        (header::COOKIE.as_str(), both.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let path = "/sign-out";
    let forged = ask(&application, Method::POST, path, &headers, &form("AAAA")).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    let done = ask(&application, Method::POST, path, &headers, &form(&token)).await;
    assert_eq!(
        (done.status, done.location()),
        (StatusCode::SEE_OTHER, "/"),
        "{}",
        done.text
    );
    // The browser hears of it: without this it would go on with a cookie that is worth nothing.
    let cleared = set_cookies(&done);
    let cleared = cleared.iter().find(|one| one.starts_with("session="));
    assert!(cleared.unwrap().contains("Max-Age=0"), "{cleared:?}");
    let after = ask(&application, Method::GET, "/", &hers, "").await;
    assert!(after.text.contains("Nobody is signed in"), "{}", after.text);
    // A server that cannot say is neither signed in nor signed out.
    server.server.close().await;
    let away = ask(&application, Method::GET, "/", &hers, "").await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_06_s4_02_s4_39_the_example_resource_server_verifies_by_itself() {
    let (server, issuer) = listening().await;
    let scopes = "openid notes:admin";
    server
        .add_client("app", None, |new| {
            new.scopes = OAuthScopes::parse(scopes).unwrap();
        })
        .await;
    let service = offline::service(Gate::new(Offline::new(&issuer, NOTES).unwrap()));
    let call = async |path: &str, authorization: &str| {
        let headers = [("authorization", authorization)];
        let headers = &headers[..usize::from(!authorization.is_empty())];
        ask(&service, Method::GET, path, headers, "").await
    };
    let mut bearers = Vec::new();
    for (email, roles) in [
        ("ada@example.org", &["admin"][..]),
        ("bob@example.org", &[][..]),
    ] {
        let user = server.add_user(email, roles).await;
        let mut browser = server.sign_in_as(&user).await;
        let asked = [("scope", scopes), ("resource", NOTES)];
        let given = code(&mut browser, &asked).await;
        let tokens = exchange(&server, &given, &[("resource", NOTES)]).await;
        bearers.push((user.id, format!("Bearer {}", text(&tokens, "access_token"))));
    }
    let [(ada_id, ada), (_, bob)] = &bearers[..] else {
        panic!("two people")
    };
    assert_eq!(call("/health", "").await.text, "ok");
    let nobody = call("/notes", "").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert_eq!(nobody.header("www-authenticate"), "Bearer");
    let good = call("/notes", ada).await;
    assert_eq!(good.text, format!("notes of {ada_id}\n"));
    assert_eq!(call("/admin", ada).await.text, "all notes\n");
    // The scope alone is not enough there: the person has no such role.
    assert_eq!(call("/admin", bob).await.status, StatusCode::FORBIDDEN);
    // In an address it is nothing.
    let token = ada.strip_prefix("Bearer ").unwrap();
    let in_address = call(&format!("/notes?access_token={token}"), "").await;
    assert_eq!(in_address.status, StatusCode::UNAUTHORIZED);
    // It asks nobody about each token: with the server's database gone it goes on.
    server.server.close().await;
    assert_eq!(call("/notes", bob).await.status, StatusCode::OK);
    // In the middle of its signature: the last letters of one carry bits that nobody reads.
    let at = ada.rfind('.').unwrap() + 10;
    let other = if ada.as_bytes()[at] == b'A' { "B" } else { "A" };
    let mut changed = ada.clone();
    changed.replace_range(at..=at, other);
    assert_eq!(
        call("/notes", &changed).await.status,
        StatusCode::UNAUTHORIZED
    );
}
