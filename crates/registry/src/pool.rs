//! The pool of connections, and what is done when a database falls silent. A connection whose other end
//! is gone without a word (a cut network, a machine without power) answers nothing and fails nothing for
//! many minutes, and everything that waits on it waits as long. So when the log of changes cannot be read
//! for some seconds, all connections are given up at once, whoever waits on one is told, and new ones are
//! made.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Transaction};
use tokio::sync::watch;

use crate::RegistryError;
use crate::store::{self, Kind};
use crate::watching::ConnectionStatistics;

/// A file may be locked for so long before its lock is an error.
pub(crate) const BUSY_TIMEOUT_MS: u32 = 5000;
const ACQUIRE_WITHIN: Duration = Duration::from_secs(10);
/// Closing connections that answer nothing is given up after this time.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The connections of a registry.
#[derive(Debug)]
pub(crate) struct Pool {
    now: RwLock<AnyPool>,
    options: AnyConnectOptions,
    kind: Kind,
    /// Counts up each time all connections were given up.
    lost: watch::Sender<u64>,
    closed: AtomicBool,
}

impl Pool {
    /// Connects.
    ///
    /// # Errors
    /// [`RegistryError`] if the database does not answer.
    pub(crate) async fn connect(
        options: AnyConnectOptions,
        kind: Kind,
    ) -> Result<Self, RegistryError> {
        let first = pool_options(kind).connect_with(options.clone()).await?;
        Ok(Self {
            now: RwLock::new(first),
            options,
            kind,
            lost: watch::Sender::new(0),
            closed: AtomicBool::new(false),
        })
    }

    fn now(&self) -> AnyPool {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Any>, sqlx::Error> {
        self.now().acquire().await
    }

    /// A connection that the pool knows nothing of, and so whoever makes it closes it.
    ///
    /// # Errors
    /// [`RegistryError`] if the database does not answer.
    pub(crate) async fn connect_beside(&self) -> Result<AnyConnection, RegistryError> {
        let mut connection = AnyConnection::connect_with(&self.options).await?;
        configure(&mut connection, self.kind).await?;
        Ok(connection)
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.now().begin().await
    }

    pub(crate) async fn begin_with(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.now().begin_with(statement).await
    }

    /// How it stands at the moment.
    pub(crate) fn statistics(&self) -> ConnectionStatistics {
        let now = self.now();
        let open = u64::from(now.size());
        let idle = u64::try_from(now.num_idle()).unwrap_or(open).min(open);
        ConnectionStatistics {
            busy: open - idle,
            idle,
            most: u64::from(now.options().get_max_connections()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes it for good. A database that answers nothing is not waited for.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let now = self.now();
        match self.kind {
            Kind::Sqlite => now.close().await,
            Kind::Postgres => {
                let _ = tokio::time::timeout(CLOSE_WITHIN, now.close()).await;
            }
        }
    }

    /// Gives all connections up and begins with new ones. Whoever waits within
    /// [`Pool::while_reachable`] is told; what a request waits for ends with the request.
    pub(crate) fn replace(&self) {
        if self.is_closed() || self.kind == Kind::Sqlite {
            return;
        }
        let new = pool_options(self.kind).connect_lazy_with(self.options.clone());
        let old = {
            let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, new)
        };
        let lost = self.lost.clone();
        tokio::spawn(async move {
            // From this call on, what is given back is closed and not asked whether it still answers.
            let closing = old.close();
            lost.send_modify(|count| *count += 1);
            let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
        });
    }

    /// Counts up when all connections are given up.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    /// Does work that waits for the database, unless all connections are given up meanwhile.
    ///
    /// # Errors
    /// [`RegistryError::Silent`] then.
    pub(crate) async fn while_reachable<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, RegistryError> {
        let mut lost = self.lost.subscribe();
        tokio::select! {
            biased;
            done = work => Ok(done),
            _ = lost.changed() => Err(RegistryError::Silent),
        }
    }
}

async fn configure(connection: &mut AnyConnection, kind: Kind) -> Result<(), RegistryError> {
    match kind {
        Kind::Sqlite => store::file::configure(connection, BUSY_TIMEOUT_MS).await,
        Kind::Postgres => store::postgres::configure(connection).await,
    }
}

fn pool_options(kind: Kind) -> AnyPoolOptions {
    let mut pool = AnyPoolOptions::new().max_connections(match kind {
        Kind::Sqlite => 5,
        Kind::Postgres => 10,
    });
    if kind == Kind::Sqlite {
        // The last connection to a file takes its log away, and with it what tells us of other
        // processes' commits: from the first to the last moment, one stays open.
        pool = pool
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None);
    }
    pool.acquire_timeout(ACQUIRE_WITHIN)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                let configured = configure(connection, kind).await;
                configured.map_err(|error| sqlx::Error::Configuration(error.to_string().into()))
            })
        })
}
