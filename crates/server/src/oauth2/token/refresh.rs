//! `grant_type=refresh_token` (RFC 6749 §6, RFC 9700 §4.14.2).

use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::{GrantRefusal, OAuthScopes, PeopleError, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::RegistryError;
use keywright_registry::people::{Grant, GrantSignIn, RefreshOutcome, RefreshRequest};

use super::Request;
use crate::oauth2::access_token::new_jti;
use crate::oauth2::resource;
use crate::oauth2::tokens::{self, Granted};
use crate::oauth2::unusual;
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
            // FAPI 2.0 Security Profile §5.3.2.1: no rotation. The token is worth nothing without the
            // client's key, and a rotation whose answer is lost costs an honest client its access.
            rotate: !request.client.settings.fapi,
            network: request.peer.network(),
        })
        .await?;
    if let RefreshOutcome::Rotated { grant, .. } | RefreshOutcome::Kept { grant, .. } = &outcome {
        unusual::look(app, grant, request.peer).await;
    }
    let (grant, scopes, refresh_token) = match outcome {
        RefreshOutcome::Rotated { grant, scopes } => (grant, scopes, Some(successor)),
        RefreshOutcome::Kept { grant, scopes } => (grant, scopes, None),
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
            (grant, scopes, Some(first))
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
    let sign_in = sign_in_of(app, &grant).await?;
    let granted = Granted {
        client: request.client,
        user_id: &grant.user_id,
        grant_id: Some(&grant.id),
        session_id: grant.session_id.as_deref(),
        scopes: &scopes,
        resource: grant.resource.as_deref(),
        jkt: request.jkt.as_deref(),
        access_jti: new_jti(),
        // None where the one that came stays good (RFC 6749 §6).
        refresh_token,
        authenticated_at: sign_in.as_ref().map(|one| one.authenticated_at),
        acr: sign_in.as_ref().map(|one| one.acr.as_str()),
        amr: sign_in.as_ref().map(|one| one.amr.as_str()),
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
/// `auth_time` has to be that of the first (OpenID Connect Core §12.2). Grants of older versions do not
/// know theirs: it is their session's, if nobody signed in in it since.
pub(crate) async fn sign_in_of(
    app: &App,
    grant: &Grant,
) -> Result<Option<GrantSignIn>, OAuthError> {
    if let Some(sign_in) = &grant.sign_in {
        return Ok(Some(sign_in.clone()));
    }
    let Some(id) = &grant.session_id else {
        return Ok(None);
    };
    match app.registry.find_session_by_id(id).await {
        Ok(session) => Ok(Some(session)
            .filter(|one| one.authenticated_at <= grant.created_at)
            .map(|one| GrantSignIn {
                authenticated_at: one.authenticated_at,
                acr: one.acr.clone(),
                amr: one.amr.clone(),
            })),
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
