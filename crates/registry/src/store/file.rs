//! The SQLite file itself: its place, its health, its version, its backup. Only this module
//! speaks SQLite's own dialect (PRAGMA, VACUUM INTO).

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
/// Files up to this size are checked page by page when they are opened.
const QUICK_CHECK_LIMIT: u64 = 64 * 1024 * 1024;

/// Makes the folder (0700) and the file (0600) where missing. Returns whether the file is new.
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
    let file = options.open(path).map_err(|error| io_error(&error))?;
    restrict(&file)?;
    match file.metadata().map_err(|error| io_error(&error))?.len() {
        0 => Ok(true),
        // SQLite takes such a remnant for an empty file and would write over it.
        size @ 1..512 => Err(RegistryError::Damaged(format!(
            "only {size} bytes of it are left"
        ))),
        _ => Ok(false),
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
fn restrict(file: &File) -> Result<(), RegistryError> {
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

fn io_error(error: &std::io::Error) -> RegistryError {
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
    // FULL: a revocation that was answered must survive a power cut.
    let pragmas = format!(
        "PRAGMA busy_timeout = {busy_timeout_ms}; PRAGMA journal_mode = WAL; \
         PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; \
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(pragmas))
        .execute(connection)
        .await?;
    Ok(())
}

/// Refuses a file that is cut short or overwritten.
pub(crate) async fn check_health(
    connection: &mut AnyConnection,
    path: &Path,
) -> Result<(), RegistryError> {
    let size = fs::metadata(path).map_err(|error| io_error(&error))?.len();
    if let Some(expected) = size_in_header(path)
        && expected > size
        && !has_log(path)
    {
        let message = format!("it should hold {expected} bytes and holds {size}");
        return Err(RegistryError::Damaged(message));
    }
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

/// Page size times page count, from the file's first 100 bytes (sqlite.org/fileformat2.html §1.3).
fn size_in_header(path: &Path) -> Option<u64> {
    let mut header = [0_u8; 100];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
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

/// Copies the file beside itself before a migration; an earlier backup of that version stays.
pub(crate) async fn back_up(
    connection: &mut AnyConnection,
    path: &Path,
    version: i64,
) -> Result<PathBuf, RegistryError> {
    let backup = sibling(path, &format!(".before-schema-{}.backup", version + 1));
    if backup.exists() {
        return Ok(backup);
    }
    // Written under another name first: a backup that exists is a whole one. Two processes that
    // migrate at the same moment each write their own.
    let name = keywright_domain::base62::random_id(&mut rand::rng());
    let partial = sibling(path, &format!(".backup-partial-{name}"));
    sqlx::query("VACUUM INTO $1")
        .bind(partial.to_string_lossy().into_owned())
        .execute(connection)
        .await?;
    let file = File::open(&partial).map_err(|error| io_error(&error))?;
    restrict(&file)?;
    file.sync_all().map_err(|error| io_error(&error))?;
    fs::rename(&partial, &backup).map_err(|error| io_error(&error))?;
    Ok(backup)
}
