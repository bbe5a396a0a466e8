//! What browsers and authenticators send of a passkey: keys, attestation objects, client data. Keys
//! have the lengths of their kind, and are read to the last byte.
#![no_main]

// The files by themselves: the whole server would have to be built.
#[path = "../../crates/server/src/sign_in/passkeys/attestation.rs"]
mod attestation;
#[path = "../../crates/server/src/sign_in/passkeys/client_data.rs"]
mod client_data;
#[path = "../../crates/server/src/sign_in/passkeys/cose.rs"]
mod cose;

use ciborium::Value;
use cose::CoseKey;
use libfuzzer_sys::fuzz_target;

/// As the server's, which comes with its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault(&'static str);

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = cose::read(data) {
        match &key {
            CoseKey::Es256(x, y) => assert_eq!((x.len(), y.len()), (32, 32)),
            CoseKey::EdDsa(key) => assert_eq!(key.len(), 32),
            CoseKey::Rs256(..) => {}
        }
        let longer = [data, &[0]].concat();
        assert!(cose::read(&longer).is_err(), "something behind it");
    }
    if let Ok(inner) = attestation::attested(data) {
        let value: Value = ciborium::from_reader(data).expect("CBOR");
        let entries = value.into_map().expect("a map");
        assert_eq!(entries.len(), 3);
        assert!(entries.contains(&("authData".into(), Value::Bytes(inner))));
        let longer = [data, &[0]].concat();
        assert!(attestation::attested(&longer).is_err());
    }
    let origin = "https://id.example.com";
    if client_data::check(data, "webauthn.get", "AAAA", origin).is_ok() {
        let read: serde_json::Value = serde_json::from_slice(data).expect("JSON");
        assert_eq!(
            (&read["type"], &read["origin"]),
            (&"webauthn.get".into(), &origin.into())
        );
        assert_eq!(read["challenge"], "AAAA");
        assert!(read["crossOrigin"] != true);
        for (kind, challenge, page) in [
            ("webauthn.create", "AAAA", origin),
            ("webauthn.get", "AAAB", origin),
            ("webauthn.get", "AAAA", "https://id.example.org"),
        ] {
            assert!(client_data::check(data, kind, challenge, page).is_err());
        }
    }
});
