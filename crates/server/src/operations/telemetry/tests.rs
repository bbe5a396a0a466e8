use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::*;
use crate::test_support::TestServer;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that speaks OTLP over HTTP in JSON, and says what it is told to.
#[derive(Clone)]
struct Collector {
    base: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    refuses: Arc<AtomicUsize>,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            bodies: Arc::default(),
            refuses: Arc::default(),
        };
        let own = collector.clone();
        let take = async move |headers: axum::http::HeaderMap, Json(body): Json<Value>| {
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            if own.refuses.load(Ordering::SeqCst) > 0 {
                own.refuses.fetch_sub(1, Ordering::SeqCst);
                return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({})));
            }
            own.bodies.lock().await.push(body);
            let said = json!({ "partialSuccess": { "rejectedSpans": "1" } });
            (StatusCode::OK, Json(said))
        };
        let router = Router::new().route("/under/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    async fn spans(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().await;
        let of = |body: &Value| body["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
        let spans = bodies
            .iter()
            .flat_map(|body| of(body).as_array().cloned().unwrap());
        spans.collect()
    }
}

async fn traced(endpoint: &str, percent: u32) -> TestServer {
    let server = TestServer::with(|settings| {
        settings.otlp_endpoint = Some(endpoint.parse().unwrap());
        settings.otlp_sample_percent = percent;
        settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    start(server.server.app());
    server
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == key);
    &found.unwrap_or_else(|| panic!("no {key}: {span}"))["value"]
}

#[tokio::test]
async fn a_request_joins_the_trace_of_who_asked_and_tells_what_the_log_tells() {
    let collector = Collector::start().await;
    let server = traced(&format!("{}/under/", collector.base), 100).await;
    let mut browser = server.browser();
    let headers = [
        ("traceparent", PARENT),
        ("authorization", "Bearer canary-token"),
        ("cookie", "session=canary-cookie"),
        ("user-agent", "canary-agent"),
    ];
    let path = "/oauth2/jwks/canary-path?code=canary-query";
    let answer = browser
        .send(Method::GET, path, &headers, Body::from("canary-body"))
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    flush(server.server.app()).await;
    let spans = collector.spans().await;
    assert_eq!(spans.len(), 1, "{spans:?}");
    let span = &spans[0];
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(span["spanId"].as_str().map(str::len), Some(16));
    assert_eq!(
        (&span["name"], &span["kind"]),
        (&json!("GET /oauth2/jwks/{kid}"), &json!(2))
    );
    assert_eq!(
        attribute(span, "http.route")["stringValue"],
        "/oauth2/jwks/{kid}"
    );
    assert_eq!(
        attribute(span, "http.response.status_code")["intValue"],
        "404"
    );
    assert_eq!(attribute(span, "client.address")["stringValue"], "0.0.0.0");
    assert_eq!(
        attribute(span, "keywright.request_id")["stringValue"],
        answer.header("x-request-id")
    );
    let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("startTimeUnixNano") > 1_600_000_000_000_000_000);
    assert!(time("endTimeUnixNano") >= time("startTimeUnixNano"));
    let bodies = collector.bodies.lock().await;
    assert!(!bodies[0].to_string().contains("canary"), "{}", bodies[0]);
    assert!(bodies[0].to_string().contains("\"service.name\""));
    drop(bodies);
    // The collector said that it rejected one.
    let figures = server.server.app().operations.metrics.text();
    assert!(
        figures.contains("keywright_spans_total{outcome=\"dropped\"} 1"),
        "{figures}"
    );
}

#[tokio::test]
async fn strangers_neither_hide_nor_force_a_trace() {
    let app = |percent| async move { traced("http://127.0.0.1:9/", percent).await };
    let with = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", text.parse().unwrap());
        headers
    };
    let server = app(100).await;
    let telemetry = server.server.app().operations.telemetry.as_ref().unwrap();
    let silent = with(&PARENT.replace("-01", "-00"));
    assert!(
        telemetry.begin(&silent, false).is_some(),
        "a stranger cannot hide"
    );
    assert!(
        telemetry.begin(&silent, true).is_none(),
        "a proxy of ours decides"
    );
    // Two of them, or nonsense: a trace of our own.
    let mut twice = with(PARENT);
    twice.append("traceparent", PARENT.parse().unwrap());
    for headers in [twice, with("nonsense"), HeaderMap::new()] {
        let begun = telemetry.begin(&headers, false).unwrap();
        assert!(begun.parent.is_none() && begun.id() != PARENT[3..35]);
    }
    // This trace is not among one in a hundred, whatever its flag says.
    let server = app(1).await;
    let telemetry = server.server.app().operations.telemetry.as_ref().unwrap();
    assert!(telemetry.begin(&with(PARENT), false).is_none());
}

#[tokio::test]
async fn a_collector_that_is_gone_harms_nobody_and_what_is_lost_is_counted() {
    // Nothing listens there, and the task has not even begun: the queue fills.
    let server = TestServer::with(|settings| {
        settings.otlp_endpoint = Some("http://127.0.0.1:9".parse().unwrap());
    })
    .await;
    let mut browser = server.browser();
    for _ in 0..QUEUE + 7 {
        assert_eq!(browser.get("/healthz").await.status, StatusCode::OK);
    }
    let app = server.server.app();
    let figures = app.operations.metrics.text();
    assert!(
        figures.contains("keywright_spans_total{outcome=\"dropped\"} 7"),
        "{figures}"
    );
    start(app);
    tokio::time::timeout(Duration::from_secs(30), flush(app))
        .await
        .unwrap();
    assert_eq!(browser.get("/healthz").await.status, StatusCode::OK);
    // Without a collector in the settings there is nothing of all this.
    let plain = TestServer::start().await;
    assert!(plain.server.app().operations.telemetry.is_none());
    flush(plain.server.app()).await;
}

#[tokio::test]
async fn a_batch_that_is_refused_for_now_is_sent_again() {
    let collector = Collector::start().await;
    let server = traced(&format!("{}/under", collector.base), 100).await;
    collector.refuses.store(1, Ordering::SeqCst);
    let mut browser = server.browser();
    // A whole batch: it is sent before anybody flushes.
    for _ in 0..512 {
        browser.get("/healthz").await;
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while collector.spans().await.len() < 512 {
        assert!(tokio::time::Instant::now() < end, "it never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(collector.refuses.load(Ordering::SeqCst), 0);
}
