//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that makes something is
//! carried out once under the name that its caller gave it. What was done is written down in the
//! transaction that does it, so that it holds on every node and after a crash before the answer.
//! Secrets are not stored: whoever asks again is told what was made, without its secret.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::audit::Actor;
use keywright_registry::{
    Claim, ClaimedRequest, Conditions, IdempotencyKey, LocalRegistry, RegistryError,
};
use serde::Serialize;
use serde_json::Value;

use crate::keys::rotate::idempotency_key;
use crate::problem::Problem;
use crate::server::App;

/// How often it is said that a request is still being carried out: several times in the half minute
/// after which another node takes it up.
const RENEW_EVERY: Duration = Duration::from_secs(8);
/// Tells a program that it sees what an earlier request did.
const REPLAYED: &str = "idempotency-replayed";

/// A request that may come again: what it asks for, and its name.
#[derive(Debug)]
pub(crate) struct Once<B> {
    /// What its caller named it by.
    pub(crate) name: Name,
    /// What it asks for.
    pub(crate) body: B,
}

/// What a caller named a request by, if anything, with a digest of what is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Name(Option<IdempotencyKey>);

/// What came of a request that may have been made before.
#[derive(Debug)]
pub(crate) enum Done<T> {
    /// It was done now.
    Now(T),
    /// It was done by an earlier request, which made what has this id.
    Before(String),
}

/// A request without a body.
#[derive(Debug)]
pub(crate) struct NoBody;

impl FromRequest<App> for NoBody {
    type Rejection = Problem;

    async fn from_request(_: Request, _: &App) -> Result<Self, Problem> {
        Ok(Self)
    }
}

impl<B> FromRequest<App> for Once<B>
where
    B: FromRequest<App>,
    B::Rejection: IntoResponse,
{
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let name = idempotency_key(request.headers()).map_err(IntoResponse::into_response)?;
        let Some(name) = name else {
            let body = B::from_request(request, app).await;
            let body = body.map_err(IntoResponse::into_response)?;
            let name = Name::default();
            return Ok(Self { name, body });
        };
        let (parts, body) = request.into_parts();
        let whole = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(whole, app).await;
        let bytes = bytes.map_err(IntoResponse::into_response)?;
        let request = digest(app, &parts, &bytes);
        let again = Request::from_parts(parts, Body::from(bytes));
        let body = B::from_request(again, app).await;
        Ok(Self {
            name: Name(Some(IdempotencyKey { name, request })),
            body: body.map_err(IntoResponse::into_response)?,
        })
    }
}

/// What is asked for, however its JSON was written. Under a key of this server: there may be a password
/// in it, which nobody who reads the database shall guess.
fn digest(app: &App, parts: &Parts, bytes: &[u8]) -> [u8; 32] {
    // Members of objects are sorted by it.
    let json = serde_json::from_slice::<Value>(bytes).and_then(|value| serde_json::to_vec(&value));
    let body = json.as_deref().unwrap_or(bytes);
    let query = parts.uri.query().unwrap_or("");
    app.secrets.tag(&[
        b"request under a name",
        parts.method.as_str().as_bytes(),
        parts.uri.path().as_bytes(),
        query.as_bytes(),
        body,
    ])
}

impl Name {
    /// The name of a request that is answered later: by another kind of answer it is another request,
    /// and the same name for both is refused.
    pub(crate) fn of_later(self, app: &App) -> Self {
        Self(self.0.map(|mut key| {
            key.request = app.secrets.tag(&[b"answered later", &key.request]);
            key
        }))
    }

    /// Id of what an earlier request made under this name, if one did: asked for again, it is no work.
    /// Whether it is done once is the write's to decide ([`Self::registry`]).
    ///
    /// # Errors
    /// 409 `idempotency_key_reused`, 409 `request_under_way`.
    pub(crate) async fn made_before(
        &self,
        app: &App,
        actor: &Actor,
    ) -> Result<Option<String>, RegistryError> {
        match &self.0 {
            None => Ok(None),
            Some(key) => app.registry.made_before(actor, key).await,
        }
    }

    /// The registry for the one write that the request is: done once, if the request has a name.
    pub(crate) fn registry(&self, app: &App, actor: &Actor) -> LocalRegistry {
        match &self.0 {
            None => app.registry.clone(),
            Some(_) => self.registry_under(app, actor, Conditions::default()),
        }
    }

    /// The same, if these conditions hold too.
    pub(crate) fn registry_under(
        &self,
        app: &App,
        actor: &Actor,
        conditions: Conditions,
    ) -> LocalRegistry {
        app.registry.under(match &self.0 {
            None => conditions,
            Some(key) => conditions.once(actor, key.clone()),
        })
    }

    /// Carries out what takes several writes, each of which may come twice, and answers with what
    /// came of it: a second time with the same. Nothing in `T` may be secret. What `is_done` says no
    /// to is not remembered, nor is a refusal: asked for again, it goes on.
    ///
    /// # Errors
    /// 409 `idempotency_key_reused`, 409 `request_under_way`; otherwise as the work.
    pub(crate) async fn answered<T: Serialize>(
        &self,
        app: &App,
        actor: &Actor,
        work: impl Future<Output = Result<T, Problem>>,
        is_done: impl Fn(&T) -> bool,
    ) -> Result<Response, Problem> {
        let Some(key) = &self.0 else {
            return shown(work.await);
        };
        let claimed = match app.registry.claim_request(actor, key).await? {
            Claim::Answered(answer) => return json(answer).map(replayed),
            Claim::Mine(claimed) => claimed,
        };
        let renewing = Renewing::start(app, claimed.clone());
        let came = work.await;
        drop(renewing);
        let view = match came {
            Ok(view) if is_done(&view) => view,
            came => {
                if let Err(error) = app.registry.drop_claim(&claimed).await {
                    // It ends by itself in half a minute.
                    tracing::warn!(code = error.code(), "a request stays under way");
                }
                return shown(came);
            }
        };
        let answer = text(&view)?;
        app.registry.answer_claim(&claimed, &answer).await?;
        json(answer)
    }
}

fn text(view: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(view).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        crate::problem::store_unavailable()
    })
}

fn shown<T: Serialize>(came: Result<T, Problem>) -> Result<Response, Problem> {
    json(text(&came?)?)
}

fn json(text: String) -> Result<Response, Problem> {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_TYPE, "application/json"),
    ];
    Ok((headers, text).into_response())
}

/// Says that an answer tells what an earlier request did.
pub(crate) fn replayed(mut response: Response) -> Response {
    let yes = HeaderValue::from_static("true");
    response.headers_mut().insert(REPLAYED, yes);
    response
}

/// Tells what was done now from what was done before.
///
/// # Errors
/// Whatever else went wrong.
pub(crate) fn done<T>(outcome: Result<T, RegistryError>) -> Result<Done<T>, RegistryError> {
    match outcome {
        Ok(now) => Ok(Done::Now(now)),
        Err(RegistryError::DoneBefore { made }) => Ok(Done::Before(made)),
        Err(error) => Err(error),
    }
}

/// What was made before is not there any more: 410, and nothing is made in its place.
pub(crate) fn gone(error: RegistryError) -> Problem {
    let problem = Problem::from(error);
    if problem.status != axum::http::StatusCode::NOT_FOUND {
        return problem;
    }
    let detail = "this was done before by the same request, and what it made was removed since";
    Problem::new(axum::http::StatusCode::GONE, "made_and_removed", detail)
}

/// Says every few seconds that a request is being carried out, until it is dropped.
struct Renewing(tokio::task::JoinHandle<()>);

impl Renewing {
    fn start(app: &App, claimed: ClaimedRequest) -> Self {
        let weak = std::sync::Arc::downgrade(app);
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let Some(app) = weak.upgrade() else { return };
                match app.registry.renew_claim(&claimed).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => tracing::warn!(code = error.code(), "a claim was not renewed"),
                }
            }
        }))
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
