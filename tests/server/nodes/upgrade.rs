//! A newer version was started somewhere and brought the database to its own schema: older nodes go on until they
//! are restarted, and then serve nothing (docs/nodes.md). And the first start of a newer version, killed in its middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::task::JoinSet;

use super::parts::{Caller, Three};
use crate::server::harness::Options;
use crate::support::older;
use crate::support::postgres::Database;

const RESTARTED: usize = 2;

/// What a later version may do to the schema while older ones run: more columns, more tables.
async fn upgrade(url: &str) -> Result<usize> {
    let mut later = PgConnection::connect(url).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' \
         AND tablename <> '_sqlx_migrations'",
    )
    .fetch_all(&mut later)
    .await?;
    for table in &tables {
        let add = format!("ALTER TABLE \"{table}\" ADD COLUMN later_version TEXT DEFAULT 'x'");
        sqlx::raw_sql(AssertSqlSafe(add))
            .execute(&mut later)
            .await
            .with_context(|| table.clone())?;
    }
    sqlx::raw_sql(
        "CREATE TABLE later_version (id BIGINT PRIMARY KEY); \
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'a later version', TRUE, '\\x00', 0)",
    )
    .execute(&mut later)
    .await?;
    later.close().await?;
    Ok(tables.len())
}

/// Issues a key at one node, has it verified at all, rotates it and revokes it, over and over: how often.
async fn live(callers: [Caller; 3], own: usize, stop: Arc<AtomicBool>) -> Result<usize> {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let here = &callers[own];
        let (status, made) = here.post("/api/v1/keys", &Three::wish(json!({}))).await?;
        ensure!(status == 201, "{status} {made}");
        let id = made["key"]["id"].as_str().context("no id")?;
        let secret = made["secret"].as_str().context("no secret")?;
        for caller in &callers {
            let code = caller.code(secret).await?;
            ensure!(code == "valid", "{code}");
        }
        for (step, body) in [
            ("rotations?wait_ms=0", json!({})),
            ("revoke", json!({ "reason": "a test" })),
        ] {
            let path = format!("/api/v1/keys/{id}/{step}");
            let (status, answer) = here.post(&path, &body).await?;
            ensure!(status == 200 || status == 201, "{step}: {status} {answer}");
        }
        for caller in &callers {
            let code = caller.code(secret).await?;
            ensure!(code == "revoked", "{code}");
        }
        rounds += 1;
    }
    Ok(rounds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_154_older_nodes_go_on_over_a_newer_schema_and_none_starts_over_it() -> Result<()> {
    let database = Database::create().await?;
    let mut three = Three::on(database.url(), Options::default()).await?;
    let (_, kept) = three.issue(json!({})).await?;
    let callers = [three.caller(0), three.caller(1), three.caller(2)];
    let stop = Arc::<AtomicBool>::default();
    let mut living = JoinSet::new();
    for own in 0..3 {
        living.spawn(live(callers.clone(), own, Arc::clone(&stop)));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tables = upgrade(database.url()).await?;
    ensure!(tables > 10, "only {tables} tables");
    // What they do now and then by themselves comes too: uses are written, rotations settled.
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(lived) = living.join_next().await {
        let rounds = lived??;
        ensure!(rounds > 1, "only {rounds} rounds");
    }
    for node in 0..3 {
        ensure!(three.caller(node).is_ready().await, "node {node}");
    }

    // One is restarted as it is: it says why it does not start, and nothing answers in its place.
    three.signal(RESTARTED, "TERM")?;
    three.ended(RESTARTED).await?;
    let refused = three.again(RESTARTED).await.err().context("it started")?;
    let said = format!("{refused:#}");
    ensure!(said.contains("schema 9999"), "it does not say why: {said}");
    ensure!(!three.caller(RESTARTED).is_ready().await);
    ensure!(three.caller(RESTARTED).code(&kept).await.is_err());
    // Neither does any command of it touch what is there.
    let words = ["clients", "add", "--id", "late", "--public"];
    let (success, _, complaint) = three.first().try_command(&words).await?;
    ensure!(!success && complaint.contains("schema 9999"), "{complaint}");
    for node in 0..2 {
        ensure!(three.caller(node).code(&kept).await? == "valid");
        let (status, made) = three
            .caller(node)
            .post("/api/v1/keys", &Three::wish(json!({})))
            .await?;
        ensure!(status == 201, "{status} {made}");
    }
    three.close().await?;
    database.close().await
}

/// Before webhooks got columns of their own; the step that makes them is the one that is killed.
const OLDER: i64 = 6;
const BEFORE_THE_STEP: i64 = 23;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_154_killed_while_it_migrates_and_the_next_two_finish_it_together() -> Result<()> {
    let database = Database::create().await?;
    let mut three = Three::on(database.url(), Options::default()).await?;
    let (_, kept) = three.issue(json!({})).await?;
    let (id, ended) = three.issue(json!({})).await?;
    let (status, answer) = three
        .caller(1)
        .post(&format!("/api/v1/keys/{id}/revoke"), &json!({}))
        .await?;
    ensure!(status == 200, "{answer}");
    for node in 0..3 {
        three.signal(node, "TERM")?;
    }
    for node in 0..3 {
        three.ended(node).await?;
    }
    let mut looker = PgConnection::connect(database.url()).await?;
    let newest = older::shape(&mut looker).await?;
    let rows = older::rows_of(&mut looker).await?;
    older::go_back(&mut looker, &rows, OLDER).await?;
    let old = older::rows_of(&mut looker).await?;
    // A backup that takes its time: what changes this table waits for it.
    let mut holder = PgConnection::connect(database.url()).await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE webhooks IN ACCESS SHARE MODE")
        .execute(&mut holder)
        .await?;
    tokio::select! {
        // Given up, a start that did not come to its end is killed (`kill -9`).
        started = three.again(0) => anyhow::bail!("it did not wait: {started:?}"),
        stuck = older::until_waiting(&mut looker, "relation", 1) => drop(stuck?),
    }
    // Whoever looks why nothing answers yet is told.
    let log = three.first().logged();
    ensure!(log.contains("migrating the registry"), "{log}");
    // Two at once, while the session of the dead one still waits in the middle of its step.
    let released = async {
        older::until_waiting(&mut looker, "advisory", 2).await?;
        let (reached, half): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT MAX(version) FROM _sqlx_migrations), (SELECT COUNT(*) FROM pg_attribute \
             WHERE attrelid = 'policies'::regclass AND attname = 'max_age_ms')",
        )
        .fetch_one(&mut looker)
        .await?;
        ensure!(reached == BEFORE_THE_STEP && half == 0, "{reached} {half}");
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
        anyhow::Ok(())
    };
    let (started, released) = tokio::join!(three.further_again(), released);
    released?;
    started?;
    three.again(0).await?;
    let shape = older::shape(&mut looker).await?;
    let other: Vec<_> = shape.symmetric_difference(&newest).collect();
    ensure!(other.is_empty(), "another schema: {other:#?}");
    let now = older::rows_of(&mut looker).await?;
    for (table, many) in old.iter().map(|(table, rows)| (table, rows.len())) {
        let left = now.get(table).map_or(0, Vec::len);
        // Nodes come and go, and what they do now and then is written down.
        let moves = ["nodes", "jobs"].contains(&table.as_str());
        ensure!(moves || left >= many, "{table}: {left} of {many}");
    }
    let (_, new) = three.issue(json!({})).await?;
    for node in 0..3 {
        let caller = three.caller(node);
        ensure!(caller.is_ready().await, "node {node}");
        for (secret, expected) in [(&kept, "valid"), (&ended, "revoked"), (&new, "valid")] {
            let code = caller.code(secret).await?;
            ensure!(code == expected, "node {node}: {code} and not {expected}");
        }
    }
    let (success, said, complaint) = three.first().try_command(&["doctor"]).await?;
    ensure!(success, "{said}{complaint}");
    holder.close().await?;
    looker.close().await?;
    three.close().await?;
    database.close().await
}
