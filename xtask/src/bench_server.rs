//! The server, measured: requests over loopback by its own example, beside a bare axum route and beside
//! npm's oidc-provider, and the binary's start-up time and memory.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    bench::{pass_lines_on, tell},
    npm,
    postgres::{self, Cluster},
    process, reap, run_server,
    tools::{self, Need},
};

const STARTS: usize = 7;

/// `cargo xtask bench server`.
pub(crate) fn run(lines: &mut Vec<Value>) -> Result<()> {
    let peer = Peer::start()?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "keywright-server"]);
    cargo.args(["--example", "bench_server"]);
    cargo.env("KEYWRIGHT_BENCH_PEER", &peer.issuer);
    pass_lines_on(lines, &mut cargo)?;
    drop(peer);
    nodes(lines)?;
    starts(lines)
}

/// Three of them over one database.
fn nodes(lines: &mut Vec<Value>) -> Result<()> {
    tools::ensure(&[Need::Database])?;
    let server = run_server::build(true)?;
    let database = Cluster::start()?;
    let mut cargo = process::cargo();
    cargo.env(postgres::VARIABLE, database.url());
    cargo.args(["run", "--release", "--package", "keywright-server"]);
    cargo.args(["--example", "bench_nodes", "--"]).arg(&server);
    pass_lines_on(lines, &mut cargo)
}

/// Another provider, on the core that ours is measured on.
struct Peer {
    child: Child,
    issuer: String,
}

impl Peer {
    fn start() -> Result<Self> {
        npm::ensure_packages("tests/peers")?;
        let mut command = process::command("taskset");
        command.args(["-c", "0", "node", "bench-provider.mjs"]);
        command.current_dir(crate::root().join("tests/peers"));
        // Its word of warning that this is a development setting is not ours to print.
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start taskset (util-linux)")?;
        let output = child.stdout.take().context("no output")?;
        let mut first = String::new();
        BufReader::new(output).read_line(&mut first)?;
        let issuer = first.trim().strip_prefix("ready ").map(str::to_owned);
        let issuer = issuer.with_context(|| format!("the other provider said: {first}"))?;
        Ok(Self { child, issuer })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        reap::end_tree(&mut self.child);
    }
}

/// From the start of the process to the line that says it is ready, and what it holds then.
fn starts(lines: &mut Vec<Value>) -> Result<()> {
    let server = run_server::build(true)?;
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    run_server::set_up(&server, home.path(), &data)?;
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    // The first start makes signing keys: it is not like the others.
    for turn in 0..=STARTS {
        let began = Instant::now();
        let mut command = process::command(&server);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("cannot start the server")?;
        let ready = wait_until_ready(&mut child);
        let took = began.elapsed();
        let size = resident(child.id());
        reap::send(child.id(), Signal::TERM);
        let status = process::wait(&mut child, Some(Duration::from_secs(30)))?;
        ready?;
        if status.is_none() {
            reap::end_tree(&mut child);
            bail!("the server did not end");
        }
        if turn > 0 {
            times.push(took.as_secs_f64() * 1000.0);
            sizes.push(size?);
        }
    }
    tell(lines, line("start-up", median(&mut times), "ms"));
    tell(lines, line("resident memory", median(&mut sizes), "MiB"));
    Ok(())
}

fn line(case: &str, value: f64, unit: &str) -> Value {
    let value = (value * 10.0).round() / 10.0;
    json!({ "bench": "server", "case": case, "value": value, "unit": unit })
}

fn wait_until_ready(child: &mut Child) -> Result<()> {
    let output = child.stdout.take().context("no output")?;
    let mut first = String::new();
    BufReader::new(output).read_line(&mut first)?;
    let ready: Value = serde_json::from_str(&first).context("the server did not start")?;
    if ready["ready"] != true {
        bail!("the server is not ready: {first}");
    }
    Ok(())
}

/// MiB in memory.
fn resident(id: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no VmRSS")?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
