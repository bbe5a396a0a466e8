//! The operating system's keychain: the only place a refresh token rests in.
//! Calls never block the caller's thread and end within three seconds. Nothing here falls back
//! to a file by itself: a keychain that does not answer is an error with a line of help. A person
//! without a keychain may choose the encrypted file, which then takes its place.

mod error;
mod store;
mod vault;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keywright_domain::SecretText;
use keywright_protocol::settings::{KeychainView, VaultState};
use tokio::sync::Mutex;

pub use error::KeychainError;
use store::OpenStore;
use vault::Vault;
use worker::{Job, Outcome, Worker};

/// A call that has not ended by then is given up.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// How often a stuck keychain is asked again; in between it is refused at once.
const ASK_AGAIN: Duration = Duration::from_secs(4);
/// Threads that wait for ever in an unlock dialog: no more than this many.
const STUCK_LIMIT: usize = 3;

/// The operating system's keychain. Cheap to clone; all clones share one lane of calls.
#[derive(Clone)]
pub struct Keychain {
    inner: Arc<Inner>,
}

/// What names a secret in the keychain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryName {
    /// The app, with a suffix where `KEYWRIGHT_HOME` chose another folder.
    pub service: String,
    /// What the secret is for, for example `pepper` or `refresh:{issuer} {subject} {client_id}`.
    pub user: String,
}

struct Inner {
    service: String,
    open: OpenStore,
    /// The encrypted file, if this keychain may have one.
    vault: Option<Arc<Vault>>,
    lane: Mutex<Lane>,
    /// Abandoned threads that are still inside a call.
    stuck: Arc<AtomicUsize>,
}

/// One call at a time: the stores below are not made for more.
#[derive(Default)]
struct Lane {
    worker: Option<Worker>,
    last_timeout: Option<(Instant, KeychainError)>,
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain")
            .field("service", &self.inner.service)
            .finish_non_exhaustive()
    }
}

impl Keychain {
    /// The platform's keychain, not opened yet. `service` sets our entries apart from other
    /// apps'; `vault_file` is where the encrypted file is, if a person ever chooses one.
    #[must_use]
    pub fn new(service: String, vault_file: PathBuf) -> Self {
        let vault = Some(Vault::new(vault_file));
        Self::assemble(service, Arc::new(store::open_platform_store), vault)
    }

    #[cfg(test)]
    pub(crate) fn with_store(service: String, open: OpenStore) -> Self {
        Self::assemble(service, open, None)
    }

    fn assemble(service: String, open: OpenStore, vault: Option<Arc<Vault>>) -> Self {
        let inner = Inner {
            service,
            open,
            vault,
            lane: Mutex::default(),
            stuck: Arc::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Makes the encrypted file and uses it from now on. Only for a system whose keychain does
    /// not answer, and only because a person chose it (AC-162).
    ///
    /// # Errors
    /// [`KeychainError::VaultNotNeeded`] where a keychain answers;
    /// [`KeychainError::VaultPassphraseTooShort`].
    pub async fn create_vault(&self, passphrase: SecretText) -> Result<(), KeychainError> {
        if self.chosen_vault().is_none() && self.probe().await.healthy {
            return Err(KeychainError::VaultNotNeeded(
                "This system's keychain works; no file is needed.",
            ));
        }
        self.on_vault(move |vault| vault.create(&passphrase)).await
    }

    /// Opens the encrypted file.
    ///
    /// # Errors
    /// [`KeychainError::VaultWrongPassphrase`], [`KeychainError::VaultBackOff`],
    /// [`KeychainError::VaultCorrupt`].
    pub async fn unlock_vault(&self, passphrase: SecretText) -> Result<(), KeychainError> {
        self.on_vault(move |vault| vault.unlock(&passphrase)).await
    }

    /// Forgets the key of the encrypted file.
    pub fn lock_vault(&self) {
        if let Some(vault) = &self.inner.vault {
            vault.lock();
        }
    }

    fn chosen_vault(&self) -> Option<&Arc<Vault>> {
        self.inner.vault.as_ref().filter(|vault| vault.is_chosen())
    }

    async fn on_vault<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vault) -> Result<T, KeychainError> + Send + 'static,
    ) -> Result<T, KeychainError> {
        let vault = self
            .inner
            .vault
            .clone()
            .ok_or_else(KeychainError::unexpected)?;
        let done = tokio::task::spawn_blocking(move || work(&vault)).await;
        done.map_err(|error| KeychainError::Failed {
            detail: error.to_string(),
        })?
    }

    /// The service all entries of this keychain carry.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.inner.service
    }

    /// Reads an entry that is another program's to use. Where an encrypted file has taken the
    /// keychain's place, other programs could not read it: it is refused.
    pub(crate) async fn read_entry(
        &self,
        name: &EntryName,
    ) -> Result<Option<SecretText>, KeychainError> {
        self.refuse_vault()?;
        match self.call_on(Job::Read(name.clone())).await? {
            Outcome::Secret(secret) => Ok(secret),
            Outcome::Done(_) => Err(KeychainError::unexpected()),
        }
    }

    /// Writes an entry for another program.
    pub(crate) async fn write_entry(
        &self,
        name: &EntryName,
        secret: &SecretText,
    ) -> Result<(), KeychainError> {
        self.refuse_vault()?;
        store::check_size(secret)?;
        let job = Job::Write(name.clone(), secret.clone());
        self.call_on(job).await.map(drop)
    }

    /// Deletes an entry of another program; false where there was none.
    pub(crate) async fn delete_entry(&self, name: &EntryName) -> Result<bool, KeychainError> {
        self.refuse_vault()?;
        match self.call_on(Job::Delete(name.clone())).await? {
            Outcome::Done(existed) => Ok(existed),
            Outcome::Secret(_) => Err(KeychainError::unexpected()),
        }
    }

    fn refuse_vault(&self) -> Result<(), KeychainError> {
        if self.chosen_vault().is_some() {
            return Err(KeychainError::Unavailable {
                detail: "an encrypted file is in the keychain's place".to_owned(),
            });
        }
        Ok(())
    }

    /// Reads a secret; `None` where there is no such entry. That alone does not prove a healthy
    /// keychain: see [`Keychain::probe`].
    ///
    /// # Errors
    /// [`KeychainError`], within three seconds.
    pub async fn read(&self, user: &str) -> Result<Option<SecretText>, KeychainError> {
        match self.call(Job::Read, user).await? {
            Outcome::Secret(secret) => Ok(secret),
            Outcome::Done(_) => Err(KeychainError::unexpected()),
        }
    }

    /// Writes a secret, replacing what was there.
    ///
    /// # Errors
    /// [`KeychainError`], within three seconds. After an error the old value is still there.
    pub async fn write(&self, user: &str, secret: &SecretText) -> Result<(), KeychainError> {
        store::check_size(secret)?;
        self.call(|name| Job::Write(name, secret.clone()), user)
            .await
            .map(drop)
    }

    /// Deletes a secret; false where there was none.
    ///
    /// # Errors
    /// [`KeychainError`], within three seconds.
    pub async fn delete(&self, user: &str) -> Result<bool, KeychainError> {
        match self.call(Job::Delete, user).await? {
            Outcome::Done(existed) => Ok(existed),
            Outcome::Secret(_) => Err(KeychainError::unexpected()),
        }
    }

    /// Writes, reads and deletes an entry of its own.
    ///
    /// # Errors
    /// [`KeychainError`], within three seconds.
    pub async fn check(&self) -> Result<(), KeychainError> {
        let user = format!("probe-{}", std::process::id());
        self.call(Job::Probe, &user).await.map(drop)
    }

    /// [`Keychain::check`], as a face shows it.
    pub async fn probe(&self) -> KeychainView {
        let started = Instant::now();
        let problem = self.check().await.err();
        let took_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let chosen = self.chosen_vault();
        KeychainView {
            store_name: chosen
                .map_or(store::STORE_NAME, |_| "Encrypted file")
                .to_owned(),
            vault: match chosen {
                None => VaultState::Absent,
                Some(vault) if vault.is_open() => VaultState::Open,
                Some(_) => VaultState::Locked,
            },
            healthy: problem.is_none(),
            problem: problem.as_ref().map(KeychainError::view),
            took_ms,
        }
    }

    async fn call(
        &self,
        job: impl FnOnce(EntryName) -> Job,
        user: &str,
    ) -> Result<Outcome, KeychainError> {
        let job = job(EntryName {
            service: self.inner.service.clone(),
            user: user.to_owned(),
        });
        if self.chosen_vault().is_some() {
            return self.on_vault(move |vault| vault_job(vault, job)).await;
        }
        self.call_on(job).await
    }

    /// One call in the platform's keychain.
    async fn call_on(&self, job: Job) -> Result<Outcome, KeychainError> {
        let deadline = tokio::time::Instant::now() + CALL_LIMIT;
        let Ok(mut lane) = tokio::time::timeout_at(deadline, self.inner.lane.lock()).await else {
            return Err(KeychainError::Busy);
        };
        self.refuse_while_stuck(&lane)?;
        let worker = match lane.worker.take() {
            Some(worker) => worker,
            None => Worker::start(Arc::clone(&self.inner.open))?,
        };
        let pending = worker.submit(job)?;
        // From here on a cancelled caller must not leave a half-used worker in the lane:
        // the worker is put back only after its answer.
        match tokio::time::timeout_at(deadline, pending).await {
            Ok(Ok(answer)) => {
                lane.worker = Some(worker);
                lane.last_timeout = None;
                answer
            }
            Ok(Err(_gone)) => Err(KeychainError::Failed {
                detail: "the keychain's thread ended".to_owned(),
            }),
            Err(_elapsed) => {
                let problem = worker.abandon(&self.inner.stuck);
                tracing::warn!(code = problem.code(), "keychain call given up");
                lane.last_timeout = Some((Instant::now(), problem.clone()));
                Err(problem)
            }
        }
    }

    /// While a thread hangs in an unlock dialog, further calls would only hang behind it.
    fn refuse_while_stuck(&self, lane: &Lane) -> Result<(), KeychainError> {
        let stuck = self.inner.stuck.load(Ordering::Acquire);
        match &lane.last_timeout {
            Some((when, problem))
                if stuck > 0 && (stuck >= STUCK_LIMIT || when.elapsed() < ASK_AGAIN) =>
            {
                Err(problem.clone())
            }
            _ => Ok(()),
        }
    }
}

fn vault_job(vault: &Vault, job: Job) -> Result<Outcome, KeychainError> {
    match job {
        Job::Read(name) => vault.read(&name.user).map(Outcome::Secret),
        Job::Write(name, secret) => vault.set(&name.user, &secret).map(|()| Outcome::Done(true)),
        Job::Delete(name) => vault.delete(&name.user).map(Outcome::Done),
        Job::Probe(name) => {
            vault.set(&name.user, &SecretText::new("probe".to_owned()))?;
            vault.read(&name.user)?;
            vault.delete(&name.user).map(Outcome::Done)
        }
    }
}
