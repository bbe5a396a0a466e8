//! Calls to a registry's API with somebody's access token: bounded in time, one new token where the
//! server does not take the one we hold, one repetition where doing it twice does no harm.

use std::future::Future;
use std::time::Duration;

use http::Method;
use keywright_domain::SecretText;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::error::{RemoteError, is_offline, of_credentials, takes_back};
use super::{Known, RemoteRegistry};
use crate::AppError;
use crate::clock::now_ms;
use crate::http::{Answer, ApiRequest, HttpError};
use crate::sign_in::{ReauthReason, SignInError};

/// A person waits for a list; a change may wait for a busy database.
const READ_LIMIT: Duration = Duration::from_secs(8);
const WRITE_LIMIT: Duration = Duration::from_secs(15);
/// Where something else can be shown meanwhile, nobody waits longer.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

/// Whose access token goes along.
pub trait Credentials: Clone + Send + Sync + 'static {
    /// An access token; another one than `spent`, which the server did not take.
    ///
    /// # Errors
    /// [`AppError`] if there is none to be had.
    fn token(
        &self,
        spent: Option<&SecretText>,
    ) -> impl Future<Output = Result<SecretText, AppError>> + Send;

    /// The server answers again after it was away.
    fn is_back(&self) {}
}

/// One call.
pub(super) struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<Zeroizing<Vec<u8>>>,
    repeatable: bool,
    outcome_matters: bool,
    renews: Option<&'a [&'a str]>,
    kept: bool,
    limit: Duration,
}

impl<'a> Call<'a> {
    /// A question.
    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            repeatable: true,
            outcome_matters: false,
            renews: None,
            kept: true,
            limit: READ_LIMIT,
        }
    }

    /// Something that is done again by asking again.
    pub(super) fn post(path: &'a [&'a str]) -> Self {
        Self {
            method: Method::POST,
            repeatable: false,
            limit: WRITE_LIMIT,
            ..Self::get(path)
        }
    }

    /// With another method.
    pub(super) fn by(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Doing it twice does no harm.
    pub(super) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Doing it twice does no harm; but where no answer came, somebody must be told that it may have
    /// been done, and not that nothing was changed.
    pub(super) fn repeatable_if_told(mut self) -> Self {
        self.repeatable = true;
        self.outcome_matters = true;
        self
    }

    /// Its answer is what a question for this path is answered with from now on.
    pub(super) fn renews(mut self, path: &'a [&'a str]) -> Self {
        self.renews = Some(path);
        self
    }

    /// Not what somebody waits for, but what is shown with it: it holds nothing up for long.
    pub(super) fn beside(mut self) -> Self {
        self.limit = SHORT_LIMIT;
        self
    }

    /// Its answer is not kept for the time when the server is away.
    pub(super) fn once(mut self) -> Self {
        self.kept = false;
        self
    }

    /// With parameters.
    pub(super) fn query(mut self, query: Vec<(&'static str, String)>) -> Self {
        self.query = query;
        self
    }

    /// With a header.
    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With JSON. Where it cannot be written there is none, and the server refuses.
    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).ok().map(Zeroizing::new);
        self
    }

    /// Whether no answer is something else than nothing done.
    fn may_be_unknown(&self) -> bool {
        !self.repeatable || self.outcome_matters
    }
}

impl<C: Credentials> RemoteRegistry<C> {
    /// Asks for something, and remembers the answer; without one, what was answered last. What the server
    /// says is gone, or not this person's to see, is not remembered any more.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<Known<T>, AppError> {
        let url = self.address(&call)?;
        let asked = self.ask(call, &url).await;
        if let Err(error) = &asked
            && takes_back(error)
        {
            self.kept.forget(url.path()).await;
        }
        asked
    }

    /// The same for what need not be there. That there is none is an answer too, and remembered.
    pub(super) async fn read_if_there<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        is_none: fn(&AppError) -> bool,
    ) -> Result<Known<Option<T>>, AppError> {
        let url = self.address(&call)?;
        let generation = self.kept.generation();
        match self.ask(call, &url).await {
            Err(error) if is_none(&error) => {
                let name = name(&url);
                self.kept.remember(generation, &name, NONE, now_ms()).await;
                Ok(Known::fresh(None))
            }
            Err(error) if takes_back(&error) => {
                self.kept.forget(url.path()).await;
                Err(error)
            }
            asked => asked,
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        mut call: Call<'_>,
        url: &Url,
    ) -> Result<Known<T>, AppError> {
        let name = name(url);
        let generation = self.kept.generation();
        let mut known = self.remembered(&name);
        let is_beside = call.limit == SHORT_LIMIT;
        let is_kept = call.kept;
        // Asked a moment ago in vain: nobody waits for it again for every part of a page.
        if self.kept.is_resting() {
            if let Some(known) = known.take() {
                return Ok(known);
            }
            if is_beside {
                return Err(self.silent());
            }
        }
        if known.is_some() && self.kept.offline_since().is_some() {
            call.limit = SHORT_LIMIT;
        }
        match self.send(call, url).await {
            Ok(answer) => {
                let value = self.document(&answer)?;
                if is_kept {
                    let now = now_ms();
                    self.kept
                        .remember(generation, &name, &answer.body, now)
                        .await;
                }
                Ok(Known { value, as_of: None })
            }
            Err(error) if is_offline(&error) => known.ok_or(error),
            Err(error @ AppError::Remote(RemoteError::Busy { .. })) if is_beside => {
                known.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// There is none of this any more, by our own doing.
    pub(super) async fn remember_none(&self, path: &[&str]) {
        if let Ok(url) = self.address(&Call::get(path)) {
            self.kept.renew(&name(&url), NONE, now_ms()).await;
        }
    }

    /// What was answered last to a question; asks nobody.
    pub(super) fn recall<T: DeserializeOwned>(&self, call: &Call<'_>) -> Option<Known<T>> {
        self.remembered(&name(&self.address(call).ok()?))
    }

    fn remembered<T: DeserializeOwned>(&self, name: &str) -> Option<Known<T>> {
        let (at, text) = self.kept.recall(name)?;
        let value = serde_json::from_str(&text).ok()?;
        Some(Known {
            value,
            as_of: Some(at),
        })
    }

    /// Does something.
    pub(super) async fn write<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, AppError> {
        let (_, value) = self.write_with_status(call).await?;
        Ok(value)
    }

    /// Does something; with the status of the answer.
    pub(super) async fn write_with_status<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<(u16, T), AppError> {
        let url = self.address(&call)?;
        let renewed = call.renews.map(Call::get);
        let renewed = renewed.map(|call| self.address(&call)).transpose()?;
        self.check_way().await?;
        let answer = self.send(call, &url).await?;
        let value = self.document(&answer)?;
        if let Some(renewed) = renewed {
            self.kept
                .renew(&name(&renewed), &answer.body, now_ms())
                .await;
        }
        Ok((answer.status, value))
    }

    /// Nothing is sent into the dark: what may or may not arrive later is worse than a refusal. A server
    /// that was away is asked a question first.
    async fn check_way(&self) -> Result<(), AppError> {
        if self.kept.offline_since().is_none() {
            return Ok(());
        }
        if self.kept.is_resting() {
            return Err(self.silent());
        }
        let question = Call::get(&["scopes"]);
        let url = self.address(&question)?;
        match self.send(question, &url).await {
            Err(error) if is_offline(&error) => Err(error),
            // Whatever it says, it is there.
            _ => Ok(()),
        }
    }

    fn silent(&self) -> AppError {
        RemoteError::Offline {
            host: self.host.clone(),
            detail: "it did not answer a moment ago".to_owned(),
        }
        .into()
    }

    /// Does something that is answered without words (RFC 9110 §15.3.5).
    pub(super) async fn tell(&self, call: Call<'_>) -> Result<(), AppError> {
        let url = self.address(&call)?;
        self.check_way().await?;
        match self.send(call, &url).await?.status {
            204 => Ok(()),
            _ => Err(self.not_keywright()),
        }
    }

    async fn send(&self, call: Call<'_>, url: &Url) -> Result<Answer, AppError> {
        let limit = call.limit;
        // Whom nobody waited for may be slow, and is not away for that.
        let hurried = limit == SHORT_LIMIT && self.kept.offline_since().is_none();
        let may_be_unknown = call.may_be_unknown();
        let sent = tokio::time::timeout(limit, self.exchange(call, url)).await;
        let says_nothing = hurried && sent.is_err();
        let sent = match sent {
            Ok(sent) => sent,
            Err(_elapsed) if !may_be_unknown => Err(RemoteError::Offline {
                host: self.host.clone(),
                detail: "it did not answer in time".to_owned(),
            }
            .into()),
            Err(_elapsed) => Err(RemoteError::OutcomeUnknown(self.host.clone()).into()),
        };
        match &sent {
            Ok(_) => {
                if self.kept.answered(now_ms()) {
                    self.credentials.is_back();
                }
            }
            // It answered: others need not wait for it.
            Err(AppError::Remote(RemoteError::Faulty { .. })) => {}
            Err(error) if is_offline(error) && !says_nothing => self.kept.failed(now_ms()),
            Err(_) => {}
        }
        sent
    }

    async fn bearer(&self, spent: Option<&SecretText>) -> Result<SecretText, AppError> {
        self.credentials.token(spent).await.map_err(of_credentials)
    }

    async fn exchange(&self, call: Call<'_>, url: &Url) -> Result<Answer, AppError> {
        let mut bearer = self.bearer(None).await?;
        let (mut renewed, mut repeated) = (false, false);
        loop {
            let request = ApiRequest {
                method: call.method.clone(),
                url,
                bearer: bearer.expose(),
                headers: &call.headers,
                body: call.body.as_ref().map(|body| body.as_slice()),
            };
            match self.http.call(request).await {
                Ok(answer) if answer.status == 401 && !renewed => {
                    renewed = true;
                    bearer = self.bearer(Some(&bearer)).await?;
                }
                Ok(answer) => return self.judge(answer, call.may_be_unknown(), repeated),
                // A connection that had been idle may be dead: a fresh one is worth a try.
                Err(HttpError::Network { sent: true, .. }) if call.repeatable && !repeated => {
                    repeated = true;
                }
                // What was sent before may have been done, although this was not even sent.
                Err(_) if repeated && call.may_be_unknown() => {
                    return Err(RemoteError::OutcomeUnknown(self.host.clone()).into());
                }
                Err(error) => {
                    return Err(RemoteError::of_way(error, !call.may_be_unknown()).into());
                }
            }
        }
    }

    /// `repeated`: the same was sent before, and no answer came.
    fn judge(
        &self,
        answer: Answer,
        may_be_unknown: bool,
        repeated: bool,
    ) -> Result<Answer, AppError> {
        let host = self.host.clone();
        Err(match answer.status {
            200..=299 => return Ok(answer),
            401 => SignInError::ReauthRequired(ReauthReason::EndedByProvider).into(),
            429 | 503 if may_be_unknown && repeated => RemoteError::OutcomeUnknown(host).into(),
            429 => RemoteError::Busy { host }.into(),
            503 if may_be_unknown && says_unknown(&answer) => {
                RemoteError::OutcomeUnknown(host).into()
            }
            // It says that it did nothing (RFC 9110 §15.6.4); others may have been cut off half-way.
            503 => self.away(answer.status),
            500..=599 if may_be_unknown => RemoteError::OutcomeUnknown(host).into(),
            // Whoever stands before it did not reach it.
            502 | 504 => self.away(answer.status),
            status @ 500..=599 => RemoteError::Faulty { host, status }.into(),
            404 if !answer.is_json() => RemoteError::NoSuchRoute(host).into(),
            status => {
                let problem: Value = self.document(&answer)?;
                RemoteError::of_problem(status, &problem)
                    .unwrap_or(RemoteError::NotKeywright(host))
                    .into()
            }
        })
    }

    fn away(&self, status: u16) -> AppError {
        RemoteError::Offline {
            host: self.host.clone(),
            detail: format!("it answered with status {status}"),
        }
        .into()
    }

    fn document<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, AppError> {
        let document = serde_json::from_slice(&answer.body).ok();
        document
            .filter(|_| answer.is_json())
            .ok_or_else(|| self.not_keywright())
    }

    /// What answers is no registry, or one that says what no registry says.
    pub(super) fn not_keywright(&self) -> AppError {
        RemoteError::NotKeywright(self.host.clone()).into()
    }

    fn address(&self, call: &Call<'_>) -> Result<Url, AppError> {
        // As segments of a path these would be another address.
        if call.path.iter().any(|part| ["", ".", ".."].contains(part)) {
            return Err(keywright_registry::RegistryError::KeyNotFound.into());
        }
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.extend(call.path);
            }
            Err(()) => return Err(self.not_keywright()),
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Ok(url)
    }
}

/// Whether the server itself does not know: its commit was lost, or it gave up waiting.
fn says_unknown(answer: &Answer) -> bool {
    let problem: Option<Value> = serde_json::from_slice(&answer.body).ok();
    problem.is_some_and(|problem| {
        problem["code"] == "commit_unknown" || problem["code"] == "timed_out"
    })
}

/// How it is written down that there is none.
const NONE: &[u8] = b"null";

/// Under which an answer is remembered: the registry is one, so its address is left out.
fn name(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}
