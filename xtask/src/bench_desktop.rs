//! First paint and memory of the app beside a blank window of the same Tauri.
//!
//! Both write `first_paint_ms=` into a log when the page has shown its first frames. The time is
//! taken here, from spawning the process to seeing that line, so neither has to be believed.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    bench::Lines,
    memory, process, reap, run,
    session::Session,
    smoke,
    tools::{self, Need},
};

const ROUNDS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures both, in turn, and tells the medians.
pub(crate) fn run(lines: &mut Lines) -> Result<()> {
    tools::ensure(&[Need::Session])?;
    let app = run::build(true)?;
    let blank = process::step("build the blank window (release)", build_blank)?;
    let session = process::step("start a private session", || Session::start(None))?;
    let mut ours = Contender::new(app, session.folder().join("app"));
    let mut blank = Contender::new(blank, session.folder().join("blank"));
    lines.begin();
    process::step(&format!("measure the desktop, {ROUNDS} rounds"), || {
        // The first start makes the registry, and reads libraries from the disk.
        for contender in [&mut ours, &mut blank] {
            contender.round(&session)?;
            *contender = Contender::new(contender.binary.clone(), contender.home.clone());
        }
        for round in 1..=ROUNDS {
            ours.round(&session)?;
            blank.round(&session)?;
            eprintln!("    round {round}: {} blank: {}", ours.last(), blank.last());
        }
        Ok(())
    })?;
    lines.tell(compare("first_paint", "ms", &ours.paint, &blank.paint)?);
    lines.tell(compare("memory", "MiB", &ours.memory, &blank.memory)?);
    Ok(())
}

/// Builds the blank window in a copy, so that nothing of it stays in the tree.
fn build_blank() -> Result<PathBuf> {
    let (from, to) = (
        crate::root().join("xtask/blank-window"),
        crate::target().join("xtask/blank-window"),
    );
    copy_folder(&from, &to)?;
    // The same versions as the app has.
    fs::copy(crate::root().join("Cargo.lock"), to.join("Cargo.lock"))?;
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--quiet", "--release", "--manifest-path"])
        .arg(to.join("Cargo.toml"));
    process::run(cargo.arg("--target-dir").arg(crate::target()))?;
    Ok(crate::target().join("release/blank-window"))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else if fs::read(&source)? != fs::read(&target).unwrap_or_default() {
            fs::copy(&source, &target)?; // unchanged files stay, so that cargo does not build again
        }
    }
    Ok(())
}

struct Contender {
    binary: PathBuf,
    home: PathBuf,
    paint: Vec<f64>,
    memory: Vec<f64>,
}

impl Contender {
    fn new(binary: PathBuf, home: PathBuf) -> Self {
        Self {
            binary,
            home,
            paint: Vec::new(),
            memory: Vec::new(),
        }
    }

    /// Starts the window, waits for its first frame, and two seconds later weighs it.
    fn round(&mut self, session: &Session) -> Result<()> {
        let log = self.home.join("logs/keywright.log");
        let _ = fs::remove_file(&log);
        let mut command = session.command(&self.binary);
        command.env("KEYWRIGHT_HOME", &self.home).process_group(0);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().context("cannot start the window")?;
        let paint = painted(&log, start);
        let memory = paint.as_ref().ok().and_then(|_| {
            process::pause(Duration::from_secs(2)).ok()?;
            Some(memory::of_tree(child.id()))
        });
        reap::end_tree(&mut child);
        process::go_on()?;
        self.paint
            .push(paint.with_context(|| format!("{}", self.binary.display()))?);
        self.memory
            .push(memory.context("it ended by itself")?.pss_mib());
        Ok(())
    }

    fn last(&self) -> String {
        let last = |list: &[f64]| list.last().copied().unwrap_or_default();
        format!("{:.0} ms {:.0} MiB", last(&self.paint), last(&self.memory))
    }
}

/// Milliseconds from `start` until the log tells of the first frame.
fn painted(log: &Path, start: Instant) -> Result<f64> {
    while start.elapsed() < PATIENCE {
        let text = fs::read_to_string(log).unwrap_or_default();
        if smoke::first_paint_ms(&text).is_some() {
            return Ok(start.elapsed().as_secs_f64() * 1000.0);
        }
        process::go_on()?;
        thread::sleep(Duration::from_millis(1));
    }
    bail!("no first frame within {} s", PATIENCE.as_secs())
}

fn compare(case: &str, unit: &str, ours: &[f64], blank: &[f64]) -> Result<Value> {
    let (ours_median, blank_median) = (median(ours)?, median(blank)?);
    let ratio = ours_median / blank_median;
    Ok(json!({
        "bench": "desktop", "case": case, "value": short(ours_median), "unit": unit,
        "spread": [short(least(ours)), short(most(ours))],
        "baseline": short(blank_median), "ratio": short(ratio),
    }))
}

fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len() / 2)
        .copied()
        .context("nothing was measured")
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Two places after the point.
fn short(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_decide() -> Result<()> {
        let line = compare(
            "first_paint",
            "ms",
            &[500.0, 460.0, 9000.0],
            &[400.0, 390.0, 410.0],
        )?;
        assert_eq!(
            (line["value"].as_f64(), line["baseline"].as_f64()),
            (Some(500.0), Some(400.0))
        );
        assert_eq!(line["ratio"].as_f64(), Some(1.25));
        assert!(compare("memory", "MiB", &[], &[1.0]).is_err());
        Ok(())
    }
}
