//! Server processes over one PostgreSQL, and who calls them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{network, wire};

/// How long three nodes may take for ten million keys, each.
const LONGEST_LOAD: Duration = Duration::from_secs(900);
const PASSWORD: &str = "correct horse battery";
const NAMES: [&str; 3] = ["one", "two", "three"];
/// Who issues keys at the same time, before anything is measured.
const ISSUERS: usize = 16;

/// A second database on the same server, until this is dropped.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) address: String,
}

impl Database {
    /// With all that is in the first one, which nobody may use meanwhile.
    pub(crate) fn copy_of(address: &str) -> Result<Self> {
        let name = format!("bench_alone_{}", std::process::id());
        let (base, from) = address
            .rsplit_once('/')
            .context("an address with a database")?;
        let server = format!("{base}/template1");
        psql(
            &server,
            &format!("CREATE DATABASE {name} TEMPLATE \"{from}\""),
        )?;
        Ok(Self {
            address: format!("{base}/{name}"),
            server,
            name,
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
pub(crate) fn stay_on(core: &str, process: u32) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-acp", core, &process.to_string()])
        .stdout(Stdio::null())
        .status()
        .context("taskset is needed (util-linux)")?;
    ensure!(status.success(), "taskset: {status}");
    Ok(())
}

/// `_1m` for a million.
fn called(keys: u64) -> String {
    if keys >= 1_000_000 && keys.is_multiple_of(1_000_000) {
        return format!("_{}m", keys / 1_000_000);
    }
    format!("_{keys}")
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A data folder and its database, set up.
pub(crate) struct Place {
    server: PathBuf,
    data: PathBuf,
    database: String,
    root_key: String,
    /// How many keys were filled in.
    filled: Option<u64>,
}

impl Place {
    pub(crate) fn make(
        server: &Path,
        folder: &Path,
        database: &str,
        filled: Option<&(u64, String)>,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD)?;
        let data = folder.join("data");
        let mut init = Command::new(server);
        init.args([
            "init",
            "--admin-email",
            "owner@example.org",
            "--database",
            database,
        ]);
        init.args(["--issuer", "http://127.0.0.1:1"]);
        init.arg("--admin-password-file").arg(&password);
        let output = init.arg("--data").arg(&data).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "init failed: {said}");
        let root_key = String::from_utf8(output.stdout)?.trim().to_owned();
        if let Some((keys, filler)) = filled {
            let mut fill = Command::new(filler);
            let status = fill.args(["fill", database, &keys.to_string()]).status()?;
            ensure!(status.success(), "{filler}: {status}");
        }
        Ok(Self {
            server: server.to_owned(),
            data,
            database: database.to_owned(),
            root_key,
            filled: filled.map(|(keys, _)| *keys),
        })
    }

    /// So many keys that can be presented, used once: a first use is written at once, and is not what is measured. No node
    /// runs afterwards.
    pub(crate) async fn known(&self, count: usize) -> Result<Vec<String>> {
        let began = Instant::now();
        let mut nodes = Nodes::start(self, &[&self.database]).await?;
        let mut issuers = tokio::task::JoinSet::new();
        for _ in 0..ISSUERS {
            let mut connection = nodes.connect(0).await?;
            issuers.spawn(async move {
                let mut keys = Vec::new();
                for _ in 0..count.div_ceil(ISSUERS) {
                    let key = connection.issue().await?.1;
                    ensure!(connection.verify(&key).await? == "valid");
                    keys.push(key);
                }
                anyhow::Ok(keys)
            });
        }
        let mut keys = Vec::with_capacity(count);
        while let Some(issued) = issuers.join_next().await {
            keys.extend(issued??);
        }
        nodes.end_in_order()?;
        let took = began.elapsed().as_secs_f64();
        eprintln!("issued and used {} keys in {took:.1} s", keys.len());
        Ok(keys)
    }
}

/// Where a node is called, and with what.
#[derive(Clone)]
pub(crate) struct Door {
    address: String,
    root_key: String,
}

impl Door {
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            host: self.address.clone(),
            root_key: self.root_key.clone(),
            read: Vec::new(),
        })
    }
}

/// Processes over one database.
pub(crate) struct Nodes {
    processes: Vec<std::process::Child>,
    addresses: Vec<String>,
    root_key: String,
    /// What cases are called after, beside their own names: the size.
    size: String,
}

impl Nodes {
    /// One for each address of the database, by which it is reached.
    pub(crate) async fn start(place: &Place, databases: &[&str]) -> Result<Self> {
        let addresses: Result<Vec<String>> = databases
            .iter()
            .map(|_| {
                Ok(std::net::TcpListener::bind("127.0.0.1:0")?
                    .local_addr()?
                    .to_string())
            })
            .collect();
        let begun = Instant::now();
        let mut nodes = Self {
            processes: Vec::new(),
            addresses: addresses?,
            root_key: place.root_key.clone(),
            size: place.filled.map_or_else(String::new, called),
        };
        for ((address, name), database) in nodes.addresses.iter().zip(NAMES).zip(databases) {
            let mut serve = Command::new(&place.server);
            serve.args(["serve", "--listen", address, "--database", database]);
            serve.args(["--node-name", name, "--data"]).arg(&place.data);
            // One that is cut off would say so for each request.
            let log = if network::is_inside() { "off" } else { "warn" };
            serve.env("KEYWRIGHT_SERVER_LOG", log);
            nodes.processes.push(serve.stdout(Stdio::null()).spawn()?);
        }
        for node in 0..databases.len() {
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
        if let Some(keys) = place.filled {
            nodes.wait_until_loaded(keys, begun).await?;
        }
        Ok(nodes)
    }

    /// What cases among so many keys end with.
    pub(crate) fn size(&self) -> &str {
        &self.size
    }

    pub(crate) fn name(&self, node: usize) -> &'static str {
        NAMES[node]
    }

    pub(crate) fn door(&self, node: usize) -> Door {
        Door {
            address: self.addresses[node].clone(),
            root_key: self.root_key.clone(),
        }
    }

    pub(crate) async fn connect(&self, node: usize) -> Result<Connection> {
        self.door(node).connect().await
    }

    /// What is counted is written.
    fn end_in_order(&mut self) -> Result<()> {
        for node in 0..self.processes.len() {
            self.signal(node, "TERM")?;
        }
        for process in &mut self.processes {
            let status = process.wait()?;
            ensure!(status.success(), "a node ended with {status}");
        }
        self.processes.clear();
        Ok(())
    }

    pub(crate) fn print(&self, case: &str, times: &mut [f64]) {
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
        if self.processes.len() < 3 {
            return Ok(());
        }
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

    pub(crate) fn stay_on(&self, core: &str) -> Result<()> {
        self.processes
            .iter()
            .try_for_each(|process| stay_on(core, process.id()))
    }

    /// What each node is asked: a key drawn at random each time. Answers that do not say `valid` are counted.
    pub(crate) fn targets(&self, keys: &[String], refused: &Arc<AtomicU64>) -> Vec<wire::Target> {
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
            let (requests, refused) = (Arc::clone(&requests), Arc::clone(refused));
            wire::Target {
                address: address.clone(),
                next: Arc::new(move |line, turn, before| {
                    // Every eighth is read: the asking side has to be cheap.
                    if turn % 8 == 1 && find(before, br#""code":"valid""#).is_none() {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    requests[drawn(line, turn) % requests.len()].clone()
                }),
                status: 200,
                says: wire::Says::VALID,
            }
        });
        targets.collect()
    }

    pub(crate) fn signal(&self, node: usize, name: &str) -> Result<()> {
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
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    root_key: String,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn issue(&mut self) -> Result<(String, String)> {
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

    pub(crate) async fn verify(&mut self, key: &str) -> Result<String> {
        let asked = json!({ "key": key });
        let (status, answer) = self
            .send("POST", "/api/v1/keys/verify", Some(&asked))
            .await?;
        Ok(match answer["code"].as_str() {
            Some(code) if status == 200 => code.to_owned(),
            _ => status.to_string(),
        })
    }

    pub(crate) async fn send(
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

/// A number that looks drawn at random (SplitMix64), another for each line and turn.
fn drawn(line: usize, turn: usize) -> usize {
    let mut state = ((line as u64) << 40 | turn as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (state ^ (state >> 31)) as usize
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}
