//! What is asked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Serving;
use crate::better_auth::BetterAuth;
use crate::browser::Browser;
use crate::serving::{ALGS, EMAIL, Facts, KEYS, PASSWORD, SECRET};
use crate::wire::{Connection, Lines, Next, Says, Target, request};

pub(crate) const CONNECTIONS: usize = 32;
/// Keys in one call of `verify_many`.
const MANY: usize = 64;
pub(crate) const SLICE: Duration = Duration::from_millis(250);
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const OIDC: &str = "oidc-provider in memory";
/// Rates that are asked for whether or not answers come, a second.
const OPEN: [f64; 3] = [2_000.0, 10_000.0, 20_000.0];

/// How it was asked for.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) rounds: usize,
    /// How many the soak takes.
    pub(crate) requests: usize,
    pub(crate) wanted: &'a [String],
    pub(crate) alone: bool,
}

/// `there` is a server of another size to compare with.
pub(crate) async fn run(server: &Serving, there: Option<&Serving>, how: How<'_>) -> Result<()> {
    let facts = &server.facts;
    let bench = Bench {
        facts,
        process: server.child.id(),
        rounds: how.rounds,
        requests: how.requests,
        wanted: how.wanted,
        alone: how.alone,
    };
    if facts.cold {
        return bench.cold().await;
    }
    bench.used_once().await?;
    if let Some(there) = there {
        bench.of(there).used_once().await?;
        bench.at_sizes(server, there).await?;
    }
    if bench.wants("loaded") && facts.loaded_ms > 0.0 {
        let note = format!("{} keys", facts.size);
        tell(
            json!({"case": "index_loaded", "value": round(facts.loaded_ms), "unit": "ms", "note": note}),
        );
    }
    bench.keys().await?;
    bench.latency().await?;
    bench.whole().await?;
    bench.tokens().await?;
    bench.people().await?;
    bench.soak().await
}

/// Everything on: limit, network, scope, environment.
pub(crate) fn one(key: &str) -> Value {
    json!({"key": key, "requirement": "keys:read", "environment": "live", "address": "127.0.0.1"})
}

#[derive(Clone, Copy)]
pub(crate) struct Bench<'a> {
    pub(crate) facts: &'a Facts,
    /// The server's process.
    pub(crate) process: u32,
    pub(crate) rounds: usize,
    pub(crate) requests: usize,
    pub(crate) wanted: &'a [String],
    pub(crate) alone: bool,
}

impl Bench<'_> {
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.wanted.is_empty()
            || self
                .wanted
                .iter()
                .any(|word| case.starts_with(word.as_str()))
    }

    /// The same questions to another server.
    pub(crate) fn of<'a>(&self, there: &'a Serving) -> Bench<'a>
    where
        Self: 'a,
    {
        Bench {
            facts: &there.facts,
            process: there.child.id(),
            ..*self
        }
    }

    pub(crate) fn ours(&self, request: Vec<u8>, status: u16) -> Target {
        Target::same(&self.facts.address, request, status)
    }

    pub(crate) fn bare(&self) -> Target {
        Target::same(&self.facts.bare, request("GET", "/", &[], b""), 200)
    }

    /// A key at random each time, the same ones in each run: no cache of a few keys flatters, and none that
    /// foresees the next one.
    fn with_keys(&self, status: u16, make: impl Fn(&str) -> Vec<u8>) -> Target {
        let requests: Vec<Vec<u8>> = self.facts.keys.iter().map(|key| make(key)).collect();
        let next: Next =
            Arc::new(move |line, turn, _| requests[drawn(line, turn) % requests.len()].clone());
        Target {
            address: self.facts.address.clone(),
            next,
            status,
            says: Says::ANYTHING,
        }
    }

    /// Verifications that are accepted.
    pub(crate) fn verify(&self, make: impl Fn(&str) -> Value) -> Target {
        let root = format!("Bearer {}", self.facts.root_key);
        self.with_keys(200, move |key| {
            let body = make(key).to_string();
            let headers = [JSON, ("Authorization", root.as_str())];
            request("POST", "/api/v1/keys/verify", &headers, body.as_bytes())
        })
        .saying(Says::VALID)
    }

    pub(crate) fn forward(&self) -> Target {
        self.with_keys(204, |key| {
            let key = format!("Bearer {key}");
            let headers = [("Authorization", key.as_str())];
            request("GET", "/verify?scope=keys:read", &headers, b"")
        })
    }

    async fn keys(&self) -> Result<()> {
        self.ratio("verify_json", &self.verify(one), 1.0).await?;
        // By its whole name: it starts a second server, and `verify_json` alone does not want that.
        let logged = "verify_json_logged";
        if !self.alone && (self.wanted.is_empty() || self.wanted.iter().any(|word| word == logged))
        {
            self.logged().await?;
        }
        let floor = request(
            "POST",
            "/json",
            &[JSON],
            one(&self.facts.keys[0]).to_string().as_bytes(),
        );
        let floor = Target::same(&self.facts.bare, floor, 200);
        self.ratio("floor_json", &floor, 1.0).await?;
        self.ratio("forward_auth", &self.forward(), 1.0).await?;
        let keys: Vec<Value> = self
            .facts
            .keys
            .iter()
            .take(MANY)
            .map(|key| one(key))
            .collect();
        let root = format!("Bearer {}", self.facts.root_key);
        let body = json!({"keys": keys}).to_string();
        let headers = [JSON, ("Authorization", root.as_str())];
        let many = request("POST", "/api/v1/keys/verify", &headers, body.as_bytes());
        let all_valid = Says {
            times: MANY,
            ..Says::VALID
        };
        self.beside(
            "verify_many",
            &self.ours(many, 200).saying(all_valid),
            &self.verify(one),
            "verify_json, keys a second",
            MANY as f64,
        )
        .await?;
        self.refused().await?;
        if self.wants("verify_vs_better_auth")
            && let Some(theirs) = BetterAuth::running().await?
        {
            self.verify_beside(&theirs).await?;
        }
        Ok(())
    }

    /// What the log costs that is written where nobody said otherwise: a second server writes it to a file.
    async fn logged(&self) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("log");
        let is_small = self.facts.size < KEYS;
        let server = Serving::logged(std::fs::File::create(&file)?, is_small)?;
        let logged = self.of(&server);
        logged.used_once().await?;
        let is = "verify_json of a server without a log";
        let verify = (logged.verify(one), self.verify(one));
        self.beside("verify_json_logged", &verify.0, &verify.1, is, 1.0)
            .await?;
        // Each known key was asked for at least once, and a line has more than a hundred bytes.
        let least = 100 * self.facts.keys.len() as u64;
        let written = std::fs::metadata(&file)?.len();
        ensure!(written > least, "{written} bytes of log are too few");
        Ok(())
    }

    /// Latency at fixed rates, beside the bare JSON route's at the same rate.
    async fn latency(&self) -> Result<()> {
        let floor = request(
            "POST",
            "/json",
            &[JSON],
            one(&self.facts.keys[0]).to_string().as_bytes(),
        );
        let floor = Target::same(&self.facts.bare, floor, 200);
        for rate in OPEN {
            let case = format!("verify_p99_open_loop_{rate}");
            if !self.wants(&case) {
                continue;
            }
            let mut ours = Lines::open(&self.verify(one), CONNECTIONS).await?;
            let mut bare = Lines::open(&floor, CONNECTIONS).await?;
            let (mut own, mut beside) = (Vec::new(), Vec::new());
            for turn in 0..=self.rounds {
                let (mut one, mut other) = (
                    ours.open_loop(rate, SLICE * 4).await?,
                    bare.open_loop(rate, SLICE * 4).await?,
                );
                if turn > 0 {
                    own.push(percentile(&mut one, 0.99));
                    beside.push(percentile(&mut other, 0.99));
                }
            }
            let (value, baseline) = (median(&mut own), median(&mut beside));
            tell(json!({
                "case": case, "value": round(value), "unit": "us", "baseline": round(baseline),
                "baseline_is": "p99 of a bare axum JSON route at the same rate",
                "ratio": round2(value / baseline),
            }));
        }
        Ok(())
    }

    async fn tokens(&self) -> Result<()> {
        let peer = std::env::var("KEYWRIGHT_BENCH_PEER").ok();
        let peer = peer.as_deref().map(|url| url.trim_start_matches("http://"));
        for alg in ALGS {
            let target = self.ours(
                by_client("/oauth2/token", alg, "grant_type=client_credentials"),
                200,
            );
            let case = format!("client_credentials_{}", alg.to_ascii_lowercase());
            match peer {
                Some(peer) => {
                    let form = format!("grant_type=client_credentials&resource=urn:bench:{alg}");
                    let theirs = Target::same(peer, by_client("/token", "bench", &form), 200);
                    self.beside(&case, &target, &theirs, OIDC, 1.0).await?;
                }
                None => self.ratio(&case, &target, 1.0).await?,
            }
        }
        if let Some(peer) = peer {
            // This server issues no opaque access tokens: its cheapest signed one stands in their place.
            let form = "grant_type=client_credentials";
            let ours = self.ours(by_client("/oauth2/token", "EdDSA", form), 200);
            let theirs = Target::same(peer, by_client("/token", "bench", form), 200);
            let is = "an opaque token of oidc-provider in memory; ours is a signed JWT (EdDSA)";
            self.beside("client_credentials_opaque", &ours, &theirs, is, 1.0)
                .await?;
        }
        if self.wants("rs256_paths") {
            self.rs256_paths().await?;
        }
        let answer = ask(
            &self.facts.address,
            &by_client("/oauth2/token", "EdDSA", "grant_type=client_credentials"),
        )
        .await?;
        let token = answer["access_token"].as_str().context("no token")?;
        let target = self.ours(
            by_client("/oauth2/introspect", "EdDSA", &format!("token={token}")),
            200,
        );
        // A token that works no more is told with 200 too.
        let active = Says::once("\"active\":true");
        let target = target.saying(active);
        match peer {
            Some(peer) => {
                let answer = ask(
                    peer,
                    &by_client("/token", "bench", "grant_type=client_credentials"),
                )
                .await?;
                let token = answer["access_token"].as_str().context("no token")?;
                let theirs = Target::same(
                    peer,
                    by_client("/token/introspection", "bench", &format!("token={token}")),
                    200,
                )
                .saying(active);
                self.beside("introspection", &target, &theirs, OIDC, 1.0)
                    .await
            }
            None => self.ratio("introspection", &target, 1.0).await,
        }
    }

    /// Tokens with RS256 beside bare signatures, in turns on the same core: what the rest of a token costs.
    async fn rs256_paths(&self) -> Result<()> {
        let token = by_client("/oauth2/token", "RS256", "grant_type=client_credentials");
        let mut tokens = Lines::open(&self.ours(token, 200), CONNECTIONS).await?;
        let sign = request("GET", "/rs256", &[], b"");
        let (mut rates, mut limits) = (Vec::new(), Vec::new());
        for turn in 0..=self.rounds * 4 {
            let rate = tokens.closed(SLICE).await?;
            let signed = ask(&self.facts.bare, &sign).await?;
            if turn > 0 {
                rates.push(rate);
                limits.push(signed.as_f64().context("no rate")?);
            }
        }
        let (rate, raw) = (median(&mut rates), median(&mut limits));
        tell(json!({
            "case": "rs256_paths", "value": round(rate), "unit": "/s", "baseline": round(raw),
            "baseline_is": "RS256 signatures a second in the same process and turns", "ratio": round2(rate / raw),
        }));
        Ok(())
    }

    async fn people(&self) -> Result<()> {
        let cases = [
            "session_get",
            "session_get_to_bare",
            "session_list",
            "session_list_to_bare",
            "userinfo",
            "refresh_rotation",
        ];
        if cases.iter().any(|case| self.wants(case)) {
            let mut browser = Browser::signed_in(&self.facts.address).await?;
            let cookies = browser.cookies();
            let cookie = [("Cookie", cookies.as_str())];
            let session = self.ours(request("GET", "/auth/session", &cookie, b""), 200);
            let list = self.ours(request("GET", "/api/v1/sessions", &cookie, b""), 200);
            if let Some(theirs) = BetterAuth::running().await? {
                self.sessions(&session, &list, &theirs).await?;
            }
            self.ratio("session_get_to_bare", &session, 1.0).await?;
            self.ratio("session_list_to_bare", &list, 1.0).await?;
            let tokens = browser.tokens("ES256").await?;
            let bearer = format!(
                "Bearer {}",
                tokens["access_token"].as_str().context("no token")?
            );
            let userinfo = request(
                "GET",
                "/oauth2/userinfo",
                &[("Authorization", &bearer)],
                b"",
            );
            self.ratio("userinfo", &self.ours(userinfo, 200), 1.0)
                .await?;
            if self.wants("refresh_rotation") {
                self.refresh(&mut browser).await?;
            }
        }
        if self.wants("password_sign_in") {
            self.password_sign_in().await?;
        }
        Ok(())
    }

    /// Every token is used once; each connection has a family of its own.
    async fn refresh(&self, browser: &mut Browser) -> Result<()> {
        let mut first = Vec::new();
        for _ in 0..CONNECTIONS {
            let tokens = browser.tokens("EdDSA").await?;
            first.push(
                tokens["refresh_token"]
                    .as_str()
                    .context("no refresh token")?
                    .to_owned(),
            );
        }
        let ours = Target {
            address: self.facts.address.clone(),
            next: refreshing("/oauth2/token", "EdDSA", first),
            status: 200,
            says: Says::once("\"access_token\""),
        };
        let Ok(peer) = std::env::var("KEYWRIGHT_BENCH_PEER") else {
            return self.ratio("refresh_rotation", &ours, 1.0).await;
        };
        let peer = peer.trim_start_matches("http://").to_owned();
        let mut first = Vec::new();
        for _ in 0..CONNECTIONS {
            let answer = ask(&peer, &request("GET", "/bench/refresh-token", &[], b"")).await?;
            first.push(
                answer["refresh_token"]
                    .as_str()
                    .context("no refresh token")?
                    .to_owned(),
            );
        }
        let theirs = Target {
            address: peer,
            next: refreshing("/token", "bench", first),
            status: 200,
            says: Says::once("\"access_token\""),
        };
        self.beside("refresh_rotation", &ours, &theirs, OIDC, 1.0)
            .await
    }

    /// Sign-ins with a password, and how verifications fare meanwhile.
    async fn password_sign_in(&self) -> Result<()> {
        let body = json!({"email": EMAIL, "password": PASSWORD}).to_string();
        let sign_in = self.ours(
            request("POST", "/auth/login", &[JSON], body.as_bytes()),
            200,
        );
        // As many wait, and in turns: the core is the same and as fast.
        let hash = request("GET", "/argon2id", &[], b"");
        let hash = Target::same(&self.facts.bare, hash, 200);
        let mut lines = Lines::open(&sign_in, 4).await?;
        let mut hashes = Lines::open(&hash, 4).await?;
        let (mut rates, mut limits) = (Vec::new(), Vec::new());
        for turn in 0..=self.rounds {
            let slice = Duration::from_secs(1);
            let (rate, limit) = (lines.closed(slice).await?, hashes.closed(slice).await?);
            if turn > 0 {
                rates.push(rate);
                limits.push(limit);
            }
        }
        let (rate, limit) = (median(&mut rates), median(&mut limits));
        tell(json!({
            "case": "password_sign_in", "value": round2(rate), "unit": "/s", "baseline": round2(limit),
            "baseline_is": "argon2id hashes a second in the same process and turns", "ratio": round2(rate / limit),
        }));
        let mut verify = Lines::open(&self.verify(one), CONNECTIONS).await?;
        let (mut quiet, mut busy) = (Vec::new(), Vec::new());
        for turn in 0..=self.rounds {
            let slice = Duration::from_secs(1);
            let mut alone = verify.open_loop(2_000.0, slice).await?;
            let (_, beside) = tokio::join!(lines.closed(slice), verify.open_loop(2_000.0, slice));
            if turn > 0 {
                quiet.push(percentile(&mut alone, 0.99));
                busy.push(percentile(&mut beside?, 0.99));
            }
        }
        let (value, baseline) = (median(&mut busy), median(&mut quiet));
        tell(json!({
            "case": "verify_p99_during_sign_ins", "value": round(value), "unit": "us", "baseline": round(baseline),
            "baseline_is": "p99 at 2,000/s without them", "ratio": round2(value / baseline),
        }));
        Ok(())
    }

    /// A rate beside the bare route's.
    pub(crate) async fn ratio(&self, case: &str, target: &Target, each: f64) -> Result<()> {
        self.beside(case, target, &self.bare(), "a bare axum route", each)
            .await
    }

    /// A rate beside another's, in turns. `each` is what one answer counts for.
    pub(crate) async fn beside(
        &self,
        case: &str,
        target: &Target,
        other: &Target,
        other_is: &str,
        each: f64,
    ) -> Result<()> {
        if !self.wants(case) {
            return Ok(());
        }
        if self.alone {
            let rate = self.alone(target).await? * each;
            tell(json!({"case": case, "value": round(rate), "unit": "/s"}));
            return Ok(());
        }
        let mut ours = Lines::open(target, CONNECTIONS).await?;
        let mut theirs = Lines::open(other, CONNECTIONS).await?;
        let (mut own, mut beside) = (Vec::new(), Vec::new());
        for turn in 0..=self.rounds * 4 {
            let (one, two) = (ours.closed(SLICE).await?, theirs.closed(SLICE).await?);
            if turn > 0 {
                own.push(one * each);
                beside.push(two);
            }
        }
        let spread = spread(&own);
        let (value, baseline) = (median(&mut own), median(&mut beside));
        let ratio = value / baseline;
        tell(json!({
            "case": case, "value": round(value), "unit": "/s", "baseline": round(baseline),
            "baseline_is": other_is, "ratio": round3(ratio),
            "spread": round2(spread), "keys": self.facts.size, "asked_for": self.facts.keys.len(),
        }));
        Ok(())
    }

    async fn alone(&self, target: &Target) -> Result<f64> {
        let mut lines = Lines::open(target, CONNECTIONS).await?;
        let mut rates = Vec::new();
        for _ in 0..=self.rounds {
            rates.push(lines.closed(SLICE * 2).await?);
        }
        Ok(median(&mut rates))
    }
}

/// A number for a turn of a connection, as good as drawn (the last steps of SplitMix64).
pub(crate) fn drawn(line: usize, turn: usize) -> usize {
    let mut bits = ((line as u64) << 40 | turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 1) as usize
}

/// The next refresh token is in the last answer.
fn refreshing(path: &'static str, client: &'static str, first: Vec<String>) -> Next {
    Arc::new(move |line, turn, last| {
        let token = if turn == 0 {
            first[line].clone()
        } else {
            let answer: Value = serde_json::from_slice(last).unwrap();
            answer["refresh_token"].as_str().unwrap().to_owned()
        };
        by_client(
            path,
            client,
            &format!("grant_type=refresh_token&refresh_token={token}"),
        )
    })
}

pub(crate) fn by_client(path: &str, client: &str, form: &str) -> Vec<u8> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{client}:{SECRET}")));
    request(
        "POST",
        path,
        &[FORM, ("Authorization", &basic)],
        form.as_bytes(),
    )
}

pub(crate) async fn ask(address: &str, request: &[u8]) -> Result<Value> {
    let mut connection = Connection::open(address).await?;
    connection.ask(request).await?;
    Ok(serde_json::from_slice(connection.body())?)
}

pub(crate) fn tell(mut line: Value) {
    line["bench"] = json!("server");
    println!("{line}");
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// How far the middle half lies apart, as a share of its middle.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    (percentile(&mut values, 0.75) - percentile(&mut values, 0.25)) / percentile(&mut values, 0.5)
}

pub(crate) fn round(value: f64) -> f64 {
    value.round()
}

pub(crate) fn round2(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

pub(crate) fn round3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
