//! Calls to the server's API with an account's access token: one refresh and one retry where the
//! server does not take it.

use std::sync::Arc;

use http::Method;
use keywright_domain::SecretText;
use keywright_domain::accounts::Account;
use keywright_protocol::sessions::EndedSessionsView;
use serde_json::Value;
use url::Url;

use super::{SessionsError, answers};

use crate::clock::now_ms;
use crate::http::{Answer, HttpClient};
use crate::sign_in::{KEYWRIGHT, ReauthReason, SignInError, tame};
use crate::tokens::refresh_now;
use crate::{AppError, Inner};

/// Pages of a list that are read; a person has a handful of sessions.
const MOST_PAGES: usize = 5;
const PAGE: &str = "100";

/// The API of an account's server.
pub(super) struct Api<'a> {
    inner: &'a Arc<Inner>,
    pub(super) account: Account,
    base: Url,
    http: HttpClient,
}

impl<'a> Api<'a> {
    /// Where the account's server has its API: below the issuer.
    pub(super) async fn of(inner: &'a Arc<Inner>, account_id: &str) -> Result<Self, AppError> {
        let account = inner.registry.get().await?.find_account(account_id).await?;
        let not_keywright = || SessionsError::NotKeywright(account.issuer.clone());
        // An access token goes to nobody but the server that gave it, and only where it is ours.
        if account.provider_id != KEYWRIGHT {
            return Err(not_keywright().into());
        }
        let issuer = account.issuer.trim_end_matches('/');
        let base = Url::parse(&format!("{issuer}/api/v1")).map_err(|_| not_keywright())?;
        let settings = inner.settings.current();
        let extra_ca = settings.extra_ca_file.as_deref();
        let http = inner.accounts.http.current(extra_ca);
        let http = http.map_err(SignInError::from)?;
        Ok(Self {
            inner,
            account,
            base,
            http,
        })
    }

    /// A whole list, page by page; and whether there is more than that.
    pub(super) async fn list<T>(
        &self,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<(Vec<T>, bool), AppError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut url = self.address(&[kind])?;
            url.query_pairs_mut().append_pair("limit", PAGE);
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let answer = self.ask(Method::GET, &url).await?;
            let page = self.document(&answer)?;
            let rows = page.get("items").and_then(Value::as_array);
            let rows = rows.ok_or_else(|| self.not_keywright())?;
            // One row that cannot be read makes the whole list doubtful: nothing is left out.
            for row in rows {
                items.push(read(row).ok_or_else(|| self.not_keywright())?);
            }
            cursor = page
                .get("next_cursor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if cursor.is_none() {
                return Ok((items, false));
            }
        }
        Ok((items, true))
    }

    /// Ends one thing.
    pub(super) async fn delete(&self, kind: &str, id: &str) -> Result<(), AppError> {
        // As a segment of a path these would be another address.
        if ["", ".", ".."].contains(&id) {
            return Err(SessionsError::Gone.into());
        }
        let url = self.address(&[kind, id])?;
        self.ask(Method::DELETE, &url).await.map(drop)
    }

    /// Ends all sessions but this device's.
    pub(super) async fn end_others(&self) -> Result<EndedSessionsView, AppError> {
        let url = self.address(&["sessions", "revoke-others"])?;
        let answer = self.ask(Method::POST, &url).await?;
        Ok(answers::ended(&self.document(&answer)?))
    }

    fn address(&self, segments: &[&str]) -> Result<Url, SessionsError> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.extend(segments);
            }
            Err(()) => return Err(self.not_keywright()),
        }
        Ok(url)
    }

    fn not_keywright(&self) -> SessionsError {
        SessionsError::NotKeywright(self.account.issuer.clone())
    }

    fn document(&self, answer: &Answer) -> Result<Value, SessionsError> {
        let document = serde_json::from_slice(&answer.body).ok();
        document
            .filter(|_| answer.is_json())
            .ok_or_else(|| self.not_keywright())
    }

    async fn ask(&self, method: Method, url: &Url) -> Result<Answer, AppError> {
        let mut token = self.token().await?;
        for last_try in [false, true] {
            let sent = self.http.ask(method.clone(), url, token.expose()).await;
            let answer = sent.map_err(SignInError::from)?;
            if answer.status != 401 {
                return self.judge(answer);
            }
            if last_try {
                break;
            }
            // The server may have ended it before its time; a new one says whether all is over.
            token = self.renew(&token).await?;
        }
        Err(SignInError::ReauthRequired(ReauthReason::EndedByProvider).into())
    }

    fn judge(&self, answer: Answer) -> Result<Answer, AppError> {
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        if answer.status == 429 || answer.status >= 500 {
            return Err(SignInError::ProviderUnavailable(answer.status).into());
        }
        // RFC 9457 with a stable code, or it is no server of ours.
        let problem = self.document(&answer)?;
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let code = text("code").ok_or_else(|| self.not_keywright())?;
        Err(match (answer.status, code) {
            (403, "insufficient_scope") => SessionsError::NotAllowed,
            (404, "session_not_found" | "application_not_found") => SessionsError::Gone,
            (404, _) => self.not_keywright(),
            (400, "no_session") => SessionsError::NoOwnSession,
            _ => SessionsError::Refused {
                code: tame(code, 60),
                detail: tame(text("detail").unwrap_or("no reason given"), 200),
            },
        }
        .into())
    }

    /// The access token in memory, or a new one.
    async fn token(&self) -> Result<SecretText, AppError> {
        match self.held() {
            Some(token) => Ok(token),
            None => self.refreshed().await,
        }
    }

    /// Another token than this one: somebody may have renewed it meanwhile.
    async fn renew(&self, old: &SecretText) -> Result<SecretText, AppError> {
        match self.held() {
            Some(token) if !token.matches(old.expose()) => Ok(token),
            _ => self.refreshed().await,
        }
    }

    async fn refreshed(&self) -> Result<SecretText, AppError> {
        refresh_now(self.inner, &self.account.id).await?;
        self.held()
            .ok_or_else(|| SignInError::ReauthRequired(ReauthReason::SessionEnded).into())
    }

    fn held(&self) -> Option<SecretText> {
        let sessions = &self.inner.accounts.sessions;
        sessions.with(&self.account.id, |session| {
            let life = session.life.as_ref();
            life.filter(|life| !life.is_over(now_ms()))
                .map(|life| life.token.secret().clone())
        })
    }
}
