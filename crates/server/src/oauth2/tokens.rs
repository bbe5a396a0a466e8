//! What the token endpoint answers (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3): one function for
//! every grant type.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::SecretText;
use keywright_domain::people::{Client, OAuthScopes, RoleName};
use serde::Serialize;

use super::access_token::{self, AccessClaims, NewAccessToken};
use super::id_token::{self, NewIdToken};
use crate::problem::OAuthError;
use crate::server::App;
use crate::signing::Alg;

/// What a grant came to, for the answer.
#[derive(Debug)]
pub(crate) struct Granted<'a> {
    /// Who gets the tokens.
    pub(crate) client: &'a Client,
    /// The person.
    pub(crate) user_id: &'a str,
    /// The grant.
    pub(crate) grant_id: Option<&'a str>,
    /// The session it was given in.
    pub(crate) session_id: Option<&'a str>,
    /// What the access token allows.
    pub(crate) scopes: &'a OAuthScopes,
    /// For which resource; none for our own API.
    pub(crate) resource: Option<&'a str>,
    /// Thumbprint of the key that it is bound to.
    pub(crate) jkt: Option<&'a str>,
    /// `jti` of the access token.
    pub(crate) access_jti: String,
    /// The refresh token, where there is one.
    pub(crate) refresh_token: Option<SecretText>,
    /// When the person proved who they are, Unix ms.
    pub(crate) authenticated_at: Option<i64>,
    /// At which level.
    pub(crate) acr: Option<&'a str>,
    /// In which ways, separated by spaces.
    pub(crate) amr: Option<&'a str>,
    /// To be echoed in the ID token.
    pub(crate) nonce: Option<&'a str>,
}

#[derive(Serialize)]
struct Body<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: i64,
    /// Always, so that nobody has to guess what was left out (S20).
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

/// The answer of the token endpoint.
///
/// # Errors
/// [`OAuthError`].
pub(crate) async fn answer(app: &App, granted: Granted<'_>) -> Result<Response, OAuthError> {
    let alg = alg_of(granted.client)?;
    let user = app.registry.find_user(granted.user_id).await?;
    if user.disabled_at.is_some() {
        let text = "this account is disabled";
        return Err(OAuthError::new("invalid_grant", text));
    }
    let roles: Vec<String> = user.roles.iter().map(RoleName::to_string).collect();
    let new = NewAccessToken {
        subject: user.id.clone(),
        resource: granted.resource,
        client_id: &granted.client.id,
        scopes: granted.scopes,
        jti: granted.access_jti,
        sid: granted.session_id.map(str::to_owned),
        gid: granted.grant_id.map(str::to_owned),
        auth_time_ms: granted.authenticated_at,
        acr: granted.acr.map(str::to_owned),
        amr: granted.amr.map(str::to_owned),
        roles,
        jkt: granted.jkt.map(str::to_owned),
        alg,
    };
    let (access_token, expires_in) = access_token::issue(app, new)?;
    let id_token = if granted.scopes.contains("openid") {
        let new = NewIdToken {
            client: granted.client,
            user: &user,
            scopes: granted.scopes,
            nonce: granted.nonce,
            authenticated_at: granted.authenticated_at,
            acr: granted.acr,
            amr: granted.amr,
            session_id: granted.session_id,
            access_token: &access_token,
        };
        Some(id_token::issue(app, alg, new)?)
    } else {
        None
    };
    Ok(respond(&Body {
        access_token: &access_token,
        token_type: token_type(granted.jkt),
        expires_in,
        scope: granted.scopes.to_string(),
        refresh_token: granted.refresh_token.as_ref().map(SecretText::expose),
        id_token,
    }))
}

/// The answer for a client's own token: no person, no refresh token, no ID token.
///
/// # Errors
/// [`OAuthError`].
pub(crate) fn answer_client(
    app: &App,
    client: &Client,
    scopes: &OAuthScopes,
    resource: Option<&str>,
    jkt: Option<&str>,
    jti: String,
) -> Result<Response, OAuthError> {
    let new = NewAccessToken {
        subject: AccessClaims::client_subject(&client.id),
        resource,
        client_id: &client.id,
        scopes,
        jti,
        sid: None,
        // Ended with the others of the client, as those of a grant are with it.
        gid: Some(client.own_tokens()),
        auth_time_ms: None,
        acr: None,
        amr: None,
        roles: Vec::new(),
        jkt: jkt.map(str::to_owned),
        alg: alg_of(client)?,
    };
    let (access_token, expires_in) = access_token::issue(app, new)?;
    Ok(respond(&Body {
        access_token: &access_token,
        token_type: token_type(jkt),
        expires_in,
        scope: scopes.to_string(),
        refresh_token: None,
        id_token: None,
    }))
}

/// The algorithm that a client registered. One that we have no key for is never replaced by another.
fn alg_of(client: &Client) -> Result<Alg, OAuthError> {
    Alg::parse(&client.settings.signing_alg).ok_or_else(|| {
        let alg = &client.settings.signing_alg;
        tracing::error!(client = client.id, %alg, "a client wants an algorithm that nothing signs with");
        let text = format!("there is no key for {alg}: register RS256, ES256 or EdDSA");
        OAuthError::new("server_error", text)
    })
}

fn token_type(jkt: Option<&str>) -> &'static str {
    if jkt.is_some() { "DPoP" } else { "Bearer" }
}

fn respond(body: &Body<'_>) -> Response {
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
