//! The one writer: use cases are queued, carried out together in one transaction, and answered
//! after its COMMIT. One row in `heads` is locked first, so that several processes or nodes over
//! one database write one after another and every number is given in the order of commits.
//!
//! A use case decides before it writes: an error without a write leaves the others of its group
//! alone. If a write or the commit fails, the group is rolled back and each runs again by itself,
//! unless the database cannot be written to at all: then all are told at once.
//!
//! Whoever drops the future of a write before its turn takes it back; once it is its turn it is carried out. What is to
//! be known though whoever caused it has gone is [`LocalRegistry::write_anyway`]'s.

mod ahead;
mod kept;
mod refreshes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Instant;

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{ApiKey, Environment, Policy, Rotation, Secret};
use keywright_domain::audit::Actor;
use keywright_domain::audit_chain::EventHash;
use sqlx::AnyConnection;
use tokio::sync::{mpsc, oneshot};

use self::ahead::Ahead;
pub(crate) use self::ahead::Wants;
pub(crate) use self::kept::Kept;
pub(crate) use self::refreshes::Rotated;
use crate::conditions::Conditions;
use crate::nodes::wakes::Wake;
use crate::principals::Principal;
use crate::store::api_keys::Extent;
use crate::store::audit::NewEvent;
use crate::store::heads::{self, Head};
use crate::store::images::Image;
use crate::store::secrets::SecretInsert;
use crate::{LocalRegistry, RegistryError, Shared, freshness, store};

/// At most this many use cases share one commit.
const GROUP: usize = 64;
/// So many of them are carried out, or answered, before requests that wait beside them have their turn.
const TURN: usize = 8;
/// At most this many wait; more wait for a place.
const QUEUE: usize = 1024;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a use case sees of the transaction.
pub(crate) struct Unit {
    connection: AnyConnection,
    head: Head,
    now: i64,
    wrote: bool,
    /// Whether rows may have been written that [`crate::remembered`] holds.
    through: bool,
    events: Vec<(Actor, NewEvent)>,
    changes: Vec<(i64, Subject)>,
    rows: Rows,
    known: Known,
    ahead: Ahead,
    /// Refresh tokens that wait to be written as rotated.
    rotated: Vec<Rotated>,
    tokens_ahead: refreshes::ReadAhead,
    shared: Arc<Shared>,
    /// Keys that are new, as the index will hold them.
    images: Vec<Image>,
    /// Id of what the use case that runs has made, for whoever asks again.
    made: String,
    /// Whether the use case that runs knows that rows wait.
    grouped: bool,
    /// Whether other nodes hear of it.
    is_shared: bool,
    /// Whether the connection was made for this transaction.
    is_new_connection: bool,
}

/// Rows that wait to be written with those of the rest of the group: many in one statement.
#[derive(Default)]
struct Rows {
    keys: Vec<(ApiKey, Extent)>,
    inserts: Vec<SecretInsert>,
    states: Vec<Secret>,
    rotations: Vec<Rotation>,
}

/// What use cases of a group all ask for. Forgotten when one ran that may have changed it.
#[derive(Default)]
struct Known {
    catalogue: Option<Arc<[KnownScope]>>,
    policies: HashMap<Environment, Option<Policy>>,
    principals: HashMap<String, Option<Principal>>,
}

/// What a change of the ordered log is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    ApiKey(String),
    Principal(String),
}

impl Unit {
    /// The moment of this transaction, Unix ms.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// For reading.
    pub(crate) fn read(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }

    /// For writing. Decide first: after this, an error undoes the whole group once.
    pub(crate) fn write(&mut self) -> &mut AnyConnection {
        self.through = true;
        self.write_beside()
    }

    /// The same for what writes no client, secret of a client, user, principal, role, session or
    /// client of a session: [`crate::remembered`] goes on. When in doubt, it is not this.
    pub(crate) fn write_beside(&mut self) -> &mut AnyConnection {
        self.wrote = true;
        // What was read before may not be so any more.
        self.ahead = Ahead::default();
        self.tokens_ahead = refreshes::ReadAhead::default();
        &mut self.connection
    }

    /// Writes down that something was used, beside all that is remembered and was read ahead. False if it was used
    /// before: then nothing is written.
    pub(crate) async fn use_once(
        &mut self,
        name: &str,
        times: store::nodes::UseTimes,
    ) -> Result<bool, RegistryError> {
        let is_first = store::nodes::use_once(&mut self.connection, name, times).await?;
        self.wrote |= is_first;
        Ok(is_first)
    }

    /// The catalogue of scopes.
    pub(crate) async fn catalogue(&mut self) -> Result<Arc<[KnownScope]>, RegistryError> {
        if let Some(catalogue) = &self.known.catalogue {
            return Ok(Arc::clone(catalogue));
        }
        let catalogue: Arc<[KnownScope]> = store::scopes::list(&mut self.connection).await?.into();
        self.known.catalogue = Some(Arc::clone(&catalogue));
        Ok(catalogue)
    }

    /// The stored policy of an environment, its own or the one for all.
    pub(crate) async fn policy(
        &mut self,
        environment: &Environment,
    ) -> Result<Option<Policy>, RegistryError> {
        if let Some(policy) = self.known.policies.get(environment) {
            return Ok(policy.clone());
        }
        let policy = store::policies::find(&mut self.connection, environment).await?;
        self.known
            .policies
            .insert(environment.clone(), policy.clone());
        Ok(policy)
    }

    /// A principal.
    pub(crate) async fn principal(&mut self, id: &str) -> Result<Option<Principal>, RegistryError> {
        if let Some(principal) = self.known.principals.get(id) {
            return Ok(principal.clone());
        }
        let principal = store::principals::find(&mut self.connection, id).await?;
        self.known
            .principals
            .insert(id.to_owned(), principal.clone());
        Ok(principal)
    }

    /// Writes a key, a new secret of it, changed ones and a rotation: at once, or with those of the
    /// group where the use case knows that they wait.
    pub(crate) async fn put(
        &mut self,
        key: &ApiKey,
        extent: Extent,
        insert: Option<SecretInsert>,
        states: Vec<Secret>,
        rotations: Vec<Rotation>,
    ) -> Result<(), RegistryError> {
        self.wrote = true;
        if let (Some(insert), [_]) = (&insert, &*key.secrets) {
            self.images.push(Image::of_new(key, insert));
        }
        let rows = Rows {
            keys: vec![(key.clone(), extent)],
            inserts: insert.into_iter().collect(),
            states,
            rotations,
        };
        self.ahead.forget(&rows);
        self.rows.keys.extend(rows.keys);
        self.rows.inserts.extend(rows.inserts);
        self.rows.states.extend(rows.states);
        self.rows.rotations.extend(rows.rotations);
        if self.grouped {
            Ok(())
        } else {
            self.flush().await
        }
    }

    /// Whether something of a key, or a rotation of this id, waits to be written.
    pub(crate) async fn settle(
        &mut self,
        key_id: &str,
        rotation_id: &str,
    ) -> Result<(), RegistryError> {
        let waits = self.rows.keys.iter().any(|(key, _)| key.id == key_id)
            || self
                .rows
                .rotations
                .iter()
                .any(|rotation| rotation.id == rotation_id);
        if waits { self.flush().await } else { Ok(()) }
    }

    /// Writes the rows that wait: first what others refer to.
    async fn flush(&mut self) -> Result<(), RegistryError> {
        let rows = std::mem::take(&mut self.rows);
        store::api_keys::put_all(&mut self.connection, &rows.keys, self.now).await?;
        store::secrets::insert_all(&mut self.connection, &rows.inserts).await?;
        store::secrets::update_states(&mut self.connection, &rows.states).await?;
        store::rotations::put_all(&mut self.connection, &rows.rotations).await?;
        self.flush_rotated().await
    }

    /// What is remembered, and is so in this transaction: nobody else can write, and nothing of the
    /// group was written that it may hold.
    fn remembered<V>(&self, read: impl Fn(&crate::remembered::Rows) -> Option<V>) -> Option<V> {
        if self.through {
            return None;
        }
        self.shared.remembered.get_now(&self.shared, read)
    }

    /// For what touches every row: PostgreSQL ends no statement of this transaction for its length.
    pub(crate) async fn take_time(&mut self) -> Result<(), RegistryError> {
        if self.is_shared {
            store::postgres::take_time(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Adds an event; it is chained and written with the commit.
    pub(crate) fn audit(&mut self, actor: &Actor, mut event: NewEvent) {
        // Unless the event says it itself (AC-184).
        if let Some(address) = actor.network()
            && !event.details.iter().any(|(name, _)| *name == "network")
        {
            event.details.push(("network", address.to_string()));
        }
        self.events.push((actor.clone(), event));
    }

    /// Refuses what the use case wrote where an event of it, which tells all of it, has a text that PostgreSQL cannot
    /// hold: what is good on one database is good on the other.
    fn check_texts(&self, first: usize) -> Result<(), RegistryError> {
        let mut events = self.events.iter().skip(first);
        if events.any(|(actor, event)| actor.as_str().contains('\0') || event.holds_nul()) {
            return Err(RegistryError::Character);
        }
        Ok(())
    }

    /// Writes down that verifications must not miss this change. Returns the epoch for its row.
    pub(crate) fn change(&mut self, subject: Subject) -> i64 {
        self.head.change_version += 1;
        self.changes.push((self.head.change_version, subject));
        self.head.change_version
    }

    /// Says what the use case made: the same request is answered with it
    /// ([`RegistryError::DoneBefore`]).
    pub(crate) fn made(&mut self, id: &str) {
        id.clone_into(&mut self.made);
    }

    pub(crate) fn take_made(&mut self) -> String {
        std::mem::take(&mut self.made)
    }

    pub(crate) fn forget_made(&mut self) {
        self.made.clear();
    }

    /// What use cases of this transaction changed so far: the log does not have it yet.
    pub(crate) fn changed_here(&self) -> Vec<Subject> {
        let subjects = self.changes.iter().map(|(_, subject)| subject.clone());
        subjects.collect()
    }

    /// Leaves out version numbers. After a copy was put back, others may know newer ones than the
    /// copy does; from here on every number is newer than theirs.
    pub(crate) fn skip_versions(&mut self, step: i64) {
        self.head.change_version += step;
    }

    /// Whether older versions left events without a chain.
    pub(crate) fn is_unchained(&self) -> bool {
        self.head.audit_hash.is_empty()
    }

    /// The last event that is committed, and its hash. Events of this transaction come after it.
    pub(crate) fn audit_head(&self) -> Result<(i64, EventHash), RegistryError> {
        Ok((
            self.head.audit_sequence,
            store::audit::event_hash(&self.head.audit_hash)?,
        ))
    }

    /// Sets where the chain stands after older events were chained.
    pub(crate) fn begin_chain(&mut self, sequence: i64, hash: Vec<u8>) {
        self.head.audit_sequence = sequence;
        self.head.audit_hash = hash;
    }

    async fn begin(shared: &Arc<Shared>, kept: &mut Kept) -> Result<Self, RegistryError> {
        let begun = shared.pool.while_reachable(kept.begin(shared)).await??;
        shared.remembered.begun(shared);
        Ok(Self {
            connection: begun.connection,
            head: begun.head,
            is_new_connection: begun.is_new,
            now: shared.clock.now(),
            wrote: false,
            through: false,
            events: Vec::new(),
            changes: Vec::new(),
            rows: Rows::default(),
            known: Known::default(),
            ahead: Ahead::default(),
            rotated: Vec::new(),
            tokens_ahead: refreshes::ReadAhead::default(),
            shared: Arc::clone(shared),
            images: Vec::new(),
            made: String::new(),
            grouped: false,
            is_shared: shared.kind == store::Kind::Postgres,
        })
    }

    /// Takes everything back.
    async fn undo(self, kept: &mut Kept, error: RegistryError) -> Fate {
        kept.roll_back(self.connection).await;
        Fate::Undone(error)
    }

    /// Writes events and changes of the whole group, and commits. Returns the connection if there
    /// was anything to write, with the keys that are new.
    async fn commit(
        mut self,
        shared: &Shared,
        kept: &mut Kept,
    ) -> Result<Option<(AnyConnection, Vec<Image>)>, Fate> {
        if self.events.is_empty() && self.changes.is_empty() && !self.wrote {
            kept.roll_back(self.connection).await;
            return Ok(None);
        }
        let flush = async {
            self.flush().await?;
            let before = self.head.audit_sequence;
            store::audit::insert_all(&mut self.connection, &mut self.head, self.now, &self.events)
                .await?;
            for ((_, event), sequence) in self.events.iter().zip(before + 1..) {
                if let Some(post) = crate::board::of_event(event, sequence, self.now) {
                    store::board::put_up(&mut self.connection, &post, self.now).await?;
                }
            }
            heads::insert_changes(&mut self.connection, self.now, &self.changes).await?;
            heads::update(&mut self.connection, &self.head).await?;
            // Last: from here to the end of the commit the database lets one of these through.
            let actions = self.events.iter().map(|(_, event)| event.action);
            match Wake::of(actions, self.head.change_version).filter(|_| self.is_shared) {
                Some(wake) => store::nodes::notify(&mut self.connection, &wake.payload()).await,
                None => Ok::<(), RegistryError>(()),
            }
        };
        let flushed = shared.pool.while_reachable(flush).await;
        if let Err(error) = flushed.and_then(|flushed| flushed) {
            return Err(self.undo(kept, error).await);
        }
        shared.remembered.before_commit(self.through);
        // A connection that fails here is not kept: what it would say next is not known either.
        let committed = shared
            .pool
            .while_reachable(store::commit(&mut self.connection));
        let unknown = |error: String| {
            shared.remembered.after_unknown();
            Fate::Unknown(RegistryError::CommitUnknown(error))
        };
        committed
            .await
            .map_err(|error| unknown(error.to_string()))?
            .map_err(|error| unknown(error.to_string()))?;
        shared.remembered.after_commit(shared);
        Ok(Some((self.connection, self.images)))
    }
}

/// How a failed group stands.
enum Fate {
    /// There was no transaction: the database cannot be written to, whatever was asked for.
    NotBegun(RegistryError),
    /// Nothing of it is in the database.
    Undone(RegistryError),
    /// COMMIT failed: it may be there. Running it again could do it twice.
    Unknown(RegistryError),
}

/// A use case with its input, and where its answer goes.
trait Job: Send {
    /// Whether it asks only through [`Unit`] for what may wait to be written.
    fn is_grouped(&self) -> bool;
    /// What it will ask for.
    fn wants(&self) -> &Wants;
    fn run<'a>(&'a mut self, unit: &'a mut Unit) -> BoxFuture<'a, Result<(), RegistryError>>;
    /// Whether nobody waits for the answer any more, and so it need not be done.
    fn is_abandoned(&self) -> bool;
    fn answer(self: Box<Self>, fate: Result<(), RegistryError>);
}

struct Call<A, T, F> {
    input: A,
    work: F,
    /// None for a use case that must not share its writes.
    wants: Option<Wants>,
    /// Whether it is carried out though nobody waits for its answer.
    anyway: bool,
    conditions: Option<Conditions>,
    output: Option<T>,
    reply: oneshot::Sender<Result<T, RegistryError>>,
}

impl<A, T, F> Job for Call<A, T, F>
where
    A: Send + Sync,
    T: Send,
    F: for<'a> Fn(&'a mut Unit, &'a A) -> BoxFuture<'a, Result<T, RegistryError>> + Send + Sync,
{
    fn is_grouped(&self) -> bool {
        self.wants.is_some()
    }

    fn wants(&self) -> &Wants {
        static NOTHING: Wants = Wants {
            principals: Vec::new(),
            rotation: None,
            refresh: None,
        };
        self.wants.as_ref().unwrap_or(&NOTHING)
    }

    fn run<'a>(&'a mut self, unit: &'a mut Unit) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            let Some(conditions) = &self.conditions else {
                self.output = Some((self.work)(unit, &self.input).await?);
                return Ok(());
            };
            conditions.before(unit).await?;
            let output = (self.work)(unit, &self.input).await?;
            conditions.after(unit).await?;
            self.output = Some(output);
            Ok(())
        })
    }

    fn is_abandoned(&self) -> bool {
        !self.anyway && self.reply.is_closed()
    }

    fn answer(self: Box<Self>, fate: Result<(), RegistryError>) {
        let Self { output, reply, .. } = *self;
        let answer = fate.and_then(|()| {
            output.ok_or_else(|| RegistryError::Store("a use case ended without an answer".into()))
        });
        // Whoever asked may have gone; what was done stands all the same.
        let _ = reply.send(answer);
    }
}

/// The queue's end that use cases are put into.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Box<dyn Job>>);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// The queue's other end, until the registry is open.
pub(crate) struct Queue(mpsc::Receiver<Box<dyn Job>>);

pub(crate) fn queue() -> (Writer, Queue) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Writer(sender), Queue(receiver))
}

impl LocalRegistry {
    /// Carries out one use case in the group's transaction and waits for its commit. `work` may run
    /// a second time, when the group it was in failed. Dropped before its turn came, it is not done.
    pub(crate) async fn write<A, T, F>(&self, input: A, work: F) -> Result<T, RegistryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Unit, &'a A) -> BoxFuture<'a, Result<T, RegistryError>>
            + Send
            + Sync
            + 'static,
    {
        self.queue(input, work, None, false).await
    }

    /// The same for what is to be known though whoever caused it has gone: an attempt, a refusal. Once it is queued it
    /// is carried out, so that hanging up hides nothing.
    pub(crate) async fn write_anyway<A, T, F>(&self, input: A, work: F) -> Result<T, RegistryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Unit, &'a A) -> BoxFuture<'a, Result<T, RegistryError>>
            + Send
            + Sync
            + 'static,
    {
        self.queue(input, work, None, true).await
    }

    /// The same for what many do at once: its rows are written with those of the whole group, in a
    /// few statements, and what it `wants` is read with what they want. `work` reads keys and
    /// rotations only through [`Unit`].
    pub(crate) async fn write_grouped<A, T, F>(
        &self,
        input: A,
        wants: Wants,
        work: F,
    ) -> Result<T, RegistryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Unit, &'a A) -> BoxFuture<'a, Result<T, RegistryError>>
            + Send
            + Sync
            + 'static,
    {
        self.queue(input, work, Some(wants), false).await
    }

    async fn queue<A, T, F>(
        &self,
        input: A,
        work: F,
        wants: Option<Wants>,
        anyway: bool,
    ) -> Result<T, RegistryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Unit, &'a A) -> BoxFuture<'a, Result<T, RegistryError>>
            + Send
            + Sync
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Call {
            input,
            work,
            wants,
            anyway,
            conditions: self.take_conditions()?,
            output: None,
            reply,
        });
        let closed = || RegistryError::Store("the registry is closed".into());
        self.shared.writer.0.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

/// Works until the registry is dropped or closed.
pub(crate) fn start(shared: &Arc<Shared>, mut queue: Queue) {
    let weak: Weak<Shared> = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut group = Vec::with_capacity(GROUP);
        while queue.0.recv_many(&mut group, GROUP).await > 0 {
            // The first of many who submit wakes this task before the others had their turn: a
            // commit for one, and another for the rest. They come first, if they are ready.
            tokio::task::yield_now().await;
            while group.len() < GROUP
                && let Ok(job) = queue.0.try_recv()
            {
                group.push(job);
            }
            // Each job's caller holds the registry, unless it gave up waiting.
            let Some(shared) = weak.upgrade() else { return };
            run_group(&shared, std::mem::take(&mut group)).await;
        }
    });
}

async fn run_group(shared: &Arc<Shared>, mut jobs: Vec<Box<dyn Job>>) {
    // Nobody but the one who closes it waits for this.
    let mut kept = shared.kept.lock().await;
    // Nobody waits, and nothing was begun: no transaction for it.
    jobs.retain(|job| !job.is_abandoned());
    if jobs.is_empty() {
        return;
    }
    match attempt(shared, &mut kept, &mut jobs).await {
        Ok(outcomes) => {
            for (at, (job, outcome)) in jobs.into_iter().zip(outcomes).enumerate() {
                let_others_come(at).await;
                job.answer(outcome);
            }
        }
        Err(Fate::Undone(error)) if is_worth_a_try(&error, jobs.len()) => {
            run_alone(shared, &mut kept, jobs).await;
        }
        Err(Fate::NotBegun(error)) if is_worth_a_try(&error, 1) => {
            run_alone(shared, &mut kept, jobs).await;
        }
        Err(Fate::NotBegun(error) | Fate::Undone(error) | Fate::Unknown(error)) => {
            for job in jobs {
                job.answer(Err(error.clone()));
            }
        }
    }
}

/// A group of many takes a few milliseconds of a core. Requests that have nothing to do with it come in between.
async fn let_others_come(at: usize) {
    if at > 0 && at.is_multiple_of(TURN) {
        tokio::task::yield_now().await;
    }
}

/// A connection may be lost in the middle: the database ends the transaction of a process that stood
/// still. Nothing of it was written, so whoever was alone has another try too.
fn is_worth_a_try(error: &RegistryError, jobs: usize) -> bool {
    match error {
        RegistryError::Silent => false,
        RegistryError::Store(_) => true,
        _ => jobs > 1,
    }
}

/// Each in a transaction of its own. A database that cannot be written to at all makes every one of
/// them wait for the same: the first that finds that out answers for the rest.
async fn run_alone(shared: &Arc<Shared>, kept: &mut Kept, jobs: Vec<Box<dyn Job>>) {
    let mut away = None;
    for job in jobs {
        if let Some(error) = &away {
            job.answer(Err(RegistryError::clone(error)));
            continue;
        }
        // It was undone, and nobody waits to hear of it: it was not done.
        if job.is_abandoned() {
            continue;
        }
        let mut alone = [job];
        let outcome = attempt(shared, kept, &mut alone).await;
        let [job] = alone;
        job.answer(match outcome {
            Ok(mut outcomes) => outcomes.pop().unwrap_or(Ok(())),
            Err(Fate::Undone(error) | Fate::Unknown(error)) => {
                away = Some(error.clone()).filter(|error| matches!(error, RegistryError::Silent));
                Err(error)
            }
            Err(Fate::NotBegun(error)) => {
                away = Some(error.clone());
                Err(error)
            }
        });
    }
}

/// Runs all jobs in one transaction and brings the index up to date with it. On `Err`, nothing can
/// be said about any of them.
async fn attempt(
    shared: &Arc<Shared>,
    kept: &mut Kept,
    jobs: &mut [Box<dyn Job>],
) -> Result<Vec<Result<(), RegistryError>>, Fate> {
    let mut unit = Unit::begin(shared, kept).await.map_err(Fate::NotBegun)?;
    let wants: Vec<&Wants> = jobs.iter().map(|job| job.wants()).collect();
    let ahead = shared.pool.while_reachable(unit.read_ahead(&wants)).await;
    if let Err(error) = ahead.and_then(|ahead| ahead) {
        return Err(unit.undo(kept, error).await);
    }
    let mut outcomes = Vec::with_capacity(jobs.len());
    for (at, job) in jobs.iter_mut().enumerate() {
        let_others_come(at).await;
        // The transaction may have waited for others' locks, and this one for those of its group before it.
        if job.is_abandoned() {
            outcomes.push(Ok(()));
            continue;
        }
        let before = (
            unit.events.len(),
            unit.changes.len(),
            unit.head.change_version,
        );
        let wrote = std::mem::replace(&mut unit.wrote, false);
        unit.grouped = job.is_grouped();
        if !unit.grouped {
            let flushed = shared.pool.while_reachable(unit.flush()).await;
            if let Err(error) = flushed.and_then(|flushed| flushed) {
                return Err(unit.undo(kept, error).await);
            }
        }
        let ran = shared.pool.while_reachable(job.run(&mut unit)).await;
        let outcome = ran.and_then(|outcome| outcome);
        let outcome = outcome.and_then(|()| unit.check_texts(before.0));
        if !unit.grouped {
            unit.known = Known::default();
            unit.ahead = Ahead::default();
            unit.tokens_ahead = refreshes::ReadAhead::default();
        }
        if let Err(error) = &outcome {
            if unit.wrote || error.is_of_the_database() {
                return Err(unit.undo(kept, error.clone()).await);
            }
            unit.events.truncate(before.0);
            unit.changes.truncate(before.1);
            unit.head.change_version = before.2;
        }
        unit.wrote |= wrote;
        outcomes.push(outcome);
    }
    let (changes, began, is_new_connection) =
        (unit.changes.clone(), unit.now, unit.is_new_connection);
    freshness::before_commit(shared, &changes);
    match unit.commit(shared, kept).await {
        Ok(None) => Ok(outcomes),
        Ok(Some((mut connection, images))) => {
            let (at, at_ms) = (Instant::now(), shared.clock.now());
            let own = freshness::OwnChanges {
                changes: &changes,
                at: began,
                images,
                is_new_connection,
            };
            let applied = freshness::after_own_commit(shared, &mut connection, own);
            let applied = shared.pool.while_reachable(applied).await;
            if !matches!(applied, Ok(true)) {
                // A replica that takes over may lack the commit, and then no reading of the log answers these.
                freshness::settle_later(shared, &changes);
            }
            shared.nodes.committed(&changes, at, at_ms);
            if applied.is_ok() {
                kept.keep(connection);
            }
            Ok(outcomes)
        }
        Err(Fate::Undone(error) | Fate::NotBegun(error)) => {
            freshness::after_rollback(shared, &changes);
            Err(Fate::Undone(error))
        }
        Err(Fate::Unknown(error)) => {
            let asked = freshness::after_unknown(shared, &changes);
            // Otherwise what is in doubt stays so until the database answers.
            let _ = shared.pool.while_reachable(asked).await;
            Err(Fate::Unknown(error))
        }
    }
}
