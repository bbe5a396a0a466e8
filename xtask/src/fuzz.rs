//! Throws inputs at the parsers of what strangers send, with feedback from coverage. The flags
//! are cargo-fuzz's own without a sanitizer (there is no unsafe code to watch over): so the
//! stable compiler does, and nothing needs to be installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    args::Fuzz,
    process, stream,
    tools::{self, Need},
};

/// The package, a workspace of its own.
const FOLDER: &str = "fuzz";

/// How the compiler reports to the fuzzer which ways a run took.
const COVERAGE: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// Lines of the fuzzer that begin so are its progress, or about a sanitizer that is not there.
const CHATTER: &[&str] = &[
    "#",
    "INFO: ",
    "\tNEW_FUNC",
    "WARNING: Failed to find function",
];

/// One input may take this many seconds; more is a finding of its own.
const INPUT_SECONDS: u64 = 10;

/// How many inputs a target gets beside the other tests, and how long it may take at most.
const REPLAY_RUNS: u64 = 200_000;
const REPLAY_SECONDS: u64 = 60;

/// `cargo xtask fuzz`.
pub(crate) fn run(options: &Fuzz) -> Result<()> {
    tools::ensure(&[Need::Compile])?;
    let targets = chosen(targets()?, options.target.as_deref())?;
    let binaries = build()?;
    if let Some(input) = &options.input {
        let [target] = targets.as_slice() else {
            bail!("an input is for one target: name it");
        };
        // From where the person stands, not from the repository's root.
        let input = std::path::absolute(input)?;
        return process::run(process::command(binaries.join(target)).arg(input));
    }
    let mut failed = Vec::new();
    for target in targets {
        let result = process::step(&format!("fuzz {target}"), || {
            hunt(&binaries, &target, options.seconds)
        });
        process::go_on()?;
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The targets there are, by their files.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = crate::root().join(FOLDER).join("fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "rs") {
            targets.extend(path.file_stem().map(|name| name.to_string_lossy().into()));
        }
    }
    targets.sort();
    Ok(targets)
}

/// Builds all targets and returns the folder they lie in.
pub(crate) fn build() -> Result<PathBuf> {
    // With a target named, the flags do not reach build scripts and macros.
    let about = process::output(process::command("rustc").arg("-vV"))?;
    let host = about
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not tell its host")?;
    let folder = crate::target().join("fuzz");
    process::step("build the fuzz targets", || {
        let mut cargo = process::cargo();
        cargo
            .args(["build", "--quiet", "--release", "--bins"])
            .args(["--target", host, "--manifest-path"])
            .arg(crate::root().join(FOLDER).join("Cargo.toml"));
        cargo.arg("--target-dir").arg(&folder);
        // The second would win over the first.
        cargo.env("RUSTFLAGS", COVERAGE.join(" "));
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        process::run(&mut cargo)
    })?;
    Ok(folder.join(host).join("release"))
}

/// Runs one target for a while with what earlier hunts learnt, and chance. Fails when it crashed, and says
/// how to see that again.
fn hunt(binaries: &Path, target: &str, seconds: u64) -> Result<()> {
    // What it learns is kept for the next run, but not in the repository.
    let learnt = crate::target().join("fuzz/corpus").join(target);
    fs::create_dir_all(&learnt)?;
    let mut run = target_with(binaries, target, &learnt)?;
    run.arg(format!("-max_total_time={seconds}"));
    throw(&mut run, target, seconds)
}

/// Runs one target over the repository's own seeds and always the same inputs made from them: what passed
/// once passes again on the same commit. To find something new is for [`run`].
pub(crate) fn replay(binaries: &Path, target: &str) -> Result<()> {
    let scratch = crate::target().join("fuzz/replay").join(target);
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;
    let mut run = target_with(binaries, target, &scratch)?;
    run.arg("-seed=1")
        .arg(format!("-runs={REPLAY_RUNS}"))
        .arg(format!("-max_total_time={REPLAY_SECONDS}"));
    throw(&mut run, target, REPLAY_SECONDS)
}

fn target_with(binaries: &Path, target: &str, corpus: &Path) -> Result<Command> {
    let artifacts = crate::root().join(FOLDER).join("artifacts").join(target);
    fs::create_dir_all(&artifacts)?;
    let mut run = process::command(binaries.join(target));
    run.arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(corpus);
    let seeds = crate::root().join(FOLDER).join("corpus").join(target);
    if seeds.is_dir() {
        run.arg(&seeds);
    }
    Ok(run)
}

fn throw(run: &mut Command, target: &str, seconds: u64) -> Result<()> {
    let mut output = Output::default();
    // Loading a large corpus takes its own time.
    let limit = Duration::from_secs(seconds.saturating_add(5 * 60));
    let status = stream::watch(run, limit, |line| {
        if output.is_worth_telling(line) {
            stream::repeat(line);
        }
    })?;
    match status {
        Some(status) if status.success() && output.done => Ok(()),
        Some(_) => match output.artifact {
            Some(file) => bail!("it crashed; to see it again: {}", again(target, &file)),
            None => bail!("it ended without a result"),
        },
        None => bail!("it did not stop after {} seconds", limit.as_secs()),
    }
}

fn again(target: &str, artifact: &str) -> String {
    let root = format!("{}/", crate::root().display());
    let file = artifact.strip_prefix(&root).unwrap_or(artifact);
    format!("cargo xtask fuzz {target} --input {file}")
}

/// What the fuzzer said that matters.
#[derive(Default)]
struct Output {
    done: bool,
    artifact: Option<String>,
    in_dictionary: bool,
}

impl Output {
    /// Reads a line; progress and suggestions are for nobody here.
    fn is_worth_telling(&mut self, line: &str) -> bool {
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.artifact = Some(file.trim().to_owned());
        }
        self.done |= line.starts_with("Done ");
        if line.starts_with("###### ") {
            self.in_dictionary = !line.contains("End of");
            return false;
        }
        !self.in_dictionary && !CHATTER.iter().any(|start| line.starts_with(start))
    }
}

/// Those that were asked for: one by its name, or all.
fn chosen(targets: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>> {
    match wanted {
        None => Ok(targets),
        Some(name) if targets.iter().any(|target| target == name) => Ok(vec![name.to_owned()]),
        Some(name) => bail!(
            "there is no fuzz target `{name}`\nhint: there are {}",
            targets.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = process::command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn every_target_is_declared_and_has_seeds() -> Result<()> {
        let manifest = fs::read_to_string(crate::root().join(FOLDER).join("Cargo.toml"))?;
        let targets = targets()?;
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
        for target in targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")));
            assert!(manifest.contains(&format!("name = \"{target}\"")));
            let seeds = crate::root().join(FOLDER).join("corpus").join(&target);
            assert!(fs::read_dir(&seeds)?.next().is_some(), "{target}");
        }
        Ok(())
    }

    #[test]
    fn targets_are_chosen_by_their_whole_name() -> Result<()> {
        let all = || vec!["a".to_owned(), "ab".to_owned()];
        assert_eq!(chosen(all(), None)?, all());
        assert_eq!(chosen(all(), Some("a"))?, ["a"]);
        assert!(chosen(all(), Some("b")).is_err());
        Ok(())
    }

    #[test]
    fn a_crash_tells_how_to_see_it_again() {
        let file = crate::root().join("fuzz/artifacts/a/crash-1");
        let script = format!(
            "echo 'artifact_prefix=x; Test unit written to {}'; exit 77",
            file.display()
        );
        let error = throw(&mut shell(&script), "a", 1).expect_err("it crashed");
        assert!(
            error
                .to_string()
                .ends_with("cargo xtask fuzz a --input fuzz/artifacts/a/crash-1"),
            "{error}"
        );
    }

    #[test]
    fn only_a_run_to_its_end_is_a_success() {
        assert!(throw(&mut shell("echo Done 12 runs"), "a", 1).is_ok());
        assert!(throw(&mut shell("true"), "a", 1).is_err());
        assert!(throw(&mut shell("echo Done 12 runs; exit 1"), "a", 1).is_err());
    }

    #[test]
    fn progress_is_left_out() {
        let mut output = Output::default();
        let text = "INFO: Seed: 1\n#2 INITED cov: 3\n\tNEW_FUNC[1/1]: 0x5\n###### Recommended dictionary. ######\n\
                    \"KYWRT1\" # Uses: 3\n###### End of recommended dictionary. ######\n\
                    thread '<unnamed>' panicked at a.rs:1:1:\nDone 3 runs in 1 second(s)";
        let told: Vec<&str> = text
            .lines()
            .filter(|line| output.is_worth_telling(line))
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(output.done);
    }
}
