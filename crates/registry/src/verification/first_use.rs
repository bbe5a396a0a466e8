//! A first use between its claim and the word that it is written.

use keywright_index::PackedKid;

use crate::Shared;

/// A first use that this verification claimed: nobody else writes it. Dropped without
/// [`FirstUse::end`], it waits for the next flush; also when whoever asked is gone, and the
/// verification with him. Writing it twice does nothing, and a slow one may never have found a place in the
/// queue.
pub(super) struct FirstUse<'a> {
    shared: &'a Shared,
    kid: PackedKid,
    text: &'a str,
    at: i64,
    written: bool,
}

impl<'a> FirstUse<'a> {
    /// `text` is the kid's, `at` is in Unix ms.
    pub(super) fn of(shared: &'a Shared, kid: PackedKid, text: &'a str, at: i64) -> Self {
        Self {
            shared,
            kid,
            text,
            at,
            written: false,
        }
    }

    /// It is written: nothing is left to be done.
    pub(super) fn end(mut self) {
        self.written = true;
    }
}

impl Drop for FirstUse<'_> {
    fn drop(&mut self) {
        if !self.written && !self.shared.uses.first_use_waits(self.text, self.at) {
            // No place: the next use of it is the one that tries again, whatever the key is by then.
            self.shared.index.unclaim_first_use_of(self.kid);
        }
    }
}
