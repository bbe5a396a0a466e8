//! Pages: one layout, one style sheet, no inline script or style. They work without JavaScript, in
//! light and dark, and refuse to be framed. Everything foreign is escaped by `maud`.

pub(crate) mod dates;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};

use crate::http::headers::CONTENT_POLICY;
use crate::operations::Outcome;
use crate::problem::Problem;
use crate::server::App;
use crate::settings::Settings;

const STYLE: &str = include_str!("../../assets/style.css");
const ICON: &str = include_str!("../../assets/icon.svg");
const PASSKEYS: &str = include_str!("../../assets/passkeys.js");
const FORM_POST_SCRIPT: &str = include_str!("../../assets/form_post.js");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The script that sends an answer's form on.
pub(crate) const FORM_POST: &str = "form_post.js";

/// A page before it is wrapped.
#[derive(Debug)]
pub(crate) struct Page {
    title: String,
    content: Markup,
    status: StatusCode,
    wide: bool,
    scripts: Vec<&'static str>,
    form_targets: Vec<String>,
    headers: HeaderMap,
}

impl Page {
    /// A page with a heading of its own in `content`.
    pub(crate) fn new(title: impl Into<String>, content: Markup) -> Self {
        Self {
            title: title.into(),
            content,
            status: StatusCode::OK,
            wide: false,
            scripts: Vec::new(),
            form_targets: Vec::new(),
            headers: HeaderMap::new(),
        }
    }

    /// With another status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// As wide as lists need, in place of a card.
    pub(crate) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// With a script of ours (`/assets/NAME`). The page must work without it.
    pub(crate) fn with_script(mut self, name: &'static str) -> Self {
        self.scripts.push(name);
        self
    }

    /// Lets a form's answer lead to a source elsewhere (CSP3 `form-action`), beside our own pages: a
    /// program's own scheme, or what a form of an answer is posted to.
    pub(crate) fn with_form_target(mut self, source: &str) -> Self {
        self.form_targets.push(source.to_owned());
        self
    }

    /// With more headers, such as cookies.
    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        // Not `extend`, which replaces: two cookies have the same header name.
        let mut last = None;
        for (name, value) in headers {
            if let Some(name) = name.or_else(|| last.clone()) {
                self.headers.append(name.clone(), value);
                last = Some(name);
            }
        }
        self
    }

    /// The answer.
    pub(crate) fn into_response(self, settings: &Settings) -> Response {
        let site = &settings.site_name;
        let asset = |name: &str| settings.path(&format!("/assets/{name}"));
        let body = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    title { (self.title) " · " (site) }
                    link rel="icon" type="image/svg+xml" href=(asset("icon.svg"));
                    link rel="stylesheet" href=(asset(&format!("style.css?v={VERSION}")));
                    @for script in &self.scripts {
                        script type="module" src=(asset(script)) {}
                    }
                }
                body {
                    a.skip href="#content" { "Skip to content" }
                    header.site {
                        img src=(asset("icon.svg")) alt="" width="24" height="24";
                        span { (site) }
                    }
                    main #content tabindex="-1" class=(if self.wide { "wide" } else { "card" }) {
                        (self.content)
                    }
                }
            }
        };
        let mut response = (self.status, self.headers, body.into_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        if !self.form_targets.is_empty() {
            let targets = format!("form-action 'self' {}", self.form_targets.join(" "));
            let policy = CONTENT_POLICY.replace("form-action 'self'", &targets);
            if let Ok(value) = HeaderValue::try_from(policy) {
                headers.insert(header::CONTENT_SECURITY_POLICY, value);
            }
        }
        response
    }
}

/// A page for what went wrong: what happened, then what to do. Never a redirect (S4).
pub(crate) fn error_page(
    settings: &Settings,
    status: StatusCode,
    code: &str,
    happened: &str,
    advice: &str,
) -> Response {
    let content = html! {
        h1 { (happened) }
        p { (advice) }
        p.code { "Code: " code { (code) } }
    };
    Page::new("Something is wrong", content)
        .with_status(status)
        .into_response(settings)
}

/// A refusal of the API as a page.
pub(crate) fn problem_page(settings: &Settings, problem: &Problem) -> Response {
    let advice = match problem.status {
        StatusCode::TOO_MANY_REQUESTS => "Wait a little, then try again.",
        status if status.is_server_error() => {
            "Try again in a moment. If it stays so, tell whoever runs this site."
        }
        _ => "Go back and try again.",
    };
    let mut response = error_page(
        settings,
        problem.status,
        problem.code,
        &sentence(&problem.detail),
        advice,
    );
    if let Some(seconds) = problem.retry_after_s {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Outcome::of(problem.code).beside(response)
}

/// A detail as the heading of a page.
fn sentence(detail: &str) -> String {
    let mut letters = detail.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new().route("/assets/{name}", get(asset))
}

async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "passkeys.js" => ("text/javascript; charset=utf-8", PASSKEYS),
        FORM_POST => ("text/javascript; charset=utf-8", FORM_POST_SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=3600"),
        ),
    ];
    (headers, text).into_response()
}
