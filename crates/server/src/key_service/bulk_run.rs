//! Carries out operations over many keys, a few at a time, and says how far they came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use keywright_domain::api_keys::{ApiKey, RotationRequest, Tags};
use keywright_registry::{
    ApiKeyChange, BulkFailure, BulkProblem, BulkProgress, BulkState, ClientSecret, Conditions,
    RegistryError,
};

use super::places::Place;
use crate::keys::manager::{Manager, peppers};
use crate::keys::rotate::clock_of_policy;
use crate::keys::views::problem;
use crate::problem::Problem;
use crate::server::App;

/// How often it is written down how far one came, and looked whether it is to end.
pub(super) const REPORT_EVERY: Duration = Duration::from_millis(500);
/// A key is tried for so long while the registry fails: a database that fails over, or is started again, is back by then.
/// Each change changes nothing the second time, also where nothing was heard of the first.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN_EVERY: Duration = Duration::from_secs(1);
/// How long it is tried to write down how one ended: what ended it may be that nothing can be written.
const END_TRIED: Duration = Duration::from_secs(120);
const END_EVERY: Duration = Duration::from_secs(1);

/// What is done to each key.
#[derive(Debug)]
pub(super) enum Work {
    /// End it.
    Revoke,
    /// Suspend it.
    Disable,
    /// End its suspension.
    Enable,
    /// Give it a tag.
    Tag(String),
    /// Take a tag away.
    Untag(String),
    /// Give it a secret that the caller made.
    Rotate {
        /// By key.
        secrets: BTreeMap<String, ClientSecret>,
        /// How long the old secret works.
        overlap_ms: Option<i64>,
    },
}

/// An operation that was written down.
#[derive(Debug)]
pub(super) struct Order {
    /// Its id.
    pub(super) id: String,
    /// Who asked.
    pub(super) manager: Manager,
    /// What is done.
    pub(super) work: Work,
    /// To which keys.
    pub(super) ids: Vec<String>,
    /// Why.
    pub(super) reason: String,
}

/// How an operation ended, and why where that was before its end.
struct Ended(BulkState, Option<Problem>);

/// Carries an operation out behind the answer. It lives as long as the server does.
pub(super) fn start(app: &App, order: Order, place: Place) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let mut progress = BulkProgress::default();
        let Ended(state, problem) = run(&app, &order, &mut progress).await;
        // Whoever sees that it has ended finds its place free.
        drop(place);
        let registry = app.registry.clone();
        drop(app);
        let problem = problem.map(|problem| BulkProblem {
            code: problem.code.to_owned(),
            detail: problem.detail,
        });
        until_written(|| registry.end_bulk(&order.id, &progress, state, problem.clone())).await;
    });
}

/// Writes down how something ended, again where the registry fails meanwhile.
pub(super) async fn until_written<F>(write: impl Fn() -> F)
where
    F: Future<Output = Result<(), RegistryError>>,
{
    let began = Instant::now();
    let mut failed = false;
    loop {
        match write().await {
            // It was pruned: nobody can ask for it.
            Ok(()) | Err(RegistryError::OperationNotFound) => return,
            Err(error) if began.elapsed() >= END_TRIED => {
                // Long since it shows as interrupted.
                tracing::error!(code = error.code(), "an operation's end was not written");
                return;
            }
            Err(error) if !failed => {
                failed = true;
                let code = error.code();
                tracing::warn!(code, "an operation's end is not written yet");
            }
            Err(_) => {}
        }
        tokio::time::sleep(END_EVERY).await;
    }
}

async fn run(app: &App, order: &Order, progress: &mut BulkProgress) -> Ended {
    let mut reported = Instant::now();
    for id in &order.ids {
        let mut failing_since = None;
        let outcome = loop {
            if failing_since.is_some() || reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                if report(app, order, progress).await {
                    return Ended(BulkState::Cancelled, None);
                }
            }
            let why = match attempt(app, order, id).await {
                Attempt::Changed(outcome) => break outcome,
                Attempt::NotAllowed => return Ended(BulkState::Stopped, Some(access_ended())),
                Attempt::RegistryFailed(why) => why,
            };
            let since = *failing_since.get_or_insert_with(|| {
                tracing::warn!(code = why.code, "an operation waits for the registry");
                Instant::now()
            });
            if since.elapsed() >= PATIENCE {
                progress.count(Err(failure(id, why.clone())));
                return Ended(BulkState::Stopped, Some(why));
            }
            tokio::time::sleep(AGAIN_EVERY).await;
        };
        progress.count(outcome);
    }
    Ended(BulkState::Done, None)
}

/// Says how far it came. Returns whether somebody asked for its end.
async fn report(app: &App, order: &Order, progress: &mut BulkProgress) -> bool {
    match app.registry.report_bulk(&order.id, progress, None).await {
        Ok(is_cancelled) => {
            progress.told();
            is_cancelled
        }
        Err(error) => {
            tracing::warn!(code = error.code(), "progress was not written");
            false
        }
    }
}

/// What came of one try to change a key.
enum Attempt {
    /// The number of its last change, or why it cannot be changed.
    Changed(Result<i64, BulkFailure>),
    /// Whoever asked may not do this any more.
    NotAllowed,
    /// It may be so by the next try.
    RegistryFailed(Problem),
}

/// Looks first whether the caller is still let in: what ended the access ends what was begun with it. Who cannot be
/// asked about does not go on either.
async fn attempt(app: &App, order: &Order, id: &str) -> Attempt {
    let done = match order.manager.stands(app).await {
        Ok(true) => one(app, order, id).await,
        Ok(false) => return Attempt::NotAllowed,
        Err(why) => return Attempt::RegistryFailed(why),
    };
    match done {
        Err(why) if why.status.is_server_error() => Attempt::RegistryFailed(why),
        done => Attempt::Changed(done.map_err(|why| failure(id, why))),
    }
}

fn failure(id: &str, why: Problem) -> BulkFailure {
    BulkFailure {
        key_id: id.to_owned(),
        code: why.code.to_owned(),
        message: why.detail,
    }
}

/// Why nothing more is done for a caller who is not let in any more.
pub(super) fn access_ended() -> Problem {
    let detail = "whoever asked for it may not do this any more";
    Problem::new(StatusCode::FORBIDDEN, "access_ended", detail)
}

/// Changes one key. Returns the number of its last change.
async fn one(app: &App, order: &Order, id: &str) -> Result<i64, Problem> {
    let key = crate::keys::change::key_for(app, &order.manager, id, "keys:write").await?;
    let (registry, actor) = (&app.registry, &order.manager.actor);
    let done = match &order.work {
        Work::Revoke => registry.revoke_api_key(actor, id, &order.reason).await,
        Work::Disable => registry.disable_api_key(actor, id, &order.reason).await,
        Work::Enable => registry.enable_api_key(actor, id).await,
        Work::Tag(tag) => return tagged(app, order, &key, tag, true).await,
        Work::Untag(tag) => return tagged(app, order, &key, tag, false).await,
        Work::Rotate {
            secrets,
            overlap_ms,
        } => {
            let secret = secrets.get(id).ok_or_else(|| {
                Problem::bad_request("invalid_client_secret", "there is no secret for this key")
            })?;
            let usual = RotationRequest::default();
            let wish = RotationRequest {
                overlap_ms: overlap_ms.unwrap_or(usual.overlap_ms),
                clock: clock_of_policy(app, &key, *overlap_ms).await?,
                ..usual
            };
            // One operation rotates a key once, also if it is begun again with the same secrets.
            let rotation_id = format!("bulk-{}", secret.kid);
            let peppers = peppers(app)?;
            let conditions = order.manager.secret_of(&key, Conditions::default());
            let registry = registry.under(conditions);
            let rotated =
                registry.rotate_api_key_to(actor, id, &wish, &rotation_id, secret, &peppers);
            rotated.await.map(|(key, _)| key)
        }
    };
    done.map(|key| key.epoch).map_err(problem)
}

async fn tagged(
    app: &App,
    order: &Order,
    key: &ApiKey,
    tag: &str,
    wanted: bool,
) -> Result<i64, Problem> {
    let tags = key.settings.tags.as_slice();
    if tags.iter().any(|one| one == tag) == wanted {
        return Ok(key.epoch);
    }
    let kept = tags.iter().map(String::as_str).filter(|one| *one != tag);
    let tags = Tags::new(kept.chain(wanted.then_some(tag)));
    let mut settings = key.settings.clone();
    settings.tags = tags.map_err(|error| {
        let error = keywright_domain::api_keys::settings::SettingsError::from(error);
        problem(RegistryError::Key(error.into()))
    })?;
    let change = ApiKeyChange {
        settings: Some(settings),
        if_epoch: Some(key.epoch),
        ..ApiKeyChange::default()
    };
    let changed = app
        .registry
        .change_api_key(&order.manager.actor, &key.id, &change);
    changed.await.map(|key| key.epoch).map_err(problem)
}
