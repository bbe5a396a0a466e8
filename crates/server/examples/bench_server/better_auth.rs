//! Beside npm's better-auth with its API-key plugin (tests/peers/better-auth): verification and sessions.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::cases::{Bench, JSON, ask, drawn, one};
use crate::wire::{Next, Says, Target, request};

/// The running peer, and what it gave us to ask with.
pub(crate) struct BetterAuth {
    address: String,
    keys: Vec<String>,
    cookie: String,
    is: String,
}

impl BetterAuth {
    /// Whoever `KEYWRIGHT_BENCH_BETTER_AUTH` names; without it these rows are not measured.
    pub(crate) async fn running() -> Result<Option<Self>> {
        let Ok(address) = std::env::var("KEYWRIGHT_BENCH_BETTER_AUTH") else {
            return Ok(None);
        };
        let address = address.trim_start_matches("http://").to_owned();
        let facts = ask(&address, &request("GET", "/bench/facts", &[], b"")).await?;
        let text = |name: &str| facts[name].as_str().context("no facts").map(str::to_owned);
        let keys = facts["keys"].as_array().context("no keys")?;
        Ok(Some(Self {
            address,
            keys: keys
                .iter()
                .filter_map(|key| key.as_str().map(str::to_owned))
                .collect(),
            cookie: text("cookie")?,
            is: format!(
                "better-auth over SQLite, WAL {}, {} keys",
                text("sync")?,
                facts["size"]
            ),
        }))
    }

    /// Another key each time, as ours is asked.
    fn verify(&self) -> Target {
        let requests: Vec<Vec<u8>> = self
            .keys
            .iter()
            .map(|key| {
                let body = json!({"key": key, "permissions": {"keys": ["read"]}}).to_string();
                request("POST", "/verify", &[JSON], body.as_bytes())
            })
            .collect();
        let next: Next =
            Arc::new(move |line, turn, _| requests[drawn(line, turn) % requests.len()].clone());
        Target {
            address: self.address.clone(),
            next,
            status: 200,
            says: Says::once("\"valid\":true"),
        }
    }

    fn get(&self, path: &str) -> Target {
        let cookie = [("Cookie", self.cookie.as_str())];
        Target::same(&self.address, request("GET", path, &cookie, b""), 200)
    }
}

impl Bench<'_> {
    pub(crate) async fn verify_beside(&self, theirs: &BetterAuth) -> Result<()> {
        let case = "verify_vs_better_auth";
        self.beside(case, &self.verify(one), &theirs.verify(), &theirs.is, 1.0)
            .await
    }

    pub(crate) async fn sessions(
        &self,
        get: &Target,
        list: &Target,
        theirs: &BetterAuth,
    ) -> Result<()> {
        for (case, ours, path) in [
            ("session_get", get, "/api/auth/get-session"),
            ("session_list", list, "/api/auth/list-sessions"),
        ] {
            self.beside(case, ours, &theirs.get(path), &theirs.is, 1.0)
                .await?;
        }
        Ok(())
    }
}
