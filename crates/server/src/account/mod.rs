//! A person's own page: sessions, applications with access, API keys, ways to sign in, history.

mod api_keys;
mod applications;
mod history;
mod new_devices;
mod overview;
mod questions;
mod visitor;
mod ways;

pub(crate) use ways::guard;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::{get, post};
use maud::{Markup, html};

use crate::http::csrf;
use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/account", get(overview::show))
        .route("/account/ended", get(overview::ended))
        .route("/account/sessions/{id}/end", post(overview::end_one))
        .route("/account/end-others", post(overview::end_others))
        .route(
            "/account/end-everything",
            get(overview::ask_end_everything).post(overview::end_everything),
        )
        .route("/account/applications", get(applications::show))
        .route(
            "/account/applications/{client_id}/remove",
            post(applications::remove),
        )
        .route(api_keys::KEYS_PAGE, get(api_keys::show))
        .route(
            "/account/api-keys/{id}/revoke",
            get(api_keys::ask).post(api_keys::revoke),
        )
        .route(questions::QUESTIONS_PAGE, get(questions::show))
        .route(
            "/account/api-keys/questions/{campaign}/{key}",
            get(questions::ask).post(questions::answer),
        )
        .route("/account/history", get(history::show))
        .merge(ways::routes())
}

const PAGES: [(&str, &str); 5] = [
    ("/account", "Overview"),
    ("/account/applications", "Applications"),
    (api_keys::KEYS_PAGE, "API keys"),
    ("/account/history", "History"),
    ("/account/sign-in", "Ways to sign in"),
];

/// The pages of an account, as links above each of them. `here` is the path of the page.
pub(crate) fn tabs(app: &App, here: &str) -> Markup {
    html! {
        nav.tabs aria-label="Your account" {
            @for (path, name) in PAGES {
                a href=(app.settings.path(path)) aria-current=[(path == here).then_some("page")] {
                    (name)
                }
            }
        }
    }
}

/// The hidden field of our forms.
fn csrf_field(token: &str) -> Markup {
    html! { input type="hidden" name=(csrf::FIELD) value=(token); }
}

/// A link to the next page of a list.
fn further(path: &str, cursor: Option<&str>) -> Markup {
    let query = cursor.map(|cursor| {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("cursor", cursor)
            .finish()
    });
    html! {
        @if let Some(query) = query {
            p.actions { a.button href=(format!("{path}?{query}")) { "Show older" } }
        }
    }
}
