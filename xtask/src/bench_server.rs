//! The server, measured: requests over loopback by its own example, beside a bare axum route and beside
//! npm's oidc-provider and better-auth, at several sizes; several nodes; and the binary's start-up time and memory.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    args::ServerBench,
    bench::Lines,
    bench_rows::Peers,
    npm,
    postgres::{self, Cluster},
    process, reap, run_server,
    tools::{self, Need},
};

const STARTS: usize = 7;
const SMALL: u64 = 1_000;
const MIDDLE: u64 = 1_000_000;
const LARGE: u64 = 10_000_000;
/// What a smoke run takes in its place.
const SMOKE: u64 = 10_000;
/// Revocations of one.
const SMOKE_TURNS: &str = "20";
const PACKAGE: &str = "keywright-server";

/// `cargo xtask bench server`, or a part of it.
pub(crate) fn run(part: ServerBench, lines: &mut Lines) -> Result<()> {
    let wants = |one| part == ServerBench::All || part == one;
    if wants(ServerBench::Requests) {
        Server::default().requests(Peers::All, &[], lines)?;
    }
    if wants(ServerBench::Sizes) {
        sizes(lines)?;
    }
    if wants(ServerBench::Nodes) {
        nodes(&[], lines)?;
        large_nodes(lines)?;
    }
    if wants(ServerBench::Starts) {
        starts(lines)?;
    }
    Ok(())
}

/// A run of `bench_server`.
#[derive(Default)]
pub(crate) struct Server {
    registry: Option<PathBuf>,
    beside: Option<PathBuf>,
    cold: bool,
}

impl Server {
    /// Requests among 100,000 keys, beside a bare axum route and beside whoever they want.
    pub(crate) fn requests(self, peers: Peers, cases: &[&str], lines: &mut Lines) -> Result<()> {
        let mut cargo = self.command(lines);
        let oidc = matches!(peers, Peers::Oidc | Peers::All)
            .then(|| Peer::start("tests/peers", "bench-provider.mjs"))
            .transpose()?;
        if let Some(peer) = &oidc {
            cargo.env("KEYWRIGHT_BENCH_PEER", &peer.address);
        }
        let better_auth = matches!(peers, Peers::BetterAuth | Peers::All)
            .then(|| Peer::start("tests/peers/better-auth", "bench.mjs"))
            .transpose()?;
        if let Some(peer) = &better_auth {
            cargo.env("KEYWRIGHT_BENCH_BETTER_AUTH", &peer.address);
        }
        lines.pass_on(cargo.args(cases))
    }

    /// Among 10 M keys, beside 1 k: of the file that was given, or of one that is filled for it and goes.
    pub(crate) fn large(mut self, cases: &[&str], lines: &mut Lines) -> Result<()> {
        let folder = tempfile::tempdir_in(crate::target())?;
        let small = folder.path().join("beside.db");
        fill(lines, &small, SMALL)?;
        self.registry = Some(large_file(folder.path(), lines)?);
        self.beside = Some(small);
        lines.pass_on(self.command(lines).args(cases))
    }

    /// The same with no key in memory.
    pub(crate) fn cold(mut self, lines: &mut Lines) -> Result<()> {
        let folder = tempfile::tempdir_in(crate::target())?;
        self.registry = Some(large_file(folder.path(), lines)?);
        self.cold = true;
        lines.pass_on(&mut self.command(lines))
    }

    fn command(&self, lines: &Lines) -> Command {
        let mut cargo = lines.example(PACKAGE, "bench_server");
        for (flag, file) in [("--registry", &self.registry), ("--beside", &self.beside)] {
            if let Some(file) = file {
                cargo.arg(flag).arg(file);
            }
        }
        if self.cold {
            cargo.arg("--cold");
        }
        if let Some(rounds) = rounds(lines) {
            cargo.args(["--rounds", &rounds.to_string()]);
        }
        if lines.smoke {
            cargo.args(["--small", "--requests", "20000"]);
        }
        cargo
    }
}

/// As many as were asked for; a smoke run needs one.
fn rounds(lines: &Lines) -> Option<usize> {
    lines.rounds.or_else(|| lines.smoke.then_some(1))
}

/// A file with 10 M keys (a smoke run takes less).
fn large_file(folder: &Path, lines: &Lines) -> Result<PathBuf> {
    if let Some(file) = &lines.file {
        return Ok(file.clone());
    }
    let file = folder.join("10m.db");
    fill(lines, &file, if lines.smoke { SMOKE } else { LARGE })?;
    Ok(file)
}

/// Verification among 1 k, 1 M and 10 M keys, its processor time beside 1 k, and with none of 10 M in memory. Takes
/// about ten minutes and 6 GB while it runs.
fn sizes(lines: &mut Lines) -> Result<()> {
    let folder = tempfile::tempdir_in(crate::target())?;
    let file = |name: &str| folder.path().join(name);
    let small = file("beside.db");
    fill(lines, &small, SMALL)?;
    let large = large_file(folder.path(), lines)?;
    let middle = if lines.smoke { SMOKE } else { MIDDLE };
    for (name, size) in [("1k.db", SMALL), ("1m.db", middle)] {
        let file = file(name);
        fill(lines, &file, size)?;
        let server = Server {
            registry: Some(file.clone()),
            ..Server::default()
        };
        let mut cargo = server.command(lines);
        lines.pass_on(cargo.args(["loaded", "verify_json", "forward_auth"]))?;
        fs::remove_file(&file)?;
    }
    let mut server = Server {
        registry: Some(large),
        beside: Some(small),
        cold: false,
    };
    let mut cargo = server.command(lines);
    lines.pass_on(cargo.args(["loaded", "verify_json", "forward_auth", "verify_10m_cpu"]))?;
    (server.beside, server.cold) = (None, true);
    lines.pass_on(&mut server.command(lines))
}

/// Adds so many keys to a registry.
fn fill(lines: &Lines, file: &Path, size: u64) -> Result<()> {
    let mut cargo = lines.example("keywright-registry", "bench_registry");
    cargo.arg("fill").arg(file).arg(size.to_string());
    process::run(&mut cargo)
}

/// Three of them over one database; with words, some of it.
pub(crate) fn nodes(words: &[&str], lines: &mut Lines) -> Result<()> {
    tools::ensure(&[Need::Database])?;
    let server = run_server::build(!lines.smoke)?;
    three_nodes(&server, &[], words, lines)
}

/// The same among a million keys: when every node has them in memory, what they take, what a revocation takes then, and how
/// many of them are verified a second, drawn at random.
fn large_nodes(lines: &mut Lines) -> Result<()> {
    tools::ensure(&[Need::Database])?;
    let server = run_server::build(!lines.smoke)?;
    let filler = lines.build("keywright-registry", "bench_registry")?;
    let size = if lines.smoke { SMOKE } else { MIDDLE };
    let (size, filler) = (size.to_string(), filler.display().to_string());
    let words = ["revocations", "receipts", "verify"];
    three_nodes(&server, &["--keys", &size, &filler], &words, lines)
}

fn three_nodes(server: &Path, flags: &[&str], words: &[&str], lines: &mut Lines) -> Result<()> {
    let database = Cluster::start()?;
    let mut cargo = lines.example(PACKAGE, "bench_nodes");
    cargo.env(postgres::VARIABLE, database.url());
    cargo.arg(server).args(flags);
    if lines.smoke {
        cargo.args(["--turns", SMOKE_TURNS]);
    }
    if let Some(rounds) = rounds(lines) {
        cargo.args(["--rounds", &rounds.to_string()]);
    }
    lines.pass_on(cargo.args(words))
}

/// Somebody else's server, on the core that ours is measured on.
struct Peer {
    child: Child,
    address: String,
}

impl Peer {
    /// Its packages are installed as its own lock file says, and only for a bench that needs them.
    fn start(folder: &str, script: &str) -> Result<Self> {
        npm::ensure_packages(folder)?;
        let mut command = process::command("taskset");
        command.args(["-c", "0", "node", script]);
        command.current_dir(crate::root().join(folder));
        // Its word of warning that this is a development setting is not ours to print.
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start taskset (util-linux)")?;
        let output = child.stdout.take().context("no output")?;
        let mut first = String::new();
        BufReader::new(output).read_line(&mut first)?;
        let address = first.trim().strip_prefix("ready ").map(str::to_owned);
        let address = address.with_context(|| format!("{folder}/{script} said: {first}"))?;
        Ok(Self { child, address })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        reap::end_tree(&mut self.child);
    }
}

/// From the start of the process to its first answers, and what it holds then: with 1 k keys, and with
/// 10 M of them.
pub(crate) fn starts(lines: &mut Lines) -> Result<()> {
    let server = run_server::build(!lines.smoke)?;
    let small = start(lines, &server, SMALL)?;
    lines.tell(line("start_ms", small.verified, "ms"));
    lines.tell(line("start_healthz_ms", small.healthy, "ms"));
    lines.tell(line("idle_mib", small.resident, "MiB"));
    let size = if lines.smoke { SMOKE } else { LARGE };
    let large = start(lines, &server, size)?;
    for (case, large, small) in [
        ("start_10m", large.verified, small.verified),
        ("start_10m_healthz", large.healthy, small.healthy),
    ] {
        let mut line = line(case, large, "ms");
        line["baseline"] = json!((small * 10.0).round() / 10.0);
        line["baseline_is"] = json!("the same with 1 k keys");
        line["ratio"] = json!((large / small * 100.0).round() / 100.0);
        lines.tell(line);
    }
    Ok(())
}

/// Medians of several starts.
struct Started {
    /// Milliseconds to the first answer that lets a key through: it is of the registry, and says what it is there for.
    verified: f64,
    /// Milliseconds to the first answer of `/healthz`, which asks nothing.
    healthy: f64,
    /// MiB when the first key was let through.
    resident: f64,
}

/// With so many keys. Starts that are asked for a key and starts that are asked for their health take turns.
fn start(lines: &mut Lines, server: &Path, keys: u64) -> Result<Started> {
    let home = tempfile::tempdir_in(crate::target())?;
    let data = home.path().join("data");
    run_server::set_up(server, home.path(), &data)?;
    let database = data.join("registry.db");
    if !database.exists() {
        bail!("{} is not where the registry is", database.display());
    }
    fill(lines, &database, keys)?;
    let root_key = fs::read_to_string(home.path().join("root-key"))?;
    // The first start makes signing keys: it is not like the others. The key is used in it, as a first use is written at once.
    let (_, _, key) = once(server, &data, |address| {
        let key = issue(address, root_key.trim())?;
        let_through(address, &key)?;
        Ok(key)
    })?;
    lines.begin();
    let (mut verified, mut healthy, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (took, size, ()) = once(server, &data, |address| let_through(address, &key))?;
        verified.push(took);
        sizes.push(size);
        let (took, _, ()) = once(server, &data, |address| {
            ask(address, "GET /healthz", "", "", "200").map(drop)
        })?;
        healthy.push(took);
    }
    Ok(Started {
        verified: median(&mut verified),
        healthy: median(&mut healthy),
        resident: median(&mut sizes),
    })
}

/// Starts the server, asks it and ends it. Returns milliseconds from the start to the end of the asking, MiB then, and what
/// was found out.
fn once<T>(
    server: &Path,
    data: &Path,
    asking: impl FnOnce(&str) -> Result<T>,
) -> Result<(f64, f64, T)> {
    let began = Instant::now();
    let mut command = process::command(server);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start the server")?;
    let answered = wait_until_ready(&mut child).and_then(|address| asking(&address));
    let took = began.elapsed();
    let size = resident(child.id());
    reap::send(child.id(), Signal::TERM);
    let status = process::wait(&mut child, Some(Duration::from_secs(30)))?;
    let answered = answered?;
    if status.is_none() {
        reap::end_tree(&mut child);
        bail!("the server did not end");
    }
    Ok((took.as_secs_f64() * 1000.0, size?, answered))
}

/// A key of its own among those that were filled in, which nobody can present.
fn issue(address: &str, root_key: &str) -> Result<String> {
    let wish = json!({"name": "bench", "prefix": "sk_live", "scopes": ["keys:read"]});
    let issued = ask(
        address,
        "POST /api/v1/keys",
        root_key,
        &wish.to_string(),
        "201",
    )?;
    let issued: Value = serde_json::from_str(&issued)?;
    let secret = issued["secret"].as_str().context("no secret")?;
    Ok(secret.to_owned())
}

/// Forward auth: 204 for a key that is let through.
fn let_through(address: &str, key: &str) -> Result<()> {
    ask(address, "GET /verify", key, "", "204").map(drop)
}

/// One request on a connection of its own. Returns the body.
fn ask(address: &str, line: &str, bearer: &str, body: &str, status: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    let mut request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    );
    if !bearer.is_empty() {
        request.push_str(&format!("Authorization: Bearer {bearer}\r\n"));
    }
    request.push_str(&format!("\r\n{body}"));
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with(&format!("HTTP/1.1 {status}")) {
        bail!("{line} was answered {answer}");
    }
    let (_, body) = answer.split_once("\r\n\r\n").context("no end of a head")?;
    Ok(body.to_owned())
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
