//! A file that is cut short, newer, older, read-only, locked or in an unsafe place: each has its
//! own code, and nothing is touched.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use keywright_domain::api_keys::DAY_MS;
use keywright_registry::{Clock, LocalRegistry};
use sqlx::Connection;

use super::{Fixture, Kind};

async fn reopened(path: &Path) -> &'static str {
    match LocalRegistry::open(path, Clock::system()).await {
        Ok(registry) => {
            registry.close().await;
            "opened"
        }
        Err(error) => error.code(),
    }
}

async fn raw(path: &Path, sql: &'static str) -> Result<()> {
    sqlx::any::install_default_drivers();
    let mut connection =
        sqlx::AnyConnection::connect(&format!("sqlite://{}", path.display())).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_file_cut_short_is_refused_and_left_alone() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    for index in 0..30 {
        fixture.issue(&format!("key {index}")).await?;
    }
    fixture.registry.close().await;
    let whole = fs::read(fixture.file())?;
    let folder = tempfile::tempdir()?;
    let mut refused = 0;
    for length in [
        1,
        50,
        99,
        100,
        4095,
        4096,
        5000,
        whole.len() / 2,
        whole.len() - 4096,
        whole.len() - 1,
    ] {
        let cut = folder
            .path()
            .join(format!("cut-{length}"))
            .join("registry.db");
        fs::create_dir_all(cut.parent().expect("a folder"))?;
        fs::write(&cut, &whole[..length])?;
        let code = reopened(&cut).await;
        assert_eq!(
            code,
            "registry_damaged",
            "cut to {length} of {}",
            whole.len()
        );
        assert_eq!(fs::read(&cut)?, &whole[..length], "left alone");
        refused += 1;
    }
    assert_eq!(refused, 10);
    assert_eq!(reopened(&fixture.file()).await, "opened");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_something_else_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = folder.path().join("registry.db");
    fs::write(&text, "these are my notes, not a database\n".repeat(200))?;
    assert_eq!(reopened(&text).await, "registry_damaged");
    let other = folder.path().join("other.db");
    fs::write(&other, "")?;
    raw(&other, "CREATE TABLE recipes (name TEXT)").await?;
    assert_eq!(reopened(&other).await, "registry_damaged");
    Ok(())
}

#[tokio::test]
async fn overwritten_pages_are_noticed() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    for index in 0..30 {
        fixture.issue(&format!("key {index}")).await?;
    }
    fixture.registry.close().await;
    let mut bytes = fs::read(fixture.file())?;
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(fixture.file(), bytes)?;
    assert_eq!(reopened(&fixture.file()).await, "registry_damaged");
    Ok(())
}

#[tokio::test]
async fn ac_154_a_newer_schema_is_refused_and_left_alone() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    fixture.registry.close().await;
    raw(
        &fixture.file(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .await?;
    let before = fs::read(fixture.file())?;
    assert_eq!(reopened(&fixture.file()).await, "schema_too_new");
    assert_eq!(fs::read(fixture.file())?, before);
    Ok(())
}

/// Everything in a table of a PostgreSQL database, as text.
async fn rows(connection: &mut sqlx::PgConnection, table: &str) -> Result<Vec<String>> {
    let all = format!("SELECT t::text FROM \"{table}\" t ORDER BY 1");
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(all))
        .fetch_all(connection)
        .await?)
}

#[tokio::test]
async fn ac_154_a_newer_schema_is_refused_and_left_alone_on_postgres() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    fixture.issue("a").await?;
    fixture.registry.close().await;
    let mut stranger = sqlx::PgConnection::connect(&fixture.url()).await?;
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', TRUE, '\\x00', 0)",
    )
    .execute(&mut stranger)
    .await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
    )
    .fetch_all(&mut stranger)
    .await?;
    assert!(tables.len() > 10, "{tables:?}");
    let mut before = Vec::new();
    for table in &tables {
        before.push(rows(&mut stranger, table).await?);
    }
    let refused = LocalRegistry::open_postgres(&fixture.url(), Clock::system()).await;
    assert_eq!(
        refused.err().map(|error| error.code()),
        Some("schema_too_new")
    );
    for (table, before) in tables.iter().zip(&before) {
        assert_eq!(&rows(&mut stranger, table).await?, before, "{table}");
    }
    // Nothing else is wrong with it.
    sqlx::raw_sql("DELETE FROM _sqlx_migrations WHERE version = 9999")
        .execute(&mut stranger)
        .await?;
    stranger.close().await?;
    let opened = LocalRegistry::open_postgres(&fixture.url(), Clock::system()).await?;
    opened.close().await;
    Ok(())
}

#[tokio::test]
async fn a_strangers_lock_is_told() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    let issued = fixture.issue("a").await?;
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", fixture.file().display());
    let mut stranger = sqlx::AnyConnection::connect(&url).await?;
    sqlx::raw_sql("BEGIN EXCLUSIVE")
        .execute(&mut stranger)
        .await?;
    let refused = fixture.issue("b").await.expect_err("locked");
    let refused = refused.downcast::<keywright_registry::RegistryError>()?;
    assert_eq!(refused.code(), "registry_locked");
    // AC-147: a verification stands, even though its first use could not be written.
    assert_eq!(fixture.code(&issued).await?, "valid");
    sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await?;
    fixture.issue("b").await?;
    let (key, _) = fixture.registry.find_api_key(&issued.key.id).await?;
    assert_eq!(key.secrets[0].use_count, 1, "the use was not lost");
    Ok(())
}

/// Root writes where others may not; an immutable file stops even root.
struct ReadOnly<'a>(&'a Path);

impl<'a> ReadOnly<'a> {
    fn make(path: &'a Path) -> Result<Option<Self>> {
        let immutable = std::process::Command::new("chattr")
            .arg("+i")
            .arg(path)
            .output();
        if immutable.is_ok_and(|output| output.status.success()) {
            return Ok(Some(Self(path)));
        }
        let mut permissions = fs::metadata(path)?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(path, permissions)?;
        let still_writable = fs::OpenOptions::new().append(true).open(path).is_ok();
        Ok((!still_writable).then_some(Self(path)))
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("chattr")
            .arg("-i")
            .arg(self.0)
            .output();
    }
}

#[tokio::test]
async fn a_read_only_file_is_told() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    fixture.issue("a").await?;
    fixture.registry.close().await;
    let file = fixture.file();
    let guard = ReadOnly::make(&file)?;
    anyhow::ensure!(
        guard.is_some(),
        "this file system knows no read-only file for this user"
    );
    assert_eq!(reopened(&file).await, "registry_read_only");
    drop(guard);
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn ac_157_the_file_is_private_and_a_symbolic_link_is_refused() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("deep").join("registry.db");
    LocalRegistry::open(&file, Clock::system())
        .await?
        .close()
        .await;
    let mode =
        |path: &Path| fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
    assert_eq!(mode(&file)?, 0o600);
    assert_eq!(mode(file.parent().expect("a folder"))?, 0o700);
    let link = folder.path().join("deep").join("link.db");
    std::os::unix::fs::symlink(&file, &link)?;
    assert_eq!(reopened(&link).await, "registry_unsafe_path");
    Ok(())
}

#[tokio::test]
async fn an_odd_path_is_no_obstacle() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["with space", "100%?#&", "ümläut", "a'b\"c"] {
        assert_eq!(
            reopened(&folder.path().join(name).join("registry.db")).await,
            "opened",
            "{name}"
        );
        assert!(folder.path().join(name).join("registry.db").exists());
    }
    Ok(())
}

#[tokio::test]
async fn ac_121_no_byte_of_a_secret_is_on_disk() -> Result<()> {
    let fixture = Fixture::on(Kind::Sqlite).await?;
    let first = fixture.issue("canary").await?;
    let second = fixture.rotate(&first.key.id, DAY_MS).await?;
    fixture.code(&first).await?;
    fixture.code(&second).await?;
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &first.key.id, "done")
        .await?;
    let mut kid_seen = false;
    for entry in std::fs::read_dir(fixture.file().parent().expect("a folder"))? {
        let bytes = std::fs::read(entry?.path())?;
        kid_seen |= contains(&bytes, first.plain.kid().as_str().as_bytes());
        for issued in [&first, &second] {
            // Without prefix and kid: the 32 characters that are the secret.
            let text = issued.plain.text().expose();
            let secret = &text.as_bytes()[text.len() - 38..text.len() - 6];
            assert!(!contains(&bytes, secret), "a secret is on disk");
        }
        assert!(!contains(&bytes, &[7; 32]), "the pepper is on disk");
    }
    assert!(kid_seen, "the search saw the rows");
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Every connection of the registry is ended from outside, as a restarted database would do it.
#[tokio::test]
async fn a_lost_connection_of_the_writer_is_made_anew() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    fixture.issue("before").await?;
    let mut stranger = fixture.stranger().await?;
    let ended: i64 = sqlx::query_scalar(
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_one(&mut stranger)
    .await?;
    assert!(ended > 0, "the registry had connections");
    fixture.issue("after").await?;
    let issued = fixture.actions().await?;
    let issued = issued.iter().filter(|action| *action == "api_key.issued");
    assert_eq!(issued.count(), 2, "each once");
    Ok(())
}

/// A COMMIT that the database refuses, and a log that cannot be read right after it: what was in doubt must
/// not stay so.
#[tokio::test]
async fn a_key_works_again_after_a_commit_that_nobody_could_be_asked_about() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    let issued = fixture.issue("a").await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    fixture.registry.flush_uses().await?;
    let mut stranger = fixture.stranger().await?;
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(1.5); RAISE EXCEPTION 'not now'; END $$; \
         CREATE CONSTRAINT TRIGGER refuses AFTER INSERT ON changes \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .execute(&mut stranger)
    .await?;
    let (registry, actor) = (fixture.registry.clone(), fixture.actor.clone());
    let id = issued.key.id.clone();
    let revoked = tokio::spawn(async move { registry.revoke_api_key(&actor, &id, "lost").await });
    // What follows waits until the COMMIT is over, and is there before anybody reads.
    loop {
        let sql = "SELECT COUNT(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event = 'PgSleep'";
        let commits: i64 = sqlx::query_scalar(sql).fetch_one(&mut stranger).await?;
        if commits > 0 {
            break;
        }
        anyhow::ensure!(!revoked.is_finished(), "it ended before its COMMIT");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sql = "ALTER TABLE changes RENAME TO elsewhere";
    sqlx::raw_sql(sql).execute(&mut stranger).await?;
    let unknown = revoked.await?.expect_err("refused");
    assert_eq!(unknown.code(), "commit_unknown");
    assert_eq!(fixture.registry.index_statistics().doubts, 1);
    sqlx::raw_sql(
        "ALTER TABLE elsewhere RENAME TO changes; DROP TRIGGER refuses ON changes; \
         DROP FUNCTION refuse()",
    )
    .execute(&mut stranger)
    .await?;
    assert_eq!(fixture.code(&issued).await?, "valid", "it was not revoked");
    assert_eq!(fixture.registry.index_statistics().doubts, 0);
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &issued.key.id, "now")
        .await?;
    assert_eq!(fixture.code(&issued).await?, "revoked");
    Ok(())
}
