//! Three server processes over one PostgreSQL: how long a revoked key is still let through elsewhere, and how many
//! keys a second they verify beside one node alone.
//!
//! `bench_nodes PROGRAM [--rounds N] [--keys N FILLER] [revocations] [receipts] [freezes] [verify]`: the server's binary,
//! and what is wanted; without it, everything. With `--keys` their database has so many keys besides, put there by
//! `FILLER fill ADDRESS N` (`bench_registry`); it is told when all of them are in every node's memory, and what they take. The database's address comes from `KEYWRIGHT_TEST_POSTGRES`: it has to be an empty
//! one; `verify` makes a second beside it (with `psql`) for the node that is alone, and needs `taskset`.
//! One JSON object a line.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

#[path = "bench_server/wire.rs"]
#[allow(dead_code, reason = "the other bench asks for more")]
mod wire;

const TURNS: usize = 320;
const FREEZES: usize = 5;
/// How long three nodes may take for ten million keys, each.
const LONGEST_LOAD: Duration = Duration::from_secs(900);
const PASSWORD: &str = "correct horse battery";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let server = PathBuf::from(words.next().context("the server's binary")?);
    let (mut rounds, mut wanted, mut filled) = (5, Vec::new(), None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = words.next().context("--rounds N")?.parse()?,
            "--keys" => {
                let keys: u64 = words.next().context("--keys N FILLER")?.parse()?;
                filled = Some((keys, words.next().context("--keys N FILLER")?));
            }
            "revocations" | "receipts" | "freezes" | "verify" => wanted.push(word),
            _ => bail!("`{word}` is not understood"),
        }
    }
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    let database = std::env::var("KEYWRIGHT_TEST_POSTGRES").context("no database")?;
    let folder = tempfile::tempdir()?;
    let three = folder.path().join("three");
    let nodes = Nodes::start(&server, &three, &database, 3, filled.as_ref()).await?;
    let mut admin = nodes.connect(0).await?;
    if wants("revocations") {
        revocations(&nodes, &mut admin).await?;
    }
    if wants("receipts") {
        receipts(&nodes, &mut admin).await?;
    }
    if wants("freezes") {
        freezes(&nodes, &mut admin).await?;
    }
    if wants("verify") {
        let other = Database::beside(&database)?;
        let alone = folder.path().join("alone");
        let alone = Nodes::start(&server, &alone, &other.address, 1, None).await?;
        verifications(&nodes, &alone, rounds).await?;
    }
    Ok(())
}

/// Verifications a second of one of three nodes, and of all three, beside a node that has a database for itself. All of
/// them share one core and are asked from the other, in turns: what is seen is what having neighbours costs, not
/// what more cores would bring.
async fn verifications(three: &Nodes, alone: &Nodes, rounds: usize) -> Result<()> {
    const KEYS: usize = 300;
    const LINES: usize = 32;
    const SLICE: Duration = Duration::from_millis(250);
    let mut targets = Vec::new();
    for nodes in [three, alone] {
        let mut admin = nodes.connect(0).await?;
        let mut keys = Vec::with_capacity(KEYS);
        for _ in 0..KEYS {
            keys.push(admin.issue().await?.1);
        }
        nodes.stay_on("0")?;
        targets.push(nodes.targets(&keys));
    }
    stay_on("1", std::process::id())?;
    let (alone, three) = (
        targets.pop().context("none")?,
        targets.pop().context("none")?,
    );
    let mut alone = [wire::Lines::open(&alone[0], LINES).await?];
    let mut one = [wire::Lines::open(&three[0], LINES).await?];
    let mut all = Vec::new();
    for target in &three {
        all.push(wire::Lines::open(target, LINES / three.len() + 1).await?);
    }
    // Every key once everywhere: a first use is written at once.
    for lines in alone.iter_mut().chain(&mut one).chain(&mut all) {
        lines.closed(Duration::from_secs(1)).await?;
    }
    let mut rates = [const { Vec::new() }; 3];
    for turn in 0..=rounds * 4 {
        let measured = [
            together(&mut alone, SLICE).await?,
            together(&mut one, SLICE).await?,
            together(&mut all, SLICE).await?,
        ];
        for (rates, rate) in rates.iter_mut().zip(measured).filter(|_| turn > 0) {
            rates.push(rate);
        }
    }
    let [alone, one, all] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    for (case, value) in [("verify_nodes_one_of_3", one), ("verify_nodes_all_3", all)] {
        let line = json!({
            "bench": "server", "case": case, "value": value.round(), "unit": "/s", "baseline": alone.round(),
            "baseline_is": "one node alone over a PostgreSQL database, on the same core", "ratio": round(value / alone),
        });
        println!("{line}");
    }
    Ok(())
}

/// Answers a second of several targets at once.
async fn together(lines: &mut [wire::Lines], slice: Duration) -> Result<f64> {
    let asked = lines.iter_mut().map(|lines| lines.closed(slice));
    let mut sum = 0.0;
    for rate in futures(asked.collect()).await {
        sum += rate?;
    }
    Ok(sum)
}

/// All of them at once, on this task.
async fn futures<T>(list: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut list: Vec<_> = list.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = list.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (one, done) in list.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = one.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().any(Option::is_none) {
            return Poll::Pending;
        }
        Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
    })
    .await
}

/// A second database on the same server, until this is dropped.
struct Database {
    server: String,
    name: String,
    address: String,
}

impl Database {
    fn beside(server: &str) -> Result<Self> {
        let name = format!("bench_alone_{}", std::process::id());
        let (base, _) = server
            .rsplit_once('/')
            .context("an address with a database")?;
        let address = format!("{base}/{name}");
        psql(server, &format!("CREATE DATABASE {name}"))?;
        Ok(Self {
            server: server.to_owned(),
            name,
            address,
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = psql(
            &self.server,
            &format!("DROP DATABASE {} WITH (FORCE)", self.name),
        );
    }
}

fn psql(server: &str, sql: &str) -> Result<()> {
    let status = Command::new("psql")
        .args([server, "--quiet", "--no-psqlrc", "--command", sql])
        .status()
        .context("psql is needed (postgresql-client)")?;
    ensure!(status.success(), "psql: {status}");
    Ok(())
}

/// Every thread of a process on one core.
fn stay_on(core: &str, process: u32) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-acp", core, &process.to_string()])
        .stdout(Stdio::null())
        .status()
        .context("taskset is needed (util-linux)")?;
    ensure!(status.success(), "taskset: {status}");
    Ok(())
}

/// Clients in a tight loop at the two other nodes; the time from the answer to the revocation (it
/// waits for nobody) to the end of the last answer that let the key through.
async fn revocations(nodes: &Nodes, admin: &mut Connection) -> Result<()> {
    let (tell, told) = watch::channel(String::new());
    let mut loops = Vec::new();
    for node in 1..3 {
        let (mut connection, told) = (nodes.connect(node).await?, told.clone());
        let seen = Arc::new(std::sync::Mutex::new(None::<Instant>));
        let own = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while told.has_changed().is_ok() {
                let key = told.borrow().clone();
                if key.is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                } else if connection.verify(&key).await? == "valid" {
                    *own.lock().map_err(|_| anyhow::anyhow!("poisoned"))? = Some(Instant::now());
                }
            }
            anyhow::Ok(())
        });
        loops.push((task, seen));
    }
    drop(told);
    let mut times = Vec::new();
    for _ in 0..TURNS {
        let (id, key) = admin.issue().await?;
        tell.send_replace(key);
        let last = |at: usize| -> Result<Option<Instant>> {
            Ok(*loops[at]
                .1
                .lock()
                .map_err(|_| anyhow::anyhow!("poisoned"))?)
        };
        // Both let it through before it is revoked, and lately.
        let begun = Instant::now();
        while last(0)? < Some(begun) || last(1)? < Some(begun) {
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "the key is not let through"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let path = format!("/api/v1/keys/{id}/revoke?wait_ms=0");
        let (status, answer) = admin.send("POST", &path, None).await?;
        let answered = Instant::now();
        ensure!(status == 200, "{status} {answer}");
        tokio::time::sleep(Duration::from_millis(60)).await;
        let after = last(0)?.max(last(1)?).context("never")?;
        times.push(after.saturating_duration_since(answered).as_secs_f64() * 1000.0);
        tell.send_replace(String::new());
    }
    drop(tell);
    for (task, _) in loops {
        task.await??;
    }
    nodes.print("revoke_other_nodes", &mut times);
    Ok(())
}

/// What the receipt says: from the commit to the word of the last node.
async fn receipts(nodes: &Nodes, admin: &mut Connection) -> Result<()> {
    let mut others = [nodes.connect(1).await?, nodes.connect(2).await?];
    let (mut said, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (id, key) = admin.issue().await?;
        for other in &mut others {
            ensure!(other.verify(&key).await? == "valid");
        }
        let begun = Instant::now();
        let path = format!("/api/v1/keys/{id}/revoke");
        let (status, answer) = admin.send("POST", &path, None).await?;
        answers.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(
            status == 200 && answer["receipt"]["complete"] == true,
            "{answer}"
        );
        let words = answer["receipt"]["nodes"].as_array().context("no nodes")?;
        ensure!(words.len() == 3, "{answer}");
        let times = words
            .iter()
            .filter_map(|node| node["acknowledged_after_ms"].as_f64());
        said.push(times.fold(0.0, f64::max));
        for other in &mut others {
            ensure!(
                other.verify(&key).await? == "revoked",
                "let through after the receipt"
            );
        }
    }
    nodes.print("revoke_receipt", &mut said);
    nodes.print("revoke_answer_with_receipt", &mut answers);
    Ok(())
}

/// A node that stands still: when the receipt is complete without its word, and that it refuses when
/// it goes on.
async fn freezes(nodes: &Nodes, admin: &mut Connection) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..FREEZES {
        let (id, key) = admin.issue().await?;
        let mut frozen = nodes.connect(2).await?;
        ensure!(frozen.verify(&key).await? == "valid");
        nodes.signal(2, "STOP")?;
        let begun = Instant::now();
        let (status, answer) = admin
            .send("POST", &format!("/api/v1/keys/{id}/revoke"), None)
            .await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(
            status == 200 && answer["receipt"]["complete"] == true,
            "{answer}"
        );
        let asked = tokio::spawn(async move { frozen.verify(&key).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        nodes.signal(2, "CONT")?;
        let code = asked.await??;
        ensure!(code != "valid", "the frozen node let it through");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let most = times.iter().copied().fold(0.0, f64::max);
    let line = json!({
        "bench": "server", "case": "revoke_partition_bound_ms", "value": round(most), "unit": "ms",
    });
    println!("{line}");
    Ok(())
}

/// `_1m` for a million.
fn called(keys: u64) -> String {
    if keys >= 1_000_000 && keys.is_multiple_of(1_000_000) {
        return format!("_{}m", keys / 1_000_000);
    }
    format!("_{keys}")
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Three processes.
struct Nodes {
    processes: Vec<std::process::Child>,
    addresses: Vec<String>,
    root_key: String,
    /// What cases are called after, beside their own names: the size.
    size: String,
}

impl Nodes {
    async fn start(
        server: &Path,
        folder: &Path,
        database: &str,
        count: usize,
        filled: Option<&(u64, String)>,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD)?;
        let data = folder.join("data");
        let addresses: Result<Vec<String>> = (0..count)
            .map(|_| {
                Ok(std::net::TcpListener::bind("127.0.0.1:0")?
                    .local_addr()?
                    .to_string())
            })
            .collect();
        let addresses = addresses?;
        let mut init = Command::new(server);
        init.args([
            "init",
            "--admin-email",
            "owner@example.org",
            "--database",
            database,
        ]);
        init.arg("--issuer").arg(format!("http://{}", addresses[0]));
        init.arg("--admin-password-file").arg(&password);
        let output = init
            .arg("--data")
            .arg(&data)
            .stderr(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "init failed");
        let root_key = String::from_utf8(output.stdout)?.trim().to_owned();
        if let Some((keys, filler)) = filled {
            let mut fill = Command::new(filler);
            let status = fill.args(["fill", database, &keys.to_string()]).status()?;
            ensure!(status.success(), "{filler}: {status}");
        }
        let begun = Instant::now();
        let mut nodes = Self {
            processes: Vec::new(),
            addresses: addresses.clone(),
            root_key,
            size: filled.map_or_else(String::new, |(keys, _)| called(*keys)),
        };
        for (address, name) in addresses.iter().zip(["one", "two", "three"]) {
            let mut serve = Command::new(server);
            serve.args(["serve", "--listen", address, "--database", database]);
            serve.args(["--node-name", name, "--data"]).arg(&data);
            serve.env("KEYWRIGHT_SERVER_LOG", "warn");
            nodes.processes.push(serve.stdout(Stdio::null()).spawn()?);
        }
        for node in 0..count {
            let end = Instant::now() + Duration::from_secs(20);
            loop {
                if let Ok(mut connection) = nodes.connect(node).await
                    && connection.send("GET", "/readyz", None).await?.0 == 200
                {
                    break;
                }
                ensure!(Instant::now() < end, "a node does not start");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        if let Some((keys, _)) = filled {
            nodes.wait_until_loaded(*keys, begun).await?;
        }
        Ok(nodes)
    }

    fn print(&self, case: &str, times: &mut [f64]) {
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
        for (name, value) in [("p50", at(0.5)), ("p99", at(0.99)), ("max", at(1.0))] {
            let case = format!("{case}{}_{name}_ms", self.size);
            let turns = times.len();
            let line = json!({
                "bench": "server", "case": case, "value": round(value), "unit": "ms", "turns": turns,
            });
            println!("{line}");
        }
    }

    /// Until every node has all keys in memory; tells how long that took from their start, and what the largest
    /// process holds then.
    async fn wait_until_loaded(&self, keys: u64, begun: Instant) -> Result<()> {
        let answered = begun.elapsed();
        for node in 0..self.processes.len() {
            let mut connection = self.connect(node).await?;
            while connection.figure("keywright_keys_all_in_memory").await? < 1.0 {
                ensure!(begun.elapsed() < LONGEST_LOAD, "keys are not all in memory");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let known = connection.figure("keywright_keys_in_memory").await?;
            ensure!(known >= keys as f64, "{known} of {keys} keys");
        }
        let loaded = begun.elapsed();
        let sizes = self.processes.iter().map(|process| resident(process.id()));
        let most = sizes
            .collect::<Result<Vec<f64>>>()?
            .into_iter()
            .fold(0.0, f64::max);
        for (case, value, unit) in [
            ("nodes_answer", answered.as_secs_f64(), "s"),
            ("nodes_loaded", loaded.as_secs_f64(), "s"),
            ("nodes_memory", most, "MiB"),
        ] {
            let case = format!("{case}{}", self.size);
            let line = json!({
                "bench": "server", "case": case, "value": round(value), "unit": unit,
                "note": format!("three nodes at once, {keys} keys"),
            });
            println!("{line}");
        }
        Ok(())
    }

    fn stay_on(&self, core: &str) -> Result<()> {
        self.processes
            .iter()
            .try_for_each(|process| stay_on(core, process.id()))
    }

    /// What each node is asked: another key each time.
    fn targets(&self, keys: &[String]) -> Vec<wire::Target> {
        let authorization = format!("Bearer {}", self.root_key);
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", authorization.as_str()),
        ];
        let requests: Arc<[Vec<u8>]> = keys
            .iter()
            .map(|key| {
                let body = json!({"key": key, "requirement": "keys:read"}).to_string();
                wire::request("POST", "/api/v1/keys/verify", &headers, body.as_bytes())
            })
            .collect();
        let targets = self.addresses.iter().map(|address| {
            let requests = Arc::clone(&requests);
            wire::Target {
                address: address.clone(),
                next: Arc::new(move |line, turn, _| {
                    requests[(line * 31 + turn * 7) % requests.len()].clone()
                }),
                status: 200,
                says: wire::Says::VALID,
            }
        });
        targets.collect()
    }

    async fn connect(&self, node: usize) -> Result<Connection> {
        let stream = TcpStream::connect(&self.addresses[node]).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            host: self.addresses[node].clone(),
            root_key: self.root_key.clone(),
            read: Vec::new(),
        })
    }

    fn signal(&self, node: usize, name: &str) -> Result<()> {
        let id = self.processes[node].id().to_string();
        let status = Command::new("kill")
            .args([format!("-{name}"), id])
            .status()?;
        ensure!(status.success());
        Ok(())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// One connection that stays open; a client library would take as much time as the server.
struct Connection {
    stream: TcpStream,
    host: String,
    root_key: String,
    read: Vec<u8>,
}

impl Connection {
    async fn issue(&mut self) -> Result<(String, String)> {
        let wish = json!({"name": "bench", "prefix": "sk_live", "scopes": ["keys:read"]});
        let (status, answer) = self.send("POST", "/api/v1/keys", Some(&wish)).await?;
        ensure!(status == 201, "{status} {answer}");
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        Ok((text(&answer["key"]["id"])?, text(&answer["secret"])?))
    }

    /// A gauge of this node.
    async fn figure(&mut self, name: &str) -> Result<f64> {
        let (status, text) = self.ask("GET", "/metrics", None).await?;
        ensure!(status == 200, "{status}");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.with_context(|| format!("no {name}"))?;
        Ok(value.trim().parse()?)
    }

    async fn verify(&mut self, key: &str) -> Result<String> {
        let asked = json!({ "key": key });
        let (status, answer) = self
            .send("POST", "/api/v1/keys/verify", Some(&asked))
            .await?;
        Ok(match answer["code"].as_str() {
            Some(code) if status == 200 => code.to_owned(),
            _ => status.to_string(),
        })
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let (status, answer) = self.ask(method, path, body).await?;
        Ok((status, serde_json::from_str(&answer).unwrap_or(Value::Null)))
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, String)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if body.is_empty() {
            ""
        } else {
            "content-type: application/json\r\n"
        };
        let (host, root_key) = (&self.host, &self.root_key);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {root_key}\r\n{kind}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .map_or(Ok(0), |text| text.trim().parse::<usize>())?;
                let whole = end + 4 + length;
                if self.read.len() >= whole {
                    let status = head.split(' ').nth(1).context("no status")?.parse()?;
                    let answer = String::from_utf8_lossy(&self.read[end + 4..whole]).into_owned();
                    self.read.drain(..whole);
                    return Ok((status, answer));
                }
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the connection was closed");
            }
        }
    }
}

/// MiB in memory.
fn resident(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.trim().parse::<f64>()? / 1024.0)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}
