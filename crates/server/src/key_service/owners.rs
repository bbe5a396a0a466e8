//! `/api/v1/owners`: who keys belong to. Services and teams are made, renamed and suspended here. People are read
//! here too; they are made and changed at `/api/v1/users`.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::{Owner, OwnerKind};
use keywright_domain::people::Email;
use keywright_registry::{NewOwner, Principal, PrincipalChange, Seen, Thing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::paging::{Asked, invalid};
use crate::etags::{IfSeen, shown, tag_of, tagged};
use crate::keys::issue::body;
use crate::keys::manager::Manager;
use crate::keys::owners::{check_root_keys, owner_for, owner_of};
use crate::keys::views::problem;
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::once::{Done, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, private};

const READ: &str = "keys:read";
const WRITE: &str = "keys:write";
/// What is said of people is for those who may see people: nearly everybody may see keys.
const PEOPLE: &str = "users:read";

/// Whom keys belong to. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnerView {
    /// `person`, `service` or `team`.
    kind: &'static str,
    /// As keys and filters name it.
    id: String,
    /// Of a person only for themselves and with `users:read`.
    name: Option<String>,
    /// Where notices about its keys go; to administrators where there is none. A person's is at `/api/v1/users`.
    email: Option<String>,
    created_at: i64,
    /// While this is set, its keys do not verify (`owner_disabled`), and none is issued to it.
    disabled_at: Option<i64>,
    /// Why; of a person as the name.
    disabled_reason: Option<String>,
    /// Its keys that were made until then are revoked.
    keys_revoked_at: Option<i64>,
    /// Why; of a person as the name.
    keys_revoked_reason: Option<String>,
}

impl OwnerView {
    /// A service or team, whole.
    fn of(principal: &Principal) -> Self {
        Self {
            kind: principal.kind.as_str(),
            id: principal.id.clone(),
            name: Some(principal.name.clone()),
            email: principal.email.as_ref().map(Email::to_string),
            created_at: principal.created_at,
            disabled_at: principal.disabled_at,
            disabled_reason: principal.disabled_reason.clone(),
            keys_revoked_at: principal.keys_revoked_at,
            keys_revoked_reason: principal.keys_revoked_reason.clone(),
        }
    }

    /// As much of it as this caller may see.
    fn seen_by(manager: &Manager, principal: &Principal) -> Self {
        let view = Self::of(principal);
        let is_person = principal.kind == OwnerKind::Person;
        if !is_person || manager.may(PEOPLE) || manager.is_own(&owner_of(principal)) {
            return view;
        }
        Self {
            name: None,
            disabled_reason: None,
            keys_revoked_reason: None,
            ..view
        }
    }
}

/// A page of owners.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnerPage {
    items: Vec<OwnerView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// An owner who was suspended, with the receipt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedOwnerView {
    #[serde(flatten)]
    owner: OwnerView,
    /// Which nodes refuse all of its keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

/// A service or team that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerToMake {
    /// `service` or `team`.
    kind: String,
    /// Its id, for good: 1 to 64 letters, digits, `.`, `-` and `_`, the first a letter or a digit.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    id: String,
    /// For people: 1 to 120 characters.
    name: String,
    /// Where notices about its keys go; to administrators if it is left out.
    email: Option<String>,
}

/// What is to change of a service or team; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerToChange {
    /// Another name.
    name: Option<String>,
    /// Another address for notices; empty for none.
    email: Option<String>,
}

/// Why, and how far.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DisableOwnerBody {
    /// Up to 500 characters; may be left out.
    reason: String,
    /// Suspend management keys of the owner too. Where there are some and this is not said, nothing is done: not
    /// even by mistake does anybody suspend the access that would put it right.
    root_keys: bool,
}

/// The tag of an owner as it is shown to those who may change it.
fn tag(seen: &Seen) -> Option<String> {
    match seen {
        Seen::Owner(principal) => Some(tag_of(&OwnerView::of(principal))),
        _ => None,
    }
}

fn is_person() -> Problem {
    let detail = "people are made and changed at /api/v1/users";
    Problem::bad_request("principal_is_user", detail)
}

/// An address, or none for an empty text.
fn email(text: &str) -> Result<Option<Email>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let email = Email::new(text).map(Some);
    email.map_err(|error| Problem::bad_request("invalid_email", error.to_string()))
}

/// The service or team, if the caller may change it.
async fn changeable(app: &App, manager: &Manager, id: &str) -> Result<Principal, Problem> {
    let principal = owner_for(app, manager, id, WRITE).await?;
    if principal.kind == OwnerKind::Person {
        return Err(is_person());
    }
    Ok(principal)
}

/// Owners of keys, in the order of their ids. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/owners", tag = "keys",
    params(
        ("kind" = Option<String>, Query, description = "`person`, `service` or `team`"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = OwnerPage))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    asked.known(&["kind", "cursor", "limit"])?;
    let kind = asked.text("kind").map(|text| {
        OwnerKind::parse(text).ok_or_else(|| invalid("kind", "person, service or team"))
    });
    let (kind, limit) = (kind.transpose()?, asked.limit()?);
    let after = asked.text("cursor").unwrap_or("");
    // One more tells whether there is another page.
    let found = app.registry.list_principals(kind, after, limit + 1);
    let mut found = found.await?;
    let length = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_last = found.len() <= length;
    found.truncate(length);
    let next_cursor = found.last().filter(|_| !is_last);
    Ok(private(&OwnerPage {
        next_cursor: next_cursor.map(|last| last.id.clone()),
        items: found
            .iter()
            .map(|one| OwnerView::seen_by(&manager, one))
            .collect(),
    }))
}

/// Makes a service or team that keys can be issued to. Needs `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/owners", tag = "keys", request_body = OwnerToMake,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses(
        (status = 201, description = "Made, with its `ETag`", body = OwnerView),
        (status = 200, description = "Made before by the same request", body = OwnerView),
        (status = 400, description = "`invalid_owner`, `invalid_name`, `invalid_email`; `principal_is_user` for a person"),
        (status = 409, description = "`owner_exists`, `idempotency_key_reused`"),
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    manager: Manager,
    Once { name, body }: Once<Body<OwnerToMake>>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let Body(asked) = body;
    let kind = OwnerKind::parse(&asked.kind)
        .ok_or_else(|| Problem::bad_request("invalid_owner", "an owner is a service or a team"))?;
    if kind == OwnerKind::Person {
        return Err(is_person());
    }
    let owner = Owner::to_be_made(kind, &asked.id)
        .map_err(|error| Problem::bad_request("invalid_owner", error.to_string()))?;
    let new = NewOwner {
        owner,
        name: asked.name,
        email: email(asked.email.as_deref().unwrap_or(""))?,
    };
    let actor = &manager.actor;
    let made = name.registry(&app, actor).create_owner(actor, &new).await;
    let principal = match done(made).map_err(problem)? {
        Done::Now(principal) => principal,
        Done::Before(id) => {
            let before = app.registry.find_principal(&id).await.map_err(gone)?;
            return Ok(replayed(shown(&OwnerView::of(&before))));
        }
    };
    let place = format!("/api/v1/owners/{}", principal.id);
    let location = [(header::LOCATION, app.settings.path(&place))];
    let answer = shown(&OwnerView::of(&principal));
    Ok((StatusCode::CREATED, location, answer).into_response())
}

/// An owner. Needs `keys:read`; people see themselves.
#[utoipa::path(
    get, path = "/api/v1/owners/{id}", tag = "keys",
    params(("id" = String, Path, description = "The owner"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses(
        (status = 200, description = "The owner, with the `ETag`", body = OwnerView),
        (status = 304, description = "As the caller has it"),
        (status = 404, description = "`owner_not_found`: there is none, or none that the caller may see"),
    )
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    let principal = owner_for(&app, &manager, &id, READ).await?;
    seen.show(&OwnerView::seen_by(&manager, &principal))
}

/// Gives a service or team another name or another address for notices. Needs `keys:write`.
#[utoipa::path(
    patch, path = "/api/v1/owners/{id}", tag = "keys", request_body = OwnerToChange,
    params(("id" = String, Path, description = "The service or team"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses(
        (status = 200, description = "Changed, with the `ETag`", body = OwnerView),
        (status = 400, description = "`invalid_name`, `invalid_email`; `principal_is_user` for a person"),
        (status = 404, description = "`owner_not_found`: there is none, or none that the caller may see"),
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
    )
)]
pub(crate) async fn change(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
    Body(asked): Body<OwnerToChange>,
) -> Result<Response, Problem> {
    changeable(&app, &manager, &id).await?;
    let change = PrincipalChange::Profile {
        name: asked.name,
        email: asked.email.as_deref().map(email).transpose()?,
    };
    let registry = seen.registry(&app, Thing::Owner(id.clone()), tag);
    let changed = registry.change_principal(&manager.actor, &id, &change);
    Ok(shown(&OwnerView::of(&changed.await.map_err(problem)?)))
}

/// Suspends a service or team: none of its keys verifies, however many there are, until it is enabled again. Needs
/// `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/owners/{id}/disable", tag = "keys", request_body = DisableOwnerBody,
    params(("id" = String, Path, description = "The service or team"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; 1000 if it is left out")),
    responses(
        (status = 200, description = "Its keys are refused from now on: here, and where the receipt says so", body = EndedOwnerView),
        (status = 400, description = "`reason_too_long`; `principal_is_user` for a person"),
        (status = 404, description = "`owner_not_found`: there is none, or none that the caller may see"),
        (status = 409, description = "`owner_has_root_keys`: management keys would be suspended too, and that was not said"),
    )
)]
pub(crate) async fn disable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    headers: HeaderMap,
    given: Result<Json<DisableOwnerBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = match given {
        Err(_) if !headers.contains_key(header::CONTENT_TYPE) => DisableOwnerBody::default(),
        given => body(given)?,
    };
    changeable(&app, &manager, &id).await?;
    if !asked.root_keys {
        check_root_keys(&app, &id).await?;
    }
    let change = PrincipalChange::Disable(asked.reason);
    let disabled = app.registry.change_principal(&manager.actor, &id, &change);
    let principal = disabled.await.map_err(problem)?;
    let owner = OwnerView::of(&principal);
    let tag = tag_of(&owner);
    let receipt = receipts::of(&app, principal.epoch, wait).await;
    Ok(tagged(private(&EndedOwnerView { owner, receipt }), &tag))
}

/// Ends the suspension of a service or team: its keys that did not end meanwhile verify again. Needs `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/owners/{id}/enable", tag = "keys",
    params(("id" = String, Path, description = "The service or team")),
    responses(
        (status = 200, description = "Enabled, with the `ETag`", body = OwnerView),
        (status = 400, description = "`principal_is_user` for a person"),
        (status = 404, description = "`owner_not_found`: there is none, or none that the caller may see"),
    )
)]
pub(crate) async fn enable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    changeable(&app, &manager, &id).await?;
    let change = PrincipalChange::Enable;
    let enabled = app.registry.change_principal(&manager.actor, &id, &change);
    Ok(shown(&OwnerView::of(&enabled.await.map_err(problem)?)))
}
