//! A node that is cut off from its database by the kernel's own network: PostgreSQL is in a network namespace of its own, and the
//! last node has a link of its own to it (a pair of `veth`) on which all frames are lost from some moment on, without
//! a word to anybody.
//!
//! All of it is in namespaces of one child process: whatever becomes of the bench, they are gone with it, and the machine's own
//! network is not touched.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::nodes::{Nodes, Place, round};
use crate::revocations::{Client, after};

/// Set for the child, whose network it is.
const INSIDE: &str = "KEYWRIGHT_BENCH_INSIDE_NAMESPACES";
const CASE: &str = "revoke_partition_bound_ms";
/// What all nodes but one reach the database by, and what that one does: here, and there.
const LINKS: [[&str; 2]; 2] = [["10.77.0.2", "10.77.0.1"], ["10.78.0.2", "10.78.0.1"]];
/// Nobody's: frames to it are lost.
const NOBODY: &str = "02:00:00:00:00:99";
/// Nobody else is in that network.
const PORT: u16 = 5432;
/// The node that is cut off.
const CUT_OFF: usize = 2;
/// When its memory may not be believed any more it asks the database, and says 503 when it knows that nobody answers. A request waits
/// so long at the most; it lets nobody through meanwhile.
const SAYS_SO_WITHIN: Duration = Duration::from_secs(12);
/// It is asked for so long after its first refusal too: none of its answers may let the key through.
const REFUSES_FOR: Duration = Duration::from_millis(700);
/// So long after the network is whole again it is at work.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Whether this process is the child.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Measures in a child; where the kernel allows no namespaces, the line says so and is void.
pub(crate) fn measure(server: &Path, cuts: usize) -> Result<()> {
    let script = "ip link set lo up && ip link add here type veth peer name there";
    let tried = unshare()?.args(["sh", "-c", script]).output()?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr);
        let why = format!("no network namespaces here: {}", said.trim());
        println!(
            "{}",
            json!({ "bench": "server", "case": CASE, "void": why })
        );
        return Ok(());
    }
    let status = unshare()?
        .arg(std::env::current_exe()?)
        .arg(server)
        .args(["--turns", &cuts.to_string(), "partition"])
        .env(INSIDE, "1")
        .status()?;
    ensure!(status.success(), "the bench inside ended with {status}");
    Ok(())
}

/// Leads into namespaces of processes, mounts and networks, where whoever is no administrator may do as one.
fn unshare() -> Result<Command> {
    let mut command = Command::new("unshare");
    if !is_root()? {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command.arg("--mount-proc").stdin(Stdio::null());
    Ok(command)
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

/// The child's part: so many cuts, a revocation after each. Tells the longest that the node which was cut off let a key through
/// after the answer.
pub(crate) async fn inside(server: &Path, cuts: usize) -> Result<()> {
    let links = Links::make()?;
    let folder = tempfile::Builder::new()
        .prefix("kwx-pg-")
        .tempdir_in("/tmp")?;
    let mut postgres = Postgres::start(&links, folder.path())?;
    let [near, far] = LINKS
        .map(|[_, there]| format!("postgres://postgres@{there}:{PORT}/postgres?sslmode=disable"));
    postgres.wait_until_ready(LINKS[0][1])?;
    let own = tempfile::tempdir()?;
    let place = Place::make(server, own.path(), &near, None)?;
    let nodes = Nodes::start(&place, &[&near, &near, &far]).await?;
    let mut admin = nodes.connect(0).await?;
    let client = Client::start(&nodes, CUT_OFF, &["revoked", "503"])?;
    let (mut began, mut seen) = (0.0_f64, 0.0_f64);
    for _ in 0..cuts {
        let (id, key) = admin.issue().await?;
        client.ask(&key)?;
        client.is_let_through().await?;
        links.cut()?;
        let path = format!("/api/v1/keys/{id}/revoke?wait_ms=0");
        let (status, answer) = admin.send("POST", &path, None).await?;
        let answered = Instant::now();
        ensure!(status == 200, "{status} {answer}");
        client.is_refused(answered + SAYS_SO_WITHIN).await?;
        tokio::time::sleep(REFUSES_FOR).await;
        let last = client.last()?;
        began = began.max(after(answered, last.0));
        seen = seen.max(after(answered, last.1));
        links.heal()?;
        // The next cut finds it at work again: it has heard of this revocation.
        let healed = Instant::now();
        let mut away = nodes.connect(CUT_OFF).await?;
        while away.verify(&key).await? != "revoked" {
            ensure!(healed.elapsed() < BACK_WITHIN, "it does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let line = json!({
        "bench": "server", "case": CASE, "value": round(seen), "unit": "ms", "turns": cuts,
        "last_began_ms": round(began),
        "note": "all frames between one node and the database are lost; until its last answer that let the key through",
    });
    println!("{line}");
    drop(nodes);
    postgres.end()
}

fn ip(by: &[String], words: &str) -> Result<()> {
    let mut all = by.iter().map(String::as_str).chain(["ip"]);
    let mut command = Command::new(all.next().context("no program")?);
    let output = command.args(all).args(words.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {words}: {said}");
    Ok(())
}

/// The network of the database, and the links to it.
struct Links {
    /// Leads there.
    by: Vec<String>,
    holder: Child,
}

impl Links {
    fn make() -> Result<Self> {
        ip(&[], "link set lo up")?;
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "3600"])
            .stdin(Stdio::null())
            .spawn()?;
        let id = holder.id().to_string();
        let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net"));
        let own = network("self")?;
        let end = Instant::now() + Duration::from_secs(10);
        while network(&id).is_ok_and(|other| other == own) {
            ensure!(Instant::now() < end, "no other network");
            std::thread::sleep(Duration::from_millis(10));
        }
        let by = ["nsenter", "--target", &id, "--net", "--"].map(str::to_owned);
        let links = Self {
            by: by.to_vec(),
            holder,
        };
        ip(&links.by, "link set lo up")?;
        for (number, [here, there]) in LINKS.iter().enumerate() {
            let pair =
                format!("link add here{number} type veth peer name there{number} netns {id}");
            ip(&[], &pair)?;
            ip(&[], &format!("addr add {here}/30 dev here{number}"))?;
            ip(&[], &format!("link set here{number} up"))?;
            ip(&links.by, &format!("addr add {there}/30 dev there{number}"))?;
            ip(&links.by, &format!("link set there{number} up"))?;
        }
        Ok(links)
    }

    /// Both ends say what they have to say to a neighbour that nobody is.
    fn cut(&self) -> Result<()> {
        let [here, there] = LINKS[1];
        let to_nobody = |to: &str, by: &str| {
            format!("neigh replace {to} lladdr {NOBODY} dev {by} nud permanent")
        };
        ip(&self.by, &to_nobody(here, "there1"))?;
        ip(&[], &to_nobody(there, "here1"))
    }

    fn heal(&self) -> Result<()> {
        let [here, there] = LINKS[1];
        ip(&self.by, &format!("neigh del {here} dev there1"))?;
        ip(&[], &format!("neigh del {there} dev here1"))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// An empty PostgreSQL in the other network.
struct Postgres {
    server: Child,
    programs: PathBuf,
}

impl Postgres {
    fn start(links: &Links, folder: &Path) -> Result<Self> {
        let programs = newest()?;
        // It refuses to run as root.
        let mut account = vec!["setpriv".to_owned()];
        if is_root()? {
            let (user, group) = (id("--user")?, id("--group")?);
            chown(folder, Some(user), Some(group))?;
            account.extend([format!("--reuid={user}"), format!("--regid={group}")]);
            account.push("--init-groups".to_owned());
        }
        account.push("--".to_owned());
        let data = folder.join("data");
        let command = |by: &[String], program: &str| -> Result<Command> {
            let mut words = by.iter().chain(&account);
            let mut command = Command::new(words.next().context("no program")?);
            command.args(words).arg(programs.join(program));
            command.arg("-D").arg(&data).current_dir(folder);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null());
            Ok(command)
        };
        let mut initdb = command(&[], "initdb")?;
        initdb.args(["--username", "postgres", "--auth=trust", "--no-sync"]);
        let status = initdb.arg("--encoding=UTF8").status()?;
        ensure!(status.success(), "initdb: {status}");
        let allowed = data.join("pg_hba.conf");
        let mut text = std::fs::read_to_string(&allowed)?;
        for [here, _] in LINKS {
            text.push_str(&format!("\nhost all all {here}/30 trust\n"));
        }
        std::fs::write(allowed, text)?;
        let mut server = command(&links.by, "postgres")?;
        for setting in [
            "listen_addresses=*",
            &format!("port={PORT}"),
            "unix_socket_directories=",
        ] {
            server.args(["-c", setting]);
        }
        let server = server.spawn()?;
        Ok(Self { server, programs })
    }

    fn wait_until_ready(&mut self, address: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let mut ask = Command::new(self.programs.join("pg_isready"));
            ask.args(["--quiet", "-h", address, "-p", &PORT.to_string()]);
            if ask.status()?.success() {
                return Ok(());
            }
            let ended = self.server.try_wait()?;
            ensure!(ended.is_none(), "PostgreSQL ended: {ended:?}");
            ensure!(Instant::now() < end, "PostgreSQL does not get ready");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its folder goes afterwards.
    fn end(&mut self) -> Result<()> {
        let id = self.server.id().to_string();
        Command::new("kill").args(["-QUIT", &id]).status()?;
        self.server.wait()?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn id(what: &str) -> Result<u32> {
    let output = Command::new("id").args([what, "postgres"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Where the newest PostgreSQL's programs are.
fn newest() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")?.flatten();
    let number = |entry: &std::fs::DirEntry| {
        entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
    };
    let newest = versions
        .filter(|entry| entry.path().join("bin/initdb").is_file())
        .max_by_key(number);
    Ok(newest.context("no PostgreSQL")?.path().join("bin"))
}
