//! Limits that three processes count together, in Debian's Redis; and what they do without it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::parts::{Caller, Three, client};
use crate::server::harness::{Options, ServerProcess};
use crate::support::certificates::certificates;
use crate::support::postgres::Database;

/// A Redis on a port of its own; it ends with this value.
pub(super) struct Redis {
    port: u16,
    folder: tempfile::TempDir,
    process: Child,
    scheme: &'static str,
}

impl Redis {
    pub(super) async fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let process = spawn(port, &folder)?;
        let mut redis = Self {
            port,
            folder,
            process,
            scheme: "redis",
        };
        redis.answers().await?;
        Ok(redis)
    }

    /// One that speaks TLS and nothing else, with the file of the authority that vouches for it.
    async fn start_with_tls() -> Result<(Self, PathBuf)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let made = certificates(folder.path(), "127.0.0.1")?;
        let process = Command::new("redis-server")
            .args(["--port", "0", "--tls-port", &port.to_string()])
            .args(["--bind", "127.0.0.1", "--tls-auth-clients", "no"])
            .arg("--tls-cert-file")
            .arg(&made.certificate)
            .arg("--tls-key-file")
            .arg(&made.key)
            .arg("--tls-ca-cert-file")
            .arg(&made.authority)
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server is missing: run the tests by `cargo xtask test`")?;
        let mut redis = Self {
            port,
            folder,
            process,
            scheme: "rediss",
        };
        redis.answers().await?;
        Ok((redis, made.authority))
    }

    fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    async fn answers(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            ensure!(Instant::now() < end, "Redis does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// It stands still, with its connections open.
    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let id = self.process.id().context("it ended")?.to_string();
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), id])
            .status()?;
        ensure!(status.success());
        Ok(())
    }

    /// The names of all that it holds, a line each.
    pub(super) async fn names(&self) -> Result<String> {
        let mut ask = Command::new("redis-cli");
        ask.args(["-p", &self.port.to_string(), "--raw", "keys", "*"]);
        let said = ask.output().await.context("redis-cli is missing")?;
        ensure!(said.status.success());
        Ok(String::from_utf8(said.stdout)?)
    }

    /// How often it was asked how long a count goes on: once for each question about guesses.
    pub(super) async fn asked(&self) -> Result<u64> {
        let mut ask = Command::new("redis-cli");
        ask.args(["-p", &self.port.to_string(), "info", "commandstats"]);
        let said = ask.output().await.context("redis-cli is missing")?;
        ensure!(said.status.success());
        let said = String::from_utf8(said.stdout)?;
        let calls = said.split("cmdstat_pttl:calls=").nth(1);
        let calls = calls.and_then(|rest| rest.split(',').next());
        Ok(calls.map_or(Ok(0), str::parse)?)
    }

    pub(super) async fn again(&mut self) -> Result<()> {
        self.process = spawn(self.port, &self.folder)?;
        self.answers().await
    }
}

fn spawn(port: u16, folder: &tempfile::TempDir) -> Result<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("redis-server is missing: run the tests by `cargo xtask test`")
}

/// Asks `tries` times, on all nodes at once, a few at a time: how many were let through, how many were
/// not answered, and the longest wait.
async fn spread(three: &Three, secret: &str, tries: usize) -> Result<(usize, usize, Duration)> {
    let mut asks = JoinSet::new();
    for worker in 0..6 {
        let (caller, secret): (Caller, String) = (three.caller(worker % 3), secret.to_owned());
        let own = (tries + 5 - worker) / 6;
        asks.spawn(async move {
            let mut answers = Vec::with_capacity(own);
            for _ in 0..own {
                let begun = Instant::now();
                answers.push((caller.code(&secret).await?, begun.elapsed()));
            }
            anyhow::Ok(answers)
        });
    }
    let (mut valid, mut away, mut longest) = (0, 0, Duration::ZERO);
    while let Some(asked) = asks.join_next().await {
        for (code, took) in asked?? {
            longest = longest.max(took);
            match code.as_str() {
                "valid" => valid += 1,
                "503" => away += 1,
                code => ensure!(code == "rate_limited", "{code}"),
            }
        }
    }
    Ok((valid, away, longest))
}

/// Three nodes that count by this Redis.
pub(super) async fn three_on(redis: &Redis, database: &Database, settings: &str) -> Result<Three> {
    let settings = format!("redis_url = \"{}\"\n{settings}", redis.url());
    let options = Options {
        settings: Box::leak(settings.into_boxed_str()),
        ..Options::default()
    };
    Three::on(database.url(), options).await
}

/// Exact, but for a few that a busy machine let wait in vain: those count by node.
fn is_about(valid: usize, limit: usize) -> bool {
    (limit..=limit + 4).contains(&valid)
}

/// So many a month: none comes back while a test runs.
fn limit(count: u32, shared: bool) -> serde_json::Value {
    let limit = json!({"name": "requests", "count": count, "period_ms": 2_592_000_000_u32, "shared_by_owner": shared});
    json!({"settings": {"limits": [limit]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_132_a_limit_is_exact_over_three_nodes_and_redis_may_go_and_come_back() -> Result<()> {
    let (mut redis, database) = (Redis::start().await?, Database::create().await?);
    let three = three_on(&redis, &database, "").await?;
    let secret = counts_together(&three, 50).await?;
    // Keys of one owner share it.
    // What they used stays used: each round has less of it left.
    let (_, one) = three.issue(limit(30, true)).await?;
    let (_, two) = three.issue(limit(30, true)).await?;
    let (first, _, _) = spread(&three, &one, 21).await?;
    let (second, _, _) = spread(&three, &two, 60).await?;
    ensure!(
        first == 21 && (9..30).contains(&second),
        "{first} and {second}"
    );

    // Gone: each node counts by itself, and nobody waits.
    let (_, fresh) = three.issue(limit(10, false)).await?;
    redis.kill().await?;
    let _ = spread(&three, &secret, 3).await?;
    let (valid, away, longest) = spread(&three, &fresh, 90).await?;
    ensure!(
        (valid, away) == (30, 0),
        "{valid} let through, {away} not answered"
    );
    ensure!(longest < Duration::from_secs(2), "{longest:?}");

    // Back: counted together again, from nothing, since this Redis keeps nothing.
    redis.again().await?;
    all_count_by_redis(&three).await?;
    counts_together(&three, 40).await?;
    three.close().await?;
    database.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_132_without_redis_nothing_passes_uncounted_where_that_was_asked_for() -> Result<()> {
    let (redis, database) = (Redis::start().await?, Database::create().await?);
    let three = three_on(&redis, &database, "limits_without_redis = \"refuse\"\n").await?;
    let (_, secret) = three.issue(limit(500, false)).await?;
    let (_, free) = three.issue(json!({})).await?;
    // Exact: what Redis did not answer in time on a busy machine is refused, counted or not.
    let (_, narrow) = three.issue(limit(50, false)).await?;
    let (valid, away, _) = spread(&three, &narrow, 120).await?;
    ensure!(
        valid <= 50 && valid + away >= 50,
        "{valid} let through, {away} not answered"
    );
    ensure!(valid > 40, "{valid} let through: the test shows little");
    ensure!(spread(&three, &secret, 9).await?.0 > 0);
    // It hangs: the first wait is short, the others do not wait at all.
    redis.signal("STOP")?;
    let (valid, away, longest) = spread(&three, &secret, 30).await?;
    ensure!(
        (valid, away) == (0, 30),
        "{valid} let through, {away} not answered"
    );
    ensure!(longest < Duration::from_secs(2), "{longest:?}");
    let caller = three.caller(1);
    let begun = Instant::now();
    ensure!(caller.code(&secret).await? == "503");
    ensure!(
        begun.elapsed() < Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
    ensure!(
        caller.code(&free).await? == "valid",
        "keys without limits go on"
    );
    redis.signal("CONT")?;
    let end = Instant::now() + Duration::from_secs(10);
    while caller.code(&secret).await? != "valid" {
        ensure!(Instant::now() < end, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    three.close().await?;
    database.close().await
}

/// Whether a limit is one limit for all nodes. A busy machine may let Redis answer too late, and whoever
/// waits in vain counts by node: some tries are allowed, fewer than the limit in none. Returns the key.
async fn counts_together(three: &Three, many: u32) -> Result<String> {
    let mut seen = Vec::new();
    for _ in 0..10 {
        let (_, secret) = three.issue(limit(many, false)).await?;
        let (valid, away, _) = spread(three, &secret, 120).await?;
        ensure!(
            valid >= many as usize && away == 0,
            "{valid} let through, {away} not answered"
        );
        if is_about(valid, many as usize) {
            return Ok(secret);
        }
        seen.push(valid);
        all_count_by_redis(three).await?;
    }
    anyhow::bail!("let through in place of {many}: {seen:?}")
}

pub(super) async fn all_count_by_redis(three: &Three) -> Result<()> {
    for node in 0..3 {
        let address = three.caller(node).at("");
        crate::support::until("the node counts by Redis", async || {
            counts_by_redis(&address)
                .await
                .is_ok_and(|up| up)
                .then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Whether a node counts by Redis.
async fn counts_by_redis(address: &str) -> Result<bool> {
    let request = client()?.get(format!("{address}/metrics"));
    let text = request.send().await?.text().await?;
    let up = text
        .lines()
        .find_map(|line| line.strip_prefix("keywright_redis_up "));
    Ok(up.context("no figure")? == "1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_132_a_limit_is_counted_over_three_nodes_by_a_redis_with_tls() -> Result<()> {
    let ((redis, authority), database) =
        (Redis::start_with_tls().await?, Database::create().await?);
    // What Redis did not answer in time on a busy machine is refused, so that no node counts alone.
    let trust = format!(
        "redis_ca = \"{}\"\nlimits_without_redis = \"refuse\"\n",
        authority.display()
    );
    let three = three_on(&redis, &database, &trust).await?;
    all_count_by_redis(&three).await?;
    let (_, secret) = three.issue(limit(50, false)).await?;
    let (valid, away, _) = spread(&three, &secret, 120).await?;
    ensure!(
        valid <= 50 && valid + away >= 50,
        "{valid} let through, {away} not answered"
    );
    ensure!(valid > 20, "{valid} let through: the test shows little");
    // Whoever does not know the authority tells it nothing.
    let settings = format!("redis_url = \"{}\"\n", redis.url());
    let stranger = ServerProcess::with(Options {
        settings: Box::leak(settings.into_boxed_str()),
        ..Options::default()
    })
    .await?;
    ensure!(!counts_by_redis(&stranger.issuer).await?);
    three.close().await?;
    database.close().await
}
