//! Commands: Sessions of an account at a Keywright server.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    sessions::{AccountSessionsView, EndedSessionsView},
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// Where an account is signed in, and which applications have access to it.
#[tauri::command]
#[specta::specta]
pub async fn list_sessions(app: State<'_, App>, account_id: String) -> Answer<AccountSessionsView> {
    Ok(app.list_sessions(account_id).await?)
}

/// Ends a session.
#[tauri::command]
#[specta::specta]
pub async fn end_session(
    app: State<'_, App>,
    account_id: String,
    session_id: String,
) -> Answer<()> {
    Ok(app.end_session(account_id, session_id).await?)
}

/// Ends all sessions but the one that this device was signed in through.
#[tauri::command]
#[specta::specta]
pub async fn end_other_sessions(
    app: State<'_, App>,
    account_id: String,
) -> Answer<EndedSessionsView> {
    Ok(app.end_other_sessions(account_id).await?)
}

/// Takes an application's access away.
#[tauri::command]
#[specta::specta]
pub async fn end_application(
    app: State<'_, App>,
    account_id: String,
    client_id: String,
) -> Answer<()> {
    Ok(app.end_application(account_id, client_id).await?)
}
