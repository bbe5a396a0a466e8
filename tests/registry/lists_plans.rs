//! Lists that walk along an index, on so many keys that no plan gathers them all: every page of
//! them against a plain filter over all rows.
#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use anyhow::Result;
use keywright_domain::api_keys::DAY_MS;
use keywright_registry::{ApiKeyFilter, ApiKeyOrder, ApiKeyQuery, StateFilter};
use sqlx::AnyConnection;

use super::{Fixture, START};

const KEYS: i64 = 24_000;
/// The moment of the lists: some keys have ended by then, some end soon.
const NOW: i64 = START + 100 * DAY_MS;

/// What of a key decides.
#[derive(Clone, Debug, sqlx::FromRow)]
struct Row {
    id: String,
    expires_order: i64,
    works_until: i64,
    last_used_order: i64,
    revoked_at: Option<i64>,
    disabled_at: Option<i64>,
    prefix: String,
    search_text: String,
}

impl Row {
    fn is_in(&self, state: StateFilter) -> bool {
        let is_on = self.revoked_at.is_none() && self.disabled_at.is_none();
        match state {
            StateFilter::Live => is_on && self.works_until > NOW,
            StateFilter::Expiring => {
                is_on && self.works_until > NOW && self.works_until <= NOW + 30 * DAY_MS
            }
            StateFilter::Expired => is_on && self.works_until <= NOW,
            StateFilter::Disabled => self.revoked_at.is_none() && self.disabled_at.is_some(),
            StateFilter::Revoked => self.revoked_at.is_some(),
            StateFilter::NeverUsed => self.last_used_order == 0,
            _ => true,
        }
    }

    fn place(&self, order: ApiKeyOrder) -> i64 {
        match order {
            ApiKeyOrder::ExpiresAsc => self.expires_order,
            ApiKeyOrder::ExpiresDesc => -self.expires_order,
            ApiKeyOrder::LastUsedAsc => self.last_used_order,
            _ => -self.last_used_order,
        }
    }
}

/// Keys of every state; one in 61 works until another time than its newest secret: shorter or longer.
async fn fill(fixture: &Fixture) -> Result<Vec<Row>> {
    let mut stranger = fixture.stranger().await?;
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1), \
         f(i, ends) AS (SELECT i, $2 + (i * 7919 % 211) * 86400000 FROM n) \
         INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_key, search_text, kid, last_four, \
         expires_order, old_works_until, works_until, rotating_until, last_used_order, environment, revoked_at, \
         disabled_at) \
         SELECT 'id' || (i * 48271 % 2147483647), 'k', CASE WHEN i % 7 = 0 THEN 'sk_test' ELSE 'sk_live' END, 'keys:read', \
         1, $2 + i, 'k', 'k sk_ keys:read number' || (i * 37 % 10007) || '_%', 'K', 'aaaa', ends, 0, \
         CASE WHEN i % 61 = 0 THEN ends + (i % 9 - 4) * 20 * 86400000 ELSE ends END, \
         0, CASE WHEN i % 3 = 0 THEN 0 ELSE $2 + i % 1000 END, 'live', CASE WHEN i % 13 = 0 THEN $2 END, \
         CASE WHEN i % 17 = 0 THEN $2 END FROM f",
    )
    .bind(KEYS)
    .bind(START)
    .execute(&mut stranger)
    .await?;
    rows(&mut stranger).await
}

async fn rows(stranger: &mut AnyConnection) -> Result<Vec<Row>> {
    Ok(sqlx::query_as(
        "SELECT id, expires_order, works_until, last_used_order, revoked_at, disabled_at, prefix, search_text \
         FROM api_keys",
    )
    .fetch_all(stranger)
    .await?)
}

async fn walk(fixture: &Fixture, filter: &ApiKeyFilter, order: ApiKeyOrder) -> Result<Vec<String>> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let query = ApiKeyQuery {
            filter: filter.clone(),
            order,
            cursor,
            limit: 500,
        };
        let page = fixture.registry.list_api_keys(&query).await?;
        assert!(page.items.len() <= 500);
        ids.extend(page.items.into_iter().map(|key| key.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(ids);
        }
    }
}

#[tokio::test]
async fn walks_agree_with_a_plain_filter_over_all_rows() -> Result<()> {
    let fixture = super::fixture().await?;
    let all = fill(&fixture).await?;
    fixture.set_clock(NOW);
    let exceptions = all
        .iter()
        .filter(|row| row.works_until != row.expires_order);
    assert!(exceptions.count() > 300);
    let mut wanted = Vec::new();
    for order in [
        ApiKeyOrder::ExpiresAsc,
        ApiKeyOrder::ExpiresDesc,
        ApiKeyOrder::LastUsedAsc,
        ApiKeyOrder::LastUsedDesc,
    ] {
        for state in [
            StateFilter::Live,
            StateFilter::Expiring,
            StateFilter::Expired,
            StateFilter::NeverUsed,
        ] {
            wanted.push((order, state, None, ""));
        }
    }
    // With other filters beside, and searches that the index's trigrams alone do not decide.
    let (asc, desc) = (ApiKeyOrder::ExpiresAsc, ApiKeyOrder::ExpiresDesc);
    wanted.push((asc, StateFilter::Expiring, Some("sk_test"), ""));
    wanted.push((desc, StateFilter::Live, Some("sk_test"), "number1"));
    wanted.push((desc, StateFilter::Expired, None, "ber12_%"));
    wanted.push((asc, StateFilter::All, None, "7_%"));
    wanted.push((asc, StateFilter::All, None, "number%"));
    wanted.push((asc, StateFilter::Disabled, None, ""));
    wanted.push((desc, StateFilter::Revoked, None, ""));
    for (order, state, prefix, text) in wanted {
        let filter = ApiKeyFilter {
            state,
            prefix: prefix.map(str::to_owned),
            text: text.to_owned(),
            ..ApiKeyFilter::default()
        };
        let mut expected: Vec<&Row> = all
            .iter()
            .filter(|row| {
                row.is_in(state)
                    && prefix.is_none_or(|prefix| row.prefix == prefix)
                    && row.search_text.contains(text)
            })
            .collect();
        expected.sort_by(|one, other| {
            let by_place = one.place(order).cmp(&other.place(order));
            let by_id = match order {
                ApiKeyOrder::ExpiresAsc | ApiKeyOrder::LastUsedAsc => one.id.cmp(&other.id),
                _ => other.id.cmp(&one.id),
            };
            by_place.then(by_id)
        });
        let found = walk(&fixture, &filter, order).await?;
        let expected: Vec<&str> = expected.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(found.len(), expected.len(), "{order:?} {filter:?}");
        let same = found.iter().zip(&expected).all(|(one, other)| one == other);
        assert!(same, "{order:?} {filter:?}");
    }
    let counts = fixture.registry.count_api_keys().await?;
    let count = |state| all.iter().filter(|row| row.is_in(state)).count() as i64;
    assert_eq!(
        [
            counts.all,
            counts.live,
            counts.expiring,
            counts.expired,
            counts.disabled,
            counts.revoked
        ],
        [
            StateFilter::All,
            StateFilter::Live,
            StateFilter::Expiring,
            StateFilter::Expired,
            StateFilter::Disabled,
            StateFilter::Revoked
        ]
        .map(count)
    );
    Ok(())
}
