//! A thread of its own for the store, which may block for ever in an unlock dialog.
//! When that happens the thread is left alone and does nothing more once it wakes up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use keyring_core::{CredentialStore, Error as StoreError};
use keywright_domain::SecretText;
use tokio::sync::oneshot;

use super::store::{OpenStore, entry};
use super::{EntryName, KeychainError};

/// Faster than a person reads a dialog and dismisses it.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// One call.
pub(super) enum Job {
    Read(EntryName),
    Write(EntryName, SecretText),
    Delete(EntryName),
    Probe(EntryName),
}

/// What a call answers.
pub(super) enum Outcome {
    Secret(Option<SecretText>),
    /// Whether there was an entry.
    Done(bool),
}

type Answer = Result<Outcome, KeychainError>;

/// The lane's end of the thread.
pub(super) struct Worker {
    jobs: mpsc::Sender<(Job, oneshot::Sender<Answer>)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    abandoned: AtomicBool,
    phase: AtomicU8,
    /// Counts the thread among the stuck ones until it ends.
    stuck: std::sync::Mutex<StuckMark>,
}

#[derive(Default)]
enum StuckMark {
    #[default]
    No,
    Yes(Arc<AtomicUsize>),
    Ended,
}

const OPENING: u8 = 1;
const CALLING: u8 = 2;

impl Worker {
    /// Starts the thread; the store is opened by its first job.
    pub(super) fn start(open: OpenStore) -> Result<Self, KeychainError> {
        let (jobs, inbox) = mpsc::channel::<(Job, oneshot::Sender<Answer>)>();
        let shared = Arc::new(Shared::default());
        let thread = Thread {
            open,
            store: None,
            shared: Arc::clone(&shared),
        };
        std::thread::Builder::new()
            .name("keychain".to_owned())
            .spawn(move || thread.run(&inbox))
            .map_err(|error| KeychainError::Failed {
                detail: error.to_string(),
            })?;
        Ok(Self { jobs, shared })
    }

    /// Hands a job over; the answer comes later, or never.
    pub(super) fn submit(&self, job: Job) -> Result<oneshot::Receiver<Answer>, KeychainError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.send((job, reply));
        sent.map_err(|_gone| KeychainError::Failed {
            detail: "the keychain's thread ended".to_owned(),
        })?;
        Ok(answer)
    }

    /// Leaves the thread to itself and says what its silence means.
    pub(super) fn abandon(&self, stuck: &Arc<AtomicUsize>) -> KeychainError {
        self.shared.abandoned.store(true, Ordering::Release);
        if let Ok(mut mark) = self.shared.stuck.lock()
            && matches!(*mark, StuckMark::No)
        {
            stuck.fetch_add(1, Ordering::AcqRel);
            *mark = StuckMark::Yes(Arc::clone(stuck));
        }
        match self.shared.phase.load(Ordering::Acquire) {
            OPENING => KeychainError::Unavailable {
                detail: "it did not answer within 3 s".to_owned(),
            },
            _ => KeychainError::Locked,
        }
    }
}

/// A caller that stops waiting (a cancelled sign-in) abandons the thread's work, too.
impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
    }
}

struct Thread {
    open: OpenStore,
    store: Option<Arc<CredentialStore>>,
    shared: Arc<Shared>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Ok(mut mark) = self.shared.stuck.lock() {
            if let StuckMark::Yes(stuck) = &*mark {
                stuck.fetch_sub(1, Ordering::AcqRel);
            }
            *mark = StuckMark::Ended;
        }
    }
}

impl Thread {
    fn run(mut self, inbox: &mpsc::Receiver<(Job, oneshot::Sender<Answer>)>) {
        while let Ok((job, reply)) = inbox.recv() {
            let had_store = self.store.is_some();
            let mut answer = self.attempt(&job);
            let stale = matches!(
                &answer,
                Err(KeychainError::Failed { .. } | KeychainError::Unavailable { .. })
            );
            if stale && had_store {
                // After the service restarted, an old store fails for ever: a new one, once.
                answer = self.attempt(&job);
            }
            if self.shared.abandoned.load(Ordering::Acquire) || reply.send(answer).is_err() {
                return;
            }
        }
    }

    fn attempt(&mut self, job: &Job) -> Answer {
        let name = job.name();
        // Opening is slow on its own account; what counts is how fast the question was answered.
        let mut asked = Instant::now();
        let result = self.opened().and_then(|store| {
            asked = Instant::now();
            self.perform(store.as_ref(), job)
        });
        result.map_err(|error| {
            let at_once = asked.elapsed() < AT_ONCE || nobody_to_ask();
            let problem = KeychainError::from_store(&error, &name.service, &name.user, at_once);
            if !matches!(
                problem,
                KeychainError::Ambiguous { .. } | KeychainError::TooLarge { .. }
            ) {
                self.store = None;
            }
            problem
        })
    }

    fn opened(&mut self) -> Result<Arc<CredentialStore>, StoreError> {
        self.shared.phase.store(OPENING, Ordering::Release);
        let store = match &self.store {
            Some(store) => Arc::clone(store),
            None => {
                let store = (self.open)()?;
                self.store = Some(Arc::clone(&store));
                store
            }
        };
        self.shared.phase.store(CALLING, Ordering::Release);
        Ok(store)
    }

    fn perform(&self, store: &CredentialStore, job: &Job) -> Result<Outcome, StoreError> {
        match job {
            Job::Read(name) => Ok(Outcome::Secret(read(store, name)?)),
            Job::Write(name, secret) => {
                self.unlock(store, name)?;
                entry(store, name)?.set_secret(secret.expose().as_bytes())?;
                Ok(Outcome::Done(true))
            }
            Job::Delete(name) => {
                let existed = read_raw(store, name)?.is_some();
                self.stop_if_abandoned()?;
                Ok(Outcome::Done(existed && delete(store, name)?))
            }
            Job::Probe(name) => probe(store, name),
        }
    }

    /// Lets the unlock dialog come and go before anything is changed: a write whose caller has
    /// given up must not happen later, over a newer value.
    fn unlock(&self, store: &CredentialStore, name: &EntryName) -> Result<(), StoreError> {
        if read_raw(store, name)?.is_none() {
            let harmless = EntryName {
                service: name.service.clone(),
                user: format!("unlock-{}", std::process::id()),
            };
            entry(store, &harmless)?.set_secret(b"unlock")?;
            delete(store, &harmless)?;
        }
        self.stop_if_abandoned()
    }

    fn stop_if_abandoned(&self) -> Result<(), StoreError> {
        if self.shared.abandoned.load(Ordering::Acquire) {
            return Err(StoreError::Invalid(
                "caller".to_owned(),
                "has given up".to_owned(),
            ));
        }
        Ok(())
    }
}

/// On a system without a display no dialog can have been dismissed by anybody.
fn nobody_to_ask() -> bool {
    cfg!(target_os = "linux")
        && ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .all(|name| std::env::var_os(name).is_none())
}

impl Job {
    fn name(&self) -> EntryName {
        match self {
            Self::Read(name) | Self::Write(name, _) | Self::Delete(name) | Self::Probe(name) => {
                name.clone()
            }
        }
    }
}

fn read_raw(
    store: &CredentialStore,
    name: &EntryName,
) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, StoreError> {
    match entry(store, name)?.get_secret() {
        Ok(bytes) => Ok(Some(zeroize::Zeroizing::new(bytes))),
        Err(StoreError::NoEntry) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(store: &CredentialStore, name: &EntryName) -> Result<Option<SecretText>, StoreError> {
    let Some(mut bytes) = read_raw(store, name)? else {
        return Ok(None);
    };
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Some(SecretText::new(text))),
        Err(error) => {
            drop(zeroize::Zeroizing::new(error.into_bytes()));
            Err(StoreError::BadEncoding(Vec::new()))
        }
    }
}

fn delete(store: &CredentialStore, name: &EntryName) -> Result<bool, StoreError> {
    match entry(store, name)?.delete_credential() {
        Ok(()) => Ok(true),
        Err(StoreError::NoEntry) => Ok(false),
        Err(error) => Err(error),
    }
}

fn probe(store: &CredentialStore, name: &EntryName) -> Result<Outcome, StoreError> {
    let entry = entry(store, name)?;
    entry.set_secret(b"probe")?;
    let read = entry.get_secret()?;
    entry.delete_credential()?;
    if read != b"probe" {
        return Err(StoreError::BadStoreFormat(
            "it does not give back what was written".to_owned(),
        ));
    }
    Ok(Outcome::Done(true))
}
