//! Accounts of this device: signing in and out, refreshing, and how each stands.

mod keep;
mod sign_out;
mod views;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keywright_protocol::accounts::{AccountView, ProviderPresetView, SignInRequest, SignOutView};
use keywright_registry::RegistryError;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::browser::{OpenBrowser, SystemBrowser, open_url};
use crate::clock::now_ms;
use crate::http::HttpClients;
use crate::sign_in::{
    self, KeyCache, MetadataCache, PRESETS, PendingSignIns, SignInError, Verdict,
};
use crate::tokens::{Sessions, keep_fresh, refresh_now};
use crate::{App, AppError};

/// What is remembered about accounts while the app runs. Nothing of it reaches a disk.
pub(crate) struct AccountsState {
    pub(crate) http: HttpClients,
    pub(crate) metadata: MetadataCache,
    pub(crate) keys: KeyCache,
    pub(crate) pending: PendingSignIns,
    pub(crate) sessions: Sessions,
    browser: RwLock<Arc<dyn OpenBrowser>>,
    refreshing: AtomicBool,
    /// Work that must come to its end before the app does: from the first word to a token endpoint, which
    /// may end the refresh token that we have, to the last to the keychain, which keeps the next one.
    unfinished: TaskTracker,
}

impl Default for AccountsState {
    fn default() -> Self {
        Self {
            http: HttpClients::default(),
            metadata: MetadataCache::default(),
            keys: KeyCache::default(),
            pending: PendingSignIns::default(),
            sessions: Sessions::default(),
            browser: RwLock::new(Arc::new(SystemBrowser)),
            refreshing: AtomicBool::new(false),
            unfinished: TaskTracker::new(),
        }
    }
}

impl AccountsState {
    pub(crate) fn browser(&self) -> Arc<dyn OpenBrowser> {
        Arc::clone(&self.browser.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins work that the app's end waits for; it is over when what is returned is dropped.
    ///
    /// # Errors
    /// [`AppError::Registry`] while the app is closing: nothing is begun then.
    pub(crate) fn begin(&self) -> Result<TaskTrackerToken, AppError> {
        // Before the question: whoever closes after the answer waits for it.
        let work = self.unfinished.token();
        if self.unfinished.is_closed() {
            return Err(RegistryError::Store("the app is closing".to_owned()).into());
        }
        Ok(work)
    }

    /// Whether the app is closing.
    pub(crate) fn is_closing(&self) -> bool {
        self.unfinished.is_closed()
    }

    /// Lets nothing begin any more, and waits for what was begun; no longer than this, since a provider may
    /// not answer at all.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.unfinished.close();
        if tokio::time::timeout(limit, self.unfinished.wait())
            .await
            .is_err()
        {
            let left = self.unfinished.len();
            tracing::warn!(left, "the app ends before its accounts are through");
        }
    }
}

impl App {
    /// Opens addresses with something else than the system's browser.
    pub fn use_browser(&self, browser: Arc<dyn OpenBrowser>) {
        *self
            .inner
            .accounts
            .browser
            .write()
            .unwrap_or_else(PoisonError::into_inner) = browser;
    }

    /// The providers the sign-in dialog offers.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub fn list_provider_presets(&self) -> Result<Vec<ProviderPresetView>, AppError> {
        Ok(PRESETS.iter().map(|preset| preset.view()).collect())
    }

    /// All accounts, in order of first sign-in. Asks no provider and no keychain.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn list_accounts(&self) -> Result<Vec<AccountView>, AppError> {
        let accounts = self.inner.registry.get().await?.list_accounts().await?;
        Ok(accounts
            .iter()
            .map(|account| views::view(&self.inner, account))
            .collect())
    }

    /// Signs in; resolves when the sign-in has ended, either way.
    ///
    /// # Errors
    /// [`AppError::SignIn`] with everything that can go wrong on the way, [`AppError::Registry`].
    pub async fn sign_in(&self, request: SignInRequest) -> Result<AccountView, AppError> {
        let inner = Arc::clone(&self.inner);
        // A task of its own: a window that goes away does not stop it half-way.
        let task = tokio::spawn(async move {
            let account = match &request.account_id {
                Some(id) => Some(inner.registry.get().await?.find_account(id).await?),
                None => None,
            };
            sign_in::run_sign_in(&inner, request, account, |signed_in| {
                keep::keep(&inner, signed_in)
            })
            .await
        });
        let account = task
            .await
            .unwrap_or_else(|_panicked| Err(SignInError::LoginCancelled.into()))?;
        self.inner.events.accounts_changed();
        Ok(views::view(&self.inner, &account))
    }

    /// Ends a pending sign-in (`login_cancelled`).
    ///
    /// # Errors
    /// [`SignInError::SignInNotFound`] if it has ended already.
    pub fn cancel_sign_in(&self, sign_in_id: String) -> Result<(), AppError> {
        Ok(self.inner.accounts.pending.cancel(&sign_in_id)?)
    }

    /// Opens the browser again on the same pending sign-in.
    ///
    /// # Errors
    /// [`SignInError::SignInNotFound`], [`SignInError::BrowserOpenFailed`].
    pub async fn reopen_browser(&self, sign_in_id: String) -> Result<(), AppError> {
        let url = self.inner.accounts.pending.find(&sign_in_id)?.url()?;
        let opened = open_url(self.inner.accounts.browser(), url).await;
        Ok(opened.map_err(SignInError::BrowserOpenFailed)?)
    }

    /// Puts the link of a pending sign-in on the clipboard. It carries no secret.
    ///
    /// # Errors
    /// [`SignInError::SignInNotFound`], [`AppError::Clipboard`].
    pub async fn copy_sign_in_link(&self, sign_in_id: String) -> Result<(), AppError> {
        let url = self.inner.accounts.pending.find(&sign_in_id)?.url()?;
        self.inner.clipboard.copy_text(url).await
    }

    /// Hands over the redirect that a person pasted: the same checks as for one that arrives by
    /// the loopback port.
    ///
    /// # Errors
    /// [`SignInError::StateMismatch`] if it belongs to another sign-in; the pending one waits on.
    pub async fn finish_sign_in(
        &self,
        sign_in_id: String,
        pasted_url: String,
    ) -> Result<(), AppError> {
        let inbox = self.inner.accounts.pending.find(&sign_in_id)?.inbox()?;
        match inbox.offer(sign_in::pasted_query(&pasted_url), now_ms()) {
            Verdict::Taken => Ok(()),
            Verdict::Ignored => Err(SignInError::StateMismatch.into()),
        }
    }

    /// Refreshes the access token now.
    ///
    /// # Errors
    /// [`SignInError::ReauthRequired`], what keeps the provider away, or [`AppError::Keychain`].
    pub async fn refresh_account(&self, account_id: String) -> Result<AccountView, AppError> {
        refresh_now(&self.inner, &account_id).await?;
        let account = self
            .inner
            .registry
            .get()
            .await?
            .find_account(&account_id)
            .await?;
        Ok(views::view(&self.inner, &account))
    }

    /// Revokes at the issuer, deletes the keychain entry, forgets the account.
    ///
    /// # Errors
    /// [`AppError::Keychain`] if the refresh token could not be deleted: then the account stays.
    pub async fn sign_out(&self, account_id: String) -> Result<SignOutView, AppError> {
        let inner = Arc::clone(&self.inner);
        let id = account_id.clone();
        let work = inner.accounts.begin()?;
        let task = tokio::spawn(async move {
            let _work = work;
            sign_out::sign_out(&inner, &id).await
        });
        let view = task
            .await
            .unwrap_or_else(|_panicked| Err(SignInError::AccountNotFound.into()))?;
        // The account is gone, whatever becomes of the choice: a registry without account is this device's.
        if self.inner.settings.current().registry_account == Some(account_id)
            && let Err(error) = self.set_registry_account(None).await
        {
            tracing::warn!(code = error.code(), "the choice of a registry stays");
        }
        self.inner.events.accounts_changed();
        Ok(view)
    }

    /// Starts keeping accounts fresh in the background; calling it again does nothing.
    pub(crate) fn start_refreshing(&self) {
        if self.inner.accounts.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let listed: Result<_, AppError> =
                async { Ok(inner.registry.get().await?.list_accounts().await?) }.await;
            for account in listed.unwrap_or_default() {
                inner.accounts.sessions.with(&account.id, |session| {
                    session.renewable |= account.in_keychain
                });
            }
            let app = Arc::downgrade(&inner);
            drop(inner);
            keep_fresh(app).await;
        });
    }

    /// Ends every pending sign-in.
    pub(crate) fn cancel_all_sign_ins(&self) {
        self.inner.accounts.pending.cancel_all();
    }
}
