//! What becomes of a group that cannot be written.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection as _};
use tokio::sync::Notify;

use super::{BoxFuture, Unit};
use crate::{Clock, LocalRegistry, RegistryError};

type Outcome = anyhow::Result<()>;

async fn registry(folder: &Path) -> anyhow::Result<LocalRegistry> {
    let clock = Clock::from_fn(|| 1_800_000_000_000);
    Ok(LocalRegistry::open(&folder.join("registry.db"), clock).await?)
}

/// Writes something and then fails, or does not.
async fn write(
    registry: &LocalRegistry,
    runs: &Arc<AtomicUsize>,
    fate: Result<(), RegistryError>,
) -> Result<(), RegistryError> {
    registry
        .write((Arc::clone(runs), fate), |unit, (runs, fate)| {
            Box::pin(async move {
                runs.fetch_add(1, Ordering::SeqCst);
                sqlx::query("UPDATE heads SET id = id")
                    .execute(unit.write())
                    .await?;
                fate.clone()
            })
        })
        .await
}

#[tokio::test]
async fn a_silent_database_is_waited_for_once_and_not_by_each_of_a_group() -> Outcome {
    let folder = tempfile::tempdir()?;
    let registry = registry(folder.path()).await?;
    let runs = Arc::default();
    let silent = || write(&registry, &runs, Err(RegistryError::Silent));
    let (one, two, three) = tokio::join!(silent(), silent(), silent());
    for answer in [one, two, three] {
        assert!(matches!(answer, Err(RegistryError::Silent)), "{answer:?}");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1, "the first speaks for all");

    // What one use case alone broke does not keep the others from being done.
    let runs = Arc::default();
    let broken = || write(&registry, &runs, Err(RegistryError::Store("odd".into())));
    let good = || write(&registry, &runs, Ok(()));
    let (one, two, three) = tokio::join!(good(), broken(), good());
    assert!(one.is_ok() && two.is_err() && three.is_ok());

    // Alone it turns out that the database is silent: the rest do not wait for it again.
    let runs = Arc::new(AtomicUsize::new(0));
    let turns = Arc::clone(&runs);
    let later = || {
        let turns = Arc::clone(&turns);
        registry.write(turns, |unit, turns| {
            Box::pin(async move {
                let turn = turns.fetch_add(1, Ordering::SeqCst);
                sqlx::query("UPDATE heads SET id = id")
                    .execute(unit.write())
                    .await?;
                match turn {
                    0 => Err::<(), _>(RegistryError::Locked),
                    _ => Err(RegistryError::Silent),
                }
            })
        })
    };
    let (one, two, three) = tokio::join!(later(), later(), later());
    for answer in [one, two, three] {
        assert!(matches!(answer, Err(RegistryError::Silent)), "{answer:?}");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    registry.close().await;
    Ok(())
}

/// Where a use case waits in its transaction.
#[derive(Default)]
struct Gate {
    begun: Notify,
    go: Notify,
}

/// What a use case does: it says that it began, waits where it is to, and leaves a mark.
#[derive(Clone, Default)]
struct Step {
    name: &'static str,
    gate: Option<Arc<Gate>>,
    fails: bool,
    runs: Arc<AtomicUsize>,
}

impl Step {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    fn at(name: &'static str, gate: &Arc<Gate>) -> Self {
        Self {
            gate: Some(Arc::clone(gate)),
            ..Self::new(name)
        }
    }
}

fn take<'a>(unit: &'a mut Unit, step: &'a Step) -> BoxFuture<'a, Result<(), RegistryError>> {
    Box::pin(async move {
        let runs = step.runs.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = step.gate.as_ref().filter(|_| runs == 0) {
            gate.begun.notify_one();
            gate.go.notified().await;
        }
        sqlx::query("INSERT INTO marks (name) VALUES ($1)")
            .bind(step.name.to_owned())
            .execute(unit.write())
            .await?;
        if step.fails {
            return Err(RegistryError::Store("odd".into()));
        }
        Ok(())
    })
}

/// The registry, with a table for marks and a connection of a stranger.
async fn with_marks(folder: &Path) -> anyhow::Result<(LocalRegistry, AnyConnection)> {
    let registry = registry(folder).await?;
    let url = format!("sqlite://{}", folder.join("registry.db").display());
    let mut stranger = AnyConnection::connect(&url).await?;
    sqlx::raw_sql("CREATE TABLE marks (name TEXT NOT NULL)")
        .execute(&mut stranger)
        .await?;
    Ok((registry, stranger))
}

async fn marks(stranger: &mut AnyConnection) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar("SELECT name FROM marks ORDER BY rowid")
        .fetch_all(stranger)
        .await?)
}

/// Puts it into the queue, and no more: the writer has no turn meanwhile.
async fn queued<T>(asking: &mut Pin<Box<impl Future<Output = T>>>) -> Outcome {
    tokio::select! {
        biased;
        _ = asking => anyhow::bail!("the writer had no turn yet"),
        () = std::future::ready(()) => Ok(()),
    }
}

#[tokio::test]
async fn nobody_writes_for_who_is_gone_after_it_was_undone() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (registry, mut stranger) = with_marks(folder.path()).await?;
    let gate = Arc::default();
    let (gone, broken) = (Step::at("gone", &gate), Step::new("broken"));
    let broken = Step {
        fails: true,
        ..broken
    };
    let runs = (Arc::clone(&gone.runs), Arc::clone(&broken.runs));
    let mut gone = Box::pin(registry.write(gone, take));
    let mut broken = Box::pin(registry.write(broken, take));
    queued(&mut gone).await?;
    queued(&mut broken).await?;
    // It goes away in the middle of its work, which what comes behind it undoes.
    gate.begun.notified().await;
    drop(gone);
    gate.go.notify_one();
    assert!(broken.await.is_err());
    let runs = (runs.0.load(Ordering::SeqCst), runs.1.load(Ordering::SeqCst));
    assert_eq!(runs, (1, 2), "with the group, and not again");
    assert_eq!(marks(&mut stranger).await?, Vec::<String>::new());
    registry.close().await;
    Ok(())
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_begun_and_what_was_begun_is_done() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (registry, mut stranger) = with_marks(folder.path()).await?;
    let gate = Arc::default();
    let step = Step::new("behind it in its group");
    let not_begun = Arc::clone(&step.runs);
    let mut begun = Box::pin(registry.write(Step::at("begun", &gate), take));
    let mut behind = Box::pin(registry.write(step, take));
    let mut known = Box::pin(registry.write_anyway(Step::new("to be known"), take));
    queued(&mut begun).await?;
    queued(&mut behind).await?;
    queued(&mut known).await?;
    gate.begun.notified().await;
    // The next group: all of it goes away, and there is not even a transaction for it.
    let step = Step {
        runs: Arc::clone(&not_begun),
        ..Step::new("in the next group")
    };
    let mut next = Box::pin(registry.write(step, take));
    queued(&mut next).await?;
    drop((begun, behind, known, next));
    gate.go.notify_one();
    registry.write(Step::new("last"), take).await?;
    let expected = ["begun", "to be known", "last"];
    assert_eq!(marks(&mut stranger).await?, expected);
    assert_eq!(not_begun.load(Ordering::SeqCst), 0);
    registry.close().await;
    Ok(())
}

#[tokio::test]
async fn a_lock_that_nobody_lets_go_is_waited_for_once() -> Outcome {
    let folder = tempfile::tempdir()?;
    let registry = registry(folder.path()).await?;
    let url = format!("sqlite://{}", folder.path().join("registry.db").display());
    let mut stranger = AnyConnection::connect(&url).await?;
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut stranger)
        .await?;
    let runs = Arc::default();
    let good = || write(&registry, &runs, Ok(()));
    let began = Instant::now();
    let (one, two, three, four) = tokio::join!(good(), good(), good(), good());
    // One wait is five seconds; each for itself they would be twenty-five.
    assert!(
        began.elapsed() < Duration::from_secs(18),
        "{:?}",
        began.elapsed()
    );
    for answer in [one, two, three, four] {
        assert!(matches!(answer, Err(RegistryError::Locked)), "{answer:?}");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await?;
    good().await?;
    registry.close().await;
    Ok(())
}
