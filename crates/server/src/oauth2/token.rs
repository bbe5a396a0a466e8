//! The token endpoint (RFC 6749 §3.2): `POST /oauth2/token`. Who asks is settled here, what they get
//! in one file a grant type.

mod client_credentials;
mod code;
pub(crate) mod refresh;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use keywright_domain::people::Client;

use super::{client_auth, cors, device, dpop};
use crate::http::params::FormParams;
use crate::http::{Params, Peer};
use crate::problem::OAuthError;
use crate::server::App;

/// RFC 8628 §3.4.
pub(crate) const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Grant types of this endpoint. There is no implicit and no password grant (S16).
pub(crate) const GRANT_TYPES: [&str; 4] = [
    "authorization_code",
    "refresh_token",
    "client_credentials",
    DEVICE,
];

/// Below the base path.
pub(crate) fn routes(short_aliases: bool) -> Router<App> {
    let endpoint = || post(token).options(cors::preflight);
    let mut router = Router::new().route("/oauth2/token", endpoint());
    if short_aliases {
        router = router.route("/token", endpoint());
    }
    router
}

/// A token request of a client that has proven itself.
struct Request<'a> {
    app: &'a App,
    client: &'a Client,
    params: &'a Params,
    /// Thumbprint of the DPoP proof's key.
    jkt: Option<String>,
    peer: &'a Peer,
}

async fn token(
    State(app): State<App>,
    OriginalUri(uri): OriginalUri,
    peer: Peer,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    let base = app.settings.base_path.as_str();
    let path = uri.path().strip_prefix(base).unwrap_or(uri.path());
    let mut response = answer(&app, path, &peer, &headers, &params)
        .await
        .unwrap_or_else(IntoResponse::into_response);
    cors::allow_client(&app, &headers, params.get("client_id"), &mut response).await;
    response
}

async fn answer(
    app: &App,
    path: &str,
    peer: &Peer,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Response, OAuthError> {
    let grant_type = params.require("grant_type")?;
    let client = client_auth::authenticate(app, headers, params, peer).await?;
    let Some(grant_type) = GRANT_TYPES.into_iter().find(|own| *own == grant_type) else {
        let text = "this grant type is not known here";
        return Err(OAuthError::new("unsupported_grant_type", text));
    };
    if !client.may_use(grant_type) {
        let text = "this client may not use this grant type";
        return Err(OAuthError::new("unauthorized_client", text));
    }
    let used = &app.oauth2.extensions.proofs;
    let proof = dpop::read(app, headers, &Method::POST, path, None).await?;
    if let Some(proof) = &proof {
        proof.check_unused(app, used)?;
        proof.check_algorithm(&client)?;
    }
    if proof.is_none() && (client.settings.require_dpop || client.settings.fapi) {
        let text = "tokens of this client are bound to a key: send a DPoP proof";
        return Err(OAuthError::new("invalid_dpop_proof", text));
    }
    let request = Request {
        app,
        client: &client,
        params,
        jkt: proof.as_ref().map(|proof| proof.jkt.clone()),
        peer,
    };
    let answer = match grant_type {
        "authorization_code" => code::grant(request).await,
        "refresh_token" => refresh::grant(request).await,
        "client_credentials" => client_credentials::grant(request).await,
        _ => device::grant(app, &client, params, request.jkt, peer).await,
    }?;
    // Only now: anybody can make proofs, and what they come with is good. Of two with the same proof
    // one is answered.
    if let Some(proof) = &proof {
        proof.use_up(app, used).await?;
    }
    if answer.status().is_success() {
        app.operations.metrics.count_tokens(grant_type);
    }
    Ok(answer)
}
