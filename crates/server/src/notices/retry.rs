//! When what failed is tried again: ten times within about 28 hours, a little earlier or later each time,
//! so that those who wait for one receiver do not come all at once.

use rand::Rng as _;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Waits after the first try, the second, and so on.
const WAITS_MS: [i64; 10] = [
    5 * SECOND,
    30 * SECOND,
    2 * MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    12 * HOUR,
];

/// When to try again after so many tries (Unix ms); none if that was the last.
pub(crate) fn next_try(tries: i64, now: i64) -> Option<i64> {
    let wait = usize::try_from(tries - 1)
        .ok()
        .and_then(|at| WAITS_MS.get(at))?;
    let mut bytes = [0_u8; 2];
    rand::rng().fill_bytes(&mut bytes);
    Some(now.saturating_add(jittered(*wait, u16::from_le_bytes(bytes))))
}

/// From four fifths of a wait to six fifths.
fn jittered(wait: i64, random: u16) -> i64 {
    wait * 4 / 5 + wait * 2 / 5 * i64::from(random) / i64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver that was away is not asked by all who waited for it in the same moment.
    #[test]
    fn what_failed_at_one_moment_is_not_due_at_one_moment() {
        for (tries, wait) in (1..).zip(WAITS_MS) {
            let due: std::collections::BTreeSet<_> =
                (0..200).filter_map(|_| next_try(tries, 7)).collect();
            // Of 200 of 2,001 moments or more that are equally likely, some 190 differ.
            assert!(due.len() > 150, "{wait}: {} moments", due.len());
            let (first, last) = (due.first().unwrap() - 7, due.last().unwrap() - 7);
            assert!(first >= wait * 4 / 5 && last <= wait * 6 / 5, "{wait}");
            // Over the whole width, not in a corner of it.
            assert!(last - first > wait / 5, "{wait}: {first} to {last}");
        }
    }

    #[test]
    fn tries_spread_over_more_than_a_day_and_end() {
        let least: i64 = WAITS_MS.iter().map(|wait| jittered(*wait, 0)).sum();
        let most: i64 = WAITS_MS.iter().map(|wait| jittered(*wait, u16::MAX)).sum();
        assert!(WAITS_MS.iter().sum::<i64>() > 24 * HOUR);
        assert!(least > 22 * HOUR && most < 36 * HOUR, "{least} {most}");
        assert_eq!(jittered(1000, 0), 800);
        assert_eq!(jittered(1000, u16::MAX), 1200);
        assert!(next_try(1, 0).is_some_and(|at| (4_000..=6_000).contains(&at)));
        assert!(next_try(10, 0).is_some());
        for over in [0, 11, i64::MAX, i64::MIN + 1] {
            assert_eq!(next_try(over, 0), None, "{over}");
        }
    }
}
