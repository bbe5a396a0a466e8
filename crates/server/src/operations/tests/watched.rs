//! What somebody must see: jobs that fail, receipts, what waits for somebody.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use super::super::metrics::look;
use crate::test_support::{Answer, TestServer};

async fn ask(server: &TestServer, method: Method, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {}", server.root_key.expose());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let mut browser = server.browser();
    let body = Body::from(body.to_string());
    let answer = browser.send(method, path, &headers, body).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text);
    answer
}

/// A figure's value, as it was written last.
fn value(server: &TestServer, name: &str) -> f64 {
    let text = server.server.app().operations.metrics.text();
    let start = format!("keywright_{name} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("{name} in {text}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_job_tells_when_it_went_well_and_how_often_it_did_not() {
    let server = TestServer::start().await;
    let app = server.server.app();
    let at = |name: &str| format!("job_last_success_timestamp_seconds{{name=\"{name}\"}}");
    let failed = |name: &str| format!("job_failures_total{{name=\"{name}\"}}");
    let begun = value(&server, &at("settle_rotations"));
    assert!(begun > 1.7e9, "from the start on: {begun}");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    server.server.do_due_work().await.unwrap();
    assert!(value(&server, &at("settle_rotations")) > begun);
    assert!(value(&server, &at("retention")) > begun);
    // It was not this process's turn: it says nothing of it.
    let done = value(&server, &at("settle_rotations"));
    server.server.do_due_work().await.unwrap();
    assert_eq!(value(&server, &at("settle_rotations")), done);
    assert_eq!(value(&server, &failed("settle_rotations")), 0.0);
    server.pass(86_400_000);
    server.registry().close().await;
    assert!(server.server.do_due_work().await.is_err());
    crate::notices::run_jobs_for_test(app).await;
    for job in ["settle_rotations", "retention", "schedules"] {
        assert_eq!(value(&server, &failed(job)), 1.0, "{job}");
    }
    assert_eq!(value(&server, &at("settle_rotations")), done);
}

#[tokio::test]
async fn what_waits_for_somebody_and_what_was_ended_is_counted() {
    let server = TestServer::start().await;
    let app = server.server.app();
    let hook = json!({"url": "https://hooks.example.org/a", "events": ["*"]});
    let hook = ask(&server, Method::POST, "/api/v1/webhooks", hook)
        .await
        .json();
    let id = hook["webhook"]["id"]
        .as_str()
        .or(hook["id"].as_str())
        .unwrap();
    server
        .registry()
        .note_webhook(id, false, true, 0)
        .await
        .unwrap();
    let wish = json!({"name": "one", "prefix": "sk_live", "scopes": ["keys:read"]});
    let key = ask(&server, Method::POST, "/api/v1/keys", wish)
        .await
        .json();
    let id = key["key"]["id"].as_str().unwrap();
    let other = json!({"name": "other", "prefix": "sk_live", "scopes": ["keys:read"]});
    let other = ask(&server, Method::POST, "/api/v1/keys", other)
        .await
        .json();
    let other = other["key"]["id"].as_str().unwrap();
    let path = format!("/api/v1/keys/{other}/schedule");
    let schedule = json!({"every_ms": 86_400_000_i64, "mode": "notify_only"});
    ask(&server, Method::PUT, &path, schedule).await;
    let path = format!("/api/v1/keys/{id}/revoke");
    ask(&server, Method::POST, &path, json!({})).await;
    // A use after the end is an alert.
    let asked = json!({"key": key["secret"]});
    ask(&server, Method::POST, "/api/v1/keys/verify", asked).await;
    server.registry().flush_uses().await.unwrap();
    // Nobody runs schedules here: it is late.
    server.pass(2 * 86_400_000);
    look(app).await;
    assert_eq!(value(&server, "webhooks{state=\"off\"}"), 1.0);
    assert_eq!(value(&server, "webhooks{state=\"failing\"}"), 0.0);
    assert_eq!(value(&server, "alerts_unseen"), 1.0);
    assert_eq!(value(&server, "schedules_overdue"), 1.0);
    assert_eq!(value(&server, "nodes"), 1.0);
    assert_eq!(value(&server, "receipts_total{outcome=\"all\"}"), 1.0);
    assert_eq!(value(&server, "receipts_total{outcome=\"late\"}"), 0.0);
    assert_eq!(value(&server, "receipt_seconds_count"), 1.0);
    assert!(value(&server, "memory_age_seconds") < 1.0);
    assert!(value(&server, "database_connections{state=\"idle\"}") >= 1.0);
}

#[tokio::test]
async fn a_receipt_that_a_node_is_late_with_is_counted_as_late() {
    use keywright_registry::{NodeReceipt, Receipt};
    let server = TestServer::start().await;
    let metrics = &server.server.app().operations.metrics;
    let node = |acknowledged: bool| NodeReceipt {
        id: "a".into(),
        name: "a".into(),
        acknowledged,
        acknowledged_after: acknowledged.then_some(std::time::Duration::from_millis(3)),
        refuses_from_memory_since: None,
    };
    let receipt = |nodes, complete| Receipt {
        version: 1,
        committed_at: 0,
        nodes,
        complete,
    };
    metrics.count_receipt(&receipt(vec![node(true), node(false)], true));
    metrics.count_receipt(&receipt(vec![node(true), node(true)], true));
    // Nobody waited to the end: it says nothing.
    metrics.count_receipt(&receipt(vec![node(false)], false));
    assert_eq!(value(&server, "receipts_total{outcome=\"all\"}"), 1.0);
    assert_eq!(value(&server, "receipts_total{outcome=\"late\"}"), 1.0);
    assert_eq!(value(&server, "receipt_seconds_count"), 2.0);
    assert_eq!(value(&server, "receipt_seconds_bucket{le=\"0.005\"}"), 1.0);
}

#[tokio::test]
async fn a_pepper_that_is_missed_is_seen() {
    let server = TestServer::start().await;
    let app = server.server.app();
    let wish = json!({"name": "one", "prefix": "sk_live", "scopes": ["keys:read"]});
    ask(&server, Method::POST, "/api/v1/keys", wish).await;
    let own = app.peppers().unwrap().current().clone();
    let other = app.secrets.new_pepper().unwrap();
    let other = app.secrets.pepper(&other).unwrap();
    crate::key_service::find_peppers_for_test(app).await;
    assert_eq!(value(&server, "peppers_missing"), 0.0);
    let file = format!("secrets/pepper-{}.key", own.id);
    std::fs::remove_file(app.settings.data.join(file)).unwrap();
    app.put_peppers(Some(std::sync::Arc::new(keywright_registry::Peppers::new(
        other,
    ))));
    crate::key_service::find_peppers_for_test(app).await;
    assert_eq!(value(&server, "peppers_missing"), 1.0);
}
