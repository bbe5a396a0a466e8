//! Rows of the sign-in history.

use keywright_domain::people::TokenDigest;
use sqlx::AnyConnection;

use super::blob;
use crate::RegistryError;
use crate::people::page::Position;
use crate::people::sign_ins::SignIn;

#[derive(sqlx::FromRow)]
struct SignInRow {
    id: String,
    at: i64,
    user_id: Option<String>,
    identifier: String,
    method: String,
    outcome: String,
    network: String,
    user_agent: String,
    session_id: Option<String>,
    device: Option<Vec<u8>>,
}

impl From<SignInRow> for SignIn {
    fn from(row: SignInRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            user_id: row.user_id,
            identifier: row.identifier,
            method: row.method,
            outcome: row.outcome,
            network: row.network,
            user_agent: row.user_agent,
            session_id: row.session_id,
            device: row.device.as_deref().and_then(TokenDigest::from_slice),
        }
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    sign_in: &SignIn,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO sign_ins (id, at, user_id, identifier, method, outcome, network, user_agent, \
         session_id, device) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(sign_in.id.clone())
    .bind(sign_in.at)
    .bind(sign_in.user_id.clone())
    .bind(sign_in.identifier.clone())
    .bind(sign_in.method.clone())
    .bind(sign_in.outcome.clone())
    .bind(sign_in.network.clone())
    .bind(sign_in.user_agent.clone())
    .bind(sign_in.session_id.clone())
    .bind(sign_in.device.as_ref().map(blob))
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether somebody signed in with this browser before.
pub(crate) async fn knows_device(
    connection: &mut AnyConnection,
    user_id: &str,
    device: &TokenDigest,
) -> Result<bool, RegistryError> {
    let known: Option<String> = sqlx::query_scalar(
        "SELECT id FROM sign_ins WHERE user_id = $1 AND device = $2 AND outcome = 'succeeded' \
         LIMIT 1",
    )
    .bind(user_id.to_owned())
    .bind(blob(device))
    .fetch_optional(connection)
    .await?;
    Ok(known.is_some())
}

/// From where somebody signed in, the latest first. Failures are not read: strangers make these.
pub(crate) async fn list_networks(
    connection: &mut AnyConnection,
    user_id: &str,
    limit: i64,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT network FROM sign_ins WHERE user_id = $1 AND outcome = 'succeeded' \
         GROUP BY network ORDER BY MAX(at) DESC LIMIT $2",
    )
    .bind(user_id.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// Newest first: of one user, or of everybody and of nobody.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    user_id: Option<&str>,
    after: &Position,
    limit: i64,
) -> Result<Vec<SignIn>, RegistryError> {
    // One text for each, so that each seeks in its own index.
    let query = match user_id {
        Some(user_id) => sqlx::query_as(
            "SELECT id, at, user_id, identifier, method, outcome, network, user_agent, session_id, \
             device FROM sign_ins WHERE user_id = $1 AND (at, id) < ($2, $3) \
             ORDER BY at DESC, id DESC LIMIT $4",
        )
        .bind(user_id.to_owned()),
        None => sqlx::query_as(
            "SELECT id, at, user_id, identifier, method, outcome, network, user_agent, session_id, \
             device FROM sign_ins WHERE (at, id) < ($1, $2) ORDER BY at DESC, id DESC LIMIT $3",
        ),
    };
    let rows: Vec<SignInRow> = query
        .bind(after.number)
        .bind(after.id.clone())
        .bind(limit)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(SignIn::from).collect())
}
