//! `/docs/guides/{name}`: the guides of the repository, as they were when this server was built.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::CACHE;
use crate::pages;
use crate::server::App;

/// A guide of `docs/`.
pub(super) struct Guide {
    /// Its file.
    pub(super) name: &'static str,
    /// What for.
    pub(super) about: &'static str,
    source: &'static str,
}

macro_rules! guide {
    ($name:literal, $about:literal) => {
        Guide {
            name: $name,
            about: $about,
            source: include_str!(concat!("../../../../docs/", $name)),
        }
    };
}

/// In the order to read them.
pub(super) const GUIDES: [Guide; 13] = [
    guide!(
        "server.md",
        "Set it up, add people, applications and providers, settings, backup."
    ),
    guide!(
        "key-api.md",
        "Issue, rotate, verify and revoke API keys from programs."
    ),
    guide!("errors.md", "Codes of refusals, and what to do about each."),
    guide!(
        "gateways.md",
        "Let nginx, Traefik, Caddy or Envoy ask before they let a request through."
    ),
    guide!("webhooks.md", "Be told of what happens: webhooks and mail."),
    guide!(
        "leaks.md",
        "Found keys: who reports them, and what happens then."
    ),
    guide!("scanning.md", "Find keys that lie about in code and logs."),
    guide!(
        "nodes.md",
        "What servers share, what each does by itself, and restarts one after the other."
    ),
    guide!(
        "remote-registry.md",
        "The desktop app with the keys of a server."
    ),
    guide!(
        "threat-model.md",
        "Against whom what protects, and what does not."
    ),
    guide!("performance.md", "What was measured, and how."),
    guide!("architecture.md", "How it is built inside."),
    guide!("glossary.md", "Words, and where they come from."),
];

impl Guide {
    /// Its first line.
    pub(super) fn title(&self) -> &'static str {
        let first = self.source.lines().next().unwrap_or(self.name);
        first.trim_start_matches('#').trim()
    }

    /// Its text, without links to pages that are not served.
    pub(super) fn text(&self) -> String {
        without_unserved_links(self.source)
    }
}

/// `/docs/guides/{name}`
pub(super) async fn show(State(app): State<App>, Path(name): Path<String>) -> Response {
    let Some(guide) = GUIDES.iter().find(|guide| guide.name == name) else {
        let advice = format!("All guides are listed at {}.", app.settings.path("/docs"));
        let happened = "There is no such guide";
        let status = StatusCode::NOT_FOUND;
        return pages::error_page(&app.settings, status, "guide_not_found", happened, &advice);
    };
    let headers = [
        // Not text/markdown: browsers would save it in place of showing it.
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, CACHE),
    ];
    (headers, guide.text()).into_response()
}

/// Whether a link of a guide leads somewhere from here.
pub(super) fn is_served(target: &str) -> bool {
    let file = target.split('#').next().unwrap_or(target);
    target.starts_with("https://")
        || file.is_empty()
        || GUIDES.iter().any(|guide| guide.name == file)
}

/// Links into the repository (decisions, pictures, sources) become their text.
pub(super) fn without_unserved_links(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("](") {
        let Some(end) = rest[at + 2..].find(')').map(|end| at + 2 + end) else {
            break;
        };
        let open = rest[..at].rfind('[');
        match open {
            Some(open) if !is_served(&rest[at + 2..end]) => {
                out.push_str(&rest[..open]);
                out.push_str(&rest[open + 1..at]);
            }
            _ => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}
