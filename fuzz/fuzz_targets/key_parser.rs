//! The key parser never panics, and takes exactly what a second, slower reading of the format takes.
#![no_main]

use keywright_domain::api_keys::PlainKey;
use libfuzzer_sys::fuzz_target;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    judge(text);
    // Nobody guesses a checksum: with a mended one the rest is tried as well.
    if let Some(body) = text.len().checked_sub(6).and_then(|end| text.get(..end)) {
        judge(&format!("{body}{}", checksum(body)));
    }
});

fn judge(text: &str) {
    match PlainKey::parse(text) {
        Ok(key) => {
            assert!(is_key(text), "taken, and is no key");
            assert_eq!(key.text().expose(), text);
            let (prefix, tail) = text.split_at(text.len() - 57);
            assert_eq!(key.prefix().as_str(), prefix);
            assert_eq!(key.kid().as_str(), &tail[1..13]);
            assert!(text.ends_with(key.last_four()) && key.last_four().len() == 4);
        }
        Err(error) => {
            assert!(!is_key(text), "a key, and refused: {error}");
            assert!(!error.to_string().is_empty());
        }
    }
}

/// The format, read from the left where the parser reads from the right.
fn is_key(text: &str) -> bool {
    let Some((prefix, tail)) = text.rsplit_once('_') else {
        return false;
    };
    let base62 = |text: &str| text.bytes().all(|byte| ALPHABET.contains(&byte));
    (2..=16).contains(&prefix.len())
        && prefix.starts_with(|c: char| c.is_ascii_alphabetic())
        && !prefix.ends_with('_')
        && prefix.split('_').all(base62)
        && tail.len() == 56
        && base62(tail)
        && &tail[12..18] == "KYWRT1"
        && text.ends_with(&checksum(&text[..text.len() - 6]))
}

/// CRC-32C bit by bit, as six base62 digits.
fn checksum(body: &str) -> String {
    let mut crc = u32::MAX;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    let mut number = !crc;
    let mut digits = [0_u8; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    digits.map(char::from).iter().collect()
}
