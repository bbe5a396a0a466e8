//! The thirteen rules, as far as they are the domain's.

use proptest::prelude::*;

use super::*;
use crate::api_keys::{DAY_MS, Environment, KeySettings, Owner, OwnerKind, PlainKey, Prefix};
use crate::scopes::ScopeSet;

fn kid() -> Kid {
    let prefix = Prefix::new("sk_live").expect("a prefix");

    PlainKey::generate(&prefix, &mut rand::rng()).kid().clone()
}

fn fresh_key(lifetime_ms: Option<i64>) -> ApiKey {
    let secret = Secret::new(kid(), "abcd", SecretState::Active, 0, lifetime_ms);
    ApiKey {
        id: "key".to_owned(),
        name: "a key".to_owned(),
        prefix: Prefix::new("sk_live").expect("a prefix"),
        environment: Environment::LIVE,
        owner: Owner {
            kind: OwnerKind::Person,
            id: "local".to_owned(),
        },
        creator: None,
        scopes: ScopeSet::parse("orders:read").expect("scopes"),
        settings: KeySettings::default(),
        epoch: 1,
        created_at: 0,
        not_before: None,
        disabled_at: None,
        disabled_reason: None,
        exposed_at: None,
        revoked_at: None,
        revoked_reason: None,
        promoted_to: None,
        secrets: vec![secret],
    }
}

fn from_issue(overlap_ms: i64) -> RotationRequest {
    RotationRequest {
        overlap_ms,
        clock: OverlapClock::FromIssue,
        ..RotationRequest::default()
    }
}

fn rotate(key: &mut ApiKey, overlap_ms: i64, now: i64) -> Rotation {
    key.rotate("r", &from_issue(overlap_ms), (kid(), "wxyz"), "tester", now)
        .expect("a rotation")
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
    let mut rotation = rotate(&mut key, DAY_MS, 1000);
    assert!(key.activate(&mut rotation, 1500));
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
}

#[test]
fn ac_140_a_revoked_key_cannot_be_rotated_and_revoking_again_changes_nothing() {
    let mut key = fresh_key(None);
    assert_eq!(key.revoke("leaked", 10), Ok(true));
    assert_eq!(key.revoke("again", 20), Ok(false));
    assert_eq!(key.revoked_reason.as_deref(), Some("leaked"));
    let request = from_issue(0);
    assert_eq!(
        key.rotate("r", &request, (kid(), "wxyz"), "tester", 30),
        Err(KeyError::Revoked)
    );
}

#[test]
fn an_overlap_may_not_outlive_the_new_secret() {
    let mut key = fresh_key(Some(DAY_MS));
    let request = from_issue(2 * DAY_MS);
    assert_eq!(
        key.rotate("r", &request, (kid(), "wxyz"), "tester", 0),
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
        let (mut now, mut open) = (0, None);
        for (step, overlap_ms, pause) in steps {
            now += pause;
            let ends: Vec<_> = key.secrets.iter().map(|secret| (secret.state(now), secret.retires_at, secret.expires_at)).collect();
            match step {
                0 => open = Some(rotate(&mut key, overlap_ms, now)),
                1 => if let Some(rotation) = &mut open {
                    key.activate(rotation, now);
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
