//! What came of deliveries, a test, and sending one again.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::base62::random_id;
use keywright_registry::outbox::{
    Attempt, Channel, MadeOf, Message, MessageFilter, MessageState, NewMessage, Resent, Webhook,
};

use super::views::{
    AttemptView, DeliveriesSentAgain, DeliveriesToSendAgain, DeliveryList, DeliveryView,
    DeliveryWithAttempts,
};
use super::{READ, WRITE, events};
use crate::keys::manager::Manager;
use crate::once::{Done, NoBody, Once, done, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, PageAsked, private};

fn not_found() -> Problem {
    Problem::not_found("message_not_found", "there is no delivery with this id")
}

/// A webhook that is told something.
async fn enabled(app: &App, id: &str) -> Result<Webhook, Problem> {
    let webhook = app.registry.find_webhook(id).await?;
    if webhook.disabled_at.is_some() {
        let detail = "this webhook is switched off: switch it on first";
        let status = StatusCode::CONFLICT;
        return Err(Problem::new(status, "webhook_disabled", detail));
    }
    Ok(webhook)
}

/// A delivery of this webhook.
async fn delivery_of(
    app: &App,
    id: &str,
    delivery: &str,
) -> Result<(Message, Vec<Attempt>), Problem> {
    let (message, attempts) = app.registry.find_message(delivery).await?;
    if message.channel != Channel::Webhook || message.target != id {
        return Err(not_found());
    }
    Ok((message, attempts))
}

fn accepted(message: Message) -> Response {
    let mut response = private(&DeliveryView::from(message));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// What a list's address asks for.
fn filter(asked: &PageAsked) -> Result<MessageFilter, Problem> {
    let refuse = |name: &'static str, detail: &str| {
        let detail = format!("{name}: {detail}");
        Problem::bad_request("invalid_parameter", detail).with("parameter", name)
    };
    let state = asked.params.get("state").map(|text| {
        MessageState::parse(text).ok_or_else(|| refuse("state", "waiting, delivered or failed"))
    });
    let since = asked.params.get("since").map(|text| {
        text.parse::<i64>()
            .map_err(|_| refuse("since", "a time in Unix milliseconds"))
    });
    Ok(MessageFilter {
        state: state.transpose()?,
        since: since.transpose()?,
    })
}

/// The deliveries of a webhook, newest first; they are kept for 30 days. Needs `webhooks:read`.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}/deliveries", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The webhook"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100"),
        ("state" = Option<String>, Query, description = "waiting, delivered or failed"),
        ("since" = Option<i64>, Query, description = "Those made at this moment (Unix ms) or later"),
    ),
    responses((status = 200, description = "One page", body = DeliveryList), (status = 400, description = "`invalid_parameter`"), (status = 404, description = "`webhook_not_found`"))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    asked: PageAsked,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let filter = filter(&asked)?;
    app.registry.find_webhook(&id).await?;
    let cursor = asked.cursor.as_deref();
    let page = app
        .registry
        .list_messages_of(Channel::Webhook, &id, filter, cursor, asked.limit);
    let (items, next_cursor) = page.await?;
    Ok(private(&DeliveryList {
        items: items.into_iter().map(DeliveryView::from).collect(),
        next_cursor,
    }))
}

/// One delivery with all its tries. Needs `webhooks:read`.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}/deliveries/{delivery}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook"), ("delivery" = String, Path, description = "The delivery")),
    responses((status = 200, description = "With its tries", body = DeliveryWithAttempts), (status = 404, description = "`message_not_found`"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path((id, delivery)): Path<(String, String)>,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let (message, attempts) = delivery_of(&app, &id, &delivery).await?;
    Ok(private(&DeliveryWithAttempts {
        delivery: message.into(),
        attempts: attempts.into_iter().map(AttemptView::from).collect(),
    }))
}

/// Sends a delivery again, whatever came of it. The receiver sees the same `webhook-id`. Needs
/// `webhooks:write`.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook"), ("delivery" = String, Path, description = "The delivery"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses((status = 202, description = "It is on its way", body = DeliveryView), (status = 409, description = "`webhook_disabled`"))
)]
pub(crate) async fn redeliver(
    State(app): State<App>,
    manager: Manager,
    Path((id, delivery)): Path<(String, String)>,
    Once { name, .. }: Once<NoBody>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    enabled(&app, &id).await?;
    let (message, _) = delivery_of(&app, &id, &delivery).await?;
    let registry = name.registry(&app, &manager.actor);
    match done(registry.resend_message(&message.id).await)? {
        Done::Now(message) => {
            // Whoever asks for it expects that it arrives.
            app.notices.holds.release(&id);
            app.notices.wake();
            Ok(accepted(message))
        }
        Done::Before(_) => Ok(replayed(accepted(message))),
    }
}

/// Sends all deliveries again that failed since a moment, at most 5,000 at once, the oldest first: for a receiver that
/// was away for days. It sees the same `webhook-id` as before. Needs `webhooks:write`.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/deliveries/redeliver", tag = "webhooks", request_body = DeliveriesToSendAgain,
    params(("id" = String, Path, description = "The webhook"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses((status = 202, description = "They are on their way", body = DeliveriesSentAgain), (status = 400, description = "`invalid_body`"), (status = 409, description = "`webhook_disabled`"))
)]
pub(crate) async fn redeliver_failed(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    Once {
        name,
        body: Body(asked),
    }: Once<Body<DeliveriesToSendAgain>>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    if MessageState::parse(&asked.state) != Some(MessageState::Failed) {
        let detail = "state is failed: what waits or was delivered is not sent again";
        return Err(Problem::bad_request("invalid_body", detail));
    }
    enabled(&app, &id).await?;
    let registry = name.registry(&app, &manager.actor);
    let resent = registry.resend_failed(Channel::Webhook, &id, asked.since);
    let (resent, is_new) = match done(resent.await)? {
        Done::Now(resent) => (resent, true),
        Done::Before(made) => {
            let resent = Resent::parse(&made).ok_or_else(crate::problem::store_unavailable)?;
            (resent, false)
        }
    };
    if is_new && resent.count > 0 {
        // Whoever asks for it expects that it arrives.
        app.notices.holds.release(&id);
        app.notices.wake();
    }
    let mut response = private(&DeliveriesSentAgain {
        count: resent.count,
        left: resent.left,
    });
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(if is_new { response } else { replayed(response) })
}

/// Sends an event that says it is a test. Needs `webhooks:write`.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses((status = 202, description = "It is on its way", body = DeliveryView), (status = 409, description = "`webhook_disabled`"))
)]
pub(crate) async fn test(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    Once { name, .. }: Once<NoBody>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let webhook = enabled(&app, &id).await?;
    let event = events::test(&random_id(&mut rand::rng()), app.now());
    let message = NewMessage {
        event_id: event.id.clone(),
        event_type: event.kind.to_owned(),
        channel: Channel::Webhook,
        target: webhook.id,
        body: event.body(),
    };
    let registry = name.registry(&app, &manager.actor);
    let came = done(registry.enqueue(MadeOf::Else, vec![message]).await)?;
    if let Done::Before(delivery) = came {
        let (message, _) = delivery_of(&app, &id, &delivery).await?;
        return Ok(replayed(accepted(message)));
    }
    app.notices.holds.release(&id);
    app.notices.wake();
    let made = app
        .registry
        .find_message_of(Channel::Webhook, &id, &event.id);
    Ok(accepted(made.await?))
}
