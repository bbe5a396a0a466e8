//! Walks over all keys, among more than are looked at at once: nothing that stands between is missed.

use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, Environment, NewApiKey, Policy, PolicyEnvironment};
use keywright_domain::schedules::NoticeKind;
use keywright_registry::RetentionPolicy;

use super::{Fixture, Kind, START, wish};

/// Two stretches and a part of a third.
const KEYS: i64 = 21_000;

/// Keys that are of no concern to anybody: they ended by their own end, and their secrets have none. Ids and kids are spread
/// as real ones are.
async fn fill(fixture: &Fixture) -> Result<()> {
    let mut stranger = fixture.stranger().await?;
    let pepper: String = sqlx::query_scalar("SELECT MAX(id) FROM peppers")
        .fetch_one(&mut stranger)
        .await?;
    let numbers = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) ";
    // A mark of 20 characters, and one of twelve, from a digit to a letter.
    let spread = "SUBSTR('0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz', CAST(i % 57 + 1 AS INTEGER), 1)";
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{numbers} INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_key, search_text, kid, last_four, \
         expires_order, old_works_until, works_until, rotating_until, last_used_order, environment) \
         SELECT {spread} || CAST(1000000000000000000 + i AS TEXT), 'filler', 'sk_live', 'keys:read', 0, $2 - i, 'filler', 'filler', \
         {spread} || CAST(10000000000 + i AS TEXT), 'aaaa', 9, 0, 9, 0, 0, CASE WHEN i % 2 = 0 THEN 'live' ELSE 'staging' END FROM n"
    )))
    .bind(KEYS)
    .bind(START)
    .execute(&mut stranger)
    .await?;
    sqlx::query(
        "INSERT INTO secrets (kid, key_id, position, mac, algorithm, pepper_id, last_four, stored, created_at, first_used_at, \
         use_count) SELECT kid, id, 0, $1, 'hmac-sha256-of-sha256', $2, 'aaaa', 'active', created_at, created_at, 1 \
         FROM api_keys WHERE name = 'filler'",
    )
    .bind(vec![7_u8; 32])
    .bind(pepper)
    .execute(&mut stranger)
    .await?;
    Ok(())
}

/// Has the keys around the end of the first stretch of each environment be of one moment, and go on to work. Returns which.
async fn gather_at_a_cut(fixture: &Fixture) -> Result<Vec<(String, String)>> {
    let mut stranger = fixture.stranger().await?;
    let moment = START - 1_002;
    sqlx::query(
        "UPDATE api_keys SET created_at = $1, expires_order = $2 WHERE name = 'filler' AND created_at BETWEEN $1 - 100 AND $1 + 100",
    )
    .bind(moment)
    .bind(START + 365 * DAY_MS)
    .execute(&mut stranger)
    .await?;
    let of_it = "FROM api_keys WHERE name = 'filler' AND created_at = $1";
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE secrets SET created_at = $1 WHERE kid IN (SELECT kid {of_it})"
    )))
    .bind(moment)
    .execute(&mut stranger)
    .await?;
    let found = format!("SELECT id, environment {of_it}");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(found))
        .bind(moment)
        .fetch_all(&mut stranger)
        .await?)
}

fn long_lived(name: &str, environment: Environment) -> NewApiKey {
    NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        environment: Some(environment),
        ..wish(name)
    }
}

#[tokio::test]
async fn rule_10_secrets_that_ended_are_found_wherever_they_stand() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut rotated = Vec::new();
    for index in 0..24 {
        let issued = fixture
            .issue_as(&long_lived(&format!("kept {index}"), Environment::LIVE))
            .await?;
        let newer = fixture.rotate(&issued.key.id, DAY_MS).await?;
        fixture.verify(&newer).await?;
        rotated.push(issued.key.id);
    }
    let gone = fixture.issue("gone").await?;
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &gone.key.id, "over")
        .await?;
    fill(&fixture).await?;
    fixture.set_clock(START + 60 * DAY_MS);
    let policy = RetentionPolicy {
        ended_keys_days: Some(30),
        ended_secrets_days: Some(30),
        ..RetentionPolicy::default()
    };
    let registry = &fixture.registry;
    registry.settle_rotations().await?;
    let report = registry
        .run_retention(&fixture.actor, &policy, None, &[], &|_| ())
        .await?;
    assert_eq!((report.secrets, report.keys), (24, 1));
    for id in rotated {
        let (key, _) = registry.find_api_key(&id).await?;
        assert_eq!(key.secrets.len(), 1);
    }
    let gone = registry.find_api_key(&gone.key.id).await;
    assert_eq!(gone.expect_err("removed").code(), "key_not_found");
    Ok(())
}

#[tokio::test]
async fn rule_11_every_key_that_grows_too_old_is_told_of_once_wherever_it_stands() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut due = Vec::new();
    let policy = |environment, days| Policy {
        environment,
        max_age_ms: Some(days * DAY_MS),
        max_lifetime_ms: 365 * DAY_MS,
        ..Policy::default_for(Environment::LIVE)
    };
    let staging = Environment::new("staging")?;
    for (environment, days) in [
        (PolicyEnvironment::One(Environment::LIVE), 60),
        // Whatever has no policy of its own: staging.
        (PolicyEnvironment::All, 90),
    ] {
        fixture
            .registry
            .set_policy(&fixture.actor, &policy(environment, days))
            .await?;
    }
    fill(&fixture).await?;
    for (id, environment) in gather_at_a_cut(&fixture).await? {
        let days = if environment == "live" { 60 } else { 90 };
        due.push((id, START - 1_002 + days * DAY_MS));
    }
    assert_eq!(due.len(), 201);
    for index in 0..12_i64 {
        let (environment, days) = if index % 3 == 0 {
            (staging.clone(), 90)
        } else {
            (Environment::LIVE, 60)
        };
        // Some before the rest, some after, and some of the same moment.
        fixture.set_clock(START - KEYS / 3 * (index % 4) + index / 6);
        let issued = fixture
            .issue_as(&long_lived(&format!("old {index}"), environment))
            .await?;
        due.push((issued.key.id, fixture.now() + days * DAY_MS));
    }
    fixture.set_clock(START + 5 * DAY_MS);
    assert_eq!(fixture.registry.due_notices(500).await?, [], "none is old");
    fixture.set_clock(START + 90 * DAY_MS);
    let told = fixture.registry.due_notices(500).await?;
    let mut told: Vec<_> = told
        .into_iter()
        .map(|one| (one.key_id, one.due_at))
        .collect();
    told.sort();
    due.sort();
    assert_eq!(told, due);
    assert_eq!(fixture.registry.due_notices(500).await?, [], "once");
    Ok(())
}

#[tokio::test]
async fn rule_11_a_notice_is_made_for_the_last_moment_of_its_day() -> Result<()> {
    let fixture = super::fixture().await?;
    let policy = Policy {
        max_age_ms: Some(60 * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    fixture.registry.set_policy(&fixture.actor, &policy).await?;
    // 30 days from then it is the last moment of a day, and the next is of the day after.
    let now = START + 40 * DAY_MS;
    let last = now.div_euclid(DAY_MS) * DAY_MS + 31 * DAY_MS - 1;
    fixture.set_clock(last - 60 * DAY_MS);
    let wish = |name| long_lived(name, Environment::LIVE);
    let issued = fixture.issue_as(&wish("of the day")).await?;
    fixture.set_clock(last - 60 * DAY_MS + 1);
    fixture.issue_as(&wish("of the next")).await?;
    fixture.set_clock(now);
    let told = fixture.registry.due_notices(500).await?;
    let told: Vec<_> = told
        .into_iter()
        .map(|one| (one.key_id, one.kind, one.due_at))
        .collect();
    assert_eq!(told, [(issued.key.id, NoticeKind::Days30, last)]);
    Ok(())
}

/// Nobody waits for it, and it would take half of a small machine from verifications.
#[tokio::test]
async fn rule_11_the_look_at_ages_rests_from_looking_and_not_from_writing() -> Result<()> {
    let fixture = super::fixture().await?;
    let policy = Policy {
        max_age_ms: Some(60 * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    fixture.registry.set_policy(&fixture.actor, &policy).await?;
    fill(&fixture).await?;
    fixture.set_clock(START - DAY_MS);
    let first = fixture
        .issue_as(&long_lived("first", Environment::LIVE))
        .await?;
    fixture.set_clock(START + 59 * DAY_MS);
    let mut stranger = fixture.stranger().await?;
    let hold = match fixture.kind {
        Kind::Sqlite => "BEGIN IMMEDIATE",
        Kind::Postgres => "BEGIN; LOCK TABLE heads IN EXCLUSIVE MODE",
    };
    sqlx::raw_sql(hold).execute(&mut stranger).await?;
    let registry = fixture.registry.clone();
    let began = Instant::now();
    let looking = tokio::spawn(async move { registry.post_notices().await });
    // What it writes of the first stretch waits.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!looking.is_finished());
    sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await?;
    looking.await??;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "it rested from writing: {took:?}"
    );
    let told = fixture.registry.take_notices(500).await?;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].key_id, first.key.id);
    if fixture.kind == Kind::Sqlite {
        return Ok(());
    }
    // A look into the first stretch that takes a second is rested from for four.
    let slow = format!(
        "ALTER TABLE secrets RENAME TO kept; CREATE VIEW secrets AS SELECT * FROM kept \
         WHERE CASE WHEN kid = '{}' THEN pg_sleep(1) IS NOT NULL ELSE TRUE END",
        first.key.current_secret(START).expect("it has one").kid
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(slow))
        .execute(&mut stranger)
        .await?;
    fixture.set_clock(START + 59 * DAY_MS + 2 * 60 * 60 * 1000);
    let began = Instant::now();
    fixture.registry.post_notices().await?;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(4_900), "no rest: {took:?}");
    Ok(())
}
