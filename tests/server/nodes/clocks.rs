//! Two servers over one PostgreSQL whose clocks differ: one has this machine's time, the other's is as
//! wrong as the test wants it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, OverlapClock, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_domain::schedules::{Mode, Recurrence, Schedule, ScheduleTerms, TimeZone};
use keywright_registry::{Clock, Issued, LocalRegistry, Peppers, VerifyRequest};
use keywright_server::settings::Settings;
use keywright_server::{Server, ServerSecrets};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::SECOND;
use crate::support::postgres::Database;
use crate::support::until;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const LONG: i64 = 300 * DAY_MS;

struct Node {
    registry: LocalRegistry,
    address: String,
    ahead: Arc<AtomicI64>,
    stop: CancellationToken,
}

impl Node {
    async fn start(name: &str, url: &str, folder: &Path) -> Result<Self> {
        let ahead = Arc::<AtomicI64>::default();
        let (system, by) = (Clock::system(), Arc::clone(&ahead));
        let clock = Clock::from_fn(move || system.now() + by.load(Ordering::SeqCst));
        let registry = LocalRegistry::open_postgres(url, clock.clone()).await?;
        let secrets = ServerSecrets::open(&folder.join("secrets"))?;
        keywright_server::prepare(&registry, &secrets).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = format!("http://{}", listener.local_addr()?);
        let mut settings = Settings::new("http://127.0.0.1:8377", folder.to_owned())?;
        name.clone_into(&mut settings.node_name);
        let server = Server::build(settings, registry.clone(), secrets, clock).await?;
        let stop = CancellationToken::new();
        let end = stop.clone();
        tokio::spawn(async move { keywright_server::serve(&server, listener, end).await });
        Ok(Self {
            registry,
            address,
            ahead,
            stop,
        })
    }

    /// Puts its clock forward, or back.
    fn put(&self, ahead_ms: i64) {
        self.ahead.store(ahead_ms, Ordering::SeqCst);
    }

    async fn readiness(&self) -> Result<u16> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.get(format!("{}/readyz", self.address)).send();
        Ok(answer.await?.status().as_u16())
    }

    async fn becomes(&self, status: u16) -> Result<()> {
        until("readiness", async || {
            self.readiness()
                .await
                .is_ok_and(|now| now == status)
                .then_some(())
        })
        .await
    }

    async fn code(&self, issued: &Issued, peppers: &Peppers) -> Result<&'static str> {
        let request = VerifyRequest {
            presented: issued.plain.text().expose(),
            ..VerifyRequest::default()
        };
        Ok(self
            .registry
            .verify_api_key(&request, peppers)
            .await?
            .code())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Two {
    right: Node,
    wrong: Node,
    peppers: Peppers,
    actor: Actor,
    _database: Database,
    _folder: tempfile::TempDir,
}

impl Two {
    async fn start() -> Result<Self> {
        let database = Database::create().await?;
        let folder = tempfile::tempdir()?;
        ServerSecrets::create(&folder.path().join("secrets"))?;
        let right = Node::start("right", database.url(), folder.path()).await?;
        let wrong = Node::start("wrong", database.url(), folder.path()).await?;
        let secrets = ServerSecrets::open(&folder.path().join("secrets"))?;
        let pepper = right.registry.pepper_id().await?.context("no pepper")?;
        let peppers = secrets.peppers(&[pepper])?.context("no pepper")?;
        for node in [&right, &wrong] {
            until("it listens", async || {
                node.registry.node_statistics().listening.then_some(())
            })
            .await?;
        }
        Ok(Self {
            right,
            wrong,
            peppers,
            actor: Actor::person("tester"),
            _database: database,
            _folder: folder,
        })
    }

    async fn issue(&self, node: &Node, lifetime_ms: i64) -> Result<Issued> {
        let wish = NewApiKey {
            name: "key of a test".to_owned(),
            prefix: "sk_live".to_owned(),
            scopes: vec!["keys:read".to_owned()],
            lifetime_ms: Some(lifetime_ms),
            ..NewApiKey::default()
        };
        let issued = node
            .registry
            .issue_api_key(&self.actor, &wish, &self.peppers);
        Ok(issued.await?)
    }

    /// What both say of a key, the right one first.
    async fn codes(&self, issued: &Issued) -> Result<(&'static str, &'static str)> {
        Ok((
            self.right.code(issued, &self.peppers).await?,
            self.wrong.code(issued, &self.peppers).await?,
        ))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_is_not_ready_beyond_five_seconds() -> Result<()> {
    let two = Two::start().await?;
    two.right.becomes(200).await?;
    two.wrong.becomes(200).await?;
    for ahead in [3000, -3000] {
        two.wrong.put(ahead);
        until("the difference is measured", async || {
            let skew = two.wrong.registry.node_statistics().clock_skew_ms;
            skew.is_some_and(|skew| (skew - ahead).abs() < 1000)
                .then_some(())
        })
        .await?;
        ensure!(two.wrong.readiness().await? == 200, "within the bound");
    }
    for ahead in [8000, -8000, 3 * HOUR, -DAY_MS] {
        two.wrong.put(ahead);
        two.wrong.becomes(503).await?;
        ensure!(two.right.readiness().await? == 200, "the other one goes on");
        two.wrong.put(0);
        two.wrong.becomes(200).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expiry_and_overlaps_are_as_wrong_as_the_clock_and_revocation_is_not() -> Result<()> {
    let two = Two::start().await?;
    // Expiry.
    let short = two.issue(&two.right, DAY_MS).await?;
    ensure!(two.codes(&short).await? == ("valid", "valid"));
    two.wrong.put(DAY_MS - MINUTE);
    ensure!(two.codes(&short).await? == ("valid", "valid"));
    two.wrong.put(DAY_MS + 1000);
    ensure!(two.codes(&short).await? == ("valid", "expired"));
    two.wrong.put(-DAY_MS);
    ensure!(two.codes(&short).await? == ("valid", "valid"));

    // The end of an overlap.
    two.wrong.put(0);
    let old = two.issue(&two.right, LONG).await?;
    ensure!(two.codes(&old).await? == ("valid", "valid"));
    let request = RotationRequest {
        overlap_ms: HOUR,
        clock: OverlapClock::FromIssue,
        ..RotationRequest::default()
    };
    let new = two.right.registry.rotate_api_key(
        &two.actor,
        &old.key.id,
        &request,
        "a rotation",
        &two.peppers,
    );
    let new = new.await?;
    ensure!(two.codes(&new).await? == ("valid", "valid"));
    two.wrong.put(HOUR - MINUTE);
    ensure!(two.codes(&old).await? == ("valid", "valid"));
    two.wrong.put(HOUR + 1000);
    ensure!(two.codes(&old).await? == ("valid", "retired"));
    ensure!(two.codes(&new).await? == ("valid", "valid"));

    // Revocation, whoever is told and whoever tells.
    for ahead in [3 * HOUR, -3 * HOUR] {
        two.wrong.put(ahead);
        for (here, there) in [(&two.right, &two.wrong), (&two.wrong, &two.right)] {
            let issued = two.issue(here, LONG).await?;
            ensure!(two.codes(&issued).await? == ("valid", "valid"), "{ahead}");
            let revoked = here.registry.revoke_api_key(&two.actor, &issued.key.id, "");
            let revoked = revoked.await?;
            let answered = Instant::now();
            let receipt = here.registry.receipt(revoked.epoch, SECOND).await?;
            let receipt = receipt.context("no receipt")?;
            ensure!(receipt.complete && receipt.nodes.len() == 2, "{receipt:?}");
            ensure!(
                there.code(&issued, &two.peppers).await? == "revoked",
                "{ahead}"
            );
            ensure!(answered.elapsed() < SECOND * 5, "{:?}", answered.elapsed());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_trusted_by_a_clock_that_nobody_puts() -> Result<()> {
    let two = Two::start().await?;
    let issued = two.issue(&two.right, LONG).await?;
    let (mut asked, end) = (0, Instant::now() + SECOND * 4);
    // Forward, back, years away: neither refused nor trusted for longer.
    while Instant::now() < end {
        for ahead in [0, HOUR, -HOUR, 200 * DAY_MS, -200 * DAY_MS] {
            two.wrong.put(ahead);
            let code = two.wrong.code(&issued, &two.peppers).await?;
            ensure!(code == "valid", "{ahead}: {code}");
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ensure!(asked > 100, "only {asked}");
    for ahead in [-200 * DAY_MS, 200 * DAY_MS] {
        let issued = two.issue(&two.right, LONG).await?;
        two.wrong.put(0);
        ensure!(two.codes(&issued).await? == ("valid", "valid"));
        let revoked = two
            .right
            .registry
            .revoke_api_key(&two.actor, &issued.key.id, "");
        revoked.await?;
        let answered = Instant::now();
        two.wrong.put(ahead);
        while answered.elapsed() < SECOND {
            let asked = answered.elapsed();
            if two.wrong.code(&issued, &two.peppers).await? == "revoked" {
                break;
            }
            ensure!(
                asked < Duration::from_millis(999),
                "let through after {asked:?}"
            );
        }
        ensure!(two.wrong.code(&issued, &two.peppers).await? == "revoked");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_does_a_schedule_early_but_once_and_stops_no_job() -> Result<()> {
    let two = Two::start().await?;
    let issued = two.issue(&two.right, LONG).await?;
    ensure!(two.codes(&issued).await? == ("valid", "valid"));
    let schedule = Schedule::new(ScheduleTerms {
        recurrence: Recurrence::Interval { every_ms: DAY_MS },
        time_zone: TimeZone::new("UTC")?,
        window: None,
        jitter_ms: 0,
        mode: Mode::IssuePending,
        max_age_ms: None,
    })?;
    let set = two
        .right
        .registry
        .set_schedule(&two.actor, &issued.key.id, &schedule, "");
    set.await?;
    let run = async |node: &Node| -> Result<usize> {
        let runs = node
            .registry
            .run_due_schedules(&two.actor, &two.peppers, 10);
        Ok(runs.await?.len())
    };
    ensure!(
        run(&two.right).await? + run(&two.wrong).await? == 0,
        "not due"
    );
    // As much too early as the clock is wrong, by one of them, once.
    two.wrong.put(DAY_MS + MINUTE);
    ensure!(run(&two.right).await? == 0, "not due here");
    // The server's own turn may have been first.
    run(&two.wrong).await?;
    let rotations = async || two.right.registry.list_rotations(&issued.key.id).await;
    until("the schedule has run", async || {
        rotations()
            .await
            .is_ok_and(|all| all.len() == 1)
            .then_some(())
    })
    .await?;
    ensure!(
        run(&two.wrong).await? + run(&two.right).await? == 0,
        "done twice"
    );
    ensure!(rotations().await?.len() == 1);

    // A time that the wrong clock wrote down stops nobody.
    let every = MINUTE;
    two.wrong.put(30 * DAY_MS);
    ensure!(
        two.wrong
            .registry
            .claim_job("a job of a test", every)
            .await?
    );
    ensure!(
        two.right
            .registry
            .claim_job("a job of a test", every)
            .await?,
        "stopped"
    );
    ensure!(
        !two.right
            .registry
            .claim_job("a job of a test", every)
            .await?
    );
    two.wrong.put(0);
    ensure!(
        !two.wrong
            .registry
            .claim_job("a job of a test", every)
            .await?
    );
    Ok(())
}
