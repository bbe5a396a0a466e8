//! The record of a key and its secrets, and their states at a moment that is passed in.

use super::format::{Kid, Prefix};
use super::{MAX_LIFETIME_MS, MIN_LIFETIME_MS};
use crate::scopes::{Scope, ScopeError, ScopeSet};

/// A key. Its id, name, prefix and scopes survive every rotation.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Stable id.
    pub id: String,
    /// Given by a person.
    pub name: String,
    /// What its texts begin with.
    pub prefix: Prefix,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Bumped with every change that a cache must not miss.
    pub epoch: i64,
    /// When it was first issued (Unix ms).
    pub created_at: i64,
    /// When it was revoked, if it was.
    pub revoked_at: Option<i64>,
    /// Why it was revoked.
    pub revoked_reason: Option<String>,
    /// All secrets, oldest first. At most two of them verify.
    pub secrets: Vec<Secret>,
}

/// One secret of a key, without the secret.
#[derive(Clone, Debug)]
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
        if !self.stored.verifies() {
            return self.stored;
        }
        if self.stored == SecretState::Retiring && self.retires_at.is_some_and(|end| end <= now) {
            return SecretState::Retired;
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return SecretState::Expired;
        }
        self.stored
    }

    /// How long this secret was meant to live; none for never.
    #[must_use]
    pub fn lifetime_ms(&self) -> Option<i64> {
        self.expires_at.map(|end| end - self.created_at)
    }

    /// Marks an accepted verification; the first one activates a pending secret.
    pub fn mark_used(&mut self, now: i64) {
        if self.stored == SecretState::Pending {
            self.stored = SecretState::Active;
        }
        self.first_used_at.get_or_insert(now);
        self.last_used_at = Some(self.last_used_at.map_or(now, |last| last.max(now)));
        self.use_count += 1;
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

    /// Ends the key and every secret of it. Ending it again changes nothing and is no error.
    ///
    /// # Errors
    /// [`KeyError::ReasonTooLong`].
    pub fn revoke(&mut self, reason: &str, now: i64) -> Result<bool, KeyError> {
        if reason.chars().count() > 500 {
            return Err(KeyError::ReasonTooLong);
        }
        if self.revoked_at.is_some() {
            return Ok(false);
        }
        self.revoked_at = Some(now);
        self.revoked_reason = Some(reason.trim().to_owned()).filter(|text| !text.is_empty());
        for secret in &mut self.secrets {
            if secret.state(now).verifies() {
                secret.stored = SecretState::Revoked;
            }
        }
        self.epoch += 1;
        Ok(true)
    }
}

/// A wish for a new key, checked by [`NewApiKey::check`].
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// 1 to 120 characters.
    pub name: String,
    /// What its text begins with.
    pub prefix: String,
    /// At least one scope, each known to the registry.
    pub scopes: Vec<String>,
    /// How long it lives; none for never.
    pub lifetime_ms: Option<i64>,
    /// Whether this registry lets keys live for ever.
    pub allow_never_expires: bool,
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
    /// Checks the wish against the rules and the catalogue.
    ///
    /// # Errors
    /// [`KeyError`]: the first rule it breaks.
    pub fn check(&self, catalogue: &[KnownScope]) -> Result<(String, Prefix, ScopeSet), KeyError> {
        let name = check_name(&self.name)?;
        let prefix = Prefix::new(self.prefix.trim()).map_err(|_| KeyError::Prefix)?;
        if prefix.as_str() == super::format::ROOT_PREFIX {
            return Err(KeyError::PrefixReserved);
        }
        let scopes: Result<Vec<_>, _> = self
            .scopes
            .iter()
            .map(|text| Scope::new(text.trim()))
            .collect();
        let scopes = ScopeSet::new(scopes?);
        if scopes.as_slice().is_empty() {
            return Err(KeyError::NoScope);
        }
        for scope in scopes.as_slice() {
            let known: Vec<_> = catalogue
                .iter()
                .filter(|known| scope.covers(&known.scope))
                .collect();
            if known.is_empty() {
                return Err(KeyError::UnknownScope(scope.as_str().to_owned()));
            }
            if prefix.is_publishable() && !known.iter().all(|known| known.low_risk) {
                return Err(KeyError::ScopeNotPublishable(scope.as_str().to_owned()));
            }
        }
        check_lifetime(self.lifetime_ms, self.allow_never_expires)?;
        Ok((name, prefix, scopes))
    }
}

fn check_name(name: &str) -> Result<String, KeyError> {
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
    /// The reason is too long.
    #[error("a reason has at most 500 characters")]
    ReasonTooLong,
    /// Revoked keys do not come back.
    #[error("the key is revoked; a revoked key cannot be rotated or re-enabled")]
    Revoked,
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
            Self::Lifetime | Self::NeverExpires | Self::Overlap | Self::OverlapOutlivesSecret => {
                "policy_violation"
            }
            Self::ReasonTooLong => "reason_too_long",
            Self::Revoked => "key_revoked",
        }
    }
}
