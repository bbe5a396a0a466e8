//! A PostgreSQL server for tests: its own port, its own folder, gone at the end. The server that
//! Debian's package starts by itself belongs to the machine and is never touched.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    process, reap,
    tools::{self, Need},
};

/// Tells tests where the server is: the superuser's address of its maintenance database.
pub(crate) const VARIABLE: &str = "KEYWRIGHT_TEST_POSTGRES";
/// System packages a cluster needs; util-linux has setpriv.
pub(crate) const PACKAGES: &[&str] = &["postgresql", "util-linux"];

/// Where Debian keeps the versions; the programs are not on PATH.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Whom Debian's package made to run servers: PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";
const PATIENCE: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 3;

/// `cargo xtask postgres`.
pub(crate) fn run() -> Result<()> {
    tools::ensure(&[Need::Database])?;
    let mut cluster = Cluster::start()?;
    eprintln!(
        "for tests, in another terminal:\n  export {VARIABLE}={}",
        cluster.url()
    );
    eprintln!("stop it with Ctrl-C; all its data goes with it");
    println!("{}", cluster.url());
    loop {
        process::pause(Duration::from_millis(50))?;
        if let Some(status) = cluster.server.0.try_wait()? {
            bail!(
                "the server ended ({status}){}",
                last_words(cluster.folder.path())
            );
        }
    }
}

/// A running server with an empty cluster; dropping it ends the server and removes its data.
pub(crate) struct Cluster {
    server: Server, // first: it ends before its folder goes
    url: String,
    folder: TempDir,
}

impl Cluster {
    /// Makes a cluster and starts its server.
    pub(crate) fn start() -> Result<Self> {
        process::step("start a PostgreSQL server for tests", || {
            let programs = newest(Path::new(VERSIONS))?;
            let account = Account::find()?;
            // Not TMPDIR: another account must be able to enter it.
            let folder = tempfile::Builder::new()
                .prefix("kwx-pg-")
                .tempdir_in("/tmp")?;
            account.own(folder.path())?;
            make(&programs, &account, folder.path())?;
            for _ in 0..ATTEMPTS {
                let port = free_port()?;
                let mut server = Server::spawn(&programs, &account, folder.path(), port)?;
                if server.becomes_ready(folder.path())? {
                    return Ok(Self {
                        server,
                        url: format!("postgres://{ACCOUNT}@127.0.0.1:{port}/postgres"),
                        folder,
                    });
                }
                // Somebody may have taken the port between our look and the server's.
            }
            bail!("PostgreSQL does not start{}", last_words(folder.path()))
        })
    }

    /// The superuser's address of the maintenance database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

struct Server(Child);

impl Server {
    fn spawn(programs: &Programs, account: &Account, folder: &Path, port: u16) -> Result<Self> {
        let log = fs::File::create(folder.join("server.log"))?;
        let mut server = account.command(&programs.folder.join("postgres"), folder);
        server.arg("-D").arg(folder.join("data"));
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            "unix_socket_directories=", // none
            "max_connections=200",      // many tests at once, each with pools of its own
            "fsync=on",                 // tests of durability need it
            "ssl=off",
        ] {
            server.args(["-c", setting]);
        }
        // Out of Ctrl-C's reach: whoever uses it ends first.
        server.process_group(0).stdout(Stdio::null()).stderr(log);
        Ok(Self(server.spawn().context("cannot start PostgreSQL")?))
    }

    /// Waits until it takes connections; `false` when it ended instead.
    fn becomes_ready(&mut self, folder: &Path) -> Result<bool> {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.0.try_wait()?.is_some() {
                return Ok(false);
            }
            // Asking the port could reach another server.
            let status = fs::read_to_string(folder.join("data/postmaster.pid"));
            if status.is_ok_and(|status| says_ready(&status)) {
                return Ok(true);
            }
            if Instant::now() > end {
                bail!("PostgreSQL does not get ready{}", last_words(folder));
            }
            process::pause(Duration::from_millis(20))?;
        }
    }
}

impl Drop for Server {
    /// Its data is thrown away, so it need not write it out; but it should end by itself, or its
    /// shared memory stays behind.
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            reap::send(self.0.id(), Signal::QUIT);
            let end = Instant::now() + Duration::from_secs(5);
            while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
        }
        reap::end_tree(&mut self.0);
    }
}

/// `initdb`: fast to make, and open to whoever is on this machine.
fn make(programs: &Programs, account: &Account, folder: &Path) -> Result<()> {
    let mut initdb = account.command(&programs.folder.join("initdb"), folder);
    initdb.arg("-D").arg(folder.join("data"));
    initdb.args(["--username", ACCOUNT, "--auth=trust", "--no-sync"]);
    initdb.args(["--encoding=UTF8", "--no-locale"]);
    // Sorts text as people's servers do: what relies on the order of bytes must show.
    if programs.version >= 15 {
        initdb.args(["--locale-provider=icu", "--icu-locale=en-US"]);
    }
    process::output(&mut initdb).map(drop)
}

/// A version's programs.
struct Programs {
    version: u32,
    folder: PathBuf,
}

/// The newest version under Debian's folder.
fn newest(versions: &Path) -> Result<Programs> {
    let entries = fs::read_dir(versions).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            let whole = ["initdb", "postgres"]
                .iter()
                .all(|name| folder.join(name).is_file());
            whole.then_some(Programs { version, folder })
        })
        .max_by_key(|programs| programs.version)
        .with_context(|| {
            format!(
                "no PostgreSQL in {}\nhint: apt-get install postgresql",
                versions.display()
            )
        })
}

/// Who runs the server: we, or Debian's account when we are root.
struct Account {
    other: Option<(u32, u32)>,
}

impl Account {
    fn find() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { other: None });
        }
        let id = |what: &str| -> Result<u32> {
            let number = process::output(process::command("id").args([what, ACCOUNT]))?;
            Ok(number.trim().parse()?)
        };
        Ok(Self {
            other: Some((id("--user")?, id("--group")?)),
        })
    }

    /// Gives a folder to it.
    fn own(&self, folder: &Path) -> Result<()> {
        match self.other {
            Some((user, group)) => Ok(chown(folder, Some(user), Some(group))?),
            None => Ok(()),
        }
    }

    /// A program run by it. `setpriv` becomes the program, so that its signals arrive, and the
    /// kernel ends it should xtask itself be killed.
    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = process::command("setpriv");
        if let Some((user, group)) = self.other {
            command.arg(format!("--reuid={user}"));
            command.arg(format!("--regid={group}"));
            command.arg("--init-groups");
        }
        command.args(["--pdeathsig", "QUIT", "--"]).arg(program);
        command.current_dir(folder);
        // Whatever the developer's shell says about their own servers.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// A port nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Reads the server's own status file; its eighth line is the state.
fn says_ready(status: &str) -> bool {
    status
        .lines()
        .nth(7)
        .is_some_and(|state| state.trim() == "ready")
}

/// The end of the server's log, on lines of its own.
fn last_words(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("server.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..]
        .iter()
        .map(|line| format!("\n  {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_version_is_taken_by_number() -> Result<()> {
        let versions = tempfile::tempdir()?;
        for (version, programs) in [
            ("9", &["initdb", "postgres"][..]),
            ("15", &["initdb", "postgres"]),
            ("17", &["psql"]), // a client's package
            ("common", &["initdb", "postgres"]),
        ] {
            let folder = versions.path().join(version).join("bin");
            fs::create_dir_all(&folder)?;
            for program in programs {
                fs::write(folder.join(program), "")?;
            }
        }
        let found = newest(versions.path())?;
        assert_eq!(found.version, 15);
        assert!(found.folder.ends_with("15/bin"));
        assert!(newest(&versions.path().join("nowhere")).is_err());
        Ok(())
    }

    #[test]
    fn only_a_server_that_says_so_is_ready() {
        let status = |state: &str| format!("7\n/d\n1\n5433\n\n127.0.0.1\n  1 2\n{state}\n");
        assert!(says_ready(&status("ready   ")));
        assert!(!says_ready(&status("starting")));
        assert!(!says_ready("7\n/d\n1\n5433\n"));
    }

    /// Needs what `cargo xtask test` installs first.
    #[test]
    fn a_cluster_answers_and_leaves_nothing_behind() -> Result<()> {
        let cluster = Cluster::start()?;
        let psql = newest(Path::new(VERSIONS))?.folder.join("psql");
        let ask = |sql: &str| {
            let mut psql = process::command(&psql);
            psql.args(["--no-psqlrc", "--tuples-only", "--no-align"]);
            process::output(psql.args(["--command", sql, cluster.url()]))
        };
        assert_eq!(ask("SHOW fsync")?.trim(), "on");
        assert_eq!(ask("SHOW listen_addresses")?.trim(), "127.0.0.1");
        assert_eq!(ask("SELECT 'a' < 'B'")?.trim(), "t");
        let (pid, folder) = (cluster.server.0.id(), cluster.folder.path().to_path_buf());
        assert!(reap::tree_of(pid).len() > 1);
        drop(cluster);
        assert!(!folder.exists(), "its folder stays behind");
        assert!(reap::tree_of(pid).is_empty(), "its server stays behind");
        Ok(())
    }
}
