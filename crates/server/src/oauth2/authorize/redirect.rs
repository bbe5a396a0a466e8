//! Answers that go to the client's address: 303, or a form where the client asked for one; always with
//! `iss` (RFC 9207), `state` as it came.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::html;

use super::location;
use crate::oauth2::authorization_request::Target;
use crate::pages::{self, Page};
use crate::problem::{OAuthError, plain_description};
use crate::server::App;

/// Sends a code.
pub(crate) fn code(app: &App, target: &Target, code: &str) -> Response {
    to_client(app, target, &[("code", code)])
}

/// Sends an error (RFC 6749 §4.1.2.1).
pub(crate) fn refusal(app: &App, target: &Target, error: &OAuthError) -> Response {
    let description = plain_description(&error.description);
    let pairs = [
        ("error", error.error),
        ("error_description", description.as_str()),
    ];
    to_client(app, target, &pairs)
}

/// Sends a browser on by `GET`, whatever it came with.
pub(crate) fn see_other(address: &str) -> Response {
    match location(address) {
        Some(value) => (StatusCode::SEE_OTHER, [(header::LOCATION, value)]).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn to_client(app: &App, target: &Target, pairs: &[(&str, &str)]) -> Response {
    if target.by_form {
        return by_form(app, target, pairs);
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    if let Some(state) = &target.state {
        query.append_pair("state", state);
    }
    query.append_pair("iss", app.settings.issuer.as_str());
    // The address stays byte for byte as it is; it has no fragment.
    let uri = &target.redirect_uri;
    let joint = if !uri.contains('?') {
        "?"
    } else if uri.ends_with(['?', '&']) {
        ""
    } else {
        "&"
    };
    see_other(&format!("{uri}{joint}{}", query.finish()))
}

/// A page whose form carries the answer. A script of ours sends it on; without scripts the person does.
fn by_form(app: &App, target: &Target, pairs: &[(&str, &str)]) -> Response {
    let issuer = ("iss", app.settings.issuer.as_str());
    let state = target.state.as_deref().map(|state| ("state", state));
    let fields = pairs.iter().copied().chain(state).chain([issuer]);
    let content = html! {
        h1 { "Back to the application" }
        p { "If nothing happens, press the button." }
        form method="post" action=(target.redirect_uri) data-form-post {
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            div.actions { button.primary type="submit" { "Continue" } }
        }
    };
    let mut page = Page::new("Back to the application", content).with_script(pages::FORM_POST);
    if let Some(origin) = form_target(&target.redirect_uri) {
        page = page.with_form_target(origin);
    }
    page.into_response(&app.settings)
}

/// An address as a source of a content policy: its origin, or its scheme where policies cannot name
/// the origin (`[::1]`, and schemes of programs' own).
pub(crate) fn form_target(redirect_uri: &str) -> Option<String> {
    let url = url::Url::parse(redirect_uri).ok()?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(url::Host::Ipv6(_)) | None) => Some(format!("{}:", url.scheme())),
        ("http" | "https", Some(_)) => Some(url.origin().ascii_serialization()),
        (scheme, _) => Some(format!("{scheme}:")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_sources_of_a_policy() {
        for (uri, source) in [
            ("https://app.example.com/cb?x=1", "https://app.example.com"),
            (
                "https://app.example.com:8443/cb",
                "https://app.example.com:8443",
            ),
            ("http://127.0.0.1:4000/callback", "http://127.0.0.1:4000"),
            ("http://[::1]:4000/callback", "http:"),
            ("com.example.app:/cb", "com.example.app:"),
        ] {
            assert_eq!(form_target(uri).as_deref(), Some(source));
        }
        assert_eq!(form_target("nothing"), None);
    }
}
