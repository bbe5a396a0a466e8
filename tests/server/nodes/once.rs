//! Three processes, each with timers of its own, over one PostgreSQL: a schedule that falls due rotates once, and who
//! is to be told of it, or of a key that ends, is told once, by mail and by webhook. First with all three at it in the
//! same moment; then with one of them killed in the middle, where what was on its way may come again, under the
//! same name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::parts::Three;
use super::{SECOND, text};
use crate::server::harness::Options;
use crate::server::mail::{self, Came};
use crate::support::postgres::Database;

/// So many of a kind at once: the first is done long before the last.
const MANY: usize = 24;
const DAY_MS: i64 = 86_400_000;
/// Each node looks at schedules so often, counted from its own start.
const TURN_MS: i64 = 30_000;
/// Before its turn, to have all of a round wait for it; two thirds of that after a turn, it is over.
const ENOUGH_MS: i64 = 9_000;
/// Who is told says so long after it heard that it did: a sender that is killed has something on its way.
const SLOW: Duration = Duration::from_millis(150);
/// So much is on its way at once, of one node.
const ON_THE_WAY: usize = 16;
/// The job that looks for what becomes due by itself.
const LOOK: &str = "look_for_notices";

/// How often something came, by its name.
type Times = BTreeMap<String, u32>;
/// The same of webhooks, by type of event and key.
type Heard = Arc<Mutex<BTreeMap<String, Times>>>;

fn now_ms() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_millis())?)
}

async fn sleep_until(at_ms: i64) -> Result<()> {
    let left = u64::try_from(at_ms - now_ms()?).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(left)).await;
    Ok(())
}

/// Takes one event: its type and its key, and its name.
async fn take(stream: &mut TcpStream) -> Result<(String, String)> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part).await?;
        ensure!(read > 0, "it left");
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let Ok(body) = serde_json::from_str::<Value>(body) else {
            continue;
        };
        let id = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_id = name.eq_ignore_ascii_case("webhook-id");
            is_id.then(|| value.trim().to_owned())
        });
        let about = body["data"]["about"]["id"].as_str().context("of no key")?;
        let kind = body["type"].as_str().context("no type")?;
        return Ok((format!("{kind} {about}"), id.context("no id")?));
    }
}

/// A receiver of webhooks.
async fn listen() -> Result<(Heard, String)> {
    let heard = Heard::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/hook", listener.local_addr()?);
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let (what, id) = take(&mut stream).await?;
                {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    *kept.entry(what).or_default().entry(id).or_default() += 1;
                }
                tokio::time::sleep(SLOW).await;
                let answer = "HTTP/1.1 204 yes\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                anyhow::Ok(stream.write_all(answer.as_bytes()).await?)
            });
        }
    });
    Ok((heard, address))
}

/// Keys of one round, whose owners have an address each.
struct Round {
    name: &'static str,
    kind: &'static str,
    keys: Vec<String>,
}

/// What became of a round: each thing once, or some of them again under the same name.
#[derive(Debug)]
struct Told {
    /// Keys of which a webhook was told, and people to whom a mail came.
    hooks: usize,
    mails: usize,
    /// How many of them came more than once.
    again: usize,
}

struct World {
    three: Three,
    heard: Heard,
    mails: Arc<Mutex<Vec<Came>>>,
    sql: PgConnection,
}

impl World {
    async fn start(database: &Database, folder: &Path) -> Result<Self> {
        let (heard, url) = listen().await?;
        let (mails, port) = mail::listen(SLOW).await?;
        let mail = mail::settings(port, folder)?;
        let settings = format!("allow_private_addresses = true\n{mail}");
        let options = Options {
            settings: Box::leak(settings.into_boxed_str()),
            ..Options::default()
        };
        let three = Three::on(database.url(), options).await?;
        let events = ["rotation.pending", "key.expiring"];
        let hook = json!({ "url": url, "events": events, "description": "a test" });
        let (status, made) = three.caller(0).post("/api/v1/webhooks", &hook).await?;
        ensure!(status == 201, "{status} {made}");
        let sql = PgConnection::connect(database.url()).await?;
        Ok(Self {
            three,
            heard,
            mails,
            sql,
        })
    }

    async fn run(&mut self, statement: &str) -> Result<()> {
        let statement = AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&mut self.sql).await?;
        Ok(())
    }

    async fn number(&mut self, question: &str) -> Result<i64> {
        let question = AssertSqlSafe(question.to_owned());
        let number: Option<i64> = sqlx::query_scalar(question)
            .fetch_one(&mut self.sql)
            .await?;
        number.context("nothing")
    }

    /// The node that has the job now.
    async fn who_looks(&mut self) -> Result<String> {
        let question = "SELECT n.name FROM jobs j JOIN nodes n ON n.id = j.node WHERE j.name = $1";
        let found: Option<String> = sqlx::query_scalar(question)
            .bind(LOOK)
            .fetch_optional(&mut self.sql)
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Keys of people with an address each.
    async fn keys(&self, name: &'static str, kind: &'static str, more: &Value) -> Result<Round> {
        let caller = self.three.caller(1);
        let mut keys = Vec::new();
        for number in 0..MANY {
            let called = format!("{name} {number}");
            let body = json!({ "name": called, "email": format!("{name}-{number}@example.org") });
            let (status, user) = caller.post("/api/v1/users", &body).await?;
            ensure!(status == 201, "{status} {user}");
            let owner = json!({ "kind": "person", "id": text(&user["id"])? });
            let mut wish = Three::wish(json!({ "name": called, "owner": owner }));
            if let (Some(wish), Some(more)) = (wish.as_object_mut(), more.as_object()) {
                wish.extend(more.clone());
            }
            let (status, made) = caller.post("/api/v1/keys", &wish).await?;
            ensure!(status == 201, "{status} {made}");
            keys.push(text(&made["key"]["id"])?.to_owned());
        }
        Ok(Round { name, kind, keys })
    }

    /// Keys that end within a week, which their owners are to be told.
    async fn expiring(&self, name: &'static str) -> Result<Round> {
        let more = json!({ "lifetime_ms": 6 * DAY_MS });
        self.keys(name, "key.expiring", &more).await
    }

    /// Keys whose schedules are due.
    async fn scheduled(&self, name: &'static str) -> Result<Round> {
        let round = self.keys(name, "rotation.pending", &json!({})).await?;
        let schedule = json!({ "every_ms": 60 * DAY_MS, "mode": "issue_pending" });
        for (turn, id) in round.keys.iter().enumerate() {
            let caller = self.three.caller(turn % 3);
            let path = format!("/api/v1/keys/{id}/schedule");
            let (status, set) = caller.put(&path, &schedule).await?;
            ensure!(status < 300, "{status} {set}");
            let path = format!("{path}/run-now");
            let (status, due) = caller.post(&path, &json!({})).await?;
            ensure!(status < 300, "{status} {due}");
        }
        Ok(round)
    }

    /// How often the keys of a round were rotated, all together and the most of one.
    async fn rotated(&mut self, round: &Round) -> Result<(i64, i64)> {
        let of_each = format!(
            "SELECT COUNT(*) AS n FROM rotations r JOIN api_keys k ON k.id = r.key_id \
             WHERE k.name LIKE '{} %' GROUP BY k.id",
            round.name
        );
        let sum = format!("SELECT COALESCE(SUM(n), 0)::BIGINT FROM ({of_each}) o");
        let most = format!("SELECT COALESCE(MAX(n), 0)::BIGINT FROM ({of_each}) o");
        Ok((self.number(&sum).await?, self.number(&most).await?))
    }

    /// What was told of a round so far. Fails where one thing was told under two names, or to somebody twice by mails
    /// that are not the same.
    fn told(&self, round: &Round) -> Result<Told> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut hooks, mut again) = (0, 0);
        for id in &round.keys {
            if let Some(names) = heard.get(&format!("{} {id}", round.kind)) {
                ensure!(names.len() == 1, "{id} has several names: {names:?}");
                hooks += 1;
                again += usize::from(names.values().any(|times| *times > 1));
            }
        }
        // Mails are named by their event. A schedule that waits for its turn may have been told of by another mail.
        let event = match round.kind {
            "rotation.pending" => "pnd_",
            _ => "ntc_",
        };
        let mut mails = BTreeMap::<String, Times>::new();
        let all = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        for mail in all.iter() {
            if !mail.to.contains(&format!("<{}-", round.name)) {
                continue;
            }
            let name = mail.text.lines().find_map(|line| {
                let (field, id) = line.split_once(": ")?;
                field.eq_ignore_ascii_case("message-id").then_some(id)
            });
            let name = name.context("a mail without a name")?.trim_matches('<');
            if name.starts_with(event) {
                let names = mails.entry(mail.to.clone()).or_default();
                *names.entry(name.to_owned()).or_default() += 1;
            }
        }
        for (to, names) in &mails {
            ensure!(names.len() == 1, "{to} got several mails: {names:?}");
            again += usize::from(names.values().any(|times| *times > 1));
        }
        Ok(Told {
            hooks,
            mails: mails.len(),
            again,
        })
    }

    /// Waits until all of a round was told, and then for what another node may send of it once more.
    async fn all_told(&self, round: &Round, within: Duration) -> Result<Told> {
        let began = Instant::now();
        loop {
            let told = self.told(round)?;
            if (told.hooks, told.mails) == (MANY, MANY) {
                tokio::time::sleep(SECOND * 2).await;
                return self.told(round);
            }
            if began.elapsed() > within {
                bail!("of {MANY}: {told:?}; {}", self.three.logged(2));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn freeze(&self, nodes: &[usize]) -> Result<()> {
        nodes
            .iter()
            .try_for_each(|node| self.three.signal(*node, "STOP"))
    }

    fn go_on(&self, nodes: &[usize]) -> Result<()> {
        nodes
            .iter()
            .try_for_each(|node| self.three.signal(*node, "CONT"))
    }

    /// The job is due now.
    async fn look_now(&mut self) -> Result<()> {
        self.run(&format!(
            "UPDATE jobs SET next_at = 0 WHERE name = '{LOOK}'"
        ))
        .await
    }

    /// It is not due for most of a minute.
    async fn look_later(&mut self) -> Result<()> {
        let at = now_ms()? + 55_000;
        self.run(&format!(
            "UPDATE jobs SET next_at = {at} WHERE name = '{LOOK}'"
        ))
        .await
    }

    /// How much came so far.
    fn came(&self) -> Result<usize> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let events: u32 = heard.values().flat_map(BTreeMap::values).sum();
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(mails.len() + usize::try_from(events)?)
    }

    /// Waits until nothing comes any more, and has what a dead node had taken be free again, as it is minutes later.
    async fn when_the_dead_are_given_up(&mut self) -> Result<()> {
        let mut before = None;
        loop {
            let now = self.came()?;
            if before == Some(now) {
                break;
            }
            before = Some(now);
            tokio::time::sleep(SECOND * 2).await;
        }
        let now = now_ms()?;
        self.run(&format!(
            "UPDATE outbox SET claimed_until = 0, due_at = LEAST(due_at, {now}) WHERE state = 'waiting'"
        ))
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_143_ac_204_what_three_nodes_have_to_do_and_to_tell_is_done_and_told_once() -> Result<()>
{
    let database = Database::create().await?;
    let folder = tempfile::tempdir()?;
    let mut world = World::start(&database, folder.path()).await?;
    let first = world
        .number("SELECT MIN(started_at) FROM nodes WHERE name = 'one'")
        .await?;
    let last = world.number("SELECT MAX(started_at) FROM nodes").await?;

    // All three are at it in the same moment: their timers run out while they are frozen.
    world.look_later().await?;
    let notices = world.expiring("a").await?;
    world.freeze(&[0, 1, 2])?;
    tokio::time::sleep(SECOND + SECOND / 5).await;
    world.look_now().await?;
    world.go_on(&[0, 1, 2])?;
    let told = world.all_told(&notices, SECOND * 20).await?;
    ensure!(told.again == 0, "{told:?}");
    world.look_later().await?;
    let turn = (now_ms()? - first + ENOUGH_MS) / TURN_MS + 1;
    sleep_until(first + turn * TURN_MS - TURN_MS + 2 * ENOUGH_MS / 3).await?;
    let rotations = world.scheduled("b").await?;
    sleep_until(first + turn * TURN_MS - 200).await?;
    let before = world.rotated(&rotations).await?;
    world.freeze(&[0, 1, 2])?;
    // Each looks when its own half minute is over, which takes a little longer each time.
    sleep_until(last + turn * TURN_MS + 500 + turn * 200).await?;
    let mut went_on = now_ms()?;
    world.go_on(&[0, 1, 2])?;
    let told = world.all_told(&rotations, SECOND * 40).await?;
    ensure!(told.again == 0, "{told:?}");
    ensure!(before == (0, 0), "they were not all at it: {before:?}");
    let done = world.rotated(&rotations).await?;
    ensure!(done == (i64::try_from(MANY)?, 1), "{done:?}");

    // One does it alone, and is killed when the first key was rotated.
    world.look_later().await?;
    if now_ms()? > went_on + TURN_MS - ENOUGH_MS {
        went_on += TURN_MS + 300;
        sleep_until(went_on + 2 * ENOUGH_MS / 3).await?;
    }
    let rotations = world.scheduled("c").await?;
    sleep_until(went_on + TURN_MS - 500).await?;
    ensure!(
        world.rotated(&rotations).await? == (0, 0),
        "it was done too early"
    );
    world.freeze(&[1, 2])?;
    let began = Instant::now();
    while world.rotated(&rotations).await?.0 == 0 {
        ensure!(
            began.elapsed() < SECOND * 10,
            "no run: {}",
            world.three.logged(0)
        );
    }
    world.three.signal(0, "KILL")?;
    let _ = world.three.ended(0).await;
    let (before, _) = world.rotated(&rotations).await?;
    world.go_on(&[1, 2])?;
    ensure!(
        before < i64::try_from(MANY)?,
        "all {before} were rotated before it was killed: the test shows nothing"
    );
    let began = Instant::now();
    loop {
        let (sum, most) = world.rotated(&rotations).await?;
        ensure!(most == 1, "one was rotated {most} times");
        if sum == i64::try_from(MANY)? {
            break;
        }
        ensure!(
            began.elapsed() < SECOND * 40,
            "{sum} of {MANY}: {}",
            world.three.logged(1)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.when_the_dead_are_given_up().await?;
    let told = world.all_told(&rotations, SECOND * 20).await?;
    ensure!(told.again <= 2 * ON_THE_WAY, "{told:?}");
    println!("killed after {before} rotations of {MANY}: {told:?}");

    // One looks alone and sends, and is killed when the first mail came.
    world.three.again(0).await?;
    world.look_later().await?;
    let notices = world.expiring("d").await?;
    world.freeze(&[0, 2])?;
    world.look_now().await?;
    let began = Instant::now();
    while world.told(&notices)?.mails == 0 {
        ensure!(
            began.elapsed() < SECOND * 10,
            "nothing: {}",
            world.three.logged(1)
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ensure!(world.who_looks().await? == "two");
    world.three.signal(1, "KILL")?;
    let _ = world.three.ended(1).await;
    let before = world.told(&notices)?;
    world.go_on(&[0, 2])?;
    ensure!(before.mails < MANY, "the test shows nothing: {before:?}");
    // Another looks, and finds that all of it was made.
    world.look_now().await?;
    let began = Instant::now();
    while !["one", "three"].contains(&world.who_looks().await?.as_str()) {
        ensure!(began.elapsed() < SECOND * 10, "nobody else has the job");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.when_the_dead_are_given_up().await?;
    let told = world.all_told(&notices, SECOND * 20).await?;
    println!("killed when {before:?} of {MANY} had come: {told:?}");
    ensure!(told.again > 0, "nothing was on its way when it was killed");
    ensure!(told.again <= 2 * ON_THE_WAY, "{told:?}");
    tokio::time::sleep(SECOND * 2).await;
    ensure!(
        world.told(&notices)?.again == told.again,
        "it goes on coming"
    );
    let waits = "SELECT COUNT(*) FROM outbox WHERE state <> 'delivered'";
    ensure!(world.number(waits).await? == 0, "something is left");
    world.sql.close().await?;
    world.three.close().await?;
    database.close().await
}
