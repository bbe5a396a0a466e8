//! `grant_type=refresh_token` (RFC 6749 §6, RFC 9700 §4.14.2).

use std::sync::Arc;

use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::{GrantRefusal, OAuthScopes, PeopleError, Session, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::RegistryError;
use keywright_registry::people::{Grant, RefreshOutcome, RefreshRequest};

use super::Request;
use crate::oauth2::access_token::new_jti;
use crate::oauth2::resource;
use crate::oauth2::tokens::{self, Granted};
use crate::problem::OAuthError;
use crate::server::App;
use crate::sessions;

pub(super) async fn grant(request: Request<'_>) -> Result<Response, OAuthError> {
    let (app, params) = (request.app, request.params);
    let presented = SecretText::new(params.require("refresh_token")?.to_owned());
    let digest = TokenDigest::of(&presented);
    check_resource(&request, &digest).await?;
    let successor = random_token(&mut rand::rng());
    let outcome = app
        .registry
        .refresh_grant(&RefreshRequest {
            presented: digest,
            successor: TokenDigest::of(&successor),
            sealed_successor: app.secrets.seal_under(&presented, &successor),
            client_id: request.client.id.clone(),
            dpop_jkt: request.jkt.clone(),
            scopes: read_scopes(params.get("scope"))?,
            lives: app.settings.refresh,
            network: request.peer.network(),
        })
        .await?;
    let (grant, scopes, refresh_token) = match outcome {
        RefreshOutcome::Rotated { grant, scopes } => (grant, scopes, successor),
        RefreshOutcome::Replayed {
            grant,
            scopes,
            sealed_successor,
        } => {
            let first = app.secrets.unseal_under(&presented, &sealed_successor);
            let first = first.map_err(|error| {
                tracing::error!(%error, "the successor of a refresh token cannot be read");
                refused(GrantRefusal::Unknown)
            })?;
            (grant, scopes, first)
        }
        RefreshOutcome::Reused { grant } => {
            sessions::catch_up(app).await?;
            tracing::warn!(
                client = grant.client_id,
                grant = grant.id,
                "a used refresh token came again: its grant is revoked"
            );
            return Err(refused(GrantRefusal::Revoked));
        }
        RefreshOutcome::Refused(refusal) => return Err(refused(refusal)),
    };
    let session = sign_in_of(app, &grant).await?;
    let granted = Granted {
        client: request.client,
        user_id: &grant.user_id,
        grant_id: Some(&grant.id),
        session_id: grant.session_id.as_deref(),
        scopes: &scopes,
        resource: grant.resource.as_deref(),
        jkt: request.jkt.as_deref(),
        access_jti: new_jti(),
        refresh_token: Some(refresh_token),
        authenticated_at: session.as_ref().map(|session| session.authenticated_at),
        acr: session.as_ref().map(|session| session.acr.as_str()),
        amr: session.as_ref().map(|session| session.amr.as_str()),
        // The ID token of a refresh has none (OpenID Connect Core §12.2).
        nonce: None,
    };
    tokens::answer(app, granted).await
}

/// Before the token is rotated: a request that is refused costs nobody their token.
async fn check_resource(request: &Request<'_>, digest: &TokenDigest) -> Result<(), OAuthError> {
    let Some(asked) = request.params.get("resource") else {
        return Ok(());
    };
    let (app, client) = (request.app, request.client);
    resource::read(app, Some(asked))?;
    match app.registry.find_grant_of_token(digest).await? {
        Some(grant) if grant.client_id == client.id => {
            resource::check_within(app, grant.resource.as_deref(), Some(asked))
        }
        // What is wrong with the token comes first, and its audit event with it.
        _ => Ok(()),
    }
}

fn read_scopes(asked: Option<&str>) -> Result<Option<OAuthScopes>, OAuthError> {
    let Some(asked) = asked else { return Ok(None) };
    let scopes = OAuthScopes::parse(asked).filter(|scopes| !scopes.as_slice().is_empty());
    let bad = || OAuthError::new("invalid_scope", "scope has a bad character");
    scopes.map(Some).ok_or_else(bad)
}

/// The sign-in that the grant came from. A later one in the same session is another sign-in:
/// `auth_time` has to be that of the first (OpenID Connect Core §12.2).
async fn sign_in_of(app: &App, grant: &Grant) -> Result<Option<Arc<Session>>, OAuthError> {
    let Some(id) = &grant.session_id else {
        return Ok(None);
    };
    match app.registry.find_session_by_id(id).await {
        Ok(session) => Ok(Some(session).filter(|one| one.authenticated_at <= grant.created_at)),
        Err(RegistryError::People(PeopleError::SessionNotFound)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn refused(refusal: GrantRefusal) -> OAuthError {
    let text = match refusal {
        GrantRefusal::Scope => "more than was granted",
        _ => "the refresh token is not good any more: sign in again",
    };
    OAuthError::new(refusal.oauth_error(), text)
}
