//! Where a page ended, and in which list: a cursor of another filter or order is refused.

use super::{ApiKeyFilter, ApiKeyOrder};
use crate::RegistryError;

/// Where a page ended: the value it was ordered by, and the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) number: i64,
    pub(crate) text: String,
    pub(crate) id: String,
}

impl Cursor {
    /// The text that a caller carries from page to page.
    pub(super) fn encode(&self, list: u64) -> String {
        let (id, text) = (hex::encode(&self.id), hex::encode(&self.text));
        format!("{list:016x}.{}.{id}.{text}", self.number)
    }

    /// Reads a cursor of the same list.
    pub(super) fn decode(cursor: &str, list: u64) -> Result<Self, RegistryError> {
        let mut parts = cursor.split('.');
        let mut next = || parts.next().ok_or(RegistryError::Cursor);
        let (of, number, id, text) = (next()?, next()?, next()?, next()?);
        if parts.next().is_some() || of != format!("{list:016x}") {
            return Err(RegistryError::Cursor);
        }
        Ok(Self {
            number: number.parse().map_err(|_| RegistryError::Cursor)?,
            id: read_text(id)?,
            text: read_text(text)?,
        })
    }
}

fn read_text(text: &str) -> Result<String, RegistryError> {
    let bytes = hex::decode(text).map_err(|_| RegistryError::Cursor)?;
    let text = String::from_utf8(bytes).map_err(|_| RegistryError::Cursor)?;
    // PostgreSQL refuses the character U+0000; no id or name of ours has one.
    if text.contains('\0') {
        return Err(RegistryError::Cursor);
    }
    Ok(text)
}

/// Names a list: FNV-1a (64 bit) over its filter and order. It tells lists apart by accident, not
/// against malice: whoever may ask for a list may ask for any.
pub(super) fn fingerprint(filter: &ApiKeyFilter, order: ApiKeyOrder) -> u64 {
    format!("{order:?} {filter:?}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_those_of_other_lists_are_refused() {
        let filter = ApiKeyFilter::default();
        let list = fingerprint(&filter, ApiKeyOrder::CreatedDesc);
        let cursor = Cursor {
            number: -5,
            text: "a.ü b".into(),
            id: "abc".into(),
        };
        let text = cursor.encode(list);
        assert_eq!(Cursor::decode(&text, list).expect("our own"), cursor);
        let refused = |text: &str, list| {
            Cursor::decode(text, list).is_err_and(|error| error.code() == "invalid_cursor")
        };
        assert!(refused(
            &text,
            fingerprint(&filter, ApiKeyOrder::CreatedAsc)
        ));
        let other = ApiKeyFilter {
            owner: Some(String::new()),
            ..filter
        };
        assert!(refused(
            &text,
            fingerprint(&other, ApiKeyOrder::CreatedDesc)
        ));
        let head = format!("{list:016x}");
        for rest in [
            "",
            ".",
            ".1",
            ".1.61",
            ".x.61.61",
            ".1.6.61",
            ".1.61.ff",
            ".1.00.61",
            ".1.61.61.61",
        ] {
            assert!(refused(&format!("{head}{rest}"), list), "{rest}");
        }
        for foreign in ["", "nonsense", "1~a~00", "\0", "🔑.1.61.61"] {
            assert!(refused(foreign, list), "{foreign}");
        }
    }
}
