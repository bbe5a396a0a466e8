//! Fixed-width lower-case hex: one text for one value, so that texts may be compared too.

use core::fmt;

/// A text is not the hex form of what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {digits} lower-case hexadecimal digits")]
pub struct HexError {
    what: &'static str,
    digits: usize,
}

pub(super) fn parse<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], HexError> {
    let mut bytes = [0_u8; N];
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if !upper => Ok(bytes),
        _ => Err(HexError {
            what,
            digits: 2 * N,
        }),
    }
}

pub(super) fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
