//! Weeks of use in seconds (AC-206): some thousands of requests of every kind against one server whose
//! clock goes forward. What is over is pruned, and no table grows with what was asked.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{AuthMethod, ClientType, Email, NewClient, OAuthScopes};
use keywright_registry::people::NewProvider;
use keywright_registry::{Clock, LocalRegistry};
use keywright_server::settings::Settings;
use keywright_server::{FirstOwner, PasswordHasher, Server, ServerSecrets, set_up};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::harness::{OWNER, PASSWORD};

const DAY_MS: i64 = 86_400_000;
const REDIRECT: &str = "http://127.0.0.1:9999/callback";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const FORM: &str = "application/x-www-form-urlencoded";
/// One more than what ended is kept for, in rounds: from here on as much goes as comes.
const WARM: usize = 5;
/// The log of changes goes by number, not by age.
const CHANGES_KEPT: i64 = 100;
const ROUNDS: usize = 10;
const ROUND_MS: i64 = 35 * DAY_MS;

struct Soak {
    server: Server,
    client: reqwest::Client,
    base: String,
    root: String,
    clock: Arc<AtomicI64>,
    asked: AtomicUsize,
    database: String,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Soak {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Soak {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let clock = Arc::new(AtomicI64::new(1_800_000_000_000));
        let shared = Arc::clone(&clock);
        let time = Clock::from_fn(move || shared.load(Ordering::Relaxed));
        let mut settings = Settings::new(&base, folder.path().to_owned())?;
        // The shortest that may be set: months fit into the test.
        let keys = &mut settings.retention.keys;
        keys.ended_keys_days = Some(30);
        keys.ended_secrets_days = Some(30);
        keys.rollups_days = Some(90);
        keys.audit_days = Some(90);
        keys.alerts_days = Some(30);
        keys.notices_days = Some(30);
        keys.changes_kept = CHANGES_KEPT;
        let path = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&path, time.clone()).await?;
        let secrets = ServerSecrets::create(&folder.path().join("secrets"))?;
        let password = SecretText::new(PASSWORD.to_owned());
        let owner = FirstOwner {
            email: OWNER.to_owned(),
            name: "Owner".to_owned(),
            password_hash: PasswordHasher::new(1)?.hash(&password).await?,
        };
        let root = set_up(&registry, &secrets, &owner).await?;
        prepare(&registry).await?;
        let server = Server::build(settings, registry, secrets, time).await?;
        let stop = CancellationToken::new();
        let (serving, until) = (server.clone(), stop.clone());
        tokio::spawn(async move { keywright_server::serve(&serving, listener, until).await });
        Ok(Self {
            server,
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(20))
                .build()?,
            base,
            root: root.expose().to_owned(),
            clock,
            asked: AtomicUsize::new(0),
            database: format!("sqlite://{}", path.display()),
            stop,
            _folder: folder,
        })
    }

    fn pass(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sends a request; some seconds go by.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value, String, String)> {
        self.pass(4000);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or("").to_owned();
        let headers = response.headers();
        let location = headers.get("location").map_or_else(String::new, text);
        let cookies: Vec<String> = headers
            .get_all("set-cookie")
            .iter()
            .map(|line| text(line).split(';').next().unwrap_or("").to_owned())
            .collect();
        let body = response.text().await?;
        ensure!(status < 500, "{status} {body}");
        let body = serde_json::from_str(&body).unwrap_or(Value::Null);
        Ok((status, body, location, cookies.join("; ")))
    }

    async fn get(&self, path: &str, cookie: &str) -> Result<(u16, Value, String, String)> {
        let request = self.client.get(format!("{}{path}", self.base));
        self.send(request.header("cookie", cookie)).await
    }

    async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", FORM).body(encode(fields));
        let (status, body, ..) = self.send(request).await?;
        Ok((status, body))
    }

    async fn key(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.bearer_auth(&self.root).json(body);
        Ok(self.send(request).await?.1)
    }

    /// The cookies of somebody who signed in on the page.
    async fn sign_in(&self, password: &str) -> Result<Option<String>> {
        let (_, _, _, csrf) = self.get("/sign-in", "").await?;
        let token = csrf.split_once('=').map_or("", |(_, token)| token);
        let fields = [
            ("email", OWNER),
            ("password", password),
            ("return_to", "/account"),
            ("csrf_token", token),
        ];
        let request = self.client.post(format!("{}/sign-in", self.base));
        let request = request
            .header("cookie", csrf.as_str())
            .header("origin", "null")
            .header("sec-fetch-site", "same-origin")
            .header("content-type", FORM)
            .body(encode(&fields));
        let (status, _, _, cookies) = self.send(request).await?;
        Ok((status == 303).then_some(cookies))
    }

    /// Rows of every table.
    async fn rows(&self) -> Result<BTreeMap<String, i64>> {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.database).await?;
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
        let mut counts = BTreeMap::new();
        for table in sqlx::query(tables).fetch_all(&mut connection).await? {
            let name: String = table.try_get(0)?;
            let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM \"{name}\""));
            let row = sqlx::query(count).fetch_one(&mut connection).await?;
            counts.insert(name, row.try_get(0)?);
        }
        connection.close().await?;
        Ok(counts)
    }

    /// Waits until the search index has followed: it does so by the true clock, a second at a time.
    async fn settle(&self) -> Result<()> {
        for _ in 0..200 {
            if self.rows().await?["api_key_search_pending"] == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("keys wait for the search index without end")
    }

    /// Everything that people and programs do in a while, much of it begun and never ended.
    async fn round(&self) -> Result<()> {
        for _ in 0..25 {
            let (status, ..) = self.get(&authorize(""), "").await?;
            ensure!(status == 303, "{status}");
            let path = "/rp/authorize?idp=github&redirect_uri=/account";
            let (status, ..) = self.get(path, "").await?;
            ensure!(status == 303, "{status}");
        }
        let mut refresh_tokens = Vec::new();
        for _ in 0..3 {
            let cookies = self.sign_in(PASSWORD).await?.context("not signed in")?;
            for number in 0..10 {
                let (status, _, location, _) = self.get(&authorize(""), &cookies).await?;
                let url = url::Url::parse(&location).with_context(|| format!("{status}"))?;
                let code = url.query_pairs().find(|(name, _)| name == "code");
                let (_, code) = code.with_context(|| location.clone())?;
                // Half of the codes are used, some of them twice.
                for _ in 0..[0, 1, 0, 1, 0, 1, 0, 1, 0, 2][number] {
                    let (_, body) = self.form("/oauth2/token", &redeem(&code)).await?;
                    if let Some(token) = body["refresh_token"].as_str() {
                        refresh_tokens.push(token.to_owned());
                    }
                }
            }
        }
        for (number, token) in refresh_tokens.iter_mut().enumerate() {
            for _ in 0..4 {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "app"),
                    ("refresh_token", token.as_str()),
                ];
                let (_, body) = self.form("/oauth2/token", &fields).await?;
                if let Some(next) = body["refresh_token"].as_str() {
                    *token = next.to_owned();
                }
            }
            if number % 3 == 0 {
                let fields = [("client_id", "app"), ("token", token.as_str())];
                self.form("/oauth2/revoke", &fields).await?;
            }
        }
        for _ in 0..25 {
            let device = [("client_id", "app"), ("scope", "openid")];
            let (status, begun) = self.form("/oauth2/device_authorization", &device).await?;
            ensure!(status == 200, "{begun}");
            let code = begun["device_code"].as_str().unwrap_or("");
            let poll = [
                ("grant_type", DEVICE),
                ("client_id", "app"),
                ("device_code", code),
            ];
            self.form("/oauth2/token", &poll).await?;
            let pushed = authorize("");
            let query = pushed.split_once('?').map_or("", |(_, query)| query);
            let request = self.client.post(format!("{}/oauth2/par", self.base));
            let request = request.header("content-type", FORM).body(query.to_owned());
            let (status, body, ..) = self.send(request).await?;
            ensure!(status == 201, "{status} {body}");
            // What nobody has.
            self.form("/oauth2/token", &redeem("no-such-code")).await?;
        }
        ensure!(self.sign_in("not the password").await?.is_none());
        for number in 0..4 {
            let wish = json!({
                "name": format!("key {number}"), "prefix": "sk_live", "scopes": ["keys:read"],
                "lifetime_ms": 2 * DAY_MS,
            });
            let made = self.key("/api/v1/keys", &wish).await?;
            let (id, secret) = (made["key"]["id"].as_str(), made["secret"].as_str());
            let (id, secret) = (id.context("no id")?, secret.context("no secret")?);
            for _ in 0..8 {
                let verdict = self
                    .key("/api/v1/keys/verify", &json!({ "key": secret }))
                    .await?;
                ensure!(verdict["code"] == "valid", "{verdict}");
            }
            let unknown = json!({ "key": secret.replace("KYWRT1", "KYWRT1x") });
            self.key("/api/v1/keys/verify", &unknown).await?;
            if number % 2 == 0 {
                let path = format!("/api/v1/keys/{id}/rotations");
                self.key(&path, &json!({ "lifetime_ms": 2 * DAY_MS }))
                    .await?;
            } else {
                self.key(&format!("/api/v1/keys/{id}/revoke"), &json!({}))
                    .await?;
            }
        }
        Ok(())
    }
}

async fn prepare(registry: &LocalRegistry) -> Result<()> {
    let client = NewClient {
        name: "The application".into(),
        client_type: ClientType::Public,
        auth_method: AuthMethod::None,
        jwks: None,
        redirect_uris: vec![REDIRECT.into()],
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        grant_types: vec![
            "authorization_code".into(),
            "refresh_token".into(),
            DEVICE.into(),
        ],
        scopes: OAuthScopes::parse("openid offline_access").context("scopes")?,
        signing_alg: "ES256".into(),
        require_pkce: true,
        require_dpop: false,
        fapi: false,
    };
    let actor = Actor::keywright();
    registry.add_client(&actor, "app", &client, None).await?;
    // Its addresses are known: nobody is asked.
    let provider = NewProvider {
        id: "github".into(),
        kind: "github".into(),
        name: "GitHub".into(),
        issuer: "https://github.com".into(),
        client_id: "us".into(),
        sealed_secret: None,
        settings: "{}".into(),
        trusts_email: false,
        enabled: true,
    };
    registry.put_identity_provider(&actor, &provider).await?;
    // The person agreed once; from then on a request is answered with a code.
    let owner = registry.find_credentials(&Email::new(OWNER)?).await?;
    let owner = owner.context("no owner")?.user_id;
    let all = OAuthScopes::parse("openid offline_access").context("scopes")?;
    registry
        .give_consent(&Actor::person(&owner), &owner, "app", None, &all)
        .await?;
    Ok(())
}

fn encode(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

fn authorize(prompt: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let fields = [
        ("client_id", "app"),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("scope", "openid offline_access"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("prompt", prompt),
    ];
    format!("/oauth2/authorize?{}", encode(&fields))
}

fn redeem(code: &str) -> [(&str, &str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("code", code),
    ]
}

#[tokio::test]
async fn ac_206_no_table_grows_with_what_was_asked() -> Result<()> {
    let soak = Soak::start().await?;
    let mut history: Vec<BTreeMap<String, i64>> = Vec::new();
    for round in 1..=ROUNDS {
        soak.round().await?;
        soak.pass(ROUND_MS);
        soak.server.do_due_work().await?;
        if round == WARM || round == ROUNDS {
            soak.settle().await?;
        }
        history.push(soak.rows().await?);
    }
    let asked = soak.asked.load(Ordering::Relaxed);
    ensure!(asked >= 3000, "{asked} requests");
    let (warm, last) = (&history[WARM - 1], &history[ROUNDS - 1]);
    ensure!(
        last.values().sum::<i64>() > 100,
        "nothing was stored: the test shows nothing"
    );
    let mut grown = Vec::new();
    for (table, rows) in last {
        let before = match table.as_str() {
            "changes" => CHANGES_KEPT,
            _ => warm.get(table).copied().unwrap_or(0),
        };
        // A tenth is chance; a table that grew with the requests would have doubled.
        if *rows > before + before / 10 + 8 {
            let all: Vec<i64> = history.iter().map(|one| one[table]).collect();
            grown.push(format!("{table}: {all:?}"));
        }
    }
    ensure!(grown.is_empty(), "after {asked} requests: {grown:#?}");
    Ok(())
}
