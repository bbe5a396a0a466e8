//! Copying a secret without the web view: marked as secret for clipboard histories, taken back
//! after a while if it is still there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywright_domain::SecretText;
use sha2::{Digest, Sha256};

use crate::AppError;

#[derive(Clone, Default)]
pub(crate) struct Clipboard(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Lives as long as the app: on X11 the text is served by the program that copied it.
    system: Option<arboard::Clipboard>,
    /// What we put there last, as a digest.
    ours: Option<[u8; 32]>,
    /// Counts copies, so that an older timer does not take back a newer copy.
    generation: u64,
}

impl Clipboard {
    /// Copies a secret.
    pub(crate) async fn copy_secret(&self, text: SecretText) -> Result<Copied, AppError> {
        let generation = self.copy(text, true).await?;
        Ok(Copied {
            clipboard: self.clone(),
            generation,
        })
    }

    /// Copies a text that may stay.
    pub(crate) async fn copy_text(&self, text: String) -> Result<(), AppError> {
        self.copy(SecretText::new(text), false).await.map(drop)
    }

    async fn copy(&self, text: SecretText, is_secret: bool) -> Result<u64, AppError> {
        self.run(move |state| {
            let digest = digest(text.expose());
            let set = system(state)?.set();
            exclude_from_history(set, is_secret)
                .text(text.expose())
                .map_err(|error| error.to_string())?;
            state.ours = is_secret.then_some(digest);
            state.generation += 1;
            Ok(state.generation)
        })
        .await
    }

    /// Takes our secret back, if the clipboard still holds it. Called when the app quits.
    pub(crate) async fn clear_if_ours(&self) {
        let _ = self.run(|state| clear_if_ours(state).map(drop)).await;
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, String> + Send + 'static,
    ) -> Result<T, AppError> {
        let state = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await
            .map_err(|error| AppError::Clipboard(error.to_string()))?
            .map_err(AppError::Clipboard)
    }
}

/// A secret is on the clipboard.
pub(crate) struct Copied {
    clipboard: Clipboard,
    generation: u64,
}

impl Copied {
    /// Waits, then takes the secret back unless something else was copied meanwhile.
    /// Returns whether it was taken back.
    pub(crate) async fn clear_after(self, pause: Duration) -> bool {
        tokio::time::sleep(pause).await;
        let generation = self.generation;
        let cleared = self.clipboard.run(move |state| {
            if state.generation == generation {
                clear_if_ours(state)
            } else {
                Ok(false)
            }
        });
        cleared.await.unwrap_or(false)
    }
}

fn clear_if_ours(state: &mut State) -> Result<bool, String> {
    let Some(ours) = state.ours.take() else {
        return Ok(false);
    };
    let clipboard = system(state)?;
    if clipboard.get_text().is_ok_and(|text| digest(&text) == ours) {
        clipboard.clear().map_err(|error| error.to_string())?;
        return Ok(true);
    }
    Ok(false)
}

fn system(state: &mut State) -> Result<&mut arboard::Clipboard, String> {
    match &mut state.system {
        Some(clipboard) => Ok(clipboard),
        empty => Ok(empty.insert(arboard::Clipboard::new().map_err(|error| error.to_string())?)),
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(target_os = "linux")]
fn exclude_from_history(set: arboard::Set<'_>, is_secret: bool) -> arboard::Set<'_> {
    if is_secret {
        arboard::SetExtLinux::exclude_from_history(set)
    } else {
        set
    }
}

#[cfg(target_os = "windows")]
fn exclude_from_history(set: arboard::Set<'_>, is_secret: bool) -> arboard::Set<'_> {
    if is_secret {
        arboard::SetExtWindows::exclude_from_history(set)
    } else {
        set
    }
}

#[cfg(target_os = "macos")]
fn exclude_from_history(set: arboard::Set<'_>, is_secret: bool) -> arboard::Set<'_> {
    if is_secret {
        arboard::SetExtApple::exclude_from_history(set)
    } else {
        set
    }
}
