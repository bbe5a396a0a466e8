//! What keys have in common, counted by the allocator; alone in its process, as the allocator counts all.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use keywright_domain::api_keys::{NetworkList, OriginList, RateLimit, RateLimits};
use keywright_index::{Index, Rules};
use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTING: PeakAlloc = PeakAlloc;

#[test]
fn what_keys_have_in_common_is_counted_with_what_it_points_to() {
    let index = Index::new();
    let rules = |number: u32| {
        let networks = (0..20).map(|one| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number * 32 + one);
            address.to_string()
        });
        let networks: Vec<String> = networks.collect();
        Rules::new(
            RateLimits::one(RateLimit::new("requests", 60, 60_000, 0, false).unwrap()),
            NetworkList::new(networks.iter().map(String::as_str)).unwrap(),
            OriginList::default(),
            false,
        )
    };
    // The places for values are made by the thousand.
    index.intern_rules(&rules(0)).unwrap();
    let (before, (_, counted)) = (COUNTING.current_usage(), index.in_common());
    for number in 1..=4000 {
        index.intern_rules(&rules(number)).unwrap();
        index.intern_rules(&rules(number)).unwrap();
    }
    let really = (COUNTING.current_usage() - before) as f64;
    let (values, bytes) = index.in_common();
    assert_eq!(values, 4001);
    let error = (bytes - counted) as f64 / really;
    assert!(
        (0.7..1.3).contains(&error),
        "estimated {}, really {really}",
        bytes - counted
    );
}
