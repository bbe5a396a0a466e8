//! The server's answers as views: foreign text made printable and short, unknown members ignored.

use keywright_protocol::sessions::{
    ApplicationAccessView, EndedSessionsView, SessionApplicationView, SessionView,
};
use serde_json::Value;

use crate::sign_in::tame;

/// Names within one row; nobody has as many.
const MOST: usize = 50;
const LONGEST_ID: usize = 200;

/// One row of `GET /api/v1/sessions`.
pub(super) fn session(row: &Value) -> Option<SessionView> {
    let clients = row.get("clients").and_then(Value::as_array);
    let clients = clients.into_iter().flatten().take(MOST);
    Some(SessionView {
        id: id(row, "id")?,
        current: row.get("current").and_then(Value::as_bool)?,
        device: text(row, "device", 20),
        browser: text(row, "browser", 60),
        os: text(row, "os", 40),
        user_agent: text(row, "user_agent", 300),
        address: text(row, "address", 60),
        signed_in_at: time(row, "signed_in_at")?,
        last_used_at: time(row, "last_used_at")?,
        expires_at: time(row, "expires_at")?,
        methods: texts(row, "amr"),
        applications: clients.filter_map(named).collect(),
    })
}

/// One row of `GET /api/v1/applications`; `own` is this app's client id.
pub(super) fn application(row: &Value, own: &str) -> Option<ApplicationAccessView> {
    let client_id = id(row, "client_id")?;
    let grants = row.get("grants").and_then(Value::as_array);
    let ends = grants.into_iter().flatten();
    Some(ApplicationAccessView {
        name: text(row, "name", 80),
        current: client_id == own,
        scopes: texts(row, "scopes"),
        allowed_at: time(row, "allowed_at")?,
        last_used_at: time(row, "last_used_at"),
        expires_at: ends.filter_map(|grant| time(grant, "expires_at")).max(),
        client_id,
    })
}

/// The answer of `POST /api/v1/sessions/revoke-others`.
pub(super) fn ended(document: &Value) -> EndedSessionsView {
    let sessions = document.get("sessions").and_then(Value::as_u64);
    EndedSessionsView {
        sessions: sessions.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        access_ends_at: time(document, "access_ends_at"),
    }
}

fn named(client: &Value) -> Option<SessionApplicationView> {
    Some(SessionApplicationView {
        id: id(client, "id")?,
        name: text(client, "name", 80),
    })
}

/// An id goes back to the server as it came, so it is taken whole or not at all.
fn id(row: &Value, name: &str) -> Option<String> {
    let id = row.get(name)?.as_str()?;
    let fits = !id.is_empty() && id.len() <= LONGEST_ID && !id.chars().any(char::is_control);
    fits.then(|| id.to_owned())
}

fn text(row: &Value, name: &str, longest: usize) -> String {
    row.get(name)
        .and_then(Value::as_str)
        .map(|text| tame(text, longest))
        .unwrap_or_default()
}

fn texts(row: &Value, name: &str) -> Vec<String> {
    let list = row.get(name).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.take(MOST).map(|text| tame(text, 80)).collect()
}

fn time(row: &Value, name: &str) -> Option<i64> {
    row.get(name)
        .and_then(Value::as_i64)
        .filter(|at| (0..=8_640_000_000_000_000).contains(at))
}
