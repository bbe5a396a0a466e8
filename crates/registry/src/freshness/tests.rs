//! What becomes of doubts whose commit nobody could be asked about.

use std::path::Path;
use std::time::{Duration, Instant};

use keywright_domain::api_keys::{DAY_MS, NewApiKey, Pepper};
use keywright_domain::audit::Actor;
use sqlx::{AnyConnection, Connection as _};

use super::{after_unknown, before_commit, settle_later};
use crate::writer::Subject;
use crate::{Clock, Issued, LocalRegistry, PepperKey, Peppers, VerifyRequest};

type Outcome = anyhow::Result<()>;

/// A registry with a key that was used already, all of it in memory and nothing left to be written.
async fn registry(file: &Path) -> anyhow::Result<(LocalRegistry, Peppers, Issued)> {
    let clock = Clock::from_fn(|| 1_800_000_000_000);
    let registry = LocalRegistry::open(file, clock).await?;
    let actor = Actor::keywright();
    registry.adopt_pepper(&actor, "pepper-1").await?;
    let peppers = Peppers::new(PepperKey {
        id: "pepper-1".to_owned(),
        pepper: Pepper::from_bytes([7; 32]),
    });
    let wish = NewApiKey {
        name: "a key".to_owned(),
        prefix: "sk_live".to_owned(),
        scopes: vec!["keys:read".to_owned()],
        lifetime_ms: Some(90 * DAY_MS),
        ..NewApiKey::default()
    };
    let issued = registry.issue_api_key(&actor, &wish, &peppers).await?;
    assert_eq!(code(&registry, &peppers, &issued).await?, "valid");
    registry.flush_uses().await?;
    for _ in 0..1000 {
        if registry.index_is_complete() {
            return Ok((registry, peppers, issued));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("not every key came into memory")
}

async fn code(
    registry: &LocalRegistry,
    peppers: &Peppers,
    issued: &Issued,
) -> anyhow::Result<&'static str> {
    let request = VerifyRequest {
        presented: issued.plain.text().expose(),
        ..VerifyRequest::default()
    };
    Ok(registry.verify_api_key(&request, peppers).await?.code())
}

fn doubts(registry: &LocalRegistry) -> usize {
    registry.index_statistics().doubts
}

#[tokio::test]
async fn a_lost_commit_is_asked_about_until_the_database_answers() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let (registry, peppers, issued) = registry(&file).await?;
    let shared = &registry.shared;
    let mut stranger = AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
    for subject in [
        Subject::ApiKey(issued.key.id.clone()),
        Subject::Principal(issued.key.owner.id.clone()),
    ] {
        sqlx::raw_sql("ALTER TABLE changes RENAME TO elsewhere")
            .execute(&mut stranger)
            .await?;
        let changes = [(super::seen(shared) + 1, subject)];
        before_commit(shared, &changes);
        // The commit did not take place, and the log cannot be read.
        after_unknown(shared, &changes).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(doubts(&registry), 1, "nobody knows: {changes:?}");
        sqlx::raw_sql("ALTER TABLE elsewhere RENAME TO changes")
            .execute(&mut stranger)
            .await?;
        let began = Instant::now();
        assert_eq!(code(&registry, &peppers, &issued).await?, "valid");
        assert!(began.elapsed() < Duration::from_secs(2), "{changes:?}");
        assert_eq!(doubts(&registry), 0);
        registry.flush_uses().await?;
    }
    registry.close().await;
    Ok(())
}

#[tokio::test]
async fn a_doubt_is_settled_although_nobody_writes() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (registry, peppers, issued) = registry(&folder.path().join("registry.db")).await?;
    let shared = &registry.shared;
    // Uses are written, and the search index follows at its second look: then nobody writes any more.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let header = shared.freshness.header();
    let changes = [(
        super::seen(shared) + 1,
        Subject::ApiKey(issued.key.id.clone()),
    )];
    before_commit(shared, &changes);
    settle_later(shared, &changes);
    for _ in 0..400 {
        if doubts(&registry) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(doubts(&registry), 0);
    assert_eq!(shared.freshness.header(), header, "somebody wrote");
    assert_eq!(code(&registry, &peppers, &issued).await?, "valid");
    registry.close().await;
    Ok(())
}

#[tokio::test]
async fn a_commit_that_goes_on_keeps_its_doubt() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (registry, peppers, issued) = registry(&folder.path().join("registry.db")).await?;
    let shared = &registry.shared;
    let changes = [(
        super::seen(shared) + 1,
        Subject::ApiKey(issued.key.id.clone()),
    )];
    // One was lost, and the next one, which has the same number, is under way.
    before_commit(shared, &changes);
    before_commit(shared, &changes);
    after_unknown(shared, &changes).await;
    assert_eq!(doubts(&registry), 1, "of the one that is under way");
    super::after_rollback(shared, &changes);
    assert_eq!(doubts(&registry), 0);
    assert_eq!(code(&registry, &peppers, &issued).await?, "valid");
    registry.close().await;
    Ok(())
}
