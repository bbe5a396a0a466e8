//! Pushed authorization requests (RFC 9126): `POST /oauth2/par`. Checked now as the authorization
//! endpoint would, kept for a short time, used once by their client.

#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use keywright_domain::SecretText;
use keywright_domain::people::TokenDigest;
use keywright_domain::pkce::random_token;
use serde_json::json;

use super::authorize::PUSHED;
use super::{authorization_request, client_auth, dpop};
use crate::http::params::FormParams;
use crate::http::{Params, Peer};
use crate::problem::OAuthError;
use crate::server::App;

/// How long one is good.
const LIFE_MS: i64 = 90_000;
const PATH: &str = "/oauth2/par";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new().route(PATH, post(push))
}

async fn push(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    answer(&app, &peer, &headers, &params)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn answer(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Response, OAuthError> {
    let client = client_auth::authenticate(app, headers, params, peer).await?;
    authorization_request::check_pushed(app, &client, params).await?;
    let mut parameters = authorization_request::encode(&client, params);
    // A proof here binds the code as `dpop_jkt` does (RFC 9449 §10.1).
    if let Some(proof) = dpop::read(app, headers, &Method::POST, PATH, None).await? {
        let used = &app.oauth2.extensions.pushed_proofs;
        proof.check_algorithm(&client)?;
        proof.use_up(app, used).await?;
        let jkt = proof.jkt;
        match params.get("dpop_jkt") {
            Some(asked) if asked != jkt => {
                let text = "dpop_jkt is not the key of the DPoP proof";
                return Err(OAuthError::new("invalid_dpop_proof", text));
            }
            Some(_) => {}
            None => {
                parameters.push_str("&dpop_jkt=");
                parameters.push_str(&jkt);
            }
        }
    }
    let uri = format!("{PUSHED}{}", random_token(&mut rand::rng()).expose());
    let digest = TokenDigest::of(&SecretText::new(uri.clone()));
    app.registry
        .push_request(&digest, &client.id, &parameters, LIFE_MS)
        .await?;
    let body = json!({ "request_uri": uri, "expires_in": LIFE_MS / 1000 });
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(body)).into_response())
}
