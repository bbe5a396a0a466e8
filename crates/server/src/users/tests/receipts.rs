//! What ends what keys of a person may do answers with a receipt, as the end of a key does (AC-146).

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::refused;
use crate::keys::tests::{Program, root, wish};
use crate::test_support::TestServer;

async fn verdict(root: &mut Program, key: &str) -> Value {
    let body = json!({ "key": key });
    let answer = root.send(Method::POST, "/api/v1/keys/verify", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["code"].clone()
}

#[tokio::test]
async fn ac_146_the_end_of_a_persons_access_has_a_receipt() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let reader = json!({ "permissions": ["keys:read"] });
    let nobodys = root
        .send(Method::PUT, "/api/v1/roles/reader", reader.clone())
        .await;
    assert_eq!(nobodys.status, StatusCode::OK, "{}", nobodys.text);
    assert_eq!(nobodys.json()["receipt"], Value::Null, "{}", nobodys.text);
    let user = server.add_user("ada@example.org", &["reader"]).await;
    let ada = format!("/api/v1/users/{}", user.id);
    let mut wish = wish();
    wish["owner"] = json!({ "kind": "person", "id": user.id });
    let issued = root.issue(wish).await;
    let secret = issued["secret"].as_str().unwrap();
    assert_eq!(verdict(&mut root, secret).await, "valid");

    let mut before = 0;
    for (method, path, body) in [
        (
            Method::PUT,
            "/api/v1/roles/reader".to_owned(),
            json!({ "permissions": [] }),
        ),
        (Method::PUT, "/api/v1/roles/reader".to_owned(), reader),
        (Method::PUT, format!("{ada}/roles"), json!({ "roles": [] })),
        (Method::POST, format!("{ada}/disable"), json!({})),
        (Method::DELETE, ada.clone(), Value::Null),
    ] {
        let long = root
            .send(
                method.clone(),
                &format!("{path}?wait_ms=1001"),
                body.clone(),
            )
            .await;
        refused(&long, 400, "invalid_wait");
        let path = format!("{path}?wait_ms=1000");
        let answer = root.send(method, &path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        let receipt = &answer.json()["receipt"];
        assert_eq!(receipt["complete"], true, "{path}: {}", answer.text);
        let version = receipt["version"].as_i64().unwrap();
        assert!(version > before, "{path}: of another change: {receipt}");
        before = version;
        let again = format!("/api/v1/receipts/{version}");
        let again = root.send(Method::GET, &again, Value::Null).await;
        assert_eq!(again.json()["version"], version, "{}", again.text);
        if path.contains("/disable") {
            assert_eq!(verdict(&mut root, secret).await, "owner_disabled");
        }
    }
    assert_ne!(verdict(&mut root, secret).await, "valid");
}
