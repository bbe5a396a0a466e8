//! Issuing keys.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::format::ROOT_PREFIX;
use keywright_domain::api_keys::lifecycle::NewApiKey;
use keywright_domain::api_keys::{Environment, Owner, OwnerKind};
use keywright_registry::{IdempotencyKey, IssuedOnce, RegistryError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::manager::{Manager, peppers};
use super::rotate::idempotency_key;
use super::settings::SettingsBody;
use super::views::{ClientSecretBody, IssuedView, OwnerBody, problem};
use crate::problem::Problem;
use crate::server::App;

/// A wish for a key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssueBody {
    /// 1 to 120 characters.
    #[schema(min_length = 1)]
    name: String,
    /// `sk_live`, `sk_test`, `pk_live`, `pk_test`, or one of your own.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_]{0,14}[A-Za-z0-9]$")]
    prefix: String,
    /// What it may do: at least one scope of the catalogue.
    #[serde(default)]
    scopes: Vec<String>,
    /// How long it lives, in milliseconds; 90 days if it is left out.
    #[schema(minimum = 86400000, maximum = 31536000000i64)]
    lifetime_ms: Option<i64>,
    /// It never expires (needs a policy that allows it, or `keys:*`).
    #[serde(default)]
    never_expires: bool,
    /// Where it may be used; by its prefix, if it is left out.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,31}$")]
    environment: Option<String>,
    /// Who answers for it; the caller, if it is left out.
    owner: Option<OwnerBody>,
    /// From when it verifies (Unix ms).
    not_before: Option<i64>,
    /// Limits, networks, origins, labels, credits.
    #[serde(default)]
    settings: SettingsBody,
    /// A secret that the caller made; we make one otherwise.
    client_secret: Option<ClientSecretBody>,
}

const DEFAULT_LIFETIME_MS: i64 = 90 * keywright_domain::api_keys::DAY_MS;

/// A body that does not fit, as a refusal of ours.
pub(crate) fn body<T>(given: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    match given {
        Ok(Json(body)) => Ok(body),
        Err(rejection) => {
            let mut problem = Problem::bad_request("invalid_body", rejection.body_text());
            problem.status = match rejection.status() {
                StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                status => status,
            };
            Err(problem)
        }
    }
}

/// The domain's settings, or which rule they break.
pub(crate) fn settings(
    body: &SettingsBody,
) -> Result<keywright_domain::api_keys::KeySettings, Problem> {
    let settings = body
        .read()
        .map_err(|error| problem(RegistryError::Key(error.into())))?;
    Ok(settings)
}

/// Issues a key. The answer holds its secret, this once. With an `Idempotency-Key`, the same request
/// again is answered with the same key and `secret_was_shown`: a secret that got lost with an answer
/// is not stored anywhere. Revoke that key, or let the client make its secrets.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "keys", request_body = IssueBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "8 to 64 letters, digits, dots, dashes or underscores; remembered for seven days, for each caller")),
    responses(
        (status = 201, description = "Issued", body = IssuedView),
        (status = 200, description = "It was issued before by the same request; its secret is not shown again", body = IssuedView),
        (status = 409, description = "The Idempotency-Key was used with another request"),
        (status = 400, description = "A rule or policy is broken; the code says which"),
        (status = 403, description = "Not allowed, or more than the caller holds"),
    )
)]
pub(crate) async fn issue(
    State(app): State<App>,
    manager: Manager,
    headers: HeaderMap,
    given: Result<Json<IssueBody>, JsonRejection>,
) -> Result<Response, Problem> {
    manager.require_own("keys:write")?;
    let body = body(given)?;
    let name = idempotency_key(&headers)?;
    let mut wish = wish(&manager, &body)?;
    if wish.management {
        wish.creator = manager.maker(&app).await?;
    }
    let peppers = peppers(&app)?;
    let (registry, actor) = (&app.registry, &manager.actor);
    let client = body.client_secret.as_ref().map(|secret| secret.read());
    let client = client.transpose()?;
    let (key, plain, is_new) = match (&client, name) {
        (client, Some(name)) => {
            let request = digest(&body)?;
            let once = IdempotencyKey { name, request };
            let issued =
                registry.issue_api_key_once(actor, &wish, client.as_ref(), &once, &peppers);
            match issued.await.map_err(problem)? {
                IssuedOnce::Now { key, plain } => (key, plain, true),
                IssuedOnce::Before(key) => (key, None, false),
            }
        }
        (Some(secret), None) => {
            let issued = registry.issue_api_key_for(actor, &wish, secret, &peppers);
            (issued.await.map_err(problem)?, None, true)
        }
        (None, None) => {
            let issued = registry.issue_api_key(actor, &wish, &peppers);
            let issued = issued.await.map_err(problem)?;
            (issued.key, Some(issued.plain), true)
        }
    };
    let headers = [
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (
            header::LOCATION,
            app.settings.path(&format!("/api/v1/keys/{}", key.id)),
        ),
    ];
    let mut view = IssuedView::of(&key, plain.as_ref(), app.now());
    let status = if is_new {
        StatusCode::CREATED
    } else {
        view.secret_was_shown = client.is_none();
        StatusCode::OK
    };
    Ok((status, headers, Json(view)).into_response())
}

/// SHA-256 of what is asked for, however it was written.
fn digest(body: &IssueBody) -> Result<[u8; 32], Problem> {
    let text = serde_json::to_vec(body).map_err(|_| {
        Problem::bad_request("invalid_body", "the body is not what this address takes")
    })?;
    Ok(Sha256::digest(text).into())
}

fn wish(manager: &Manager, body: &IssueBody) -> Result<NewApiKey, Problem> {
    let everybody = manager.may("keys:write");
    let owner = match (&body.owner, &manager.person) {
        (Some(owner), _) => Some(owner.read()?),
        (None, Some(person)) => Some(Owner {
            kind: OwnerKind::Person,
            id: person.clone(),
        }),
        // A program's keys are the registry's own.
        (None, None) => None,
    };
    if !everybody && !owner.as_ref().is_some_and(|owner| manager.is_own(owner)) {
        manager.require("keys:write")?;
    }
    let management = body.prefix.trim() == ROOT_PREFIX;
    manager.check_grant(&body.scopes, management)?;
    if management {
        // A root key can do what its scopes say to the registry itself.
        manager.require("keys:*")?;
    }
    let environment = body
        .environment
        .as_deref()
        .map(Environment::new)
        .transpose();
    let environment = environment
        .map_err(|error| Problem::bad_request("invalid_environment", error.to_string()))?;
    Ok(NewApiKey {
        name: body.name.clone(),
        prefix: body.prefix.clone(),
        scopes: body.scopes.clone(),
        lifetime_ms: match (body.never_expires, body.lifetime_ms) {
            (true, None) => None,
            (true, Some(_)) => {
                let detail = "a key has a lifetime or never expires, not both";
                return Err(Problem::bad_request("invalid_body", detail));
            }
            (false, given) => Some(given.unwrap_or(DEFAULT_LIFETIME_MS)),
        },
        allow_never_expires: body.never_expires && manager.may("keys:*"),
        environment,
        owner,
        creator: manager.person.clone(),
        not_before: body.not_before,
        settings: settings(&body.settings)?,
        management,
    })
}
