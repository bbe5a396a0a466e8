//! Several users of one file: tasks, connections, processes.

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, PlainKey};

use super::wish;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_153_two_instances_write_one_file_without_losing_anything() -> Result<()> {
    let fixture = super::fixture().await?;
    let second = fixture.second().await?;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..40 {
        let registry = if index % 2 == 0 {
            fixture.registry.clone()
        } else {
            second.clone()
        };
        let actor = fixture.actor.clone();
        let peppers = keywright_registry::Peppers::new(super::pepper("pepper-1", 7));
        tasks.spawn(async move {
            registry
                .issue_api_key(&actor, &wish(&format!("key {index}")), &peppers)
                .await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    assert_eq!(second.count_api_keys().await?.all, 40);
    assert_eq!(fixture.actions().await?.len(), 42);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_verification_is_accepted_after_the_revocation_returned() -> Result<()> {
    let fixture = std::sync::Arc::new(super::fixture().await?);
    for _ in 0..5 {
        let issued = std::sync::Arc::new(fixture.issue("raced").await?);
        let revoked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (fixture, issued, revoked) = (fixture.clone(), issued.clone(), revoked.clone());
            tasks.spawn(async move {
                for _ in 0..30 {
                    let was_revoked = revoked.load(std::sync::atomic::Ordering::SeqCst);
                    let code = fixture.code(&issued).await?;
                    anyhow::ensure!(
                        !was_revoked || code == "revoked",
                        "accepted after the revocation"
                    );
                }
                Ok(())
            });
        }
        fixture
            .registry
            .revoke_api_key(&fixture.actor, &issued.key.id, "")
            .await?;
        revoked.store(true, std::sync::atomic::Ordering::SeqCst);
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        assert_eq!(fixture.code(&issued).await?, "revoked");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_rotations_leave_at_most_two_live_secrets() -> Result<()> {
    let fixture = std::sync::Arc::new(super::fixture().await?);
    let issued = fixture.issue("raced").await?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (fixture, id) = (fixture.clone(), issued.key.id.clone());
        tasks.spawn(async move { fixture.rotate(&id, DAY_MS).await });
    }
    let mut made: Vec<PlainKey> = vec![issued.plain.clone()];
    while let Some(done) = tasks.join_next().await {
        made.push(done??.plain);
    }
    let mut accepted = 0;
    for plain in &made {
        let verification = fixture.verify_text(plain.text().expose()).await?;
        accepted += usize::from(verification.verdict.is_ok());
    }
    assert_eq!((made.len(), accepted), (11, 2));
    Ok(())
}
