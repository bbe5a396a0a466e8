//! Commands: Settings, keychain, registry file, the app itself.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    settings::{
        AppInfoView, CreateVaultRequest, KeychainView, LostPepperView, NewPepperRequest,
        PassphraseRequest, RegistryView, Settings,
    },
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// The app and its surroundings.
#[tauri::command]
#[specta::specta]
pub async fn app_info(app: State<'_, App>) -> Answer<AppInfoView> {
    Ok(app.app_info().await?)
}

/// The settings in force.
#[tauri::command]
#[specta::specta]
pub async fn read_settings(app: State<'_, App>) -> Answer<Settings> {
    Ok(app.read_settings()?)
}

/// Checks, writes and applies settings.
#[tauri::command]
#[specta::specta]
pub async fn update_settings(app: State<'_, App>, settings: Settings) -> Answer<Settings> {
    Ok(app.update_settings(settings).await?)
}

/// Probes the keychain with a write, a read and a delete.
#[tauri::command]
#[specta::specta]
pub async fn check_keychain(app: State<'_, App>) -> Answer<KeychainView> {
    Ok(app.check_keychain().await?)
}

/// Opens the registry file again after a failure.
#[tauri::command]
#[specta::specta]
pub async fn retry_registry(app: State<'_, App>) -> Answer<RegistryView> {
    Ok(app.retry_registry().await?)
}

/// The window has painted its first frame.
#[tauri::command]
#[specta::specta]
pub async fn window_painted(app: State<'_, App>) -> Answer<()> {
    Ok(app.window_painted()?)
}

/// Makes an encrypted file in place of a keychain that this system does not have.
#[tauri::command]
#[specta::specta]
pub async fn create_vault(
    app: State<'_, App>,
    request: CreateVaultRequest,
) -> Answer<KeychainView> {
    Ok(app.create_vault(request).await?)
}

/// Opens the encrypted file with its passphrase.
#[tauri::command]
#[specta::specta]
pub async fn unlock_vault(app: State<'_, App>, request: PassphraseRequest) -> Answer<KeychainView> {
    Ok(app.unlock_vault(request).await?)
}

/// Forgets the key of the encrypted file.
#[tauri::command]
#[specta::specta]
pub async fn lock_vault(app: State<'_, App>) -> Answer<KeychainView> {
    Ok(app.lock_vault().await?)
}

/// Whether the registry's pepper is lost, and what that ends.
#[tauri::command]
#[specta::specta]
pub async fn lost_pepper(app: State<'_, App>) -> Answer<LostPepperView> {
    Ok(app.lost_pepper().await?)
}

/// Starts with a new pepper where the old one is lost, and ends the keys that need it.
#[tauri::command]
#[specta::specta]
pub async fn start_with_new_pepper(
    app: State<'_, App>,
    request: NewPepperRequest,
) -> Answer<KeychainView> {
    Ok(app.start_with_new_pepper(request).await?)
}
