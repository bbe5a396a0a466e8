//! PostgreSQL servers of a test's own: restarted, copied, killed, promoted.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::process::Command;

use crate::support::certificates::{Certificates, certificates};

/// A PostgreSQL of the test's own, as `cargo xtask postgres` starts them.
pub(super) struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    other: Option<(u32, u32)>,
    port: u16,
    url: String,
    /// What its programs are started by, and where it listens.
    by: Vec<String>,
    addresses: &'static str,
}

impl Cluster {
    /// An empty one.
    pub(super) async fn start() -> Result<Self> {
        Self::start_in(Vec::new(), "127.0.0.1", "").await
    }

    /// An empty one, in another network: `by` leads there, `addresses` are where it listens, and `allowed` are further
    /// lines of its `pg_hba.conf`.
    pub(super) async fn start_in(
        by: Vec<String>,
        addresses: &'static str,
        allowed: &str,
    ) -> Result<Self> {
        let mut cluster = Self::nothing().await?;
        (cluster.by, cluster.addresses) = (by, addresses);
        let data = cluster.data();
        let words = [
            "--username",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
        ];
        cluster
            .run("initdb", &[&["-D", &data][..], &words[..]].concat())
            .await?;
        if !allowed.is_empty() {
            let file = cluster.folder.path().join("data/pg_hba.conf");
            let before = fs::read_to_string(&file)?;
            fs::write(file, format!("{before}\n{allowed}"))?;
        }
        cluster.pg_ctl("start").await?;
        Ok(cluster)
    }

    /// A replica that follows the primary which is reached by `port`, from here on.
    pub(super) async fn replica_of(port: u16) -> Result<Self> {
        let cluster = Self::nothing().await?;
        let (data, port) = (cluster.data(), port.to_string());
        let words = [
            "-D",
            &data,
            "-R",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "--checkpoint=fast",
            "--no-sync",
        ];
        cluster.run("pg_basebackup", &words).await?;
        cluster.pg_ctl("start").await?;
        Ok(cluster)
    }

    async fn nothing() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kwx-pg-")
            .tempdir_in("/tmp")?;
        // PostgreSQL refuses to run as root.
        let other = match fs::metadata("/proc/self")?.uid() {
            0 => Some((id("--user").await?, id("--group").await?)),
            _ => None,
        };
        if let Some((user, group)) = other {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self {
            programs: newest()?,
            folder,
            other,
            port,
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            by: Vec::new(),
            addresses: "127.0.0.1",
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// From here on it takes connections by TLS alone, with a certificate for `name`.
    pub(super) async fn only_tls(&self, name: &str) -> Result<Certificates> {
        let made = certificates(self.folder.path(), name)?;
        fs::set_permissions(&made.key, fs::Permissions::from_mode(0o600))?;
        if let Some((user, group)) = self.other {
            chown(&made.key, Some(user), Some(group))?;
        }
        for (setting, file) in [
            ("ssl_cert_file", &made.certificate),
            ("ssl_key_file", &made.key),
        ] {
            let file = file.display();
            self.sql(&format!("ALTER SYSTEM SET {setting} = '{file}'"))
                .await?;
        }
        self.sql("ALTER SYSTEM SET ssl = on").await?;
        let allowed = "hostssl all all 127.0.0.1/32 trust\n";
        fs::write(self.folder.path().join("data/pg_hba.conf"), allowed)?;
        self.restart().await?;
        Ok(made)
    }

    /// Runs a statement as its superuser.
    pub(super) async fn sql(&self, statement: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }

    /// A number from it.
    pub(super) async fn number(&self, question: &str) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let number = sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(number)
    }

    /// A replica becomes the primary.
    pub(super) async fn promote(&self) -> Result<()> {
        self.pg_ctl("promote").await
    }

    /// Its machine is gone: `kill -9` for it and all its processes.
    pub(super) fn kill(&self) -> Result<()> {
        let main = self.main().context("it does not run")?;
        for id in self.processes()? {
            signal(&id, "KILL")?;
        }
        for _ in 0..200 {
            if !PathBuf::from(format!("/proc/{main}")).exists() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("it does not end")
    }

    /// Its machine stands still: it answers nothing and closes nothing, until the value is dropped.
    pub(super) fn stall(&self) -> Result<Stalled> {
        let mut stalled = Stalled(Vec::new());
        // The first one begins no others any more; what it began before is looked for after it stopped.
        for _ in 0..2 {
            for id in self.processes()? {
                signal(&id, "STOP")?;
                stalled.0.push(id);
            }
        }
        Ok(stalled)
    }

    /// The main process, and those that it began.
    fn processes(&self) -> Result<Vec<String>> {
        let main = self.main().context("it does not run")?.to_string();
        let mut all = vec![main.clone()];
        for entry in fs::read_dir("/proc")?.flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // What stands in parentheses is a name, and may hold anything.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            if rest.split_whitespace().nth(1) == Some(&main) {
                all.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(all)
    }

    /// The postmaster's own file has its id in the first line.
    fn main(&self) -> Option<u32> {
        let file = self.folder.path().join("data/postmaster.pid");
        let text = fs::read_to_string(file).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Cuts everybody off and comes back, a second later at the latest.
    pub(super) async fn restart(&self) -> Result<()> {
        self.pg_ctl("restart").await
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    async fn pg_ctl(&self, verb: &str) -> Result<()> {
        let options = format!(
            "-c listen_addresses={} -c port={} -c unix_socket_directories= -c max_connections=100",
            self.addresses, self.port
        );
        let (data, log) = (
            self.data(),
            self.folder.path().join("log").display().to_string(),
        );
        let words = [
            "-D", &data, "-l", &log, "-w", "-m", "fast", "-o", &options, verb,
        ];
        self.run("pg_ctl", &words).await
    }

    async fn run(&self, program: &str, words: &[&str]) -> Result<()> {
        let mut words_before = self.by.iter().map(String::as_str).chain(["setpriv"]);
        let mut command = Command::new(words_before.next().context("no program")?);
        command.args(words_before);
        if let Some((user, group)) = self.other {
            command.args([format!("--reuid={user}"), format!("--regid={group}")]);
            command.arg("--init-groups");
        }
        command
            .arg("--")
            .arg(self.programs.join(program))
            .args(words);
        command.current_dir(self.folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = tokio::time::timeout(Duration::from_secs(60), command.status()).await??;
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        ensure!(status.success(), "{program} {words:?}: {status}\n{log}");
        Ok(())
    }
}

/// All processes of a PostgreSQL, stopped; they go on with its end.
pub(super) struct Stalled(Vec<String>);

impl Drop for Stalled {
    fn drop(&mut self) {
        for id in self.0.iter().rev() {
            let _ = signal(id, "CONT");
        }
    }
}

/// One that ended meanwhile hears nothing.
fn signal(id: &str, name: &str) -> Result<()> {
    std::process::Command::new("kill")
        .args([&format!("-{name}"), id])
        .stderr(Stdio::null())
        .status()?;
    Ok(())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A file that a kill left behind names nobody, or somebody else.
        let is_ours = |id: u32| {
            fs::read_to_string(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| line.contains(&self.data()))
        };
        if let Some(id) = self.main().filter(|id| is_ours(*id)) {
            let _ = std::process::Command::new("kill")
                .args(["-QUIT", &id.to_string()])
                .status();
            for _ in 0..50 {
                if !PathBuf::from(format!("/proc/{id}")).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

async fn id(what: &str) -> Result<u32> {
    let output = Command::new("id").args([what, "postgres"]).output().await?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The newest PostgreSQL's programs.
pub(in crate::server) fn newest() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")?.flatten();
    let number = |entry: &fs::DirEntry| {
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
