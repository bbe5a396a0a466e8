//! `/api/v1/policies`: what an environment allows of its keys.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::{Environment, OverlapClock, Policy, PolicyEnvironment, Prefix};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{RegistryError, Seen, Thing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::etags::{IfSeen, shown, tag_of};
use crate::keys::issue::body;
use crate::keys::manager::Manager;
use crate::keys::settings::RateLimitBody;
use crate::keys::views::problem;
use crate::problem::Problem;
use crate::server::App;

const READ: &str = "policies:read";
const WRITE: &str = "policies:write";
/// Longest lists of a policy.
const MOST: usize = 200;

/// A policy. Times are milliseconds; what is left out is as it is without a policy.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyBody {
    /// Longest life of a secret: 1 to 365 days.
    #[schema(minimum = 86400000, maximum = 31536000000i64)]
    max_lifetime_ms: i64,
    /// Age at which a secret is overdue for rotation, and its owner is told: 1 day to ten years. What ends
    /// secrets is `max_lifetime_ms`.
    #[schema(minimum = 86400000, maximum = 315360000000i64)]
    max_age_ms: Option<i64>,
    /// Whether secrets may live for ever.
    never_expires_allowed: bool,
    /// Shortest overlap of a rotation, 0 to 30 days.
    #[schema(minimum = 0, maximum = 2592000000i64)]
    min_overlap_ms: i64,
    /// Longest overlap of a rotation, 0 to 30 days.
    #[schema(minimum = 0, maximum = 2592000000i64)]
    max_overlap_ms: i64,
    /// What keys may hold at most; absent for everything.
    allowed_scopes: Option<Vec<String>>,
    /// Prefixes that keys may have; absent for all.
    allowed_prefixes: Option<Vec<String>>,
    /// Every key carries a limit at least this strict.
    rate_limit_floor: Option<RateLimitBody>,
    /// Clock of a rotation that names none: `from_first_use`, `from_issue`, or
    /// `until_drained:SILENT_MS:CAP_MS`.
    overlap_clock: String,
    /// Silence of the old secret after which `finish-if-drained` ends it, where the clock says nothing of
    /// silence: 1 minute to 30 days.
    #[schema(minimum = 60000, maximum = 2592000000i64)]
    drain_ms: i64,
    /// Always false: secrets do not stop working at their maximum age. `true` is refused.
    retire_on_max_age: bool,
}

impl Default for PolicyBody {
    fn default() -> Self {
        Self::from(&Policy::default_for(Environment::LIVE))
    }
}

impl From<&Policy> for PolicyBody {
    fn from(policy: &Policy) -> Self {
        let scopes = policy.allowed_scopes.as_ref();
        let scopes = scopes.map(|set| set.as_slice().iter().map(|one| one.as_str().to_owned()));
        let prefixes = policy.allowed_prefixes.as_ref();
        Self {
            max_lifetime_ms: policy.max_lifetime_ms,
            max_age_ms: policy.max_age_ms,
            never_expires_allowed: policy.never_expires_allowed,
            min_overlap_ms: policy.min_overlap_ms,
            max_overlap_ms: policy.max_overlap_ms,
            allowed_scopes: scopes.map(Iterator::collect),
            allowed_prefixes: prefixes.map(|list| {
                list.iter()
                    .map(|prefix| prefix.as_str().to_owned())
                    .collect()
            }),
            rate_limit_floor: policy.rate_limit_floor.as_ref().map(RateLimitBody::from),
            overlap_clock: policy.overlap_clock.to_text(),
            drain_ms: policy.drain_ms,
            retire_on_max_age: false,
        }
    }
}

impl PolicyBody {
    fn read(&self, environment: PolicyEnvironment) -> Result<Policy, Problem> {
        let too_many = |list: &Vec<String>| list.len() > MOST;
        if self.allowed_scopes.as_ref().is_some_and(too_many)
            || self.allowed_prefixes.as_ref().is_some_and(too_many)
        {
            let detail = format!("a policy names at most {MOST} scopes and {MOST} prefixes");
            return Err(Problem::bad_request("invalid_policy", detail));
        }
        if self.retire_on_max_age {
            let detail = "retire_on_max_age: no secret stops working at its maximum age; max_lifetime_ms bounds \
                          how long secrets work";
            return Err(Problem::bad_request("invalid_policy", detail));
        }
        let scopes = self.allowed_scopes.as_ref().map(|list| {
            let scopes: Result<Vec<_>, _> = list.iter().map(|text| Scope::new(text)).collect();
            scopes.map(ScopeSet::new)
        });
        let prefixes = self.allowed_prefixes.as_ref().map(|list| {
            let prefixes: Result<Vec<_>, _> = list.iter().map(|text| Prefix::new(text)).collect();
            prefixes
        });
        let limit = self.rate_limit_floor.as_ref().map(RateLimitBody::read);
        let clock = OverlapClock::parse(&self.overlap_clock);
        Ok(Policy {
            environment,
            max_lifetime_ms: self.max_lifetime_ms,
            max_age_ms: self.max_age_ms,
            never_expires_allowed: self.never_expires_allowed,
            min_overlap_ms: self.min_overlap_ms,
            max_overlap_ms: self.max_overlap_ms,
            allowed_scopes: scopes
                .transpose()
                .map_err(|error| problem(RegistryError::Scope(error)))?,
            allowed_prefixes: prefixes
                .transpose()
                .map_err(|error| Problem::bad_request("invalid_prefix", error.to_string()))?,
            rate_limit_floor: limit
                .transpose()
                .map_err(|error| problem(RegistryError::Key(error.into())))?,
            overlap_clock: clock.map_err(|error| problem(RegistryError::Policy(error)))?,
            drain_ms: self.drain_ms,
        })
    }
}

/// The policy of an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyView {
    /// Where it holds: a name, or `*` for every environment without one of its own.
    environment: String,
    policy: PolicyBody,
}

/// All policies.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyList {
    items: Vec<PolicyView>,
}

fn view(policy: &Policy) -> PolicyView {
    PolicyView {
        environment: policy.environment.to_string(),
        policy: PolicyBody::from(policy),
    }
}

/// The tag of a policy as it is shown.
fn tag(seen: &Seen) -> Option<String> {
    match seen {
        Seen::Policy(policy) => Some(tag_of(&view(policy))),
        _ => None,
    }
}

fn environment(text: &str) -> Result<PolicyEnvironment, Problem> {
    PolicyEnvironment::parse(text).map_err(|error| problem(RegistryError::Policy(error)))
}

fn answer(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn missing() -> Problem {
    let detail = "there is no policy for this environment: “*” holds, else the defaults";
    Problem::not_found("policy_not_found", detail)
}

/// Lists the policies. Needs `policies:read`.
#[utoipa::path(get, path = "/api/v1/policies", tag = "policies", responses((status = 200, description = "All of them", body = PolicyList)))]
pub(crate) async fn list(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    manager.require(READ)?;
    let policies = app.registry.list_policies().await?;
    Ok(answer(PolicyList {
        items: policies.iter().map(view).collect(),
    }))
}

/// The policy of an environment. Needs `policies:read`.
#[utoipa::path(
    get, path = "/api/v1/policies/{environment}", tag = "policies",
    params(("environment" = String, Path, description = "An environment, or `*`"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "Its policy, with its `ETag`", body = PolicyView), (status = 404, description = "It has none of its own"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(name): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let environment = environment(&name)?;
    let policies = app.registry.list_policies().await?;
    let mut policies = policies.iter();
    let found = policies.find(|policy| policy.environment == environment);
    seen.show(&view(found.ok_or_else(missing)?))
}

/// Sets the policy of an environment. Keys that exist stay as they are; what is done to them from now
/// on is judged by it. Needs `policies:write`.
#[utoipa::path(
    put, path = "/api/v1/policies/{environment}", tag = "policies", request_body = PolicyBody,
    params(("environment" = String, Path, description = "An environment, or `*`"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still"), ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none yet")),
    responses((status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"), (status = 200, description = "It holds", body = PolicyView), (status = 400, description = "It contradicts itself"))
)]
pub(crate) async fn put(
    State(app): State<App>,
    manager: Manager,
    Path(name): Path<String>,
    seen: IfSeen,
    given: Result<Json<PolicyBody>, JsonRejection>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let policy = body(given)?.read(environment(&name)?)?;
    let registry = seen.registry(&app, Thing::Policy(policy.environment.clone()), tag);
    let set = registry.set_policy(&manager.actor, &policy);
    set.await.map_err(problem)?;
    Ok(shown(&view(&policy)))
}

/// Removes the policy of an environment. Needs `policies:write`.
#[utoipa::path(
    delete, path = "/api/v1/policies/{environment}", tag = "policies",
    params(("environment" = String, Path, description = "An environment, or `*`"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses((status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"), (status = 204, description = "It is gone"), (status = 404, description = "There was none"))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    manager: Manager,
    Path(name): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let environment = environment(&name)?;
    let registry = seen.registry(&app, Thing::Policy(environment.clone()), tag);
    let removed = registry.remove_policy(&manager.actor, &environment);
    if removed.await.map_err(problem)? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(missing())
    }
}
