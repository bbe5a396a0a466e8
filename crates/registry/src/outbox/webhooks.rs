//! Webhooks: who is told what, and where. Secrets come sealed and are never read here.

use keywright_domain::api_keys::DAY_MS;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::random_id;
use keywright_domain::people::Sealed;

use super::messages::cut;
use crate::store::audit::NewEvent;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// More webhooks than this are not for telling people things.
const MOST: usize = 100;
/// Whoever was not tried for so long is not what fails since then: what fails is tried again more often.
const QUIET_MS: i64 = DAY_MS;

/// A webhook, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Stable id.
    pub id: String,
    /// Where events go.
    pub url: String,
    /// Which events; `*` for all.
    pub events: Vec<String>,
    /// For people.
    pub description: String,
    /// Until when the secret before signs as well (Unix ms); 0 for none.
    pub old_secret_until: i64,
    /// Who made it.
    pub created_by: String,
    /// When (Unix ms).
    pub created_at: i64,
    /// Last change by a person (Unix ms).
    pub changed_at: i64,
    /// The first failure since anything was delivered, or since nothing was tried for a day (Unix ms).
    pub failing_since: Option<i64>,
    /// When it was switched off (Unix ms).
    pub disabled_at: Option<i64>,
    /// Why.
    pub disabled_reason: Option<String>,
    /// Events that it was never told, because too many waited for it.
    pub dropped_count: i64,
    /// When that happened last (Unix ms).
    pub dropped_at: Option<i64>,
}

impl Webhook {
    /// Whether it is to be told of this.
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        self.disabled_at.is_none()
            && self
                .events
                .iter()
                .any(|one| one == "*" || one == event_type)
    }
}

/// A webhook that is to be made.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Where events go.
    pub url: String,
    /// Which events; `*` for all.
    pub events: Vec<String>,
    /// For people; up to 200 characters.
    pub description: String,
    /// Its secret.
    pub secret: Sealed,
}

/// What is to change; what is none stays.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// Where events go.
    pub url: Option<String>,
    /// Which events.
    pub events: Option<Vec<String>>,
    /// For people.
    pub description: Option<String>,
    /// Whether it is told anything.
    pub enabled: Option<bool>,
}

/// The secrets that sign for a webhook.
#[derive(Clone, Debug)]
pub struct WebhookSecrets {
    /// The newest.
    pub current: Sealed,
    /// The one before, while it signs too.
    pub old: Option<Sealed>,
}

impl LocalRegistry {
    /// Makes a webhook.
    ///
    /// # Errors
    /// [`RegistryError::Bounds`] if there are 100.
    pub async fn add_webhook(
        &self,
        actor: &Actor,
        new: &NewWebhook,
    ) -> Result<Webhook, RegistryError> {
        let input = (actor.clone(), new.clone(), random_id(&mut rand::rng()));
        self.write(input, |unit, (actor, new, id)| {
            Box::pin(add(unit, actor, new, id))
        })
        .await
    }

    /// All webhooks, oldest first.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_webhooks(&self) -> Result<Vec<Webhook>, RegistryError> {
        store::webhooks::list(&mut *self.shared.pool.acquire().await?).await
    }

    /// One webhook.
    ///
    /// # Errors
    /// [`RegistryError::WebhookNotFound`].
    pub async fn find_webhook(&self, id: &str) -> Result<Webhook, RegistryError> {
        store::webhooks::find(&mut *self.shared.pool.acquire().await?, id)
            .await?
            .ok_or(RegistryError::WebhookNotFound)
    }

    /// The secrets that sign for a webhook now.
    ///
    /// # Errors
    /// [`RegistryError::WebhookNotFound`].
    pub async fn webhook_secrets(&self, id: &str) -> Result<WebhookSecrets, RegistryError> {
        let now = self.now();
        store::webhooks::secrets(&mut *self.shared.pool.acquire().await?, id, now)
            .await?
            .ok_or(RegistryError::WebhookNotFound)
    }

    /// Changes a webhook. One that is enabled again begins anew: what failed before is forgiven.
    ///
    /// # Errors
    /// [`RegistryError::WebhookNotFound`].
    pub async fn change_webhook(
        &self,
        actor: &Actor,
        id: &str,
        change: &WebhookChange,
    ) -> Result<Webhook, RegistryError> {
        let input = (actor.clone(), id.to_owned(), change.clone());
        self.write(input, |unit, (actor, id, change)| {
            Box::pin(self::change(unit, actor, id, change))
        })
        .await
    }

    /// Gives a webhook a new secret. The one before signs as well for `overlap_ms`.
    ///
    /// # Errors
    /// [`RegistryError::WebhookNotFound`].
    pub async fn rotate_webhook_secret(
        &self,
        actor: &Actor,
        id: &str,
        secret: &Sealed,
        overlap_ms: i64,
    ) -> Result<Webhook, RegistryError> {
        let input = (actor.clone(), id.to_owned(), secret.clone(), overlap_ms);
        self.write(input, |unit, (actor, id, secret, overlap_ms)| {
            Box::pin(async move {
                let now = unit.now();
                let mut webhook = find(unit, id).await?;
                let old_until = now.saturating_add((*overlap_ms).max(0));
                webhook.old_secret_until = old_until;
                webhook.changed_at = now;
                store::webhooks::replace_secret(unit.write(), id, secret, old_until, now).await?;
                unit.made(id);
                let text = "was given a new secret";
                unit.audit(
                    actor,
                    about(AuditAction::WebhookSecretRotated, &webhook, text),
                );
                Ok(webhook)
            })
        })
        .await
    }

    /// Removes a webhook, with all that waits for it.
    ///
    /// # Errors
    /// [`RegistryError::WebhookNotFound`].
    pub async fn remove_webhook(&self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        let input = (actor.clone(), id.to_owned());
        self.write(input, |unit, (actor, id)| {
            Box::pin(async move {
                let now = unit.now();
                let webhook = find(unit, id).await?;
                store::webhooks::remove(unit.write(), id).await?;
                store::outbox::give_up(unit.write(), super::Channel::Webhook, id, now).await?;
                unit.audit(
                    actor,
                    about(AuditAction::WebhookRemoved, &webhook, "was removed"),
                );
                Ok(())
            })
        })
        .await
    }

    /// Writes down that something was delivered to a webhook, or was not: since when it fails. Its try is written
    /// down before. One that fails for longer than `patience_ms` is switched off, and so is one that is `gone`; a
    /// failure after more than a day without any try is a first one. Returns whether it was by this call.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn note_webhook(
        &self,
        id: &str,
        delivered: bool,
        gone: bool,
        patience_ms: i64,
    ) -> Result<bool, RegistryError> {
        let input = (id.to_owned(), delivered, gone, patience_ms);
        self.write(input, |unit, (id, delivered, gone, patience_ms)| {
            Box::pin(note(unit, id, *delivered, *gone, *patience_ms))
        })
        .await
    }
}

async fn find(unit: &mut Unit, id: &str) -> Result<Webhook, RegistryError> {
    store::webhooks::find(unit.read(), id)
        .await?
        .ok_or(RegistryError::WebhookNotFound)
}

async fn add(
    unit: &mut Unit,
    actor: &Actor,
    new: &NewWebhook,
    id: &str,
) -> Result<Webhook, RegistryError> {
    let now = unit.now();
    if store::webhooks::list(unit.read()).await?.len() >= MOST {
        return Err(RegistryError::Bounds("there are 100 webhooks already"));
    }
    let webhook = Webhook {
        id: id.to_owned(),
        url: new.url.clone(),
        events: new.events.clone(),
        description: cut(&new.description, 200),
        old_secret_until: 0,
        created_by: actor.as_str().to_owned(),
        created_at: now,
        changed_at: now,
        failing_since: None,
        disabled_at: None,
        disabled_reason: None,
        dropped_count: 0,
        dropped_at: None,
    };
    store::webhooks::insert(unit.write(), &webhook, &new.secret).await?;
    unit.made(&webhook.id);
    unit.audit(
        actor,
        about(AuditAction::WebhookAdded, &webhook, "was added"),
    );
    Ok(webhook)
}

async fn change(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    change: &WebhookChange,
) -> Result<Webhook, RegistryError> {
    let now = unit.now();
    let mut webhook = find(unit, id).await?;
    let before = webhook.clone();
    if let Some(url) = &change.url {
        webhook.url.clone_from(url);
    }
    if let Some(events) = &change.events {
        webhook.events.clone_from(events);
    }
    if let Some(description) = &change.description {
        webhook.description = cut(description, 200);
    }
    match change.enabled {
        Some(true) => {
            webhook.disabled_at = None;
            webhook.disabled_reason = None;
            webhook.failing_since = None;
        }
        Some(false) if webhook.disabled_at.is_none() => {
            webhook.disabled_at = Some(now);
            webhook.disabled_reason = Some("by hand".to_owned());
        }
        _ => {}
    }
    if webhook == before {
        return Ok(webhook);
    }
    webhook.changed_at = now;
    store::webhooks::update(unit.write(), &webhook).await?;
    unit.audit(
        actor,
        about(AuditAction::WebhookChanged, &webhook, "was changed"),
    );
    Ok(webhook)
}

async fn note(
    unit: &mut Unit,
    id: &str,
    delivered: bool,
    gone: bool,
    patience_ms: i64,
) -> Result<bool, RegistryError> {
    let now = unit.now();
    let Some(mut webhook) = store::webhooks::find(unit.read(), id).await? else {
        return Ok(false);
    };
    if delivered {
        if webhook.failing_since.is_some() {
            webhook.failing_since = None;
            store::webhooks::update(unit.write(), &webhook).await?;
        }
        return Ok(false);
    }
    let before = webhook.failing_since;
    let mut since = before.unwrap_or(now);
    if now.saturating_sub(since) > QUIET_MS {
        // What failed weeks ago, with nothing to tell in between, says nothing of today. This try is one of them.
        let from = now.saturating_sub(QUIET_MS);
        if store::outbox::count_tries(unit.read(), id, from, 2).await? == 1 {
            since = now;
        }
    }
    webhook.failing_since = Some(since);
    let give_up = gone || now.saturating_sub(since) >= patience_ms;
    let off = give_up && webhook.disabled_at.is_none();
    if !off && before == webhook.failing_since {
        return Ok(false);
    }
    if off {
        let reason = if gone {
            "it answered that it is gone for good (410)"
        } else {
            "nothing could be delivered for too long"
        };
        webhook.disabled_at = Some(now);
        webhook.disabled_reason = Some(reason.to_owned());
        let event = about(
            AuditAction::WebhookDisabled,
            &webhook,
            &format!("was switched off: {reason}"),
        );
        unit.audit(&Actor::keywright(), event);
    }
    store::webhooks::update(unit.write(), &webhook).await?;
    Ok(off)
}

/// Of the address only scheme and host: its path may be a secret of whoever reads there.
fn about(action: AuditAction, webhook: &Webhook, verb: &str) -> NewEvent {
    let host = webhook.url.splitn(4, '/').take(3).collect::<Vec<_>>();
    let host = host.join("/");
    NewEvent {
        action,
        target_kind: "webhook",
        target_id: webhook.id.clone(),
        target_name: host.clone(),
        summary: format!("The webhook {host} {verb}"),
        details: vec![("events", webhook.events.join(" "))],
    }
}
