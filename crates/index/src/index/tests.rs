use keywright_domain::api_keys::{
    KeyType, NetworkList, OriginList, RateLimit, RateLimits, SecretState,
};

use super::*;

fn kid(number: u32) -> PackedKid {
    PackedKid::from_bits(number.into())
}

/// A key of the number, with secrets of these.
fn image(index: &Index, number: u32, version: i64, kids: &[u32]) -> KeyImage {
    let secret = |kid_number: &u32| SecretImage {
        kid: kid(*kid_number),
        mac: KeyMac::from_bytes([*kid_number as u8; 32]),
        pepper: index.intern_text("pepper").unwrap(),
        state: SecretState::Active,
        expires_at: None,
        retires_at: None,
        first_used: true,
        foreign: true,
    };
    KeyImage {
        id: KeyId::from_bits(number.into()),
        version,
        environment: index.intern_text("").unwrap(),
        key_type: KeyType::Secret,
        created_at: 0,
        not_before: None,
        revoked: false,
        disabled: false,
        canary: false,
        one_time: false,
        exposed: false,
        scopes: index.intern_scopes(&ScopeSet::default()).unwrap(),
        owner: None,
        creator: None,
        rules: None,
        secrets: kids.iter().map(secret).collect(),
    }
}

fn found(index: &Index, number: u32) -> Snapshot {
    match index.lookup(kid(number), 0) {
        Lookup::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_that_was_loaded_between_the_look_and_the_end_of_loading_is_found() {
    let index = Index::new();
    index.apply_key(&image(&index, 1, 1, &[1]));
    index.set_complete(true);
    // The look before found nothing: the key was not there yet.
    let missing = |number: u32| index.missing(kid(number), index.hash(kid(number).bits()), 0);
    assert!(matches!(missing(1), Lookup::Found(_)));
    assert!(matches!(missing(2), Lookup::Unknown));
    index.set_complete(false);
    assert!(matches!(missing(1), Lookup::AskDatabase));
}

#[test]
fn secrets_that_are_gone_are_unknown_and_their_records_are_used_again() {
    let index = Index::new();
    index.set_complete(true);
    index.apply_key(&image(&index, 1, 1, &[1]));
    for number in 2..100 {
        // Rotated, and the older one pruned.
        let version = i64::from(number) * 2;
        index.apply_key(&image(&index, 1, version, &[number - 1, number]));
        index.apply_key(&image(&index, 1, version + 1, &[number]));
        assert!(matches!(index.lookup(kid(number - 1), 0), Lookup::Unknown));
        let mac = KeyMac::from_bytes([(number - 1) as u8; 32]);
        assert_eq!(index.kid_of_mac(&mac), KidOfMac::Unknown);
        assert_eq!(found(&index, number).version, version + 1);
    }
    // The first, and two that take turns.
    assert_eq!(index.next.load(Ordering::Relaxed), 3);
    let statistics = index.statistics();
    assert_eq!((statistics.keys, statistics.records), (1, 1));
    assert_eq!(found(&index, 99).head, 0, "it is counted where it was");
    index.remove_key(KeyId::from_bits(1), 1000);
    assert!(matches!(index.lookup(kid(99), 0), Lookup::Unknown));
    assert_eq!(index.statistics().records, 0);
}

#[test]
fn a_key_is_not_refused_for_what_another_used_in_its_slot_before_memory_was_emptied() {
    let index = Index::new();
    let limit = |name, count| RateLimit::new(name, count, 60_000, 0, false).unwrap();
    let limits = RateLimits::new(vec![limit("wide", 50), limit("narrow", 5)]).unwrap();
    let rules = Rules::new(limits, NetworkList::default(), OriginList::default(), false);
    let rules = index.intern_rules(&rules);
    let limited = |number: u32| KeyImage {
        rules,
        ..image(&index, number, 1, &[number])
    };
    let allowed = |number: u32| {
        let snapshot = found(&index, number);
        let take = |_: &u32| {
            matches!(
                index.gcra(&snapshot, 1_000_000, 1),
                LimitAnswer::Allowed { .. }
            )
        };
        (0..9).filter(take).count()
    };
    index.apply_key(&limited(1));
    assert_eq!(allowed(1), 5);
    index.clear();
    index.apply_key(&limited(2));
    assert_eq!(found(&index, 2).head, 0, "the same slot");
    assert_eq!(allowed(2), 5);
    index.apply_key(&limited(1));
    assert_eq!(allowed(1), 0, "what it used stays used");
}
