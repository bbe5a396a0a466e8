//! One line of JSON a figure, and the arithmetic of rounds.

use serde_json::json;

/// A figure beside its baseline. `gate` and `goal` are those of docs/performance.md.
pub(crate) struct Figure<'a> {
    pub(crate) case: String,
    pub(crate) value: f64,
    pub(crate) unit: &'a str,
    pub(crate) baseline: f64,
    pub(crate) baseline_is: &'a str,
    pub(crate) ratio: f64,
    pub(crate) goal: Option<Goal>,
}

/// What is aimed at, in the ratio or in the value.
#[derive(Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) gate: f64,
    pub(crate) goal: f64,
    pub(crate) more_is_better: bool,
    pub(crate) by_value: bool,
}

impl Figure<'_> {
    pub(crate) fn tell(self) {
        let measured = |goal: &Goal| {
            if goal.by_value {
                self.value
            } else {
                self.ratio
            }
        };
        let meets = |goal: &Goal, limit: f64| {
            if goal.more_is_better {
                measured(goal) >= limit
            } else {
                measured(goal) <= limit
            }
        };
        let line = json!({
            "bench": "registry",
            "case": self.case,
            "value": round(self.value),
            "unit": self.unit,
            "baseline": round(self.baseline),
            "baseline_is": self.baseline_is,
            "ratio": round(self.ratio),
            "gate": self.goal.map(|goal| goal.gate),
            "goal": self.goal.map(|goal| goal.goal),
            "met": self.goal.map(|goal| if meets(&goal, goal.goal) {
                "goal"
            } else if meets(&goal, goal.gate) {
                "gate"
            } else {
                "no"
            }),
        });
        println!("{line}");
    }
}

/// The first round warms up and does not count.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.remove(0);
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
