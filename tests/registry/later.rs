//! Requests that are answered later: how far they came, how they end, who tells it, and for how long.

use anyhow::Result;
use keywright_domain::api_keys::DAY_MS;
use keywright_domain::audit::Actor;
use keywright_domain::audit_chain::{CheckpointKey, Fault, Verdict};
use keywright_registry::audit_export::verify_export;
use keywright_registry::{
    BulkProgress, BulkState, HygieneRules, ImportFormat, LaterAnswer, LaterRequest, NewBulk,
    RetentionPolicy,
};

use super::portable::{hash, options};
use super::{Fixture, START, wish};

fn code<T>(outcome: Result<T, keywright_registry::RegistryError>) -> Option<&'static str> {
    outcome.err().map(|error| error.code())
}

#[tokio::test]
async fn a_request_is_followed_and_ended_at_any_node_and_forgotten_after_seven_days() -> Result<()>
{
    let fixture = super::fixture().await?;
    let (here, actor) = (&fixture.registry, &fixture.actor);
    let there = fixture.second().await?;
    let begun = here.begin_later(actor, LaterRequest::Import, 5_000).await?;
    assert_eq!(begun.operation, "import");
    let progress = BulkProgress {
        done: 700,
        changed: 650,
        failed: 50,
        ..BulkProgress::default()
    };
    assert!(!here.report_bulk(&begun.id, &progress, None).await?);
    let (request, found) = there.find_later(&begun.id).await?;
    assert_eq!(
        (request, found.state),
        (LaterRequest::Import, BulkState::Running)
    );
    assert_eq!((found.total, found.progress), (5_000, progress.clone()));
    assert_eq!(there.later_answer(&begun.id).await?, LaterAnswer::default());
    // Another node ends it, and whoever carries it out hears of it when it tells how far it came.
    assert!(there.cancel_bulk(actor, &begun.id).await?.cancel_asked);
    assert!(here.report_bulk(&begun.id, &progress, None).await?);
    let came = LaterAnswer {
        answer: Some("{\"imported\":[\"“quoted” and 100%\"]}".repeat(20_000)),
        problem: Some("{\"code\":\"c\"}".to_owned()),
    };
    let ended = here.end_later(&begun.id, &progress, BulkState::Cancelled, came.clone());
    ended.await?;
    let (_, found) = there.find_later(&begun.id).await?;
    assert_eq!(
        (found.state, found.finished_at),
        (BulkState::Cancelled, Some(START))
    );
    assert_eq!(there.later_answer(&begun.id).await?, came);
    // It is no operation over many keys, and none of those is one of these.
    let new = NewBulk {
        operation: "import".into(),
        total: 1,
        reason: String::new(),
    };
    let bulk = here.begin_bulk(actor, &new).await?;
    assert_eq!(
        code(here.find_bulk(&begun.id).await),
        Some("operation_not_found")
    );
    assert_eq!(
        code(here.find_later(&bulk.id).await),
        Some("operation_not_found")
    );
    let many = here.list_bulk(None, None, 10).await?.items;
    assert_eq!(
        many.iter().map(|one| &one.id).collect::<Vec<_>>(),
        [&bulk.id]
    );
    // Lists show what their reader may see, in pages.
    fixture.set_clock(START + 1_000);
    let check = here
        .begin_later(actor, LaterRequest::AuditVerify, 9)
        .await?;
    let all = here.list_later(|_| true, None, 1).await?;
    assert_eq!(all.items[0].id, check.id);
    let rest = here
        .list_later(|_| true, all.next_cursor.as_deref(), 1)
        .await?;
    assert_eq!(
        (rest.items[0].id.as_str(), &rest.next_cursor),
        (begun.id.as_str(), &None)
    );
    let imports = |one| one == LaterRequest::Import;
    let seen = here.list_later(imports, None, 10).await?.items;
    assert_eq!(
        seen.iter().map(|one| &one.id).collect::<Vec<_>>(),
        [&begun.id]
    );
    assert!(here.list_later(|_| false, None, 10).await?.items.is_empty());
    // Nobody speaks for it: its node is gone.
    fixture.set_clock(START + 32_000);
    let (_, found) = there.find_later(&check.id).await?;
    assert_eq!(found.state, BulkState::Interrupted);
    // Answers go after seven days, operations over many keys after thirty.
    fixture.set_clock(START + 7 * DAY_MS + 500);
    here.begin_later(actor, LaterRequest::Hygiene, 0).await?;
    assert_eq!(
        code(there.find_later(&begun.id).await),
        Some("operation_not_found")
    );
    assert!(
        there.find_later(&check.id).await.is_ok(),
        "a second too soon"
    );
    assert!(there.find_bulk(&bulk.id).await.is_ok());
    let actions = fixture.actions().await?;
    let count = |action: &str| actions.iter().filter(|one| *one == action).count();
    // Of what only reads there is none.
    assert_eq!(count("registry.operation_begun"), 1);
    assert_eq!(count("registry.operation_cancelled"), 1);
    assert_eq!(count("registry.bulk_begun"), 1);
    there.close().await;
    Ok(())
}

#[tokio::test]
async fn steps_come_to_what_the_whole_comes_to() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let lines: String = (0..620)
        .map(|number| {
            let hash = hash(&format!("foreign-{number}"));
            let scope = if number % 100 == 99 {
                "nothing:here"
            } else {
                "keys:read"
            };
            format!("{{\"name\":\"{number}\",\"hash\":\"{hash}\",\"scopes\":[\"{scope}\"]}}\n")
        })
        .collect();
    let options = options(ImportFormat::NdJson);
    let mut import = registry.begin_import(actor, lines.as_bytes(), &fixture.peppers, &options)?;
    assert_eq!((import.total(), import.next_line()), (620, Some(1)));
    assert!(import.step().await);
    assert_eq!(
        (import.report().imported.len(), import.next_line()),
        (50, Some(51))
    );
    assert_eq!(
        registry.count_api_keys().await?.all,
        50,
        "a step is written as a whole"
    );
    while import.step().await {}
    assert_eq!(import.next_line(), None);
    let report = import.finish();
    assert_eq!((report.imported.len(), report.refused.len()), (614, 6));
    let again = registry.import_api_keys(actor, lines.as_bytes(), &fixture.peppers, &options);
    let again = again.await?;
    assert_eq!((again.present.len(), again.refused), (614, report.refused));
    // The trail has more events than one step looks at.
    let trusted = [CheckpointKey::from_bytes(&[9; 32]).public_key()];
    let mut check = registry.begin_audit_check(&trusted).await?;
    let total = check.total();
    assert!(total > 614, "{total}");
    assert!(check.step().await?);
    assert_eq!(check.done(), 500);
    while check.step().await? {}
    assert_eq!(check.done(), total);
    let (in_steps, at_once) = (check.finish(), registry.verify_audit(&trusted).await?);
    assert_eq!(in_steps, at_once);
    assert!(in_steps.is_intact(), "{in_steps}");
    let rules = HygieneRules::default();
    let mut count = registry.begin_hygiene_count(&rules).await?;
    assert_eq!(count.total(), 614);
    assert!(count.step().await?);
    assert_eq!(count.done(), 500);
    while count.step().await? {}
    assert_eq!(count.done(), 614);
    let counts = count.finish();
    assert_eq!(counts.examined, 614);
    assert_eq!(counts, registry.count_hygiene(&rules).await?);
    // What is wrong with the trail is found in steps too.
    let sql = "UPDATE audit_events SET summary = 'nothing happened' WHERE sequence = 550";
    let mut stranger = fixture.stranger().await?;
    sqlx::raw_sql(sql).execute(&mut stranger).await?;
    let mut check = registry.begin_audit_check(&trusted).await?;
    while check.step().await? {}
    let verdict = check.finish();
    assert!(
        matches!(verdict, Verdict::Broken { at: 550, .. }),
        "{verdict}"
    );
    Ok(())
}

#[tokio::test]
async fn a_check_that_retention_overtakes_begins_anew_and_finds_no_fault() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let key = CheckpointKey::from_bytes(&[9; 32]);
    let trusted = [key.public_key()];
    for name in ["a", "b", "c"] {
        fixture.issue_as(&wish(name)).await?;
    }
    registry.checkpoint_audit(actor, &key).await?;
    let mut check = registry.begin_audit_check(&trusted).await?;
    fixture.set_clock(START + 100 * DAY_MS);
    fixture.issue("late").await?;
    let policy = RetentionPolicy {
        ended_keys_days: None,
        ended_secrets_days: None,
        rollups_days: None,
        audit_days: Some(90),
        alerts_days: None,
        notices_days: None,
        changes_kept: 100_000_000,
    };
    let report = registry
        .run_retention(actor, &policy, Some(&key), &[], &|_| ())
        .await?;
    assert!(report.audit_events > 0);
    while check.step().await? {}
    let verdict = check.finish();
    assert!(verdict.is_intact(), "{verdict}");
    assert_eq!(verdict, registry.verify_audit(&trusted).await?);
    Ok(())
}

#[tokio::test]
async fn what_only_reads_is_no_event_and_a_hundred_of_an_actor_are_kept() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let other = Actor::person("other");
    let end = async |id: &str| {
        let (progress, came) = (BulkProgress::default(), LaterAnswer::default());
        let ended = registry.end_later(id, &progress, BulkState::Done, came);
        ended.await
    };
    let import = registry.begin_later(actor, LaterRequest::Import, 1).await?;
    let theirs = registry
        .begin_later(&other, LaterRequest::Hygiene, 1)
        .await?;
    let running = registry
        .begin_later(actor, LaterRequest::AuditVerify, 1)
        .await?;
    end(&import.id).await?;
    end(&theirs.id).await?;
    let mut ids = Vec::new();
    for number in 1..=110 {
        fixture.set_clock(START + number);
        let one = registry
            .begin_later(actor, LaterRequest::Hygiene, 1)
            .await?;
        end(&one.id).await?;
        ids.push(one.id);
    }
    let mut kept = 0;
    for id in &ids {
        kept += i32::from(registry.find_later(id).await.is_ok());
    }
    assert_eq!(kept, 100);
    assert_eq!(
        code(registry.find_later(&ids[9]).await),
        Some("operation_not_found")
    );
    for id in [&import.id, &theirs.id, &running.id, &ids[10], &ids[109]] {
        assert!(registry.find_later(id).await.is_ok());
    }
    // One's own is ended as it was begun; somebody else's is told.
    assert!(registry.cancel_bulk(actor, &running.id).await?.cancel_asked);
    assert!(
        registry
            .report_bulk(&running.id, &BulkProgress::default(), None)
            .await?
    );
    let running = registry
        .begin_later(actor, LaterRequest::AuditVerify, 1)
        .await?;
    let count = async |action: &str| -> Result<usize> {
        let actions = fixture.actions().await?;
        Ok(actions.iter().filter(|one| *one == action).count())
    };
    assert_eq!(count("registry.operation_cancelled").await?, 0);
    assert!(
        registry
            .cancel_bulk(&other, &running.id)
            .await?
            .cancel_asked
    );
    assert_eq!(count("registry.operation_cancelled").await?, 1);
    assert_eq!(count("registry.operation_begun").await?, 1);
    Ok(())
}

/// Takes over 620 keys, each of which is an event.
async fn grow(fixture: &Fixture, name: &str) -> Result<()> {
    let lines: String = (0..620)
        .map(|number| {
            let hash = hash(&format!("{name}-{number}"));
            format!("{{\"name\":\"{number}\",\"hash\":\"{hash}\",\"scopes\":[\"keys:read\"]}}\n")
        })
        .collect();
    let options = options(ImportFormat::NdJson);
    let (actor, peppers) = (&fixture.actor, &fixture.peppers);
    let imported = fixture
        .registry
        .import_api_keys(actor, lines.as_bytes(), peppers, &options);
    assert_eq!(imported.await?.imported.len(), 620);
    Ok(())
}

#[tokio::test]
async fn a_trail_that_goes_on_while_it_is_checked_is_cut_only_where_it_was() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let key = CheckpointKey::from_bytes(&[9; 32]);
    let trusted = [key.public_key()];
    grow(&fixture, "before").await?;
    let mut whole = registry.begin_audit_check(&trusted).await?;
    let mut cut = registry.begin_audit_check(&trusted).await?;
    let total = whole.total();
    assert!(whole.step().await? && cut.step().await?);
    // Beyond the page that the check ends in.
    grow(&fixture, "after").await?;
    let signed = registry.checkpoint_audit(&fixture.actor, &key).await?;
    let checkpoint = signed.checkpoint.sequence;
    assert!(total < 1_000 && 1_000 < checkpoint, "{total}, {checkpoint}");
    while whole.step().await? {}
    assert_eq!((whole.done(), whole.total()), (total, total));
    let verdict = whole.finish();
    assert!(verdict.is_intact(), "{verdict}");
    let Verdict::Intact { vouched, .. } = verdict else {
        anyhow::bail!("{verdict}");
    };
    assert_eq!(vouched, Some(checkpoint));
    let mut stranger = fixture.stranger().await?;
    sqlx::raw_sql("DELETE FROM audit_events WHERE sequence > 1000")
        .execute(&mut stranger)
        .await?;
    while cut.step().await? {}
    let Verdict::Broken { at, fault, .. } = cut.finish() else {
        anyhow::bail!("nobody misses them");
    };
    assert_eq!(
        (at, fault),
        (1_001, Fault::CutAfterCheckpoint { checkpoint })
    );
    Ok(())
}

/// A file whose second line is written when the trail has gone on.
struct Held {
    text: Vec<u8>,
    writes: usize,
    begun: std::sync::mpsc::Sender<()>,
    go_on: std::sync::mpsc::Receiver<()>,
}

impl std::io::Write for Held {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.writes += 1;
        if self.writes == 2 {
            tokio::task::block_in_place(|| {
                let _ = self.begun.send(());
                let _ = self.go_on.recv();
            });
        }
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_a_trail_that_goes_on_is_whole() -> Result<()> {
    let fixture = super::fixture().await?;
    let key = CheckpointKey::from_bytes(&[9; 32]);
    let trusted = [key.public_key()];
    grow(&fixture, "before").await?;
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (goes_on, go_on) = std::sync::mpsc::channel();
    let registry = fixture.registry.clone();
    let writing = tokio::spawn(async move {
        let mut file = Held {
            text: Vec::new(),
            writes: 0,
            begun,
            go_on,
        };
        let written = registry.export_audit(&mut file, &trusted).await;
        written.map(|events| (events, file.text))
    });
    tokio::task::spawn_blocking(move || has_begun.recv()).await??;
    grow(&fixture, "after").await?;
    let signed = fixture.registry.checkpoint_audit(&fixture.actor, &key);
    let checkpoint = signed.await?.checkpoint.sequence;
    goes_on.send(())?;
    let (events, text) = writing.await??;
    assert!(i64::try_from(events)? >= checkpoint, "{events}");
    let verdict = verify_export(text.as_slice(), &[key.public_key()])?;
    assert!(verdict.is_intact(), "{verdict}");
    Ok(())
}
