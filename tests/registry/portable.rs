//! Imports, exports, backups, escrow and promotion, as the registry's users see them.
#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keywright_domain::SecretText;
use keywright_domain::api_keys::{DAY_MS, Policy};
use keywright_registry::{
    AuditQuery, BackupError, ImportFormat, ImportOptions, LocalRegistry, Peppers, VerifyRequest,
    open_escrow,
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::{Fixture, Kind, START, pepper};
use crate::support::until;

pub(super) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn options(format: ImportFormat) -> ImportOptions {
    ImportOptions {
        format,
        dry_run: false,
        prefix: "sk_live".to_owned(),
        environment: None,
        owner: None,
        creator: None,
        held: None,
        allow_never_expires: true,
    }
}

pub(super) async fn code(
    registry: &LocalRegistry,
    peppers: &Peppers,
    text: &str,
) -> Result<&'static str> {
    let request = VerifyRequest {
        presented: text,
        ..VerifyRequest::default()
    };
    Ok(registry.verify_api_key(&request, peppers).await?.code())
}

pub(super) async fn events(registry: &LocalRegistry, action: &str) -> Result<usize> {
    let query = AuditQuery {
        text: action.to_owned(),
        limit: 500,
        ..AuditQuery::default()
    };
    let page = registry.list_audit_events(query).await?;
    Ok(page
        .items
        .iter()
        .filter(|event| event.action == action)
        .count())
}

#[tokio::test]
async fn foreign_hashes_are_taken_once_and_bad_lines_are_told() -> Result<()> {
    let fixture = super::fixture().await?;
    let expires = START + 30 * DAY_MS;
    let lines = [
        format!(r#"{{"name":"one","hash":"{}","scopes":["keys:read"],"expires_at":{expires},"metadata":{{"row":"7"}}}}"#, hash("foreign-one")),
        format!(r#"{{"name":"two","hash":"prefixed-api-key:short:{}","scopes":"keys:read","last_four":"wxyz"}}"#, hash("longtoken")),
        r#"{"name":"bcrypt","hash":"$2b$12$C6UzMDM.H6dfI/f/IKcEeO3H1yX0yZ0n8oCk3v0o1l2m3n4o5p6q7"}"#.to_owned(),
        format!(r#"{{"name":"wrong scope","hash":"{}","scopes":["nothing:here"]}}"#, hash("a")),
        format!(r#"{{"name":"no owner","hash":"{}","scopes":["keys:read"],"owner":"team:ghost"}}"#, hash("b")),
        format!(r#"{{"name":"over","hash":"{}","scopes":["keys:read"],"expires_at":{}}}"#, hash("c"), START - 1),
        format!(r#"{{"name":"too long","hash":"{}","scopes":["keys:read"],"expires_at":{}}}"#, hash("d"), START + 400 * DAY_MS),
        format!(r#"{{"name":"one again","hash":"sha256:{}","scopes":["keys:read"]}}"#, hash("foreign-one")),
    ];
    let file = lines.join("\n");
    let import = |dry_run: bool| {
        let options = ImportOptions {
            dry_run,
            ..options(ImportFormat::NdJson)
        };
        let (fixture, file) = (&fixture, file.as_bytes());
        async move {
            fixture
                .registry
                .import_api_keys(&fixture.actor, file, &fixture.peppers, &options)
                .await
        }
    };
    let dry = import(true).await?;
    assert_eq!(dry.imported.len(), 2);
    assert_eq!(fixture.registry.count_api_keys().await?.all, 0);
    let report = import(false).await?;
    assert!(report.stopped.is_none());
    let taken: Vec<_> = report.imported.iter().map(|one| one.line).collect();
    assert_eq!(taken, [1, 2]);
    assert_eq!(report.present.len(), 1);
    assert_eq!(report.present[0].key_id, report.imported[0].key_id);
    let refused: Vec<_> = report
        .refused
        .iter()
        .map(|one| (one.line, one.code))
        .collect();
    let expected = [
        (3, "hash_not_importable"),
        (4, "unknown_scope"),
        (5, "owner_not_found"),
        (6, "key_expired"),
        (7, "policy_violation"),
    ];
    assert_eq!(refused, expected);
    assert!(report.refused[0].message.contains("bcrypt"));
    assert_eq!(dry.refused, report.refused, "a dry run says the same");
    let again = import(false).await?;
    assert_eq!((again.imported.len(), again.present.len()), (0, 3));
    assert_eq!(fixture.registry.count_api_keys().await?.all, 2);
    assert_eq!(events(&fixture.registry, "api_key.imported").await?, 2);

    let verification = fixture.verify_text("foreign-one").await?;
    assert_eq!(verification.code(), "valid");
    assert_eq!(
        verification.key_id.as_deref(),
        report.imported[0].key_id.as_deref()
    );
    assert_eq!(
        fixture.verify_text("acme_short_longtoken").await?.code(),
        "valid"
    );
    assert_eq!(
        fixture.verify_text("foreign-two").await?.code(),
        "malformed"
    );
    let id = report.imported[0].key_id.as_deref().context("an id")?;
    let (key, _) = fixture.registry.find_api_key(id).await?;
    assert_eq!(key.secrets[0].last_four, "????");
    assert_eq!(key.settings.metadata.as_map()["row"], "7");
    assert_eq!(key.secrets[0].expires_at, Some(expires));
    fixture
        .registry
        .revoke_api_key(&fixture.actor, id, "")
        .await?;
    assert_eq!(fixture.verify_text("foreign-one").await?.code(), "revoked");
    Ok(())
}

#[tokio::test]
async fn an_import_is_bounded_by_its_creator_and_found_under_older_peppers() -> Result<()> {
    let fixture = super::fixture().await?;
    let csv = format!("name,hash,scopes\nmany,{},users:write\n", hash("f-1"));
    let bounded = ImportOptions {
        creator: Some("nobody".to_owned()),
        ..options(ImportFormat::Csv)
    };
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let file = csv.as_bytes();
    let report = registry
        .import_api_keys(actor, file, &fixture.peppers, &bounded)
        .await?;
    assert_eq!(report.refused[0].code, "owner_not_found");
    let free = options(ImportFormat::Csv);
    let report = registry
        .import_api_keys(actor, file, &fixture.peppers, &free)
        .await?;
    assert_eq!(report.imported.len(), 1);
    registry.rotate_pepper(actor, "pepper-2").await?;
    let newer = Peppers::new(pepper("pepper-2", 8)).with_older(pepper("pepper-1", 7));
    let report = registry.import_api_keys(actor, file, &newer, &free).await?;
    assert_eq!((report.imported.len(), report.present.len()), (0, 1));
    assert_eq!(code(registry, &newer, "f-1").await?, "valid");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_148_a_foreign_key_is_let_through_while_it_moves_to_a_newer_pepper() -> Result<()> {
    const KEYS: i64 = 20;
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let mut csv = String::from("name,hash,scopes\n");
    for index in 0..KEYS {
        csv += &format!(
            "key {index},{},keys:read\n",
            hash(&format!("moves-{index}"))
        );
    }
    let free = options(ImportFormat::Csv);
    let report = registry
        .import_api_keys(actor, csv.as_bytes(), &fixture.peppers, &free)
        .await?;
    assert_eq!(report.imported.len(), 20);
    let second = fixture.second().await?;
    for node in [registry, &second] {
        until("every key is in memory", async || {
            node.index_is_complete().then_some(())
        })
        .await?;
    }
    registry.rotate_pepper(actor, "pepper-2").await?;
    let newer = || Peppers::new(pepper("pepper-2", 8)).with_older(pepper("pepper-1", 7));
    for index in 0..KEYS {
        let mut together = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (registry, peppers) = (registry.clone(), newer());
            together.spawn(async move {
                for _ in 0..40 {
                    let code = code(&registry, &peppers, &format!("moves-{index}")).await?;
                    anyhow::ensure!(code == "valid", "{index}: {code}");
                    tokio::task::yield_now().await;
                }
                Ok(())
            });
        }
        while let Some(done) = together.join_next().await {
            done??;
        }
        until("it moved", async || {
            let left = registry.count_secrets_under("pepper-1").await.ok()?;
            (left == KEYS - 1 - index).then_some(())
        })
        .await?;
        // And where nobody was told of that yet.
        let text = format!("moves-{index}");
        assert_eq!(code(&second, &newer(), &text).await?, "valid");
    }
    assert_eq!(code(registry, &newer(), "moves-x").await?, "malformed");
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn a_large_import_goes_in_parts() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut csv = String::from("name,hash,scopes\n");
    for index in 0..120 {
        csv.push_str(&format!(
            "key {index},{},keys:read\n",
            hash(&format!("bulk-{index}"))
        ));
    }
    let free = options(ImportFormat::Csv);
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let report = registry
        .import_api_keys(actor, csv.as_bytes(), &fixture.peppers, &free)
        .await?;
    assert_eq!((report.imported.len(), report.refused.len()), (120, 0));
    for index in [0, 49, 50, 119] {
        assert_eq!(
            fixture.verify_text(&format!("bulk-{index}")).await?.code(),
            "valid"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_export_is_whole_and_without_secrets() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut texts = Vec::new();
    for index in 0..3 {
        texts.push(fixture.issue(&format!("key {index}")).await?);
    }
    let rotated = fixture.rotate(&texts[0].key.id, DAY_MS).await?;
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &texts[1].key.id, "because")
        .await?;
    let policy = Policy::default_for(keywright_domain::api_keys::Environment::LIVE);
    fixture.registry.set_policy(&fixture.actor, &policy).await?;
    let mut file = Vec::new();
    let summary = fixture
        .registry
        .export_registry(&fixture.actor, &mut file)
        .await?;
    assert_eq!(
        (
            summary.keys,
            summary.secrets,
            summary.policies,
            summary.principals
        ),
        (3, 4, 1, 1)
    );
    let text = String::from_utf8(file)?;
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let id = fixture.registry.registry_id().await?;
    assert_eq!(lines[0]["header"]["registry_id"], *id);
    assert_eq!(lines[0]["header"]["schema"], LocalRegistry::newest_schema());
    assert_eq!(lines[lines.len() - 1]["end"]["keys"], 3);
    let of = |id: &str| {
        let mut keys = lines.iter().map(|line| &line["key"]);
        keys.find(|key| key["id"] == id)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(of(&texts[1].key.id)["revoked_reason"], "because");
    assert_eq!(
        of(&texts[0].key.id)["secrets"][1]["kid"],
        rotated.plain.kid().as_str()
    );
    for issued in texts.iter().chain([&rotated]) {
        assert!(!text.contains(issued.plain.text().expose()));
    }
    for mac in stored_macs(&fixture).await? {
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!text.contains(&hex), "a stored value is in the export");
    }
    Ok(())
}

/// The stored values, as a stranger reads them.
async fn stored_macs(fixture: &Fixture) -> Result<Vec<Vec<u8>>> {
    let mut connection = fixture.stranger().await?;
    let macs = sqlx::query_scalar("SELECT mac FROM secrets").fetch_all(&mut connection);
    let macs: Vec<Vec<u8>> = macs.await?;
    assert!(!macs.is_empty());
    Ok(macs)
}

#[tokio::test]
async fn a_long_export_sees_one_moment() -> Result<()> {
    let fixture = super::fixture().await?;
    for index in 0..20 {
        fixture.issue(&format!("key {index}")).await?;
    }
    // A pipe that takes a little at a time: the export stops in its middle until it is read.
    let (mut writer, mut reader) = tokio::io::duplex(512);
    let (registry, actor) = (fixture.registry.clone(), fixture.actor.clone());
    let export = tokio::spawn(async move { registry.export_registry(&actor, &mut writer).await });
    let mut first = [0; 16];
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut first).await?;
    let late = fixture.issue("late").await?;
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut rest).await?;
    assert_eq!(export.await??.keys, 20);
    assert!(
        !rest.contains(&late.key.id),
        "a key of a later moment is in it"
    );
    Ok(())
}

#[tokio::test]
async fn exports_that_nobody_reads_keep_nobody_waiting() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("used").await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    for index in 0..20 {
        fixture.issue(&format!("key {index}")).await?;
    }
    // More than either database has connections for.
    let (mut exports, mut readers) = (JoinSet::new(), Vec::new());
    for _ in 0..12 {
        let (mut writer, reader) = tokio::io::duplex(512);
        let (registry, actor) = (fixture.registry.clone(), fixture.actor.clone());
        exports.spawn(async move { registry.export_registry(&actor, &mut writer).await });
        readers.push(reader);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for round in 0..5 {
        let began = Instant::now();
        fixture.issue(&format!("meanwhile {round}")).await?;
        assert_eq!(fixture.code(&issued).await?, "valid");
        fixture.registry.flush_uses().await?;
        assert_eq!(fixture.code(&issued).await?, "valid");
        fixture.registry.find_api_key(&issued.key.id).await?;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "round {round}: {took:?}");
    }
    // Read at last, each is whole: those that had no place have one in their turn.
    let mut reading = JoinSet::new();
    for mut reader in readers {
        reading.spawn(async move {
            let mut text = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut text).await?;
            anyhow::Ok(text)
        });
    }
    while let Some(text) = reading.join_next().await {
        let text = text??;
        let last = text.lines().last().unwrap_or_default();
        assert!(last.contains("\"end\""), "{last}");
    }
    while let Some(export) = exports.join_next().await {
        assert!(export??.keys >= 21);
    }
    Ok(())
}

#[tokio::test]
async fn a_backup_with_its_escrow_opens_elsewhere_and_says_so() -> Result<()> {
    let fixture = super::fixture().await?;
    let folder = tempfile::tempdir()?;
    let backup = folder.path().join("copy.db");
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    if fixture.kind == Kind::Postgres {
        let refused = registry.back_up(actor, &backup).await.expect_err("refused");
        assert_eq!(refused.code(), "backup_elsewhere");
        assert!(refused.to_string().contains("pg_dump"));
        assert!(!backup.exists());
        return Ok(());
    }
    let kept = fixture.issue("kept").await?;
    let rotated = fixture.rotate(&kept.key.id, DAY_MS).await?;
    let revoked_later = fixture.issue("revoked later").await?;
    let epoch_before = registry.find_api_key(&kept.key.id).await?.0.epoch;
    let passphrase = SecretText::new("four random words here".to_owned());
    let escrow = registry
        .escrow_peppers(actor, &fixture.peppers, &passphrase)
        .await?;
    let manifest = registry.back_up(actor, &backup).await?;
    assert_eq!(
        registry
            .back_up(actor, &backup)
            .await
            .expect_err("there")
            .code(),
        "file_exists"
    );
    registry
        .revoke_api_key(actor, &revoked_later.key.id, "leaked")
        .await?;
    assert_eq!(LocalRegistry::verify_backup(&backup).await?, manifest);
    is_private(&backup)?;
    is_private(&folder.path().join("copy.db.manifest.json"))?;

    let opened = open_escrow(&escrow, &passphrase)?;
    assert_eq!(opened.registry_id, *registry.registry_id().await?);
    let place = tempfile::tempdir()?;
    let target = place.path().join("elsewhere").join("registry.db");
    let peppers = opened.peppers;
    let restore = |to: &Path, peppers: &Peppers| {
        let (actor, backup, to) = (actor.clone(), backup.clone(), to.to_owned());
        let (clock, peppers) = (fixture.clock(), super::copy_of(peppers));
        async move { LocalRegistry::restore_backup(&actor, &backup, &to, clock, &peppers).await }
    };
    let (restored, report) = restore(&target, &peppers).await?;
    assert_eq!((report.restored_at, report.live_secrets), (START, 3));
    assert!(report.missing_peppers.is_empty());
    for issued in [&kept, &rotated] {
        assert_eq!(
            code(&restored, &peppers, issued.plain.text().expose()).await?,
            "valid"
        );
    }
    // The known danger, and that it is told.
    assert_eq!(
        code(&restored, &peppers, revoked_later.plain.text().expose()).await?,
        "valid"
    );
    let query = AuditQuery {
        limit: 1,
        text: "restored".into(),
        ..AuditQuery::default()
    };
    let event = restored.list_audit_events(query).await?.items.remove(0);
    assert_eq!(event.action, "registry.restored");
    assert!(event.summary.contains("revocations"));
    assert!(
        event
            .details
            .contains(&("backup_at".to_owned(), START.to_string()))
    );
    // No cache can hold anything newer than this.
    let key = restored.find_api_key(&kept.key.id).await?.0;
    assert!(
        key.epoch >= epoch_before + 1_000_000,
        "{} {epoch_before}",
        key.epoch
    );
    let next = restored.disable_api_key(actor, &kept.key.id, "").await?;
    assert!(next.epoch > key.epoch);
    assert_eq!(
        code(&restored, &peppers, kept.plain.text().expose()).await?,
        "disabled"
    );
    assert_eq!(
        restore(&target, &peppers).await.expect_err("there").code(),
        "file_exists"
    );
    let other = place.path().join("without").join("registry.db");
    let (_, report) = restore(&other, &Peppers::new(pepper("other", 1))).await?;
    assert_eq!(report.missing_peppers, ["pepper-1"]);
    Ok(())
}

#[cfg(unix)]
fn is_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path)?.permissions().mode();
    assert_eq!(mode & 0o077, 0, "{}", path.display());
    Ok(())
}

#[tokio::test]
async fn a_damaged_backup_is_not_put_back() -> Result<()> {
    let fixture = super::fixture().await?;
    if fixture.kind == Kind::Postgres {
        return Ok(());
    }
    fixture.issue("kept").await?;
    let folder = tempfile::tempdir()?;
    let backup = folder.path().join("copy.db");
    fixture.registry.back_up(&fixture.actor, &backup).await?;
    let whole = std::fs::read(&backup)?;
    let manifest = std::fs::read_to_string(folder.path().join("copy.db.manifest.json"))?;
    let target = folder.path().join("new").join("registry.db");
    let check = || async {
        let (actor, clock) = (&fixture.actor, fixture.clock());
        let restored =
            LocalRegistry::restore_backup(actor, &backup, &target, clock, &fixture.peppers).await;
        assert!(!target.exists());
        restored
            .map(|_| ())
            .map_err(|error: BackupError| error.code())
    };
    // A letter of a name: every page is well formed, and only the checksum knows.
    let mut flipped = whole.clone();
    let at = whole.windows(4).position(|part| part == b"kept");
    flipped[at.context("the name")?] = b'w';
    for damaged in [
        &flipped[..],
        &whole[..whole.len() - 4096],
        b"",
        b"not a database",
    ] {
        std::fs::write(&backup, damaged)?;
        assert_eq!(check().await, Err("backup_damaged"));
    }
    std::fs::write(&backup, &whole)?;
    std::fs::write(
        folder.path().join("copy.db.manifest.json"),
        manifest.replace("\"audit_sequence\": 3", "\"audit_sequence\": 2"),
    )?;
    assert_eq!(check().await, Err("backup_damaged"));
    std::fs::remove_file(folder.path().join("copy.db.manifest.json"))?;
    assert_eq!(check().await, Err("backup_damaged"));
    Ok(())
}
