//! Verification for services that hold a permission of their own: one key, or many in one call.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_domain::SecretText;
use keywright_domain::api_keys::{Environment, KeyType, Refusal};
use keywright_domain::scopes::ScopeRequirement;
use keywright_registry::{Caller, Verification, VerifyRequest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::issue::body;
use super::manager::{Manager, peppers};
use crate::problem::Problem;
use crate::server::App;

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
    key: SecretIn,
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
}

/// A text that is never printed.
#[derive(Deserialize)]
#[serde(transparent)]
struct SecretIn(String);

impl SecretIn {
    fn take(self) -> SecretText {
        SecretText::new(self.0)
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
    owner: Option<String>,
    /// What it may do now.
    scopes: Vec<String>,
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
    /// Requests left on the narrowest limit.
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
}

impl VerifyView {
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
        let scopes = verification.scopes.as_ref();
        Self {
            valid: verification.verdict.is_ok(),
            code: verification.code(),
            scopes: scopes
                .map(|set| {
                    set.as_slice()
                        .iter()
                        .map(|one| one.as_str().to_owned())
                        .collect()
                })
                .unwrap_or_default(),
            key_id: verification.key_id,
            kid: verification.kid,
            owner: verification.owner.map(|owner| owner.to_string()),
            retires_at: verification.retires_at,
            expires_at: verification.expires_at,
            missing_scopes: missing,
            limit,
            retry_after_ms: retry,
            limit_left: verification.limit_left,
            limit_reset_ms: verification.limit_reset_ms,
            credits_left: verification.credits_left,
            refill_at: refill,
            every_use_counts: verification.every_use_counts,
            as_of,
        }
    }
}

/// What many keys came to, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerifyMany {
    results: Vec<VerifyView>,
}

/// One answer, or as many as there were keys.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
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
    given: Result<Json<VerifyAsk>, JsonRejection>,
) -> Result<Response, Problem> {
    manager.require("keys:verify")?;
    let answer = match body(given)? {
        VerifyAsk::One(one) => VerifyAnswer::One(Box::new(verify_one(&app, *one).await?)),
        VerifyAsk::Many { keys } => {
            if keys.len() > MOST {
                let detail = format!("at most {MOST} keys in one call");
                return Err(Problem::bad_request("too_many_keys", detail));
            }
            let mut results = Vec::with_capacity(keys.len());
            for one in keys {
                results.push(verify_one(&app, one).await?);
            }
            VerifyAnswer::Many(VerifyMany { results })
        }
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((no_store, Json(answer)).into_response())
}

async fn verify_one(app: &App, asked: VerifyBody) -> Result<VerifyView, Problem> {
    let types = asked.key_types.iter().map(String::as_str);
    let needs = Needs::read(
        asked.requirement.as_deref(),
        asked.environment.as_deref(),
        types,
    )?;
    let text = asked.key.take();
    if text.expose().len() > LONGEST {
        return Err(Problem::bad_request("key_too_long", "no key is so long"));
    }
    let request = VerifyRequest {
        presented: text.expose(),
        requirement: needs.requirement.as_ref(),
        environment: needs.environment.as_ref(),
        key_types: &needs.key_types,
        cost: asked.cost,
        credits: asked.credits,
        caller: Caller {
            address: asked.address,
            origin: asked.origin.as_deref(),
            agent: asked.agent.as_deref(),
            route: asked.route.as_deref(),
            client_label: asked.client_label.as_deref(),
        },
    };
    let as_of = app.registry.seen_change();
    let peppers = peppers(app)?;
    let verification = app.registry.verify_api_key(&request, &peppers).await?;
    Ok(VerifyView::of(verification, as_of))
}

/// The text of the environment in which no key is: a verification against it finds the key and stops
/// before anything is counted.
const NOWHERE: &str = "in-a-url";

/// Keys that were seen in a URL are flagged, if they are real: anybody can write a known kid with a
/// made-up secret into an address.
pub(crate) async fn flag_exposed(app: &App, texts: &[SecretText], address: IpAddr) {
    let (Ok(peppers), Ok(nowhere)) = (peppers(app), Environment::new(NOWHERE)) else {
        return;
    };
    for text in texts.iter().take(3) {
        let request = VerifyRequest {
            presented: text.expose(),
            environment: Some(&nowhere),
            caller: Caller {
                address: Some(address),
                ..Caller::default()
            },
            ..VerifyRequest::default()
        };
        let Ok(found) = app.registry.verify_api_key(&request, &peppers).await else {
            continue;
        };
        if let Some(id) = found.key_id {
            let actor = crate::Server::actor();
            let marked = app.registry.mark_api_key_exposed(&actor, &id, "a URL");
            if let Err(error) = marked.await {
                tracing::warn!(
                    code = error.code(),
                    key = id,
                    "an exposed key was not flagged"
                );
            }
        }
    }
}

/// The problem of a key in a URL.
pub(crate) fn key_in_url() -> Problem {
    Problem::bad_request(
        "key_in_url",
        "a key in a URL is in logs and histories by now: send it in a header, and rotate it",
    )
}
