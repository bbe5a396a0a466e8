//! The session of a browser: found by its cookie, begun by a sign-in, ended by a sign-out.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts as RequestParts;
use axum::http::{HeaderMap, header};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{EndReason, Session, SessionState, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::people::{NewSession, NewSignIn, User};

use crate::browser_device;
use crate::http::cookies::{self, Name};
use crate::http::{Cookies, Peer, csrf};
use crate::problem::Problem;
use crate::server::App;

/// One factor.
pub(crate) const ACR_ONE: &str = "aal1";
/// Two factors, or a passkey that verified its person.
pub(crate) const ACR_TWO: &str = "aal2";

/// A session that is good now, with its person.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    /// The session.
    pub(crate) session: Arc<Session>,
    /// Its token's digest, to renew it.
    pub(crate) digest: TokenDigest,
    /// The person, with roles and permissions.
    pub(crate) user: Arc<User>,
    /// Where this request came from.
    pub(crate) address: IpAddr,
}

impl SignedIn {
    /// For the audit trail.
    pub(crate) fn actor(&self) -> Actor {
        Actor::person(&self.user.id).at(self.address)
    }
}

/// What a browser's cookie came to.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It is signed in.
    SignedIn(Box<SignedIn>),
    /// It has no cookie of ours.
    Nobody,
    /// Its session is over: `session_expired` or `session_revoked`.
    Over(SessionState),
}

/// Looks the browser's session up, and writes it as seen now and then.
///
/// # Errors
/// [`Problem`] if the registry cannot be asked: nobody is signed in by guess.
pub(crate) async fn find(app: &App, cookies: &Cookies, peer: &Peer) -> Result<Found, Problem> {
    let Some(token) = cookies.get(&app.settings, Name::Session) else {
        return Ok(Found::Nobody);
    };
    let digest = TokenDigest::of(token);
    let Some((session, state)) = app.registry.find_session(&digest).await? else {
        return Ok(Found::Over(SessionState::Ended));
    };
    if state != SessionState::Active {
        return Ok(Found::Over(state));
    }
    let user = app.registry.find_user(&session.user_id).await?;
    if user.disabled_at.is_some() {
        return Ok(Found::Over(SessionState::Ended));
    }
    // Seen or not is a record, not a condition: a full disk signs nobody out.
    if let Err(error) = app.registry.touch_session(&session, &peer.network()).await {
        tracing::warn!(code = error.code(), "a session was not written as seen");
    }
    Ok(Found::SignedIn(Box::new(SignedIn {
        session,
        digest,
        user,
        address: peer.address,
    })))
}

/// A session where there is one: pages that look different for people who are signed in.
#[derive(Clone, Debug)]
pub(crate) struct MaybeSignedIn(pub(crate) Option<Box<SignedIn>>);

impl FromRequestParts<App> for MaybeSignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut RequestParts, app: &App) -> Result<Self, Problem> {
        let cookies = Cookies::read(&parts.headers);
        let Ok(peer) = Peer::from_request_parts(parts, app).await;
        Ok(Self(match find(app, &cookies, &peer).await? {
            Found::SignedIn(signed_in) => Some(signed_in),
            _ => None,
        }))
    }
}

/// How somebody proved who they are.
#[derive(Clone, Debug)]
pub(crate) struct Proof<'a> {
    /// Ways, as RFC 8176 names them, separated by single spaces: `pwd`, `pwd otp mfa`, `hwk user`.
    pub(crate) amr: &'a str,
    /// [`ACR_ONE`] or [`ACR_TWO`].
    pub(crate) acr: &'a str,
    /// For the history: `password`, `passkey`, a provider's id.
    pub(crate) method: &'a str,
    /// What was typed, or what the provider said.
    pub(crate) identifier: &'a str,
    /// When the person gave it (Unix ms). None where a provider signed them in and does not say when it
    /// asked them last: that is a sign-in, and no proof that it is them who sit there now.
    pub(crate) proven_at: Option<i64>,
}

/// A session that began.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The `Set-Cookie` headers that the answer must have.
    pub(crate) headers: HeaderMap,
}

/// Begins a session after a proof. Another session of this browser ends: its id is never carried
/// over (AC-107). More sessions than allowed: the oldest end (AC-115).
///
/// # Errors
/// [`Problem`].
pub(crate) async fn begin(
    app: &App,
    cookies: &Cookies,
    peer: &Peer,
    user_id: &str,
    proof: &Proof<'_>,
) -> Result<Begun, Problem> {
    let actor = Actor::person(user_id).at(peer.address);
    let token = random_token(&mut rand::rng());
    if let Some(old) = cookies.get(&app.settings, Name::Session)
        && let Some((session, SessionState::Active)) =
            app.registry.find_session(&TokenDigest::of(old)).await?
    {
        let reason = EndReason::SignedOut;
        crate::sessions::end(app, &actor, &session.user_id, &session.id, reason).await?;
    }
    let new = NewSession {
        digest: TokenDigest::of(&token),
        user_id: user_id.to_owned(),
        acr: proof.acr.to_owned(),
        amr: proof.amr.to_owned(),
        proven_at: proof.proven_at,
        user_agent: peer.user_agent.clone(),
        network: peer.network(),
        lives: app.settings.sessions,
    };
    let session = app.registry.start_session(&actor, &new).await?;
    let device = browser_device::of(app, cookies);
    let standing = app
        .registry
        .record_sign_in(&NewSignIn {
            user_id: Some(user_id.to_owned()),
            identifier: proof.identifier.to_owned(),
            method: proof.method.to_owned(),
            failure: None,
            network: peer.network(),
            user_agent: peer.user_agent.clone(),
            session_id: Some(session.id.clone()),
            device: Some(device.digest),
        })
        .await?;
    app.operations.metrics.count_sign_in(proof.method, true);
    crate::sessions::began(app, &session, standing.new_device).await?;
    let mut headers = HeaderMap::new();
    set_session_cookie(app, &token, &mut headers);
    let csrf = csrf::fresh(&app.settings, &app.secrets, Some(&session.id));
    if let Some(cookie) = csrf.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    headers.append(
        header::SET_COOKIE,
        cookies::clear(&app.settings, Name::Pending),
    );
    headers.append(header::SET_COOKIE, device.cookie);
    Ok(Begun { headers })
}

/// Gives a session another token after a further proof (step-up, AC-107). `proven_at`: when it was given
/// (Unix ms); none leaves what is known of an earlier one.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn renew(
    app: &App,
    signed_in: &SignedIn,
    amr: &str,
    acr: &str,
    proven_at: Option<i64>,
) -> Result<(Session, HeaderMap), Problem> {
    let token = random_token(&mut rand::rng());
    let actor = signed_in.actor();
    let (old, new) = (&signed_in.digest, TokenDigest::of(&token));
    let session = app
        .registry
        .renew_session(&actor, old, &new, (acr, amr), proven_at)
        .await?;
    let mut headers = HeaderMap::new();
    set_session_cookie(app, &token, &mut headers);
    Ok((session, headers))
}

fn set_session_cookie(app: &App, token: &SecretText, headers: &mut HeaderMap) {
    let age = app.settings.sessions.absolute_ms / 1000;
    let cookie = cookies::set(&app.settings, Name::Session, token, Some(age));
    headers.append(header::SET_COOKIE, cookie);
}
