//! A stub of identity providers on a loopback socket: it speaks as GitHub, as Facebook and as an OpenID
//! provider, and lies where a test tells it to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::pkce::PkceVerifier;
use serde_json::{Map, Value, json};

use crate::http::Params;
use crate::rp::ProviderDescription;
use crate::signing::{Alg, Signer};
use crate::test_support::{Answer, Browser, START, TestServer};

/// An access token that must never leave the server.
pub(super) const UPSTREAM_TOKEN: &str = "upstream-token-canary";
/// Our secret at the stub, with characters that the header must encode.
pub(super) const SECRET: &str = "s3cret:&+ of ours";

/// What the stub does that an honest one does not, and what it knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Over its metadata; null takes away.
    pub(super) metadata: Map<String, Value>,
    /// Over the claims; null takes away.
    pub(super) claims: Map<String, Value>,
    /// In place of the ID token.
    pub(super) id_token: Option<String>,
    /// Signed with a key that is not the published one, under its name.
    pub(super) forged: bool,
    /// In place of the published keys.
    pub(super) keys: Option<Vec<Value>>,
    /// In place of the token answer.
    pub(super) token: Option<(u16, Value)>,
    /// What userinfo says; none: it is down.
    pub(super) userinfo: Option<Value>,
    /// GitHub's `/user`.
    pub(super) user: Value,
    /// GitHub's `/user/emails`.
    pub(super) emails: Value,
    /// What the token endpoint does in place of answering.
    pub(super) trick: Trick,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trick {
    #[default]
    None,
    Hang,
    Redirect,
    Enormous,
}

pub(super) struct Inner {
    pub(super) base: String,
    pub(super) plan: Mutex<Plan>,
    /// Nonce and challenge of the latest request.
    sent: Mutex<(String, String)>,
    signer: Signer,
    forger: Signer,
    /// The latest form and `Authorization` of the token endpoint, and `User-Agent`.
    pub(super) form: Mutex<Vec<(String, String)>>,
    pub(super) authorization: Mutex<String>,
    pub(super) user_agent: Mutex<String>,
    pub(super) exchanges: AtomicU32,
    pub(super) key_fetches: AtomicU32,
    pub(super) elsewhere: AtomicU32,
}

/// A running stub.
#[derive(Clone)]
pub(super) struct Stub(pub(super) Arc<Inner>);

impl Stub {
    /// Starts one.
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (signer, _) = Signer::generate(Alg::EdDsa).unwrap();
        let (mut forger, _) = Signer::generate(Alg::EdDsa).unwrap();
        forger.kid.clone_from(&signer.kid);
        let plan = Plan {
            user: json!({ "id": 583_231, "login": "ada", "name": "Ada L." }),
            emails: json!([
                { "email": "other@example.org", "primary": false, "verified": true },
                { "email": "ada@example.org", "primary": true, "verified": true },
            ]),
            userinfo: Some(json!({ "sub": "sub-1", "name": "Ada of userinfo" })),
            ..Plan::default()
        };
        let inner = Arc::new(Inner {
            base,
            plan: Mutex::new(plan),
            sent: Mutex::default(),
            signer,
            forger,
            form: Mutex::default(),
            authorization: Mutex::default(),
            user_agent: Mutex::default(),
            exchanges: AtomicU32::new(0),
            key_fetches: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .route("/login/oauth/access_token", post(token))
            .route("/oauth/access_token", post(token))
            .route("/.well-known/oauth/openid/jwks/", get(keys))
            .route("/api/v3/user", get(user))
            .route("/api/v3/user/emails", get(emails))
            .route("/elsewhere", get(elsewhere).post(elsewhere))
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self(inner)
    }

    /// Tells it what to do.
    pub(super) fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.0.plan.lock().unwrap());
    }

    /// Stores it as a provider of a server.
    pub(super) async fn add(&self, server: &TestServer, id: &str, kind: &str) {
        self.add_with(server, id, kind, |_| {}).await;
    }

    /// The same with changes.
    pub(super) async fn add_with(
        &self,
        server: &TestServer,
        id: &str,
        kind: &str,
        change: impl FnOnce(&mut ProviderDescription),
    ) {
        let mut description = ProviderDescription {
            id: id.into(),
            kind: kind.into(),
            name: Some(format!("Stub {id}")),
            issuer: Some(self.0.base.clone()),
            client_id: "our-client".into(),
            client_secret: Some(SecretText::new(SECRET.into())),
            trusts_email: Some(true),
            enabled: true,
            ..ProviderDescription::default()
        };
        change(&mut description);
        let new = description
            .into_provider(&server.server.app().secrets, true)
            .unwrap();
        server
            .registry()
            .put_identity_provider(&Actor::person("test"), &new)
            .await
            .unwrap();
    }

    /// Begins a trip, as the browser and the stub see it. Returns the answer that sends it there.
    pub(super) async fn begin(&self, browser: &mut Browser, id: &str) -> Answer {
        let path = format!("/rp/authorize?idp={id}&redirect_uri=/dashboard");
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        self.note(&answer);
        answer
    }

    /// The stub learns of a request, as if the browser had come.
    pub(super) fn note(&self, answer: &Answer) {
        let text = |name| answer.location_param(name).unwrap_or_default();
        *self.0.sent.lock().unwrap() = (text("nonce"), text("code_challenge"));
    }

    /// A whole trip.
    pub(super) async fn trip(&self, browser: &mut Browser, id: &str) -> Answer {
        let sent = self.begin(browser, id).await;
        browser.get(&callback(id, &sent, "&code=good")).await
    }

    fn claims(&self) -> Map<String, Value> {
        let now = START / 1000;
        let claims = json!({
            "iss": self.0.base,
            "sub": "sub-1",
            "aud": "our-client",
            "iat": now,
            "exp": now + 3600,
            "nonce": self.0.sent.lock().unwrap().0,
            "email": "ada@example.org",
            "email_verified": true,
        });
        claims.as_object().unwrap().clone()
    }

    /// An ID token as the plan has it.
    pub(super) fn id_token(&self, plan: &Plan) -> String {
        let claims = merged(self.claims(), &plan.claims);
        let signer = if plan.forged {
            &self.0.forger
        } else {
            &self.0.signer
        };
        signer.sign("JWT", &claims).unwrap()
    }

    /// Its public key.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = self.0.signer.jwk.clone();
        jwk["kid"] = json!(self.0.signer.kid);
        jwk
    }
}

/// The path on which a browser comes back.
pub(super) fn callback(id: &str, sent: &Answer, more: &str) -> String {
    let state = sent.location_param("state").unwrap();
    format!("/rp/callback/{id}?state={state}{more}")
}

fn merged(mut own: Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    for (name, value) in over {
        if value.is_null() {
            own.remove(name);
        } else {
            own.insert(name.clone(), value.clone());
        }
    }
    own
}

type Shared = State<Arc<Inner>>;

async fn metadata(State(stub): Shared) -> Json<Value> {
    let base = &stub.base;
    let document = json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/jwks"),
        "userinfo_endpoint": format!("{base}/userinfo"),
    });
    let over = stub.plan.lock().unwrap().metadata.clone();
    Json(Value::Object(merged(
        document.as_object().unwrap().clone(),
        &over,
    )))
}

async fn keys(State(stub): Shared) -> Json<Value> {
    stub.key_fetches.fetch_add(1, Ordering::SeqCst);
    let planned = stub.plan.lock().unwrap().keys.clone();
    let keys = planned.unwrap_or_else(|| vec![Stub(Arc::clone(&stub)).jwk()]);
    Json(json!({ "keys": keys }))
}

async fn token(State(stub): Shared, headers: HeaderMap, body: String) -> Response {
    stub.exchanges.fetch_add(1, Ordering::SeqCst);
    let text = |name| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    };
    *stub.authorization.lock().unwrap() = text(header::AUTHORIZATION).to_owned();
    *stub.user_agent.lock().unwrap() = text(header::USER_AGENT).to_owned();
    let form = Params::parse(&body).unwrap();
    *stub.form.lock().unwrap() = form
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let plan = stub.plan.lock().unwrap().clone();
    match plan.trick {
        Trick::None => {}
        Trick::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        Trick::Redirect => {
            let location = [(header::LOCATION, format!("{}/elsewhere", stub.base))];
            return (StatusCode::TEMPORARY_REDIRECT, location).into_response();
        }
        Trick::Enormous => return "x".repeat(2 * 1024 * 1024).into_response(),
    }
    if let Some((status, body)) = plan.token {
        return (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    }
    let verifier = form.get("code_verifier").unwrap_or("").to_owned();
    let challenge = PkceVerifier::parse(verifier).unwrap().challenge();
    if form.get("code") != Some("good") || challenge != stub.sent.lock().unwrap().1 {
        let body = json!({ "error": "invalid_grant" });
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let stub = Stub(stub);
    let id_token = plan
        .id_token
        .clone()
        .unwrap_or_else(|| stub.id_token(&plan));
    Json(json!({
        "access_token": UPSTREAM_TOKEN,
        "token_type": "bearer",
        "id_token": id_token,
    }))
    .into_response()
}

async fn userinfo(State(stub): Shared, headers: HeaderMap) -> Response {
    answer_to(&headers, stub.plan.lock().unwrap().userinfo.clone())
}

async fn user(State(stub): Shared, headers: HeaderMap) -> Response {
    // GitHub's API refuses who does not say their name (S0-43).
    let named = headers.get(header::USER_AGENT);
    if !named.is_some_and(|value| value.as_bytes().starts_with(b"Keywright/")) {
        return StatusCode::FORBIDDEN.into_response();
    }
    answer_to(&headers, Some(stub.plan.lock().unwrap().user.clone()))
}

async fn emails(State(stub): Shared, headers: HeaderMap) -> Response {
    answer_to(&headers, Some(stub.plan.lock().unwrap().emails.clone()))
}

fn answer_to(headers: &HeaderMap, body: Option<Value>) -> Response {
    let bearer = headers.get(header::AUTHORIZATION);
    let right = bearer.is_some_and(|value| value == &format!("Bearer {UPSTREAM_TOKEN}"));
    match body {
        Some(body) if right => Json(body).into_response(),
        Some(_) => StatusCode::UNAUTHORIZED.into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn elsewhere(State(stub): Shared) -> StatusCode {
    stub.elsewhere.fetch_add(1, Ordering::SeqCst);
    StatusCode::OK
}
