//! Keys that somebody found where no key belongs, and told of.

use keywright_domain::api_keys::{DAY_MS, Kid};
use keywright_domain::audit::{Actor, AuditAction};

use crate::api_keys::{about_key, find};
use crate::narrowing::GiveBack;
use crate::rotation::save;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

impl LocalRegistry {
    /// Somebody has the whole text of a secret who should not: it is ended at once, and its key is
    /// flagged exposed. Telling it again changes nothing. Returns whether anything changed.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`].
    pub async fn report_found_secret(
        &self,
        actor: &Actor,
        key_id: &str,
        kid: &Kid,
        seen_in: &str,
    ) -> Result<bool, RegistryError> {
        let input = (
            actor.clone(),
            key_id.to_owned(),
            kid.clone(),
            short(seen_in),
        );
        self.write(input, |unit, (actor, key_id, kid, seen_in)| {
            Box::pin(secret(unit, actor, key_id, kid, seen_in))
        })
        .await
    }

    /// Somebody told of a kid, which proves nothing: it is written down, at most once a day for a
    /// key, and the key works on. Returns whether it was written down.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn report_found_kid(
        &self,
        actor: &Actor,
        kid: &Kid,
        seen_in: &str,
    ) -> Result<bool, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let Some(key_id) = store::secrets::find_key_id(&mut connection, kid.as_str()).await? else {
            return Ok(false);
        };
        drop(connection);
        let input = (actor.clone(), key_id, kid.clone(), short(seen_in));
        self.write(input, |unit, (actor, key_id, kid, seen_in)| {
            Box::pin(only_kid(unit, actor, key_id, kid, seen_in))
        })
        .await
    }
}

/// Foreign text that may hold the very key.
fn short(seen_in: &str) -> String {
    crate::schedules::notices::short(seen_in)
}

async fn secret(
    unit: &mut Unit,
    actor: &Actor,
    key_id: &str,
    kid: &Kid,
    seen_in: &str,
) -> Result<bool, RegistryError> {
    let now = unit.now();
    let mut key = find(unit, key_id).await?;
    let before = key.secrets.clone();
    let newly_exposed = key.exposed_at.is_none();
    key.exposed_at.get_or_insert(now);
    // A key that moved to another registry is ended there; that it was seen is worth knowing here.
    let kept_here = key.check_is_kept_here().is_ok();
    let rotation = store::rotations::find_open(unit.read(), key_id).await?;
    let revoked = kept_here && key.revoke_secret(kid, "compromise: it was found", now)?;
    if !revoked && !newly_exposed {
        return Ok(false);
    }
    let settled = rotation
        .and_then(|mut rotation| key.settle_rotation(&mut rotation, now).then_some(rotation));
    // Nobody asks for the scopes that come back, and nobody is given a secret: as where time ends it.
    let ended = settled
        .as_ref()
        .map(|rotation| (rotation, GiveBack::Freely));
    let given_back = save(unit, &mut key, &before, None, ended).await?;
    let mut details = vec![
        ("kid", kid.to_string()),
        ("reason", seen_in.to_owned()),
        ("secret_revoked", revoked.to_string()),
    ];
    details.extend(given_back);
    let verb = if revoked {
        "found where no key belongs, and the secret that was found ended"
    } else {
        "found where no key belongs"
    };
    unit.audit(
        actor,
        about_key(AuditAction::ApiKeyExposed, &key, verb, details),
    );
    Ok(true)
}

async fn only_kid(
    unit: &mut Unit,
    actor: &Actor,
    key_id: &str,
    kid: &Kid,
    seen_in: &str,
) -> Result<bool, RegistryError> {
    let now = unit.now();
    let key = find(unit, key_id).await?;
    let events = store::audit::list_of_target(unit.read(), "api_key", key_id, 100).await?;
    let reported = AuditAction::ApiKeyReported.as_str();
    let told = |event: &crate::AuditEvent| event.action == reported && event.at > now - DAY_MS;
    if events.iter().any(told) {
        return Ok(false);
    }
    let details = vec![("kid", kid.to_string()), ("reason", seen_in.to_owned())];
    let verb = "said to be where no key belongs, without its secret";
    unit.audit(
        actor,
        about_key(AuditAction::ApiKeyReported, &key, verb, details),
    );
    Ok(true)
}
