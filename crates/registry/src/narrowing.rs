//! Scope right-sizing: what a key's uses asked for is proposed as its scopes, and a rotation can take
//! the rest away in its own transaction. It never adds one. Whoever takes the rotation back gets the
//! scopes back too, unless somebody decided about them since.

use keywright_domain::api_keys::{ApiKey, DAY_MS, KeyError, Rotation, RotationState};
use keywright_domain::scopes::ScopeSet;
use sha2::{Digest as _, Sha256};

use crate::api_keys::{check_grant, check_held, policy_of};
use crate::insight::hour_of;
use crate::insight::hygiene::{ScopeProposal, right_size};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// How a rotation narrows its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NarrowScopes {
    /// To what was used in so many days (1 to 365), if that is certain: a key some or all of whose uses
    /// named no scope is refused. One that was not used, is too young to be judged, or has nothing to lose
    /// keeps its scopes.
    ToUses {
        /// So many.
        days: u32,
    },
    /// To a proposal that somebody looked at, by its id: if it is another one by now, it is refused.
    Accepted(String),
}

impl ScopeProposal {
    /// Names this proposal: another one has another id.
    #[must_use]
    pub fn id(&self, key_id: &str, days: u32) -> String {
        let dropped: Vec<_> = self.dropped.iter().map(|scope| scope.as_str()).collect();
        let text = format!("{key_id}\n{}\n{}", self.scopes, dropped.join(" "));
        let digest = Sha256::digest(text.as_bytes());
        format!("{days}-{}", hex::encode(&digest[..16]))
    }
}

impl LocalRegistry {
    /// The scopes that would have been enough for a key in the last days (1 to 365); none where it
    /// holds no more, where its uses named no scope, or where it is too young to be judged.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::Bounds`].
    pub async fn propose_scopes(
        &self,
        key_id: &str,
        days: u32,
    ) -> Result<Option<ScopeProposal>, RegistryError> {
        let days = check_days(days)?;
        self.flush_before_telling().await;
        let now = self.now();
        let mut connection = self.shared.pool.acquire().await?;
        let key = store::api_keys::find(&mut connection, key_id)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        let since = now.saturating_sub(days);
        if key.created_at > since || key.revoked_at.is_some() {
            return Ok(None);
        }
        let ids = [key.id.clone()];
        let used = store::hygiene::usage(&mut connection, &ids, hour_of(since)).await?;
        Ok(right_size(&key.scopes, &used))
    }
}

/// As milliseconds.
fn check_days(days: u32) -> Result<i64, RegistryError> {
    if (1..=365).contains(&days) {
        Ok(i64::from(days) * DAY_MS)
    } else {
        Err(RegistryError::Bounds(
            "scopes are judged by the uses of 1 to 365 days",
        ))
    }
}

/// The scopes that a rotation leaves a key; none for those that it has.
pub(crate) async fn narrowed(
    unit: &mut Unit,
    key: &ApiKey,
    narrow: &NarrowScopes,
) -> Result<Option<ScopeSet>, RegistryError> {
    let days = match narrow {
        NarrowScopes::ToUses { days } => *days,
        NarrowScopes::Accepted(id) => id
            .split_once('-')
            .and_then(|(days, _)| days.parse().ok())
            .ok_or(RegistryError::ProposalChanged)?,
    };
    let since = unit.now().saturating_sub(check_days(days)?);
    let proposal = if key.created_at > since {
        None
    } else {
        let ids = [key.id.clone()];
        let used = store::hygiene::usage(unit.read(), &ids, hour_of(since)).await?;
        let mut requirements = used.iter().map(|(_, _, requirement, _)| requirement);
        // Nothing is proposed for such a key; but whoever asks must not believe that it needs all it has.
        if matches!(narrow, NarrowScopes::ToUses { .. })
            && !used.is_empty()
            && requirements.all(String::is_empty)
        {
            return Err(RegistryError::UsesUnnamed);
        }
        right_size(&key.scopes, &used)
    };
    let proposal = match (narrow, proposal) {
        (NarrowScopes::ToUses { .. }, None) => return Ok(None),
        (NarrowScopes::ToUses { .. }, Some(proposal)) if proposal.unnamed_uses > 0 => {
            return Err(RegistryError::UsesUnnamed);
        }
        (NarrowScopes::ToUses { .. }, Some(proposal)) => proposal,
        (NarrowScopes::Accepted(id), Some(proposal)) if proposal.id(&key.id, days) == *id => {
            proposal
        }
        (NarrowScopes::Accepted(_), _) => return Err(RegistryError::ProposalChanged),
    };
    // A proposal is within what is held; whatever else it might be, nothing is added here.
    if !key.scopes.covers_all(&proposal.scopes) {
        return Err(RegistryError::ProposalChanged);
    }
    check(unit, key, &proposal.scopes).await?;
    Ok(Some(proposal.scopes))
}

/// Whether the registry lets a key have these scopes now.
async fn check(unit: &mut Unit, key: &ApiKey, scopes: &ScopeSet) -> Result<(), RegistryError> {
    let texts = scopes.as_slice().iter();
    let texts: Vec<_> = texts.map(|scope| scope.as_str().to_owned()).collect();
    let catalogue = unit.catalogue().await?;
    keywright_domain::api_keys::lifecycle::check_scopes(
        &texts,
        &key.prefix,
        key.settings.canary,
        &catalogue,
    )?;
    let policy = policy_of(unit, &key.environment, true).await?;
    policy.check_scopes(scopes).map_err(KeyError::from)?;
    check_grant(unit, key.creator.as_deref(), scopes).await
}

/// What a key had before a rotation took scopes from it; none if it took none, or if somebody changed
/// them meanwhile.
pub(crate) async fn taken_by(
    unit: &mut Unit,
    key: &ApiKey,
    rotation_id: &str,
) -> Result<Option<ScopeSet>, RegistryError> {
    let taken = store::rotations::scopes_of(unit.read(), rotation_id).await?;
    let Some((before, after)) = taken else {
        return Ok(None);
    };
    let (before, after) = (ScopeSet::parse(&before)?, ScopeSet::parse(&after)?);
    Ok((key.scopes == after).then_some(before))
}

/// What becomes of scopes that a rotation took, where it ends without its new secret.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GiveBack<'a> {
    /// They come back: nobody asks for it. Time is over, or a secret was found.
    Freely,
    /// No more than this, what whoever asks holds (none for no bound); more is refused.
    OrRefuse(Option<&'a ScopeSet>),
    /// The same for what must not be refused, as the end of a secret: then they stay away.
    OrLeave(Option<&'a ScopeSet>),
}

/// Gives a key the scopes back that a rotation took from it, if that ended without its new secret. Not if
/// somebody changed them meanwhile, nor what a key may not have any more. Returns what to write down.
///
/// # Errors
/// [`KeyError::ScopeExceedsCreator`], by [`GiveBack::OrRefuse`].
pub(crate) async fn give_back(
    unit: &mut Unit,
    key: &mut ApiKey,
    rotation: &Rotation,
    how: GiveBack<'_>,
) -> Result<Vec<(&'static str, String)>, RegistryError> {
    if !matches!(
        rotation.state,
        RotationState::Cancelled | RotationState::RolledBack
    ) {
        return Ok(Vec::new());
    }
    let Some(before) = taken_by(unit, key, &rotation.id).await? else {
        return Ok(Vec::new());
    };
    let left = vec![("scopes_not_given_back", before.to_string())];
    match check(unit, key, &before).await {
        Ok(()) => {}
        Err(error) if error.is_of_the_database() => return Err(error),
        Err(error) => {
            tracing::warn!(
                code = error.code(),
                key = key.id,
                "scopes that a rotation took do not come back"
            );
            return Ok(left);
        }
    }
    match how {
        GiveBack::Freely => {}
        GiveBack::OrRefuse(held) => check_held(held, &before, &key.scopes)?,
        GiveBack::OrLeave(held) if check_held(held, &before, &key.scopes).is_err() => {
            return Ok(left);
        }
        GiveBack::OrLeave(_) => {}
    }
    key.scopes = before;
    Ok(vec![("scopes", key.scopes.to_string())])
}

/// Whether whoever holds this may take a rotation back, with the scopes that it took.
pub(crate) async fn may_give_back(
    unit: &mut Unit,
    key: &ApiKey,
    rotation_id: &str,
    held: Option<&ScopeSet>,
) -> Result<bool, RegistryError> {
    let taken = taken_by(unit, key, rotation_id).await?;
    Ok(taken.is_none_or(|before| check_held(held, &before, &key.scopes).is_ok()))
}
