//! Rows of deliveries: where a new secret was brought, and what came of it.

use sqlx::AnyConnection;

use crate::RegistryError;
use crate::schedules::deliveries::Delivery;

#[derive(sqlx::FromRow)]
struct DeliveryRow {
    id: String,
    rotation_id: String,
    kid: String,
    target: String,
    state: String,
    error: Option<String>,
    at: i64,
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    delivery: &Delivery,
) -> Result<(), RegistryError> {
    let state = if delivery.delivered {
        "delivered"
    } else {
        "failed"
    };
    sqlx::query(
        "INSERT INTO deliveries (id, rotation_id, kid, target, state, error, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(delivery.id.clone())
    .bind(delivery.rotation_id.clone())
    .bind(delivery.kid.clone())
    .bind(delivery.target.clone())
    .bind(state)
    .bind(delivery.error.clone())
    .bind(delivery.at)
    .execute(connection)
    .await?;
    Ok(())
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            rotation_id: row.rotation_id,
            kid: row.kid,
            target: row.target,
            delivered: row.state == "delivered",
            error: row.error,
            at: row.at,
        }
    }
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Delivery>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<DeliveryRow> = sqlx::query_as(
        "SELECT id, rotation_id, kid, target, state, error, at FROM deliveries WHERE id = $1",
    )
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Delivery::from))
}

/// The deliveries of a rotation, oldest first, behind the one a page ended with.
pub(crate) async fn of_rotation(
    connection: &mut AnyConnection,
    rotation_id: &str,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<Delivery>, RegistryError> {
    let rows: Vec<DeliveryRow> = sqlx::query_as(
        "SELECT id, rotation_id, kid, target, state, error, at FROM deliveries \
         WHERE rotation_id = $1 AND (at, id) > ($2, $3) ORDER BY at, id LIMIT $4",
    )
    .bind(rotation_id.to_owned())
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Delivery::from).collect())
}

/// Whether a secret reached any place.
pub(crate) async fn has_arrived(
    connection: &mut AnyConnection,
    rotation_id: &str,
    kid: &str,
) -> Result<bool, RegistryError> {
    let arrived: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM deliveries WHERE rotation_id = $1 AND kid = $2 AND state = 'delivered'",
    )
    .bind(rotation_id.to_owned())
    .bind(kid.to_owned())
    .fetch_one(connection)
    .await?;
    Ok(arrived > 0)
}

/// Writes another clock of a rotation, which is otherwise fixed when it is made.
pub(crate) async fn update_clock(
    connection: &mut AnyConnection,
    rotation_id: &str,
    clock: &str,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE rotations SET clock = $1 WHERE idempotency_key = $2")
        .bind(clock.to_owned())
        .bind(rotation_id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}
