//! Ids as numbers: base62 text of a fixed length, packed without loss and read back exactly.

use core::fmt;

use keywright_domain::api_keys::Kid;

/// Digits, then capitals, then small letters: ASCII order, so text order is number order.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Packs `N` base62 characters (at most 21); `None` for anything else.
fn pack<const N: usize>(text: &str) -> Option<u128> {
    let bytes: &[u8; N] = text.as_bytes().try_into().ok()?;
    let mut number = 0_u128;
    for half in bytes.chunks(10) {
        // Ten digits fit in 64 bits: one wide multiplication for every ten characters.
        let (mut part, mut scale) = (0_u64, 1_u64);
        for byte in half {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'A'..=b'Z' => byte - b'A' + 10,
                b'a'..=b'z' => byte - b'a' + 36,
                _ => return None,
            };
            part = part * 62 + u64::from(digit);
            scale *= 62;
        }
        number = number * u128::from(scale) + u128::from(part);
    }
    Some(number)
}

fn unpack<const N: usize>(mut number: u128) -> [u8; N] {
    /// What ten digits count up to.
    const TEN: u128 = 62_u128.pow(10);
    let mut text = [b'0'; N];
    for half in text.rchunks_mut(10) {
        // One wide division for every ten characters, as in packing.
        let mut part = (number % TEN) as u64;
        number /= TEN;
        for digit in half.iter_mut().rev() {
            *digit = ALPHABET[(part % 62) as usize];
            part /= 62;
        }
    }
    text
}

/// A kid in 72 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackedKid(u128);

impl PackedKid {
    /// Packs the text of a kid; `None` unless it is 12 base62 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        pack::<12>(text).map(Self)
    }

    /// Packs a kid. `None` never happens for what [`Kid::new`] accepts.
    #[must_use]
    pub fn of(kid: &Kid) -> Option<Self> {
        Self::parse(kid.as_str())
    }

    /// The 12 characters.
    #[must_use]
    pub fn text(self) -> [u8; 12] {
        unpack(self.0)
    }

    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    pub(crate) fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

/// The id of a key, 20 base62 characters in 120 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u128);

impl KeyId {
    /// Packs the text of an id; `None` unless it is 20 base62 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        pack::<20>(text).map(Self)
    }

    /// The 20 characters.
    #[must_use]
    pub fn text(self) -> [u8; 20] {
        unpack(self.0)
    }

    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    pub(crate) fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for PackedKid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for PackedKid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedKid({self})")
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_range_pack_and_read_back() {
        for text in [
            "000000000000",
            "zzzzzzzzzzzz",
            "00000000000z",
            "100000000000",
            "9AZaz0000000",
        ] {
            let packed = PackedKid::parse(text).expect("a kid");
            assert_eq!(packed.to_string(), text);
            assert!(packed.bits() < 1 << 72, "{text} fits in nine bytes");
        }
        for text in [
            "00000000000000000000",
            "zzzzzzzzzzzzzzzzzzzz",
            "0000000000z000000000",
        ] {
            let packed = KeyId::parse(text).expect("an id");
            assert_eq!(packed.to_string(), text);
            assert!(packed.bits() < 1 << 120, "{text} fits in fifteen bytes");
        }
        assert_eq!(
            PackedKid::parse("000000000010").map(PackedKid::bits),
            Some(62)
        );
        assert_eq!(
            KeyId::parse("00000000010000000000").map(KeyId::bits),
            Some(62_u128.pow(10))
        );
    }

    #[test]
    fn what_is_no_id_is_not_packed() {
        for bad in [
            "",
            "00000000000",
            "0000000000000",
            "00000000000-",
            "00000000000ä",
            "           0",
        ] {
            assert_eq!(PackedKid::parse(bad), None, "{bad}");
        }
        assert_eq!(KeyId::parse("0000000000000000000"), None);
        assert_eq!(KeyId::parse("0000000000000000000/"), None);
    }

    proptest! {
        #[test]
        fn every_packing_is_reversible_and_keeps_the_order(
            a in "[0-9A-Za-z]{12}", b in "[0-9A-Za-z]{12}", c in "[0-9A-Za-z]{20}", d in "[0-9A-Za-z]{20}",
        ) {
            let pack = |text: &str| PackedKid::parse(text).expect("a kid");
            prop_assert_eq!(pack(&a).to_string(), a.clone());
            prop_assert_eq!(pack(&a).cmp(&pack(&b)), a.cmp(&b));
            let pack = |text: &str| KeyId::parse(text).expect("an id");
            prop_assert_eq!(pack(&c).to_string(), c.clone());
            prop_assert_eq!(pack(&c).cmp(&pack(&d)), c.cmp(&d));
        }
    }
}
