//! Searches of lists on PostgreSQL: when its index of trigrams is asked, and for how long.

use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_registry::{ApiKeyFilter, ApiKeyQuery, LocalRegistry};

use super::{Fixture, Kind, START};

const KEYS: i64 = 20_000;

/// Keys whose texts have no `zq`; three of them have `rare`.
async fn fill(fixture: &Fixture) -> Result<()> {
    let mut stranger = fixture.stranger().await?;
    sqlx::query(
        "INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_key, search_text, kid, last_four, \
         expires_order, old_works_until, works_until, rotating_until, last_used_order, environment) \
         SELECT 'id' || i, 'k', 'sk_live', 'keys:read', 1, $2 + i, 'k', \
         'k sk_live keys:read number' || i || CASE WHEN i % 7000 = 1 THEN ' rare' ELSE '' END, \
         'K', 'aaaa', 9, 0, 9, 0, 0, 'live' FROM generate_series(1, $1) AS i",
    )
    .bind(KEYS)
    .bind(START)
    .execute(&mut stranger)
    .await?;
    sqlx::raw_sql("ANALYZE api_keys")
        .execute(&mut stranger)
        .await?;
    Ok(())
}

/// How many keys are found, page by page: a walk ends a page after a while, however little it found.
async fn search(registry: &LocalRegistry, text: &str) -> Result<usize> {
    let (mut found, mut cursor) = (0, None);
    loop {
        let query = ApiKeyQuery {
            filter: ApiKeyFilter {
                text: text.into(),
                ..ApiKeyFilter::default()
            },
            cursor,
            limit: 50,
            ..ApiKeyQuery::default()
        };
        let page = registry.list_api_keys(&query).await?;
        found += page.items.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(found);
        }
    }
}

#[tokio::test]
async fn a_walk_for_two_letters_does_not_read_the_whole_index_of_trigrams() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    fill(&fixture).await?;
    // From the sixth time on a statement may have a plan that knows no patterns.
    for _ in 0..16 {
        assert_eq!(search(&fixture.registry, "zq").await?, 0);
    }
    // What was read is told when a connection ends.
    fixture.registry.close().await;
    let mut stranger = fixture.stranger().await?;
    let scans = "SELECT CAST(idx_scan AS BIGINT) FROM pg_stat_user_indexes WHERE indexrelname = $1";
    let began = Instant::now();
    loop {
        let of = async |stranger: &mut _, index: &str| -> Result<i64> {
            Ok(sqlx::query_scalar(scans)
                .bind(index.to_owned())
                .fetch_one(stranger)
                .await?)
        };
        if of(&mut stranger, "api_keys_by_created").await? >= 16 {
            let trigrams = of(&mut stranger, "api_keys_by_trigram").await?;
            assert_eq!(trigrams, 0, "it has no trigram to look for");
            return Ok(());
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "nothing was told"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_index_that_takes_long_for_a_search_is_not_waited_for() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    fill(&fixture).await?;
    assert_eq!(search(&fixture.registry, "rare").await?, 3);
    let mut stranger = fixture.stranger().await?;
    sqlx::raw_sql(
        "CREATE OR REPLACE VIEW api_key_search AS \
         SELECT k.id, k.search_text FROM (SELECT pg_sleep(30)) AS late, api_keys k",
    )
    .execute(&mut stranger)
    .await?;
    let began = Instant::now();
    let found = search(&fixture.registry, "rare").await?;
    let took = began.elapsed();
    assert_eq!(found, 3, "by a walk, in full");
    assert!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn the_limit_of_the_look_into_the_index_is_not_that_of_the_walk() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    fill(&fixture).await?;
    let mut stranger = fixture.stranger().await?;
    // Without the keys: these may be locked meanwhile.
    sqlx::raw_sql(
        "DROP VIEW api_key_search; CREATE VIEW api_key_search AS \
         SELECT ''::text AS id, 'rare'::text AS search_text FROM pg_sleep(30)",
    )
    .execute(&mut stranger)
    .await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        .execute(&mut stranger)
        .await?;
    let registry = fixture.registry.clone();
    let searching = tokio::spawn(async move { search(&registry, "rare").await });
    // Much longer than the look may take.
    tokio::time::sleep(Duration::from_millis(700)).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await?;
    assert_eq!(searching.await??, 3);
    Ok(())
}

/// Where too much is asked, each list waits for what is in the way once, and holds its connection no longer.
#[tokio::test]
async fn a_list_that_meets_a_lock_does_not_wait_for_it_twice() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    let mut stranger = fixture.stranger().await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        .execute(&mut stranger)
        .await?;
    let began = Instant::now();
    let listed = fixture
        .registry
        .list_api_keys(&ApiKeyQuery::default())
        .await;
    let took = began.elapsed();
    assert_eq!(listed.expect_err("a lock").code(), "registry_locked");
    // A lock is waited for for ten seconds.
    assert!(took < Duration::from_secs(15), "{took:?}");
    Ok(())
}
