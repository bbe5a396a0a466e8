//! Messages are made here: of the audit trail, of alerts, of campaigns, of notices and of overlaps that end.

use std::collections::HashSet;

use keywright_domain::audit::AuditAction;

use keywright_registry::outbox::{Channel, MadeOf, NewMessage, Webhook};
use keywright_registry::{Notice, OverlapWarning, RegistryError};

use super::digest::{Digests, Part, Parts};
use super::{KEPT_MS, jobs, people};
use crate::nodes::background::is_left_to_others;
use crate::server::App;
use crate::webhooks::events::{self, Event, OVERLAP_CLOSING};

/// Parts of the trail that one round goes through.
const PARTS: usize = 20;
/// What schedules made waits for somebody, which is written down even where nobody is told.
const MADE_BY_SCHEDULES: AuditAction = AuditAction::ApiKeyRotated;
const ALERTS: u32 = 100;
/// Notices that are taken together; they are this node's for ten minutes.
const NOTICES: u32 = 100;
/// Overlaps that are told in one transaction.
const OVERLAPS: usize = 100;
const QUESTIONS: u32 = 500;
/// Transactions in which one look removes old messages.
const PRUNED_BATCHES: usize = 50;
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
    // From when they were asked it is counted how long owners have: not by a clock that is wrong.
    if is_left_to_others(app) {
        return Ok(());
    }
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
    let done = make_what_is_due(app).await;
    app.operations.metrics.job_ended(job, &done);
    done
}

async fn make_what_is_due(app: &App) -> Result<(), RegistryError> {
    let mended = app.registry.mend_moments().await;
    if let Ok(rows @ 1..) = mended {
        tracing::warn!(
            rows,
            "a clock was ahead: what waits for its time is due now"
        );
    }
    // For those who look at the list, whether or not anybody is told by mail or webhook.
    let posted = app.registry.post_notices().await;
    let webhooks = app.registry.list_webhooks().await?;
    let told = of_notices(app, &webhooks).await;
    let warned = of_overlaps(app, &webhooks).await;
    let before = app.now().saturating_sub(KEPT_MS);
    let pruned = prune(app, before).await;
    app.notices.wake();
    mended.and(posted).and(told).and(warned).and(pruned)
}

/// Removes what ended long ago, until there is no more or for so many transactions: others write in between.
async fn prune(app: &App, before: i64) -> Result<(), RegistryError> {
    for _ in 0..PRUNED_BATCHES {
        if app.registry.prune_messages(before).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// The messages about an event: to every webhook that wants it, and by mail.
async fn messages(
    app: &App,
    webhooks: &[Webhook],
    event: &Event,
) -> Result<Vec<NewMessage>, RegistryError> {
    let mut messages = to_webhooks(webhooks, event);
    messages.extend(people::mails(app, event).await?);
    Ok(messages)
}

/// The messages about an event to every webhook that wants it.
fn to_webhooks(webhooks: &[Webhook], event: &Event) -> Vec<NewMessage> {
    // What happened before it was there is none of its business.
    let wanting = webhooks
        .iter()
        .filter(|one| one.wants(event.kind) && event.at >= one.created_at);
    wanting
        .map(|webhook| NewMessage {
            event_id: event.id.clone(),
            event_type: event.kind.to_owned(),
            channel: Channel::Webhook,
            target: webhook.id.clone(),
            body: event.body(),
        })
        .collect()
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
    let mut digests = Digests::default();
    let told = tell_of_audit(app, &mut digests).await;
    told.and(digests.let_go(app).await)
}

async fn tell_of_audit(app: &App, digests: &mut Digests) -> Result<(), RegistryError> {
    for _ in 0..PARTS {
        let Some(untold) = app.registry.untold_audit().await? else {
            return Ok(());
        };
        // After the end was looked for: a webhook that was there before an event is among them.
        let webhooks = app.registry.list_webhooks().await?;
        let actions = told(app, &webhooks);
        let feed = app.registry.read_audit_feed(&untold, &actions).await?;
        let (mut made, mut parts) = (Vec::new(), Parts::new());
        for event in &feed.events {
            if let Some(event) = events::of_audit(event) {
                made.extend(messages(app, &webhooks, &event).await?);
            }
            if event.action == MADE_BY_SCHEDULES.as_str()
                && let Some((waits, key)) = jobs::told_of(app, event).await?
            {
                made.extend(to_webhooks(&webhooks, &waits));
                for address in people::addresses(app, &waits).await? {
                    let line = events::line_of_pending(&key, waits.at);
                    let part = Part::new(app, &waits, waits.at, line);
                    parts.entry(address).or_default().push(part);
                }
            }
        }
        let part = MadeOf::Audit {
            from: feed.from,
            to: feed.to,
        };
        // Another node was faster: it does the rest too.
        if !digests.enqueue(app, part, made, parts).await? || !feed.more {
            return Ok(());
        }
    }
    Ok(())
}

async fn of_alerts(app: &App, webhooks: &[Webhook]) -> Result<(), RegistryError> {
    // Whose clock is wrong says at once that a canary was used, and not when an hour is over: two of them would tell it in
    // turns.
    let untold = if is_left_to_others(app) {
        app.registry.alerts_never_told(ALERTS).await?
    } else {
        app.registry.untold_alerts(ALERTS).await?
    };
    for alert in untold {
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
pub(super) async fn of_notices(app: &App, webhooks: &[Webhook]) -> Result<(), RegistryError> {
    let wanted = |one: &Webhook| one.wants("key.expiring") || one.wants("rotation.due");
    if !app.notices.has_mail() && !webhooks.iter().any(wanted) {
        return Ok(());
    }
    let mut digests = Digests::default();
    let told = tell_all(app, webhooks, &mut digests).await;
    // Whatever failed: what was written down as told is sent.
    told.and(digests.let_go(app).await)
}

/// As many as there are, in parts: what many keys share a day for is not for the day after.
async fn tell_all(
    app: &App,
    webhooks: &[Webhook],
    digests: &mut Digests,
) -> Result<(), RegistryError> {
    loop {
        let taken = app.registry.take_notices(NOTICES).await?;
        if taken.is_empty() {
            return Ok(());
        }
        tell(app, webhooks, digests, &taken).await?;
    }
}

/// Each notice is an event for webhooks; for people, all of an address are one mail.
pub(super) async fn tell(
    app: &App,
    webhooks: &[Webhook],
    digests: &mut Digests,
    notices: &[Notice],
) -> Result<(), RegistryError> {
    let keys: Vec<_> = notices.iter().map(|one| one.key_id.clone()).collect();
    let addresses = people::addresses_of_owners(app, &keys).await?;
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    let (mut made, mut parts) = (Vec::new(), Parts::new());
    for notice in notices {
        let event = events::of_notice(notice);
        let hooks = to_webhooks(webhooks, &event);
        let people = addresses.of(&notice.key_id);
        let channel = match (hooks.is_empty(), people.is_empty()) {
            (true, true) => {
                let why = "nobody has an address, and no webhook wants it";
                failed.push((notice.id.clone(), why.to_owned()));
                continue;
            }
            (false, true) => "webhook",
            (true, false) => "mail",
            (false, false) => "webhook and mail",
        };
        told.push((notice.id.clone(), channel.to_owned()));
        made.extend(hooks);
        for address in people {
            let line = events::line_of_notice(notice);
            let part = Part::new(app, &event, notice.due_at, line);
            parts.entry(address.clone()).or_default().push(part);
        }
    }
    let of = MadeOf::Notices { told, failed };
    // Another node told one of them: what it left is given out again when our claim ends.
    digests.enqueue(app, of, made, parts).await.map(drop)
}

async fn of_overlaps(app: &App, webhooks: &[Webhook]) -> Result<(), RegistryError> {
    if !app.notices.has_mail() && !webhooks.iter().any(|one| one.wants(OVERLAP_CLOSING)) {
        return Ok(());
    }
    let mut digests = Digests::default();
    let told = tell_all_overlaps(app, webhooks, &mut digests).await;
    // Whatever failed: what was written down as told is sent.
    told.and(digests.let_go(app).await)
}

/// As many as there are, in parts: after the last hour it is too late for each of them.
async fn tell_all_overlaps(
    app: &App,
    webhooks: &[Webhook],
    digests: &mut Digests,
) -> Result<(), RegistryError> {
    let registry = &app.registry;
    let mut last: Option<OverlapWarning> = None;
    loop {
        let closing = registry
            .overlaps_before_close(BEFORE_CLOSE_MS, last.as_ref())
            .await?;
        last = closing.last().cloned();
        if last.is_none() {
            return Ok(());
        }
        for part in closing.chunks(OVERLAPS) {
            match tell_overlaps(app, webhooks, digests, part).await {
                // Another node was faster; what it left of this part is told a minute later.
                Ok(()) | Err(RegistryError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn tell_overlaps(
    app: &App,
    webhooks: &[Webhook],
    digests: &mut Digests,
    closing: &[OverlapWarning],
) -> Result<(), RegistryError> {
    let keys: Vec<_> = closing.iter().map(|one| one.key_id.clone()).collect();
    let addresses = people::addresses_of_owners(app, &keys).await?;
    let (mut hooks, mut mails) = (Vec::new(), Vec::new());
    for one in closing {
        let id = events::id_of_overlap(one);
        let wanting = webhooks.iter().filter(|hook| hook.wants(OVERLAP_CLOSING));
        hooks.extend(wanting.map(|hook| (hook.id.clone(), id.clone())));
        let people = addresses.of(&one.key_id).iter();
        mails.extend(people.map(|address| (address.clone(), id.clone())));
    }
    let hooks = app.registry.untold(Channel::Webhook, hooks).await?;
    let mails = app.registry.untold(Channel::Mail, mails).await?;
    // Nearly always all were told before, and who uses the secrets is not looked for.
    let untold: HashSet<_> = hooks.iter().chain(&mails).map(|(_, id)| id).collect();
    let is_untold = |one: &&OverlapWarning| untold.contains(&events::id_of_overlap(one));
    let mut warnings: Vec<_> = closing.iter().filter(is_untold).cloned().collect();
    if warnings.is_empty() {
        return Ok(());
    }
    app.registry.find_late_callers(&mut warnings).await?;
    let (mut made, mut parts) = (Vec::new(), Parts::new());
    for warning in &warnings {
        let event = events::of_overlap(warning, app.now());
        let of_hooks = to_webhooks(webhooks, &event).into_iter();
        made.extend(of_hooks.filter(|one| hooks.contains(&(one.target.clone(), event.id.clone()))));
        for address in addresses.of(&warning.key_id) {
            if mails.contains(&(address.clone(), event.id.clone())) {
                let line = events::line_of_overlap(warning);
                let part = Part::new(app, &event, warning.closes_at, line).once();
                parts.entry(address.clone()).or_default().push(part);
            }
        }
    }
    let enqueued = digests.enqueue(app, MadeOf::Else, made, parts);
    enqueued.await.map(drop)
}
