//! `/account/api-keys`: the keys that are one's own, and an end to each. A key is made and changed elsewhere;
//! who reviews their account sees what acts in their name and stops it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::api_keys::{ApiKey, ApiKeyState};
use keywright_registry::{ApiKeyFilter, ApiKeyOrder, ApiKeyQuery, ApiKeySummary};
use maud::{Markup, html};

use super::questions;
use super::visitor::{Visitor, or_page, see_other};
use super::{csrf_field, further, tabs};
use crate::http::params::FormParams;
use crate::keys::manager::Manager;
use crate::keys::views::problem;
use crate::pages::{Page, dates};
use crate::problem::Problem;
use crate::server::App;

pub(super) const KEYS_PAGE: &str = "/account/api-keys";
const KEYS: u32 = 50;
/// Characters.
pub(super) const LONGEST_REASON: usize = 500;

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Response {
    or_page(&app, render(&app, &visitor).await)
}

async fn render(app: &App, visitor: &Visitor) -> Result<Response, Problem> {
    let query = ApiKeyQuery {
        filter: ApiKeyFilter {
            owner: Some(visitor.user_id().to_owned()),
            ..ApiKeyFilter::default()
        },
        order: ApiKeyOrder::CreatedDesc,
        cursor: visitor.query.get("cursor").map(str::to_owned),
        limit: KEYS,
    };
    let page = app.registry.list_api_keys(&query).await?;
    let revoked = visitor.query.get("done") == Some("revoked");
    let asked = questions::hint(app, visitor).await?;
    let content = html! {
        h1 { "API keys" }
        (tabs(app, KEYS_PAGE))
        (asked)
        @if revoked {
            p.notice.ok role="status" {
                "The key is revoked. This server refuses it from now on, each of its nodes within a second."
            }
        }
        @if page.items.is_empty() && query.cursor.is_none() {
            p {
                "You have no API keys. Programs issue them ("
                a href=(app.settings.path("/api/docs")) { "how" }
                "), and so does the Keywright desktop that is signed in here."
            }
        } @else {
            p { "Whoever has one of these keys acts in your name, as far as the key allows it." }
            ul.rows {
                @for key in &page.items { (row(app, key)) }
            }
            (further(&app.settings.path(KEYS_PAGE), page.next_cursor.as_deref()))
            p.muted { "Times are UTC." }
        }
    };
    Ok(visitor.page(app, Page::new("API keys", content).wide()))
}

fn row(app: &App, key: &ApiKeySummary) -> Markup {
    let path = app.settings.path(&format!("{KEYS_PAGE}/{}/revoke", key.id));
    html! {
        li {
            div {
                strong { (key.name) } " " (state(key.state))
                @if key.exposed_at.is_some() { " " span.badge.danger { "Was exposed" } }
                dl {
                    dt { "Key" } dd { code { (key.prefix) "_…" (key.last_four) } }
                    dt { "May use" }
                    dd { @if key.scopes.is_empty() { "nothing" } @else { (key.scopes.join(", ")) } }
                    dt { "Issued" } dd { (dates::shown(key.created_at)) }
                    dt { "Last used" } dd { (key.last_used_at.map_or("never".to_owned(), dates::shown)) }
                    @match (key.revoked_at, &key.revoked_reason) {
                        (Some(at), reason) => {
                            dt { "Revoked" }
                            dd {
                                (dates::shown(at))
                                @if let Some(reason) = reason.as_deref().filter(|text| !text.is_empty()) {
                                    ": " (reason)
                                }
                            }
                        }
                        _ => {
                            dt { "Expires" }
                            dd { (key.expires_at.map_or("never".to_owned(), dates::shown)) }
                        }
                    }
                    @if let Some(place) = &key.promoted_to { dt { "Moved to" } dd { (place) } }
                }
            }
            @if key.revoked_at.is_none() && key.promoted_to.is_none() {
                a.button href=(path) aria-label=(format!("Revoke {}", key.name)) { "Revoke…" }
            }
        }
    }
}

fn state(state: ApiKeyState) -> Markup {
    match state {
        ApiKeyState::Active => html! { span.badge { "Active" } },
        ApiKeyState::Rotating => html! { span.badge { "Being replaced" } },
        ApiKeyState::Expired => html! { span.badge.warn { "Expired" } },
        ApiKeyState::Disabled => html! { span.badge.warn { "Suspended" } },
        ApiKeyState::Revoked => html! { span.badge.danger { "Revoked" } },
    }
}

/// The key, if it is the visitor's own: others are not there.
pub(super) async fn own(app: &App, visitor: &Visitor, id: &str) -> Result<ApiKey, Problem> {
    let (key, _) = app.registry.find_api_key(id).await?;
    if Manager::owns(visitor.user_id(), &key.owner) {
        Ok(key)
    } else {
        let detail = "there is no key with this id";
        Err(Problem::not_found("key_not_found", detail))
    }
}

/// Asks before a key ends, and why.
pub(super) async fn ask(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Response {
    let asked = own(&app, &visitor, &id).await;
    or_page(
        &app,
        asked.map(|key| form(&app, &visitor, &key, None, StatusCode::OK)),
    )
}

fn form(
    app: &App,
    visitor: &Visitor,
    key: &ApiKey,
    wrong: Option<&str>,
    status: StatusCode,
) -> Response {
    let action = app.settings.path(&format!("{KEYS_PAGE}/{}/revoke", key.id));
    let content = html! {
        h1 { "Revoke “" (key.name) "”?" }
        p {
            "Whatever uses it is refused from then on, and it cannot be undone. To replace a key without \
             an interruption, rotate it instead."
        }
        form method="post" action=(action) {
            (csrf_field(visitor.csrf()))
            label for="reason" { "Why" }
            input id="reason" name="reason" type="text" required autofocus maxlength=(LONGEST_REASON)
                autocomplete="off" aria-invalid=[wrong.map(|_| "true")]
                aria-describedby=(if wrong.is_some() { "wrong hint" } else { "hint" });
            @if let Some(wrong) = wrong { p.notice.error id="wrong" role="alert" { (wrong) } }
            p.hint id="hint" { "It is kept with the key, for whoever looks into it later." }
            div.actions {
                button.danger type="submit" { "Revoke the key" }
                a.button href=(app.settings.path(KEYS_PAGE)) { "Keep it" }
            }
        }
    };
    visitor.page(app, Page::new("Revoke a key?", content).with_status(status))
}

/// Ends a key for good.
pub(super) async fn revoke(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    FormParams(given): FormParams,
) -> Response {
    let revoke = async {
        visitor.check(&app, &given)?;
        let key = own(&app, &visitor, &id).await?;
        let reason = given.get("reason").unwrap_or("").trim();
        let wrong = match reason.chars().count() {
            0 => Some("Say why, in a few words."),
            n if n > LONGEST_REASON => Some("At most 500 characters."),
            _ => None,
        };
        if wrong.is_some() {
            return Ok(form(&app, &visitor, &key, wrong, StatusCode::BAD_REQUEST));
        }
        app.registry
            .revoke_api_key(&visitor.actor(), &key.id, reason)
            .await
            .map_err(problem)?;
        Ok(see_other(
            &app.settings.path(&format!("{KEYS_PAGE}?done=revoked")),
        ))
    };
    or_page(&app, revoke.await)
}
