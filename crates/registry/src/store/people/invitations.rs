//! Rows of invitations.

use keywright_domain::people::{Email, RoleName, TokenDigest};
use sqlx::AnyConnection;

use super::{blob, words};
use crate::RegistryError;
use crate::people::invitations::Invitation;
use crate::people::page::Position;

macro_rules! columns {
    () => {
        "SELECT id, email, roles, invited_by, created_at, expires_at, accepted_at, accepted_by, \
         withdrawn_at FROM invitations WHERE "
    };
}

#[derive(sqlx::FromRow)]
struct InvitationRow {
    id: String,
    email: String,
    roles: String,
    invited_by: String,
    created_at: i64,
    expires_at: i64,
    accepted_at: Option<i64>,
    accepted_by: Option<String>,
    withdrawn_at: Option<i64>,
}

impl InvitationRow {
    fn into_invitation(self) -> Result<Invitation, RegistryError> {
        let roles: Result<_, _> = words(&self.roles)
            .iter()
            .map(|name| RoleName::new(name))
            .collect();
        Ok(Invitation {
            id: self.id,
            email: Email::new(&self.email)?,
            roles: roles?,
            invited_by: self.invited_by,
            created_at: self.created_at,
            expires_at: self.expires_at,
            accepted_at: self.accepted_at,
            accepted_by: self.accepted_by,
            withdrawn_at: self.withdrawn_at,
        })
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    invitation: &Invitation,
    digest: &TokenDigest,
) -> Result<(), RegistryError> {
    let roles: Vec<_> = invitation.roles.iter().map(RoleName::as_str).collect();
    sqlx::query(
        "INSERT INTO invitations (id, digest, email, roles, invited_by, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(invitation.id.clone())
    .bind(blob(digest))
    .bind(invitation.email.as_str().to_owned())
    .bind(roles.join(" "))
    .bind(invitation.invited_by.clone())
    .bind(invitation.created_at)
    .bind(invitation.expires_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Invitation>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<InvitationRow> = sqlx::query_as(concat!(columns!(), "id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(InvitationRow::into_invitation).transpose()
}

/// One that can still be accepted.
pub(crate) async fn find_open(
    connection: &mut AnyConnection,
    digest: &TokenDigest,
    now: i64,
) -> Result<Option<Invitation>, RegistryError> {
    let row: Option<InvitationRow> = sqlx::query_as(concat!(
        columns!(),
        "digest = $1 AND accepted_at IS NULL AND withdrawn_at IS NULL AND expires_at > $2"
    ))
    .bind(blob(digest))
    .bind(now)
    .fetch_optional(connection)
    .await?;
    row.map(InvitationRow::into_invitation).transpose()
}

/// Those of one maker that can still be accepted, oldest first.
pub(crate) async fn list_open_of(
    connection: &mut AnyConnection,
    invited_by: &str,
    now: i64,
) -> Result<Vec<Invitation>, RegistryError> {
    let rows: Vec<InvitationRow> = sqlx::query_as(concat!(
        columns!(),
        "invited_by = $1 AND accepted_at IS NULL AND withdrawn_at IS NULL AND expires_at > $2 \
         ORDER BY created_at, id"
    ))
    .bind(invited_by.to_owned())
    .bind(now)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(InvitationRow::into_invitation)
        .collect()
}

/// Uses one up. False if somebody was first.
pub(crate) async fn accept(
    connection: &mut AnyConnection,
    id: &str,
    user_id: &str,
    now: i64,
) -> Result<bool, RegistryError> {
    let done: Option<String> = sqlx::query_scalar(
        "UPDATE invitations SET accepted_at = $1, accepted_by = $2 WHERE id = $3 \
         AND accepted_at IS NULL AND withdrawn_at IS NULL AND expires_at > $1 RETURNING id",
    )
    .bind(now)
    .bind(user_id.to_owned())
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(done.is_some())
}

pub(crate) async fn withdraw(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE invitations SET withdrawn_at = $1 WHERE id = $2 AND withdrawn_at IS NULL")
        .bind(now)
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Newest first.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    after: &Position,
    limit: i64,
) -> Result<Vec<Invitation>, RegistryError> {
    let rows: Vec<InvitationRow> = sqlx::query_as(concat!(
        columns!(),
        "(created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3"
    ))
    .bind(after.number)
    .bind(after.id.clone())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(InvitationRow::into_invitation)
        .collect()
}
