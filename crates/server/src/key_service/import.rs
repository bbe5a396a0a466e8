//! `/api/v1/import`: hashes of keys that another system made.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::api_keys::{Environment, Owner, OwnerKind};
use keywright_registry::{
    Import, ImportError, ImportFormat, ImportOptions, ImportReport, ImportedKey, RefusedLine,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::later::{self, OperationView, RespondAsync};
use super::later_run::Work;
use super::paging::{Asked, invalid};
use crate::keys::manager::{Manager, peppers};
use crate::once::{Name, Once};
use crate::problem::Problem;
use crate::server::App;

/// A line that was taken, or whose key is there already.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedLine {
    /// From 1.
    line: u64,
    /// The key. In a dry run: of those that are there already only.
    key_id: Option<String>,
}

/// A line that was not taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedLineView {
    /// From 1.
    line: u64,
    /// Stable.
    code: &'static str,
    /// In plain words.
    message: String,
}

/// Why an import ended before its end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedView {
    /// The lines from here on were not looked at.
    line: u64,
    code: &'static str,
}

/// What came of a file, line by line.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportView {
    /// Nothing was written.
    dry_run: bool,
    /// Taken over, or what would be.
    imported: Vec<ImportedLine>,
    /// There already: nothing was done.
    present: Vec<ImportedLine>,
    /// Not taken.
    refused: Vec<RefusedLineView>,
    /// It ended after some lines: the registry failed, or somebody ended it (`cancelled`, `access_ended`).
    /// Running the import again is safe.
    stopped: Option<StoppedView>,
}

impl From<ImportReport> for ImportView {
    fn from(report: ImportReport) -> Self {
        let lines = |lines: Vec<ImportedKey>| {
            let lines = lines.into_iter();
            lines
                .map(|one| ImportedLine {
                    line: one.line,
                    key_id: one.key_id,
                })
                .collect()
        };
        let refused = report
            .refused
            .into_iter()
            .map(|one: RefusedLine| RefusedLineView {
                line: one.line,
                code: one.code,
                message: one.message,
            });
        Self {
            dry_run: report.dry_run,
            imported: lines(report.imported),
            present: lines(report.present),
            refused: refused.collect(),
            stopped: report.stopped.map(|(line, error)| StoppedView {
                line,
                code: error.code(),
            }),
        }
    }
}

const NAMES: [&str; 7] = [
    "format",
    "dry_run",
    "prefix",
    "environment",
    "owner_kind",
    "owner",
    "never_expires",
];

fn options(asked: &Asked, manager: &Manager) -> Result<ImportOptions, Problem> {
    asked.known(&NAMES)?;
    let format = match asked.text("format") {
        None | Some("ndjson") => ImportFormat::NdJson,
        Some("csv") => ImportFormat::Csv,
        Some(_) => return Err(invalid("format", "ndjson or csv")),
    };
    let environment = asked.text("environment").map(Environment::new).transpose();
    let owner = match (asked.text("owner_kind"), asked.text("owner")) {
        (None, None) => manager.person.as_ref().map(|id| Owner {
            kind: OwnerKind::Person,
            id: id.clone(),
        }),
        (kind, Some(id)) => {
            let kind = OwnerKind::parse(kind.unwrap_or("person"));
            let kind = kind.ok_or_else(|| invalid("owner_kind", "person, service or team"))?;
            Some(Owner::new(kind, id).map_err(|error| invalid("owner", error))?)
        }
        (Some(_), None) => return Err(invalid("owner", "it is missing")),
    };
    Ok(ImportOptions {
        format,
        // Look first: what is written stays.
        dry_run: asked.flag("dry_run", true)?,
        prefix: asked
            .owned("prefix")
            .unwrap_or_else(|| "sk_live".to_owned()),
        environment: environment.map_err(|error| invalid("environment", error))?,
        owner,
        creator: manager.person.clone(),
        held: Some(manager.held(false).clone()),
        allow_never_expires: asked.flag("never_expires", false)?,
    })
}

/// Takes over the SHA-256 hashes of keys that another system made: they go on working as they are.
/// Each line is judged by the rules for new keys; the same file again changes nothing. It is a dry run
/// unless `dry_run=false`. Needs `keys:*`.
#[utoipa::path(
    post, path = "/api/v1/import", tag = "import and export",
    request_body(content = String, content_type = "application/x-ndjson", description = "NDJSON or CSV of at most 32 MiB and 50,000 records: name, hash, last_four, prefix, scopes, owner, environment, expires_at, not_before, tags, note, networks, metadata"),
    params(
        ("format" = Option<String>, Query, pattern = "^(ndjson|csv)$", description = "ndjson or csv"),
        ("dry_run" = Option<bool>, Query, description = "Judge everything, write nothing; true if it is left out"),
        ("prefix" = Option<String>, Query, description = "For lines that name none; sk_live if it is left out"),
        ("environment" = Option<String>, Query, description = "For lines that name none"),
        ("owner_kind" = Option<String>, Query, pattern = "^(person|service|team)$", description = "person, service or team"),
        ("owner" = Option<String>, Query, description = "For lines that name none; the caller if it is left out"),
        ("never_expires" = Option<bool>, Query, description = "Take keys without an end where no policy speaks of it"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is answered the same. A dry run has none"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: answer at once, with where to see how far it came and what came of it"),
    ),
    responses((status = 202, description = "It has begun (`Prefer: respond-async`); `Location` is its operation", body = OperationView), (status = 503, description = "Too many operations run already"), (status = 409, description = "`idempotency_key_reused`; `request_under_way`, with Retry-After"), (status = 200, description = "What came of each line", body = ImportView), (status = 413, description = "Too large: split it"))
)]
pub(crate) async fn import(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
    later: RespondAsync,
    Once { name, body: file }: Once<Bytes>,
) -> Result<Response, Problem> {
    manager.require("keys:*")?;
    let options = options(&asked, &manager)?;
    let peppers = peppers(&app)?;
    // A dry run does nothing that could be done twice.
    let name = if options.dry_run {
        Name::default()
    } else {
        name
    };
    let (registry, actor) = (&app.registry, &manager.actor);
    if later.0 {
        let name = name.of_later(&app);
        // Whoever asks again waits for no place.
        if let Some(answer) = later::before(&app, &manager, &name).await? {
            return Ok(answer);
        }
        let place = app.key_service.places.of_import()?;
        // A file that cannot be read is refused at once.
        let import = registry.begin_import(actor, &file, &peppers, &options);
        let work = Work::Import(Box::new(import.map_err(refused)?));
        return later::begin(&app, manager, name, place, work).await;
    }
    let work = async {
        let imported = registry.import_api_keys(actor, &file, &peppers, &options);
        imported.await.map(ImportView::from).map_err(refused)
    };
    let is_done = |view: &ImportView| view.stopped.is_none();
    name.answered(&app, actor, work, is_done).await
}

/// What came of an import, which may have been stopped.
pub(super) fn came_of(import: Import, stopped: Option<&'static str>) -> ImportView {
    let next = import.next_line();
    let mut view = ImportView::from(import.finish());
    if let (Some(code), Some(line), None) = (stopped, next, &view.stopped) {
        view.stopped = Some(StoppedView { line, code });
    }
    view
}

fn refused(error: ImportError) -> Problem {
    let status = match error {
        ImportError::TooLarge | ImportError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, error.code(), error.to_string())
}
