//! Opening the registry: safe place, health, migrations, and what goes on in the background.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::any::AnyConnectOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyConnection, Connection};

use crate::error::RegistryError;
use crate::freshness::{self, Freshness};
use crate::pool::{BUSY_TIMEOUT_MS, Pool};
use crate::reader;
use crate::store::{self, Kind};
use crate::uses::UseRecorder;
use crate::writer::{self, Unit};
use crate::{LocalRegistry, Shared};

static MIGRATIONS: Migrator = sqlx::migrate!();
/// How often a migration that makes no progress is tried again.
const MIGRATION_TRIES: usize = 10;
/// Whoever finds an older schema, or none, may come while others bring it up: each of their steps is waited for so long.
const MIGRATION_WAIT: &str = "PRAGMA busy_timeout = 30000";
/// A crash loses the uses since the last time: with the time that writing them takes, less than a second of them.
const FLUSH_EVERY: Duration = Duration::from_millis(800);
/// A database that answers nothing is not waited for longer when the registry closes.
const CLOSE_WITHIN: Duration = Duration::from_secs(8);

/// The time, as Unix milliseconds; tests pass their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// A clock of one's own.
    pub fn from_fn(clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(clock))
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// Where the system of record is.
#[derive(Clone)]
pub enum Place {
    /// One SQLite file, embedded.
    File(PathBuf),
    /// The address of a PostgreSQL database, `postgres://…`. It may hold a password.
    Postgres(String),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(redacted)"),
        }
    }
}

impl LocalRegistry {
    /// Newest schema this program knows.
    #[must_use]
    pub fn newest_schema() -> i64 {
        MIGRATIONS
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0)
    }

    /// Schema of a registry that is not opened, and not changed; none where there is no registry yet.
    ///
    /// # Errors
    /// [`RegistryError`] if it cannot be read.
    pub async fn stored_schema(place: &Place) -> Result<Option<i64>, RegistryError> {
        sqlx::any::install_default_drivers();
        let (options, kind) = match place {
            Place::File(path) if !path.exists() => return Ok(None),
            Place::File(path) => (
                AnyConnectOptions::from_str(&store::file::url(path))?,
                Kind::Sqlite,
            ),
            Place::Postgres(address) => (store::postgres::options(address)?, Kind::Postgres),
        };
        let mut connection = AnyConnection::connect_with(&options).await?;
        let found = match kind {
            Kind::Sqlite => store::file::schema_version(&mut connection).await?,
            Kind::Postgres => store::postgres::schema_version(&mut connection).await?,
        };
        connection.close().await?;
        Ok((found > 0).then_some(found))
    }

    /// Opens the registry file, making it (0600, in a 0700 folder) if there is none. An older
    /// schema is migrated after a backup beside the file; a newer one is refused.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::SchemaTooNew`], [`RegistryError::ReadOnly`],
    /// [`RegistryError::Locked`], [`RegistryError::UnsafePath`].
    pub async fn open(path: &Path, clock: Clock) -> Result<Self, RegistryError> {
        sqlx::any::install_default_drivers();
        let path = path.to_owned();
        let is_new = {
            let path = path.clone();
            run_blocking(move || store::file::prepare(&path)).await?
        };
        let options = AnyConnectOptions::from_str(&store::file::url(&path))?;
        // One connection first, so that a damaged file or a stranger's lock is told at once.
        let mut connection = AnyConnection::connect_with(&options).await?;
        store::file::configure(&mut connection, BUSY_TIMEOUT_MS).await?;
        if !is_new {
            store::file::check_health(&mut connection, &path).await?;
        }
        let found = if is_new {
            0
        } else {
            store::file::schema_version(&mut connection).await?
        };
        check_version(found)?;
        if found < Self::newest_schema() {
            sqlx::raw_sql(MIGRATION_WAIT)
                .execute(&mut connection)
                .await?;
        }
        if found > 0 && found < Self::newest_schema() {
            let backup = store::file::back_up(&mut connection, &path, found).await?;
            tracing::info!(from = found, to = Self::newest_schema(), backup = %backup.display(), "migrating the registry");
        }
        migrate_file(&mut connection, found).await?;
        store::file::prepare_search(&mut connection).await?;
        connection.close().await?;
        Self::begin(Place::File(path), options, clock).await
    }

    /// Opens the registry in a PostgreSQL database. An older schema is migrated, a newer refused;
    /// PostgreSQL's own backups are whoever runs it's.
    ///
    /// # Errors
    /// [`RegistryError::UnsafePath`] for an address that is none, [`RegistryError::SchemaTooNew`],
    /// [`RegistryError`] if the database does not answer.
    pub async fn open_postgres(address: &str, clock: Clock) -> Result<Self, RegistryError> {
        sqlx::any::install_default_drivers();
        let options = store::postgres::options(address)?;
        let mut connection = AnyConnection::connect_with(&options).await?;
        store::postgres::configure(&mut connection).await?;
        let found = store::postgres::schema_version(&mut connection).await?;
        check_version(found)?;
        if found < Self::newest_schema() {
            if found > 0 {
                tracing::info!(
                    from = found,
                    to = Self::newest_schema(),
                    "migrating the registry"
                );
            }
            store::postgres::configure_migration(&mut connection).await?;
            store::postgres::prepare(&mut connection).await?;
            // The migrator's own lock lets one node do this and the others wait.
            if let Err(error) = MIGRATIONS.run_direct(None, &mut connection, false).await {
                return Err(migration_error(error));
            }
        }
        store::postgres::prepare_search(&mut connection).await?;
        connection.close().await?;
        Self::begin(Place::Postgres(address.to_owned()), options, clock).await
    }

    async fn begin(
        place: Place,
        options: AnyConnectOptions,
        clock: Clock,
    ) -> Result<Self, RegistryError> {
        let kind = match place {
            Place::File(_) => Kind::Sqlite,
            Place::Postgres(_) => Kind::Postgres,
        };
        let pool = Pool::connect(options, kind).await?;
        let (writer, queue) = writer::queue();
        let (reader, questions) = reader::reader();
        let shared = Arc::new(Shared {
            freshness: Freshness::new(&place),
            place,
            kind,
            pool,
            clock,
            writer,
            kept: tokio::sync::Mutex::default(),
            reader,
            remembered: crate::remembered::Remembered::default(),
            client_tokens: crate::people::client_tokens::ClientTokens::default(),
            index: keywright_index::Index::new(),
            throttle: keywright_index::FailureThrottle::default(),
            guesses: keywright_index::FailureThrottle::default(),
            uses: UseRecorder::default(),
            rewrites: Mutex::default(),
            counts: Mutex::default(),
            common: Mutex::default(),
            aged: Mutex::default(),
            nodes: crate::nodes::Nodes::new(),
            limits: crate::limits::Limits::default(),
            exports: tokio::sync::Semaphore::new(crate::portable::EXPORTS),
            flushing: crate::flush::Flushing::default(),
        });
        freshness::begin(&shared).await?;
        writer::start(&shared, queue);
        reader::start(&shared, questions);
        let registry = Self {
            shared,
            conditions: None,
        };
        registry.write((), |unit, ()| Box::pin(seed(unit))).await?;
        registry.build_index_in_background();
        registry.flush_in_background();
        registry.index_search_in_background();
        Ok(registry)
    }

    /// Schema version of the open database.
    ///
    /// # Errors
    /// [`RegistryError`] if it cannot be read.
    pub async fn schema_version(&self) -> Result<i64, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        match self.shared.kind {
            Kind::Sqlite => store::file::schema_version(&mut connection).await,
            Kind::Postgres => store::postgres::schema_version(&mut connection).await,
        }
    }

    /// Size of the database, with its log, in bytes.
    ///
    /// # Errors
    /// [`RegistryError`] if it cannot be read.
    pub async fn size_bytes(&self) -> Result<u64, RegistryError> {
        match &self.shared.place {
            Place::File(path) => Ok(store::file::size_on_disk(path)),
            Place::Postgres(_) => {
                let mut connection = self.shared.pool.acquire().await?;
                let size = store::postgres::size(&mut connection).await?;
                Ok(u64::try_from(size).unwrap_or(0))
            }
        }
    }

    /// Writes what waits and closes the database. Called when the app quits.
    pub async fn close(&self) {
        if let Err(error) = self.flush_uses().await {
            tracing::warn!(code = error.code(), "the last use counts were not written");
        }
        if let Err(error) = self.flush_client_tokens().await {
            tracing::warn!(
                code = error.code(),
                "the last tokens of clients were not written down"
            );
        }
        self.leave_nodes().await;
        // The pool waits for every connection, and this one is never given back by itself.
        self.shared.reader.close();
        // The group that is being written is finished first.
        let kept = async { self.shared.kept.lock().await.close().await };
        if self.is_shared() {
            // Unless the database answers nothing.
            let _ = tokio::time::timeout(CLOSE_WITHIN, kept).await;
        } else {
            kept.await;
        }
        self.shared.pool.close().await;
        freshness::close(&self.shared).await;
    }

    fn flush_in_background(&self) {
        let weak = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(FLUSH_EVERY).await;
                let Some(shared) = weak.upgrade() else { return };
                if shared.pool.is_closed() {
                    return;
                }
                let registry = Self {
                    shared,
                    conditions: None,
                };
                if let Err(error) = registry.flush_uses().await {
                    tracing::warn!(code = error.code(), "use counts wait for the next flush");
                }
                if let Err(error) = registry.flush_client_tokens().await {
                    tracing::warn!(
                        code = error.code(),
                        "tokens of clients are not given until they can be written down"
                    );
                }
            }
        });
    }
}

/// What a registry that was opened for the first time, or came from an older version, still needs:
/// its id, its scopes, and the chain over events that were written before there was one.
async fn seed(unit: &mut Unit) -> Result<(), RegistryError> {
    store::heads::ensure_registry_id(unit.write()).await?;
    if unit.is_unchained() {
        let (sequence, hash) = store::audit::chain_all(unit.write()).await?;
        unit.begin_chain(sequence, hash);
        if sequence == 0 {
            store::scopes::insert_defaults(unit).await?;
        }
    }
    Ok(())
}

/// SQLite's migrations take no lock: another process may be doing the same work, and then each step
/// fails for one of the two.
async fn migrate_file(connection: &mut AnyConnection, found: i64) -> Result<(), RegistryError> {
    let (mut reached, mut tries) = (found, 0);
    while reached < LocalRegistry::newest_schema() {
        let Err(error) = MIGRATIONS.run_direct(None, connection, false).await else {
            return Ok(());
        };
        let before = reached;
        reached = store::file::schema_version(connection).await?;
        tries = if reached > before { 0 } else { tries + 1 };
        if tries > MIGRATION_TRIES {
            return Err(migration_error(error));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn check_version(found: i64) -> Result<(), RegistryError> {
    let known = LocalRegistry::newest_schema();
    if found > known {
        return Err(RegistryError::SchemaTooNew { found, known });
    }
    Ok(())
}

fn migration_error(error: MigrateError) -> RegistryError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(found) => RegistryError::SchemaTooNew {
            found,
            known: LocalRegistry::newest_schema(),
        },
        other => RegistryError::Damaged(other.to_string()),
    }
}

pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RegistryError::Store(error.to_string()))?
}
