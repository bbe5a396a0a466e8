//! Authorization codes: good once, for a minute, for whom they were given (OAuth 2.1 §4.1). One
//! that comes twice takes with it what it gave.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{
    Client, CodeFacts, EndReason, GrantRefusal, OAuthScopes, PeopleError, RefreshLives,
    SessionState, TokenDigest,
};

use super::grants::{self, Grant, GrantOrigin, GrantSignIn};
use super::{about, clients, foreign, new_id, users};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// A code that is to be given.
#[derive(Clone, Debug)]
pub struct NewCode {
    /// Of the code.
    pub digest: TokenDigest,
    /// For whom.
    pub client_id: String,
    /// By whom.
    pub user_id: String,
    /// In which session.
    pub session_id: Option<String>,
    /// Where it is sent.
    pub redirect_uri: String,
    /// What it allows.
    pub scopes: OAuthScopes,
    /// For the ID token.
    pub nonce: Option<String>,
    /// S256 challenge (RFC 7636).
    pub code_challenge: Option<String>,
    /// Key that the tokens will be bound to (RFC 9449 §10).
    pub dpop_jkt: Option<String>,
    /// For which resource (RFC 8707).
    pub resource: Option<String>,
    /// When the person proved who they are.
    pub authenticated_at: i64,
    /// Level of that.
    pub acr: String,
    /// Ways of that.
    pub amr: String,
    /// Whether it gives a refresh token.
    pub offline: bool,
    /// How long it is good (ms): a minute by default.
    pub lifetime_ms: i64,
}

/// What a code is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationCode {
    /// For whom.
    pub client_id: String,
    /// By whom.
    pub user_id: String,
    /// In which session.
    pub session_id: Option<String>,
    /// Where it was sent.
    pub redirect_uri: String,
    /// What it allows.
    pub scopes: OAuthScopes,
    /// For the ID token.
    pub nonce: Option<String>,
    /// S256 challenge.
    pub code_challenge: Option<String>,
    /// Key that the tokens are bound to.
    pub dpop_jkt: Option<String>,
    /// For which resource.
    pub resource: Option<String>,
    /// When the person proved who they are.
    pub authenticated_at: i64,
    /// Level of that.
    pub acr: String,
    /// Ways of that.
    pub amr: String,
    /// Whether it gives a refresh token.
    pub offline: bool,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it is good.
    pub expires_at: i64,
}

/// What a code gave, so that it can be taken back.
#[derive(Clone, Debug)]
pub(crate) struct CodeUse {
    pub(crate) grant_id: String,
    pub(crate) access_jti: String,
    pub(crate) access_expires_at: i64,
}

/// A token request with a code, from a client that has proven itself.
#[derive(Clone, Debug)]
pub struct CodeRequest {
    /// Of the code.
    pub digest: TokenDigest,
    /// Who asks.
    pub client_id: String,
    /// `redirect_uri` of this request.
    pub redirect_uri: String,
    /// S256 of `code_verifier`, if there is one.
    pub code_challenge: Option<String>,
    /// Thumbprint of the DPoP proof's key, if there is one.
    pub dpop_jkt: Option<String>,
    /// Of the refresh token that is given if the code allows one.
    pub refresh_token: TokenDigest,
    /// `jti` of the access token that is given.
    pub access_jti: String,
    /// When that ends.
    pub access_expires_at: i64,
    /// How long refresh tokens live.
    pub lives: RefreshLives,
    /// What the program says it is.
    pub user_agent: String,
    /// Where from.
    pub network: String,
}

/// What becomes of a code. It is used up in any case, also by a client that it was not given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeOutcome {
    /// Tokens may be given.
    Redeemed {
        /// What the code was bound to.
        code: Box<AuthorizationCode>,
        /// What it gave.
        grant: Box<Grant>,
    },
    /// It came before. What it gave then is revoked.
    Replayed {
        /// Id of the revoked grant; none if it gave nothing.
        grant_id: Option<String>,
    },
    /// Nothing is given.
    Refused(GrantRefusal),
}

impl LocalRegistry {
    /// Remembers a code that is sent to a client.
    ///
    /// # Errors
    /// [`PeopleError::UserDisabled`], [`PeopleError::UserNotFound`], [`PeopleError::ClientNotFound`];
    /// [`PeopleError::Client`] for a redirect URI that is not registered or a disabled client.
    pub async fn issue_code(&self, actor: &Actor, new: &NewCode) -> Result<(), RegistryError> {
        self.write((actor.clone(), new.clone()), |unit, (actor, new)| {
            Box::pin(issue(unit, actor, new))
        })
        .await
    }

    /// Redeems a code, once.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; what is wrong with the code is an outcome.
    pub async fn redeem_code(&self, request: &CodeRequest) -> Result<CodeOutcome, RegistryError> {
        self.write((new_id(), request.clone()), |unit, (id, request)| {
            Box::pin(redeem(unit, id, request))
        })
        .await
    }
}

async fn issue(unit: &mut Unit, actor: &Actor, new: &NewCode) -> Result<(), RegistryError> {
    let now = unit.now();
    let client = clients::find(unit, &new.client_id).await?;
    if !client.may_use("authorization_code") {
        return Err(PeopleError::Client("it may not use authorization codes").into());
    }
    if !client.allows_redirect(&new.redirect_uri) {
        return Err(PeopleError::Client("the redirect URI is not registered").into());
    }
    if client.settings.require_pkce && new.code_challenge.is_none() {
        return Err(PeopleError::Client("it has to use PKCE").into());
    }
    users::find_enabled(unit, &new.user_id).await?;
    let code = AuthorizationCode {
        client_id: new.client_id.clone(),
        user_id: new.user_id.clone(),
        session_id: new.session_id.clone(),
        redirect_uri: new.redirect_uri.clone(),
        scopes: new.scopes.clone(),
        nonce: new.nonce.clone(),
        code_challenge: new.code_challenge.clone(),
        dpop_jkt: new.dpop_jkt.clone(),
        resource: new.resource.clone(),
        authenticated_at: new.authenticated_at,
        acr: new.acr.clone(),
        amr: new.amr.clone(),
        offline: new.offline,
        created_at: now,
        expires_at: now.saturating_add(new.lifetime_ms),
    };
    store::people::codes::insert(unit.write(), &new.digest, &code).await?;
    audit(
        unit,
        actor,
        AuditAction::CodeIssued,
        &code.client_id,
        "was given a code",
        &code.user_id,
    );
    Ok(())
}

async fn redeem(
    unit: &mut Unit,
    grant_id: &str,
    request: &CodeRequest,
) -> Result<CodeOutcome, RegistryError> {
    let now = unit.now();
    let actor = Actor::person(&request.client_id).at_text(&request.network);
    let found = store::people::codes::find_use(unit.read(), &request.digest).await?;
    let Some((client_id, used, given)) = found else {
        return Ok(CodeOutcome::Refused(GrantRefusal::Unknown));
    };
    // A stranger with a code that was used takes nothing from the client whose it was.
    if used && client_id != request.client_id {
        return Ok(CodeOutcome::Refused(GrantRefusal::OtherClient));
    }
    // The one statement that decides who is first.
    let first = store::people::codes::consume(unit.write(), &request.digest, now).await?;
    let Some(code) = first else {
        return take_back(unit, &actor, given).await;
    };
    let client = store::people::clients::find(unit.read(), &code.client_id).await?;
    if let Err(refusal) = check(unit, &code, client.as_ref(), request).await? {
        let client = &request.client_id;
        let verb = format!("was refused a code: {}", refusal.code());
        audit(
            unit,
            &actor,
            AuditAction::CodeRefused,
            client,
            &verb,
            &code.user_id,
        );
        return Ok(CodeOutcome::Refused(refusal));
    }
    let grant = Grant {
        id: grant_id.to_owned(),
        user_id: code.user_id.clone(),
        client_id: code.client_id.clone(),
        session_id: code.session_id.clone(),
        origin: GrantOrigin::Code,
        scopes: code.scopes.clone(),
        resource: code.resource.clone(),
        dpop_jkt: grants::bound_to(client.as_ref(), request.dpop_jkt.as_deref()),
        user_agent: foreign(&request.user_agent),
        network: foreign(&request.network),
        sign_in: Some(GrantSignIn {
            authenticated_at: code.authenticated_at,
            acr: code.acr.clone(),
            amr: code.amr.clone(),
        }),
        created_at: now,
        last_used_at: now,
        expires_at: now.saturating_add(request.lives.absolute_ms),
        revoked_at: None,
        revoked_by: None,
        revoke_reason: None,
    };
    let refresh = Some(&request.refresh_token).filter(|_| code.offline);
    grants::begin(unit, &grant, refresh, request.lives).await?;
    let given = CodeUse {
        grant_id: grant.id.clone(),
        access_jti: request.access_jti.clone(),
        access_expires_at: request.access_expires_at,
    };
    store::people::codes::update_given(unit.write(), &request.digest, &given).await?;
    unit.audit(
        &actor,
        grants::about_grant(AuditAction::CodeRedeemed, &grant, "given by a code"),
    );
    Ok(CodeOutcome::Redeemed {
        code: Box::new(code),
        grant: Box::new(grant),
    })
}

async fn check(
    unit: &mut Unit,
    code: &AuthorizationCode,
    client: Option<&Client>,
    request: &CodeRequest,
) -> Result<Result<(), GrantRefusal>, RegistryError> {
    let now = unit.now();
    let user = store::people::users::find(unit.read(), &code.user_id).await?;
    let session_ended = match &code.session_id {
        Some(id) => {
            let session = store::people::sessions::find(unit.read(), id).await?;
            session.is_none_or(|session| session.state(now) != SessionState::Active)
        }
        None => false,
    };
    let facts = CodeFacts {
        expires_at: code.expires_at,
        client: (&code.client_id, &request.client_id),
        redirect_uri: (&code.redirect_uri, &request.redirect_uri),
        code_challenge: (
            code.code_challenge.as_deref(),
            request.code_challenge.as_deref(),
        ),
        dpop_jkt: (code.dpop_jkt.as_deref(), request.dpop_jkt.as_deref()),
        user_disabled: user.is_none_or(|user| user.disabled_at.is_some()),
        client_disabled: client.is_none_or(|client| client.disabled_at.is_some()),
        session_ended,
    };
    Ok(facts.check(now))
}

/// The second use of a code revokes what the first one gave (RFC 6749 §4.1.2).
async fn take_back(
    unit: &mut Unit,
    actor: &Actor,
    given: Option<CodeUse>,
) -> Result<CodeOutcome, RegistryError> {
    let Some(given) = given else {
        return Ok(CodeOutcome::Replayed { grant_id: None });
    };
    if let Some(grant) = store::people::grants::find(unit.read(), &given.grant_id).await? {
        let action = AuditAction::CodeReplayed;
        if grants::revoke(unit, actor, &grant, EndReason::Reuse, action).await? {
            grants::deny_token(unit, &given.access_jti, given.access_expires_at).await?;
        }
    }
    Ok(CodeOutcome::Replayed {
        grant_id: Some(given.grant_id),
    })
}

fn audit(
    unit: &mut Unit,
    actor: &Actor,
    action: AuditAction,
    client_id: &str,
    verb: &str,
    user_id: &str,
) {
    let details = vec![("user", user_id.to_owned())];
    let summary = format!("Client {client_id} {verb}");
    unit.audit(
        actor,
        about(action, ("client", client_id, client_id), summary, details),
    );
}
