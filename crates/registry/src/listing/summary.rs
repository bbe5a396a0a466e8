//! From a row to what lists show of a key.

use keywright_domain::api_keys::{ApiKeyState, Environment, Owner, OwnerKind};

use super::ApiKeySummary;
use crate::RegistryError;
use crate::store::listing::ListRow;

/// The key at `now`; its owner's suspension and revocation reach it.
pub(super) fn summary(row: ListRow, now: i64) -> Result<ApiKeySummary, RegistryError> {
    let damaged = |what: &str| RegistryError::Damaged(format!("{what} of the key {}", row.id));
    let owner = Owner {
        kind: OwnerKind::parse(&row.owner_kind).ok_or_else(|| damaged("owner"))?,
        id: row.owner_id,
    };
    let environment = Environment::new(&row.environment).map_err(|_| damaged("environment"))?;
    let revoked_with_all = row
        .owner_keys_revoked_at
        .filter(|at| row.created_at <= *at && row.revoked_at.is_none());
    let revoked_at = row.revoked_at.or(revoked_with_all);
    let revoked_reason = match revoked_with_all {
        Some(_) => row.owner_keys_revoked_reason,
        None => row.revoked_reason,
    };
    let disabled_at = row.disabled_at.or(row.owner_disabled_at);
    let state = if revoked_at.is_some() {
        ApiKeyState::Revoked
    } else if disabled_at.is_some() {
        ApiKeyState::Disabled
    } else if row.works_until <= now {
        ApiKeyState::Expired
    } else if row.rotating_until > now {
        ApiKeyState::Rotating
    } else {
        ApiKeyState::Active
    };
    let overlaps = state == ApiKeyState::Rotating && row.old_works_until > now;
    let texts = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect();
    Ok(ApiKeySummary {
        environment,
        owner,
        scopes: texts(&row.scopes),
        tags: texts(&row.tags),
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        state,
        kid: row.kid,
        last_four: row.last_four,
        created_at: row.created_at,
        expires_at: (row.expires_order != i64::MAX).then_some(row.expires_order),
        old_secret_works_until: overlaps.then_some(row.old_works_until),
        has_pending_secret: revoked_at.is_none() && row.pending_until > now,
        last_used_at: (row.last_used_order != 0).then_some(row.last_used_order),
        disabled_at,
        exposed_at: row.exposed_at,
        revoked_at,
        revoked_reason,
        promoted_to: row.promoted_to,
    })
}
