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
        revoked_with_owner: false,
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

/// A key with a rotation by a clock, made at 1000 from a secret made at 0.
fn rotated(request: &RotationRequest, lifetime_ms: Option<i64>) -> (ApiKey, Rotation) {
    let mut key = fresh_key(lifetime_ms);
    let rotation = key
        .rotate("r", request, (kid(), "wxyz"), "tester", 1000)
        .expect("a rotation");
    (key, rotation)
}

fn first_use(overlap_ms: i64) -> RotationRequest {
    RotationRequest {
        overlap_ms,
        ..RotationRequest::default()
    }
}

fn drained(silent_ms: i64, cap_ms: i64) -> RotationRequest {
    RotationRequest {
        clock: OverlapClock::UntilDrained { silent_ms, cap_ms },
        ..RotationRequest::default()
    }
}

const HOUR: i64 = DAY_MS / 24;
const YEAR: Option<i64> = Some(365 * DAY_MS);

#[test]
fn rule_1_two_secrets_verify_at_most_also_after_a_clock_went_back() {
    use SecretState::{Active, Pending, Retired, Retiring};
    let (mut key, mut rotation) = rotated(&from_issue(HOUR), YEAR);
    assert!(key.activate(&mut rotation, 2000));
    assert_eq!(states(&key, 2000), [Retiring, Active]);
    let over = 1000 + HOUR;
    key.rotate("s", &first_use(HOUR), (kid(), "wxyz"), "tester", over)
        .expect("a rotation");
    assert_eq!(states(&key, over), [Retired, Active, Pending]);
    assert_eq!(
        states(&key, over - 1),
        [Retired, Active, Pending],
        "what had ended does not come back"
    );
}

#[test]
fn rule_1_a_pending_secret_that_timed_out_stays_cancelled() {
    use SecretState::{Aborted, Active};
    let (mut key, mut rotation) = rotated(&first_use(HOUR), YEAR);
    let end = 1000 + MAX_OVERLAP_MS;
    assert_eq!(key.secrets[1].pending_until, Some(end));
    assert!(!key.settle_rotation(&mut rotation, end - 1));
    assert_eq!(key.secrets[1].state(end - 1), SecretState::Pending);
    assert_eq!(key.secrets[1].state(end), Aborted);
    assert!(!key.activate(&mut rotation, end), "too late");
    assert!(key.settle_rotation(&mut rotation, end));
    assert_eq!(states(&key, end - 1), [Active, Aborted]);
    assert_eq!(
        (rotation.state, rotation.ended_by.as_deref()),
        (RotationState::Cancelled, Some("timeout"))
    );
}

#[test]
fn rule_1_a_pending_secret_times_out_only_while_another_works() {
    // The old one ends before it would: the new one is all that will be left.
    let (key, _) = rotated(&first_use(HOUR), Some(20 * DAY_MS));
    assert_eq!(key.secrets[1].pending_until, None);
    let (key, _) = rotated(&from_issue(HOUR), YEAR);
    assert_eq!(key.secrets[1].pending_until, None);
    let (key, _) = rotated(&first_use(0), YEAR);
    assert_eq!(key.secrets[1].pending_until, None);
    let (mut key, _) = rotated(&first_use(HOUR), YEAR);
    let old = key.secrets[0].kid.clone();
    assert_eq!(key.revoke_secret(&old, "leaked", 2000), Ok(true));
    assert_eq!(
        key.secrets[1].state(1000 + MAX_OVERLAP_MS),
        SecretState::Pending
    );
}

#[test]
fn rule_2_an_overlap_never_lengthens_a_life_and_shortens_an_earlier_one() {
    let (key, _) = rotated(&from_issue(5 * DAY_MS), Some(5 * DAY_MS));
    assert_eq!(
        key.secrets[0].retires_at,
        Some(5 * DAY_MS),
        "its own end comes first"
    );
    assert_eq!(key.secrets[1].expires_at, Some(1000 + 5 * DAY_MS));
    let (mut key, _) = rotated(&from_issue(HOUR), YEAR);
    key.rotate("s", &from_issue(DAY_MS), (kid(), "wxyz"), "tester", 2000)
        .expect("a rotation");
    assert_eq!(key.secrets[0].retires_at, Some(1000 + HOUR));
    let (mut key, mut rotation) = rotated(&first_use(DAY_MS), YEAR);
    key.rotate("s", &from_issue(HOUR), (kid(), "wxyz"), "tester", 2000)
        .expect("a rotation");
    assert!(!key.activate(&mut rotation, 3000), "it was cancelled");
    assert_eq!(key.secrets[0].retires_at, Some(2000 + HOUR));
}

#[test]
fn rule_2_the_wish_or_the_old_lifetime_counts_from_the_rotation() {
    let wish = RotationRequest {
        lifetime_ms: Some(3 * DAY_MS),
        ..first_use(HOUR)
    };
    let (key, _) = rotated(&wish, YEAR);
    assert_eq!(key.secrets[1].expires_at, Some(1000 + 3 * DAY_MS));
    let (key, _) = rotated(&first_use(HOUR), None);
    assert_eq!(key.secrets[1].expires_at, None);
}

#[test]
fn rule_3_nothing_but_secrets_changes_in_a_rotation() {
    let mut key = fresh_key(YEAR);
    key.settings.limits = crate::api_keys::RateLimits::parse("all:100/60000").unwrap_or_default();
    key.not_before = Some(5);
    key.creator = Some("maker".to_owned());
    let before = key.clone();
    let mut rotation = rotate(&mut key, HOUR, 1000);
    key.activate(&mut rotation, 2000);
    key.finish_rotation(&mut rotation, "tester", 3000)
        .expect("finished");
    key.secrets.truncate(1);
    key.secrets[0] = before.secrets[0].clone();
    assert_eq!(format!("{key:?}"), format!("{before:?}"));
}

#[test]
fn rule_4_a_refused_rotation_changes_nothing() {
    let refused = |request: RotationRequest, error: KeyError| {
        let mut key = fresh_key(Some(10 * DAY_MS));
        let before = format!("{key:?}");
        let answer = key.rotate("r", &request, (kid(), "wxyz"), "tester", 1000);
        assert_eq!(answer, Err(error), "{request:?}");
        assert_eq!(format!("{key:?}"), before);
    };
    refused(first_use(-1), KeyError::Overlap);
    refused(first_use(MAX_OVERLAP_MS + 1), KeyError::Overlap);
    refused(first_use(11 * DAY_MS), KeyError::OverlapOutlivesSecret);
    // What the stable text of a clock cannot say would make its row unreadable.
    refused(drained(0, HOUR), KeyError::Overlap);
    refused(drained(2 * HOUR, HOUR), KeyError::Overlap);
    refused(drained(HOUR, MAX_OVERLAP_MS + 1), KeyError::Overlap);
    refused(drained(HOUR, 11 * DAY_MS), KeyError::OverlapOutlivesSecret);
    let lifetime_ms = Some(1);
    refused(
        RotationRequest {
            lifetime_ms,
            ..first_use(0)
        },
        KeyError::Lifetime,
    );
    let replaces = Some(kid());
    refused(
        RotationRequest {
            replaces,
            ..first_use(0)
        },
        KeyError::RotationInProgress,
    );
    let compromised = Some("  ".to_owned());
    refused(
        RotationRequest {
            compromised,
            ..first_use(0)
        },
        KeyError::ReasonRequired,
    );
}

#[test]
fn rule_5_a_lost_answer_is_made_anew_and_the_lost_secret_never_works() {
    use SecretState::{Aborted, Active, Pending, Retiring};
    let (mut key, mut rotation) = rotated(&first_use(HOUR), YEAR);
    let lost = rotation.new.clone();
    let anew = kid();
    key.reissue(&mut rotation, anew.clone(), "wxyz", 5000)
        .expect("made anew");
    assert_eq!(states(&key, 5000), [Active, Aborted, Pending]);
    assert_eq!((&rotation.new, rotation.id.as_str()), (&anew, "r"));
    assert_eq!(key.secrets[2].expires_at, Some(5000 + 365 * DAY_MS));
    assert_eq!(key.secrets[2].pending_until, Some(1000 + MAX_OVERLAP_MS));
    assert!(lost == key.secrets[1].kid && !key.secrets[1].state(i64::MIN).verifies());
    assert!(key.activate(&mut rotation, 6000));
    assert_eq!(states(&key, 6000), [Retiring, Aborted, Active]);
    let used = key.reissue(&mut rotation, kid(), "wxyz", 7000);
    assert_eq!(used, Err(KeyError::NoRotation), "somebody has it");
}

#[test]
fn rule_6_from_first_use_the_old_one_waits_for_the_new_one() {
    use SecretState::{Active, Pending, Retired, Retiring};
    let (mut key, mut rotation) = rotated(&first_use(HOUR), YEAR);
    assert_eq!(states(&key, 20 * DAY_MS), [Active, Pending]);
    let used = 20 * DAY_MS;
    assert!(key.activate(&mut rotation, used));
    assert!(!key.activate(&mut rotation, used + 5), "once");
    assert_eq!(rotation.activated_at, Some(used));
    assert_eq!(states(&key, used + HOUR - 1), [Retiring, Active]);
    assert_eq!(states(&key, used + HOUR), [Retired, Active]);
    assert!(!key.settle_rotation(&mut rotation, used + HOUR - 1));
    assert!(key.settle_rotation(&mut rotation, used + HOUR));
    assert_eq!(
        (rotation.state, rotation.ended_by.as_deref()),
        (RotationState::Complete, Some("overlap"))
    );
    assert_eq!(states(&key, used), [Retired, Active], "written down");
}

#[test]
fn rule_6_from_issue_the_first_use_changes_no_end() {
    let (mut key, mut rotation) = rotated(&from_issue(HOUR), YEAR);
    assert!(key.activate(&mut rotation, 1000 + HOUR - 1));
    assert_eq!(key.secrets[0].retires_at, Some(1000 + HOUR));
    let (mut key, mut rotation) = rotated(&from_issue(HOUR), YEAR);
    assert!(key.activate(&mut rotation, 1000 + HOUR));
    assert_eq!(rotation.state, RotationState::Complete, "nothing overlaps");
}

#[test]
fn rule_6_until_drained_it_ends_by_silence_or_by_the_cap() {
    use SecretState::{Active, Retired, Retiring};
    let (mut key, mut rotation) = rotated(&drained(HOUR, 2 * DAY_MS), YEAR);
    assert!(
        !key.is_drained(&rotation, DAY_MS),
        "the new one was not seen"
    );
    assert!(key.activate(&mut rotation, 5000));
    key.secrets[0].last_used_at = Some(9000);
    assert!(!key.settle_rotation(&mut rotation, 9000 + HOUR - 1));
    assert_eq!(states(&key, 9000 + HOUR - 1), [Retiring, Active]);
    let (mut capped, mut open) = (key.clone(), rotation.clone());
    assert!(key.settle_rotation(&mut rotation, 9000 + HOUR));
    assert_eq!(states(&key, 9000 + HOUR), [Retired, Active]);
    assert_eq!(rotation.ended_by.as_deref(), Some("drained"));
    let cap = 5000 + 2 * DAY_MS;
    capped.secrets[0].last_used_at = Some(cap - 1);
    assert!(!capped.settle_rotation(&mut open, cap - 1));
    assert!(capped.settle_rotation(&mut open, cap));
    assert_eq!(open.ended_by.as_deref(), Some("overlap"));
}

#[test]
fn rule_6_silence_does_not_end_the_last_secret_that_works() {
    let (mut key, mut rotation) = rotated(&drained(HOUR, 2 * DAY_MS), YEAR);
    key.activate(&mut rotation, 5000);
    let new = rotation.new.clone();
    assert_eq!(key.revoke_secret(&new, "leaked", 6000), Ok(true));
    assert!(!key.settle_rotation(&mut rotation, DAY_MS));
    assert!(key.secrets[0].state(DAY_MS).verifies());
    key.roll_back(&mut rotation, "tester", DAY_MS)
        .expect("the old one still works");
    assert_eq!(key.secrets[0].state(300 * DAY_MS), SecretState::Active);
}

#[test]
fn rule_7_a_compromise_ends_all_at_once_whatever_overlap_was_asked_for() {
    use SecretState::{Active, Pending, Revoked};
    let (mut key, mut rotation) = rotated(&first_use(HOUR), YEAR);
    key.activate(&mut rotation, 2000);
    for request in [
        first_use(DAY_MS),
        first_use(-1),
        first_use(400 * DAY_MS),
        drained(HOUR, DAY_MS),
        drained(-1, i64::MAX),
    ] {
        let mut key = key.clone();
        let request = RotationRequest {
            compromised: Some("seen in a log".to_owned()),
            ..request
        };
        assert_eq!(request.longest_overlap_ms(), 0);
        let rotation = key
            .rotate("s", &request, (kid(), "wxyz"), "tester", 3000)
            .expect("always possible");
        assert_eq!(states(&key, 3000), [Revoked, Revoked, Pending]);
        assert_eq!(states(&key, 0), [Revoked, Revoked, Pending]);
        assert_eq!((rotation.old, rotation.overlap_ms), (None, 0));
        assert_eq!(
            key.secrets[0].ended_reason.as_deref(),
            Some("seen in a log")
        );
        assert_eq!(key.secrets[2].pending_until, None);
    }
    assert_eq!(key.secrets[1].state(3000), Active);
}

#[test]
fn rule_8_roll_back_works_to_the_last_millisecond_and_not_after() {
    use SecretState::{Aborted, Active};
    let (mut key, mut rotation) = rotated(&first_use(HOUR), YEAR);
    key.activate(&mut rotation, 2000);
    let end = 2000 + HOUR;
    let (mut late, mut over) = (key.clone(), rotation.clone());
    assert_eq!(
        late.roll_back(&mut over, "tester", end),
        Err(KeyError::TooLateToRollBack)
    );
    key.roll_back(&mut rotation, "tester", end - 1)
        .expect("still live");
    assert_eq!(states(&key, 300 * DAY_MS), [Active, Aborted]);
    assert_eq!(key.secrets[0].expires_at, YEAR, "its own end is as it was");
    assert_eq!(
        key.roll_back(&mut rotation, "tester", end - 1),
        Err(KeyError::NoRotation),
        "once"
    );
}

#[test]
fn rule_8_a_rotation_is_not_taken_back_when_the_new_secret_is_all_that_is_left() {
    for (request, now) in [
        (first_use(0), 2000),
        (from_issue(HOUR), 1000 + HOUR),
        (
            RotationRequest {
                compromised: Some("leaked".to_owned()),
                ..first_use(0)
            },
            2000,
        ),
    ] {
        let (mut key, mut rotation) = rotated(&request, YEAR);
        assert_eq!(
            key.cancel_rotation(&mut rotation, "tester", now),
            Err(KeyError::TooLateToRollBack)
        );
        assert!(key.secrets[1].state(now).verifies());
        assert_eq!(rotation.state, RotationState::Pending);
    }
    let (mut key, mut rotation) = rotated(&from_issue(HOUR), YEAR);
    key.cancel_rotation(&mut rotation, "tester", HOUR)
        .expect("the old one works");
    assert_eq!(
        states(&key, HOUR),
        [SecretState::Active, SecretState::Aborted]
    );
    assert_eq!(key.secrets[0].retires_at, None);
}

#[test]
fn rule_8_a_finished_rotation_stays_finished() {
    use SecretState::{Active, Retired};
    let (mut key, mut rotation) = rotated(&first_use(DAY_MS), YEAR);
    assert_eq!(
        key.finish_rotation(&mut rotation, "tester", 1500),
        Err(KeyError::NoRotation),
        "nobody has the new one yet"
    );
    key.activate(&mut rotation, 2000);
    key.finish_rotation(&mut rotation, "tester", 3000)
        .expect("in overlap");
    assert_eq!(states(&key, 0), [Retired, Active]);
    assert!(key.roll_back(&mut rotation, "tester", 3000).is_err());
    assert_eq!(states(&key, 3000), [Retired, Active]);
}

#[test]
fn rule_9_ending_one_secret_leaves_the_others_alone() {
    use SecretState::{Active, Retiring, Revoked};
    let (mut key, mut rotation) = rotated(&first_use(DAY_MS), YEAR);
    key.activate(&mut rotation, 2000);
    let old = key.secrets[0].kid.clone();
    assert_eq!(states(&key, 2000), [Retiring, Active]);
    assert_eq!(
        key.revoke_secret(&old, " ", 3000),
        Err(KeyError::ReasonRequired)
    );
    assert_eq!(key.revoke_secret(&old, "leaked", 3000), Ok(true));
    assert_eq!(key.revoke_secret(&old, "again", 3000), Ok(false));
    assert_eq!(states(&key, 0), [Revoked, Active]);
    assert!(key.settle_rotation(&mut rotation, 3000));
    assert_eq!(rotation.state, RotationState::Complete);
    assert_eq!(
        key.revoke_secret(&kid(), "leaked", 3000),
        Err(KeyError::UnknownKid)
    );
}

#[test]
fn rule_9_ending_the_new_secret_gives_the_old_one_its_life_back() {
    use SecretState::{Active, Revoked};
    let (mut key, mut rotation) = rotated(&from_issue(HOUR), YEAR);
    let new = rotation.new.clone();
    key.revoke_secret(&new, "leaked", 2000).expect("revoked");
    assert!(key.settle_rotation(&mut rotation, 2000));
    assert_eq!(rotation.state, RotationState::Cancelled);
    assert_eq!(states(&key, 300 * DAY_MS), [Active, Revoked]);
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
