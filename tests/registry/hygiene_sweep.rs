//! No secret anywhere: known ones go through everything that the registry offers, and then every
//! byte that it left is searched. A search that cannot find what is there proves nothing, so each
//! place is searched once more with a canary in it.
#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keywright_domain::SecretText;
use keywright_domain::api_keys::{DAY_MS, Pepper, PlainKey, Prefix};
use keywright_registry::{
    AcceptOptions, ApiKeyQuery, AuditQuery, ClientSecret, ImportFormat, ImportOptions,
    LocalRegistry, PepperKey, Peppers, RotationStep, TransferIdentity, VerifyRequest, open_escrow,
    open_transfer,
};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::{Fixture, Kind, LogTap, from_issue, rand_text, wish};

/// What must not be found, with what it is; each in the forms that it could leak in.
#[derive(Default)]
struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    fn text(&mut self, what: &str, text: &str) {
        self.0.push((what.to_owned(), text.as_bytes().to_vec()));
    }

    /// A key: whole, and its secret part alone (32 characters after the marker).
    fn key(&mut self, what: &str, key: &PlainKey) {
        let text = key.text().expose();
        self.text(what, text);
        self.text(
            &format!("{what}, its secret part"),
            &text[text.len() - 38..text.len() - 6],
        );
        self.digest(what, text);
    }

    /// The digest is what a row is made of: whoever has it and the pepper has the row.
    fn digest(&mut self, what: &str, text: &str) {
        let digest = Sha256::digest(text.as_bytes());
        self.bytes(&format!("{what}, its digest"), &digest);
    }

    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.text(&format!("{what} in capitals"), &hex.to_uppercase());
        self.text(&format!("{what} in hexadecimal"), &hex);
        let list = format!("{bytes:?}");
        self.text(&format!("{what} as a list"), list.trim_matches(['[', ']']));
        self.0.push((what.to_owned(), bytes.to_vec()));
    }

    /// One pass for all of them: what begins with the two bytes that stand there is compared.
    fn find_in(&self, haystack: &[u8]) -> Option<&str> {
        let mut by_start: HashMap<[u8; 2], Vec<usize>> = HashMap::new();
        let mut starts = vec![false; 1 << 16];
        for (index, (_, needle)) in self.0.iter().enumerate() {
            let start = [needle[0], needle[1]];
            starts[usize::from(u16::from_be_bytes(start))] = true;
            by_start.entry(start).or_default().push(index);
        }
        for (at, pair) in haystack.windows(2).enumerate() {
            let start = [pair[0], pair[1]];
            if !starts[usize::from(u16::from_be_bytes(start))] {
                continue;
            }
            let mut candidates = by_start.get(&start).into_iter().flatten();
            let found = candidates.find(|index| haystack[at..].starts_with(&self.0[**index].1));
            if let Some(index) = found {
                return Some(&self.0[*index].0);
            }
        }
        None
    }

    /// Searches a place, and then the same place with each canary in its middle.
    fn sweep(&self, place: &str, bytes: &[u8]) -> Result<()> {
        ensure!(!bytes.is_empty(), "nothing was looked at in {place}");
        if let Some(what) = self.find_in(bytes) {
            anyhow::bail!("{what} is in {place}");
        }
        for (what, needle) in &self.0[self.0.len() - 1..] {
            let middle = bytes.len() / 2;
            let planted = [&bytes[..middle], needle, &bytes[middle..]].concat();
            ensure!(
                self.find_in(&planted).is_some(),
                "{what} planted in {place} is not found"
            );
        }
        Ok(())
    }
}

/// Everything that was answered, as a log would show it.
#[derive(Default)]
struct Answers(String);

impl Answers {
    fn note<T: Debug>(&mut self, answer: &T) {
        self.0.push_str(&format!("{answer:?}\n{answer:#?}\n"));
    }

    fn error<E: Debug + std::fmt::Display>(&mut self, error: &E) {
        self.0.push_str(&format!("{error}\n{error:?}\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_left_anywhere() -> Result<()> {
    let tap = LogTap::open();
    let mut fixture = super::fixture().await?;
    let bytes: [u8; 32] = Sha256::digest(rand_text().as_bytes()).into();
    fixture
        .registry
        .rotate_pepper(&fixture.actor, "canary-pepper")
        .await?;
    let canary = PepperKey {
        id: "canary-pepper".into(),
        pepper: Pepper::from_bytes(bytes),
    };
    fixture.peppers = Peppers::new(canary).with_older(super::pepper("pepper-1", 7));
    let mut canaries = Canaries::default();
    canaries.bytes("the pepper", &bytes);
    let mut answers = Answers::default();
    answers.note(&fixture.peppers);
    answers.note(&fixture.registry);
    let output = tempfile::tempdir()?;
    use_keys(&fixture, &mut canaries, &mut answers).await?;
    move_things(&fixture, &mut canaries, &mut answers, output.path()).await?;
    fixture.registry.flush_uses().await?;

    canaries.sweep("what was answered", answers.0.as_bytes())?;
    canaries.sweep("the files that were written", &all_files(output.path())?)?;
    let tables = all_tables(&fixture.url()).await?;
    ensure!(
        tables.windows(13).any(|part| part == b"canary-pepper"),
        "the tables were not read"
    );
    canaries.sweep("the tables", &tables)?;
    if fixture.kind == Kind::Sqlite {
        let file = fixture.file();
        let folder = file.parent().context("a folder")?;
        for suffix in ["registry.db", "registry.db-wal", "registry.db-shm"] {
            canaries.sweep(suffix, &std::fs::read(folder.join(suffix))?)?;
        }
        canaries.sweep("the registry's folder", &all_files(folder)?)?;
    }
    let log = tap.bytes();
    let said = String::from_utf8_lossy(&log).into_owned();
    ensure!(
        said.contains("sqlx") && said.contains("UPDATE heads"),
        "the driver's log was not caught"
    );
    canaries.sweep("the logs", &log)?;

    // Planted in the places themselves, by a stranger's hand.
    let mut canary = canaries.0.iter().rev();
    let (what, planted) = canary
        .find(|(what, _)| what.ends_with("in hexadecimal"))
        .context("a canary")?;
    let planted = String::from_utf8(planted.clone())?;
    tap.plant(&planted)?;
    let log = tap.bytes();
    ensure!(
        canaries.find_in(&log).is_some(),
        "a logged {what} is not found"
    );
    fixture.issue(&planted).await?;
    let tables = all_tables(&fixture.url()).await?;
    ensure!(
        canaries.find_in(&tables).is_some(),
        "a stored {what} is not found"
    );
    std::fs::write(output.path().join("leak"), &planted)?;
    ensure!(
        canaries.find_in(&all_files(output.path())?).is_some(),
        "a written {what} is not found"
    );
    if fixture.kind == Kind::Sqlite {
        let folder = fixture.file().parent().context("a folder")?.to_owned();
        ensure!(
            canaries.find_in(&all_files(&folder)?).is_some(),
            "it is not found in the file or its log"
        );
    }
    Ok(())
}

async fn use_keys(fixture: &Fixture, canaries: &mut Canaries, answers: &mut Answers) -> Result<()> {
    let (registry, actor, peppers) = (&fixture.registry, &fixture.actor, &fixture.peppers);
    let prefix = Prefix::new("sk_live").context("a prefix")?;
    let issued = fixture.issue("swept").await?;
    canaries.key("an issued key", &issued.plain);
    answers.note(&issued);
    let made = PlainKey::generate(&prefix, &mut rand::rng());
    canaries.key("a client's key", &made);
    let secret = ClientSecret::of(&made);
    answers.note(&secret);
    let taken = registry
        .issue_api_key_for(actor, &wish("client's"), &secret, peppers)
        .await?;
    answers.note(&taken);
    let id = issued.key.id.clone();
    for step in [
        RotationStep::Promote,
        RotationStep::Cancel,
        RotationStep::RollBack,
        RotationStep::Finish,
    ] {
        let next = fixture.rotate(&id, DAY_MS).await?;
        canaries.key("a rotated key", &next.plain);
        let presented = next.plain.text().expose();
        answers.note(&fixture.verify_text(presented).await?);
        match registry.step_rotation(actor, &id, step).await {
            Ok(done) => answers.note(&done),
            Err(error) => answers.error(&error),
        }
    }
    let next = PlainKey::generate(&prefix, &mut rand::rng());
    canaries.key("a client's next key", &next);
    let (key, _) = registry
        .rotate_api_key_to(
            actor,
            &id,
            &from_issue(DAY_MS),
            &rand_text(),
            &ClientSecret::of(&next),
            peppers,
        )
        .await?;
    let rotation = rand_text();
    let pending = keywright_domain::api_keys::RotationRequest::default();
    let first = registry
        .rotate_api_key(actor, &id, &pending, &rotation, peppers)
        .await?;
    canaries.key("a lost key", &first.plain);
    let again = registry.reissue_secret(actor, &rotation, peppers).await?;
    canaries.key("a key that was made anew", &again.plain);
    answers.note(&(key, again));
    // Right, wrong, cut, padded, under a missing pepper, and in every place that takes text.
    let text = next.text().expose().to_owned();
    let mut wrong = text.clone();
    wrong.replace_range(40..41, if &wrong[40..41] == "a" { "b" } else { "a" });
    canaries.text("a wrong key", &wrong);
    for presented in [
        text.as_str(),
        &wrong,
        &text[..60],
        &format!(" {text}"),
        &text.to_uppercase(),
    ] {
        answers.note(&fixture.verify_text(presented).await?);
        let request = VerifyRequest {
            presented,
            ..VerifyRequest::default()
        };
        let none = Peppers::new(super::pepper("none", 1));
        match registry.verify_api_key(&request, &none).await {
            Ok(answer) => answers.note(&answer),
            Err(error) => answers.error(&error),
        }
    }
    for attempt in [
        registry.find_api_key(&text).await.map(drop),
        registry
            .revoke_api_key(actor, &text, "gone")
            .await
            .map(drop),
        registry
            .issue_api_key(
                actor,
                &keywright_domain::api_keys::NewApiKey {
                    prefix: text.clone(),
                    ..wish("x")
                },
                peppers,
            )
            .await
            .map(drop),
        registry
            .rotate_api_key(actor, &text, &from_issue(0), &rand_text(), peppers)
            .await
            .map(drop),
    ] {
        answers.error(&attempt.expect_err("no key has this id"));
    }
    registry.revoke_api_key(actor, &id, "over").await?;
    answers.note(&fixture.verify_text(&text).await?);
    answers.note(
        &registry
            .list_api_keys(&ApiKeyQuery {
                limit: 100,
                ..ApiKeyQuery::default()
            })
            .await?,
    );
    answers.note(
        &registry
            .list_audit_events(AuditQuery {
                limit: 500,
                ..AuditQuery::default()
            })
            .await?,
    );
    answers.note(&registry.list_rotations(&id).await?);
    answers.note(&registry.list_peppers().await?);
    Ok(())
}

async fn move_things(
    fixture: &Fixture,
    canaries: &mut Canaries,
    answers: &mut Answers,
    output: &Path,
) -> Result<()> {
    let (registry, actor, peppers) = (&fixture.registry, &fixture.actor, &fixture.peppers);
    let foreign = format!("foreign-{}", rand_text());
    canaries.text("a foreign key", &foreign);
    let digest = Sha256::digest(foreign.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    canaries.digest("a foreign key", &foreign);
    let slip = format!("plain-{}", rand_text());
    canaries.text("a key in an import, by mistake", &slip);
    let csv = format!(
        "name,hash,scopes\ngood,{hex},keys:read\nslip,{slip},keys:read\nswapped,{hex}0,{slip}\n{slip},x,{slip}\n"
    );
    let options = ImportOptions {
        format: ImportFormat::Csv,
        dry_run: false,
        prefix: "sk_live".to_owned(),
        environment: None,
        owner: None,
        creator: None,
        held: None,
        allow_never_expires: true,
    };
    let report = registry
        .import_api_keys(actor, csv.as_bytes(), peppers, &options)
        .await?;
    ensure!(
        report.imported.len() == 1 && report.refused.len() == 3,
        "{report:?}"
    );
    answers.note(&report);
    answers.note(&fixture.verify_text(&foreign).await?);
    let bad = format!("{slip},{hex}\n1,2\n");
    match registry
        .import_api_keys(actor, bad.as_bytes(), peppers, &options)
        .await
    {
        Ok(report) => answers.note(&report),
        Err(error) => answers.error(&error),
    }
    let mut export = Vec::new();
    answers.note(&registry.export_registry(actor, &mut export).await?);
    std::fs::write(output.join("export.ndjson"), export)?;

    let passphrase = format!("passphrase {}", rand_text());
    canaries.text("a passphrase", &passphrase);
    let passphrase = SecretText::new(passphrase);
    let escrow = registry.escrow_peppers(actor, peppers, &passphrase).await?;
    answers.note(&open_escrow(&escrow, &passphrase)?);
    let wrong = SecretText::new(format!("{} ", passphrase.expose()));
    answers.error(&open_escrow(&escrow, &wrong).expect_err("wrong"));
    std::fs::write(output.join("escrow.age"), &escrow)?;

    if fixture.kind == Kind::Sqlite {
        let backup = output.join("backup.db");
        answers.note(&registry.back_up(actor, &backup).await?);
        let to = output.join("restored").join("registry.db");
        let (restored, report) =
            LocalRegistry::restore_backup(actor, &backup, &to, fixture.clock(), peppers).await?;
        answers.note(&report);
        let request = VerifyRequest {
            presented: &foreign,
            ..VerifyRequest::default()
        };
        answers.note(&restored.verify_api_key(&request, peppers).await?);
    }

    let remote = Fixture::on(Kind::Sqlite).await?;
    let identity = TransferIdentity::generate();
    canaries.text("an identity", identity.to_text().expose());
    let sealed = registry
        .hand_over_peppers(actor, peppers, &identity.recipient())
        .await?;
    std::fs::write(output.join("transfer.age"), &sealed)?;
    let opened = open_transfer(&sealed, &identity)?;
    answers.note(&(&opened, &identity));
    let moved =
        super::copy_of(&opened.peppers)
            .iter()
            .fold(super::copy_of(&remote.peppers), |all, one| {
                let pepper = Pepper::from_bytes(*one.pepper.expose());
                all.with_older(PepperKey {
                    id: one.id.clone(),
                    pepper,
                })
            });
    let issued = fixture.issue("moving").await?;
    canaries.key("a promoted key", &issued.plain);
    let ids = [issued.key.id.clone()];
    let (bundle, _) = registry.promotion_bundle(&ids, peppers).await?;
    answers.note(&bundle);
    std::fs::write(output.join("bundle.json"), serde_json::to_vec(&bundle)?)?;
    let accept = AcceptOptions::default();
    answers.note(
        &remote
            .registry
            .accept_promotion(&remote.actor, &bundle, &moved, &accept)
            .await?,
    );
    let presented = issued.plain.text().expose();
    let request = VerifyRequest {
        presented,
        ..VerifyRequest::default()
    };
    let verification = remote.registry.verify_api_key(&request, &moved).await?;
    ensure!(verification.code() == "valid", "{verification:?}");
    answers.note(&verification);
    registry.mark_promoted(actor, &ids, "remote").await?;
    answers.error(
        &registry
            .revoke_api_key(actor, &ids[0], "")
            .await
            .expect_err("it moved"),
    );
    let tables = all_tables(&remote.url()).await?;
    canaries.sweep("the other registry's tables", &tables)?;
    let folder = remote.file().parent().context("a folder")?.to_owned();
    canaries.sweep("the other registry's folder", &all_files(&folder)?)?;
    Ok(())
}

/// Every byte of every file below a folder.
fn all_files(folder: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        bytes.extend_from_slice(path.to_string_lossy().as_bytes());
        if path.is_dir() {
            bytes.extend(all_files(&path)?);
        } else {
            bytes.extend(std::fs::read(&path)?);
        }
    }
    Ok(bytes)
}

/// Every value of every table, through SQL: text as it is, bytes as they are.
async fn all_tables(url: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if url.starts_with("postgres") {
        let mut connection = sqlx::PgConnection::connect(url).await?;
        let names: Vec<String> =
            sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
                .fetch_all(&mut connection)
                .await?;
        for name in names {
            let sql = format!("SELECT t::text FROM \"{name}\" t");
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_all(&mut connection)
                .await?;
            bytes.extend(rows.join("\n").into_bytes());
        }
        return Ok(bytes);
    }
    let mut connection = sqlx::SqliteConnection::connect(url).await?;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
            .fetch_all(&mut connection)
            .await?;
    for name in names {
        let sql = format!("SELECT * FROM \"{name}\"");
        for row in sqlx::query(AssertSqlSafe(sql))
            .fetch_all(&mut connection)
            .await?
        {
            for column in 0..row.len() {
                let text: Result<Option<String>, _> = row.try_get_unchecked(column);
                let value: Option<Vec<u8>> = row.try_get_unchecked(column)?;
                bytes.extend(value.unwrap_or_default());
                if let Ok(Some(text)) = text {
                    bytes.extend(text.into_bytes());
                }
                bytes.push(b'\n');
            }
        }
    }
    Ok(bytes)
}
