//! PostgreSQL's own side: its address, its types, its version. Only this module speaks its dialect.

use std::net::IpAddr;
use std::str::FromStr;

use sqlx::AnyConnection;
use sqlx::any::AnyConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::RegistryError;

/// A reading transaction that sees one moment; plain ones see each statement's own.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// What protects the connections to a PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresTransport {
    /// It is on this machine: a socket in the file system, or loopback.
    ThisMachine,
    /// TLS, and its certificate is checked with its name (`sslmode=verify-full`).
    Verified,
    /// TLS without a look at whom it leads to (`require`; `verify-ca` too, which takes a certificate of any name
    /// from any public authority): safe from who listens, not from who answers.
    Unverified,
    /// Clear text through a network, as was asked for (`sslmode=disable`).
    Clear,
}

/// What would protect the connections to this address.
///
/// # Errors
/// [`RegistryError::UnsafePath`] for an address that is none, and for one of another machine that does not say
/// `sslmode`: a network that takes TLS away would go unnoticed. It does not quote the address, which may hold a password.
pub fn postgres_transport(address: &str) -> Result<PostgresTransport, RegistryError> {
    if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
        return Err(RegistryError::UnsafePath(
            "a database's address begins with postgres://".into(),
        ));
    }
    let options = PgConnectOptions::from_str(address)
        .map_err(|_| RegistryError::UnsafePath("the database's address is not one".into()))?;
    let host = options.get_host();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if options.get_socket().is_some() || host.starts_with('/') || name == "localhost" || is_loopback
    {
        return Ok(PostgresTransport::ThisMachine);
    }
    match options.get_ssl_mode() {
        PgSslMode::VerifyFull => Ok(PostgresTransport::Verified),
        PgSslMode::Require | PgSslMode::VerifyCa => Ok(PostgresTransport::Unverified),
        PgSslMode::Disable => Ok(PostgresTransport::Clear),
        PgSslMode::Allow | PgSslMode::Prefer => Err(RegistryError::UnsafePath(
            "PostgreSQL is on another machine: add ?sslmode=verify-full to its address (and &sslrootcert=FILE for \
             an authority of your own), or ?sslmode=disable where the network itself is protected"
                .into(),
        )),
    }
}

/// Checks an address before anything is sent to it.
pub(crate) fn options(address: &str) -> Result<AnyConnectOptions, RegistryError> {
    postgres_transport(address)?;
    // The error may quote the address.
    AnyConnectOptions::from_str(address)
        .map_err(|_| RegistryError::UnsafePath("the database's address is not one".into()))
}

/// Every connection: a commit that was answered survives a crash, and nobody waits for ever. Every
/// statement of ours has an index that it is written for, and a table is read whole only where no index
/// helps: what the planner thinks of a table that grew since it last looked would otherwise decide how
/// fast a rotation is, for as long as the prepared statement lives. Where it must be read whole all the
/// same, that counts as so dear that each such query would be compiled to machine code first.
///
/// # Errors
/// [`RegistryError::Store`] for a replica that is not promoted: what it says may be late by any time, so
/// that a key that was revoked elsewhere would be let through.
pub(crate) async fn configure(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    let is_replica: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(&mut *connection)
        .await?;
    if is_replica {
        return Err(RegistryError::Store(
            "this PostgreSQL is a replica, and the primary is needed".into(),
        ));
    }
    sqlx::raw_sql(
        "SET synchronous_commit = on; SET lock_timeout = '10s'; SET statement_timeout = '60s'; \
         SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning; SET enable_seqscan = off; SET jit = off;",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The connection that migrates. A step may read a table of millions of keys, and may wait for another
/// node that is at it: cut off half-way it would only begin anew.
pub(crate) async fn configure_migration(
    connection: &mut AnyConnection,
) -> Result<(), RegistryError> {
    sqlx::raw_sql("SET lock_timeout = 0; SET statement_timeout = 0")
        .execute(connection)
        .await?;
    Ok(())
}

/// Until its end, the statements of a transaction may take any time.
pub(crate) async fn take_time(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    sqlx::raw_sql("SET LOCAL statement_timeout = 0")
        .execute(connection)
        .await?;
    Ok(())
}

/// The writer's connection. Whoever stands still in the middle of a transaction holds the row that all
/// nodes' writers wait for: the database ends it before the others give up.
pub(crate) async fn configure_writer(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    sqlx::raw_sql("SET idle_in_transaction_session_timeout = '1s'")
        .execute(connection)
        .await?;
    Ok(())
}

/// The two type names of our migrations that PostgreSQL does not have. Text compares by bytes, as
/// in SQLite, so that pages are cut at the same places.
pub(crate) async fn prepare(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    for (name, definition) in [
        ("blob", "CREATE DOMAIN blob AS bytea"),
        (
            "ordered_text",
            "CREATE DOMAIN ordered_text AS text COLLATE \"C\"",
        ),
    ] {
        let known: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pg_type WHERE typname = $1 AND pg_type_is_visible(oid)",
        )
        .bind(name)
        .fetch_one(&mut *connection)
        .await?;
        if known == 0
            && let Err(error) = sqlx::query(definition).execute(&mut *connection).await
        {
            // Another node may have been first by a moment.
            let taken = error.as_database_error().and_then(|error| error.code());
            if taken.as_deref() != Some("42710") && taken.as_deref() != Some("23505") {
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// Makes the search index where there is none. Without `pg_trgm` (a trusted extension: whoever may
/// create in the database may create it) searches read every key, and that is said once.
pub(crate) async fn prepare_search(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    // In one block, under a lock of its own: several nodes may start at once.
    sqlx::raw_sql(
        "BEGIN;
         SET LOCAL statement_timeout = 0;
         SET LOCAL lock_timeout = 0;
         DO $$ BEGIN
            PERFORM pg_advisory_xact_lock(hashtext('keywright'), hashtext('search'));
            IF to_regclass('api_key_search') IS NULL THEN
                CREATE VIEW api_key_search AS SELECT id, search_text FROM api_keys;
                CREATE VIEW api_key_totals AS SELECT CAST(GREATEST(reltuples, 0) AS BIGINT) AS count
                    FROM pg_class WHERE oid = 'api_keys'::regclass;
            END IF;
            IF to_regclass('api_keys_by_trigram') IS NULL THEN
                BEGIN
                    CREATE EXTENSION IF NOT EXISTS pg_trgm;
                    CREATE INDEX api_keys_by_trigram ON api_keys USING gin (search_text gin_trgm_ops);
                EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file
                        OR undefined_object THEN
                    NULL;
                END;
            END IF;
            -- What waits to be sorted into the index is sorted in the background, every second. Only much more
            -- than that is done by whoever writes.
            IF EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass('api_keys_by_trigram') AND reloptions IS NULL) THEN
                BEGIN
                    ALTER INDEX api_keys_by_trigram SET (gin_pending_list_limit = 32768);
                EXCEPTION WHEN insufficient_privilege THEN
                    NULL;
                END;
            END IF;
         END $$;
         COMMIT;",
    )
    .execute(&mut *connection)
    .await?;
    let indexed: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_class WHERE relname = 'api_keys_by_trigram' AND pg_table_is_visible(oid)",
    )
    .fetch_one(connection)
    .await?;
    if indexed == 0 {
        tracing::warn!("this database has no pg_trgm: searches for text read every key");
    }
    Ok(())
}

/// Sorts what waits into the search index. Only for whoever made it, and where it is.
pub(crate) async fn tidy_search(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    sqlx::query(
        "SELECT gin_clean_pending_list(c.oid) FROM pg_class c \
         WHERE c.oid = to_regclass('api_keys_by_trigram') AND pg_has_role(c.relowner, 'USAGE')",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Newest migration the database has seen; 0 for one without any.
pub(crate) async fn schema_version(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    let known: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_class WHERE relname = '_sqlx_migrations' AND pg_table_is_visible(oid)",
    )
    .fetch_one(&mut *connection)
    .await?;
    if known == 0 {
        return Ok(0);
    }
    Ok(
        sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(connection)
            .await?,
    )
}

/// Size of the database, in bytes.
pub(crate) async fn size(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(
        sqlx::query_scalar("SELECT pg_database_size(current_database())")
            .fetch_one(connection)
            .await?,
    )
}

/// Replicas that follow, and whether commits wait for any.
pub(crate) async fn replication(
    connection: &mut AnyConnection,
) -> Result<(i64, bool), RegistryError> {
    Ok(sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM pg_stat_replication), \
         current_setting('synchronous_standby_names') <> ''",
    )
    .fetch_one(connection)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_200_an_address_of_another_machine_says_how_it_is_protected() {
        use PostgresTransport::{Clear, ThisMachine, Unverified, Verified};
        for (address, expected) in [
            ("postgres://u:p@127.0.0.1/k", ThisMachine),
            ("postgres://u@127.9.9.9:5433/k", ThisMachine),
            ("postgres://u@[::1]/k", ThisMachine),
            ("postgres://u@localhost/k", ThisMachine),
            ("postgres:///k?host=/run/postgresql", ThisMachine),
            ("postgresql://u@%2Frun%2Fpostgresql/k", ThisMachine),
            ("postgres://u@db.example/k?sslmode=verify-full", Verified),
            ("postgres://u@db.example/k?sslmode=verify-ca", Unverified),
            ("postgres://u@10.0.0.9/k?sslmode=require", Unverified),
            ("postgres://u@10.0.0.9/k?sslmode=disable", Clear),
        ] {
            assert_eq!(postgres_transport(address).unwrap(), expected, "{address}");
        }
        for address in [
            "postgres://keywright:hunter2@db.example/k",
            "postgres://u:hunter2@10.0.0.9/k?sslmode=prefer",
            "postgres://u:hunter2@10.0.0.9/k?sslmode=allow",
            "postgres://u:hunter2@localhost.example/k",
            "postgres:///k?host=db.example&password=hunter2",
            "postgres://u:hunter2@[2001:db8::1]/k",
            "mysql://u:hunter2@localhost/k",
            "postgres://u:hunter2@localhost:99999999/k",
        ] {
            let error = postgres_transport(address).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
