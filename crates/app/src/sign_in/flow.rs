//! One sign-in from the request to the account: which step follows which, and what ends it.
//! Nothing is stored before everything is checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keywright_domain::SecretText;
use keywright_domain::accounts::Account;
use keywright_domain::flows::sign_in_step as step;
use keywright_protocol::accounts::{SignInProgressView, SignInRequest, SignInStep};
use keywright_protocol::settings::Settings;
use tokio::sync::oneshot;

use super::authorization::{Attempt, AuthorizationRequest};
use super::callback::{CallbackResult, Expectation, Inbox};
use super::discovery::Metadata;
use super::error::SignInError;
use super::exchange::{TokenEndpoint, Tokens, is_invalid_grant};
use super::loopback::{BoundPort, Listener};
use super::pages::Ending;
use super::pending::{PendingSignIn, SameSignIn};
use super::presets::{Kind, Provider};
use super::profile::Profile;
use super::redeem::{Check, give_back, redeem};
use super::request::CheckedRequest;
use crate::browser::open_url;
use crate::clock::now_ms;
use crate::flows::UntilOver;
use crate::http::HttpClient;
use crate::tokens::client_secret_entry;
use crate::{AppError, Inner};

/// A sign-in that passed every check and awaits storing.
pub(crate) struct SignedIn {
    pub(crate) provider: Provider,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<SecretText>,
    pub(crate) asked_scopes: Vec<String>,
    pub(crate) profile: Profile,
    pub(crate) identity_verified: bool,
    pub(crate) tokens: Tokens,
}

struct Flow<'a> {
    inner: &'a Arc<Inner>,
    settings: Settings,
    http: HttpClient,
    provider: Provider,
    client_id: String,
    client_secret: Option<SecretText>,
    scopes: Vec<String>,
    login_hint: Option<String>,
    /// The account that signs in again.
    account: Option<Account>,
    pending: Arc<PendingSignIn>,
    expires_at: i64,
    /// What happened, for who wants to see it. Nothing secret is told.
    trace: UntilOver,
}

/// Runs a sign-in to its end; `store` keeps the account once all is well.
pub(crate) async fn run<T, F>(
    inner: &Arc<Inner>,
    request: SignInRequest,
    account: Option<Account>,
    store: impl FnOnce(SignedIn) -> F,
) -> Result<T, AppError>
where
    F: Future<Output = Result<T, AppError>>,
{
    let CheckedRequest {
        provider,
        client_id,
        scopes,
    } = CheckedRequest::read(&request)?;
    let client_secret = client_secret(inner, &provider, &client_id, request.client_secret).await?;
    let settings = inner.settings.current();
    let http = inner
        .accounts
        .http
        .current(settings.extra_ca_file.as_deref())
        .map_err(SignInError::from)?;
    let same = SameSignIn {
        provider_id: provider.preset.id.to_owned(),
        issuer: provider.issuer.to_string(),
        client_id: client_id.clone(),
        account_id: request.account_id.clone(),
    };
    let registration = inner.accounts.pending.register(same).await;
    let flow = Flow {
        inner,
        http,
        trace: inner
            .flows
            .begin("authorization-code", provider.name())
            .until_over(),
        provider,
        client_id,
        client_secret,
        scopes,
        login_hint: request.login_hint,
        account,
        pending: Arc::clone(&registration.pending),
        expires_at: now_ms() + i64::from(settings.sign_in_timeout_s) * 1000,
        settings,
    };
    let result = flow.run(store).await;
    match &result {
        Ok(_) => flow.trace.succeeded(step::USERINFO),
        Err(error) => {
            tracing::info!(code = error.code(), "sign-in ended");
            flow.trace
                .failed(flow.failed_step(error), trace_code(error));
        }
    }
    flow.progress(SignInStep::Ended, None);
    result
}

/// The client secret that was typed, or the one that the keychain has of an earlier sign-in. A provider that
/// insists on one is not asked without: it would say so only after the person has been there.
async fn client_secret(
    inner: &Inner,
    provider: &Provider,
    client_id: &str,
    typed: Option<String>,
) -> Result<Option<SecretText>, AppError> {
    if let Some(typed) = typed.filter(|text| !text.is_empty()) {
        return Ok(Some(SecretText::new(typed)));
    }
    if !provider.preset.wants_client_secret {
        return Ok(None);
    }
    let entry = client_secret_entry(provider.issuer.as_str(), client_id);
    match inner.keychain.read(&entry).await? {
        Some(kept) => Ok(Some(kept)),
        None => {
            let why = format!(
                "{} wants a client secret, and none is kept for this client id.",
                provider.name()
            );
            Err(SignInError::InvalidRequest(why).into())
        }
    }
}

impl Flow<'_> {
    async fn run<T, F>(&self, store: impl FnOnce(SignedIn) -> F) -> Result<T, AppError>
    where
        F: Future<Output = Result<T, AppError>>,
    {
        // A registry that cannot be written is found out before anybody types a password.
        self.inner.registry.get().await?;
        self.progress(SignInStep::Discovering, None);
        let port = self.bind().await?;
        self.trace.done(step::LOGIN);
        let attempt = Attempt::new();
        self.trace.done(step::PKCE);
        let metadata = self
            .unless_cancelled(
                self.inner
                    .accounts
                    .metadata
                    .find(&self.http, &self.provider),
            )
            .await?;
        let redirect_uri = port.redirect_uri();
        let url = AuthorizationRequest {
            endpoint: &metadata.authorization_endpoint,
            client_id: &self.client_id,
            redirect_uri: &redirect_uri,
            scopes: &self.scopes,
            login_hint: self.login_hint.as_deref(),
            extra_parameters: self.provider.preset.extra_parameters,
            is_openid: self.provider.preset.kind == Kind::OpenId,
        }
        .url(&attempt)?;
        let (inbox, answer) = Inbox::new(Expectation {
            state: attempt.state.clone(),
            issuer: self.provider.rule.clone(),
            iss_required: metadata.answers_carry_iss,
            created_at: now_ms(),
            trace: Arc::clone(&*self.trace),
        });
        let inbox = Arc::new(inbox);
        let listener = port.serve(Arc::clone(&inbox));
        self.pending.waits_for(url.to_string(), inbox);
        let answered = self.wait_for_browser(url.to_string(), answer).await;
        let result = match answered {
            Ok(code) => {
                self.trace.done(step::ANSWER);
                self.finish(&code, &attempt, &redirect_uri, &metadata, store)
                    .await
            }
            Err(error) => Err(error.into()),
        };
        self.end_page(listener, &result).await;
        result
    }

    async fn bind(&self) -> Result<BoundPort, SignInError> {
        let fixed = self.settings.callback_port;
        if fixed.is_none() {
            return BoundPort::bind(None).await;
        }
        self.inner.accounts.pending.hurry_lingering();
        let started = Instant::now();
        loop {
            match BoundPort::bind(fixed).await {
                // The page of a sign-in that just ended may need a moment to let go.
                Err(_) if started.elapsed() < Duration::from_millis(400) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                bound => return bound,
            }
        }
    }

    async fn wait_for_browser(
        &self,
        url: String,
        answer: oneshot::Receiver<CallbackResult>,
    ) -> CallbackResult {
        self.progress(SignInStep::WaitingForBrowser, None);
        let browser = self.inner.accounts.browser();
        let opened = async {
            match open_url(browser, url).await {
                Ok(()) => self.trace.done(step::AUTHORIZE),
                Err(reason) => {
                    tracing::warn!("no browser could be opened");
                    self.trace.missed(step::AUTHORIZE, "browser_open_failed");
                    self.progress(SignInStep::BrowserNotOpened, Some(reason));
                }
            }
            std::future::pending::<CallbackResult>().await
        };
        let answered = async { answer.await.unwrap_or(Err(SignInError::LoginCancelled)) };
        tokio::select! {
            biased;
            error = self.pending.cancelled() => Err(error),
            answered = answered => answered,
            () = self.timeout() => Err(SignInError::LoginTimeout(self.settings.sign_in_timeout_s)),
            never = opened => never,
        }
    }

    /// Looks at both clocks, so that a computer that slept does not wait on for minutes.
    async fn timeout(&self) {
        let limit = Duration::from_secs(u64::from(self.settings.sign_in_timeout_s));
        let started = Instant::now();
        while started.elapsed() < limit && now_ms() < self.expires_at {
            let rest = limit.saturating_sub(started.elapsed());
            tokio::time::sleep(rest.min(Duration::from_millis(500))).await;
        }
    }

    async fn finish<T, F>(
        &self,
        code: &SecretText,
        attempt: &Attempt,
        redirect_uri: &str,
        metadata: &Metadata,
        store: impl FnOnce(SignedIn) -> F,
    ) -> Result<T, AppError>
    where
        F: Future<Output = Result<T, AppError>>,
    {
        // The app's end waits until what the provider gave is kept.
        let _work = self.inner.accounts.begin()?;
        self.progress(SignInStep::Exchanging, None);
        let endpoint = TokenEndpoint {
            http: &self.http,
            metadata,
            client_id: &self.client_id,
            client_secret: self.client_secret.as_ref(),
        };
        let tokens = self
            .unless_cancelled(redeem(&endpoint, code, attempt, redirect_uri))
            .await?;
        self.trace.done(step::EXCHANGE);
        let check = Check {
            endpoint: &endpoint,
            keys: &self.inner.accounts.keys,
            provider: &self.provider,
            nonce: &attempt.nonce,
            account: self.account.as_ref(),
        };
        let (profile, identity_verified) =
            match self.unless_cancelled(check.identity(&tokens)).await {
                Ok(checked) => checked,
                Err(error) => {
                    give_back(&endpoint, tokens).await;
                    return Err(error.into());
                }
            };
        self.trace.done(step::TOKENS);
        self.progress(SignInStep::Storing, None);
        store(SignedIn {
            provider: self.provider.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
            asked_scopes: self.scopes.clone(),
            profile,
            identity_verified,
            tokens,
        })
        .await
    }

    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, SignInError>>,
    ) -> Result<T, SignInError> {
        tokio::select! {
            biased;
            error = self.pending.cancelled() => Err(error),
            done = work => done,
        }
    }

    /// Tells the browser's page; a sign-in that ended without an answer closes its port first.
    async fn end_page<T>(&self, listener: Listener, result: &Result<T, AppError>) {
        let ending = match result {
            Ok(_) => Ending::Succeeded,
            Err(AppError::SignIn(
                SignInError::LoginCancelled
                | SignInError::LoginSuperseded
                | SignInError::LoginTimeout(_),
            )) => return listener.close().await,
            Err(AppError::SignIn(SignInError::AccessDenied)) => Ending::Declined,
            Err(_) => Ending::Failed,
        };
        let hurry = self.inner.accounts.pending.lingering();
        tokio::spawn(listener.finish(ending, hurry));
    }

    /// Where a sign-in ended: at what the error is about, else at the step after the last one done.
    fn failed_step(&self, error: &AppError) -> u8 {
        let AppError::SignIn(error) = error else {
            return self.trace.next();
        };
        match error {
            SignInError::AccessDenied | SignInError::LoginTimeout(_) => step::PERSON,
            // While the browser is asked for; the link may have been taken elsewhere. Before there is a
            // link nobody was sent anywhere.
            SignInError::LoginCancelled | SignInError::LoginSuperseded
                if self.pending.has_link() =>
            {
                self.trace.next().max(step::PERSON)
            }
            SignInError::LoginExpired
            | SignInError::IssuerMismatch
            | SignInError::InvalidCallback(_) => step::ANSWER,
            // By the browser, in place of a code.
            SignInError::ProviderRefused { .. } if self.trace.next() < step::EXCHANGE => {
                step::ANSWER
            }
            SignInError::InvalidTokenResponse(_) => step::TOKENS,
            SignInError::SubjectMismatch
            | SignInError::UserinfoFailed(_)
            | SignInError::AccountMismatch(_) => step::USERINFO,
            _ => self.trace.next(),
        }
    }

    fn progress(&self, step: SignInStep, browser_error: Option<String>) {
        self.inner.events.sign_in_progressed(SignInProgressView {
            sign_in_id: self.pending.id.clone(),
            step,
            provider_name: self.provider.name(),
            expires_at: self.expires_at,
            browser_error,
        });
    }
}

/// What is recorded of an error: never the provider's own text.
fn trace_code(error: &AppError) -> &'static str {
    match error {
        AppError::SignIn(refused) if is_invalid_grant(refused) => "invalid_grant",
        _ => error.code(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keywright_domain::SecretText;

    use super::client_secret;
    use crate::remote::tests::{Outcome, Quiet, app_with};
    use crate::sign_in::Preset;
    use crate::tokens::client_secret_entry;

    #[tokio::test]
    async fn ac_001_the_kept_client_secret_is_sent_unless_another_is_typed() -> Outcome {
        let folder = tempfile::tempdir()?;
        let app = app_with(folder.path(), Arc::new(Quiet))?;
        let google = Preset::find("google")
            .expect("it is a preset")
            .provider("")?;
        let entry = client_secret_entry(google.issuer.as_str(), "app");
        let kept = SecretText::new("kept".to_owned());
        app.inner.keychain.write(&entry, &kept).await?;
        for (typed, expected) in [(None, "kept"), (Some(""), "kept"), (Some("new"), "new")] {
            let typed = typed.map(str::to_owned);
            let sent = client_secret(&app.inner, &google, "app", typed).await?;
            assert!(sent.is_some_and(|sent| sent.matches(expected)));
        }
        // Of another client, and where none is wanted, none is sent.
        let other = client_secret(&app.inner, &google, "other", None).await;
        assert_eq!(other.expect_err("none is kept").code(), "invalid_request");
        let openid = Preset::find("openid").expect("it is a preset");
        let openid = openid.provider("https://id.example.com")?;
        let none = client_secret(&app.inner, &openid, "app", None).await?;
        assert!(none.is_none());
        Ok(())
    }
}
