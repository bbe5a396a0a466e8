//! Silent refresh (RFC 6749 §6): lock, read the keychain again, ask once, store the new refresh
//! token, and only then hand out the access token. Only `invalid_grant` ever deletes anything.

use std::sync::Arc;

use keywright_domain::SecretText;
use keywright_domain::accounts::{Account, AccountChange};
use keywright_domain::audit::Actor;
use keywright_domain::flows::refresh_step as step;

use super::lock::RefreshLock;
use super::{Session, TokenLife, Trouble};
use crate::clock::now_ms;
use crate::flows::FlowTrace;
use crate::http::HttpClient;
use crate::secret_store::KeychainError;
use crate::sign_in::{
    IdTokenContext, Metadata, Preset, Provider, ReauthReason, SignInError, TokenEndpoint, Tokens,
    is_invalid_grant, verify_id_token,
};
use crate::{AppError, Inner};

/// The keychain entry of an account's refresh token.
pub(crate) fn refresh_entry(account: &Account) -> String {
    format!(
        "refresh:{} {} {}",
        account.issuer, account.subject, account.client_id
    )
}

/// The keychain entry of a client secret that a provider insists on.
pub(crate) fn client_secret_entry(issuer: &str, client_id: &str) -> String {
    format!("client-secret:{issuer} {client_id}")
}

/// Refreshes an account now, for a person who wants that or because it is due. Callers that come while one is at
/// it share its outcome (AC-086).
pub(crate) async fn refresh_now(inner: &Arc<Inner>, account_id: &str) -> Result<(), AppError> {
    refresh(inner, account_id, false).await
}

/// Refreshes an account for a call that needs a token. What failed a moment ago is not tried again for it: it is
/// told once more (AC-091, AC-160).
pub(crate) async fn refresh_for_a_call(
    inner: &Arc<Inner>,
    account_id: &str,
) -> Result<(), AppError> {
    refresh(inner, account_id, true).await
}

async fn refresh(inner: &Arc<Inner>, account_id: &str, may_rest: bool) -> Result<(), AppError> {
    let sessions = &inner.accounts.sessions;
    let (gate, seen) = sessions.with(account_id, |session| {
        (Arc::clone(&session.gate), session.rounds)
    });
    let _turn = gate.lock().await;
    if let Some(shared) = sessions.with(account_id, |session| {
        (session.rounds != seen).then(|| session.trouble.clone())
    }) {
        return shared.map_or(Ok(()), |trouble| Err(trouble.into_error()));
    }
    let resting = sessions.with(account_id, |session| session.rests());
    if let Some(trouble) = resting.filter(|_| may_rest) {
        return Err(trouble.into_error());
    }
    let account = inner.registry.get().await?.find_account(account_id).await?;
    if !account.in_keychain
        && let Some(reason) = sessions.with(account_id, nothing_to_renew)
    {
        return Err(SignInError::ReauthRequired(reason).into());
    }
    // A task of its own: nobody who stops listening interrupts it between answer and keychain, and the
    // app's end waits for it.
    let (inner, work) = (Arc::clone(inner), inner.accounts.begin()?);
    let task = tokio::spawn(async move {
        let _work = work;
        refresh_and_note(inner, account).await
    });
    task.await
        .unwrap_or_else(|_panicked| Err(SignInError::NetworkError.into()))
}

/// Why there is nothing to refresh with, where the keychain has nothing either. It was told when it came to that:
/// nobody is asked, and nothing is noted. A session that may be renewed has something, or is ended by the try.
fn nothing_to_renew(session: &mut Session) -> Option<ReauthReason> {
    if session.renewable || session.unsaved_refresh_token.is_some() {
        return None;
    }
    Some(match session.trouble {
        _ if session.life.is_some() => ReauthReason::NoRefreshToken,
        Some(Trouble::SignInNeeded(reason)) => reason,
        _ => ReauthReason::SessionEnded,
    })
}

async fn refresh_and_note(inner: Arc<Inner>, account: Account) -> Result<(), AppError> {
    let id = account.id.clone();
    let provider_name = provider_of(&account).map(|provider| provider.name());
    let trace = inner
        .flows
        .begin("refresh-token", provider_name.unwrap_or_default())
        .until_over();
    trace.done(step::DUE);
    let result = Refresh::of(&inner, account, &trace).await;
    let sessions = &inner.accounts.sessions;
    let (outcome, news) = match result {
        Ok(()) => {
            trace.succeeded(step::REPLACE);
            (Ok(()), true)
        }
        Err(trouble) => {
            let error = trouble.clone().into_error();
            match &trouble {
                Trouble::SignInNeeded(ReauthReason::EndedByProvider) => {
                    trace.failed(step::ROTATE, "invalid_grant");
                }
                _ => trace.failed(trace.next(), error.code()),
            }
            tracing::warn!(code = error.code(), "an account was not refreshed");
            let news = sessions.with(&id, |session| session.is_troubled(trouble));
            (Err(error), news)
        }
    };
    sessions.with(&id, |session| session.rounds += 1);
    // Whoever listens may ask for something that needs a token: what is as it was is not told again.
    if news {
        inner.events.accounts_changed();
    }
    outcome
}

struct Refresh<'a> {
    inner: &'a Arc<Inner>,
    account: Account,
    entry: String,
    provider: Provider,
    http: HttpClient,
    trace: &'a FlowTrace,
}

impl Refresh<'_> {
    async fn of(inner: &Arc<Inner>, account: Account, trace: &FlowTrace) -> Result<(), Trouble> {
        let entry = refresh_entry(&account);
        let (unsaved, renewable) = inner.accounts.sessions.with(&account.id, |session| {
            (session.unsaved_refresh_token.clone(), session.renewable)
        });
        // What could not be noted may be in the keychain all the same: it is looked for there.
        if !account.in_keychain && unsaved.is_none() && !renewable {
            return Err(Trouble::SignInNeeded(ReauthReason::SessionEnded));
        }
        let provider = provider_of(&account).map_err(Trouble::Offline)?;
        let settings = inner.settings.current();
        let http = inner
            .accounts
            .http
            .current(settings.extra_ca_file.as_deref());
        let http = http.map_err(|error| Trouble::Offline(error.into()))?;
        // Another process may refresh this very account: one at a time, each with what the
        // other one stored.
        let lock = RefreshLock::acquire(&inner.home.locks_folder(), &entry).await;
        let _lock = lock.map_err(Trouble::Offline)?;
        Refresh {
            inner,
            account,
            entry,
            provider,
            http,
            trace,
        }
        .run(unsaved)
        .await
    }

    async fn run(mut self, unsaved: Option<SecretText>) -> Result<(), Trouble> {
        let was_unsaved = unsaved.is_some();
        let refresh_token = match unsaved {
            Some(token) => token,
            None => self.stored().await?,
        };
        let secret_entry = client_secret_entry(&self.account.issuer, &self.account.client_id);
        let client_secret = self
            .inner
            .keychain
            .read(&secret_entry)
            .await
            .map_err(Trouble::Keychain)?;
        let metadata = self
            .inner
            .accounts
            .metadata
            .find(&self.http, &self.provider)
            .await
            .map_err(Trouble::Offline)?;
        let (tokens, used) = self
            .ask(&metadata, client_secret.as_ref(), refresh_token)
            .await?;
        self.trace.done(step::ROTATE);
        let kept = self.keep(&tokens, used, was_unsaved).await;
        if let Err(error) = &kept {
            // The only copy is in memory now; the refresh itself succeeded.
            self.trace.missed(step::REPLACE, error.code());
        }
        self.check(&tokens, &metadata)
            .await
            .map_err(Trouble::Offline)?;
        self.hand_out(tokens, metadata.clock_offset_ms, kept).await;
        Ok(())
    }

    /// The refresh token in the keychain. "No entry" counts only from a healthy keychain.
    async fn stored(&self) -> Result<SecretText, Trouble> {
        match self.inner.keychain.read(&self.entry).await {
            Ok(Some(token)) => Ok(token),
            Ok(None) => match self.inner.keychain.check().await {
                Ok(()) => Err(self.end(ReauthReason::GoneFromKeychain).await),
                Err(error) => Err(Trouble::Keychain(error)),
            },
            Err(error) => Err(Trouble::Keychain(error)),
        }
    }

    async fn ask(
        &self,
        metadata: &Metadata,
        client_secret: Option<&SecretText>,
        mut refresh_token: SecretText,
    ) -> Result<(Tokens, SecretText), Trouble> {
        let endpoint = TokenEndpoint {
            http: &self.http,
            metadata,
            client_id: &self.account.client_id,
            client_secret,
        };
        for last_try in [false, true] {
            match endpoint.refresh(&refresh_token).await {
                Ok(tokens) => return Ok((tokens, refresh_token)),
                Err(error) if is_invalid_grant(&error) => {
                    // Somebody without our lock (a restored backup, another tool) may have been faster.
                    let newer = self
                        .inner
                        .keychain
                        .read(&self.entry)
                        .await
                        .map_err(Trouble::Keychain)?;
                    match newer.filter(|token| !last_try && !token.matches(refresh_token.expose()))
                    {
                        Some(newer) => refresh_token = newer,
                        None => break,
                    }
                }
                Err(error) => return Err(Trouble::Offline(error)),
            }
        }
        Err(self.end(ReauthReason::EndedByProvider).await)
    }

    /// Writes the new refresh token before anything else is done with the answer (AC-083).
    async fn keep(
        &self,
        tokens: &Tokens,
        used: SecretText,
        was_unsaved: bool,
    ) -> Result<(), KeychainError> {
        let newest = tokens.refresh_token.clone().unwrap_or_else(|| used.clone());
        if !was_unsaved && newest.matches(used.expose()) {
            return Ok(());
        }
        let written = self.inner.keychain.write(&self.entry, &newest).await;
        let unsaved = written.is_err().then_some(newest);
        self.inner
            .accounts
            .sessions
            .with(&self.account.id, |session| {
                session.unsaved_refresh_token = unsaved
            });
        written
    }

    /// A refreshed ID token is for the same person (OpenID Connect Core §12.2).
    async fn check(&self, tokens: &Tokens, metadata: &Metadata) -> Result<(), SignInError> {
        let (Some(id_token), Some(jwks_uri)) = (&tokens.id_token, &metadata.jwks_uri) else {
            return Ok(());
        };
        let context = IdTokenContext {
            issuer: &self.provider.rule,
            client_id: &self.account.client_id,
            nonce: None,
            access_token: tokens.access_token.secret(),
            now_ms: now_ms(),
            clock_offset_ms: tokens.clock_offset_ms,
        };
        let token = verify_id_token(
            &self.http,
            &self.inner.accounts.keys,
            jwks_uri,
            id_token,
            &context,
        )
        .await?;
        if token.subject == self.account.subject {
            Ok(())
        } else {
            Err(SignInError::SubjectMismatch)
        }
    }

    async fn hand_out(
        &mut self,
        tokens: Tokens,
        clock_offset_ms: Option<i64>,
        kept: Result<(), KeychainError>,
    ) {
        let now = now_ms();
        self.account.last_refreshed_at = Some(now);
        self.account.in_keychain = kept.is_ok();
        if let Some(granted) = tokens.scopes {
            let asked = self
                .account
                .scopes
                .iter()
                .chain(&self.account.missing_scopes);
            self.account.missing_scopes = asked
                .filter(|scope| !granted.contains(scope))
                .cloned()
                .collect();
            self.account.scopes = granted;
        }
        let life = TokenLife::new(tokens.access_token, tokens.expires_in_s, now);
        self.inner
            .accounts
            .sessions
            .with(&self.account.id, |session| {
                session.renew(life, tokens.clock_offset_ms.or(clock_offset_ms));
                session.renewable = true;
                if let Err(error) = kept {
                    session.fail(Trouble::Keychain(error));
                }
            });
        self.note(self.account.clone(), AccountChange::Refreshed)
            .await;
    }

    /// The end of this sign-in: nothing of it stays in the keychain (AC-092).
    async fn end(&self, reason: ReauthReason) -> Trouble {
        if let Err(error) = self.inner.keychain.delete(&self.entry).await {
            tracing::warn!(
                code = error.code(),
                "a dead refresh token could not be deleted"
            );
        }
        let ended = Account {
            in_keychain: false,
            ..self.account.clone()
        };
        self.note(ended, AccountChange::ReauthRequired).await;
        Trouble::SignInNeeded(reason)
    }

    async fn note(&self, account: Account, change: AccountChange) {
        let noted: Result<(), AppError> = async {
            let registry = self.inner.registry.get().await?;
            Ok(registry
                .update_account(&Actor::keywright(), account, change)
                .await?)
        }
        .await;
        if let Err(error) = noted {
            tracing::warn!(code = error.code(), "an account's change was not noted");
        }
    }
}

/// The provider an account was signed in with.
pub(crate) fn provider_of(account: &Account) -> Result<Provider, SignInError> {
    let unknown = || {
        SignInError::InvalidRequest("Keywright does not know this account's provider.".to_owned())
    };
    Ok(Preset::find(&account.provider_id)
        .ok_or_else(unknown)?
        .provider(&account.issuer)?)
}
