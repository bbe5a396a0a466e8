//! Cold lookups at three nodes race with what ends a key at another one: from a receipt on that says
//! complete, no node lets through what was taken away. Which keys meet which changes where, and what is
//! looked up when, is drawn from a seed. It is printed, and `KEYWRIGHT_FILLS_SEED` gives another; what
//! meets what in time is the machine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;

use super::parts::{Caller, Three};
use crate::server::harness::Options;

const SEED: &str = "KEYWRIGHT_FILLS_SEED";
/// The one that is restarted meanwhile: everything is cold to it then.
const RESTARTED: usize = 2;
/// Keys that live at the same time.
const AT_ONCE: usize = 6;
/// Races go on for so long, and on a busy machine until enough of them took place.
const USUALLY: Duration = Duration::from_secs(8);
const AT_MOST: Duration = Duration::from_secs(60);
/// Less shows nothing.
const RECEIPTS: u64 = 20;
const RACES: u64 = 20;

/// A lookup of a text at a node: what it said, none where it said nothing.
struct Lookup {
    began: Instant,
    answered: Instant,
    code: Option<String>,
}

/// The first lookup of a text at a node is cold. When it begins:
#[derive(Clone, Copy, Debug)]
enum Start {
    After(Duration),
    /// So long after the next change of the key was sent: both are under way together.
    WithChange(Duration),
}

/// A change that took this text's right away.
struct Taken {
    sent: Instant,
    /// When the receipt said that no node lets it through.
    complete: Instant,
    /// When somebody was asked to give it back.
    given_back: Option<Instant>,
}

struct Text {
    secret: String,
    taken: Vec<Taken>,
    /// Since when it may be refused, because a change was sent that nobody said was done.
    uncertain: Option<Instant>,
}

/// What took place.
#[derive(Debug, Default)]
struct Tally {
    receipts: AtomicU64,
    /// Cold lookups that were under way while a change was.
    races: AtomicU64,
    let_through: AtomicU64,
    refused: AtomicU64,
    /// Lookups that no node answered with a verdict.
    unanswered: AtomicU64,
    /// Keys whose change a busy machine refused.
    given_up: AtomicU64,
    lives: AtomicU64,
    restarts: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    fn is_enough(&self) -> bool {
        self.receipts.load(Ordering::Relaxed) >= RECEIPTS
            && self.races.load(Ordering::Relaxed) >= RACES
            && self.restarts.load(Ordering::Relaxed) > 0
    }
}

async fn look(
    caller: Caller,
    secret: String,
    start: Start,
    mut changes: watch::Receiver<u32>,
    stop: Arc<AtomicBool>,
    mut dice: StdRng,
) -> Vec<Lookup> {
    match start {
        Start::After(delay) => tokio::time::sleep(delay).await,
        Start::WithChange(delay) => {
            // A key that is never changed again is looked up at its end.
            let _ = changes.changed().await;
            tokio::time::sleep(delay).await;
        }
    }
    let mut lookups = Vec::new();
    loop {
        let began = Instant::now();
        let code = caller.code(&secret).await.ok();
        lookups.push(Lookup {
            began,
            answered: Instant::now(),
            code,
        });
        if stop.load(Ordering::Relaxed) {
            return lookups;
        }
        tokio::time::sleep(Duration::from_micros(dice.random_range(0..15_000))).await;
    }
}

/// A key from its issue to its end.
struct Life {
    id: String,
    callers: [Caller; 3],
    /// Whoever restarts a node holds it alone.
    restarting: Arc<RwLock<()>>,
    tally: Arc<Tally>,
    dice: StdRng,
    changes: watch::Sender<u32>,
    stop: Arc<AtomicBool>,
    texts: Vec<Text>,
    /// With the text and the node that they are of.
    lookers: JoinSet<(usize, usize, Vec<Lookup>)>,
}

impl Life {
    async fn begin(
        callers: [Caller; 3],
        restarting: Arc<RwLock<()>>,
        tally: Arc<Tally>,
        dice: StdRng,
    ) -> Result<Self> {
        let mut life = Self {
            id: String::new(),
            callers,
            restarting,
            tally,
            dice,
            changes: watch::Sender::new(0),
            stop: Arc::default(),
            texts: Vec::new(),
            lookers: JoinSet::new(),
        };
        let wish = Three::wish(json!({}));
        let (mut status, mut answer) = life.send("/api/v1/keys", &wish).await?;
        // A busy machine refuses; one more key of nobody's does no harm.
        for _ in 0..20 {
            if status == 503 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                (status, answer) = life.send("/api/v1/keys", &wish).await?;
            }
        }
        ensure!(status == 201, "{status} {answer}");
        answer["key"]["id"]
            .as_str()
            .context("no id")?
            .clone_into(&mut life.id);
        life.watch(&answer["secret"])?;
        Ok(life)
    }

    fn pause(&mut self, most_ms: u64) -> Duration {
        Duration::from_micros(self.dice.random_range(0..most_ms * 1000))
    }

    /// Has a new text looked up at all nodes from here on, in any order.
    fn watch(&mut self, secret: &Value) -> Result<()> {
        let secret = secret.as_str().context("no secret")?.to_owned();
        for node in 0..self.callers.len() {
            let start = match self.dice.random_range(0..5) {
                0 => Start::After(Duration::ZERO),
                1 => Start::After(self.pause(150)),
                _ => Start::WithChange(self.pause(12)),
            };
            let looking = look(
                self.callers[node].clone(),
                secret.clone(),
                start,
                self.changes.subscribe(),
                Arc::clone(&self.stop),
                StdRng::seed_from_u64(self.dice.random()),
            );
            let text = self.texts.len();
            self.lookers
                .spawn(async move { (text, node, looking.await) });
        }
        self.texts.push(Text {
            secret,
            taken: Vec::new(),
            uncertain: None,
        });
        Ok(())
    }

    /// Asks any node for a change.
    async fn send(&mut self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let (_, status, answer) = self.send_somewhere(path, body).await?;
        Ok((status, answer))
    }

    async fn send_somewhere(&mut self, path: &str, body: &Value) -> Result<(usize, u16, Value)> {
        let mut node = self.dice.random_range(0..self.callers.len());
        // One that is about to be restarted takes no more changes.
        let restarting = Arc::clone(&self.restarting);
        let held = restarting.try_read();
        if node == RESTARTED && held.is_err() {
            node = 0;
        }
        let (status, answer) = self.callers[node].post(path, body).await?;
        Ok((node, status, answer))
    }

    /// Takes something away, and waits for the receipt that says complete. None where a busy machine refused.
    async fn take(&mut self, how: &str, body: &Value) -> Result<Option<(Taken, Value)>> {
        let wait = ["", "?wait_ms=0", "?wait_ms=4"][self.dice.random_range(0..3)];
        let path = format!("/api/v1/keys/{}/{how}{wait}", self.id);
        self.changes.send_modify(|changes| *changes += 1);
        let sent = Instant::now();
        let (node, status, answer) = self.send_somewhere(&path, body).await?;
        if status == 503 {
            self.current()?.uncertain = Some(sent);
            return Ok(None);
        }
        let mut complete = Instant::now();
        ensure!(matches!(status, 200 | 201), "{how}: {status} {answer}");
        let mut receipt = answer["receipt"].clone();
        let version = receipt["version"].as_i64();
        let version = version.with_context(|| format!("{how} without a receipt: {answer}"))?;
        while receipt["complete"] != true {
            ensure!(sent.elapsed() < Duration::from_secs(30), "{receipt}");
            tokio::time::sleep(Duration::from_millis(3)).await;
            // The node may be restarted meanwhile: any other knows it too.
            let node = if node == RESTARTED { 0 } else { node };
            let path = format!("/api/v1/receipts/{version}");
            let (status, later) = self.callers[node].get(&path).await?;
            if status == 200 {
                (receipt, complete) = (later, Instant::now());
            }
        }
        count(&self.tally.receipts);
        let taken = Taken {
            sent,
            complete,
            given_back: None,
        };
        Ok(Some((taken, answer)))
    }

    fn current(&mut self) -> Result<&mut Text> {
        self.texts.last_mut().context("no text")
    }

    /// What happens to it. True if its newest text works at the end; none where a busy machine refused.
    async fn live(&mut self) -> Result<Option<bool>> {
        for _ in 0..self.dice.random_range(1..=4) {
            let pause = self.pause(120);
            tokio::time::sleep(pause).await;
            match self.dice.random_range(0..10) {
                0..4 => {
                    let Some((taken, _)) = self.take("revoke", &json!({})).await? else {
                        return Ok(None);
                    };
                    self.current()?.taken.push(taken);
                    return Ok(Some(false));
                }
                4..7 => {
                    let Some((taken, _)) = self.take("disable", &json!({})).await? else {
                        return Ok(None);
                    };
                    self.current()?.taken.push(taken);
                    let pause = self.pause(60);
                    tokio::time::sleep(pause).await;
                    let taken = self.current()?.taken.last_mut();
                    taken.context("it was taken")?.given_back = Some(Instant::now());
                    let path = format!("/api/v1/keys/{}/enable", self.id);
                    let (status, answer) = self.send(&path, &json!({})).await?;
                    if status == 503 {
                        return Ok(None);
                    }
                    ensure!(status == 200, "{status} {answer}");
                }
                _ => {
                    let body = json!({ "overlap_ms": 0 });
                    let Some((taken, answer)) = self.take("rotations", &body).await? else {
                        return Ok(None);
                    };
                    self.current()?.taken.push(taken);
                    self.watch(&answer["secret"])?;
                }
            }
        }
        Ok(Some(true))
    }

    /// Lives, and judges every answer that any node gave.
    async fn lived(mut self) -> Result<()> {
        let works = self.live().await?;
        let pause = self.pause(80);
        tokio::time::sleep(pause).await;
        self.stop.store(true, Ordering::Relaxed);
        // Whoever still waits for a change begins now.
        self.changes.send_modify(|changes| *changes += 1);
        while let Some(looked) = self.lookers.join_next().await {
            let (text, node, lookups) = looked?;
            self.judge(text, node, &lookups)?;
        }
        match works {
            None => count(&self.tally.given_up),
            Some(false) => {}
            // Refused early, but not for good.
            Some(true) => {
                for (node, caller) in self.callers.iter().enumerate() {
                    let secret = &self.current_secret()?;
                    crate::support::until(&format!("it works at node {node}"), async || {
                        let code = caller.code(secret).await.ok()?;
                        (code == "valid").then_some(())
                    })
                    .await?;
                }
            }
        }
        count(&self.tally.lives);
        Ok(())
    }

    fn current_secret(&self) -> Result<String> {
        Ok(self.texts.last().context("no text")?.secret.clone())
    }

    fn judge(&self, text: usize, node: usize, lookups: &[Lookup]) -> Result<()> {
        let Text {
            taken, uncertain, ..
        } = &self.texts[text];
        let of = |began: Instant, answered: Instant| {
            move |one: &Taken| began <= one.complete && answered >= one.sent
        };
        let cold = lookups.first().context("it was not looked up")?;
        if cold.code.is_some() && taken.iter().any(of(cold.began, cold.answered)) {
            count(&self.tally.races);
        }
        for (at, lookup) in lookups.iter().enumerate() {
            let code = lookup.code.as_deref().unwrap_or("503");
            let (began, answered) = (lookup.began, lookup.answered);
            let at = format!("key {}, text {text}, node {node}, lookup {at}", self.id);
            match code {
                "valid" => count(&self.tally.let_through),
                "503" | "429" | "408" => {
                    count(&self.tally.unanswered);
                    continue;
                }
                "revoked" | "disabled" | "retired" | "not_found" => count(&self.tally.refused),
                other => bail!("{other}: {at}"),
            }
            if code == "valid" {
                for one in taken {
                    let is_back = one.given_back.is_some_and(|back| answered >= back);
                    ensure!(
                        began < one.complete || is_back,
                        "let through {:?} after the receipt: {at}",
                        began - one.complete
                    );
                }
            } else if taken.iter().all(|one| answered < one.sent)
                && uncertain.is_none_or(|since| answered < since)
            {
                bail!("{code} before anything was taken away: {at}");
            }
        }
        Ok(())
    }
}

fn seed() -> Result<u64> {
    match std::env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED} is no number")),
        Err(_) => Ok(rand::rng().random_range(0..1_000_000_000)),
    }
}

async fn race(three: &mut Three, seed: u64, tally: &Arc<Tally>) -> Result<()> {
    let begun = Instant::now();
    let restarting = Arc::new(RwLock::new(()));
    let over = Arc::new(AtomicBool::new(false));
    let numbers = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let callers = [three.caller(0), three.caller(1), three.caller(2)];
        let (over, numbers) = (Arc::clone(&over), Arc::clone(&numbers));
        let (tally, restarting) = (Arc::clone(tally), Arc::clone(&restarting));
        workers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let dice = StdRng::seed_from_u64(seed.wrapping_add(number));
                let life = Life::begin(
                    callers.clone(),
                    Arc::clone(&restarting),
                    Arc::clone(&tally),
                    dice,
                );
                let life = life.await?;
                life.lived()
                    .await
                    .with_context(|| format!("life {number}"))?;
            }
            anyhow::Ok(())
        });
    }
    let mut dice = StdRng::seed_from_u64(!seed);
    loop {
        let pause = Duration::from_millis(dice.random_range(1200..2500));
        tokio::select! {
            ended = workers.join_next() => ended.context("nobody works")???,
            () = tokio::time::sleep(pause) => {}
        }
        if begun.elapsed() > AT_MOST || (begun.elapsed() > USUALLY && tally.is_enough()) {
            break;
        }
        let alone = restarting.write().await;
        three.signal(RESTARTED, "TERM")?;
        three.ended(RESTARTED).await?;
        three.again(RESTARTED).await?;
        drop(alone);
        count(&tally.restarts);
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_cold_lookups_that_race_with_an_end_elsewhere_are_never_let_through_after_it()
-> Result<()> {
    let seed = seed()?;
    println!("{SEED}={seed}");
    let mut three = Three::start(Options::default()).await?;
    let tally = Arc::default();
    let raced = race(&mut three, seed, &tally).await;
    raced.with_context(|| format!("{SEED}={seed}"))?;
    println!("{tally:?}");
    ensure!(tally.is_enough(), "this shows little: {tally:?}");
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    ensure!(
        number(&tally.let_through) > 100 && number(&tally.refused) > 100,
        "this shows nothing: {tally:?}"
    );
    ensure!(
        number(&tally.given_up) * 2 <= number(&tally.lives),
        "the machine was too busy: {tally:?}"
    );
    three.close().await
}
