//! One refresh at a time between processes: a lock on a file per account in the app's folder.
//! The system lets go of it when a process ends, however it ends.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::sign_in::SignInError;

/// A refresh takes at most a request and a keychain write.
const PATIENCE: Duration = Duration::from_secs(30);

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct RefreshLock {
    _file: File,
}

impl RefreshLock {
    /// Waits for the lock of one keychain entry.
    pub(crate) async fn acquire(folder: &Path, entry: &str) -> Result<Self, SignInError> {
        let failed = |error: std::io::Error| SignInError::LockFailed(error.to_string());
        let digest = hex::encode(Sha256::digest(entry.as_bytes()));
        let name = format!("refresh-{}.lock", &digest[..32]);
        make_folder(folder).map_err(failed)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(name))
            .map_err(failed)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(SignInError::LockFailed(
                        "another program holds it for too long".to_owned(),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RefreshLock;

    #[tokio::test]
    async fn ac_087_the_second_waits_for_the_first() -> Result<(), anyhow::Error> {
        let folder = tempfile::tempdir()?;
        let first = RefreshLock::acquire(folder.path(), "a").await?;
        let _other = RefreshLock::acquire(folder.path(), "b").await?;
        let second = RefreshLock::acquire(folder.path(), "a");
        tokio::pin!(second);
        assert!(
            tokio::time::timeout(Duration::from_millis(200), &mut second)
                .await
                .is_err()
        );
        drop(first);
        tokio::time::timeout(Duration::from_secs(2), second).await??;
        Ok(())
    }
}
