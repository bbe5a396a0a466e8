//! What may happen to a registry, and a generator of it. Things are named by number, modulo how
//! many there are, so that a list of steps stays one when some of them are taken out.

const DAY: i64 = 24 * 60 * 60 * 1000;
const HOUR: i64 = 60 * 60 * 1000;

/// A wish for a rotation.
#[derive(Clone, Debug)]
pub(super) struct RotateStep {
    pub(super) key: usize,
    /// 0: from first use, 1: from issue, else: until drained after so many ms.
    pub(super) clock: i64,
    pub(super) overlap: i64,
    pub(super) lifetime: Option<i64>,
    /// 0: nothing, 1: the current secret, 2: the key's first one.
    pub(super) replaces: usize,
    /// A compromise, with or without a reason.
    pub(super) compromised: Option<bool>,
    /// With the id of an earlier rotation.
    pub(super) retry: bool,
    pub(super) by_client: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Issue {
        owner: usize,
        creator: Option<usize>,
        writes: bool,
        lifetime: Option<i64>,
        not_before: Option<i64>,
        one_time: bool,
    },
    Use {
        secret: usize,
        writes: Option<bool>,
    },
    Forge {
        secret: usize,
        how: usize,
    },
    Rotate(RotateStep),
    Promote(usize),
    Cancel(usize),
    RollBack(usize),
    Finish(usize),
    Reissue(usize),
    RevokeKey(usize),
    RevokeSecret {
        secret: usize,
        says_why: bool,
    },
    Disable(usize),
    Enable(usize),
    DisablePerson(usize),
    EnablePerson(usize),
    PermitPerson {
        person: usize,
        writes: bool,
    },
    RevokeAll(usize),
    Settle,
    Sleep(i64),
    /// To an end of a secret (0: expiry, 1: overlap, 2: time-out), and so many ms beside it.
    SleepUntil {
        secret: usize,
        end: usize,
        beside: i64,
    },
    Reopen,
    /// The other registry over the same database works from now on.
    Switch,
}

/// SplitMix64: the same steps for the same seed, on every machine and with every version.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.roll() % end).unwrap_or(0)
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64)]
    }

    /// The newest more often than the others: that is where things happen.
    fn thing(&mut self) -> usize {
        if self.one_in(3) {
            self.below(1 << 20)
        } else {
            usize::MAX - self.below(4)
        }
    }
}

/// A history of so many steps. `switch` is how seldom the other registry takes over.
pub(super) fn history(seed: u64, length: usize, switch: u64) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let mut steps = vec![issue(&mut dice)];
    while steps.len() < length {
        if dice.one_in(switch) {
            steps.push(Step::Switch);
        }
        steps.push(step(&mut dice));
    }
    steps
}

fn issue(dice: &mut Dice) -> Step {
    Step::Issue {
        owner: dice.below(2),
        creator: dice.one_in(3).then(|| dice.below(2)),
        writes: dice.one_in(3),
        lifetime: dice.of(&[
            None,
            Some(DAY),
            Some(5 * DAY),
            Some(90 * DAY),
            Some(90 * DAY),
            Some(365 * DAY),
        ]),
        not_before: if dice.one_in(8) {
            Some(dice.of(&[-1, 0, 1, HOUR, 2 * DAY, 100 * DAY]))
        } else {
            None
        },
        one_time: dice.one_in(8),
    }
}

fn rotate(dice: &mut Dice) -> Step {
    Step::Rotate(RotateStep {
        key: dice.thing(),
        clock: dice.of(&[0, 0, 0, 1, 1, 60_000, HOUR, DAY]),
        overlap: dice.of(&[
            0,
            15 * 60_000,
            HOUR,
            HOUR,
            DAY,
            DAY,
            7 * DAY,
            30 * DAY,
            30 * DAY + 1,
            -1,
        ]),
        lifetime: dice.of(&[
            None,
            None,
            None,
            None,
            Some(2 * DAY),
            Some(365 * DAY),
            Some(1),
        ]),
        replaces: dice.of(&[0, 0, 0, 0, 0, 1, 1, 2]),
        compromised: dice.of(&[
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            Some(true),
            Some(false),
        ]),
        retry: dice.one_in(12),
        by_client: dice.one_in(4),
    })
}

fn step(dice: &mut Dice) -> Step {
    match dice.below(120) {
        0..8 => issue(dice),
        8..38 => Step::Use {
            secret: dice.thing(),
            writes: dice.of(&[None, None, None, Some(false), Some(true)]),
        },
        38..42 => Step::Forge {
            secret: dice.thing(),
            how: dice.below(4),
        },
        42..60 => rotate(dice),
        60..63 => Step::Promote(dice.thing()),
        63..66 => Step::Cancel(dice.thing()),
        66..70 => Step::RollBack(dice.thing()),
        70..73 => Step::Finish(dice.thing()),
        73..77 => Step::Reissue(dice.thing()),
        77..79 => Step::RevokeKey(dice.thing()),
        79..82 => Step::RevokeSecret {
            secret: dice.thing(),
            says_why: !dice.one_in(6),
        },
        82..84 => Step::Disable(dice.thing()),
        84..87 => Step::Enable(dice.thing()),
        87 => Step::DisablePerson(dice.below(2)),
        88..91 => Step::EnablePerson(dice.below(2)),
        91..93 => Step::PermitPerson {
            person: dice.below(2),
            writes: !dice.one_in(3),
        },
        93 => {
            if dice.one_in(2) {
                Step::RevokeAll(dice.below(2))
            } else {
                Step::Settle
            }
        }
        94..100 => Step::Settle,
        100..108 => Step::Sleep(dice.of(&[
            0,
            1,
            2,
            1000,
            60_000,
            HOUR,
            DAY,
            20 * DAY,
            100 * DAY,
            -1,
            -2,
            -5000,
        ])),
        108..119 => Step::SleepUntil {
            secret: dice.thing(),
            end: dice.below(3),
            beside: dice.of(&[-1, 0, 0, 1]),
        },
        _ => {
            if dice.one_in(4) {
                Step::Reopen
            } else {
                Step::Settle
            }
        }
    }
}
