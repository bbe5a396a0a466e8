//! A PostgreSQL database as an older version left it: the schema that its migrations make, and in it the rows of
//! today's, without the columns that came later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};

/// The rows of each table, by the names of their columns.
pub(crate) type Rows = BTreeMap<String, Vec<Map<String, Value>>>;

/// The domains that the registry makes before its first migration.
const TYPES: &str = "CREATE DOMAIN blob AS bytea; CREATE DOMAIN ordered_text AS text COLLATE \"C\"";

async fn run(connection: &mut PgConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.clone()))
        .execute(connection)
        .await
        .with_context(|| sql)?;
    Ok(())
}

async fn texts(connection: &mut PgConnection, sql: String) -> Result<Vec<String>> {
    let found = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
        .fetch_all(connection)
        .await;
    found.with_context(|| sql)
}

async fn tables(connection: &mut PgConnection) -> Result<Vec<String>> {
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' \
               AND tablename <> '_sqlx_migrations' ORDER BY 1";
    texts(connection, sql.to_owned()).await
}

async fn columns(connection: &mut PgConnection, table: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT column_name::text FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
    );
    texts(connection, sql).await
}

/// Everything that is in it.
pub(crate) async fn rows_of(connection: &mut PgConnection) -> Result<Rows> {
    let mut rows = Rows::new();
    for table in tables(connection).await? {
        let sql = format!("SELECT row_to_json(t)::text FROM \"{table}\" t");
        let found = texts(connection, sql).await?;
        let read = found.iter().map(|row| serde_json::from_str(row));
        rows.insert(table, read.collect::<Result<_, _>>()?);
    }
    Ok(rows)
}

/// The same rows as far as a schema has tables and columns for them, to be compared.
pub(crate) fn narrowed(rows: &Rows, like: &Rows) -> BTreeMap<String, BTreeSet<String>> {
    let mut narrowed = BTreeMap::new();
    for (table, old) in like {
        let names = old.first().map(|row| row.keys().collect::<Vec<_>>());
        let Some(names) = names else { continue };
        let of = |row: &Map<String, Value>| {
            let parts = names.iter().map(|name| format!("{name}: {}", &row[*name]));
            parts.collect::<Vec<_>>().join(", ")
        };
        let found = rows.get(table).map(|rows| rows.iter().map(of).collect());
        narrowed.insert(table.clone(), found.unwrap_or_default());
    }
    narrowed
}

/// Puts one row into each table that has none, so that no step of a migration finds an empty one.
pub(crate) async fn fill_empty(connection: &mut PgConnection) -> Result<()> {
    run(
        connection,
        "SET session_replication_role = replica".to_owned(),
    )
    .await?;
    for (table, rows) in rows_of(connection).await? {
        if !rows.is_empty() {
            continue;
        }
        let sql = format!(
            "SELECT data_type::text FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
        );
        let mut values = Vec::new();
        for kind in texts(connection, sql).await? {
            values.push(match kind.as_str() {
                "bigint" | "integer" => "7",
                "text" => "'seven'",
                "bytea" => "'\\x07'",
                other => anyhow::bail!("{table} has a column of type {other}"),
            });
        }
        let values = values.join(", ");
        run(
            connection,
            format!("INSERT INTO \"{table}\" VALUES ({values})"),
        )
        .await?;
    }
    run(
        connection,
        "SET session_replication_role = origin".to_owned(),
    )
    .await
}

/// The migrations up to a version, from the same files that the registry has in it.
async fn migrator(version: i64) -> Result<Migrator> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/registry/migrations");
    let mut migrator = Migrator::new(files).await?;
    let migrations = migrator.migrations.to_mut();
    migrations.retain(|one| one.version <= version);
    ensure!(migrations.last().map(|one| one.version) == Some(version));
    Ok(migrator)
}

/// The versions that PostgreSQL ever had, but the newest.
pub(crate) async fn versions(newest: i64) -> Result<Vec<i64>> {
    let all = migrator(newest).await?;
    let versions = all.iter().map(|one| one.version);
    // It begins with the third.
    Ok(versions.filter(|one| (3..newest).contains(one)).collect())
}

/// Makes the database what that version would have left: nobody else may have it open.
pub(crate) async fn go_back(
    connection: &mut PgConnection,
    rows: &Rows,
    version: i64,
) -> Result<()> {
    let anew = format!("DROP SCHEMA public CASCADE; CREATE SCHEMA public; {TYPES}");
    run(connection, anew).await?;
    let migrator = migrator(version).await?;
    migrator.run_direct(None, connection, false).await?;
    // What a row refers to may come after it. Rows that the migrations wrote are among the others.
    run(
        connection,
        "SET session_replication_role = replica".to_owned(),
    )
    .await?;
    for table in tables(connection).await? {
        run(connection, format!("DELETE FROM \"{table}\"")).await?;
        let names = columns(connection, &table).await?;
        let names = names.iter().map(|name| format!("\"{name}\""));
        let names = names.collect::<Vec<_>>().join(", ");
        let sql = format!(
            "INSERT INTO \"{table}\" ({names}) SELECT {names} \
             FROM json_populate_recordset(NULL::\"{table}\", CAST(CAST($1 AS TEXT) AS JSON))"
        );
        let found = rows.get(&table).context("a table that is no more")?;
        sqlx::query(AssertSqlSafe(sql))
            .bind(serde_json::to_string(found)?)
            .execute(&mut *connection)
            .await
            .with_context(|| table)?;
    }
    run(
        connection,
        "SET session_replication_role = origin".to_owned(),
    )
    .await
}

/// The schema, and which migrations made it: two of the same shape are the same.
pub(crate) async fn shape(connection: &mut PgConnection) -> Result<BTreeSet<String>> {
    let sql = "SELECT concat_ws(' ', table_name, column_name, data_type, domain_name, is_nullable, column_default) \
                   FROM information_schema.columns WHERE table_schema = 'public' \
               UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
               UNION ALL SELECT concat_ws(' ', conrelid::regclass::text, conname, pg_get_constraintdef(oid)) \
                   FROM pg_constraint WHERE connamespace = 'public'::regnamespace \
               UNION ALL SELECT concat_ws(' ', version, success, encode(checksum, 'hex')) FROM _sqlx_migrations";
    let found = texts(connection, sql.to_owned()).await?;
    Ok(found.into_iter().collect())
}

/// Who waits in this database: for a lock on a table (`relation`), or for the migrator's own (`advisory`).
pub(crate) async fn waiting(connection: &mut PgConnection, what: &str) -> Result<Vec<i32>> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
               AND wait_event_type = 'Lock' AND wait_event = $1 ORDER BY pid";
    Ok(sqlx::query_scalar(sql)
        .bind(what.to_owned())
        .fetch_all(connection)
        .await?)
}

/// Waits until so many do.
pub(crate) async fn until_waiting(
    connection: &mut PgConnection,
    what: &str,
    many: usize,
) -> Result<Vec<i32>> {
    let begun = Instant::now();
    loop {
        let found = waiting(connection, what).await?;
        if found.len() == many {
            return Ok(found);
        }
        let late = begun.elapsed() > Duration::from_secs(20);
        ensure!(!late, "{found:?} wait for {what}, and not {many}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
