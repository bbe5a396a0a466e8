//! The server, measured: requests over loopback by its own example, beside a bare axum route and beside
//! npm's oidc-provider, at several sizes; several nodes; and the binary's start-up time and memory.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    args::ServerBench,
    bench::{pass_lines_on, tell},
    npm,
    postgres::{self, Cluster},
    process, reap, run_server,
    tools::{self, Need},
};

const STARTS: usize = 7;
const SMALL: u64 = 1_000;
const LARGE: u64 = 10_000_000;

/// `cargo xtask bench server`, or a part of it.
pub(crate) fn run(part: ServerBench, lines: &mut Vec<Value>) -> Result<()> {
    let wants = |one| part == ServerBench::All || part == one;
    if wants(ServerBench::Requests) {
        requests(lines)?;
    }
    if wants(ServerBench::Sizes) {
        sizes(lines)?;
    }
    if wants(ServerBench::Nodes) {
        nodes(lines)?;
    }
    if wants(ServerBench::Starts) {
        starts(lines)?;
    }
    Ok(())
}

/// All requests among 100,000 keys, beside a bare axum route and beside npm's oidc-provider.
fn requests(lines: &mut Vec<Value>) -> Result<()> {
    let peer = Peer::start()?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "keywright-server"]);
    cargo.args(["--example", "bench_server"]);
    cargo.env("KEYWRIGHT_BENCH_PEER", &peer.issuer);
    pass_lines_on(lines, &mut cargo)
}

/// Verification among 1 k, 1 M and 10 M keys, and its processor time beside 1 k. Takes about ten minutes and
/// 6 GB while it runs.
fn sizes(lines: &mut Vec<Value>) -> Result<()> {
    let folder = tempfile::tempdir_in(crate::target())?;
    let file = |name: &str| folder.path().join(name);
    let small = file("beside.db");
    fill(&small, SMALL)?;
    for (name, size) in [("1k.db", SMALL), ("1m.db", 1_000_000), ("10m.db", LARGE)] {
        let file = file(name);
        fill(&file, size)?;
        let mut cargo = process::cargo();
        cargo.args(["run", "--release", "--package", "keywright-server"]);
        cargo.args(["--example", "bench_server", "--", "--registry"]);
        cargo.arg(&file);
        if size == LARGE {
            cargo.arg("--beside").arg(&small);
        }
        cargo.args(["loaded", "verify_json", "forward_auth", "verify_10m_cpu"]);
        pass_lines_on(lines, &mut cargo)?;
        fs::remove_file(&file)?;
    }
    Ok(())
}

/// Adds so many keys to a registry.
fn fill(file: &Path, size: u64) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "keywright-registry"]);
    cargo.args(["--example", "bench_registry", "--", "fill"]);
    cargo.arg(file).arg(size.to_string());
    process::run(&mut cargo)
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

/// From the start of the process to its first answer, and what it holds then: with 1 k keys, and with
/// 10 M of them.
fn starts(lines: &mut Vec<Value>) -> Result<()> {
    let server = run_server::build(true)?;
    let (small, resident) = start(&server, SMALL)?;
    let mut line = line("start_ms", small, "ms");
    line["gate"] = json!(100);
    line["goal"] = json!(40);
    line["met"] = json!(small <= 40.0);
    tell(lines, line);
    let mut line = self::line("idle_mib", resident, "MiB");
    line["gate"] = json!(30);
    line["goal"] = json!(20);
    line["met"] = json!(resident <= 20.0);
    tell(lines, line);
    let (large, _) = start(&server, LARGE)?;
    let ratio = large / small;
    let mut line = self::line("start_10m", large, "ms");
    line["baseline"] = json!((small * 10.0).round() / 10.0);
    line["baseline_is"] = json!("the same with 1 k keys");
    line["ratio"] = json!((ratio * 100.0).round() / 100.0);
    line["gate"] = json!(5);
    line["goal"] = json!(2);
    line["met"] = json!(ratio <= 2.0);
    tell(lines, line);
    Ok(())
}

/// Milliseconds to the first answer and MiB then with so many keys, medians of several starts.
fn start(server: &Path, keys: u64) -> Result<(f64, f64)> {
    let home = tempfile::tempdir_in(crate::target())?;
    let data = home.path().join("data");
    run_server::set_up(server, home.path(), &data)?;
    let database = data.join("registry.db");
    if !database.exists() {
        bail!("{} is not where the registry is", database.display());
    }
    fill(&database, keys)?;
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    // The first start makes signing keys: it is not like the others.
    for turn in 0..=STARTS {
        let began = Instant::now();
        let mut command = process::command(server);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("cannot start the server")?;
        let answered = wait_until_ready(&mut child).and_then(|address| first_answer(&address));
        let took = began.elapsed();
        let size = resident(child.id());
        reap::send(child.id(), Signal::TERM);
        let status = process::wait(&mut child, Some(Duration::from_secs(30)))?;
        answered?;
        if status.is_none() {
            reap::end_tree(&mut child);
            bail!("the server did not end");
        }
        if turn > 0 {
            times.push(took.as_secs_f64() * 1000.0);
            sizes.push(size?);
        }
    }
    Ok((median(&mut times), median(&mut sizes)))
}

fn first_answer(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut first = String::new();
    BufReader::new(stream).read_line(&mut first)?;
    if !first.starts_with("HTTP/1.1 200") {
        bail!("the first answer is {first}");
    }
    Ok(())
}

fn line(case: &str, value: f64, unit: &str) -> Value {
    let value = (value * 10.0).round() / 10.0;
    json!({ "bench": "server", "case": case, "value": value, "unit": unit })
}

/// Returns where it takes requests.
fn wait_until_ready(child: &mut Child) -> Result<String> {
    let output = child.stdout.take().context("no output")?;
    let mut first = String::new();
    BufReader::new(output).read_line(&mut first)?;
    let ready: Value = serde_json::from_str(&first).context("the server did not start")?;
    if ready["ready"] != true {
        bail!("the server is not ready: {first}");
    }
    let address = ready["listen"].as_str().context("no address")?;
    Ok(address.to_owned())
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
