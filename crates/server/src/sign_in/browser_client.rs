//! `POST /auth/login` and `POST /auth/refresh`: tokens for pages that sign people in themselves, as the
//! public client `keywright-browser` (S3-08, S3-14). The refresh token lives in a cookie that scripts
//! cannot read and that goes to `/auth/refresh` only. The session of such a sign-in has no cookie that
//! signs in by itself: it is there to be seen and ended, and lasts as long as the refresh tokens.
//!
//! Neither takes a CSRF token: the cookie is strict, another origin is refused by what browsers say of
//! it, and the answer can be read by nobody but the page that asked.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{
    Client, EndReason, GrantRefusal, PeopleError, SessionLives, TokenDigest,
};
use keywright_domain::pkce::random_token;
use keywright_registry::RegistryError;
use keywright_registry::people::{
    Grant, NewGrant, NewSession, NewSignIn, RefreshOutcome, RefreshRequest,
};
use serde::Deserialize;

use super::password::{self, Attempt, REFUSED};
use super::{own_page, second_factor};
use crate::browser_device;
use crate::browser_session::{ACR_ONE, ACR_TWO};
use crate::http::cookies::{self, Name};
use crate::http::{Cookies, Peer, csrf};
use crate::oauth2::access_token;
use crate::oauth2::token::refresh::sign_in_of;
use crate::oauth2::tokens::{self, Granted};
use crate::oauth2::unusual;
use crate::problem::{OAuthError, Problem, store_unavailable};
use crate::server::App;
use crate::sessions;
use crate::set_up::BROWSER_CLIENT;

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/auth/login", post(login))
        .route("/auth/refresh", post(refresh))
}

/// Who signs in.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// E-mail address.
    email: String,
    /// Password.
    password: String,
    /// One-time or recovery code, where the person has them.
    code: Option<String>,
}

/// What a browser client gets; the refresh token comes as a cookie.
#[derive(utoipa::ToSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: the token endpoint's code writes the answer"
)]
pub(crate) struct BrowserTokens {
    /// A JWT (RFC 9068).
    access_token: String,
    /// `Bearer`.
    token_type: String,
    /// Seconds.
    expires_in: i64,
    /// What it allows.
    scope: String,
}

/// Signs a person in and gives a browser client its tokens.
#[utoipa::path(
    post, path = "/auth/login", tag = "sign-in", security(()), request_body = Login,
    responses(
        (status = 200, description = "Tokens; the refresh token is a cookie", body = BrowserTokens),
        (status = 401, description = "`credentials_invalid`, `second_factor_required`, `code_invalid`"),
        (status = 403, description = "`origin_rejected`"),
        (status = 429, description = "`rate_limited`"),
    )
)]
pub(crate) async fn login(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    body: Result<Json<Login>, JsonRejection>,
) -> Result<Response, Problem> {
    csrf::check_origin(&app.settings, &headers)?;
    let Json(login) = body.map_err(|rejection| {
        let detail = "send {\"email\", \"password\"} as application/json";
        Problem::new(rejection.status(), "body_invalid", detail)
    })?;
    let password = SecretText::new(login.password);
    let attempt = password::check(&app, &peer, &login.email, &password).await?;
    let Attempt::Proven(proven) = attempt else {
        return Err(Problem::unauthorized("credentials_invalid", REFUSED));
    };
    let (user_id, identifier) = (proven.user_id, proven.identifier);
    let (mut acr, mut amr) = (ACR_ONE, "pwd");
    if proven.needs_code {
        let Some(code) = login.code.filter(|code| !code.is_empty()) else {
            let detail = "this person has a second factor: send its code too";
            return Err(Problem::unauthorized("second_factor_required", detail));
        };
        if !second_factor::accept(&app, &user_id, &code).await? {
            let whose = Some(user_id);
            password::record_failure(&app, &peer, whose, &identifier, "code", "code_invalid")
                .await?;
            let detail = "the code is not right, or was used before";
            return Err(Problem::unauthorized("code_invalid", detail));
        }
        (acr, amr) = (ACR_TWO, "pwd otp mfa");
    }
    let device = browser_device::of(&app, &cookies);
    let client = client(&app).await?;
    // Its cookies are replaced: nobody could end it from here any more (AC-107).
    own_page::end(&app, &cookies, &peer, None).await?;
    let token = random_token(&mut rand::rng());
    let new = NewGrant {
        session: NewSession {
            // Of a token that nobody has.
            digest: TokenDigest::of(&random_token(&mut rand::rng())),
            user_id: user_id.clone(),
            acr: acr.to_owned(),
            amr: amr.to_owned(),
            proven_at: Some(app.now()),
            user_agent: peer.user_agent.clone(),
            network: peer.network(),
            lives: SessionLives::of_refresh(app.settings.refresh),
        },
        client_id: client.id.clone(),
        scopes: client.settings.scopes.clone(),
        refresh_token: TokenDigest::of(&token),
        lives: app.settings.refresh,
    };
    let (session, grant) = app
        .registry
        .begin_grant(&Actor::person(&user_id).at(peer.address), &new)
        .await?;
    let standing = app
        .registry
        .record_sign_in(&NewSignIn {
            user_id: Some(user_id),
            identifier,
            method: "password".to_owned(),
            failure: None,
            network: peer.network(),
            user_agent: peer.user_agent.clone(),
            session_id: Some(session.id.clone()),
            device: Some(device.digest),
        })
        .await?;
    app.operations.metrics.count_sign_in("password", true);
    sessions::began(&app, &session, standing.new_device).await?;
    let mut response = answer(&app, &client, &grant, &token).await?;
    let age = (session.expires_at - app.now()) / 1000;
    let named = own_page::cookie(&app, &session.id, age);
    response.headers_mut().append(header::SET_COOKIE, named);
    let known = device.cookie;
    response.headers_mut().append(header::SET_COOKIE, known);
    Ok(response)
}

/// Rotates the refresh cookie and gives another access token.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "sign-in", security(("refresh" = [])),
    responses(
        (status = 200, description = "Tokens; the next refresh token is a cookie", body = BrowserTokens),
        (status = 401, description = "`refresh_missing`, `refresh_reuse`, `refresh_refused`"),
        (status = 403, description = "`origin_rejected`"),
    )
)]
pub(crate) async fn refresh(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    csrf::check_origin(&app.settings, &headers)?;
    let Some(presented) = cookies.get(&app.settings, Name::Refresh) else {
        let detail = "there is no refresh cookie: sign in";
        return Err(Problem::unauthorized("refresh_missing", detail));
    };
    let successor = random_token(&mut rand::rng());
    let request = RefreshRequest {
        presented: TokenDigest::of(presented),
        successor: TokenDigest::of(&successor),
        sealed_successor: app.secrets.seal_under(presented, &successor),
        client_id: BROWSER_CLIENT.to_owned(),
        dpop_jkt: None,
        scopes: None,
        lives: app.settings.refresh,
        rotate: true,
        network: peer.network(),
    };
    let client = client(&app).await?;
    match app.registry.refresh_grant(&request).await? {
        RefreshOutcome::Kept { grant, .. } => {
            see(&app, &grant, &peer).await?;
            answer(&app, &client, &grant, presented).await
        }
        RefreshOutcome::Rotated { grant, .. } => {
            unusual::look(&app, &grant, &peer).await;
            see(&app, &grant, &peer).await?;
            answer(&app, &client, &grant, &successor).await
        }
        RefreshOutcome::Replayed {
            grant,
            sealed_successor,
            ..
        } => {
            let first = app
                .secrets
                .unseal_under(presented, &sealed_successor)
                .map_err(|_| store_unavailable())?;
            see(&app, &grant, &peer).await?;
            answer(&app, &client, &grant, &first).await
        }
        RefreshOutcome::Reused { grant } => {
            match &grant.session_id {
                Some(id) => {
                    let actor = Actor::person(&grant.client_id).at(peer.address);
                    let user_id = &grant.user_id;
                    sessions::end(&app, &actor, user_id, id, EndReason::Reuse).await?;
                }
                None => sessions::catch_up(&app).await?,
            }
            let detail = "this refresh token was used before: signed out for your safety";
            Ok(refused(&app, "refresh_reuse", detail))
        }
        RefreshOutcome::Refused(refusal) => {
            let detail = match refusal {
                GrantRefusal::Expired | GrantRefusal::Idle => {
                    "the sign-in is too old: sign in again"
                }
                _ => "the refresh token is not accepted: sign in again",
            };
            Ok(refused(&app, "refresh_refused", detail))
        }
    }
}

async fn client(app: &App) -> Result<Arc<Client>, Problem> {
    let client = app.registry.find_client(BROWSER_CLIENT).await?;
    if client.disabled_at.is_some() {
        let detail = "signing in from pages of your own is switched off here";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "client_disabled",
            detail,
        ));
    }
    Ok(client)
}

/// Writes down that the session of a sign-in was seen now; one that an earlier version began has none.
async fn see(app: &App, grant: &Grant, peer: &Peer) -> Result<(), Problem> {
    let Some(id) = &grant.session_id else {
        return Ok(());
    };
    let session = match app.registry.find_session_by_id(id).await {
        Ok(session) => session,
        Err(RegistryError::People(PeopleError::SessionNotFound)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Seen or not is a record, not a condition; the token is rotated already.
    if let Err(error) = app.registry.touch_session(&session, &peer.network()).await {
        tracing::warn!(code = error.code(), "a session was not written as seen");
    }
    Ok(())
}

/// The token endpoint's answer, with the refresh token as a cookie in place of a member.
async fn answer(
    app: &App,
    client: &Client,
    grant: &Grant,
    refresh_token: &SecretText,
) -> Result<Response, Problem> {
    let sign_in = sign_in_of(app, grant).await.map_err(problem)?;
    let sign_in = sign_in.as_ref();
    let granted = Granted {
        client,
        user_id: &grant.user_id,
        grant_id: Some(&grant.id),
        session_id: grant.session_id.as_deref(),
        scopes: &grant.scopes,
        resource: None,
        jkt: None,
        access_jti: access_token::new_jti(),
        refresh_token: None,
        authenticated_at: sign_in.map(|one| one.authenticated_at),
        acr: sign_in.map(|one| one.acr.as_str()),
        amr: sign_in.map(|one| one.amr.as_str()),
        nonce: None,
    };
    let mut response = tokens::answer(app, granted).await.map_err(problem)?;
    let age = (grant.expires_at - app.now()) / 1000;
    let cookie = cookies::set(&app.settings, Name::Refresh, refresh_token, Some(age));
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

fn problem(error: OAuthError) -> Problem {
    if error.status.is_server_error() {
        return store_unavailable();
    }
    Problem::unauthorized("refresh_refused", error.description)
}

/// 401, and the cookies are gone.
fn refused(app: &App, code: &'static str, detail: &str) -> Response {
    let mut response = Problem::unauthorized(code, detail).into_response();
    for name in [Name::Refresh, Name::SignIn] {
        let gone = cookies::clear(&app.settings, name);
        response.headers_mut().append(header::SET_COOKIE, gone);
    }
    response
}
