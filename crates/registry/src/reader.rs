//! Reads of keys that the index does not hold: those that come together become one query, on a
//! connection that is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Any;
use sqlx::pool::PoolConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::{RegistryError, Shared, freshness};

/// At most this many kids are asked for in one query.
const GROUP: usize = 64;
/// At most this many wait; more are refused, because whoever asks for so many does not know them.
const QUEUE: usize = 4096;

type Question = (String, oneshot::Sender<Result<(), RegistryError>>);

/// Where questions are put.
#[derive(Debug)]
pub(crate) struct Reader {
    questions: mpsc::Sender<Question>,
    asked: AtomicU64,
    task: Mutex<Option<AbortHandle>>,
}

pub(crate) struct Questions(mpsc::Receiver<Question>);

pub(crate) fn reader() -> (Reader, Questions) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reader = Reader {
        questions: sender,
        asked: AtomicU64::new(0),
        task: Mutex::default(),
    };
    (reader, Questions(receiver))
}

impl Reader {
    /// Brings the key of a kid into the index, if there is one.
    pub(crate) async fn load(&self, kid: &str) -> Result<(), RegistryError> {
        let (answer, answered) = oneshot::channel();
        self.asked.fetch_add(1, Ordering::Relaxed);
        let busy = || RegistryError::Store("too many unknown keys are asked for at once".into());
        self.questions
            .try_send((kid.to_owned(), answer))
            .map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }

    /// Kids that were asked for so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Gives the kept connection back, so that the pool can be closed.
    pub(crate) fn close(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// Answers until the registry is dropped or closed.
pub(crate) fn start(shared: &Arc<Shared>, mut questions: Questions) {
    let weak = Arc::downgrade(shared);
    let task = tokio::spawn(async move {
        let mut connection: Option<PoolConnection<Any>> = None;
        let mut group = Vec::with_capacity(GROUP);
        while questions.0.recv_many(&mut group, GROUP).await > 0 {
            let Some(shared) = weak.upgrade() else { return };
            let kids: Vec<String> = group.iter().map(|(kid, _)| kid.clone()).collect();
            let loaded = shared
                .pool
                .while_reachable(load(&shared, &mut connection, &kids))
                .await
                .and_then(|loaded| loaded);
            for (_, answer) in group.drain(..) {
                // Whoever asked may have gone.
                let _ = answer.send(loaded.clone());
            }
        }
    });
    let mut held = shared
        .reader
        .task
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *held = Some(task.abort_handle());
}

async fn load(
    shared: &Shared,
    held: &mut Option<PoolConnection<Any>>,
    kids: &[String],
) -> Result<(), RegistryError> {
    let mut connection = match held.take() {
        Some(connection) => connection,
        None => shared.pool.acquire().await?,
    };
    // Kept only after a whole answer: one that failed in the middle is not asked again.
    freshness::load_kids(shared, &mut connection, kids).await?;
    *held = Some(connection);
    Ok(())
}
