//! The documentation that the server serves: how each flow works here, which credential is for what, the guides
//! of the repository, and all of it as text for programs that read (`llms.txt`). Public, and the same for everybody.

mod flow_page;
mod guides;
mod index;
mod llms;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::routing::get;
use keywright_domain::flows::{Flow, pieces};
use maud::{Markup, html};

use crate::pages::Page;
use crate::server::App;
use crate::settings::Settings;

/// Nothing here changes before the server's version does.
const CACHE: &str = "public, max-age=3600";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/docs", get(index::show))
        .route("/docs/flows", get(flow_page::list))
        .route("/docs/flows/{flow}", get(flow_page::show))
        .route("/docs/guides/{name}", get(guides::show))
        .route("/llms.txt", get(llms::summary))
        .route("/llms-full.txt", get(llms::full))
}

/// A page of the documentation: where one is, the content, and where else to look.
fn page(settings: &Settings, title: &str, trail: &[(&str, &str)], content: Markup) -> Page {
    let content = html! {
        @if !trail.is_empty() {
            nav.trail aria-label="Where you are" {
                @for (name, path) in trail {
                    a href=(settings.path(path)) { (name) }
                    span aria-hidden="true" { " › " }
                }
                span aria-current="page" { (title) }
            }
        }
        (content)
        (foot(settings))
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    Page::new(title, content).wide().with_headers(headers)
}

/// What stands below every page of the documentation.
pub(crate) fn foot(settings: &Settings) -> Markup {
    html! {
        nav.foot aria-label="Documentation" {
            a href=(settings.path("/docs")) { "Documentation" }
            a href=(settings.path("/docs/flows")) { "Flows" }
            a href=(settings.path("/api/docs")) { "API" }
            a href=(settings.path("/llms.txt")) { "llms.txt" }
            a href=(settings.path("/llms-full.txt")) { "llms-full.txt" }
        }
    }
}

/// “On this page”: names and ids.
fn contents(sections: &[(&str, &str)]) -> Markup {
    html! {
        nav.contents aria-label="On this page" {
            p { "On this page" }
            ul {
                @for (name, id) in sections {
                    li { a href=(format!("#{id}")) { (name) } }
                }
            }
        }
    }
}

/// A text with its code.
fn text(text: &str) -> Markup {
    html! {
        @for (is_code, piece) in pieces(text) {
            @if is_code { code { (piece) } } @else { (piece) }
        }
    }
}

fn flow_path(settings: &Settings, flow: &Flow) -> String {
    settings.path(&format!("/docs/flows/{}", flow.id))
}
