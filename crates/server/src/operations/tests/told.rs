//! Whoever is on call finds out why a key was refused: the log has the code and the kid, the figures count both
//! doors by code, whichever way the request took.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use tracing::instrument::WithSubscriber as _;

use super::Lines;
use crate::test_support::{Answer, START, TestServer};

const DAY_MS: i64 = 86_400_000;

struct Site {
    server: TestServer,
    root: String,
}

impl Site {
    async fn asked(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let headers = [
            ("authorization", self.root.as_str()),
            ("content-type", kind),
        ];
        let mut browser = self.server.browser();
        let body = Body::from(body.to_string());
        browser.send(Method::POST, path, &headers, body).await
    }

    async fn done(&self, path: &str, body: &Value) -> Value {
        let answer = self.asked(path, "application/json", body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        answer.json()
    }

    /// Issues a key. Returns its id, its secret and its kid.
    async fn key(&self, more: Value) -> [String; 3] {
        let mut wish = json!({"name": "one", "prefix": "sk_live", "scopes": ["keys:read"]});
        wish.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = self.done("/api/v1/keys", &wish).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        [
            text(&made["key"]["id"]),
            text(&made["secret"]),
            text(&made["key"]["secrets"][0]["kid"]),
        ]
    }

    /// Asks at both doors, each by the short way and by the router's.
    async fn ask(&self, secret: &str, needs: &str) {
        let mut body = json!({"key": secret});
        if let Some((name, value)) = needs.split_once('=') {
            let (name, value) = match name {
                "scope" => ("requirement", json!(value)),
                "type" => ("key_types", json!([value])),
                name => (name, json!(value)),
            };
            body[name] = value;
        }
        for kind in ["application/json", "application/json; charset=utf-8"] {
            let answer = self.asked("/api/v1/keys/verify", kind, &body).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        let headers = [("x-api-key", secret), ("x-original-uri", "/orders")];
        for method in [Method::GET, Method::POST] {
            let path = format!("/verify?{needs}");
            let mut browser = self.server.browser();
            let body = match method {
                Method::GET => Body::empty(),
                _ => Body::from("of a client"),
            };
            browser.send(method, &path, &headers, body).await;
        }
    }

    fn counted(&self, door: &str, code: &str) -> u64 {
        let text = self.server.server.app().operations.metrics.text();
        let start = format!("keywright_verifications_total{{door=\"{door}\",code=\"{code}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().parse().unwrap()
    }
}

/// A code, a secret, its kid where it is one that matches, and what is needed.
type Case = (&'static str, String, Option<String>, &'static str);

async fn cases(site: &Site) -> Vec<Case> {
    let mut all = Vec::new();
    let plain = json!({});
    let day = json!({"lifetime_ms": DAY_MS});
    let limits = json!([{"name": "day", "count": 1, "period_ms": DAY_MS}]);
    for (code, wish, needs) in [
        ("valid", &plain, ""),
        ("insufficient_scope", &plain, "scope=users:read"),
        ("wrong_environment", &plain, "environment=test"),
        ("key_type_forbidden", &plain, "type=publishable"),
        ("revoked", &plain, ""),
        ("disabled", &plain, ""),
        ("retired", &plain, ""),
        ("expired", &day, ""),
        (
            "not_yet_valid",
            &json!({"not_before": START + 20 * DAY_MS}),
            "",
        ),
        (
            "ip_not_allowed",
            &json!({"settings": {"networks": ["192.0.2.0/24"]}}),
            "",
        ),
        (
            "origin_not_allowed",
            &json!({"settings": {"origins": ["https://a.example"]}}),
            "",
        ),
        ("rate_limited", &json!({"settings": {"limits": limits}}), ""),
        (
            "credits_exhausted",
            &json!({"settings": {"credits": {"amount": 1}}}),
            "",
        ),
    ] {
        let [id, secret, kid] = site.key(wish.clone()).await;
        let at = |step: &str| format!("/api/v1/keys/{id}/{step}");
        match code {
            "revoked" => drop(site.done(&at("revoke"), &plain).await),
            "disabled" => drop(site.done(&at("disable"), &plain).await),
            "retired" => {
                let at_once = json!({"overlap_ms": 0, "clock": "from_issue"});
                site.done(&at("rotations"), &at_once).await;
            }
            _ => {}
        }
        all.push((code, secret, Some(kid), needs));
    }
    site.server.pass(2 * DAY_MS);
    for (code, secret, ..) in &all {
        // What there is one of is used up.
        if matches!(*code, "rate_limited" | "credits_exhausted") {
            site.done("/api/v1/keys/verify", &json!({"key": secret}))
                .await;
        }
    }
    let stranger = TestServer::start().await;
    let root = stranger.root_key.expose().to_owned();
    all.push(("not_found", root, None, ""));
    all.push(("malformed", "nothing".to_owned(), None, ""));
    all
}

#[tokio::test]
async fn why_a_key_is_refused_stands_in_the_log_and_is_counted() {
    let server = TestServer::start().await;
    let root = format!("Bearer {}", server.root_key.expose());
    let site = Site { server, root };
    for (code, secret, kid, needs) in cases(&site).await {
        let before = ["api", "gateway"].map(|door| site.counted(door, code));
        let lines = Lines::default();
        let log = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::INFO)
            .with_writer(lines.clone())
            .finish();
        site.ask(&secret, needs).with_subscriber(log).await;
        let after = ["api", "gateway"].map(|door| site.counted(door, code));
        assert_eq!(after, before.map(|count| count + 2), "{code}");

        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains(&secret), "{code}: {text}");
        let told: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["target"] == "keywright_server::requests")
            .map(|line| line["fields"].clone())
            .collect();
        assert_eq!(told.len(), 4, "{code}: {text}");
        for (at, one) in told.iter().enumerate() {
            let is_state = ["malformed", "not_found", "revoked", "retired", "expired"];
            let is_state =
                is_state.contains(&code) || ["not_yet_valid", "disabled"].contains(&code);
            // A gateway is told that it is the key's.
            let expected = match at >= 2 && is_state {
                true => format!("key_{code}"),
                false => code.to_owned(),
            };
            assert_eq!(one["code"], expected, "{one}");
            let expected = kid.as_deref().map_or(Value::Null, Value::from);
            assert_eq!(one["kid"], expected, "{one}");
        }
    }
}

/// Of many keys the log has how many: each has a code of its own in the answer. Probes say nothing.
#[tokio::test]
async fn many_keys_are_one_line_and_probes_are_none() {
    let server = TestServer::start().await;
    let root = format!("Bearer {}", server.root_key.expose());
    let site = Site { server, root };
    let lines = Lines::default();
    let log = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_writer(lines.clone())
        .finish();
    let ask = async {
        let body = json!({"keys": [{"key": "no"}, {"key": "neither"}]});
        site.done("/api/v1/keys/verify", &body).await;
        for probe in ["/healthz", "/readyz", "/metrics", "/healthz/x"] {
            site.server.browser().get(probe).await;
        }
    };
    ask.with_subscriber(log).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone())
        .filter(|fields| fields["message"] == "answered")
        .collect();
    assert_eq!(told[0]["keys"], 2, "{text}");
    assert_eq!(told[0]["code"], Value::Null, "{text}");
    assert_eq!(site.counted("api", "malformed"), 2);
    // A probe that is refused is told, as whatever is not there.
    let rest: Vec<_> = told[1..].iter().map(|one| &one["status"]).collect();
    assert_eq!(rest, [&json!(401), &json!(404)], "{text}");
    assert_eq!(told[1]["code"], "credentials_missing", "{text}");
}

/// A registry that is away is no verdict on a key, and is seen at both doors.
#[tokio::test]
async fn a_door_without_a_verdict_is_counted_as_such() {
    let server = TestServer::start().await;
    let root = format!("Bearer {}", server.root_key.expose());
    let site = Site { server, root };
    let [_, secret, _] = site.key(json!({})).await;
    site.server.browser().get("/verify").await;
    assert_eq!(site.counted("gateway", "credentials_missing"), 1);
    site.server.browser().get("/verify?scoop=a").await;
    assert_eq!(site.counted("gateway", "other"), 1);
    let path = format!("/verify?key={secret}");
    site.server.browser().get(&path).await;
    assert_eq!(site.counted("gateway", "key_in_url"), 1);
    // Who may not ask has verified nothing.
    let mut nobody = site.server.browser();
    let body = json!({"key": secret});
    nobody
        .json(Method::POST, "/api/v1/keys/verify", &body)
        .await;
    site.server.registry().close().await;
    let answer = site
        .asked("/api/v1/keys/verify", "application/json", &body)
        .await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    let headers = [("x-api-key", secret.as_str())];
    let mut browser = site.server.browser();
    browser
        .send(Method::GET, "/verify", &headers, Body::empty())
        .await;
    for door in ["api", "gateway"] {
        assert_eq!(site.counted(door, "store_unavailable"), 1, "{door}");
        assert_eq!(site.counted(door, "valid"), 0, "{door}");
    }
}

/// Who is not answered in time, or hangs up, is counted, once: a database that hangs is seen at both doors.
#[tokio::test]
async fn a_call_that_is_given_up_before_its_verdict_is_counted() {
    let server = TestServer::start().await;
    let root = format!("Bearer {}", server.root_key.expose());
    let site = Site { server, root };
    // A first use is written down before it is answered.
    let [_, unused, _] = site.key(json!({})).await;
    let headers = [("x-api-key", unused.as_str())];
    let mut browser = site.server.browser();
    given_up(browser.send(Method::GET, "/verify", &headers, Body::empty())).await;
    assert_eq!(site.counted("gateway", "given_up"), 1);
    for (kind, times) in [
        ("application/json", 1),
        ("application/json; charset=utf-8", 2),
    ] {
        let [_, unused, _] = site.key(json!({})).await;
        given_up(site.asked("/api/v1/keys/verify", kind, &json!({"key": unused}))).await;
        assert_eq!(site.counted("api", "given_up"), times, "{kind}");
    }
    // Each key of a call, but for those that have their verdict. Of whoever may not ask none is counted.
    let [_, unused, _] = site.key(json!({})).await;
    let many = json!({"keys": [{"key": "no"}, {"key": unused}, {"key": "no"}]});
    given_up(site.asked("/api/v1/keys/verify", "application/json", &many)).await;
    assert_eq!(site.counted("api", "given_up"), 4);
    assert_eq!(site.counted("api", "malformed"), 1);
    for door in ["api", "gateway"] {
        assert_eq!(site.counted(door, "valid"), 0, "{door}");
        assert_eq!(site.counted(door, "other"), 0, "{door}");
    }
}

/// Goes on with it until it waits, and no further.
async fn given_up(asked: impl Future) {
    let mut asked = pin!(asked);
    poll_fn(|context| {
        assert!(asked.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}
