//! Plays a history on the engine and on the reference, and compares them after every step.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keywright_domain::api_keys::{
    KeySettings, NewApiKey, OverlapClock, Owner, OwnerKind, PlainKey, Prefix, RotationRequest,
};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_registry::{
    ClientSecret, LocalRegistry, Peppers, PrincipalChange, RegistryError, RotationStep,
    VerifyRequest,
};

use sqlx::Row as _;

use super::bench::Bench;
use super::reference::{Clock, Outcome, Wish, World};
use super::steps::{RotateStep, Step};
use crate::registry::Kind;

const PEOPLE: usize = 2;
/// A scope that no key of these histories holds: asking for it tells the state and uses nothing.
const NEVER_HELD: &str = "users:write";

/// State, expiry, end of the overlap, time-out.
type SecretRow = (String, Option<i64>, Option<i64>, Option<i64>);

/// What the rows of a key said last.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rows {
    epoch: i64,
    ends: (bool, bool),
    secrets: Vec<SecretRow>,
    rotations: Vec<(String, String)>,
}

struct Player<'a> {
    bench: &'a mut Bench,
    world: World,
    /// How many the audit trail holds.
    events: i64,
    node: usize,
    peppers: Peppers,
    actor: Actor,
    people: Vec<String>,
    keys: Vec<String>,
    texts: Vec<String>,
    seen: HashMap<usize, Rows>,
}

/// Plays the steps; says which one failed, and how. Returns where the clock stands.
pub(super) async fn play(
    bench: &mut Bench,
    now: i64,
    steps: &[Step],
) -> Result<i64, (usize, anyhow::Error)> {
    bench.set_clock(now);
    let mut player = Player::new(bench, now).await.map_err(|error| (0, error))?;
    for (index, step) in steps.iter().enumerate() {
        let played = player.step(step).await;
        played.map_err(|error| (index, error.context(format!("at step {index}: {step:?}"))))?;
    }
    let last = steps.len().saturating_sub(1);
    player.end().await.map_err(|error| (last, error))
}

impl<'a> Player<'a> {
    async fn new(bench: &'a mut Bench, now: i64) -> Result<Self> {
        let actor = Actor::person("tester");
        let mut people = Vec::new();
        for _ in 0..PEOPLE {
            let id = crate::registry::rand_text();
            bench.nodes[0]
                .create_principal(
                    &actor,
                    &id,
                    OwnerKind::Service,
                    "someone",
                    &permissions(true)?,
                )
                .await?;
            people.push(id);
        }
        let (events, _) = bench.heads().await?;
        Ok(Self {
            bench,
            events,
            world: World::new(now, PEOPLE),
            node: 0,
            peppers: Bench::peppers(),
            actor,
            people,
            keys: Vec::new(),
            texts: Vec::new(),
            seen: HashMap::new(),
        })
    }

    fn registry(&self) -> LocalRegistry {
        self.bench.nodes[self.node].clone()
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        let (expected, touched) = match step {
            Step::Sleep(by) => {
                self.clock(self.world.now + by);
                (0, None)
            }
            Step::SleepUntil { .. } => {
                self.sleep_until(step);
                (0, None)
            }
            Step::Reopen => {
                self.bench.reopen(self.node).await?;
                (0, None)
            }
            Step::Switch => {
                self.node = 1 - self.node;
                // What the other one wrote is known here after the lease at the latest; on SQLite at
                // once.
                if self.bench.kind == Kind::Postgres {
                    tokio::time::sleep(Duration::from_millis(1050)).await;
                }
                (0, None)
            }
            Step::Settle => {
                self.flush().await?;
                let settled = self.registry().settle_rotations().await?;
                let expected = self.world.settle();
                ensure!(settled == expected, "{settled} settled, not {expected}");
                (i64::try_from(expected)?, None)
            }
            _ if self.keys.is_empty() && !matches!(step, Step::Issue { .. }) => (0, None),
            step => {
                let (outcome, key) = self.act(step).await?;
                (i64::from(outcome == Outcome::Changed), key)
            }
        };
        let (mut events, mut newest_change) = self.bench.heads().await?;
        // AC-147: an answer does not wait long for the row of a first use.
        for _ in 0..2000 {
            if events - self.events >= expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            (events, newest_change) = self.bench.heads().await?;
        }
        let new = events - std::mem::replace(&mut self.events, events);
        ensure!(
            new == expected,
            "{new} rows in the audit trail, not {expected}"
        );
        let touched: Vec<usize> = match touched {
            Some(key) => vec![key],
            None if matches!(step, Step::Settle) => (0..self.keys.len()).collect(),
            None => (0..self.keys.len()).rev().take(1).collect(),
        };
        for key in touched {
            self.check_rows(key, newest_change).await?;
            self.check_answers(key).await?;
        }
        Ok(())
    }

    fn clock(&mut self, now: i64) {
        self.world.now = now;
        self.bench.set_clock(now);
    }

    fn sleep_until(&mut self, step: &Step) {
        let Step::SleepUntil {
            secret,
            end,
            beside,
        } = step
        else {
            return;
        };
        let Some(count) = Some(self.texts.len()).filter(|count| *count > 0) else {
            return;
        };
        let secret = &self.world.secrets[secret % count];
        let at = [secret.expires, secret.overlap_ends, secret.times_out][*end];
        // Not back: only a little.
        if let Some(at) = at.map(|at| at + beside)
            && at >= self.world.now - 5000
        {
            self.clock(at);
        }
    }

    /// Uses of both registries are written: what is measured by the last use is exact then.
    async fn flush(&self) -> Result<()> {
        for node in &self.bench.nodes {
            node.flush_uses().await?;
        }
        Ok(())
    }

    async fn act(&mut self, step: &Step) -> Result<(Outcome, Option<usize>)> {
        let registry = self.registry();
        let keys = self.keys.len().max(1);
        let secrets = self.texts.len().max(1);
        let actor = self.actor.clone();
        let (answer, outcome, touched) = match step {
            Step::Issue { .. } => return self.issue(step).await,
            Step::Use { secret, writes } => {
                return self.use_secret(secret % secrets, *writes).await;
            }
            Step::Forge { secret, how } => return self.forge(secret % secrets, *how).await,
            Step::Rotate(wish) => return self.rotate(wish).await,
            Step::Reissue(pick) => return self.reissue(*pick).await,
            Step::Promote(key) | Step::Cancel(key) | Step::RollBack(key) | Step::Finish(key) => {
                let key = key % keys;
                let step = match step {
                    Step::Promote(_) => RotationStep::Promote,
                    Step::Cancel(_) => RotationStep::Cancel,
                    Step::RollBack(_) => RotationStep::RollBack,
                    _ => RotationStep::Finish,
                };
                let answer = registry.step_rotation(&actor, &self.keys[key], step).await;
                let outcome = match step {
                    RotationStep::Promote => self.world.promote(key),
                    RotationStep::Cancel => self.world.take_back(key, true),
                    RotationStep::RollBack => self.world.take_back(key, false),
                    RotationStep::Finish => self.world.finish(key),
                };
                (answer.map(drop), outcome, Some(key))
            }
            Step::RevokeKey(key) => {
                let key = key % keys;
                let answer = registry.revoke_api_key(&actor, &self.keys[key], "").await;
                (answer.map(drop), self.world.revoke_key(key), Some(key))
            }
            Step::RevokeSecret { secret, says_why } => {
                self.flush().await?;
                let secret = secret % secrets;
                let key = self.world.secrets[secret].key;
                let kid = PlainKey::parse(&self.texts[secret])?.kid().clone();
                let why = if *says_why { "leaked" } else { " " };
                let answer = registry
                    .revoke_secret(&actor, &self.keys[key], &kid, why)
                    .await;
                let outcome = self.world.revoke_secret(secret, *says_why);
                (answer.map(drop), outcome, Some(key))
            }
            Step::Disable(key) => {
                let key = key % keys;
                let answer = registry.disable_api_key(&actor, &self.keys[key], "").await;
                (answer.map(drop), self.world.disable(key, true), Some(key))
            }
            Step::Enable(key) => {
                let key = key % keys;
                let answer = registry.enable_api_key(&actor, &self.keys[key]).await;
                (answer.map(drop), self.world.disable(key, false), Some(key))
            }
            Step::DisablePerson(person)
            | Step::EnablePerson(person)
            | Step::PermitPerson { person, .. }
            | Step::RevokeAll(person) => {
                let change = match step {
                    Step::DisablePerson(_) => PrincipalChange::Disable("away".to_owned()),
                    Step::EnablePerson(_) => PrincipalChange::Enable,
                    Step::PermitPerson { writes, .. } => {
                        PrincipalChange::Permissions(permissions(*writes)?)
                    }
                    _ => PrincipalChange::RevokeKeys("gone".to_owned()),
                };
                let id = &self.people[*person];
                let answer = registry.change_principal(&actor, id, &change).await;
                let outcome = match step {
                    Step::DisablePerson(_) => self.world.disable_person(*person, true),
                    Step::EnablePerson(_) => self.world.disable_person(*person, false),
                    Step::PermitPerson { writes, .. } => self.world.permit_person(*person, *writes),
                    _ => self.world.revoke_all(*person),
                };
                (answer.map(drop), outcome, None)
            }
            Step::Settle
            | Step::Sleep(_)
            | Step::SleepUntil { .. }
            | Step::Reopen
            | Step::Switch => {
                bail!("not an act")
            }
        };
        compare(&answer, &outcome)?;
        Ok((outcome, touched))
    }

    async fn issue(&mut self, step: &Step) -> Result<(Outcome, Option<usize>)> {
        let Step::Issue {
            owner,
            creator,
            writes,
            lifetime,
            not_before,
            one_time,
        } = step
        else {
            bail!("not an issue");
        };
        let not_before = not_before.map(|after| self.world.now + after);
        let mut scopes = vec!["keys:read".to_owned()];
        if *writes {
            scopes.push("keys:write".to_owned());
        }
        let wish = NewApiKey {
            name: format!("key {}", self.keys.len()),
            prefix: "sk_live".to_owned(),
            scopes,
            lifetime_ms: *lifetime,
            allow_never_expires: true,
            owner: Some(Owner {
                kind: OwnerKind::Service,
                id: self.people[*owner].clone(),
            }),
            creator: creator.map(|creator| self.people[creator].clone()),
            not_before,
            settings: KeySettings {
                one_time: *one_time,
                ..KeySettings::default()
            },
            ..NewApiKey::default()
        };
        let answer = self
            .registry()
            .issue_api_key(&self.actor, &wish, &self.peppers)
            .await;
        let outcome = self
            .world
            .issue(*owner, *creator, *writes, *lifetime, not_before, *one_time);
        compare(&answer, &outcome)?;
        let Ok(issued) = answer else {
            return Ok((outcome, None));
        };
        self.keys.push(issued.key.id);
        self.texts.push(issued.plain.text().expose().to_owned());
        Ok((outcome, Some(self.keys.len() - 1)))
    }

    async fn verify(&self, node: usize, text: &str, scope: Option<&str>) -> Result<&'static str> {
        let requirement = scope.map(ScopeRequirement::parse).transpose()?;
        let request = VerifyRequest {
            presented: text,
            requirement: requirement.as_ref(),
            ..VerifyRequest::default()
        };
        let answer = self.bench.nodes[node].verify_api_key(&request, &self.peppers);
        Ok(answer.await?.code())
    }

    async fn use_secret(
        &mut self,
        secret: usize,
        writes: Option<bool>,
    ) -> Result<(Outcome, Option<usize>)> {
        let scope = writes.map(|writes| if writes { "keys:write" } else { "keys:read" });
        let code = self.verify(self.node, &self.texts[secret], scope).await?;
        let expected = self.world.verdict(secret, writes);
        ensure!(
            code == expected,
            "secret {secret} is {code}, not {expected}"
        );
        let outcome = match code {
            "valid" => self.world.used(secret),
            _ => Outcome::Same,
        };
        Ok((outcome, Some(self.world.secrets[secret].key)))
    }

    /// What is not a secret of this registry, however near it comes.
    async fn forge(&mut self, secret: usize, how: usize) -> Result<(Outcome, Option<usize>)> {
        let text = &self.texts[secret];
        let stranger = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
        let stranger = stranger.text().expose();
        let (forged, expected) = match how {
            0 => (stranger.to_owned(), "not_found"),
            // Our kid, another secret.
            1 => (
                with_checksum(&text[..text.len() - 38], &stranger[26..58]),
                "not_found",
            ),
            // Another kid, our secret.
            2 => (
                with_checksum(&stranger[..26], &text[text.len() - 38..text.len() - 6]),
                "not_found",
            ),
            _ => {
                let last = if text.ends_with('x') { 'y' } else { 'x' };
                (format!("{}{last}", &text[..text.len() - 1]), "malformed")
            }
        };
        let code = self.verify(self.node, &forged, None).await?;
        ensure!(code == expected, "{how}: {code}, not {expected}");
        Ok((Outcome::Same, Some(self.world.secrets[secret].key)))
    }

    async fn rotate(&mut self, step: &RotateStep) -> Result<(Outcome, Option<usize>)> {
        let key = step.key % self.keys.len();
        let replaces = match step.replaces {
            0 => None,
            1 => Some(self.world.current(key)),
            _ => Some(self.world.keys[key].secrets[0]),
        };
        let (clock, silent_ms) = match step.clock {
            0 => (OverlapClock::FromFirstUse, None),
            1 => (OverlapClock::FromIssue, None),
            // A silence longer than the cap is no clock at all; that is tested elsewhere.
            silence => {
                let cap_ms = step.overlap.max(60_000);
                let silent_ms = silence.min(cap_ms);
                (
                    OverlapClock::UntilDrained { silent_ms, cap_ms },
                    Some(silent_ms),
                )
            }
        };
        let kid = |secret: usize| PlainKey::parse(&self.texts[secret]).map(|key| key.kid().clone());
        let request = RotationRequest {
            overlap_ms: step.overlap,
            clock,
            lifetime_ms: step.lifetime,
            replaces: replaces.map(kid).transpose()?,
            compromised: step
                .compromised
                .map(|why| if why { "leaked" } else { "" }.to_owned()),
        };
        let name = match self.world.done.last() {
            Some((name, _)) if step.retry => name.clone(),
            _ => crate::registry::rand_text(),
        };
        let wish = Wish {
            clock: match (clock, silent_ms) {
                (OverlapClock::FromFirstUse, _) => Clock::FirstUse,
                (OverlapClock::FromIssue, _) => Clock::Issue,
                (_, silence) => Clock::Drained(silence.unwrap_or(0)),
            },
            overlap: if silent_ms.is_some() {
                step.overlap.max(60_000)
            } else {
                step.overlap
            },
            lifetime: step.lifetime,
            replaces,
            compromised: step.compromised,
        };
        let registry = self.registry();
        let id = &self.keys[key];
        let answer = if step.by_client {
            let plain = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
            let secret = ClientSecret::of(&plain);
            let rotated = registry
                .rotate_api_key_to(&self.actor, id, &request, &name, &secret, &self.peppers)
                .await;
            rotated.map(|_| plain)
        } else {
            let rotated = registry
                .rotate_api_key(&self.actor, id, &request, &name, &self.peppers)
                .await;
            rotated.map(|issued| issued.plain)
        };
        let outcome = self.world.rotate(key, &name, &wish);
        compare(&answer, &outcome)?;
        if let Ok(plain) = answer {
            self.texts.push(plain.text().expose().to_owned());
        }
        Ok((outcome, Some(key)))
    }

    async fn reissue(&mut self, pick: usize) -> Result<(Outcome, Option<usize>)> {
        if self.world.done.is_empty() {
            return Ok((Outcome::Same, None));
        }
        let (name, key) = self.world.done[pick % self.world.done.len()].clone();
        let answer = self
            .registry()
            .reissue_secret(&self.actor, &name, &self.peppers)
            .await;
        let outcome = self.world.reissue(&name, key);
        compare(&answer, &outcome)?;
        if let Ok(issued) = answer {
            self.texts.push(issued.plain.text().expose().to_owned());
        }
        Ok((outcome, Some(key)))
    }

    /// The rows say what the reference says, and nothing of what must never happen has happened.
    async fn check_rows(&mut self, key: usize, newest_change: i64) -> Result<()> {
        let id = self.keys[key].clone();
        let rows = read(self.bench.stranger.get_mut(), &id).await?;
        let world = &self.world;
        let expected = &world.keys[key];
        ensure!(
            rows.secrets.len() == expected.secrets.len(),
            "{} secrets",
            rows.secrets.len()
        );
        let mut live = 0;
        for (row, secret) in rows.secrets.iter().zip(&expected.secrets) {
            let one = &world.secrets[*secret];
            let (stored, expires, overlap_ends, times_out) = row;
            ensure!(
                stored == one.stored(),
                "secret {secret} is {stored}, not {}",
                one.stored()
            );
            ensure!(
                *expires == one.expires,
                "secret {secret} ends at {expires:?}"
            );
            let (overlap_expected, timeout_expected) = match one.stored() {
                "retiring" => (one.overlap_ends, None),
                "pending" => (None, one.times_out),
                "active" => (None, None),
                _ => (*overlap_ends, *times_out),
            };
            ensure!(
                (*overlap_ends, *times_out) == (overlap_expected, timeout_expected),
                "secret {secret}: {row:?}, not {one:?}"
            );
            live += usize::from(one.works(world.now));
        }
        ensure!(live <= 2, "{live} secrets work");
        let open = expected
            .rotation
            .iter()
            .map(|rotation| (rotation.name.clone(), rotation.stored().to_owned()));
        let open: Vec<_> = open.collect();
        ensure!(rows.rotations == open, "{:?}, not {open:?}", rows.rotations);
        ensure!(rows.epoch <= newest_change, "an epoch from the future");
        if let Some(before) = self.seen.insert(key, rows.clone()) {
            ensure!(rows.epoch >= before.epoch, "the epoch went back");
            let (was, is) = (before.epoch, rows.epoch);
            let same = Rows {
                epoch: is,
                ..before.clone()
            } == rows;
            ensure!(
                same || is > was,
                "{before:?} became {rows:?} with the same epoch"
            );
            for (old, new) in before.secrets.iter().zip(&rows.secrets) {
                let ended = !matches!(old.0.as_str(), "pending" | "active" | "retiring");
                ensure!(!ended || old.0 == new.0, "{old:?} became {new:?}");
                ensure!(
                    old.1 == new.1,
                    "the life of a secret changed: {old:?}, {new:?}"
                );
            }
        }
        Ok(())
    }

    /// Asks for all secrets of a key, in a way that uses none of them.
    async fn check_answers(&self, key: usize) -> Result<()> {
        for (place, secret) in self.world.keys[key]
            .secrets
            .iter()
            .rev()
            .take(3)
            .enumerate()
        {
            let expected = match self.world.verdict(*secret, None) {
                "valid" => "insufficient_scope",
                code => code,
            };
            let nodes = match self.bench.kind {
                // No window: the other one knows at once.
                Kind::Sqlite if place == 0 && self.events % 3 == 0 => {
                    vec![1 - self.node, self.node]
                }
                _ => vec![self.node],
            };
            for node in nodes {
                let code = self
                    .verify(node, &self.texts[*secret], Some(NEVER_HELD))
                    .await?;
                ensure!(
                    code == expected,
                    "secret {secret} is {code} at registry {node}, not {expected}"
                );
            }
        }
        Ok(())
    }

    /// The end of a history: nothing of it is left for the next one on the same database.
    async fn end(mut self) -> Result<i64> {
        let every: Vec<usize> = (0..self.keys.len()).collect();
        let (_, newest) = self.bench.heads().await?;
        for key in &every {
            self.check_rows(*key, newest).await?;
            self.check_answers(*key).await?;
        }
        for key in every {
            let id = self.keys[key].clone();
            self.registry().revoke_api_key(&self.actor, &id, "").await?;
        }
        Ok(self.world.now)
    }
}

fn compare<T>(answer: &Result<T, RegistryError>, outcome: &Outcome) -> Result<()> {
    let found = answer.as_ref().map_or_else(RegistryError::code, |_| "done");
    let expected = match outcome {
        Outcome::Refused(code) => code,
        Outcome::Same | Outcome::Changed => "done",
    };
    ensure!(found == expected, "{found}, not {expected}");
    Ok(())
}

fn permissions(writes: bool) -> Result<ScopeSet> {
    let text = if writes {
        "keys:read keys:write"
    } else {
        "keys:read"
    };
    ScopeSet::parse(text).context("permissions")
}

/// Everything that is written of a key, by one statement.
async fn read(stranger: &mut sqlx::AnyConnection, id: &str) -> Result<Rows> {
    type Row = (
        (i64, Option<i64>, Option<i64>),
        (String, Option<i64>, Option<i64>, Option<i64>),
        (Option<String>, Option<String>),
    );
    let found = sqlx::query(
        "SELECT k.epoch, k.revoked_at, k.disabled_at, s.stored, s.expires_at, s.retires_at, s.pending_until, \
         r.idempotency_key, r.state FROM api_keys k JOIN secrets s ON s.key_id = k.id \
         LEFT JOIN rotations r ON r.key_id = k.id AND r.ended_at IS NULL WHERE k.id = $1 \
         ORDER BY s.position, r.idempotency_key",
    )
    .bind(id.to_owned())
    .fetch_all(stranger)
    .await?;
    let mut rows = Rows::default();
    let mut rotations = std::collections::BTreeSet::new();
    for row in &found {
        let (key, secret, (rotation, state)): Row = (
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
            (
                row.try_get(3)?,
                row.try_get(4)?,
                row.try_get(5)?,
                row.try_get(6)?,
            ),
            (row.try_get(7)?, row.try_get(8)?),
        );
        (rows.epoch, rows.ends) = (key.0, (key.1.is_some(), key.2.is_some()));
        rows.secrets.push(secret);
        rotations.extend(rotation.zip(state));
    }
    ensure!(
        rotations.len() <= 1,
        "two rotations under way: {rotations:?}"
    );
    rows.rotations = rotations.into_iter().collect();
    Ok(rows)
}

/// Head, secret and a checksum that fits.
fn with_checksum(head: &str, secret: &str) -> String {
    let body = format!("{head}{secret}");
    let sum = crate::registry::checksum(&body);
    body + &sum
}
