//! Base62 text: the alphabet of kids, secrets, checksums and ids.

use rand::CryptoRng;
use zeroize::Zeroize;

/// Digits, then capitals, then small letters: ASCII order, so text order is number order.
pub(crate) const ALPHABET: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `length` characters, each drawn uniformly by rejection sampling (a modulo would favour the first ones).
pub(crate) fn random_text(length: usize, entropy: &mut impl CryptoRng) -> String {
    let mut text = String::with_capacity(length);
    let mut block = [0_u8; 64];
    while text.len() < length {
        entropy.fill_bytes(&mut block);
        for byte in block {
            // 248 is the largest multiple of 62 that fits in a byte.
            if byte < 248 && text.len() < length {
                text.push(ALPHABET[usize::from(byte % 62)] as char);
            }
        }
    }
    block.zeroize();
    text
}

/// A new id of 20 characters, 119 bits: unguessable enough to be public, short enough to read.
#[must_use]
pub fn random_id(entropy: &mut impl CryptoRng) -> String {
    random_text(20, entropy)
}

/// A 32-bit number as six base62 digits, most significant first.
pub(crate) fn encode_u32(mut number: u32) -> [u8; 6] {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    digits
}

pub(crate) fn is_base62(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_the_ends_of_the_range() {
        assert_eq!(&encode_u32(0), b"000000");
        assert_eq!(&encode_u32(61), b"00000z");
        assert_eq!(&encode_u32(u32::MAX), b"4gfFC3");
    }

    #[test]
    fn every_character_is_drawn_equally_often() {
        let text = random_text(620_000, &mut rand::rng());
        let mut counts = [0_i64; 62];
        for byte in text.bytes() {
            let index = ALPHABET.iter().position(|letter| *letter == byte);
            counts[index.expect("only letters of the alphabet")] += 1;
        }
        // Expected 10,000 each, standard deviation about 99: seven of them is never chance.
        assert!(
            counts.iter().all(|count| (count - 10_000).abs() < 700),
            "{counts:?}"
        );
    }
}
