//! A person who calls the API, and what they may do: a browser session with a CSRF token, or an access
//! token of ours. Never two of them at once (AC-105). Routes of a person's own account and the metrics take a
//! [`Caller`]; all others take a [`Manager`](crate::keys::manager::Manager), which may be a program too.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts as RequestParts;
use axum::http::{Method, header};
use keywright_domain::audit::Actor;
use keywright_domain::people::OAuthScopes;
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::people::User;

use crate::browser_session::{self, Found};
use crate::http::cookies::Name;
use crate::http::{Cookies, Peer, csrf};
use crate::oauth2::access_token::{self, AccessToken};
use crate::problem::Problem;
use crate::server::App;

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The person.
    pub(crate) user: Arc<User>,
    /// The session behind it, if there is one: “this device”.
    pub(crate) session_id: Option<String>,
    /// OAuth scopes of the access token; none for a browser session, which is the person's own.
    pub(crate) scopes: Option<OAuthScopes>,
    /// The access token; none for a browser session.
    pub(crate) token: Option<Arc<AccessToken>>,
    /// Where from.
    pub(crate) peer: Peer,
}

impl Caller {
    /// For the audit trail.
    pub(crate) fn actor(&self) -> Actor {
        Actor::person(&self.user.id).at(self.peer.address)
    }

    /// What the caller may do: what the person may, as far as the access token allows it.
    pub(crate) fn permissions(&self) -> ScopeSet {
        match &self.scopes {
            None => self.user.permissions.clone(),
            Some(scopes) => {
                let granted = scopes.as_slice().iter();
                let granted =
                    ScopeSet::new(granted.filter_map(|text| Scope::new(text).ok()).collect());
                self.user.permissions.intersect(&granted)
            }
        }
    }

    /// Refuses a caller who may not do this (AC-182).
    ///
    /// # Errors
    /// 403 `insufficient_scope`.
    pub(crate) fn require(&self, permission: &str) -> Result<(), Problem> {
        let allowed = Scope::new(permission).is_ok_and(|needed| self.permissions().covers(&needed));
        if allowed {
            Ok(())
        } else {
            Err(Problem::insufficient_scope(permission))
        }
    }

    /// Refuses a program that was not given the person's own account: their sessions, applications
    /// and ways to sign in. A browser session always has it.
    ///
    /// # Errors
    /// 403 `insufficient_scope`.
    pub(crate) fn require_account(&self) -> Result<(), Problem> {
        match &self.scopes {
            Some(scopes) if !scopes.contains(ACCOUNT_SCOPE) => {
                Err(Problem::insufficient_scope(ACCOUNT_SCOPE))
            }
            _ => Ok(()),
        }
    }
}

/// OAuth scope for a person's own account.
pub(crate) const ACCOUNT_SCOPE: &str = "account";

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut RequestParts, app: &App) -> Result<Self, Problem> {
        let Ok(peer) = Peer::from_request_parts(parts, app).await;
        let cookies = Cookies::read(&parts.headers);
        let has_cookie = cookies.get(&app.settings, Name::Session).is_some();
        let header = parts.headers.get(header::AUTHORIZATION);
        let api_key = parts.headers.contains_key("x-api-key");
        if has_cookie && (header.is_some() || api_key) {
            return Err(Problem::bad_request(
                "ambiguous_credentials",
                "a session cookie and a token or key came together: send one of them",
            ));
        }
        if header.is_some() {
            return by_token(app, parts, peer).await;
        }
        match browser_session::find(app, &cookies, &peer).await? {
            Found::SignedIn(signed_in) => {
                if !matches!(parts.method, Method::GET | Method::HEAD) {
                    let id = Some(signed_in.session.id.as_str());
                    csrf::check(
                        &app.settings,
                        &app.secrets,
                        &parts.headers,
                        &cookies,
                        id,
                        None,
                    )?;
                }
                Ok(Self {
                    user: signed_in.user,
                    session_id: Some(signed_in.session.id.clone()),
                    scopes: None,
                    token: None,
                    peer,
                })
            }
            Found::Over(state) => Err(Problem::unauthorized(
                state.code(),
                "this session is over: sign in again",
            )),
            Found::Nobody => Err(
                Problem::unauthorized("credentials_missing", "sign in first")
                    .with_challenge("Bearer".to_owned()),
            ),
        }
    }
}

impl Caller {
    /// The person of an access token that was checked already.
    ///
    /// # Errors
    /// 403 `person_required` for a client's own token, 401 `token_revoked` for a disabled person.
    pub(crate) async fn of_claims(
        app: &App,
        claims: Arc<AccessToken>,
        peer: Peer,
    ) -> Result<Self, Problem> {
        let Some(user_id) = claims.user_id() else {
            return Err(Problem::new(
                axum::http::StatusCode::FORBIDDEN,
                "person_required",
                "this belongs to a person, and the token is a client's own",
            ));
        };
        let user = app.registry.find_user(user_id).await?;
        if user.disabled_at.is_some() {
            return Err(Problem::invalid_token(
                "token_revoked",
                "this person is disabled",
            ));
        }
        Ok(Self {
            user,
            session_id: claims.sid.clone(),
            scopes: OAuthScopes::parse(&claims.scope),
            token: Some(claims),
            peer,
        })
    }
}

async fn by_token(app: &App, parts: &RequestParts, peer: Peer) -> Result<Caller, Problem> {
    let claims = access_token::authenticate(app, parts).await?;
    Caller::of_claims(app, claims, peer).await
}
