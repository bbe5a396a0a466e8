//! Verification while the index is empty: every key is asked of the database, alone and by 64 at
//! once, beside single selects of the same rows.

use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_domain::api_keys::PlainKey;
use keywright_domain::audit::Actor;
use keywright_registry::{Clock, LocalRegistry, VerifyRequest};
use sqlx::{AnyConnection, Connection};

use crate::fill;
use crate::report::{Figure, median};

const ROUNDS: usize = 5;
const SIZE: i64 = 100_000;
const KNOWN: usize = 20_000;

/// The address of another database in the same cluster.
pub(crate) fn database_url(url: &str, name: &str) -> String {
    match url.rsplit_once('/') {
        Some((head, _)) => format!("{head}/{name}"),
        None => url.to_owned(),
    }
}

pub(crate) async fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let registry = LocalRegistry::open(&file, Clock::system()).await?;
    registry
        .adopt_pepper(&Actor::person("bench"), "pepper")
        .await?;
    let mut connection = AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
    fill::filler_sqlite(&mut connection, SIZE).await?;
    let keys = fill::known(&mut connection, KNOWN).await?;
    one_place("sqlite", &registry, connection, &keys).await?;
    registry.close().await;
    let Ok(url) = std::env::var("KEYWRIGHT_TEST_POSTGRES") else {
        eprintln!("no KEYWRIGHT_TEST_POSTGRES: PostgreSQL is not measured");
        return Ok(());
    };
    let mut root = AnyConnection::connect(&url).await?;
    let name = format!("bench_cold_{}", std::process::id());
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut root)
        .await?;
    let measured = async {
        let address = database_url(&url, &name);
        let registry = LocalRegistry::open_postgres(&address, Clock::system()).await?;
        registry
            .adopt_pepper(&Actor::person("bench"), "pepper")
            .await?;
        let mut connection = AnyConnection::connect(&address).await?;
        fill::filler_postgres(&mut connection, SIZE).await?;
        let keys = fill::known(&mut connection, KNOWN).await?;
        // What the database would do by itself within a minute of such an import.
        sqlx::raw_sql("VACUUM ANALYZE api_keys, secrets")
            .execute(&mut connection)
            .await?;
        one_place("postgres", &registry, connection, &keys).await?;
        registry.close().await;
        Ok(())
    }
    .await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "DROP DATABASE {name} WITH (FORCE)"
    )))
    .execute(&mut root)
    .await?;
    measured
}

async fn one_place(
    name: &str,
    registry: &LocalRegistry,
    mut connection: AnyConnection,
    keys: &[PlainKey],
) -> Result<()> {
    let (mut select, mut alone, mut coalesced) = (vec![], vec![], vec![]);
    let part = keys.len() / 4;
    for round in 0..=ROUNDS {
        let at = (round * part) % (keys.len() - part + 1);
        let keys = &keys[at..at + part];
        let started = Instant::now();
        for plain in keys {
            let mac: Vec<u8> = sqlx::query_scalar("SELECT mac FROM secrets WHERE kid = $1")
                .bind(plain.kid().to_string())
                .fetch_one(&mut connection)
                .await?;
            assert_eq!(mac.len(), 32);
        }
        select.push(rate(keys.len(), started.elapsed()));
        registry.forget_index(Duration::from_secs(60)).await;
        alone.push(verify_all(registry, keys, 1).await?);
        registry.forget_index(Duration::from_secs(60)).await;
        coalesced.push(verify_all(registry, keys, 64).await?);
    }
    let (select, alone, coalesced) = (median(select), median(alone), median(coalesced));
    for (case, value) in [("verify_cold_1", alone), ("verify_cold_64", coalesced)] {
        Figure {
            case: format!("{case}_{name}"),
            value,
            unit: "/s",
            baseline: select,
            baseline_is: "single selects by kid on a held connection",
            ratio: value / select,
            goal: None,
        }
        .tell();
    }
    Ok(())
}

async fn verify_all(registry: &LocalRegistry, keys: &[PlainKey], at_once: usize) -> Result<f64> {
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for part in keys.chunks(keys.len().div_ceil(at_once)) {
        let (registry, part) = (registry.clone(), part.to_vec());
        tasks.spawn(async move {
            let peppers = fill::peppers();
            for plain in part {
                let request = VerifyRequest {
                    presented: plain.text().expose(),
                    ..VerifyRequest::default()
                };
                assert!(
                    registry
                        .verify_api_key(&request, &peppers)
                        .await
                        .unwrap()
                        .verdict
                        .is_ok()
                );
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    Ok(rate(keys.len(), started.elapsed()))
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
