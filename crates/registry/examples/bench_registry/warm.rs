//! Verification from memory, at three sizes, beside the cryptography that no registry can do without.

use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, KeyDigest, NewApiKey, PlainKey, Prefix};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::ScopeRequirement;
use keywright_registry::{Clock, LocalRegistry, VerifyRequest};
use sqlx::{AnyConnection, Connection};

use crate::fill;
use crate::report::{Figure, Goal, median};

const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(250);

pub(crate) async fn measure(label: &str, size: i64, racing: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let registry = LocalRegistry::open(&file, Clock::system()).await?;
    registry
        .adopt_pepper(&Actor::person("bench"), "pepper")
        .await?;
    registry.close().await;
    let url = format!("sqlite://{}", file.display());
    let mut connection = AnyConnection::connect(&url).await?;
    sqlx::raw_sql("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000;")
        .execute(&mut connection)
        .await?;
    let known = usize::try_from(size / 10)?.clamp(1_000, 100_000);
    eprintln!("{label}: filling {size} keys");
    fill::filler_sqlite(&mut connection, size - i64::try_from(known)?).await?;
    let keys = fill::known(&mut connection, known).await?;

    let before = resident_mib();
    let started = Instant::now();
    let registry = LocalRegistry::open(&file, Clock::system()).await?;
    let first = started.elapsed();
    while !registry.index_is_complete() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let whole = started.elapsed();
    let bytes = registry.index_statistics().bytes;
    eprintln!(
        "{label}: open after {} ms, {size} keys in memory after {} ms; process {:.0} MiB more",
        first.as_millis(),
        whole.as_millis(),
        resident_mib() - before
    );

    let peppers = fill::peppers();
    let requirement = ScopeRequirement::parse("keys:read")?;
    let (mut verify, mut bare, mut select) = (vec![], vec![], vec![]);
    let (mut malformed, mut unknown) = (vec![], vec![]);
    let mut random = Shuffle(1);
    for _ in 0..=ROUNDS {
        verify.push(
            slice(async || {
                let plain = &keys[random.below(keys.len())];
                let request = VerifyRequest {
                    presented: plain.text().expose(),
                    requirement: Some(&requirement),
                    ..VerifyRequest::default()
                };
                let answer = registry.verify_api_key(&request, &peppers).await.unwrap();
                assert!(answer.verdict.is_ok());
            })
            .await,
        );
        bare.push(
            slice(async || {
                let plain = &keys[random.below(keys.len())];
                let plain = PlainKey::parse(plain.text().expose()).unwrap();
                let mac = peppers.current().pepper.mac(&KeyDigest::of(&plain));
                assert!(mac.matches(&mac.clone()));
            })
            .await,
        );
        select.push(
            slice(async || {
                let plain = &keys[random.below(keys.len())];
                let mac: Vec<u8> = sqlx::query_scalar("SELECT mac FROM secrets WHERE kid = $1")
                    .bind(plain.kid().to_string())
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                assert_eq!(mac.len(), 32);
            })
            .await,
        );
        let broken = keys[0].text().expose().replace("KYWRT1", "KYWRT2");
        malformed.push(refusing(&registry, &peppers, || broken.clone()).await);
        let prefix = Prefix::new("sk_live")?;
        let strangers: Vec<String> = (0..1000)
            .map(|_| {
                PlainKey::generate(&prefix, &mut rand::rng())
                    .text()
                    .expose()
                    .to_owned()
            })
            .collect();
        let mut next = 0;
        unknown.push(
            refusing(&registry, &peppers, || {
                next = (next + 1) % strangers.len();
                strangers[next].clone()
            })
            .await,
        );
    }
    let (verify, bare, select) = (median(verify), median(bare), median(select));
    Figure {
        case: format!("verify_warm_{label}"),
        value: verify,
        unit: "us",
        baseline: bare,
        baseline_is: "parse, SHA-256 and HMAC of the same key",
        ratio: verify / bare,
        goal: None,
    }
    .tell();
    Figure {
        case: format!("verify_warm_{label}_vs_select"),
        value: verify,
        unit: "us",
        baseline: select,
        baseline_is: "a bare select by kid on a held connection",
        ratio: verify / select,
        goal: None,
    }
    .tell();
    let refused = Some(Goal {
        gate: 1.1,
        goal: 0.95,
        more_is_better: false,
        by_value: false,
    });
    for (case, value) in [
        ("malformed", median(malformed)),
        ("unknown", median(unknown)),
    ] {
        Figure {
            case: format!("verify_refused_{case}_{label}"),
            value,
            unit: "us",
            baseline: verify,
            baseline_is: "an acceptance in the same round",
            ratio: value / verify,
            goal: refused,
        }
        .tell();
    }
    let per_million = bytes as f64 / size as f64;
    Figure {
        case: format!("mib_per_1m_keys_{label}"),
        value: per_million,
        unit: "MB",
        baseline: 80.0,
        baseline_is: "kid, mac, key id, states and times of a key, packed",
        ratio: per_million / 80.0,
        // At a thousand keys the fixed tables outweigh the keys.
        goal: (size > 100_000).then_some(Goal {
            gate: 110.0,
            goal: 90.0,
            more_is_better: false,
            by_value: true,
        }),
    }
    .tell();
    revoke(label, &registry, &peppers).await?;
    crate::race::measure(label, &registry, &peppers, racing).await?;
    registry.close().await;
    Ok(())
}

const REVOKED: u32 = 101;

/// What a revocation takes, with nothing beside it.
async fn revoke(
    label: &str,
    registry: &LocalRegistry,
    peppers: &keywright_registry::Peppers,
) -> Result<()> {
    let actor = Actor::person("bench");
    let (mut times, mut issues) = (Vec::new(), Vec::new());
    for _ in 0..REVOKED {
        let started = Instant::now();
        let issued = registry.issue_api_key(&actor, &wish(), peppers).await?;
        issues.push(started.elapsed().as_secs_f64() * 1e6);
        let request = VerifyRequest {
            presented: issued.plain.text().expose(),
            ..VerifyRequest::default()
        };
        assert!(
            registry
                .verify_api_key(&request, peppers)
                .await?
                .verdict
                .is_ok()
        );
        let started = Instant::now();
        registry
            .revoke_api_key(&actor, &issued.key.id, "bench")
            .await?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let (revoke, issue) = (median(times), median(issues));
    Figure {
        case: format!("revoke_{label}"),
        value: revoke,
        unit: "us",
        baseline: issue,
        baseline_is: "issuing the key",
        ratio: revoke / issue,
        goal: None,
    }
    .tell();
    Ok(())
}

/// A key that is there to be revoked.
pub(crate) fn wish() -> NewApiKey {
    NewApiKey {
        name: "to be revoked".into(),
        prefix: "sk_live".into(),
        scopes: vec!["keys:read".into()],
        lifetime_ms: Some(90 * DAY_MS),
        ..NewApiKey::default()
    }
}

async fn refusing(
    registry: &LocalRegistry,
    peppers: &keywright_registry::Peppers,
    mut next: impl FnMut() -> String,
) -> f64 {
    slice(async || {
        let text = next();
        let request = VerifyRequest {
            presented: &text,
            ..VerifyRequest::default()
        };
        let answer = registry.verify_api_key(&request, peppers).await.unwrap();
        assert!(answer.verdict.is_err());
    })
    .await
}

/// Microseconds for one call, over a slice of time.
pub(crate) async fn slice(mut call: impl AsyncFnMut()) -> f64 {
    let started = Instant::now();
    let mut calls = 0_u32;
    while started.elapsed() < SLICE {
        for _ in 0..8 {
            call().await;
        }
        calls += 8;
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

/// A cheap generator, so that what is measured is not the choice.
pub(crate) struct Shuffle(pub(crate) u64);

impl Shuffle {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

pub(crate) fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
