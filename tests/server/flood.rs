//! Keys that nobody issued, by the hundred thousand, offered to a server that is a process: what it keeps in
//! memory stays bounded, each is refused, and good keys are verified meanwhile. How many come in a second is
//! what the machine makes of a debug build, and is told: that each second brings a hundred thousand by the
//! registry's clock is shown in tests/registry/flood.rs.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{PlainKey, Prefix};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::harness::{Options, ServerProcess};
use crate::support::postgres::Database;

/// Connections that strangers' keys come by.
const AT_ONCE: usize = 4;
/// In one request, the most that it may have.
const IN_ONE: u32 = 100;
/// So many before memory is looked at: what an allocator and connections take once.
const WARM_UP: u32 = 50_000;
/// And so many from then on, each another kid from another address.
const MADE_UP: u32 = 250_000;
/// So much the process may grow by. Kept, a kid and an address took some 100 bytes with what holds them: 24 MiB.
const ROOM_KIB: u64 = 12 * 1024;
/// So long a good key waits at most while the machine does all of this.
const GOOD_WITHIN: Duration = Duration::from_secs(3);

/// Memory of a process that is in RAM.
fn resident_kib(server: &ServerProcess) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.trim().parse()?)
}

/// Whoever asks about keys, with the root key.
#[derive(Clone)]
struct Service {
    client: reqwest::Client,
    base: String,
    root_key: String,
}

impl Service {
    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(format!("{}{path}", self.base)).json(body);
        let answer = request.bearer_auth(&self.root_key).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn issue(&self) -> Result<String> {
        let wish = json!({ "name": "good", "prefix": "sk_live", "scopes": ["keys:read"] });
        let issued = self.post("/api/v1/keys", &wish).await?;
        Ok(issued["secret"].as_str().context("no secret")?.to_owned())
    }

    async fn code(&self, key: &str) -> Result<String> {
        let body = json!({ "key": key });
        let answer = self.post("/api/v1/keys/verify", &body).await?;
        Ok(answer["code"].as_str().context("no code")?.to_owned())
    }

    /// Offers so many made-up keys, the number of each its address. Returns how many were refused as unknown.
    async fn flood(&self, numbers: std::ops::Range<u32>) -> Result<u32> {
        let next = Arc::new(AtomicU32::new(numbers.start));
        let mut strangers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (service, next, end) = (self.clone(), Arc::clone(&next), numbers.end);
            strangers.spawn(async move {
                let prefix = Prefix::new("sk_live")?;
                let mut unknown = 0;
                loop {
                    let first = next.fetch_add(IN_ONE, Ordering::Relaxed);
                    if first >= end {
                        return anyhow::Ok(unknown);
                    }
                    let keys: Vec<_> = (first..first + IN_ONE)
                        .map(|number| {
                            let made_up = PlainKey::generate(&prefix, &mut rand::rng());
                            let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
                            json!({ "key": made_up.text().expose(), "address": address })
                        })
                        .collect();
                    let body = json!({ "keys": keys });
                    let answer = service.post("/api/v1/keys/verify", &body).await?;
                    let results = answer["results"].as_array().context("no results")?;
                    for one in results {
                        ensure!(one["valid"] == false, "let through: {one}");
                        unknown += u32::from(one["code"] == "not_found");
                    }
                }
            });
        }
        let mut unknown = 0;
        while let Some(done) = strangers.join_next().await {
            unknown += done??;
        }
        Ok(unknown)
    }
}

#[expect(clippy::print_stdout, reason = "how much it was is worth knowing")]
async fn made_up_keys(database: Option<String>) -> Result<()> {
    let server = ServerProcess::with(Options {
        database,
        ..Options::default()
    })
    .await?;
    let service = Service {
        client: reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()?,
        base: server.issuer.clone(),
        root_key: server.root_key.clone(),
    };
    let good = service.issue().await?;
    ensure!(service.code(&good).await? == "valid");

    let stop = Arc::new(AtomicBool::new(false));
    let asked = {
        let (service, stop, good) = (service.clone(), Arc::clone(&stop), good.clone());
        tokio::spawn(async move {
            let (mut longest, mut times) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let code = service.code(&good).await?;
                ensure!(code == "valid", "a good key: {code}");
                longest = longest.max(begun.elapsed());
                times += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok((longest, times))
        })
    };
    let unknown = service.flood(0..WARM_UP).await?;
    ensure!(unknown == WARM_UP, "{unknown} of {WARM_UP}");
    let before = resident_kib(&server)?;
    let begun = Instant::now();
    let unknown = service.flood(WARM_UP..WARM_UP + MADE_UP).await?;
    let took = begun.elapsed();
    let after = resident_kib(&server)?;
    println!(
        "{MADE_UP} made-up keys, {:.0} a second; {before} KiB, then {after}",
        f64::from(MADE_UP) / took.as_secs_f64()
    );
    ensure!(unknown == MADE_UP, "{unknown} of {MADE_UP}");
    ensure!(
        after <= before + ROOM_KIB,
        "{before} KiB in RAM, {after} after {MADE_UP} keys that nobody issued"
    );
    stop.store(true, Ordering::Relaxed);
    let (longest, times) = asked.await??;
    ensure!(times > 50, "a good key was asked for {times} times");
    ensure!(longest < GOOD_WITHIN, "a good key took {longest:?}");

    // What is issued afterwards is known at once, and the one of before still is.
    let fresh = service.issue().await?;
    ensure!(service.code(&fresh).await? == "valid");
    ensure!(service.code(&good).await? == "valid");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_keys_grow_no_process_and_a_good_key_is_verified_meanwhile() -> Result<()> {
    made_up_keys(None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_keys_grow_no_process_and_a_good_key_is_verified_meanwhile_on_postgresql()
-> Result<()> {
    let database = Database::create().await?;
    made_up_keys(Some(database.url().to_owned())).await?;
    database.close().await
}
