//! Nodes decide by their own clocks: when a key expires, a token begins, an overlap ends. How far a
//! node's clock may be from the database's, which all share.

use keywright_domain::people::CLOCKS_APART_MS;

/// Further apart than this is said in the log.
pub(crate) const WARN_MS: i64 = 1000;
/// Further apart than this, a node is not ready: what it decides by time may be wrong by as much.
pub(crate) const REFUSE_MS: i64 = CLOCKS_APART_MS;

/// What a difference of clocks comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skew {
    /// Close enough, or not measured.
    Fine,
    /// It should be looked at.
    Warn,
    /// Requests should not be sent here.
    Refuse,
}

/// Judges a difference.
pub(crate) fn judge(skew_ms: Option<i64>) -> Skew {
    match skew_ms.map_or(0, i64::saturating_abs) {
        apart if apart > REFUSE_MS => Skew::Refuse,
        apart if apart > WARN_MS => Skew::Warn,
        _ => Skew::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_and_one_that_is_wrong_takes_the_node_out() {
        assert_eq!(judge(None), Skew::Fine);
        for sign in [1, -1] {
            assert_eq!(judge(Some(sign * WARN_MS)), Skew::Fine);
            assert_eq!(judge(Some(sign * (WARN_MS + 1))), Skew::Warn);
            assert_eq!(judge(Some(sign * REFUSE_MS)), Skew::Warn);
            assert_eq!(judge(Some(sign * (REFUSE_MS + 1))), Skew::Refuse);
        }
        assert_eq!(judge(Some(i64::MIN)), Skew::Refuse);
    }
}
