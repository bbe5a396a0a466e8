//! Credits: one row a key, debited inside the writer's transaction and therefore exactly.

use keywright_domain::api_keys::{CreditPlan, CreditState};
use sqlx::AnyConnection;

use super::secrets::damaged;
use crate::RegistryError;

pub(crate) async fn put(
    connection: &mut AnyConnection,
    key_id: &str,
    remaining: i64,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO credits (key_id, remaining, refilled_at) VALUES ($1, $2, $3) \
         ON CONFLICT (key_id) DO UPDATE SET remaining = excluded.remaining, refilled_at = excluded.refilled_at",
    )
    .bind(key_id.to_owned())
    .bind(remaining)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what a debit left.
pub(crate) async fn put_state(
    connection: &mut AnyConnection,
    key_id: &str,
    state: &CreditState,
) -> Result<(), RegistryError> {
    put(connection, key_id, state.remaining, state.refilled_at).await
}

pub(crate) async fn remove(
    connection: &mut AnyConnection,
    key_id: &str,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM credits WHERE key_id = $1")
        .bind(key_id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// The plan and what is left of it; none for a key without credits.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    key_id: &str,
) -> Result<Option<(CreditPlan, CreditState)>, RegistryError> {
    let row: Option<(String, i64, i64)> = sqlx::query_as(
        "SELECT k.credit_plan, c.remaining, c.refilled_at FROM credits c JOIN api_keys k ON k.id = c.key_id \
         WHERE c.key_id = $1",
    )
    .bind(key_id.to_owned())
    .fetch_optional(connection)
    .await?;
    row.map(|(plan, remaining, refilled_at)| {
        let plan = CreditPlan::parse(&plan).map_err(|_| damaged("credit plan"))?;
        Ok((
            plan,
            CreditState {
                remaining,
                refilled_at,
            },
        ))
    })
    .transpose()
}
