//! Measures. One JSON object a line on standard output; talk on standard error.
//!
//! Each line is judged here: what gate and goal its row has, and whether somebody else's work was measured as well.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    args::{Bench, ServerBench, Which},
    bench_desktop, bench_registry,
    bench_rows::{self, Part, Row},
    bench_server::{self, Server},
    foreign::{self, Foreign},
    process, stream,
    tools::{self, Need},
};

/// `cargo xtask bench`.
pub(crate) fn run(options: &Bench) -> Result<()> {
    tools::ensure(&[Need::Build])?;
    let mut lines = Lines {
        smoke: options.smoke,
        rounds: options.rounds,
        file: options.file.clone(),
        told: Vec::new(),
        foreign: Foreign::new(),
    };
    let measured = measure(options.which, &mut lines);
    if let Err(error) = &measured {
        // A run with errors is void: whoever reads lines has to see it too.
        lines.print(json!({ "bench": "all", "case": "run", "void": format!("{error:#}") }));
    }
    if !options.json {
        eprintln!("\n{}", table(&lines.told));
    }
    measured?;
    if let Which::Row(row) = options.which {
        lines.has(row)?;
    }
    let void = lines.void();
    if void > 0 {
        bail!("{void} lines are void: each says why");
    }
    if lines.told.is_empty() {
        bail!("nothing was measured");
    }
    if options.gates {
        lines.hold_gates()?;
    }
    Ok(())
}

fn measure(which: Which, lines: &mut Lines) -> Result<()> {
    if matches!(which, Which::Registry | Which::All) {
        process::step("measure the registry", || bench_registry::all(lines))?;
    }
    match which {
        Which::Lists => process::step("measure lists", || bench_registry::lists(lines))?,
        Which::Instructions => {
            process::step("count instructions", || bench_registry::instructions(lines))?;
        }
        Which::Row(row) => process::step(&format!("measure {}", row.name), || one(row, lines))?,
        _ => {}
    }
    let part = match which {
        Which::Server(part) => Some(part),
        Which::All => Some(ServerBench::All),
        _ => None,
    };
    if let Some(part) = part {
        process::step("measure the server", || bench_server::run(part, lines))?;
    }
    if matches!(which, Which::Desktop | Which::All) {
        bench_desktop::run(lines)?;
    }
    Ok(())
}

/// One row of the design, by what measures it.
fn one(row: &Row, lines: &mut Lines) -> Result<()> {
    match row.by {
        Part::Registry(words) => bench_registry::some(words, lines),
        Part::Lists(what) => bench_registry::large_lists(what, lines),
        Part::Requests(peers) => Server::default().requests(peers, &[row.name], lines),
        Part::Sizes => Server::default().large(&[row.name], lines),
        Part::Cold => Server::default().cold(lines),
        Part::Nodes(word) => bench_server::nodes(&[word], lines),
        Part::Starts => bench_server::starts(lines),
        Part::Desktop => bench_desktop::run(lines),
    }
}

/// What was measured, and how it was asked for.
pub(crate) struct Lines {
    pub(crate) smoke: bool,
    pub(crate) rounds: Option<usize>,
    /// A registry with 10 M keys.
    pub(crate) file: Option<PathBuf>,
    told: Vec<Value>,
    foreign: Foreign,
}

impl Lines {
    /// Judges a result, prints it and keeps it.
    pub(crate) fn tell(&mut self, mut line: Value) {
        if self.smoke {
            line["smoke"] = json!(true);
        }
        let cores = self.foreign.cores();
        line["foreign_cores"] = json!(cores);
        if cores > foreign::MOST {
            line["void"] = json!(format!("others used {cores} cores meanwhile"));
        }
        self.print(line);
    }

    /// The same for what others' work does not change.
    pub(crate) fn tell_without_load(&mut self, mut line: Value) {
        if self.smoke {
            line["smoke"] = json!(true);
        }
        self.print(line);
    }

    fn print(&mut self, mut line: Value) {
        bench_rows::judge(&mut line);
        println!("{line}");
        self.told.push(line);
    }

    /// Cargo, to run an example in the profile that is asked for.
    pub(crate) fn example(&self, package: &str, name: &str) -> Command {
        let mut cargo = process::cargo();
        cargo.args(["run", "--locked", "--package", package]);
        if !self.smoke {
            cargo.arg("--release");
        }
        cargo.args(["--example", name, "--"]);
        cargo
    }

    /// Builds an example in the profile that is asked for, and says where it is.
    pub(crate) fn build(&self, package: &str, name: &str) -> Result<PathBuf> {
        build_first(&self.example(package, name))?;
        let kind = if self.smoke { "debug" } else { "release" };
        Ok(crate::target().join(kind).join("examples").join(name))
    }

    /// Runs a bench and passes its lines on.
    pub(crate) fn pass_on(&mut self, cargo: &mut Command) -> Result<()> {
        build_first(cargo)?;
        self.begin();
        let mut child = cargo
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start cargo")?;
        let output = stream::lines_of(child.stdout.take().context("no output")?);
        for line in output {
            match serde_json::from_str(&line) {
                Ok(value) => self.tell(value),
                Err(_) => eprintln!("{line}"),
            }
        }
        let status = process::wait(&mut child, None)?.context("the bench took too long")?;
        if !status.success() {
            bail!("the bench failed ({status})");
        }
        Ok(())
    }

    /// What was done until now, building and filling, is not measured.
    pub(crate) fn begin(&mut self) {
        self.foreign = Foreign::new();
    }

    /// Fails unless a row was measured: in a smoke run under the name of a smaller size.
    fn has(&self, row: &Row) -> Result<()> {
        let told = |case: &str| self.told.iter().any(|line| line["case"] == case);
        if self.smoke || row.cases.iter().any(|case| told(case)) {
            return Ok(());
        }
        bail!("{} was not measured", row.name)
    }

    /// Fails if a gate was missed, and says which.
    fn hold_gates(&self) -> Result<()> {
        let missed: Vec<String> = self
            .told
            .iter()
            .filter(|line| line["met"] == "no")
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                let (value, ratio, gate) = (&line["value"], &line["ratio"], &line["gate"]);
                let (case, unit) = (text("case"), text("unit"));
                format!("  {case}: {value} {unit}, ratio {ratio}, gate {gate}")
            })
            .collect();
        if missed.is_empty() {
            return Ok(());
        }
        bail!("{} gates are missed:\n{}", missed.len(), missed.join("\n"))
    }

    fn void(&self) -> usize {
        let void = |line: &&Value| line.get("void").is_some() && line["smoke"] != true;
        self.told.iter().filter(void).count()
    }
}

/// Builds what `cargo run` would build, so that nothing is left but to measure.
fn build_first(cargo: &Command) -> Result<()> {
    let mut words = cargo.get_args();
    if words.next() != Some(OsStr::new("run")) {
        return Ok(());
    }
    let mut build = process::cargo();
    build.arg("build");
    build.args(words.take_while(|word| *word != OsStr::new("--")));
    process::run(&mut build)
}

fn table(lines: &[Value]) -> String {
    let mut table = String::new();
    for line in lines {
        let text = |name: &str| match &line[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let row = [
            format!("{:<10} {:<28}", text("bench"), text("case")),
            format!("{:>12} {:<7}", text("value"), text("unit")),
            format!("ratio {:>8}", text("ratio")),
            format!(
                "gate {:>6}  goal {:>6}  met {}",
                text("gate"),
                text("goal"),
                match line.get("void") {
                    Some(why) => format!("void: {}", why.as_str().unwrap_or_default()),
                    None => text("met"),
                }
            ),
        ];
        table.push_str(row.join("  ").trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(smoke: bool) -> Lines {
        Lines {
            smoke,
            rounds: None,
            file: None,
            told: Vec::new(),
            foreign: Foreign::new(),
        }
    }

    #[test]
    fn a_failed_bench_is_told_and_fails() {
        let mut all = lines(false);
        let mut bench = process::command("sh");
        bench.args([
            "-c",
            "echo '{\"case\": \"verify_json\", \"ratio\": 0.9}'; exit 3",
        ]);
        assert!(all.pass_on(&mut bench).is_err());
        assert_eq!(all.told.len(), 1);
    }

    #[test]
    fn lines_beside_foreign_load_are_void() {
        let mut all = lines(false);
        all.foreign = Foreign::found(foreign::MOST + 0.01);
        all.tell(json!({"case": "verify_json", "ratio": 0.9}));
        all.foreign = Foreign::found(foreign::MOST);
        all.tell(json!({"case": "verify_json", "ratio": 0.9}));
        assert_eq!(all.void(), 1);
        assert_eq!(all.told[0]["met"], Value::Null);
        assert_eq!(all.told[1]["met"], "goal");
        // It is seen in the table too.
        assert_eq!(table(&all.told).matches("void").count(), 1);
    }

    #[test]
    fn a_missed_gate_is_named() -> Result<()> {
        let mut all = lines(false);
        all.foreign = Foreign::found(0.0);
        all.tell(json!({"case": "verify_json", "ratio": 0.72}));
        // No row of the design, and a row of a run that measures nothing.
        all.tell(json!({"case": "userinfo", "ratio": 0.1}));
        all.tell(json!({"case": "verify_many", "ratio": 0.1, "smoke": true}));
        all.hold_gates()?;
        all.tell(json!({"case": "forward_auth", "value": 1.0, "unit": "/s", "ratio": 0.81}));
        let said = all.hold_gates().err().context("nothing was said")?;
        let line = "1 gates are missed:\n  forward_auth: 1.0 /s, ratio 0.81, gate 0.82";
        assert_eq!(said.to_string(), line);
        Ok(())
    }

    #[test]
    fn a_row_that_was_asked_for_has_to_be_measured() -> Result<()> {
        let row = bench_rows::named("verify_json").context("no row")?;
        let mut all = lines(false);
        all.tell(json!({"case": "verify_many", "ratio": 9.0}));
        assert!(all.has(row).is_err());
        all.tell(json!({"case": "verify_json", "ratio": 0.9}));
        all.has(row)
    }
}
