//! Keeps the index of keys as new as the database.
//!
//! A change of this process is doubted in the index before its commit and applied before it is
//! answered. A change of another process is seen, on SQLite, by the header of the write-ahead log's
//! index (sqlite.org/walformat.html §2.1), which every commit rewrites before it returns: one read
//! of 48 bytes a verification, and no window. On PostgreSQL it is seen by the ordered log of changes
//! within the lease; an index that was not confirmed for longer is not trusted.
//!
//! A log that a replica carries on may lack its last changes, and its numbers are given again: what was
//! read last is compared with what stands there now, and a memory that knows another past is emptied.

mod age;
mod loading;
mod looks;
#[cfg(test)]
mod tests;
mod unsettled;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use keywright_index::KeyId;
use sqlx::AnyConnection;

pub(crate) use self::loading::load_kids;
use self::loading::{Building, apply, load_principals};
pub(crate) use self::looks::{before_a_look, may_answer};
use self::unsettled::Unsettled;
use crate::open::Place;
use crate::store::Kind;
use crate::store::heads::LoggedChange;
use crate::store::{self, images::Image};
use crate::writer::Subject;
use crate::{LocalRegistry, RegistryError, Shared, nodes};

/// Memory is trusted for this long after the log was confirmed. With what a commit and an answer take,
/// nothing is let through for a second after it was ended.
const LEASE: Duration = Duration::from_millis(900);
/// How often another node's changes are looked for.
const POLL: Duration = Duration::from_millis(200);
/// How many keys are read at a time when the index is built.
const PAGE: i64 = 1000;
/// A request waits no longer for the log, and while it is known to be silent not at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A reading of the log that makes no step for so long is of a database that is lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// The same for a page of keys.
const PAGE_LOST_AFTER: Duration = Duration::from_secs(30);
/// The longest wait between two looks at a database that refuses.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the index knows, and how it learns that it is behind.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// The newest change that is in the index.
    seen: AtomicI64,
    /// What was read before the index was emptied must not come in after it: reading holds this for
    /// reading, emptying for writing.
    loading: tokio::sync::RwLock<()>,
    /// How often the index was emptied: reading it whole begins anew then.
    emptied: AtomicU64,
    /// How often the database was found to have another past than the one that was read.
    pasts: AtomicU64,
    /// The index is not read whole before this time since boot.
    build_after: Mutex<Duration>,
    /// One catch-up at a time. On SQLite with the connection that the log is read on: what others do with the
    /// pool keeps nobody waiting who has the turn, and with him the writer and every verification.
    turn: tokio::sync::Mutex<Option<AnyConnection>>,
    /// The header is as if it could not be read.
    #[cfg(test)]
    blind: AtomicBool,
    /// SQLite: the file whose header changes with every commit, opened when it is there.
    wal_index: Option<(std::path::PathBuf, OnceLock<File>)>,
    confirmed: Mutex<Confirmed>,
    /// How often memory was brought up to the log, counted with `confirmed` locked.
    readings: AtomicU64,
    /// What was doubted for commits of which nothing is known yet.
    unsettled: Unsettled,
    /// The newest change that is in the index, as the log had it: none where it was not read.
    newest: Mutex<Option<LoggedChange>>,
    /// Counts the steps of readings of the log.
    steps: AtomicU64,
    /// Whether the database let a reading of the log wait in vain, and none came to its end since.
    silent: AtomicBool,
    /// Whether keys were removed since the index last forgot that they were.
    has_gone: AtomicBool,
    /// Whether a foreign key was ever imported: only then is what is not ours looked for.
    pub(crate) has_foreign: AtomicBool,
}

#[derive(Debug, Default)]
struct Confirmed {
    header: Option<[u8; 48]>,
    at: Option<Duration>,
}

impl Freshness {
    pub(crate) fn new(place: &Place) -> Self {
        let wal_index = match place {
            Place::File(path) => Some((store::file::sibling(path, "-shm"), OnceLock::new())),
            Place::Postgres(_) => None,
        };
        Self {
            seen: AtomicI64::new(0),
            loading: tokio::sync::RwLock::default(),
            emptied: AtomicU64::new(0),
            pasts: AtomicU64::new(0),
            build_after: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            #[cfg(test)]
            blind: AtomicBool::new(false),
            wal_index,
            confirmed: Mutex::default(),
            readings: AtomicU64::new(0),
            unsettled: Unsettled::default(),
            newest: Mutex::default(),
            steps: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            has_gone: AtomicBool::new(false),
            has_foreign: AtomicBool::new(false),
        }
    }

    /// How often the database was found to have another past.
    pub(crate) fn pasts(&self) -> u64 {
        self.pasts.load(Ordering::SeqCst)
    }

    /// The newest change that is in the index.
    pub(crate) fn seen_change(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// The header of the write-ahead log's index; none on PostgreSQL, or if it cannot be read.
    pub(crate) fn header(&self) -> Option<[u8; 48]> {
        let (path, file) = self.wal_index.as_ref()?;
        #[cfg(test)]
        if self.blind.load(Ordering::Acquire) {
            return None;
        }
        let file = match file.get() {
            Some(file) => file,
            None => {
                if let Err(second) = file.set(File::open(path).ok()?) {
                    // Another thread was first. Closing this one would give up the locks that SQLite
                    // has on the file, for the whole process.
                    std::mem::forget(second);
                }
                file.get()?
            }
        };
        let mut header = [0; 48];
        read_at_start(file, &mut header).ok()?;
        Some(header)
    }

    /// Whether the index is known to be as new as the database, or as new as the lease allows.
    fn is_confirmed(&self) -> bool {
        let confirmed = self.confirmed.lock();
        self.confirms(&confirmed.unwrap_or_else(PoisonError::into_inner))
    }

    /// The same of what was looked up after `readings` was read: whoever brought memory up to the log since
    /// says nothing of what was looked up before.
    fn is_confirmed_since(&self, readings: u64) -> bool {
        let confirmed = self.confirmed.lock();
        let confirmed = confirmed.unwrap_or_else(PoisonError::into_inner);
        self.readings.load(Ordering::Acquire) == readings && self.confirms(&confirmed)
    }

    fn confirms(&self, confirmed: &Confirmed) -> bool {
        match self.header() {
            Some(header) => confirmed.header == Some(header),
            None if self.wal_index.is_some() => false,
            None => confirmed
                .at
                .is_some_and(|at| since_boot().saturating_sub(at) < LEASE),
        }
    }

    fn confirm(&self, header: Option<[u8; 48]>, at: Duration) {
        let mut confirmed = self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.readings.fetch_add(1, Ordering::AcqRel);
        confirmed.header = header;
        confirmed.at = Some(at);
        self.silent.store(false, Ordering::Release);
    }

    fn newest(&self) -> Option<LoggedChange> {
        let newest = self.newest.lock();
        newest.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_newest(&self, change: Option<LoggedChange>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = change;
    }
}

#[cfg(unix)]
fn read_at_start(file: &File, header: &mut [u8; 48]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, header, 0)
}

#[cfg(windows)]
fn read_at_start(file: &File, header: &mut [u8; 48]) -> std::io::Result<()> {
    let read = std::os::windows::fs::FileExt::seek_read(file, header, 0)?;
    if read == header.len() {
        Ok(())
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// Time since the machine started, with the time it slept: a lease must not survive a suspend.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Elsewhere `Instant` counts what the system's own monotonic clock counts.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Confirms the log before the lease is over, so that verifications need not wait for it. `held` is a
/// connection of its own, so that neither a busy pool nor the question whether it is still there takes
/// of the lease.
async fn renew(shared: &Shared, held: &mut Option<AnyConnection>) -> Result<(), RegistryError> {
    if shared.kind == Kind::Sqlite {
        // What is in doubt is asked for although nobody wrote: a commit that failed leaves no trace.
        let at = since_boot();
        if shared.freshness.is_confirmed() && shared.freshness.unsettled.count() == 0 {
            shared.freshness.is_still_new(at);
            return Ok(());
        }
        let mut turn = shared.freshness.turn.lock().await;
        return read_log(shared, &mut turn).await;
    }
    let mut connection = match held.take() {
        Some(connection) => connection,
        None => {
            let made = tokio::time::timeout(LOST_AFTER, shared.pool.acquire()).await;
            made.map_err(|_| lost(shared))??.detach()
        }
    };
    {
        let mut work = std::pin::pin!(catch_up_on(shared, &mut connection));
        loop {
            let before = shared.freshness.steps.load(Ordering::Relaxed);
            match tokio::time::timeout(LOST_AFTER, &mut work).await {
                Ok(done) => break done?,
                // A long log is read page by page.
                Err(_) if shared.freshness.steps.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(lost(shared)),
            }
        }
    }
    *held = Some(connection);
    Ok(())
}

/// Gives up all connections of a database that answers nothing.
fn lost(shared: &Shared) -> RegistryError {
    shared.freshness.silent.store(true, Ordering::Release);
    shared.pool.replace();
    RegistryError::Silent
}

/// Waits for the log as long as a request may. What was waited for in vain once is not waited for again
/// until the database answers: whoever asks is refused at once.
async fn in_time(
    shared: &Shared,
    work: impl Future<Output = Result<(), RegistryError>>,
) -> Result<(), RegistryError> {
    if shared.kind == Kind::Sqlite {
        return work.await;
    }
    if shared.freshness.silent.load(Ordering::Acquire) {
        return Err(RegistryError::Silent);
    }
    match tokio::time::timeout(ANSWER_WITHIN, work).await {
        Ok(done) => done,
        Err(_) => {
            shared.freshness.silent.store(true, Ordering::Release);
            Err(RegistryError::Silent)
        }
    }
}

/// Reads the log on a given connection, when nobody else does.
pub(crate) async fn catch_up_on(
    shared: &Shared,
    connection: &mut AnyConnection,
) -> Result<(), RegistryError> {
    let _turn = shared.freshness.turn.lock().await;
    catch_up(shared, connection).await
}

/// The newest change that is in memory.
pub(crate) fn seen(shared: &Shared) -> i64 {
    shared.freshness.seen.load(Ordering::Acquire)
}

/// How long memory is trusted after the log was read: no node answers longer from what it knew.
pub(crate) const fn lease() -> Duration {
    LEASE
}

/// How often memory was brought up to the log: to be read before a lookup, for [`is_trusted`].
pub(crate) fn readings(shared: &Shared) -> u64 {
    shared.freshness.readings.load(Ordering::Acquire)
}

/// Whether what was looked up in the index may be answered. `readings` is of before the lookup: a look that was
/// overtaken by a reading of the log, which is what is found to be fresh then, is done again.
pub(crate) fn is_trusted(shared: &Shared, readings: u64) -> bool {
    !shared.pool.is_closed() && shared.freshness.is_confirmed_since(readings)
}

/// Makes sure that the index is trusted. An error here refuses every verification.
pub(crate) async fn ensure(shared: &Shared) -> Result<(), RegistryError> {
    if shared.pool.is_closed() {
        return Err(RegistryError::Store("the registry is closed".into()));
    }
    if shared.freshness.is_confirmed() {
        return Ok(());
    }
    in_time(shared, async {
        let mut turn = shared.freshness.turn.lock().await;
        if shared.freshness.is_confirmed() {
            return Ok(());
        }
        read_log(shared, &mut turn).await
    })
    .await
}

/// The moment, for [`ensure_since`].
pub(crate) fn moment() -> Duration {
    since_boot()
}

/// Whether what memory does not know does not exist: on SQLite no commit is missed, on PostgreSQL
/// another node may have made it within the lease.
pub(crate) fn is_exact(shared: &Shared) -> bool {
    shared.freshness.wal_index.is_some()
}

/// Makes sure that the log was read after `since`; those who ask together share one reading.
pub(crate) async fn ensure_since(shared: &Shared, since: Duration) -> Result<(), RegistryError> {
    let was_read = || {
        let confirmed = shared.freshness.confirmed.lock();
        let confirmed = confirmed.unwrap_or_else(PoisonError::into_inner).at;
        confirmed.is_some_and(|at| at > since)
    };
    // Many keys of one call ask for the same moment: they need no turn.
    if was_read() {
        return Ok(());
    }
    in_time(shared, async {
        let mut turn = shared.freshness.turn.lock().await;
        if was_read() {
            return Ok(());
        }
        read_log(shared, &mut turn).await
    })
    .await
}

/// Tells the index, before the commit, what is about to change.
pub(crate) fn before_commit(shared: &Shared, changes: &[(i64, Subject)]) {
    for (version, subject) in changes {
        match subject {
            Subject::ApiKey(id) => {
                if let Some(id) = KeyId::parse(id) {
                    shared.index.doubt_key(id, *version);
                }
            }
            Subject::Principal(id) => {
                if let Some(id) = shared.index.intern_principal(id) {
                    shared.index.doubt_principal(id, *version);
                }
            }
        }
    }
}

/// Takes back what was doubted of a transaction that was rolled back.
pub(crate) fn after_rollback(shared: &Shared, changes: &[(i64, Subject)]) {
    for (version, subject) in changes {
        match subject {
            Subject::ApiKey(id) => {
                if let Some(id) = KeyId::parse(id) {
                    shared.index.settle_key(id, *version);
                }
            }
            Subject::Principal(id) => {
                if let Some(id) = shared.index.intern_principal(id) {
                    shared.index.settle_principal(id, *version);
                }
            }
        }
    }
}

/// After a COMMIT whose answer was lost: the database says whether it took place, at once or when it can be
/// asked again.
pub(crate) async fn after_unknown(shared: &Shared, changes: &[(i64, Subject)]) {
    // First: whoever waits for the database may be told to give up.
    settle_later(shared, changes);
    after_commit(shared).await;
}

/// Leaves what was doubted to the next reading of the log that comes to its end. A doubt that nobody takes
/// back outlives its cause: where the commit did not take place, nothing newer comes that would answer it.
pub(crate) fn settle_later(shared: &Shared, changes: &[(i64, Subject)]) {
    shared.freshness.unsettled.add(changes);
}

/// Brings the committed changes into the index, before anybody is told of them.
pub(crate) async fn after_commit(shared: &Shared) {
    let mut turn = shared.freshness.turn.lock().await;
    if let Err(error) = read_log(shared, &mut turn).await {
        warn_behind(&error);
    }
}

/// What a transaction of the writer changed.
pub(crate) struct OwnChanges<'a> {
    pub(crate) changes: &'a [(i64, Subject)],
    /// When the transaction began, as the log has it.
    pub(crate) at: i64,
    /// The keys that are new.
    pub(crate) images: Vec<Image>,
    /// Whether the connection is a new one: it may lead to another database than the one before, a
    /// replica that took its place.
    pub(crate) is_new_connection: bool,
}

/// The same for the writer, on its connection. If nobody else wrote meanwhile, the log need not be read:
/// it would say the same. False if the changes did not come into the index.
pub(crate) async fn after_own_commit(
    shared: &Shared,
    connection: &mut AnyConnection,
    own: OwnChanges<'_>,
) -> bool {
    let OwnChanges {
        changes, images, ..
    } = own;
    let _turn = shared.freshness.turn.lock().await;
    let caught_up = async {
        // Read before the newest number: a commit in between changes it again.
        let (header, at) = (shared.freshness.header(), since_boot());
        if own.is_new_connection
            || !follows(shared.freshness.seen.load(Ordering::Acquire), changes)
            || store::heads::change_bounds(connection).await?.0 != last_of(changes)
        {
            return catch_up(shared, connection).await;
        }
        take_in(shared, connection, changes.to_vec(), images).await?;
        shared
            .freshness
            .set_newest(changes.last().map(|(version, subject)| LoggedChange {
                version: *version,
                at: own.at,
                subject: subject.clone(),
            }));
        nodes::beat(shared, connection, seen(shared)).await?;
        shared.freshness.confirm(header, at);
        Ok(())
    };
    let caught_up = caught_up.await;
    if let Err(error) = &caught_up {
        warn_behind(error);
    }
    caught_up.is_ok()
}

/// Whether these changes are the next ones, without a gap.
fn follows(seen: i64, changes: &[(i64, Subject)]) -> bool {
    !changes.is_empty()
        && (seen + 1..)
            .zip(changes)
            .all(|(next, (version, _))| next == *version)
}

fn last_of(changes: &[(i64, Subject)]) -> i64 {
    changes.last().map_or(0, |(version, _)| *version)
}

fn warn_behind(error: &RegistryError) {
    // What was doubted stays so: verification asks again, and refuses while it cannot.
    tracing::warn!(
        code = error.code(),
        "the index of keys is behind the database"
    );
}

/// Reads the log for whoever has the turn, which `own` is of.
async fn read_log(shared: &Shared, own: &mut Option<AnyConnection>) -> Result<(), RegistryError> {
    if shared.kind == Kind::Postgres {
        return catch_up(shared, &mut *shared.pool.acquire().await?).await;
    }
    let mut connection = match own.take() {
        Some(connection) => connection,
        // After it was closed, none is made that nobody would close.
        None if shared.pool.is_closed() => {
            return Err(RegistryError::Store("the registry is closed".into()));
        }
        None => shared.pool.connect_beside().await?,
    };
    // Kept only after a whole answer, as the reader's: one that failed is made anew.
    catch_up(shared, &mut connection).await?;
    *own = Some(connection);
    Ok(())
}

/// Closes the turn's own connection, once the pool is closed.
pub(crate) async fn close(shared: &Shared) {
    if shared.kind == Kind::Sqlite
        && let Some(connection) = shared.freshness.turn.lock().await.take()
        && let Err(error) = sqlx::Connection::close(connection).await
    {
        tracing::debug!(%error, "the connection of the log did not close well");
    }
}

async fn catch_up(shared: &Shared, connection: &mut AnyConnection) -> Result<(), RegistryError> {
    // Read before the log: a commit in between changes it again.
    let (header, at) = (shared.freshness.header(), since_boot());
    // These commits were given up before the log is read: it has them, or they did not take place. One that the
    // database still works on comes later, as another node's does.
    let unsettled = shared.freshness.unsettled.count();
    loop {
        let seen = shared.freshness.seen.load(Ordering::Acquire);
        let mut rows = store::heads::changes_from(connection, seen, PAGE).await?;
        shared.freshness.steps.fetch_add(1, Ordering::Relaxed);
        let is_all = i64::try_from(rows.len()).is_ok_and(|count| count < PAGE);
        let known = (rows.first().is_some_and(|row| row.version == seen)).then(|| rows.remove(0));
        if !is_same_past(shared, connection, seen, known).await? {
            begin_anew(shared, connection).await?;
            continue;
        }
        let Some(newest) = rows.last().cloned() else {
            break;
        };
        if rows.first().is_some_and(|row| row.version != seen + 1) {
            // The log was pruned while this process slept: begin anew.
            empty(shared, Duration::ZERO).await;
        }
        let changes = rows
            .into_iter()
            .map(|row| (row.version, row.subject))
            .collect();
        take_in(shared, connection, changes, Vec::new()).await?;
        shared.freshness.set_newest(Some(newest));
        if is_all {
            break;
        }
    }
    for changes in shared.freshness.unsettled.take(unsettled) {
        // What took place was brought in above; for the rest memory is as new as the log.
        after_rollback(shared, &changes);
    }
    nodes::beat(shared, connection, seen(shared)).await?;
    shared.freshness.confirm(header, at);
    Ok(())
}

/// Whether the log goes on from what was read of it. `known` is its row of the newest change that is in
/// the index.
async fn is_same_past(
    shared: &Shared,
    connection: &mut AnyConnection,
    seen: i64,
    known: Option<LoggedChange>,
) -> Result<bool, RegistryError> {
    let before = shared.freshness.newest();
    match (before, known) {
        (Some(before), Some(known)) => Ok(before == known),
        (None, Some(known)) => {
            shared.freshness.set_newest(Some(known));
            Ok(true)
        }
        // Its row was pruned, or never was.
        (_, None) => {
            let (newest, oldest) = store::heads::change_bounds(connection).await?;
            Ok(newest >= seen && (oldest > seen || seen == 0))
        }
    }
}

/// The database has another past than the one that was read: a replica took over that had not heard of
/// the last changes, or a backup was put back. Nothing that is in memory holds.
async fn begin_anew(shared: &Shared, connection: &mut AnyConnection) -> Result<(), RegistryError> {
    // Read before memory is emptied: what comes after it is read again.
    let (newest, _) = store::heads::change_bounds(connection).await?;
    let seen = shared.freshness.seen.load(Ordering::Acquire);
    tracing::error!(
        seen,
        newest,
        "the database lacks changes that were committed before: what they ended may work again"
    );
    empty(shared, Duration::ZERO).await;
    shared.nodes.forget_commits();
    shared.freshness.set_newest(None);
    shared.freshness.seen.store(newest, Ordering::Release);
    // Last: whoever sees another number reads the log as it is now.
    shared.freshness.pasts.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Brings changes of the log into the index. `images` are of keys that need not be read.
async fn take_in(
    shared: &Shared,
    connection: &mut AnyConnection,
    changes: Vec<(i64, Subject)>,
    images: Vec<Image>,
) -> Result<(), RegistryError> {
    let newest = last_of(&changes);
    let (mut changed, mut principals) = (BTreeMap::new(), Vec::new());
    for (version, subject) in changes {
        match subject {
            // The newest change of each is what counts.
            Subject::ApiKey(id) => drop(changed.insert(id, version)),
            Subject::Principal(id) => principals.push(id),
        }
    }
    principals.sort();
    principals.dedup();
    load_principals(shared, connection, &principals).await?;
    for image in images {
        // One that changed again after it was made is read.
        if changed.get(&image.id) == Some(&image.epoch) {
            changed.remove(&image.id);
            apply(shared, connection, image).await?;
        }
    }
    let keys: Vec<String> = changed.keys().cloned().collect();
    for image in store::images::of_keys(connection, &keys).await? {
        changed.remove(&image.id);
        apply(shared, connection, image).await?;
    }
    // What the log names and no row has was purged.
    for (id, version) in changed {
        if let Some(id) = KeyId::parse(&id) {
            shared.index.remove_key(id, version);
            shared.freshness.has_gone.store(true, Ordering::Release);
        }
    }
    shared.freshness.seen.store(newest, Ordering::Release);
    Ok(())
}

/// Forgets which keys were removed, once nothing that is under way could bring one back: whatever
/// begins to read now no longer sees them.
async fn forget_gone(shared: &Shared) {
    if !shared.freshness.has_gone.load(Ordering::Acquire) {
        return;
    }
    // Nobody catches up, and nobody loads.
    let _turn = shared.freshness.turn.lock().await;
    let Ok(_nobody) = shared.freshness.loading.try_write() else {
        return;
    };
    shared.freshness.has_gone.store(false, Ordering::Release);
    shared
        .index
        .forget_tombstones(shared.freshness.seen.load(Ordering::Acquire));
}

/// Empties the index, so that it is read whole again after `pause`.
async fn empty(shared: &Shared, pause: Duration) {
    let _nobody = shared.freshness.loading.write().await;
    let until = since_boot().saturating_add(pause);
    *shared
        .freshness
        .build_after
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = until;
    shared.freshness.emptied.fetch_add(1, Ordering::SeqCst);
    shared.index.set_complete(false);
    shared.index.clear();
}

impl LocalRegistry {
    /// Reads every key into memory, page by page, while verification asks the database for what is
    /// not there yet.
    pub(crate) fn build_index_in_background(&self) {
        let weak = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let mut pause = Duration::from_millis(50);
            let mut building = Building::default();
            let mut held = None;
            loop {
                let Some(shared) = weak.upgrade() else { return };
                if shared.pool.is_closed() {
                    return;
                }
                forget_gone(&shared).await;
                let is_silent = shared.freshness.silent.load(Ordering::Acquire);
                let is_unsettled = shared.freshness.unsettled.count() > 0;
                let wait = if shared.index.is_complete() || is_silent || is_unsettled {
                    // From here on only changes of other processes are to be looked for.
                    renew(&shared, &mut held).await.map(|()| POLL)
                } else {
                    building.go_on_in_time(&shared).await
                };
                drop(shared);
                match wait {
                    Ok(wait) => {
                        pause = Duration::from_millis(50);
                        tokio::time::sleep(wait).await;
                    }
                    Err(error) => {
                        tracing::warn!(
                            code = error.code(),
                            "the memory of keys waits for the database"
                        );
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
        });
    }

    /// Whether every key is in memory: until then, what is not there is asked of the database.
    #[must_use]
    pub fn index_is_complete(&self) -> bool {
        self.shared.index.is_complete()
    }

    /// Empties the memory of keys. It fills again by what is asked for, and is read whole again
    /// after `pause`.
    pub async fn forget_index(&self, pause: Duration) {
        empty(&self.shared, pause).await;
    }

    /// How many kids the database was asked for because memory could not tell, since the registry was
    /// opened. Where every key is in memory, nobody makes this grow by asking for what does not exist.
    #[must_use]
    pub fn kids_asked_for(&self) -> u64 {
        self.shared.reader.asked()
    }

    /// How many values the memory of keys holds that keys have in common, or had since the registry was
    /// opened (sets of scopes, limits, networks), and the bytes that they take: none is forgotten before the
    /// registry closes.
    #[must_use]
    pub fn index_in_common(&self) -> (usize, usize) {
        self.shared.index.in_common()
    }

    /// How large the memory of keys is.
    #[must_use]
    pub fn index_statistics(&self) -> keywright_index::Statistics {
        self.shared.index.statistics()
    }
}

/// Where the log stood when the registry was opened: what is older is read with the pages.
pub(crate) async fn begin(shared: &Shared) -> Result<(), RegistryError> {
    let mut connection = shared.pool.acquire().await?;
    let (version, _) = store::heads::change_bounds(&mut connection).await?;
    let newest = store::heads::changes_from(&mut connection, version, 1).await?;
    let newest = newest.into_iter().find(|row| row.version == version);
    shared.freshness.set_newest(newest);
    shared.freshness.seen.store(version, Ordering::Release);
    let foreign = store::images::has_foreign(&mut connection).await?;
    shared
        .freshness
        .has_foreign
        .store(foreign, Ordering::Release);
    Ok(())
}
