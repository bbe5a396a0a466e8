//! What the journeys stand on: a private desktop, the app in it, a browser, a keychain.

pub(crate) mod app_window;
pub(crate) mod browser;
pub(crate) mod clipboard;
pub(crate) mod driver;
pub(crate) mod keyring;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod session;
pub(crate) mod windows;

pub(crate) use app_window::AppWindow;
pub(crate) use browser::Browser;
pub(crate) use provider::Provider;
pub(crate) use session::{Desktop, Keyring};
