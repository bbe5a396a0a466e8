//! `/api/v1/identity-providers`. A secret goes in and never comes out.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::PeopleError;
use keywright_registry::people::IdentityProvider;
use keywright_registry::{RegistryError, Seen, Thing};
use serde::{Deserialize, Serialize};

use super::description::ProviderDescription;
use super::presets::{Extra, TokenAuth};
use crate::etags::{IfSeen, shown, tag_of};
use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, private};
use crate::sessions::{refused, require};

/// Sees providers.
pub(crate) const READ: &str = "providers:read";
/// Changes them.
pub(crate) const WRITE: &str = "providers:write";

/// An identity provider.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProviderView {
    /// Part of addresses.
    id: String,
    /// `openid`, `github`, `google`, `gitlab`, `microsoft` or `facebook`.
    kind: String,
    /// Shown to people.
    name: String,
    /// Byte for byte as configured.
    issuer: String,
    /// Ours there.
    client_id: String,
    /// In place of the usual ones.
    scopes: Option<Vec<String>>,
    /// In place of what the provider's metadata says.
    token_auth: Option<TokenAuth>,
    /// Google: only people of this Workspace domain.
    hosted_domain: Option<String>,
    /// Whether its word that an address is verified is enough to link by it.
    trusts_email: bool,
    /// Whether people can sign in by it.
    enabled: bool,
    /// To be registered at the provider.
    redirect_uri: String,
    /// The same where applications send people to `/auth/signIn/{id}`: what began there comes back there.
    sign_in_redirect_uri: String,
    /// Unix ms.
    created_at: i64,
    /// Unix ms.
    changed_at: i64,
}

impl ProviderView {
    fn new(app: &App, provider: IdentityProvider) -> Self {
        let extra: Extra = serde_json::from_str(&provider.settings).unwrap_or_default();
        Self {
            redirect_uri: super::Face::Rp.callback(app, &provider.id),
            sign_in_redirect_uri: super::Face::Auth.callback(app, &provider.id),
            id: provider.id,
            kind: provider.kind,
            name: provider.name,
            issuer: provider.issuer,
            client_id: provider.client_id,
            scopes: extra.scopes,
            token_auth: extra.token_auth,
            hosted_domain: extra.hosted_domain,
            trusts_email: provider.trusts_email,
            enabled: provider.disabled_at.is_none(),
            created_at: provider.created_at,
            changed_at: provider.changed_at,
        }
    }
}

/// All providers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProviderList {
    items: Vec<ProviderView>,
}

/// What is said of a provider.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderToPut {
    /// `openid`, `github`, `google`, `gitlab`, `microsoft` or `facebook`.
    #[schema(pattern = "^(openid|github|google|gitlab|microsoft|facebook)$")]
    kind: String,
    /// Shown to people; the kind's name if it is left out.
    name: Option<String>,
    /// The kind's own if it is left out. It cannot change: people are linked to it.
    issuer: Option<String>,
    /// Ours there.
    client_id: String,
    /// Ours there; the one before stays if it is left out.
    client_secret: Option<String>,
    /// In place of the usual ones.
    scopes: Option<Vec<String>>,
    /// In place of what the provider's metadata says.
    token_auth: Option<TokenAuth>,
    /// Google: only people of this Workspace domain.
    hosted_domain: Option<String>,
    /// Whether its word that an address is verified is enough to link by it.
    trusts_email: Option<bool>,
    /// Whether people can sign in by it; true if it is left out.
    enabled: Option<bool>,
}

/// All identity providers, by id. Needs `providers:read`.
#[utoipa::path(
    get,
    path = "/api/v1/identity-providers",
    tag = "identity providers",
    responses((status = 200, description = "All of them", body = ProviderList))
)]
pub(crate) async fn list(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    require(&app, &manager, READ).await?;
    let items = app.registry.list_identity_providers().await?;
    let items = items
        .into_iter()
        .map(|one| ProviderView::new(&app, one))
        .collect();
    Ok(private(&ProviderList { items }))
}

/// The tag of a provider as it is shown.
fn tag(app: &App) -> impl Fn(&Seen) -> Option<String> + Send + Sync + 'static {
    let app = App::clone(app);
    move |seen| match seen {
        Seen::Provider(provider) => Some(tag_of(&ProviderView::new(&app, provider.clone()))),
        _ => None,
    }
}

/// An identity provider, a disabled one too. Needs `providers:read`.
#[utoipa::path(
    get,
    path = "/api/v1/identity-providers/{id}",
    tag = "identity providers",
    params(("id" = String, Path, description = "The provider"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses(
        (status = 200, description = "The provider, with its `ETag`", body = ProviderView),
        (status = 304, description = "As the caller has it"),
        (status = 404, description = "`provider_not_found`"),
    )
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    require(&app, &manager, READ).await?;
    let all = app.registry.list_identity_providers().await?;
    let found = all.into_iter().find(|one| one.id == id);
    let found = found.ok_or(RegistryError::People(PeopleError::ProviderNotFound))?;
    seen.show(&ProviderView::new(&app, found))
}

/// Refuses whoever may not do everything: whoever says who answers for an identity can make it answer for
/// anybody's, and so gets all that they may.
async fn check_may_all(app: &App, manager: &Manager) -> Result<(), Problem> {
    if manager.may("*:*") {
        return Ok(());
    }
    refused(app, manager, "identity provider").await;
    let detail =
        "an identity provider says who somebody is, an owner included: whoever puts one needs *:*";
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "exceeds_own_permissions",
        detail,
    ))
}

/// Adds a provider, or says everything of it anew. Needs all permissions (`*:*`), because a provider says who
/// somebody is, an owner included.
#[utoipa::path(
    put,
    path = "/api/v1/identity-providers/{id}",
    tag = "identity providers",
    params(("id" = String, Path, description = "1 to 40 small letters, digits, - or _"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still"), ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none yet")),
    request_body = ProviderToPut,
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 200, description = "Stored", body = ProviderView),
        (status = 400, description = "`invalid_provider`, `invalid_provider_id`"),
        (status = 403, description = "`insufficient_scope`; `exceeds_own_permissions`: whoever asks has not all permissions"),
        (status = 409, description = "`provider_taken`: the issuer cannot change"),
    )
)]
pub(crate) async fn put(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
    Body(asked): Body<ProviderToPut>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    check_may_all(&app, &manager).await?;
    let description = ProviderDescription {
        id,
        kind: asked.kind,
        name: asked.name,
        issuer: asked.issuer,
        client_id: asked.client_id,
        client_secret: asked.client_secret.map(SecretText::new),
        scopes: asked.scopes,
        token_auth: asked.token_auth,
        hosted_domain: asked.hosted_domain,
        trusts_email: asked.trusts_email,
        enabled: asked.enabled.unwrap_or(true),
    };
    let new = description
        .into_provider(&app.secrets, app.settings.allow_private_addresses)
        .map_err(|error| {
            Problem::bad_request("invalid_provider", error.to_string()).with("field", error.field)
        })?;
    let stored = seen
        .registry(&app, Thing::Provider(new.id.clone()), tag(&app))
        .put_identity_provider(&manager.actor, &new)
        .await?;
    Ok(shown(&ProviderView::new(&app, stored)))
}

/// Disables a provider: nobody signs in by it, and what is linked stays. Needs `providers:write`.
#[utoipa::path(
    delete,
    path = "/api/v1/identity-providers/{id}",
    tag = "identity providers",
    params(("id" = String, Path, description = "The provider"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 204, description = "Disabled"),
        (status = 404, description = "`provider_not_found`"),
    )
)]
pub(crate) async fn disable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<StatusCode, Problem> {
    require(&app, &manager, WRITE).await?;
    seen.registry(&app, Thing::Provider(id.clone()), tag(&app))
        .disable_identity_provider(&manager.actor, &id)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
