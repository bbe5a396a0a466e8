//! A hundred thousand kids a second that nobody issued, offered by a clock and not by what came back: the rate
//! that was reached, what it did to memory, and what a good key waited meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, PlainKey, Prefix};
use keywright_domain::audit::Actor;
use keywright_registry::{Caller, Clock, LocalRegistry, Peppers, VerifyRequest};

use crate::fill;
use crate::report::{Figure, Goal};
use crate::warm::resident_mib;

const A_SECOND: u32 = 100_000;
/// The first second warms up and does not count.
const SECONDS: u32 = 6;
const GOOD: u32 = 20;

pub(crate) async fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let registry = LocalRegistry::open(&file, Clock::system()).await?;
    let actor = Actor::person("bench");
    registry.adopt_pepper(&actor, "pepper").await?;
    let peppers = fill::peppers();
    let mut good = Vec::new();
    for number in 0..GOOD {
        let wish = NewApiKey {
            name: format!("good {number}"),
            prefix: "sk_live".into(),
            scopes: vec!["keys:read".into()],
            lifetime_ms: Some(90 * DAY_MS),
            ..Default::default()
        };
        let issued = registry.issue_api_key(&actor, &wish, &peppers).await?;
        let text = issued.plain.text().expose().to_owned();
        ensure!(verify(&registry, &peppers, &text, 0).await?, "a good key");
        good.push(text);
    }
    while !registry.index_is_complete() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let quiet = of_good(&registry, &peppers, &good).await?;

    let prefix = Prefix::new("sk_live")?;
    let made_up: Vec<String> = (0..SECONDS * A_SECOND)
        .map(|_| {
            let plain = PlainKey::generate(&prefix, &mut rand::rng());
            plain.text().expose().to_owned()
        })
        .collect();
    let (mut before, mut resident) = (registry.index_statistics().bytes, resident_mib());
    let asked = registry.kids_asked_for();
    let mut waits = Vec::new();
    let mut begun = Instant::now();
    for (number, text) in (0..).zip(&made_up) {
        if number == A_SECOND {
            (before, resident) = (registry.index_statistics().bytes, resident_mib());
            begun = Instant::now();
            waits.clear();
        }
        let of_this_part = if number < A_SECOND {
            number
        } else {
            number - A_SECOND
        };
        let due = begun + Duration::from_secs(1) / A_SECOND * of_this_part;
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        ensure!(
            !verify(&registry, &peppers, text, number).await?,
            "let through"
        );
        if number.is_multiple_of(1000) {
            // Whoever else waits for this core has it now.
            tokio::task::yield_now().await;
            let one = &good[(number / 1000 % GOOD) as usize];
            let began = Instant::now();
            ensure!(verify(&registry, &peppers, one, 0).await?, "a good key");
            waits.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let offered = f64::from((SECONDS - 1) * A_SECOND) / took;
    ensure!(registry.kids_asked_for() == asked, "the database was asked");
    let grown = registry.index_statistics().bytes.saturating_sub(before) as f64;
    let grown = grown / 1024.0 / 1024.0;
    let goal = |limit: f64, more_is_better: bool| {
        Some(Goal {
            gate: limit,
            goal: limit,
            more_is_better,
            by_value: true,
        })
    };
    Figure {
        case: "flood_100k_offered".into(),
        value: offered,
        unit: "kids/s",
        baseline: f64::from(A_SECOND),
        baseline_is: "kids a second that were to be offered, of five seconds",
        ratio: offered / f64::from(A_SECOND),
        // What is late is offered at once; the last one may be late.
        goal: goal(f64::from(A_SECOND) * 0.999, true),
    }
    .tell();
    Figure {
        case: "flood_100k_memory".into(),
        value: grown,
        unit: "MiB",
        baseline: resident_mib() - resident,
        baseline_is: "what the whole process grew by (MiB), the bench among it",
        ratio: 0.0,
        goal: goal(1.0, false),
    }
    .tell();
    waits.sort_by(f64::total_cmp);
    let median = waits[waits.len() / 2];
    Figure {
        case: "flood_100k_good_key".into(),
        value: median,
        unit: "us",
        baseline: quiet,
        baseline_is: "a good key without the flood",
        ratio: median / quiet,
        goal: None,
    }
    .tell();
    registry.close().await;
    Ok(())
}

/// Whether a key is let through; each stranger comes from a place of its own.
async fn verify(
    registry: &LocalRegistry,
    peppers: &Peppers,
    text: &str,
    number: u32,
) -> Result<bool> {
    let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
    let request = VerifyRequest {
        presented: text,
        caller: Caller {
            address: Some(IpAddr::V4(address)),
            ..Caller::default()
        },
        ..VerifyRequest::default()
    };
    let answer = registry.verify_api_key(&request, peppers).await?;
    ensure!(
        matches!(answer.code(), "valid" | "not_found"),
        "{}",
        answer.code()
    );
    Ok(answer.verdict.is_ok())
}

/// Microseconds that a good key takes while nothing else is asked.
async fn of_good(registry: &LocalRegistry, peppers: &Peppers, good: &[String]) -> Result<f64> {
    let mut waits = Vec::new();
    for _ in 0..100 {
        for one in good {
            let began = Instant::now();
            ensure!(verify(registry, peppers, one, 0).await?, "a good key");
            waits.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    waits.sort_by(f64::total_cmp);
    Ok(waits[waits.len() / 2])
}
