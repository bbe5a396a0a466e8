//! Lists of keys: filter, order and keyset pages, stable while keys come and go.

use keywright_domain::api_keys::ApiKeyState;

use crate::store::listing::ListRow;
use crate::{LocalRegistry, RegistryError, store};

/// Which keys.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyFilter {
    /// Part of a name, prefix, kid or scope.
    pub text: String,
    /// By state.
    pub state: StateFilter,
}

/// Which states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateFilter {
    /// Every key.
    #[default]
    All,
    /// Some secret verifies.
    Live,
    /// In an overlap.
    Rotating,
    /// Live and ending within 30 days.
    Expiring,
    /// Past its end.
    Expired,
    /// Ended by a person.
    Revoked,
}

/// In which order; ties are broken by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiKeyOrder {
    /// Newest first.
    #[default]
    CreatedDesc,
    /// Oldest first.
    CreatedAsc,
    /// A to Z.
    NameAsc,
    /// Z to A.
    NameDesc,
    /// Soonest end first.
    ExpiresAsc,
    /// Latest use first.
    LastUsedDesc,
}

/// A page is asked for.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyQuery {
    /// Which keys.
    pub filter: ApiKeyFilter,
    /// In which order.
    pub order: ApiKeyOrder,
    /// `next_cursor` of the page before.
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
    /// Scopes.
    pub scopes: Vec<String>,
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
    /// End of an overlap.
    pub old_secret_works_until: Option<i64>,
    /// Latest use.
    pub last_used_at: Option<i64>,
    /// Revocation.
    pub revoked_at: Option<i64>,
    /// Its reason.
    pub revoked_reason: Option<String>,
}

/// A page.
#[derive(Clone, Debug)]
pub struct ApiKeyPage {
    /// The keys.
    pub items: Vec<ApiKeySummary>,
    /// For the next page.
    pub next_cursor: Option<String>,
    /// How many the filter matches in all.
    pub total: i64,
}

/// Counts by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyCounts {
    /// Every key.
    pub all: i64,
    /// Live.
    pub live: i64,
    /// In an overlap.
    pub rotating: i64,
    /// Live and ending within 30 days.
    pub expiring: i64,
    /// Past the end.
    pub expired: i64,
    /// Revoked.
    pub revoked: i64,
}

/// Where a page ended: the value it was ordered by, and the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) number: i64,
    pub(crate) text: String,
    pub(crate) id: String,
}

impl Cursor {
    /// Before every row.
    pub(crate) fn before_all() -> Self {
        Self {
            number: i64::MIN,
            text: String::new(),
            id: String::new(),
        }
    }

    /// After every row: no name is as long as this one, and no character comes later.
    pub(crate) fn after_all() -> Self {
        let text = "\u{10FFFF}".repeat(130);
        Self {
            number: i64::MAX,
            id: text.clone(),
            text,
        }
    }

    fn of(row: &ListRow, order: ApiKeyOrder) -> Self {
        let number = match order {
            ApiKeyOrder::CreatedDesc | ApiKeyOrder::CreatedAsc => row.created_at,
            ApiKeyOrder::ExpiresAsc => row.expires_order,
            ApiKeyOrder::LastUsedDesc => row.last_used_order,
            ApiKeyOrder::NameAsc | ApiKeyOrder::NameDesc => 0,
        };
        let by_name = matches!(order, ApiKeyOrder::NameAsc | ApiKeyOrder::NameDesc);
        let text = if by_name {
            row.name_key.clone()
        } else {
            String::new()
        };
        Self {
            number,
            text,
            id: row.id.clone(),
        }
    }

    fn encode(&self) -> String {
        format!("{}~{}~{}", self.number, self.id, hex::encode(&self.text))
    }

    fn decode(text: &str) -> Result<Self, RegistryError> {
        let mut parts = text.splitn(3, '~');
        let mut next = || parts.next().ok_or(RegistryError::Cursor);
        let (number, id, text) = (next()?, next()?, next()?);
        let text = hex::decode(text).map_err(|_| RegistryError::Cursor)?;
        Ok(Self {
            number: number.parse().map_err(|_| RegistryError::Cursor)?,
            id: id.to_owned(),
            text: String::from_utf8(text).map_err(|_| RegistryError::Cursor)?,
        })
    }
}

impl LocalRegistry {
    /// One page of keys.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`] for a cursor of another list.
    pub async fn list_api_keys(&self, query: &ApiKeyQuery) -> Result<ApiKeyPage, RegistryError> {
        let after = query.cursor.as_deref().map(Cursor::decode).transpose()?;
        let limit = query.limit.clamp(1, 500);
        let now = self.now();
        let mut transaction = self.shared.pool.begin().await?;
        let mut rows = store::listing::list(
            &mut transaction,
            &query.filter,
            query.order,
            after.as_ref(),
            i64::from(limit) + 1,
            now,
        )
        .await?;
        let total = store::listing::count(&mut transaction, &query.filter, now).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|row| Cursor::of(row, query.order).encode());
        let items = rows.into_iter().map(|row| summary(row, now)).collect();
        Ok(ApiKeyPage {
            items,
            next_cursor,
            total,
        })
    }

    /// Counts by state.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be read.
    pub async fn count_api_keys(&self) -> Result<ApiKeyCounts, RegistryError> {
        store::listing::counts(&mut *self.shared.pool.acquire().await?, self.now()).await
    }
}

fn summary(row: ListRow, now: i64) -> ApiKeySummary {
    let rotating = row.old_works_until > now;
    let state = if row.revoked_at.is_some() {
        ApiKeyState::Revoked
    } else if row.expires_order <= now {
        ApiKeyState::Expired
    } else if rotating {
        ApiKeyState::Rotating
    } else {
        ApiKeyState::Active
    };
    ApiKeySummary {
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        scopes: row.scopes.split(' ').map(str::to_owned).collect(),
        state,
        kid: row.kid,
        last_four: row.last_four,
        created_at: row.created_at,
        expires_at: (row.expires_order != i64::MAX).then_some(row.expires_order),
        old_secret_works_until: (state == ApiKeyState::Rotating).then_some(row.old_works_until),
        last_used_at: (row.last_used_order != 0).then_some(row.last_used_order),
        revoked_at: row.revoked_at,
        revoked_reason: row.revoked_reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_foreign_ones_are_refused() {
        let cursor = Cursor {
            number: -5,
            text: "a~ü b".into(),
            id: "abc".into(),
        };
        assert_eq!(Cursor::decode(&cursor.encode()).expect("our own"), cursor);
        for foreign in ["", "1", "1~a", "x~a~00", "1~a~zz", "1~a~ff"] {
            assert_eq!(
                Cursor::decode(foreign).expect_err("foreign").code(),
                "invalid_cursor"
            );
        }
    }
}
