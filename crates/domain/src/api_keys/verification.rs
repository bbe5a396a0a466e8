//! The verdict on a presented secret, in a fixed order. Until the mac matches, nothing is told.

use super::lifecycle::{ApiKey, Secret, SecretState};
use crate::scopes::Scope;

/// Why a presented key is refused. The list grows; treat unknown codes as a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a key of ours by its looks.
    Malformed(super::FormatError),
    /// Unknown kid, or a known kid with another secret: the same answer for both.
    NotFound,
    /// Ended by a person.
    Revoked,
    /// Its overlap ended, or it was cancelled before its first use.
    Retired,
    /// Past its expiry.
    Expired,
    /// The key does not hold the scope that was required.
    InsufficientScope(Scope),
}

impl Refusal {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::NotFound => "not_found",
            Self::Revoked => "revoked",
            Self::Retired => "retired",
            Self::Expired => "expired",
            Self::InsufficientScope(_) => "insufficient_scope",
        }
    }
}

/// The verdict on a secret whose mac matched.
pub type Verdict = Result<(), Refusal>;

/// Judges a key and its matching secret at `now`.
///
/// # Errors
/// The first [`Refusal`] in the order: secret state, key state, expiry, scope.
pub fn judge(key: &ApiKey, secret: &Secret, required: Option<&Scope>, now: i64) -> Verdict {
    if key.revoked_at.is_some() {
        return Err(Refusal::Revoked);
    }
    match secret.state(now) {
        SecretState::Revoked => return Err(Refusal::Revoked),
        SecretState::Retired | SecretState::Aborted => return Err(Refusal::Retired),
        SecretState::Expired => return Err(Refusal::Expired),
        SecretState::Pending | SecretState::Active | SecretState::Retiring => {}
    }
    match required {
        Some(scope) if !key.scopes.covers(scope) => Err(Refusal::InsufficientScope(scope.clone())),
        _ => Ok(()),
    }
}
