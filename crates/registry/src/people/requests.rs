//! What one later request takes away with it: pushed authorization requests (RFC 9126), and
//! browsers that are at an identity provider (S62).

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{Client, ClientType, PeopleError, Sealed, TokenDigest};

use super::{about, clients};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// A pushed authorization request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedRequest {
    /// Who pushed it.
    pub client_id: String,
    /// Its parameters, as the caller writes them.
    pub parameters: String,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it is good.
    pub expires_at: i64,
}

/// A browser that is sent to an identity provider.
#[derive(Clone, Debug)]
pub struct NewLogin {
    /// Of `state`.
    pub state: TokenDigest,
    /// Of the cookie that binds it to this browser.
    pub browser: TokenDigest,
    /// Which provider.
    pub provider_id: String,
    /// For the ID token.
    pub nonce: String,
    /// PKCE verifier, sealed.
    pub sealed_verifier: Sealed,
    /// Where the browser goes afterwards: a path of ours.
    pub redirect_to: String,
    /// Who is signed in and wants to link an identity.
    pub user_id: Option<String>,
    /// How long it may take (ms): ten minutes by default.
    pub lifetime_ms: i64,
}

/// A browser that is at an identity provider.
#[derive(Clone, Debug)]
pub struct LoginTransaction {
    /// Of the cookie that binds it to one browser.
    pub browser: TokenDigest,
    /// Which provider.
    pub provider_id: String,
    /// For the ID token.
    pub nonce: String,
    /// PKCE verifier, sealed.
    pub sealed_verifier: Sealed,
    /// Where the browser goes afterwards.
    pub redirect_to: String,
    /// Who is signed in and wants to link an identity.
    pub user_id: Option<String>,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it is good.
    pub expires_at: i64,
}

/// What becomes of a browser that comes back.
#[derive(Clone, Debug)]
pub enum LoginOutcome {
    /// It is the one that was sent. Nobody comes back with this state again.
    Returned(Box<LoginTransaction>),
    /// The state is unknown, used or too old (AC-072, AC-073).
    Unknown,
    /// Another browser was sent (AC-071). The one that was can still come.
    StateMismatch,
    /// It was sent to another provider (AC-074).
    ProviderMismatch,
}

impl LoginOutcome {
    /// Stable code of the refusal; none for the browser that was sent.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Returned(_) => None,
            Self::Unknown => Some("state_unknown"),
            Self::StateMismatch => Some("state_mismatch"),
            Self::ProviderMismatch => Some("provider_mismatch"),
        }
    }
}

impl LocalRegistry {
    /// Keeps the authorization request that a client pushed. There is an event if the client proved itself:
    /// in a public one's name everybody can push, and the trail keeps what it is told for ever.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`], [`PeopleError::Client`] for a disabled one.
    pub async fn push_request(
        &self,
        uri: &TokenDigest,
        client_id: &str,
        parameters: &str,
        lifetime_ms: i64,
    ) -> Result<PushedRequest, RegistryError> {
        let input = (
            *uri,
            client_id.to_owned(),
            parameters.to_owned(),
            lifetime_ms,
        );
        self.write(input, |unit, (uri, client_id, parameters, lifetime_ms)| {
            Box::pin(async move {
                let now = unit.now();
                let client = clients::find(unit, client_id).await?;
                if client.disabled_at.is_some() {
                    return Err(PeopleError::Client("it is disabled").into());
                }
                let request = PushedRequest {
                    client_id: client_id.clone(),
                    parameters: parameters.clone(),
                    created_at: now,
                    expires_at: now.saturating_add(*lifetime_ms),
                };
                store::people::requests::insert_pushed(unit.write(), uri, &request).await?;
                if client.settings.client_type == ClientType::Confidential {
                    let (action, target) = (AuditAction::RequestPushed, ("client", &**client_id));
                    audit(unit, action, target, "A request was pushed");
                }
                Ok(request)
            })
        })
        .await
    }

    /// Takes a pushed request, once; none for one that is unknown, used, too old or another client's.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn take_pushed_request(
        &self,
        uri: &TokenDigest,
        client_id: &str,
    ) -> Result<Option<PushedRequest>, RegistryError> {
        self.write((*uri, client_id.to_owned()), |unit, (uri, client)| {
            Box::pin(async move {
                let now = unit.now();
                let found = store::people::clients::find(unit.read(), client).await?;
                let connection = unit.write();
                let taken =
                    store::people::requests::take_pushed(connection, uri, client, now).await?;
                let is_known =
                    |found: &Client| found.settings.client_type == ClientType::Confidential;
                if taken.is_some() && found.as_ref().is_some_and(is_known) {
                    let (action, target) = (AuditAction::RequestConsumed, ("client", &**client));
                    audit(unit, action, target, "A pushed request was taken");
                }
                Ok(taken)
            })
        })
        .await
    }

    /// Remembers a browser that is sent to an identity provider.
    ///
    /// # Errors
    /// [`PeopleError::ProviderNotFound`], for a disabled one too (AC-079).
    pub async fn start_login(&self, new: &NewLogin) -> Result<(), RegistryError> {
        self.write(new.clone(), |unit, new| {
            Box::pin(async move {
                let now = unit.now();
                store::people::providers::find(unit.read(), &new.provider_id)
                    .await?
                    .filter(|provider| provider.disabled_at.is_none())
                    .ok_or(PeopleError::ProviderNotFound)?;
                let login = LoginTransaction {
                    browser: new.browser,
                    provider_id: new.provider_id.clone(),
                    nonce: new.nonce.clone(),
                    sealed_verifier: new.sealed_verifier.clone(),
                    redirect_to: new.redirect_to.clone(),
                    user_id: new.user_id.clone(),
                    created_at: now,
                    expires_at: now.saturating_add(new.lifetime_ms),
                };
                store::people::requests::insert_login(unit.write(), &new.state, &login).await?;
                let target = ("identity_provider", new.provider_id.as_str());
                let summary = "A browser was sent to an identity provider";
                audit(unit, AuditAction::LoginStarted, target, summary);
                Ok(())
            })
        })
        .await
    }

    /// Takes the transaction of a browser that comes back, once (S0-41).
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; what does not fit is an outcome.
    pub async fn finish_login(
        &self,
        state: &TokenDigest,
        browser: Option<&TokenDigest>,
        provider_id: &str,
    ) -> Result<LoginOutcome, RegistryError> {
        let input = (*state, browser.copied(), provider_id.to_owned());
        self.write(input, |unit, (state, browser, provider_id)| {
            Box::pin(finish(unit, state, browser.as_ref(), provider_id))
        })
        .await
    }
}

async fn finish(
    unit: &mut Unit,
    state: &TokenDigest,
    browser: Option<&TokenDigest>,
    provider_id: &str,
) -> Result<LoginOutcome, RegistryError> {
    let now = unit.now();
    let login = store::people::requests::find_login(unit.read(), state).await?;
    let Some(login) = login.filter(|login| login.expires_at > now) else {
        return Ok(LoginOutcome::Unknown);
    };
    let Some(browser) = browser.filter(|browser| **browser == login.browser) else {
        return Ok(LoginOutcome::StateMismatch);
    };
    if login.provider_id != provider_id {
        return Ok(LoginOutcome::ProviderMismatch);
    }
    // The one statement that decides who is first.
    let taken = store::people::requests::take_login(unit.write(), state, browser, now).await?;
    let Some(login) = taken else {
        return Ok(LoginOutcome::Unknown);
    };
    let target = ("identity_provider", provider_id);
    let summary = "A browser came back from an identity provider";
    audit(unit, AuditAction::LoginReturned, target, summary);
    Ok(LoginOutcome::Returned(Box::new(login)))
}

fn audit(unit: &mut Unit, action: AuditAction, target: (&'static str, &str), summary: &str) {
    let (kind, id) = target;
    let event = about(action, (kind, id, id), summary.to_owned(), Vec::new());
    unit.audit(&Actor::keywright(), event);
}
