//! Keeps the search index up with the keys, in the background. What it does not know yet is found all
//! the same, by reading it. On PostgreSQL the database itself keeps a list of what waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::{self, Kind};
use crate::{LocalRegistry, RegistryError};

/// How often it is looked whether keys wait.
const EVERY: Duration = Duration::from_secs(1);
/// Keys in one transaction: about 15 ms of the writer's time.
const BATCH: i64 = 256;
/// While keys are being written, so many may wait: searches read them one by one.
const WAITING: i64 = 10_000;
/// And then at most this much of each second goes into the index.
const BUSY: Duration = Duration::from_millis(200);

impl LocalRegistry {
    pub(crate) fn index_search_in_background(&self) {
        let weak = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let mut newest = 0;
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(shared) = weak.upgrade() else { return };
                if shared.pool.is_closed() {
                    return;
                }
                match (Self {
                    shared,
                    conditions: None,
                })
                .follow_with_search(newest)
                .await
                {
                    Ok(now_newest) => newest = now_newest,
                    Err(error) => {
                        tracing::warn!(code = error.code(), "the search index waits");
                    }
                }
            }
        });
    }

    /// Indexes what waits, all of it if nothing came since `newest`. Returns the newest that waits.
    async fn follow_with_search(&self, newest: i64) -> Result<i64, RegistryError> {
        if self.shared.kind == Kind::Postgres {
            let seen = self.shared.freshness.seen_change();
            if seen != newest {
                store::postgres::tidy_search(&mut *self.shared.pool.acquire().await?).await?;
            }
            return Ok(seen);
        }
        let (oldest, last) =
            store::search::waiting(&mut *self.shared.pool.acquire().await?).await?;
        let began = Instant::now();
        let is_quiet = last == newest;
        let mut left = if is_quiet {
            i64::MAX
        } else {
            last - oldest - WAITING
        };
        while last > 0 && left > 0 && (is_quiet || began.elapsed() < BUSY) {
            let indexed = self.index_search_batch().await?;
            if indexed < BATCH {
                return Ok(0);
            }
            left -= indexed;
        }
        Ok(last)
    }

    async fn index_search_batch(&self) -> Result<i64, RegistryError> {
        self.write((), |unit, ()| {
            Box::pin(store::file::index_search(unit.write_beside(), BATCH))
        })
        .await
    }
}
