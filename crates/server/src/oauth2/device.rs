//! Device authorization (RFC 8628): the endpoint, the page, and the grant type.

mod page;
#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use keywright_domain::people::{Client, OAuthScopes, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::people::{DeviceOutcome, DevicePoll, NamedResource, NewDeviceRequest};
use serde_json::json;

use super::access_token::new_jti;
use super::authorization_request::without_offline;
use super::token::DEVICE;
use super::tokens::{self, Granted};
use super::{client_auth, resource};
use crate::http::params::FormParams;
use crate::http::{Params, Peer};
use crate::problem::OAuthError;
use crate::server::App;

/// How long a person has.
const LIFE_MS: i64 = 600_000;
/// How often a device may ask.
const INTERVAL_MS: i64 = 5_000;

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/oauth2/device_authorization", post(begin))
        .route("/device", get(page::show).post(page::decide))
        .route("/device/done", get(page::done))
}

async fn begin(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    FormParams(params): FormParams,
) -> Response {
    start(&app, &peer, &headers, &params)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn start(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Response, OAuthError> {
    let client = client_auth::authenticate(app, headers, params, peer).await?;
    if !client.may_use(DEVICE) {
        let text = "this client may not use device codes";
        return Err(OAuthError::new("unauthorized_client", text));
    }
    // Everybody can ask in a public client's name, and every answer is a row: so many, and no more.
    let begun = &app.oauth2.extensions.devices;
    begun.check(peer.address, &client.id, app.now())?;
    begun.count(peer.address, &client.id, app.now());
    let mut scopes = read_scopes(&client, params.get("scope"))?;
    if !client.may_use("refresh_token") {
        scopes = without_offline(&scopes);
    }
    let code = random_token(&mut rand::rng());
    let request = app
        .registry
        .start_device(&NewDeviceRequest {
            digest: TokenDigest::of(&code),
            client_id: client.id.clone(),
            scopes,
            resource: resource::read(app, params.get("resource"))?,
            user_agent: peer.user_agent.clone(),
            network: peer.network(),
            interval_ms: INTERVAL_MS,
            lifetime_ms: LIFE_MS,
        })
        .await?;
    let user_code = request.user_code.to_string();
    let address = app.settings.url("/device");
    let body = json!({
        "device_code": code.expose(),
        "verification_uri_complete": format!("{address}?user_code={user_code}"),
        "user_code": user_code,
        "verification_uri": address,
        "expires_in": LIFE_MS / 1000,
        "interval": INTERVAL_MS / 1000,
    });
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(body)).into_response())
}

fn read_scopes(client: &Client, asked: Option<&str>) -> Result<OAuthScopes, OAuthError> {
    let own = &client.settings.scopes;
    let Some(asked) = asked else {
        return Ok(own.clone());
    };
    OAuthScopes::parse(asked)
        .filter(|asked| own.contains_all(asked))
        .ok_or_else(|| OAuthError::new("invalid_scope", "this client may not ask for that scope"))
}

/// The device grant of the token endpoint (RFC 8628 §3.4).
///
/// # Errors
/// `authorization_pending`, `slow_down`, `access_denied`, `expired_token`, `invalid_grant`,
/// `invalid_target`.
pub(crate) async fn grant(
    app: &App,
    client: &Client,
    params: &Params,
    jkt: Option<String>,
    _peer: &Peer,
) -> Result<Response, OAuthError> {
    params.require("device_code")?;
    let code = params
        .secret("device_code")
        .ok_or_else(|| OAuthError::new("invalid_request", "device_code is missing"))?;
    let asked = params.get("resource");
    let resource = match (asked, resource::read(app, asked)?) {
        (None, _) => NamedResource::Unnamed,
        (Some(_), None) => NamedResource::Own,
        (Some(_), Some(name)) => NamedResource::Other(name),
    };
    let refresh_token = random_token(&mut rand::rng());
    let poll = DevicePoll {
        digest: TokenDigest::of(&code),
        client_id: client.id.clone(),
        resource,
        dpop_jkt: jkt.clone(),
        refresh_token: TokenDigest::of(&refresh_token),
        lives: app.settings.refresh,
    };
    let given = match app.registry.poll_device(&poll).await? {
        DeviceOutcome::Redeemed(given) => given,
        other => return Err(refusal(&other)),
    };
    let grant = &given.grant;
    // How the person who let it in had proven who they are.
    let sign_in = grant.sign_in.as_ref();
    let granted = Granted {
        client,
        user_id: &grant.user_id,
        grant_id: Some(&grant.id),
        // The device is in no session: it outlives the browser that let it in, and its tokens are not
        // denied with that session's.
        session_id: None,
        scopes: &grant.scopes,
        resource: grant.resource.as_deref(),
        jkt: jkt.as_deref(),
        access_jti: new_jti(),
        refresh_token: given.offline.then_some(refresh_token),
        authenticated_at: sign_in.map(|one| one.authenticated_at),
        acr: sign_in.map(|one| one.acr.as_str()),
        amr: sign_in.map(|one| one.amr.as_str()),
        nonce: None,
    };
    tokens::answer(app, granted).await
}

fn refusal(outcome: &DeviceOutcome) -> OAuthError {
    match outcome {
        DeviceOutcome::Pending => {
            OAuthError::new("authorization_pending", "nobody answered yet: ask again")
        }
        DeviceOutcome::SlowDown(interval_ms) => {
            let text = format!("ask every {} seconds from now on", interval_ms / 1000);
            OAuthError::new("slow_down", text)
        }
        DeviceOutcome::Denied => OAuthError::new("access_denied", "the person said no"),
        DeviceOutcome::Expired => {
            OAuthError::new("expired_token", "nobody answered in time: begin anew")
        }
        DeviceOutcome::OtherResource => {
            OAuthError::new("invalid_target", "this resource was not asked for")
        }
        DeviceOutcome::Refused(refusal) => {
            OAuthError::new(refusal.oauth_error(), "this device code is not good")
        }
        DeviceOutcome::Redeemed(_) => OAuthError::new("server_error", "it was redeemed"),
    }
}
