//! Who manages keys, and people: a person (browser session or access token), a client with a token of its
//! own, or a root key; and what each may do.

use std::sync::{Arc, Weak};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts as RequestParts;
use keywright_domain::api_keys::format::ROOT_PREFIX;
use keywright_domain::api_keys::{ApiKey, KeyType, Owner, OwnerKind, PresentedKey};
use keywright_domain::audit::Actor;
use keywright_domain::people::{OAuthScopes, PeopleError, SessionState};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{
    Caller as KeyCaller, Conditions, Peppers, RegistryError, Verification, VerifyRequest,
};

use super::bearer::{self, Presented};
use crate::caller::Caller;
use crate::http::cookies::Name;
use crate::http::{Cookies, Peer};
use crate::oauth2::access_token::{self, AccessToken};
use crate::problem::Problem;
use crate::server::{App, Parts};

/// What a request was let in by, so that work behind its answer can look again.
#[derive(Clone, Debug)]
enum Credential {
    /// A browser session, by its public id.
    Session(String),
    /// An access token: a person's or a client's own.
    Token(Arc<AccessToken>),
    /// A root key's secret, by its kid.
    Secret(String),
}

/// Who asks for something about keys.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    /// For the audit trail.
    pub(crate) actor: Actor,
    /// The person, where it is one: keys they make can never do more than they may themselves.
    pub(crate) person: Option<String>,
    /// What the caller holds: what may be done to everybody's keys, and the most that a management key
    /// of its making may do.
    permissions: ScopeSet,
    /// The most that other keys of its making may do. Their scopes open other services, of which a
    /// person's access token for this one says nothing: there the person's roles decide.
    lends: ScopeSet,
    /// What the request was let in by.
    credential: Credential,
    /// What may be done to the person's own keys: everything in a browser session, otherwise what the
    /// access token allows.
    own: Option<ScopeSet>,
    /// Where a person's refusals are written down (AC-182), and where they came from.
    reports: Option<(Weak<Parts>, String)>,
}

impl Manager {
    fn allows(set: &ScopeSet, permission: &str) -> bool {
        Scope::new(permission).is_ok_and(|needed| set.covers(&needed))
    }

    /// The refusal, which for a person is written down as well.
    fn refuse(&self, permission: &str) -> Problem {
        let app = self.reports.as_ref().and_then(|(app, _)| app.upgrade());
        if let (Some(app), Some(person), Some((_, network))) = (app, &self.person, &self.reports) {
            let (person, network) = (person.clone(), network.clone());
            let permission = permission.to_owned();
            tokio::spawn(async move {
                crate::sessions::refused_person(&app, &person, &network, &permission).await;
            });
        }
        Problem::insufficient_scope(permission)
    }

    /// The person whose refusals are written down, and the network that they asked from; none for a key
    /// and a client.
    pub(crate) fn person_at(&self) -> Option<(&str, &str)> {
        let (_, network) = self.reports.as_ref()?;
        Some((self.person.as_deref()?, network))
    }

    /// The session behind the request, if there is one: “this device”.
    pub(crate) fn session_id(&self) -> Option<&str> {
        match &self.credential {
            Credential::Session(id) => Some(id),
            Credential::Token(token) => token.sid.as_deref(),
            Credential::Secret(_) => None,
        }
    }

    /// Whether the caller has this permission: for keys, whether it may be done to everybody's.
    pub(crate) fn may(&self, permission: &str) -> bool {
        Self::allows(&self.permissions, permission)
    }

    /// Refuses who may not do this to everybody's keys.
    ///
    /// # Errors
    /// 403 `insufficient_scope`.
    pub(crate) fn require(&self, permission: &str) -> Result<(), Problem> {
        if self.may(permission) {
            Ok(())
        } else {
            Err(self.refuse(permission))
        }
    }

    /// Refuses who may do this neither to everybody's keys nor to their own.
    ///
    /// # Errors
    /// 403 `insufficient_scope`.
    pub(crate) fn require_own(&self, permission: &str) -> Result<(), Problem> {
        if self.may(permission) || self.may_with_own(permission) {
            Ok(())
        } else {
            Err(self.refuse(permission))
        }
    }

    /// Whether this may be done to the caller's own keys.
    pub(crate) fn may_own(&self, permission: &str) -> bool {
        self.may(permission) || self.may_with_own(permission)
    }

    fn may_with_own(&self, permission: &str) -> bool {
        self.person.is_some()
            && self
                .own
                .as_ref()
                .is_none_or(|own| Self::allows(own, permission))
    }

    /// Refuses a key that this caller may not see (404, as if it did not exist) or not change (403).
    ///
    /// # Errors
    /// 404 `key_not_found`, 403 `insufficient_scope`.
    pub(crate) fn check(&self, key: &ApiKey, permission: &str) -> Result<(), Problem> {
        let own = self.is_own(&key.owner);
        if self.may(permission) || (own && self.may_with_own(permission)) {
            return Ok(());
        }
        if self.may("keys:read") || (own && self.may_with_own("keys:read")) {
            return Err(self.refuse(permission));
        }
        Err(Problem::not_found(
            "key_not_found",
            "there is no key with this id",
        ))
    }

    /// Refuses an owner whose keys this caller may not see (404, as if they did not exist) or not change
    /// (403).
    ///
    /// # Errors
    /// 404 `owner_not_found`, 403 `insufficient_scope`.
    pub(crate) fn check_owner(&self, owner: &Owner, permission: &str) -> Result<(), Problem> {
        let own = self.is_own(owner);
        if self.may(permission) || (own && self.may_with_own(permission)) {
            return Ok(());
        }
        if self.may("keys:read") || (own && self.may_with_own("keys:read")) {
            return Err(self.refuse(permission));
        }
        Err(super::owners::not_found())
    }

    /// Whether keys of this owner are the caller's own.
    pub(crate) fn is_own(&self, owner: &Owner) -> bool {
        self.person
            .as_deref()
            .is_some_and(|person| Self::owns(person, owner))
    }

    /// Whether keys of this owner are a person's own.
    pub(crate) fn owns(person: &str, owner: &Owner) -> bool {
        owner.kind == OwnerKind::Person && owner.id == person
    }

    /// Whose keys a list shows: everybody's or one owner's with the permission, else the caller's own.
    ///
    /// # Errors
    /// 403 `insufficient_scope` for somebody else's.
    pub(crate) fn whose(
        &self,
        asked: Option<&str>,
        permission: &str,
    ) -> Result<Option<String>, Problem> {
        if self.may(permission) {
            return Ok(asked.map(str::to_owned));
        }
        if asked.is_some() && asked != self.person.as_deref() {
            return Err(self.refuse(permission));
        }
        Ok(self.person.clone())
    }

    /// Whether the caller is let in at this moment as it was when its request came: the session, the
    /// token or the secret has not ended, and none of what it could do was taken away.
    ///
    /// # Errors
    /// [`Problem`] if that cannot be found out: then nobody goes on, and nobody was refused.
    pub(crate) async fn stands(&self, app: &App) -> Result<bool, Problem> {
        let (registry, held) = (&app.registry, &self.permissions);
        let lets_in = match &self.credential {
            Credential::Session(id) => there(registry.find_session_by_id(id).await)?
                .is_some_and(|session| session.state(app.now()) == SessionState::Active),
            Credential::Token(token) => access_token::good_now(app, token).await?.is_ok(),
            Credential::Secret(kid) => {
                let scopes = registry.scopes_of_secret(kid).await?;
                scopes.is_some_and(|scopes| scopes.covers_all(held))
            }
        };
        let Some(person) = self.person.as_ref().filter(|_| lets_in) else {
            return Ok(lets_in);
        };
        // A role that was taken away takes its part of an access token with it.
        let user = there(registry.find_user(person).await)?;
        Ok(
            user.is_some_and(|user| {
                user.disabled_at.is_none() && user.permissions.covers_all(held)
            }),
        )
    }

    /// Who is bound to a management key that this caller makes: the person, or whoever made the root key that
    /// asks. A root key of somebody who is let in no more would live on in those that it made.
    ///
    /// # Errors
    /// [`Problem`] if that cannot be found out.
    pub(crate) async fn maker(&self, app: &App) -> Result<Option<String>, Problem> {
        let kid = match (&self.person, &self.credential) {
            (Some(person), _) => return Ok(Some(person.clone())),
            (None, Credential::Secret(kid)) => kid,
            (None, Credential::Session(_) | Credential::Token(_)) => return Ok(None),
        };
        let maker = app.registry.creator_of_secret(kid).await?;
        Ok(maker.map(|id| id.to_string()))
    }

    /// What no key that this caller makes, changes, takes over or takes in may exceed.
    pub(crate) fn held(&self, management: bool) -> &ScopeSet {
        if management {
            &self.permissions
        } else {
            &self.lends
        }
    }

    /// What handing out a secret of a key depends on: of a management key that may do more than the caller
    /// it is refused (403 `scope_exceeds_creator`), in the transaction that hands it out, since its scopes
    /// may come back meanwhile. What the scopes of other keys open is not this registry's, and
    /// `keys:write` says that it gives them out.
    pub(crate) fn secret_of(&self, key: &ApiKey, conditions: Conditions) -> Conditions {
        if key.prefix.as_str() == ROOT_PREFIX {
            conditions.secret_of(&key.id, &self.permissions)
        } else {
            conditions
        }
    }

    /// Nobody grants more than they hold: to a management key a person's access token no more than it
    /// says, whatever roles the person has.
    ///
    /// # Errors
    /// 403 `scope_exceeds_creator`.
    pub(crate) fn check_grant(&self, scopes: &[String], management: bool) -> Result<(), Problem> {
        let held = self.held(management);
        for text in scopes {
            // What is no scope is refused by the registry, by its own code.
            let Ok(scope) = Scope::new(text.trim()) else {
                continue;
            };
            if !held.covers(&scope) {
                return Err(exceeds(scope.as_str()));
            }
        }
        Ok(())
    }
}

/// What was looked for, if it is there.
fn there<T>(found: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(RegistryError::People(PeopleError::SessionNotFound | PeopleError::UserNotFound)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn exceeds(scope: &str) -> Problem {
    let detail = format!("the scope {scope} is more than the caller holds");
    let status = axum::http::StatusCode::FORBIDDEN;
    Problem::new(status, "scope_exceeds_creator", detail)
}

impl FromRequestParts<App> for Manager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut RequestParts, app: &App) -> Result<Self, Problem> {
        match bearer::read(&parts.headers)? {
            Some(Presented { text, .. }) if PresentedKey::parse(text.expose()).is_ok() => {
                let cookies = Cookies::read(&parts.headers);
                if cookies.get(&app.settings, Name::Session).is_some() {
                    return Err(bearer::ambiguous());
                }
                let Ok(peer) = Peer::from_request_parts(parts, app).await;
                by_key(app, text.expose(), &parts.headers, &peer).await
            }
            Some(Presented { in_header, .. }) if in_header => by_token(app, parts).await,
            Some(_) => Err(Problem::unauthorized(
                "key_malformed",
                "what came in X-API-Key is no API key",
            )),
            None if bearer::is_dpop(&parts.headers) => by_token(app, parts).await,
            None => Caller::from_request_parts(parts, app)
                .await
                .map(|caller| of_caller(app, caller)),
        }
    }
}

/// A person, or a client on its own behalf.
async fn by_token(app: &App, parts: &mut RequestParts) -> Result<Manager, Problem> {
    if Cookies::read(&parts.headers)
        .get(&app.settings, Name::Session)
        .is_some()
    {
        return Err(bearer::ambiguous());
    }
    // Once: a proof that comes with it is good for one check.
    let claims = access_token::authenticate(app, parts).await?;
    let Ok(peer) = Peer::from_request_parts(parts, app).await;
    if claims.user_id().is_some() {
        let caller = Caller::of_claims(app, claims, peer).await?;
        return Ok(of_caller(app, caller));
    }
    // Such a token has no grant that could be revoked: its client is asked for each time.
    let client = match app.registry.find_client(&claims.client_id).await {
        Ok(client) => Some(client),
        Err(RegistryError::People(PeopleError::ClientNotFound)) => None,
        Err(error) => return Err(error.into()),
    };
    if client.is_none_or(|client| client.disabled_at.is_some()) {
        let detail = "the client of this token is disabled";
        return Err(Problem::invalid_token("token_revoked", detail));
    }
    Ok(Manager {
        actor: Actor::person(&claims.sub).at(peer.address),
        person: None,
        permissions: set_of(&claims.scope),
        lends: set_of(&claims.scope),
        credential: Credential::Token(claims),
        own: Some(ScopeSet::default()),
        reports: None,
    })
}

fn set_of(text: &str) -> ScopeSet {
    let scopes = text.split_ascii_whitespace();
    ScopeSet::new(scopes.filter_map(|one| Scope::new(one).ok()).collect())
}

fn of_caller(app: &App, caller: Caller) -> Manager {
    let own = caller.scopes.as_ref().map(|scopes: &OAuthScopes| {
        let texts = scopes.as_slice().iter();
        ScopeSet::new(texts.filter_map(|one| Scope::new(one).ok()).collect())
    });
    Manager {
        actor: caller.actor(),
        permissions: caller.permissions(),
        lends: caller.user.permissions.clone(),
        reports: Some((Arc::downgrade(app), caller.peer.network())),
        person: Some(caller.user.id.clone()),
        credential: match caller.token {
            Some(token) => Credential::Token(token),
            // A session that is not known any more does not stand.
            None => Credential::Session(caller.session_id.unwrap_or_default()),
        },
        own,
    }
}

async fn by_key(
    app: &App,
    text: &str,
    headers: &HeaderMap,
    peer: &Peer,
) -> Result<Manager, Problem> {
    let verification = root_key(app, text, headers, peer).await?;
    let id = verification.key_id.map(|id| id.to_string());
    let id = id.unwrap_or_default();
    let kid = verification.kid.map(|kid| kid.to_string());
    let scopes = verification.scopes.as_deref();
    let scopes = scopes.cloned().unwrap_or_default();
    Ok(Manager {
        actor: Actor::person(&format!("key:{id}")).at(peer.address),
        person: None,
        permissions: scopes.clone(),
        lends: scopes,
        credential: Credential::Secret(kid.unwrap_or_default()),
        own: Some(ScopeSet::default()),
        reports: None,
    })
}

/// A root key that is let through.
///
/// # Errors
/// 401, 403 or 429 as for any key; 503.
async fn root_key(
    app: &App,
    text: &str,
    headers: &HeaderMap,
    peer: &Peer,
) -> Result<Verification, Problem> {
    let peppers = peppers(app)?;
    let request = root_request(text, headers, peer);
    let verification = app.registry.verify_api_key(&request, &peppers).await?;
    match &verification.verdict {
        Ok(()) => Ok(verification),
        Err(refusal) => Err(bearer::refusal(refusal, &verification, app.now())),
    }
}

/// What is asked of a key that somebody manages others with.
pub(crate) fn root_request<'a>(
    text: &'a str,
    headers: &'a HeaderMap,
    peer: &'a Peer,
) -> VerifyRequest<'a> {
    VerifyRequest {
        presented: text,
        key_types: &[KeyType::Root],
        caller: KeyCaller {
            address: Some(peer.address),
            origin: bearer::text(headers, "origin"),
            agent: Some(&peer.user_agent),
            route: Some("management"),
            client_label: None,
        },
        ..VerifyRequest::default()
    }
}

/// The registry's peppers: without them nothing can be issued or verified.
///
/// # Errors
/// 503.
pub(crate) fn peppers(app: &App) -> Result<Arc<Peppers>, Problem> {
    app.peppers().ok_or_else(|| {
        tracing::error!("there is no pepper: the set-up is not finished");
        crate::problem::store_unavailable()
    })
}
