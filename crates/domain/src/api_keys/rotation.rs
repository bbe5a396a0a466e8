//! Rotation: a second secret for the same key, and an end for the first one.
//! Rules 1 to 4 of the rotation model; the overlap's clock starts at the issue of the new secret.

use super::lifecycle::{ApiKey, ApiKeyState, KeyError, Secret, SecretState, check_lifetime};
use super::{Kid, MAX_OVERLAP_MS};

/// What a person wants of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationRequest {
    /// How long the old secret keeps working.
    pub overlap_ms: i64,
    /// Life of the new secret: `None` keeps the lifetime of the old one.
    pub lifetime_ms: Option<i64>,
}

impl ApiKey {
    /// Gives the key a new secret. The old one works until `min(its own end, now + overlap)`:
    /// never longer than before. At most two secrets verify afterwards.
    ///
    /// A predecessor that nobody has used yet is cancelled instead of kept; a predecessor of the
    /// predecessor ends at once.
    ///
    /// # Errors
    /// [`KeyError::Revoked`], [`KeyError::Overlap`], [`KeyError::Lifetime`],
    /// [`KeyError::OverlapOutlivesSecret`]; the key is unchanged then.
    pub fn rotate(
        &mut self,
        request: RotationRequest,
        kid: Kid,
        last_four: &str,
        now: i64,
    ) -> Result<(), KeyError> {
        if self.state(now) == ApiKeyState::Revoked {
            return Err(KeyError::Revoked);
        }
        if !(0..=MAX_OVERLAP_MS).contains(&request.overlap_ms) {
            return Err(KeyError::Overlap);
        }
        let inherited = self.current_secret(now).and_then(Secret::lifetime_ms);
        if let Some(lifetime) = request.lifetime_ms {
            check_lifetime(Some(lifetime), false)?;
        }
        let lifetime = request.lifetime_ms.or(inherited);
        if lifetime.is_some_and(|lifetime| lifetime < request.overlap_ms) {
            return Err(KeyError::OverlapOutlivesSecret);
        }
        self.make_room(now, now + request.overlap_ms);
        self.secrets.push(Secret {
            kid,
            last_four: last_four.to_owned(),
            stored: SecretState::Pending,
            created_at: now,
            expires_at: lifetime.map(|lifetime| now + lifetime),
            retires_at: None,
            first_used_at: None,
            last_used_at: None,
            use_count: 0,
        });
        self.epoch += 1;
        Ok(())
    }

    /// Leaves at most one verifying secret, retiring at `end` at the latest.
    fn make_room(&mut self, now: i64, end: i64) {
        let has_pending = self.secrets.iter().any(|secret| {
            secret.state(now) == SecretState::Pending
                && self
                    .secrets
                    .first()
                    .is_some_and(|first| first.kid != secret.kid)
        });
        for secret in &mut self.secrets {
            match secret.state(now) {
                SecretState::Pending if has_pending => secret.stored = SecretState::Aborted,
                SecretState::Pending | SecretState::Active => {
                    secret.stored = SecretState::Retiring;
                    secret.retires_at = Some(end);
                }
                // Its successor was just cancelled: it stays, but never longer than before.
                SecretState::Retiring if has_pending => {
                    secret.retires_at = Some(secret.retires_at.map_or(end, |old| old.min(end)));
                }
                SecretState::Retiring => secret.retires_at = Some(now),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api_keys::{DAY_MS, PlainKey, Prefix};
    use crate::scopes::ScopeSet;

    fn kid() -> Kid {
        let prefix = Prefix::new("sk_live").expect("a prefix");

        PlainKey::generate(&prefix, &mut rand::rng()).kid().clone()
    }

    fn fresh_key(lifetime_ms: Option<i64>) -> ApiKey {
        let secret = Secret {
            kid: kid(),
            last_four: "abcd".to_owned(),
            stored: SecretState::Active,
            created_at: 0,
            expires_at: lifetime_ms,
            retires_at: None,
            first_used_at: None,
            last_used_at: None,
            use_count: 0,
        };
        ApiKey {
            id: "key".to_owned(),
            name: "a key".to_owned(),
            prefix: Prefix::new("sk_live").expect("a prefix"),
            scopes: ScopeSet::parse("orders:read").expect("scopes"),
            epoch: 1,
            created_at: 0,
            revoked_at: None,
            revoked_reason: None,
            secrets: vec![secret],
        }
    }

    fn rotate(key: &mut ApiKey, overlap_ms: i64, now: i64) {
        key.rotate(
            RotationRequest {
                overlap_ms,
                lifetime_ms: None,
            },
            kid(),
            "wxyz",
            now,
        )
        .expect("a rotation");
    }

    fn states(key: &ApiKey, now: i64) -> Vec<SecretState> {
        key.secrets.iter().map(|secret| secret.state(now)).collect()
    }

    #[test]
    fn ac_134_both_secrets_work_until_the_overlap_ends() {
        use SecretState::{Pending, Retired, Retiring};
        let mut key = fresh_key(Some(90 * DAY_MS));
        rotate(&mut key, DAY_MS, 1000);
        assert_eq!(states(&key, 1000), [Retiring, Pending]);
        assert_eq!(key.state(1000), ApiKeyState::Rotating);
        assert_eq!(key.old_secret_works_until(1000), Some(1000 + DAY_MS));
        assert_eq!(states(&key, 999 + DAY_MS), [Retiring, Pending]);
        assert_eq!(states(&key, 1000 + DAY_MS), [Retired, Pending]);
        assert_eq!(key.state(1000 + DAY_MS), ApiKeyState::Active);
    }

    #[test]
    fn ac_134_without_overlap_the_old_secret_ends_at_once() {
        let mut key = fresh_key(Some(90 * DAY_MS));
        rotate(&mut key, 0, 1000);
        assert_eq!(
            states(&key, 1000),
            [SecretState::Retired, SecretState::Pending]
        );
    }

    #[test]
    fn ac_135_a_pending_secret_is_cancelled_first() {
        use SecretState::{Aborted, Pending, Retiring};
        let mut key = fresh_key(Some(90 * DAY_MS));
        rotate(&mut key, DAY_MS, 1000);
        rotate(&mut key, 5 * DAY_MS, 2000);
        assert_eq!(states(&key, 2000), [Retiring, Aborted, Pending]);
        assert_eq!(
            key.old_secret_works_until(2000),
            Some(1000 + DAY_MS),
            "never extended"
        );
    }

    #[test]
    fn ac_135_a_used_successor_retires_and_its_predecessor_ends() {
        use SecretState::{Pending, Retired, Retiring};
        let mut key = fresh_key(Some(90 * DAY_MS));
        rotate(&mut key, DAY_MS, 1000);
        key.secrets[1].mark_used(1500);
        rotate(&mut key, DAY_MS, 2000);
        assert_eq!(states(&key, 2000), [Retired, Retiring, Pending]);
    }

    #[test]
    fn ac_136_the_new_secret_gets_a_fresh_lifetime_and_the_record_stays() {
        let mut key = fresh_key(Some(90 * DAY_MS));
        let before = key.clone();
        rotate(&mut key, DAY_MS, 80 * DAY_MS);
        assert_eq!(key.secrets[1].expires_at, Some(170 * DAY_MS));
        assert_eq!(
            key.secrets[0].expires_at,
            Some(90 * DAY_MS),
            "its own end is never extended"
        );
        assert_eq!(
            (&key.id, &key.name, &key.prefix, &key.scopes),
            (&before.id, &before.name, &before.prefix, &before.scopes)
        );
        assert_eq!(key.epoch, 2);
    }

    #[test]
    fn ac_140_a_revoked_key_cannot_be_rotated_and_revoking_again_changes_nothing() {
        let mut key = fresh_key(None);
        assert_eq!(key.revoke("leaked", 10), Ok(true));
        assert_eq!(key.revoke("again", 20), Ok(false));
        assert_eq!(key.revoked_reason.as_deref(), Some("leaked"));
        let request = RotationRequest {
            overlap_ms: 0,
            lifetime_ms: None,
        };
        assert_eq!(
            key.rotate(request, kid(), "wxyz", 30),
            Err(KeyError::Revoked)
        );
    }

    #[test]
    fn an_overlap_may_not_outlive_the_new_secret() {
        let mut key = fresh_key(Some(DAY_MS));
        let request = RotationRequest {
            overlap_ms: 2 * DAY_MS,
            lifetime_ms: None,
        };
        assert_eq!(
            key.rotate(request, kid(), "wxyz", 0),
            Err(KeyError::OverlapOutlivesSecret)
        );
        assert_eq!(key.secrets.len(), 1, "nothing half done");
    }

    proptest! {
        #[test]
        fn at_most_two_secrets_verify_and_no_end_is_ever_later_than_before(
            steps in prop::collection::vec((0_i64..3, 0_i64..MAX_OVERLAP_MS, 1_i64..20 * DAY_MS), 1..40),
        ) {
            let mut key = fresh_key(Some(60 * DAY_MS));
            let mut now = 0;
            for (step, overlap_ms, pause) in steps {
                now += pause;
                let ends: Vec<_> = key.secrets.iter().map(|secret| (secret.state(now), secret.retires_at, secret.expires_at)).collect();
                match step {
                    0 => rotate(&mut key, overlap_ms, now),
                    1 => if let Some(secret) = key.secrets.iter_mut().rev().find(|secret| secret.state(now).verifies()) {
                        secret.mark_used(now);
                    },
                    _ => {}
                }
                prop_assert!(states(&key, now).iter().filter(|state| state.verifies()).count() <= 2);
                for (secret, (state, retires_at, expires_at)) in key.secrets.iter().zip(ends) {
                    prop_assert_eq!(secret.expires_at, expires_at);
                    if let Some(old) = retires_at {
                        prop_assert!(secret.retires_at.is_some_and(|end| end <= old || !state.verifies()));
                    }
                    if !state.verifies() {
                        prop_assert!(!secret.state(now).verifies(), "nothing comes back");
                    }
                }
            }
        }
    }
}
