//! Somebody else who holds what every change needs: whoever is asked meanwhile is killed in the middle of it for
//! certain, and not only by luck.
//!
//! On PostgreSQL they hold the audit trail, which is written last: the change is made and its transaction is open.
//! What changes without an event of the trail is held where it writes. On SQLite who writes holds the whole file.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::{AnyConnection, Connection as _, PgConnection};
use tokio::task::JoinHandle;

/// Who has these cannot be overtaken by anybody who writes there; whoever reads goes on.
const HOLD: &str = "SET lock_timeout = '20s'; BEGIN; LOCK TABLE alerts, board_reads, board_readers, outbox, \
    refresh_tokens, pushed_requests, login_transactions, audit_checkpoints, audit_events IN SHARE ROW EXCLUSIVE MODE";
/// On SQLite nobody sees who waits. In this time a request is read and comes to its write.
const SOON: Duration = Duration::from_millis(400);
/// In this time somebody waits on PostgreSQL, whatever they do before, also on a busy machine.
const AT_LAST: Duration = Duration::from_secs(15);

/// Who holds it. It is let go with this value.
pub(in crate::server) enum Held {
    Sqlite(AnyConnection),
    Postgres {
        holder: PgConnection,
        eye: PgConnection,
    },
}

impl Held {
    /// Holds it. `data`: the server's folder, for a server without PostgreSQL.
    pub(in crate::server) async fn begin(database: Option<&str>, data: &Path) -> Result<Self> {
        let Some(database) = database else {
            sqlx::any::install_default_drivers();
            let url = format!("sqlite://{}", data.join("registry.db").display());
            let mut holder = AnyConnection::connect(&url).await?;
            let begin = sqlx::raw_sql("BEGIN IMMEDIATE");
            begin.execute(&mut holder).await?;
            return Ok(Self::Sqlite(holder));
        };
        let mut holder = PgConnection::connect(database).await?;
        let eye = PgConnection::connect(database).await?;
        sqlx::raw_sql(HOLD).execute(&mut holder).await?;
        Ok(Self::Postgres { holder, eye })
    }

    /// Waits until somebody waits for it. Fails if the request was answered: then nothing of it was held.
    pub(in crate::server) async fn is_waited_for<T>(
        &mut self,
        asked: &JoinHandle<T>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(_) => tokio::time::sleep(SOON).await,
            Self::Postgres { eye, .. } => {
                let end = Instant::now() + AT_LAST;
                while !asked.is_finished() && waiting(eye).await? == 0 {
                    ensure!(Instant::now() < end, "nobody waits for what is held");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                // Should it be another one who waits, the request is behind them a moment later.
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        }
        ensure!(!asked.is_finished(), "it was answered, whatever is held");
        Ok(())
    }

    /// Lets it go.
    pub(in crate::server) async fn let_go(self) -> Result<()> {
        match self {
            Self::Sqlite(mut holder) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
                holder.close().await.context("the file")
            }
            Self::Postgres { mut holder, eye } => {
                sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
                holder.close().await?;
                eye.close().await.context("the database")
            }
        }
    }
}

/// How many of this database's transactions wait for a lock.
async fn waiting(eye: &mut PgConnection) -> Result<i64> {
    let question = "SELECT COUNT(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    Ok(sqlx::query_scalar(question).fetch_one(eye).await?)
}
