//! Issuing and rotating durably, by one submitter and by 64, beside a raw insert that is as durable.

use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_registry::{Clock, LocalRegistry};
use sqlx::{AnyConnection, Connection};

use crate::fill;
use crate::report::{Figure, Goal, median};

const ROUNDS: usize = 5;
const SLICE: Duration = Duration::from_millis(1000);

struct Place {
    name: &'static str,
    registry: LocalRegistry,
    raw: AnyConnection,
}

pub(crate) async fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let registry = LocalRegistry::open(&file, Clock::system()).await?;
    let mut raw = AnyConnection::connect(&format!(
        "sqlite://{}?mode=rwc",
        folder.path().join("raw.db").display()
    ))
    .await?;
    sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .execute(&mut raw)
        .await?;
    one_place(Place {
        name: "sqlite",
        registry,
        raw,
    })
    .await?;
    let Ok(url) = std::env::var("KEYWRIGHT_TEST_POSTGRES") else {
        eprintln!("no KEYWRIGHT_TEST_POSTGRES: PostgreSQL is not measured");
        return Ok(());
    };
    let mut root = AnyConnection::connect(&url).await?;
    let name = format!("bench_durable_{}", std::process::id());
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut root)
        .await?;
    let address = crate::cold::database_url(&url, &name);
    let registry = LocalRegistry::open_postgres(&address, Clock::system()).await?;
    let raw = AnyConnection::connect(&address).await?;
    let measured = one_place(Place {
        name: "postgres",
        registry,
        raw,
    })
    .await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "DROP DATABASE {name} WITH (FORCE)"
    )))
    .execute(&mut root)
    .await?;
    measured
}

async fn one_place(mut place: Place) -> Result<()> {
    let actor = Actor::person("bench");
    place.registry.adopt_pepper(&actor, "pepper").await?;
    sqlx::raw_sql("CREATE TABLE raw_inserts (id TEXT PRIMARY KEY, a TEXT, b TEXT, c BIGINT)")
        .execute(&mut place.raw)
        .await?;
    let (mut raw, mut issue_1, mut issue_64, mut rotate_1, mut rotate_64) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..=ROUNDS {
        raw.push(raw_inserts(&mut place.raw).await?);
        let (rate, ids) = issue(&place.registry, 1).await?;
        issue_1.push(rate);
        rotate_1.push(rotate(&place.registry, 1, ids).await?);
        let (rate, ids) = issue(&place.registry, 64).await?;
        issue_64.push(rate);
        rotate_64.push(rotate(&place.registry, 64, ids).await?);
    }
    let name = place.name;
    let (raw, issue_64, rotate_64) = (median(raw), median(issue_64), median(rotate_64));
    let (issue_1, rotate_1) = (median(issue_1), median(rotate_1));
    let beside = "single inserts of one row, each committed durably";
    for (case, value, baseline, baseline_is, goal) in [
        ("issue_durable_1", issue_1, raw, beside, None),
        (
            "issue_durable_64",
            issue_64,
            raw,
            beside,
            Some(Goal {
                gate: 3.0,
                goal: 4.5,
                more_is_better: true,
                by_value: false,
            }),
        ),
        (
            "rotate_durable_1",
            rotate_1,
            issue_1,
            "issuing, by one submitter",
            None,
        ),
        (
            "rotate_durable",
            rotate_64,
            issue_64,
            "issuing, by 64 submitters",
            Some(Goal {
                gate: 0.35,
                goal: 0.5,
                more_is_better: true,
                by_value: false,
            }),
        ),
    ] {
        Figure {
            case: format!("{case}_{name}"),
            value,
            unit: "/s",
            baseline,
            baseline_is,
            ratio: value / baseline,
            goal,
        }
        .tell();
    }
    place.registry.close().await;
    Ok(())
}

async fn raw_inserts(connection: &mut AnyConnection) -> Result<f64> {
    let (started, mut done) = (Instant::now(), 0_u32);
    while started.elapsed() < SLICE {
        let id = keywright_domain::base62::random_id(&mut rand::rng());
        sqlx::query(
            "INSERT INTO raw_inserts (id, a, b, c) VALUES ($1, 'some text', 'more text', 1)",
        )
        .bind(id)
        .execute(&mut *connection)
        .await?;
        done += 1;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}

async fn issue(registry: &LocalRegistry, submitters: usize) -> Result<(f64, Vec<String>)> {
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for submitter in 0..submitters {
        let registry = registry.clone();
        tasks.spawn(async move {
            let (actor, peppers) = (Actor::person("bench"), fill::peppers());
            let mut ids = Vec::new();
            while started.elapsed() < SLICE {
                let wish = NewApiKey {
                    name: format!("key of submitter {submitter}"),
                    prefix: "sk_live".into(),
                    scopes: vec!["keys:read".into()],
                    lifetime_ms: Some(90 * DAY_MS),
                    ..NewApiKey::default()
                };
                ids.push(
                    registry
                        .issue_api_key(&actor, &wish, &peppers)
                        .await
                        .unwrap()
                        .key
                        .id,
                );
            }
            ids
        });
    }
    let mut ids = Vec::new();
    while let Some(done) = tasks.join_next().await {
        ids.extend(done?);
    }
    Ok((ids.len() as f64 / started.elapsed().as_secs_f64(), ids))
}

/// Each key once, so that the length of a history plays no part.
async fn rotate(registry: &LocalRegistry, submitters: usize, ids: Vec<String>) -> Result<f64> {
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for part in ids.chunks(ids.len().div_ceil(submitters).max(1)) {
        let (registry, part) = (registry.clone(), part.to_vec());
        tasks.spawn(async move {
            let (actor, peppers) = (Actor::person("bench"), fill::peppers());
            let mut done = 0_u32;
            for id in part {
                if started.elapsed() > SLICE {
                    break;
                }
                let once = keywright_domain::base62::random_id(&mut rand::rng());
                registry
                    .rotate_api_key(&actor, &id, &RotationRequest::default(), &once, &peppers)
                    .await
                    .unwrap();
                done += 1;
            }
            done
        });
    }
    let mut done = 0;
    while let Some(count) = tasks.join_next().await {
        done += count?;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}
