//! Commands: API keys of the registry.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    api_keys::{
        ApiKeyCountsView, ApiKeyDetailView, ApiKeyListRequest, ApiKeyPageView, ApiKeyView,
        CopiedView, DeliverSecretRequest, DeliveryView, DisableApiKeyRequest, IssueApiKeyRequest,
        IssuedApiKeyView, RevealedSecretView, RevokeApiKeyRequest, RotateApiKeyRequest, ScopeView,
        SecretSnippet, StepRotationRequest, VerificationView, VerifyApiKeyRequest,
        WaitingSecretView,
    },
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// One page of keys.
#[tauri::command]
#[specta::specta]
pub async fn list_api_keys(
    app: State<'_, App>,
    request: ApiKeyListRequest,
) -> Answer<ApiKeyPageView> {
    Ok(app.list_api_keys(request).await?)
}

/// Counts by state.
#[tauri::command]
#[specta::specta]
pub async fn count_api_keys(app: State<'_, App>) -> Answer<ApiKeyCountsView> {
    Ok(app.count_api_keys().await?)
}

/// One key with its secrets and history.
#[tauri::command]
#[specta::specta]
pub async fn find_api_key(app: State<'_, App>, id: String) -> Answer<ApiKeyDetailView> {
    Ok(app.find_api_key(id).await?)
}

/// Issues a key; the secret waits in the app.
#[tauri::command]
#[specta::specta]
pub async fn issue_api_key(
    app: State<'_, App>,
    request: IssueApiKeyRequest,
) -> Answer<IssuedApiKeyView> {
    Ok(app.issue_api_key(request).await?)
}

/// Rotates a key; the new secret waits in the app.
#[tauri::command]
#[specta::specta]
pub async fn rotate_api_key(
    app: State<'_, App>,
    request: RotateApiKeyRequest,
) -> Answer<IssuedApiKeyView> {
    Ok(app.rotate_api_key(request).await?)
}

/// Revokes a key, effective on the next verification.
#[tauri::command]
#[specta::specta]
pub async fn revoke_api_key(
    app: State<'_, App>,
    request: RevokeApiKeyRequest,
) -> Answer<ApiKeyView> {
    Ok(app.revoke_api_key(request).await?)
}

/// Cancels, rolls back or finishes the rotation that is under way.
#[tauri::command]
#[specta::specta]
pub async fn step_rotation(
    app: State<'_, App>,
    request: StepRotationRequest,
) -> Answer<ApiKeyView> {
    Ok(app.step_rotation(request).await?)
}

/// Suspends a key until it is enabled again.
#[tauri::command]
#[specta::specta]
pub async fn disable_api_key(
    app: State<'_, App>,
    request: DisableApiKeyRequest,
) -> Answer<ApiKeyView> {
    Ok(app.disable_api_key(request).await?)
}

/// Ends a suspension.
#[tauri::command]
#[specta::specta]
pub async fn enable_api_key(app: State<'_, App>, id: String) -> Answer<ApiKeyView> {
    Ok(app.enable_api_key(id).await?)
}

/// Verifies a pasted key and says why.
#[tauri::command]
#[specta::specta]
pub async fn verify_api_key(
    app: State<'_, App>,
    request: VerifyApiKeyRequest,
) -> Answer<VerificationView> {
    Ok(app.verify_api_key(request).await?)
}

/// The show-once path: the only command that returns a secret, once.
#[tauri::command]
#[specta::specta]
pub async fn reveal_secret(app: State<'_, App>, reveal_id: String) -> Answer<RevealedSecretView> {
    Ok(app.reveal_secret(reveal_id)?)
}

/// Copies a waiting secret, in Rust.
#[tauri::command]
#[specta::specta]
pub async fn copy_secret(
    app: State<'_, App>,
    reveal_id: String,
    snippet: SecretSnippet,
) -> Answer<CopiedView> {
    Ok(app.copy_secret(reveal_id, snippet).await?)
}

/// Delivers a waiting secret to every target or to none.
#[tauri::command]
#[specta::specta]
pub async fn deliver_secret(
    app: State<'_, App>,
    request: DeliverSecretRequest,
) -> Answer<DeliveryView> {
    Ok(app.deliver_secret(request).await?)
}

/// The secrets that wait and were neither copied nor delivered.
#[tauri::command]
#[specta::specta]
pub async fn list_waiting_secrets(app: State<'_, App>) -> Answer<Vec<WaitingSecretView>> {
    Ok(app.list_waiting_secrets()?)
}

/// Forgets a waiting secret.
#[tauri::command]
#[specta::specta]
pub async fn discard_secret(app: State<'_, App>, reveal_id: String) -> Answer<()> {
    Ok(app.discard_secret(reveal_id)?)
}

/// The scopes this registry knows.
#[tauri::command]
#[specta::specta]
pub async fn list_scopes(app: State<'_, App>) -> Answer<Vec<ScopeView>> {
    Ok(app.list_scopes().await?)
}

/// Adds a scope, or changes its description.
#[tauri::command]
#[specta::specta]
pub async fn define_scope(app: State<'_, App>, scope: ScopeView) -> Answer<ScopeView> {
    Ok(app.define_scope(scope).await?)
}
