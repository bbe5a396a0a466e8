//! Both ways answer alike, and what is common does go the short way.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use hyper::body::Buf as _;
use keywright_domain::SecretText;
use serde_json::{Value, json};

use super::{AnswerBody, Front};
use crate::test_support::{Answer, TestServer};

const VERIFY: &str = "/api/v1/keys/verify";
type Headers<'a> = &'a [(&'a str, &'a str)];
/// Method, address, headers, body, and the status of the answer.
type Asked<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, &'a str, u16);

fn request(method: &str, path: &str, headers: Headers<'_>, body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn read(response: Response<AnswerBody>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let promised = body.size_hint().exact();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let mut data = frame.unwrap().into_data().ok().unwrap();
        while data.has_remaining() {
            let length = data.chunk().len();
            bytes.extend_from_slice(data.chunk());
            data.advance(length);
        }
    }
    assert!(promised.is_none_or(|length| length == bytes.len() as u64));
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// Everything that an answer says but what differs each time.
fn told(answer: &Answer) -> (StatusCode, Vec<(String, String)>, Value) {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-request-id" | "content-length"))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    let mut body = answer.json();
    if let Some(body) = body.as_object_mut() {
        body.remove("as_of");
        body.remove("request_id");
    }
    (answer.status, headers, body)
}

struct Site {
    server: TestServer,
    key: SecretText,
    /// A root key that may do nothing but issue.
    weak: SecretText,
}

impl Site {
    async fn new(change: impl FnOnce(&mut crate::settings::Settings)) -> Self {
        let server = TestServer::with(change).await;
        let base = server.server.app().settings.base_path.clone();
        let root = format!("Bearer {}", server.root_key.expose());
        let front = Front::new(server.server.app(), server.server.router());
        let mut made = Vec::new();
        for wish in [
            json!({"name": "one", "prefix": "sk_live", "scopes": ["keys:read"]}),
            json!({"name": "weak", "prefix": "kw_root", "scopes": ["keys:read"]}),
        ] {
            let headers = [
                ("content-type", "application/json"),
                ("authorization", root.as_str()),
            ];
            let path = format!("{base}/api/v1/keys");
            let asked = request("POST", &path, &headers, &wish.to_string());
            let answer = read(front.answer(None, asked).await).await;
            let text = answer.json()["secret"].as_str().map(str::to_owned);
            made.push(SecretText::new(
                text.unwrap_or_else(|| panic!("{}", answer.text)),
            ));
        }
        let weak = made.pop().unwrap();
        let key = made.pop().unwrap();
        Self { server, key, weak }
    }

    fn front(&self, router: Router) -> Front {
        Front::new(self.server.server.app(), router)
    }
}

#[tokio::test]
async fn both_ways_answer_alike() {
    let site = Site::new(|_| {}).await;
    let router = site.server.server.router();
    let (short, long) = (site.front(router.clone()), Long(router));
    let root = format!("Bearer {}", site.server.root_key.expose());
    let weak = format!("Bearer {}", site.weak.expose());
    let key = site.key.expose();
    let end = if key.ends_with('x') { 'y' } else { 'x' };
    let (bearer, wrong) = (
        format!("Bearer {key}"),
        format!("Bearer {}{end}", &key[..key.len() - 1]),
    );
    let json = ("content-type", "application/json");
    let by_root = [json, ("authorization", root.as_str())];
    let one = json!({"key": key, "requirement": "keys:read", "environment": "live"}).to_string();
    let many =
        json!({"keys": [{"key": key}, {"key": "no"}, {"key": key, "requirement": "users:read"}]})
            .to_string();
    // Whatever is written otherwise, or is not there, or is there twice.
    let escaped = key.replacen('_', "\\u005f", 1);
    let escaped =
        format!(r#"{{"key": "{escaped}", "requirement": "keys\u003aread", "agent": "a\tb"}}"#);
    let nulls = format!(
        r#"{{"key": "{key}", "requirement": null, "environment": null, "key_types": [], "cost": null, "credits": null,
        "address": null, "origin": null, "agent": null, "route": null, "client_label": null, "in_url": false}}"#
    );
    let full = format!(
        r#"{{"key": "{key}", "requirement": "keys:read or (users:read and keys:write)", "environment": "live", "key_types": ["secret"],
        "cost": 2, "credits": 1, "address": "192.0.2.1", "origin": "https://example.org", "agent": "curl/8", "route": "GET /x", "client_label": "é"}}"#
    );
    let wildcard = format!(r#"{{"key": "{key}", "requirement": "keys:*"}}"#);
    let twice = format!(r#"{{"key": "{key}", "key": "{key}"}}"#);
    let many_escaped = format!(r#"{{"keys": [{escaped}, {nulls}, {full}]}}"#);
    let type_null = format!(r#"{{"key": "{key}", "key_types": null}}"#);
    let too_many = json!({"keys": vec![json!({"key": "no"}); 101]}).to_string();
    let too_long = json!({"key": "k".repeat(513)}).to_string();
    let large = json!({"key": "k", "agent": "a".repeat(300 * 1024)}).to_string();
    let marked = format!("/verify?x={key}");
    let asked: Vec<Asked<'_>> = vec![
        ("POST", VERIFY, by_root.to_vec(), &one, 200),
        ("POST", VERIFY, by_root.to_vec(), &many, 200),
        ("POST", VERIFY, by_root.to_vec(), &escaped, 200),
        ("POST", VERIFY, by_root.to_vec(), &nulls, 200),
        ("POST", VERIFY, by_root.to_vec(), &full, 200),
        ("POST", VERIFY, by_root.to_vec(), &many_escaped, 200),
        ("POST", VERIFY, by_root.to_vec(), &wildcard, 400),
        ("POST", VERIFY, by_root.to_vec(), &twice, 400),
        ("POST", VERIFY, by_root.to_vec(), &type_null, 400),
        ("POST", VERIFY, by_root.to_vec(), r#"{"key": 1}"#, 400),
        (
            "POST",
            VERIFY,
            by_root.to_vec(),
            r#"{"key": "nothing"}"#,
            200,
        ),
        ("POST", VERIFY, by_root.to_vec(), r#"{"keys": []}"#, 200),
        ("POST", VERIFY, by_root.to_vec(), "{", 400),
        ("POST", VERIFY, by_root.to_vec(), "", 400),
        (
            "POST",
            VERIFY,
            by_root.to_vec(),
            r#"{"key": "a", "more": 1}"#,
            400,
        ),
        (
            "POST",
            VERIFY,
            by_root.to_vec(),
            r#"{"key": "a", "requirement": "a b"}"#,
            400,
        ),
        ("POST", VERIFY, by_root.to_vec(), &too_many, 400),
        ("POST", VERIFY, by_root.to_vec(), &too_long, 400),
        ("POST", VERIFY, by_root.to_vec(), &large, 413),
        ("POST", VERIFY, vec![by_root[1]], &one, 415),
        ("POST", VERIFY, vec![json], &one, 401),
        (
            "POST",
            VERIFY,
            vec![json, ("authorization", &bearer)],
            &one,
            403,
        ),
        (
            "POST",
            VERIFY,
            vec![json, ("authorization", &weak)],
            &one,
            403,
        ),
        (
            "POST",
            VERIFY,
            vec![json, ("authorization", &wrong)],
            &one,
            401,
        ),
        (
            "POST",
            VERIFY,
            vec![json, ("authorization", &wrong)],
            "{",
            401,
        ),
        (
            "POST",
            VERIFY,
            vec![json, by_root[1], by_root[1]],
            &one,
            400,
        ),
        (
            "POST",
            VERIFY,
            vec![json, by_root[1], ("x-api-key", key)],
            &one,
            400,
        ),
        (
            "POST",
            VERIFY,
            vec![json, by_root[1], ("cookie", "session=a")],
            &one,
            400,
        ),
        (
            "POST",
            VERIFY,
            vec![json, by_root[1], ("cookie", "other=a")],
            &one,
            200,
        ),
        ("GET", VERIFY, by_root.to_vec(), "", 405),
        ("PUT", VERIFY, by_root.to_vec(), &one, 405),
        (
            "GET",
            "/verify?scope=keys:read",
            vec![("authorization", &bearer)],
            "",
            204,
        ),
        (
            "GET",
            "/verify",
            vec![("x-api-key", key), ("x-original-uri", "/orders/1")],
            "",
            204,
        ),
        (
            "GET",
            "/verify?scope=users:read",
            vec![("authorization", &bearer)],
            "",
            403,
        ),
        (
            "GET",
            "/verify?scope=a+b",
            vec![("authorization", &bearer)],
            "",
            400,
        ),
        (
            "GET",
            "/verify?scoop=keys:read",
            vec![("authorization", &bearer)],
            "",
            400,
        ),
        ("GET", "/verify", vec![("authorization", &wrong)], "", 401),
        ("GET", "/verify", vec![("accept", "text/html")], "", 401),
        ("GET", &marked, vec![("authorization", &bearer)], "", 400),
        (
            "POST",
            "/verify",
            vec![("authorization", &bearer)],
            "body",
            204,
        ),
        (
            "GET",
            "/verify/orders",
            vec![("authorization", &bearer)],
            "",
            200,
        ),
    ];
    for (method, path, headers, body, status) in asked {
        let name = format!(
            "{method} {path} {} {}",
            headers.len(),
            &body[..body.len().min(60)]
        );
        let one = short
            .answer(None, request(method, path, &headers, body))
            .await;
        let other = long.answer(request(method, path, &headers, body)).await;
        let (one, other) = (read(one).await, read(other).await);
        assert_eq!(one.status.as_u16(), status, "{name}: {}", one.text);
        assert_eq!(told(&one), told(&other), "{name}");
        for answer in [&one, &other] {
            assert_eq!(answer.header("x-frame-options"), "DENY", "{name}");
            assert!(answer.header("x-request-id").len() >= 16, "{name}");
        }
    }
    // And both count on the same figures.
    let text = site.server.server.app().operations.metrics.text();
    let line = |method: &str, route: &str, class: &str| {
        let labels = format!("{{route=\"{route}\",method=\"{method}\",status=\"{class}\"}} ");
        let line = text
            .lines()
            .find(|line| line.contains(&labels))
            .map(str::to_owned);
        line.unwrap_or_else(|| panic!("{labels} in {text}"))
    };
    assert!(line("GET", "/verify", "2xx").ends_with(" 4"), "{text}");
    assert!(line("POST", VERIFY, "2xx").ends_with(" 18"), "{text}");
}

struct Long(Router);

impl Long {
    async fn answer(&self, request: Request<Body>) -> Response<AnswerBody> {
        use tower::ServiceExt as _;
        let answer: Response = self.0.clone().oneshot(request).await.unwrap();
        answer.map(AnswerBody::from)
    }
}

#[tokio::test]
async fn what_is_common_does_not_need_the_router() {
    // Below a path, by https, behind a proxy.
    let site = Site::new(|settings| {
        *settings = crate::settings::Settings {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..crate::settings::Settings::new("https://id.example.org/keys", settings.data.clone())
                .unwrap()
        };
    })
    .await;
    let front = site.front(Router::new());
    let proxy: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let root = format!("Bearer {}", site.server.root_key.expose());
    let bearer = format!("Bearer {}", site.key.expose());
    let proxied = [
        ("x-forwarded-for", "192.0.2.7"),
        ("x-request-id", "from-the-proxy"),
        ("authorization", root.as_str()),
        ("content-type", "application/json"),
    ];
    let key = site.key.expose();
    let path = format!("/keys{VERIFY}");
    for body in [
        json!({"key": key}),
        json!({"keys": [{"key": key}, {"key": key}]}),
    ] {
        let asked = request("POST", &path, &proxied, &body.to_string());
        let answer = read(front.answer(Some(proxy), asked).await).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.header("x-request-id"), "from-the-proxy");
        assert_eq!(
            answer.header("strict-transport-security"),
            "max-age=31536000"
        );
        assert!(answer.text.contains("\"valid\":true"), "{}", answer.text);
    }
    let gateway = [
        ("authorization", bearer.as_str()),
        ("cookie", "of=another-site"),
    ];
    let asked = request("GET", "/keys/verify?scope=keys:read", &gateway, "");
    let answer = read(front.answer(Some(proxy), asked).await).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    // What is not common, does: this router has nothing.
    for (path, method) in [("/verify", Method::GET), ("/keys/verify/x", Method::GET)] {
        let asked = request(method.as_str(), path, &gateway, "");
        let answer = front.answer(None, asked).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let asked = request("POST", &path, &proxied, "{");
    let answer = front.answer(None, asked).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    // A use was counted for each acceptance, and none for what was not in order.
    site.server.registry().flush_uses().await.unwrap();
    let peppers = site.server.server.app().peppers().unwrap();
    let found = site.server.registry().identify_secret(key, &peppers);
    let (_, id) = found.await.unwrap().unwrap();
    let (key, _) = site.server.registry().find_api_key(&id).await.unwrap();
    assert_eq!(key.secrets[0].use_count, 4);
}

/// What answers a request is moved as a whole before it begins, whatever it will need of it.
#[tokio::test]
async fn what_answers_before_the_router_is_small() {
    let site = Site::new(|_| {}).await;
    let front = site.front(Router::new());
    let asked = request("POST", VERIFY, &[], "");
    let size = size_of_val(&front.answer(None, asked));
    assert!(size <= 4224, "{size} bytes");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
    let site = Site::new(|_| {}).await;
    let mut front = site.front(Router::new());
    front.limit = Duration::from_millis(200);
    let root = format!("Bearer {}", site.server.root_key.expose());
    let builder = Request::builder().method(Method::POST).uri(VERIFY);
    let builder = builder.header("authorization", root);
    let asked = builder.header("content-type", "application/json");
    let answer = front
        .answer(None, asked.body(Body::new(Half)).unwrap())
        .await;
    let answer = read(answer).await;
    assert_eq!(
        answer.status,
        StatusCode::REQUEST_TIMEOUT,
        "{}",
        answer.text
    );
    assert_eq!(answer.json()["code"], "request_too_slow");
}

/// Ten bytes are promised, none come.
struct Half;

impl axum::body::HttpBody for Half {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(10)
    }
}
