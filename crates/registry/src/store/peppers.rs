//! Which peppers there are. Never a pepper.

use sqlx::AnyConnection;

use crate::RegistryError;
use crate::peppers::PepperUse;

/// The pepper in use; none before the first key.
pub(crate) async fn newest(
    connection: &mut AnyConnection,
) -> Result<Option<String>, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT id FROM peppers ORDER BY created_at DESC, id LIMIT 1")
            .fetch_optional(connection)
            .await?,
    )
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("INSERT INTO peppers (id, created_at) VALUES ($1, $2)")
        .bind(id.to_owned())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// All of them. Whether one is needed is one look into the index, however many secrets there are.
pub(crate) async fn list(connection: &mut AnyConnection) -> Result<Vec<PepperUse>, RegistryError> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT p.id, p.created_at, CAST(CASE WHEN EXISTS (SELECT 1 FROM secrets s WHERE s.pepper_id = p.id \
         AND s.stored IN ('pending', 'active', 'retiring')) THEN 1 ELSE 0 END AS BIGINT) \
         FROM peppers p ORDER BY p.created_at DESC, p.id",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, created_at, needed)| PepperUse {
            id,
            created_at,
            is_needed: needed != 0,
        })
        .collect())
}

/// How many secrets need it. Reads all of them.
pub(crate) async fn count_secrets(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<i64, RegistryError> {
    let count = sqlx::query_scalar(
        "SELECT COUNT(*) FROM secrets WHERE pepper_id = $1 AND stored IN ('pending', 'active', 'retiring')",
    );
    Ok(count.bind(id.to_owned()).fetch_one(connection).await?)
}

/// How many keys that work at this moment have a secret under it. Reads all of them.
pub(crate) async fn count_working_keys(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
) -> Result<i64, RegistryError> {
    let count = sqlx::query_scalar(
        "SELECT COUNT(DISTINCT s.key_id) FROM secrets s JOIN api_keys k ON k.id = s.key_id \
         WHERE s.pepper_id = $1 AND s.stored IN ('pending', 'active', 'retiring') \
         AND (s.expires_at IS NULL OR s.expires_at > $2) AND k.revoked_at IS NULL",
    );
    Ok(count
        .bind(id.to_owned())
        .bind(now)
        .fetch_one(connection)
        .await?)
}

/// Some of the keys that have a secret under it which would still verify.
pub(crate) async fn keys_under(
    connection: &mut AnyConnection,
    id: &str,
    limit: i64,
) -> Result<Vec<String>, RegistryError> {
    let ids = sqlx::query_scalar(
        "SELECT DISTINCT key_id FROM secrets WHERE pepper_id = $1 \
         AND stored IN ('pending', 'active', 'retiring') ORDER BY key_id LIMIT $2",
    );
    Ok(ids
        .bind(id.to_owned())
        .bind(limit)
        .fetch_all(connection)
        .await?)
}
