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

/// A new id of 20 characters that sorts by when it was made: eight for the millisecond (until the
/// year 8888), twelve drawn at random (71 bits). Neighbours in time are neighbours in an index, so
/// that making many keys touches few of its pages. It tells when it was made and is no secret:
/// nothing may be granted to whoever knows one.
#[must_use]
pub fn ordered_id(now: i64, entropy: &mut impl CryptoRng) -> String {
    let mut millisecond = now.max(0).cast_unsigned();
    let mut digits = [b'0'; 8];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(millisecond % 62) as usize];
        millisecond /= 62;
    }
    let mut id: String = digits.into_iter().map(char::from).collect();
    id.push_str(&random_text(12, entropy));
    id
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
    fn ordered_ids_sort_by_their_millisecond_and_differ_within_it() {
        let mut rng = rand::rng();
        let times = [-1, 0, 61, 62, 1_795_880_000_000, 1_795_880_000_001];
        let ids = times.map(|now| ordered_id(now, &mut rng));
        for id in &ids {
            assert!(id.len() == 20 && is_base62(id), "{id}");
        }
        // What lies before 1970 is as old as can be.
        assert_eq!(&ids[0][..8], &ids[1][..8]);
        assert!(ids[1..].is_sorted(), "{ids:?}");
        assert_ne!(ordered_id(5, &mut rng), ordered_id(5, &mut rng));
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
