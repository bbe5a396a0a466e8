//! Commands: Accounts and sign-in.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    accounts::{AccountView, ProviderPresetView, SignInRequest, SignOutView},
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// The providers the sign-in dialog offers.
#[tauri::command]
#[specta::specta]
pub async fn list_provider_presets(app: State<'_, App>) -> Answer<Vec<ProviderPresetView>> {
    Ok(app.list_provider_presets()?)
}

/// All accounts of this device, in order of first sign-in.
#[tauri::command]
#[specta::specta]
pub async fn list_accounts(app: State<'_, App>) -> Answer<Vec<AccountView>> {
    Ok(app.list_accounts().await?)
}

/// Signs in; resolves when the sign-in has ended.
#[tauri::command]
#[specta::specta]
pub async fn sign_in(app: State<'_, App>, request: SignInRequest) -> Answer<AccountView> {
    Ok(app.sign_in(request).await?)
}

/// Ends a pending sign-in (`login_cancelled`).
#[tauri::command]
#[specta::specta]
pub async fn cancel_sign_in(app: State<'_, App>, sign_in_id: String) -> Answer<()> {
    Ok(app.cancel_sign_in(sign_in_id)?)
}

/// Opens the browser again on the same pending sign-in.
#[tauri::command]
#[specta::specta]
pub async fn reopen_browser(app: State<'_, App>, sign_in_id: String) -> Answer<()> {
    Ok(app.reopen_browser(sign_in_id).await?)
}

/// Puts the link of a pending sign-in on the clipboard.
#[tauri::command]
#[specta::specta]
pub async fn copy_sign_in_link(app: State<'_, App>, sign_in_id: String) -> Answer<()> {
    Ok(app.copy_sign_in_link(sign_in_id).await?)
}

/// Hands over the redirect that a person pasted.
#[tauri::command]
#[specta::specta]
pub async fn finish_sign_in(
    app: State<'_, App>,
    sign_in_id: String,
    pasted_url: String,
) -> Answer<()> {
    Ok(app.finish_sign_in(sign_in_id, pasted_url).await?)
}

/// Refreshes the access token now.
#[tauri::command]
#[specta::specta]
pub async fn refresh_account(app: State<'_, App>, account_id: String) -> Answer<AccountView> {
    Ok(app.refresh_account(account_id).await?)
}

/// Revokes at the issuer, deletes the keychain entry, forgets the account.
#[tauri::command]
#[specta::specta]
pub async fn sign_out(app: State<'_, App>, account_id: String) -> Answer<SignOutView> {
    Ok(app.sign_out(account_id).await?)
}
