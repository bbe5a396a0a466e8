//! Webhooks and deliveries on the wire. Times are Unix milliseconds.

use keywright_registry::outbox::{Attempt, Message, Webhook};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A webhook. Its secret is shown once, where it is made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookView {
    /// Stable id.
    id: String,
    /// Where events go.
    url: String,
    /// Which events; `*` for all.
    events: Vec<String>,
    /// For people.
    description: String,
    /// Whether it is told anything.
    enabled: bool,
    /// Why not.
    disabled_reason: Option<String>,
    /// Since when.
    disabled_at: Option<i64>,
    /// Since when nothing could be delivered.
    failing_since: Option<i64>,
    /// Events that it was never told, because too many waited for it.
    dropped_count: i64,
    /// When that happened last.
    dropped_at: Option<i64>,
    /// Until when the secret before signs as well; 0 for not at all.
    old_secret_until: i64,
    /// Who made it.
    created_by: String,
    /// When.
    created_at: i64,
    /// When somebody changed it.
    changed_at: i64,
}

impl From<Webhook> for WebhookView {
    fn from(one: Webhook) -> Self {
        Self {
            id: one.id,
            url: one.url,
            events: one.events,
            description: one.description,
            enabled: one.disabled_at.is_none(),
            disabled_reason: one.disabled_reason,
            disabled_at: one.disabled_at,
            failing_since: one.failing_since,
            dropped_count: one.dropped_count,
            dropped_at: one.dropped_at,
            old_secret_until: one.old_secret_until,
            created_by: one.created_by,
            created_at: one.created_at,
            changed_at: one.changed_at,
        }
    }
}

/// All webhooks: there are at most 100.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookList {
    pub(crate) items: Vec<WebhookView>,
    /// Every type of event there is.
    pub(crate) event_types: Vec<&'static str>,
}

/// A webhook with its new secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookWithSecret {
    pub(crate) webhook: WebhookView,
    /// `whsec_…`: what requests are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// This answers a request that was answered before. The secret was in that answer and is in no
    /// other: if it got lost, make another one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secret_was_shown: bool,
}

/// A wish for a webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookToMake {
    /// https.
    pub(crate) url: String,
    /// Types of events; `*` for all.
    pub(crate) events: Vec<String>,
    /// For people; up to 200 characters.
    #[serde(default)]
    pub(crate) description: String,
}

/// What is to change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebhookToChange {
    /// https.
    pub(crate) url: Option<String>,
    /// Types of events.
    pub(crate) events: Option<Vec<String>>,
    /// For people.
    pub(crate) description: Option<String>,
    /// Whether it is told anything.
    pub(crate) enabled: Option<bool>,
}

/// One delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    /// Stable id.
    id: String,
    /// `webhook-id`: the same in every try.
    event_id: String,
    /// Type of the event.
    event_type: String,
    /// `waiting`, `delivered` or `failed`.
    state: &'static str,
    /// How often it was tried.
    attempts: i64,
    /// When it was made.
    made_at: i64,
    /// The next try, while it waits.
    next_try_at: Option<i64>,
    /// When it arrived or was given up.
    ended_at: Option<i64>,
}

impl From<Message> for DeliveryView {
    fn from(one: Message) -> Self {
        Self {
            next_try_at: one.ended_at.is_none().then_some(one.due_at),
            id: one.id,
            event_id: one.event_id,
            event_type: one.event_type,
            state: one.state.as_str(),
            attempts: one.attempts,
            made_at: one.made_at,
            ended_at: one.ended_at,
        }
    }
}

/// One try.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptView {
    /// 1 for the first.
    attempt: i64,
    /// When.
    at: i64,
    /// How long it took.
    duration_ms: i64,
    /// Status of the answer, if there was one.
    status: Option<i64>,
    /// Why it failed.
    error: Option<String>,
    /// The beginning of the answer.
    excerpt: String,
}

impl From<Attempt> for AttemptView {
    fn from(one: Attempt) -> Self {
        Self {
            attempt: one.attempt,
            at: one.at,
            duration_ms: one.duration_ms,
            status: one.status,
            error: one.error,
            excerpt: one.excerpt,
        }
    }
}

/// One page of deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    pub(crate) items: Vec<DeliveryView>,
    pub(crate) next_cursor: Option<String>,
}

/// Which deliveries are sent again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveriesToSendAgain {
    /// `failed`: those that are not tried any more.
    pub(crate) state: String,
    /// Of those made at this moment or later; 0 for all that the log has.
    pub(crate) since: i64,
}

/// What is sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveriesSentAgain {
    /// So many are on their way, the oldest of those that were asked for: at most 5,000.
    pub(crate) count: i64,
    /// So many are left: ask again for them.
    pub(crate) left: i64,
}

/// A delivery with its tries, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryWithAttempts {
    pub(crate) delivery: DeliveryView,
    pub(crate) attempts: Vec<AttemptView>,
}
