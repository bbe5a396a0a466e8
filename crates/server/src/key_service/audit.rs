//! `/api/v1/audit`: the trail in pages, its verification, its export, and who signs it.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_domain::audit::Actor;
use keywright_domain::audit_chain::{CheckpointPublicKey, Fault, SignedCheckpoint, Verdict};
use keywright_registry::{AuditEvent, AuditQuery, SubjectFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::later::{self, OperationView, RespondAsync};
use super::later_run::Work;
use super::paging::{Asked, invalid};
use super::stream::pipe;
use crate::keys::manager::Manager;
use crate::once::Name;
use crate::problem::Problem;
use crate::server::App;

/// What sees the trail.
pub(super) const READ: &str = "audit:read";
/// What signs it.
pub(super) const WRITE: &str = "audit:write";
/// Longest text of a filter.
const LONGEST: usize = 200;

/// One name and value of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DetailView {
    name: String,
    value: String,
}

/// An event. It never holds a secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Position, from 1, without gaps.
    sequence: i64,
    /// Unix ms.
    at: i64,
    /// For example `api_key.issued`.
    action: String,
    /// Who: a person's or client's id, `key:` and the id of a root key, or `keywright`.
    actor: String,
    target_kind: String,
    target_id: String,
    /// Its name when it happened.
    target_name: String,
    /// One sentence.
    summary: String,
    details: Vec<DetailView>,
}

impl From<AuditEvent> for EventView {
    fn from(event: AuditEvent) -> Self {
        let details = event.details.into_iter();
        Self {
            details: details
                .map(|(name, value)| DetailView { name, value })
                .collect(),
            sequence: event.sequence,
            at: event.at,
            action: event.action,
            actor: event.actor,
            target_kind: event.target_kind,
            target_id: event.target_id,
            target_name: event.target_name,
            summary: event.summary,
        }
    }
}

/// A page of the trail, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPageView {
    items: Vec<EventView>,
    /// Pass it back as `cursor` for the next page; absent on the last. A page may be short, or empty,
    /// and have one: a filter that leaves much out looks at 50,000 events a page.
    next_cursor: Option<String>,
}

/// What the verification found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerdictView {
    /// Nothing is wrong.
    intact: bool,
    /// In plain words.
    summary: String,
    /// Events that were checked, where nothing is wrong.
    events: Option<u64>,
    /// The last of them.
    last: Option<i64>,
    /// Checkpoints that fit.
    checkpoints: Option<u64>,
    /// The last event that a signature vouches for.
    vouched_through: Option<i64>,
    /// Hash of the last event.
    hash: Option<String>,
    /// The first event that is wrong.
    wrong_at: Option<i64>,
    /// `changed`, `missing`, `out_of_order`, `inserted`, `rewritten`, `bad_checkpoint`, `unknown_key`,
    /// `foreign_checkpoint`, `misplaced_checkpoint` or `cut_after_checkpoint`.
    fault: Option<&'static str>,
}

impl From<Verdict> for VerdictView {
    fn from(verdict: Verdict) -> Self {
        let summary = verdict.to_string();
        let intact = verdict.is_intact();
        let mut view = Self {
            intact,
            summary,
            events: None,
            last: None,
            checkpoints: None,
            vouched_through: None,
            hash: None,
            wrong_at: None,
            fault: None,
        };
        match verdict {
            Verdict::Intact {
                events,
                last,
                checkpoints,
                vouched,
                hash,
                ..
            } => {
                view.events = Some(events);
                view.last = last;
                view.checkpoints = Some(checkpoints);
                view.vouched_through = vouched;
                view.hash = Some(hash.to_string());
            }
            Verdict::Broken { at, fault, vouched } => {
                view.wrong_at = Some(at);
                view.vouched_through = vouched;
                view.fault = Some(match fault {
                    Fault::Changed => "changed",
                    Fault::Missing { .. } => "missing",
                    Fault::OutOfOrder => "out_of_order",
                    Fault::Inserted => "inserted",
                    Fault::Rewritten { .. } => "rewritten",
                    Fault::BadCheckpoint => "bad_checkpoint",
                    Fault::UnknownKey { .. } => "unknown_key",
                    Fault::ForeignCheckpoint => "foreign_checkpoint",
                    Fault::MisplacedCheckpoint => "misplaced_checkpoint",
                    Fault::CutAfterCheckpoint { .. } => "cut_after_checkpoint",
                });
            }
        }
        view
    }
}

/// A key that checkpoints are verified with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointKeyView {
    /// How checkpoints name it.
    key_id: String,
    /// Ed25519, 64 hexadecimal digits.
    public_key: String,
}

/// The keys that checkpoints of this registry are verified with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointKeyList {
    /// What every checkpoint signs beside the event.
    registry_id: String,
    items: Vec<CheckpointKeyView>,
}

/// A signature over where the trail stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointView {
    registry_id: String,
    /// The event it stands after.
    sequence: i64,
    hash: String,
    at: i64,
    key_id: String,
    /// Ed25519, 128 hexadecimal digits.
    signature: String,
}

impl From<SignedCheckpoint> for CheckpointView {
    fn from(signed: SignedCheckpoint) -> Self {
        let one = signed.checkpoint;
        Self {
            registry_id: one.registry_id,
            sequence: one.sequence,
            hash: one.hash.to_string(),
            at: one.at,
            key_id: one.key_id.to_string(),
            signature: signed.signature.to_string(),
        }
    }
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn public_key(app: &App) -> CheckpointPublicKey {
    app.secrets.checkpoint_key().public_key()
}

/// Signs where the trail stands; a failure is for the log.
pub(super) async fn sign(app: &App) {
    let (actor, key) = (Actor::keywright(), app.secrets.checkpoint_key());
    let signed = app.registry.checkpoint_audit(&actor, &key).await;
    app.operations.metrics.job_ended("checkpoint", &signed);
    if let Err(error) = signed {
        tracing::warn!(code = error.code(), "the audit trail was not signed");
    }
}

const NAMES: [&str; 9] = [
    "type", "actor", "target", "text", "subject", "from", "until", "cursor", "limit",
];

fn query(asked: &Asked) -> Result<AuditQuery, Problem> {
    asked.known(&NAMES)?;
    for name in ["type", "actor", "target", "text"] {
        if asked.text(name).is_some_and(|text| text.len() > LONGEST) {
            return Err(invalid(name, "at most 200 bytes"));
        }
    }
    let subject = match asked.text("subject") {
        None | Some("all") => SubjectFilter::All,
        Some("keys") => SubjectFilter::ApiKeys,
        Some("accounts") => SubjectFilter::Accounts,
        Some("registry") => SubjectFilter::Registry,
        Some(_) => return Err(invalid("subject", "all, keys, accounts or registry")),
    };
    let time = "a time in Unix milliseconds";
    Ok(AuditQuery {
        text: asked.owned("text").unwrap_or_default(),
        subject,
        action: asked.owned("type"),
        actor: asked.owned("actor"),
        target: asked.owned("target"),
        from: asked.read("from", time)?,
        until: asked.read("until", time)?,
        before: asked.read("cursor", "the next_cursor of the page before")?,
        limit: asked.limit()?,
    })
}

/// The audit trail, newest first. Needs `audit:read`.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit",
    params(
        ("type" = Option<String>, Query, description = "An action such as `api_key.issued`, or the beginning of several such as `api_key.`"),
        ("actor" = Option<String>, Query, description = "Who did it"),
        ("target" = Option<String>, Query, description = "Id of what it was done to"),
        ("text" = Option<String>, Query, description = "Part of an action, actor, name or summary"),
        ("subject" = Option<String>, Query, description = "all, keys, accounts or registry"),
        ("from" = Option<i64>, Query, description = "Not before this moment (Unix ms)"),
        ("until" = Option<i64>, Query, description = "Before this moment (Unix ms)"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = AuditPageView))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let page = app.registry.list_audit_events(query(&asked)?).await?;
    Ok(answer(AuditPageView {
        items: page.items.into_iter().map(EventView::from).collect(),
        next_cursor: page.next_before.map(|before| before.to_string()),
    }))
}

/// Walks over the whole trail and says whether it is as it was written, and which event is the first
/// that is wrong. Its time grows with the trail. Needs `audit:read`.
#[utoipa::path(
    get, path = "/api/v1/audit/verify", tag = "audit",
    params(("Prefer" = Option<String>, Header, description = "`respond-async`: answer at once, with where to see how far it came and what came of it")),
    responses(
        (status = 200, description = "What was found", body = VerdictView),
        (status = 202, description = "It has begun (`Prefer: respond-async`); `Location` is its operation", body = OperationView),
        (status = 503, description = "Too many operations run already"),
    )
)]
pub(crate) async fn verify(
    State(app): State<App>,
    manager: Manager,
    later: RespondAsync,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let keys = [public_key(&app)];
    if later.0 {
        let place = app.key_service.places.of_read(&manager.actor)?;
        let check = app.registry.begin_audit_check(&keys).await?;
        let work = Work::AuditVerify(Box::new(check));
        return later::begin(&app, manager, Name::default(), place, work).await;
    }
    Ok(answer(found(app.registry.verify_audit(&keys).await?)))
}

/// A verdict as it is shown; a bad one is for the log too.
pub(super) fn found(verdict: Verdict) -> VerdictView {
    if !verdict.is_intact() {
        tracing::error!(%verdict, "the audit trail is not as it was written");
    }
    VerdictView::from(verdict)
}

/// The whole trail as NDJSON: a header, events, and checkpoints. It is verified with nothing but the
/// file and the public key. Needs `audit:read`.
#[utoipa::path(
    get, path = "/api/v1/audit/export", tag = "audit",
    responses((status = 200, description = "One JSON object a line; a file that is shorter than `ends_at` of its header broke off", body = String, content_type = "application/x-ndjson"))
)]
pub(crate) async fn export(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    manager.require(READ)?;
    sign(&app).await;
    let (body, mut writer) = pipe();
    tokio::spawn(async move {
        let keys = [public_key(&app)];
        match app.registry.stream_audit(&mut writer.to, &keys).await {
            Ok(_) => writer.finish(),
            Err(error) => tracing::warn!(%error, "an export of the audit trail broke off"),
        }
    });
    Ok(ndjson(body, "keywright-audit.ndjson"))
}

/// A file of lines.
pub(super) fn ndjson(body: axum::body::Body, name: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, body).into_response()
}

/// The keys that checkpoints are verified with. Keep them elsewhere: a server that was taken over
/// could name others. Needs `audit:read`.
#[utoipa::path(get, path = "/api/v1/audit/checkpoint-keys", tag = "audit", responses((status = 200, description = "The public keys", body = CheckpointKeyList)))]
pub(crate) async fn checkpoint_keys(
    State(app): State<App>,
    manager: Manager,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let key = public_key(&app);
    Ok(answer(CheckpointKeyList {
        registry_id: app.registry.registry_id().await?,
        items: vec![CheckpointKeyView {
            key_id: key.key_id().to_string(),
            public_key: key.to_string(),
        }],
    }))
}

/// Signs where the trail stands now. The server does so every hour. Needs `audit:write`.
#[utoipa::path(post, path = "/api/v1/audit/checkpoints", tag = "audit", responses((status = 200, description = "The signature; the last one if nothing happened since", body = CheckpointView)))]
pub(crate) async fn checkpoint(
    State(app): State<App>,
    manager: Manager,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let key = app.secrets.checkpoint_key();
    let signed = app.registry.checkpoint_audit(&manager.actor, &key).await?;
    Ok(answer(CheckpointView::from(signed)))
}
