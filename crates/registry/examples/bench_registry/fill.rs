//! Registries of a wanted size: some keys whose text is known, the rest rows that only make it large.

use anyhow::Result;
use keywright_domain::api_keys::{KeyDigest, Pepper, PlainKey, Prefix};
use keywright_domain::audit::Actor;
use keywright_domain::base62::random_id;
use keywright_registry::{Clock, LocalRegistry, PepperKey, Peppers};
use sqlx::{AnyConnection, Connection};

pub(crate) fn peppers() -> Peppers {
    Peppers::new(PepperKey {
        id: "pepper".into(),
        pepper: Pepper::from_bytes([7; 32]),
    })
}

const KEY: &str = "INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_key, search_text, kid, \
     last_four, expires_order, old_works_until, last_used_order) ";
const SECRET: &str = "INSERT INTO secrets (kid, key_id, position, mac, algorithm, pepper_id, last_four, stored, \
     created_at, first_used_at, use_count) ";

/// Adds keys whose texts are returned: used before, so that verifying them writes nothing.
pub(crate) async fn known(connection: &mut AnyConnection, count: usize) -> Result<Vec<PlainKey>> {
    let (prefix, peppers) = (Prefix::new("sk_live")?, peppers());
    let mut keys = Vec::with_capacity(count);
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
    for index in 0..count {
        let plain = PlainKey::generate(&prefix, &mut rand::rng());
        let id = random_id(&mut rand::rng());
        let at = i64::try_from(index)?;
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "{KEY} VALUES ($1, 'known', 'sk_live', 'keys:read', 0, $2, 'known', 'known', $3, 'aaaa', $2, 0, 0)"
        )))
        .bind(id.clone())
        .bind(at)
        .bind(plain.kid().to_string())
        .execute(&mut *connection)
        .await?;
        let mac = peppers.current().pepper.mac(&KeyDigest::of(&plain));
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "{SECRET} VALUES ($1, $2, 0, $3, 'hmac-sha256-of-sha256', 'pepper', 'aaaa', 'active', $4, $4, 1)"
        )))
        .bind(plain.kid().to_string())
        .bind(id)
        .bind(mac.as_bytes().to_vec())
        .bind(at)
        .execute(&mut *connection)
        .await?;
        keys.push(plain);
    }
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    Ok(keys)
}

/// Rows that are only there to make it large (SQLite).
pub(crate) async fn filler_sqlite(connection: &mut AnyConnection, rows: i64) -> Result<()> {
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) ";
    for sql in [
        format!(
            "{numbers}{KEY} SELECT substr('F0000000000000000000', 1, 20 - length(i)) || i, 'filler', 'sk_live', \
             'keys:read', 0, i, 'filler', 'filler', 'aaaaaaaaaaaa', 'aaaa', i, 0, 0 FROM n"
        ),
        format!(
            "{numbers}{SECRET} SELECT hex(randomblob(2)) || printf('%08X', i), substr('F0000000000000000000', 1, 20 - length(i)) || i, 0, \
             randomblob(32), 'hmac-sha256-of-sha256', (SELECT MAX(id) FROM peppers), 'aaaa', 'active', i, i, 1 FROM n"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(rows)
            .execute(&mut *connection)
            .await?;
    }
    // Nobody searches here: what waits for the search index would be indexed beside the measuring.
    sqlx::raw_sql("DELETE FROM api_key_search_pending")
        .execute(connection)
        .await?;
    Ok(())
}

/// The same on PostgreSQL.
pub(crate) async fn filler_postgres(connection: &mut AnyConnection, rows: i64) -> Result<()> {
    for sql in [
        format!(
            "{KEY} SELECT 'F' || lpad(i::text, 19, '0'), 'filler', 'sk_live', 'keys:read', 0, i, 'filler', 'filler', \
             'aaaaaaaaaaaa', 'aaaa', i, 0, 0 FROM generate_series(1, $1) i"
        ),
        format!(
            "{SECRET} SELECT upper(substr(md5(i::text), 1, 12)), 'F' || lpad(i::text, 19, '0'), 0, \
             sha256(i::text::bytea), 'hmac-sha256-of-sha256', (SELECT MAX(id) FROM peppers), 'aaaa', 'active', i, i, 1 \
             FROM generate_series(1, $1) i"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(rows)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A registry of its own, for whoever measures with it: a file, or the address of a database.
pub(crate) async fn place(place: &str, size: i64) -> Result<()> {
    let is_postgres = place.starts_with("postgres");
    let registry = if is_postgres {
        LocalRegistry::open_postgres(place, Clock::system()).await?
    } else {
        LocalRegistry::open(std::path::Path::new(place), Clock::system()).await?
    };
    // A server that was set up over it has one of its own.
    registry
        .adopt_pepper(&Actor::keywright(), &peppers().current().id)
        .await?;
    if is_postgres {
        let mut connection = AnyConnection::connect(place).await?;
        filler_postgres(&mut connection, size).await?;
        connection.close().await?;
    } else {
        let mut connection = AnyConnection::connect(&format!("sqlite://{place}")).await?;
        filler_sqlite(&mut connection, size).await?;
        connection.close().await?;
    }
    registry.close().await;
    Ok(())
}
