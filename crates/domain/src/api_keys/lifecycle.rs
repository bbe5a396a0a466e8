//! The record of a key and its secrets, and their states at a moment that is passed in.

use super::environment::{Environment, Owner};
use super::format::{Kid, Prefix};
use super::settings::{KeySettings, SettingsError};
use super::{MAX_LIFETIME_MS, MIN_LIFETIME_MS, PolicyViolation};
use crate::scopes::{Scope, ScopeError, ScopeSet};

/// A key. Its id, name, prefix, owner, scopes and settings survive every rotation.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Stable id.
    pub id: String,
    /// Given by a person.
    pub name: String,
    /// What its texts begin with.
    pub prefix: Prefix,
    /// Where it may be used.
    pub environment: Environment,
    /// Who it belongs to.
    pub owner: Owner,
    /// The principal that made it: the key can never do more than that one may, now and later.
    pub creator: Option<String>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Limits, networks, origins, labels, credits.
    pub settings: KeySettings,
    /// Number of its last change in the registry's ordered log: what a cache compares.
    pub epoch: i64,
    /// When it was first issued (Unix ms).
    pub created_at: i64,
    /// From when it verifies.
    pub not_before: Option<i64>,
    /// When it was disabled, if it is.
    pub disabled_at: Option<i64>,
    /// Why it was disabled.
    pub disabled_reason: Option<String>,
    /// When its text was seen where no key belongs.
    pub exposed_at: Option<i64>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<i64>,
    /// Why it was revoked.
    pub revoked_reason: Option<String>,
    /// It was revoked with all keys of its owner: that stands at the owner, and not at the key.
    pub revoked_with_owner: bool,
    /// The remote registry that it was moved to.
    pub promoted_to: Option<String>,
    /// All secrets, oldest first. At most two of them verify.
    pub secrets: Vec<Secret>,
}

/// One secret of a key, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Public id.
    pub kid: Kid,
    /// Last four characters of the key's text.
    pub last_four: String,
    /// State as stored; [`Secret::state`] gives the state at a moment.
    pub stored: SecretState,
    /// When it was made (Unix ms).
    pub created_at: i64,
    /// When it ends by itself; none for never.
    pub expires_at: Option<i64>,
    /// When its overlap ends, once a successor exists.
    pub retires_at: Option<i64>,
    /// A pending secret that nobody used is cancelled at this moment.
    pub pending_until: Option<i64>,
    /// When it was first used or promoted, after a rotation.
    pub activated_at: Option<i64>,
    /// When it was ended by hand, by a finished rotation or by a newer one.
    pub ended_at: Option<i64>,
    /// Why.
    pub ended_reason: Option<String>,
    /// First accepted verification.
    pub first_used_at: Option<i64>,
    /// Latest accepted verification.
    pub last_used_at: Option<i64>,
    /// Accepted verifications.
    pub use_count: i64,
}

/// State of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// Made by a rotation, not seen in use yet; verifies.
    Pending,
    /// Verifies.
    Active,
    /// Verifies until its overlap ends.
    Retiring,
    /// Its overlap ended. Never comes back.
    Retired,
    /// Past its own expiry.
    Expired,
    /// Ended by a person. Never comes back.
    Revoked,
    /// Cancelled before its first use. Never comes back.
    Aborted,
}

impl SecretState {
    /// What a stored state means at `now` (all times in Unix ms).
    #[must_use]
    pub fn at(
        stored: Self,
        expires_at: Option<i64>,
        retires_at: Option<i64>,
        pending_until: Option<i64>,
        now: i64,
    ) -> Self {
        let over = |end: Option<i64>| end.is_some_and(|end| end <= now);
        match stored {
            Self::Retiring if over(retires_at) => Self::Retired,
            Self::Pending if over(pending_until) => Self::Aborted,
            live if live.verifies() && over(expires_at) => Self::Expired,
            other => other,
        }
    }

    /// Whether a secret in this state verifies.
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::Retiring)
    }
}

impl Secret {
    /// The state at `now`. Expiry and the end of an overlap need no sweeper.
    #[must_use]
    pub fn state(&self, now: i64) -> SecretState {
        SecretState::at(
            self.stored,
            self.expires_at,
            self.retires_at,
            self.pending_until,
            now,
        )
    }

    /// A secret as it is made: in a rotation it waits for its first use.
    #[must_use]
    pub fn new(
        kid: Kid,
        last_four: &str,
        stored: SecretState,
        now: i64,
        lifetime_ms: Option<i64>,
    ) -> Self {
        Self {
            kid,
            last_four: last_four.to_owned(),
            stored,
            created_at: now,
            expires_at: lifetime_ms.map(|lifetime| now.saturating_add(lifetime)),
            retires_at: None,
            pending_until: None,
            activated_at: None,
            ended_at: None,
            ended_reason: None,
            first_used_at: None,
            last_used_at: None,
            use_count: 0,
        }
    }

    /// Ends it for good.
    pub(super) fn end(&mut self, stored: SecretState, now: i64, reason: Option<&str>) {
        self.stored = stored;
        self.ended_at = Some(now);
        self.ended_reason = reason.map(str::to_owned);
    }

    /// How long this secret was meant to live; none for never. Times that a stranger sent may be
    /// farther apart than a number holds: then it is the longest there is.
    #[must_use]
    pub fn lifetime_ms(&self) -> Option<i64> {
        self.expires_at
            .map(|end| end.saturating_sub(self.created_at))
    }
}

/// State of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyState {
    /// Its newest secret verifies.
    Active,
    /// Two secrets verify until the overlap ends.
    Rotating,
    /// None verifies any more.
    Expired,
    /// Suspended by a person; can be enabled again.
    Disabled,
    /// Ended by a person.
    Revoked,
}

impl ApiKey {
    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: i64) -> ApiKeyState {
        if self.revoked_at.is_some() {
            return ApiKeyState::Revoked;
        }
        if self.disabled_at.is_some() {
            return ApiKeyState::Disabled;
        }
        match self
            .secrets
            .iter()
            .filter(|secret| secret.state(now).verifies())
            .count()
        {
            0 => ApiKeyState::Expired,
            1 => ApiKeyState::Active,
            _ => ApiKeyState::Rotating,
        }
    }

    /// The newest secret that verifies, else the newest that was not cancelled.
    #[must_use]
    pub fn current_secret(&self, now: i64) -> Option<&Secret> {
        let newest = || self.secrets.iter().rev();
        newest()
            .find(|secret| secret.state(now).verifies() && secret.stored != SecretState::Retiring)
            .or_else(|| newest().find(|secret| secret.stored != SecretState::Aborted))
    }

    /// While rotating: until when the old secret works.
    #[must_use]
    pub fn old_secret_works_until(&self, now: i64) -> Option<i64> {
        let retiring = self
            .secrets
            .iter()
            .find(|secret| secret.state(now) == SecretState::Retiring)?;
        match (retiring.retires_at, retiring.expires_at) {
            (Some(retires), Some(expires)) => Some(retires.min(expires)),
            (end, other) => end.or(other),
        }
    }

    /// Latest accepted verification of any of its secrets.
    #[must_use]
    pub fn last_used_at(&self) -> Option<i64> {
        self.secrets
            .iter()
            .filter_map(|secret| secret.last_used_at)
            .max()
    }

    /// Refuses what only the registry that the key was moved to may do.
    ///
    /// # Errors
    /// [`KeyError::Promoted`].
    pub fn check_is_kept_here(&self) -> Result<(), KeyError> {
        match &self.promoted_to {
            Some(remote) => Err(KeyError::Promoted(remote.clone())),
            None => Ok(()),
        }
    }

    /// Ends the key and every secret of it. Ending it again changes nothing and is no error.
    ///
    /// # Errors
    /// [`KeyError::ReasonTooLong`], [`KeyError::Character`].
    pub fn revoke(&mut self, reason: &str, now: i64) -> Result<bool, KeyError> {
        let reason = check_reason(reason)?;
        if self.revoked_at.is_some() && !self.revoked_with_owner {
            return Ok(false);
        }
        self.revoked_with_owner = false;
        self.revoked_at = Some(now);
        self.revoked_reason = reason;
        self.note_ended(now);
        for secret in &mut self.secrets {
            if secret.stored.verifies() {
                secret.end(SecretState::Revoked, now, None);
            }
        }
        Ok(true)
    }

    /// Suspends the key until it is enabled again.
    ///
    /// # Errors
    /// [`KeyError::Revoked`], [`KeyError::ReasonTooLong`], [`KeyError::Character`].
    pub fn disable(&mut self, reason: &str, now: i64) -> Result<bool, KeyError> {
        let reason = check_reason(reason)?;
        if self.revoked_at.is_some() {
            return Err(KeyError::Revoked);
        }
        if self.disabled_at.is_some() {
            return Ok(false);
        }
        self.disabled_at = Some(now);
        self.disabled_reason = reason;
        Ok(true)
    }

    /// Ends a suspension. Nothing else changes: what expired meanwhile stays expired.
    ///
    /// # Errors
    /// [`KeyError::Revoked`].
    pub fn enable(&mut self) -> Result<bool, KeyError> {
        if self.revoked_at.is_some() {
            return Err(KeyError::Revoked);
        }
        self.disabled_reason = None;
        Ok(self.disabled_at.take().is_some())
    }
}

/// A reason as it is kept: at most 500 characters, none for an empty one.
pub(super) fn check_reason(reason: &str) -> Result<Option<String>, KeyError> {
    if reason.contains('\0') {
        return Err(KeyError::Character);
    }
    if reason.chars().count() > 500 {
        return Err(KeyError::ReasonTooLong);
    }
    Ok(Some(reason.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// A wish for a new key, checked by [`NewApiKey::check`].
#[derive(Clone, Debug, Default)]
pub struct NewApiKey {
    /// 1 to 120 characters.
    pub name: String,
    /// What its text begins with.
    pub prefix: String,
    /// At least one scope, each known to the registry.
    pub scopes: Vec<String>,
    /// How long it lives; none for never.
    pub lifetime_ms: Option<i64>,
    /// Whether keys may live for ever where no policy says anything about it.
    pub allow_never_expires: bool,
    /// Where it may be used; none takes it from the prefix, else `live`.
    pub environment: Option<Environment>,
    /// Who it belongs to; none for the registry's own principal.
    pub owner: Option<Owner>,
    /// The principal that makes it and whose permissions bound it; none for no bound.
    pub creator: Option<String>,
    /// From when it verifies.
    pub not_before: Option<i64>,
    /// Limits, networks, origins, labels, credits.
    pub settings: KeySettings,
    /// A management key: only these may carry the prefix `kw_root`, and they must.
    pub management: bool,
}

/// A scope as the registry's catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownScope {
    /// The scope.
    pub scope: Scope,
    /// For people.
    pub description: String,
    /// Whether a publishable key may hold it.
    pub low_risk: bool,
}

impl NewApiKey {
    /// The prefix that its text will have.
    ///
    /// # Errors
    /// [`KeyError::Prefix`]; [`KeyError::PrefixReserved`] for `kw_root` and everything but it.
    pub fn checked_prefix(&self) -> Result<Prefix, KeyError> {
        let prefix = Prefix::new(self.prefix.trim()).map_err(|_| KeyError::Prefix)?;
        if (prefix.as_str() == super::format::ROOT_PREFIX) != self.management {
            return Err(KeyError::PrefixReserved);
        }
        Ok(prefix)
    }

    /// Where it will be usable: what the wish says, else what the prefix says, else `live`.
    #[must_use]
    pub fn environment_for(&self, prefix: &Prefix) -> Environment {
        self.environment
            .clone()
            .or_else(|| Environment::of_prefix(prefix))
            .unwrap_or(Environment::LIVE)
    }

    /// Checks the wish against the rules and the catalogue. Lifetimes are the policy's.
    ///
    /// # Errors
    /// [`KeyError`]: the first rule it breaks.
    pub fn check(
        &self,
        catalogue: &[KnownScope],
        now: i64,
    ) -> Result<(String, Prefix, ScopeSet), KeyError> {
        let name = check_name(&self.name)?;
        let prefix = self.checked_prefix()?;
        let scopes = check_scopes(&self.scopes, &prefix, self.settings.canary, catalogue)?;
        self.settings.check()?;
        let never_begins = |start: i64| {
            self.lifetime_ms
                .is_some_and(|life| start.saturating_sub(now) >= life)
        };
        if self.not_before.is_some_and(never_begins) {
            return Err(KeyError::NeverValid);
        }
        Ok((name, prefix, scopes))
    }
}

/// Scopes as a key may hold them: each known to the catalogue, none beyond what a publishable
/// key may do, and none at all for a canary.
///
/// # Errors
/// [`KeyError::Scope`], [`KeyError::NoScope`], [`KeyError::CanaryWithScopes`],
/// [`KeyError::UnknownScope`], [`KeyError::ScopeNotPublishable`].
pub fn check_scopes(
    texts: &[String],
    prefix: &Prefix,
    canary: bool,
    catalogue: &[KnownScope],
) -> Result<ScopeSet, KeyError> {
    let scopes: Result<Vec<_>, _> = texts.iter().map(|text| Scope::new(text.trim())).collect();
    let scopes = ScopeSet::new(scopes?);
    match (scopes.as_slice().is_empty(), canary) {
        (true, false) => return Err(KeyError::NoScope),
        (false, true) => return Err(KeyError::CanaryWithScopes),
        _ => {}
    }
    for scope in scopes.as_slice() {
        let mut known = catalogue
            .iter()
            .filter(|known| scope.covers(&known.scope))
            .peekable();
        if known.peek().is_none() {
            return Err(KeyError::UnknownScope(scope.as_str().to_owned()));
        }
        if prefix.is_publishable() && !known.all(|known| known.low_risk) {
            return Err(KeyError::ScopeNotPublishable(scope.as_str().to_owned()));
        }
    }
    Ok(scopes)
}

/// A name as it is kept.
///
/// # Errors
/// [`KeyError::Name`].
pub fn check_name(name: &str) -> Result<String, KeyError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > 120 || name.chars().any(char::is_control) {
        return Err(KeyError::Name);
    }
    Ok(name.to_owned())
}

pub(super) fn check_lifetime(lifetime_ms: Option<i64>, allow_never: bool) -> Result<(), KeyError> {
    match lifetime_ms {
        None if allow_never => Ok(()),
        None => Err(KeyError::NeverExpires),
        Some(lifetime) if (MIN_LIFETIME_MS..=MAX_LIFETIME_MS).contains(&lifetime) => Ok(()),
        Some(_) => Err(KeyError::Lifetime),
    }
}

/// Why a key cannot be issued, rotated or revoked as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, too long or holds control characters.
    #[error("a name has 1 to 120 characters and no line breaks")]
    Name,
    /// The prefix breaks its rule.
    #[error("{}", super::format::FormatError::Prefix)]
    Prefix,
    /// `kw_root` belongs to management keys.
    #[error("the prefix kw_root is reserved for management keys")]
    PrefixReserved,
    /// No scope was given.
    #[error("a key needs at least one scope")]
    NoScope,
    /// A scope breaks its rule.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The registry does not know the scope.
    #[error("the registry does not know the scope “{0}”")]
    UnknownScope(String),
    /// A publishable key may hold low-risk scopes only.
    #[error("a publishable key (pk_…) may not hold “{0}”: anyone can read such a key")]
    ScopeNotPublishable(String),
    /// The catalogue names single scopes; wildcards are for keys.
    #[error("a scope in the catalogue names one resource and one action, without *")]
    ScopeIsWildcard,
    /// Policy: lifetime.
    #[error("policy “lifetime”: a secret lives 1 to 365 days")]
    Lifetime,
    /// Policy: expiry required.
    #[error("policy “expiry required”: this registry does not issue keys that never expire")]
    NeverExpires,
    /// Policy: overlap.
    #[error("policy “overlap”: the old secret may keep working for 0 to 30 days")]
    Overlap,
    /// The new secret would end before the overlap does.
    #[error("policy “overlap”: the new secret would expire before the old one stops working")]
    OverlapOutlivesSecret,
    /// A setting breaks its rule.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Policy of the environment.
    #[error(transparent)]
    Policy(#[from] PolicyViolation),
    /// A canary key has no rights.
    #[error("a canary key has no rights: it is there to be seen in the wrong hands")]
    CanaryWithScopes,
    /// It would expire before it begins.
    #[error("the key would expire before it begins to work")]
    NeverValid,
    /// What a key is cannot be changed later.
    #[error("whether a key is a canary or for one use is decided when it is made")]
    Fixed,
    /// More than the creator may do.
    #[error("whoever makes a key can give it no more than they hold: “{0}” is more")]
    ScopeExceedsCreator(String),
    /// Somebody else replaced the secret that was to be replaced.
    #[error("another rotation replaced this secret already")]
    RotationInProgress,
    /// There is nothing in overlap.
    #[error("there is no rotation under way that this could be done to")]
    NoRotation,
    /// The old secret does not work any more; a retired one never returns.
    #[error("the old secret has stopped working; a retired secret never returns")]
    TooLateToRollBack,
    /// A compromise must say why.
    #[error("say why: ending a secret as compromised needs a reason")]
    ReasonRequired,
    /// A kid that this key does not have.
    #[error("the key has no secret with this kid")]
    UnknownKid,
    /// A secret that was made elsewhere is not acceptable.
    #[error("a secret made by a client needs a kid of 12 letters or digits that is not in use")]
    ClientSecret,
    /// The reason is too long.
    #[error("a reason has at most 500 characters")]
    ReasonTooLong,
    /// A text that not every database can hold.
    #[error("a text cannot hold the character U+0000")]
    Character,
    /// Revoked keys do not come back.
    #[error("the key is revoked; a revoked key cannot be rotated or re-enabled")]
    Revoked,
    /// The key is kept elsewhere now.
    #[error("the key was moved to {0}; change it there")]
    Promoted(String),
}

impl KeyError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name => "invalid_name",
            Self::Prefix => "invalid_prefix",
            Self::PrefixReserved => "prefix_reserved",
            Self::NoScope => "scope_required",
            Self::Scope(_) | Self::ScopeIsWildcard => "invalid_scope",
            Self::UnknownScope(_) => "unknown_scope",
            Self::ScopeNotPublishable(_) => "scope_not_publishable",
            Self::Settings(error) => error.code(),
            Self::Policy(_) => "policy_violation",
            Self::CanaryWithScopes => "canary_with_scopes",
            Self::NeverValid => "never_valid",
            Self::Fixed => "fixed_at_issue",
            Self::ScopeExceedsCreator(_) => "scope_exceeds_creator",
            Self::RotationInProgress => "rotation_in_progress",
            Self::NoRotation => "no_rotation",
            Self::TooLateToRollBack => "too_late_to_roll_back",
            Self::ReasonRequired => "reason_required",
            Self::UnknownKid => "unknown_kid",
            Self::ClientSecret => "invalid_client_secret",
            Self::Lifetime | Self::NeverExpires | Self::Overlap | Self::OverlapOutlivesSecret => {
                "policy_violation"
            }
            Self::ReasonTooLong => "reason_too_long",
            Self::Character => "invalid_character",
            Self::Revoked => "key_revoked",
            Self::Promoted(_) => "key_promoted",
        }
    }
}
