//! Signed checkpoints of the audit trail.

use keywright_domain::audit_chain::{Checkpoint, CheckpointSignature, SignedCheckpoint};
use sqlx::AnyConnection;

use super::audit::event_hash;
use super::secrets::damaged;
use crate::RegistryError;

#[derive(sqlx::FromRow)]
struct CheckpointRow {
    registry_id: String,
    sequence: i64,
    hash: Vec<u8>,
    at: i64,
    key_id: String,
    signature: Vec<u8>,
}

impl CheckpointRow {
    fn into_signed(self) -> Result<SignedCheckpoint, RegistryError> {
        let signature: [u8; 64] = self
            .signature
            .try_into()
            .map_err(|_| damaged("signature"))?;
        Ok(SignedCheckpoint {
            checkpoint: Checkpoint {
                registry_id: self.registry_id,
                sequence: self.sequence,
                hash: event_hash(&self.hash)?,
                at: self.at,
                key_id: self
                    .key_id
                    .parse()
                    .map_err(|_| damaged("key id of a checkpoint"))?,
            },
            signature: CheckpointSignature::from_bytes(signature),
        })
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT h.registry_id, c.sequence, c.hash, c.at, c.key_id, c.signature \
             FROM audit_checkpoints c JOIN heads h ON h.id = 1 ",
            $rest
        )
    };
}

/// The newest one.
pub(crate) async fn latest(
    connection: &mut AnyConnection,
) -> Result<Option<SignedCheckpoint>, RegistryError> {
    let row: Option<CheckpointRow> = sqlx::query_as(select!("ORDER BY c.sequence DESC LIMIT 1"))
        .fetch_optional(connection)
        .await?;
    row.map(CheckpointRow::into_signed).transpose()
}

/// The one that the trail begins after, when older events were pruned.
pub(crate) async fn cut(
    connection: &mut AnyConnection,
) -> Result<Option<SignedCheckpoint>, RegistryError> {
    let row: Option<CheckpointRow> = sqlx::query_as(select!(
        "WHERE c.pruned = 1 ORDER BY c.sequence DESC LIMIT 1"
    ))
    .fetch_optional(connection)
    .await?;
    row.map(CheckpointRow::into_signed).transpose()
}

/// Those after one sequence up to another, in order.
pub(crate) async fn between(
    connection: &mut AnyConnection,
    after: i64,
    through: i64,
) -> Result<Vec<SignedCheckpoint>, RegistryError> {
    let rows: Vec<CheckpointRow> = sqlx::query_as(select!(
        "WHERE c.sequence > $1 AND c.sequence <= $2 ORDER BY c.sequence"
    ))
    .bind(after)
    .bind(through)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(CheckpointRow::into_signed).collect()
}

/// Keeps one; at the same place a newer signature takes the place of an older one.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    signed: &SignedCheckpoint,
    pruned: bool,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO audit_checkpoints (sequence, hash, at, key_id, signature, pruned) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (sequence) DO UPDATE SET hash = excluded.hash, \
         at = excluded.at, key_id = excluded.key_id, signature = excluded.signature, pruned = excluded.pruned",
    )
    .bind(signed.checkpoint.sequence)
    .bind(signed.checkpoint.hash.as_bytes().to_vec())
    .bind(signed.checkpoint.at)
    .bind(signed.checkpoint.key_id.to_string())
    .bind(signed.signature.as_bytes().to_vec())
    .bind(i64::from(pruned))
    .execute(connection)
    .await?;
    Ok(())
}
