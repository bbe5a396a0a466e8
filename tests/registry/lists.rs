//! Lists by keyset: any order, any filter, stable while keys come and go.
#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

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
    let (mut all, mut cursor, mut total) = (Vec::new(), None, None);
    loop {
        let cursor_was_none = cursor.is_none();
        let query = ApiKeyQuery {
            filter: filter.clone(),
            order,
            cursor,
            limit,
        };
        let page = fixture.registry.list_api_keys(&query).await?;
        assert!(page.items.len() <= limit as usize);
        assert_eq!(
            page.total.is_some(),
            cursor_was_none,
            "with the first page only"
        );
        total = total.or(page.total);
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            let total = total.expect("a total of the first page");
            assert_eq!((total.count, total.is_estimate), (all.len() as i64, false));
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
        ApiKeyOrder::ExpiresDesc,
        ApiKeyOrder::LastUsedDesc,
        ApiKeyOrder::LastUsedAsc,
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
            ApiKeyOrder::ExpiresDesc => {
                pair[0].expires_at.unwrap_or(never) >= pair[1].expires_at.unwrap_or(never)
            }
            ApiKeyOrder::LastUsedDesc => pair[0].last_used_at >= pair[1].last_used_at,
            ApiKeyOrder::LastUsedAsc => pair[0].last_used_at <= pair[1].last_used_at,
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
async fn a_cursor_of_another_list_is_refused() -> Result<()> {
    let fixture = filled().await?;
    let query = ApiKeyQuery {
        limit: 5,
        ..ApiKeyQuery::default()
    };
    let first = fixture.registry.list_api_keys(&query).await?;
    let cursor = first.next_cursor.expect("more");
    let ask = async |order, filter, cursor: &str| {
        let query = ApiKeyQuery {
            filter,
            order,
            cursor: Some(cursor.to_owned()),
            limit: 5,
        };
        match fixture.registry.list_api_keys(&query).await {
            Ok(page) => Ok(page.items.len()),
            Err(error) => Err(error.code()),
        }
    };
    let (order, all) = (ApiKeyOrder::CreatedDesc, ApiKeyFilter::default());
    assert_eq!(ask(order, all.clone(), &cursor).await, Ok(5));
    let refused = Err("invalid_cursor");
    assert_eq!(
        ask(ApiKeyOrder::CreatedAsc, all.clone(), &cursor).await,
        refused
    );
    assert_eq!(
        ask(ApiKeyOrder::NameAsc, all.clone(), &cursor).await,
        refused
    );
    let other = ApiKeyFilter {
        owner: Some("local".into()),
        ..all.clone()
    };
    assert_eq!(ask(order, other, &cursor).await, refused);
    let head = cursor.split('.').next().expect("its list");
    for bad in [
        "",
        "nonsense",
        "1~a~00",
        "\0",
        "%",
        "🔑",
        &cursor[1..],
        &format!("{cursor}00.61"),
        &format!("{head}.1.00.61"),
        &format!("{head}.99999999999999999999.61.61"),
    ] {
        let answer = ask(order, all.clone(), bad).await;
        // A server refuses an address with this character before it looks for what it means.
        let is_refused = answer == refused || bad == "\0" && answer == Err("invalid_character");
        assert!(is_refused, "{bad}: {answer:?}");
    }
    // Made up, but well formed: a place like any other.
    assert_eq!(ask(order, all, &format!("{head}.-5.27.27")).await, Ok(0));
    Ok(())
}

#[tokio::test]
async fn pages_have_1_to_500_keys() -> Result<()> {
    let fixture = filled().await?;
    let ask = async |limit| {
        let query = ApiKeyQuery {
            limit,
            ..ApiKeyQuery::default()
        };
        fixture.registry.list_api_keys(&query).await
    };
    assert_eq!(ask(0).await?.items.len(), 1);
    assert_eq!(ask(u32::MAX).await?.items.len(), 25);
    Ok(())
}

/// A name, a search, and whether it finds it.
const SEARCHES: [(&str, &str, bool); 34] = [
    ("100% sure", "100%", true),
    ("100% sure", "100_", false),
    ("1000 sure", "100%", false),
    ("under_score", "r_s", true),
    ("under_score", "r%s", false),
    ("underXscore", "r_s", false),
    ("back\\slash", "k\\s", true),
    ("back\\slash", "\\", true),
    ("back\\slash", "back\\\\", false),
    ("back\\%x", "\\%", true),
    ("quote's \"end\"", "e's \"end", true),
    ("quote's \"end\"", "' OR 1=1 --", false),
    ("semi; DROP TABLE api_keys", "; drop table", true),
    ("dollar $1 ? :name", "$1 ? :n", true),
    ("ÄRGER", "ärger", true),
    ("ärger", "ÄRGER", true),
    ("a\u{308}rger", "Ä", true),
    ("ärger", "a\u{308}rg", true),
    ("ΟΔΟΣ", "οδος", true),
    ("ΟΔΟΣΑ", "ΟΔΟΣ", true),
    ("İstanbul", "istanbul", false),
    ("straße", "STRASSE", false),
    ("straẞe", "straße", true),
    ("ключ боевой", "КЛЮЧ", true),
    ("鍵 本番環境", "本番環", true),
    ("鍵 本番環境", "鍵", true),
    ("🔑🔑🔑 vault", "🔑🔑🔑", true),
    ("\u{202e}evil", "\u{202e}ev", true),
    ("*:*", "*:*", true),
    ("a*b", "a*b", true),
    ("axb", "a*b", false),
    ("[a-c]x", "[a-c]", true),
    ("tab and   blanks", "and   bl", true),
    ("nul", "n\0l", false),
];

#[tokio::test]
async fn searches_mean_what_they_say_on_both_databases() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut ids = std::collections::HashMap::new();
    for (name, ..) in SEARCHES {
        if !ids.contains_key(name) {
            ids.insert(name, fixture.issue(name).await?.key.id);
        }
    }
    let check = async |when: &str| -> Result<()> {
        for (name, text, found) in SEARCHES {
            let filter = ApiKeyFilter {
                text: text.into(),
                ..ApiKeyFilter::default()
            };
            let keys = match walk(&fixture, ApiKeyOrder::NameAsc, filter, 100).await {
                // A server refuses an address with this character before it looks for anything.
                Err(error) if text.contains('\0') && error.to_string().contains("U+0000") => {
                    Vec::new()
                }
                keys => keys?,
            };
            let is_found = keys.iter().any(|key| key.id == ids[name]);
            assert_eq!(is_found, found, "{name:?} by {text:?} {when}");
        }
        let endless = ApiKeyFilter {
            text: "x".repeat(100_000),
            ..ApiKeyFilter::default()
        };
        assert!(
            walk(&fixture, ApiKeyOrder::NameAsc, endless, 9)
                .await?
                .is_empty()
        );
        Ok(())
    };
    check("before it is indexed").await?;
    indexed(&fixture).await?;
    check("by the index").await?;
    // A name that changed is found by the new one, and not by the old one.
    let change = keywright_registry::ApiKeyChange {
        name: Some("renamed entirely".into()),
        ..Default::default()
    };
    let id = &ids["underXscore"];
    fixture
        .registry
        .change_api_key(&fixture.actor, id, &change)
        .await?;
    for when in ["before", "after"] {
        for (text, found) in [("named ent", 1), ("underx", 0)] {
            let filter = ApiKeyFilter {
                text: text.into(),
                ..ApiKeyFilter::default()
            };
            let keys = walk(&fixture, ApiKeyOrder::NameAsc, filter, 100).await?;
            assert_eq!(keys.len(), found, "{text} {when} it is indexed");
        }
        indexed(&fixture).await?;
    }
    Ok(())
}

/// Waits until no key waits for the search index.
pub(super) async fn indexed(fixture: &Fixture) -> Result<()> {
    let mut stranger = fixture.stranger().await?;
    for _ in 0..600 {
        let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_key_search_pending")
            .fetch_one(&mut stranger)
            .await?;
        if waiting == 0 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the search index does not follow")
}
