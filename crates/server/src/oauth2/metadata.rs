//! What this server says of itself (RFC 8414, OpenID Connect Discovery §3), and its public keys. Only
//! what works is listed (AC-066).

#[cfg(test)]
mod tests;

use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::authorization_request::acr::LEVELS;
use super::authorization_request::{Prompt, RESPONSE_MODES};
use super::token::GRANT_TYPES;
use super::user_claims;
use crate::problem::Problem;
use crate::server::App;
use crate::signing::Alg;

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// Scopes with a meaning of ours. Others are what clients are registered for.
const SCOPES: [&str; 5] = ["openid", "profile", "email", "offline_access", "account"];
/// Algorithms of what clients sign: assertions and DPoP proofs. Asymmetric ones only.
const CLIENT_ALGS: [&str; 4] = ["ES256", "EdDSA", "PS256", "RS256"];
const CLIENT_AUTH: [&str; 3] = [
    "client_secret_basic",
    "client_secret_post",
    "private_key_jwt",
];

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(OPENID, get(metadata))
        .route("/oauth2/jwks.json", get(jwks))
        .route("/oauth2/jwks/{kid}", get(jwk))
}

/// At the root of the host: the issuer's path comes after the well-known one (RFC 8414 §3.1).
pub(crate) fn root_routes(base_path: &str) -> Router<App> {
    let router = Router::new().route(&format!("{OAUTH}{base_path}"), get(metadata));
    if base_path.is_empty() {
        return router;
    }
    // The form that RFC 8414 §5 allows for OpenID Connect as well.
    router.route(&format!("{OPENID}{base_path}"), get(metadata))
}

async fn metadata(State(app): State<App>) -> Response {
    let headers = [
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=300"),
        ),
        open_to_all(),
    ];
    (headers, Json(document(&app))).into_response()
}

fn document(app: &App) -> Value {
    let url = |path: &str| app.settings.url(path);
    let signing = Alg::ALL.map(Alg::as_str);
    let mut token_auth = CLIENT_AUTH.to_vec();
    token_auth.push("none");
    let mut claims = vec![
        "sub",
        "iss",
        "aud",
        "exp",
        "iat",
        "auth_time",
        "nonce",
        "acr",
        "amr",
        "sid",
        "at_hash",
    ];
    claims.extend(user_claims::names());
    let mut document = json!({
        "issuer": app.settings.issuer.as_str(),
        "authorization_endpoint": url("/oauth2/authorize"),
        "token_endpoint": url("/oauth2/token"),
        "userinfo_endpoint": url("/oauth2/userinfo"),
        "jwks_uri": url("/oauth2/jwks.json"),
        "introspection_endpoint": url("/oauth2/introspect"),
        "revocation_endpoint": url("/oauth2/revoke"),
        "device_authorization_endpoint": url("/oauth2/device_authorization"),
        "pushed_authorization_request_endpoint": url("/oauth2/par"),
        "registration_endpoint": url("/oauth2/register"),
        "end_session_endpoint": url("/oauth2/end_session"),
        "response_types_supported": ["code"],
        "response_modes_supported": RESPONSE_MODES,
        "grant_types_supported": GRANT_TYPES,
        "subject_types_supported": ["public"],
        "scopes_supported": SCOPES,
        "claims_supported": claims,
        "claim_types_supported": ["normal"],
        "claims_parameter_supported": true,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "require_pushed_authorization_requests": false,
        "prompt_values_supported": Prompt::VALUES,
        "acr_values_supported": LEVELS,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "id_token_signing_alg_values_supported": signing,
        "token_endpoint_auth_methods_supported": token_auth,
        "token_endpoint_auth_signing_alg_values_supported": CLIENT_ALGS,
        "introspection_endpoint_auth_methods_supported": CLIENT_AUTH,
        "introspection_endpoint_auth_signing_alg_values_supported": CLIENT_ALGS,
        "revocation_endpoint_auth_methods_supported": token_auth,
        "revocation_endpoint_auth_signing_alg_values_supported": CLIENT_ALGS,
        "dpop_signing_alg_values_supported": CLIENT_ALGS,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
    });
    if !app.settings.resources.is_empty() {
        document["protected_resources"] = app.settings.resources.clone().into();
    }
    document
}

async fn jwks(State(app): State<App>) -> Response {
    let keys = app.keys.current();
    (
        key_headers("application/jwk-set+json"),
        keys.jwks().to_owned(),
    )
        .into_response()
}

/// One public key, for who met a token with its `kid`.
async fn jwk(State(app): State<App>, Path(kid): Path<String>) -> Result<Response, Problem> {
    let keys: Value = serde_json::from_str(app.keys.current().jwks()).unwrap_or_default();
    let mut keys = keys["keys"].as_array().into_iter().flatten();
    let key = keys
        .find(|key| key["kid"] == kid)
        .ok_or_else(|| Problem::not_found("unknown_key", "no key of ours has this id now"))?;
    Ok((key_headers("application/jwk+json"), key.to_string()).into_response())
}

fn key_headers(kind: &'static str) -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=300"),
        ),
        open_to_all(),
    ]
}

/// Public for programs in browsers too.
fn open_to_all() -> (HeaderName, HeaderValue) {
    let any = HeaderValue::from_static("*");
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, any)
}
