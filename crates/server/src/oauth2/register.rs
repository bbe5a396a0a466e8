//! Dynamic client registration (RFC 7591) behind an initial access token (`crate::clients::tokens`),
//! and its management (RFC 7592). What is registered here gets no scopes but those about who a person
//! is: everything else is an administrator's to give.

mod metadata;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::base62::random_id;
use keywright_domain::people::{Client, PeopleError, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::RegistryError;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

pub(crate) use self::metadata::public_keys;
use self::metadata::{Given, Metadata};
use crate::http::Peer;
use crate::problem::OAuthError;
use crate::server::App;
use crate::sessions;

const LARGEST: usize = 64 * 1024;
/// Before this text, an id is one that was registered here.
const ID: &str = "dyn-";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/oauth2/register", post(register))
        .route(
            "/oauth2/register/{id}",
            get(read).put(replace).delete(remove),
        )
}

/// The token of one client's registration. It follows from the client, so that it need not be kept.
fn management_token(app: &App, client: &Client) -> String {
    let parts: [&[u8]; 3] = [
        b"registration access token",
        client.id.as_bytes(),
        &client.created_at.to_be_bytes(),
    ];
    URL_SAFE_NO_PAD.encode(app.secrets.tag(&parts))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refused() -> OAuthError {
    let mut error = OAuthError::new("invalid_token", "this needs its registration token");
    error.status = StatusCode::UNAUTHORIZED;
    error.challenge = Some("Bearer error=\"invalid_token\"".to_owned());
    error
}

fn of_registry(error: RegistryError) -> OAuthError {
    match error {
        RegistryError::People(PeopleError::RegistrationTokenNotFound) => refused(),
        RegistryError::People(PeopleError::RedirectUri(why)) => {
            OAuthError::new("invalid_redirect_uri", why.to_string())
        }
        RegistryError::People(PeopleError::Client(why)) => {
            OAuthError::new("invalid_client_metadata", why)
        }
        RegistryError::People(PeopleError::Name) => {
            OAuthError::new("invalid_client_metadata", "client_name cannot be used")
        }
        RegistryError::Changed => {
            let text = "somebody else changed this client meanwhile: ask again";
            let mut error = OAuthError::new("temporarily_unavailable", text);
            error.status = StatusCode::CONFLICT;
            error
        }
        other => other.into(),
    }
}

async fn register(State(app): State<App>, peer: Peer, headers: HeaderMap, body: Bytes) -> Response {
    add(&app, &peer, &headers, &body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn add(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, OAuthError> {
    let registrations = &app.oauth2.extensions.registrations;
    registrations.check(peer.address, "register", app.now())?;
    registrations.count(peer.address, "register", app.now());
    let token = bearer(headers).ok_or_else(refused)?;
    let token = TokenDigest::of(&SecretText::new(token.to_owned()));
    // Before anything is said about what was sent.
    let open = app.registry.find_registration_token(&token).await;
    open.map_err(of_registry)?;
    let new = parse(body)?.to_client(&Given::default())?;
    let id = format!("{ID}{}", random_id(&mut rand::rng()));
    let secret = new
        .auth_method
        .needs_secret()
        .then(|| random_token(&mut rand::rng()));
    let digest = secret.as_ref().map(TokenDigest::of);
    let client = app
        .registry
        .register_client(peer.address, &token, (&id, &new), digest.as_ref())
        .await
        .map_err(of_registry)?;
    Ok(answer(app, StatusCode::CREATED, &client, secret.as_ref()))
}

/// A client that manages its own registration.
fn actor(client_id: &str, peer: &Peer) -> Actor {
    Actor::person(client_id).at(peer.address)
}

fn parse(body: &[u8]) -> Result<Metadata, OAuthError> {
    if body.len() > LARGEST {
        return Err(OAuthError::new("invalid_client_metadata", "too long"));
    }
    serde_json::from_slice(body)
        .map_err(|_| OAuthError::new("invalid_client_metadata", "this is no client metadata"))
}

/// The client of a management request. 401 for everything that is not right (RFC 7592 §2).
async fn managed(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    id: &str,
) -> Result<Arc<Client>, OAuthError> {
    let failures = &app.oauth2.extensions.registrations;
    failures.check(peer.address, id, app.now())?;
    let found = match app.registry.find_client(id).await {
        Ok(client) => Some(client),
        Err(RegistryError::People(PeopleError::ClientNotFound)) => None,
        Err(error) => return Err(error.into()),
    };
    let given = bearer(headers).unwrap_or("");
    let found = found.filter(|client| {
        let own = management_token(app, client);
        client.id.starts_with(ID)
            && client.disabled_at.is_none()
            && bool::from(own.as_bytes().ct_eq(given.as_bytes()))
    });
    found.ok_or_else(|| {
        failures.count(peer.address, id, app.now());
        refused()
    })
}

async fn read(
    State(app): State<App>,
    peer: Peer,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    match managed(&app, &peer, &headers, &id).await {
        Ok(client) => answer(&app, StatusCode::OK, &client, None),
        Err(error) => error.into_response(),
    }
}

async fn replace(
    State(app): State<App>,
    peer: Peer,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change(&app, &peer, &id, &headers, &body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// Replaces everything that is the client's to say (RFC 7592 §2.2).
async fn change(
    app: &App,
    peer: &Peer,
    id: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, OAuthError> {
    let client = managed(app, peer, headers, id).await?;
    let metadata = parse(body)?;
    if metadata.client_id.as_deref() != Some(id) {
        let text = "client_id is not this client's";
        return Err(OAuthError::new("invalid_client_metadata", text));
    }
    if let Some(given) = &metadata.client_secret {
        let given = TokenDigest::of(&SecretText::new(given.clone()));
        let secrets = app.registry.list_client_secrets(id).await?;
        if !secrets.iter().any(|secret| secret.digest == given) {
            let text = "client_secret is not this client's, and is ours to choose";
            return Err(OAuthError::new("invalid_client_metadata", text));
        }
    }
    let new = metadata.change(&client)?;
    // Written with the change: a client that needs a secret is never without.
    let secret = random_token(&mut rand::rng());
    let digest = TokenDigest::of(&secret);
    let changed = app
        .registry
        .change_client_with(&actor(id, peer), id, &new, Some(&client), Some(&digest))
        .await
        .map_err(of_registry)?;
    let secret = Some(&secret).filter(|_| changed.took_secret);
    Ok(answer(app, StatusCode::OK, &changed.client, secret))
}

async fn remove(
    State(app): State<App>,
    peer: Peer,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    end(&app, &peer, &id, &headers)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// The client is disabled for good, and its tokens end (RFC 7592 §2.3).
async fn end(
    app: &App,
    peer: &Peer,
    id: &str,
    headers: &HeaderMap,
) -> Result<Response, OAuthError> {
    managed(app, peer, headers, id).await?;
    app.registry.disable_client(&actor(id, peer), id).await?;
    sessions::catch_up(app)
        .await
        .map_err(|problem| super::revoke::unavailable(&problem))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// RFC 7591 §3.2.1. A secret is there only where it was made just now: we keep its digest.
fn answer(app: &App, status: StatusCode, client: &Client, secret: Option<&SecretText>) -> Response {
    let mut body = metadata::of(client);
    let address = app.settings.url(&format!("/oauth2/register/{}", client.id));
    let mut put = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    put("client_id", client.id.clone().into());
    put("client_id_issued_at", (client.created_at / 1000).into());
    put("registration_client_uri", address.into());
    put(
        "registration_access_token",
        management_token(app, client).into(),
    );
    if let Some(secret) = secret {
        put("client_secret", secret.expose().into());
    }
    if client.settings.auth_method.needs_secret() {
        put("client_secret_expires_at", json!(0));
    }
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, Json(Value::Object(body))).into_response()
}
