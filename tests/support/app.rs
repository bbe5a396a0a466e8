//! An app of the test's own: its folder, its keychain service, its browser, its events.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keywright_app::{App, AppError, EventListener, Home};
use keywright_protocol::accounts::{AccountView, SignInProgressView, SignInRequest, SignInStep};
use keywright_protocol::settings::Settings;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::browser::{Person, TestBrowser};
use super::peer::CLIENT_ID;

/// What the app told its face.
pub(crate) struct Events {
    progress: watch::Sender<Vec<SignInProgressView>>,
    changes: Mutex<usize>,
}

impl EventListener for Events {
    fn sign_in_progressed(&self, progress: SignInProgressView) {
        self.progress.send_modify(|all| all.push(progress));
    }
    fn accounts_changed(&self) {
        *self.changes.lock().unwrap() += 1;
    }
    fn clipboard_cleared(&self) {}
}

/// A running app.
pub(crate) struct TestApp {
    pub(crate) app: App,
    pub(crate) browser: Arc<TestBrowser>,
    pub(crate) events: Arc<Events>,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) service: String,
}

impl TestApp {
    pub(crate) fn new(person: Person) -> Result<Self> {
        Self::in_folder(Arc::new(tempfile::tempdir()?), person, None)
    }

    /// Another start of an app, or a second process as far as the folder can tell.
    pub(crate) fn again(&self, person: Person) -> Result<Self> {
        Self::in_folder(Arc::clone(&self.folder), person, None)
    }

    pub(crate) fn in_folder(
        folder: Arc<TempDir>,
        person: Person,
        extra_ca: Option<&Path>,
    ) -> Result<Self> {
        let home = Home::at(folder.path())?;
        let service = home.keychain_service().to_owned();
        let events = Arc::new(Events {
            progress: watch::channel(Vec::new()).0,
            changes: Mutex::new(0),
        });
        let app = App::new(
            home,
            Arc::clone(&events) as Arc<dyn EventListener>,
            Instant::now(),
        )?;
        let browser = TestBrowser::new(person, extra_ca.map(std::fs::read).transpose()?);
        app.use_browser(Arc::clone(&browser) as _);
        Ok(Self {
            app,
            browser,
            events,
            folder,
            service,
        })
    }

    pub(crate) async fn set(&self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let mut settings = self.app.read_settings()?;
        change(&mut settings);
        self.app.update_settings(settings).await?;
        Ok(())
    }

    /// Starts a sign-in and lets it run.
    pub(crate) fn start(
        &self,
        request: SignInRequest,
    ) -> JoinHandle<Result<AccountView, AppError>> {
        let app = self.app.clone();
        tokio::spawn(async move { app.sign_in(request).await })
    }

    pub(crate) async fn sign_in(&self, issuer: &str) -> Result<AccountView, AppError> {
        self.app.sign_in(request(issuer)).await
    }

    /// The code of the error a sign-in ends with.
    pub(crate) async fn refused(&self, issuer: &str) -> String {
        self.sign_in(issuer)
            .await
            .map_or_else(|error| error.code().to_owned(), |_| "signed in".to_owned())
    }

    /// The progress event of a step, as number `nth` of its kind.
    pub(crate) async fn step(&self, step: SignInStep, nth: usize) -> Result<SignInProgressView> {
        let mut progress = self.events.progress.subscribe();
        let of_kind = |all: &Vec<SignInProgressView>| {
            all.iter().filter(|one| one.step == step).nth(nth).cloned()
        };
        let limit = Duration::from_secs(15);
        let all =
            tokio::time::timeout(limit, progress.wait_for(|all| of_kind(all).is_some())).await;
        of_kind(&*all.with_context(|| format!("no step {step:?}"))??).context("gone")
    }

    pub(crate) fn steps(&self) -> Vec<SignInStep> {
        self.events
            .progress
            .borrow()
            .iter()
            .map(|one| one.step)
            .collect()
    }

    pub(crate) async fn account(&self) -> Result<AccountView> {
        self.app
            .list_accounts()
            .await?
            .into_iter()
            .next()
            .context("no account")
    }

    /// What the keychain holds of the account, asked from outside.
    pub(crate) async fn in_keychain(&self, account: &AccountView) -> Result<Option<String>> {
        let user = format!(
            "refresh:{} {} {}",
            account.issuer, account.subject, account.client_id
        );
        lookup(&self.service, &user).await
    }
}

/// The request of an ordinary sign-in.
pub(crate) fn request(issuer: &str) -> SignInRequest {
    SignInRequest {
        provider_id: "openid".to_owned(),
        issuer: issuer.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: None,
        scopes: Vec::new(),
        login_hint: None,
        account_id: None,
    }
}

/// `secret-tool lookup`, a program that knows nothing of ours.
pub(crate) async fn lookup(service: &str, user: &str) -> Result<Option<String>> {
    let mut tool = tokio::process::Command::new("secret-tool");
    let output = tool
        .args(["lookup", "service", service, "username", user])
        .output()
        .await?;
    let secret = String::from_utf8(output.stdout)?;
    Ok((output.status.success() && !secret.is_empty()).then_some(secret))
}
