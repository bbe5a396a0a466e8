//! Uses of secrets, counted in memory and written every 800 ms: an accepted verification writes
//! nothing, except the first use of a secret, which is written at once.
//!
//! Every use counts for the secret and, by the hour, for who made it: network, agent, route, client
//! label. The room is bounded; what finds no place is dropped, counted and shown. So is the number of
//! callers of one secret in one hour: agents, labels and paths are whatever a key's holder writes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashTable;
use keywright_domain::api_keys::network_of;
use keywright_index::PackedKid;
use smallvec::SmallVec;

use crate::flush::Room;

/// At most this many combinations of secret, hour and caller wait for the next flush.
const CAPACITY: usize = 200_000;
/// At most this many alerts wait.
const ALERTS: usize = 10_000;
/// First uses that wait, at most.
pub(crate) const FIRST_USES: usize = 10_000;
/// So many callers of one secret are told apart in one hour. Further ones are one: [`OTHER_CALLERS`].
pub(crate) const CALLERS: usize = 256;
/// What was required of those is told apart so many times; it is foreign text too.
pub(crate) const OTHER_REQUIREMENTS: usize = 16;
/// So many callers of one ended secret are told apart by alerts.
pub(crate) const ALERT_CALLERS: usize = 64;
/// What callers beyond these bounds are called, as client label or as an alert's caller. Nobody can
/// call himself so.
pub const OTHER_CALLERS: &str = "(other callers)";
/// What is told of their further requirements. It is none, so whoever judges by it knows nothing.
pub(crate) const OTHER_SCOPES: &str = "(other scopes)";
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, sqlx::FromRow)]
pub(crate) struct CallerText {
    pub(crate) client_label: String,
    pub(crate) network: String,
    pub(crate) agent: String,
    pub(crate) route: String,
    pub(crate) scope: String,
    pub(crate) origin: String,
}

impl CallerText {
    /// Whoever came after the bound was reached.
    pub(crate) fn others(scope: &str) -> Self {
        Self {
            client_label: OTHER_CALLERS.to_owned(),
            scope: scope.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn is_others(&self) -> bool {
        self.client_label == OTHER_CALLERS
    }

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

/// The same where it stands: most uses are like one that is counted already, and need no copies. No part has a
/// control character in it.
#[derive(Debug)]
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

    fn others(scope: &'a str) -> Self {
        Self {
            client_label: Cow::Borrowed(OTHER_CALLERS),
            network: NetworkText::of_text(""),
            agent: Cow::Borrowed(""),
            route: Cow::Borrowed(""),
            scope: Cow::Borrowed(scope),
            origin: Cow::Borrowed(""),
        }
    }

    fn is_others(&self) -> bool {
        self.client_label == OTHER_CALLERS
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

    /// The parts, in the order of [`Joined`].
    fn parts(&self) -> [&str; 6] {
        [
            &self.client_label,
            self.network.as_str(),
            &self.agent,
            &self.route,
            &self.scope,
            &self.origin,
        ]
    }

    /// In one piece, to be looked for with one hash and one comparison.
    fn joined(&self) -> SmallVec<[u8; 256]> {
        let mut joined = SmallVec::new();
        for (at, part) in self.parts().into_iter().enumerate() {
            if at > 0 {
                joined.extend_from_slice(BETWEEN);
            }
            joined.extend_from_slice(part.as_bytes());
        }
        joined
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

/// Stands between the parts of a joined caller, which have no such character.
const BETWEEN_TEXT: &str = "\n";
const BETWEEN: &[u8] = BETWEEN_TEXT.as_bytes();

/// A caller in one piece of memory: who is counted already is compared for every use, and six texts would be six
/// places that are in no cache.
#[derive(Debug)]
struct Joined(Box<str>);

impl Joined {
    /// Of [`CallerRef::joined`].
    fn of(joined: &[u8]) -> Self {
        Self(String::from_utf8_lossy(joined).into())
    }

    fn to_text(&self) -> CallerText {
        let mut parts = self.0.split(BETWEEN_TEXT).map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        CallerText {
            client_label: next(),
            network: next(),
            agent: next(),
            route: next(),
            scope: next(),
            origin: next(),
        }
    }
}

/// What [`network_of`] says, without a place of its own in memory. IPv6 takes at most 43 characters.
#[derive(Clone, Copy, Debug)]
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
    if text.contains(keywright_domain::api_keys::format::MARKER) || text == OTHER_CALLERS {
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
    /// Alerts that found no place, since the registry was opened.
    pub alerts_dropped: u64,
    /// Alerts that wait for the next flush.
    pub alerts_waiting: usize,
    /// First uses that could not be written at once and wait for the next flush. One that finds no place
    /// is tried again with the next use of its secret.
    pub first_uses_waiting: usize,
}

/// Uses that are counted together.
#[derive(Debug)]
struct Counted {
    kid: PackedKid,
    /// Since 1970.
    hour: i32,
    /// None where nothing is known of it.
    caller: Option<Joined>,
    count: u32,
    /// Of kid, hour and caller.
    hash: u64,
    last_at: i64,
}

impl Counted {
    fn is(&self, kid: PackedKid, hour: i32, joined: Option<&[u8]>) -> bool {
        let own = self.caller.as_ref().map(|own| own.0.as_bytes());
        self.kid == kid && self.hour == hour && own == joined
    }
}

/// Uses of some secrets.
#[derive(Debug, Default)]
struct Shard {
    /// By the hash of kid, hour and caller.
    counted: HashTable<Counted>,
    /// How many callers of a secret and hour are here, by the hash of these two.
    callers: HashMap<u64, Told>,
}

/// Who is told apart.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    callers: usize,
    other_requirements: usize,
}

impl Told {
    /// Under which name a new caller is counted, if not under its own.
    fn instead<'a>(self, caller: &'a CallerRef<'_>) -> Option<CallerRef<'a>> {
        if !caller.is_others() {
            return (self.callers >= CALLERS).then(|| CallerRef::others(&caller.scope));
        }
        let is_full = self.other_requirements >= OTHER_REQUIREMENTS;
        (is_full && caller.scope != OTHER_SCOPES).then(|| CallerRef::others(OTHER_SCOPES))
    }

    fn count(&mut self, caller: &CallerRef<'_>) {
        if caller.is_others() {
            self.other_requirements += 1;
        } else {
            self.callers += 1;
        }
    }
}

/// Alerts by kind and secret, then by who caused them.
#[derive(Debug, Default)]
struct Alerts {
    by_secret: HashMap<(AlertKind, String), HashMap<String, PendingAlert>>,
    length: usize,
}

impl Alerts {
    /// Counts an alert with the one that is there, or takes it in. Returns whether it found a place.
    fn add(&mut self, mut alert: PendingAlert) -> bool {
        let of_secret = match self.by_secret.entry((alert.kind, alert.kid.clone())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if self.length >= ALERTS => return false,
            Entry::Vacant(place) => place.insert(HashMap::new()),
        };
        if !of_secret.contains_key(&alert.caller) && of_secret.len() >= ALERT_CALLERS {
            OTHER_CALLERS.clone_into(&mut alert.caller);
        }
        // First of all those that are there: a full queue forgets none of them.
        if let Some(known) = of_secret.get_mut(&alert.caller) {
            known.count = known.count.saturating_add(alert.count);
            known.first_at = known.first_at.min(alert.first_at);
            known.last_at = known.last_at.max(alert.last_at);
            return true;
        }
        if self.length >= ALERTS {
            return false;
        }
        self.length += 1;
        of_secret.insert(alert.caller.clone(), alert);
        true
    }
}

#[derive(Debug)]
pub(crate) struct UseRecorder {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    alerts: Mutex<Alerts>,
    /// First uses that could not be written at once: one for a secret at most.
    first_uses: Mutex<HashMap<String, i64>>,
    dropped: AtomicU64,
    alerts_dropped: AtomicU64,
    /// Drops that were written to the log.
    told: AtomicU64,
    /// What may be written without asking the database how much it has.
    pub(crate) room: Arc<Room>,
}

impl Default for UseRecorder {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            alerts: Mutex::default(),
            first_uses: Mutex::default(),
            dropped: AtomicU64::new(0),
            alerts_dropped: AtomicU64::new(0),
            told: AtomicU64::new(0),
            room: Arc::default(),
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
        // All callers of a secret and hour are in one shard, so that they can be counted.
        let mut hasher = self.hasher.build_hasher();
        (kid, hour).hash(&mut hasher);
        let group = hasher.finish();
        let joined = caller.map(CallerRef::joined);
        if let Some(joined) = &joined {
            hasher.write(joined);
        }
        let hash = hasher.finish();
        let mut shard = open(&self.shards[group as usize % SHARDS]);
        let same = |one: &Counted| one.is(kid, hour, joined.as_deref());
        if let Some(counted) = shard.counted.find_mut(hash, same) {
            counted.count = counted.count.saturating_add(count);
            counted.last_at = counted.last_at.max(at);
            return;
        }
        let told = shard.callers.get(&group).copied().unwrap_or_default();
        if let Some(other) = caller.and_then(|caller| told.instead(caller)) {
            drop(shard);
            self.add(kid, hour, &other, count, at);
            return;
        }
        if shard.counted.len() >= CAPACITY / SHARDS {
            self.dropped.fetch_add(u64::from(count), Ordering::Relaxed);
            return;
        }
        if let Some(caller) = caller {
            shard.callers.entry(group).or_default().count(caller);
        }
        let counted = Counted {
            kid,
            hour,
            caller: joined.as_deref().map(Joined::of),
            count,
            hash,
            last_at: at,
        };
        shard.counted.insert_unique(hash, counted, |one| one.hash);
    }

    pub(crate) fn alert(
        &self,
        kind: AlertKind,
        key_id: &str,
        kid: &str,
        caller: &Caller<'_>,
        at: i64,
    ) {
        let alert = PendingAlert {
            kind,
            key_id: key_id.to_owned(),
            kid: kid.to_owned(),
            caller: CallerText::of(caller, "").line(),
            count: 1,
            first_at: at,
            last_at: at,
        };
        self.add_alert(&mut open(&self.alerts), alert);
    }

    fn add_alert(&self, alerts: &mut Alerts, alert: PendingAlert) {
        let count = u64::try_from(alert.count).unwrap_or(1);
        if !alerts.add(alert) {
            self.alerts_dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// A first use that could not be written: the next flush tries again. Returns false if it found no
    /// place: then the secret's next use must be its first.
    #[must_use]
    pub(crate) fn first_use_waits(&self, kid: &str, at: i64) -> bool {
        let mut waiting = open(&self.first_uses);
        if waiting.len() >= FIRST_USES && !waiting.contains_key(kid) {
            return false;
        }
        waiting.entry(kid.to_owned()).or_insert(at);
        true
    }

    pub(crate) fn take(&self) -> Waiting {
        let mut uses = Vec::new();
        for shard in &self.shards {
            let shard = std::mem::take(&mut *open(shard));
            for counted in shard.counted {
                uses.push(Use {
                    kid: String::from_utf8_lossy(&counted.kid.text()).into_owned(),
                    hour: i64::from(counted.hour) * HOUR_MS,
                    caller: counted
                        .caller
                        .as_ref()
                        .map(Joined::to_text)
                        .unwrap_or_default(),
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
            .by_secret
            .into_values()
            .flat_map(HashMap::into_values)
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

    /// Puts back what certainly was not written. Returns the kids whose first use found no place, as
    /// [`Self::first_use_waits`] does.
    #[must_use]
    pub(crate) fn give_back(&self, waiting: Waiting) -> Vec<String> {
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
            self.add_alert(&mut alerts, alert);
        }
        drop(alerts);
        let first_uses = waiting.first_uses.into_iter();
        first_uses
            .filter(|(kid, at)| !self.first_use_waits(kid, *at))
            .map(|(kid, _)| kid)
            .collect()
    }

    /// Uses that may or may not have been written are not written again: counts are never too high.
    /// A first use written twice is one, and an alert is better told twice than never.
    #[must_use]
    pub(crate) fn give_up(&self, waiting: Waiting) -> Vec<String> {
        let lost: i64 = waiting.uses.iter().map(|one| one.count).sum();
        self.dropped
            .fetch_add(u64::try_from(lost).unwrap_or(0), Ordering::Relaxed);
        self.give_back(Waiting {
            uses: Vec::new(),
            ..waiting
        })
    }

    pub(crate) fn statistics(&self) -> UseStatistics {
        UseStatistics {
            dropped: self.dropped.load(Ordering::Relaxed),
            waiting: self
                .shards
                .iter()
                .map(|shard| open(shard).counted.len())
                .sum(),
            alerts_dropped: self.alerts_dropped.load(Ordering::Relaxed),
            alerts_waiting: open(&self.alerts).length,
            first_uses_waiting: open(&self.first_uses).len(),
        }
    }

    /// Uses and alerts that were dropped since this was last asked.
    pub(crate) fn newly_dropped(&self) -> u64 {
        let all =
            self.dropped.load(Ordering::Relaxed) + self.alerts_dropped.load(Ordering::Relaxed);
        all.saturating_sub(self.told.swap(all, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
