use proptest::prelude::*;

use super::*;

fn limit(count: u32, period_ms: u32, burst: u32) -> RateLimit {
    RateLimit::new("requests", count, period_ms, burst, false).expect("a limit")
}

#[test]
fn ac_132_the_61st_request_of_a_minute_is_refused() {
    let gcra = Gcra::new(&limit(60, 60_000, 0));
    let (mut tat, now) = (i64::MIN, 1_700_000_000_000_000);
    for number in 1..=60 {
        let GcraAnswer::Allowed {
            new_tat_us,
            remaining,
            ..
        } = gcra.check(tat, now, 1)
        else {
            panic!("request {number}");
        };
        assert_eq!(remaining, 60 - number);
        tat = new_tat_us;
    }
    let refused = GcraAnswer::Refused {
        retry_after_ms: 1000,
        remaining: 0,
        reset_ms: 60_000,
    };
    assert_eq!(gcra.check(tat, now, 1), refused);
    assert!(matches!(
        gcra.check(tat, now + 999_999, 1),
        GcraAnswer::Refused {
            retry_after_ms: 1,
            ..
        }
    ));
    assert!(matches!(
        gcra.check(tat, now + 1_000_000, 1),
        GcraAnswer::Allowed { remaining: 0, .. }
    ));
    assert!(matches!(
        gcra.check(tat, now + 60_000_000, 1),
        GcraAnswer::Allowed {
            remaining: 59,
            reset_ms: 1000,
            ..
        }
    ));
}

#[test]
fn a_look_costs_nothing_and_too_much_is_never_there() {
    let gcra = Gcra::new(&limit(10, 1000, 5));
    let GcraAnswer::Allowed {
        new_tat_us,
        remaining,
        reset_ms,
    } = gcra.check(7, 100, 0)
    else {
        panic!("a look is refused");
    };
    assert_eq!((new_tat_us, remaining, reset_ms), (7, 15, 0));
    assert_eq!(gcra.check(0, i64::MAX, 16), GcraAnswer::CostTooHigh);
    assert_eq!(gcra.check(0, 0, u32::MAX), GcraAnswer::CostTooHigh);
    assert!(matches!(
        gcra.check(0, 0, 15),
        GcraAnswer::Allowed { remaining: 0, .. }
    ));
    // A clock that went far back: a look still answers.
    assert!(matches!(
        gcra.check(i64::MAX, i64::MIN, 0),
        GcraAnswer::Allowed { remaining: 0, .. }
    ));
}

#[test]
fn limits_are_checked() {
    let new = |name, count, period_ms, burst| RateLimit::new(name, count, period_ms, burst, true);
    assert!(new("a", 1, 1000, 10).is_ok());
    assert!(new("a-b_9", 100_000, 1000, 0).is_ok());
    assert!(new("a", 1, MAX_PERIOD_MS, 0).is_ok());
    let long = "a".repeat(33);
    for name in ["", "A", "a b", "ä", "a=b", long.as_str()] {
        assert_eq!(new(name, 1, 1000, 0), Err(LimitError::Name), "{name}");
    }
    assert_eq!(new("a", 0, 1000, 0), Err(LimitError::Count));
    assert_eq!(new("a", 100_001, 1000, 0), Err(LimitError::Count));
    assert_eq!(new("a", 1, 999, 0), Err(LimitError::Period));
    assert_eq!(new("a", 1, MAX_PERIOD_MS + 1, 0), Err(LimitError::Period));
    assert_eq!(new("a", 1, 1000, 11), Err(LimitError::Burst));
    assert_eq!(
        new("a", 3_000_000_000, MAX_PERIOD_MS, 2_000_000_000),
        Err(LimitError::Burst)
    );
}

#[test]
fn a_key_has_at_most_eight_limits_each_name_once() {
    let named = |name: &str| RateLimit::new(name, 1, 1000, 0, false).expect("a limit");
    let many = |count| {
        (0..count)
            .map(|number| named(&format!("l{number}")))
            .collect::<Vec<_>>()
    };
    assert!(RateLimits::new(many(8)).is_ok());
    assert_eq!(RateLimits::new(many(9)), Err(LimitError::TooMany));
    assert_eq!(
        RateLimits::new(vec![named("a"), named("b"), named("a")]),
        Err(LimitError::NameTwice("a".to_owned()))
    );
}

#[test]
fn the_stored_text_is_strict() {
    let text = "requests=60/60000+0 bytes=1000/1000+10@owner";
    let limits = RateLimits::parse(text).expect("limits");
    assert!(
        !limits.as_slice()[0].is_shared_by_owner() && limits.as_slice()[1].is_shared_by_owner()
    );
    assert_eq!(limits.to_text(), text);
    for bad in [
        " ",
        "a",
        "a=1/1000",
        "a=1/1000+",
        "a=+1/1000+0",
        "a=01/1000+0",
        "a=1/1000+-1",
        "a=1/1000+0@key",
        "a=1/1000+0 ",
        "a=1/1000+0  b=1/1000+0",
        "a=99999999999/1000+0",
    ] {
        assert_eq!(RateLimits::parse(bad), Err(LimitError::Text), "{bad}");
    }
    assert_eq!(RateLimits::parse(""), Ok(RateLimits::default()));
}

#[test]
fn strictness_compares_pace_size_and_sharing() {
    let floor = limit(60, 60_000, 10);
    assert!(floor.is_at_least_as_strict_as(&floor));
    assert!(limit(30, 60_000, 0).is_at_least_as_strict_as(&floor));
    assert!(
        limit(1, 1000, 0).is_at_least_as_strict_as(&floor),
        "the same pace, less at once"
    );
    assert!(
        !limit(2, 1000, 0).is_at_least_as_strict_as(&floor),
        "faster"
    );
    assert!(
        !limit(60, 60_000, 11).is_at_least_as_strict_as(&floor),
        "more at once"
    );
    assert!(
        !limit(600, 600_000, 0).is_at_least_as_strict_as(&floor),
        "the same pace, more at once"
    );
    let shared = RateLimit::new("s", 60, 60_000, 10, true).expect("a limit");
    assert!(shared.is_at_least_as_strict_as(&floor));
    assert!(!floor.is_at_least_as_strict_as(&shared));
}

fn any_limit() -> impl Strategy<Value = RateLimit> {
    let number = |most: u32| prop_oneof![1..=20_u32.min(most), 1..=most];
    (
        1000_u32..=MAX_PERIOD_MS,
        number(u32::MAX),
        0_u64..=1000,
        any::<bool>(),
    )
        .prop_map(|(period_ms, count, burst, shared)| {
            let count = count.min(period_ms.saturating_mul(100));
            let burst = u64::from(count) * burst / 100;
            let burst = u32::try_from(burst)
                .unwrap_or(u32::MAX)
                .min(u32::MAX - count);
            RateLimit::new("any", count, period_ms, burst, shared).expect("a limit")
        })
}

/// Small limits, so that random requests meet their bounds.
fn small_limit() -> impl Strategy<Value = RateLimit> {
    (1_u32..40, 1000_u32..4000, 0_u32..40)
        .prop_map(|(count, period_ms, burst)| limit(count, period_ms, burst.min(count * 10)))
}

proptest! {
    #[test]
    fn in_no_window_passes_more_than_the_capacity_and_what_the_time_brings(
        limit in small_limit(),
        requests in prop::collection::vec((0_i64..400_000, 1_u32..6), 1..200),
    ) {
        let gcra = Gcra::new(&limit);
        let (mut tat, mut now) = (i64::MIN, 0_i64);
        let mut accepted: Vec<(i64, i128)> = Vec::new();
        for (pause, cost) in requests {
            now += pause;
            if let GcraAnswer::Allowed { new_tat_us, .. } = gcra.check(tat, now, cost) {
                tat = new_tat_us;
                accepted.push((now, i128::from(cost)));
            }
        }
        // Exact: cost − capacity ≤ elapsed · count / period, without a division.
        let (period_us, count) = (i128::from(limit.period_ms()) * 1000, i128::from(limit.count()));
        for first in 0..accepted.len() {
            let mut passed = 0;
            for (at, cost) in &accepted[first..] {
                passed += cost;
                let elapsed = i128::from(at - accepted[first].0);
                let over = passed - i128::from(limit.capacity());
                prop_assert!(over * period_us <= elapsed * count, "{passed} in {elapsed} µs of {limit}");
            }
        }
    }

    #[test]
    fn it_agrees_with_an_exact_bucket_where_the_pace_is_whole(
        divisor in prop::sample::select(vec![1_u32, 2, 4, 5, 8, 10, 16, 20, 25, 32]),
        periods in 1_u32..4, burst in 0_u32..30,
        requests in prop::collection::vec((0_i64..300_000, 1_u32..6), 1..200),
    ) {
        let limit = limit(divisor, periods * 1000, burst.min(divisor * 10));
        let gcra = Gcra::new(&limit);
        let (period_us, count) = (i128::from(limit.period_ms()) * 1000, i128::from(limit.count()));
        prop_assert_eq!(period_us % count, 0);
        // Tokens times the period, so that every step is exact.
        let full = i128::from(limit.capacity()) * period_us;
        let (mut tat, mut now, mut tokens) = (i64::MIN, 0_i64, full);
        for (pause, cost) in requests {
            now += pause;
            tokens = full.min(tokens + i128::from(pause) * count);
            let price = i128::from(cost) * period_us;
            let answer = gcra.check(tat, now, cost);
            if price > full {
                prop_assert_eq!(answer, GcraAnswer::CostTooHigh);
                continue;
            }
            match answer {
                GcraAnswer::Allowed { new_tat_us, remaining, reset_ms } => {
                    prop_assert!(price <= tokens);
                    tat = new_tat_us;
                    tokens -= price;
                    prop_assert_eq!(i128::from(remaining), tokens / period_us);
                    let lacking_us = (full - tokens) / count;
                    prop_assert_eq!(i128::from(reset_ms), (lacking_us + 999) / 1000);
                }
                GcraAnswer::Refused { remaining, .. } => {
                    prop_assert!(price > tokens);
                    prop_assert_eq!(i128::from(remaining), tokens / period_us);
                }
                GcraAnswer::CostTooHigh => prop_assert!(false, "the bucket could hold it"),
            }
        }
    }

    #[test]
    fn waiting_as_told_is_enough_and_no_less_is(
        limit in small_limit(), tat in 0_i64..40_000_000, cost in 1_u32..40,
    ) {
        let gcra = Gcra::new(&limit);
        if let GcraAnswer::Refused { retry_after_ms, .. } = gcra.check(tat, 0, cost) {
            let wait = i64::try_from(retry_after_ms).expect("a short time") * 1000;
            let then = gcra.check(tat, wait, cost);
            let is_allowed = matches!(then, GcraAnswer::Allowed { .. });
            prop_assert!(is_allowed, "{then:?}");
            let sooner = gcra.check(tat, wait - 1000, cost);
            let is_refused = matches!(sooner, GcraAnswer::Refused { .. });
            prop_assert!(is_refused, "{sooner:?}");
        }
    }

    #[test]
    fn an_earlier_clock_never_grants_more(
        limit in any_limit(), tat in any::<i64>(), now in any::<i64>(), back in 0_i64..i64::MAX,
        cost in prop_oneof![0_u32..10, any::<u32>()],
    ) {
        let gcra = Gcra::new(&limit);
        let view = |now| match gcra.check(tat, now, cost) {
            GcraAnswer::Allowed { remaining, reset_ms, .. } => (true, remaining, reset_ms),
            GcraAnswer::Refused { remaining, reset_ms, .. } => (false, remaining, reset_ms),
            GcraAnswer::CostTooHigh => (false, 0, 0),
        };
        // At the very end of time everything is refused.
        prop_assume!(now < i64::MAX - gcra.tolerance_us);
        let (later, earlier) = (view(now), view(now.saturating_sub(back)));
        prop_assert!(!earlier.0 || later.0, "{earlier:?} {later:?}");
        if earlier.0 == later.0 {
            prop_assert!(earlier.1 <= later.1 && earlier.2 >= later.2, "{earlier:?} {later:?}");
        }
    }

    #[test]
    fn extreme_values_do_not_overflow_and_the_state_never_goes_back(
        limit in any_limit(),
        tat in prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        now in prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        cost in prop_oneof![0_u32..10, any::<u32>()],
    ) {
        let gcra = Gcra::new(&limit);
        prop_assert!(gcra.emission_us >= 10);
        prop_assert_eq!(gcra.tolerance_us / gcra.emission_us, i64::from(limit.capacity()));
        if let GcraAnswer::Allowed { new_tat_us, remaining, .. } = gcra.check(tat, now, cost) {
            prop_assert!(new_tat_us >= tat);
            prop_assert!(remaining <= limit.capacity());
            prop_assert!(cost == 0 || new_tat_us > now);
        }
    }

    #[test]
    fn a_limit_reads_back(limit in any_limit()) {
        prop_assert_eq!(RateLimit::parse(&limit.to_text()), Ok(limit));
    }

    #[test]
    fn what_is_stricter_lets_no_more_through(
        one in small_limit(), other in small_limit(),
        pauses in prop::collection::vec(0_i64..300_000, 1..120),
    ) {
        prop_assume!(one.is_at_least_as_strict_as(&other));
        let count = |limit: &RateLimit| {
            let (gcra, mut tat, mut now, mut passed) = (Gcra::new(limit), i64::MIN, 0, 0_i64);
            for pause in &pauses {
                now += pause;
                if let GcraAnswer::Allowed { new_tat_us, .. } = gcra.check(tat, now, 1) {
                    tat = new_tat_us;
                    passed += 1;
                }
            }
            passed
        };
        // Rounding the pace up can cost the looser limit one request.
        prop_assert!(count(&one) <= count(&other) + 1);
    }
}
