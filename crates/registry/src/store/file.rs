//! The SQLite file itself: its place, its health, its version, its backup. Only this module
//! speaks SQLite's own dialect (PRAGMA, VACUUM INTO, FTS5, its triggers).

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Row};

use crate::RegistryError;

/// Pages a connection keeps. Kids and ids are random: with SQLite's own 2 MiB, most writes of a
/// larger registry would read their index pages from the system again.
const CACHE_KIB: u32 = 32 * 1024;
/// The log is copied back after this many pages (32 MiB): random pages are then written once for
/// many commits.
const CHECKPOINT_PAGES: u32 = 8192;
/// A reading transaction: with the write-ahead log it sees one moment.
pub(crate) const SNAPSHOT: &str = "BEGIN DEFERRED";

/// Files up to this size are checked page by page when they are opened.
const QUICK_CHECK_LIMIT: u64 = 64 * 1024 * 1024;

/// Makes the folder (0700) and the file (0600) where missing, and refuses one that is cut short. Returns whether the
/// file is new.
pub(crate) fn prepare(path: &Path) -> Result<bool, RegistryError> {
    let folder = path
        .parent()
        .ok_or_else(|| RegistryError::UnsafePath("it has no folder".into()))?;
    fs::create_dir_all(folder).map_err(|error| io_error(&error))?;
    check_folder(folder)?;
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if metadata.file_type().is_symlink() {
            return Err(RegistryError::UnsafePath(format!(
                "{} is a symbolic link",
                path.display()
            )));
        }
        if !metadata.is_file() {
            return Err(RegistryError::UnsafePath(format!(
                "{} is not a file",
                path.display()
            )));
        }
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| io_error(&error))?;
    restrict(&file)?;
    match file.metadata().map_err(|error| io_error(&error))?.len() {
        0 => Ok(true),
        // SQLite takes such a remnant for an empty file and would write over it.
        size @ 1..512 => Err(RegistryError::Damaged(format!(
            "only {size} bytes of it are left"
        ))),
        size => check_length(path, &mut file, size).map(|()| false),
    }
}

#[cfg(unix)]
fn check_folder(folder: &Path) -> Result<(), RegistryError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(folder).map_err(|error| io_error(&error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(|_| {
            RegistryError::UnsafePath(format!("{} is open to other users", folder.display()))
        })?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_folder(_: &Path) -> Result<(), RegistryError> {
    Ok(()) // Windows: the profile folder's access list is the user's own.
}

#[cfg(unix)]
pub(crate) fn restrict(file: &File) -> Result<(), RegistryError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|error| io_error(&error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(|error| io_error(&error))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn restrict(_: &File) -> Result<(), RegistryError> {
    Ok(())
}

pub(crate) fn io_error(error: &std::io::Error) -> RegistryError {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => RegistryError::ReadOnly,
        StorageFull => RegistryError::DiskFull,
        _ => RegistryError::Store(error.to_string()),
    }
}

/// The address sqlx opens. Everything that means something in an address is written as `%XX`.
pub(crate) fn url(path: &Path) -> String {
    let mut url = String::from("sqlite://");
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url.push_str("?mode=rw");
    url
}

pub(crate) async fn configure(
    connection: &mut AnyConnection,
    busy_timeout_ms: u32,
) -> Result<(), RegistryError> {
    // FULL: a revocation that was answered must survive a power cut. What a statement would take back if
    // it failed is kept in memory: in a file it cost a fifth of issuing, and nobody needs it after a crash.
    let pragmas = format!(
        "PRAGMA busy_timeout = {busy_timeout_ms}; PRAGMA journal_mode = WAL; \
         PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(pragmas))
        .execute(connection)
        .await?;
    Ok(())
}

/// Refuses a file that is overwritten, page by page where it is small.
pub(crate) async fn check_health(
    connection: &mut AnyConnection,
    path: &Path,
) -> Result<(), RegistryError> {
    let size = fs::metadata(path).map_err(|error| io_error(&error))?.len();
    if size <= QUICK_CHECK_LIMIT {
        let row = sqlx::query("PRAGMA quick_check(1)")
            .fetch_one(connection)
            .await?;
        let finding: String = row.try_get(0)?;
        if finding != "ok" {
            return Err(RegistryError::Damaged(finding));
        }
    }
    Ok(())
}

/// Refuses a file that is cut short, before SQLite has it open: closing a file gives up all locks that this
/// process has on it (POSIX), SQLite's too, and another process could then take the log away. So nothing opens the
/// file, its `-wal` or its `-shm` while a connection is there (sqlite.org/howtocorrupt.html §2.2).
fn check_length(path: &Path, file: &mut File, size: u64) -> Result<(), RegistryError> {
    if let Some(expected) = size_in_header(file)
        && expected > size
        && !has_log(path)
    {
        let message = format!("it should hold {expected} bytes and holds {size}");
        return Err(RegistryError::Damaged(message));
    }
    Ok(())
}

/// Page size times page count, from the file's first 100 bytes (sqlite.org/fileformat2.html §1.3).
fn size_in_header(file: &mut File) -> Option<u64> {
    let mut header = [0_u8; 100];
    file.read_exact(&mut header).ok()?;
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    Some(page_size * u64::from(pages))
}

/// A log that was not copied back yet may hold the missing pages.
fn has_log(path: &Path) -> bool {
    fs::metadata(sibling(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0)
}

pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Size of the file with its log, in bytes.
pub(crate) fn size_on_disk(path: &Path) -> u64 {
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    size(path) + size(&sibling(path, "-wal"))
}

/// Newest migration the file has seen; 0 for a file without any.
pub(crate) async fn schema_version(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    let known: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if known == 0 {
        let tables: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_master")
            .fetch_one(connection)
            .await?;
        return if tables == 0 {
            Ok(0)
        } else {
            Err(RegistryError::Damaged(
                "it is a database, but not a registry".into(),
            ))
        };
    }
    Ok(
        sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
            .fetch_one(connection)
            .await?,
    )
}

/// Copies the file beside itself before a migration. Where somebody went back to the older program and migrates again,
/// the first copy stays under another name: two at most, also where a migration fails at each start.
pub(crate) async fn back_up(
    connection: &mut AnyConnection,
    path: &Path,
    version: i64,
) -> Result<PathBuf, RegistryError> {
    let backup = sibling(path, &format!(".before-schema-{}.backup", version + 1));
    let earlier = sibling(
        path,
        &format!(".before-schema-{}.earlier.backup", version + 1),
    );
    // Written under another name first: a backup that exists is a whole one. Two processes that
    // migrate at the same moment each write their own.
    let name = keywright_domain::base62::random_id(&mut rand::rng());
    let partial = sibling(path, &format!(".backup-partial-{name}"));
    sqlx::query("VACUUM INTO $1")
        .bind(partial.to_string_lossy().into_owned())
        .execute(&mut *connection)
        .await?;
    if schema_version(connection).await? != version {
        // Another process was faster, and has its copy of before: this one is of afterwards.
        fs::remove_file(&partial).map_err(|error| io_error(&error))?;
        return Ok(backup);
    }
    let file = File::open(&partial).map_err(|error| io_error(&error))?;
    restrict(&file)?;
    file.sync_all().map_err(|error| io_error(&error))?;
    if !earlier.exists() {
        // Another process that migrates at this moment may have been faster.
        match fs::rename(&backup, &earlier) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error(&error));
            }
            _ => {}
        }
    }
    fs::rename(&partial, &backup).map_err(|error| io_error(&error))?;
    Ok(backup)
}

/// Bytes that [`copy_into`] writes at most: the pages that hold something.
pub(crate) async fn size_of_copy(connection: &mut AnyConnection) -> Result<i64, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT (p.page_count - f.freelist_count) * s.page_size \
         FROM pragma_page_count() p, pragma_freelist_count() f, pragma_page_size() s",
    )
    .fetch_one(connection)
    .await?)
}

/// Writes a copy of the whole database into `target`, which exists and is empty.
pub(crate) async fn copy_into(
    connection: &mut AnyConnection,
    target: &Path,
) -> Result<(), RegistryError> {
    let target = target
        .to_str()
        .ok_or_else(|| RegistryError::UnsafePath("its name is not valid UTF-8".into()))?;
    sqlx::query("VACUUM INTO $1")
        .bind(target.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// The address of a file that nobody writes to: it is read without a log or a lock beside it.
pub(crate) fn still_url(path: &Path) -> String {
    url(path).replace("?mode=rw", "?mode=ro&immutable=true")
}

/// Reads every page and every index of a copy.
pub(crate) async fn check_copy(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    let row = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(connection)
        .await?;
    let finding: String = row.try_get(0)?;
    if finding == "ok" {
        Ok(())
    } else {
        Err(RegistryError::Damaged(finding))
    }
}

/// Makes the search index where there is none. Indexing a key's text takes ten times as long as
/// writing the key, so that triggers only write down which keys changed, and [`index_search`]
/// follows. Explicit row numbers: `VACUUM` gives new ones to tables that have none of their own.
pub(crate) async fn prepare_search(connection: &mut AnyConnection) -> Result<(), RegistryError> {
    let known: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'api_key_search'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if known > 0 {
        return Ok(());
    }
    // IF NOT EXISTS: another process may be first by a moment.
    let made = sqlx::raw_sql(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS api_key_totals (id INTEGER PRIMARY KEY, count BIGINT NOT NULL);
         INSERT INTO api_key_totals (id, count) SELECT 1, COUNT(*) FROM api_keys WHERE true
             ON CONFLICT (id) DO NOTHING;
         CREATE TABLE IF NOT EXISTS api_key_search_texts
             (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, search_text TEXT NOT NULL);
         CREATE TRIGGER IF NOT EXISTS api_key_search_insert AFTER INSERT ON api_key_search_texts BEGIN
             INSERT INTO api_key_search (rowid, id, search_text)
                 VALUES (new.number, new.id, new.search_text);
         END;
         CREATE TRIGGER IF NOT EXISTS api_key_search_update AFTER UPDATE ON api_key_search_texts BEGIN
             INSERT INTO api_key_search (api_key_search, rowid, id, search_text)
                 VALUES ('delete', old.number, old.id, old.search_text);
             INSERT INTO api_key_search (rowid, id, search_text)
                 VALUES (new.number, new.id, new.search_text);
         END;
         CREATE TRIGGER IF NOT EXISTS api_keys_insert AFTER INSERT ON api_keys BEGIN
             INSERT INTO api_key_search_pending (key_id) VALUES (new.id);
             UPDATE api_key_totals SET count = count + 1 WHERE id = 1;
         END;
         CREATE TRIGGER IF NOT EXISTS api_keys_search_text AFTER UPDATE OF search_text ON api_keys
         WHEN old.search_text <> new.search_text BEGIN
             INSERT INTO api_key_search_pending (key_id) VALUES (new.id);
         END;
         INSERT INTO api_key_search_pending (key_id) SELECT id FROM api_keys
             WHERE NOT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'api_key_search');
         CREATE VIRTUAL TABLE IF NOT EXISTS api_key_search USING fts5(id UNINDEXED, search_text,
             content='api_key_search_texts', content_rowid='number', tokenize='trigram', detail='none',
             columnsize=0);
         COMMIT;",
    )
    .execute(&mut *connection)
    .await;
    if let Err(error) = made {
        let _ = sqlx::raw_sql("ROLLBACK").execute(connection).await;
        return Err(error.into());
    }
    Ok(())
}

/// Brings up to `limit` waiting keys into the search index. Returns how many were waiting.
pub(crate) async fn index_search(
    connection: &mut AnyConnection,
    limit: i64,
) -> Result<i64, RegistryError> {
    let (count, last): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), COALESCE(MAX(sequence), 0) FROM \
         (SELECT sequence FROM api_key_search_pending ORDER BY sequence LIMIT $1)",
    )
    .bind(limit)
    .fetch_one(&mut *connection)
    .await?;
    if count == 0 {
        return Ok(0);
    }
    sqlx::query(
        "INSERT INTO api_key_search_texts (id, search_text) SELECT id, search_text FROM api_keys \
         WHERE id IN (SELECT key_id FROM api_key_search_pending WHERE sequence <= $1) \
         ON CONFLICT (id) DO UPDATE SET search_text = excluded.search_text",
    )
    .bind(last)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM api_key_search_pending WHERE sequence <= $1")
        .bind(last)
        .execute(connection)
        .await?;
    Ok(count)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::str::FromStr as _;

    use sqlx::Connection as _;

    use super::*;

    /// Locks that this process has on a file.
    fn locks(path: &Path) -> usize {
        let inode = fs::metadata(path).map_or(0, |metadata| metadata.ino());
        let (inode, own) = (format!(":{inode} "), format!(" {} ", std::process::id()));
        fs::read_to_string("/proc/locks")
            .unwrap_or_default()
            .lines()
            .filter(|line| line.contains(&inode) && line.contains(&own))
            .count()
    }

    #[tokio::test]
    async fn ac_154_the_newest_copy_before_a_migration_is_kept_and_so_is_the_first() {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        assert!(prepare(&path).unwrap());
        let options = sqlx::any::AnyConnectOptions::from_str(&url(&path)).unwrap();
        let mut connection = AnyConnection::connect_with(&options).await.unwrap();
        let made = "CREATE TABLE t (x BIGINT NOT NULL); INSERT INTO t VALUES (0);
                    CREATE TABLE _sqlx_migrations (version BIGINT, success BOOLEAN);
                    INSERT INTO _sqlx_migrations VALUES (7, true)";
        sqlx::raw_sql(made).execute(&mut connection).await.unwrap();
        let mut copies = Vec::new();
        for turn in 1..=3_i64 {
            let sql = "UPDATE t SET x = $1";
            let changed = sqlx::query(sql).bind(turn).execute(&mut connection).await;
            changed.unwrap();
            copies.push(back_up(&mut connection, &path, 7).await.unwrap());
        }
        // What another process has migrated meanwhile is no copy of before.
        let migrated = "INSERT INTO _sqlx_migrations VALUES (8, true); UPDATE t SET x = 9";
        sqlx::raw_sql(migrated)
            .execute(&mut connection)
            .await
            .unwrap();
        copies.push(back_up(&mut connection, &path, 7).await.unwrap());
        connection.close().await.unwrap();
        assert!(copies.iter().all(|copy| *copy == copies[0]));
        let first = sibling(&path, ".before-schema-8.earlier.backup");
        for (copy, expected) in [(&copies[0], 3_i64), (&first, 1)] {
            let options = sqlx::any::AnyConnectOptions::from_str(&url(copy)).unwrap();
            let mut connection = AnyConnection::connect_with(&options).await.unwrap();
            let sql = "SELECT x FROM t";
            let found: i64 = sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert_eq!(found, expected, "{}", copy.display());
            connection.close().await.unwrap();
        }
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 3, "the file and two copies");
    }

    #[tokio::test]
    async fn what_looks_at_a_file_takes_no_locks_from_who_has_it_open() {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        assert!(prepare(&path).unwrap());
        let options = sqlx::any::AnyConnectOptions::from_str(&url(&path)).unwrap();
        let mut connection = AnyConnection::connect_with(&options).await.unwrap();
        configure(&mut connection, 1000).await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1)")
            .execute(&mut connection)
            .await
            .unwrap();
        let (before, log) = (locks(&path), sibling(&path, "-shm"));
        assert!(before > 0 && locks(&log) > 0);
        check_health(&mut connection, &path).await.unwrap();
        assert_eq!((locks(&path), locks(&log) > 0), (before, true));
        connection.close().await.unwrap();
        // Cut short: said before anything connects.
        let whole = fs::metadata(&path).unwrap().len();
        assert!(!prepare(&path).unwrap());
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(whole - 512).unwrap();
        assert!(matches!(prepare(&path), Err(RegistryError::Damaged(_))));
    }
}
