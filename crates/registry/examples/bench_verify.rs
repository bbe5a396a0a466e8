//! Measures verification of keys in process, from the embedded registry, beside a bare select of
//! the same row through the same driver. `cargo xtask bench registry` runs it in release.
//! One JSON object a line; rounds alternate, medians are printed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench, not the product"
)]

use std::time::{Duration, Instant};

use keywright_domain::api_keys::{DAY_MS, NewApiKey, Pepper};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::Scope;
use keywright_registry::{Clock, LocalRegistry, PepperKey};
use serde_json::json;
use sqlx::{AnyConnection, Connection};

const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(250);
const KEYS: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    for (label, size) in [("1k", 1_000), ("100k", 100_000), ("1m", 1_000_000)] {
        measure(label, size).await?;
    }
    Ok(())
}

async fn measure(label: &str, size: i64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let registry = LocalRegistry::open(&file, Clock::system()).await?;
    let actor = Actor::person("bench");
    let pepper = PepperKey {
        id: "pepper".into(),
        pepper: Pepper::from_bytes([7; 32]),
    };
    registry.adopt_pepper(&actor, &pepper.id).await?;
    let mut texts = Vec::new();
    for index in 0..KEYS {
        let wish = NewApiKey {
            name: format!("key {index}"),
            prefix: "sk_live".into(),
            scopes: vec!["keys:read".into()],
            lifetime_ms: Some(90 * DAY_MS),
            allow_never_expires: false,
        };
        let issued = registry.issue_api_key(&actor, &wish, &pepper).await?;
        let text = issued.plain.text().expose().to_owned();
        registry.verify_api_key(&text, None, &pepper).await?; // the first use is a write
        texts.push((text, issued.plain.kid().to_string()));
    }
    let url = format!("sqlite://{}", file.display());
    let mut connection = AnyConnection::connect(&url).await?;
    fill(&mut connection, size - KEYS as i64).await?;

    let scope = Scope::new("keys:read")?;
    let (mut verify, mut bare, mut malformed, mut unknown) = (vec![], vec![], vec![], vec![]);
    for _ in 0..=ROUNDS {
        let mut next = texts.iter().cycle();
        verify.push(
            slice(async || {
                let (text, _) = next.next().unwrap();
                let answer = registry
                    .verify_api_key(text, Some(&scope), &pepper)
                    .await
                    .unwrap();
                assert!(answer.verdict.is_ok());
            })
            .await,
        );
        let mut next = texts.iter().cycle();
        bare.push(
            slice(async || {
                let (_, kid) = next.next().unwrap();
                let mac: Vec<u8> = sqlx::query_scalar("SELECT mac FROM secrets WHERE kid = $1")
                    .bind(kid.clone())
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                assert_eq!(mac.len(), 32);
            })
            .await,
        );
        let broken = texts[0].0.replace("KYWRT1", "KYWRT2");
        malformed.push(
            slice(async || {
                let answer = registry
                    .verify_api_key(&broken, None, &pepper)
                    .await
                    .unwrap();
                assert!(answer.verdict.is_err());
            })
            .await,
        );
        let stranger = keywright_domain::api_keys::PlainKey::generate(
            &keywright_domain::api_keys::Prefix::new("sk_live")?,
            &mut rand::rng(),
        );
        unknown.push(
            slice(async || {
                let answer = registry
                    .verify_api_key(stranger.text().expose(), None, &pepper)
                    .await
                    .unwrap();
                assert!(answer.verdict.is_err());
            })
            .await,
        );
    }
    let bare = median(bare);
    for (case, value) in [
        ("verify_in_process", median(verify)),
        ("refuse_unknown", median(unknown)),
        ("refuse_malformed", median(malformed)),
    ] {
        let line = json!({
            "bench": "registry", "case": format!("{case}_{label}"), "value": round(value), "unit": "us",
            "baseline": round(bare), "baseline_is": "bare select by kid on a held connection",
            "ratio": round(value / bare),
        });
        println!("{line}");
    }
    registry.close().await;
    Ok(())
}

/// Rows that are only there to make the index deep.
async fn fill(connection: &mut AnyConnection, rows: i64) -> anyhow::Result<()> {
    for sql in [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
         INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_order, search_text, kid, last_four, \
         expires_order, old_works_until, last_used_order) \
         SELECT 'filler' || i, 'filler', 'sk_live', 'keys:read', 1, i, 'filler', 'filler', \
         substr(hex(randomblob(8)), 1, 12), 'aaaa', i, 0, 0 FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
         INSERT INTO secrets (kid, key_id, position, mac, algorithm, pepper_id, last_four, stored, created_at, use_count) \
         SELECT hex(randomblob(8)), 'filler' || i, 0, randomblob(32), 'x', 'pepper', 'aaaa', 'active', i, 0 FROM n",
    ] {
        sqlx::query(sql)
            .bind(rows)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Microseconds for one call, over a slice of time.
async fn slice(mut call: impl AsyncFnMut()) -> f64 {
    let started = Instant::now();
    let mut calls = 0_u32;
    while started.elapsed() < SLICE {
        call().await;
        calls += 1;
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

/// The first round warms up and does not count.
fn median(mut values: Vec<f64>) -> f64 {
    values.remove(0);
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
