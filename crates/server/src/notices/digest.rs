//! One mail for all that is due for the same address at the same look. It grows in the outbox with each part of the
//! look, in the transaction that writes down that the part was told, and is sent when the look is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keywright_registry::RegistryError;
use keywright_registry::outbox::{Digest, MadeOf, NewMessage};

use super::{people, words};
use crate::server::App;
use crate::webhooks::events::Event;

/// What a mail names, the nearest first; the rest is counted.
const MOST_NAMED: usize = 20;
/// Addresses whose mails are open at once. Beyond that all of them go, and what comes later has mails of its own.
const MOST_OPEN: usize = 50_000;
/// The type of a mail that tells of several kinds of things.
const MIXED: &str = "notices";

/// One thing that a mail tells of.
#[derive(Clone, Debug)]
pub(super) struct Part {
    event_id: String,
    /// By what name it is counted and told.
    kind: &'static str,
    due_at: i64,
    line: String,
    /// What a mail says that tells of nothing else.
    alone: words::Mail,
    /// Nothing but the mail says that it was told.
    is_once: bool,
}

impl Part {
    /// `due_at` (Unix ms): the nearest come first. `line`: what is said of it among others.
    pub(super) fn new(app: &App, event: &Event, due_at: i64, line: String) -> Self {
        Self {
            event_id: event.id.clone(),
            kind: words::name_of(event),
            due_at,
            line: words::line(&line, 300),
            alone: words::of_event(app, event),
            is_once: false,
        }
    }

    /// Of something that no row remembers to have been told: the mail remembers it.
    pub(super) fn once(self) -> Self {
        Self {
            is_once: true,
            ..self
        }
    }
}

/// The parts of mails, by address.
pub(super) type Parts = BTreeMap<String, Vec<Part>>;

/// What is known of a mail that grows: not all of it, however long that is.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    message_id: String,
    event_id: String,
    /// How many there are of each kind.
    counts: BTreeMap<&'static str, u64>,
    nearest: BTreeSet<(i64, String)>,
}

impl Gathered {
    fn add(&mut self, parts: &[Part]) {
        for part in parts {
            if self.event_id.is_empty() {
                self.event_id.clone_from(&part.event_id);
            }
            *self.counts.entry(part.kind).or_default() += 1;
            // With its event, so that two keys of one name are two.
            let line = format!("{}\0{}", part.line, part.event_id);
            self.nearest.insert((part.due_at, line));
            if self.nearest.len() > MOST_NAMED {
                self.nearest.pop_last();
            }
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many there are of each kind, in a stable order.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    /// The nearest, each a line.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.nearest
            .iter()
            .map(|(_, line)| line.split('\0').next().unwrap_or_default())
    }

    /// The message; `parts` are the last that were added.
    fn message(&self, app: &App, address: &str, parts: &[Part]) -> NewMessage {
        let mut kinds = self.counts.keys();
        let kind = match (kinds.next(), kinds.next()) {
            (Some(&words::EXPIRED), None) => words::EXPIRING,
            (Some(kind), None) => kind,
            _ => MIXED,
        };
        match parts {
            [part] if self.total() == 1 => {
                people::mail_to(app, &self.event_id, kind, address.to_owned(), &part.alone)
            }
            _ => {
                let mail = words::of_digest(app, self);
                people::mail_to(app, &self.event_id, kind, address.to_owned(), &mail)
            }
        }
    }
}

/// The mails that grow during one look.
#[derive(Debug, Default)]
pub(super) struct Digests {
    open: HashMap<String, Gathered>,
}

impl Digests {
    /// Writes down what a part of the look tells. Returns false, and adds nothing, if another node was faster.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub(super) async fn enqueue(
        &mut self,
        app: &App,
        made_of: MadeOf,
        messages: Vec<NewMessage>,
        parts: Parts,
    ) -> Result<bool, RegistryError> {
        let mut digests = Vec::with_capacity(parts.len());
        let mut states = Vec::with_capacity(parts.len());
        for (address, parts) in parts {
            let mut fresh = Gathered::default();
            fresh.add(&parts);
            let grown = self.open.get(&address).map(|before| {
                let mut all = before.clone();
                all.add(&parts);
                all
            });
            let message = |all: &Gathered| {
                let message = all.message(app, &address, &parts);
                (all.message_id.clone(), message)
            };
            let once = parts.iter().filter(|part| part.is_once);
            digests.push(Digest {
                grown: grown.as_ref().map(message),
                fresh: fresh.message(app, &address, &parts),
                once: once.map(|part| part.event_id.clone()).collect(),
            });
            states.push((address, grown, fresh));
        }
        let became = app.registry.enqueue_parts(made_of, messages, digests);
        let Some(became) = became.await? else {
            return Ok(false);
        };
        for ((address, grown, fresh), became) in states.into_iter().zip(became) {
            let mut gathered = match grown {
                Some(grown) if !became.is_fresh => grown,
                _ => fresh,
            };
            // Too many wait for this address: the next part tries anew.
            if became.id.is_empty() {
                self.open.remove(&address);
                continue;
            }
            gathered.message_id = became.id;
            self.open.insert(address, gathered);
        }
        if self.open.len() > MOST_OPEN {
            self.let_go(app).await?;
        }
        Ok(true)
    }

    /// The look is over: the mails go.
    ///
    /// # Errors
    /// [`RegistryError`]: then they go ten minutes later.
    pub(super) async fn let_go(&mut self, app: &App) -> Result<(), RegistryError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let open = std::mem::take(&mut self.open);
        let ids: Vec<_> = open.into_values().map(|one| one.message_id).collect();
        app.registry.let_go(&ids).await?;
        app.notices.wake();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
