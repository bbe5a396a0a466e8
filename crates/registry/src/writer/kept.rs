//! The writer's own connection. It is kept from group to group, so that its statements stay
//! prepared and its pages stay in memory: SQLite forgets the pages of every other connection with
//! each commit. Only the writer's task uses it, one group at a time.

use std::time::Duration;

use sqlx::AnyConnection;

use crate::store::heads::{self, Head};
use crate::{RegistryError, Shared, store};

/// A connection that takes longer for it is closed.
const ROLL_BACK_WITHIN: Duration = Duration::from_secs(5);

/// The connection, where there is one: none before the first group, and none after a failure.
#[derive(Default)]
pub(crate) struct Kept {
    connection: Option<AnyConnection>,
    closed: bool,
}

/// A transaction that holds the row.
pub(super) struct Begun {
    pub(super) connection: AnyConnection,
    pub(super) head: Head,
    /// Whether the connection was made for it.
    pub(super) is_new: bool,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    /// Begins a transaction and locks the row of `heads`. A connection that was lost while it was
    /// kept is replaced once: nothing was asked of it yet.
    pub(super) async fn begin(&mut self, shared: &Shared) -> Result<Begun, RegistryError> {
        if self.closed {
            return Err(RegistryError::Store("the registry is closed".into()));
        }
        if let Some(mut connection) = self.connection.take() {
            match lock(&mut connection, shared).await {
                Ok(head) => {
                    return Ok(Begun {
                        connection,
                        head,
                        is_new: false,
                    });
                }
                Err(RegistryError::Locked) => {
                    self.roll_back(connection).await;
                    return Err(RegistryError::Locked);
                }
                Err(error) => tracing::warn!(
                    code = error.code(),
                    "the writer's connection was lost and is made anew"
                ),
            }
        }
        let mut connection = shared.pool.acquire().await?.detach();
        if shared.kind == store::Kind::Postgres {
            store::postgres::configure_writer(&mut connection).await?;
        }
        let head = lock(&mut connection, shared).await?;
        Ok(Begun {
            connection,
            head,
            is_new: true,
        })
    }

    /// Keeps a connection whose transaction has ended.
    pub(super) fn keep(&mut self, connection: AnyConnection) {
        self.connection = Some(connection);
    }

    /// Takes a transaction back. A connection that cannot do that is closed, which does it too.
    pub(super) async fn roll_back(&mut self, mut connection: AnyConnection) {
        let undone = tokio::time::timeout(ROLL_BACK_WITHIN, store::roll_back(&mut connection));
        if matches!(undone.await, Ok(Ok(()))) {
            self.keep(connection);
        }
    }

    /// Closes it for good.
    pub(crate) async fn close(&mut self) {
        self.closed = true;
        if let Some(connection) = self.connection.take()
            && let Err(error) = sqlx::Connection::close(connection).await
        {
            tracing::debug!(%error, "the writer's connection did not close well");
        }
    }
}

async fn lock(connection: &mut AnyConnection, shared: &Shared) -> Result<Head, RegistryError> {
    store::begin(connection, shared.kind).await?;
    heads::lock(connection).await
}
