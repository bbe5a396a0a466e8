//! Opening the registry file: safe place, health, migrations, and the flush of use counts.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyConnection, AnyPool, Connection};
use tokio::sync::Mutex;

use crate::error::RegistryError;
use crate::store;
use crate::uses::UseRecorder;
use crate::{LocalRegistry, Shared};

static MIGRATIONS: Migrator = sqlx::migrate!();
const BUSY_TIMEOUT_MS: u32 = 5000;
const FLUSH_EVERY: Duration = Duration::from_secs(1);

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
        migrate(&mut connection, &path, is_new, clock.now()).await?;
        connection.close().await?;

        let pool = pool(options).await?;
        let shared = Shared {
            path,
            pool,
            clock,
            writer: Mutex::new(()),
            reader: Mutex::default(),
            uses: UseRecorder::default(),
        };
        let registry = Self {
            shared: Arc::new(shared),
        };
        registry.flush_in_background();
        Ok(registry)
    }

    /// Schema version of the open file.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be read.
    pub async fn schema_version(&self) -> Result<i64, RegistryError> {
        store::file::schema_version(&mut *self.shared.pool.acquire().await?).await
    }

    /// Size of the file with its log, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        store::file::size_on_disk(&self.shared.path)
    }

    /// Writes what waits and closes the file. Called when the app quits.
    pub async fn close(&self) {
        if let Err(error) = self.flush_uses().await {
            tracing::warn!(code = error.code(), "the last use counts were not written");
        }
        // The pool waits for every connection, and this one is never given back by itself.
        self.shared.reader.lock().await.take();
        self.shared.pool.close().await;
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
                if let Err(error) = (Self { shared }).flush_uses().await {
                    tracing::warn!(code = error.code(), "use counts wait for the next flush");
                }
            }
        });
    }
}

async fn pool(options: AnyConnectOptions) -> Result<AnyPool, RegistryError> {
    let pool = AnyPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection, _| {
            Box::pin(async move {
                store::file::configure(connection, BUSY_TIMEOUT_MS)
                    .await
                    .map_err(|error| sqlx::Error::Configuration(error.to_string().into()))
            })
        })
        .connect_with(options)
        .await?;
    Ok(pool)
}

async fn migrate(
    connection: &mut AnyConnection,
    path: &Path,
    is_new: bool,
    now: i64,
) -> Result<(), RegistryError> {
    let known = LocalRegistry::newest_schema();
    let found = if is_new {
        0
    } else {
        store::file::schema_version(connection).await?
    };
    if found > known {
        return Err(RegistryError::SchemaTooNew { found, known });
    }
    if found > 0 && found < known {
        let backup = store::file::back_up(connection, path, found).await?;
        tracing::info!(from = found, to = known, backup = %backup.display(), "migrating the registry");
    }
    // SQLite's migrations take no lock: another process may have just done the same work.
    if found < known
        && let Err(error) = MIGRATIONS.run_direct(None, connection, false).await
        && store::file::schema_version(connection).await? < known
    {
        return Err(migration_error(error, known));
    }
    store::scopes::insert_defaults_once(connection, now).await
}

fn migration_error(error: MigrateError, known: i64) -> RegistryError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(found) => RegistryError::SchemaTooNew { found, known },
        other => RegistryError::Damaged(other.to_string()),
    }
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RegistryError::Store(error.to_string()))?
}
