//! Commands: Flows.

use keywright_app::App;
use keywright_protocol::{
    ErrorView,
    flows::{FlowTraceView, FlowView},
};
use tauri::State;

type Answer<T> = Result<T, ErrorView>;

/// All flows, in order.
#[tauri::command]
#[specta::specta]
pub async fn list_flows(app: State<'_, App>) -> Answer<Vec<FlowView>> {
    Ok(app.list_flows()?)
}

/// The last real sign-ins and refreshes of this run, newest first.
#[tauri::command]
#[specta::specta]
pub async fn list_flow_traces(app: State<'_, App>) -> Answer<Vec<FlowTraceView>> {
    Ok(app.list_flow_traces()?)
}
