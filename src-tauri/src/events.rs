//! What the app tells without being asked, sent on to the web view.

use keywright_app::{Arrived, EventListener};
use keywright_protocol::accounts::SignInProgressView;
use tauri::AppHandle;
use tauri_specta::Event;

use crate::ipc::{
    AccountsChanged, ClipboardCleared, NoticesChanged, RegistryChanged, SignInProgressed,
};
use crate::notification;

pub(crate) struct WindowEvents(pub(crate) AppHandle);

impl EventListener for WindowEvents {
    fn sign_in_progressed(&self, progress: SignInProgressView) {
        log_failure(SignInProgressed(progress).emit(&self.0));
    }

    fn accounts_changed(&self) {
        log_failure(AccountsChanged.emit(&self.0));
    }

    fn clipboard_cleared(&self) {
        log_failure(ClipboardCleared.emit(&self.0));
    }

    fn registry_changed(&self) {
        log_failure(RegistryChanged.emit(&self.0));
    }

    fn notices_changed(&self) {
        log_failure(NoticesChanged.emit(&self.0));
    }

    fn notices_arrived(&self, arrived: &Arrived) {
        notification::show(&self.0, arrived);
    }
}

fn log_failure(sent: tauri::Result<()>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "an event did not reach the window");
    }
}
