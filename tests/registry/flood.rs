//! Keys that nobody issued, by the hundred thousand, each from a place of its own: memory stays as it
//! is, the database is not asked for each, and good keys are verified meanwhile. By the registry's clock a
//! hundred thousand come each second, whatever this machine makes of it; that many by every clock are
//! offered to a release build by `bench_registry flood`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{PlainKey, Prefix};
use keywright_registry::{Caller, VerifyRequest};
use tokio::task::JoinSet;

use super::{Fixture, Kind};
use crate::support::until;

const AT_ONCE: u32 = 64;
/// So many come in a second of the registry's clock.
const A_SECOND: u32 = 100_000;
/// So many a second are offered by the true clock at least, by an unoptimised build on a machine with other work.
const TRULY_A_SECOND: f64 = 500.0;
/// What the memory of kids that are not there takes at most, and what a list may grow by.
const ROOM: usize = 1024 * 1024;
/// So long a good key waits at most while the machine does all of this.
const GOOD_WITHIN: Duration = Duration::from_secs(3);

/// What a flood came to.
struct Flood {
    /// Refused as unknown.
    unknown: u32,
    /// The longest that a good key took.
    longest: Duration,
    /// Made-up keys in a second of the registry's clock, and of the true one.
    by_its_clock: f64,
    truly: f64,
}

/// Verifies so many made-up keys.
async fn flood(fixture: &Arc<Fixture>, good: &[String], count: u32) -> Result<Flood> {
    let (begun, begun_at) = (Instant::now(), fixture.now());
    let time_of = move |number: u32| begun_at + i64::from(number) * 1000 / i64::from(A_SECOND);
    let next = Arc::new(AtomicU32::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut strangers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (fixture, next) = (Arc::clone(fixture), Arc::clone(&next));
        strangers.spawn(async move {
            let prefix = Prefix::new("sk_live")?;
            let mut unknown = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(unknown);
                }
                if number.is_multiple_of(A_SECOND / 1000) {
                    fixture.set_clock(time_of(number));
                }
                let made_up = PlainKey::generate(&prefix, &mut rand::rng());
                let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
                let request = VerifyRequest {
                    presented: made_up.text().expose(),
                    caller: Caller {
                        address: Some(IpAddr::V4(address)),
                        ..Caller::default()
                    },
                    ..VerifyRequest::default()
                };
                let verified = fixture.registry.verify_api_key(&request, &fixture.peppers);
                match verified.await {
                    Ok(verified) => {
                        ensure!(verified.verdict.is_err(), "let through");
                        unknown += u32::from(verified.code() == "not_found");
                    }
                    // Too many at once: refused, and not remembered.
                    Err(error) => ensure!(error.code() == "registry_unavailable", "{error}"),
                }
            }
        });
    }
    let clients = {
        let (fixture, stop) = (Arc::clone(fixture), Arc::clone(&stop));
        let good = good.to_vec();
        tokio::spawn(async move {
            let (mut longest, mut turn) = (Duration::ZERO, 0_usize);
            while !stop.load(Ordering::Relaxed) || turn < good.len() {
                let begun = Instant::now();
                let code = fixture.verify_text(&good[turn % good.len()]).await?.code();
                ensure!(code == "valid", "a good key: {code}");
                longest = longest.max(begun.elapsed());
                turn += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(longest)
        })
    };
    let mut unknown = 0;
    while let Some(done) = strangers.join_next().await {
        unknown += done??;
    }
    let took = begun.elapsed();
    fixture.set_clock(time_of(count));
    stop.store(true, Ordering::Relaxed);
    let its_seconds = (fixture.now() - begun_at) as f64 / 1000.0;
    Ok(Flood {
        unknown,
        longest: clients.await??,
        by_its_clock: f64::from(count) / its_seconds,
        truly: f64::from(count) / took.as_secs_f64(),
    })
}

impl Flood {
    /// All were refused, at the rate that they were to come in, while good keys had their turn.
    #[expect(
        clippy::print_stdout,
        reason = "how much it was is worth knowing, also where it was enough"
    )]
    fn check(&self, count: u32, truly: f64) -> Result<()> {
        let (unknown, longest) = (self.unknown, self.longest);
        println!(
            "{count} made-up keys: {:.0} a second of its clock, {:.0} of the true one",
            self.by_its_clock, self.truly
        );
        ensure!(unknown == count, "{unknown} of {count}");
        ensure!(longest < GOOD_WITHIN, "a good key took {longest:?}");
        ensure!(
            self.by_its_clock >= f64::from(A_SECOND) && self.truly >= truly,
            "{} and {} a second",
            self.by_its_clock,
            self.truly
        );
        Ok(())
    }
}

/// Transactions of this database so far, as far as its processes have told.
async fn transactions(fixture: &Fixture) -> Result<i64> {
    // They tell it once a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut stranger = fixture.stranger().await?;
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    Ok(sqlx::query_scalar(sql).fetch_one(&mut stranger).await?)
}

async fn made_up_keys(kind: Kind) -> Result<()> {
    let fixture = Arc::new(Fixture::on(kind).await?);
    let mut good = Vec::new();
    for number in 0..20 {
        let issued = fixture.issue(&format!("good {number}")).await?;
        ensure!(fixture.code(&issued).await? == "valid");
        good.push(issued.plain.text().expose().to_owned());
    }
    let registry = &fixture.registry;
    until("every key is in memory", async || {
        registry.index_is_complete().then_some(())
    })
    .await?;
    // Two seconds: what is remembered of kids that are not there is over after one.
    let count = 2 * A_SECOND;
    let (before, asked) = (registry.index_statistics(), registry.kids_asked_for());
    let transactions_before = match kind {
        Kind::Sqlite => 0,
        Kind::Postgres => transactions(&fixture).await?,
    };
    let offered = flood(&fixture, &good, count).await?;
    offered.check(count, TRULY_A_SECOND)?;
    ensure!(registry.kids_asked_for() == asked, "the database was asked");
    let after = registry.index_statistics();
    ensure!((after.keys, after.records) == (before.keys, before.records));
    ensure!(after.bytes <= before.bytes + ROOM, "{before:?} {after:?}");
    let uses = registry.use_statistics();
    ensure!(uses.waiting <= good.len() && uses.dropped == 0, "{uses:?}");
    if kind == Kind::Postgres {
        // What nobody knows may have been issued by another node a moment ago: the log of changes is
        // read, once for all who ask together.
        let read = transactions(&fixture).await? - transactions_before;
        let most = i64::from(count / 8);
        ensure!((1..most).contains(&read), "{read} transactions");
    }

    // While memory is filled again it cannot tell: the database is asked, for many in one query, and what
    // it does not know is remembered in a fixed room.
    let count = 20_000;
    registry.forget_index(Duration::from_secs(600)).await;
    // Here each is asked about: how fast is the database's.
    flood(&fixture, &good, count).await?.check(count, 0.0)?;
    ensure!(!registry.index_is_complete(), "this shows nothing");
    let read = registry.kids_asked_for() - asked;
    ensure!(read >= u64::from(count), "this shows nothing: {read}");
    let after = registry.index_statistics();
    ensure!(after.bytes <= before.bytes + ROOM, "{before:?} {after:?}");
    let known = u32::try_from(after.keys).context("keys")?;
    ensure!(known <= 20, "made-up keys are kept: {after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_keys_cost_no_memory_and_no_reads_on_sqlite() -> Result<()> {
    made_up_keys(Kind::Sqlite).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_keys_cost_no_memory_and_few_reads_on_postgresql() -> Result<()> {
    made_up_keys(Kind::Postgres).await
}
