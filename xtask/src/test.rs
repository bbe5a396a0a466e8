//! Runs all tests in stages, counts them, and ends with `N passed, N failed, N skipped`.

use std::{
    fs,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    Said,
    args::Test,
    count::{self, Counts, Seen},
    fuzz, npm,
    postgres::{self, Cluster},
    process, run,
    session::Session,
    set_up::{self, SetUp},
    space, stream, tools,
};

/// A stage that hangs must not hang whoever waits for us.
const STAGE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Tells tests where the program is that throws requests at every route.
const SCHEMATHESIS: &str = "KEYWRIGHT_TEST_SCHEMATHESIS";
/// And where the gateways are that Debian has none of.
const GATEWAYS: &str = "KEYWRIGHT_TEST_GATEWAYS";

/// What the smoke run of the bench is called among the tests.
const BENCH: &str = "bench_server_smoke";
const BENCH_CASES: [&str; 6] = [
    "client_credentials_eddsa",
    "introspection",
    "session_list_to_bare",
    "userinfo",
    "refresh_rotation",
    "password_sign_in",
];

/// The package with the whole-system tests.
const WHOLE: &str = "keywright-tests";

/// `cargo xtask test`.
pub(crate) fn run(options: &Test) -> Result<()> {
    let mut report = Report::default();
    let filter = options.filter.as_deref();
    let set_up = process::step("set-up", || set_up(options.quick))?;
    report.add_set_up(&set_up);
    if set_up.is_vain() {
        return report.end();
    }
    let database = set_up.database.as_ref();
    report.stage("crates", |seen| crates(seen, filter, database))?;
    report.stage("index under loom", |seen| loom(seen, filter))?;
    report.stage("interface", |seen| interface(seen, filter))?;
    if !options.quick {
        report.stage("interface in a browser", |seen| {
            browser(seen, filter, &set_up)
        })?;
    }
    report.stage("whole system", |seen| {
        whole(seen, filter, options.quick, &set_up)
    })?;
    if !options.quick {
        report.stage("fuzzing", |seen| fuzzing(seen, filter))?;
    }
    report.end()
}

fn set_up(quick: bool) -> Result<SetUp> {
    space::mind(if quick { 8 } else { 12 });
    set_up::run(quick)
}

fn crates(seen: &mut Seen, filter: Option<&str>, database: Option<&Cluster>) -> Result<()> {
    let mut cargo = process::cargo();
    with_database(&mut cargo, database);
    cargo.args(["test", "--no-fail-fast", "--workspace", "--exclude", WHOLE]);
    cargo_test(&mut cargo, seen, filter)?;
    if filter.is_none_or(|filter| BENCH.contains(filter)) {
        seen.program(BENCH, &process::step(BENCH, bench));
    }
    Ok(())
}

/// What the bench does as a person and a client does, once: it follows the same pages as everybody, and would otherwise
/// be broken until somebody measures. The tests of the crates have compiled it.
fn bench() -> Result<()> {
    let mut bench = process::command(crate::target().join("debug/examples/bench_server"));
    bench.args(["--small", "--rounds", "1"]).args(BENCH_CASES);
    for peer in ["KEYWRIGHT_BENCH_PEER", "KEYWRIGHT_BENCH_BETTER_AUTH"] {
        bench.env_remove(peer);
    }
    let mut told = 0;
    let status = stream::watch(&mut bench, STAGE_LIMIT, |line| {
        stream::repeat(line);
        let tells = |case: &&str| line.contains(&format!("\"case\":\"{case}\""));
        told += usize::from(BENCH_CASES.iter().any(tells));
    })?;
    match status {
        Some(status) if status.success() && told == BENCH_CASES.len() => Ok(()),
        Some(status) => bail!("{told} of {} cases, {status}", BENCH_CASES.len()),
        None => bail!("not done after {} minutes", STAGE_LIMIT.as_secs() / 60),
    }
}

/// Every order in which threads may meet at a row of the index. In a folder of its own: with this flag everything is
/// compiled anew.
fn loom(seen: &mut Seen, filter: Option<&str>) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.env("RUSTFLAGS", "--cfg loom");
    cargo.args(["test", "--release", "--package", "keywright-index", "--lib"]);
    cargo.arg("--target-dir").arg(crate::target().join("loom"));
    // Whatever else the package tests knows nothing of loom.
    match filter {
        None => cargo_test(&mut cargo, seen, Some("loom_")),
        Some(name) if name.starts_with("loom_") => cargo_test(&mut cargo, seen, filter),
        Some(_) => Ok(()),
    }
}

fn interface(seen: &mut Seen, filter: Option<&str>) -> Result<()> {
    let folder = crate::target().join("xtask");
    fs::create_dir_all(&folder)?;
    let file = folder.join("vitest.json");
    let _ = fs::remove_file(&file);
    let mut npm = npm::npm("ui");
    npm.args(["test", "--", "--reporter=default", "--reporter=json"]);
    npm.arg(format!("--outputFile.json={}", file.display()));
    if let Some(filter) = filter {
        npm.args(["--testNamePattern", filter]);
    }
    let status = stream::watch(&mut npm, STAGE_LIMIT, stream::repeat)?;
    let report = fs::read(&file).context("vitest wrote no report")?;
    seen.vitest_report(&serde_json::from_slice(&report)?, filter.is_some());
    judge(status, seen)
}

fn browser(seen: &mut Seen, filter: Option<&str>, set_up: &SetUp) -> Result<()> {
    if let Some(missing) = set_up.missing("browser") {
        // How many there are, nobody knows before they run.
        eprintln!("skipped: {:#}", missing.error);
        seen.counts.skipped += 1;
        return Ok(());
    }
    let mut npm = npm::npm("ui");
    with_browser(&mut npm, set_up);
    npm.args(["run", "test:browser", "--"]).args(filter);
    let status = stream::watch(&mut npm, STAGE_LIMIT, |line| {
        stream::repeat(line);
        seen.browser_line(line, filter.is_some());
    })?;
    // It fails when nothing fits the filter; that is for the end to judge.
    if filter.is_some() && seen.has_result() && seen.counts.failed == 0 {
        return Ok(());
    }
    judge(status, seen)
}

/// The real parts and the real app, on a bus, with a keychain and a display of their own.
/// Quick: without the tests that drive the app's window and a browser.
fn whole(seen: &mut Seen, filter: Option<&str>, quick: bool, set_up: &SetUp) -> Result<()> {
    let left_out = set_up.left_out(quick);
    let app = if left_out.contains(&"desktop::") {
        None
    } else {
        Some(run::build(false)?)
    };
    // Compiled outside, so that the session's time is the tests' time.
    process::step("build the server", || {
        process::run(process::cargo().args(["build", "--package", "keywright-server"]))
    })?;
    process::step("build the verifier's examples", || {
        let words = ["build", "--package", "keywright-verifier", "--examples"];
        process::run(process::cargo().args(words))
    })?;
    process::step("build the whole-system tests", || {
        process::run(process::cargo().args(["test", "--package", WHOLE, "--no-run"]))
    })?;
    let session = process::step("start a private session", || Session::start(None))?;
    let whole = |words: &[&str]| {
        let mut cargo = session.command(process::cargo().get_program());
        if let Some(program) = &set_up.schemathesis {
            cargo.env(SCHEMATHESIS, program);
        }
        if let Some(folder) = &set_up.gateways {
            cargo.env(GATEWAYS, folder);
        }
        if let Some(app) = &app {
            cargo.env("KEYWRIGHT_TEST_APP", app);
        }
        with_browser(&mut cargo, set_up);
        cargo.args(["test", "--no-fail-fast", "--package", WHOLE]);
        cargo.args(filter).arg("--").args(words);
        with_database(&mut cargo, set_up.database.as_ref());
        cargo
    };
    let skips = skipping(&left_out);
    if !quick && !left_out.is_empty() && filter.is_none() {
        // What was asked for and cannot be run is told, and counted.
        for failed in set_up.failed.iter().filter(|one| !one.costs.is_empty()) {
            eprintln!("skipped {:?}: {:#}", failed.costs, failed.error);
        }
        let all = count::listed(&process::output(&mut whole(&["--list"]))?);
        let rest = [&["--list"][..], &skips].concat();
        let rest = count::listed(&process::output(&mut whole(&rest))?);
        seen.counts.skipped += all.saturating_sub(rest);
    }
    if filter.is_some() || quick {
        return cargo_test(&mut whole(&skips), seen, None);
    }
    // Windows and browsers answer in time only while nothing else takes both processors.
    let words = [&["desktop::", "server::pages::"][..], &skips].concat();
    let windows = cargo_test(&mut whole(&words), seen, None);
    let rest = [&["desktop::", "server::pages::"][..], &left_out].concat();
    cargo_test(&mut whole(&skipping(&rest)), seen, None)?;
    windows
}

fn skipping<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().flat_map(|name| ["--skip", *name]).collect()
}

/// Where tests find the browser, if it is not Debian's.
fn with_browser(command: &mut Command, set_up: &SetUp) {
    if let Some(browser) = tools::foreign_browser(set_up.browser.as_deref()) {
        command.env("CHROMIUM", browser);
    }
}

/// Each target with the same inputs every time; `cargo xtask fuzz` looks for new ones.
fn fuzzing(seen: &mut Seen, filter: Option<&str>) -> Result<()> {
    let mut targets = fuzz::targets()?;
    targets.retain(|target| filter.is_none_or(|filter| target.contains(filter)));
    if targets.is_empty() {
        return Ok(());
    }
    let binaries = fuzz::build()?;
    for target in targets {
        let outcome = process::step(&format!("fuzz {target}"), || {
            fuzz::replay(&binaries, &target)
        });
        process::go_on()?;
        seen.fuzz_target(&target, &outcome);
    }
    Ok(())
}

/// Only our server, or none: a test never works on one that happens to be set outside.
fn with_database(cargo: &mut Command, database: Option<&Cluster>) {
    match database {
        Some(cluster) => cargo.env(postgres::VARIABLE, cluster.url()),
        None => cargo.env_remove(postgres::VARIABLE),
    };
}

fn cargo_test(cargo: &mut Command, seen: &mut Seen, filter: Option<&str>) -> Result<()> {
    cargo.args(filter);
    let status = stream::watch(cargo, STAGE_LIMIT, |line| {
        stream::repeat(line);
        seen.cargo_line(line);
    })?;
    match seen.without_result() {
        0 => judge(status, seen),
        crashed => bail!("{crashed} test program(s) ended without a result"),
    }
}

/// Failing tests are counted by their names; a runner that fails without naming one has crashed.
fn judge(status: Option<ExitStatus>, seen: &Seen) -> Result<()> {
    match status {
        None => bail!("not done after {} minutes", STAGE_LIMIT.as_secs() / 60),
        Some(status) if !status.success() && seen.counts.failed == 0 => {
            bail!("it ended with {status}")
        }
        Some(_) => Ok(()),
    }
}

#[derive(Default)]
struct Report {
    counts: Counts,
    failing: Vec<String>,
}

impl Report {
    /// Does a stage and adds up its tests; a crash is one more failure. Fails only on Ctrl-C.
    fn stage(&mut self, name: &str, stage: impl FnOnce(&mut Seen) -> Result<()>) -> Result<()> {
        let mut seen = Seen::default();
        let result = process::step(name, || stage(&mut seen));
        process::go_on()?;
        self.add(name, seen, result);
        Ok(())
    }

    /// What could not be had is one failure each, whatever it costs.
    fn add_set_up(&mut self, set_up: &SetUp) {
        for failed in &set_up.failed {
            self.counts.failed += 1;
            let told = format!("set-up: {}: {:#}", failed.name, failed.error);
            self.failing.push(told);
        }
    }

    fn add(&mut self, name: &str, seen: Seen, result: Result<()>) {
        self.counts += seen.counts;
        self.failing.extend(seen.failing);
        if let Err(error) = result {
            self.counts.failed += 1;
            self.failing.push(format!("{name} crashed: {error:#}"));
        }
    }

    fn end(mut self) -> Result<()> {
        if self.counts == Counts::default() {
            self.counts.failed = 1;
            self.failing.push("no test ran".to_owned());
        }
        if !self.failing.is_empty() {
            println!("\nfailed:");
        }
        for name in &self.failing {
            println!("  {name}");
        }
        println!("{}", self.counts);
        if self.counts.failed > 0 {
            Err(Said.into())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn seen(passed: u64, failed: u64) -> Seen {
        let mut seen = Seen::default();
        seen.counts = Counts {
            passed,
            failed,
            skipped: 0,
        };
        seen
    }

    #[test]
    fn a_crash_is_one_failure_more() {
        let mut report = Report::default();
        report.add("crates", seen(5, 0), Ok(()));
        report.add("interface", seen(2, 1), Ok(()));
        report.add("browser", seen(0, 0), Err(anyhow::anyhow!("gone")));
        assert_eq!(
            report.counts,
            Counts {
                passed: 7,
                failed: 2,
                skipped: 0
            }
        );
        assert_eq!(report.failing, ["browser crashed: gone"]);
        assert!(report.end().is_err());
    }

    #[test]
    fn what_could_not_be_had_is_told_and_is_a_failure_each() {
        let mut report = Report::default();
        report.add("crates", seen(5, 0), Ok(()));
        let failed = set_up::Failed {
            name: "browser",
            error: anyhow::anyhow!("Chromium is a snap"),
            costs: &["desktop::"],
        };
        let set_up = SetUp {
            failed: vec![failed],
            ..SetUp::default()
        };
        report.add_set_up(&set_up);
        assert_eq!((report.counts.passed, report.counts.failed), (5, 1));
        assert_eq!(report.failing, ["set-up: browser: Chromium is a snap"]);
        assert!(report.end().is_err());
    }

    #[test]
    fn nothing_tested_is_a_failure() {
        assert!(Report::default().end().is_err());
        let mut report = Report::default();
        report.add("crates", seen(1, 0), Ok(()));
        assert!(report.end().is_ok());
    }

    #[test]
    fn a_runner_that_fails_without_a_failing_test_has_crashed() {
        let status = |code: i32| Some(ExitStatus::from_raw(code << 8));
        assert!(judge(status(0), &seen(1, 0)).is_ok());
        assert!(judge(status(101), &seen(1, 1)).is_ok());
        assert!(judge(status(101), &seen(1, 0)).is_err());
        assert!(judge(None, &seen(1, 0)).is_err());
    }
}
