//! The server killed in the middle of each use case (`kill -9`), on both databases. Afterwards: what was
//! answered holds, what was not answered either happened whole or not at all, and whatever may happen
//! once happened at most once.

pub(super) mod access;
mod accounts;
mod administration;
mod authenticator;
mod cases;
mod factors;
pub(super) mod held;
mod hooks;
mod key_changes;
pub(super) mod keys;
mod narrowing;
pub(super) mod person;
mod plain;
mod reports;
mod routes;
mod schedules;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::held::Held;
use super::harness::{Options, PASSWORD, ServerProcess};
use super::{log_scan, upstream};
use crate::support::postgres::Database;

/// The kill comes when the answer has come, and not before.
const ANSWERED: u64 = u64::MAX;
/// The kill comes while what the request wants to write is held by somebody else: in the middle of it, for certain.
const HELD: u64 = u64::MAX - 1;
/// When the kill comes after the request, in microseconds: before it is read, while it is handled, about
/// when it commits, and when it was answered.
const DELAYS: [u64; 4] = [400, 2_500, 9_000, ANSWERED];
/// For those that are one request each: while it is handled, and when it was answered.
const FEW_DELAYS: [u64; 3] = [1_500, 5_000, ANSWERED];
/// For those that do many things, or ask somebody else.
const BULK_DELAYS: [u64; 4] = [2_500, 20_000, 60_000, ANSWERED];
/// For those that hash a password first.
const SLOW_DELAYS: [u64; 4] = [2_000, 60_000, 150_000, ANSWERED];
/// For those that hash ten codes, or compare with ten.
const CODES_DELAYS: [u64; 4] = [5_000, 300_000, 900_000, ANSWERED];

/// For changes of keys: before it is read, while it is handled or about when it commits, for certain before that, and
/// when it was answered.
const HELD_DELAYS: [u64; 4] = [400, 9_000, HELD, ANSWERED];
/// For those of them that do many things.
const HELD_BULK_DELAYS: [u64; 4] = [2_500, 40_000, HELD, ANSWERED];

/// Whether the kill comes while it is held.
fn is_held(at: u64) -> bool {
    at == HELD
}

/// What a request that was struck came to.
pub(super) struct Answer {
    pub(super) status: u16,
    location: String,
    cookies: Vec<String>,
    pub(super) body: Value,
    /// What it says, where that is a page.
    page: String,
}

impl Answer {
    pub(super) fn text(&self, name: &str) -> Result<&str> {
        self.body[name]
            .as_str()
            .with_context(|| format!("no {name}: {}", self.body))
    }
}

/// A server that is killed, and how often it was before and after it answered.
pub(super) struct Victim {
    pub(super) server: ServerProcess,
    /// Its PostgreSQL, if it has one.
    database: Option<String>,
    pub(super) client: reqwest::Client,
    answered: u32,
    lost: u32,
    /// What it was killed in: method and path.
    struck: BTreeSet<(String, String)>,
}

impl Victim {
    pub(super) async fn start(database: Option<String>) -> Result<Self> {
        Self::with(Options {
            database,
            ..Options::default()
        })
        .await
    }

    pub(super) async fn with(options: Options) -> Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()?;
        Ok(Self {
            database: options.database.clone(),
            server: ServerProcess::with(options).await?,
            client,
            answered: 0,
            lost: 0,
            struck: BTreeSet::new(),
        })
    }

    /// Sends a request.
    pub(super) async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        read(request.send().await?).await
    }

    /// Sends a request, kills the server meanwhile, and serves again. None if no answer came.
    async fn strike(
        &mut self,
        request: reqwest::RequestBuilder,
        delay_us: u64,
    ) -> Result<Option<Answer>> {
        let (client, request) = request.build_split();
        let request = request?;
        let (method, path) = (request.method().to_string(), request.url().path());
        let mut held = match is_held(delay_us) {
            true => Some(self.hold().await?),
            false => None,
        };
        self.struck.insert((method, path.to_owned()));
        let mut asked = tokio::spawn(async move { read(client.execute(request).await?).await });
        let mut answered = None;
        match (delay_us, &mut held) {
            (ANSWERED, _) => answered = Some((&mut asked).await?),
            (_, Some(held)) => held.is_waited_for(&asked).await?,
            (delay_us, None) => tokio::time::sleep(Duration::from_micros(delay_us)).await,
        }
        self.server.signal("KILL")?;
        let _ = self.server.ended().await?;
        if let Some(held) = held {
            held.let_go().await?;
        }
        let answer = match answered {
            Some(answer) => Some(answer?),
            None => asked.await?.ok(),
        };
        self.server.serve().await?;
        match answer {
            Some(_) => self.answered += 1,
            None => self.lost += 1,
        }
        Ok(answer)
    }
}

impl Victim {
    /// Holds what every change needs.
    async fn hold(&self) -> Result<Held> {
        Held::begin(self.database.as_deref(), &self.server.data()).await
    }

    /// Counts a process of another kind that was killed, or that came to its end before.
    fn note(&mut self, killed: bool) {
        if killed {
            self.lost += 1;
        } else {
            self.answered += 1;
        }
    }
}

async fn read(response: reqwest::Response) -> Result<Answer> {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or("").to_owned();
    let headers = response.headers();
    let (status, location) = (response.status().as_u16(), leads_to(headers));
    let cookies = headers.get_all("set-cookie").iter().map(text).collect();
    let page = response.text().await?;
    let answer = Answer {
        status,
        location,
        cookies,
        body: serde_json::from_str(&page).unwrap_or(Value::Null),
        page,
    };
    log_scan::keep_out_of(&answer.body);
    log_scan::keep_out_of_address(&answer.location);
    log_scan::keep_out_of_cookies(&answer.cookies);
    Ok(answer)
}

/// Where a browser goes on by itself: `Location`, or a page with `Refresh`.
fn leads_to(headers: &reqwest::header::HeaderMap) -> String {
    let refresh = |text: &str| text.strip_prefix("0; url=").unwrap_or(text).to_owned();
    let value = headers.get("location").or_else(|| headers.get("refresh"));
    value
        .and_then(|value| value.to_str().ok())
        .map_or_else(String::new, refresh)
}

async fn all(mut victim: Victim, cases: &[cases::One]) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, case, delays) in cases {
        for delay in delays.iter() {
            let before = victim.lost;
            let when = match *delay {
                ANSWERED => "after its answer".to_owned(),
                delay if is_held(delay) => "while it was held".to_owned(),
                delay => format!("after {delay} us"),
            };
            match case(&mut victim, *delay).await {
                Err(error) => wrong.push(format!("{name}, killed {when}: {error:#}")),
                // Each is hit in its middle once: what a strike does not hold fails by itself.
                Ok(()) if is_held(*delay) && victim.lost == before => {
                    wrong.push(format!("{name}: no kill in its middle"));
                }
                Ok(()) => {}
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    let (answered, lost) = (victim.answered, victim.lost);
    // Otherwise the test shows nothing.
    ensure!(
        lost >= 5,
        "{lost} kills hit a request, {answered} came after the answer"
    );
    ensure!(
        answered as usize >= cases.len(),
        "{answered} requests were answered, {lost} were not"
    );
    routes::ensure_struck(cases, &victim.struck)?;
    // Nobody's word is missing in the trail, and nothing of it was torn.
    let (success, said, complaint) = victim.server.try_command(&["doctor"]).await?;
    ensure!(success, "{said}{complaint}");
    Ok(())
}

async fn of_clients(database: Option<String>) -> Result<()> {
    let victim = Victim::start(database).await?;
    cases::prepare(&victim).await?;
    all(victim, cases::ALL).await
}

async fn of_keys(database: Option<String>) -> Result<()> {
    let options = Options {
        database,
        // Whoever is told is on this machine.
        settings: "allow_private_addresses = true",
        ..Options::default()
    };
    all(Victim::with(options).await?, cases::OF_KEYS).await
}

async fn of_accounts(database: Option<String>) -> Result<()> {
    let options = Options {
        database,
        // The provider is on this machine.
        settings: "allow_private_addresses = true",
        ..Options::default()
    };
    let victim = Victim::with(options).await?;
    cases::prepare(&victim).await?;
    let _provider = upstream::trust_a_provider(&victim.server).await?;
    let password = victim.server.write("ada.password", PASSWORD)?;
    let words = ["users", "add", "--email", "ada@example.com"];
    let words = [&words[..], &["--password-file", &password]].concat();
    victim.server.command(&words).await?;
    all(victim, cases::OF_ACCOUNTS).await
}

async fn of_factors(database: Option<String>) -> Result<()> {
    let options = Options {
        database,
        // Passkeys need a name.
        host: "localhost",
        ..Options::default()
    };
    all(Victim::with(options).await?, cases::OF_FACTORS).await
}

async fn of_administration(database: Option<String>) -> Result<()> {
    all(Victim::start(database).await?, cases::OF_ADMINISTRATION).await
}

async fn of_what_is_plain(database: Option<String>) -> Result<()> {
    let keys = reports::publish().await?;
    // Whom it tells and asks is on this machine.
    let settings = format!("allow_private_addresses = true\nleaks.github_keys_url = \"{keys}\"");
    let options = Options {
        database,
        settings: Box::leak(settings.into_boxed_str()),
        ..Options::default()
    };
    let victim = Victim::with(options).await?;
    cases::prepare(&victim).await?;
    all(victim, cases::PLAIN).await
}

async fn of_schedules(database: Option<String>) -> Result<()> {
    let options = Options {
        database,
        // Whoever is told is on this machine.
        settings: "allow_private_addresses = true",
        ..Options::default()
    };
    schedules::run(Victim::with(options).await?).await
}

async fn on_postgresql(test: impl AsyncFn(Option<String>) -> Result<()>) -> Result<()> {
    let database = Database::create().await?;
    test(Some(database.url().to_owned())).await?;
    database.close().await
}

#[tokio::test]
async fn ac_053_ac_084_ac_117_ac_138_ac_140_s56_killed_in_the_middle_on_sqlite() -> Result<()> {
    of_clients(None).await
}

#[tokio::test]
async fn ac_053_ac_084_ac_117_ac_138_ac_140_s56_killed_in_the_middle_on_postgresql() -> Result<()> {
    on_postgresql(of_clients).await
}

#[tokio::test]
async fn ac_117_changes_of_keys_killed_in_the_middle_on_sqlite() -> Result<()> {
    of_keys(None).await
}

#[tokio::test]
async fn ac_117_changes_of_keys_killed_in_the_middle_on_postgresql() -> Result<()> {
    on_postgresql(of_keys).await
}

#[tokio::test]
async fn ac_117_accounts_and_providers_killed_in_the_middle_on_sqlite() -> Result<()> {
    of_accounts(None).await
}

#[tokio::test]
async fn ac_117_accounts_and_providers_killed_in_the_middle_on_postgresql() -> Result<()> {
    on_postgresql(of_accounts).await
}

#[tokio::test]
async fn ac_153_ways_to_sign_in_killed_in_the_middle_on_sqlite() -> Result<()> {
    of_factors(None).await
}

#[tokio::test]
async fn ac_153_ways_to_sign_in_killed_in_the_middle_on_postgresql() -> Result<()> {
    on_postgresql(of_factors).await
}

#[tokio::test]
async fn ac_153_administration_killed_in_the_middle_on_sqlite() -> Result<()> {
    of_administration(None).await
}

#[tokio::test]
async fn ac_153_administration_killed_in_the_middle_on_postgresql() -> Result<()> {
    on_postgresql(of_administration).await
}

#[tokio::test]
async fn ac_153_all_other_routes_killed_in_the_middle_on_sqlite() -> Result<()> {
    of_what_is_plain(None).await
}

#[tokio::test]
async fn ac_153_all_other_routes_killed_in_the_middle_on_postgresql() -> Result<()> {
    on_postgresql(of_what_is_plain).await
}

#[tokio::test]
async fn ac_153_a_run_of_schedules_killed_in_the_middle_on_sqlite() -> Result<()> {
    of_schedules(None).await
}

#[tokio::test]
async fn ac_153_a_run_of_schedules_killed_in_the_middle_on_postgresql() -> Result<()> {
    on_postgresql(of_schedules).await
}
