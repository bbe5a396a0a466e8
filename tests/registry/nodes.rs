//! Several registries over one PostgreSQL database, as nodes of a server: who acknowledges what, and
//! what happens to those that do not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{DAY_MS, KeySettings, NewApiKey, RateLimit, RateLimits};
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use keywright_registry::{
    LimitAnswer, LimitAsk, LimitsAnswer, LocalRegistry, Receipt, RegistryError, SharedLimits,
    VerifyRequest,
};
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;

use super::{Fixture, Kind, copy_of, from_issue, rand_text, wish};
use crate::support::until;

const SECOND: Duration = Duration::from_secs(1);

/// Three nodes over one database, all of them listening.
struct Three {
    fixture: Fixture,
    nodes: Vec<LocalRegistry>,
}

impl Three {
    async fn new() -> Result<Self> {
        let fixture = Fixture::on(Kind::Postgres).await?;
        let nodes = vec![
            fixture.registry.clone(),
            fixture.second().await?,
            fixture.second().await?,
        ];
        for (node, name) in nodes.iter().zip(["one", "two", "three"]) {
            node.join_nodes(name).await?;
        }
        let three = Self { fixture, nodes };
        three.all_listen().await?;
        Ok(three)
    }

    async fn all_listen(&self) -> Result<()> {
        for node in &self.nodes {
            until("a node listens", async || {
                node.node_statistics().listening.then_some(())
            })
            .await?;
        }
        Ok(())
    }

    async fn code(&self, node: usize, presented: &str) -> Result<&'static str> {
        code(&self.nodes[node], &self.fixture, presented).await
    }

    async fn receipt(&self, version: i64, wait: Duration) -> Result<Receipt> {
        let receipt = self.nodes[0].receipt(version, wait).await?;
        receipt.context("no receipt")
    }

    /// A stranger's hand on the database.
    async fn sql(&self, text: &str) -> Result<()> {
        let mut stranger = self.fixture.stranger().await?;
        sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
            .execute(&mut stranger)
            .await?;
        Ok(())
    }

    async fn count(&self, text: &str) -> Result<i64> {
        let mut stranger = self.fixture.stranger().await?;
        Ok(sqlx::query_scalar(AssertSqlSafe(text.to_owned()))
            .fetch_one(&mut stranger)
            .await?)
    }
}

async fn code(node: &LocalRegistry, fixture: &Fixture, presented: &str) -> Result<&'static str> {
    let request = VerifyRequest {
        presented,
        ..VerifyRequest::default()
    };
    let answer = node.verify_api_key(&request, &fixture.peppers).await?;
    Ok(answer.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_140_a_receipt_names_every_node_and_none_accepts_after_its_word() -> Result<()> {
    let three = Three::new().await?;
    let (registry, actor) = (&three.fixture.registry, &three.fixture.actor);
    let mut in_time = 0;
    for round in 0..25 {
        let issued = three.fixture.issue("hammered").await?;
        let text = issued.plain.text().expose().to_owned();
        for node in 0..3 {
            ensure!(three.code(node, &text).await? == "valid");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut hammers = JoinSet::new();
        for node in &three.nodes[1..] {
            let (node, text, stop) = (node.clone(), text.clone(), Arc::clone(&stop));
            let peppers = copy_of(&three.fixture.peppers);
            hammers.spawn(async move {
                // When the last verification began that was let through.
                let mut last = None;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let request = VerifyRequest {
                        presented: &text,
                        ..VerifyRequest::default()
                    };
                    if node
                        .verify_api_key(&request, &peppers)
                        .await?
                        .verdict
                        .is_ok()
                    {
                        last = Some(began);
                    }
                    tokio::task::yield_now().await;
                }
                Ok::<_, RegistryError>(last)
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        let key = registry.revoke_api_key(actor, &issued.key.id, "").await?;
        let receipt = three.receipt(key.epoch, SECOND).await?;
        let known = Instant::now();
        tokio::time::sleep(Duration::from_millis(10)).await;
        stop.store(true, Ordering::Relaxed);
        ensure!(receipt.complete, "round {round}: {receipt:?}");
        ensure!(receipt.nodes.len() == 3, "{receipt:?}");
        let mut all = true;
        for node in &receipt.nodes {
            let word = node.acknowledged_after.filter(|after| *after < SECOND);
            // On a machine with much else to do a node may be late; then its time is over, and that
            // is what the receipt says.
            ensure!(
                word.is_some() || node.refuses_from_memory_since.is_some(),
                "round {round}: {receipt:?}"
            );
            all &= word.is_some();
        }
        in_time += usize::from(all);
        while let Some(last) = hammers.join_next().await {
            let last = last??.context("never let through: the test shows nothing")?;
            ensure!(last < known, "round {round}: accepted after the receipt");
        }
        for node in 0..3 {
            ensure!(three.code(node, &text).await? == "revoked");
        }
    }
    ensure!(
        in_time > 12,
        "all nodes gave their word in {in_time} rounds of 25"
    );
    let heard = three.nodes[1].node_statistics().heard;
    ensure!(
        heard >= 25,
        "only {heard} hints were heard: something else did it"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_nothing_is_named_and_the_bound_ends_the_wait() -> Result<()> {
    let three = Three::new().await?;
    // One that was here a moment ago and was killed.
    three
        .sql(
            "INSERT INTO nodes (id, name, started_at, heartbeat_at, applied) SELECT 'dead', 'dead', \
             0, (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT, 0",
        )
        .await?;
    let issued = three.fixture.issue("k").await?;
    let (registry, actor) = (&three.fixture.registry, &three.fixture.actor);
    let since = Instant::now();
    let key = registry.revoke_api_key(actor, &issued.key.id, "").await?;
    let early = three.receipt(key.epoch, Duration::ZERO).await?;
    ensure!(
        !early.complete || since.elapsed() > Duration::from_millis(900),
        "{early:?}"
    );
    let begun = Instant::now();
    let receipt = three.receipt(key.epoch, SECOND).await?;
    ensure!(begun.elapsed() < SECOND * 5, "{:?}", begun.elapsed());
    ensure!(receipt.complete && receipt.nodes.len() == 4, "{receipt:?}");
    for node in &receipt.nodes {
        if node.id == "dead" {
            ensure!(!node.acknowledged && node.acknowledged_after.is_none());
            let over = node.refuses_from_memory_since.context("no bound")?;
            ensure!(over == receipt.committed_at + 900, "{receipt:?}");
        } else {
            ensure!(node.acknowledged && node.refuses_from_memory_since.is_none());
        }
    }
    // And whoever asks later, here or elsewhere, is told the same.
    let later = three.nodes[2].receipt(key.epoch, Duration::ZERO).await?;
    let later = later.context("the log holds it")?;
    ensure!(
        later.nodes.iter().filter(|node| node.acknowledged).count() == 3,
        "{later:?}"
    );
    ensure!(
        three.nodes[1]
            .receipt(key.epoch + 1000, SECOND)
            .await?
            .is_none()
    );
    // It is forgotten: out of receipts after some seconds, out of the table after a minute.
    three
        .sql("UPDATE nodes SET heartbeat_at = heartbeat_at - 10000 WHERE id = 'dead'")
        .await?;
    let issued = three.fixture.issue("k2").await?;
    let key = registry.revoke_api_key(actor, &issued.key.id, "").await?;
    let receipt = three.receipt(key.epoch, SECOND).await?;
    ensure!(receipt.complete && receipt.nodes.len() == 3, "{receipt:?}");
    three
        .sql("UPDATE nodes SET heartbeat_at = heartbeat_at - 60000 WHERE id = 'dead'")
        .await?;
    let fourth = three.fixture.second().await?;
    fourth.join_nodes("four").await?;
    ensure!(three.count("SELECT COUNT(*) FROM nodes").await? == 4);
    fourth.close().await;
    ensure!(
        three.count("SELECT COUNT(*) FROM nodes").await? == 3,
        "it left its row"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_140_with_the_hints_cut_off_a_revoke_holds_within_the_lease() -> Result<()> {
    let three = Three::new().await?;
    let (registry, actor) = (&three.fixture.registry, &three.fixture.actor);
    let issued = three.fixture.issue("k").await?;
    let text = issued.plain.text().expose();
    ensure!(three.code(1, text).await? == "valid");
    let lost = three.nodes[1].node_statistics().lost;
    // Again and again: whoever comes back is cut off as well.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'keywright listen' AND datname = current_database()";
    three.sql(cut).await?;
    let key = registry.revoke_api_key(actor, &issued.key.id, "").await?;
    three.sql(cut).await?;
    let receipt = three.receipt(key.epoch, SECOND).await?;
    ensure!(receipt.complete, "{receipt:?}");
    ensure!(three.code(1, text).await? == "revoked");
    ensure!(three.code(2, text).await? == "revoked");
    until("it listens again", async || {
        let known = three.nodes[1].node_statistics();
        (known.listening && known.lost > lost).then_some(())
    })
    .await?;
    // And hints are heard again.
    three.all_listen().await?;
    let issued = three.fixture.issue("k2").await?;
    let heard = three.nodes[1].node_statistics().heard;
    registry.revoke_api_key(actor, &issued.key.id, "").await?;
    until("a hint is heard", async || {
        (three.nodes[1].node_statistics().heard > heard).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issues_and_uses_are_not_told_and_denials_are() -> Result<()> {
    let three = Three::new().await?;
    let (registry, actor) = (&three.fixture.registry, &three.fixture.actor);
    let mut denials = three.nodes[1].watch_denials();
    let heard = |node: usize| three.nodes[node].node_statistics().heard;
    let before = heard(1);
    for _ in 0..5 {
        let issued = three.fixture.issue("quiet").await?;
        ensure!(three.fixture.code(&issued).await? == "valid");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    ensure!(heard(1) == before, "issues and first uses wake nobody");
    denials.mark_unchanged();
    registry
        .deny_access_token(actor, "a-token", three.fixture.now() + 60_000)
        .await?;
    tokio::time::timeout(SECOND * 20, denials.changed()).await??;
    ensure!(heard(1) > before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_138_rotations_by_three_nodes_at_once_make_one_successor() -> Result<()> {
    let three = Three::new().await?;
    let issued = three.fixture.issue("rotated").await?;
    let id = &issued.key.id;
    // The same rotation, tried by all three.
    let once = rand_text();
    let mut tries = JoinSet::new();
    for node in three.nodes.clone() {
        let (id, once) = (id.clone(), once.clone());
        let (actor, peppers) = (three.fixture.actor.clone(), copy_of(&three.fixture.peppers));
        tries.spawn(async move {
            let wish = from_issue(DAY_MS);
            node.rotate_api_key(&actor, &id, &wish, &once, &peppers)
                .await
                .map(drop)
        });
    }
    let mut done = 0;
    while let Some(tried) = tries.join_next().await {
        match tried? {
            Ok(()) => done += 1,
            Err(error) => ensure!(error.code() == "rotation_already_done", "{error}"),
        }
    }
    ensure!(done == 1, "{done} nodes made a secret");
    ensure!(three.fixture.registry.list_rotations(id).await?.len() == 1);
    // Twenty of their own, of another key that each saw the same secret of.
    let issued = three.fixture.issue("rotated too").await?;
    let kid = issued.key.secrets[0].kid.clone();
    let mut tries = JoinSet::new();
    for turn in 0..20 {
        let node = three.nodes[turn % 3].clone();
        let id = issued.key.id.clone();
        let mut wish = from_issue(DAY_MS);
        wish.replaces = Some(kid.clone());
        let (actor, peppers) = (three.fixture.actor.clone(), copy_of(&three.fixture.peppers));
        tries.spawn(async move {
            node.rotate_api_key(&actor, &id, &wish, &rand_text(), &peppers)
                .await
                .map(drop)
        });
    }
    let mut done = 0;
    while let Some(tried) = tries.join_next().await {
        match tried? {
            Ok(()) => done += 1,
            Err(error) => ensure!(error.code() == "rotation_in_progress", "{error}"),
        }
    }
    ensure!(done == 1, "{done} successors");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_and_a_due_schedule_are_done_by_one_of_three() -> Result<()> {
    let three = Three::new().await?;
    for round in 1..=10 {
        let mut asks = JoinSet::new();
        for node in three.nodes.clone() {
            asks.spawn(async move { node.claim_job("tidy", 60_000).await });
        }
        let mut mine = 0;
        while let Some(claimed) = asks.join_next().await {
            mine += u32::from(claimed??);
        }
        ensure!(mine == 1, "round {round}: {mine} nodes have it");
        three.fixture.set_clock(three.fixture.now() + 60_000);
    }
    let issued = three
        .fixture
        .issue_as(&NewApiKey {
            lifetime_ms: Some(300 * DAY_MS),
            ..wish("scheduled")
        })
        .await?;
    ensure!(three.fixture.code(&issued).await? == "valid");
    let schedule = Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval { every_ms: DAY_MS },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode: Mode::IssuePending,
        max_age_ms: None,
    })?;
    let (registry, actor) = (&three.fixture.registry, &three.fixture.actor);
    registry
        .set_schedule(actor, &issued.key.id, &schedule, "")
        .await?;
    three.fixture.set_clock(three.fixture.now() + 2 * DAY_MS);
    let mut runs = JoinSet::new();
    for node in three.nodes.clone() {
        let (actor, peppers) = (actor.clone(), copy_of(&three.fixture.peppers));
        runs.spawn(async move {
            let runs = node.run_due_schedules(&actor, &peppers, 10).await?;
            let notices = node.due_notices(100).await?;
            Ok::<_, RegistryError>((runs.len(), notices.len()))
        });
    }
    let (mut ran, mut told) = (0, 0);
    while let Some(run) = runs.join_next().await {
        let (runs, notices) = run??;
        ran += runs;
        told += notices;
    }
    ensure!(ran == 1, "{ran} runs");
    let made = three.count("SELECT COUNT(*) FROM notices").await?;
    ensure!(
        i64::try_from(told)? <= made,
        "a notice was given out twice: {told} of {made}"
    );
    ensure!(registry.list_rotations(&issued.key.id).await?.len() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s58_what_is_good_for_one_use_is_used_once_on_three_nodes() -> Result<()> {
    let three = Three::new().await?;
    let now = three.fixture.now();
    for round in 0..5 {
        let mut uses = JoinSet::new();
        for turn in 0..12 {
            let node = three.nodes[turn % 3].clone();
            uses.spawn(async move {
                node.use_once("dpop", "key", &format!("proof {round}"), now + 1000)
                    .await
            });
        }
        let mut first = 0;
        while let Some(used) = uses.join_next().await {
            first += u32::from(used??);
        }
        ensure!(first == 1, "round {round}: {first} were the first");
    }
    // Kinds and owners are not mixed up.
    let node = &three.nodes[1];
    ensure!(
        node.use_once("assertion", "key", "proof 0", now + 1000)
            .await?
    );
    ensure!(node.use_once("dpop", "ke", "yproof 0", now + 1000).await?);
    three.fixture.set_clock(now + 1001);
    ensure!(
        three.nodes[2]
            .use_once("dpop", "key", "proof 0", now + 9000)
            .await?,
        "its time is over"
    );
    ensure!(
        !three.nodes[0]
            .use_once("dpop", "key", "proof 0", now + 9000)
            .await?
    );
    ensure!(!node.prune_used(now + 1001).await?);
    let left = "SELECT COUNT(*) FROM used_once WHERE name <> 'forgotten'";
    ensure!(three.count(left).await? == 1);
    // Put back, the clock makes what was removed good again. Whether it was used nobody knows: refused, on every
    // node, and what ends later is taken.
    three.fixture.set_clock(now);
    for node in &three.nodes {
        ensure!(
            !node
                .use_proof_once("dpop", "key", "proof 1", now + 1000)
                .await?,
            "a proof was taken twice"
        );
    }
    let mut first = 0;
    for node in &three.nodes {
        first += u32::from(
            node.use_proof_once("dpop", "key", "of now", now + 1001)
                .await?,
        );
    }
    ensure!(first == 1, "{first} were the first");
    Ok(())
}

#[tokio::test]
async fn a_clock_that_differs_from_the_databases_is_measured() -> Result<()> {
    // The test's clock stands years away.
    let three = Three::new().await?;
    let skew = three.nodes[1]
        .node_statistics()
        .clock_skew_ms
        .context("not measured")?;
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let apart = three.fixture.now() - i64::try_from(real.as_millis())?;
    ensure!((skew - apart).abs() < 5000, "{skew}, {apart}");
    Ok(())
}

#[tokio::test]
async fn a_file_has_one_node_and_its_receipt_says_so() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    fixture.registry.join_nodes("only").await?;
    let issued = fixture.issue("k").await?;
    let revoked = fixture
        .registry
        .revoke_api_key(&fixture.actor, &issued.key.id, "")
        .await?;
    let receipt = fixture
        .registry
        .receipt(revoked.epoch, SECOND)
        .await?
        .context("none")?;
    ensure!(receipt.complete && receipt.nodes.len() == 1, "{receipt:?}");
    ensure!(receipt.nodes[0].name == "only" && receipt.nodes[0].acknowledged);
    ensure!(!fixture.registry.is_shared());
    ensure!(fixture.registry.node_statistics().clock_skew_ms.is_none());
    Ok(())
}

/// Says what it is told to say, and what it was asked.
#[derive(Debug)]
struct Stub {
    answer: std::sync::Mutex<LimitsAnswer>,
    asked: std::sync::Mutex<Vec<String>>,
}

impl SharedLimits for Stub {
    fn take<'a>(
        &'a self,
        ask: &'a LimitAsk,
    ) -> std::pin::Pin<Box<dyn Future<Output = LimitsAnswer> + Send + 'a>> {
        let names = ask.words.iter().map(|word| word.name.clone());
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(names);
        let answer = *self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        Box::pin(async move { answer })
    }
}

#[tokio::test]
async fn ac_132_limits_counted_elsewhere_decide_and_the_nodes_own_stands_in() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    let stub = Arc::new(Stub {
        answer: std::sync::Mutex::new(LimitsAnswer::PerNode),
        asked: std::sync::Mutex::default(),
    });
    fixture.registry.share_limits(Arc::<Stub>::clone(&stub));
    let limits = RateLimits::new(vec![
        RateLimit::new("own", 3, 60_000, 0, false)?,
        RateLimit::new("all", 50, 60_000, 0, true)?,
    ])?;
    let issued = fixture
        .issue_as(&NewApiKey {
            settings: KeySettings {
                limits,
                ..KeySettings::default()
            },
            ..wish("limited")
        })
        .await?;
    for _ in 0..3 {
        ensure!(fixture.code(&issued).await? == "valid");
    }
    ensure!(
        fixture.code(&issued).await? == "rate_limited",
        "this node's own count"
    );
    let asked = stub.asked.lock().expect("asked").clone();
    ensure!(
        asked[0] == format!("{}:own", issued.key.id) && asked[1] == "all:1200000:60000000",
        "{asked:?}"
    );
    let say = |answer| *stub.answer.lock().expect("answer") = answer;
    say(LimitsAnswer::Counted(LimitAnswer::Allowed {
        limit: 0,
        remaining: Some(7),
        reset_ms: 1,
    }));
    ensure!(fixture.verify(&issued).await?.limit_left == Some(7));
    say(LimitsAnswer::Unavailable);
    let refused = fixture
        .code(&issued)
        .await
        .expect_err("nothing passes uncounted");
    ensure!(format!("{refused}").contains("limits"), "{refused}");
    // A key without limits asks nobody.
    let free = fixture.issue("free").await?;
    ensure!(fixture.code(&free).await? == "valid");
    Ok(())
}
