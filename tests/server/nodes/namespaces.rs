//! The network between a node and its database is cut, and it is the kernel's own: PostgreSQL is in a network
//! namespace of its own, and a node has a link of its own to it (a pair of `veth`). Frames that are lost there are met by
//! retransmissions, by SYNs that nobody answers and by connections that one end alone still has, none of which a
//! relay shows: it acknowledges every byte.
//!
//! All of it is in namespaces of one child process, of processes and mounts too: whatever becomes of the test, they are gone with
//! it, and the machine's own network is not touched. Where the kernel allows no namespaces, the test says so and a relay
//! stands in.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::SECOND;
use super::cluster::Cluster;
use super::partition::{BACK_WITHIN, CUT_OFF, let_through_after, of_node, revoke};
use super::parts::{Place, Three};
use super::proxy::{Cut, Proxy};
use crate::server::harness::Options;
use crate::support::postgres::Database;

/// Set for the child, whose network it is.
const INSIDE: &str = "KEYWRIGHT_TEST_INSIDE_NAMESPACES";
/// The last words of a child that came to its end.
const DONE: &str = "all cuts were made and healed";
/// What all nodes but one reach the database by, and what that one does: here, and there.
const LINKS: [[&str; 2]; 2] = [["10.77.0.2", "10.77.0.1"], ["10.78.0.2", "10.78.0.1"]];
/// Nobody's: frames to it are lost.
const NOBODY: &str = "02:00:00:00:00:99";
/// A write that was caught is answered when the node gives up its connections, or cannot have one for ten seconds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(16);
/// A cut of so many seconds is over before the node gives up its connections.
const SHORT: u64 = 3;
/// And one of so many is not.
const LONG: u64 = 8;
/// Others that write wait no longer for a transaction of somebody who is cut off than the database does, and their own
/// time.
const OTHERS_WITHIN: Duration = Duration::from_secs(4);

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// All frames, both ways, without a word to anybody.
    All,
    /// What the database says. It hears the node, and does what that says.
    Answers,
    /// The cable: the other end has no carrier, and the kernel may say so.
    Cable,
}

/// Runs `ip`.
async fn ip(by: &[String], words: &str) -> Result<()> {
    let mut all = by.iter().map(String::as_str).chain(["ip"]);
    let mut command = Command::new(all.next().context("no program")?);
    let output = command.args(all).args(words.split(' ')).output().await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {words}: {said}");
    Ok(())
}

/// The network of the database, and the links to it.
struct Links {
    /// Leads there.
    by: Vec<String>,
    _holder: Child,
}

impl Links {
    async fn make() -> Result<Self> {
        ip(&[], "link set lo up").await?;
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "3600"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let id = holder.id().context("it ended")?.to_string();
        let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net"));
        let own = network("self")?;
        crate::support::until("another network", async || {
            network(&id).is_ok_and(|other| other != own).then_some(())
        })
        .await?;
        let by = ["nsenter", "--target", &id, "--net", "--"];
        let by: Vec<String> = by.iter().map(|word| (*word).to_owned()).collect();
        ip(&by, "link set lo up").await?;
        for (number, [here, there]) in LINKS.iter().enumerate() {
            let pair =
                format!("link add here{number} type veth peer name there{number} netns {id}");
            ip(&[], &pair).await?;
            ip(&[], &format!("addr add {here}/30 dev here{number}")).await?;
            ip(&[], &format!("link set here{number} up")).await?;
            ip(&by, &format!("addr add {there}/30 dev there{number}")).await?;
            ip(&by, &format!("link set there{number} up")).await?;
        }
        Ok(Self {
            by,
            _holder: holder,
        })
    }

    async fn cut(&self, lost: Lost) -> Result<()> {
        let [here, there] = LINKS[1];
        let to_nobody = |to: &str, by: &str| {
            format!("neigh replace {to} lladdr {NOBODY} dev {by} nud permanent")
        };
        if lost == Lost::Cable {
            return ip(&self.by, "link set there1 down").await;
        }
        ip(&self.by, &to_nobody(here, "there1")).await?;
        if lost == Lost::All {
            ip(&[], &to_nobody(there, "here1")).await?;
        }
        Ok(())
    }

    async fn heal(&self, lost: Lost) -> Result<()> {
        let [here, there] = LINKS[1];
        if lost == Lost::Cable {
            return ip(&self.by, "link set there1 up").await;
        }
        ip(&self.by, &format!("neigh del {here} dev there1")).await?;
        if lost == Lost::All {
            ip(&[], &format!("neigh del {there} dev here1")).await?;
        }
        Ok(())
    }
}

/// Between a node and its database.
enum Network {
    Links(Links),
    Relay(Proxy),
}

impl Network {
    async fn cut(&self, lost: Lost) -> Result<()> {
        match self {
            Self::Links(links) => links.cut(lost).await,
            Self::Relay(relay) => {
                relay.cut(Cut::All);
                Ok(())
            }
        }
    }

    async fn heal(&self, lost: Lost) -> Result<()> {
        match self {
            Self::Links(links) => links.heal(lost).await,
            Self::Relay(relay) => {
                relay.cut(Cut::Nothing);
                Ok(())
            }
        }
    }
}

/// Who writes at the node, so that a write is caught in the middle: how each ended, and after how long.
struct Writing {
    stop: Arc<AtomicBool>,
    writers: JoinSet<Result<Vec<(u16, String, Duration)>>>,
}

impl Writing {
    async fn at(three: &Three) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut writers = JoinSet::new();
        for _ in 0..4 {
            let (caller, stop) = (three.caller(CUT_OFF), Arc::clone(&stop));
            writers.spawn(async move {
                let mut ended = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let wish = Three::wish(json!({}));
                    let (status, answer) = caller.post("/api/v1/keys", &wish).await?;
                    let code = answer["code"].as_str().unwrap_or_default().to_owned();
                    ended.push((status, code, began.elapsed()));
                    // Refused at once while it is cut off.
                    if status != 201 {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                Ok(ended)
            });
        }
        tokio::time::sleep(SECOND / 2).await;
        Self { stop, writers }
    }

    /// Whatever was caught was answered in its time, by what is said where nobody knows. Returns how long the longest took.
    async fn end(mut self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut longest, mut done, mut refused) = (Duration::ZERO, 0, 0);
        while let Some(ended) = self.writers.join_next().await {
            for (status, code, took) in ended?? {
                longest = longest.max(took);
                match (status, code.as_str()) {
                    (201, _) => done += 1,
                    (503, "store_unavailable" | "timed_out" | "commit_unknown") => refused += 1,
                    _ => bail!("{status} {code} after {took:?}"),
                }
            }
        }
        ensure!(
            longest < ANSWERED_WITHIN,
            "one was answered after {longest:?}"
        );
        ensure!(done > 4, "only {done} were written, {refused} refused");
        Ok(longest)
    }
}

/// While the node is cut off, until a moment: others revoke and write, and it refuses. Returns a key that it knows nothing of.
async fn refuses(
    three: &Three,
    (id, second): (&str, &str),
    kept: &str,
    until: Instant,
) -> Result<String> {
    let away = three.caller(CUT_OFF);
    // Others revoke and write, also where the node was caught in the middle of a write.
    let begun = Instant::now();
    let (receipt, answered) = revoke(three, id, "").await?;
    let took = answered - begun;
    ensure!(took < OTHERS_WITHIN, "others waited for {took:?}");
    ensure!(receipt["complete"] == true, "{receipt}");
    let late = of_node(&receipt, "three")?;
    ensure!(
        late["acknowledged"] == false && late["refuses_from_memory_since"].is_i64(),
        "{receipt}"
    );
    ensure!(
        of_node(&receipt, "two")?["acknowledged"] == true,
        "{receipt}"
    );
    ensure!(away.code(second).await? == "503");
    let (_, missed) = three.issue(json!({})).await?;

    // It refuses, and says so at once: the best of five, as a busy machine makes anything wait.
    tokio::time::sleep(SECOND * 2).await;
    let mut best = SECOND * 60;
    for _ in 0..5 {
        let begun = Instant::now();
        let (status, answer) = away
            .post("/api/v1/keys/verify", &json!({ "key": kept }))
            .await?;
        ensure!(
            (status, &answer["code"]) == (503, &json!("store_unavailable")),
            "{status} {answer}"
        );
        best = best.min(begun.elapsed());
    }
    ensure!(best < SECOND / 2, "{best:?}");
    ensure!(!away.is_ready().await);
    while Instant::now() < until {
        for secret in [second, kept] {
            let code = away.code(secret).await?;
            ensure!(code == "503", "{code}");
        }
        ensure!(three.caller(1).code(kept).await? == "valid", "others go on");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(missed)
}

/// The node is cut off for so long, and comes back. Returns what was measured.
async fn cut_off(three: &Three, network: &Network, lost: Lost, seconds: u64) -> Result<String> {
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(three.issue(json!({})).await?);
    }
    let [(first_id, first), (second_id, second), (_, kept)] = &keys[..] else {
        bail!("three were made");
    };
    for node in 0..3 {
        for (_, secret) in &keys {
            ensure!(three.caller(node).code(secret).await? == "valid");
        }
    }
    let away = three.caller(CUT_OFF);
    let writing = Writing::at(three).await;
    // The cut comes first, and the revocation after it.
    let after = let_through_after(three, first_id, first, async || network.cut(lost).await).await?;
    ensure!(after < 1.0, "let through {after} s after it was revoked");
    let cut = Instant::now();

    let missed = if seconds < LONG {
        three.issue(json!({})).await?.1
    } else {
        refuses(
            three,
            (second_id, second),
            kept,
            cut + Duration::from_secs(seconds),
        )
        .await?
    };
    tokio::time::sleep_until((cut + Duration::from_secs(seconds)).into()).await;

    ensure!(away.code(kept).await? == "503", "it was not cut off");
    network.heal(lost).await?;
    let healed = Instant::now();
    loop {
        let code = away.code(first).await?;
        ensure!(code == "503" || code == "revoked", "{code}");
        if away.code(kept).await? == "valid" {
            break;
        }
        let log = || three.logged(CUT_OFF);
        ensure!(
            healed.elapsed() < BACK_WITHIN,
            "it does not come back: {}",
            log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let back = healed.elapsed();
    ensure!(away.code(first).await? == "revoked");
    let second = away.code(second).await?;
    ensure!((second == "revoked") == (seconds >= LONG), "{second}");
    ensure!(away.code(&missed).await? == "valid", "what it missed");
    // It writes, is ready, and gives its word again.
    loop {
        let (status, made) = away.post("/api/v1/keys", &Three::wish(json!({}))).await?;
        if status == 201 && away.is_ready().await {
            let id = made["key"]["id"].as_str().context("no id")?;
            let (receipt, _) = revoke(three, id, "").await?;
            if of_node(&receipt, "three").is_ok_and(|one| one["acknowledged"] == true) {
                break;
            }
        }
        ensure!(healed.elapsed() < BACK_WITHIN, "{status} {made}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let longest = writing.end().await?;
    Ok(format!(
        "{lost:?} for {seconds} s: let through {after:.3} s after, back {back:?} after, whole {:?} after, a write took \
         {longest:?}",
        healed.elapsed()
    ))
}

/// Not a test of its own: the child, in namespaces of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn inside() -> Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        return Ok(());
    }
    let links = Links::make().await?;
    let allowed = "host all all 10.77.0.0/30 trust\nhost all all 10.78.0.0/30 trust\n";
    let cluster = Cluster::start_in(links.by.clone(), "*", allowed).await?;
    let [near, far] = LINKS.map(|[_, there]| {
        let port = cluster.port();
        format!("postgres://postgres@{there}:{port}/postgres?sslmode=disable")
    });
    let places = [near.clone(), far].map(|url| Place {
        url,
        ..Place::default()
    });
    let three = Three::told(&near, places, Options::default()).await?;
    let network = Network::Links(links);
    let cuts = [
        (Lost::All, SHORT),
        (Lost::All, LONG),
        (Lost::Answers, LONG),
        (Lost::Cable, LONG),
    ];
    for (lost, seconds) in cuts {
        let cut = cut_off(&three, &network, lost, seconds).await;
        let measured = cut.with_context(|| format!("{lost:?} for {seconds} s"))?;
        println!("{measured}");
    }
    three.close().await?;
    println!("{DONE}");
    Ok(())
}

/// Leads into namespaces of processes, mounts and networks, where whoever is no administrator may do as one.
fn unshare() -> Result<Command> {
    use std::os::unix::fs::MetadataExt as _;
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command.arg("--mount-proc").stdin(Stdio::null());
    Ok(command)
}

/// Why there can be no such network; none where there can.
async fn is_refused() -> Result<Option<String>> {
    let script = "ip link set lo up && ip link add here type veth peer name there";
    let tried = unshare()?.args(["sh", "-c", script]).output().await?;
    let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    Ok((!tried.status.success()).then_some(said))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_a_node_behind_a_real_network_that_is_cut_refuses_in_time_and_comes_back()
-> Result<()> {
    if let Some(why) = is_refused().await? {
        // Not by `eprintln!`, which a test that passes keeps to itself. `cargo xtask test` counts what is skipped.
        let note = format!(
            "skipped here: no network namespaces ({why}): a relay stands in for a cut network\n"
        );
        std::io::stderr().write_all(note.as_bytes())?;
        let database = Database::create().await?;
        let url = database.url().to_owned();
        let relay = Proxy::to(url::Url::parse(&url)?.port().context("no port")?).await?;
        let urls = [url.clone(), url.clone(), relay.before(&url)?];
        let three = Three::on_each(urls, Options::default()).await?;
        let network = Network::Relay(relay);
        cut_off(&three, &network, Lost::All, LONG).await?;
        three.close().await?;
        return database.close().await;
    }
    let own_name = module_path!().split_once("::").context("a crate")?.1;
    let child = unshare()?
        .arg(std::env::current_exe()?)
        .args(["--exact", "--nocapture"])
        .arg(format!("{own_name}::inside"))
        .env(INSIDE, "1")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SECOND * 240, child).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.contains(DONE),
        "{said}{complaint}"
    );
    print!("{said}");
    Ok(())
}
