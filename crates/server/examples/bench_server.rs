//! Requests over real loopback sockets, each beside a bare axum route in the same run. One JSON object
//! a line: the median of one request after the other, and its ratio to the bare route's.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::routing::get;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{AuthMethod, ClientType, NewClient, OAuthScopes, TokenDigest};
use keywright_registry::{Clock, LocalRegistry};
use keywright_server::settings::Settings;
use keywright_server::{FirstOwner, PasswordHasher, Server, ServerSecrets, serve, set_up};
use reqwest::{Client, RequestBuilder, Response, header, redirect};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const CLIENT: &str = "bench";
const SECRET: &str = "a-secret-of-this-bench-only";
const EMAIL: &str = "owner@example.org";
const PASSWORD: &str = "correct horse battery";
const CALLBACK: &str = "http://127.0.0.1:1/callback";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const WARM_UP: usize = 20;
const TURNS: usize = 300;
/// No case takes longer, however slow the machine is.
const CASE_WITHIN: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let server = build(&base, folder.path()).await?;
    let stop = CancellationToken::new();
    let (running, token) = (server.clone(), stop.clone());
    let serving = tokio::spawn(async move { serve(&running, listener, token).await });
    let bare = TcpListener::bind("127.0.0.1:0").await?;
    let bare_url = format!("http://{}/", bare.local_addr()?);
    let bare_router = Router::new().route("/", get(async || "ok\n"));
    tokio::spawn(async move { axum::serve(bare, bare_router).await });

    let bench = Bench {
        client: Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?,
        base,
        bare_url,
    };
    bench.run().await?;
    stop.cancel();
    serving.await??;
    server.close().await;
    Ok(())
}

async fn build(base: &str, data: &std::path::Path) -> Result<Server> {
    let settings = Settings::new(base, data.to_owned())?;
    let registry = LocalRegistry::open(&data.join("db/registry.db"), Clock::system()).await?;
    let secrets = ServerSecrets::create(&data.join("secrets"))?;
    let hasher = PasswordHasher::new(1)?;
    let owner = FirstOwner {
        email: EMAIL.into(),
        name: "Owner".into(),
        password_hash: hasher.hash(&SecretText::new(PASSWORD.into())).await?,
    };
    set_up(&registry, &secrets, &owner).await?;
    let client = NewClient {
        name: "Bench".into(),
        client_type: ClientType::Confidential,
        auth_method: AuthMethod::ClientSecretBasic,
        jwks: None,
        redirect_uris: vec![CALLBACK.into()],
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        grant_types: ["authorization_code", "refresh_token", "client_credentials"]
            .map(str::to_owned)
            .to_vec(),
        scopes: OAuthScopes::parse("openid email offline_access").context("scopes")?,
        signing_alg: "ES256".into(),
        require_pkce: true,
        require_dpop: false,
        fapi: false,
    };
    let digest = TokenDigest::of(&SecretText::new(SECRET.into()));
    registry
        .add_client(&Actor::keywright(), CLIENT, &client, Some(&digest))
        .await?;
    let server = Server::build(settings, registry, secrets, Clock::system()).await?;
    server.start_background_work();
    Ok(server)
}

struct Bench {
    client: Client,
    base: String,
    bare_url: String,
}

impl Bench {
    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).form(form)
    }

    fn by_client(&self, path: &str, form: &[(&str, &str)]) -> RequestBuilder {
        self.post(path, form).basic_auth(CLIENT, Some(SECRET))
    }

    async fn run(&self) -> Result<()> {
        self.case("discovery", || {
            self.get("/.well-known/openid-configuration")
        })
        .await?;
        self.case("jwks", || self.get("/oauth2/jwks.json")).await?;
        let form = [("grant_type", "client_credentials")];
        self.case("client_credentials", || {
            self.by_client("/oauth2/token", &form)
        })
        .await?;
        let own = json_of(self.by_client("/oauth2/token", &form).send().await?).await?;
        let token = own["access_token"].as_str().context("no token")?.to_owned();
        let form = [("token", token.as_str())];
        self.case("introspection", || {
            self.by_client("/oauth2/introspect", &form)
        })
        .await?;

        let mut browser = Browser {
            bench: self,
            cookies: Vec::new(),
        };
        if let Err(why) = browser.sign_in().await {
            // Figures that cannot be taken are missing, not made up.
            eprintln!("no figures for sessions and refresh tokens: {why:#}");
            return Ok(());
        }
        let cookies = browser.header();
        self.case("session", || {
            self.get("/auth/session").header(header::COOKIE, &cookies)
        })
        .await?;
        let tokens = browser.tokens().await?;
        let access = tokens["access_token"]
            .as_str()
            .context("no token")?
            .to_owned();
        self.case("userinfo", || {
            self.get("/oauth2/userinfo").bearer_auth(&access)
        })
        .await?;
        let refresh = tokens["refresh_token"]
            .as_str()
            .context("no refresh token")?;
        self.refresh(refresh.to_owned()).await
    }

    /// One request after the other, each followed by one to the bare route.
    async fn case(&self, name: &str, request: impl Fn() -> RequestBuilder) -> Result<()> {
        let (mut own, mut bare) = (Vec::new(), Vec::new());
        let end = Instant::now() + CASE_WITHIN;
        for turn in 0..WARM_UP + TURNS {
            if Instant::now() > end && own.len() > 10 {
                break;
            }
            let (took, _) = timed(request()).await?;
            let (beside, _) = timed(self.client.get(&self.bare_url)).await?;
            if turn >= WARM_UP {
                own.push(took);
                bare.push(beside);
            }
        }
        tell(name, &mut own, &mut bare);
        Ok(())
    }

    /// Every token is used once.
    async fn refresh(&self, mut token: String) -> Result<()> {
        let (mut own, mut bare) = (Vec::new(), Vec::new());
        let end = Instant::now() + CASE_WITHIN;
        for turn in 0..WARM_UP + TURNS {
            if Instant::now() > end && own.len() > 10 {
                break;
            }
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
            ];
            let (took, body) = timed(self.by_client("/oauth2/token", &form)).await?;
            let (beside, _) = timed(self.client.get(&self.bare_url)).await?;
            let answer: Value = serde_json::from_slice(&body)?;
            token = answer["refresh_token"]
                .as_str()
                .context("no next refresh token")?
                .to_owned();
            if turn >= WARM_UP {
                own.push(took);
                bare.push(beside);
            }
        }
        tell("refresh", &mut own, &mut bare);
        Ok(())
    }
}

/// Enough of a browser to sign in.
struct Browser<'a> {
    bench: &'a Bench,
    cookies: Vec<(String, String)>,
}

impl Browser<'_> {
    fn header(&self) -> String {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    async fn send(&mut self, request: RequestBuilder) -> Result<Response> {
        let answer = request.header(header::COOKIE, self.header()).send().await?;
        for value in answer.headers().get_all(header::SET_COOKIE) {
            let pair = value.to_str()?.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("no cookie")?;
            self.cookies.retain(|(own, _)| own != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(answer)
    }

    async fn sign_in(&mut self) -> Result<()> {
        let page = self.send(self.bench.get("/sign-in")).await?;
        let page = page.error_for_status()?.text().await?;
        let csrf = field(&page, "csrf_token")?;
        let form = [
            ("email", EMAIL),
            ("password", PASSWORD),
            ("csrf_token", csrf.as_str()),
            ("return_to", "/account"),
        ];
        let answer = self.send(self.bench.post("/sign-in", &form)).await?;
        if answer.status() != 303 {
            bail!("the sign-in page answers {}", answer.status());
        }
        Ok(())
    }

    async fn tokens(&mut self) -> Result<Value> {
        let query = [
            ("client_id", CLIENT),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "openid email offline_access"),
            ("prompt", "consent"),
            ("state", "s"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let url =
            url::Url::parse_with_params(&format!("{}/oauth2/authorize", self.bench.base), query)?;
        let mut answer = self.send(self.bench.client.get(url)).await?;
        if answer.status() == 200 {
            let page = answer.text().await?;
            let (request, csrf) = (field(&page, "request")?, field(&page, "csrf_token")?);
            let form = [
                ("request", request.as_str()),
                ("csrf_token", csrf.as_str()),
                ("decision", "allow"),
            ];
            answer = self
                .send(self.bench.post("/oauth2/authorize/consent", &form))
                .await?;
        }
        let location = answer
            .headers()
            .get(header::LOCATION)
            .context("no redirect")?
            .to_str()?;
        let url = url::Url::parse(location)?;
        let (_, code) = url
            .query_pairs()
            .find(|(name, _)| name == "code")
            .context("no code")?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        json_of(self.bench.by_client("/oauth2/token", &form).send().await?).await
    }
}

async fn timed(request: RequestBuilder) -> Result<(f64, Vec<u8>)> {
    let began = Instant::now();
    let answer = request.send().await?.error_for_status()?;
    let body = answer.bytes().await?;
    Ok((began.elapsed().as_secs_f64() * 1e6, body.to_vec()))
}

async fn json_of(answer: Response) -> Result<Value> {
    let status = answer.status();
    let body = answer.bytes().await?;
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(serde_json::from_slice(&body)?)
}

/// A hidden field's value.
fn field(page: &str, name: &str) -> Result<String> {
    let at = page
        .find(&format!("name=\"{name}\""))
        .with_context(|| format!("no field {name}"))?;
    let value = page[at..]
        .split("value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .context("no value")?;
    Ok(value.replace("&amp;", "&"))
}

fn tell(case: &str, own: &mut [f64], bare: &mut [f64]) {
    let (value, baseline) = (median(own), median(bare));
    let round = |value: f64| (value * 10.0).round() / 10.0;
    let line = json!({
        "bench": "server",
        "case": case,
        "value": round(value),
        "unit": "us",
        "baseline": round(baseline),
        "baseline_is": "a bare axum route over the same loopback",
        "ratio": (value / baseline * 100.0).round() / 100.0,
        "requests": own.len(),
    });
    println!("{line}");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
