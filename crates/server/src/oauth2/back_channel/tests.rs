use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::State as AxumState;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

use super::*;
use crate::http::Params;
use crate::oauth2::testing;
use crate::test_support::TestServer;
use crate::webhooks::testing::run;

/// A client's logout endpoint.
#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<Vec<u16>>>,
    got: Arc<Mutex<Vec<String>>>,
}

async fn receive(AxumState(receiver): AxumState<Receiver>, body: String) -> Response {
    let params = Params::parse(&body).unwrap();
    let token = params.get("logout_token").unwrap().to_owned();
    receiver.got.lock().unwrap().push(token);
    let status = receiver.answers.lock().unwrap().pop().unwrap_or(200);
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, "/elsewhere".parse().unwrap());
    (StatusCode::from_u16(status).unwrap(), headers).into_response()
}

/// An endpoint that answers these, the last one first, then 200. Returns its address.
async fn listen(answers: &[u16]) -> (Receiver, String) {
    let receiver = Receiver::default();
    *receiver.answers.lock().unwrap() = answers.to_vec();
    let router = Router::new()
        .route("/logout", post(receive))
        .route("/elsewhere", post(receive).get(receive))
        .with_state(receiver.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (receiver, format!("http://{address}/logout"))
}

/// What came, after so many did or there was time enough.
async fn wait(receiver: &Receiver, many: usize) -> Vec<String> {
    for _ in 0..200 {
        if receiver.got.lock().unwrap().len() >= many {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    receiver.got.lock().unwrap().clone()
}

fn end(server: &TestServer, clients: &[&str]) {
    let clients = clients.iter().map(|id| (*id).to_owned()).collect();
    sessions_ended(
        server.server.app(),
        "user-1",
        vec![("sid-1".into(), clients)],
    );
}

#[tokio::test]
async fn s48_s50_every_client_of_the_session_gets_its_logout_token() {
    let server = TestServer::start().await;
    let (one, address_one) = listen(&[]).await;
    let (two, address_two) = listen(&[]).await;
    server
        .add_client("one", None, |new| {
            new.backchannel_logout_uri = Some(address_one)
        })
        .await;
    server
        .add_client("two", None, |new| {
            new.backchannel_logout_uri = Some(address_two);
            new.signing_alg = "ES256".into();
        })
        .await;
    server.add_client("silent", None, |_| {}).await;
    end(&server, &["one", "two", "silent", "gone"]);
    let got = wait(&one, 1).await;
    assert_eq!(got.len(), 1);
    let token = &got[0];
    let app = server.server.app();
    let claims: Value = app.keys.current().open(LOGOUT_TYPE, token).unwrap();
    assert_eq!(testing::part(token, 0)["typ"], "logout+jwt");
    assert_eq!(claims["iss"], testing::ISSUER);
    assert_eq!(claims["aud"], "one");
    assert_eq!(claims["sub"], "user-1");
    assert_eq!(claims["sid"], "sid-1");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        120
    );
    assert!(claims["jti"].as_str().is_some_and(|jti| jti.len() >= 16));
    let events = claims["events"].as_object().unwrap();
    assert!(events["http://schemas.openid.net/event/backchannel-logout"].is_object());
    assert!(claims.get("nonce").is_none());
    let got = wait(&two, 1).await;
    assert_eq!(got.len(), 1);
    assert_eq!(testing::part(&got[0], 0)["alg"], "ES256");
}

#[tokio::test]
async fn s50_a_client_that_fails_is_tried_again_after_a_restart_too_and_not_for_ever() {
    let server = TestServer::start().await;
    let (receiver, address) = listen(&[503, 500]).await;
    server
        .add_client("one", None, |new| {
            new.backchannel_logout_uri = Some(address)
        })
        .await;
    end(&server, &["one"]);
    assert_eq!(wait(&receiver, 1).await.len(), 1);
    server.pass(10_000);
    run(&server).await;
    assert_eq!(receiver.got.lock().unwrap().len(), 2);
    let server = server.again().await;
    server.pass(60_000);
    run(&server).await;
    let got = receiver.got.lock().unwrap().clone();
    assert_eq!(got.len(), 3);
    // Each try has a token of its own: the one before may be over.
    assert_ne!(got[0], got[2]);
    server.pass(60 * 60_000);
    run(&server).await;
    assert_eq!(receiver.got.lock().unwrap().len(), 3, "it was told");

    let (receiver, address) = listen(&[500; 20]).await;
    server
        .add_client("two", None, |new| {
            new.backchannel_logout_uri = Some(address)
        })
        .await;
    end(&server, &["two"]);
    wait(&receiver, 1).await;
    for _ in 0..60 {
        server.pass(60 * 60_000);
        run(&server).await;
    }
    assert_eq!(
        receiver.got.lock().unwrap().len(),
        11,
        "one try and ten more"
    );
}

#[tokio::test]
async fn s50_refusals_and_redirects_are_final_and_not_followed() {
    for status in [400, 404, 302, 307] {
        let server = TestServer::start().await;
        let (receiver, address) = listen(&[status]).await;
        server
            .add_client("one", None, |new| {
                new.backchannel_logout_uri = Some(address)
            })
            .await;
        end(&server, &["one"]);
        assert_eq!(wait(&receiver, 2).await.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn s49_only_public_https_addresses_are_asked() {
    for (address, allow, why) in [
        ("http://127.0.0.1:1/x", true, Failed::Again("no answer")),
        (
            "http://127.0.0.1:1/x",
            false,
            Failed::Final("its address is not https"),
        ),
        (
            "https://127.0.0.1/x",
            false,
            Failed::Again("its address is private"),
        ),
        (
            "https://localhost/x",
            false,
            Failed::Again("its address is private"),
        ),
        (
            "https://169.254.169.254/latest",
            false,
            Failed::Again("its address is private"),
        ),
        (
            "ftp://8.8.8.8/x",
            true,
            Failed::Final("its address is not https"),
        ),
        ("nonsense", true, Failed::Final("its address is none")),
    ] {
        let server = TestServer::with(|settings| settings.allow_private_addresses = allow).await;
        server.add_client("one", None, |_| {}).await;
        let app = server.server.app();
        let client = app.registry.find_client("one").await.unwrap();
        let sent = send(app, &client, "user-1", "sid-1", address).await;
        assert_eq!(sent, Err(why), "{address} {allow}");
    }
}
