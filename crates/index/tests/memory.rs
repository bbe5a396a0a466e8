//! What the index weighs, counted by the allocator.

mod common;

use common::{image, kid};
use keywright_index::{Index, Lookup};
use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTING: PeakAlloc = PeakAlloc;

/// Small enough for a test without optimisation; the example `index_size` does ten million.
const KEYS: u64 = 300_000;

#[test]
fn a_key_takes_about_ninety_bytes_and_the_estimate_is_right() {
    let before = COUNTING.current_usage();
    let index = Index::new();
    index.reserve(KEYS as usize);
    let template = image(&index, 0, 1);
    index.load_chunk((0..KEYS).map(|number| {
        let mut one = image_like(&template, number);
        one.version = number as i64;
        one
    }));
    let bytes = COUNTING.current_usage() - before;
    let statistics = index.statistics();
    assert_eq!(statistics.keys, KEYS as usize);
    // Of a small index, the shards themselves are a noticeable part.
    let fixed = 600_000;
    let each = (bytes - fixed) as f64 / KEYS as f64;
    assert!(each <= 92.0, "{each} bytes a key");
    let error = statistics.bytes as f64 / bytes as f64;
    assert!(
        (0.97..1.03).contains(&error),
        "estimated {}, really {bytes}",
        statistics.bytes
    );
    assert!(matches!(index.lookup(kid(KEYS - 1), 0), Lookup::Found(_)));
}

fn image_like(template: &keywright_index::KeyImage, number: u64) -> keywright_index::KeyImage {
    let mut one = template.clone();
    one.id = common::key_id(number);
    one.secrets[0].kid = kid(number);
    one.secrets[0].mac = common::mac(number);
    one
}
