//! An issuer that does what a test tells it to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

/// The service that tokens are for.
pub(super) const AUDIENCE: &str = "https://api.example.com";

/// How the issuer behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    Failing,
    Hanging,
    Redirecting,
    OtherIssuer,
    Enormous,
    Html,
}

/// What tests look at and change.
pub(super) struct Inside {
    pub(super) mood: Mutex<Mood>,
    pub(super) keys: Mutex<Vec<Value>>,
    pub(super) discoveries: AtomicUsize,
    pub(super) fetches: AtomicUsize,
    pub(super) questions: AtomicUsize,
    /// What introspection says.
    pub(super) says: Mutex<Value>,
    /// The last question: Authorization and form.
    pub(super) asked: Mutex<(String, String)>,
    url: String,
}

pub(super) struct TestIssuer {
    pub(super) inside: Arc<Inside>,
}

impl TestIssuer {
    pub(super) async fn start(keys: &[&TestKey]) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let inside = Arc::new(Inside {
            mood: Mutex::new(Mood::Fine),
            keys: Mutex::new(keys.iter().map(|key| key.jwk.clone()).collect()),
            discoveries: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            says: Mutex::new(json!({"active": false})),
            asked: Mutex::default(),
            url: format!("http://{}", listener.local_addr()?),
        });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/introspect", post(introspect))
            .route("/elsewhere", get(elsewhere))
            .with_state(Arc::clone(&inside));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { inside })
    }

    pub(super) fn url(&self) -> &str {
        &self.inside.url
    }

    pub(super) fn be(&self, mood: Mood) {
        *self.inside.mood.lock().unwrap() = mood;
    }

    pub(super) fn publish(&self, keys: &[&TestKey]) {
        *self.inside.keys.lock().unwrap() = keys.iter().map(|key| key.jwk.clone()).collect();
    }

    pub(super) fn says(&self, answer: Value) {
        *self.inside.says.lock().unwrap() = answer;
    }

    pub(super) fn fetches(&self) -> usize {
        self.inside.fetches.load(Ordering::SeqCst)
    }

    pub(super) fn questions(&self) -> usize {
        self.inside.questions.load(Ordering::SeqCst)
    }

    /// Claims of a good token.
    pub(super) fn claims(&self) -> Value {
        let now = now();
        json!({
            "iss": self.url(), "sub": "u1", "aud": AUDIENCE, "exp": now + 600, "iat": now,
            "nbf": now, "jti": "t1", "client_id": "app", "scope": "read write", "sid": "s1",
            "roles": ["admin"], "acr": "1", "amr": ["pwd"],
        })
    }
}

pub(super) fn now() -> i64 {
    crate::clock::Clock::new().unix_s()
}

async fn moody(inside: &Inside, answer: Value) -> Response {
    let mood = *inside.mood.lock().unwrap();
    match mood {
        Mood::Fine | Mood::OtherIssuer => axum::Json(answer).into_response(),
        Mood::Failing => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Hanging => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::OK.into_response()
        }
        Mood::Redirecting => {
            let to = format!("{}/elsewhere", inside.url);
            (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
        }
        Mood::Enormous => format!("{}{answer}", " ".repeat(1024 * 1024)).into_response(),
        Mood::Html => "<html>".into_response(),
    }
}

async fn discovery(State(inside): State<Arc<Inside>>) -> Response {
    inside.discoveries.fetch_add(1, Ordering::SeqCst);
    let url = &inside.url;
    let other = *inside.mood.lock().unwrap() == Mood::OtherIssuer;
    // A closing slash is another issuer: names are compared byte for byte.
    let issuer = format!("{url}{}", if other { "/" } else { "" });
    let metadata = json!({
        "issuer": issuer, "jwks_uri": format!("{url}/jwks"),
        "introspection_endpoint": format!("{url}/introspect"),
    });
    moody(&inside, metadata).await
}

async fn jwks(State(inside): State<Arc<Inside>>) -> Response {
    inside.fetches.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let keys = inside.keys.lock().unwrap().clone();
    moody(&inside, json!({"keys": keys})).await
}

/// Where redirects lead: everything one could wish for.
async fn elsewhere(State(inside): State<Arc<Inside>>) -> Response {
    let url = &inside.url;
    let keys = inside.keys.lock().unwrap().clone();
    axum::Json(json!({
        "issuer": url, "jwks_uri": format!("{url}/elsewhere"), "keys": keys, "active": true,
    }))
    .into_response()
}

async fn introspect(
    State(inside): State<Arc<Inside>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    inside.questions.fetch_add(1, Ordering::SeqCst);
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    let form = String::from_utf8(body.to_vec()).unwrap();
    *inside.asked.lock().unwrap() = (authorization, form);
    let answer = inside.says.lock().unwrap().clone();
    moody(&inside, answer).await
}

pub(super) struct TestKey {
    pub(super) signing: EncodingKey,
    pub(super) algorithm: Algorithm,
    pub(super) jwk: Value,
    pub(super) public_pem: String,
}

impl TestKey {
    pub(super) fn new(algorithm: Algorithm, kid: &str) -> anyhow::Result<Self> {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            Algorithm::EdDSA => KeyPair::generate_for(&PKCS_ED25519)?,
            _ => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        };
        let pem = pair.serialize_pem();
        let signing = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes())?,
            Algorithm::EdDSA => EncodingKey::from_ed_der(pair.serialized_der()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes())?,
        };
        let mut jwk = match algorithm {
            Algorithm::EdDSA => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
                json!({"kty": "OKP", "crv": "Ed25519", "x": x})
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&signing, algorithm)?)?,
        };
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = format!("{algorithm:?}").into();
        Ok(Self {
            signing,
            algorithm,
            jwk,
            public_pem: pair.public_key_pem(),
        })
    }

    pub(super) fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "kid": self.jwk["kid"], "typ": "at+jwt"})
    }

    /// Signs whatever it is given.
    pub(super) fn sign_text(&self, header: &str, payload: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = crypto::sign(signed.as_bytes(), &self.signing, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_text(&self.header().to_string(), &claims.to_string())
    }
}
