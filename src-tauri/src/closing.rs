//! Closing the window. It asks first while a new secret waits that nobody could show again, or while a
//! change is under way. The question is the web view's; where that does not show it in time, the next
//! attempt closes. A signal, a logout or a shutdown is never asked about.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use keywright_app::App;
use tauri::{AppHandle, Manager as _};
use tauri_specta::Event as _;

use crate::ipc::CloseAsked;

/// How long the web view has to show the question.
const PATIENCE: Duration = Duration::from_secs(3);

/// When the web view was asked to show the question; none once it has.
#[derive(Default)]
pub(crate) struct Closing(Mutex<Option<Instant>>);

impl Closing {
    /// Whether to close although something is not finished: nobody has shown the question.
    fn gives_up(&self, now: Instant) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.duration_since(*asked.get_or_insert(now)) >= PATIENCE
    }

    /// The question is on the screen: closing is the person's to decide.
    pub(crate) fn shown(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Somebody wants to close the window: whether it may be closed now. If not, the question is on its way.
pub(crate) fn may_close(handle: &AppHandle) -> bool {
    let app = handle.try_state::<App>();
    let Some(unfinished) = app.and_then(|app| app.unfinished()) else {
        return true;
    };
    let given_up = handle
        .try_state::<Closing>()
        .is_none_or(|closing| closing.gives_up(Instant::now()));
    if given_up {
        tracing::warn!("closed with something unfinished: the window did not ask");
        return true;
    }
    if let Err(error) = CloseAsked(unfinished).emit(handle) {
        tracing::warn!(%error, "the window cannot ask");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_does_not_ask_is_closed_by_the_second_attempt() {
        let closing = Closing::default();
        let start = Instant::now();
        assert!(!closing.gives_up(start));
        assert!(!closing.gives_up(start + PATIENCE / 2), "too early");
        assert!(closing.gives_up(start + PATIENCE));
    }

    #[test]
    fn a_question_on_the_screen_is_not_closed_over() {
        let closing = Closing::default();
        let start = Instant::now();
        assert!(!closing.gives_up(start));
        closing.shown();
        let later = start + 10 * PATIENCE;
        assert!(!closing.gives_up(later), "asked anew");
        assert!(
            closing.gives_up(later + PATIENCE),
            "and not shown this time"
        );
    }
}
