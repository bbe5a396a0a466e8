//! Uses of secrets, counted in memory and written once a second: an accepted verification writes
//! nothing, except the first use of a secret, which is written at once.
//!
//! Every use counts for the secret and, by the hour, for who made it: network, agent, route, client
//! label. The room is bounded; what finds no place is dropped, counted and shown.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use keywright_domain::api_keys::network_of;
use keywright_index::PackedKid;

/// At most this many combinations of secret, hour and caller wait for the next flush.
const CAPACITY: usize = 200_000;
/// At most this many alerts wait.
const ALERTS: usize = 10_000;
const SHARDS: usize = 16;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// Who asked, as far as the caller of a verification knows it. All of it is foreign text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Its `Origin` (RFC 6454).
    pub origin: Option<&'a str>,
    /// Its `User-Agent` (RFC 9110 §10.1.5); only the product is kept.
    pub agent: Option<&'a str>,
    /// Which part of the service it used, for example `GET /orders`.
    pub route: Option<&'a str>,
    /// What the client calls itself.
    pub client_label: Option<&'a str>,
}

/// A caller as rollups keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CallerText {
    pub(crate) client_label: String,
    pub(crate) network: String,
    pub(crate) agent: String,
    pub(crate) route: String,
    pub(crate) scope: String,
    pub(crate) origin: String,
}

impl CallerText {
    pub(crate) fn of(caller: &Caller<'_>, scope: &str) -> Self {
        let product = caller
            .agent
            .and_then(|agent| agent.split_whitespace().next());
        Self {
            client_label: kept(caller.client_label, 64),
            network: caller.address.map(network_of).unwrap_or_default(),
            agent: kept(product, 64),
            route: kept(caller.route, 128),
            scope: kept(Some(scope), 200),
            origin: kept(caller.origin, 128),
        }
    }

    /// One line, for alerts.
    pub(crate) fn line(&self) -> String {
        let parts = [
            &self.client_label,
            &self.network,
            &self.agent,
            &self.route,
            &self.origin,
        ];
        let known: Vec<&str> = parts
            .iter()
            .map(|part| part.as_str())
            .filter(|part| !part.is_empty())
            .collect();
        if known.is_empty() {
            "unknown caller".to_owned()
        } else {
            known.join(" · ")
        }
    }
}

/// Foreign text: capped, without control characters, and never with a key in it.
fn kept(text: Option<&str>, most: usize) -> String {
    let text: String = text
        .unwrap_or_default()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(most)
        .collect();
    if text.contains(keywright_domain::api_keys::format::MARKER) {
        return "(redacted)".to_owned();
    }
    text
}

/// What happened to one secret by one caller in one hour, since the last flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) kid: String,
    pub(crate) hour: i64,
    pub(crate) caller: CallerText,
    pub(crate) count: i64,
    pub(crate) last_at: i64,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertKind {
    /// A secret was used that had ended.
    EndedSecretUsed,
    /// A canary key was used: somebody has what nobody should have.
    CanaryUsed,
    /// A new secret did not reach the place it was made for.
    DeliveryFailed,
}

impl AlertKind {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndedSecretUsed => "ended_secret_used",
            Self::CanaryUsed => "canary_used",
            Self::DeliveryFailed => "delivery_failed",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::EndedSecretUsed,
            Self::CanaryUsed,
            Self::DeliveryFailed,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// An alert that waits to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingAlert {
    pub(crate) kind: AlertKind,
    pub(crate) key_id: String,
    pub(crate) kid: String,
    pub(crate) caller: String,
    pub(crate) count: i64,
    pub(crate) first_at: i64,
    pub(crate) last_at: i64,
}

/// How the recorder stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UseStatistics {
    /// Uses that found no place and were not counted, since the registry was opened.
    pub dropped: u64,
    /// Combinations of secret, hour and caller that wait for the next flush.
    pub waiting: usize,
}

/// Kid, hour since 1970, caller (none where nothing is known of it).
type UseKey = (PackedKid, i32, Option<Box<CallerText>>);

#[derive(Debug)]
pub(crate) struct UseRecorder {
    shards: [Mutex<HashMap<UseKey, (u32, i64)>>; SHARDS],
    alerts: Mutex<HashMap<(AlertKind, String, String), PendingAlert>>,
    /// First uses that could not be written at once.
    first_uses: Mutex<HashMap<String, i64>>,
    dropped: AtomicU64,
}

impl Default for UseRecorder {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            alerts: Mutex::default(),
            first_uses: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }
}

/// What a flush writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) uses: Vec<Use>,
    pub(crate) alerts: Vec<PendingAlert>,
    pub(crate) first_uses: Vec<(String, i64)>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.uses.is_empty() && self.alerts.is_empty() && self.first_uses.is_empty()
    }
}

fn open<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UseRecorder {
    pub(crate) fn record(&self, kid: PackedKid, caller: &Caller<'_>, scope: &str, at: i64) {
        // A use says who and for what only where somebody says it: most of the time nothing is there.
        let silent = scope.is_empty()
            && caller.address.is_none()
            && caller.origin.is_none()
            && caller.agent.is_none()
            && caller.route.is_none()
            && caller.client_label.is_none();
        let caller = (!silent).then(|| Box::new(CallerText::of(caller, scope)));
        let hour = i32::try_from(at.div_euclid(HOUR_MS)).unwrap_or(i32::MAX);
        self.add((kid, hour, caller), 1, at);
    }

    fn add(&self, key: UseKey, count: u32, at: i64) {
        let shard = usize::from(key.0.text()[0]) % SHARDS;
        let mut uses = open(&self.shards[shard]);
        if let Some((counted, last_at)) = uses.get_mut(&key) {
            *counted = counted.saturating_add(count);
            *last_at = (*last_at).max(at);
        } else if uses.len() < CAPACITY / SHARDS {
            uses.insert(key, (count, at));
        } else {
            self.dropped.fetch_add(u64::from(count), Ordering::Relaxed);
        }
    }

    pub(crate) fn alert(
        &self,
        kind: AlertKind,
        key_id: &str,
        kid: &str,
        caller: &Caller<'_>,
        at: i64,
    ) {
        let line = CallerText::of(caller, "").line();
        let mut alerts = open(&self.alerts);
        if alerts.len() >= ALERTS {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let alert = alerts
            .entry((kind, kid.to_owned(), line.clone()))
            .or_insert_with(|| PendingAlert {
                kind,
                key_id: key_id.to_owned(),
                kid: kid.to_owned(),
                caller: line,
                count: 0,
                first_at: at,
                last_at: at,
            });
        alert.count += 1;
        alert.last_at = alert.last_at.max(at);
    }

    /// A first use that could not be written: the next flush tries again.
    pub(crate) fn first_use_waits(&self, kid: &str, at: i64) {
        open(&self.first_uses).entry(kid.to_owned()).or_insert(at);
    }

    pub(crate) fn take(&self) -> Waiting {
        let mut uses = Vec::new();
        for shard in &self.shards {
            for ((kid, hour, caller), (count, last_at)) in std::mem::take(&mut *open(shard)) {
                uses.push(Use {
                    kid: String::from_utf8_lossy(&kid.text()).into_owned(),
                    hour: i64::from(hour) * HOUR_MS,
                    caller: caller.map(|caller| *caller).unwrap_or_default(),
                    count: i64::from(count),
                    last_at,
                });
            }
        }
        // One order for every writer, so that two nodes never wait for each other's rows.
        uses.sort_by(|one, other| {
            (&one.kid, one.hour, &one.caller).cmp(&(&other.kid, other.hour, &other.caller))
        });
        let mut alerts: Vec<_> = std::mem::take(&mut *open(&self.alerts))
            .into_values()
            .collect();
        alerts.sort_by(|one, other| {
            (one.kind, &one.kid, &one.caller).cmp(&(other.kind, &other.kid, &other.caller))
        });
        let mut first_uses: Vec<_> = std::mem::take(&mut *open(&self.first_uses))
            .into_iter()
            .collect();
        first_uses.sort();
        Waiting {
            uses,
            alerts,
            first_uses,
        }
    }

    /// Puts back what certainly was not written.
    pub(crate) fn give_back(&self, waiting: Waiting) {
        for one in waiting.uses {
            let Some(kid) = PackedKid::parse(&one.kid) else {
                continue;
            };
            let caller = (one.caller != CallerText::default()).then(|| Box::new(one.caller));
            let hour = i32::try_from(one.hour.div_euclid(HOUR_MS)).unwrap_or(i32::MAX);
            self.add(
                (kid, hour, caller),
                u32::try_from(one.count).unwrap_or(u32::MAX),
                one.last_at,
            );
        }
        let mut alerts = open(&self.alerts);
        for alert in waiting.alerts {
            let key = (alert.kind, alert.kid.clone(), alert.caller.clone());
            match alerts.get_mut(&key) {
                Some(newer) => {
                    newer.count += alert.count;
                    newer.first_at = newer.first_at.min(alert.first_at);
                }
                None => drop(alerts.insert(key, alert)),
            }
        }
        drop(alerts);
        for (kid, at) in waiting.first_uses {
            self.first_use_waits(&kid, at);
        }
    }

    /// Uses that may or may not have been written are not written again: counts are never too high.
    /// A first use written twice is one, and an alert is better told twice than never.
    pub(crate) fn give_up(&self, waiting: Waiting) {
        let lost: i64 = waiting.uses.iter().map(|one| one.count).sum();
        self.dropped
            .fetch_add(u64::try_from(lost).unwrap_or(0), Ordering::Relaxed);
        self.give_back(Waiting {
            uses: Vec::new(),
            ..waiting
        });
    }

    pub(crate) fn statistics(&self) -> UseStatistics {
        UseStatistics {
            dropped: self.dropped.load(Ordering::Relaxed),
            waiting: self.shards.iter().map(|shard| open(shard).len()).sum(),
        }
    }
}
