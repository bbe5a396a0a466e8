//! The ordered log of changes, for those who keep copies of answers elsewhere.

use crate::writer::Subject;
use crate::{LocalRegistry, RegistryError, store};

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedSubject {
    /// A key, with this id.
    ApiKey(String),
    /// A person, service or team: what their keys may do follows from them.
    Principal(String),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number; they grow in the order of commits.
    pub version: i64,
    /// What was changed.
    pub subject: ChangedSubject,
}

/// A part of the log.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Oldest first.
    pub items: Vec<Change>,
    /// Everything up to this one is in `items` or came before.
    pub through: i64,
    /// The log does not go back to where it was asked for: some changes are not known any more.
    pub has_gap: bool,
}

impl LocalRegistry {
    /// The number of the newest change.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn newest_change(&self) -> Result<i64, RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        Ok(store::heads::change_bounds(&mut connection).await?.0)
    }

    /// The change up to which memory knows everything: a verification that begins now takes it and all
    /// before it into account.
    #[must_use]
    pub fn seen_change(&self) -> i64 {
        self.shared.freshness.seen_change()
    }

    /// How often the log was found to lack what was read of it: a replica took over, or a backup was put back. With
    /// another number than before, versions that were told may be given again to other changes.
    #[must_use]
    pub fn other_pasts(&self) -> u64 {
        self.shared.freshness.pasts()
    }

    /// The changes after a version, at most `limit` (1 to 1,000).
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn changes_since(&self, after: i64, limit: u32) -> Result<Changes, RegistryError> {
        let limit = i64::from(limit.clamp(1, 1000));
        let mut connection = self.shared.pool.acquire().await?;
        // The newest number is read first: what is committed in between is in the list as well.
        let (newest, oldest) = store::heads::change_bounds(&mut connection).await?;
        let rows = store::heads::changes_after(&mut connection, after, limit).await?;
        let is_whole = i64::try_from(rows.len()).unwrap_or(limit) < limit;
        let last = rows.last().map_or(after, |(version, _)| *version);
        let items = rows.into_iter().map(|(version, subject)| Change {
            version,
            subject: match subject {
                Subject::ApiKey(id) => ChangedSubject::ApiKey(id),
                Subject::Principal(id) => ChangedSubject::Principal(id),
            },
        });
        Ok(Changes {
            items: items.collect(),
            through: if is_whole { last.max(newest) } else { last },
            // A number that was never given is of another registry, or of before a restore.
            has_gap: after + 1 < oldest || after > newest,
        })
    }
}
