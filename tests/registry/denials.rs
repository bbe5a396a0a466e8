//! The list of what is denied.

use std::collections::BTreeSet;

use anyhow::Result;
use keywright_domain::api_keys::DAY_MS;

use super::START;

#[tokio::test]
async fn what_is_denied_is_read_behind_what_is_over_and_no_end_that_moves_is_missed() -> Result<()>
{
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let mut stranger = fixture.stranger().await?;
    let mut wanted = BTreeSet::new();
    // A day of what is over, denied before all that is not; the last of it ends now.
    for (kind, value, ends) in (0..40)
        .map(|n| ("token", format!("over{n}"), START - n * DAY_MS / 40))
        .chain([("grant", "first".to_owned(), START + 1)])
        // All at one moment, and the same value of each kind.
        .chain((0..9).map(|n| {
            let kind = ["token", "session", "grant"][n % 3];
            (kind, format!("same{}", n / 3), START + 500)
        }))
        .chain((0..4).map(|n| ("session", format!("later{n}"), START + 600 + n)))
    {
        if ends > START {
            wanted.insert((kind.to_owned(), value.clone()));
        }
        sqlx::query(
            "INSERT INTO denials (kind, value, denied_at, expires_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(kind)
        .bind(value)
        .bind(START - 2 * DAY_MS)
        .bind(ends)
        .execute(&mut stranger)
        .await?;
    }
    for limit in [1, 2, 4, 500] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = registry.list_denials(cursor.as_deref(), limit).await?;
            assert!(page.items.len() <= usize::try_from(limit)?);
            for one in page.items {
                assert!(one.expires_at > START, "{one:?} is over");
                seen.push((one.kind.as_str().to_owned(), one.value));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), wanted.len(), "{limit}: once each");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), wanted, "{limit}");
    }
    // One that was seen and one that was not end later now; nothing is missed by that.
    let page = registry.list_denials(None, 3).await?;
    let mut seen: BTreeSet<_> = (page.items.iter())
        .map(|one| (one.kind.as_str().to_owned(), one.value.clone()))
        .collect();
    assert_eq!(page.items[0].value, "first");
    for jti in ["same0", "same2"] {
        registry
            .deny_access_token(&fixture.actor, jti, START + 550)
            .await?;
    }
    // And what was to come next is over by now.
    fixture.set_clock(START + 500);
    let rest = registry
        .list_denials(page.next_cursor.as_deref(), 500)
        .await?;
    for one in rest.items {
        assert!(one.expires_at > START + 500);
        seen.insert((one.kind.as_str().to_owned(), one.value));
    }
    for value in ["same0", "same2"] {
        assert!(
            seen.contains(&("token".to_owned(), value.to_owned())),
            "{seen:?}"
        );
    }
    for n in 0..4 {
        let later = ("session".to_owned(), format!("later{n}"));
        assert!(seen.contains(&later), "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_denied_since_is_read_in_the_order_of_commits() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let deny = async |jti: &str, ends: i64| {
        registry
            .deny_access_token(&fixture.actor, jti, START + ends)
            .await
    };
    deny("old", 500).await?;
    let mut place = registry.end_of_denials().await?;
    assert_eq!(registry.new_denials(&place, 10).await?, Some(Vec::new()));
    for (jti, ends) in [("b", 900), ("a", 500), ("c", 1)] {
        deny(jti, ends).await?;
    }
    // One that was there and ends later now is new once more, and behind the others.
    deny("old", 800).await?;
    let mut seen = Vec::new();
    loop {
        let found = registry.new_denials(&place, 1).await?;
        let Some(one) = found.expect("no number went back").pop() else {
            break;
        };
        seen.push(one.value);
        place = one.place;
    }
    assert_eq!(seen, ["b", "a", "c", "old"]);
    Ok(())
}
