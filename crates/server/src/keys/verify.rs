//! Verification for services that hold a permission of their own: one key, or many in one call.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::SecretText;
use keywright_domain::api_keys::{
    Environment, KeyType, PresentedKey, RateLimit, Refusal, find_keys,
};
use keywright_domain::scopes::{Scope, ScopeRequirement, ScopeSet};
use keywright_registry::{Caller, Verification, VerifyRequest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::bearer;
use super::issue::body;
use super::manager::{Manager, peppers, root_request};
use crate::http::Peer;
use crate::operations::verifications::{Door, Ending};
use crate::operations::{Outcome, RequestId};
use crate::problem::Problem;
use crate::server::App;

const PERMISSION: &str = "keys:verify";
/// So many in one call.
const MOST: usize = 100;
/// No key is longer; foreign ones have room.
const LONGEST: usize = 512;

/// A key that somebody presented to a service, and what it is needed for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyBody {
    /// The whole key.
    #[schema(value_type = String)]
    #[serde(deserialize_with = "secret_text")]
    key: SecretText,
    /// A scope, or scopes joined by `and`, `or` and parentheses.
    requirement: Option<String>,
    /// The environment that the resource belongs to.
    environment: Option<String>,
    /// Types that may do this: `secret`, `publishable`, `root`, `custom`; empty for all.
    #[serde(default)]
    key_types: Vec<String>,
    /// What it counts for on rate limits; 1 if it is left out.
    cost: Option<u32>,
    /// Credits it takes; 1 if it is left out.
    credits: Option<u32>,
    /// Where the request came from.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// Its `Origin`.
    origin: Option<String>,
    /// Its `User-Agent`.
    agent: Option<String>,
    /// Which part of the service, for example `GET /orders`.
    route: Option<String>,
    /// What the client calls itself.
    client_label: Option<String>,
    /// It was in the address of a request: it is flagged and its owner told, nothing is counted, and the answer is
    /// the refusal `key_in_url`. What stands around the key may stand here too.
    #[serde(default)]
    in_url: bool,
}

fn secret_text<'de, D: Deserializer<'de>>(given: D) -> Result<SecretText, D::Error> {
    String::deserialize(given).map(SecretText::new)
}

impl VerifyBody {
    /// What the key is needed for.
    fn needs(&self) -> Result<Needs, Problem> {
        let types = self.key_types.iter().map(String::as_str);
        let needs = Needs::read(
            self.requirement.as_deref(),
            self.environment.as_deref(),
            types,
        )?;
        if self.key.expose().len() > LONGEST {
            return Err(Problem::bad_request("key_too_long", "no key is so long"));
        }
        if self.in_url {
            return Ok(Needs {
                requirement: None,
                environment: Environment::new(NOWHERE).ok(),
                key_types: Vec::new(),
            });
        }
        Ok(needs)
    }

    /// What is presented: of an address, the key that is found in it.
    fn presented(&self) -> &str {
        let text = self.key.expose();
        let found = self.in_url.then(|| find_keys(text).next()).flatten();
        found
            .and_then(|found| text.get(found.range))
            .unwrap_or(text)
    }

    fn request<'a>(&'a self, needs: &'a Needs) -> VerifyRequest<'a> {
        VerifyRequest {
            presented: self.presented(),
            requirement: needs.requirement.as_ref(),
            environment: needs.environment.as_ref(),
            key_types: &needs.key_types,
            cost: self.cost,
            credits: self.credits,
            caller: Caller {
                address: self.address,
                origin: self.origin.as_deref(),
                agent: self.agent.as_deref(),
                route: self.route.as_deref(),
                client_label: self.client_label.as_deref(),
            },
        }
    }
}

impl std::fmt::Debug for VerifyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyBody").finish_non_exhaustive()
    }
}

/// One key, or many.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum VerifyAsk {
    /// Many: each is judged by itself.
    Many {
        /// At most 100.
        keys: Vec<VerifyBody>,
    },
    /// One.
    One(Box<VerifyBody>),
}

/// What came of a verification. Always 200: a refusal is an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerifyView {
    /// Whether a request with this key is let through.
    valid: bool,
    /// `valid`, or why not; treat an unknown code as a refusal.
    code: &'static str,
    /// The key's id, once its secret matched.
    key_id: Option<String>,
    /// Public id of the secret.
    kid: Option<String>,
    /// Id of its owner, once its secret matched.
    #[schema(value_type = Option<String>)]
    #[serde(serialize_with = "as_text")]
    owner: Option<Arc<str>>,
    /// What it may do now.
    #[schema(value_type = Vec<String>)]
    #[serde(serialize_with = "as_texts")]
    scopes: Option<Arc<ScopeSet>>,
    /// Until when this secret works, when it is on its way out (Unix ms).
    retires_at: Option<i64>,
    /// When it ends by itself (Unix ms).
    expires_at: Option<i64>,
    /// Scopes that would do, where they are missing.
    missing_scopes: Vec<String>,
    /// The limit that is reached.
    limit: Option<String>,
    /// When it is worth trying again, in milliseconds.
    retry_after_ms: Option<i64>,
    /// The limit that `limit_left` speaks of, where the key has limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_policy: Option<LimitPolicyView>,
    /// Requests left on the narrowest limit, or on the one that is reached.
    limit_left: Option<u32>,
    /// When that limit is whole again, in milliseconds.
    limit_reset_ms: Option<u64>,
    /// Credits left, where the key has credits.
    credits_left: Option<i64>,
    /// When credits come back, where none are left (Unix ms).
    refill_at: Option<i64>,
    /// Every single use counts (limits, credits, one use, bait): ask again for the next request.
    every_use_counts: bool,
    /// Every change up to this one of `/api/v1/events` is taken into account: who remembers this answer
    /// forgets it when a later one names the key.
    as_of: i64,
    /// The request that was answered, as in `X-Request-Id`; of many keys it stands beside the results.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// What a limit allows: what a service says in `RateLimit-Policy`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitPolicyView {
    name: String,
    /// Requests a period.
    count: u32,
    period_ms: u32,
    /// Requests beyond them that may come at once.
    burst: u32,
}

impl From<&RateLimit> for LimitPolicyView {
    fn from(limit: &RateLimit) -> Self {
        Self {
            name: limit.name().to_owned(),
            count: limit.count(),
            period_ms: limit.period_ms(),
            burst: limit.burst(),
        }
    }
}

fn as_text<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

fn as_texts<S: Serializer>(
    scopes: &Option<Arc<ScopeSet>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let scopes = scopes.as_deref().map_or(&[][..], ScopeSet::as_slice);
    serializer.collect_seq(scopes.iter().map(Scope::as_str))
}

impl VerifyView {
    /// Of a key that was in an address: which it is, where it is one, and nothing of what it may do.
    fn in_url(verification: Verification, as_of: i64) -> Self {
        Self {
            valid: false,
            code: KEY_IN_URL,
            scopes: None,
            missing_scopes: Vec::new(),
            limit: None,
            retry_after_ms: None,
            every_use_counts: true,
            ..Self::of(verification, as_of)
        }
    }

    fn of(verification: Verification, as_of: i64) -> Self {
        let (mut missing, mut limit, mut retry) = (Vec::new(), None, None);
        let mut refill = None;
        match &verification.verdict {
            Err(Refusal::InsufficientScope(scopes)) => {
                missing = scopes.iter().map(|one| one.as_str().to_owned()).collect();
            }
            Err(Refusal::RateLimited {
                limit: name,
                retry_after_ms,
            }) => {
                limit = Some(name.clone());
                retry = Some(*retry_after_ms);
            }
            Err(Refusal::CreditsExhausted { refill_at }) => refill = *refill_at,
            _ => {}
        }
        Self {
            valid: verification.verdict.is_ok(),
            code: verification.code(),
            scopes: verification.scopes,
            key_id: verification.key_id,
            kid: verification.kid,
            owner: verification.owner,
            retires_at: verification.retires_at,
            expires_at: verification.expires_at,
            missing_scopes: missing,
            limit,
            retry_after_ms: retry,
            limit_policy: verification.limit.as_ref().map(LimitPolicyView::from),
            limit_left: verification.limit_left,
            limit_reset_ms: verification.limit_reset_ms,
            credits_left: verification.credits_left,
            refill_at: refill,
            every_use_counts: verification.every_use_counts,
            as_of,
            request_id: None,
        }
    }
}

/// What many keys came to, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerifyMany {
    results: Vec<VerifyView>,
    /// The request that was answered, as in `X-Request-Id`.
    request_id: String,
}

/// One answer, or as many as there were keys: how the OpenAPI document has it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum VerifyAnswer {
    /// Of one key.
    One(Box<VerifyView>),
    /// Of many.
    Many(VerifyMany),
}

/// A requirement, an environment and types, read once.
#[derive(Debug)]
pub(crate) struct Needs {
    pub(crate) requirement: Option<ScopeRequirement>,
    pub(crate) environment: Option<Environment>,
    pub(crate) key_types: Vec<KeyType>,
}

impl Needs {
    /// Reads what a caller wrote.
    ///
    /// # Errors
    /// 400: a service that asks for something unreadable must not be told "valid".
    pub(crate) fn read<'a>(
        requirement: Option<&str>,
        environment: Option<&str>,
        key_types: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Problem> {
        let requirement = requirement.map(ScopeRequirement::parse).transpose();
        let environment = environment.map(Environment::new).transpose();
        let types: Option<Vec<_>> = key_types.map(KeyType::parse).collect();
        Ok(Self {
            requirement: requirement
                .map_err(|error| Problem::bad_request(error.code(), error.to_string()))?,
            environment: environment
                .map_err(|error| Problem::bad_request(error.code(), error.to_string()))?,
            key_types: types.ok_or_else(|| {
                let detail = "a key type is secret, publishable, root or custom";
                Problem::bad_request("invalid_key_type", detail)
            })?,
        })
    }
}

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
    let needs = all_needs(&asked)?;
    let views = verify_all(&app, &asked, &needs).await;
    let views =
        views.inspect_err(|problem| app.operations.metrics.count_unanswered(Door::Api, problem))?;
    let (response, outcome) = answered(views, is_one, request_id);
    Ok(outcome.beside(response))
}

/// What each key is needed for.
fn all_needs(asked: &[VerifyBody]) -> Result<Vec<Needs>, Problem> {
    if asked.len() > MOST {
        let detail = format!("at most {MOST} keys in one call");
        return Err(Problem::bad_request("too_many_keys", detail));
    }
    asked.iter().map(VerifyBody::needs).collect()
}

async fn verify_all(
    app: &App,
    asked: &[VerifyBody],
    needs: &[Needs],
) -> Result<Vec<VerifyView>, Problem> {
    let as_of = app.registry.seen_change();
    let peppers = peppers(app)?;
    let requests = asked.iter().zip(needs);
    let requests: Vec<_> = requests.map(|(one, needs)| one.request(needs)).collect();
    let verified = app
        .registry
        .verify_api_keys(&requests, &peppers, |_, _| true);
    let mut views = Vec::with_capacity(asked.len());
    for (one, verification) in asked.iter().zip(verified.await?) {
        let metrics = &app.operations.metrics;
        if !one.in_url {
            metrics.count_verification(Door::Api, Ending::of(&verification.verdict));
            views.push(VerifyView::of(verification, as_of));
            continue;
        }
        metrics.count_verification(Door::Api, Ending::KeyInUrl);
        if let Some(id) = &verification.key_id {
            flag(app, id).await;
        }
        views.push(VerifyView::in_url(verification, as_of));
    }
    Ok(views)
}

/// One key or many, asked for with a root key: most of what is asked, without the router.
pub(crate) struct ByRootKey {
    root: SecretText,
    asked: Vec<VerifyBody>,
    needs: Vec<Needs>,
    is_one: bool,
}

/// [`VerifyAsk::Many`], as it is read when nothing else comes into question.
#[derive(Deserialize)]
struct ManyBody {
    keys: Vec<VerifyBody>,
}

impl ByRootKey {
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
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let root = bearer::read(headers).ok()??.text;
        PresentedKey::parse(root.expose()).ok()?;
        let (asked, is_one) = match serde_json::from_slice::<VerifyBody>(body) {
            Ok(one) => (vec![one], true),
            Err(_) => (serde_json::from_slice::<ManyBody>(body).ok()?.keys, false),
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

    /// Answers it.
    ///
    /// # Errors
    /// What the root key is refused for; 403 `insufficient_scope`; 503.
    pub(crate) async fn answer(
        &self,
        app: &App,
        peer: &Peer,
        headers: &HeaderMap,
        request_id: &str,
    ) -> Result<(Response, Outcome), Problem> {
        static NEEDED: LazyLock<Option<Scope>> = LazyLock::new(|| Scope::new(PERMISSION).ok());
        let may = |root: &Verification| {
            let held = root.scopes.as_deref().zip(NEEDED.as_ref());
            root.verdict.is_ok() && held.is_some_and(|(held, needed)| held.covers(needed))
        };
        let as_of = app.registry.seen_change();
        let peppers = peppers(app)?;
        let mut requests = Vec::with_capacity(1 + self.asked.len());
        requests.push(root_request(self.root.expose(), headers, peer));
        let asked = self.asked.iter().zip(&self.needs);
        requests.extend(asked.map(|(one, needs)| one.request(needs)));
        // The root key first: what it may not ask for is not looked at.
        let goes_on = |at: usize, one: &Verification| at > 0 || may(one);
        let registry = &app.registry;
        let verified = registry.verify_api_keys(&requests, &peppers, goes_on);
        let mut verified = verified.await?.into_iter();
        match verified.next() {
            Some(root) if may(&root) => {}
            Some(root) => {
                return Err(match &root.verdict {
                    Err(refusal) => bearer::refusal(refusal, &root, app.now()),
                    Ok(()) => Problem::insufficient_scope(PERMISSION),
                });
            }
            None => return Err(crate::problem::store_unavailable()),
        }
        let view = |one: Verification| {
            let ending = Ending::of(&one.verdict);
            app.operations.metrics.count_verification(Door::Api, ending);
            VerifyView::of(one, as_of)
        };
        let views = verified.map(view).collect();
        Ok(answered(views, self.is_one, request_id.to_owned()))
    }
}

/// JSON that no cache keeps, and what the log says of it.
fn answered(mut views: Vec<VerifyView>, is_one: bool, request_id: String) -> (Response, Outcome) {
    let mut text = Vec::with_capacity(512 * views.len().max(1));
    let mut outcome = Outcome::default();
    let written = match views.pop() {
        Some(mut view) if is_one => {
            view.request_id = Some(request_id);
            let written = serde_json::to_writer(&mut text, &view);
            outcome.code = Some(view.code);
            // Only of a secret that matched, and then it is ours.
            outcome.kid = view.kid.filter(|_| view.key_id.is_some());
            written
        }
        last => {
            views.extend(last);
            outcome.keys = Some(views.len());
            let many = VerifyMany {
                results: views,
                request_id,
            };
            serde_json::to_writer(&mut text, &many)
        }
    };
    if let Err(error) = written {
        // None of our views can fail to be written.
        tracing::error!(%error, "an answer could not be written");
        return (StatusCode::INTERNAL_SERVER_ERROR.into_response(), outcome);
    }
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    // Room for what every answer has.
    headers.reserve(12);
    let kind = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (response, outcome)
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
