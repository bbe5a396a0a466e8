//! The one writer: use cases are queued, carried out together in one transaction, and answered
//! after its COMMIT. One row in `heads` is locked first, so that several processes or nodes over
//! one database write one after another and every number is given in the order of commits.
//!
//! A use case decides before it writes: an error without a write leaves the others of its group
//! alone. If a write or the commit fails, the group is rolled back and each runs again by itself.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{ApiKey, Environment, Policy, Rotation, Secret};
use keywright_domain::audit::Actor;
use keywright_domain::audit_chain::EventHash;
use sqlx::{Any, AnyConnection, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::principals::Principal;
use crate::store::audit::NewEvent;
use crate::store::heads::{self, Head};
use crate::store::secrets::SecretInsert;
use crate::{LocalRegistry, RegistryError, Shared, freshness, store};

/// At most this many use cases share one commit.
const GROUP: usize = 64;
/// At most this many wait; more wait for a place.
const QUEUE: usize = 1024;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a use case sees of the transaction.
pub(crate) struct Unit {
    transaction: Transaction<'static, Any>,
    head: Head,
    now: i64,
    wrote: bool,
    events: Vec<(Actor, NewEvent)>,
    changes: Vec<(i64, Subject)>,
    rows: Rows,
    known: Known,
    /// Whether the use case that runs knows that rows wait.
    grouped: bool,
}

/// Rows that wait to be written with those of the rest of the group: many in one statement.
#[derive(Default)]
struct Rows {
    keys: Vec<ApiKey>,
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
        &mut self.transaction
    }

    /// For writing. Decide first: after this, an error undoes the whole group once.
    pub(crate) fn write(&mut self) -> &mut AnyConnection {
        self.wrote = true;
        &mut self.transaction
    }

    /// The catalogue of scopes.
    pub(crate) async fn catalogue(&mut self) -> Result<Arc<[KnownScope]>, RegistryError> {
        if let Some(catalogue) = &self.known.catalogue {
            return Ok(Arc::clone(catalogue));
        }
        let catalogue: Arc<[KnownScope]> = store::scopes::list(&mut self.transaction).await?.into();
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
        let policy = store::policies::find(&mut self.transaction, environment).await?;
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
        let principal = store::principals::find(&mut self.transaction, id).await?;
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
        insert: Option<SecretInsert>,
        states: Vec<Secret>,
        rotations: Vec<Rotation>,
    ) -> Result<(), RegistryError> {
        self.wrote = true;
        self.rows.keys.push(key.clone());
        self.rows.inserts.extend(insert);
        self.rows.states.extend(states);
        self.rows.rotations.extend(rotations);
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
        let waits = self.rows.keys.iter().any(|key| key.id == key_id)
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
        store::api_keys::put_all(&mut self.transaction, &rows.keys, self.now).await?;
        store::secrets::insert_all(&mut self.transaction, &rows.inserts).await?;
        store::secrets::update_states(&mut self.transaction, &rows.states).await?;
        store::rotations::put_all(&mut self.transaction, &rows.rotations).await
    }

    /// Adds an event; it is chained and written with the commit.
    pub(crate) fn audit(&mut self, actor: &Actor, event: NewEvent) {
        self.events.push((actor.clone(), event));
    }

    /// Writes down that verifications must not miss this change. Returns the epoch for its row.
    pub(crate) fn change(&mut self, subject: Subject) -> i64 {
        self.head.change_version += 1;
        self.changes.push((self.head.change_version, subject));
        self.head.change_version
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

    async fn begin(shared: &Shared) -> Result<Self, RegistryError> {
        let mut transaction = store::begin(&shared.pool, shared.kind).await?;
        let head = heads::lock(&mut transaction).await?;
        Ok(Self {
            transaction,
            head,
            now: shared.clock.now(),
            wrote: false,
            events: Vec::new(),
            changes: Vec::new(),
            rows: Rows::default(),
            known: Known::default(),
            grouped: false,
        })
    }

    /// Writes events and changes of the whole group, and commits. Returns whether there was
    /// anything to write.
    async fn commit(mut self) -> Result<bool, Fate> {
        if self.events.is_empty() && self.changes.is_empty() && !self.wrote {
            self.transaction.rollback().await.map_err(Fate::undone)?;
            return Ok(false);
        }
        let flushed: Result<(), RegistryError> = async {
            self.flush().await?;
            store::audit::insert_all(
                &mut self.transaction,
                &mut self.head,
                self.now,
                &self.events,
            )
            .await?;
            heads::insert_changes(&mut self.transaction, self.now, &self.changes).await?;
            heads::update(&mut self.transaction, &self.head).await
        }
        .await;
        if let Err(error) = flushed {
            let _ = self.transaction.rollback().await;
            return Err(Fate::Undone(error));
        }
        self.transaction
            .commit()
            .await
            .map_err(|error| Fate::Unknown(RegistryError::CommitUnknown(error.to_string())))?;
        Ok(true)
    }
}

/// How a failed group stands.
enum Fate {
    /// Nothing of it is in the database.
    Undone(RegistryError),
    /// COMMIT failed: it may be there. Running it again could do it twice.
    Unknown(RegistryError),
}

impl Fate {
    fn undone(error: sqlx::Error) -> Self {
        Self::Undone(error.into())
    }
}

/// A use case with its input, and where its answer goes.
trait Job: Send {
    /// Whether it asks only through [`Unit`] for what may wait to be written.
    fn is_grouped(&self) -> bool;
    fn run<'a>(&'a mut self, unit: &'a mut Unit) -> BoxFuture<'a, Result<(), RegistryError>>;
    fn answer(self: Box<Self>, fate: Result<(), RegistryError>);
}

struct Call<A, T, F> {
    input: A,
    work: F,
    grouped: bool,
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
        self.grouped
    }

    fn run<'a>(&'a mut self, unit: &'a mut Unit) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            self.output = Some((self.work)(unit, &self.input).await?);
            Ok(())
        })
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
    /// a second time, when the group it was in failed.
    pub(crate) async fn write<A, T, F>(&self, input: A, work: F) -> Result<T, RegistryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Unit, &'a A) -> BoxFuture<'a, Result<T, RegistryError>>
            + Send
            + Sync
            + 'static,
    {
        self.queue(input, work, false).await
    }

    /// The same for what many do at once: its rows are written with those of the whole group, in a
    /// few statements. `work` reads keys and rotations only after [`Unit::settle`].
    pub(crate) async fn write_grouped<A, T, F>(&self, input: A, work: F) -> Result<T, RegistryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Unit, &'a A) -> BoxFuture<'a, Result<T, RegistryError>>
            + Send
            + Sync
            + 'static,
    {
        self.queue(input, work, true).await
    }

    async fn queue<A, T, F>(&self, input: A, work: F, grouped: bool) -> Result<T, RegistryError>
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
            grouped,
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
            // Each job's caller holds the registry, unless it gave up waiting.
            let Some(shared) = weak.upgrade() else { return };
            run_group(&shared, std::mem::take(&mut group)).await;
        }
    });
}

async fn run_group(shared: &Arc<Shared>, mut jobs: Vec<Box<dyn Job>>) {
    match attempt(shared, &mut jobs).await {
        Ok(outcomes) => {
            for (job, outcome) in jobs.into_iter().zip(outcomes) {
                job.answer(outcome);
            }
        }
        Err(Fate::Undone(_)) if jobs.len() > 1 => {
            for job in jobs {
                let mut alone = [job];
                let outcome = attempt(shared, &mut alone).await;
                let [job] = alone;
                job.answer(match outcome {
                    Ok(mut outcomes) => outcomes.pop().unwrap_or(Ok(())),
                    Err(Fate::Undone(error) | Fate::Unknown(error)) => Err(error),
                });
            }
        }
        Err(Fate::Undone(error) | Fate::Unknown(error)) => {
            for job in jobs {
                job.answer(Err(error.clone()));
            }
        }
    }
}

/// Runs all jobs in one transaction and brings the index up to date with it. On `Err`, nothing can
/// be said about any of them.
async fn attempt(
    shared: &Arc<Shared>,
    jobs: &mut [Box<dyn Job>],
) -> Result<Vec<Result<(), RegistryError>>, Fate> {
    let mut unit = Unit::begin(shared).await.map_err(Fate::Undone)?;
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        let before = (
            unit.events.len(),
            unit.changes.len(),
            unit.head.change_version,
        );
        let wrote = std::mem::replace(&mut unit.wrote, false);
        unit.grouped = job.is_grouped();
        if !unit.grouped
            && let Err(error) = unit.flush().await
        {
            let _ = unit.transaction.rollback().await;
            return Err(Fate::Undone(error));
        }
        let outcome = job.run(&mut unit).await;
        if !unit.grouped {
            unit.known = Known::default();
        }
        if let Err(error) = &outcome {
            if unit.wrote || error.is_of_the_database() {
                let _ = unit.transaction.rollback().await;
                return Err(Fate::Undone(error.clone()));
            }
            unit.events.truncate(before.0);
            unit.changes.truncate(before.1);
            unit.head.change_version = before.2;
        }
        unit.wrote |= wrote;
        outcomes.push(outcome);
    }
    let changes = unit.changes.clone();
    freshness::before_commit(shared, &changes);
    match unit.commit().await {
        Ok(wrote) => {
            if wrote {
                freshness::after_commit(shared).await;
            }
            Ok(outcomes)
        }
        Err(Fate::Undone(error)) => {
            freshness::after_rollback(shared, &changes);
            Err(Fate::Undone(error))
        }
        Err(Fate::Unknown(error)) => {
            freshness::after_unknown(shared, &changes).await;
            Err(Fate::Unknown(error))
        }
    }
}
