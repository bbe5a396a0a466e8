//! The sign-ins that wait for a browser: their handles, and that there is one for an account.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::callback::Inbox;
use super::error::SignInError;

/// How long a newer sign-in waits for the older one's port to be free.
const MAKE_WAY: Duration = Duration::from_secs(2);

/// What makes two sign-ins the same one (AC-017).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SameSignIn {
    pub(crate) provider_id: String,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) account_id: Option<String>,
}

/// A sign-in under way.
pub(crate) struct PendingSignIn {
    pub(crate) id: String,
    same: SameSignIn,
    cancel: CancellationToken,
    superseded: AtomicBool,
    /// Known once the browser is sent there.
    waiting: OnceLock<(String, Arc<Inbox>)>,
    ended: watch::Sender<bool>,
}

impl PendingSignIn {
    /// Resolves when somebody wants it to end.
    pub(crate) async fn cancelled(&self) -> SignInError {
        self.cancel.cancelled().await;
        if self.superseded.load(Ordering::Acquire) {
            SignInError::LoginSuperseded
        } else {
            SignInError::LoginCancelled
        }
    }

    /// From now on the link can be copied and an answer pasted.
    pub(crate) fn waits_for(&self, url: String, inbox: Arc<Inbox>) {
        let _set_once = self.waiting.set((url, inbox));
    }

    /// Whether anybody can be asked yet.
    pub(crate) fn has_link(&self) -> bool {
        self.waiting.get().is_some()
    }

    pub(crate) fn url(&self) -> Result<String, SignInError> {
        self.waiting
            .get()
            .map(|(url, _)| url.clone())
            .ok_or(SignInError::SignInNotFound)
    }

    pub(crate) fn inbox(&self) -> Result<Arc<Inbox>, SignInError> {
        self.waiting
            .get()
            .map(|(_, inbox)| Arc::clone(inbox))
            .ok_or(SignInError::SignInNotFound)
    }
}

/// All sign-ins under way, by id.
#[derive(Default)]
pub(crate) struct PendingSignIns {
    pending: Mutex<HashMap<String, Arc<PendingSignIn>>>,
    /// Result pages of ended sign-ins that are still being delivered.
    lingering: Mutex<Vec<CancellationToken>>,
}

/// Takes the sign-in off the list when it goes out of scope, however that happens.
pub(crate) struct Registration<'a> {
    all: &'a PendingSignIns,
    pub(crate) pending: Arc<PendingSignIn>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.pending.id);
        self.pending.ended.send_replace(true);
    }
}

impl PendingSignIns {
    /// Registers a sign-in, after ending the one that it replaces.
    pub(crate) async fn register(&self, same: SameSignIn) -> Registration<'_> {
        let pending = Arc::new(PendingSignIn {
            id: new_id(),
            same,
            cancel: CancellationToken::new(),
            superseded: AtomicBool::new(false),
            waiting: OnceLock::new(),
            ended: watch::channel(false).0,
        });
        let replaced: Vec<_> = {
            let mut all = self.lock();
            let replaced = all
                .values()
                .filter(|other| other.same == pending.same)
                .cloned()
                .collect();
            all.insert(pending.id.clone(), Arc::clone(&pending));
            replaced
        };
        let registration = Registration { all: self, pending };
        for other in replaced {
            other.superseded.store(true, Ordering::Release);
            other.cancel.cancel();
            let mut ended = other.ended.subscribe();
            let _in_time = tokio::time::timeout(MAKE_WAY, ended.wait_for(|ended| *ended)).await;
        }
        registration
    }

    pub(crate) fn find(&self, id: &str) -> Result<Arc<PendingSignIn>, SignInError> {
        self.lock()
            .get(id)
            .cloned()
            .ok_or(SignInError::SignInNotFound)
    }

    pub(crate) fn cancel(&self, id: &str) -> Result<(), SignInError> {
        self.find(id)?.cancel.cancel();
        Ok(())
    }

    pub(crate) fn cancel_all(&self) {
        self.lock()
            .values()
            .for_each(|pending| pending.cancel.cancel());
        self.hurry_lingering();
    }

    /// A token that ends a lingering result page early; its owner cancels it when done.
    pub(crate) fn lingering(&self) -> CancellationToken {
        let token = CancellationToken::new();
        let mut lingering = self
            .lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|token| !token.is_cancelled());
        lingering.push(token.clone());
        token
    }

    /// Frees the ports of result pages that are still lingering.
    pub(crate) fn hurry_lingering(&self) {
        let mut lingering = self
            .lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lingering.drain(..).for_each(|token| token.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<PendingSignIn>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 random bits; also the form of an account's id.
pub(crate) fn new_id() -> String {
    let mut bytes = [0_u8; 16];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    hex::encode(bytes)
}
