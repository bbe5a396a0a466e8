//! Everything a person can do on this device, once, for every face: keys, accounts, sign-in,
//! the keychain. Faces parse, call and render; what is decided is decided here or in the domain.

mod accounts;
mod activity;
mod api_keys;
pub mod browser;
mod clipboard;
mod clock;
mod delivery;
mod error;
mod flows;
mod home;
mod http;
mod info;
mod keychain;
mod notices;
mod pepper;
mod permissions;
mod registry_slot;
pub mod remote;
pub mod secret_store;
mod sessions;
mod settings;
pub mod sign_in;
mod tokens;
mod unfinished;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use keywright_domain::audit::Actor;
use keywright_protocol::accounts::SignInProgressView;

pub use api_keys::UseCounts;
pub use error::AppError;
pub use flows::list_flows;
pub use home::{Home, HomeError};
pub use notices::Arrived;
pub use sessions::SessionsError;
pub use settings::SettingsError;

use accounts::AccountsState;
use api_keys::Reveals;
use clipboard::Clipboard;
use flows::FlowTraces;
use pepper::PepperCell;
use registry_slot::RegistrySlot;
use remote::RemoteSlots;
use secret_store::Keychain;
use settings::SettingsStore;
use unfinished::Work;

/// What a face is told without asking.
pub trait EventListener: Send + Sync + 'static {
    /// A pending sign-in went a step further.
    fn sign_in_progressed(&self, progress: SignInProgressView);
    /// Some account changed.
    fn accounts_changed(&self);
    /// A copied secret left the clipboard again.
    fn clipboard_cleared(&self);
    /// Revocations that waited for a server were done or refused.
    fn registry_changed(&self) {}
    /// There is something new among the notices, or another number of them is unread.
    fn notices_changed(&self) {}
    /// Something new is there. Each is told once on this device.
    fn notices_arrived(&self, _arrived: &Arrived) {}
}

/// The application on this device. Cheap to clone.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) started: Instant,
    pub(crate) first_paint_ms: OnceLock<i64>,
    pub(crate) home: Home,
    pub(crate) actor: Actor,
    pub(crate) settings: SettingsStore,
    pub(crate) registry: RegistrySlot,
    pub(crate) remotes: RemoteSlots,
    pub(crate) keychain: Keychain,
    pub(crate) pepper: PepperCell,
    pub(crate) reveals: Reveals,
    pub(crate) clipboard: Clipboard,
    pub(crate) work: Work,
    pub(crate) accounts: AccountsState,
    pub(crate) flows: FlowTraces,
    /// How many notices were unread at the last look, by registry.
    pub(crate) unread: Mutex<HashMap<String, i64>>,
    pub(crate) events: Arc<dyn EventListener>,
}

impl App {
    /// Makes the app; nothing slow happens here. `started` is when the process began.
    ///
    /// # Errors
    /// [`AppError`] if the settings file cannot be read at all.
    pub fn new(
        home: Home,
        events: Arc<dyn EventListener>,
        started: Instant,
    ) -> Result<Self, AppError> {
        let settings = SettingsStore::open(&home)?;
        let keychain = Keychain::new(home.keychain_service().to_owned(), home.vault_file());
        let inner = Inner {
            started,
            first_paint_ms: OnceLock::new(),
            actor: Actor::person(&person_name()),
            registry: RegistrySlot::new(home.registry_file()),
            remotes: RemoteSlots::new(home.servers_folder()),
            settings,
            keychain,
            pepper: PepperCell::default(),
            reveals: Reveals::default(),
            clipboard: Clipboard::default(),
            work: Work::default(),
            accounts: AccountsState::default(),
            flows: FlowTraces::default(),
            unread: Mutex::default(),
            events,
            home,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Starts what goes on in the background: opening the registry, refreshing accounts.
    pub fn start(&self) {
        self.watch_notices();
        let app = self.clone();
        tokio::spawn(async move {
            if let Err(error) = app.inner.registry.get().await {
                tracing::error!(code = error.code(), "the registry could not be opened");
                return;
            }
            app.start_refreshing();
            app.keep_trying().await;
        });
    }

    /// Ends cleanly: pending sign-ins, use counts, the clipboard, secrets in memory.
    pub async fn close(&self) {
        self.cancel_all_sign_ins();
        self.inner.reveals.forget_all();
        self.inner.clipboard.clear_if_ours().await;
        self.inner.registry.close().await;
    }
}

fn person_name() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "this user".to_owned())
}
