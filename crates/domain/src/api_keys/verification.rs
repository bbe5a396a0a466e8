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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_keys::{PlainKey, Prefix};
    use crate::scopes::ScopeSet;

    fn key_and_secret(stored: SecretState) -> (ApiKey, Secret) {
        let prefix = Prefix::new("sk_live").expect("a prefix");
        let secret = Secret {
            kid: PlainKey::generate(&prefix, &mut rand::rng()).kid().clone(),
            last_four: "abcd".to_owned(),
            stored,
            created_at: 0,
            expires_at: Some(1000),
            retires_at: Some(500),
            first_used_at: None,
            last_used_at: None,
            use_count: 0,
        };
        let key = ApiKey {
            id: "key".to_owned(),
            name: "a key".to_owned(),
            prefix,
            scopes: ScopeSet::parse("orders:read").expect("scopes"),
            epoch: 1,
            created_at: 0,
            revoked_at: None,
            revoked_reason: None,
            secrets: Vec::new(),
        };
        (key, secret)
    }

    #[test]
    fn every_state_has_its_answer() {
        use SecretState::{Aborted, Active, Expired, Pending, Retired, Retiring, Revoked};
        let cases = [
            (Pending, 0, Ok(())),
            (Active, 999, Ok(())),
            (Active, 1000, Err(Refusal::Expired)),
            (Retiring, 499, Ok(())),
            (Retiring, 500, Err(Refusal::Retired)),
            (Retired, 0, Err(Refusal::Retired)),
            (Aborted, 0, Err(Refusal::Retired)),
            (Expired, 0, Err(Refusal::Expired)),
            (Revoked, 0, Err(Refusal::Revoked)),
        ];
        for (stored, now, verdict) in cases {
            let (key, secret) = key_and_secret(stored);
            assert_eq!(
                judge(&key, &secret, None, now),
                verdict,
                "{stored:?} at {now}"
            );
        }
    }

    #[test]
    fn a_revoked_key_refuses_whatever_its_secret_says() {
        let (mut key, secret) = key_and_secret(SecretState::Active);
        key.revoked_at = Some(1);
        let scope = Scope::new("other:thing").expect("a scope");
        assert_eq!(
            judge(&key, &secret, Some(&scope), 5000),
            Err(Refusal::Revoked)
        );
    }

    #[test]
    fn ac_129_scopes_are_judged_last() {
        let (key, secret) = key_and_secret(SecretState::Active);
        let (held, missing) = (Scope::new("orders:read"), Scope::new("orders:write"));
        let (held, missing) = (held.expect("a scope"), missing.expect("a scope"));
        assert_eq!(judge(&key, &secret, Some(&held), 0), Ok(()));
        assert_eq!(
            judge(&key, &secret, Some(&missing), 0),
            Err(Refusal::InsufficientScope(missing.clone()))
        );
        assert_eq!(
            judge(&key, &secret, Some(&missing), 1000),
            Err(Refusal::Expired)
        );
    }
}
