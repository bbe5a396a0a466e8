//! Version 24 gives the age that a policy allows a column: filled from what is there, and mended where an older node
//! goes on, on both databases.

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, Environment, NewApiKey, Policy};
use keywright_registry::{BoardKind, BoardQuery, BoardReader};
use sqlx::Connection as _;

use super::{Fixture, Kind, START, wish};

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

/// 24 to 28 add these; a database without them is as version 23 left it.
const BACK_TO_23: &str = "DROP TABLE bulk_failures; DROP INDEX principals_by_kind; ALTER TABLE principals DROP COLUMN email; DROP INDEX outbox_next; DROP INDEX outbox_next_of_channel; DROP INDEX outbox_claimed; \
     CREATE INDEX outbox_due ON outbox (due_at, id) WHERE state = 'waiting'; \
     CREATE INDEX outbox_waiting ON outbox (channel, target) WHERE state = 'waiting'; \
     ALTER TABLE bulk_operations DROP COLUMN later; ALTER TABLE bulk_operations DROP COLUMN answer; \
     ALTER TABLE bulk_operations DROP COLUMN problem; DROP TABLE outbox_dropped; DROP TABLE outbox_told; \
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

/// A node of an older version goes on after 24, and changes a policy: it writes the text alone.
async fn what_an_older_node_writes_counts(kind: Kind) -> Result<()> {
    let fixture = Fixture::on(kind).await?;
    let (registry, me) = (&fixture.registry, BoardReader::of_this_device());
    let policy = Policy {
        max_age_ms: Some(90 * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    registry.set_policy(&fixture.actor, &policy).await?;
    let ageing = NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish("ageing")
    };
    fixture.issue_as(&ageing).await?;
    let mut old = fixture.stranger().await?;
    let change = "UPDATE policies SET text = replace(text, $1, $2)";
    let age = |text: &str| format!("\"max_age_ms\":{text},");
    let change = async |old: &mut sqlx::AnyConnection, from: &str, to: &str| {
        let query = sqlx::query(change).bind(age(from)).bind(age(to));
        anyhow::Ok(query.execute(old).await?.rows_affected())
    };
    let settled = async || {
        let query = BoardQuery {
            limit: 10,
            ..BoardQuery::default()
        };
        let page = registry.list_board(&me, &query).await?;
        let settled = page.items.iter().map(|one| (one.kind, one.settled));
        anyhow::Ok(settled.collect::<Vec<_>>())
    };
    let column = async |old: &mut sqlx::AnyConnection| {
        let age = "SELECT max_age_ms FROM policies";
        anyhow::Ok(
            sqlx::query_as::<_, (Option<i64>,)>(age)
                .fetch_one(old)
                .await?
                .0,
        )
    };
    // Sooner: somebody is told.
    assert_eq!(change(&mut old, "7776000000", "5184000000").await?, 1);
    assert_eq!(column(&mut old).await?, Some(90 * DAY_MS));
    fixture.set_clock(START + 55 * DAY_MS);
    let taken = registry.due_notices(10).await?;
    let due: Vec<_> = taken.iter().map(|one| one.due_at).collect();
    assert_eq!(due, [START + 60 * DAY_MS]);
    assert_eq!(column(&mut old).await?, Some(60 * DAY_MS));
    assert_eq!(settled().await?, [(BoardKind::RotationDue, false)]);
    // Not at all: nobody is, and it is off the board.
    assert_eq!(change(&mut old, "5184000000", "null").await?, 1);
    fixture.set_clock(fixture.now() + DAY_MS / 24);
    assert_eq!(registry.due_notices(10).await?, []);
    assert_eq!(column(&mut old).await?, None);
    assert_eq!(settled().await?, [(BoardKind::RotationDue, true)]);
    // And again, where the column has none; by whoever takes without having made.
    assert_eq!(change(&mut old, "null", "5184000000").await?, 1);
    fixture.set_clock(START + 59 * DAY_MS);
    registry.post_notices().await?;
    sqlx::query("UPDATE policies SET max_age_ms = NULL")
        .execute(&mut old)
        .await?;
    let taken = registry.take_notices(10).await?;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(settled().await?, [(BoardKind::RotationDue, false)]);
    Ok(old.close().await?)
}

#[tokio::test]
async fn the_age_that_an_older_node_writes_counts() -> Result<()> {
    what_an_older_node_writes_counts(Kind::Sqlite).await
}

#[tokio::test]
async fn the_age_that_an_older_node_writes_counts_on_postgres() -> Result<()> {
    what_an_older_node_writes_counts(Kind::Postgres).await
}
