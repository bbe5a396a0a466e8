//! What becomes of a group that cannot be written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection as _};

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

#[tokio::test]
async fn nobody_writes_for_who_is_gone_after_it_was_undone() -> Outcome {
    let folder = tempfile::tempdir()?;
    let registry = registry(folder.path()).await?;
    let (runs, others) = (Arc::default(), Arc::default());
    let mut gone = Box::pin(write(&registry, &runs, Ok(())));
    let mut broken = Box::pin(write(
        &registry,
        &others,
        Err(RegistryError::Store("odd".into())),
    ));
    // Both are queued, and one goes away.
    tokio::select! {
        biased;
        _ = &mut gone => anyhow::bail!("the writer had no turn yet"),
        _ = &mut broken => anyhow::bail!("the writer had no turn yet"),
        () = std::future::ready(()) => {}
    }
    drop(gone);
    assert!(broken.await.is_err());
    let (runs, others) = (runs.load(Ordering::SeqCst), others.load(Ordering::SeqCst));
    assert_eq!((runs, others), (1, 2), "with the group, and not again");
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
