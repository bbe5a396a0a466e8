//! Around all requests: ids, logs without secrets, limits, panics, figures, and a database that is gone.

mod documented;
mod told;
mod watched;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use axum::routing::{get, post};
use tower::ServiceExt as _;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::fmt::MakeWriter;

use crate::server::App;
use crate::settings::Settings;
use crate::sign_in::tests as sign_in_tests;
use crate::test_support::{Answer, OWNER_EMAIL, PASSWORD, TestServer};

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn from(address: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let address: SocketAddr = format!("{address}:4711").parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(address));
    request
}

/// Routes that misbehave, with our layers around.
fn bad_routes(app: &App) -> Router {
    let routes = Router::new()
        .route(
            "/panic",
            get(async || -> &'static str { panic!("canary-of-a-panic") }),
        )
        .route(
            "/slow",
            get(async || tokio::time::sleep(Duration::from_secs(60)).await)
                .post(async || tokio::time::sleep(Duration::from_secs(60)).await),
        )
        .route(
            "/busy",
            get(async || -> String {
                loop {
                    // Always ready, but for its turn being over.
                    tokio::task::coop::consume_budget().await;
                }
            }),
        )
        .route("/takes", post(async |body: Bytes| body.len().to_string()))
        .layer(axum::extract::DefaultBodyLimit::max(1000));
    super::around_with(app, routes, Duration::from_millis(300)).with_state(Arc::clone(app))
}

#[tokio::test]
async fn a_panic_a_slow_answer_and_a_slow_request_have_clear_answers() {
    let server = TestServer::start().await;
    let router = bad_routes(server.server.app());
    let code = |answer: &Answer| answer.json()["code"].as_str().unwrap_or("").to_owned();

    let answer = send(&router, from("127.0.0.1", "/panic", &[])).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(code(&answer), "internal_error");
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    assert!(!answer.header("x-request-id").is_empty());

    for path in ["/slow", "/busy"] {
        let answer = send(&router, from("127.0.0.1", path, &[])).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(code(&answer), "timed_out");
        assert_eq!(answer.header("retry-after"), "5", "{path}");
    }
    // What may have changed something is not called undone, nor is anybody told to send it again as it was.
    let request = Request::builder().method(Method::POST).uri("/slow");
    let answer = send(&router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(code(&answer), "timed_out");
    assert!(answer.text.contains("not known"), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "");

    // A body that never ends.
    let (_writer, reader) = tokio::io::duplex(64);
    let body = Body::new(Endless(reader));
    let request = Request::builder().method(Method::POST).uri("/takes");
    let answer = send(&router, request.body(body).unwrap()).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(code(&answer), "request_too_slow");
    // The server goes on.
    let request = Request::builder().method(Method::POST).uri("/takes");
    let answer = send(&router, request.body(Body::from("abc")).unwrap()).await;
    assert_eq!(answer.text, "3");
}

/// A body that stays open and says nothing.
struct Endless(
    #[expect(dead_code, reason = "it keeps the other end open")] tokio::io::DuplexStream,
);

impl axum::body::HttpBody for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn what_is_too_large_or_not_there_has_clear_answers() {
    let server = TestServer::start().await;
    let router = bad_routes(server.server.app());
    let long = format!("/takes?{}", "a".repeat(17 * 1024));
    let header = "a".repeat(33 * 1024);
    let post = |body: usize| {
        Request::builder()
            .method(Method::POST)
            .uri("/takes")
            .body(Body::from(vec![b'a'; body]))
            .unwrap()
    };
    for (request, status, code) in [
        (from("127.0.0.1", &long, &[]), 414, "address_too_long"),
        (
            from("127.0.0.1", "/slow", &[("x-a", &header)]),
            431,
            "headers_too_large",
        ),
        (post(1001), 413, "body_too_large"),
        (from("127.0.0.1", "/takes", &[]), 405, "method_not_allowed"),
        (from("127.0.0.1", "/nothing", &[]), 404, "not_found"),
    ] {
        let answer = send(&router, request).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (status, &code.into())
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let accept = [("accept", "text/html,*/*")];
    let answer = send(&router, from("127.0.0.1", "/nothing", &accept)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.header("content-type").starts_with("text/html"));
    let answer = send(&router, from("127.0.0.1", "/takes", &[])).await;
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(send(&router, post(1000)).await.text, "1000");
}

#[tokio::test]
async fn ids_come_from_trusted_proxies_only() {
    let server = TestServer::with(|settings| {
        settings.trusted_proxies.push("10.0.0.0/8".parse().unwrap());
    })
    .await;
    let given = [("x-request-id", "given-by-a-proxy")];
    let answer = send(&server.router, from("10.0.0.1", "/healthz", &given)).await;
    assert_eq!(answer.header("x-request-id"), "given-by-a-proxy");
    let answer = send(&server.router, from("192.0.2.1", "/healthz", &given)).await;
    let own = answer.header("x-request-id");
    assert!(own.len() >= 16 && own != "given-by-a-proxy", "{own}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn ac_202_the_log_has_no_secrets_and_names_the_route() {
    let server = TestServer::start().await;
    let lines = Lines::default();
    let log = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .finish();
    let ask = async {
        let mut browser = server.browser();
        browser
            .cookies
            .push(("session".into(), "canary-cookie".into()));
        browser
            .get("/sign-in?return_to=/canary-query&code=canary-code")
            .await;
        browser.get("/assets/canary-path").await;
        browser.get("/nothing/canary-unknown").await;
        let secrets = [
            ("authorization", "Bearer canary-token"),
            ("x-api-key", "canary-key"),
            ("x-csrf-token", "canary-csrf"),
            ("dpop", "canary-proof"),
            ("x-request-id", "canary-id-of-a-stranger"),
        ];
        browser
            .send(Method::GET, "/api/v1/sessions", &secrets, Body::empty())
            .await;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", "canary-form-code"),
            ("code_verifier", "canary-verifier"),
            ("client_id", "nobody"),
            ("client_secret", "canary-secret"),
            ("password", "canary-password"),
        ];
        for path in [
            "/oauth2/token",
            "/oauth2/introspect",
            "/oauth2/revoke",
            "/sign-in",
        ] {
            browser.post(path, &fields).await;
        }
        let mut signed_in = server.browser();
        signed_in.get("/sign-in").await;
        let fields = [
            ("identifier", OWNER_EMAIL),
            ("email", OWNER_EMAIL),
            ("password", PASSWORD),
        ];
        signed_in.post("/sign-in", &fields).await;
        signed_in.cookies
    };
    let cookies = ask.with_subscriber(log).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("\"route\":\"/assets/{name}\""), "{text}");
    assert!(text.contains("\"route\":\"/oauth2/token\""), "{text}");
    assert!(text.contains("\"route\":\"other\""), "{text}");
    assert!(!text.contains("canary"), "{text}");
    assert!(!text.contains(PASSWORD));
    assert!(!text.contains(server.root_key.expose()));
    for (name, value) in cookies {
        assert!(!text.contains(&value), "{name}");
    }
    for line in text.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
}

#[tokio::test]
async fn figures_are_for_this_machine_named_networks_and_permissions() {
    let server = TestServer::with(|settings| {
        settings.metrics_allow.push("192.0.2.0/24".parse().unwrap());
    })
    .await;
    let ask = async |address: &str, headers: &[(&str, &str)]| {
        send(&server.router, from(address, "/metrics", headers)).await
    };
    for near in ["127.0.0.1", "192.0.2.7"] {
        assert_eq!(ask(near, &[]).await.status, StatusCode::OK);
    }
    assert_eq!(
        ask("198.51.100.1", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    // A proxy on this machine that nobody named.
    for header in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
        let answer = ask("127.0.0.1", &[(header, "127.0.0.1")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}");
    }
    let mut nobody = server.browser();
    assert_eq!(
        nobody.get("/metrics").await.status,
        StatusCode::UNAUTHORIZED
    );
    let member = server.add_user("member@example.org", &["member"]).await;
    let mut member = server.sign_in_as(&member).await;
    assert_eq!(member.get("/metrics").await.status, StatusCode::FORBIDDEN);
    let owner = server.add_user("second@example.org", &["owner"]).await;
    let mut owner = server.sign_in_as(&owner).await;
    assert_eq!(owner.get("/metrics").await.status, StatusCode::OK);

    let text = ask("127.0.0.1", &[]).await.text;
    for line in [
        "keywright_http_requests_total{route=\"/metrics\",method=\"GET\",status=\"2xx\"} 3",
        "keywright_http_requests_total{route=\"/metrics\",method=\"GET\",status=\"4xx\"} 7",
        "keywright_database_up 1",
        "keywright_denials 0",
        "keywright_sign_ins_total{method=\"password\",outcome=\"success\"} 2",
        "keywright_build_info{version=",
        "keywright_http_request_duration_seconds_bucket{",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("example.org"));
}

#[tokio::test]
async fn labels_do_not_grow_with_what_strangers_send() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    for n in 0..20 {
        browser.get(&format!("/nothing/{n}")).await;
        let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
        browser.send(method, "/healthz", &[], Body::empty()).await;
    }
    let metrics = &server.server.app().operations.metrics;
    let text = metrics.text();
    let lines = text
        .lines()
        .filter(|line| line.contains("http_requests_total{"));
    assert_eq!(lines.count(), 2, "{text}");
    metrics.count_tokens("made-up");
    metrics.count_sign_in("a-providers-id", true);
    let text = metrics.text();
    assert!(!text.contains("made-up") && !text.contains("a-providers-id"));
}

/// How often a way of signing in came to something, by the figures.
fn sign_ins(server: &TestServer, method: &str, outcome: &str) -> u64 {
    let text = server.server.app().operations.metrics.text();
    let parts = [
        format!("method=\"{method}\""),
        format!("outcome=\"{outcome}\""),
    ];
    text.lines()
        .filter(|line| line.contains("sign_ins_total{"))
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn sign_ins_that_fail_are_counted_by_their_way() {
    let server = TestServer::with(|settings| {
        let data = settings.data.clone();
        *settings = Settings::new("http://localhost:8377", data).unwrap();
        settings.allow_private_addresses = true;
    })
    .await;
    let ada = server.add_user("ada@example.org", &[]).await;
    sign_in_tests::give_codes(&server, &ada).await;
    let mut browser = server.browser();
    for (email, password) in [("ada@example.org", "wrong"), ("nobody@example.org", "x")] {
        sign_in_tests::sign_in(&mut browser, email, password).await;
    }
    assert_eq!(sign_ins(&server, "password", "failure"), 2);
    sign_in_tests::sign_in(&mut browser, "ada@example.org", PASSWORD).await;
    browser.post("/sign-in/code", &[("code", "000000")]).await;
    assert_eq!(sign_ins(&server, "code", "failure"), 1);
    assert_eq!(sign_ins(&server, "password", "success"), 0);
    let code = sign_in_tests::code(&server, 0);
    browser.post("/sign-in/code", &[("code", &code)]).await;
    assert_eq!(sign_ins(&server, "password", "success"), 1);
    let mut other = server.browser();
    other.get("/sign-in").await;
    let answer = serde_json::json!({
        "state": "x", "id": "x", "client_data": "x", "authenticator_data": "x", "signature": "x",
    });
    other.json(Method::POST, "/sign-in/passkey", &answer).await;
    assert_eq!(sign_ins(&server, "passkey", "failure"), 1);
    let login = serde_json::json!({"email": OWNER_EMAIL, "password": PASSWORD});
    let answer = other.json(Method::POST, "/auth/login", &login).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(sign_ins(&server, "password", "success"), 2);
    // Stepping up is one as well.
    let mut weak = server.sign_in_as(&ada).await;
    let before = sign_ins(&server, "password", "success");
    let code = sign_in_tests::code(&server, 1);
    weak.post("/sign-in/code", &[("code", &code)]).await;
    assert_eq!(sign_ins(&server, "password", "success"), before + 1);
}

#[tokio::test]
async fn with_a_listener_of_their_own_figures_are_not_beside_the_rest() {
    let server = TestServer::with(|settings| {
        settings.metrics_listen = Some("127.0.0.1:9".parse().unwrap());
    })
    .await;
    let answer = send(&server.router, from("127.0.0.1", "/metrics", &[])).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let machines = super::machine_routes(server.server.app());
    let answer = send(&machines, from("192.0.2.1", "/metrics", &[])).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn ac_204_without_its_database_nobody_is_let_through() {
    let server = TestServer::start().await;
    server
        .add_client("service", Some("a-secret-of-a-service"), |new| {
            new.grant_types = vec!["client_credentials".into()];
        })
        .await;
    let owner = server.add_user("second@example.org", &["owner"]).await;
    let mut browser = server.sign_in_as(&owner).await;
    assert_eq!(browser.get("/readyz").await.status, StatusCode::OK);
    assert_eq!(browser.get("/api/v1/sessions").await.status, StatusCode::OK);

    server.registry().close().await;
    assert_eq!(browser.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(
        browser.get("/readyz").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    for path in [
        "/api/v1/sessions",
        "/api/v1/users",
        "/api/v1/keys",
        "/account",
    ] {
        let answer = browser.get(path).await;
        assert_eq!(
            answer.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}: {}",
            answer.text
        );
        assert!(
            answer.text.contains("store_unavailable"),
            "{path}: {}",
            answer.text
        );
    }
    // By password, by secret, by key: none of them gets through.
    let mut other = server.browser();
    let basic = "Basic c2VydmljZTphLXNlY3JldC1vZi1hLXNlcnZpY2U=";
    let form = "application/x-www-form-urlencoded";
    let headers = [("authorization", basic), ("content-type", form)];
    for (path, body) in [
        ("/oauth2/token", "grant_type=client_credentials"),
        ("/oauth2/introspect", "token=x"),
    ] {
        let answer = other
            .send(Method::POST, path, &headers, Body::from(body))
            .await;
        assert_eq!(
            answer.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}: {}",
            answer.text
        );
    }
    let key = [("x-api-key", server.root_key.expose())];
    let answer = other
        .send(Method::GET, "/api/v1/keys", &key, Body::empty())
        .await;
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        answer.text
    );
    super::metrics::look(server.server.app()).await;
    let text = server.server.app().operations.metrics.text();
    assert!(text.contains("keywright_database_up 0"), "{text}");
}

#[tokio::test]
async fn readiness_ends_before_the_server_does() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    server.server.app().operations.drain();
    let answer = browser.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(browser.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(
        browser.get("/oauth2/jwks.json").await.status,
        StatusCode::OK
    );
}
