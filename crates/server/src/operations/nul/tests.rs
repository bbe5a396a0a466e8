//! Every route of the description and every other one, with U+0000 in each place that a caller fills.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::Method;
use base64::Engine as _;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::*;
use crate::operations::every_route::routes_in;
use crate::test_support::{Answer, Browser, TestServer};

const FORM: &str = "application/x-www-form-urlencoded";

fn scan(kind: &str, pieces: &[&[u8]]) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
    let mut scan = Scan::of(&headers);
    pieces.iter().any(|piece| scan.finds(piece))
}

#[test]
fn u_0000_is_found_however_it_is_cut_and_nothing_else_is() {
    let cases: [(&str, &[u8], bool); 19] = [
        ("application/json", br#"{"a":"\u0000"}"#, true),
        ("application/json", br#"{"a":"\\\u0000"}"#, true),
        ("application/json", br#"{"a":"\n\u0000"}"#, true),
        ("application/json", br#"{"a":"\u0001\u0000"}"#, true),
        ("application/json; charset=utf-8", br#"["\u0000"]"#, true),
        ("application/problem+json", br#"{"\u0000":1}"#, true),
        // A backslash, and then letters.
        ("application/json", br#"{"a":"\\u0000"}"#, false),
        ("application/json", br#"{"a":"\u0001\u0010\u000a"}"#, false),
        ("application/json", br#"{"a":"%00 u0000"}"#, false),
        ("application/json", b"{\"a\":\"\0\"}", true),
        ("application/json", b"\\\0", true),
        (FORM, b"a=1&b=%00", true),
        (
            "Application/X-WWW-Form-Urlencoded; charset=x",
            b"%00=1",
            true,
        ),
        // Some reader may take it for a form.
        ("application/x-www-form-urlencoded-x", b"a=%00", true),
        (FORM, b"a=%%00", true),
        (FORM, b"a=%0%00", true),
        (FORM, b"a=\0", true),
        (FORM, b"a=%0a%20%2500&b=\\u0000", false),
        (FORM, b"a=%0", false),
    ];
    for (kind, text, expected) in cases {
        let shown = String::from_utf8_lossy(text);
        for at in 0..=text.len() {
            let (one, other) = text.split_at(at);
            assert_eq!(
                scan(kind, &[one, other]),
                expected,
                "{kind} {shown} at {at}"
            );
        }
        let letters: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(
            scan(kind, &letters),
            expected,
            "{kind} {shown} letter by letter"
        );
    }
}

/// A body of these pieces.
struct Pieces(Vec<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let piece = (!self.0.is_empty()).then(|| Ok(Frame::data(self.0.remove(0))));
        Poll::Ready(piece)
    }
}

#[tokio::test]
async fn whoever_sends_it_hears_the_refusal_and_no_handler_gets_a_part_for_the_whole() {
    let server = TestServer::start().await;
    let bearer = format!("Bearer {}", server.root_key.expose());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let mut browser = server.browser();
    // Valid up to a place, and what is behind it is as good as gone.
    let whole = json!({ "name": "a", "permissions": ["a:b"] }).to_string();
    for pieces in [
        vec![whole.clone(), " \\u0000".into()],
        vec![
            whole.clone(),
            " ".into(),
            "\\u00".into(),
            "00".into(),
            "x".repeat(9),
        ],
        vec![whole.clone(), "\0".into(), "x".repeat(LARGEST_BODY + 1)],
    ] {
        let body = Body::new(Pieces(pieces.into_iter().map(Bytes::from).collect()));
        let path = "/api/v1/roles/tester";
        let answer = browser.send(Method::PUT, path, &headers, body).await;
        assert_refused(&answer, "roles");
    }
    let read = browser
        .send(
            Method::GET,
            "/api/v1/roles/tester",
            &headers[..1],
            Body::empty(),
        )
        .await;
    assert_eq!(read.json()["code"], "role_not_found", "{}", read.text);
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 400 && answer.json()["code"] == "invalid_character"
}

fn assert_refused(answer: &Answer, about: &str) {
    assert!(
        is_refused(answer),
        "{about}: {} {}",
        answer.status,
        answer.text
    );
}

async fn send(
    browser: &mut Browser,
    bearer: &str,
    (method, path): (&str, &str),
    (kind, body): (&str, &str),
) -> Answer {
    let headers = [("authorization", bearer), ("content-type", kind)];
    let method: Method = method.parse().unwrap();
    let body = Body::from(body.to_owned());
    browser.send(method, path, &headers, body).await
}

#[tokio::test]
async fn each_operation_of_the_description_refuses_it_in_its_address_and_in_its_body() {
    let server = TestServer::start().await;
    let root = format!("Bearer {}", server.root_key.expose());
    let mut browser = server.browser();
    let described = browser.get("/api/openapi.json").await.json();
    let (mut segments, mut bodies, mut operations) = (0, 0, 0);
    let mut wrong = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        // Cut at each parameter, one of them holds it and the others are something else.
        let names: Vec<_> = path
            .split('/')
            .filter(|part| part.starts_with('{'))
            .collect();
        let plain = names
            .iter()
            .fold(path.clone(), |path, name| path.replace(name, "x"));
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            operations += 1;
            let mut asked: Vec<_> = names
                .iter()
                .map(|name| {
                    let with = path.replace(name, "a%00");
                    names
                        .iter()
                        .fold(with, |path, name| path.replace(name, "x"))
                })
                .collect();
            segments += asked.len();
            asked.push(format!("{plain}?text=%00"));
            asked.push(format!("{plain}?%00=1"));
            for asked in asked {
                for bearer in ["", &root] {
                    let answer = send(&mut browser, bearer, (&method, &asked), ("", "")).await;
                    if !is_refused(&answer) {
                        wrong.push(format!(
                            "{method} {asked}: {} {}",
                            answer.status, answer.text
                        ));
                    }
                }
            }
            let content = &operation["requestBody"]["content"];
            if content.get("application/json").is_none() || ANYTHING.contains(&&*plain) {
                continue;
            }
            bodies += 1;
            let body = r#"{"reason":"","more":[{"text":"a\u0000b"}]}"#;
            let json = ("application/json", body);
            let answer = send(&mut browser, &root, (&method, &plain), json).await;
            // What is a person's own, nobody else gets as far.
            let is_theirs = matches!(answer.status.as_u16(), 401 | 403);
            if !is_refused(&answer) && !is_theirs {
                wrong.push(format!(
                    "{method} {plain}: {} {}",
                    answer.status, answer.text
                ));
            }
            bodies -= u32::from(is_theirs);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(operations > 120, "{operations}");
    assert!(segments > 70 && bodies > 30, "{segments} {bodies}");
}

#[tokio::test]
async fn pages_and_oauth_refuse_it_in_their_own_words() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let mut routes = BTreeSet::new();
    routes_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut routes,
    );
    routes.retain(|route| {
        let known = ["/hello", "/authorize", "/token"];
        !route.starts_with("/api/v1/")
            && !route.starts_with("/verify")
            && !known.contains(&&**route)
    });
    assert!(routes.len() > 60, "{routes:?}");
    let mut wrong = Vec::new();
    let mut forms = 0;
    for route in &routes {
        let path = route.replace(['{', '}', '*'], "");
        let says = |answer: &Answer| match route.starts_with("/oauth2/") {
            true => answer.status == 400 && answer.json()["error"] == "invalid_request",
            false => is_refused(answer),
        };
        let mut asked = vec![format!("{path}?state=%00")];
        if route.contains('{') {
            asked.push(route.split('{').next().unwrap().to_owned() + "a%00");
        }
        for asked in asked {
            let answer = browser.get(&asked).await;
            if !says(&answer) {
                wrong.push(format!("GET {asked}: {} {}", answer.status, answer.text));
            }
            let accept = [("accept", "text/html")];
            let page = browser
                .send(Method::GET, &asked, &accept, Body::empty())
                .await;
            if page.status != 400 || !page.text.contains("<html") {
                wrong.push(format!("GET {asked}: {} {}", page.status, page.text));
            }
        }
        // What is refused before the form is read need not say so.
        for body in ["client_id=a%00&token=b&email=c&key=d", "client_id=a\0"] {
            let answer = send(&mut browser, "", ("POST", &path), (FORM, body)).await;
            forms += u32::from(says(&answer));
            if !says(&answer)
                && (answer.status == 200 || answer.status.is_server_error())
                && !ANYTHING.contains(&&*path)
            {
                wrong.push(format!("POST {path}: {} {}", answer.status, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(forms > 20, "{forms}");
    // Where a program is served, each of these.
    for path in [
        "token",
        "par",
        "introspect",
        "revoke",
        "device_authorization",
    ] {
        let path = format!("/oauth2/{path}");
        let form = (
            FORM,
            "grant_type=client_credentials&client_id=a%00&client_secret=b&token=c",
        );
        let answer = send(&mut browser, "", ("POST", &path), form).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        assert_eq!(answer.json()["error"], "invalid_request", "{path}");
    }
    let json = ("application/json", r#"{"client_name":"a\u0000"}"#);
    let answer = send(&mut browser, "Bearer x", ("POST", "/oauth2/register"), json).await;
    assert_eq!(answer.json()["error"], "invalid_request", "{}", answer.text);
}

#[tokio::test]
async fn what_is_decoded_later_names_nobody() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let standard = base64::engine::general_purpose::STANDARD;
    let form = (FORM, "grant_type=client_credentials");
    for pair in ["a\0:b", "a%00:b", "a:b\0"] {
        let basic = format!("Basic {}", standard.encode(pair));
        let answer = send(&mut browser, &basic, ("POST", "/oauth2/token"), form).await;
        assert_eq!(answer.status, 401, "{pair:?}: {}", answer.text);
        assert_eq!(answer.json()["error"], "invalid_client", "{pair:?}");
    }
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let part = |value: Value| url.encode(value.to_string());
    let header = part(json!({ "alg": "ES256", "typ": "JWT" }));
    let claims = part(json!({ "iss": "a\0", "sub": "a\0", "aud": "b", "jti": "c", "exp": 1 }));
    let assertion = format!("{header}.{claims}.{}", url.encode([0; 64]));
    let form = [
        ("grant_type", "client_credentials"),
        (
            "client_assertion_type",
            crate::oauth2::client_assertion::TYPE,
        ),
        ("client_assertion", assertion.as_str()),
    ];
    let answer = browser.post("/oauth2/token", &form).await;
    assert!(answer.status.is_client_error(), "{}", answer.text);
    assert_eq!(answer.json()["error"], "invalid_client", "{}", answer.text);
}

#[tokio::test]
async fn what_strangers_presented_or_found_is_answered_as_if_it_were_any_other_text() {
    let server = TestServer::start().await;
    let root = format!("Bearer {}", server.root_key.expose());
    let mut browser = server.browser();
    let body = json!({ "keys": [{ "key": "sk_live_\0" }, { "key": server.root_key.expose() }] });
    let json = ("application/json", &*body.to_string());
    let verify = ("POST", "/api/v1/keys/verify");
    let answer = send(&mut browser, &root, verify, json).await.json();
    assert_eq!(answer["results"][0]["code"], "malformed", "{answer}");
    assert_eq!(answer["results"][1]["code"], "valid", "{answer}");
    let found = json!({ "key": "sk_live_\0", "seen_in": "here\0" }).to_string();
    let answer = send(
        &mut browser,
        "",
        ("POST", "/found-key"),
        ("application/json", &found),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let form = (FORM, "key=a%00&seen_in=b%00");
    let answer = send(&mut browser, "", ("POST", "/found-key"), form).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
