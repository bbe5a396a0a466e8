//! Commands: Notices of the registry in use.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    notices::{NoticeListRequest, NoticePageView, UnreadNoticesView},
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// One page of notices, newest first.
#[tauri::command]
#[specta::specta]
pub async fn list_notices(
    app: State<'_, App>,
    request: NoticeListRequest,
) -> Answer<NoticePageView> {
    Ok(app.list_notices(request).await?)
}

/// Marks a notice as read.
#[tauri::command]
#[specta::specta]
pub async fn mark_notice_read(app: State<'_, App>, id: i64) -> Answer<UnreadNoticesView> {
    Ok(app.mark_notice_read(id).await?)
}

/// Marks all notices up to one as read: the newest that is shown.
#[tauri::command]
#[specta::specta]
pub async fn mark_notices_read_until(app: State<'_, App>, id: i64) -> Answer<UnreadNoticesView> {
    Ok(app.mark_notices_read_until(id).await?)
}
