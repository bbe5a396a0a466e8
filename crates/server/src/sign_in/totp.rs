//! One-time codes (RFC 6238): HMAC-SHA-1, 6 digits, 30 seconds. SHA-1 is what every authenticator app
//! knows, and HMAC does not need what SHA-1 has lost.

use hmac::{Hmac, KeyInit as _, Mac as _};
use keywright_domain::SecretText;
use rand::Rng as _;
use sha1::Sha1;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Seconds that a code is shown.
const STEP_S: i64 = 30;
/// Steps that a clock may be off, either side (RFC 6238 §5.2).
const DRIFT: i64 = 1;
/// RFC 4226 §4 wants 128 bits and recommends 160.
const SECRET: usize = 20;

/// A new shared secret.
pub(crate) fn new_secret() -> Zeroizing<Vec<u8>> {
    let mut secret = Zeroizing::new(vec![0_u8; SECRET]);
    rand::rng().fill_bytes(&mut secret);
    secret
}

/// The code of a time step (RFC 4226 §5.3).
pub(crate) fn code(secret: &[u8], step: i64) -> String {
    let digits = truncated(secret, step) % 1_000_000;
    format!("{digits:06}")
}

fn truncated(secret: &[u8], step: i64) -> u32 {
    // `new_from_slice` cannot fail for HMAC, though its type can; 0 is a code like any other.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else {
        return 0;
    };
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 0x0f);
    let mut four = [0_u8; 4];
    four.copy_from_slice(&hash[at..at + 4]);
    u32::from_be_bytes(four) & 0x7fff_ffff
}

/// The time step whose code this is, if it is one of now: all of them are compared, in constant time.
pub(crate) fn step_of(secret: &[u8], given: &str, now_ms: i64) -> Option<i64> {
    let now = now_ms / 1000 / STEP_S;
    let mut found = None;
    for step in now - DRIFT..=now + DRIFT {
        if bool::from(code(secret, step).as_bytes().ct_eq(given.as_bytes())) {
            found = Some(step);
        }
    }
    found
}

/// Whether a text can be a code.
pub(crate) fn looks_like_code(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The secret as people type it (RFC 4648 §6, without padding).
pub(crate) fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut five = [0_u8; 5];
        five[..chunk.len()].copy_from_slice(chunk);
        let number = five
            .iter()
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let letters = (chunk.len() * 8).div_ceil(5);
        for at in 0..letters {
            let index = (number >> (35 - 5 * at)) & 31;
            text.push(char::from(LETTERS[usize::try_from(index).unwrap_or(0)]));
        }
    }
    text
}

/// What authenticator apps read: `otpauth://totp/…`.
pub(crate) fn address(site: &str, person: &str, secret: &[u8]) -> SecretText {
    let encode = |text: &str| -> String {
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        encoded.replace('+', "%20")
    };
    let (site, person) = (encode(site), encode(person));
    SecretText::new(format!(
        "otpauth://totp/{site}:{person}?secret={}&issuer={site}&algorithm=SHA1&digits=6&period=30",
        base32(secret)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"12345678901234567890";

    #[test]
    fn vectors_of_rfc_6238_appendix_b() {
        // The table has 8 digits; ours are the last 6 of them.
        for (seconds, eight) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000_i64, "65353130"),
        ] {
            assert_eq!(code(SEED, seconds / 30), eight[2..], "{seconds}");
        }
    }

    #[test]
    fn one_step_either_side_counts_and_two_do_not() {
        let now = 1_800_000_000_000;
        let step = now / 1000 / 30;
        for (off, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let given = code(SEED, step + off);
            let expected = good.then_some(step + off);
            assert_eq!(step_of(SEED, &given, now), expected, "{off}");
        }
        assert_eq!(step_of(SEED, "", now), None);
    }

    #[test]
    fn base32_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(plain.as_bytes()), text);
        }
        let address = address("Key & wright", "a@b.c", b"fooba");
        assert!(
            address.expose().starts_with("otpauth://totp/Key%20%26%20wright:a%40b.c?secret=MZXW6YTB&issuer=Key%20%26%20wright"),
            "{}",
            address.expose()
        );
    }
}
