//! kill -9 at any write: reopened, the file is whole and nothing is half done.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, SecretState};
use keywright_domain::audit::Actor;
use keywright_registry::{
    ApiKeyQuery, AuditQuery, Clock, Issued, LocalRegistry, Peppers, VerifyRequest,
};

use super::{from_issue, pepper, wish};

const VICTIM_FILE: &str = "KEYWRIGHT_TEST_CRASH_FILE";

fn peppers() -> Peppers {
    Peppers::new(pepper("pepper-1", 7))
}

fn presented(issued: &Issued) -> VerifyRequest<'_> {
    VerifyRequest {
        presented: issued.plain.text().expose(),
        ..VerifyRequest::default()
    }
}

/// Not a test of its own: the process that is killed. Without its variable it ends at once.
#[tokio::test]
async fn crash_victim() -> Result<()> {
    let Some(file) = std::env::var_os(VICTIM_FILE) else {
        return Ok(());
    };
    let registry = LocalRegistry::open(Path::new(&file), Clock::system()).await?;
    let actor = Actor::person("victim");
    registry.adopt_pepper(&actor, "pepper-1").await?;
    for round in 0..100_000 {
        let issued = registry
            .issue_api_key(&actor, &wish("victim"), &peppers())
            .await?;
        registry
            .verify_api_key(&presented(&issued), &peppers())
            .await?;
        let request = from_issue(DAY_MS);
        let once = format!("{}-{round}", issued.key.id);
        registry
            .rotate_api_key(&actor, &issued.key.id, &request, &once, &peppers())
            .await?;
        registry
            .revoke_api_key(&actor, &issued.key.id, "done")
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_kill_at_any_write_leaves_nothing_half_done() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.db");
    let mut seen = 0;
    for round in 0..20_u64 {
        let mut victim = Command::new(std::env::current_exe()?)
            .args(["--exact", "registry::crash::crash_victim"])
            .env(VICTIM_FILE, &file)
            .stdout(Stdio::null())
            .spawn()?;
        tokio::time::sleep(Duration::from_millis(20 + 13 * round)).await;
        victim.kill()?;
        victim.wait()?;
        let registry = LocalRegistry::open(&file, Clock::system()).await?;
        seen = check(&registry).await?;
        registry.close().await;
    }
    assert!(seen > 20, "the victims wrote something: {seen} keys");
    Ok(())
}

/// Every key has the rows that its audit trail says, and no others.
async fn check(registry: &LocalRegistry) -> Result<usize> {
    assert!(
        !registry.list_scopes().await?.is_empty(),
        "a registry always has its scopes"
    );
    let (mut cursor, mut seen) = (None, 0);
    loop {
        let page = registry
            .list_api_keys(&ApiKeyQuery {
                cursor,
                limit: 500,
                ..Default::default()
            })
            .await?;
        for summary in &page.items {
            let (key, events) = registry.find_api_key(&summary.id).await?;
            let count = |action: &str| events.iter().filter(|event| event.action == action).count();
            assert_eq!(count("api_key.issued"), 1);
            assert_eq!(key.secrets.len(), 1 + count("api_key.rotated"));
            assert_eq!(key.revoked_at.is_some(), count("api_key.revoked") == 1);
            let used = key
                .secrets
                .iter()
                .filter(|secret| secret.first_used_at.is_some())
                .count();
            assert_eq!(used, count("api_key.secret_first_used"));
            let revoked = key
                .secrets
                .iter()
                .all(|secret| secret.stored == SecretState::Revoked);
            assert_eq!(revoked, key.revoked_at.is_some());
            seen += 1;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let page = registry
        .list_audit_events(AuditQuery {
            limit: 500,
            ..AuditQuery::default()
        })
        .await?;
    let gapless = page
        .items
        .windows(2)
        .all(|pair| pair[0].sequence == pair[1].sequence + 1);
    assert!(gapless);
    Ok(seen)
}
