//! Verification for services that hold a permission of their own: one key, or many in one call.

mod asked;
mod view;

use std::net::IpAddr;
use std::sync::LazyLock;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::api_keys::{Environment, PresentedKey};
use keywright_domain::scopes::Scope;
use keywright_registry::{Caller, Verification, VerifyRequest};
use serde::Deserialize;
use smallvec::{SmallVec, smallvec};

use super::bearer;
use super::issue::body;
use super::manager::{Manager, peppers, root_request};
use crate::http::Peer;
use crate::operations::verifications::{Door, Ending};
use crate::operations::{Outcome, RequestId};
use crate::problem::Problem;
use crate::server::App;
use asked::VerifyRef;
pub(crate) use asked::{Needs, VerifyAsk};
pub(crate) use view::VerifyAnswer;
use view::{VerifyMany, VerifyView};

const PERMISSION: &str = "keys:verify";
/// So many in one call.
const MOST: usize = 100;

/// Verifies one key or many. Needs `keys:verify`.
#[utoipa::path(
    post, path = "/api/v1/keys/verify", tag = "keys", request_body = VerifyAsk,
    responses((status = 200, description = "What came of it", body = VerifyAnswer), (status = 503, description = "The registry cannot answer: refuse the request"))
)]
pub(crate) async fn verify(
    State(app): State<App>,
    manager: Manager,
    RequestId(request_id): RequestId,
    given: Result<Json<VerifyAsk>, JsonRejection>,
) -> Result<Response, Problem> {
    manager.require(PERMISSION)?;
    let (asked, is_one) = match body(given)? {
        VerifyAsk::One(one) => (vec![*one], true),
        VerifyAsk::Many { keys } => (keys, false),
    };
    let asked: Vec<VerifyRef<'_>> = asked.iter().map(VerifyRef::from).collect();
    let needs = all_needs(&asked)?;
    let views = verify_all(&app, &asked, &needs).await;
    let mut views =
        views.inspect_err(|problem| app.operations.metrics.count_unanswered(Door::Api, problem))?;
    let outcome = outcome_of(&views, is_one);
    let text = text_of(&mut views, is_one, &request_id).ok_or_else(unwritten)?;
    Ok(outcome.beside(json_answer(HeaderMap::new(), Body::from(text))))
}

/// What each key is needed for.
fn all_needs(asked: &[VerifyRef<'_>]) -> Result<SmallVec<[Needs; 1]>, Problem> {
    if asked.len() > MOST {
        let detail = format!("at most {MOST} keys in one call");
        return Err(Problem::bad_request("too_many_keys", detail));
    }
    let mut needs = SmallVec::with_capacity(asked.len());
    for one in asked {
        needs.push(one.needs()?);
    }
    Ok(needs)
}

async fn verify_all<'a>(
    app: &App,
    asked: &[VerifyRef<'_>],
    needs: &[Needs],
) -> Result<Vec<VerifyView<'a>>, Problem> {
    let as_of = app.registry.seen_change();
    let peppers = peppers(app)?;
    let requests = asked.iter().zip(needs);
    let requests: Vec<_> = requests.map(|(one, needs)| one.request(needs)).collect();
    let (mut views, mut exposed) = (Vec::with_capacity(asked.len()), Vec::new());
    let mut awaited = app.operations.metrics.awaited(Door::Api, asked.len());
    let verified = app
        .registry
        .verify_api_keys(&requests, &peppers, |at, verification| {
            let in_url = asked.get(at).is_some_and(|one| one.in_url);
            let ending = match in_url {
                true => Ending::KeyInUrl,
                false => Ending::of(&verification.verdict),
            };
            awaited.ended(ending);
            if in_url {
                exposed.extend(verification.key_id);
                views.push(VerifyView::in_url(verification, as_of));
            } else {
                views.push(VerifyView::of(verification, as_of));
            }
            true
        });
    let verified = verified.await;
    awaited.answered();
    verified?;
    for id in exposed {
        flag(app, &id).await;
    }
    Ok(views)
}

/// One key or many, asked for with a root key: most of what is asked, without the router.
pub(crate) struct ByRootKey<'a> {
    root: &'a str,
    asked: SmallVec<[VerifyRef<'a>; 1]>,
    needs: SmallVec<[Needs; 1]>,
    is_one: bool,
}

/// [`VerifyAsk::Many`], as it is read when nothing else comes into question.
#[derive(Deserialize)]
struct ManyRef<'a> {
    #[serde(borrow)]
    keys: Vec<VerifyRef<'a>>,
}

impl<'a> ByRootKey<'a> {
    /// Whether these headers are of such a request, as far as they tell.
    pub(crate) fn fits(headers: &HeaderMap) -> bool {
        let kind = headers.get(header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind == "application/json")
            && !headers.contains_key(header::COOKIE)
            && !headers.contains_key("x-api-key")
            && headers.get_all(header::AUTHORIZATION).iter().count() == 1
    }

    /// Reads such a request; none if it is anything else, or not in order: who knows the other ways
    /// in also knows how to refuse. Nothing has been counted then.
    pub(crate) fn read(headers: &'a HeaderMap, body: &'a [u8]) -> Option<Self> {
        let (root, _) = bearer::find(headers).ok()??;
        PresentedKey::parse(root).ok()?;
        let (asked, is_one): (SmallVec<[VerifyRef<'_>; 1]>, _) = match serde_json::from_slice(body)
        {
            Ok(one) => (smallvec![one], true),
            Err(_) => {
                let many = serde_json::from_slice::<ManyRef<'_>>(body).ok()?;
                (SmallVec::from_vec(many.keys), false)
            }
        };
        // Rare, and something is written down then.
        if asked.iter().any(|one| one.in_url) {
            return None;
        }
        let needs = all_needs(&asked).ok()?;
        Some(Self {
            root,
            asked,
            needs,
            is_one,
        })
    }

    /// Answers it: the text of the answer's body, and what the log says of it.
    ///
    /// # Errors
    /// What the root key is refused for; 403 `insufficient_scope`; 503.
    pub(crate) async fn answer(
        &self,
        app: &App,
        peer: &Peer,
        headers: &HeaderMap,
        request_id: &str,
    ) -> Result<(Vec<u8>, Outcome), Problem> {
        static NEEDED: LazyLock<Option<Scope>> = LazyLock::new(|| Scope::new(PERMISSION).ok());
        let may = |root: &Verification| {
            let held = root.scopes.as_deref().zip(NEEDED.as_ref());
            root.verdict.is_ok() && held.is_some_and(|(held, needed)| held.covers(needed))
        };
        let as_of = app.registry.seen_change();
        let peppers = peppers(app)?;
        let mut requests: SmallVec<[VerifyRequest<'_>; 2]> =
            SmallVec::with_capacity(1 + self.asked.len());
        requests.push(root_request(self.root, headers, peer));
        let asked = self.asked.iter().zip(&self.needs);
        requests.extend(asked.map(|(one, needs)| one.request(needs)));
        let mut views: SmallVec<[VerifyView<'_>; 1]> = SmallVec::with_capacity(self.asked.len());
        // The root key first: what it may not ask for is not looked at.
        let mut root = None;
        let registry = &app.registry;
        // Whoever may not ask has nothing verified.
        let mut awaited = app.operations.metrics.awaited(Door::Api, 0);
        let verified = registry.verify_api_keys(&requests, &peppers, |at, one| {
            if at > 0 {
                awaited.ended(Ending::of(&one.verdict));
                views.push(VerifyView::of(one, as_of));
                return true;
            }
            let goes_on = may(&one);
            if goes_on {
                awaited.expect(self.asked.len());
            }
            root = Some((!goes_on).then_some(one));
            goes_on
        });
        let verified = verified.await;
        awaited.answered();
        verified?;
        match root {
            Some(None) => {}
            Some(Some(root)) => {
                return Err(match &root.verdict {
                    Err(refusal) => bearer::refusal(refusal, &root, app.now()),
                    Ok(()) => Problem::insufficient_scope(PERMISSION),
                });
            }
            None => return Err(crate::problem::store_unavailable()),
        }
        let outcome = outcome_of(&views, self.is_one);
        let text = text_of(&mut views, self.is_one, request_id).ok_or_else(unwritten)?;
        Ok((text, outcome))
    }
}

/// What the log says of an answer.
fn outcome_of(views: &[VerifyView<'_>], is_one: bool) -> Outcome {
    match views {
        [view] if is_one => view.outcome(),
        views => Outcome {
            keys: Some(views.len()),
            ..Outcome::default()
        },
    }
}

/// An answer that could not be written: none of our views can fail so.
fn unwritten() -> Problem {
    let detail =
        "something is wrong with the server: tell whoever runs it, with the id in X-Request-Id";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail)
}

/// The body of an answer.
fn text_of<'a>(views: &mut [VerifyView<'a>], is_one: bool, request_id: &'a str) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(512 * views.len().max(1));
    let written = match views {
        [view] if is_one => {
            view.request_id = Some(request_id);
            serde_json::to_writer(&mut text, view)
        }
        results => {
            let many = VerifyMany {
                results,
                request_id,
            };
            serde_json::to_writer(&mut text, &many)
        }
    };
    if let Err(error) = &written {
        tracing::error!(%error, "an answer could not be written");
    }
    written.is_ok().then_some(text)
}

/// JSON that no cache keeps. `headers` is where its headers find room.
pub(crate) fn json_answer<B>(mut headers: HeaderMap, body: B) -> Response<B> {
    // Room for what every answer has.
    headers.reserve(12);
    let kind = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// Code of a key in a URL.
const KEY_IN_URL: &str = "key_in_url";

/// The text of the environment in which no key is: a verification against it finds the key and stops
/// before anything is counted.
const NOWHERE: &str = "in-a-url";

/// Refuses a request that has something in its URL that may be a key. Those that are keys are flagged.
pub(crate) async fn refused_in_url(app: &App, texts: &[SecretText], address: IpAddr) -> Problem {
    flag_exposed(app, texts, address).await;
    Problem::bad_request(
        KEY_IN_URL,
        "a key in a URL is in logs and histories by now: send it in a header, and rotate it",
    )
}

/// Keys that were seen in a URL are flagged, if they are real: anybody can write a known kid with a
/// made-up secret into an address.
async fn flag_exposed(app: &App, texts: &[SecretText], address: IpAddr) {
    let (Ok(peppers), Ok(nowhere)) = (peppers(app), Environment::new(NOWHERE)) else {
        return;
    };
    for text in texts.iter().take(3) {
        // Nobody's: a made-up text is no failure of whoever was led to such an address.
        if PresentedKey::parse(text.expose()).is_err() && !app.registry.has_foreign_keys() {
            continue;
        }
        let request = VerifyRequest {
            presented: text.expose(),
            environment: Some(&nowhere),
            caller: Caller {
                address: Some(address),
                ..Caller::default()
            },
            ..VerifyRequest::default()
        };
        let found = match app.registry.verify_api_key(&request, &peppers).await {
            Ok(found) => found,
            Err(error) => {
                let code = error.code();
                tracing::warn!(
                    code,
                    "a text in an address was not looked up: it is not flagged, should it be a key"
                );
                continue;
            }
        };
        if let Some(id) = found.key_id {
            flag(app, &id).await;
        }
    }
}

/// Notes that a key was in a URL; its owner is told. Once for its secrets of now: what is noted already stays as it is.
async fn flag(app: &App, id: &str) {
    // Anybody who has a key can ask so as often as they like, and the writer is everybody's.
    if !crate::sessions::is_due(app, id, KEY_IN_URL) {
        return;
    }
    let actor = crate::Server::actor();
    let marked = app.registry.mark_api_key_exposed(&actor, id, "a URL");
    if let Err(error) = marked.await {
        tracing::warn!(
            code = error.code(),
            key = id,
            "an exposed key was not flagged"
        );
    }
}
