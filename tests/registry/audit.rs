//! The chained trail: signed, verified, exported; a row changed by hand is named.

use anyhow::Result;
use keywright_domain::audit_chain::{CheckpointKey, Verdict};
use keywright_registry::audit_export::verify_export;

use super::{Fixture, rand_text};

fn key() -> CheckpointKey {
    CheckpointKey::from_bytes(&[9; 32])
}

async fn busy(fixture: &Fixture) -> Result<()> {
    for name in ["one", "two", "three"] {
        let issued = fixture.issue(name).await?;
        fixture.code(&issued).await?;
        fixture.rotate(&issued.key.id, 0).await?;
    }
    Ok(())
}

/// Where the trail is broken, 0 for nowhere.
async fn broken_at(fixture: &Fixture) -> Result<i64> {
    Ok(
        match fixture.registry.verify_audit(&[key().public_key()]).await? {
            Verdict::Intact { .. } => 0,
            Verdict::Broken { at, .. } => at,
        },
    )
}

async fn by_hand(fixture: &Fixture, sql: &'static str) -> Result<()> {
    let mut stranger = fixture.stranger().await?;
    sqlx::raw_sql(sql).execute(&mut stranger).await?;
    Ok(())
}

#[tokio::test]
async fn the_trail_is_intact_with_its_checkpoints() -> Result<()> {
    let fixture = super::fixture().await?;
    busy(&fixture).await?;
    let first = fixture
        .registry
        .checkpoint_audit(&fixture.actor, &key())
        .await?;
    let again = fixture
        .registry
        .checkpoint_audit(&fixture.actor, &key())
        .await?;
    assert_eq!(first, again, "nothing new, nothing signed");
    busy(&fixture).await?;
    let second = fixture
        .registry
        .checkpoint_audit(&fixture.actor, &key())
        .await?;
    assert!(second.checkpoint.sequence > first.checkpoint.sequence);
    let verdict = fixture.registry.verify_audit(&[key().public_key()]).await?;
    let Verdict::Intact {
        last,
        checkpoints,
        vouched,
        ..
    } = verdict
    else {
        anyhow::bail!("{verdict}")
    };
    assert_eq!(
        (checkpoints, vouched),
        (2, Some(second.checkpoint.sequence))
    );
    assert_eq!(last, Some(second.checkpoint.sequence + 1));
    Ok(())
}

#[tokio::test]
async fn a_row_changed_by_hand_is_named() -> Result<()> {
    let fixture = super::fixture().await?;
    busy(&fixture).await?;
    assert_eq!(broken_at(&fixture).await?, 0);
    by_hand(
        &fixture,
        "UPDATE audit_events SET actor = 'somebody else' WHERE sequence = 5",
    )
    .await?;
    assert_eq!(broken_at(&fixture).await?, 5);
    Ok(())
}

#[tokio::test]
async fn a_row_removed_by_hand_is_named() -> Result<()> {
    let fixture = super::fixture().await?;
    busy(&fixture).await?;
    by_hand(&fixture, "DELETE FROM audit_events WHERE sequence = 4").await?;
    assert_eq!(broken_at(&fixture).await?, 4);
    Ok(())
}

#[tokio::test]
async fn the_last_rows_removed_by_hand_are_missed() -> Result<()> {
    let fixture = super::fixture().await?;
    busy(&fixture).await?;
    let signed = fixture
        .registry
        .checkpoint_audit(&fixture.actor, &key())
        .await?;
    let last = signed.checkpoint.sequence;
    let mut stranger = fixture.stranger().await?;
    sqlx::query("DELETE FROM audit_events WHERE sequence >= $1")
        .bind(last)
        .execute(&mut stranger)
        .await?;
    assert_eq!(broken_at(&fixture).await?, last);
    Ok(())
}

#[tokio::test]
async fn another_checkpoint_key_is_not_believed() -> Result<()> {
    let fixture = super::fixture().await?;
    busy(&fixture).await?;
    fixture
        .registry
        .checkpoint_audit(&fixture.actor, &CheckpointKey::from_bytes(&[8; 32]))
        .await?;
    assert_ne!(broken_at(&fixture).await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_export_is_verified_without_the_registry() -> Result<()> {
    let fixture = super::fixture().await?;
    busy(&fixture).await?;
    fixture
        .registry
        .checkpoint_audit(&fixture.actor, &key())
        .await?;
    let mut export = Vec::new();
    let events = fixture
        .registry
        .export_audit(&mut export, &[key().public_key()])
        .await?;
    assert!(events > 9);
    let trusted = [key().public_key()];
    assert!(verify_export(export.as_slice(), &trusted)?.is_intact());
    let changed = String::from_utf8(export)?.replace("“two”", "“too”");
    assert!(!verify_export(changed.as_bytes(), &trusted)?.is_intact());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_make_one_chain() -> Result<()> {
    let fixture = std::sync::Arc::new(super::fixture().await?);
    let second = fixture.second().await?;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..60 {
        let registry = if index % 2 == 0 {
            fixture.registry.clone()
        } else {
            second.clone()
        };
        let fixture = std::sync::Arc::clone(&fixture);
        tasks.spawn(async move {
            let wish = super::wish(&rand_text());
            registry
                .issue_api_key(&fixture.actor, &wish, &fixture.peppers)
                .await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    assert_eq!(broken_at(&fixture).await?, 0);
    assert_eq!(fixture.actions().await?.len(), 62);
    Ok(())
}
