//! Revocation (RFC 7009): a client gives a token back. A refresh token takes its whole grant with it,
//! and the access tokens end at once (S31, AC-095).

#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use keywright_domain::audit::Actor;
use keywright_domain::people::{Client, TokenDigest};

use super::{access_token, client_auth, cors};
use crate::http::params::FormParams;
use crate::http::{Params, Peer};
use crate::problem::OAuthError;
use crate::server::App;
use crate::sessions;

/// An access token counts as good this much longer than it says (clocks).
const LEEWAY_MS: i64 = 60_000;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new().route("/oauth2/revoke", post(revoke).options(cors::preflight))
}

async fn revoke(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    let mut response = answer(&app, &peer, &headers, &params)
        .await
        .map_or_else(IntoResponse::into_response, |()| {
            StatusCode::OK.into_response()
        });
    cors::allow_client(&app, &headers, params.get("client_id"), &mut response).await;
    response
}

async fn answer(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    params: &Params,
) -> Result<(), OAuthError> {
    // S29: who asks comes first.
    let client = client_auth::authenticate(app, headers, params, peer).await?;
    let actor = Actor::person(&client.id).at(peer.address);
    let token = params.require("token")?;
    // `token_type_hint` tells where to look first; what a token is can be seen without (S32).
    if token.contains('.') {
        return revoke_access_token(app, &actor, &client, token).await;
    }
    let Some(token) = params.secret("token") else {
        return Ok(());
    };
    let digest = TokenDigest::of(&token);
    // Unknown, or another client's: nothing happens and nothing is told (S30).
    app.registry
        .revoke_refresh_token(&actor, &digest, &client.id)
        .await?;
    caught_up(app).await
}

async fn revoke_access_token(
    app: &App,
    actor: &Actor,
    client: &Client,
    token: &str,
) -> Result<(), OAuthError> {
    let claims = match access_token::inspect(app, token).await {
        Ok(Ok(claims)) => claims,
        Ok(Err("wrong_token_use")) => {
            let text = "tokens of this type cannot be revoked";
            return Err(OAuthError::new("unsupported_token_type", text));
        }
        // Not ours, over, or revoked before.
        Ok(Err(_)) => return Ok(()),
        Err(problem) => return Err(unavailable(&problem)),
    };
    if claims.client_id != client.id {
        return Ok(());
    }
    let until = claims.exp.saturating_mul(1000).saturating_add(LEEWAY_MS);
    app.registry
        .deny_access_token(actor, &claims.jti, until)
        .await?;
    caught_up(app).await
}

async fn caught_up(app: &App) -> Result<(), OAuthError> {
    sessions::catch_up(app)
        .await
        .map_err(|problem| unavailable(&problem))
}

/// A problem of ours at an OAuth endpoint.
pub(crate) fn unavailable(problem: &crate::problem::Problem) -> OAuthError {
    let mut error = OAuthError::new("temporarily_unavailable", problem.detail.clone());
    error.status = problem.status;
    error
}
