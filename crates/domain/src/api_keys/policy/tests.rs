use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> Prefix {
    Prefix::new(text).expect("a prefix")
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::parse(text).expect("scopes")
}

fn live() -> Policy {
    Policy::default_for(Environment::LIVE)
}

fn issue(policy: &Policy, lifetime_ms: Option<i64>) -> Result<(), PolicyViolation> {
    policy.check_issue(&prefix("sk_live"), &scopes("orders:read"), lifetime_ms)
}

fn broken(result: Result<(), PolicyViolation>) -> &'static str {
    result.expect_err("a violation").policy
}

#[test]
fn ac_142_a_refusal_names_the_policy() {
    let policy = Policy {
        max_lifetime_ms: 90 * DAY_MS,
        ..live()
    };
    assert_eq!(issue(&policy, Some(90 * DAY_MS)), Ok(()));
    let violation = issue(&policy, Some(365 * DAY_MS)).expect_err("too long");
    assert_eq!(violation.code(), "policy_violation");
    assert_eq!(
        violation.to_string(),
        "policy “maximum lifetime” (live): a secret lives at most 90 days"
    );
    assert_eq!(broken(issue(&policy, None)), "expiry required");
    assert_eq!(broken(issue(&policy, Some(DAY_MS - 1))), "minimum lifetime");
    let forever = Policy {
        never_expires_allowed: true,
        ..policy
    };
    assert_eq!(issue(&forever, None), Ok(()));
}

#[test]
fn the_default_is_what_held_before_policies() {
    let policy = live();
    assert_eq!(policy.check(), Ok(()));
    assert_eq!(issue(&policy, Some(DAY_MS)), Ok(()));
    assert_eq!(issue(&policy, Some(365 * DAY_MS)), Ok(()));
    assert_eq!(
        broken(issue(&policy, Some(365 * DAY_MS + 1))),
        "maximum lifetime"
    );
    assert_eq!(broken(issue(&policy, None)), "expiry required");
    let rotate = |overlap| policy.check_rotation(overlap, Some(90 * DAY_MS), false);
    assert_eq!(rotate(0), Ok(()));
    assert_eq!(rotate(30 * DAY_MS), Ok(()));
    assert_eq!(broken(rotate(30 * DAY_MS + 1)), "maximum overlap");
    assert_eq!(broken(rotate(-1)), "minimum overlap");
    assert_eq!(policy.overlap_clock, OverlapClock::FromFirstUse);
}

#[test]
fn ac_142_prefixes_and_scopes_are_bounded_by_name() {
    let policy = Policy {
        allowed_prefixes: Some(vec![prefix("sk_live")]),
        allowed_scopes: Some(scopes("orders:* users:read")),
        ..live()
    };
    assert_eq!(policy.check(), Ok(()));
    let judge = |text, set| policy.check_issue(&prefix(text), &scopes(set), Some(DAY_MS));
    assert_eq!(
        judge("sk_live", "orders:read orders:write users:read"),
        Ok(())
    );
    assert_eq!(broken(judge("pk_live", "orders:read")), "allowed prefixes");
    let violation = judge("sk_live", "orders:read users:write").expect_err("beyond");
    assert_eq!(violation.policy, "allowed scopes");
    assert!(violation.message.contains("users:write"), "{violation}");
    assert_eq!(
        broken(policy.check_scopes(&scopes("users:*"))),
        "allowed scopes"
    );
}

#[test]
fn ac_142_rotations_are_bounded() {
    let policy = Policy {
        min_overlap_ms: 3_600_000,
        max_overlap_ms: DAY_MS,
        ..live()
    };
    let violation = policy
        .check_rotation(0, Some(DAY_MS), false)
        .expect_err("too short");
    assert_eq!(violation.policy, "minimum overlap");
    assert!(violation.message.contains("1 hour"), "{violation}");
    assert_eq!(
        policy.check_rotation(0, Some(DAY_MS), true),
        Ok(()),
        "compromised"
    );
    assert_eq!(
        broken(policy.check_rotation(2 * DAY_MS, Some(9 * DAY_MS), true)),
        "maximum overlap"
    );
    assert_eq!(
        broken(policy.check_rotation(DAY_MS, None, false)),
        "expiry required"
    );
    let wide = live();
    assert_eq!(
        broken(wide.check_rotation(2 * DAY_MS, Some(DAY_MS), false)),
        "overlap within lifetime"
    );
}

#[test]
fn every_key_carries_the_floor() {
    let limit = |count| RateLimit::new("floor", count, 60_000, 0, false).expect("a limit");
    let policy = Policy {
        rate_limit_floor: Some(limit(60)),
        ..live()
    };
    let with = |limits: Vec<RateLimit>| KeySettings {
        limits: RateLimits::new(limits).expect("limits"),
        ..KeySettings::default()
    };
    assert_eq!(
        broken(policy.check_settings(&with(vec![]))),
        "rate limit floor"
    );
    assert_eq!(
        broken(policy.check_settings(&with(vec![limit(61)]))),
        "rate limit floor"
    );
    assert_eq!(policy.check_settings(&with(vec![limit(60)])), Ok(()));
    let slower = RateLimit::new("slow", 1, 60_000, 0, true).expect("a limit");
    assert_eq!(
        policy.check_settings(&with(vec![limit(61), slower])),
        Ok(())
    );

    let mut empty = with(vec![]);
    policy.apply_rate_limit_floor(&mut empty);
    assert_eq!(empty.limits.as_slice(), [limit(60)]);
    let mut loose = with(vec![limit(61)]);
    policy.apply_rate_limit_floor(&mut loose);
    assert_eq!(
        loose.limits.as_slice(),
        [limit(61)],
        "a wish is not rewritten in silence"
    );

    let mut canary = KeySettings {
        canary: true,
        ..with(vec![])
    };
    policy.apply_rate_limit_floor(&mut canary);
    assert!(canary.limits.as_slice().is_empty());
    assert_eq!(policy.check_settings(&canary), Ok(()));
    assert_eq!(live().check_settings(&with(vec![])), Ok(()));
}

#[test]
fn contradictions_and_wrong_times_are_refused() {
    type Change = fn(&mut Policy);
    let cases: Vec<(Change, Option<PolicyError>)> = vec![
        (
            |policy| policy.max_lifetime_ms = DAY_MS - 1,
            Some(PolicyError::MaxLifetime),
        ),
        (
            |policy| policy.max_lifetime_ms = 366 * DAY_MS,
            Some(PolicyError::MaxLifetime),
        ),
        (
            |policy| policy.max_age_ms = Some(0),
            Some(PolicyError::MaxAge),
        ),
        (
            |policy| policy.max_age_ms = Some(MAX_AGE_MS + 1),
            Some(PolicyError::MaxAge),
        ),
        (
            |policy| policy.min_overlap_ms = -1,
            Some(PolicyError::Overlap),
        ),
        (
            |policy| policy.max_overlap_ms = 31 * DAY_MS,
            Some(PolicyError::Overlap),
        ),
        (|policy| policy.drain_ms = 0, Some(PolicyError::Drain)),
        (
            |policy| {
                policy.overlap_clock = OverlapClock::UntilDrained {
                    silent_ms: 2 * DAY_MS,
                    cap_ms: DAY_MS,
                };
            },
            Some(PolicyError::OverlapClock),
        ),
        // Contradictions.
        (
            |policy| (policy.min_overlap_ms, policy.max_overlap_ms) = (2, 1),
            None,
        ),
        (
            |policy| (policy.min_overlap_ms, policy.max_lifetime_ms) = (2 * DAY_MS, DAY_MS),
            None,
        ),
        (
            |policy| policy.allowed_scopes = Some(ScopeSet::default()),
            None,
        ),
        (|policy| policy.allowed_prefixes = Some(vec![]), None),
        (
            |policy| policy.allowed_prefixes = Some(vec![prefix("sk_live"), prefix("sk_test")]),
            None,
        ),
        (
            |policy| {
                policy.max_overlap_ms = DAY_MS;
                policy.overlap_clock = OverlapClock::UntilDrained {
                    silent_ms: DAY_MS,
                    cap_ms: 2 * DAY_MS,
                };
            },
            None,
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let mut policy = live();
        change(&mut policy);
        let error = policy.check().expect_err("a wrong policy");
        match expected {
            Some(expected) => assert_eq!(error, expected, "case {index}"),
            None => assert!(
                matches!(error, PolicyError::Contradiction(_)),
                "case {index}: {error}"
            ),
        }
        assert_eq!(error.code(), "invalid_policy");
    }
    let good = Policy {
        max_age_ms: Some(90 * DAY_MS),
        allowed_prefixes: Some(vec![prefix("sk_live"), prefix("acme")]),
        overlap_clock: OverlapClock::UntilDrained {
            silent_ms: DAY_MS,
            cap_ms: 7 * DAY_MS,
        },
        ..live()
    };
    assert_eq!(good.check(), Ok(()));
    let everywhere = Policy {
        environment: PolicyEnvironment::All,
        allowed_prefixes: Some(vec![prefix("sk_live"), prefix("sk_test")]),
        ..live()
    };
    assert_eq!(everywhere.check(), Ok(()));
}

#[test]
fn stable_texts_read_back() {
    for text in ["*", "live", "staging"] {
        let environment = PolicyEnvironment::parse(text).expect(text);
        assert_eq!(environment.as_str(), text);
    }
    assert_eq!(
        PolicyEnvironment::parse("Live"),
        Err(PolicyError::Environment)
    );
    for text in [
        "from_first_use",
        "from_issue",
        "until_drained:60000:86400000",
    ] {
        assert_eq!(OverlapClock::parse(text).expect(text).to_text(), text);
    }
    for bad in [
        "",
        "from_use",
        "until_drained",
        "until_drained:60000",
        "until_drained:060000:86400000",
        "until_drained:+60000:86400000",
        "until_drained:59999:86400000",
        "until_drained:86400001:86400000",
        "until_drained:60000:86400000:1",
        "until_drained:60000:2592000001",
    ] {
        assert!(OverlapClock::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn times_are_told_in_the_largest_exact_unit() {
    let told = |ms| Span(ms).to_string();
    assert_eq!(told(90 * DAY_MS), "90 days");
    assert_eq!(told(DAY_MS), "1 day");
    assert_eq!(told(DAY_MS / 2), "12 hours");
    assert_eq!(told(90_000), "90 seconds");
    assert_eq!(told(1), "1 millisecond");
    assert_eq!(told(0), "0 seconds");
}

proptest! {
    #[test]
    fn a_drain_clock_reads_back(silent_ms in MIN_SILENT_MS..=MAX_OVERLAP_MS, more in 0..=MAX_OVERLAP_MS) {
        let cap_ms = (silent_ms + more).min(MAX_OVERLAP_MS);
        let clock = OverlapClock::UntilDrained { silent_ms, cap_ms };
        prop_assert_eq!(OverlapClock::parse(&clock.to_text()), Ok(clock));
    }
}

#[test]
fn a_rotation_that_names_no_clock_has_that_of_its_policy() {
    let drained = |cap_ms| OverlapClock::UntilDrained {
        silent_ms: DAY_MS,
        cap_ms,
    };
    let cases = [
        (OverlapClock::FromIssue, None, OverlapClock::FromIssue),
        (OverlapClock::FromIssue, Some(5), OverlapClock::FromIssue),
        (drained(7 * DAY_MS), None, drained(7 * DAY_MS)),
        (drained(7 * DAY_MS), Some(2 * DAY_MS), drained(2 * DAY_MS)),
        // Whoever asks for no overlap gets none.
        (drained(7 * DAY_MS), Some(0), OverlapClock::FromFirstUse),
        (
            drained(7 * DAY_MS),
            Some(DAY_MS - 1),
            OverlapClock::FromFirstUse,
        ),
    ];
    for (overlap_clock, overlap_ms, expected) in cases {
        let policy = Policy {
            overlap_clock,
            ..live()
        };
        assert_eq!(policy.clock_of_rotation(overlap_ms), expected);
    }
}
