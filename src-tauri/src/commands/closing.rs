//! Commands: the question before the window is closed.

use keywright_protocol::ErrorView;
use tauri::{AppHandle, Manager as _};

use crate::closing::Closing;

type Answer<T> = Result<T, ErrorView>;

/// The question whether to close is on the screen.
#[tauri::command]
#[specta::specta]
pub async fn close_question_shown(handle: AppHandle) -> Answer<()> {
    handle.state::<Closing>().shown();
    Ok(())
}

/// Closes the app, whatever is not finished: the person has decided.
#[tauri::command]
#[specta::specta]
pub async fn close_app(handle: AppHandle) -> Answer<()> {
    handle.exit(0);
    Ok(())
}
