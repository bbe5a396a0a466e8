//! Everything that can be judged without running the app. All checks run; a summary follows.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{
    Said, bindings, house, npm, process, requirements, scenarios,
    tools::{self, Need},
};

/// How long the advisory database may take to arrive.
const ADVISORIES_LIMIT: Duration = Duration::from_secs(60);

/// The fuzz targets, a workspace of their own.
const FUZZ: &str = "fuzz/Cargo.toml";

/// `cargo xtask check`.
pub(crate) fn run(fix: bool) -> Result<()> {
    let mut report = Report::default();
    report.check("set-up", || {
        tools::ensure(&[Need::Build, Need::Git])?;
        npm::ensure_ui()
    })?;
    if fix {
        report.check("mend format and lints", mend)?;
    }
    report.check("Rust format", || {
        cargo(&["fmt", "--all", "--", "--check"])?;
        cargo(&["fmt", "--manifest-path", FUZZ, "--", "--check"])
    })?;
    report.check("Rust lints", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "--deny",
            "warnings",
        ])?;
        let folder = crate::target().join("fuzz");
        let mut clippy = process::cargo();
        clippy.args(["clippy", "--locked", "--manifest-path", FUZZ]);
        clippy.arg("--target-dir").arg(folder);
        process::run(clippy.args(["--", "--deny", "warnings"]))
    })?;
    report.check("dependency rules (bans, licenses, sources)", || {
        deny(&["check", "bans", "licenses", "sources"])
    })?;
    report.check("dependency advisories", advisories)?;
    report.check("UI types", || npm_run("check"))?;
    report.check("UI lints and format", || npm_run("lint"))?;
    report.check("bindings are fresh", bindings::check)?;
    report.check("scenarios are listed", scenarios::check)?;
    report.check(
        "requirements name tests that are there",
        requirements::check,
    )?;
    report.check("house rules", house::check)?;
    report.end()
}

fn mend() -> Result<()> {
    cargo(&["fmt", "--all"])?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ])?;
    cargo(&["fmt", "--all"])?;
    cargo(&["fmt", "--manifest-path", FUZZ])?;
    bindings::write()?;
    process::run(npm::npm("ui").args(["exec", "--", "eslint", ".", "--fix"]))?;
    npm_run("format")
}

fn cargo(words: &[&str]) -> Result<()> {
    process::run(process::cargo().args(words))
}

fn npm_run(script: &str) -> Result<()> {
    process::run(npm::npm("ui").args(["run", script]))
}

fn deny(words: &[&str]) -> Result<()> {
    let binary = tools::ensure_cargo_deny()?;
    process::run(process::command(binary).args(words))
}

/// Known vulnerabilities, where the database can be had: a machine without access to it is not
/// at fault, and says that it did not look.
fn advisories() -> Result<()> {
    let binary = tools::ensure_cargo_deny()?;
    let mut fetch = process::command(binary);
    fetch.args(["--log-level", "error", "fetch", "db"]);
    let mut child = fetch.spawn().context("cannot start cargo-deny")?;
    let fetched = process::wait(&mut child, Some(ADVISORIES_LIMIT))?;
    if !fetched.is_some_and(|status| status.success()) {
        bail!(NotChecked(
            "the advisory database could not be reached from this machine"
        ));
    }
    deny(&["check", "--disable-fetch", "advisories"])
}

/// Something outside is missing; nobody here did anything wrong.
#[derive(Debug)]
struct NotChecked(&'static str);

impl std::fmt::Display for NotChecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotChecked {}

#[derive(Default)]
struct Report {
    lines: Vec<String>,
    failed: usize,
}

impl Report {
    /// Does one check and notes its result. Fails only on Ctrl-C.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let result = process::step(name, check);
        process::go_on()?;
        match result {
            Ok(()) => self.lines.push(format!("ok      {name}")),
            Err(error) if error.is::<NotChecked>() => {
                self.lines.push(format!("NOT CHECKED  {name}: {error}"));
            }
            Err(error) => {
                self.failed += 1;
                self.lines.push(format!("FAILED  {name}: {error:#}"));
            }
        }
        if let Some(line) = self.lines.last() {
            println!("{line}");
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        println!("\nchecks:\n  {}", self.lines.join("\n  "));
        if self.failed > 0 {
            println!("{} of {} checks failed", self.failed, self.lines.len());
            bail!(Said);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_checked_is_said_and_is_no_failure() -> Result<()> {
        let mut report = Report::default();
        report.check("a", || Ok(()))?;
        report.check("b", || bail!(NotChecked("out of reach")))?;
        assert_eq!(report.lines, ["ok      a", "NOT CHECKED  b: out of reach"]);
        assert_eq!(report.failed, 0);
        report.check("c", || bail!("wrong"))?;
        assert_eq!(
            report.lines.last().map(String::as_str),
            Some("FAILED  c: wrong")
        );
        assert!(report.end().is_err());
        Ok(())
    }
}
