//! Declares our own commands, so that a window needs a permission for each of them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tauri_build::try_build(
        tauri_build::Attributes::new()
            .app_manifest(tauri_build::AppManifest::new().commands(COMMANDS)),
    )?;
    Ok(())
}

/// Every command of `src/commands`; a test compares this list with the generated bindings.
const COMMANDS: &[&str] = &[
    "list_provider_presets",
    "list_accounts",
    "sign_in",
    "cancel_sign_in",
    "reopen_browser",
    "copy_sign_in_link",
    "finish_sign_in",
    "refresh_account",
    "sign_out",
    "list_registries",
    "registry_permissions",
    "choose_registry",
    "retry_revocations",
    "discard_revocation",
    "forget_revocations",
    "promote_keys",
    "list_sessions",
    "end_session",
    "end_other_sessions",
    "end_application",
    "list_api_keys",
    "count_api_keys",
    "find_api_key",
    "issue_api_key",
    "rotate_api_key",
    "revoke_api_key",
    "disable_api_key",
    "enable_api_key",
    "step_rotation",
    "verify_api_key",
    "reveal_secret",
    "copy_secret",
    "deliver_secret",
    "discard_secret",
    "list_scopes",
    "define_scope",
    "list_audit_events",
    "list_flows",
    "list_flow_traces",
    "list_notices",
    "mark_notice_read",
    "mark_notices_read_until",
    "app_info",
    "read_settings",
    "update_settings",
    "check_keychain",
    "create_vault",
    "unlock_vault",
    "lock_vault",
    "retry_registry",
    "window_painted",
];
