//! The stream of changes, and the verifier that follows it, over real connections.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use keywright_verifier::{ApiKeys, KeyError, KeyMemory, KeyRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{fine, id_of, narrow, refused, secret_of};
use crate::keys::tests::{Program, root, wish};
use crate::test_support::TestServer;

/// A server on a socket, with a wire between that can be cut or frozen.
pub(super) struct Listening {
    address: SocketAddr,
    is_frozen: Arc<AtomicBool>,
    _wire: JoinSet<()>,
}

impl Listening {
    pub(super) async fn start(server: &TestServer) -> Self {
        Self::start_at(server, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(server: &TestServer, address: SocketAddr) -> Self {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = inner.local_addr().unwrap();
        let service = server
            .router
            .clone()
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_frozen = Arc::new(AtomicBool::new(false));
        let mut wire = JoinSet::new();
        wire.spawn(async move {
            axum::serve(inner, service).into_future().await.unwrap();
        });
        let frozen = Arc::clone(&is_frozen);
        wire.spawn(async move {
            // Its connections end with it.
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(behind).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                connections.spawn(carry(near_in, far_out, Arc::clone(&frozen)));
                connections.spawn(carry(far_in, near_out, Arc::clone(&frozen)));
            }
        });
        Self {
            address,
            is_frozen,
            _wire: wire,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, frozen: Arc<AtomicBool>) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        while frozen.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

/// Events as they come.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(at: &Listening, key: &str, after: Option<i64>) -> reqwest::Response {
        let mut request = reqwest::Client::new()
            .get(at.url("/api/v1/events"))
            .bearer_auth(key);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        request.send().await.unwrap()
    }

    async fn follow(at: &Listening, key: &str, after: Option<i64>) -> Self {
        let response = Self::open(at, key, after).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event, with its name; none when the stream ends.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = event.lines();
                    let found = lines.find_map(|line| line.strip_prefix(name));
                    found.unwrap_or("").trim().to_owned()
                };
                let (name, id) = (field("event:"), field("id:"));
                let data: Value = serde_json::from_str(&field("data:")).unwrap();
                assert_eq!(data["version"].to_string(), id);
                self.text = rest.to_owned();
                return Some((name, data));
            }
            let within = Duration::from_secs(5);
            let piece = tokio::time::timeout(within, self.response.chunk()).await;
            let piece = piece.expect("silence").ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next event that is no heartbeat.
    async fn change(&mut self) -> Value {
        loop {
            let (name, data) = self.next().await.unwrap();
            if name == "change" {
                return data;
            }
            assert_eq!(name, "heartbeat");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_told_in_their_order_and_again_from_where_one_left() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let mut stream = Stream::follow(&at, &root.key, None).await;
    let (name, first) = stream.next().await.unwrap();
    assert_eq!(name, "heartbeat", "the first word is where it begins");
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap().0, "heartbeat");
    }
    assert!(
        began.elapsed() < Duration::from_millis(2500),
        "{:?}",
        began.elapsed()
    );
    let issued = root.issue(wish()).await;
    let id = id_of(&issued);
    let made = stream.change().await;
    assert_eq!(
        (&made["subject"], &made["id"]),
        (&json!("api_key"), &json!(id))
    );
    assert!(made["version"].as_i64() > first["version"].as_i64());
    let person = server.add_user("new@example.org", &[]).await;
    let changed = stream.change().await;
    assert_eq!(
        (&changed["subject"], &changed["id"]),
        (&json!("principal"), &json!(person.id))
    );
    drop(stream);
    fine(
        &root
            .post(&format!("/api/v1/keys/{id}/revoke"), json!({}))
            .await,
    );
    // What happened in between is told first, then that it is all.
    let after = made["version"].as_i64();
    let mut stream = Stream::follow(&at, &root.key, after).await;
    assert_eq!(stream.change().await, changed);
    let revoked = stream.change().await;
    assert_eq!(revoked["id"], id);
    let (name, heartbeat) = stream.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &heartbeat["version"]),
        ("heartbeat", &revoked["version"])
    );
    // A version that was never given is of another registry: begin anew.
    let mut stream = Stream::follow(&at, &root.key, Some(9_999_999)).await;
    let (name, reset) = stream.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &reset["version"]),
        ("reset", &revoked["version"])
    );
    assert_eq!(stream.next().await.unwrap().0, "heartbeat");
    // A thousand changes at once come all, each once, in order.
    let mut expected = revoked["version"].as_i64().unwrap();
    let more = tokio::spawn(async move {
        for _ in 0..150 {
            root.issue(wish()).await;
        }
    });
    for _ in 0..150 {
        expected += 1;
        assert_eq!(stream.change().await["version"], expected);
    }
    more.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_are_counted_and_need_their_permission_all_the_time() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let wrong = narrow(&server, &mut root, &["keys:read"]).await;
    assert_eq!(Stream::open(&at, &wrong.key, None).await.status(), 403);
    let bearer = format!("Bearer {}", root.key);
    let headers = [("authorization", bearer.as_str()), ("last-event-id", "-1")];
    let odd = root
        .browser
        .send(
            Method::GET,
            "/api/v1/events",
            &headers,
            String::new().into(),
        )
        .await;
    refused(&odd, 400, "invalid_event_id");
    let wish = json!({ "name": "Service", "prefix": "kw_root", "scopes": ["keys:verify"] });
    let service = root.issue(wish).await;
    let mut stream = Stream::follow(&at, &secret_of(&service), None).await;
    stream.next().await.unwrap();
    // Its own key is revoked: told, and then over.
    let id = id_of(&service);
    fine(
        &root
            .post(&format!("/api/v1/keys/{id}/revoke"), json!({}))
            .await,
    );
    assert_eq!(stream.change().await["id"], id);
    let after = async { while stream.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(3), after)
        .await
        .expect("it goes on");
    assert_eq!(
        Stream::open(&at, &secret_of(&service), None).await.status(),
        401
    );
    let mut all = Vec::new();
    for _ in 0..64 {
        all.push(Stream::follow(&at, &root.key, None).await);
    }
    let more = Stream::open(&at, &root.key, None).await;
    assert_eq!(more.status(), 503);
    assert!(more.text().await.unwrap().contains("too_many_followers"));
    all.clear();
    let freed = async {
        while Stream::open(&at, &root.key, None).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed)
        .await
        .expect("places stay taken");
}

pub(super) async fn service(server: &TestServer, root: &mut Program) -> String {
    narrow(server, root, &["keys:verify"]).await.key
}

fn memory(silence_ms: u64) -> KeyMemory {
    KeyMemory {
        silence: Duration::from_millis(silence_ms),
        ..KeyMemory::default()
    }
}

async fn following(keys: &ApiKeys) {
    for _ in 0..200 {
        if keys.is_following() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the stream is not heard");
}

fn of(key: &str) -> KeyRequest<'_> {
    KeyRequest {
        key,
        ..KeyRequest::default()
    }
}

/// Uses of a key that the server knows of.
async fn uses(root: &mut Program, id: &str) -> i64 {
    let key = fine(&root.get(&format!("/api/v1/keys/{id}")).await);
    key["secrets"][0]["use_count"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_140_a_revoked_key_is_refused_within_a_heartbeat_also_where_it_was_remembered() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let keys = ApiKeys::with_memory(
        &at.url(""),
        &service(&server, &mut root).await,
        memory(1500),
    )
    .unwrap();
    following(&keys).await;
    let issued = root.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    // Its first use is a change of its own, which is told too.
    keys.verify(&of(&key)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let found = keys.verify(&of(&key)).await.unwrap();
    assert_eq!(
        (found.key_id.as_str(), &found.scopes[..]),
        (id.as_str(), &["orders:read".to_owned()][..])
    );
    let before = uses(&mut root, &id).await;
    for _ in 0..50 {
        keys.verify(&of(&key)).await.unwrap();
    }
    assert_eq!(
        uses(&mut root, &id).await,
        before,
        "it was asked about again"
    );
    // A scope that is missing is another question.
    let needed = KeyRequest {
        requirement: Some("orders:write"),
        ..of(&key)
    };
    let missing = keys.verify(&needed).await.unwrap_err();
    assert_eq!(
        missing,
        KeyError::InsufficientScope(vec!["orders:write".into()])
    );
    fine(
        &root
            .post(&format!("/api/v1/keys/{id}/revoke"), json!({}))
            .await,
    );
    let revoked = Instant::now();
    let refusal = loop {
        match keys.verify(&of(&key)).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(refusal) => break refusal,
        }
    };
    let took = revoked.elapsed();
    println!("refused {took:?} after it was revoked");
    assert_eq!(refusal, KeyError::Refused("key_revoked".into()));
    assert!(took < Duration::from_millis(1000), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_140_without_the_stream_nothing_remembered_counts_and_without_the_server_nobody_passes()
{
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let address = at.address;
    let keys = ApiKeys::with_memory(
        &at.url(""),
        &service(&server, &mut root).await,
        memory(1000),
    )
    .unwrap();
    following(&keys).await;
    let issued = root.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    keys.verify(&of(&key)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    keys.verify(&of(&key)).await.unwrap();
    assert!(keys.remembered() > 0);
    // The server is gone, with the stream: within the bound nobody passes on what is remembered.
    drop(at);
    let gone = Instant::now();
    let refusal = loop {
        match keys.verify(&of(&key)).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, KeyError::Unavailable);
    assert!(
        gone.elapsed() < Duration::from_millis(2500),
        "{:?}",
        gone.elapsed()
    );
    assert!(!keys.is_following());
    // Revoked while nobody listened; then the server is back at the same address.
    fine(
        &root
            .post(&format!("/api/v1/keys/{id}/revoke"), json!({}))
            .await,
    );
    let _back = Listening::start_at(&server, address).await;
    following(&keys).await;
    let refusal = keys.verify(&of(&key)).await.unwrap_err();
    assert_eq!(refusal, KeyError::Refused("key_revoked".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_140_a_frozen_wire_is_noticed_by_its_silence() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let credential = service(&server, &mut root).await;
    let keys = ApiKeys::with_memory(&at.url(""), &credential, memory(1000)).unwrap();
    following(&keys).await;
    let issued = root.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    keys.verify(&of(&key)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    keys.verify(&of(&key)).await.unwrap();
    // No connection ends: nothing comes any more, revocations neither.
    at.is_frozen.store(true, Ordering::Relaxed);
    let frozen = Instant::now();
    fine(
        &root
            .post(&format!("/api/v1/keys/{id}/revoke"), json!({}))
            .await,
    );
    while keys.is_following() {
        assert!(frozen.elapsed() < Duration::from_millis(1500));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("silence was noticed after {:?}", frozen.elapsed());
    assert_eq!(
        keys.verify(&of(&key)).await.unwrap_err(),
        KeyError::Unavailable
    );
    at.is_frozen.store(false, Ordering::Relaxed);
    following(&keys).await;
    let refusal = keys.verify(&of(&key)).await.unwrap_err();
    assert_eq!(refusal, KeyError::Refused("key_revoked".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_alone_that_is_lost_has_every_key_asked_about() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let keys = ApiKeys::with_memory(
        &at.url(""),
        &service(&server, &mut root).await,
        memory(1500),
    )
    .unwrap();
    following(&keys).await;
    let issued = root.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    keys.verify(&of(&key)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    keys.verify(&of(&key)).await.unwrap();
    // The server ends its streams and opens no new ones; it still answers about keys.
    server.server.app().operations.drain();
    for _ in 0..300 {
        if !keys.is_following() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!keys.is_following());
    let before = uses(&mut root, &id).await;
    for _ in 0..5 {
        keys.verify(&of(&key)).await.unwrap();
    }
    assert!(
        uses(&mut root, &id).await >= before + 4,
        "answers that were remembered counted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_or_bound_to_a_place_is_not_remembered_for_others() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let keys = ApiKeys::new(&at.url(""), &service(&server, &mut root).await).unwrap();
    following(&keys).await;
    let with = |settings: Value| {
        let mut wish = wish();
        wish["settings"] = settings;
        wish
    };
    let limited =
        with(json!({ "limits": [{ "name": "requests", "count": 3, "period_ms": 3_600_000 }] }));
    let limited = secret_of(&root.issue(limited).await);
    for _ in 0..3 {
        keys.verify(&of(&limited)).await.unwrap();
    }
    let refusal = keys.verify(&of(&limited)).await.unwrap_err();
    assert!(matches!(refusal, KeyError::Limited { .. }), "{refusal:?}");
    let once = secret_of(&root.issue(with(json!({ "one_time": true }))).await);
    keys.verify(&of(&once)).await.unwrap();
    assert!(
        keys.verify(&of(&once)).await.is_err(),
        "a one-time key was used twice"
    );
    let bound = secret_of(
        &root
            .issue(with(json!({ "networks": ["192.0.2.0/24"] })))
            .await,
    );
    let from = |address: &str| KeyRequest {
        address: address.parse().ok(),
        ..of(&bound)
    };
    for _ in 0..2 {
        keys.verify(&from("192.0.2.7")).await.unwrap();
        let refusal = keys.verify(&from("198.51.100.7")).await.unwrap_err();
        assert_eq!(refusal, KeyError::Refused("ip_not_allowed".into()));
        assert!(keys.verify(&of(&bound)).await.is_err());
    }
    assert_eq!(
        keys.verify(&of("no key at all")).await.unwrap_err(),
        KeyError::Refused("key_malformed".into())
    );
    // What this service shows for itself is not accepted: nobody passes.
    let wrong = ApiKeys::new(&at.url(""), &limited).unwrap();
    assert_eq!(
        wrong.verify(&from("192.0.2.7")).await.unwrap_err(),
        KeyError::Unavailable
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_lets_good_keys_through_and_answers_the_others() {
    use axum::routing::get;
    use keywright_verifier::{ApiKey, KeyGate};

    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let at = Listening::start(&server).await;
    let keys = ApiKeys::new(&at.url(""), &service(&server, &mut root).await).unwrap();
    let gate = KeyGate::new(keys);
    let api = axum::Router::new()
        .route("/orders", get(async |key: ApiKey| key.key_id.clone()))
        .layer(gate.require("orders:read").environment("live"));
    let issued = root.issue(wish()).await;
    let key = secret_of(&issued);
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = axum::http::Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        tower::ServiceExt::oneshot(api.clone(), request)
            .await
            .unwrap()
    };
    let bearer = format!("Bearer {key}");
    let passed = ask("/orders", &[("authorization", &bearer)]).await;
    assert_eq!(passed.status(), StatusCode::OK);
    let body = axum::body::to_bytes(passed.into_body(), 100).await.unwrap();
    assert_eq!(body, id_of(&issued).as_bytes());
    assert_eq!(
        ask("/orders", &[("x-api-key", &key)]).await.status(),
        StatusCode::OK
    );
    let none = ask("/orders", &[]).await;
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(none.headers()["www-authenticate"], "Bearer");
    let both = ask(
        "/orders",
        &[("authorization", &bearer), ("x-api-key", "other")],
    )
    .await;
    assert_eq!(both.status(), StatusCode::BAD_REQUEST);
    let basic = ask(
        "/orders",
        &[("authorization", "Basic eDp5"), ("x-api-key", &key)],
    )
    .await;
    assert_eq!(basic.status(), StatusCode::BAD_REQUEST);
    let in_url = ask(&format!("/orders?k={key}"), &[("x-api-key", &key)]).await;
    assert_eq!(in_url.status(), StatusCode::BAD_REQUEST);
    let mut test = wish();
    test["prefix"] = json!("sk_test");
    let test = secret_of(&root.issue(test).await);
    assert_eq!(
        ask("/orders", &[("x-api-key", &test)]).await.status(),
        StatusCode::FORBIDDEN
    );
    let mut write = wish();
    write["scopes"] = json!(["orders:write"]);
    let write = secret_of(&root.issue(write).await);
    let lacking = ask("/orders", &[("x-api-key", &write)]).await;
    assert_eq!(lacking.status(), StatusCode::FORBIDDEN);
    assert!(
        lacking.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .contains("orders:read")
    );
    fine(
        &root
            .post(
                &format!("/api/v1/keys/{}/revoke", id_of(&issued)),
                json!({}),
            )
            .await,
    );
    tokio::time::sleep(Duration::from_millis(700)).await;
    let revoked = ask("/orders", &[("x-api-key", &key)]).await;
    assert_eq!(revoked.status(), StatusCode::UNAUTHORIZED);
    assert!(
        revoked.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .contains("key_revoked")
    );
    drop(at);
    let gone = ask("/orders", &[("x-api-key", &write)]).await;
    assert_eq!(gone.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gone.headers()["retry-after"], "1");
}
