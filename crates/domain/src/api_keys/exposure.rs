//! Keys that lie about in other texts: files, logs, shell history. Found by the marker, told from
//! look-alikes by the checksum.

use core::iter;
use core::ops::Range;
use std::borrow::Cow;

use memchr::memmem;

use super::format::{Kid, MARKER, MAX_KEY_LENGTH, PlainKey, Prefix};
use crate::base62::is_base62;

const KID_LENGTH: usize = 12;
/// From the marker to the end of the key: marker, secret, checksum.
const FROM_MARKER: usize = MARKER.len() + 32 + 6;
const MAX_PREFIX_LENGTH: usize = MAX_KEY_LENGTH - 1 - KID_LENGTH - FROM_MARKER;

/// A key of ours in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// Public id of its secret.
    pub kid: Kid,
    /// Its prefix.
    pub prefix: Prefix,
}

/// Every well-formed key of ours in a text, from left to right.
///
/// What stands around a key does not matter: `\nsk_live_…` in JSON and `%3Dsk_live_…` in an address
/// glue letters to it, and it is exposed all the same. The checksum, which covers the prefix, tells
/// where the key begins. Takes time in proportion to the text, whatever it holds.
pub fn find_keys(text: &str) -> impl Iterator<Item = Found> {
    let finder = memmem::Finder::new(MARKER);
    let mut from = 0;
    iter::from_fn(move || {
        loop {
            let rest = text.as_bytes().get(from..)?;
            let marker = from + finder.find(rest)?;
            from = marker + MARKER.len();
            if let Some(found) = key_around(text, marker) {
                return Some(found);
            }
        }
    })
}

/// The key whose marker stands at `marker`, if there is one.
fn key_around(text: &str, marker: usize) -> Option<Found> {
    let underscore = marker.checked_sub(KID_LENGTH + 1)?;
    let end = marker + FROM_MARKER;
    let body = text.get(underscore..end)?.strip_prefix('_')?;
    if !is_base62(body) {
        return None;
    }
    // The longest first, so that `sk_live` is not taken for `live`; a shorter one that fits the
    // checksum as well would be a chance of one in four thousand million.
    (2..=MAX_PREFIX_LENGTH).rev().find_map(|length| {
        let start = underscore.checked_sub(length)?;
        let candidate = text.get(start..end)?;
        if Prefix::new(candidate.get(..length)?).is_err() {
            return None;
        }
        let key = PlainKey::parse(candidate).ok()?;
        Some(Found {
            range: start..end,
            kid: key.kid().clone(),
            prefix: key.prefix().clone(),
        })
    })
}

/// The text with every key of ours replaced by `prefix_kid…redacted`, from which the key can be
/// found in the registry but not be used.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = String::new();
    let mut done = 0;
    for Found { range, kid, prefix } in find_keys(text) {
        // Two keys may share letters where somebody took pains to make them: the later one then
        // begins before `done`.
        redacted.push_str(text.get(done..range.start).unwrap_or_default());
        for part in [prefix.as_str(), "_", kid.as_str(), "…redacted"] {
            redacted.push_str(part);
        }
        done = range.end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    redacted.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(redacted)
}

#[cfg(test)]
mod tests;
