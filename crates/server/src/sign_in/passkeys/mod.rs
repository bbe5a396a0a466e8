//! Passkeys (Web Authentication Level 3): by hand over CBOR and aws-lc-rs, see
//! docs/decisions/0009-passkeys.md for what is checked.

mod assertion;
mod attestation;
mod authenticator_data;
mod challenge;
mod client_data;
mod cose;
mod public_key;
pub(crate) mod registration;

use axum::Router;
use axum::http::StatusCode;
use keywright_domain::SecretText;
use maud::{Markup, html};
use sha2::{Digest as _, Sha256};
use url::Host;

use crate::problem::Problem;
use crate::server::App;
use crate::settings::Settings;

pub(super) use challenge::Answered;

/// The script of all buttons of passkeys.
pub(crate) const SCRIPT: &str = "passkeys.js";

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    assertion::routes()
}

/// The relying party's id: the issuer's host name. An address is none, so there are no passkeys then.
pub(crate) fn rp_id(settings: &Settings) -> Option<String> {
    let url = url::Url::parse(settings.issuer.as_str()).ok()?;
    match url.host()? {
        Host::Domain(name) => Some(name.to_owned()),
        _ => None,
    }
}

/// “Use a passkey”: shown by the script, since nothing of it works without.
pub(super) fn button(app: &App, csrf: &SecretText, return_to: &str) -> Markup {
    if rp_id(&app.settings).is_none() {
        return html! {};
    }
    html! {
        div.stack data-passkey="use" data-options=(app.settings.path("/sign-in/passkey/options"))
            data-answer=(app.settings.path("/sign-in/passkey")) data-return-to=(return_to)
            data-csrf=(csrf.expose()) hidden {
            button type="button" { "Use a passkey" }
            p.notice.error role="alert" hidden {}
        }
    }
}

/// What is wrong with an answer, for the log and the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(pub(crate) &'static str);

/// The one answer for everything that is wrong.
fn refused() -> Problem {
    let detail = "this passkey was not accepted: try again, or sign in another way";
    Problem::new(StatusCode::UNAUTHORIZED, "passkey_refused", detail)
}

fn unavailable() -> Problem {
    let detail = "passkeys need a host name, and this server has an address only";
    Problem::not_found("passkeys_unavailable", detail)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
