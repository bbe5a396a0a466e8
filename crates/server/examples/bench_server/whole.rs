//! What is measured of the server as a whole: under too much, beside much writing, when it is killed, and
//! at another size.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use keywright_domain::api_keys::{NewApiKey, Owner, OwnerKind, Pepper};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::ScopeSet;
use keywright_registry::{
    Clock, LocalRegistry, PepperKey, Peppers, PrincipalChange, VerifyRequest,
};
use serde_json::{Value, json};

use crate::Serving;
use crate::cases::{Bench, CONNECTIONS, JSON, SLICE, median, one, percentile, round, round2, tell};
use crate::serving::{KEYS, issue};
use crate::wire::{Connection, Lines, request};

const SUBMITTERS: usize = 64;
/// Each revoked once: who is revoked already has nothing left to revoke.
const OWNERS: usize = 5;
/// Single keys that are revoked before each of them.
const SINGLE: usize = 8;
/// Of each.
const OWNED: usize = 100_000;

impl Bench<'_> {
    pub(crate) async fn whole(&self) -> Result<()> {
        if self.wants("verify_p99_during_issue") {
            self.during_issue().await?;
        }
        if self.wants("goodput_overload") {
            self.overload().await?;
        }
        if self.wants("use_lost_s") {
            use_lost().await?;
        }
        if self.wants("revoke_owner_100k") {
            let is_small = self.facts.size < KEYS;
            revoke_owner(if is_small { OWNED / 100 } else { OWNED }).await?;
        }
        Ok(())
    }

    /// Latency at 2,000/s while 64 connections issue keys as fast as they can, on the same core.
    async fn during_issue(&self) -> Result<()> {
        const RATE: f64 = 2_000.0;
        let mut verify = Lines::open(&self.verify(one), CONNECTIONS).await?;
        let root = format!("Bearer {}", self.facts.root_key);
        let wish = json!({"name": "more", "prefix": "sk_live", "scopes": ["keys:read"]});
        let headers = [JSON, ("Authorization", root.as_str())];
        let issue = request(
            "POST",
            "/api/v1/keys",
            &headers,
            wish.to_string().as_bytes(),
        );
        let mut issue = Lines::open(&self.ours(issue, 201), SUBMITTERS).await?;
        let (mut quiet, mut busy, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..=self.rounds {
            let mut alone = verify.open_loop(RATE, SLICE * 4).await?;
            let (beside, rate) =
                tokio::join!(verify.open_loop(RATE, SLICE * 4), issue.closed(SLICE * 4));
            if turn > 0 {
                quiet.push(percentile(&mut alone, 0.99));
                busy.push(percentile(&mut beside?, 0.99));
                rates.push(rate?);
            }
        }
        let (value, baseline) = (median(&mut busy), median(&mut quiet));
        tell(json!({
            "case": "verify_p99_during_issue", "value": round(value), "unit": "us", "baseline": round(baseline),
            "baseline_is": "p99 at 2,000/s without it", "ratio": round2(value / baseline), "issued_a_second": round(median(&mut rates)),
        }));
        Ok(())
    }

    /// Processor time of a verification here and at another size, in turns.
    pub(crate) async fn at_sizes(&self, here: &Serving, there: &Serving) -> Result<()> {
        let other = self.of(there);
        for (case, ours, theirs) in [
            ("verify", self.verify(one), other.verify(one)),
            ("forward_auth", self.forward(), other.forward()),
        ] {
            let case = format!("{case}_{}_cpu", label(self.facts.size));
            if !self.wants(&case) {
                continue;
            }
            let mut ours = Lines::open(&ours, CONNECTIONS).await?;
            let mut theirs = Lines::open(&theirs, CONNECTIONS).await?;
            let (mut own, mut beside) = (Vec::new(), Vec::new());
            for turn in 0..=self.rounds * 2 {
                // Ticks of 10 ms: a second is a hundred of them.
                let one = cpu_each(here.child.id(), &mut ours).await?;
                let two = cpu_each(there.child.id(), &mut theirs).await?;
                if turn > 0 {
                    own.push(one);
                    beside.push(two);
                }
            }
            let (value, baseline) = (median(&mut own), median(&mut beside));
            tell(json!({
                "case": case, "value": round2(value), "unit": "us", "baseline": round2(baseline),
                "baseline_is": format!("processor time of one among {} keys", there.facts.size),
                "ratio": round2(value / baseline),
                "keys": self.facts.size, "asked_for": self.facts.keys.len(),
                "asked_for_beside": there.facts.keys.len(),
            }));
        }
        Ok(())
    }
}

pub(crate) fn label(size: usize) -> String {
    match size {
        1_000_000.. => format!("{}m", size / 1_000_000),
        _ => format!("{}k", size / 1_000),
    }
}

/// Microseconds of the server's processor an answer.
async fn cpu_each(process: u32, lines: &mut Lines) -> Result<f64> {
    let (before, began) = (cpu(process)?, Instant::now());
    let rate = lines.closed(SLICE * 4).await?;
    let answers = rate * began.elapsed().as_secs_f64();
    Ok((cpu(process)? - before) * 1e6 / answers)
}

/// Seconds of processor time that a process has had.
pub(crate) fn cpu(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = stat.rsplit_once(')').context("no name")?.1;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().context("no time")?.parse()?) };
    Ok((ticks()? + ticks()?) / 100.0)
}

/// Uses that were answered and not counted when the server was killed (SIGKILL) in the middle of it; and
/// when it ended in order.
async fn use_lost() -> Result<()> {
    let (mut worst, mut rates) = (0.0_f64, Vec::new());
    for kill_after_ms in [1_300, 1_650, 2_000, 2_350] {
        let (answered, counted, seconds) = killed(Duration::from_millis(kill_after_ms)).await?;
        // Whoever was being answered may have been counted.
        if counted > answered + CONNECTIONS as i64 {
            bail!("{answered} answers were counted as {counted} uses");
        }
        let rate = answered as f64 / seconds;
        worst = worst.max((answered - counted).max(0) as f64 / rate);
        rates.push(rate);
    }
    tell(json!({
        "case": "use_lost_s", "value": round2(worst), "unit": "s",
        "note": format!("the worst of 4 kills, at {} uses a second; never more counted than asked", round(median(&mut rates))),
    }));
    let (answered, counted, _) = in_order().await?;
    tell(json!({
        "case": "use_lost_in_order", "value": (answered - counted).abs(), "unit": "uses", "goal": 0, "met": answered == counted,
        "note": format!("of {answered}, when the server ended in order"),
    }));
    Ok(())
}

async fn killed(after: Duration) -> Result<(i64, i64, f64)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let mut server = Serving::start(Some(file.to_str().context("no path")?), None, &[])?;
    let asking = tokio::spawn(uses(
        server.facts.address.clone(),
        server.facts.keys[0].clone(),
    ));
    tokio::time::sleep(after).await;
    server.child.kill()?;
    server.child.wait()?;
    let (answered, id, seconds) = asking.await??;
    Ok((answered, counted(&file, &id).await?, seconds))
}

async fn in_order() -> Result<(i64, i64, f64)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let mut server = Serving::start(Some(file.to_str().context("no path")?), None, &[])?;
    let asking = tokio::spawn(uses(
        server.facts.address.clone(),
        server.facts.keys[0].clone(),
    ));
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    drop(server.child.stdin.take());
    tokio::task::block_in_place(|| server.child.wait())?;
    let (answered, id, seconds) = asking.await??;
    Ok((answered, counted(&file, &id).await?, seconds))
}

/// Uses one key over all connections until they break. Returns the answers, the key's id and seconds.
async fn uses(address: String, key: String) -> Result<(i64, String, f64)> {
    let authorization = format!("Bearer {key}");
    let ask: Arc<[u8]> = request(
        "GET",
        "/verify?scope=keys:read",
        &[("Authorization", &authorization)],
        b"",
    )
    .into();
    let mut line = Connection::open(&address).await?;
    if line.ask(&ask).await? != 204 {
        bail!("the key is refused");
    }
    let id = line.header("x-keywright-key-id").context("no id")?;
    let (began, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (mut line, ask) = (Connection::open(&address).await?, Arc::clone(&ask));
        tasks.spawn(async move {
            let mut answers = 0_i64;
            while let Ok(204) = line.ask(&ask).await {
                answers += 1;
            }
            answers
        });
    }
    let mut answered = 1;
    while let Some(done) = tasks.join_next().await {
        answered += done?;
    }
    Ok((answered, id, began.elapsed().as_secs_f64()))
}

/// What the database says of a key's uses.
async fn counted(file: &std::path::Path, id: &str) -> Result<i64> {
    let registry = LocalRegistry::open(file, Clock::system()).await?;
    let (key, _) = registry.find_api_key(id).await?;
    registry.close().await;
    Ok(key.secrets.iter().map(|secret| secret.use_count).sum())
}

/// Until all of an owner's keys are revoked, beside one key's revocation; in process, in turns, an owner each time.
async fn revoke_owner(owned: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let registry = LocalRegistry::open(&folder.path().join("registry.db"), Clock::system()).await?;
    let pepper = Pepper::generate(&mut rand::rng());
    let id = registry.adopt_pepper(&Actor::keywright(), "bench").await?;
    let peppers = Arc::new(Peppers::new(PepperKey { id, pepper }));
    let actor = Actor::keywright();
    let everything = ScopeSet::everything();
    let wish = |owner: Option<Owner>| NewApiKey {
        owner,
        ..NewApiKey::default()
    };
    let single = issue(&registry, &peppers, OWNERS * SINGLE, &wish(None)).await?;
    let mut crowds = Vec::new();
    for number in 0..OWNERS {
        let id = format!("crowd{number}");
        registry
            .create_principal(&actor, &id, OwnerKind::Team, "Crowd", &everything)
            .await?;
        let owner = Owner::new(OwnerKind::Team, &id)?;
        let keys = issue(&registry, &peppers, owned, &wish(Some(owner))).await?;
        crowds.push((id, keys));
    }
    // What making so many keys left behind is not measured.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (mut all, mut one) = (Vec::new(), Vec::new());
    for ((id, keys), single) in crowds.iter().zip(single.chunks(SINGLE)) {
        for plain in single {
            let found = registry.identify_secret(plain, &peppers).await?;
            let (_, key) = found.context("a key that was just made")?;
            let began = Instant::now();
            registry.revoke_api_key(&actor, &key, "bench").await?;
            one.push(began.elapsed().as_secs_f64() * 1e6);
        }
        code_of_all(&registry, &peppers, keys, "valid").await?;
        let change = PrincipalChange::RevokeKeys("bench".to_owned());
        let began = Instant::now();
        registry.change_principal(&actor, id, &change).await?;
        all.push(began.elapsed().as_secs_f64() * 1e6);
        code_of_all(&registry, &peppers, keys, "revoked").await?;
    }
    registry.close().await;
    let longest = percentile(&mut all, 1.0);
    let (value, baseline) = (median(&mut all), median(&mut one));
    let line: Value = json!({
        "case": "revoke_owner_100k", "value": round(value), "unit": "us", "baseline": round(baseline),
        "baseline_is": "revoking one key", "ratio": round2(value / baseline), "keys": owned, "owners": OWNERS,
        "longest": round(longest),
    });
    tell(line);
    Ok(())
}

/// One in 97 of them is asked for.
async fn code_of_all(
    registry: &LocalRegistry,
    peppers: &Peppers,
    keys: &[String],
    code: &str,
) -> Result<()> {
    for plain in keys.iter().step_by(97) {
        let request = VerifyRequest {
            presented: plain,
            ..VerifyRequest::default()
        };
        let verified = registry.verify_api_key(&request, peppers).await?;
        if verified.code() != code {
            bail!("an owner's key is {} in place of {code}", verified.code());
        }
    }
    Ok(())
}
