//! Images for tests.
#![allow(dead_code, reason = "each test file takes what it needs")]
#![allow(clippy::expect_used, reason = "only tests and the example see this")]

use keywright_domain::api_keys::{KeyMac, KeyType, SecretState};
use keywright_domain::scopes::ScopeSet;
use keywright_index::{Index, KeyId, KeyImage, PackedKid, SecretImage};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A number mixed so that neighbours look nothing alike.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn text<const N: usize>(number: u64) -> String {
    let digit = |place: usize| {
        let mixed = mix(number
            .wrapping_mul(31)
            .wrapping_add(place as u64 * 0x1_0000_0001));
        ALPHABET[(mixed % 62) as usize] as char
    };
    // The first six characters are the number itself, so that different numbers differ.
    let own = |place: usize| {
        let shifted = number / 62_u64.pow(place as u32);
        ALPHABET[(shifted % 62) as usize] as char
    };
    (0..N)
        .map(|place| if place < 6 { own(place) } else { digit(place) })
        .collect()
}

pub(crate) fn kid(number: u64) -> PackedKid {
    PackedKid::parse(&text::<12>(number)).expect("a kid")
}

pub(crate) fn key_id(number: u64) -> KeyId {
    KeyId::parse(&text::<20>(number)).expect("an id")
}

pub(crate) fn mac(number: u64) -> KeyMac {
    let mut bytes = [0; 32];
    for (place, part) in bytes.chunks_mut(8).enumerate() {
        part.copy_from_slice(&mix(number ^ (place as u64) << 60).to_le_bytes());
    }
    KeyMac::from_bytes(bytes)
}

pub(crate) fn secret(index: &Index, number: u64) -> SecretImage {
    SecretImage {
        kid: kid(number),
        mac: mac(number),
        pepper: index.intern_text("pepper").expect("room"),
        state: SecretState::Active,
        expires_at: Some(1_800_000_000_000),
        retires_at: None,
        first_used: false,
        foreign: false,
    }
}

/// A key with one secret of the same number.
pub(crate) fn image(index: &Index, number: u64, version: i64) -> KeyImage {
    let scopes = ScopeSet::parse("orders:read").expect("scopes");
    KeyImage {
        id: key_id(number),
        version,
        environment: index.intern_text("live").expect("room"),
        key_type: KeyType::Secret,
        created_at: 1_763_000_000_000,
        not_before: None,
        revoked: false,
        disabled: false,
        canary: false,
        one_time: false,
        exposed: false,
        scopes: index.intern_scopes(&scopes).expect("room"),
        owner: None,
        creator: None,
        rules: None,
        secrets: vec![secret(index, number)],
    }
}
