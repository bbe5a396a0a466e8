//! Three processes over one database, and who calls them.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::server::harness::{Options, ServerProcess, program};
use crate::support::postgres::Database;

const NAMES: [&str; 3] = ["one", "two", "three"];

/// A client that keeps its connections.
pub(super) fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()?)
}

/// Calls one node with the root key.
#[derive(Clone)]
pub(super) struct Caller {
    client: reqwest::Client,
    base: String,
    root_key: String,
}

impl Caller {
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value)> {
        let response = request.bearer_auth(&self.root_key).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    pub(super) async fn get(&self, path: &str) -> Result<(u16, Value)> {
        self.send(self.client.get(self.at(path))).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.send(self.client.post(self.at(path)).json(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.send(self.client.put(self.at(path)).json(body)).await
    }

    /// With an idempotency key.
    pub(super) async fn post_once(
        &self,
        path: &str,
        body: &Value,
        once: &str,
    ) -> Result<(u16, Value)> {
        let request = self
            .client
            .post(self.at(path))
            .header("idempotency-key", once);
        self.send(request.json(body)).await
    }

    /// What the node says of a key; the status where it gives no verdict.
    pub(super) async fn code(&self, key: &str) -> Result<String> {
        let (status, answer) = self
            .post("/api/v1/keys/verify", &json!({ "key": key }))
            .await?;
        Ok(match answer["code"].as_str() {
            Some(code) if status == 200 => code.to_owned(),
            _ => status.to_string(),
        })
    }

    pub(super) async fn is_ready(&self) -> bool {
        let asked = self.client.get(self.at("/readyz")).send().await;
        asked.is_ok_and(|answer| answer.status() == 200)
    }
}

/// What a node is told when it is started.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// How it reaches the database.
    pub(super) url: String,
    /// Variables of its environment.
    pub(super) variables: Vec<(String, PathBuf)>,
}

/// One more process over the first one's folder.
struct Further {
    name: &'static str,
    place: Place,
    listen: String,
    log: PathBuf,
    process: Child,
}

/// Three nodes. The first is an ordinary server; the others serve the same folder.
pub(super) struct Three {
    first: ServerProcess,
    further: Vec<Further>,
    callers: [Caller; 3],
    database: Option<Database>,
}

impl Three {
    /// Over a database of their own.
    pub(super) async fn start(options: Options) -> Result<Self> {
        let database = Database::create().await?;
        let mut three = Self::on(database.url(), options).await?;
        three.database = Some(database);
        Ok(three)
    }

    /// Over a database that is there.
    pub(super) async fn on(url: &str, options: Options) -> Result<Self> {
        Self::on_each([url, url, url].map(str::to_owned), options).await
    }

    /// The same, each by an address of its own.
    pub(super) async fn on_each(urls: [String; 3], options: Options) -> Result<Self> {
        let [first, second, third] = urls;
        let further = [second, third].map(|url| Place {
            url,
            ..Place::default()
        });
        Self::told(&first, further, options).await
    }

    /// The same, and the further ones are told more.
    pub(super) async fn told(url: &str, places: [Place; 2], options: Options) -> Result<Self> {
        let settings = format!("node_name = \"one\"\n{}", options.settings);
        let first = ServerProcess::with(Options {
            database: Some(url.to_owned()),
            settings: Box::leak(settings.into_boxed_str()),
            ..options
        })
        .await?;
        let mut further = Vec::new();
        for (name, place) in NAMES.into_iter().skip(1).zip(places) {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let listen = format!("127.0.0.1:{port}");
            let log = first.data().with_file_name(format!("log-{name}"));
            let process = serve(&first, &place, &listen, name, &log).await?;
            further.push(Further {
                name,
                place,
                listen,
                log,
                process,
            });
        }
        let caller = |base: String| -> Result<Caller> {
            Ok(Caller {
                client: client()?,
                base,
                root_key: first.root_key.clone(),
            })
        };
        let callers = [
            caller(first.issuer.clone())?,
            caller(format!("http://{}", further[0].listen))?,
            caller(format!("http://{}", further[1].listen))?,
        ];
        Ok(Self {
            first,
            further,
            callers,
            database: None,
        })
    }

    pub(super) fn first(&self) -> &ServerProcess {
        &self.first
    }

    /// What a node logged so far.
    pub(super) fn logged(&self, node: usize) -> String {
        match node {
            0 => self.first.logged(),
            _ => fs::read_to_string(&self.further[node - 1].log).unwrap_or_default(),
        }
    }

    pub(super) fn caller(&self, node: usize) -> Caller {
        self.callers[node].clone()
    }

    /// The body that asks for a key.
    pub(super) fn wish(more: Value) -> Value {
        let mut wish =
            json!({"name": "key of a test", "prefix": "sk_live", "scopes": ["keys:read"]});
        if let (Some(wish), Value::Object(more)) = (wish.as_object_mut(), more) {
            wish.extend(more);
        }
        wish
    }

    /// Issues a key on the first node: its id, and its text.
    pub(super) async fn issue(&self, more: Value) -> Result<(String, String)> {
        let (status, answer) = self.callers[0]
            .post("/api/v1/keys", &Self::wish(more))
            .await?;
        ensure!(status == 201, "{status} {answer}");
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        Ok((text(&answer["key"]["id"])?, text(&answer["secret"])?))
    }

    pub(super) fn signal(&self, node: usize, name: &str) -> Result<()> {
        if node == 0 {
            return self.first.signal(name);
        }
        let id = self.further[node - 1].process.id().context("it ended")?;
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), id.to_string()])
            .status()?;
        ensure!(status.success());
        Ok(())
    }

    /// Waits for the end of a node.
    pub(super) async fn ended(&mut self, node: usize) -> Result<()> {
        if node == 0 {
            ensure!(self.first.ended().await?, "{}", self.first.logged());
            return Ok(());
        }
        let further = &mut self.further[node - 1];
        let wait = tokio::time::timeout(Duration::from_secs(30), further.process.wait());
        wait.await??;
        Ok(())
    }

    /// Starts a node again, after it ended or was killed.
    pub(super) async fn again(&mut self, node: usize) -> Result<()> {
        if node == 0 {
            return self.first.serve().await;
        }
        let further = &mut self.further[node - 1];
        further.process.wait().await?;
        let (listen, log) = (further.listen.clone(), further.log.clone());
        let (place, name) = (&further.place, further.name);
        further.process = serve(&self.first, place, &listen, name, &log).await?;
        Ok(())
    }

    /// Starts the second and the third node again at the same moment, after they ended.
    pub(super) async fn further_again(&mut self) -> Result<()> {
        let [two, three] = self.further.as_slice() else {
            bail!("there are three");
        };
        let (second, third) = tokio::try_join!(
            serve(&self.first, &two.place, &two.listen, two.name, &two.log),
            serve(
                &self.first,
                &three.place,
                &three.listen,
                three.name,
                &three.log
            ),
        )?;
        for (further, process) in self.further.iter_mut().zip([second, third]) {
            further.process = process;
        }
        Ok(())
    }

    /// Ends them, and the database.
    pub(super) async fn close(self) -> Result<()> {
        let database = self.database;
        drop((self.first, self.further));
        match database {
            Some(database) => database.close().await,
            None => Ok(()),
        }
    }
}

async fn serve(
    first: &ServerProcess,
    place: &Place,
    listen: &str,
    name: &str,
    log: &PathBuf,
) -> Result<Child> {
    let mut command = Command::new(program()?);
    command.envs(place.variables.iter().map(|(name, value)| (name, value)));
    command.args(["serve", "--listen", listen, "--database", &place.url]);
    command
        .args(["--node-name", name, "--data"])
        .arg(first.data());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(fs::File::options().create(true).append(true).open(log)?);
    let mut process = command.kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("\"ready\":true") {
                return Ok(());
            }
        }
        bail!("it ended: {}", fs::read_to_string(log).unwrap_or_default())
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await??;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(process)
}
