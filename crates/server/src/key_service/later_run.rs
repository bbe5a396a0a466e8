//! Carries out requests that are answered later, step by step, and says how far they came.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use keywright_registry::{
    AuditCheck, BulkProgress, BulkState, HygieneCount, Import, LaterAnswer, LaterRequest,
    RegistryError,
};

use super::audit;
use super::bulk_run::{REPORT_EVERY, access_ended, until_written};
use super::later::{OperationProblem, OperationResult};
use super::places::Place;
use super::{hygiene, import};
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

/// What is carried out.
#[derive(Debug)]
pub(super) enum Work {
    /// A check of the audit trail.
    AuditVerify(Box<AuditCheck>),
    /// An import of a file that was read.
    Import(Box<Import>),
    /// A count of what hygiene finds.
    Hygiene(Box<HygieneCount>),
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Work {
    pub(super) fn request(&self) -> LaterRequest {
        match self {
            Self::AuditVerify(_) => LaterRequest::AuditVerify,
            Self::Import(_) => LaterRequest::Import,
            Self::Hygiene(_) => LaterRequest::Hygiene,
        }
    }

    /// Events, lines or keys to go through.
    pub(super) fn total(&self) -> i64 {
        match self {
            Self::AuditVerify(check) => check.total(),
            Self::Import(import) => number(import.total()),
            Self::Hygiene(count) => count.total(),
        }
    }

    fn progress(&self) -> BulkProgress {
        match self {
            Self::AuditVerify(check) => BulkProgress {
                done: check.done(),
                ..BulkProgress::default()
            },
            Self::Import(import) => {
                let report = import.report();
                let (changed, failed) = (report.imported.len(), report.refused.len());
                BulkProgress {
                    done: number(changed + failed + report.present.len()),
                    changed: number(changed),
                    failed: number(failed),
                    ..BulkProgress::default()
                }
            }
            Self::Hygiene(count) => BulkProgress {
                done: count.done(),
                ..BulkProgress::default()
            },
        }
    }

    /// Goes on. Returns false when there is nothing more to do.
    async fn step(&mut self) -> Result<bool, Problem> {
        match self {
            Self::AuditVerify(check) => Ok(check.step().await?),
            Self::Import(import) => {
                let more = import.step().await;
                match &import.report().stopped {
                    None => Ok(more),
                    Some((_, error)) => Err(Problem::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        error.code(),
                        "the registry failed after some lines: running the import again is safe",
                    )),
                }
            }
            Self::Hygiene(count) => Ok(count.step().await?),
        }
    }

    /// What came of it. Of what ended before its end, for this reason: what was written stands and is
    /// told, and half a look at something is nothing.
    fn finish(self, stopped: Option<&'static str>) -> Option<OperationResult> {
        match (self, stopped) {
            (Self::AuditVerify(check), None) => {
                Some(OperationResult::AuditVerify(audit::found(check.finish())))
            }
            (Self::Import(import), stopped) => {
                Some(OperationResult::Import(import::came_of(*import, stopped)))
            }
            (Self::Hygiene(count), None) => {
                Some(OperationResult::Hygiene(hygiene::counted(&count.finish())))
            }
            (Self::AuditVerify(_) | Self::Hygiene(_), Some(_)) => None,
        }
    }
}

/// Carries a request out behind the answer. It lives as long as the server does.
pub(super) fn start(app: &App, id: String, manager: Manager, work: Work, place: Place) {
    let app = Arc::clone(app);
    tokio::spawn(run(app, id, manager, work, place));
}

/// How something ended, and why before its end.
struct Ended(BulkState, Option<Problem>);

async fn run(app: App, id: String, manager: Manager, mut work: Work, place: Place) {
    let Ended(state, problem) = go_on(&app, &id, &manager, &mut work).await;
    // Whoever sees that it has ended finds its place free.
    drop(place);
    let registry = app.registry.clone();
    drop(app);
    let progress = work.progress();
    let stopped = match (&state, &problem) {
        (BulkState::Done, _) => None,
        (_, Some(problem)) => Some(problem.code),
        (_, None) => Some(state.as_str()),
    };
    let result = work.finish(stopped);
    let problem = problem.map(|problem| OperationProblem {
        code: problem.code.to_owned(),
        detail: problem.detail,
    });
    let texts = result
        .map(|result| serde_json::to_string(&result))
        .transpose();
    let texts = texts.and_then(|answer| {
        let problem = problem.map(|problem| serde_json::to_string(&problem));
        Ok(LaterAnswer {
            answer,
            problem: problem.transpose()?,
        })
    });
    match texts {
        Ok(came) => {
            until_written(|| registry.end_later(&id, &progress, state, came.clone())).await;
        }
        Err(error) => tracing::error!(%error, "what an operation came to could not be written"),
    }
}

async fn go_on(app: &App, id: &str, manager: &Manager, work: &mut Work) -> Ended {
    let mut reported = Instant::now();
    loop {
        // Before each step: what ended the caller's access ends what the caller began. Who cannot be asked
        // about does not go on either, for another reason.
        match manager.stands(app).await {
            Ok(true) => {}
            Ok(false) => return Ended(BulkState::Stopped, Some(access_ended())),
            Err(problem) => return Ended(BulkState::Stopped, Some(problem)),
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            match app.registry.report_bulk(id, &work.progress(), None).await {
                Ok(true) => return Ended(BulkState::Cancelled, None),
                Ok(false) => {}
                // It was pruned: nobody can fetch what comes of it.
                Err(RegistryError::OperationNotFound) => return Ended(BulkState::Cancelled, None),
                Err(error) => tracing::warn!(code = error.code(), "progress was not written"),
            }
        }
        match work.step().await {
            Ok(true) => {}
            Ok(false) => return Ended(BulkState::Done, None),
            Err(problem) => return Ended(BulkState::Stopped, Some(problem)),
        }
    }
}
