//! Pages of lists: each goes on behind the row where the one before ended, never by counting.

use crate::RegistryError;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// For the next page; none at the end.
    pub next_cursor: Option<String>,
}

/// Where a page ended: what it was ordered by, and the id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) number: i64,
    pub(crate) text: String,
    pub(crate) id: String,
}

impl Position {
    pub(crate) fn of(number: i64, id: &str) -> Self {
        Self {
            number,
            text: String::new(),
            id: id.to_owned(),
        }
    }

    /// Reads a cursor of ours. Without one: before everything that ascends; `newest_first` begins
    /// after every moment.
    pub(crate) fn read(cursor: Option<&str>, newest_first: bool) -> Result<Self, RegistryError> {
        let Some(cursor) = cursor else {
            let number = if newest_first { i64::MAX } else { i64::MIN };
            return Ok(Self::of(number, ""));
        };
        let mut parts = cursor.splitn(3, '~');
        let mut next = || parts.next().ok_or(RegistryError::Cursor);
        let (number, id, text) = (next()?, next()?, next()?);
        let plain = |part: &str| {
            let bytes = hex::decode(part).map_err(|_| RegistryError::Cursor)?;
            // PostgreSQL takes no text with a zero in it.
            String::from_utf8(bytes)
                .ok()
                .filter(|text| !text.contains('\0'))
                .ok_or(RegistryError::Cursor)
        };
        Ok(Self {
            number: number.parse().map_err(|_| RegistryError::Cursor)?,
            text: plain(text)?,
            id: plain(id)?,
        })
    }

    fn write(&self) -> String {
        format!(
            "{}~{}~{}",
            self.number,
            hex::encode(&self.id),
            hex::encode(&self.text)
        )
    }
}

/// 1 to 500 rows a page.
pub(crate) fn limit(asked: u32) -> i64 {
    i64::from(asked.clamp(1, 500))
}

/// Cuts a page out of rows of which one more was asked for than the page holds.
pub(crate) fn cut<T>(mut items: Vec<T>, limit: i64, position: impl Fn(&T) -> Position) -> Page<T> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > most;
    items.truncate(most);
    let next_cursor = items
        .last()
        .filter(|_| more)
        .map(|row| position(row).write());
    Page { items, next_cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_foreign_ones_are_refused() {
        let position = Position {
            number: -5,
            text: "a~ü b".into(),
            id: "~x".into(),
        };
        assert_eq!(
            Position::read(Some(&position.write()), true).unwrap(),
            position
        );
        for foreign in ["", "1", "1~61", "x~61~00", "1~61~zz", "1~61~ff", "1~00~61"] {
            let error = Position::read(Some(foreign), false).expect_err("foreign");
            assert_eq!(error.code(), "invalid_cursor");
        }
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let of = |number: &i64| Position::of(*number, "");
        assert!(cut(vec![1, 2], 2, of).next_cursor.is_none());
        let page = cut(vec![1, 2, 3], 2, of);
        assert_eq!(
            (page.items, page.next_cursor),
            (vec![1, 2], Some("2~~".into()))
        );
    }
}
