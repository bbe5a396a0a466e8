//! `grant_type=client_credentials` (RFC 6749 §4.4): a client's own token, for confidential clients
//! only, with a subject that no person has (S25).

use axum::response::Response;
use keywright_domain::people::{Client, ClientType, OAuthScopes};

use super::Request;
use crate::oauth2::access_token::new_jti;
use crate::oauth2::{resource, tokens};
use crate::problem::OAuthError;

/// Scopes that are about a person.
const OF_PEOPLE: [&str; 5] = ["openid", "profile", "email", "offline_access", "account"];

pub(super) async fn grant(request: Request<'_>) -> Result<Response, OAuthError> {
    let (app, client) = (request.app, request.client);
    if client.settings.client_type != ClientType::Confidential {
        let text = "this is for clients that can keep a secret";
        return Err(OAuthError::new("unauthorized_client", text));
    }
    let scopes = read_scopes(client, request.params.get("scope"))?;
    let resource = resource::read(app, request.params.get("resource"))?;
    let jti = new_jti();
    app.registry
        .record_client_token(&client.id, &jti, &scopes)
        .await?;
    tokens::answer_client(
        app,
        client,
        &scopes,
        resource.as_deref(),
        request.jkt.as_deref(),
        jti,
    )
}

fn read_scopes(client: &Client, asked: Option<&str>) -> Result<OAuthScopes, OAuthError> {
    let registered = &client.settings.scopes;
    let own: Vec<_> = registered
        .as_slice()
        .iter()
        .filter(|scope| !OF_PEOPLE.contains(&scope.as_str()))
        .cloned()
        .collect();
    let own = OAuthScopes::parse(&own.join(" ")).unwrap_or_default();
    let Some(asked) = asked else { return Ok(own) };
    let bad = |text: &str| OAuthError::new("invalid_scope", text);
    let scopes = OAuthScopes::parse(asked).ok_or_else(|| bad("scope has a bad character"))?;
    if !own.contains_all(&scopes) {
        return Err(bad("a client's own token has none of these scopes"));
    }
    Ok(scopes)
}
