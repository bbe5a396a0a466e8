//! An issuer written by hand that can be told to misbehave. Left alone, it behaves: it approves
//! at once, signs ID tokens, checks PKCE, rotates refresh tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// How the token endpoint answers.
#[derive(Clone, Debug, Default)]
pub(crate) enum TokenTrick {
    #[default]
    Good,
    Status(u16),
    Redirect,
    Html,
    Hang,
    Enormous,
    Json(Value),
    /// Closes the connection without an answer, this often.
    Drop(usize),
    InvalidGrant,
    /// Does what it is asked and loses the answer on the way, once.
    LoseAnswer,
    /// Takes its time, once.
    Slow,
    /// Once: the tokens are made at once, and the answer takes its time.
    SlowAnswer,
}

/// What it does wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tricks {
    /// Members of the metadata; null takes one away.
    pub(crate) metadata: Vec<(&'static str, Value)>,
    /// Another answer than metadata: status, media type, body.
    pub(crate) discovery: Option<(u16, &'static str, String)>,
    pub(crate) token: TokenTrick,
    /// Claims of the ID token; null takes one away.
    pub(crate) claims: Vec<(&'static str, Value)>,
    /// Members of its header.
    pub(crate) header: Vec<(&'static str, Value)>,
    /// Sends no ID token, or this one.
    pub(crate) id_token: Option<Option<String>>,
    pub(crate) no_refresh_token: bool,
    pub(crate) scope: Option<&'static str>,
    pub(crate) userinfo_sub: Option<&'static str>,
    /// How far its clock is ahead.
    pub(crate) clock_ahead_s: i64,
    pub(crate) expires_in_s: Option<i64>,
    /// `iss` of the authorization response; null leaves it out.
    pub(crate) iss: Option<Value>,
    /// The authorization endpoint refuses with this error.
    pub(crate) refuses: Option<&'static str>,
    pub(crate) revocation: Option<u16>,
    /// Signs with a key it does not publish (yet).
    pub(crate) publishes_no_key: bool,
    /// The refresh token before the newest one gets the same successor once more.
    pub(crate) grace: bool,
    /// Who signs in.
    pub(crate) person: Option<&'static str>,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) form: HashMap<String, String>,
}

/// A running issuer; it ends with this value.
pub(crate) struct BadIssuer {
    pub(crate) issuer: String,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    issuer: String,
    tricks: Mutex<Tricks>,
    seen: Mutex<Vec<Seen>>,
    key: Mutex<(KeyPair, usize)>,
    codes: Mutex<HashMap<String, HashMap<String, String>>>,
    refresh_token: Mutex<(String, usize)>,
}

impl Drop for BadIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl BadIssuer {
    pub(crate) async fn start() -> Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let issuer = format!("http://{}", socket.local_addr()?);
        let state = Arc::new(State {
            issuer: issuer.clone(),
            tricks: Mutex::default(),
            seen: Mutex::default(),
            key: Mutex::new((KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, 1)),
            codes: Mutex::default(),
            refresh_token: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { state.serve(stream).await });
            }
        });
        Ok(Self {
            issuer,
            state,
            task: task.abort_handle(),
        })
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Tricks)) -> Result<Self> {
        let issuer = Self::start().await?;
        issuer.change(change);
        Ok(issuer)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Tricks)) {
        change(&mut self.state.tricks.lock().unwrap());
    }

    /// A new signing key; the old one is no longer published.
    pub(crate) fn rotate_key(&self) -> Result<()> {
        let mut key = self.state.key.lock().unwrap();
        *key = (KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, key.1 + 1);
        Ok(())
    }

    /// Requests to a path so far.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        self.state
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.path == path)
            .cloned()
            .collect()
    }

    /// Token requests of a kind so far.
    pub(crate) fn token_requests(&self, grant: &str) -> usize {
        let of_kind = |seen: &&Seen| {
            seen.form
                .get("grant_type")
                .is_some_and(|kind| kind == grant)
        };
        self.seen("/token").iter().filter(of_kind).count()
    }

    /// The refresh token that is good at the moment.
    pub(crate) fn refresh_token(&self) -> String {
        self.state.refresh_token.lock().unwrap().0.clone()
    }
}

impl State {
    fn tricks(&self) -> Tricks {
        self.tricks.lock().unwrap().clone()
    }

    async fn serve(&self, mut stream: TcpStream) {
        if let Some(seen) = read(&mut stream).await {
            self.seen.lock().unwrap().push(seen.clone());
            if let Ok(Some(answer)) = self.answer(&seen).await {
                let _sent = stream.write_all(answer.as_bytes()).await;
                let _closed = stream.shutdown().await;
            }
        }
    }

    async fn answer(&self, seen: &Seen) -> Result<Option<String>> {
        let tricks = self.tricks();
        let reply =
            |status: u16, kind: &str, body: &str| Ok(Some(self.reply(status, kind, "", body)));
        let json = |status: u16, body: &Value| reply(status, "application/json", &body.to_string());
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/.well-known/openid-configuration") => match &tricks.discovery {
                Some((status, kind, body)) => reply(*status, kind, body),
                None => json(200, &self.metadata(&tricks)),
            },
            ("GET", "/jwks") => json(200, &self.jwks(&tricks)),
            ("GET", "/authorize") => Ok(Some(self.authorize(seen, &tricks))),
            ("POST", "/token") => self.token(seen, &tricks).await,
            ("GET", "/userinfo") => {
                let sub = tricks.userinfo_sub.or(tricks.person).unwrap_or("ada");
                json(
                    200,
                    &json!({"sub": sub, "name": format!("Name of {sub}"), "email": format!("{sub}@example.com"), "email_verified": true}),
                )
            }
            ("POST", "/revoke") => reply(tricks.revocation.unwrap_or(200), "application/json", ""),
            _ => reply(404, "text/html", "<h1>Nothing here</h1>"),
        }
    }

    fn metadata(&self, tricks: &Tricks) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let mut metadata = json!({
            "issuer": self.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"), "userinfo_endpoint": at("/userinfo"), "revocation_endpoint": at("/revoke"),
            "authorization_response_iss_parameter_supported": true, "code_challenge_methods_supported": ["S256"],
            "something_unknown": {"is": "ignored"},
        });
        apply(&mut metadata, &tricks.metadata);
        metadata
    }

    fn jwks(&self, tricks: &Tricks) -> Value {
        let key = self.key.lock().unwrap();
        let point = key.0.public_key_raw();
        let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": half(1..33), "y": half(33..65), "kid": format!("k{}", key.1), "use": "sig", "alg": "ES256"});
        json!({"keys": if tricks.publishes_no_key { vec![] } else { vec![jwk] }})
    }

    fn authorize(&self, seen: &Seen, tricks: &Tricks) -> String {
        let asked = |name: &str| seen.query.get(name).cloned().unwrap_or_default();
        let code = format!("code-{}", self.codes.lock().unwrap().len() + 1);
        self.codes
            .lock()
            .unwrap()
            .insert(code.clone(), seen.query.clone());
        let mut to = url::Url::parse(&asked("redirect_uri"))
            .unwrap_or_else(|_| url::Url::parse("http://127.0.0.1:1/").unwrap());
        {
            let mut pairs = to.query_pairs_mut();
            match tricks.refuses {
                Some(error) => pairs.append_pair("error", error),
                None => pairs.append_pair("code", &code),
            };
            pairs.append_pair("state", &asked("state"));
            let iss = tricks
                .iss
                .clone()
                .unwrap_or_else(|| self.issuer.clone().into());
            if let Some(iss) = iss.as_str() {
                pairs.append_pair("iss", iss);
            }
        }
        self.reply(302, "text/plain", &format!("Location: {to}\r\n"), "")
    }

    async fn token(&self, seen: &Seen, tricks: &Tricks) -> Result<Option<String>> {
        let reply =
            |status: u16, kind: &str, body: &str| Ok(Some(self.reply(status, kind, "", body)));
        match &tricks.token {
            TokenTrick::Good => {}
            TokenTrick::Status(status) => {
                return reply(
                    *status,
                    "application/json",
                    r#"{"error":"temporarily_unavailable"}"#,
                );
            }
            TokenTrick::Redirect => {
                let more = format!("Location: {}/elsewhere\r\n", self.issuer);
                return Ok(Some(self.reply(302, "text/plain", &more, "")));
            }
            TokenTrick::Html => {
                return reply(
                    200,
                    "text/html; charset=utf-8",
                    "<html>Log in to the guest network</html>",
                );
            }
            TokenTrick::Hang => {
                tokio::time::sleep(Duration::from_secs(120)).await;
                return Ok(None);
            }
            TokenTrick::Enormous => {
                return reply(
                    200,
                    "application/json",
                    &format!("{{\"x\":\"{}\"}}", "x".repeat(3_000_000)),
                );
            }
            TokenTrick::Json(body) => return reply(200, "application/json", &body.to_string()),
            TokenTrick::Drop(times) => {
                let left = times.saturating_sub(1);
                self.tricks.lock().unwrap().token = if left == 0 {
                    TokenTrick::Good
                } else {
                    TokenTrick::Drop(left)
                };
                return Ok(None);
            }
            TokenTrick::LoseAnswer => {
                self.tricks.lock().unwrap().token = TokenTrick::Good;
                let _lost = self.grant(seen, tricks)?;
                return Ok(None);
            }
            TokenTrick::SlowAnswer => {
                self.tricks.lock().unwrap().token = TokenTrick::Good;
                let granted = self.grant(seen, tricks)?.unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(1500)).await;
                return reply(200, "application/json", &granted.to_string());
            }
            TokenTrick::Slow => {
                self.tricks.lock().unwrap().token = TokenTrick::Good;
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
            TokenTrick::InvalidGrant => {
                return reply(
                    400,
                    "application/json",
                    r#"{"error":"invalid_grant","error_description":"it is over"}"#,
                );
            }
        }
        match self.grant(seen, tricks)? {
            Some(tokens) => reply(200, "application/json", &tokens.to_string()),
            None => reply(400, "application/json", r#"{"error":"invalid_grant"}"#),
        }
    }

    fn grant(&self, seen: &Seen, tricks: &Tricks) -> Result<Option<Value>> {
        let given = |name: &str| seen.form.get(name).cloned().unwrap_or_default();
        let mut again = false;
        let asked = match given("grant_type").as_str() {
            "authorization_code" => {
                let Some(asked) = self.codes.lock().unwrap().remove(&given("code")) else {
                    return Ok(None);
                };
                let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(given("code_verifier")));
                let right = asked.get("code_challenge") == Some(&challenge)
                    && asked.get("redirect_uri") == Some(&given("redirect_uri"));
                if !right {
                    return Ok(None);
                }
                Some(asked)
            }
            _ => {
                let refresh = self.refresh_token.lock().unwrap();
                let before = format!("rt-canary-{}", refresh.1 - 1);
                again = tricks.grace && given("refresh_token") == before;
                if given("refresh_token") != refresh.0 && !again {
                    return Ok(None);
                }
                None
            }
        };
        let mut refresh = self.refresh_token.lock().unwrap();
        if !again {
            *refresh = (format!("rt-canary-{}", refresh.1 + 1), refresh.1 + 1);
        }
        let access = format!("at-canary-{}", refresh.1);
        let mut tokens = json!({"access_token": access, "token_type": "Bearer", "expires_in": tricks.expires_in_s.unwrap_or(300)});
        if !tricks.no_refresh_token {
            tokens["refresh_token"] = refresh.0.clone().into();
        }
        if let Some(scope) = tricks.scope {
            tokens["scope"] = scope.into();
        }
        let nonce = asked.as_ref().and_then(|asked| asked.get("nonce"));
        match &tricks.id_token {
            Some(None) => {}
            Some(Some(forged)) => tokens["id_token"] = forged.clone().into(),
            None => tokens["id_token"] = self.id_token(nonce, &access, tricks)?.into(),
        }
        Ok(Some(tokens))
    }

    fn id_token(&self, nonce: Option<&String>, access: &str, tricks: &Tricks) -> Result<String> {
        let now = now_s() + tricks.clock_ahead_s;
        let mut claims = json!({
            "iss": self.issuer, "sub": tricks.person.unwrap_or("ada"), "aud": super::peer::CLIENT_ID, "exp": now + 300, "iat": now,
            "at_hash": URL_SAFE_NO_PAD.encode(&Sha256::digest(access)[..16]),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.clone().into();
        }
        apply(&mut claims, &tricks.claims);
        let key = self.key.lock().unwrap();
        let mut header = json!({"alg": "ES256", "kid": format!("k{}", key.1), "typ": "JWT"});
        apply(&mut header, &tricks.header);
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signing = EncodingKey::from_ec_pem(key.0.serialize_pem().as_bytes())?;
        Ok(format!(
            "{signed}.{}",
            crypto::sign(signed.as_bytes(), &signing, Algorithm::ES256)?
        ))
    }

    fn reply(&self, status: u16, kind: &str, more: &str, body: &str) -> String {
        let date = http_date(now_s() + self.tricks.lock().unwrap().clock_ahead_s);
        format!(
            "HTTP/1.1 {status} X\r\nDate: {date}\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

fn apply(object: &mut Value, changes: &[(&'static str, Value)]) {
    for (name, value) in changes {
        match (value, object.as_object_mut()) {
            (Value::Null, Some(object)) => drop(object.remove(*name)),
            (value, Some(object)) => drop(object.insert((*name).to_owned(), value.clone())),
            _ => {}
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let raw = loop {
        let read = stream
            .read(&mut chunk)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .and_then(|n| n.parse().ok())
        });
        if body.len() >= length.unwrap_or(0) {
            break text;
        }
    };
    let (head, body) = raw.split_once("\r\n\r\n")?;
    let mut start = head.lines().next()?.split(' ');
    let (method, target) = (start.next()?.to_owned(), start.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = |text: &str| {
        url::form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect()
    };
    Some(Seen {
        method,
        path: path.to_owned(),
        query: pairs(query),
        form: pairs(body),
    })
}

fn now_s() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed())
}

/// IMF-fixdate, by the calendar of Unix days.
fn http_date(unix: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let (days, time) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let mut year = 1970;
    let mut left = days;
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + i64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let day = DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)];
    format!(
        "{day}, {:02} {} {year} {:02}:{:02}:{:02} GMT",
        left + 1,
        MONTHS[month],
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// Posts to the issuer as a stranger would, for what only a second process could do.
pub(crate) async fn post_token(issuer: &str, form: &str) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client
        .post(format!("{issuer}/token"))
        .header("Content-Type", "application/x-www-form-urlencoded");
    let answer = request.body(form.to_owned()).send().await?.text().await?;
    serde_json::from_str(&answer).context("no JSON")
}
