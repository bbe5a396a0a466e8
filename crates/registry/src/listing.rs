//! Lists of keys: any filter, any order, keyset pages that are stable while keys come and go.

mod cursor;
mod page;
mod summary;

use std::time::{Duration, Instant};

use keywright_domain::api_keys::{ApiKeyState, Environment, Owner};
use keywright_domain::scopes::Scope;

pub(crate) use cursor::Cursor;

use crate::{LocalRegistry, RegistryError, store};

/// Which keys: those that pass everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyFilter {
    /// Part of a name, prefix, kid, scope or tag, whatever its case. Empty for no filter.
    pub text: String,
    /// By state.
    pub state: StateFilter,
    /// Id of the principal they belong to.
    pub owner: Option<String>,
    /// What their texts begin with, as a whole: `sk_live`.
    pub prefix: Option<String>,
    /// Those that hold this scope, by itself or by a wildcard.
    pub scope: Option<Scope>,
    /// Where they may be used.
    pub environment: Option<Environment>,
    /// Those whose newest secret ends before this moment (Unix ms), ended ones included.
    pub expires_before: Option<i64>,
    /// Those whose latest use was before this moment (Unix ms), never used ones included.
    pub unused_since: Option<i64>,
    /// Those with this tag.
    pub tag: Option<String>,
    /// Those issued at this moment (Unix ms) or later.
    pub created_from: Option<i64>,
    /// Those issued before this moment (Unix ms).
    pub created_until: Option<i64>,
}

/// Which states. A key that its owner's suspension or revocation reaches is disabled or revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateFilter {
    /// Every key.
    #[default]
    All,
    /// Active or rotating: some secret verifies.
    Live,
    /// Two secrets verify, whether or not the end of the old one is known.
    Rotating,
    /// Live and ending within 30 days.
    Expiring,
    /// No secret verifies any more.
    Expired,
    /// Suspended.
    Disabled,
    /// Ended by a person.
    Revoked,
    /// Live with a new secret that nobody used yet.
    Pending,
    /// In whatever state, but never used.
    NeverUsed,
}

/// In which order; ties are broken by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiKeyOrder {
    /// Newest first.
    #[default]
    CreatedDesc,
    /// Oldest first.
    CreatedAsc,
    /// A to Z, whatever the case.
    NameAsc,
    /// Z to A.
    NameDesc,
    /// Soonest end first, never last.
    ExpiresAsc,
    /// Latest end first, before them those that never end.
    ExpiresDesc,
    /// Latest use first, never used last.
    LastUsedDesc,
    /// Never used first, then the longest unused.
    LastUsedAsc,
}

impl ApiKeyOrder {
    pub(crate) fn is_by_name(self) -> bool {
        matches!(self, Self::NameAsc | Self::NameDesc)
    }
}

/// A page is asked for.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyQuery {
    /// Which keys.
    pub filter: ApiKeyFilter,
    /// In which order.
    pub order: ApiKeyOrder,
    /// `next_cursor` of the page before, of the same filter and order.
    pub cursor: Option<String>,
    /// 1 to 500.
    pub limit: u32,
}

/// A key, as lists need it: no secrets are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeySummary {
    /// Stable id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Prefix.
    pub prefix: String,
    /// Where it may be used.
    pub environment: Environment,
    /// Who it belongs to.
    pub owner: Owner,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// State at the moment of the query.
    pub state: ApiKeyState,
    /// Kid of the newest secret.
    pub kid: String,
    /// Last four characters of it.
    pub last_four: String,
    /// First issue.
    pub created_at: i64,
    /// End of the newest secret.
    pub expires_at: Option<i64>,
    /// End of an overlap, once its clock runs.
    pub old_secret_works_until: Option<i64>,
    /// A new secret waits for its first use.
    pub has_pending_secret: bool,
    /// Latest use.
    pub last_used_at: Option<i64>,
    /// Since when it is suspended, by itself or with its owner.
    pub disabled_at: Option<i64>,
    /// When its text was seen where none belongs.
    pub exposed_at: Option<i64>,
    /// Revocation, by itself or with everything of its owner.
    pub revoked_at: Option<i64>,
    /// Its reason.
    pub revoked_reason: Option<String>,
}

/// A page. It may be shorter than asked for and still have a `next_cursor`: a search that finds
/// little stops after a bounded number of keys, or a bounded time, and goes on with the next page.
#[derive(Clone, Debug)]
pub struct ApiKeyPage {
    /// The keys.
    pub items: Vec<ApiKeySummary>,
    /// For the next page.
    pub next_cursor: Option<String>,
    /// How many the filter matches in all; of the first page only.
    pub total: Option<ApiKeyTotal>,
}

/// How many keys a filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiKeyTotal {
    /// The number.
    pub count: i64,
    /// Whether it is only about right. Up to 10,000 keys it never is, as long as a single one of the
    /// filters, or the registry, leaves no more. A search for a text, a tag or a scope counts as
    /// such a filter while its index finds at most 2,000 keys for it.
    pub is_estimate: bool,
}

/// Counts by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyCounts {
    /// Every key.
    pub all: i64,
    /// Active or rotating.
    pub live: i64,
    /// Two secrets verify.
    pub rotating: i64,
    /// Live and ending within 30 days.
    pub expiring: i64,
    /// No secret verifies any more.
    pub expired: i64,
    /// Suspended.
    pub disabled: i64,
    /// Revoked.
    pub revoked: i64,
}

/// Counts that took long enough to be worth keeping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownCounts {
    counts: ApiKeyCounts,
    until: Instant,
}

/// Up to so many keys, counts are never kept.
const COUNTED_ANEW: i64 = 100_000;
/// Counting takes at most a twentieth of the time, and what is shown is at most so old.
const COUNTS_SHARE: u32 = 20;
const COUNTS_OLDEST: Duration = Duration::from_secs(10);

impl LocalRegistry {
    /// Counts by state. With more than 100,000 keys they may be up to 10 seconds old.
    ///
    /// # Errors
    /// [`RegistryError`] if the database cannot be read.
    pub async fn count_api_keys(&self) -> Result<ApiKeyCounts, RegistryError> {
        let began = Instant::now();
        if let Some(known) = *self.known_counts()
            && began < known.until
        {
            return Ok(known.counts);
        }
        let mut connection = self.shared.pool.acquire().await?;
        let counts = store::listing::counts(&mut connection, self.now()).await?;
        if counts.all > COUNTED_ANEW {
            let keep = (began.elapsed() * COUNTS_SHARE).min(COUNTS_OLDEST);
            *self.known_counts() = Some(KnownCounts {
                counts,
                until: Instant::now() + keep,
            });
        }
        Ok(counts)
    }

    fn known_counts(&self) -> std::sync::MutexGuard<'_, Option<KnownCounts>> {
        // Nothing panics while it is held; and if it did, the value would still be whole.
        self.shared
            .counts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
