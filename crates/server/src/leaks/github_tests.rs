//! GitHub is imitated by a stub here: keys are published and reports signed as its documentation says.
//! Nothing was tried against GitHub itself; two requests are what it signed itself.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use url::Url;

use crate::test_support::{Answer, TestServer};
use crate::webhooks::testing::{Root, verdict};

const KEY_ID: &str = "f9525bf080f75b3506ca1ead061add62b8633a346606dc5fe544e29231c6ee0d";
/// What stands before the point in the SPKI of a P-256 key.
const SPKI: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";

struct GitHub {
    pair: EcdsaKeyPair,
    keys_url: Url,
    published: Arc<Published>,
}

/// What the stub answers about its keys.
struct Published {
    asked: AtomicU32,
    status: AtomicU16,
    body: Mutex<String>,
}

async fn keys(State(published): State<Arc<Published>>) -> (StatusCode, String) {
    published.asked.fetch_add(1, Ordering::Relaxed);
    let status = StatusCode::from_u16(published.status.load(Ordering::Relaxed)).unwrap();
    (status, published.body.lock().unwrap().clone())
}

impl GitHub {
    async fn start() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        // 27 bytes of the prefix are 36 letters; its last byte is the first of the point.
        let mut der = STANDARD.decode(SPKI).unwrap();
        der.truncate(26);
        der.extend_from_slice(pair.public_key().as_ref());
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        let body = json!({ "public_keys": [
            { "key_identifier": KEY_ID, "key": pem, "is_current": true },
            { "key_identifier": "other", "key": "-----BEGIN PUBLIC KEY-----\nAAAA\n", "is_current": false },
        ]});
        let published = Arc::new(Published {
            asked: AtomicU32::new(0),
            status: AtomicU16::new(200),
            body: Mutex::new(body.to_string()),
        });
        let router = Router::new()
            .route("/meta/public_keys/secret_scanning", get(keys))
            .with_state(Arc::clone(&published));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let keys_url = format!("http://{address}/meta/public_keys/secret_scanning");
        Self {
            pair,
            keys_url: Url::parse(&keys_url).unwrap(),
            published,
        }
    }

    fn asked(&self) -> u32 {
        self.published.asked.load(Ordering::Relaxed)
    }

    /// From now on it answers so. Returns what it said before.
    fn answers(&self, status: u16, body: &str) -> String {
        self.published.status.store(status, Ordering::Relaxed);
        std::mem::replace(&mut *self.published.body.lock().unwrap(), body.to_owned())
    }

    async fn server(&self) -> TestServer {
        let url = self.keys_url.clone();
        TestServer::with(move |settings| settings.github_keys_url = Some(url)).await
    }

    fn sign(&self, body: &str) -> String {
        let signed = self.pair.sign(&SystemRandom::new(), body.as_bytes());
        STANDARD.encode(signed.unwrap().as_ref())
    }

    async fn report(&self, server: &TestServer, body: &str) -> Answer {
        send(server, KEY_ID, &self.sign(body), body).await
    }
}

async fn send(server: &TestServer, key_id: &str, signature: &str, body: &str) -> Answer {
    send_from("", server, key_id, signature, body).await
}

/// From another place; for none the one that all tests come from.
async fn send_from(
    place: &str,
    server: &TestServer,
    key_id: &str,
    signature: &str,
    body: &str,
) -> Answer {
    let headers = [
        ("x-forwarded-for", place),
        ("content-type", "application/json"),
        ("github-public-key-identifier", key_id),
        ("github-public-key-signature", signature),
    ];
    let body = Body::from(body.to_owned());
    server
        .browser()
        .send(Method::POST, "/github/secret-scanning", &headers, body)
        .await
}

fn body(tokens: &[&str]) -> String {
    let list: Vec<_> = tokens
        .iter()
        .map(|token| {
            json!({
                "token": token,
                "type": "keywright_api_key",
                "url": "https://github.com/octocat/Hello-World/blob/123/foo.txt",
                "source": "content",
            })
        })
        .collect();
    Value::from(list).to_string()
}

#[tokio::test]
async fn a_signed_report_ends_what_is_ours_and_labels_every_token() {
    let github = GitHub::start().await;
    let server = github.server().await;
    let mut root = Root::of(&server).await;
    let issued = root.issue("Billing").await;
    let key = issued["secret"].as_str().unwrap();
    let made_up = keywright_domain::api_keys::PlainKey::generate(
        &keywright_domain::api_keys::Prefix::new("sk_live").unwrap(),
        &mut rand::rng(),
    );
    let body = body(&[key, made_up.text().expose()]);
    let answer = github.report(&server, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let labels = answer.json();
    assert_eq!(labels[0]["label"], "true_positive");
    assert_eq!(labels[1]["label"], "false_positive");
    assert_eq!(labels[0]["token_type"], "keywright_api_key");
    assert_eq!(labels[0]["token_hash"].as_str().unwrap().len(), 64);
    assert!(!answer.text.contains(key));
    assert_eq!(verdict(&server, key).await, "key_revoked");
    let path = format!("/api/v1/keys/{}", issued["key"]["id"].as_str().unwrap());
    assert!(root.ok(Method::GET, &path, Value::Null).await["exposed_at"].is_i64());
    assert_eq!(github.asked(), 1, "keys are kept");
}

async fn exposed(server: &TestServer) -> usize {
    let query = keywright_registry::AuditQuery {
        limit: 500,
        ..keywright_registry::AuditQuery::default()
    };
    let all = server.registry().list_audit_events(query).await.unwrap();
    let told = |event: &&keywright_registry::AuditEvent| event.action == "api_key.exposed";
    all.items.iter().filter(told).count()
}

#[tokio::test]
async fn a_report_that_comes_again_gets_its_labels_and_changes_nothing_also_after_a_restart() {
    let github = GitHub::start().await;
    let server = github.server().await;
    let mut root = Root::of(&server).await;
    let key = root.issue("Billing").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = root.issue("Other").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = body(&[&key, "sk_live_nonsense"]);
    let first = github.report(&server, &body).await;
    assert_eq!(first.json()[0]["label"], "true_positive");
    assert_eq!(exposed(&server).await, 1);
    // Its answer was lost: it comes again, signed anew.
    let again = github.report(&server, &body).await;
    assert_eq!((again.status, &again.text), (StatusCode::OK, &first.text));
    let server = server.again().await;
    let digest = {
        use sha2::Digest as _;
        super::github::hex(&sha2::Sha256::digest(body.as_bytes()))
    };
    let seen = server
        .registry()
        .was_used(super::github::SEEN, KEY_ID, &digest);
    assert!(seen.await.unwrap(), "it is remembered by the database");
    let again = github.report(&server, &body).await;
    assert_eq!((again.status, &again.text), (StatusCode::OK, &first.text));
    assert_eq!(exposed(&server).await, 1, "nothing is told again");
    // What was seen to ends nothing more: a body that is known from elsewhere, for one.
    let known = self::body(&[&other]);
    let digest = {
        use sha2::Digest as _;
        super::github::hex(&sha2::Sha256::digest(known.as_bytes()))
    };
    let until = server.server.app().now() + 1000;
    let registry = server.registry();
    let written = registry.use_once(super::github::SEEN, KEY_ID, &digest, until);
    assert!(written.await.unwrap());
    let label = github.report(&server, &known).await.json()[0]["label"].clone();
    assert_eq!(label, "true_positive");
    assert_eq!(verdict(&server, &other).await, "valid");
    assert_eq!(exposed(&server).await, 1);
    // After its time it is seen to like any other.
    server.pass(2000);
    github.report(&server, &known).await;
    assert_eq!(verdict(&server, &other).await, "key_revoked");
}

#[tokio::test]
async fn while_github_gives_no_keys_the_known_ones_are_good_and_nothing_else_is_called_wrong() {
    let github = GitHub::start().await;
    let server = github.server().await;
    assert_eq!(github.report(&server, "[]").await.status, StatusCode::OK);
    let mut asked = 1;
    for (status, body) in [
        (500, "{}"),
        (200, "<html>"),
        (200, "{\"public_keys\":[]}"),
        (304, ""),
    ] {
        // What is known is an hour old, so GitHub is asked, in vain.
        server.pass(61 * 60 * 1000);
        let good = github.answers(status, body);
        let answer = github.report(&server, "[]").await;
        assert_eq!(answer.status, StatusCode::OK, "{status} {body}");
        // A key that is not known may be a new one: nobody can tell now.
        let unknown = send(&server, "new", &github.sign("[]"), "[]").await;
        assert_eq!(unknown.status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert_eq!(unknown.json()["code"], "keys_unavailable");
        assert_eq!(unknown.header("retry-after"), "15");
        // What is not signed by the known key is wrong all the same.
        let wrong = send(&server, KEY_ID, "AAAA", "[]").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        asked += 1;
        assert_eq!(github.asked(), asked, "it is left alone for a moment");
        github.answers(200, &good);
        // Not at once, but soon: then it is known again what GitHub does not publish.
        server.pass(15_000);
        let unknown = send(&server, "new", &github.sign("[]"), "[]").await;
        assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
        asked += 1;
        assert_eq!(github.asked(), asked);
    }
    // What GitHub may have taken back is not good for ever.
    github.answers(500, "");
    server.pass(24 * 60 * 60 * 1000);
    let late = github.report(&server, "[]").await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!late.header("retry-after").is_empty());
}

#[tokio::test]
async fn without_peppers_nothing_is_called_false_and_reports_wait() {
    let github = GitHub::start().await;
    let server = github.server().await;
    let mut root = Root::of(&server).await;
    let key = root.issue("Billing").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = root.issue("Other").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let app = server.server.app();
    let peppers = app.put_peppers(None);
    assert!(peppers.is_some());
    let body = body(&[&key]);
    let answer = github.report(&server, &body).await;
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        answer.text
    );
    assert!(!answer.header("retry-after").is_empty());
    // At the other door it is written down.
    let found = Body::from(json!({ "key": other }).to_string());
    let kind = [("content-type", "application/json")];
    let mut browser = server.browser();
    let answer = browser.send(Method::POST, "/found-key", &kind, found).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    app.put_peppers(peppers);
    assert_eq!(verdict(&server, &other).await, "valid");
    let answer = github.report(&server, &body).await;
    assert_eq!(
        answer.json()[0]["label"],
        "true_positive",
        "{}",
        answer.text
    );
    assert_eq!(verdict(&server, &key).await, "key_revoked");
    server.pass(10 * 60 * 1000);
    crate::webhooks::testing::run(&server).await;
    assert_eq!(verdict(&server, &other).await, "key_revoked");
}

#[tokio::test]
async fn what_github_did_not_sign_ends_nothing() {
    let github = GitHub::start().await;
    let other = GitHub::start().await;
    let server = github.server().await;
    let mut root = Root::of(&server).await;
    let key = root.issue("Billing").await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = body(&[&key]);
    let good = github.sign(&body);
    let changed = format!("{body} ");
    for (key_id, signature, body) in [
        (KEY_ID, other.sign(&body).as_str(), body.as_str()),
        (KEY_ID, good.as_str(), changed.as_str()),
        (KEY_ID, "", body.as_str()),
        (KEY_ID, "!", body.as_str()),
        (KEY_ID, "AAAA", body.as_str()),
        ("unknown", good.as_str(), body.as_str()),
        ("other", good.as_str(), body.as_str()),
        ("", good.as_str(), body.as_str()),
    ] {
        let answer = send(&server, key_id, signature, body).await;
        assert_eq!(
            answer.status,
            StatusCode::UNAUTHORIZED,
            "{key_id} {signature}"
        );
        assert_eq!(answer.json()["code"], "signature_invalid");
    }
    assert_eq!(verdict(&server, &key).await, "valid");
    // Unknown ids do not make us ask GitHub again and again.
    assert_eq!(github.asked(), 1);
    server.pass(61_000);
    send(&server, "unknown", &good, &body).await;
    assert_eq!(github.asked(), 2);
    let nonsense = github.report(&server, "{\"token\":1}").await;
    assert_eq!(nonsense.json()["code"], "invalid_body");
}

#[tokio::test]
async fn s18_no_stranger_and_no_number_of_reports_shuts_github_out() {
    let github = GitHub::start().await;
    let url = github.keys_url.clone();
    let server = TestServer::with(move |settings| {
        settings.github_keys_url = Some(url);
        settings.trusted_proxies = vec!["0.0.0.0/8".parse().unwrap()];
    })
    .await;
    // What GitHub published is known, and neither made-up key ids nor made-up signatures are counted against it.
    for n in 0..1_000 {
        let place = format!("2001:db8:{n:x}::1");
        let key_id = if n % 2 == 0 { KEY_ID } else { "made up" };
        let answer = send_from(&place, &server, key_id, "AAAA", "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{n}");
    }
    assert_eq!(
        github.asked(),
        1,
        "strangers have GitHub asked once a minute"
    );
    let mut root = Root::of(&server).await;
    let issued = root.issue("Billing").await;
    let key = issued["secret"].as_str().unwrap();
    let found = body(&[key]);
    let place = "140.82.115.1";
    let answer = send_from(place, &server, KEY_ID, &github.sign(&found), &found).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.json()[0]["label"], "true_positive");
    for n in 0..100 {
        let found = body(&[&format!("sk_live_nonsense{n}")]);
        let answer = send_from(place, &server, KEY_ID, &github.sign(&found), &found).await;
        assert_eq!(answer.status, StatusCode::OK, "{n}: {}", answer.text);
    }
    // The door of everybody has its own limit.
    let kind = [("content-type", "application/json")];
    let found = Body::from(json!({ "key": "x" }).to_string());
    let mut browser = server.browser();
    let answer = browser.send(Method::POST, "/found-key", &kind, found).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn the_published_keys_can_be_looked_at_beforehand() {
    let github = GitHub::start().await;
    let server = github.server().await;
    let settings = &server.server.app().settings;
    assert_eq!(crate::check_github_keys(settings).await, Ok(()));
    github.answers(404, "{}");
    let why = crate::check_github_keys(settings).await.unwrap_err();
    assert!(why.contains("404"), "{why}");
    let mut public_only = settings.clone();
    public_only.allow_private_addresses = false;
    let why = crate::check_github_keys(&public_only).await.unwrap_err();
    assert!(why.contains("127.0.0.1"), "{why}");
    public_only.github_keys_url = None;
    assert_eq!(crate::check_github_keys(&public_only).await, Ok(()));
}

#[tokio::test]
async fn signed_reports_wait_for_their_turn_and_are_asked_to_come_again() {
    let github = GitHub::start().await;
    let server = github.server().await;
    let all = u32::try_from(super::OF_GITHUB_AT_ONCE).unwrap();
    let places = &server.server.app().leaks.github_places;
    let turns = places.acquire_many(all).await.unwrap();
    let answer = github.report(&server, "[]").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["code"], "busy");
    assert_eq!(answer.header("retry-after"), "15");
    let wrong = send(&server, KEY_ID, "AAAA", "[]").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "it takes no turn");
    drop(turns);
    assert_eq!(github.report(&server, "[]").await.status, StatusCode::OK);
    assert_eq!(places.available_permits(), super::OF_GITHUB_AT_ONCE);
}

#[tokio::test]
async fn without_the_setting_there_is_no_such_address_and_without_keys_it_says_so() {
    let server = TestServer::start().await;
    let answer = send(&server, KEY_ID, "AAAA", "[]").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let server = TestServer::with(|settings| {
        settings.github_keys_url = Some(Url::parse("http://127.0.0.1:9/keys").unwrap());
    })
    .await;
    let answer = send(&server, KEY_ID, "AAAA", "[]").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["code"], "keys_unavailable");
    assert_eq!(answer.header("retry-after"), "15");
}

/// Two requests that GitHub signed itself, as its documentation of the partner program prints them (one since
/// 2022, one since 2024): its id of the key, the key as it publishes it, the signature, and the body. Another
/// library than ours made these signatures; the second has a number of 31 bytes in it.
const SIGNED_BY_GITHUB: [[&str; 4]; 2] = [
    [
        "90a421169f0a406205f1563a953312f0be898d3c7b6c06b681aa86a874555f4a",
        "-----BEGIN PUBLIC KEY-----\n\
         MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9MJJHnMfn2+H4xL4YaPDA4RpJqUq\n\
         kCmRCBnYERxZanmcpzQSXs1X/AljlKkbJ8qpVIW4clayyef9gWhFbNHWAA==\n\
         -----END PUBLIC KEY-----\n",
        "MEUCIQDKZokqnCjrRtw0tni+2Ltvl/uiMJ1EGumEsp1BsNr32AIgQY1YXD2nlj+XNfGK4rBfkMJ1JDOQcYXxa2sY8FNkrKc=",
        r#"[{"token":"some_token","type":"some_type","url":"some_url"}]"#,
    ],
    [
        "bcb53661c06b4728e59d897fb6165d5c9cda0fd9cdf9d09ead458168deb7518c",
        "-----BEGIN PUBLIC KEY-----\n\
         MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYAGMWO8XgCamYKMJS6jc/qgvSlAd\n\
         AjPuDPRcXU22YxgBrz+zoN19MzuRyW87qEt9/AmtoNP5GrobzUvQSyJFVw==\n\
         -----END PUBLIC KEY-----\n",
        "MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410VQV4xg==",
        r#"[{"source":"commit","token":"some_token","type":"some_type","url":"https://example.com/base-repo-url/"}]"#,
    ],
];

#[tokio::test]
async fn what_github_signed_itself_is_taken_and_nothing_else_under_its_signature() {
    use sha2::Digest as _;

    let github = GitHub::start().await;
    let keys: Vec<_> = SIGNED_BY_GITHUB
        .iter()
        .map(|[id, pem, ..]| {
            // Its id is the digest of what it publishes: these are its keys to the letter.
            let digest = sha2::Sha256::digest(pem.as_bytes());
            assert_eq!(super::github::hex(&digest), **id);
            json!({ "key_identifier": id, "key": pem, "is_current": true })
        })
        .collect();
    github.answers(200, &json!({ "public_keys": keys }).to_string());
    let server = github.server().await;
    for [id, _, signature, body] in SIGNED_BY_GITHUB {
        let answer = send(&server, id, signature, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{id}: {}", answer.text);
        let token = sha2::Sha256::digest(b"some_token");
        let label = json!([{
            "token_hash": super::github::hex(&token),
            "token_type": "some_type",
            "label": "false_positive",
        }]);
        assert_eq!(answer.json(), label);
        // The same list, written in another way: the signature is over the bytes.
        let spaced = body.replace("\",\"", "\", \"");
        let other_key = SIGNED_BY_GITHUB.iter().find(|[other, ..]| *other != id);
        let other_key = other_key.unwrap()[0];
        for (id, body) in [(id, spaced.as_str()), (other_key, body)] {
            let answer = send(&server, id, signature, body).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{id} {body}");
            assert_eq!(answer.json()["code"], "signature_invalid");
        }
    }
    assert_eq!(github.asked(), 1);
}
