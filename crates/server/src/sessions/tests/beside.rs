//! Web applications beside the server, by the verifier crate's client (S2-25..30, S2-37, S2-44..46).

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderValue, header};
use keywright_verifier::{WebSessionError, WebSessions};
use tokio::net::TcpListener;

use super::*;

fn with(cookies: &[(&str, &str)]) -> HeaderMap {
    let pairs = cookies
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let text = pairs.collect::<Vec<_>>().join("; ");
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::try_from(text).unwrap());
    headers
}

/// Name and value of a `Set-Cookie`.
fn pair(cookie: &HeaderValue) -> (String, String) {
    let text = cookie.to_str().unwrap();
    let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
    (name.to_owned(), value.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_25_to_s2_46_a_page_made_on_a_server_knows_who_is_signed_in_and_signs_out() {
    let server = TestServer::start().await;
    let ann = server.add_user("ann@example.org", &["member"]).await;
    let browser = server.sign_in_as(&ann).await;
    let session = browser.cookie("session").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let service = server
        .router
        .clone()
        .into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let sessions = WebSessions::new(&base).unwrap();

    // Null where nobody is, and where the cookie is nobody's.
    assert_eq!(sessions.session(&HeaderMap::new()).await, Ok(None));
    let strange = with(&[("session", "nobodys")]);
    assert_eq!(sessions.session(&strange).await, Ok(None));
    let hers = with(&[("session", &session)]);
    let found = sessions.session(&hers).await.unwrap().unwrap();
    assert_eq!(
        (found.user.id, found.user.roles),
        (ann.id.clone(), vec!["member".to_owned()])
    );
    assert_eq!(found.user.email.as_deref(), Some("ann@example.org"));
    assert!(found.expires.ends_with('Z'), "{}", found.expires);

    // A token comes with its cookie, and a good one is used again.
    let made = sessions.csrf_token(&hers).await.unwrap();
    let [cookie] = &*made.set_cookies else {
        panic!("one cookie comes with a token")
    };
    let (name, value) = pair(cookie);
    let both = with(&[("session", &session), (&name, &value)]);
    assert_eq!(sessions.csrf_token(&both).await.unwrap().token, made.token);
    assert!(!format!("{made:?}").contains(&made.token));

    // A made-up token, and one of another session, end nothing.
    let other = server.sign_in_as(&ann).await;
    let other = with(&[("session", other.cookie("session").unwrap())]);
    let others = sessions.csrf_token(&other).await.unwrap().token;
    for token in ["another", &others, "\u{7f}"] {
        let refused = sessions.sign_out(&both, token).await;
        assert_eq!(refused, Err(WebSessionError::Csrf));
    }
    let mut foreign = both.clone();
    foreign.insert(
        header::ORIGIN,
        HeaderValue::from_static("https://evil.example"),
    );
    let refused = sessions.sign_out(&foreign, &made.token).await;
    assert_eq!(
        refused,
        Err(WebSessionError::Csrf),
        "the page of another site"
    );
    assert!(sessions.session(&hers).await.unwrap().is_some());

    let taken = sessions.sign_out(&both, &made.token).await.unwrap();
    let names: Vec<_> = taken.iter().map(pair).collect();
    assert!(
        names.contains(&("session".to_owned(), String::new())),
        "{names:?}"
    );
    assert_eq!(sessions.session(&hers).await, Ok(None));

    // Away is not signed out.
    serving.abort();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let away = WebSessions::new(&base).unwrap().session(&hers).await;
    assert!(
        matches!(away, Err(WebSessionError::Unavailable(_))),
        "{away:?}"
    );
    assert!(WebSessions::new("").is_err() && WebSessions::new("http://id.example.com").is_err());
}
