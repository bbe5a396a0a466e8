//! Version 24 gives the age that a policy allows a column: filled from what is there, on both databases.

use anyhow::Result;
use keywright_domain::api_keys::DAY_MS;
use sqlx::Connection as _;

use super::{Fixture, Kind, START};

/// Policies as version 23 left them: one text each.
fn policies_of_23() -> [(&'static str, String, Option<i64>); 4] {
    let text = |max_lifetime: i64, age: &str| {
        format!(
            "{{\"max_lifetime_ms\":{max_lifetime},\"max_age_ms\":{age},\"never_expires_allowed\":true,\
             \"min_overlap_ms\":0,\"max_overlap_ms\":604800000,\"allowed_scopes\":null,\
             \"allowed_prefixes\":null,\"rate_limit_floor\":null,\"overlap_clock\":\"from_issue\",\
             \"drain_ms\":3600000,\"retire_on_max_age\":false}}"
        )
    };
    [
        ("*", text(31_536_000_000, "7776000000"), Some(7_776_000_000)),
        ("live", text(7_776_000_000, "null"), None),
        ("staging", text(31_536_000_000, "86400000"), Some(DAY_MS)),
        ("test", text(90, "9223372036854775807"), Some(i64::MAX)),
    ]
}

/// 24 adds these; a database without them is as version 23 left it.
const BACK_TO_23: &str = "DROP TABLE outbox_dropped; DROP TABLE outbox_told; \
     ALTER TABLE policies DROP COLUMN max_age_ms; ALTER TABLE webhooks DROP COLUMN dropped_count; \
     ALTER TABLE webhooks DROP COLUMN dropped_at; DELETE FROM _sqlx_migrations WHERE version > 23";

async fn ages_are_in_a_column(kind: Kind) -> Result<()> {
    let fixture = Fixture::on(kind).await?;
    fixture.registry.close().await;
    let mut old = fixture.stranger().await?;
    sqlx::raw_sql(BACK_TO_23).execute(&mut old).await?;
    for (environment, text, _) in policies_of_23() {
        sqlx::query("INSERT INTO policies (environment, text, changed_at) VALUES ($1, $2, $3)")
            .bind(environment)
            .bind(text)
            .bind(START)
            .execute(&mut old)
            .await?;
    }
    old.close().await?;
    let registry = fixture.place.open().await?;
    let mut stranger = fixture.stranger().await?;
    let expected = policies_of_23().map(|(environment, _, age)| (environment.to_owned(), age));
    let ages = "SELECT environment, max_age_ms FROM policies ORDER BY environment";
    let found: Vec<(String, Option<i64>)> = sqlx::query_as(ages).fetch_all(&mut stranger).await?;
    assert_eq!(found, expected);
    let mut policies = registry.list_policies().await?;
    let read = policies.iter();
    let read = read.map(|one| (one.environment.as_str().to_owned(), one.max_age_ms));
    assert_eq!(
        read.collect::<Vec<_>>(),
        expected,
        "column and text say the same"
    );
    // And what is set from here on is in both.
    policies[1].max_age_ms = Some(5 * DAY_MS);
    policies[2].max_age_ms = None;
    for policy in &policies[1..3] {
        registry.set_policy(&fixture.actor, policy).await?;
    }
    let found: Vec<(String, Option<i64>)> = sqlx::query_as(ages).fetch_all(&mut stranger).await?;
    let changed = [expected[0].1, Some(5 * DAY_MS), None, expected[3].1];
    assert_eq!(
        found.iter().map(|(_, age)| *age).collect::<Vec<_>>(),
        changed
    );
    registry.close().await;
    Ok(stranger.close().await?)
}

#[tokio::test]
async fn the_ages_of_policies_from_before_24_are_in_their_column() -> Result<()> {
    ages_are_in_a_column(Kind::Sqlite).await
}

#[tokio::test]
async fn the_ages_of_policies_from_before_24_are_in_their_column_on_postgres() -> Result<()> {
    ages_are_in_a_column(Kind::Postgres).await
}
