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
    // The client may send the browser on to anywhere, and the policy counts for that too. Nothing on this
    // page but the form could send anything, and its address was registered.
    Page::new("Back to the application", content)
        .with_script(pages::FORM_POST)
        .with_form_target("https:")
        .with_form_target("http:")
        .into_response(&app.settings)
}

/// The scheme of an address that a program of its own opens (RFC 8252 §7.1), as a source of a content
/// policy; none for web addresses.
pub(crate) fn own_scheme(redirect_uri: &str) -> Option<String> {
    let url = url::Url::parse(redirect_uri).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https");
    (!is_web).then(|| format!("{}:", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_own_schemes_are_in_a_policy() {
        for (uri, source) in [
            ("https://app.example.com/cb?x=1", None),
            ("http://127.0.0.1:4000/callback", None),
            ("http://[::1]:4000/callback", None),
            ("com.example.app:/cb", Some("com.example.app:")),
            ("nothing", None),
        ] {
            assert_eq!(own_scheme(uri).as_deref(), source, "{uri}");
        }
    }
}
