//! Which registry the window works with, what is kept of those on servers, and the revocations that
//! wait for them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywright_domain::accounts::Account;
use keywright_protocol::ErrorView;
use keywright_protocol::api_keys::ApiKeyView;
use keywright_protocol::registries::{
    QueuedRevocationView, RegistriesView, RegistryServerView, SignedOutServerView,
};
use keywright_registry::RegistryError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::MissedTickBehavior;

use super::any::{AccountToken, AnyRegistry};
use super::error::is_offline;
use super::kept::{Kept, replace};
use super::queue::{Refused, Waiting};
use super::{RemoteError, RemoteRegistry};
use crate::clock::now_ms;
use crate::sign_in::{KEYWRIGHT, SignInError};
use crate::tokens::Session;
use crate::{App, AppError};

/// How often waiting revocations are tried by themselves.
const TRY_EVERY: Duration = Duration::from_secs(10);
/// Beside revocations that still wait: whose they are, when nobody is signed in there any more.
const SIGNED_OUT: &str = "signed-out.json";

/// What is kept of every server, by account.
#[derive(Debug)]
pub(crate) struct RemoteSlots {
    folder: PathBuf,
    kept: Mutex<HashMap<String, Arc<Kept>>>,
    /// Whether waiting revocations are tried by themselves already.
    trying: AtomicBool,
}

/// Who was signed in where.
#[derive(Debug, Serialize, Deserialize)]
struct SignedOut {
    issuer: String,
    account_name: String,
}

impl RemoteSlots {
    /// Below this folder; nothing is read yet.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            kept: Mutex::default(),
            trying: AtomicBool::new(false),
        }
    }

    /// By who is signed in where: signing in again finds what waited.
    fn kept(&self, account: &Account) -> Arc<Kept> {
        self.kept_under(name(account))
    }

    fn kept_under(&self, name: String) -> Arc<Kept> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.join(&name);
        let kept = all
            .entry(name)
            .or_insert_with(|| Arc::new(Kept::new(Some(folder))));
        Arc::clone(kept)
    }

    /// Somebody signed in anew: what may be done there is asked for again.
    pub(crate) fn signed_in(&self, account: &Account) {
        if account.provider_id == KEYWRIGHT {
            let kept = self.kept(account);
            kept.permissions.set(None);
            kept.wake();
        }
    }

    /// Forgets what a server answered, once its account is signed out. Revocations go on waiting for the next
    /// sign-in, and whose they are is written down: nobody else knows it then.
    pub(crate) async fn forget(&self, account: &Account) {
        let kept = self.kept(account);
        if let Err(error) = kept.forget_answers().await {
            tracing::warn!(%error, "what a server answered could not be deleted");
        }
        if !kept.queue.is_empty()
            && let Err(error) = self.note_signed_out(account)
        {
            tracing::error!(%error, "whose revocations wait could not be written down");
        }
    }

    fn note_signed_out(&self, account: &Account) -> std::io::Result<()> {
        let signed_out = SignedOut {
            issuer: account.issuer.clone(),
            account_name: account_name(account),
        };
        let bytes = serde_json::to_vec(&signed_out)?;
        replace(&self.folder.join(name(account)), SIGNED_OUT, &bytes)
    }

    /// Servers that revocations wait for, and that none of these accounts is signed in to.
    fn signed_out(&self, accounts: &[Account]) -> Vec<SignedOutServerView> {
        let known: Vec<String> = accounts.iter().map(name).collect();
        let folders = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut servers: Vec<_> = folders
            .filter_map(|folder| folder.ok()?.file_name().into_string().ok())
            .filter(|name| !known.contains(name))
            .filter_map(|name| {
                let bytes = std::fs::read(self.folder.join(&name).join(SIGNED_OUT)).ok()?;
                let whose: SignedOut = serde_json::from_slice(&bytes).ok()?;
                let waiting = self.kept_under(name.clone()).queue.all();
                (!waiting.is_empty()).then(|| SignedOutServerView {
                    id: name,
                    account_name: whose.account_name,
                    issuer: whose.issuer,
                    queued_revocations: waiting.into_iter().map(queued).collect(),
                })
            })
            .collect();
        servers.sort_by(|one, other| (&one.issuer, &one.id).cmp(&(&other.issuer, &other.id)));
        servers
    }
}

fn account_name(account: &Account) -> String {
    let email = account.email.clone();
    email.unwrap_or_else(|| account.display_name.clone())
}

fn name(account: &Account) -> String {
    let text = format!(
        "{} {} {}",
        account.issuer, account.subject, account.client_id
    );
    hex::encode(Sha256::digest(text))[..32].to_owned()
}

impl App {
    /// The registry in use. The choice of an account that is not there any more, signed out while the settings could
    /// not be written, or by another hand, is this device's from then on.
    pub(crate) async fn keys(&self) -> Result<AnyRegistry, AppError> {
        let chosen = self.inner.settings.current().registry_account;
        match self.keys_of(chosen.as_deref()).await {
            Err(AppError::Registry(error))
                if chosen.is_some() && matches!(*error, RegistryError::AccountNotFound) =>
            {
                match self.set_registry_account(None).await {
                    Ok(()) => self.inner.events.registry_changed(),
                    Err(error) => {
                        tracing::warn!(code = error.code(), "a choice without account stays");
                    }
                }
                self.keys_of(None).await
            }
            keys => keys,
        }
    }

    /// The registry of an account's server, or the one of this device.
    pub(crate) async fn keys_of(&self, account_id: Option<&str>) -> Result<AnyRegistry, AppError> {
        let registry = self.inner.registry.get().await?;
        match account_id {
            None => Ok(AnyRegistry::Device(registry)),
            Some(id) => {
                let account = registry.find_account(id).await?;
                Ok(AnyRegistry::Server(Box::new(self.remote(&account)?)))
            }
        }
    }

    /// The registry of an account's server. A token goes to nobody but the server that gave it.
    pub(crate) fn remote(
        &self,
        account: &Account,
    ) -> Result<RemoteRegistry<AccountToken>, AppError> {
        if account.provider_id != KEYWRIGHT {
            return Err(RemoteError::NotKeywright(account.issuer.clone()).into());
        }
        let settings = self.inner.settings.current();
        let http = self
            .inner
            .accounts
            .http
            .current(settings.extra_ca_file.as_deref())
            .map_err(SignInError::from)?;
        let token = AccountToken {
            inner: Arc::clone(&self.inner),
            account_id: account.id.clone(),
        };
        RemoteRegistry::over(
            &account.issuer,
            http,
            self.inner.remotes.kept(account),
            token,
        )
    }

    /// The registry in use, and those that could be. Asks no server.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn list_registries(&self) -> Result<RegistriesView, AppError> {
        let accounts = self.inner.registry.get().await?.list_accounts().await?;
        let servers: Vec<_> = accounts
            .iter()
            .filter(|account| account.provider_id == KEYWRIGHT)
            .map(|account| view(account, &self.inner.remotes.kept(account)))
            .collect();
        let chosen = self.inner.settings.current().registry_account;
        Ok(RegistriesView {
            current: chosen.filter(|id| servers.iter().any(|one| one.account_id == *id)),
            servers,
            signed_out: self.inner.remotes.signed_out(&accounts),
        })
    }

    /// Works with another registry from now on: an account's server, or this device.
    ///
    /// # Errors
    /// [`AppError::Registry`] for an account that is not there, [`RemoteError::NotKeywright`] for one
    /// of another provider, [`AppError::Settings`].
    pub async fn choose_registry(
        &self,
        account_id: Option<String>,
    ) -> Result<RegistriesView, AppError> {
        self.keys_of(account_id.as_deref()).await?;
        self.set_registry_account(account_id).await?;
        self.list_registries().await
    }

    /// Tries all revocations that wait for an account's server, those it refused included.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn retry_revocations(&self, account_id: String) -> Result<RegistriesView, AppError> {
        let registry = self.inner.registry.get().await?;
        let account = registry.find_account(&account_id).await?;
        let remote = self.remote(&account)?;
        remote.kept().wake();
        let sessions = &self.inner.accounts.sessions;
        sessions.with(&account.id, Session::wake);
        self.try_waiting(&remote, true).await;
        self.list_registries().await
    }

    /// Takes a waiting revocation back: the key goes on working. If the server is being asked just now,
    /// it is waited for.
    ///
    /// # Errors
    /// [`AppError::Registry`], [`RemoteError::QueueNotWritten`], [`RemoteError::NoLongerWaits`].
    pub async fn discard_revocation(
        &self,
        account_id: String,
        key_id: String,
    ) -> Result<RegistriesView, AppError> {
        let registry = self.inner.registry.get().await?;
        let account = registry.find_account(&account_id).await?;
        let kept = self.inner.remotes.kept(&account);
        let waited = kept.queue.find(&key_id).is_some();
        {
            let _turn = kept.queue.turn.lock().await;
            if waited && kept.queue.find(&key_id).is_none() {
                return Err(RemoteError::NoLongerWaits.into());
            }
            kept.queue.remove(&key_id)?;
        }
        self.list_registries().await
    }

    /// Takes back all revocations that wait for a server where nobody is signed in any more: the keys go on
    /// working.
    ///
    /// # Errors
    /// [`AppError::Registry`], [`RemoteError::QueueNotWritten`].
    pub async fn forget_revocations(&self, id: String) -> Result<RegistriesView, AppError> {
        let accounts = self.inner.registry.get().await?.list_accounts().await?;
        // Only what the list names: an id is a folder's name.
        let servers = self.inner.remotes.signed_out(&accounts);
        if let Some(server) = servers.into_iter().find(|server| server.id == id) {
            let queue = &self.inner.remotes.kept_under(server.id).queue;
            for one in server.queued_revocations {
                queue.remove(&one.key_id)?;
            }
        }
        self.list_registries().await
    }

    /// Revokes a key at a server; where that does not answer, the revocation waits (AC-152).
    pub(crate) async fn revoke_remotely(
        &self,
        registry: &RemoteRegistry<AccountToken>,
        id: &str,
        reason: &str,
    ) -> Result<ApiKeyView, AppError> {
        let queue = &registry.kept().queue;
        let error = match registry.revoke_api_key(id, reason).await {
            Ok(key) => {
                // It is done. What still waits is done once more, which changes nothing.
                if let Err(error) = queue.remove(id) {
                    tracing::error!(code = error.code(), "waiting revocations are not written");
                }
                return Ok(crate::api_keys::key_view(&key, now_ms()));
            }
            Err(error) if is_offline(&error) => error,
            Err(error) => return Err(error),
        };
        // Only a key that was seen there can be told from one that never was.
        let Some(mut view) = registry.last_known(id) else {
            return Err(error);
        };
        let waiting = queue.add(Waiting {
            key_id: id.to_owned(),
            name: view.name.clone(),
            reason: reason.chars().take(500).collect(),
            queued_at: now_ms(),
            refused: None,
        })?;
        tracing::warn!(key = id, "a revocation waits for its server");
        view.revocation_queued_at = Some(waiting.queued_at);
        Ok(view)
    }

    /// One round of waiting revocations.
    pub(crate) async fn try_waiting(
        &self,
        registry: &RemoteRegistry<AccountToken>,
        refused_too: bool,
    ) {
        let queue = &registry.kept().queue;
        let mut changed = false;
        for one in queue.all() {
            let _turn = queue.turn.lock().await;
            // Since the round began it may have been taken back, or done.
            let Some(one) = queue.find(&one.key_id) else {
                continue;
            };
            if one.refused.is_some() && !refused_too {
                continue;
            }
            let noted = match registry.revoke_api_key(&one.key_id, &one.reason).await {
                Ok(_) => {
                    tracing::info!(key = one.key_id, "a revocation that waited is effective");
                    queue.remove(&one.key_id)
                }
                Err(AppError::Remote(
                    error @ (RemoteError::NotAllowed(_)
                    | RemoteError::Refused { .. }
                    | RemoteError::Unknown { .. }),
                )) => queue.refuse(
                    &one.key_id,
                    Refused {
                        code: error.code().to_owned(),
                        message: error.to_string(),
                    },
                ),
                // It goes on waiting, and says nothing about the others.
                Err(AppError::Remote(RemoteError::Faulty { .. }) | AppError::Registry(_)) => {
                    continue;
                }
                // It goes on waiting: the server is away, or the sign-in or the keychain is.
                Err(_) => break,
            };
            changed = true;
            if let Err(error) = noted {
                tracing::error!(code = error.code(), "waiting revocations are not written");
            }
        }
        if changed {
            self.inner.events.registry_changed();
        }
    }

    /// Starts trying what waits in the background; calling it again does nothing.
    pub(crate) fn start_trying(&self) {
        if !self.inner.remotes.trying.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().keep_trying());
        }
    }

    /// Tries what waits, at once and again and again, until the app ends.
    async fn keep_trying(self) {
        let app = Arc::downgrade(&self.inner);
        drop(self);
        let mut ticks = tokio::time::interval(TRY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(inner) = app.upgrade() else { return };
            let app = Self { inner };
            let Ok(registry) = app.inner.registry.get().await else {
                continue;
            };
            for account in registry.list_accounts().await.unwrap_or_default() {
                let waits = account.provider_id == KEYWRIGHT
                    && !app.inner.remotes.kept(&account).queue.is_empty();
                if waits && let Ok(remote) = app.remote(&account) {
                    app.try_waiting(&remote, false).await;
                }
            }
        }
    }
}

fn view(account: &Account, kept: &Kept) -> RegistryServerView {
    let holds = |wanted: &[&str]| {
        let mut scopes = account.scopes.iter();
        scopes.any(|scope| wanted.contains(&scope.as_str()))
    };
    RegistryServerView {
        account_id: account.id.clone(),
        account_name: account_name(account),
        issuer: account.issuer.clone(),
        may_read: holds(&["keys:*", "keys:read"]),
        may_write: holds(&["keys:*", "keys:write"]),
        offline_since: kept.offline_since(),
        queued_revocations: kept.queue.all().into_iter().map(queued).collect(),
    }
}

fn queued(waiting: Waiting) -> QueuedRevocationView {
    QueuedRevocationView {
        key_id: waiting.key_id,
        name: waiting.name,
        reason: waiting.reason,
        queued_at: waiting.queued_at,
        refused: waiting.refused.map(|refused| ErrorView {
            code: refused.code,
            message: refused.message,
            hint: Some("Try again once it is settled, or take the revocation back.".to_owned()),
            retryable: true,
        }),
    }
}
