//! What one of the nodes does now and then: removing what is over. Each asks whether it is its turn;
//! the registry gives a turn to one.

use std::time::{Duration, Instant};

use keywright_domain::audit::Actor;
use keywright_registry::RegistryError;

use super::clocks::{self, Skew};
use crate::server::App;

const LOOK_EVERY: Duration = Duration::from_secs(20);
const MINUTE_MS: i64 = 60_000;
/// Batches one turn removes at most; the rest waits for the next.
const BATCHES: usize = 50;

#[derive(Clone, Copy)]
enum Job {
    Used,
    Rotations,
    Campaigns,
    People,
    Retention,
}

/// Each with its name, and how often it is done. They are done one after the other.
const JOBS: [(Job, &str, i64); 4] = [
    (Job::Used, "prune_used", MINUTE_MS),
    (Job::Rotations, "settle_rotations", MINUTE_MS),
    (Job::Campaigns, "hygiene_campaigns", MINUTE_MS),
    (Job::People, "prune_people", 10 * MINUTE_MS),
];
/// What may take hours: it is done beside the others.
const RETENTION: (Job, &str, i64) = (Job::Retention, "retention", 24 * 60 * MINUTE_MS);
/// After this time it is tried again where it failed.
const AGAIN: Duration = Duration::from_secs(10 * 60);

/// Starts it, until the server is dropped.
pub(crate) fn start(app: &App) {
    start_retention(app);
    let weak = std::sync::Arc::downgrade(app);
    tokio::spawn(async move {
        loop {
            // Nodes that start together do not ask together.
            let part = f64::from(rand::random::<u8>()) / 255.0;
            tokio::time::sleep(LOOK_EVERY.mul_f64(0.75 + part / 2.0)).await;
            let Some(app) = weak.upgrade() else { return };
            let skew_ms = app.registry.node_statistics().clock_skew_ms;
            let done = app.registry.while_reachable(look(&app, skew_ms)).await;
            if let Err(error) = done.and_then(|done| done) {
                tracing::warn!(code = error.code(), "a job waits for its next turn");
            }
        }
    });
}

fn start_retention(app: &App) {
    let weak = std::sync::Arc::downgrade(app);
    tokio::spawn(async move {
        let mut is_owed = false;
        loop {
            tokio::time::sleep(if is_owed { AGAIN } else { LOOK_EVERY }).await;
            let Some(app) = weak.upgrade() else { return };
            if is_left_to_others(&app) {
                continue;
            }
            let done = retain(&app, &mut is_owed).await;
            if let Err(error) = done {
                tracing::warn!(job = RETENTION.1, code = error.code(), "a job failed");
            }
        }
    });
}

/// Retention, if it is this node's turn, or its last one came to no end (`is_owed`). What fails alike however often it is
/// tried waits for its next day: each try looks at all keys.
///
/// # Errors
/// [`RegistryError`]: then it is owed, if that may pass.
async fn retain(app: &App, is_owed: &mut bool) -> Result<(), RegistryError> {
    let (job, name, every_ms) = RETENTION;
    let claim = app.registry.claim_job(name, every_ms);
    let turn = owed(is_owed, claim, async {
        let done = work(app, job).await;
        app.operations.metrics.job_ended(name, &done);
        done
    });
    app.registry.while_reachable(turn).await?
}

/// Work that is owed from when its turn was given until it comes to an end, also where it is given up in the middle.
async fn owed(
    is_owed: &mut bool,
    claim: impl Future<Output = Result<bool, RegistryError>>,
    work: impl Future<Output = Result<(), RegistryError>>,
) -> Result<(), RegistryError> {
    if !*is_owed && !claim.await? {
        return Ok(());
    }
    *is_owed = true;
    let done = work.await;
    *is_owed = done.as_ref().is_err_and(may_pass);
    done
}

fn may_pass(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Locked
            | RegistryError::Silent
            | RegistryError::Store(_)
            | RegistryError::DiskFull
            | RegistryError::ReadOnly
            | RegistryError::CommitUnknown(_)
    )
}

/// Whether this machine's clock is too far from the database's for what goes by due dates: another node does it, or
/// this one once its clock is mended.
pub(crate) fn is_left_to_others(app: &App) -> bool {
    clocks::judge(app.registry.node_statistics().clock_skew_ms) == Skew::Refuse
}

/// Does what is due, unless the clock is too far from the database's: by such a clock keys would be suspended
/// and rows removed before their time. Another node does it, or this one once its clock is mended.
///
/// # Errors
/// As [`turn`].
async fn look(app: &App, skew_ms: Option<i64>) -> Result<(), RegistryError> {
    app.nodes.readings.take(Instant::now(), app.now());
    let skew = clocks::judge(skew_ms);
    if skew != Skew::Fine {
        tracing::warn!(
            skew_ms,
            jobs_are_left_to_others = skew == Skew::Refuse,
            "this machine's clock differs from the database's: mend it"
        );
    }
    if skew == Skew::Refuse {
        return Ok(());
    }
    turn_of(app, false).await
}

/// Does what is due and what no other node does, retention too. A job that fails keeps none of the others from their turn.
///
/// # Errors
/// [`RegistryError`] of the first that failed; all that failed are logged, and have their turn the next
/// time.
pub(crate) async fn turn(app: &App) -> Result<(), RegistryError> {
    turn_of(app, true).await
}

async fn turn_of(app: &App, retention_too: bool) -> Result<(), RegistryError> {
    let mut outcome = Ok(());
    let all = JOBS.into_iter().chain(retention_too.then_some(RETENTION));
    for (job, name, every_ms) in all {
        // Who cannot do it yet takes nobody's turn.
        if matches!(job, Job::Used) && app.nodes.readings.earliest(Instant::now()).is_none() {
            continue;
        }
        let done = match app.registry.claim_job(name, every_ms).await {
            Ok(true) => work(app, job).await,
            // Somebody else's turn: that it went well is told there.
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        app.operations.metrics.job_ended(name, &done);
        if let Err(error) = done {
            tracing::warn!(job = name, code = error.code(), "a job failed");
            outcome = outcome.and(Err(error));
        }
    }
    outcome
}

async fn work(app: &App, job: Job) -> Result<(), RegistryError> {
    let (registry, retention) = (&app.registry, &app.settings.retention);
    match job {
        Job::Used => {
            // What was over by every reading of an hour: a clock that is ahead for less removes nothing early.
            let Some(before) = app.nodes.readings.earliest(Instant::now()) else {
                return Ok(());
            };
            for _ in 0..BATCHES {
                if !registry.prune_used(before).await? {
                    break;
                }
            }
        }
        Job::Rotations => {
            registry.settle_rotations().await?;
        }
        Job::Campaigns => {
            registry.settle_campaigns(&Actor::keywright()).await?;
        }
        Job::People => {
            for _ in 0..BATCHES {
                if !registry.prune_people(&retention.people).await?.more {
                    break;
                }
            }
        }
        Job::Retention => {
            // The audit trail is only cut behind a signature.
            let key = app.secrets.checkpoint_key();
            registry
                .run_retention(
                    &Actor::keywright(),
                    &retention.keys,
                    Some(&key),
                    &[],
                    &|_| {},
                )
                .await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::clocks::{REFUSE_MS, WARN_MS};
    use crate::test_support::TestServer;

    /// Whether a job has waited for its turn until now.
    async fn was_left(server: &TestServer, job: &'static str, every_ms: i64) -> bool {
        let claimed = server.registry().claim_job(job, every_ms).await;
        claimed.unwrap()
    }

    #[tokio::test]
    async fn a_node_whose_clock_is_wrong_leaves_the_jobs_to_others() {
        let server = TestServer::start().await;
        let app = server.server.app();
        let hour_ago = Instant::now().checked_sub(Duration::from_secs(3601));
        app.nodes.readings.take(hour_ago.unwrap(), app.now());
        for apart in [REFUSE_MS + 1, -REFUSE_MS - 1, 400 * 24 * 60 * MINUTE_MS] {
            look(app, Some(apart)).await.unwrap();
            for (_, job, every_ms) in JOBS {
                let left = was_left(&server, job, every_ms).await;
                assert!(left, "{job} was done {apart} ms off");
            }
            server.pass(25 * 60 * MINUTE_MS);
        }
        // Once it is mended it has its turn, and a difference that is only told keeps nobody from it.
        for apart in [None, Some(WARN_MS + 1), Some(-REFUSE_MS)] {
            look(app, apart).await.unwrap();
            for (_, job, every_ms) in JOBS {
                let left = was_left(&server, job, every_ms).await;
                assert!(!left, "{job} was left {apart:?} ms off");
            }
            server.pass(25 * 60 * MINUTE_MS);
        }
    }

    #[tokio::test]
    async fn a_node_that_has_not_run_for_an_hour_leaves_what_needs_one_to_others() {
        let server = TestServer::start().await;
        look(server.server.app(), None).await.unwrap();
        assert!(was_left(&server, "prune_used", MINUTE_MS).await);
        assert!(!was_left(&server, "settle_rotations", MINUTE_MS).await);
    }

    /// Hours of it on a server with much to remove: keys are settled and campaigns end meanwhile.
    #[tokio::test]
    async fn retention_is_done_beside_the_other_jobs_and_again_where_it_failed() {
        let broken = |own: &mut crate::settings::Settings| own.retention.keys.changes_kept = 0;
        let server = TestServer::with(broken).await;
        let app = server.server.app();
        let (_, name, every_ms) = RETENTION;
        look(app, None).await.unwrap();
        let mut is_owed = false;
        // Its bounds are wrong: that is so in ten minutes too.
        let tried = retain(app, &mut is_owed).await;
        assert_eq!(tried.unwrap_err().code(), "out_of_bounds");
        assert!(!is_owed, "each try looks at all keys");
        assert!(!was_left(&server, name, every_ms).await);
        // Nobody's turn, and owed by nobody.
        retain(app, &mut false).await.unwrap();
        // What may pass is owed until it is done.
        is_owed = true;
        let tried = retain(app, &mut is_owed).await;
        assert_eq!(tried.unwrap_err().code(), "out_of_bounds", "it was tried");
        for (error, passes) in [
            (RegistryError::Locked, true),
            (RegistryError::DiskFull, true),
            (RegistryError::Store("gone".to_owned()), true),
            (RegistryError::Damaged("a row".to_owned()), false),
            (RegistryError::CheckpointKeyMissing, false),
        ] {
            assert_eq!(may_pass(&error), passes, "{error}");
        }
    }

    #[tokio::test]
    async fn work_that_is_given_up_in_the_middle_is_owed_until_it_is_done() {
        let mine = || std::future::ready(Ok(true));
        let others = || std::future::ready(Ok(false));
        let lost = || std::future::ready(Err(RegistryError::Silent));
        let done = || std::future::ready(Ok(()));
        let mut is_owed = false;
        // The database is away, and what waits for it is dropped.
        let turn = owed(&mut is_owed, mine(), std::future::pending());
        let within = Duration::from_millis(20);
        assert!(tokio::time::timeout(within, turn).await.is_err());
        assert!(is_owed);
        // Nobody's turn is needed for what is owed.
        owed(&mut is_owed, others(), done()).await.unwrap();
        assert!(!is_owed);
        let not_mine = owed(&mut is_owed, others(), std::future::pending());
        assert!(tokio::time::timeout(within, not_mine).await.is_ok());
        assert!(!is_owed, "another node's");
        let unclaimed = owed(&mut is_owed, lost(), done()).await;
        assert_eq!(unclaimed.unwrap_err().code(), RegistryError::Silent.code());
        assert!(!is_owed, "it had no turn");
    }
}
