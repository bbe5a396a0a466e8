//! `/api/v1/webhooks`: who is told what, and where.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::SecretText;
use keywright_registry::outbox::{NewWebhook, Webhook, WebhookChange};
use keywright_registry::{Seen, Thing};
use url::Url;

use super::views::{WebhookList, WebhookToChange, WebhookToMake, WebhookView, WebhookWithSecret};
use super::{READ, SECRET_PURPOSE, WRITE, events, signature};
use crate::etags::{IfSeen, shown, tag_of};
use crate::keys::manager::Manager;
use crate::once::{Done, NoBody, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, private};

const LONGEST_ADDRESS: usize = 2_000;
/// How long the secret before signs as well.
const OVERLAP_MS: i64 = 24 * 60 * 60 * 1000;

/// An address that we may send to: https, or this machine where the settings allow it. Names are
/// looked up when something is sent.
fn address(app: &App, text: &str) -> Result<String, Problem> {
    let refuse = |why: &str| Problem::bad_request("invalid_webhook_url", why);
    if text.len() > LONGEST_ADDRESS {
        return Err(refuse("the address is too long"));
    }
    let url = Url::parse(text.trim()).map_err(|_| refuse("this is no address"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(refuse(
            "an address has no user name, password or fragment here",
        ));
    }
    app.rp
        .http
        .check(&url)
        .map_err(|error| refuse(&error.to_string()))?;
    Ok(url.into())
}

fn event_types(asked: &[String]) -> Result<Vec<String>, Problem> {
    let known = |one: &String| one == "*" || events::types().any(|kind| kind == one);
    if asked.is_empty() || !asked.iter().all(known) {
        let all: Vec<_> = events::types().collect();
        let detail = format!("events are one or more of *, {}", all.join(", "));
        return Err(Problem::bad_request("invalid_event_type", detail));
    }
    let mut types = asked.to_vec();
    types.sort();
    types.dedup();
    if types.iter().any(|one| one == "*") {
        types = vec!["*".to_owned()];
    }
    Ok(types)
}

/// The tag of a webhook as it is shown.
fn tag(seen: &Seen) -> Option<String> {
    match seen {
        Seen::Webhook(webhook) => Some(tag_of(&WebhookView::from(webhook.clone()))),
        _ => None,
    }
}

/// What was made or changed now, with its secret, or what an earlier request made, without it.
async fn with_secret(
    app: &App,
    came: Done<Webhook>,
    secret: &SecretText,
    status: StatusCode,
) -> Result<Response, Problem> {
    let (webhook, secret) = match came {
        Done::Now(webhook) => (webhook, Some(secret)),
        Done::Before(id) => (app.registry.find_webhook(&id).await.map_err(gone)?, None),
    };
    let is_new = secret.is_some();
    let mut response = private(&WebhookWithSecret {
        webhook: webhook.into(),
        secret: secret.map(|secret| secret.expose().to_owned()),
        secret_was_shown: !is_new,
    });
    if !is_new {
        return Ok(replayed(response));
    }
    *response.status_mut() = status;
    Ok(response)
}

/// All webhooks, and every type of event. Needs `webhooks:read`.
#[utoipa::path(
    get, path = "/api/v1/webhooks", tag = "webhooks",
    responses((status = 200, description = "All of them", body = WebhookList))
)]
pub(crate) async fn list(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    manager.require(READ)?;
    let items = app.registry.list_webhooks().await?.into_iter();
    Ok(private(&WebhookList {
        items: items.map(WebhookView::from).collect(),
        event_types: events::types().collect(),
    }))
}

/// Makes a webhook. Needs `webhooks:write`. The answer holds its secret, this once.
#[utoipa::path(
    post, path = "/api/v1/webhooks", tag = "webhooks", request_body = WebhookToMake,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses(
        (status = 201, description = "Made; the secret is shown once", body = WebhookWithSecret),
        (status = 200, description = "It was made before by the same request; its secret is not shown again", body = WebhookWithSecret),
        (status = 409, description = "`idempotency_key_reused`: the name stands for another request"),
        (status = 400, description = "`invalid_webhook_url`, `invalid_event_type`"),
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    manager: Manager,
    Once { name, body }: Once<Body<WebhookToMake>>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let Body(asked) = body;
    let secret = signature::new_secret();
    let new = NewWebhook {
        url: address(&app, &asked.url)?,
        events: event_types(&asked.events)?,
        description: asked.description,
        secret: app.secrets.seal(SECRET_PURPOSE, secret.expose().as_bytes()),
    };
    let registry = name.registry(&app, &manager.actor);
    let came = done(registry.add_webhook(&manager.actor, &new).await)?;
    with_secret(&app, came, &secret, StatusCode::CREATED).await
}

/// One webhook. Needs `webhooks:read`.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "The webhook", body = WebhookView), (status = 404, description = "`webhook_not_found`"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    seen.show(&WebhookView::from(app.registry.find_webhook(&id).await?))
}

/// Changes a webhook, or switches it on or off. Needs `webhooks:write`.
#[utoipa::path(
    patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", request_body = WebhookToChange,
    params(("id" = String, Path, description = "The webhook"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses((status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"), (status = 200, description = "Changed", body = WebhookView), (status = 404, description = "`webhook_not_found`"))
)]
pub(crate) async fn change(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
    Body(asked): Body<WebhookToChange>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let change = WebhookChange {
        url: asked.url.map(|url| address(&app, &url)).transpose()?,
        events: asked.events.map(|types| event_types(&types)).transpose()?,
        description: asked.description,
        enabled: asked.enabled,
    };
    let registry = seen.registry(&app, Thing::Webhook(id.clone()), tag);
    let changed = registry.change_webhook(&manager.actor, &id, &change);
    let changed = changed.await?;
    // Another address, or the receiver was mended: what it said before does not count.
    app.notices.holds.release(&id);
    Ok(shown(&WebhookView::from(changed)))
}

/// Removes a webhook; what waits for it is given up. Needs `webhooks:write`.
#[utoipa::path(
    delete, path = "/api/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses((status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"), (status = 204, description = "Removed"), (status = 404, description = "`webhook_not_found`"))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<StatusCode, Problem> {
    manager.require(WRITE)?;
    let registry = seen.registry(&app, Thing::Webhook(id.clone()), tag);
    registry.remove_webhook(&manager.actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a webhook a new secret. For a day, requests carry the signatures of both. Needs
/// `webhooks:write`.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/rotate-secret", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses((status = 200, description = "The secret is shown once", body = WebhookWithSecret), (status = 404, description = "`webhook_not_found`"))
)]
pub(crate) async fn rotate_secret(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    Once { name, .. }: Once<NoBody>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let secret = signature::new_secret();
    let sealed = app.secrets.seal(SECRET_PURPOSE, secret.expose().as_bytes());
    let registry = name.registry(&app, &manager.actor);
    let rotated = registry.rotate_webhook_secret(&manager.actor, &id, &sealed, OVERLAP_MS);
    let came = done(rotated.await)?;
    with_secret(&app, came, &secret, StatusCode::OK).await
}
