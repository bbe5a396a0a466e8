//! The rules of rotation over random histories: the engine against a plain reference, step by step.
//!
//! A failure prints its seed and the shortest list of steps that still fails. `KEYWRIGHT_MODEL_SEED`
//! and `KEYWRIGHT_MODEL_STEPS` choose others.

mod bench;
mod play;
mod reference;
mod steps;

use anyhow::{Context, Result, bail};

use super::{Kind, START};
use bench::Bench;
use steps::{Dice, Step};

pub(crate) use bench::{check_chain, folder};

const DEFAULT_SEED: u64 = 20_261_121;
/// A new database after so many steps: a trail is walked whole at the end of each history.
const STEPS_A_DATABASE: usize = 1200;
const SHRINKS: usize = 200;

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable} is no number")),
        Err(_) => Ok(default),
    }
}

/// Histories one after another on databases of their own, several at a time.
async fn explore(kind: Kind, default_steps: u64, length: usize, streams: usize) -> Result<()> {
    let seed = number("KEYWRIGHT_MODEL_SEED", DEFAULT_SEED)?;
    let steps = usize::try_from(number("KEYWRIGHT_MODEL_STEPS", default_steps)?)?;
    let switch = match kind {
        Kind::Sqlite => 4,
        // Each costs a lease.
        Kind::Postgres => 120,
    };
    let mut tasks = tokio::task::JoinSet::new();
    for stream in 0..streams {
        let mut dice = Dice::new(seed.wrapping_add(stream as u64));
        tasks.spawn(async move {
            let mut left = steps.div_ceil(streams);
            while left > 0 {
                let mut bench = Bench::new(kind, START).await?;
                let (mut now, mut here) = (START, 0);
                while left > 0 && here < STEPS_A_DATABASE {
                    let history = steps::history(dice.roll(), length.min(left.max(20)), switch);
                    left = left.saturating_sub(history.len());
                    here += history.len();
                    now = match play::play(&mut bench, now, &history).await {
                        Ok(now) => now + 1000,
                        Err((at, error)) => {
                            let shortest = shrink(kind, &history[..=at]).await?;
                            bail!(
                                "seed {seed}, on {kind:?}: {error:#}\nthe shortest way there: {shortest:#?}"
                            );
                        }
                    };
                }
                bench.check_chain().await?;
                bench.close().await?;
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Leaves out steps, many at a time and then fewer, for as long as what is left still fails.
async fn shrink(kind: Kind, history: &[Step]) -> Result<Vec<Step>> {
    let mut shortest = history.to_vec();
    let (mut part, mut tries) = (shortest.len() / 2, 0);
    while part > 0 && tries < SHRINKS {
        let mut at = 0;
        while at < shortest.len() && tries < SHRINKS {
            let mut shorter = shortest.clone();
            shorter.drain(at..(at + part).min(shorter.len()));
            tries += 1;
            let mut bench = Bench::new(kind, START).await?;
            match play::play(&mut bench, START, &shorter).await {
                Ok(_) => at += part,
                Err((failed, _)) => {
                    shorter.truncate(failed + 1);
                    shortest = shorter;
                }
            }
            bench.close().await?;
        }
        part /= 2;
    }
    Ok(shortest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_1_to_13_hold_over_random_histories_on_sqlite() -> Result<()> {
    explore(Kind::Sqlite, 80_000, 120, 4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_1_to_13_hold_over_random_histories_on_postgres() -> Result<()> {
    explore(Kind::Postgres, 20_000, 240, 6).await
}
