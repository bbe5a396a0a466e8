//! Copying a secret without the web view: marked as secret for clipboard histories, taken back
//! after a while if it is still there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywright_domain::SecretText;
use sha2::{Digest, Sha256};

use crate::AppError;

/// The first and the longest pause before a clipboard that did not answer is tried again.
const FIRST_AGAIN: Duration = Duration::from_secs(2);
const LONGEST_AGAIN: Duration = Duration::from_secs(60);
/// How often, and with which pauses, it is tried when the app quits.
const LAST_TRIES: usize = 3;
const LAST_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Default)]
pub(crate) struct Clipboard(Arc<Mutex<State>>);

/// The clipboard of the desktop.
trait SystemClipboard: Send {
    fn set(&mut self, text: &str, is_secret: bool) -> Result<(), String>;
    /// The text on it; none where it holds something else, or nothing.
    fn text(&mut self) -> Result<Option<String>, String>;
    fn clear(&mut self) -> Result<(), String>;
}

struct State {
    /// Lives as long as the app: on X11 the text is served by the program that copied it.
    system: Option<Box<dyn SystemClipboard>>,
    open: fn() -> Result<Box<dyn SystemClipboard>, String>,
    /// What we put there last and have not taken back, as a digest.
    ours: Option<[u8; 32]>,
    /// Counts copies, so that an older timer does not take back a newer copy.
    generation: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            system: None,
            open: open_system,
            ours: None,
            generation: 0,
        }
    }
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
            system(state)?.set(text.expose(), is_secret)?;
            state.ours = is_secret.then_some(digest);
            state.generation += 1;
            Ok(state.generation)
        })
        .await
    }

    /// Takes our secret back, if the clipboard still holds it. Called when the app quits.
    pub(crate) async fn clear_if_ours(&self) {
        for _ in 0..LAST_TRIES {
            match self.run(|state| clear_if_ours(state).map(drop)).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the clipboard was not cleared"),
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
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
    /// Waits, then takes the secret back unless something else was copied meanwhile. A clipboard that
    /// does not answer is tried again until it does. Returns whether the secret was taken back.
    pub(crate) async fn clear_after(self, pause: Duration) -> bool {
        let generation = self.generation;
        let mut next = pause;
        let mut again = pause.min(FIRST_AGAIN);
        loop {
            tokio::time::sleep(next).await;
            let cleared = self.clipboard.run(move |state| {
                if state.generation == generation {
                    clear_if_ours(state)
                } else {
                    Ok(false)
                }
            });
            match cleared.await {
                Ok(cleared) => return cleared,
                Err(error) => tracing::warn!(%error, "the clipboard was not cleared yet"),
            }
            next = again;
            again = (again * 2).min(LONGEST_AGAIN);
        }
    }
}

/// What could not be taken back stays ours: it is tried again, at the latest when the app quits.
fn clear_if_ours(state: &mut State) -> Result<bool, String> {
    let Some(ours) = state.ours else {
        return Ok(false);
    };
    let clipboard = system(state)?;
    let is_ours = clipboard.text()?.is_some_and(|text| digest(&text) == ours);
    if is_ours {
        clipboard.clear()?;
    }
    state.ours = None;
    Ok(is_ours)
}

fn system(state: &mut State) -> Result<&mut dyn SystemClipboard, String> {
    let system = match state.system.take() {
        Some(system) => system,
        None => (state.open)()?,
    };
    Ok(&mut **state.system.insert(system))
}

fn open_system() -> Result<Box<dyn SystemClipboard>, String> {
    match arboard::Clipboard::new() {
        Ok(system) => Ok(Box::new(system)),
        Err(error) => Err(error.to_string()),
    }
}

impl SystemClipboard for arboard::Clipboard {
    fn set(&mut self, text: &str, is_secret: bool) -> Result<(), String> {
        exclude_from_history(arboard::Clipboard::set(self), is_secret)
            .text(text)
            .map_err(|error| error.to_string())
    }

    fn text(&mut self) -> Result<Option<String>, String> {
        match self.get_text() {
            Ok(text) => Ok(Some(text)),
            Err(arboard::Error::ContentNotAvailable | arboard::Error::ConversionFailure) => {
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn clear(&mut self) -> Result<(), String> {
        arboard::Clipboard::clear(self).map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A clipboard that fails so many times before it answers.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<(Option<String>, u32)>>);

    impl Fake {
        fn answer(&self) -> Result<std::sync::MutexGuard<'_, (Option<String>, u32)>, String> {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.1 > 0 {
                inner.1 -= 1;
                return Err("busy".to_owned());
            }
            Ok(inner)
        }

        fn fail(&self, times: u32) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = times;
        }
    }

    impl SystemClipboard for Fake {
        fn set(&mut self, text: &str, _: bool) -> Result<(), String> {
            self.answer()?.0 = Some(text.to_owned());
            Ok(())
        }

        fn text(&mut self) -> Result<Option<String>, String> {
            Ok(self.answer()?.0.clone())
        }

        fn clear(&mut self) -> Result<(), String> {
            self.answer()?.0 = None;
            Ok(())
        }
    }

    async fn with_a_secret() -> Result<(Fake, Clipboard, Copied), AppError> {
        let fake = Fake::default();
        let clipboard = Clipboard::default();
        clipboard
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .system = Some(Box::new(fake.clone()));
        let copied = clipboard
            .copy_secret(SecretText::new("a secret".into()))
            .await?;
        Ok((fake, clipboard, copied))
    }

    fn held(fake: &Fake) -> Option<String> {
        fake.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    #[tokio::test]
    async fn ac_193_a_clipboard_that_does_not_answer_is_cleared_later() -> Result<(), AppError> {
        let (fake, _clipboard, copied) = with_a_secret().await?;
        fake.fail(3);
        assert!(copied.clear_after(Duration::from_millis(2)).await);
        assert_eq!(held(&fake), None);
        Ok(())
    }

    #[tokio::test]
    async fn ac_193_what_could_not_be_cleared_is_cleared_on_quit() -> Result<(), AppError> {
        let (fake, clipboard, copied) = with_a_secret().await?;
        fake.fail(u32::MAX);
        let waiting = tokio::spawn(copied.clear_after(Duration::from_millis(1)));
        tokio::time::sleep(Duration::from_millis(20)).await;
        waiting.abort();
        // Once more it fails, and then it answers.
        fake.fail(1);
        clipboard.clear_if_ours().await;
        assert_eq!(held(&fake), None);
        Ok(())
    }

    #[tokio::test]
    async fn ac_193_what_others_copied_meanwhile_is_left_alone() -> Result<(), AppError> {
        let (mut fake, clipboard, copied) = with_a_secret().await?;
        assert_eq!(fake.set("a shopping list", false), Ok(()));
        assert!(!copied.clear_after(Duration::from_millis(1)).await);
        clipboard.clear_if_ours().await;
        assert_eq!(held(&fake).as_deref(), Some("a shopping list"));
        Ok(())
    }

    #[tokio::test]
    async fn ac_193_each_copy_has_its_own_time_and_what_is_no_secret_stays() -> Result<(), AppError>
    {
        let (fake, clipboard, first) = with_a_secret().await?;
        let another = SecretText::new("another".into());
        let second = clipboard.copy_secret(another).await?;
        assert!(!first.clear_after(Duration::from_millis(1)).await);
        assert_eq!(held(&fake).as_deref(), Some("another"), "too early");
        clipboard.copy_text("a name".into()).await?;
        assert!(!second.clear_after(Duration::from_millis(1)).await);
        clipboard.clear_if_ours().await;
        assert_eq!(held(&fake).as_deref(), Some("a name"));
        Ok(())
    }
}
