//! The key service on a real registry.

mod bulk;
mod campaigns;
mod delivery;
mod etags;
mod events;
mod forged;
mod gate;
mod guide;
mod later;
mod moving;
mod narrowing;
mod notices;
mod once;
mod owners;
mod resources;
mod table;

use axum::http::{Method, StatusCode};
use serde_json::Value;

use crate::keys::tests::Program;
use crate::test_support::{Answer, TestServer};

/// A person's or a key's id.
pub(super) fn id_of(issued: &Value) -> String {
    issued["key"]["id"].as_str().unwrap().to_owned()
}

/// The secret that an answer showed.
pub(super) fn secret_of(issued: &Value) -> String {
    issued["secret"].as_str().unwrap().to_owned()
}

#[track_caller]
pub(super) fn refused(answer: &Answer, status: u16, code: &str) {
    let found = (answer.status.as_u16(), answer.json()["code"].clone());
    assert_eq!(found, (status, code.into()), "{}", answer.text);
}

#[track_caller]
pub(super) fn fine(answer: &Answer) -> Value {
    assert!(
        answer.status.is_success(),
        "{} {}",
        answer.status,
        answer.text
    );
    answer.json()
}

impl Program {
    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, Value::Null).await
    }

    pub(super) async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body).await
    }
}

/// What a service is told about a key.
pub(super) async fn verdict(root: &mut Program, key: &str) -> Value {
    let answer = root
        .post("/api/v1/keys/verify", serde_json::json!({ "key": key }))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

/// Makes a key that belongs to a person.
pub(super) async fn key_of(root: &mut Program, person: &str) -> Value {
    let mut wish = crate::keys::tests::wish();
    wish["owner"] = serde_json::json!({ "kind": "person", "id": person });
    root.issue(wish).await
}

/// A root key with these scopes alone.
pub(super) async fn narrow(server: &TestServer, root: &mut Program, scopes: &[&str]) -> Program {
    let wish = serde_json::json!({ "name": "Narrow", "prefix": "kw_root", "scopes": scopes });
    let issued = root.issue(wish).await;
    Program {
        browser: server.browser(),
        key: secret_of(&issued),
    }
}

/// A campaign that asks about a key, which was exposed for it.
pub(super) async fn asked_about(server: &TestServer, root: &mut Program, key: &str) -> String {
    let actor = keywright_domain::audit::Actor::person("test");
    let exposed = server.registry().mark_api_key_exposed(&actor, key, "a log");
    exposed.await.unwrap();
    let due_at = server.server.app().now() + 10 * 24 * 60 * 60 * 1000;
    let asked = serde_json::json!({
        "name": "n", "findings": ["exposed"], "due_at": due_at, "unanswered": "leave",
    });
    let begun = root.post("/api/v1/hygiene/campaigns", asked).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    begun.json()["id"].as_str().unwrap().to_owned()
}
