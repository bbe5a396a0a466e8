//! The relying party: people sign in here by an identity provider elsewhere (GitHub, Google, any OpenID
//! issuer). Design: S62 to S67.

mod addresses;
mod authorize;
mod callback;
mod description;
mod discovery;
mod exchange;
mod failure;
mod jwks;
mod kept;
mod link;
pub(crate) mod outbound;
mod presets;
mod profile;
pub(crate) mod providers;
mod sign_up;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::get;
use maud::{Markup, html};

pub use description::{ProviderDescription, ProviderError};
pub use presets::TokenAuth;
pub use sign_up::missing_sign_up_roles;

use crate::http::failures::Failures;
use crate::problem::Problem;
use crate::server::{App, BuildError};
use crate::sessions::api::wrong_method as wrong;
use crate::settings::Settings;

/// Trips that one source may begin in ten minutes: each is a row.
const STARTS: u32 = 120;
const STARTS_WINDOW_MS: i64 = 600_000;

/// What these pages keep in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// The way out.
    pub(crate) http: outbound::Outbound,
    metadata: discovery::MetadataCache,
    keys: jwks::KeyCache,
    starts: Failures,
}

impl State {
    /// Nothing remembered yet.
    pub(crate) fn new(settings: &Settings) -> Result<Self, BuildError> {
        let http = outbound::Outbound::new(settings.allow_private_addresses)
            .map_err(|error| BuildError::Other(format!("requests to other sites: {error}")))?;
        Ok(Self {
            http,
            metadata: discovery::MetadataCache::default(),
            keys: jwks::KeyCache::default(),
            starts: Failures::new(STARTS, STARTS_WINDOW_MS),
        })
    }
}

/// By which of the two names a trip goes: its callback has the same one (RFC 6749 §4.1.3).
#[derive(Clone, Copy, Debug)]
enum Face {
    /// `/rp/…`
    Rp,
    /// `/auth/…`
    Auth,
}

impl Face {
    /// `redirect_uri`: one for each provider, so that no answer is taken for another's (S63).
    fn callback(self, app: &App, id: &str) -> String {
        match self {
            Self::Rp => app.settings.url(&format!("/rp/callback/{id}")),
            Self::Auth => app.settings.url(&format!("/auth/callback/{id}")),
        }
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/rp/authorize", get(authorize::authorize))
        .route("/auth/signIn/{provider}", get(authorize::alias))
        .route("/rp/callback/{idp}", get(callback::callback))
        .route("/auth/callback/{provider}", get(callback::alias))
        .route("/rp/link", get(link::ask).post(link::start))
        .route(
            "/api/v1/identity-providers",
            get(providers::list).fallback(wrong),
        )
        .route(
            "/api/v1/identity-providers/{id}",
            get(providers::read)
                .put(providers::put)
                .delete(providers::disable)
                .fallback(wrong),
        )
}

/// A provider that people can sign in by.
async fn load(app: &App, id: &str) -> Result<presets::Provider, failure::Failure> {
    let (stored, sealed) = app.registry.find_identity_provider(id).await?;
    presets::Provider::open(&stored, sealed.as_ref(), &app.secrets)
}

/// “Continue with …” for the sign-in page, one link a provider; nothing where there is none. `again`:
/// the person is to prove it anew there, and not by a sign-in that the provider remembers.
///
/// # Errors
/// [`Problem`] if the providers cannot be read.
pub(crate) async fn buttons(app: &App, return_to: &str, again: bool) -> Result<Markup, Problem> {
    let all = app.registry.list_identity_providers().await?;
    let href = |id: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("idp", id);
        query.append_pair("redirect_uri", return_to);
        if again {
            query.append_pair("again", "1");
        }
        let query = query.finish();
        app.settings.path(&format!("/rp/authorize?{query}"))
    };
    let enabled: Vec<_> = all.iter().filter(|one| one.disabled_at.is_none()).collect();
    Ok(html! {
        @if !enabled.is_empty() {
            div.stack {
                @for provider in enabled {
                    a.button href=(href(&provider.id)) { "Continue with " (provider.name) }
                }
            }
        }
    })
}

/// “Link …” for a person's own page: the providers that they have not linked yet.
///
/// # Errors
/// [`Problem`] if the providers cannot be read.
pub(crate) async fn buttons_to_link(app: &App, user_id: &str) -> Result<Markup, Problem> {
    let all = app.registry.list_identity_providers().await?;
    let linked = app.registry.list_identities(user_id).await?;
    let free: Vec<_> = all
        .iter()
        .filter(|one| one.disabled_at.is_none())
        .filter(|one| !linked.iter().any(|own| own.provider_id == one.id))
        .collect();
    Ok(html! {
        @if !free.is_empty() {
            div.actions {
                @for provider in free {
                    a.button href=(app.settings.path(&format!("/rp/link?idp={}", provider.id))) {
                        "Link " (provider.name)
                    }
                }
            }
        }
    })
}
