//! Commands: which registry the window works with, and what waits for those on servers.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    promotion::{PromotionRequest, PromotionView},
    registries::{RegistriesView, RegistryPermissionsView},
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// The registry in use, and those that could be.
#[tauri::command]
#[specta::specta]
pub async fn list_registries(app: State<'_, App>) -> Answer<RegistriesView> {
    Ok(app.list_registries().await?)
}

/// What may be done with the registry in use.
#[tauri::command]
#[specta::specta]
pub async fn registry_permissions(app: State<'_, App>) -> Answer<RegistryPermissionsView> {
    Ok(app.registry_permissions().await?)
}

/// Works with another registry from now on; absent is this device.
#[tauri::command]
#[specta::specta]
pub async fn choose_registry(
    app: State<'_, App>,
    account_id: Option<String>,
) -> Answer<RegistriesView> {
    Ok(app.choose_registry(account_id).await?)
}

/// Tries revocations that wait for an account's server.
#[tauri::command]
#[specta::specta]
pub async fn retry_revocations(app: State<'_, App>, account_id: String) -> Answer<RegistriesView> {
    Ok(app.retry_revocations(account_id).await?)
}

/// Takes a waiting revocation back.
#[tauri::command]
#[specta::specta]
pub async fn discard_revocation(
    app: State<'_, App>,
    account_id: String,
    key_id: String,
) -> Answer<RegistriesView> {
    Ok(app.discard_revocation(account_id, key_id).await?)
}

/// Takes back what waits for a server where nobody is signed in any more.
#[tauri::command]
#[specta::specta]
pub async fn forget_revocations(app: State<'_, App>, id: String) -> Answer<RegistriesView> {
    Ok(app.forget_revocations(id).await?)
}

/// Moves keys of this device to a server, or says what would become of each.
#[tauri::command]
#[specta::specta]
pub async fn promote_keys(app: State<'_, App>, request: PromotionRequest) -> Answer<PromotionView> {
    Ok(app.promote_keys(request).await?)
}
