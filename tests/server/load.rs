//! Signing keys are replaced while a thousand requests a second come (AC-201): the server as a process
//! of its own, and a service that checks tokens by published keys with the verifier crate.
//!
//! Of twenty requests one gets a new token, one reads the keys, three ask the server's API with a token,
//! and the rest are checked by the service as its own requests would be. They come by the clock, whether
//! the ones before were answered or not.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::audit::Actor;
use keywright_registry::{Clock, LocalRegistry};
use keywright_verifier::Offline;
use serde_json::Value;

use super::harness::ServerProcess;

const SECRET: &str = "a-long-secret-of-a-confidential-client-0123456789";
/// Requests a second, around the moments when something changes.
const RATE: u64 = 1_000;
/// Tokens that are still in somebody's hands.
const TOKENS: usize = 200;
/// A verifier asks for keys again at most so often.
const PAUSE: Duration = Duration::from_secs(31);

struct Load {
    issuer: String,
    client: reqwest::Client,
    service: Offline,
    tokens: Mutex<VecDeque<String>>,
    done: AtomicU64,
    failures: Mutex<Vec<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    async fn new_token(&self) -> Result<String> {
        let request = self.client.post(format!("{}/oauth2/token", self.issuer));
        let answer = request
            .basic_auth("service", Some(SECRET))
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials&scope=keys:read")
            .send()
            .await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let body: Value = answer.json().await?;
        let token = body["access_token"]
            .as_str()
            .context("no token")?
            .to_owned();
        let mut tokens = locked(&self.tokens);
        tokens.push_back(token.clone());
        if tokens.len() > TOKENS {
            tokens.pop_front();
        }
        Ok(token)
    }

    fn some_token(&self, number: u64) -> String {
        let tokens = locked(&self.tokens);
        let at = usize::try_from(number).unwrap_or(0) % tokens.len();
        tokens[at].clone()
    }

    async fn request(&self, number: u64) -> Result<()> {
        match number % 20 {
            0 => {
                let token = self.new_token().await?;
                self.service
                    .check(&token)
                    .await
                    .context("the newest token")?;
            }
            1 => {
                let keys = self.client.get(format!("{}/oauth2/jwks.json", self.issuer));
                ensure!(keys.send().await?.status() == 200);
            }
            2..=4 => {
                let api = self
                    .client
                    .get(format!("{}/api/v1/keys?limit=1", self.issuer));
                let answer = api.bearer_auth(self.some_token(number)).send().await?;
                ensure!(answer.status() == 200, "the API said {}", answer.status());
            }
            _ => {
                let token = self.some_token(number);
                self.service.check(&token).await.context("an older token")?;
            }
        }
        Ok(())
    }

    /// So many a second for some seconds. Returns how many a second were answered.
    async fn come(self: &Arc<Self>, rate: u64, seconds: u64) -> Result<u64> {
        let (began, before) = (Instant::now(), self.done.load(Ordering::SeqCst));
        let mut all = tokio::task::JoinSet::new();
        for number in 0..rate * seconds {
            let due = began + Duration::from_micros(number * 1_000_000 / rate);
            tokio::time::sleep_until(due.into()).await;
            let load = Arc::clone(self);
            all.spawn(async move {
                match load.request(number).await {
                    Ok(()) => load.done.fetch_add(1, Ordering::SeqCst),
                    Err(error) => {
                        locked(&load.failures).push(format!("{error:#}"));
                        0
                    }
                };
            });
        }
        all.join_all().await;
        let answered = self.done.load(Ordering::SeqCst) - before;
        let took = u64::try_from(began.elapsed().as_millis())?.max(1);
        Ok(answered * 1_000 / took)
    }

    fn kids(&self) -> HashSet<String> {
        let tokens = locked(&self.tokens);
        let kids = tokens.iter().filter_map(|token| {
            let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
            let header: Value = serde_json::from_slice(&header).ok()?;
            Some(header["kid"].as_str()?.to_owned())
        });
        kids.collect()
    }
}

async fn published(load: &Load) -> Result<usize> {
    let keys = load.client.get(format!("{}/oauth2/jwks.json", load.issuer));
    let document: Value = keys.send().await?.json().await?;
    Ok(document["keys"].as_array().map_or(0, Vec::len))
}

/// Waits until the keys of the server are so many.
async fn until_published(load: &Load, count: usize) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while published(load).await? != count {
        ensure!(
            Instant::now() < end,
            "the server does not publish its new key"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_201_signing_keys_are_replaced_under_a_thousand_requests_a_second() -> Result<()> {
    let server = ServerProcess::start().await?;
    let grant = ["--grant", "client_credentials", "--scope", "keys:read"];
    server.add_client("service", Some(SECRET), &grant).await?;
    let client = reqwest::Client::builder().no_proxy();
    let load = Arc::new(Load {
        service: Offline::new(&server.issuer, &server.issuer)?,
        issuer: server.issuer.clone(),
        client: client.timeout(Duration::from_secs(20)).build()?,
        tokens: Mutex::default(),
        done: AtomicU64::new(0),
        failures: Mutex::default(),
    });
    let token = load.new_token().await?;
    load.service
        .check(&token)
        .await
        .context("the first token")?;
    let fetched = Instant::now();
    let before = load.kids();
    let count = published(&load).await?;

    // The next key is made and published, and everybody goes on with the one before.
    let coming = tokio::spawn({
        let load = Arc::clone(&load);
        async move { load.come(RATE, 4).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let said = server
        .command(&["signing-keys", "rotate", "--alg", "RS256"])
        .await?;
    server.signal("HUP")?;
    until_published(&load, count + 1).await?;
    let first = coming.await??;
    ensure!(
        load.kids() == before,
        "it signs before everybody can know it: {said}"
    );

    // What a day is to real verifiers: until they ask for keys again.
    let rest = PAUSE.saturating_sub(fetched.elapsed());
    load.come(20, rest.as_secs() + 1).await?;

    // It begins to sign.
    let coming = tokio::spawn({
        let load = Arc::clone(&load);
        async move { load.come(RATE, 6).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let registry = LocalRegistry::open(&server.data().join("registry.db"), Clock::system()).await?;
    let mut keys = registry.list_signing_keys().await?.into_iter();
    let next = keys.rfind(|key| key.alg == "RS256" && key.activated_at.is_none());
    let kid = next.context("no next key")?.kid;
    let now = Some(Clock::system().now());
    registry
        .schedule_signing_key(&Actor::person("test"), &kid, now)
        .await?;
    registry.close().await;
    server.signal("HUP")?;
    let second = coming.await??;

    let failures = locked(&load.failures).clone();
    ensure!(
        failures.is_empty(),
        "{} failed: {:?}",
        failures.len(),
        failures.first()
    );
    let kids = load.kids();
    ensure!(
        kids.contains(&kid) && kids != before,
        "it never signed: {kids:?} {kid}"
    );
    // All that were to come were answered; a busy machine may take longer for them.
    let done = load.done.load(Ordering::SeqCst);
    eprintln!("{done} requests; {first} and {second} a second while keys changed");
    ensure!(done >= RATE * 10, "{done}");
    ensure!(
        first >= RATE / 4 && second >= RATE / 4,
        "{first} and {second} a second"
    );
    Ok(())
}
