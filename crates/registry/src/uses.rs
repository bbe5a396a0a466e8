//! Uses of secrets, counted in memory and written every 800 ms: an accepted verification writes
//! nothing, except the first use of a secret, which is written at once.
//!
//! Every use counts for the secret and, by the hour, for who made it: network, agent, route, client
//! label. The room is bounded; what finds no place is dropped, counted and shown.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use keywright_domain::api_keys::network_of;
use keywright_index::PackedKid;

/// At most this many combinations of secret, hour and caller wait for the next flush.
const CAPACITY: usize = 200_000;
/// At most this many alerts wait.
const ALERTS: usize = 10_000;
/// First uses that wait, at most.
const FIRST_USES: usize = 10_000;
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
        CallerRef::of(caller, scope).to_text()
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

/// The same where it stands: most uses are like one that is counted already, and need no copies.
#[derive(Debug, Hash)]
struct CallerRef<'a> {
    client_label: Cow<'a, str>,
    network: NetworkText,
    agent: Cow<'a, str>,
    route: Cow<'a, str>,
    scope: Cow<'a, str>,
    origin: Cow<'a, str>,
}

impl<'a> CallerRef<'a> {
    fn of(caller: &Caller<'a>, scope: &'a str) -> Self {
        let product = caller
            .agent
            .and_then(|agent| agent.split_whitespace().next());
        Self {
            client_label: kept(caller.client_label, 64),
            network: NetworkText::of(caller.address),
            agent: kept(product, 64),
            route: kept(caller.route, 128),
            scope: kept(Some(scope), 200),
            origin: kept(caller.origin, 128),
        }
    }

    fn of_text(text: &'a CallerText) -> Self {
        Self {
            client_label: Cow::Borrowed(&text.client_label),
            network: NetworkText::of_text(&text.network),
            agent: Cow::Borrowed(&text.agent),
            route: Cow::Borrowed(&text.route),
            scope: Cow::Borrowed(&text.scope),
            origin: Cow::Borrowed(&text.origin),
        }
    }

    /// Nothing is known of it.
    fn is_silent(&self) -> bool {
        let texts = [
            &self.client_label,
            &self.agent,
            &self.route,
            &self.scope,
            &self.origin,
        ];
        self.network.as_str().is_empty() && texts.iter().all(|text| text.is_empty())
    }

    fn is(&self, text: &CallerText) -> bool {
        self.network.as_str() == text.network
            && self.client_label == text.client_label
            && self.agent == text.agent
            && self.route == text.route
            && self.scope == text.scope
            && self.origin == text.origin
    }

    fn to_text(&self) -> CallerText {
        CallerText {
            client_label: self.client_label.to_string(),
            network: self.network.as_str().to_owned(),
            agent: self.agent.to_string(),
            route: self.route.to_string(),
            scope: self.scope.to_string(),
            origin: self.origin.to_string(),
        }
    }
}

/// What [`network_of`] says, without a place of its own in memory. IPv6 takes at most 43 characters.
#[derive(Clone, Copy, Debug, Hash)]
struct NetworkText {
    bytes: [u8; 48],
    length: usize,
}

impl NetworkText {
    fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::of_text(""),
            Some(IpAddr::V4(address)) => {
                // The common case, by hand: the network's text is made for every use.
                let [a, b, c, _] = address.octets();
                let mut text = Self::of_text("");
                for part in [a, b, c] {
                    text.push_number(part);
                    text.push(b'.');
                }
                for byte in *b"0/24" {
                    text.push(byte);
                }
                text
            }
            Some(address) => Self::of_text(&network_of(address)),
        }
    }

    /// What does not fit is cut: no network is so long.
    fn of_text(network: &str) -> Self {
        let mut text = Self {
            bytes: [0; 48],
            length: 0,
        };
        for byte in network.bytes() {
            text.push(byte);
        }
        text
    }

    fn push_number(&mut self, number: u8) {
        if number >= 100 {
            self.push(b'0' + number / 100);
        }
        if number >= 10 {
            self.push(b'0' + number / 10 % 10);
        }
        self.push(b'0' + number % 10);
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or("")
    }
}

/// Foreign text: capped, without control characters, and never with a key in it.
fn kept(text: Option<&str>, most: usize) -> Cow<'_, str> {
    let text = text.unwrap_or_default();
    let plain = text.len() <= most && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let text = if plain {
        Cow::Borrowed(text)
    } else {
        let letters = text.chars().filter(|letter| !letter.is_control());
        Cow::Owned(letters.take(most).collect())
    };
    if text.contains(keywright_domain::api_keys::format::MARKER) {
        return Cow::Borrowed("(redacted)");
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

/// Uses that are counted together.
#[derive(Debug)]
struct Counted {
    kid: PackedKid,
    /// Since 1970.
    hour: i32,
    /// None where nothing is known of it.
    caller: Option<Box<CallerText>>,
    count: u32,
    last_at: i64,
}

impl Counted {
    fn is(&self, kid: PackedKid, hour: i32, caller: Option<&CallerRef<'_>>) -> bool {
        self.kid == kid
            && self.hour == hour
            && match (&self.caller, caller) {
                (None, None) => true,
                (Some(own), Some(other)) => other.is(own),
                _ => false,
            }
    }
}

/// By the hash of kid, hour and caller; those of one hash stand together.
#[derive(Debug, Default)]
struct Shard {
    by_hash: HashMap<u64, Vec<Counted>>,
    length: usize,
}

#[derive(Debug)]
pub(crate) struct UseRecorder {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    alerts: Mutex<HashMap<(AlertKind, String, String), PendingAlert>>,
    /// First uses that could not be written at once.
    first_uses: Mutex<HashMap<String, i64>>,
    dropped: AtomicU64,
}

impl Default for UseRecorder {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
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
        let hour = i32::try_from(at.div_euclid(HOUR_MS)).unwrap_or(i32::MAX);
        self.add(kid, hour, &CallerRef::of(caller, scope), 1, at);
    }

    fn add(&self, kid: PackedKid, hour: i32, caller: &CallerRef<'_>, count: u32, at: i64) {
        // A use says who and for what only where somebody says it: most of the time nothing is there.
        let caller = (!caller.is_silent()).then_some(caller);
        let hash = self.hasher.hash_one((kid, hour, caller));
        let mut shard = open(&self.shards[hash as usize % SHARDS]);
        let found = shard
            .by_hash
            .get_mut(&hash)
            .and_then(|all| all.iter_mut().find(|one| one.is(kid, hour, caller)));
        if let Some(counted) = found {
            counted.count = counted.count.saturating_add(count);
            counted.last_at = counted.last_at.max(at);
        } else if shard.length < CAPACITY / SHARDS {
            let caller = caller.map(|caller| Box::new(caller.to_text()));
            shard.length += 1;
            shard.by_hash.entry(hash).or_default().push(Counted {
                kid,
                hour,
                caller,
                count,
                last_at: at,
            });
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
        let mut waiting = open(&self.first_uses);
        if waiting.len() >= FIRST_USES && !waiting.contains_key(kid) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.entry(kid.to_owned()).or_insert(at);
    }

    pub(crate) fn take(&self) -> Waiting {
        let mut uses = Vec::new();
        for shard in &self.shards {
            let shard = std::mem::take(&mut *open(shard));
            for counted in shard.by_hash.into_values().flatten() {
                uses.push(Use {
                    kid: String::from_utf8_lossy(&counted.kid.text()).into_owned(),
                    hour: i64::from(counted.hour) * HOUR_MS,
                    caller: counted.caller.map(|caller| *caller).unwrap_or_default(),
                    count: i64::from(counted.count),
                    last_at: counted.last_at,
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
            let hour = i32::try_from(one.hour.div_euclid(HOUR_MS)).unwrap_or(i32::MAX);
            let count = u32::try_from(one.count).unwrap_or(u32::MAX);
            let caller = CallerRef::of_text(&one.caller);
            self.add(kid, hour, &caller, count, one.last_at);
        }
        let mut alerts = open(&self.alerts);
        for alert in waiting.alerts {
            let key = (alert.kind, alert.kid.clone(), alert.caller.clone());
            let is_full = alerts.len() >= ALERTS;
            match alerts.get_mut(&key) {
                Some(newer) => {
                    newer.count += alert.count;
                    newer.first_at = newer.first_at.min(alert.first_at);
                }
                None if is_full => {
                    let lost = u64::try_from(alert.count).unwrap_or(0);
                    self.dropped.fetch_add(lost, Ordering::Relaxed);
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
            waiting: self.shards.iter().map(|shard| open(shard).length).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kid(text: &str) -> PackedKid {
        PackedKid::parse(text).unwrap()
    }

    #[test]
    fn networks_read_as_the_rule_has_them() {
        for text in [
            "127.0.0.1",
            "10.20.255.3",
            "1.2.3.4",
            "::ffff:192.0.2.7",
            "2001:db8:1:2::5",
            "::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            let network = NetworkText::of(Some(address));
            assert_eq!(network.as_str(), network_of(address), "{text}");
        }
        assert_eq!(NetworkText::of(None).as_str(), "");
    }

    #[test]
    fn foreign_text_is_capped_and_plain_text_is_not_copied() {
        assert!(matches!(
            kept(Some("GET /orders"), 64),
            Cow::Borrowed("GET /orders")
        ));
        assert_eq!(kept(Some("a\u{7}b\n"), 64), "ab");
        assert_eq!(kept(Some(&"ü".repeat(70)), 64), "ü".repeat(64));
        assert_eq!(kept(Some("xKYWRT1y"), 64), "(redacted)");
        // Cut first: half a marker is none.
        assert_eq!(kept(Some("abKYWRT1"), 4), "abKY");
    }

    #[test]
    fn uses_are_told_apart_by_secret_hour_and_caller_and_counted_together_otherwise() {
        let uses = UseRecorder::default();
        let (one, other) = (kid("AAAAAAAAAAAA"), kid("AAAAAAAAAAAB"));
        let from = |address: &str, agent| Caller {
            address: Some(address.parse().unwrap()),
            agent,
            ..Caller::default()
        };
        let here = from("192.0.2.1", Some("curl/8 (x)"));
        uses.record(one, &here, "keys:read", 5);
        uses.record(one, &from("192.0.2.200", Some("curl/8")), "keys:read", 4);
        uses.record(one, &here, "keys:write", 6);
        uses.record(one, &from("192.0.3.1", Some("curl/8")), "keys:read", 6);
        uses.record(one, &here, "keys:read", 5 + HOUR_MS);
        uses.record(other, &here, "keys:read", 5);
        uses.record(other, &Caller::default(), "", 7);
        uses.record(other, &Caller::default(), "", 8);
        assert_eq!(uses.statistics().waiting, 6);
        let taken = uses.take();
        let counts: Vec<_> = taken
            .uses
            .iter()
            .map(|one| (one.count, one.last_at))
            .collect();
        assert_eq!(
            counts,
            [(2, 5), (1, 6), (1, 6), (1, 5 + HOUR_MS), (2, 8), (1, 5)]
        );
        assert_eq!(taken.uses[0].caller.network, "192.0.2.0/24");
        assert_eq!(taken.uses[0].caller.agent, "curl/8");
        assert_eq!(uses.statistics().waiting, 0);
        // What is given back is what was taken, and counts on.
        uses.record(one, &here, "keys:read", 9);
        uses.give_back(taken.clone());
        let again = uses.take();
        assert_eq!(again.uses.len(), taken.uses.len());
        assert_eq!((again.uses[0].count, again.uses[0].last_at), (3, 9));
        assert_eq!(again.uses[1..], taken.uses[1..]);
    }

    #[test]
    fn what_is_given_back_finds_no_more_room_than_what_comes() {
        let uses = UseRecorder::default();
        let alert = |number: usize| PendingAlert {
            kind: AlertKind::CanaryUsed,
            key_id: "key".to_owned(),
            kid: number.to_string(),
            caller: String::new(),
            count: 2,
            first_at: 1,
            last_at: 1,
        };
        let waiting = Waiting {
            uses: Vec::new(),
            alerts: (0..ALERTS + 3).map(alert).collect(),
            first_uses: (0..FIRST_USES + 4)
                .map(|one| (one.to_string(), 1))
                .collect(),
        };
        uses.give_back(waiting);
        assert_eq!(uses.statistics().dropped, 3 * 2 + 4);
        // What waits already goes on being counted.
        let again = Waiting {
            alerts: vec![alert(0)],
            first_uses: vec![("0".to_owned(), 1)],
            ..Waiting::default()
        };
        uses.give_back(again);
        let taken = uses.take();
        assert_eq!(uses.statistics().dropped, 3 * 2 + 4);
        assert_eq!(taken.alerts.len(), ALERTS);
        assert_eq!(taken.first_uses.len(), FIRST_USES);
    }
}
