//! A person's own page: sessions, applications with access, ways to sign in, history.

mod ways;

use axum::Router;
use maud::{Markup, html};

use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new().merge(ways::routes())
}

/// The pages of an account, as links above each of them. `here` is the path of the page.
pub(crate) fn tabs(_app: &App, _here: &str) -> Markup {
    html! {}
}
