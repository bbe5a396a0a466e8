//! Cursors of lists, which callers carry from page to page: read back as they were written, never a
//! character that a database refuses.
#![no_main]

// The file by itself: the registry comes with its databases.
#[expect(dead_code, reason = "what reads is thrown at, and not all of it")]
#[path = "../../crates/registry/src/people/page.rs"]
mod page;

/// As the registry's.
#[derive(Debug, PartialEq, Eq)]
pub enum RegistryError {
    Cursor,
}

use libfuzzer_sys::fuzz_target;
use page::Position;

fuzz_target!(|text: &str| {
    for newest_first in [false, true] {
        let Ok(position) = Position::read(Some(text), newest_first) else {
            continue;
        };
        assert!(!position.id.contains('\0') && !position.text.contains('\0'));
        // A page of one row that ends there leads to the same place.
        let cut = page::cut(vec![(), ()], 1, |()| position.clone());
        let next = cut.next_cursor.expect("there is more");
        assert_eq!(Position::read(Some(&next), newest_first), Ok(position));
    }
    assert!(Position::read(None, true).is_ok());
});
