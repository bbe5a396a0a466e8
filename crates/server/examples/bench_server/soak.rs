//! A million requests of every kind: nothing fails, and memory stays where it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::cases::{Bench, CONNECTIONS, JSON, ask, by_client, one, round, round2, tell};
use crate::wire::{Connection, Says, request};

/// As many as the row's name says.
pub(crate) const REQUESTS: usize = 1_000_000;
/// Memory is read after each tenth.
const PARTS: usize = 10;
/// Everything has been used once by then, and what is kept for a while is as full as it gets.
const WARM: usize = 3;

impl Bench<'_> {
    pub(crate) async fn soak(&self) -> Result<()> {
        if !self.wants("soak_1m") {
            return Ok(());
        }
        let mut browser = Browser::signed_in(&self.facts.address).await?;
        let mut lines = Vec::new();
        let answer = ask(
            &self.facts.address,
            &by_client("/oauth2/token", "EdDSA", "grant_type=client_credentials"),
        )
        .await?;
        let token = answer["access_token"].as_str().context("no token")?;
        for at in 0..CONNECTIONS {
            let refresh = browser.tokens("EdDSA").await?;
            lines.push(Line {
                connection: Connection::open(&self.facts.address).await?,
                at,
                turn: 0,
                root: format!("Bearer {}", self.facts.root_key),
                cookies: browser.cookies(),
                token: token.to_owned(),
                refresh: text(&refresh, "refresh_token")?,
                issued: None,
                keys: self.facts.keys.clone().into(),
            });
        }
        let (began, mut memory) = (Instant::now(), Vec::new());
        for _ in 0..PARTS {
            let left = Arc::new(AtomicUsize::new(self.requests / PARTS));
            let mut tasks = tokio::task::JoinSet::new();
            for mut line in lines.drain(..) {
                let left = Arc::clone(&left);
                tasks.spawn(async move {
                    let take = |left: usize| left.checked_sub(1);
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                        .is_ok()
                    {
                        line.step().await?;
                    }
                    Ok::<_, anyhow::Error>(line)
                });
            }
            while let Some(done) = tasks.join_next().await {
                lines.push(done??);
            }
            memory.push(resident(self.process)?);
        }
        let took = began.elapsed().as_secs_f64();
        let (value, baseline) = (
            memory.last().copied().unwrap_or(f64::NAN),
            memory.get(WARM - 1).copied().unwrap_or(f64::NAN),
        );
        let case = if self.requests == REQUESTS {
            "soak_1m".to_owned()
        } else {
            format!("soak_{}", self.requests) // not the row of the design
        };
        tell(json!({
            "case": case, "value": round2(value), "unit": "MiB", "baseline": round2(baseline),
            "baseline_is": "what the server held after three tenths of them", "ratio": round2(value / baseline),
            "errors": 0, "requests": self.requests, "per_second": round(self.requests as f64 / took),
            "mib_by_tenths": memory.iter().map(|one| round(*one)).collect::<Vec<_>>(),
        }));
        Ok(())
    }
}

/// One of those who ask, and what it was given.
struct Line {
    connection: Connection,
    at: usize,
    turn: usize,
    root: String,
    cookies: String,
    token: String,
    refresh: String,
    issued: Option<String>,
    keys: Arc<[String]>,
}

impl Line {
    /// Of a hundred requests: 58 verifications, 20 by a gateway, 5 refusals, 5 introspections, 4 tokens of a client,
    /// 3 looks at sessions, 2 refreshes, one key issued and revoked (two), one page that is left.
    async fn step(&mut self) -> Result<()> {
        self.turn += 1;
        let key = &self.keys[(self.at * 31 + self.turn * 7) % self.keys.len()];
        let authorized = [JSON, ("Authorization", self.root.as_str())];
        let ask = (self.turn * 37 + self.at) % 100;
        let (bytes, status) = match ask {
            0..58 => (self.verify(&one(key)), 200),
            58..78 => {
                let key = format!("Bearer {key}");
                let headers = [("Authorization", key.as_str())];
                (
                    request("GET", "/verify?scope=keys:read", &headers, b""),
                    204,
                )
            }
            78..83 => (self.verify(&json!({"key": format!("{key}!")})), 200),
            83..88 => {
                let form = format!("token={}", self.token);
                (by_client("/oauth2/introspect", "EdDSA", &form), 200)
            }
            88..92 => {
                let form = "grant_type=client_credentials";
                (by_client("/oauth2/token", "ES256", form), 200)
            }
            92..95 => {
                let cookie = [("Cookie", self.cookies.as_str())];
                (request("GET", "/auth/session", &cookie, b""), 200)
            }
            95..97 => {
                let form = format!("grant_type=refresh_token&refresh_token={}", self.refresh);
                (by_client("/oauth2/token", "EdDSA", &form), 200)
            }
            97..99 => match self.issued.take() {
                Some(id) => {
                    let path = format!("/api/v1/keys/{id}/revoke");
                    let body = json!({"reason": "soak"}).to_string();
                    (request("POST", &path, &authorized, body.as_bytes()), 200)
                }
                None => {
                    let wish =
                        json!({"name": "soak", "prefix": "sk_live", "scopes": ["keys:read"]});
                    let wish = wish.to_string();
                    (
                        request("POST", "/api/v1/keys", &authorized, wish.as_bytes()),
                        201,
                    )
                }
            },
            _ => {
                let query = "client_id=EdDSA&response_type=code&scope=openid&state=s&code_challenge_method=S256\
                             &redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcallback\
                             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
                (
                    request("GET", &format!("/oauth2/authorize?{query}"), &[], b""),
                    303,
                )
            }
        };
        let answered = self.connection.ask(&bytes).await?;
        if answered != status {
            let body = String::from_utf8_lossy(self.connection.body());
            bail!(
                "request {} of connection {}: {answered} in place of {status}: {body}",
                self.turn,
                self.at
            );
        }
        let says = match ask {
            0..58 => Says::VALID,
            78..83 => Says::once("\"code\":\"malformed\""),
            _ => Says::ANYTHING,
        };
        if !says.is_in(self.connection.body()) {
            let body = String::from_utf8_lossy(self.connection.body());
            bail!("{} was not said: {body}", says.text);
        }
        match (ask, status) {
            (95..97, _) => self.refresh = text(&self.answer()?, "refresh_token")?,
            (_, 201) => self.issued = Some(text(&self.answer()?["key"], "id")?),
            _ => {}
        }
        Ok(())
    }

    fn verify(&self, body: &Value) -> Vec<u8> {
        let headers = [JSON, ("Authorization", self.root.as_str())];
        let body = body.to_string();
        request("POST", "/api/v1/keys/verify", &headers, body.as_bytes())
    }

    fn answer(&self) -> Result<Value> {
        Ok(serde_json::from_slice(self.connection.body())?)
    }
}

fn text(answer: &Value, name: &str) -> Result<String> {
    let text = answer[name].as_str();
    let text = text.with_context(|| format!("no {name} in {answer}"))?;
    Ok(text.to_owned())
}

/// MiB in memory.
fn resident(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no VmRSS")?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}
