//! What retention removes, what it leaves, and that nobody is let in or told wrong afterwards.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, NewApiKey};
use keywright_domain::audit_chain::CheckpointKey;
use keywright_registry::{
    AlertQuery, AuditQuery, Caller, Issued, LocalRegistry, ProposedChange, RetentionPolicy,
    RetentionReport, VerifyRequest,
};

use super::{Fixture, START, wish};

/// Nothing goes but for what a test asks for.
fn keep_all() -> RetentionPolicy {
    RetentionPolicy {
        ended_keys_days: None,
        ended_secrets_days: None,
        rollups_days: None,
        audit_days: None,
        alerts_days: None,
        notices_days: None,
        changes_kept: 100_000_000,
    }
}

async fn run(fixture: &Fixture, policy: &RetentionPolicy) -> Result<RetentionReport> {
    Ok(fixture
        .registry
        .run_retention(&fixture.actor, policy, None, &[], &|_| ())
        .await?)
}

fn year(name: &str) -> NewApiKey {
    NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish(name)
    }
}

/// What another node answers, once its lease is over.
async fn soon(
    fixture: &Fixture,
    node: &LocalRegistry,
    issued: &Issued,
    expected: &str,
) -> Result<()> {
    let request = VerifyRequest {
        presented: issued.plain.text().expose(),
        ..VerifyRequest::default()
    };
    let started = Instant::now();
    loop {
        let code = node
            .verify_api_key(&request, &fixture.peppers)
            .await?
            .code();
        if code == expected {
            return Ok(());
        }
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{code}, not {expected}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn item_11_bounds_are_checked_before_anything_is_removed() -> Result<()> {
    let fixture = super::fixture().await?;
    RetentionPolicy::default().check()?;
    for wrong in [
        RetentionPolicy {
            ended_keys_days: Some(29),
            ..keep_all()
        },
        RetentionPolicy {
            rollups_days: Some(89),
            ..keep_all()
        },
        RetentionPolicy {
            changes_kept: 99,
            ..keep_all()
        },
    ] {
        let refused = fixture
            .registry
            .run_retention(&fixture.actor, &wrong, None, &[], &|_| ())
            .await;
        assert_eq!(refused.expect_err("refused").code(), "out_of_bounds");
    }
    let unsigned = RetentionPolicy {
        audit_days: Some(90),
        ..keep_all()
    };
    let refused = fixture
        .registry
        .run_retention(&fixture.actor, &unsigned, None, &[], &|_| ())
        .await;
    assert_eq!(
        refused.expect_err("refused").code(),
        "checkpoint_key_missing"
    );
    Ok(())
}

#[tokio::test]
async fn rule_10_ended_secrets_go_after_their_time_and_the_key_goes_on() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let second = fixture.second().await?;
    let first = fixture.issue_as(&year("a")).await?;
    let id = &first.key.id;
    fixture.verify(&first).await?;
    let middle = fixture.rotate(id, DAY_MS).await?;
    fixture.verify(&middle).await?;
    fixture.set_clock(START + 20 * DAY_MS);
    let newest = fixture.rotate(id, 30 * DAY_MS).await?;
    fixture.verify(&newest).await?;
    soon(&fixture, &second, &first, "retired").await?;
    let policy = RetentionPolicy {
        ended_secrets_days: Some(30),
        ..keep_all()
    };
    fixture.set_clock(START + 31 * DAY_MS - 1);
    assert_eq!(run(&fixture, &policy).await?.secrets, 0, "not old enough");
    assert_eq!(fixture.code(&first).await?, "retired");
    fixture.set_clock(START + 40 * DAY_MS);
    let report = run(&fixture, &policy).await?;
    assert_eq!((report.secrets, report.keys), (1, 0));
    assert_eq!(fixture.code(&first).await?, "not_found");
    soon(&fixture, &second, &first, "not_found").await?;
    // Its kid is as unknown as any other: memory alone can tell.
    let asked = registry.kids_asked_for();
    for _ in 0..100 {
        assert_eq!(fixture.code(&first).await?, "not_found");
    }
    assert!(registry.kids_asked_for() <= asked + 1, "from {asked}");
    for issued in [&middle, &newest] {
        assert_eq!(fixture.code(issued).await?, "valid");
        soon(&fixture, &second, issued, "valid").await?;
    }
    // The key has its history, and rotates on.
    let (key, events) = registry.find_api_key(id).await?;
    assert_eq!(key.secrets.len(), 2);
    assert!(events.iter().any(|event| event.action == "api_key.issued"));
    assert!(
        events
            .iter()
            .any(|event| event.action == "registry.retention_run")
    );
    let third = fixture.rotate(id, DAY_MS).await?;
    let fourth = fixture.rotate(id, DAY_MS).await?;
    assert_eq!(fixture.code(&third).await?, "retired");
    assert_eq!(fixture.code(&fourth).await?, "valid");
    let (key, _) = registry.find_api_key(id).await?;
    let kids: Vec<_> = key.secrets.iter().map(|secret| &secret.kid).collect();
    assert_eq!(
        kids,
        [&middle, &newest, &third, &fourth].map(|one| one.plain.kid())
    );
    assert_eq!(run(&fixture, &policy).await?, RetentionReport::default());
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn rule_10_secrets_of_an_open_rotation_stay_however_old() -> Result<()> {
    let fixture = super::fixture().await?;
    let old = fixture.issue("a").await?;
    let new = fixture.rotate(&old.key.id, DAY_MS).await?;
    // Nobody settled it: its overlap is over, the rotation is still open.
    fixture.set_clock(START + 50 * DAY_MS);
    let policy = RetentionPolicy {
        ended_secrets_days: Some(30),
        ..keep_all()
    };
    assert_eq!(run(&fixture, &policy).await?.secrets, 0);
    fixture.registry.settle_rotations().await?;
    assert_eq!(fixture.code(&old).await?, "retired");
    let report = run(&fixture, &policy).await?;
    assert!(report.secrets <= 1, "{report:?}");
    let (key, _) = fixture.registry.find_api_key(&old.key.id).await?;
    assert!(
        key.secrets
            .iter()
            .any(|secret| secret.kid == *new.plain.kid() || secret.kid == *old.plain.kid()),
        "a key keeps the secret that it is known by"
    );
    Ok(())
}

#[tokio::test]
async fn item_11_a_purged_key_is_not_found_here_and_on_every_other_node() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let second = fixture.second().await?;
    let (revoked, expired, live, late) = (
        fixture.issue_as(&year("revoked")).await?,
        fixture
            .issue_as(&NewApiKey {
                lifetime_ms: Some(10 * DAY_MS),
                ..wish("expired")
            })
            .await?,
        fixture.issue_as(&year("live")).await?,
        fixture.issue_as(&year("late")).await?,
    );
    let rotated = fixture.rotate(&revoked.key.id, DAY_MS).await?;
    for issued in [&revoked, &rotated, &expired, &live] {
        fixture.verify(issued).await?;
        soon(&fixture, &second, issued, "valid").await?;
    }
    fixture.set_clock(START + 9 * DAY_MS);
    fixture.registry.due_notices(10).await?;
    registry
        .revoke_api_key(&fixture.actor, &revoked.key.id, "gone")
        .await?;
    fixture.set_clock(START + 45 * DAY_MS);
    registry
        .revoke_api_key(&fixture.actor, &late.key.id, "later")
        .await?;
    soon(&fixture, &second, &rotated, "revoked").await?;
    let policy = RetentionPolicy {
        ended_keys_days: Some(30),
        ..keep_all()
    };
    second.flush_uses().await?;
    let report = run(&fixture, &policy).await?;
    assert_eq!(report.keys, 2);
    assert!(report.rollups >= 3, "their uses go with them: {report:?}");
    for issued in [&revoked, &rotated, &expired] {
        assert_eq!(fixture.code(issued).await?, "not_found");
        soon(&fixture, &second, issued, "not_found").await?;
    }
    for (issued, code) in [(&live, "valid"), (&late, "revoked")] {
        assert_eq!(fixture.code(issued).await?, code);
        soon(&fixture, &second, issued, code).await?;
    }
    let third = fixture.second().await?;
    soon(&fixture, &third, &revoked, "not_found").await?;
    let gone = registry.find_api_key(&revoked.key.id).await;
    assert_eq!(gone.expect_err("gone").code(), "key_not_found");
    assert_eq!(registry.count_api_keys().await?.all, 2);
    // What became of it can still be read.
    let query = AuditQuery {
        text: "revoked".to_owned(),
        limit: 100,
        ..AuditQuery::default()
    };
    let events = registry.list_audit_events(query).await?.items;
    let of_it = events
        .iter()
        .filter(|event| event.target_id == revoked.key.id);
    assert!(of_it.count() >= 3, "{events:?}");
    second.close().await;
    third.close().await;
    Ok(())
}

#[tokio::test]
async fn item_11_a_node_that_slept_behind_a_pruned_log_reads_all_anew() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let second = fixture.second().await?;
    let (kept, ended) = (fixture.issue("kept").await?, fixture.issue("ended").await?);
    soon(&fixture, &second, &kept, "valid").await?;
    soon(&fixture, &second, &ended, "valid").await?;
    registry
        .revoke_api_key(&fixture.actor, &ended.key.id, "")
        .await?;
    for turn in 0..130 {
        let (one, id) = (format!("renamed {turn}"), kept.key.id.clone());
        let change = keywright_registry::ApiKeyChange {
            name: Some(one),
            ..keywright_registry::ApiKeyChange::default()
        };
        registry
            .change_api_key(&fixture.actor, &id, &change)
            .await?;
    }
    let policy = RetentionPolicy {
        changes_kept: 100,
        ..keep_all()
    };
    let report = run(&fixture, &policy).await?;
    assert!(report.changes >= 30, "{report:?}");
    assert_eq!(run(&fixture, &policy).await?.changes, 0);
    soon(&fixture, &second, &ended, "revoked").await?;
    soon(&fixture, &second, &kept, "valid").await?;
    let third = fixture.second().await?;
    soon(&fixture, &third, &ended, "revoked").await?;
    third.close().await;

    // Another process did the same within one moment: nobody saw the change that was pruned.
    use sqlx::Connection;
    let asleep = fixture.issue("asleep").await?;
    soon(&fixture, &second, &asleep, "valid").await?;
    let mut stranger = fixture.stranger().await?;
    let mut transaction = stranger.begin().await?;
    for sql in [
        "UPDATE api_keys SET revoked_at = 1, epoch = (SELECT change_version + 1 FROM heads) WHERE name = 'asleep'",
        "UPDATE heads SET change_version = change_version + 200",
        "DELETE FROM changes",
        "INSERT INTO changes (version, at, kind, subject) \
         SELECT h.change_version, 1, 'api_key', k.id FROM heads h, api_keys k WHERE k.name = 'ended'",
        "UPDATE heads SET oldest_change = change_version",
    ] {
        sqlx::query(sql).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    soon(&fixture, &second, &asleep, "revoked").await?;
    soon(&fixture, &fixture.registry, &asleep, "revoked").await?;
    soon(&fixture, &second, &kept, "valid").await?;
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn item_11_uses_alerts_and_notices_go_by_age_in_small_transactions() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let (used, revoked) = (
        fixture.issue_as(&year("used")).await?,
        fixture.issue("revoked").await?,
    );
    // So many callers of one secret are told apart in an hour, so they come in ten of them.
    for place in 0..2100 {
        fixture.set_clock(START + place / 210 * 60 * 60 * 1000);
        let route = format!("GET /{place}");
        let request = VerifyRequest {
            presented: used.plain.text().expose(),
            caller: Caller {
                route: Some(&route),
                ..Caller::default()
            },
            ..VerifyRequest::default()
        };
        registry.verify_api_key(&request, &fixture.peppers).await?;
    }
    fixture.set_clock(START + 80 * DAY_MS);
    assert_eq!(registry.due_notices(10).await?.len(), 1);
    registry
        .revoke_api_key(&fixture.actor, &revoked.key.id, "")
        .await?;
    fixture.verify(&revoked).await?;
    registry.flush_uses().await?;
    fixture.set_clock(START + 89 * DAY_MS);
    fixture.verify(&used).await?;
    registry.flush_uses().await?;
    fixture.set_clock(START + 120 * DAY_MS);
    let policy = RetentionPolicy {
        rollups_days: Some(90),
        alerts_days: Some(30),
        notices_days: Some(30),
        ..keep_all()
    };
    let steps = Mutex::new(vec![RetentionReport::default()]);
    let report = registry
        .run_retention(&fixture.actor, &policy, None, &[], &|report| {
            steps.lock().expect("one thread").push(*report);
        })
        .await?;
    assert_eq!(
        (report.rollups, report.alerts, report.notices),
        (2100, 1, 2)
    );
    let steps = steps.into_inner()?;
    for pair in steps.windows(2) {
        assert!(pair[1].rollups - pair[0].rollups <= 1000, "{pair:?}");
    }
    let left = registry
        .preview_change(
            std::slice::from_ref(&used.key.id),
            &ProposedChange::Revoke,
            365,
        )
        .await?;
    assert_eq!(left.requests, 1, "what is younger stays");
    let alerts = registry
        .list_alerts(&AlertQuery {
            limit: 10,
            ..AlertQuery::default()
        })
        .await?;
    assert!(alerts.items.is_empty());
    assert_eq!(fixture.code(&used).await?, "valid");
    assert!(
        fixture
            .actions()
            .await?
            .contains(&"registry.retention_run".to_owned())
    );
    Ok(())
}

#[tokio::test]
async fn ac_143_a_notice_about_the_newest_secret_is_kept_so_that_it_is_not_sent_again() -> Result<()>
{
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    fixture.set_clock(START + 91 * DAY_MS);
    for notice in fixture.registry.due_notices(10).await? {
        fixture
            .registry
            .mark_notice_sent(&notice.id, "mail")
            .await?;
    }
    fixture.set_clock(START + 150 * DAY_MS);
    let policy = RetentionPolicy {
        notices_days: Some(30),
        ..keep_all()
    };
    assert_eq!(run(&fixture, &policy).await?.notices, 0);
    assert_eq!(fixture.registry.due_notices(10).await?, []);
    let kept = fixture.registry.list_notices(&issued.key.id).await?;
    assert!(!kept.is_empty());
    Ok(())
}

#[tokio::test]
async fn item_11_the_trail_is_cut_behind_a_signature_and_the_rest_verifies() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let key = CheckpointKey::from_bytes(&[9; 32]);
    let trusted = [key.public_key()];
    for name in ["a", "b", "c"] {
        fixture.issue(name).await?;
    }
    registry.checkpoint_audit(&fixture.actor, &key).await?;
    fixture.issue("d").await?;
    let before = fixture.actions().await?.len();
    fixture.set_clock(START + 100 * DAY_MS);
    let late = fixture.issue("late").await?;
    let policy = RetentionPolicy {
        audit_days: Some(90),
        ..keep_all()
    };
    let report = registry
        .run_retention(&fixture.actor, &policy, Some(&key), &[], &|_| ())
        .await?;
    assert_eq!(report.audit_events, i64::try_from(before)?);
    let actions = fixture.actions().await?;
    assert_eq!(actions, ["api_key.issued", "audit.pruned"]);
    let verdict = registry.verify_audit(&trusted).await?;
    assert!(verdict.is_intact(), "{verdict}");
    let stranger = CheckpointKey::from_bytes(&[8; 32]);
    let verdict = registry.verify_audit(&[stranger.public_key()]).await?;
    assert!(
        !verdict.is_intact(),
        "nobody who is trusted vouches for the cut"
    );
    // Again later, with another key: it does not put its word in the place of one that it cannot
    // check, and where it can, all that is left goes.
    fixture.set_clock(START + 300 * DAY_MS);
    let refused = registry
        .run_retention(&fixture.actor, &policy, Some(&stranger), &[], &|_| ())
        .await
        .expect_err("signed by nobody it knows");
    assert_eq!(refused.code(), "registry_damaged");
    let report = registry
        .run_retention(&fixture.actor, &policy, Some(&stranger), &trusted, &|_| ())
        .await?;
    assert_eq!(report.audit_events, 2);
    assert_eq!(fixture.actions().await?, ["audit.pruned"]);
    let verdict = registry.verify_audit(&[stranger.public_key()]).await?;
    assert!(verdict.is_intact(), "{verdict}");
    registry
        .revoke_api_key(&fixture.actor, &late.key.id, "")
        .await?;
    let verdict = registry.verify_audit(&[stranger.public_key()]).await?;
    assert!(verdict.is_intact(), "{verdict}");
    Ok(())
}

#[tokio::test]
async fn item_11_a_trail_that_was_tampered_with_is_not_signed_away() -> Result<()> {
    let fixture = super::fixture().await?;
    for name in ["a", "b", "c"] {
        fixture.issue(name).await?;
    }
    let events = fixture.actions().await?.len();
    let mut stranger = fixture.stranger().await?;
    sqlx::query("UPDATE audit_events SET summary = 'nothing happened' WHERE sequence = 3")
        .execute(&mut stranger)
        .await?;
    fixture.set_clock(START + 100 * DAY_MS);
    let policy = RetentionPolicy {
        audit_days: Some(90),
        ..keep_all()
    };
    let key = CheckpointKey::from_bytes(&[9; 32]);
    let refused = fixture
        .registry
        .run_retention(&fixture.actor, &policy, Some(&key), &[], &|_| ())
        .await
        .expect_err("tampered with");
    assert_eq!(refused.code(), "registry_damaged");
    assert!(refused.to_string().contains("number 3"), "{refused}");
    assert_eq!(fixture.actions().await?.len(), events);
    Ok(())
}

#[tokio::test]
async fn item_11_a_forged_checkpoint_is_not_signed_away() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let key = CheckpointKey::from_bytes(&[9; 32]);
    for name in ["a", "b"] {
        fixture.issue(name).await?;
    }
    registry.checkpoint_audit(&fixture.actor, &key).await?;
    fixture.issue("c").await?;
    let events = fixture.actions().await?.len();
    let policy = RetentionPolicy {
        audit_days: Some(90),
        ..keep_all()
    };
    // What it says of the trail is true; who signed it is not known.
    let mut stranger = fixture.stranger().await?;
    sqlx::query("UPDATE audit_checkpoints SET at = at + 1")
        .execute(&mut stranger)
        .await?;
    fixture.set_clock(START + 100 * DAY_MS);
    let refused = registry
        .run_retention(&fixture.actor, &policy, Some(&key), &[], &|_| ())
        .await
        .expect_err("not signed");
    assert_eq!(refused.code(), "registry_damaged");
    assert!(refused.to_string().contains("no key"), "{refused}");
    assert_eq!(fixture.actions().await?.len(), events);
    sqlx::query("UPDATE audit_checkpoints SET at = at - 1")
        .execute(&mut stranger)
        .await?;
    registry
        .run_retention(&fixture.actor, &policy, Some(&key), &[], &|_| ())
        .await?;
    assert_eq!(fixture.actions().await?, ["audit.pruned"]);

    // Nor is one built upon that the trail begins after.
    sqlx::query("UPDATE audit_checkpoints SET at = at + 1")
        .execute(&mut stranger)
        .await?;
    fixture.set_clock(START + 300 * DAY_MS);
    let refused = registry
        .run_retention(&fixture.actor, &policy, Some(&key), &[], &|_| ())
        .await
        .expect_err("not signed");
    assert!(refused.to_string().contains("no key"), "{refused}");
    assert_eq!(fixture.actions().await?, ["audit.pruned"]);
    Ok(())
}
