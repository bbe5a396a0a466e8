//! UserInfo (OpenID Connect Core §5.3): what the access token's scopes tell of its person.

#[cfg(test)]
mod tests;

use axum::extract::{FromRequest as _, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use keywright_domain::people::{OAuthScopes, PeopleError};
use keywright_registry::RegistryError;
use serde_json::{Map, Value};

use super::access_token::{self, AccessClaims};
use super::{cors, user_claims};
use crate::http::params::FormParams;
use crate::problem::Problem;
use crate::server::App;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new().route(
        "/oauth2/userinfo",
        get(userinfo).post(userinfo).options(cors::preflight),
    )
}

async fn userinfo(State(app): State<App>, request: Request) -> Response {
    let mut response = told(&app, request).await;
    // Why nothing is told is no secret, and a program in a browser has to read it to get a new token.
    if !response.status().is_success() {
        cors::allow_everybody(&mut response);
    }
    response
}

async fn told(app: &App, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::POST {
        let request = Request::from_parts(parts.clone(), body);
        let token = match read_body(app, request).await {
            Ok(token) => token,
            Err(response) => return response,
        };
        if let Some(token) = token {
            if parts.headers.contains_key(header::AUTHORIZATION) {
                return several().into_response();
            }
            let Ok(mut value) = HeaderValue::try_from(format!("Bearer {token}")) else {
                return missing().into_response();
            };
            value.set_sensitive(true);
            parts.headers.insert(header::AUTHORIZATION, value);
        }
    }
    let mut client_id = None;
    let mut response = match answer(app, &parts, &mut client_id).await {
        Ok(claims) => Json(claims).into_response(),
        Err(problem) => problem.into_response(),
    };
    cors::allow_client(app, &parts.headers, client_id.as_deref(), &mut response).await;
    response
}

/// The token in a form (RFC 6750 §2.2). Other bodies are not read.
async fn read_body(app: &App, request: Request) -> Result<Option<String>, Response> {
    let form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| {
            value
                .as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        });
    if !form {
        return Ok(None);
    }
    let FormParams(params) = FormParams::from_request(request, app).await?;
    Ok(params.get("access_token").map(str::to_owned))
}

async fn answer(
    app: &App,
    parts: &Parts,
    client_id: &mut Option<String>,
) -> Result<Map<String, Value>, Problem> {
    if !parts.headers.contains_key(header::AUTHORIZATION) {
        // S27: a token in the address counts for nothing.
        return Err(missing());
    }
    let claims = access_token::authenticate(app, parts).await?;
    *client_id = Some(claims.client_id.clone());
    let scopes = scopes_of(&claims)?;
    let gone = || Problem::invalid_token("token_revoked", "this token's person is not there");
    let id = claims.user_id().ok_or_else(gone)?;
    let user = match app.registry.find_user(id).await {
        Ok(user) if user.disabled_at.is_none() => user,
        Ok(_) | Err(RegistryError::People(PeopleError::UserNotFound)) => return Err(gone()),
        Err(error) => return Err(error.into()),
    };
    let mut body = user_claims::of(&user, &scopes);
    body.insert("sub".into(), user.id.as_str().into());
    Ok(body)
}

fn scopes_of(claims: &AccessClaims) -> Result<OAuthScopes, Problem> {
    OAuthScopes::parse(&claims.scope)
        .filter(|scopes| scopes.contains("openid"))
        .ok_or_else(|| Problem::insufficient_scope("openid"))
}

fn missing() -> Problem {
    Problem::unauthorized(
        "credentials_missing",
        "send an access token in the Authorization header",
    )
    .with_challenge("Bearer".to_owned())
}

/// RFC 6750 §2: one method a request.
fn several() -> Problem {
    let text = "an access token came in the header and in the body: send one";
    Problem::bad_request("ambiguous_credentials", text)
        .with("error", "invalid_request")
        .with_challenge("Bearer error=\"invalid_request\"".to_owned())
}
