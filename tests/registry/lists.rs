//! Lists by keyset: any order, any filter, stable while keys come and go.

use std::collections::HashSet;

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, NewApiKey};
use keywright_registry::{ApiKeyFilter, ApiKeyOrder, ApiKeyQuery, ApiKeySummary, StateFilter};

use super::{Fixture, START, wish};

async fn walk(
    fixture: &Fixture,
    order: ApiKeyOrder,
    filter: ApiKeyFilter,
    limit: u32,
) -> Result<Vec<ApiKeySummary>> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let query = ApiKeyQuery {
            filter: filter.clone(),
            order,
            cursor,
            limit,
        };
        let page = fixture.registry.list_api_keys(&query).await?;
        assert!(page.items.len() <= limit as usize);
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            assert_eq!(page.total, all.len() as i64);
            return Ok(all);
        }
    }
}

async fn filled() -> Result<Fixture> {
    let fixture = super::fixture().await?;
    for index in 0..25_i64 {
        fixture.set_clock(START + index / 3); // ties on purpose
        let wish = NewApiKey {
            name: format!(
                "{} key {}",
                ["alpha", "Beta", "gamma%", "Ärger"][index as usize % 4],
                index / 4
            ),
            lifetime_ms: Some((1 + index % 5) * DAY_MS),
            ..wish("")
        };
        fixture
            .registry
            .issue_api_key(&fixture.actor, &wish, &fixture.peppers)
            .await?;
    }
    fixture.set_clock(START + 10);
    Ok(fixture)
}

#[tokio::test]
async fn every_order_shows_every_key_once_and_in_order() -> Result<()> {
    let fixture = filled().await?;
    let never = i64::MAX;
    for order in [
        ApiKeyOrder::CreatedDesc,
        ApiKeyOrder::CreatedAsc,
        ApiKeyOrder::NameAsc,
        ApiKeyOrder::NameDesc,
        ApiKeyOrder::ExpiresAsc,
        ApiKeyOrder::LastUsedDesc,
    ] {
        let keys = walk(&fixture, order, ApiKeyFilter::default(), 4).await?;
        let ids: HashSet<_> = keys.iter().map(|key| key.id.clone()).collect();
        assert_eq!((keys.len(), ids.len()), (25, 25), "{order:?}");
        let sorted = keys.windows(2).all(|pair| match order {
            ApiKeyOrder::CreatedDesc => pair[0].created_at >= pair[1].created_at,
            ApiKeyOrder::CreatedAsc => pair[0].created_at <= pair[1].created_at,
            ApiKeyOrder::NameAsc => pair[0].name.to_lowercase() <= pair[1].name.to_lowercase(),
            ApiKeyOrder::NameDesc => pair[0].name.to_lowercase() >= pair[1].name.to_lowercase(),
            ApiKeyOrder::ExpiresAsc => {
                pair[0].expires_at.unwrap_or(never) <= pair[1].expires_at.unwrap_or(never)
            }
            ApiKeyOrder::LastUsedDesc => pair[0].last_used_at >= pair[1].last_used_at,
        });
        assert!(sorted, "{order:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_is_stable_while_keys_come_and_go() -> Result<()> {
    let fixture = filled().await?;
    let query = |cursor| ApiKeyQuery {
        cursor,
        limit: 10,
        ..ApiKeyQuery::default()
    };
    let first = fixture.registry.list_api_keys(&query(None)).await?;
    fixture.issue("newer than all").await?;
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &first.items[9].id, "")
        .await?;
    let second = fixture
        .registry
        .list_api_keys(&query(first.next_cursor))
        .await?;
    let seen: HashSet<_> = first.items.iter().map(|key| &key.id).collect();
    assert_eq!(second.items.len(), 10);
    assert!(
        second.items.iter().all(|key| !seen.contains(&key.id)),
        "none twice"
    );
    Ok(())
}

#[tokio::test]
async fn filters_find_by_text_and_state() -> Result<()> {
    let fixture = filled().await?;
    let text = |text: &str| ApiKeyFilter {
        text: text.into(),
        ..ApiKeyFilter::default()
    };
    let count = async |filter| {
        walk(&fixture, ApiKeyOrder::NameAsc, filter, 100)
            .await
            .map(|keys| keys.len())
    };
    assert_eq!(count(text("BETA")).await?, 6);
    assert_eq!(count(text("ärger")).await?, 6);
    assert_eq!(count(text("%")).await?, 6, "a wildcard is a character");
    assert_eq!(count(text("keys:read")).await?, 25);
    assert_eq!(count(text("no such key")).await?, 0);

    let issued = fixture.issue("wanted").await?;
    assert_eq!(count(text(issued.plain.kid().as_str())).await?, 1);
    fixture.rotate(&issued.key.id, DAY_MS).await?;
    let state = |state| ApiKeyFilter {
        state,
        ..ApiKeyFilter::default()
    };
    assert_eq!(count(state(StateFilter::Rotating)).await?, 1);
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &issued.key.id, "")
        .await?;
    assert_eq!(count(state(StateFilter::Revoked)).await?, 1);
    assert_eq!(count(state(StateFilter::Expiring)).await?, 25);
    fixture.set_clock(START + 2 * DAY_MS + 100);
    let (expired, live) = (
        count(state(StateFilter::Expired)).await?,
        count(state(StateFilter::Live)).await?,
    );
    assert_eq!((expired, live), (10, 15));
    let counts = fixture.registry.count_api_keys().await?;
    assert_eq!(
        (counts.all, counts.live, counts.expired, counts.revoked),
        (26, 15, 10, 1)
    );
    Ok(())
}

#[tokio::test]
async fn a_foreign_cursor_is_refused() -> Result<()> {
    let fixture = super::fixture().await?;
    let query = ApiKeyQuery {
        cursor: Some("nonsense".into()),
        limit: 5,
        ..ApiKeyQuery::default()
    };
    assert_eq!(
        fixture
            .registry
            .list_api_keys(&query)
            .await
            .expect_err("foreign")
            .code(),
        "invalid_cursor"
    );
    Ok(())
}
