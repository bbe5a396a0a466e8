//! The catalogue of scopes.

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::scopes::Scope;
use sqlx::AnyConnection;

use super::audit::NewEvent;
use crate::RegistryError;
use crate::writer::Unit;

/// What a new registry knows: scope, what it allows, whether a publishable key may hold it.
const DEFAULTS: [(&str, &str, bool); 8] = [
    ("keys:read", "See API keys and their state", false),
    ("keys:write", "Issue, rotate and revoke API keys", false),
    ("keys:verify", "Verify API keys", true),
    ("sessions:read", "See sessions", false),
    ("sessions:write", "End sessions", false),
    ("users:read", "See people and their roles", false),
    ("users:write", "Invite, change and disable people", false),
    ("audit:read", "Read the activity", false),
];

#[derive(sqlx::FromRow)]
struct ScopeRow {
    name: String,
    description: String,
    low_risk: i64,
}

pub(crate) async fn list(connection: &mut AnyConnection) -> Result<Vec<KnownScope>, RegistryError> {
    let rows: Vec<ScopeRow> =
        sqlx::query_as("SELECT name, description, low_risk FROM scopes ORDER BY name")
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|row| {
            let scope = Scope::new(&row.name)?;
            Ok(KnownScope {
                scope,
                description: row.description,
                low_risk: row.low_risk != 0,
            })
        })
        .collect()
}

pub(crate) async fn upsert(
    connection: &mut AnyConnection,
    scope: &KnownScope,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO scopes (name, description, low_risk) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET description = excluded.description, low_risk = excluded.low_risk",
    )
    .bind(scope.scope.as_str().to_owned())
    .bind(scope.description.clone())
    .bind(i64::from(scope.low_risk))
    .execute(connection)
    .await?;
    Ok(())
}

/// A scope as a part of a list of them, for LIKE: it has no other wildcard than the underscore.
fn part(name: &str) -> String {
    format!("% {} %", name.replace('_', "\\_"))
}

/// Of some keys behind an id, in the order of ids: the last one, and whether one that was not revoked
/// holds a scope by its name. None behind the last key.
pub(crate) async fn holders_behind(
    connection: &mut AnyConnection,
    name: &str,
    after: &str,
    limit: i64,
) -> Result<Option<(String, bool)>, RegistryError> {
    let row: (Option<String>, i64) = sqlx::query_as(
        "SELECT MAX(id), COUNT(held) FROM (SELECT id, CASE WHEN revoked_at IS NULL \
         AND ' ' || scopes || ' ' LIKE $1 ESCAPE '\\' THEN 1 END AS held \
         FROM api_keys WHERE id > $2 ORDER BY id LIMIT $3) AS part",
    )
    .bind(part(name))
    .bind(after.to_owned())
    .bind(limit)
    .fetch_one(connection)
    .await?;
    Ok(row.0.map(|last| (last, row.1 > 0)))
}

/// The same of one key.
pub(crate) async fn is_held_by(
    connection: &mut AnyConnection,
    name: &str,
    key_id: &str,
) -> Result<bool, RegistryError> {
    let found: Option<(String,)> = sqlx::query_as(
        "SELECT id FROM api_keys WHERE id = $1 AND revoked_at IS NULL \
         AND ' ' || scopes || ' ' LIKE $2 ESCAPE '\\'",
    )
    .bind(key_id.to_owned())
    .bind(part(name))
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

pub(crate) async fn remove(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM scopes WHERE name = $1")
        .bind(name.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Fills a registry that has no history yet, in the transaction that gives it its first event: a
/// crash right after the first migration must not leave it without scopes for ever.
pub(crate) async fn insert_defaults(unit: &mut Unit) -> Result<(), RegistryError> {
    for (name, description, low_risk) in DEFAULTS {
        let scope = KnownScope {
            scope: Scope::new(name)?,
            description: description.into(),
            low_risk,
        };
        upsert(unit.write(), &scope).await?;
    }
    let summary = "The registry was created".to_owned();
    unit.audit(
        &Actor::keywright(),
        NewEvent::about_registry(AuditAction::RegistryCreated, summary),
    );
    Ok(())
}
