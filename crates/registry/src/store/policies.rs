//! Policies, one an environment, as one JSON text each; what statements compare has a column beside it.

use keywright_domain::api_keys::{
    Environment, OverlapClock, Policy, PolicyEnvironment, Prefix, RateLimit,
};
use keywright_domain::scopes::ScopeSet;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::secrets::damaged;
use crate::RegistryError;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyText {
    max_lifetime_ms: i64,
    max_age_ms: Option<i64>,
    never_expires_allowed: bool,
    min_overlap_ms: i64,
    max_overlap_ms: i64,
    allowed_scopes: Option<String>,
    allowed_prefixes: Option<Vec<String>>,
    rate_limit_floor: Option<String>,
    overlap_clock: String,
    drain_ms: i64,
    /// Older versions took it and enforced nothing by it. They want it to be there.
    #[serde(default)]
    retire_on_max_age: bool,
}

impl PolicyText {
    fn of(policy: &Policy) -> Self {
        Self {
            max_lifetime_ms: policy.max_lifetime_ms,
            max_age_ms: policy.max_age_ms,
            never_expires_allowed: policy.never_expires_allowed,
            min_overlap_ms: policy.min_overlap_ms,
            max_overlap_ms: policy.max_overlap_ms,
            allowed_scopes: policy.allowed_scopes.as_ref().map(ToString::to_string),
            allowed_prefixes: policy
                .allowed_prefixes
                .as_ref()
                .map(|prefixes| prefixes.iter().map(ToString::to_string).collect()),
            rate_limit_floor: policy.rate_limit_floor.as_ref().map(RateLimit::to_text),
            overlap_clock: policy.overlap_clock.to_text(),
            drain_ms: policy.drain_ms,
            retire_on_max_age: false,
        }
    }

    fn into_policy(self, environment: &str) -> Option<Policy> {
        let prefixes = self.allowed_prefixes.map(|texts| {
            texts
                .iter()
                .map(|text| Prefix::new(text))
                .collect::<Result<_, _>>()
        });
        Some(Policy {
            environment: PolicyEnvironment::parse(environment).ok()?,
            max_lifetime_ms: self.max_lifetime_ms,
            max_age_ms: self.max_age_ms,
            never_expires_allowed: self.never_expires_allowed,
            min_overlap_ms: self.min_overlap_ms,
            max_overlap_ms: self.max_overlap_ms,
            allowed_scopes: self
                .allowed_scopes
                .map(|text| ScopeSet::parse(&text))
                .transpose()
                .ok()?,
            allowed_prefixes: prefixes.transpose().ok()?,
            rate_limit_floor: self
                .rate_limit_floor
                .map(|text| RateLimit::parse(&text))
                .transpose()
                .ok()?,
            overlap_clock: OverlapClock::parse(&self.overlap_clock).ok()?,
            drain_ms: self.drain_ms,
        })
    }
}

fn read(environment: &str, text: &str) -> Result<Policy, RegistryError> {
    let text: PolicyText = serde_json::from_str(text).map_err(|_| damaged("policy"))?;
    text.into_policy(environment)
        .ok_or_else(|| damaged("policy"))
}

/// The policy of an environment, else the one for all.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    environment: &Environment,
) -> Result<Option<Policy>, RegistryError> {
    let row: Option<(String, String)> = sqlx::query_as(
        "SELECT environment, text FROM policies WHERE environment IN ($1, '*') ORDER BY environment DESC LIMIT 1",
    )
    .bind(environment.as_str().to_owned())
    .fetch_optional(connection)
    .await?;
    row.map(|(environment, text)| read(&environment, &text))
        .transpose()
}

pub(crate) async fn list(connection: &mut AnyConnection) -> Result<Vec<Policy>, RegistryError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT environment, text FROM policies ORDER BY environment")
            .fetch_all(connection)
            .await?;
    rows.iter()
        .map(|(environment, text)| read(environment, text))
        .collect()
}

pub(crate) async fn put(
    connection: &mut AnyConnection,
    policy: &Policy,
    now: i64,
) -> Result<(), RegistryError> {
    let text = serde_json::to_string(&PolicyText::of(policy))
        .map_err(|error| RegistryError::Store(error.to_string()))?;
    sqlx::query(
        "INSERT INTO policies (environment, text, max_age_ms, changed_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (environment) DO UPDATE SET text = excluded.text, max_age_ms = excluded.max_age_ms, \
         changed_at = excluded.changed_at",
    )
    .bind(policy.environment.as_str().to_owned())
    .bind(text)
    .bind(policy.max_age_ms)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// All that is looked at of a text here: what else is in it may be of any version.
#[derive(Deserialize)]
struct AgeText {
    max_age_ms: Option<i64>,
}

/// Policies whose column says another age than their text, and what the text says: nodes of older versions, which go on
/// beside this one, write the text alone.
pub(crate) async fn stale_ages(
    connection: &mut AnyConnection,
) -> Result<Vec<(String, Option<i64>)>, RegistryError> {
    let rows: Vec<(String, String, Option<i64>)> =
        sqlx::query_as("SELECT environment, text, max_age_ms FROM policies ORDER BY environment")
            .fetch_all(connection)
            .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(environment, text, known)| {
            // Whoever reads the policy is told that it is damaged.
            let told: AgeText = serde_json::from_str(&text).ok()?;
            (told.max_age_ms != known).then_some((environment, told.max_age_ms))
        })
        .collect())
}

/// Has the column say this age.
pub(crate) async fn set_age(
    connection: &mut AnyConnection,
    environment: &str,
    max_age_ms: Option<i64>,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE policies SET max_age_ms = $1 WHERE environment = $2")
        .bind(max_age_ms)
        .bind(environment.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn remove(
    connection: &mut AnyConnection,
    environment: &PolicyEnvironment,
) -> Result<bool, RegistryError> {
    let result = sqlx::query("DELETE FROM policies WHERE environment = $1")
        .bind(environment.as_str().to_owned())
        .execute(connection)
        .await?;
    Ok(result.rows_affected() == 1)
}
