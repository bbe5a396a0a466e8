//! `/api/v1/clients`. Whoever makes or changes a client, or gets its secret, can act as it, and so must
//! hold every permission that it may ask for; taking away needs `clients:write` only.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::base62::random_id;
use keywright_domain::people::{Client, NewClient, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_domain::scopes::Scope;
use keywright_registry::people::ClientSecretRecord;
use keywright_registry::{Seen, Thing};

use super::description::ClientError;
use super::views::{
    ClientList, ClientMade, ClientSaid, ClientSecretView, ClientToAdd, ClientWithSecrets,
    SecretToRotate, TokensEnded,
};
use super::{ClientChanges, READ, WRITE};
use crate::etags::{IfSeen, tag_of, tagged};
use crate::keys::manager::Manager;
use crate::once::{Done, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions;
use crate::sessions::api::{Body, PageAsked, private};
use crate::set_up::{BROWSER_CLIENT, DESKTOP_CLIENT};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const LONGEST_OVERLAP_MS: i64 = 30 * DAY_MS;

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        Self::bad_request("invalid_client_metadata", error.to_string()).with("field", error.field)
    }
}

/// Refuses a caller who does not hold what the client may ask for: with its secret or its address they
/// would take over what is not theirs to give.
fn require_holds(manager: &Manager, client: &NewClient) -> Result<(), Problem> {
    // What is no permission of ours (openid, a scope of another resource's own form) gives none.
    let permissions = client.scopes.as_slice().iter();
    let mut permissions = permissions.filter(|text| Scope::new(text).is_ok());
    let Some(more) = permissions.find(|text| !manager.may(text)) else {
        return Ok(());
    };
    // It is written down as any other refusal.
    manager.require(more).map_err(|_| {
        let detail = format!("the client may ask for {more}, which you do not hold yourself");
        Problem::new(StatusCode::FORBIDDEN, "exceeds_own_permissions", detail)
    })
}

/// One page of clients, by name. Needs `clients:read`.
#[utoipa::path(
    get, path = "/api/v1/clients", tag = "clients",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
        ("text" = Option<String>, Query, description = "Part of a name or an id"),
    ),
    responses((status = 200, description = "One page", body = ClientList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: PageAsked,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let text = asked.params.get("text").unwrap_or("");
    let page = app
        .registry
        .list_clients(text, asked.cursor.as_deref(), asked.limit)
        .await?;
    Ok(private(&ClientList {
        items: page.items.iter().map(Into::into).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Adds a client. Needs `clients:write`, and every permission that it may ask for. Where it proves
/// itself by a secret, the answer holds it, this once.
#[utoipa::path(
    post, path = "/api/v1/clients", tag = "clients", request_body = ClientToAdd,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses(
        (status = 200, description = "Added before by the same request; the secret is not shown again", body = ClientMade),
        (status = 201, description = "Added; the secret is shown once", body = ClientMade),
        (status = 400, description = "`invalid_client_metadata`, `invalid_redirect_uri`, `invalid_name`"),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 409, description = "`client_id_taken`, `idempotency_key_reused`"),
    )
)]
pub(crate) async fn add(
    State(app): State<App>,
    manager: Manager,
    Once { name, body }: Once<Body<ClientToAdd>>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let Body(asked) = body;
    let id = asked
        .client_id
        .unwrap_or_else(|| random_id(&mut rand::rng()));
    let new = ClientChanges::from(asked.said).into_new(&id)?;
    require_holds(&manager, &new)?;
    let secret = new
        .auth_method
        .needs_secret()
        .then(|| random_token(&mut rand::rng()));
    let digest = secret.as_ref().map(TokenDigest::of);
    let registry = name.registry(&app, &manager.actor);
    let added = registry.add_client(&manager.actor, &id, &new, digest.as_ref());
    let client = match done(added.await)? {
        Done::Now(client) => client,
        Done::Before(id) => return made_before(&app, &id).await,
    };
    let mut response = private(&ClientMade {
        client: (&client).into(),
        client_secret: secret.map(|secret| secret.expose().to_owned()),
        secret_was_shown: false,
    });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// One client, with its secrets that work now, without the secrets. Needs `clients:read`.
#[utoipa::path(
    get, path = "/api/v1/clients/{id}", tag = "clients",
    params(("id" = String, Path, description = "`client_id`"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "The client", body = ClientWithSecrets), (status = 404, description = "`client_not_found`"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let client = app.registry.find_client(&id).await?;
    let secrets = app.registry.list_client_secrets(&id).await?;
    seen.show(&with_secrets(&client, secrets))
}

fn with_secrets(client: &Client, secrets: Vec<ClientSecretRecord>) -> ClientWithSecrets {
    ClientWithSecrets {
        client: client.into(),
        secrets: secrets.into_iter().map(ClientSecretView::from).collect(),
    }
}

fn tag(seen: &Seen) -> Option<String> {
    match seen {
        Seen::Client(client, secrets) => Some(tag_of(&with_secrets(client, secrets.clone()))),
        _ => None,
    }
}

/// Changes a client; what is left out stays. Needs `clients:write`, and every permission that it may
/// ask for, before and after. A client stays public or confidential. One that proves itself by a
/// secret from now on gets one, shown this once. What it was given stays: `revoke-tokens` ends it.
#[utoipa::path(
    patch, path = "/api/v1/clients/{id}", tag = "clients", request_body = ClientSaid,
    params(("id" = String, Path, description = "`client_id`"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 200, description = "Changed", body = ClientMade),
        (status = 400, description = "`invalid_client_metadata`, `invalid_redirect_uri`, `invalid_name`"),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 404, description = "`client_not_found`"),
        (status = 409, description = "`changed_meanwhile`: somebody else changed it meanwhile"),
    )
)]
pub(crate) async fn change(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
    Body(said): Body<ClientSaid>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let before = app.registry.find_client(&id).await?;
    require_holds(&manager, &before.settings)?;
    let new = ClientChanges::from(said).apply(before.settings.clone())?;
    require_holds(&manager, &new)?;
    // Written with the change: a client that needs a secret is never without.
    let secret = random_token(&mut rand::rng());
    let digest = TokenDigest::of(&secret);
    let changed = seen
        .registry(&app, Thing::Client(id.clone()), tag)
        .change_client_with(&manager.actor, &id, &new, Some(&before), Some(&digest))
        .await?;
    let (client, secrets) = (changed.client, changed.secrets);
    let response = private(&ClientMade {
        client: (&client).into(),
        client_secret: changed.took_secret.then(|| secret.expose().to_owned()),
        secret_was_shown: false,
    });
    // Of the client and its secrets as this request left them: what somebody changed since is another state.
    Ok(tagged(response, &tag_of(&with_secrets(&client, secrets))))
}

/// Disables a client: it gets nothing more, its refresh families are revoked, and its live access
/// tokens are denied. Needs `clients:write`.
#[utoipa::path(
    post, path = "/api/v1/clients/{id}/disable", tag = "clients",
    params(("id" = String, Path, description = "`client_id`")),
    responses((status = 200, description = "Disabled", body = TokensEnded), (status = 404, description = "`client_not_found`"))
)]
pub(crate) async fn disable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let grants_revoked = app.registry.disable_client(&manager.actor, &id).await?;
    sessions::catch_up(&app).await?;
    Ok(private(&TokensEnded { grants_revoked }))
}

/// Enables a client again; what ended stays so. Needs `clients:write`, and every permission that it may
/// ask for.
#[utoipa::path(
    post, path = "/api/v1/clients/{id}/enable", tag = "clients",
    params(("id" = String, Path, description = "`client_id`")),
    responses(
        (status = 204, description = "Enabled"),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 404, description = "`client_not_found`"),
    )
)]
pub(crate) async fn enable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    manager.require(WRITE)?;
    let client = app.registry.find_client(&id).await?;
    require_holds(&manager, &client.settings)?;
    app.registry.enable_client(&manager.actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a client another secret, shown this once. The one before works on for `overlap_ms`; with
/// `compromised` it ends now, with the client's refresh families and live access tokens. Needs
/// `clients:write`, and every permission that the client may ask for.
#[utoipa::path(
    post, path = "/api/v1/clients/{id}/rotate-secret", tag = "clients", request_body = SecretToRotate,
    params(("id" = String, Path, description = "`client_id`"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses(
        (status = 200, description = "The secret is shown once", body = ClientMade),
        (status = 400, description = "`invalid_overlap`; `invalid_client_metadata`: it has no secrets"),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 404, description = "`client_not_found`"),
        (status = 409, description = "`idempotency_key_reused`"),
    )
)]
pub(crate) async fn rotate_secret(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    Once { name, body }: Once<Body<SecretToRotate>>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let Body(asked) = body;
    let overlap = asked
        .overlap_ms
        .unwrap_or(if asked.compromised { 0 } else { DAY_MS });
    if !(0..=LONGEST_OVERLAP_MS).contains(&overlap) || (asked.compromised && overlap > 0) {
        let detail =
            "overlap_ms is 0 to 2592000000, and 0 for a secret that somebody else may have";
        return Err(Problem::bad_request("invalid_overlap", detail));
    }
    let client = app.registry.find_client(&id).await?;
    require_holds(&manager, &client.settings)?;
    let secret = random_token(&mut rand::rng());
    let digest = TokenDigest::of(&secret);
    let (registry, actor) = (name.registry(&app, &manager.actor), &manager.actor);
    let rotated = if asked.compromised {
        let replaced = registry.replace_client_secret(actor, &id, &digest);
        replaced.await.map(drop)
    } else {
        let rotated = registry.rotate_client_secret(actor, &id, &digest, overlap);
        rotated.await
    };
    if let Done::Before(id) = done(rotated)? {
        return made_before(&app, &id).await;
    }
    if asked.compromised {
        sessions::catch_up(&app).await?;
    }
    let client = app.registry.find_client(&id).await?;
    Ok(private(&ClientMade {
        client: client.as_ref().into(),
        client_secret: Some(secret.expose().to_owned()),
        secret_was_shown: false,
    }))
}

/// A client whose secret an earlier answer to the same request held.
async fn made_before(app: &App, id: &str) -> Result<Response, Problem> {
    let client = app.registry.find_client(id).await.map_err(gone)?;
    Ok(replayed(private(&ClientMade {
        client: client.as_ref().into(),
        client_secret: None,
        secret_was_shown: client.settings.auth_method.needs_secret(),
    })))
}

/// Ends all that a client was given, and leaves the client: its refresh families are revoked, and its
/// live access tokens are denied. Needs `clients:write`.
#[utoipa::path(
    post, path = "/api/v1/clients/{id}/revoke-tokens", tag = "clients",
    params(("id" = String, Path, description = "`client_id`")),
    responses((status = 200, description = "Ended", body = TokensEnded), (status = 404, description = "`client_not_found`"))
)]
pub(crate) async fn revoke_tokens(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let grants_revoked = app.registry.end_client_tokens(&manager.actor, &id).await?;
    sessions::catch_up(&app).await?;
    Ok(private(&TokensEnded { grants_revoked }))
}

/// Removes a client with its secrets and what people allowed it; what it was given ends as when it is
/// disabled. Its id is free again, so whoever may not act as it disables it. Needs `clients:write`, and
/// every permission that it may ask for.
#[utoipa::path(
    delete, path = "/api/v1/clients/{id}", tag = "clients",
    params(("id" = String, Path, description = "`client_id`"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 204, description = "Removed"),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 404, description = "`client_not_found`"),
        (status = 409, description = "`client_built_in`: it came with the server, and can be disabled"),
    )
)]
pub(crate) async fn remove(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<StatusCode, Problem> {
    manager.require(WRITE)?;
    if id == BROWSER_CLIENT || id == DESKTOP_CLIENT {
        let detail = "this client came with the server: disable it";
        let status = StatusCode::CONFLICT;
        return Err(Problem::new(status, "client_built_in", detail));
    }
    // Its id is free afterwards, and whoever takes it is that client for every service that trusts its `sub`.
    let client = app.registry.find_client(&id).await?;
    require_holds(&manager, &client.settings)?;
    let registry = seen.registry(&app, Thing::Client(id.clone()), tag);
    registry.remove_client(&manager.actor, &id).await?;
    sessions::catch_up(&app).await?;
    Ok(StatusCode::NO_CONTENT)
}
