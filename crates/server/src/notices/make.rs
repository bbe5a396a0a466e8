//! Messages are made here: of the audit trail, of alerts, of campaigns, of notices and of overlaps that end.

use keywright_domain::audit::AuditAction;

use keywright_registry::outbox::{Channel, MadeOf, NewMessage, Webhook};
use keywright_registry::{Notice, RegistryError};

use super::{KEPT_MS, jobs, people};
use crate::nodes::background::is_left_to_others;
use crate::server::App;
use crate::webhooks::events::{self, Event};

/// Parts of the trail that one round goes through.
const PARTS: usize = 20;
/// What schedules made waits for somebody, which is written down even where nobody is told.
const MADE_BY_SCHEDULES: AuditAction = AuditAction::ApiKeyRotated;
const ALERTS: u32 = 100;
/// Notices that are taken together; they are this node's for ten minutes.
const NOTICES: u32 = 100;
const QUESTIONS: u32 = 500;
/// How often it is looked for what becomes due by itself.
const LOOK_EVERY_MS: i64 = 60_000;
/// AC-139: in the last hour of an overlap.
const BEFORE_CLOSE_MS: i64 = 60 * 60 * 1000;

/// Makes what there is to make.
///
/// # Errors
/// [`RegistryError`]: what was not made is made the next time.
pub(super) async fn all(app: &App) -> Result<(), RegistryError> {
    of_audit(app).await?;
    let webhooks = app.registry.list_webhooks().await?;
    of_alerts(app, &webhooks).await?;
    of_campaigns(app, &webhooks).await
}

/// Looks for what becomes due by itself, once a minute on one of the nodes. It may take long, and sending does not
/// wait for it. What fails keeps none of the rest from its turn.
///
/// # Errors
/// The first [`RegistryError`]: what was not made is made the next time.
pub(super) async fn what_is_due(app: &App) -> Result<(), RegistryError> {
    let job = "look_for_notices";
    if is_left_to_others(app) || !app.registry.claim_job(job, LOOK_EVERY_MS).await? {
        return Ok(());
    }
    // For those who look at the list, whether or not anybody is told by mail or webhook.
    let posted = app.registry.post_notices().await;
    let webhooks = app.registry.list_webhooks().await?;
    let told = of_notices(app, &webhooks).await;
    let warned = of_overlaps(app, &webhooks).await;
    let before = app.now().saturating_sub(KEPT_MS);
    let pruned = app.registry.prune_messages(before).await;
    app.notices.wake();
    posted.and(told).and(warned).and(pruned.map(|_| ()))
}

/// The messages about an event: to every webhook that wants it, and by mail.
async fn messages(
    app: &App,
    webhooks: &[Webhook],
    event: &Event,
) -> Result<Vec<NewMessage>, RegistryError> {
    // What happened before it was there is none of its business.
    let wanting = webhooks
        .iter()
        .filter(|one| one.wants(event.kind) && event.at >= one.created_at);
    let mut messages: Vec<_> = wanting
        .map(|webhook| NewMessage {
            event_id: event.id.clone(),
            event_type: event.kind.to_owned(),
            channel: Channel::Webhook,
            target: webhook.id.clone(),
            body: event.body(),
        })
        .collect();
    messages.extend(people::mails(app, event).await?);
    Ok(messages)
}

/// The actions that somebody is told of: what nobody hears of is passed without being read, however much it is.
pub(super) fn told(app: &App, webhooks: &[Webhook]) -> Vec<AuditAction> {
    let hears = |kind: &str| webhooks.iter().any(|one| one.wants(kind)) || people::hear(app, kind);
    let all = events::OF_AUDIT.iter();
    all.filter(|(action, kind)| *action == MADE_BY_SCHEDULES || hears(kind))
        .map(|(action, _)| *action)
        .collect()
}

async fn of_audit(app: &App) -> Result<(), RegistryError> {
    for _ in 0..PARTS {
        let Some(untold) = app.registry.untold_audit().await? else {
            return Ok(());
        };
        // After the end was looked for: a webhook that was there before an event is among them.
        let webhooks = app.registry.list_webhooks().await?;
        let actions = told(app, &webhooks);
        let feed = app.registry.read_audit_feed(&untold, &actions).await?;
        let mut made = Vec::new();
        for event in &feed.events {
            if let Some(event) = events::of_audit(event) {
                made.extend(messages(app, &webhooks, &event).await?);
            }
            if event.action == MADE_BY_SCHEDULES.as_str()
                && let Some(waits) = jobs::told_of(app, event).await?
            {
                made.extend(messages(app, &webhooks, &waits).await?);
            }
        }
        let part = MadeOf::Audit {
            from: feed.from,
            to: feed.to,
        };
        // Another node was faster: it does the rest too.
        if !app.registry.enqueue(part, made).await? || !feed.more {
            return Ok(());
        }
    }
    Ok(())
}

async fn of_alerts(app: &App, webhooks: &[Webhook]) -> Result<(), RegistryError> {
    for alert in app.registry.untold_alerts(ALERTS).await? {
        let made = match events::of_alert(&alert) {
            Some(event) => messages(app, webhooks, &event).await?,
            None => Vec::new(),
        };
        let of = MadeOf::Alert {
            id: alert.id,
            count: alert.count,
        };
        app.registry.enqueue(of, made).await?;
    }
    Ok(())
}

/// Owners are asked by campaigns. Where nobody can be told, the questions are listed all the same.
async fn of_campaigns(app: &App, webhooks: &[Webhook]) -> Result<(), RegistryError> {
    for asked in app.registry.untold_questions(QUESTIONS).await? {
        let event = events::of_questions(&asked, app.now());
        let made = messages(app, webhooks, &event).await?;
        let of = MadeOf::Questions {
            campaign_id: asked.campaign.id,
            key_ids: asked.keys.into_iter().map(|(id, _)| id).collect(),
        };
        match app.registry.enqueue(of, made).await {
            // Another node was faster.
            Ok(_) | Err(RegistryError::Changed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Notices are for people: where nobody can be told, they are left for whoever shows them.
async fn of_notices(app: &App, webhooks: &[Webhook]) -> Result<(), RegistryError> {
    let wanted = |one: &Webhook| one.wants("key.expiring") || one.wants("rotation.due");
    if !app.notices.has_mail() && !webhooks.iter().any(wanted) {
        return Ok(());
    }
    // As many as there are, in parts: what many keys share a day for is not for the day after.
    loop {
        let taken = app.registry.take_notices(NOTICES).await?;
        let is_last = taken.len() < NOTICES as usize;
        tell(app, webhooks, taken).await?;
        if is_last {
            return Ok(());
        }
    }
}

async fn tell(app: &App, webhooks: &[Webhook], notices: Vec<Notice>) -> Result<(), RegistryError> {
    for notice in notices {
        let made = messages(app, webhooks, &events::of_notice(&notice)).await?;
        if made.is_empty() {
            let why = "nobody has an address, and no webhook wants it";
            app.registry.mark_notice_failed(&notice.id, why).await?;
            continue;
        }
        let mut channels: Vec<_> = made.iter().map(|one| one.channel.as_str()).collect();
        channels.dedup();
        let of = MadeOf::Notice {
            id: notice.id.clone(),
            channel: channels.join(" and "),
        };
        app.registry.enqueue(of, made).await?;
    }
    Ok(())
}

async fn of_overlaps(app: &App, webhooks: &[Webhook]) -> Result<(), RegistryError> {
    for warning in app.registry.warnings_before_close(BEFORE_CLOSE_MS).await? {
        let event = events::of_overlap(&warning, app.now());
        let made = messages(app, webhooks, &event).await?;
        app.registry.enqueue(MadeOf::Else, made).await?;
    }
    Ok(())
}
