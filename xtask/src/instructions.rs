//! Instructions of the paths that run in process: unlike time, they are the same on a busy machine.
//!
//! Valgrind counts a run of `instructions CASE N` and one with twice as many calls: the difference, shared by the calls,
//! is one call. What set-up costs falls out.

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{
    bench::Lines,
    process,
    tools::{self, Need},
};

/// More than this of what was written down fails.
const MOST: f64 = 1.1;

/// A path, with how often the shorter run takes it (so often that what set-up swings by is small beside it), and
/// what one call took when it was written down (release build, x86-64, valgrind 3.19, which knows no SHA extensions):
/// change that only together with what changed it. `None`: nobody wrote it down yet, and nothing is guarded. A verification from memory is not among
/// them: the registry reads a clock by rustix, which takes the kernel's page for it (vDSO) where valgrind has none.
const PATHS: &[(&str, u64, Option<f64>)] = &[
    ("parse", 20_000, Some(1_478.0)),
    ("hmac", 20_000, Some(21_095.0)),
    ("jwt_verify_eddsa", 500, Some(507_571.0)),
    ("jwt_verify_es256", 500, Some(763_152.0)),
];

/// `cargo xtask bench registry-instructions`.
pub(crate) fn run(lines: &mut Lines) -> Result<()> {
    tools::ensure(&[Need::Count])?;
    let mut cargo = process::cargo();
    cargo.args(["build", "--locked", "--package", "keywright-server"]);
    cargo.args(["--example", "instructions"]);
    let kind = if lines.smoke { "debug" } else { "release" };
    if !lines.smoke {
        cargo.arg("--release");
    }
    process::run(&mut cargo)?;
    let program = crate::target().join(kind).join("examples/instructions");
    let mut grown = Vec::new();
    for &(case, calls, before) in PATHS {
        let calls = if lines.smoke { calls / 100 } else { calls };
        let [once, twice] = [calls, 2 * calls].map(|calls| count(&program, case, calls));
        let each = (twice?.saturating_sub(once?)) as f64 / calls as f64;
        let ratio = before.map(|before| each / before);
        let met = ratio.map(|ratio| if ratio <= MOST { "gate" } else { "no" });
        lines.tell_without_load(json!({
            "bench": "instructions", "case": format!("instructions_{case}"), "value": each.round(),
            "unit": "instr", "baseline": before, "baseline_is": "what was written down",
            "ratio": ratio.map(|ratio| (ratio * 1000.0).round() / 1000.0), "gate": MOST, "met": met,
        }));
        if met == Some("no") && !lines.smoke {
            grown.push(case);
        }
    }
    if !grown.is_empty() {
        bail!(
            "more instructions than were written down: {}",
            grown.join(", ")
        );
    }
    Ok(())
}

fn count(program: &std::path::Path, case: &str, calls: u64) -> Result<u64> {
    let mut valgrind = process::command("valgrind");
    valgrind.args([
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]);
    valgrind.arg(program).args([case, &calls.to_string()]);
    let output = valgrind.output().context("valgrind does not start")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("{case} failed under valgrind ({}): {said}", output.status);
    }
    total(&said).with_context(|| format!("valgrind counted nothing: {said}"))
}

/// The number in cachegrind's `I refs: 1,234`, or `I   refs:` in older versions.
fn total(said: &str) -> Option<u64> {
    let line = said
        .lines()
        .find(|line| line.contains("refs:") && line.contains(" I"))?;
    let (_, number) = line.rsplit_once(':')?;
    number.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cachegrind_is_understood() {
        let said =
            "==12== Cachegrind, a cache profiler\n==12== \n==12== I   refs:      1,234,567\n";
        assert_eq!(total(said), Some(1_234_567));
        assert_eq!(total("==12== I refs:        42\n"), Some(42));
        assert_eq!(total("==12== D refs: 5\n"), None);
    }
}
