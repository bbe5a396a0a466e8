//! The server killed in the middle of each use case (`kill -9`), on both databases. Afterwards: what was
//! answered holds, what was not answered either happened whole or not at all, and whatever may happen
//! once happened at most once.

pub(super) mod access;
mod cases;
mod keys;
mod person;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::harness::{Options, ServerProcess};
use crate::support::postgres::Database;

/// The kill comes when the answer has come, and not before.
const ANSWERED: u64 = u64::MAX;
/// When the kill comes after the request, in microseconds: before it is read, while it is handled, about
/// when it commits, and when it was answered.
const DELAYS: [u64; 4] = [400, 2_500, 9_000, ANSWERED];
/// For those that hash a password first.
const SLOW_DELAYS: [u64; 4] = [2_000, 60_000, 150_000, ANSWERED];

/// What a request that was struck came to.
pub(super) struct Answer {
    pub(super) status: u16,
    location: String,
    cookies: Vec<String>,
    pub(super) body: Value,
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
    client: reqwest::Client,
    answered: u32,
    lost: u32,
}

impl Victim {
    pub(super) async fn start(database: Option<String>) -> Result<Self> {
        let options = Options {
            database,
            ..Options::default()
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()?;
        Ok(Self {
            server: ServerProcess::with(options).await?,
            client,
            answered: 0,
            lost: 0,
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
        let mut asked = tokio::spawn(async move { read(request.send().await?).await });
        let answered = if delay_us == ANSWERED {
            Some((&mut asked).await?)
        } else {
            tokio::time::sleep(Duration::from_micros(delay_us)).await;
            None
        };
        self.server.signal("KILL")?;
        let _ = self.server.ended().await?;
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

async fn read(response: reqwest::Response) -> Result<Answer> {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or("").to_owned();
    let headers = response.headers();
    Ok(Answer {
        status: response.status().as_u16(),
        location: headers.get("location").map_or_else(String::new, text),
        cookies: headers.get_all("set-cookie").iter().map(text).collect(),
        body: serde_json::from_str(&response.text().await?).unwrap_or(Value::Null),
    })
}

async fn all(database: Option<String>) -> Result<()> {
    let mut victim = Victim::start(database).await?;
    cases::prepare(&victim).await?;
    for (name, case, delays) in cases::ALL {
        for delay in delays.iter() {
            let struck = case(&mut victim, *delay).await;
            struck.with_context(|| format!("{name}, killed after {delay} us"))?;
        }
    }
    let (answered, lost) = (victim.answered, victim.lost);
    // Otherwise the test shows nothing.
    ensure!(
        lost >= 5,
        "{lost} kills hit a request, {answered} came after the answer"
    );
    ensure!(
        answered >= 14,
        "{answered} requests were answered, {lost} were not"
    );
    // Nobody's word is missing in the trail, and nothing of it was torn.
    let (success, said, complaint) = victim.server.try_command(&["doctor"]).await?;
    ensure!(success, "{said}{complaint}");
    Ok(())
}

#[tokio::test]
async fn ac_053_ac_084_ac_117_ac_138_ac_140_s56_killed_in_the_middle_on_sqlite() -> Result<()> {
    all(None).await
}

#[tokio::test]
async fn ac_053_ac_084_ac_117_ac_138_ac_140_s56_killed_in_the_middle_on_postgresql() -> Result<()> {
    let database = Database::create().await?;
    all(Some(database.url().to_owned())).await?;
    database.close().await
}
