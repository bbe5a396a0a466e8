//! Rows of users. Name, permissions and whether one is disabled are in `principals`: keys need them.

use keywright_domain::SecretText;
use keywright_domain::people::Email;
use keywright_domain::scopes::ScopeSet;
use sqlx::AnyConnection;

use super::super::search::{fold, like_pattern};
use crate::RegistryError;
use crate::people::page::Position;
use crate::people::users::{Credentials, User, UserOrder, UserQuery};

macro_rules! columns {
    () => {
        "SELECT u.id, p.name, u.email, u.email_verified, p.permissions, p.disabled_at, \
         p.disabled_reason, CASE WHEN u.password_hash IS NULL THEN 0 ELSE 1 END AS has_password, \
         u.password_changed_at, u.locked_until, u.last_sign_in_at, u.created_at, u.name_key \
         FROM users u JOIN principals p ON p.id = u.id WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct UserRow {
    id: String,
    name: String,
    email: Option<String>,
    email_verified: i64,
    permissions: String,
    disabled_at: Option<i64>,
    disabled_reason: Option<String>,
    has_password: i64,
    password_changed_at: Option<i64>,
    locked_until: Option<i64>,
    last_sign_in_at: Option<i64>,
    created_at: i64,
    name_key: String,
}

impl UserRow {
    fn into_user(self) -> Result<User, RegistryError> {
        Ok(User {
            id: self.id,
            name: self.name,
            email: self.email.as_deref().map(Email::new).transpose()?,
            email_verified: self.email_verified != 0,
            roles: Vec::new(),
            permissions: ScopeSet::parse(&self.permissions)?,
            has_password: self.has_password != 0,
            password_changed_at: self.password_changed_at,
            locked_until: self.locked_until,
            last_sign_in_at: self.last_sign_in_at,
            created_at: self.created_at,
            disabled_at: self.disabled_at,
            disabled_reason: self.disabled_reason,
        })
    }
}

/// Without roles.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<User>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<UserRow> = sqlx::query_as(concat!(columns!(), "u.id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(UserRow::into_user).transpose()
}

/// Without roles.
pub(crate) async fn find_by_email(
    connection: &mut AnyConnection,
    email: &Email,
) -> Result<Option<User>, RegistryError> {
    let row: Option<UserRow> = sqlx::query_as(concat!(columns!(), "u.email = $1"))
        .bind(email.as_str().to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(UserRow::into_user).transpose()
}

pub(crate) async fn find_credentials(
    connection: &mut AnyConnection,
    email: &Email,
) -> Result<Option<Credentials>, RegistryError> {
    type Row = (String, Option<String>, Option<i64>, Option<i64>, i64);
    let row: Option<Row> = sqlx::query_as(
        "SELECT u.id, u.password_hash, u.locked_until, p.disabled_at, \
         CASE WHEN t.confirmed_at IS NULL THEN 0 ELSE 1 END \
         FROM users u JOIN principals p ON p.id = u.id LEFT JOIN totp t ON t.user_id = u.id \
         WHERE u.email = $1",
    )
    .bind(email.as_str().to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(
        |(user_id, hash, locked_until, disabled_at, totp)| Credentials {
            user_id,
            password_hash: hash.map(SecretText::new),
            locked_until,
            disabled: disabled_at.is_some(),
            needs_totp: totp != 0,
        },
    ))
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    user: &User,
    password_hash: Option<&SecretText>,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO users (id, email, email_verified, password_hash, password_changed_at, \
         created_at, name_key, search_text) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(user.id.clone())
    .bind(user.email.as_ref().map(|email| email.as_str().to_owned()))
    .bind(i64::from(user.email_verified))
    .bind(password_hash.map(|hash| hash.expose().to_owned()))
    .bind(user.password_changed_at)
    .bind(user.created_at)
    .bind(name_key(user))
    .bind(search_text(user))
    .execute(connection)
    .await?;
    Ok(())
}

/// Name and e-mail.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    user: &User,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE users SET email = $1, email_verified = $2, name_key = $3, search_text = $4 \
         WHERE id = $5",
    )
    .bind(user.email.as_ref().map(|email| email.as_str().to_owned()))
    .bind(i64::from(user.email_verified))
    .bind(name_key(user))
    .bind(search_text(user))
    .bind(user.id.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets or removes the password; whoever set it need not wait any more.
pub(crate) async fn update_password(
    connection: &mut AnyConnection,
    id: &str,
    hash: Option<&SecretText>,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE users SET password_hash = $1, password_changed_at = $2, failed_count = 0, \
         locked_until = NULL WHERE id = $3",
    )
    .bind(hash.map(|hash| hash.expose().to_owned()))
    .bind(now)
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts a failure. Returns how many there are in a row.
pub(crate) async fn count_failure(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(
        "UPDATE users SET failed_count = failed_count + 1 WHERE id = $1 RETURNING failed_count",
    )
    .bind(id.to_owned())
    .fetch_one(connection)
    .await?)
}

pub(crate) async fn lock_until(
    connection: &mut AnyConnection,
    id: &str,
    until: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE users SET locked_until = $1 WHERE id = $2")
        .bind(until)
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn signed_in(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE users SET failed_count = 0, locked_until = NULL, last_sign_in_at = $1 WHERE id = $2",
    )
    .bind(now)
    .bind(id.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// Everything of a user but the principal: keys and the audit trail name that one.
pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), RegistryError> {
    for sql in [
        "DELETE FROM user_roles WHERE user_id = $1",
        "DELETE FROM totp WHERE user_id = $1",
        "DELETE FROM recovery_codes WHERE user_id = $1",
        "DELETE FROM passkeys WHERE user_id = $1",
        "DELETE FROM linked_identities WHERE user_id = $1",
        "DELETE FROM consent_resources WHERE user_id = $1",
        "DELETE FROM consents WHERE user_id = $1",
        "DELETE FROM sign_ins WHERE user_id = $1",
        "DELETE FROM session_clients WHERE session_id IN (SELECT id FROM sessions WHERE user_id = $1)",
        "DELETE FROM sessions WHERE user_id = $1",
        "DELETE FROM users WHERE id = $1",
    ] {
        sqlx::query(sql)
            .bind(id.to_owned())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A page of users without roles, each with its place.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    query: &UserQuery,
    after: &Position,
    limit: i64,
) -> Result<Vec<(User, Position)>, RegistryError> {
    let sql = match query.order {
        UserOrder::NameAsc => concat!(
            columns!(),
            "(u.name_key, u.id) > ($1, $2) AND ($3 = '%%' OR u.search_text LIKE $3 ESCAPE '\\') \
             ORDER BY u.name_key, u.id LIMIT $4"
        ),
        UserOrder::CreatedDesc => concat!(
            columns!(),
            "(u.created_at, u.id) < ($1, $2) AND ($3 = '%%' OR u.search_text LIKE $3 ESCAPE '\\') \
             ORDER BY u.created_at DESC, u.id DESC LIMIT $4"
        ),
    };
    let statement = sqlx::query_as(sql);
    let statement = match query.order {
        UserOrder::NameAsc => statement.bind(after.text.clone()),
        UserOrder::CreatedDesc => statement.bind(after.number),
    };
    let rows: Vec<UserRow> = statement
        .bind(after.id.clone())
        .bind(like_pattern(&query.text))
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let place = Position {
                number: row.created_at,
                text: row.name_key.clone(),
                id: row.id.clone(),
            };
            Ok((row.into_user()?, place))
        })
        .collect()
}

fn name_key(user: &User) -> String {
    fold(&user.name)
}

fn search_text(user: &User) -> String {
    let email = user.email.as_ref().map_or("", Email::as_str);
    fold(&format!("{} {email}", user.name))
}
