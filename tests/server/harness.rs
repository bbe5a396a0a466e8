//! A server of the test's own: its folder, its port, its process.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::clock::WallClock;
use super::log_scan;

/// The owner of every server.
pub(crate) const OWNER: &str = "owner@example.org";
/// The password of everybody.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `127.0.0.1`, or `localhost` where passkeys need a name.
    pub(crate) host: &'static str,
    /// A PostgreSQL address in place of SQLite.
    pub(crate) database: Option<String>,
    /// Lines for `server.toml`.
    pub(crate) settings: &'static str,
    /// Certificate and key: https.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Its wall clock can be put.
    pub(crate) own_clock: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "127.0.0.1",
            database: None,
            settings: "",
            tls: None,
            own_clock: false,
        }
    }
}

/// A running server; it ends with this value. A test whose server logged a secret fails then, whatever it was
/// about (AC-202).
#[derive(Debug)]
pub(crate) struct ServerProcess {
    /// Its issuer.
    pub(crate) issuer: String,
    /// The root key that the set-up printed.
    pub(crate) root_key: String,
    listen: String,
    options: Options,
    folder: TempDir,
    clock: Option<WallClock>,
    process: Option<Child>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl ServerProcess {
    /// Sets a folder up and serves it.
    pub(crate) async fn start() -> Result<Self> {
        Self::with(Options::default()).await
    }

    /// The same, otherwise.
    pub(crate) async fn with(options: Options) -> Result<Self> {
        let mut server = Self::before_init(options)?;
        let password = server.write("password", PASSWORD)?;
        let mut init = vec!["init", "--issuer", server.issuer.as_str()];
        init.extend(["--admin-email", OWNER, "--admin-password-file"]);
        init.push(&password);
        if let Some(database) = &server.options.database {
            init.extend(["--database", database]);
        }
        let said = server.command(&init).await?;
        server.root_key = said.trim().to_owned();
        let file = server.data().join("server.toml");
        let settings = std::fs::read_to_string(&file)?;
        let extra = server.options.settings;
        std::fs::write(&file, format!("{extra}\n{settings}"))?;
        server.serve().await?;
        Ok(server)
    }

    /// Serves an empty folder, where nobody is yet: the server, and the code of the set-up that its terminal
    /// shows.
    pub(crate) async fn empty() -> Result<(Self, String)> {
        let mut server = Self::before_init(Options::default())?;
        server.serve().await?;
        let shown = async {
            loop {
                let terminal = server.logged();
                let mut lines = terminal
                    .lines()
                    .skip_while(|line| !line.contains("/set-up"));
                if let Some(code) = lines.nth(1) {
                    return code.trim().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let code = tokio::time::timeout(Duration::from_secs(20), shown).await?;
        Ok((server, code))
    }

    fn before_init(options: Options) -> Result<Self> {
        log_scan::keep_out(PASSWORD);
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let folder = tempfile::tempdir()?;
        let clock = match options.own_clock {
            true => Some(WallClock::new(folder.path())?),
            false => None,
        };
        Ok(Self {
            issuer: format!("{scheme}://{}:{port}", options.host),
            root_key: String::new(),
            listen: format!("127.0.0.1:{port}"),
            options,
            folder,
            clock,
            process: None,
            lines: None,
        })
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// From the next start on it serves from this PostgreSQL.
    pub(crate) fn set_database(&mut self, url: String) {
        self.options.database = Some(url);
    }

    /// The wall clock of the process, where it has one of its own.
    pub(crate) fn clock(&self) -> Result<&WallClock> {
        self.clock.as_ref().context("it has this machine's clock")
    }

    /// A file beside the data folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String> {
        if name.contains("password") || name.contains("secret") {
            log_scan::keep_out(text);
        }
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().context("path")?.to_owned())
    }

    /// Where it takes requests.
    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    /// Runs one of its commands to the end, and returns what it printed.
    pub(crate) async fn command(&self, words: &[&str]) -> Result<String> {
        let (success, said, complaints) = self.try_command(words).await?;
        ensure!(success, "{words:?}: {complaints}");
        Ok(said)
    }

    /// The same, with its outcome. It is told the address of the database, as the server was.
    pub(crate) async fn try_command(&self, words: &[&str]) -> Result<(bool, String, String)> {
        let address = self.options.database.as_deref();
        let address = address.map(|url| ("KEYWRIGHT_SERVER_DATABASE", url));
        self.command_told(words, address.as_slice()).await
    }

    /// The same, told nothing but the folder and these variables.
    pub(crate) async fn command_told(
        &self,
        words: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<(bool, String, String)> {
        let output = Command::new(program()?)
            .args(words)
            .arg("--data")
            .arg(self.data())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, complaints) = (text(&output.stdout), text(&output.stderr));
        // What a command prints once is for whoever ran it; what it complains about lands in journals.
        said.split_whitespace().for_each(log_scan::keep_out_word);
        let found = log_scan::findings(&complaints);
        ensure!(found.is_empty(), "{words:?} told a secret: {found:#?}");
        Ok((output.status.success(), said, complaints))
    }

    /// Runs one of its commands and kills it (`kill -9`) after so many microseconds, or lets it end. True if it
    /// was killed before its end.
    pub(crate) async fn kill_command(&self, words: &[&str], after_us: Option<u64>) -> Result<bool> {
        let mut process = Command::new(program()?)
            .args(words)
            .arg("--data")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let limit = after_us.map_or(Duration::from_secs(60), Duration::from_micros);
        match tokio::time::timeout(limit, process.wait()).await {
            Ok(status) => {
                let status = status?;
                ensure!(status.success(), "{words:?}: {status}");
                Ok(false)
            }
            Err(_) => {
                process.kill().await?;
                Ok(true)
            }
        }
    }

    /// Serves the folder.
    pub(crate) async fn serve(&mut self) -> Result<()> {
        self.begin()?;
        self.ready().await
    }

    /// Starts to serve it, and waits for nothing. Returns the process's id.
    pub(crate) fn begin(&mut self) -> Result<u32> {
        let mut command = Command::new(program()?);
        command.args(["serve", "--listen", &self.listen, "--data"]);
        command.arg(self.data());
        if let Some(database) = &self.options.database {
            command.args(["--database", database]);
        }
        if let Some((cert, key)) = &self.options.tls {
            command
                .arg("--tls-cert")
                .arg(cert)
                .arg("--tls-key")
                .arg(key);
        }
        if let Some(clock) = &self.clock {
            command.envs(clock.variables());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(self.log())?,
        );
        let mut process = command.kill_on_drop(true).spawn()?;
        let output = process.stdout.take().context("no output")?;
        self.lines = Some(BufReader::new(output).lines());
        self.process = Some(process);
        self.id()
    }

    /// Waits until it takes requests.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let mut lines = self.lines.take().context("it was not started")?;
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if let Ok(value) = serde_json::from_str::<Value>(&line)
                    && value["ready"] == true
                {
                    return Ok(value);
                }
            }
            bail!("it ended: {}", self.logged())
        };
        let ready = tokio::time::timeout(Duration::from_secs(30), ready).await??;
        ensure!(ready["issuer"] == self.issuer, "{ready}");
        let mut out = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log.stdout"))?;
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = writeln!(out, "{line}");
            }
        });
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it logged so far.
    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The process.
    pub(crate) fn id(&self) -> Result<u32> {
        let process = self.process.as_ref().context("it does not run")?;
        process.id().context("it ended")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.id()?.to_string()])
            .status()?;
        ensure!(status.success());
        Ok(())
    }

    /// Waits for its end; true if it ended well.
    pub(crate) async fn ended(&mut self) -> Result<bool> {
        let mut process = self.process.take().context("it does not run")?;
        let status = tokio::time::timeout(Duration::from_secs(20), process.wait()).await??;
        Ok(status.success())
    }

    /// Registers a client; `more` are further words of the command.
    pub(crate) async fn add_client(
        &self,
        id: &str,
        secret: Option<&str>,
        more: &[&str],
    ) -> Result<()> {
        let mut words = vec!["clients", "add", "--id", id];
        let file;
        match secret {
            Some(secret) => {
                file = self.write(&format!("{id}.secret"), secret)?;
                words.extend(["--secret-file", &file]);
            }
            None if more.contains(&"--jwks-file") => {}
            None => words.push("--public"),
        }
        words.extend(more);
        self.command(&words).await.map(drop)
    }

    /// An address of it.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }
}

impl Drop for ServerProcess {
    #[expect(
        clippy::panic,
        reason = "it is how a test fails, and only tests have one"
    )]
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.start_kill();
        }
        let found = log_scan::findings_in(self.folder.path());
        // A second panic would abort the other tests; the first one already failed this one.
        if !found.is_empty() && !std::thread::panicking() {
            panic!("secrets are in the log (AC-202): {found:#?}");
        }
    }
}

/// The binary that `cargo xtask test` built, beside the tests' own.
pub(crate) fn program() -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(Path::parent).context("no folder")?;
    let program = folder.join("keywright-server");
    ensure!(
        program.is_file(),
        "{} is missing: run `cargo build --package keywright-server`",
        program.display()
    );
    Ok(program)
}

/// Runs a program of tests/peers to its end, and returns the JSON it printed.
pub(crate) async fn peer(script: &str, input: &Value) -> Result<Value> {
    peer_with(script, input, &[]).await
}

/// The same with variables of the environment.
pub(crate) async fn peer_with(
    script: &str,
    input: &Value,
    variables: &[(&str, &Path)],
) -> Result<Value> {
    log_scan::keep_out_of(input);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
    let run = Command::new("node")
        .current_dir(folder)
        .arg(script)
        .arg(input.to_string())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await??;
    ensure!(
        output.status.success(),
        "{script} {}: {}",
        input["scenario"],
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = serde_json::from_slice(&output.stdout).context("no JSON")?;
    log_scan::keep_out_of(&answer);
    Ok(answer)
}

/// The owner, for scripts.
pub(crate) fn owner() -> Value {
    json!({ "email": OWNER, "password": PASSWORD })
}
