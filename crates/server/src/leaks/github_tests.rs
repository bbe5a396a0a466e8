//! GitHub is imitated by a stub here: keys are published and reports signed as its documentation says.
//! Nothing was tried against GitHub itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
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
    asked: Arc<AtomicU32>,
}

async fn keys(State((pem, asked)): State<(String, Arc<AtomicU32>)>) -> Json<Value> {
    asked.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "public_keys": [
        { "key_identifier": KEY_ID, "key": pem, "is_current": true },
        { "key_identifier": "other", "key": "-----BEGIN PUBLIC KEY-----\nAAAA\n", "is_current": false },
    ]}))
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
        let asked = Arc::new(AtomicU32::new(0));
        let router = Router::new()
            .route("/meta/public_keys/secret_scanning", get(keys))
            .with_state((pem, Arc::clone(&asked)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let keys_url = format!("http://{address}/meta/public_keys/secret_scanning");
        Self {
            pair,
            keys_url: Url::parse(&keys_url).unwrap(),
            asked,
        }
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
    let headers = [
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
    // The same body again is known, and its token is not labelled for whoever sends it.
    let again = github.report(&server, &body).await;
    assert_eq!((again.status, again.text.as_str()), (StatusCode::OK, "[]"));
    assert_eq!(github.asked.load(Ordering::Relaxed), 1, "keys are kept");
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
    assert_eq!(github.asked.load(Ordering::Relaxed), 1);
    server.pass(61_000);
    send(&server, "unknown", &good, &body).await;
    assert_eq!(github.asked.load(Ordering::Relaxed), 2);
    let nonsense = github.report(&server, "{\"token\":1}").await;
    assert_eq!(nonsense.json()["code"], "invalid_body");
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
}
