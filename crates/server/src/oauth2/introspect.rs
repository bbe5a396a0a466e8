//! Introspection (RFC 7662): whether a token is good now, for who may know. A client may ask about its
//! own tokens; a resource server that has the scope [`RIGHT`] about every access token. All others
//! hear `{"active":false}`, as for a token that does not exist (S34, S36).

#[cfg(test)]
pub(crate) mod tests;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use keywright_domain::people::{Client, ClientType, PeopleError, TokenDigest};
use keywright_registry::RegistryError;
use serde_json::{Map, Value};

use super::revoke::unavailable;
use super::{access_token, client_auth};
use crate::http::params::FormParams;
use crate::http::{Params, Peer};
use crate::problem::OAuthError;
use crate::server::App;

/// Scope of clients that are resource servers.
pub(crate) const RIGHT: &str = "tokens:introspect";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new().route("/oauth2/introspect", post(introspect))
}

async fn introspect(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    let body = match answer(&app, &peer, &headers, &params).await {
        Ok(Some(body)) => body,
        Ok(None) => Bytes::from_static(br#"{"active":false}"#),
        Err(error) => return error.into_response(),
    };
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
    ];
    (headers, body).into_response()
}

async fn answer(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Option<Bytes>, OAuthError> {
    let client = client_auth::authenticate(app, headers, params, peer).await?;
    // S33, AC-096: a client's id alone proves nothing (S5).
    if client.settings.client_type != ClientType::Confidential {
        return Err(OAuthError::invalid_client(false));
    }
    let token = params.require("token")?;
    if token.contains('.') {
        return of_access_token(app, &client, token).await;
    }
    let found = of_refresh_token(app, &client, params).await?;
    Ok(found.map(active))
}

/// The answer about a token that is good now.
fn active(mut members: Map<String, Value>) -> Bytes {
    members.insert("active".into(), true.into());
    Value::Object(members).to_string().into()
}

async fn of_access_token(
    app: &App,
    client: &Client,
    token: &str,
) -> Result<Option<Bytes>, OAuthError> {
    let inspected = access_token::inspect(app, token).await;
    let Ok(claims) = inspected.map_err(|problem| unavailable(&problem))? else {
        return Ok(None);
    };
    let may_know = claims.client_id == client.id || client.settings.scopes.contains(RIGHT);
    // Clocks are of no interest here: we made it and we judge it.
    if !may_know || claims.exp <= app.now() / 1000 {
        return Ok(None);
    }
    // That whoever asks is enabled was just seen.
    let client_id = Some(claims.client_id.as_str()).filter(|id| *id != client.id);
    if !is_in_force(app, client_id, claims.user_id()).await? {
        return Ok(None);
    }
    if let Some(body) = claims.introspection.get() {
        return Ok(Some(body.clone()));
    }
    let kind = if claims.jkt().is_some() {
        "DPoP"
    } else {
        "Bearer"
    };
    let members = serde_json::to_value(&**claims).ok();
    let Some(Value::Object(mut members)) = members else {
        return Ok(None);
    };
    members.remove("gid");
    members.insert("token_type".into(), kind.into());
    // Nothing in it changes while the token is good.
    Ok(Some(
        claims.introspection.get_or_init(|| active(members)).clone(),
    ))
}

async fn of_refresh_token(
    app: &App,
    client: &Client,
    params: &Params,
) -> Result<Option<Map<String, Value>>, OAuthError> {
    let Some(token) = params.secret("token") else {
        return Ok(None);
    };
    let digest = TokenDigest::of(&token);
    let Some(grant) = app.registry.find_grant_of_live_token(&digest).await? else {
        return Ok(None);
    };
    // A refresh token is nobody's business but its client's.
    if grant.client_id != client.id || !is_in_force(app, None, Some(&grant.user_id)).await? {
        return Ok(None);
    }
    let mut members = Map::new();
    members.insert("iss".into(), app.settings.issuer.as_str().into());
    members.insert("sub".into(), grant.user_id.into());
    members.insert("client_id".into(), grant.client_id.into());
    members.insert("scope".into(), grant.scopes.to_string().into());
    members.insert("iat".into(), (grant.created_at / 1000).into());
    members.insert("exp".into(), (grant.expires_at / 1000).into());
    // No `cnf`: whoever may ask is confidential, and proves itself in another way (RFC 9449 §5).
    Ok(Some(members))
}

/// AC-093: what a disabled person or client holds is nothing any more.
async fn is_in_force(
    app: &App,
    client_id: Option<&str>,
    user_id: Option<&str>,
) -> Result<bool, OAuthError> {
    if let Some(client_id) = client_id {
        match app.registry.find_client(client_id).await {
            Ok(client) if client.disabled_at.is_none() => {}
            Ok(_) | Err(RegistryError::People(PeopleError::ClientNotFound)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    let Some(user_id) = user_id else {
        return Ok(true);
    };
    match app.registry.find_user(user_id).await {
        Ok(user) => Ok(user.disabled_at.is_none()),
        Err(RegistryError::People(PeopleError::UserNotFound)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
