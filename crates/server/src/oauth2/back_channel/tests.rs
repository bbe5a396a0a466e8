use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::State as AxumState;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

use keywright_domain::audit::Actor;
use keywright_domain::base62::random_id;
use keywright_domain::people::EndReason;
use keywright_registry::people::User;

use super::*;
use crate::http::Params;
use crate::oauth2::testing;
use crate::sessions;
use crate::sessions::tests::{by_token, give_access};
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

/// Somebody's session in which these clients are. Returns whose and which.
async fn signed_in(server: &TestServer, clients: &[&str]) -> (User, String) {
    let email = format!("{}@example.org", random_id(&mut rand::rng()));
    let user = server.add_user(&email, &[]).await;
    server.sign_in_as(&user).await;
    let sessions = server.registry().list_sessions(&user.id, true, None, 10);
    let sid = sessions.await.unwrap().items[0].id.clone();
    for client in clients {
        give_access(server, &user, Some(&sid), client, "openid").await;
    }
    (user, sid)
}

/// The end of such a session, by its person.
async fn end(server: &TestServer, clients: &[&str]) -> (User, String) {
    let (user, sid) = signed_in(server, clients).await;
    let actor = Actor::person(&user.id);
    let app = server.server.app();
    let ended = sessions::end(app, &actor, &user.id, &sid, EndReason::SignedOut).await;
    assert!(ended.unwrap());
    (user, sid)
}

fn claims(server: &TestServer, token: &str) -> Value {
    let keys = server.server.app().keys.current();
    keys.open(LOGOUT_TYPE, token).unwrap()
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
    server.add_client("elsewhere", None, |_| {}).await;
    let (user, sid) = end(&server, &["one", "two", "silent"]).await;
    let got = wait(&one, 1).await;
    assert_eq!(got.len(), 1);
    let token = &got[0];
    let claims = claims(&server, token);
    assert_eq!(testing::part(token, 0)["typ"], "logout+jwt");
    assert_eq!(claims["iss"], testing::ISSUER);
    assert_eq!(claims["aud"], "one");
    assert_eq!(claims["sub"], user.id.as_str());
    assert_eq!(claims["sid"], sid.as_str());
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
    end(&server, &["one"]).await;
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
    end(&server, &["two"]).await;
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
        end(&server, &["one"]).await;
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

/// Whatever ends a session: when its write is committed and nothing else ran, the client is told by the
/// process that comes next, and once.
#[tokio::test]
async fn s50_a_logout_survives_the_end_of_the_process_right_after_the_write() {
    let mut server = TestServer::start().await;
    let (receiver, address) = listen(&[]).await;
    server
        .add_client("one", None, |new| {
            new.backchannel_logout_uri = Some(address);
        })
        .await;
    let actor = Actor::person("test");
    for (at, way) in [
        "one", "others", "all", "password", "reset", "disabled", "deleted", "removed",
    ]
    .into_iter()
    .enumerate()
    {
        let (user, sid) = signed_in(&server, &["one"]).await;
        let (registry, id) = (server.registry(), user.id.as_str());
        let done = match way {
            "one" => {
                let reason = EndReason::SignedOut;
                let ended = registry.end_session(&actor, id, &sid, reason).await;
                ended.map(drop)
            }
            "others" => {
                server.sign_in_as(&user).await;
                let sessions = registry.list_sessions(id, true, None, 10).await.unwrap();
                let mut kept = sessions.items.iter().filter(|one| one.id != sid);
                let kept = kept.next().unwrap();
                let ended = registry.end_other_sessions(&actor, id, &kept.id).await;
                ended.map(drop)
            }
            "all" => {
                let reason = EndReason::EndedByAdmin;
                let ended = registry.end_all_sessions(&actor, id, reason).await;
                ended.map(drop)
            }
            "password" => {
                let hash = keywright_domain::SecretText::new("$new".into());
                let ended = registry.set_password_hash(&actor, id, Some(&hash), None);
                ended.await.map(drop)
            }
            "reset" => registry.reset_password(&actor, id).await.map(drop),
            "disabled" => registry.disable_user(&actor, id, "left").await.map(drop),
            "deleted" => registry.delete_user(&actor, id).await.map(drop),
            _ => registry.revoke_consent(&actor, id, "one").await.map(drop),
        };
        done.unwrap();
        assert_eq!(receiver.got.lock().unwrap().len(), at, "{way}: too early");
        server = server.again().await;
        run(&server).await;
        let got = receiver.got.lock().unwrap().clone();
        assert_eq!(got.len(), at + 1, "{way}");
        let claims = claims(&server, &got[at]);
        assert_eq!((&claims["sid"], &claims["sub"]), (&json!(sid), &json!(id)));
        server.pass(60 * 60_000);
        run(&server).await;
        assert_eq!(receiver.got.lock().unwrap().len(), at + 1, "{way}: again");
    }
}

#[tokio::test]
async fn s50_an_application_that_is_removed_is_told_and_may_come_back() {
    let server = TestServer::start().await;
    let (receiver, address) = listen(&[]).await;
    let (other, elsewhere) = listen(&[]).await;
    for (id, address) in [("one", address), ("two", elsewhere)] {
        server
            .add_client(id, None, |new| new.backchannel_logout_uri = Some(address))
            .await;
    }
    let (user, sid) = signed_in(&server, &["one", "two"]).await;
    let access = give_access(&server, &user, Some(&sid), "two", "openid account").await;
    let path = "/api/v1/applications/one";
    for _ in 0..3 {
        let answer = by_token(&server, &access.token, Method::DELETE, path).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "also again");
    }
    let got = wait(&receiver, 2).await;
    assert_eq!(got.len(), 1, "once");
    assert_eq!(claims(&server, &got[0])["sid"], sid.as_str());
    let clients = server.registry().list_session_clients(&sid).await.unwrap();
    assert_eq!(*clients, ["two"]);
    let unknown = "/api/v1/applications/never";
    let answer = by_token(&server, &access.token, Method::DELETE, unknown).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);

    // It is allowed again in the same session, and hears of that one's end.
    give_access(&server, &user, Some(&sid), "one", "openid").await;
    let (actor, app) = (Actor::person(&user.id), server.server.app());
    let ended = sessions::end(app, &actor, &user.id, &sid, EndReason::SignedOut).await;
    assert!(ended.unwrap());
    assert_eq!(wait(&receiver, 2).await.len(), 2);
    assert_eq!(wait(&other, 1).await.len(), 1);
}
