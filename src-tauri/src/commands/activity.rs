//! Commands: Activity.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    activity::{AuditListRequest, AuditPageView},
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// One page of the audit trail, newest first.
#[tauri::command]
#[specta::specta]
pub async fn list_audit_events(
    app: State<'_, App>,
    request: AuditListRequest,
) -> Answer<AuditPageView> {
    Ok(app.list_audit_events(request).await?)
}
