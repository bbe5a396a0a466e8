//! What an authenticator signs is taken only for our relying party, with the person there and
//! verified, and to its last byte: one less or one more, and it is refused.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/sign_in/passkeys/authenticator_data.rs"]
mod authenticator_data;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

/// As the server's, which comes with its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault(&'static str);

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

const RP_ID: &str = "id.example.com";

fuzz_target!(|data: &[u8]| {
    // As it comes: nobody guesses the hash.
    if data.len() < 32 || data[..32] != sha256(RP_ID.as_bytes()) {
        assert!(authenticator_data::check(data, RP_ID).is_err());
    }
    let mut bytes = sha256(RP_ID.as_bytes()).to_vec();
    bytes.extend(data);
    let Ok(read) = authenticator_data::check(&bytes, RP_ID) else {
        return;
    };
    let (flags, counter) = (data[0], [data[1], data[2], data[3], data[4]]);
    assert_eq!(flags & 0x05, 0x05, "present and verified");
    assert_eq!(read.is_synced, flags & 0x08 != 0);
    assert!(
        read.is_synced || flags & 0x10 == 0,
        "a copy of what cannot be copied"
    );
    assert_eq!(read.counter, i64::from(u32::from_be_bytes(counter)));
    assert_eq!(read.credential.is_some(), flags & 0x40 != 0);
    let mut known = 5;
    if let Some((id, key)) = &read.credential {
        assert!((1..=1023).contains(&id.len()));
        let (id_at, key_at) = (5 + 16 + 2, 5 + 16 + 2 + id.len());
        assert_eq!(data[id_at..key_at], *id.as_slice());
        assert!(data[key_at..].starts_with(key));
        known = key_at + key.len();
    }
    assert_eq!(
        known == data.len(),
        flags & 0x80 == 0,
        "extensions or nothing"
    );
    let other = authenticator_data::check(&bytes, "other.example.com");
    assert_eq!(other.err(), Some(Fault("rp_id_mismatch")));
    assert!(authenticator_data::check(&bytes[..bytes.len() - 1], RP_ID).is_err());
    bytes.push(0);
    assert!(authenticator_data::check(&bytes, RP_ID).is_err());
});
