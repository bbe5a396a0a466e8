//! Size and speed of the index: `cargo run --release -p keywright-index --example index_size --
//! 10000000` prints one line of JSON. Lookups of 1,000 keys and of all are timed in turns.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use keywright_domain::api_keys::{NetworkList, OriginList, RateLimit, RateLimits};
use keywright_index::{Index, KeyImage, Lookup, PackedKid, PrincipalImage, Rules};
use peak_alloc::PeakAlloc;

#[path = "../tests/common/mod.rs"]
mod common;

#[global_allocator]
static COUNTING: PeakAlloc = PeakAlloc;

const ROUNDS: usize = 15;
const LOOKUPS: u64 = 200_000;

fn filled(keys: u64) -> anyhow::Result<Index> {
    let index = Index::new();
    let limit = RateLimit::new("requests", 60_000, 60_000, 0, false)?;
    let (networks, origins) = (NetworkList::default(), OriginList::default());
    let rules = Rules::new(RateLimits::one(limit), networks, origins, false);
    let mut template = common::image(&index, 0, 1);
    template.rules = index.intern_rules(&rules);
    let owner = index.intern_principal("person:1");
    (template.owner, template.creator) = (owner, owner);
    if let Some(id) = owner {
        index.apply_principal(&PrincipalImage {
            id,
            version: 1,
            disabled: false,
            permissions: template.scopes,
            keys_revoked_at: None,
        });
    }
    let like = |number: u64| -> KeyImage {
        let mut one = template.clone();
        one.id = common::key_id(number);
        one.secrets[0].kid = common::kid(number);
        one.secrets[0].mac = common::mac(number);
        one
    };
    index.reserve(usize::try_from(keys)?);
    index.load_chunk((0..keys).map(like));
    index.set_complete(true);
    Ok(index)
}

/// Nanoseconds a lookup, and a lookup with its rate limit counted.
fn timed(index: &Index, kids: &[PackedKid]) -> (f64, f64) {
    let started = Instant::now();
    for kid in kids {
        black_box(index.lookup(*kid, 0));
    }
    let lookups = started.elapsed().as_secs_f64() * 1e9 / kids.len() as f64;
    let started = Instant::now();
    for (place, kid) in kids.iter().enumerate() {
        if let Lookup::Found(found) = index.lookup(*kid, 0) {
            black_box(index.gcra(&found, place as i64, 1));
        }
    }
    (
        lookups,
        started.elapsed().as_secs_f64() * 1e9 / kids.len() as f64,
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> anyhow::Result<()> {
    let keys: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let small = filled(1000)?;
    let before = COUNTING.current_usage();
    let started = Instant::now();
    let large = filled(keys)?;
    let filling = started.elapsed().as_secs_f64() * 1e9 / keys as f64;
    let without_counters = COUNTING.current_usage() - before;
    let mut rounds: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS as u64 {
        let draw = |end: u64| -> Vec<_> {
            let numbers = (0..LOOKUPS).map(|place| common::mix(round << 32 | place) % end);
            numbers.map(common::kid).collect()
        };
        let (of_small, of_large) = (draw(1000), draw(keys));
        let (lookup, counted) = timed(&small, &of_small);
        rounds[0].push(lookup);
        rounds[1].push(counted);
        let (lookup, counted) = timed(&large, &of_large);
        rounds[2].push(lookup);
        rounds[3].push(counted);
        let unknown: Vec<_> = (0..LOOKUPS)
            .map(|place| common::kid(1 << 34 | place))
            .collect();
        rounds[4].push(timed(&large, &unknown).0);
    }
    // Every key used once, so that every counter is there.
    for number in 0..keys {
        if let Lookup::Found(found) = large.lookup(common::kid(number), 0) {
            black_box(large.gcra(&found, 0, 1));
        }
    }
    let bytes = COUNTING.current_usage() - before;
    let [
        small_ns,
        small_counted_ns,
        large_ns,
        large_counted_ns,
        unknown_ns,
    ] = rounds.map(median);
    writeln!(
        std::io::stdout(),
        "{{\"keys\":{keys},\"bytes\":{bytes},\"bytes_per_key\":{:.1},\"bytes_per_key_without_counters\":{:.1},\
         \"estimated\":{},\"fill_ns\":{filling:.0},\"lookup_ns_1k\":{small_ns:.0},\"lookup_ns\":{large_ns:.0},\
         \"lookup_gcra_ns_1k\":{small_counted_ns:.0},\"lookup_gcra_ns\":{large_counted_ns:.0},\"unknown_ns\":{unknown_ns:.0}}}",
        bytes as f64 / keys as f64,
        without_counters as f64 / keys as f64,
        large.statistics().bytes,
    )?;
    Ok(())
}
