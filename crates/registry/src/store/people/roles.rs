//! Rows of roles and of who has them.

use keywright_domain::people::RoleName;
use keywright_domain::scopes::ScopeSet;
use sqlx::AnyConnection;

use super::super::many;
use crate::RegistryError;
use crate::people::roles::Role;

#[derive(sqlx::FromRow)]
struct RoleRow {
    name: String,
    description: String,
    permissions: String,
    built_in: i64,
    created_at: i64,
}

impl RoleRow {
    fn into_role(self) -> Result<Role, RegistryError> {
        Ok(Role {
            name: RoleName::new(&self.name)?,
            description: self.description,
            permissions: ScopeSet::parse(&self.permissions)?,
            built_in: self.built_in != 0,
            created_at: self.created_at,
        })
    }
}

pub(crate) async fn list(connection: &mut AnyConnection) -> Result<Vec<Role>, RegistryError> {
    let rows: Vec<RoleRow> = sqlx::query_as(
        "SELECT name, description, permissions, built_in, created_at FROM roles ORDER BY name",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(RoleRow::into_role).collect()
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<Option<Role>, RegistryError> {
    if crate::store::is_no_id(name) {
        return Ok(None);
    }
    let row: Option<RoleRow> = sqlx::query_as(
        "SELECT name, description, permissions, built_in, created_at FROM roles WHERE name = $1",
    )
    .bind(name.to_owned())
    .fetch_optional(connection)
    .await?;
    row.map(RoleRow::into_role).transpose()
}

pub(crate) async fn put(connection: &mut AnyConnection, role: &Role) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO roles (name, description, permissions, built_in, created_at) \
         VALUES ($1, $2, $3, 0, $4) ON CONFLICT (name) DO UPDATE SET \
         description = excluded.description, permissions = excluded.permissions",
    )
    .bind(role.name.as_str().to_owned())
    .bind(role.description.clone())
    .bind(role.permissions.to_string())
    .bind(role.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn delete(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM roles WHERE name = $1")
        .bind(name.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// The roles of one user, with what they allow.
pub(crate) async fn list_of_user(
    connection: &mut AnyConnection,
    user_id: &str,
) -> Result<Vec<Role>, RegistryError> {
    let rows: Vec<RoleRow> = sqlx::query_as(
        "SELECT r.name, r.description, r.permissions, r.built_in, r.created_at \
         FROM user_roles u JOIN roles r ON r.name = u.role WHERE u.user_id = $1 ORDER BY r.name",
    )
    .bind(user_id.to_owned())
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(RoleRow::into_role).collect()
}

/// User and role, for some users.
pub(crate) async fn list_of_users(
    connection: &mut AnyConnection,
    user_ids: &[String],
) -> Result<Vec<(String, String)>, RegistryError> {
    let mut found = Vec::new();
    for part in user_ids.chunks(many::MOST) {
        let sql = many::list(
            "SELECT user_id, role FROM user_roles WHERE user_id IN ",
            many::MOST,
            " ORDER BY user_id, role",
        );
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        // Filled up by the first id, so that the database prepares one text.
        let padding = std::iter::repeat_n(&part[0], many::MOST - part.len());
        for id in part.iter().chain(padding) {
            query = query.bind(id.clone());
        }
        let rows: Vec<(String, String)> = query.fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Replaces the roles of a user.
pub(crate) async fn set_of_user(
    connection: &mut AnyConnection,
    user_id: &str,
    roles: &[RoleName],
    now: i64,
    by: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM user_roles WHERE user_id = $1")
        .bind(user_id.to_owned())
        .execute(&mut *connection)
        .await?;
    for role in roles {
        sqlx::query(
            "INSERT INTO user_roles (user_id, role, granted_at, granted_by) VALUES ($1, $2, $3, $4)",
        )
        .bind(user_id.to_owned())
        .bind(role.as_str().to_owned())
        .bind(now)
        .bind(by.to_owned())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Users with a role, after one, in the order of ids.
pub(crate) async fn list_holders(
    connection: &mut AnyConnection,
    role: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT user_id FROM user_roles WHERE role = $1 AND user_id > $2 ORDER BY user_id LIMIT $3",
    )
    .bind(role.to_owned())
    .bind(after.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// The newest epoch of the principals of those who have a role; none where nobody has it.
pub(crate) async fn newest_epoch_of_holders(
    connection: &mut AnyConnection,
    role: &str,
) -> Result<Option<i64>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT MAX(p.epoch) FROM user_roles u JOIN principals p ON p.id = u.user_id \
         WHERE u.role = $1",
    )
    .bind(role.to_owned())
    .fetch_one(connection)
    .await?)
}

/// Whether somebody who is not disabled has a role, besides one user.
pub(crate) async fn another_has(
    connection: &mut AnyConnection,
    role: &str,
    besides: &str,
) -> Result<bool, RegistryError> {
    let other: Option<String> = sqlx::query_scalar(
        "SELECT u.user_id FROM user_roles u JOIN principals p ON p.id = u.user_id \
         WHERE u.role = $1 AND u.user_id <> $2 AND p.disabled_at IS NULL LIMIT 1",
    )
    .bind(role.to_owned())
    .bind(besides.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(other.is_some())
}
