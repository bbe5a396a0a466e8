use super::*;
use crate::api_keys::{Pepper, PlainKey, Prefix};

/// SHA-256 of “abc” (FIPS 180-2, appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Two digests are the same if one pepper makes the same mac of them.
fn is_same(one: &KeyDigest, other: &KeyDigest) -> bool {
    let pepper = Pepper::from_bytes([7; 32]);
    pepper.mac(one).matches(&pepper.mac(other))
}

fn of_abc(text: &str) -> ForeignHash {
    let hash = ForeignHash::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let presented = PresentedForeignKey::parse("abc").expect("a foreign key");
    assert!(is_same(hash.digest(), &presented.whole), "{text}");
    hash
}

#[test]
fn sha_256_is_taken_in_every_form_and_found_again() {
    let upper = ABC.to_uppercase();
    let prefixed = format!("sha256:{ABC}");
    let line = format!("{ABC}\n");
    // echo -n abc | openssl dgst -sha256 -binary | base64
    let base64 = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    for text in [ABC, &upper, &prefixed, &line, base64] {
        let hash = of_abc(text);
        assert_eq!(hash.algorithm(), ForeignAlgorithm::Sha256);
        assert_eq!(hash.short_token(), None);
    }
}

#[test]
fn prefixed_api_keys_are_found_by_the_short_part_and_compared_by_the_long_one() {
    // The example of the library's own page: its hash is of the long part alone.
    let token = "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG";
    let stored = "d70d981d87b449c107327c2a2afbf00d4b58070d6ba571aac35d7ea3e7c79f37";
    let hash = ForeignHash::parse(&format!("prefixed-api-key:BRTRKFsL:{stored}")).expect("a hash");
    assert_eq!(hash.algorithm(), ForeignAlgorithm::PrefixedApiKey);
    let presented = PresentedForeignKey::parse(token).expect("a foreign key");
    let parts = presented.prefixed.expect("its parts");
    assert_eq!(hash.short_token(), Some(parts.short_token.as_str()));
    assert!(is_same(hash.digest(), &parts.digest));
    assert!(!is_same(hash.digest(), &presented.whole));
    // A prefix with an underscore.
    let presented = PresentedForeignKey::parse("my_co_short_long").expect("a foreign key");
    assert_eq!(presented.prefixed.expect("its parts").short_token, "short");
    for other in ["abc", "a_b", "a__b", "_a_b", "a_b_", "a_b_c-d"] {
        let presented = PresentedForeignKey::parse(other).expect(other);
        assert!(presented.prefixed.is_none(), "{other}");
    }
    for bad in [
        "prefixed-api-key:".to_owned(),
        format!("prefixed-api-key:{stored}"),
        format!("prefixed-api-key::{stored}"),
        format!("prefixed-api-key:a b:{stored}"),
        format!("prefixed-api-key:a:sha256:{stored}"),
    ] {
        assert_eq!(
            ForeignHash::parse(&bad).err(),
            Some(HashRefused::Malformed),
            "{bad}"
        );
    }
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_name() {
    use HashRefused::{Malformed, OfNothing, OtherHash, OwnKey, PlainText, Slow};
    let own = PlainKey::generate(&Prefix::new("sk_live").expect("a prefix"), &mut rand::rng());
    let zeros = "0".repeat(64);
    let cases: Vec<(&str, HashRefused)> = vec![
        (
            "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
            Slow("bcrypt"),
        ),
        ("$2b$12$x", Slow("bcrypt")),
        ("$2y$12$x", Slow("bcrypt")),
        ("bcrypt_sha256$$2b$12$x", Slow("bcrypt")),
        (
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
            Slow("Argon2"),
        ),
        ("argon2$argon2i$v=19$x", Slow("Argon2")),
        ("$scrypt$ln=16,r=8,p=1$x$y", Slow("scrypt")),
        ("scrypt:32768:8:1$x$y", Slow("scrypt")),
        ("$7$C6..../....x", Slow("scrypt")),
        ("pbkdf2_sha256$870000$x$y", Slow("PBKDF2")),
        ("$pbkdf2-sha256$29000$x$y", Slow("PBKDF2")),
        ("PBKDF2:sha256:1000$x$y", Slow("PBKDF2")),
        ("$6$salt$x", Slow("sha512-crypt")),
        ("900150983cd24fb0d6963f7d28e17f72", OtherHash("MD5")),
        ("md5:900150983cd24fb0d6963f7d28e17f72", OtherHash("MD5")),
        (
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            OtherHash("SHA-1"),
        ),
        ("sha512:x", OtherHash("SHA-512")),
        ("sha256:", Malformed),
        ("sha256:ba7816bf", Malformed),
        (
            "sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            Malformed,
        ),
        (
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
            Malformed,
        ),
        (
            "sha256-ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=",
            Malformed,
        ),
        (
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            OfNothing,
        ),
        (
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            OfNothing,
        ),
        (&zeros, OfNothing),
        ("", PlainText),
        ("AKIAIOSFODNN7EXAMPLE", PlainText),
        (
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
            PlainText,
        ),
        (
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ag",
            PlainText,
        ),
        (own.text().expose(), OwnKey),
    ];
    for (text, expected) in cases {
        let refused = ForeignHash::parse(text).expect_err(text);
        assert_eq!(refused, expected, "{text}");
        assert_eq!(refused.code(), "hash_not_importable");
        let told = format!("{refused} {refused:?}");
        assert!(text.len() < 12 || !told.contains(text), "{told}");
    }
}

#[test]
fn only_what_a_header_can_carry_is_looked_at() {
    assert!(PresentedForeignKey::parse(&"a".repeat(512)).is_some());
    let too_long = "a".repeat(513);
    for bad in ["", "a b", "a\n", "ä", "\u{0}", too_long.as_str()] {
        assert!(PresentedForeignKey::parse(bad).is_none(), "{bad:?}");
    }
}

#[test]
fn stable_texts_read_back_and_debug_shows_no_digest() {
    for one in [ForeignAlgorithm::Sha256, ForeignAlgorithm::PrefixedApiKey] {
        assert_eq!(ForeignAlgorithm::parse(one.as_str()), Some(one));
    }
    assert_eq!(ForeignAlgorithm::parse("bcrypt"), None);
    let hash = of_abc(ABC);
    assert!(!format!("{hash:?}").contains("186") && format!("{hash:?}").contains("redacted"));
}
