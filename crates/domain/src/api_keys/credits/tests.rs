use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000;

fn plan(amount: i64, refill: i64, cap: i64) -> CreditPlan {
    CreditPlan {
        amount,
        refill: Some(Refill {
            amount: refill,
            every_ms: HOUR,
            cap,
        }),
    }
}

#[test]
fn credits_go_down_come_back_and_stop_at_the_cap() {
    let plan = plan(100, 10, 50);
    let state = plan.start(0);
    let state = state.debit(&plan, 95, 0).expect("enough");
    assert_eq!(state.remaining, 5);
    assert_eq!(state.settle(&plan, HOUR - 1), state);
    assert_eq!(state.settle(&plan, HOUR).remaining, 15);
    assert_eq!(state.settle(&plan, 4 * HOUR).remaining, 45);
    assert_eq!(state.settle(&plan, 1000 * HOUR).remaining, 50);
    // What was above the cap stays and is not lifted.
    assert_eq!(plan.start(0).settle(&plan, 9 * HOUR).remaining, 100);
}

#[test]
fn a_refill_does_not_drift() {
    let plan = plan(0, 1, 1000);
    let mut state = plan.start(0);
    for minute in 1..=600 {
        state = state.settle(&plan, minute * 60_000 + 7);
    }
    assert_eq!((state.remaining, state.refilled_at), (10, 10 * HOUR));
}

#[test]
fn a_debit_is_whole_or_not_at_all_and_says_when_to_come_back() {
    let plan = plan(3, 10, 50);
    let state = plan.start(500);
    let exhausted = |cost, now| state.debit(&plan, cost, now).expect_err("too much");
    assert_eq!(
        exhausted(4, 500),
        CreditsExhausted {
            remaining: 3,
            refill_at: Some(500 + HOUR)
        }
    );
    assert_eq!(exhausted(14, 500).refill_at, Some(500 + 2 * HOUR));
    assert_eq!(exhausted(50, 500).refill_at, Some(500 + 5 * HOUR));
    assert_eq!(exhausted(51, 500).refill_at, None, "above the cap: never");
    let never = CreditPlan {
        amount: 1,
        refill: None,
    };
    let spent = never.start(0).debit(&never, 1, 0).expect("enough");
    assert_eq!(
        spent.debit(&never, 1, i64::MAX),
        Err(CreditsExhausted {
            remaining: 0,
            refill_at: None
        })
    );
    assert_eq!(spent.debit(&never, 0, 0), Ok(spent));
}

#[test]
fn a_clock_that_went_back_changes_nothing() {
    let plan = plan(10, 10, 50);
    let state = CreditState {
        remaining: 5,
        refilled_at: 10 * HOUR,
    };
    for now in [10 * HOUR - 1, 0, -HOUR, i64::MIN] {
        assert_eq!(state.settle(&plan, now), state);
    }
}

#[test]
fn plans_are_checked() {
    let refill = |amount, every_ms, cap| CreditPlan {
        amount: 0,
        refill: Some(Refill {
            amount,
            every_ms,
            cap,
        }),
    };
    assert_eq!(refill(1, MIN_REFILL_MS, 1).check(), Ok(()));
    assert_eq!(refill(0, HOUR, 1).check(), Err(CreditsError::RefillAmount));
    assert_eq!(
        refill(1, MIN_REFILL_MS - 1, 1).check(),
        Err(CreditsError::Period)
    );
    assert_eq!(
        refill(1, MAX_REFILL_MS + 1, 1).check(),
        Err(CreditsError::Period)
    );
    assert_eq!(refill(2, HOUR, 1).check(), Err(CreditsError::Cap));
    assert_eq!(
        refill(1, HOUR, MAX_CREDITS + 1).check(),
        Err(CreditsError::Cap)
    );
    for amount in [-1, MAX_CREDITS + 1] {
        let plan = CreditPlan {
            amount,
            refill: None,
        };
        assert_eq!(plan.check(), Err(CreditsError::Amount));
    }
    for bad in [
        "",
        " 1",
        "+1",
        "-1",
        "01",
        "1+",
        "1+1/60000",
        "1+1/60000<",
        "1+01/60000<5",
        "1+1/60000<5 ",
    ] {
        assert_eq!(CreditPlan::parse(bad), Err(CreditsError::Text), "{bad}");
    }
}

fn any_plan() -> impl Strategy<Value = CreditPlan> {
    let refill = (1..=1_000_i64, MIN_REFILL_MS..=MAX_REFILL_MS, 0..=5_000_i64).prop_map(
        |(amount, every_ms, more)| Refill {
            amount,
            every_ms,
            cap: amount + more,
        },
    );
    (0..=6_000_i64, prop::option::of(refill))
        .prop_map(|(amount, refill)| CreditPlan { amount, refill })
}

proptest! {
    #[test]
    fn looking_in_between_changes_nothing(
        plan in any_plan(), remaining in 0..6_000_i64,
        first in 0..100 * MAX_REFILL_MS, more in 0..100 * MAX_REFILL_MS,
    ) {
        let state = CreditState { remaining, refilled_at: 0 };
        let at_once = state.settle(&plan, first + more);
        prop_assert_eq!(state.settle(&plan, first).settle(&plan, first + more), at_once);
        prop_assert!(at_once.remaining >= remaining, "settling never takes");
    }

    #[test]
    fn the_time_told_is_the_first_at_which_it_passes(
        plan in any_plan(), remaining in 0..100_i64, cost in 1..6_000_u32, now in 0..10 * MAX_REFILL_MS,
    ) {
        let state = CreditState { remaining, refilled_at: 0 };
        if let Err(exhausted) = state.debit(&plan, cost, now) {
            match exhausted.refill_at {
                Some(at) => {
                    prop_assert!(at > now);
                    prop_assert!(state.debit(&plan, cost, at).is_ok());
                    prop_assert!(state.debit(&plan, cost, at - 1).is_err());
                }
                None => prop_assert!(state.debit(&plan, cost, i64::MAX).is_err()),
            }
        }
    }

    #[test]
    fn extreme_values_do_not_overflow(
        remaining in any::<i64>(), refilled_at in any::<i64>(), now in any::<i64>(), cost in any::<u32>(),
    ) {
        let plan = CreditPlan {
            amount: MAX_CREDITS,
            refill: Some(Refill { amount: MAX_CREDITS, every_ms: MIN_REFILL_MS, cap: MAX_CREDITS }),
        };
        let state = CreditState { remaining, refilled_at };
        let settled = state.settle(&plan, now);
        prop_assert!(settled.remaining >= remaining && settled.refilled_at >= refilled_at);
        prop_assert!(settled.refilled_at <= now.max(refilled_at));
        let _ = state.debit(&plan, cost, now);
    }

    #[test]
    fn a_plan_reads_back(plan in any_plan()) {
        prop_assert_eq!(CreditPlan::parse(&plan.to_text()), Ok(plan));
    }
}
