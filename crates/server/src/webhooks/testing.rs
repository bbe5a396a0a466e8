//! What tests of webhooks, notices and found keys share: somebody who listens on a real socket, and
//! somebody who asks with the root key.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::notices;
use crate::test_support::{Answer, Browser, TestServer};

/// One request that came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }
}

/// A receiver of webhooks on a loopback socket.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    /// What it answers next; 204 when there is no more.
    pub(crate) answers: Arc<Mutex<VecDeque<u16>>>,
    /// What it says about when to come again, with every answer.
    pub(crate) retry_after_s: Arc<Mutex<Option<u32>>>,
    /// Where it is given, each answer waits for leave of it.
    pub(crate) leave: Arc<Mutex<Option<Arc<Semaphore>>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    receiver.got.lock().unwrap().push(Got {
        headers,
        body: body.to_vec(),
    });
    let leave = receiver.leave.lock().unwrap().clone();
    if let Some(leave) = leave {
        leave.acquire().await.unwrap().forget();
    }
    let status = receiver.answers.lock().unwrap().pop_front().unwrap_or(204);
    let location = [(header::LOCATION, "/elsewhere")];
    let text = "said ".repeat(1_000);
    let mut answer = (StatusCode::from_u16(status).unwrap(), location, text).into_response();
    if let Some(seconds) = *receiver.retry_after_s.lock().unwrap() {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

impl Receiver {
    /// Listens. Returns its address too.
    pub(crate) async fn listen() -> (Self, String) {
        let receiver = Self::default();
        let router = Router::new()
            .route("/hook", post(receive))
            .route("/elsewhere", post(receive).get(receive))
            .with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, format!("http://{address}/hook"))
    }

    pub(crate) fn will_answer(&self, statuses: &[u16]) {
        self.answers.lock().unwrap().extend(statuses);
    }

    /// How many came since the last time.
    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// What came since the last time.
    pub(crate) fn take(&self) -> Vec<Got> {
        std::mem::take(&mut self.got.lock().unwrap())
    }

    /// Types of the events that came since the last time.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.take().iter().map(Got::kind).collect()
    }
}

/// Somebody with the root key.
pub(crate) struct Root {
    browser: Browser,
    key: String,
}

impl Root {
    /// With a scope that keys can have. What happened before is told to whoever was there before.
    pub(crate) async fn of(server: &TestServer) -> Self {
        run(server).await;
        let mut root = Self {
            browser: server.browser(),
            key: server.root_key.expose().to_owned(),
        };
        let scope = json!({ "name": "orders:read" });
        root.ok(Method::PUT, "/api/v1/scopes", scope).await;
        root
    }

    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let mut headers = vec![("authorization", bearer.as_str())];
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                headers.push(("content-type", "application/json"));
                Body::from(body.to_string())
            }
        };
        self.browser.send(method, path, &headers, body).await
    }

    /// What must succeed.
    pub(crate) async fn ok(&mut self, method: Method, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        answer.json()
    }

    /// A key, as the API answers.
    pub(crate) async fn issue(&mut self, name: &str) -> Value {
        let wish = json!({ "name": name, "prefix": "sk_live", "scopes": ["orders:read"] });
        self.ok(Method::POST, "/api/v1/keys", wish).await
    }

    /// A webhook for some events. Returns id and secret.
    pub(crate) async fn hook(&mut self, url: &str, events: &[&str]) -> (String, String) {
        let body = json!({ "url": url, "events": events });
        let made = self.ok(Method::POST, "/api/v1/webhooks", body).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&made["webhook"]["id"]), text(&made["secret"]))
    }
}

/// Everything that is due is made and sent.
pub(crate) async fn run(server: &TestServer) {
    notices::run_until_idle(server.server.app()).await;
}

/// The verdict on a key: `valid`, or why not.
pub(crate) async fn verdict(server: &TestServer, key: &str) -> String {
    let answer = server
        .browser()
        .send(Method::GET, "/verify", &[("x-api-key", key)], Body::empty())
        .await;
    match answer.status {
        StatusCode::NO_CONTENT => "valid".to_owned(),
        _ => answer.json()["code"].as_str().unwrap().to_owned(),
    }
}
