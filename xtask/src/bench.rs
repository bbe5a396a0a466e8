//! Measures. One JSON object a line on standard output; talk on standard error.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    args::{Bench, ServerBench},
    bench_desktop, bench_server,
    postgres::{self, Cluster},
    process, stream,
    tools::{self, Need},
};

/// `cargo xtask bench`.
pub(crate) fn run(which: Bench, json: bool) -> Result<()> {
    tools::ensure(&[Need::Build])?;
    warn_of_foreign_load();
    let mut lines = Vec::new();
    if matches!(which, Bench::Registry | Bench::All) {
        tools::ensure(&[Need::Database])?;
        let database = Cluster::start()?;
        process::step("measure the registry", || registry(&mut lines, &database))?;
    }
    let part = match which {
        Bench::Server(part) => Some(part),
        Bench::All => Some(ServerBench::All),
        Bench::Registry | Bench::Desktop => None,
    };
    if let Some(part) = part {
        process::step("measure the server", || bench_server::run(part, &mut lines))?;
    }
    if matches!(which, Bench::Desktop | Bench::All) {
        bench_desktop::run(&mut lines)?;
    }
    if !json {
        eprintln!("\n{}", table(&lines));
    }
    if lines.is_empty() {
        bail!("nothing was measured");
    }
    Ok(())
}

/// Prints a result and keeps it.
pub(crate) fn tell(lines: &mut Vec<Value>, line: Value) {
    println!("{line}");
    lines.push(line);
}

/// The registry brings its own benches; their lines are passed through.
fn registry(lines: &mut Vec<Value>, database: &Cluster) -> Result<()> {
    example(lines, database, "bench_registry", &[])?;
    example(lines, database, "bench_lists", &["sqlite"])
}

fn example(lines: &mut Vec<Value>, database: &Cluster, name: &str, words: &[&str]) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.env(postgres::VARIABLE, database.url());
    cargo.args(["run", "--release", "--package", "keywright-registry"]);
    cargo.args(["--example", name, "--"]).args(words);
    pass_lines_on(lines, &mut cargo)
}

/// Runs a bench and passes its lines on.
pub(crate) fn pass_lines_on(lines: &mut Vec<Value>, cargo: &mut Command) -> Result<()> {
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = stream::lines_of(child.stdout.take().context("no output")?);
    let status = process::wait(&mut child, None)?.context("the bench took too long")?;
    for line in output {
        match serde_json::from_str(&line) {
            Ok(value) => tell(lines, value),
            Err(_) => eprintln!("{line}"),
        }
    }
    if !status.success() {
        bail!("the bench failed ({status})");
    }
    Ok(())
}

/// Figures taken while others use the processor say little.
fn warn_of_foreign_load() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f32 = load
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0);
    if load > 0.5 {
        eprintln!("note: this machine is busy (load {load}); the figures will be too high");
    }
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
            format!("{:<10} {:<24}", text("bench"), text("case")),
            format!("{:>12} {:<6}", text("value"), text("unit")),
            format!(
                "ratio {:>8}  goal {:>8}  met {}",
                text("ratio"),
                text("goal"),
                text("met")
            ),
        ];
        table.push_str(row.join("  ").trim_end());
        table.push('\n');
    }
    table
}
