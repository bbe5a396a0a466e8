//! Revocations among verifications of the same keys: whoever begins after the answer must be refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_registry::{LocalRegistry, Peppers, VerifyRequest};
use tokio::runtime::Handle;

use crate::report::Figure;
use crate::warm::{Shuffle, wish};

/// How long, unless the command says otherwise.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// Those who verify, each on a thread of its own: one worker would let nobody in between.
const VERIFIERS: usize = 8;
/// So many a verifier does of a key before it looks for a newer one.
const TURNS: u32 = 32;

/// A key, and whether the answer to its revocation is there.
struct Racing {
    text: SecretText,
    revoked: AtomicBool,
}

/// What is verified now, and what came of it.
#[derive(Default)]
struct Race {
    keys: RwLock<Vec<Arc<Racing>>>,
    over: AtomicBool,
    /// Verifications that began after the answer, and how many of them were let through.
    after: AtomicU64,
    accepted_after: AtomicU64,
    /// Those before it.
    before: AtomicU64,
}

/// Eight verify, mostly the newest key and now and then an older one, while one issues and revokes.
pub(crate) async fn measure(
    label: &str,
    registry: &LocalRegistry,
    peppers: &Peppers,
    racing: Duration,
) -> Result<()> {
    let (race, handle, actor) = (Race::default(), Handle::current(), Actor::person("bench"));
    let mut revoked = 0_u32;
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let (race, handle) = (&race, &handle);
            let verifiers: Vec<_> = (1..=VERIFIERS)
                .map(|seed| {
                    let random = Shuffle(seed as u64);
                    scope.spawn(move || handle.block_on(verify(race, registry, peppers, random)))
                })
                .collect();
            let end = Instant::now() + racing;
            let turns = handle.block_on(async {
                while Instant::now() < end {
                    turn(race, registry, peppers, &actor).await?;
                    revoked += 1;
                }
                anyhow::Ok(())
            });
            race.over.store(true, Ordering::Relaxed);
            for verifier in verifiers {
                verifier
                    .join()
                    .map_err(|_| anyhow!("a verifier panicked"))??;
            }
            turns
        })
    })?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (after, before) = (count(&race.after), count(&race.before));
    ensure!(after > 0 && before > 0, "nothing was raced with");
    eprintln!(
        "{label}: {revoked} revocations, {before} verifications before their answers, {after} after"
    );
    let accepted = count(&race.accepted_after) as f64;
    Figure {
        case: format!("revoke_same_node_accepts_{label}"),
        value: accepted,
        unit: "answers",
        baseline: after as f64,
        baseline_is: "verifications begun after the answer to their key's revocation, by 8 threads that had verified it \
                      until then",
        ratio: accepted / after as f64,
        goal: None,
    }
    .tell();
    Ok(())
}

/// A key is issued, verified for a moment, and revoked.
async fn turn(
    race: &Race,
    registry: &LocalRegistry,
    peppers: &Peppers,
    actor: &Actor,
) -> Result<()> {
    let issued = registry.issue_api_key(actor, &wish(), peppers).await?;
    let key = Arc::new(Racing {
        text: issued.plain.text().clone(),
        revoked: AtomicBool::new(false),
    });
    race.keys.write().unwrap().push(Arc::clone(&key));
    // They find it, and its first use is written.
    tokio::time::sleep(Duration::from_millis(2)).await;
    registry
        .revoke_api_key(actor, &issued.key.id, "bench")
        .await?;
    key.revoked.store(true, Ordering::SeqCst);
    Ok(())
}

async fn verify(
    race: &Race,
    registry: &LocalRegistry,
    peppers: &Peppers,
    mut random: Shuffle,
) -> Result<()> {
    let (mut after, mut before, mut accepted_after) = (0, 0, 0);
    while !race.over.load(Ordering::Relaxed) {
        let key = {
            let keys = race.keys.read().unwrap();
            // One time in four an older one: a revocation has to last.
            let older =
                (random.below(4) == 0 && !keys.is_empty()).then(|| random.below(keys.len().max(1)));
            older.map_or_else(|| keys.last().cloned(), |at| keys.get(at).cloned())
        };
        let Some(key) = key else {
            std::thread::yield_now();
            continue;
        };
        for _ in 0..TURNS {
            let request = VerifyRequest {
                presented: key.text.expose(),
                ..VerifyRequest::default()
            };
            // Before the question: whoever asks later than this must be refused.
            let was_revoked = key.revoked.load(Ordering::SeqCst);
            let answer = registry.verify_api_key(&request, peppers).await?;
            match (was_revoked, answer.code()) {
                (true, "revoked") => after += 1,
                (true, "valid") => (after, accepted_after) = (after + 1, accepted_after + 1),
                (false, "valid" | "revoked") => before += 1,
                (_, other) => return Err(anyhow!("a key that was revoked or not is {other}")),
            }
        }
    }
    race.after.fetch_add(after, Ordering::Relaxed);
    race.before.fetch_add(before, Ordering::Relaxed);
    race.accepted_after
        .fetch_add(accepted_after, Ordering::Relaxed);
    Ok(())
}
