//! Hears of other nodes' changes on a connection of its own, reads the log at once, and says when
//! memory has them. A lost connection is made anew, and after each new one the log is read.

use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Acquire as _, AnyConnection};

use super::Wake;
use crate::{RegistryError, Shared, freshness, store};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that takes longer is given up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A silent connection is asked whether it is still one.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Rows of nodes that are gone are looked for so often.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// Listens until the registry is closed or dropped.
pub(super) fn start(shared: &Arc<Shared>, address: String) {
    let weak = Arc::downgrade(shared);
    let mut stop = shared.nodes.stop.subscribe();
    tokio::spawn(async move {
        let work = listen_for_ever(&weak, &address);
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stopped| *stopped) => {}
        }
    });
}

async fn listen_for_ever(weak: &Weak<Shared>, address: &str) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let mut lost = {
            let Some(shared) = weak.upgrade() else { return };
            shared.pool.watch()
        };
        let ended = tokio::select! {
            ended = listen(weak, address) => ended,
            // Its connections are as silent as the others.
            _ = lost.changed() => Err(RegistryError::Silent),
        };
        let Some(shared) = weak.upgrade() else { return };
        let was_listening = shared.nodes.listening.swap(false, Ordering::Relaxed);
        if was_listening {
            shared.nodes.lost.fetch_add(1, Ordering::Relaxed);
        }
        drop(shared);
        let Err(error) = ended else { return };
        tracing::warn!(
            code = error.code(),
            "other nodes' changes are not heard of; the log of changes is read five times a second"
        );
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        // Nodes that lost the same database do not all come back in the same moment.
        let part = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(pause.mul_f64(part)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends well when the registry is gone.
async fn listen(weak: &Weak<Shared>, address: &str) -> Result<(), RegistryError> {
    let mut listener = within(CONNECT_WITHIN, connect(address)).await?;
    let mut reading: Option<AnyConnection> = None;
    {
        let Some(shared) = weak.upgrade() else {
            return Ok(());
        };
        // From here on nothing is missed: what was committed before is read now.
        shared.nodes.listening.store(true, Ordering::Relaxed);
        shared.nodes.heard_denials();
        catch_up(&shared, &mut reading).await?;
        acknowledge(&shared, &mut listener).await?;
    }
    let mut tidied = Instant::now();
    loop {
        let heard = match tokio::time::timeout(ASK_EVERY, listener.try_recv()).await {
            Ok(heard) => heard?,
            Err(_) => {
                within(ANSWER_WITHIN, alive(&mut listener)).await?;
                if weak.upgrade().is_none() {
                    return Ok(());
                }
                continue;
            }
        };
        let Some(first) = heard else {
            return Err(RegistryError::Store("the connection was lost".into()));
        };
        let mut wake = Wake::read(first.payload());
        while let Some(more) = listener.next_buffered() {
            wake = wake.and(Wake::read(more.payload()));
        }
        let Some(shared) = weak.upgrade() else {
            return Ok(());
        };
        shared.nodes.hear(wake);
        if wake.version == 0 {
            continue;
        }
        if freshness::seen(&shared) < wake.version {
            catch_up(&shared, &mut reading).await?;
            acknowledge(&shared, &mut listener).await?;
        } else if !shared.nodes.is_own(wake.version) {
            acknowledge(&shared, &mut listener).await?;
        }
        if tidied.elapsed() > TIDY_EVERY {
            tidied = Instant::now();
            if let Some(connection) = &mut reading {
                store::nodes::forget_gone(connection).await?;
            }
        }
    }
}

async fn connect(address: &str) -> Result<PgListener, RegistryError> {
    // The error may quote the address, and the address may hold a password.
    let options = PgConnectOptions::from_str(address)
        .map_err(|_| RegistryError::UnsafePath("the database's address is not one".into()))?
        .application_name("keywright listen");
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(CONNECT_WITHIN)
        .connect_with(options)
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // It is made anew by us: then the log is read.
    listener.eager_reconnect(false);
    listener.listen(store::nodes::CHANNEL).await?;
    Ok(listener)
}

/// Reads the log on a connection that is kept for it: another one would first be asked whether it is
/// still there.
async fn catch_up(
    shared: &Shared,
    reading: &mut Option<AnyConnection>,
) -> Result<(), RegistryError> {
    let mut connection = match reading.take() {
        Some(connection) => connection,
        None => shared.pool.acquire().await?.detach(),
    };
    freshness::catch_up_on(shared, &mut connection).await?;
    *reading = Some(connection);
    Ok(())
}

async fn acknowledge(shared: &Shared, listener: &mut PgListener) -> Result<(), RegistryError> {
    let Some(me) = shared.nodes.me.get() else {
        return Ok(());
    };
    let applied = freshness::seen(shared);
    let write = async {
        let connection = listener.acquire().await?;
        store::nodes::acknowledge(connection, &me.id, &me.name, applied).await
    };
    within(ANSWER_WITHIN, write).await
}

async fn alive(listener: &mut PgListener) -> Result<(), RegistryError> {
    let connection = listener.acquire().await?;
    Ok(sqlx::Connection::ping(connection).await?)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(RegistryError::Store("the database takes too long".into())))
}
