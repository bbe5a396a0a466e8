//! Backups of a registry in a file, and putting one back. A backup holds no pepper: without the
//! escrow file nothing in it verifies. What happened after a backup is not in it, so a registry
//! that was put back says so in its own trail, and numbers its changes past everything that was
//! known before.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use keywright_domain::audit::{Actor, AuditAction};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, Connection as _};

use crate::open::{Clock, Place, run_blocking};
use crate::peppers::Peppers;
use crate::store::{self, audit::NewEvent, file};
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError};

/// How far the numbers of changes are moved on: more changes than anybody made since the backup.
const VERSION_STEP: i64 = 1_000_000;
const FORMAT: &str = "keywright-backup";
const MAX_MANIFEST: u64 = 64 * 1024;

/// What a backup says of itself; it stands beside it in `<name>.manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    format: String,
    version: u32,
    /// Schema of the database.
    pub schema: i64,
    /// Whose it is.
    pub registry_id: String,
    /// When it was made (Unix ms).
    pub at: i64,
    /// The last event of the trail.
    pub audit_sequence: i64,
    /// Its hash, hexadecimal.
    pub audit_hash: String,
    /// The last change that is in it.
    pub change_version: i64,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// What somebody who puts a backup back must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// What the backup said.
    pub manifest: BackupManifest,
    /// When it was put back (Unix ms). Keys that were revoked, rotated or changed between the
    /// backup and now are as they were at the backup: those that were revoked work again.
    pub restored_at: i64,
    /// Secrets that verify now.
    pub live_secrets: i64,
    /// Peppers that live secrets need and that were not handed over: these secrets do not verify.
    pub missing_peppers: Vec<String>,
}

/// Why a backup was not made, is no good, or was not put back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL.
    #[error(
        "this registry is in PostgreSQL, which has its own backups: use pg_dump --format=custom, or base backups with archived logs"
    )]
    Elsewhere,
    /// There is something already.
    #[error("there is a file already: {0}")]
    Exists(String),
    /// No backup, or no whole one.
    #[error("this is not a whole backup: {0}")]
    Damaged(String),
    /// The disk said no.
    #[error("the backup could not be read or written: {0}")]
    File(String),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl BackupError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Elsewhere => "backup_elsewhere",
            Self::Exists(_) => "file_exists",
            Self::Damaged(_) => "backup_damaged",
            Self::File(_) => "backup_file",
            Self::Registry(error) => error.code(),
        }
    }
}

impl From<std::io::Error> for BackupError {
    fn from(error: std::io::Error) -> Self {
        match file::io_error(&error) {
            RegistryError::Store(message) => Self::File(message),
            known => Self::Registry(known),
        }
    }
}

impl LocalRegistry {
    /// Writes down that the database of this registry was put back from a backup of its own, PostgreSQL's
    /// or a snapshot of the file, as [`Self::restore_backup`] does for a copy: changes are numbered past everything that was known
    /// before, so that no memory takes anything of it for newer. All nodes are stopped meanwhile.
    /// Returns how many secrets are live.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn mark_put_back(&self, actor: &Actor) -> Result<i64, RegistryError> {
        let (_, live) = self
            .write(actor.clone(), |unit, actor| {
                Box::pin(mark_restored(unit, actor, None))
            })
            .await?;
        Ok(live)
    }

    /// How large a copy would be, in bytes, before it is made.
    ///
    /// # Errors
    /// [`BackupError::Elsewhere`] on PostgreSQL.
    pub async fn size_of_backup(&self) -> Result<u64, BackupError> {
        if let Place::Postgres(_) = self.shared.place {
            return Err(BackupError::Elsewhere);
        }
        let connection = self.shared.pool.acquire().await;
        let mut connection = connection.map_err(RegistryError::from)?;
        let size = file::size_of_copy(&mut connection).await?;
        Ok(u64::try_from(size).unwrap_or(0))
    }

    /// Copies the registry into a new file (0600), with a manifest beside it. Others go on reading
    /// and writing meanwhile.
    ///
    /// # Errors
    /// [`BackupError::Elsewhere`] on PostgreSQL; [`BackupError::Exists`].
    pub async fn back_up(&self, actor: &Actor, to: &Path) -> Result<BackupManifest, BackupError> {
        if let Place::Postgres(_) = self.shared.place {
            return Err(BackupError::Elsewhere);
        }
        self.flush_uses().await?;
        let partial = file::sibling(to, ".partial");
        prepare(to, &partial)?;
        let made = self.copy(to, &partial).await;
        if made.is_err() {
            let _ = fs::remove_file(&partial);
        }
        let manifest = made?;
        let details = vec![
            ("sha256", manifest.sha256.clone()),
            ("audit_sequence", manifest.audit_sequence.to_string()),
        ];
        let summary = "The registry was copied into a backup";
        self.note(actor, AuditAction::RegistryBackedUp, summary, details)
            .await?;
        Ok(manifest)
    }

    async fn copy(&self, to: &Path, partial: &Path) -> Result<BackupManifest, BackupError> {
        let mut connection = self
            .shared
            .pool
            .acquire()
            .await
            .map_err(RegistryError::from)?;
        // What happens while it is copied may not be in it: nobody may think it is.
        let at = self.now();
        file::copy_into(&mut connection, partial).await?;
        drop(connection);
        let facts = read_copy(partial).await?;
        let (partial, to) = (partial.to_owned(), to.to_owned());
        blocking(move || {
            let copy = File::open(&partial)?;
            file::restrict(&copy)?;
            copy.sync_all()?;
            let (size, sha256) = digest(&partial)?;
            let manifest = BackupManifest {
                format: FORMAT.to_owned(),
                version: 1,
                at,
                size,
                sha256,
                ..facts
            };
            // The manifest first: a backup that exists has one.
            write_manifest(&to, &manifest)?;
            fs::rename(&partial, &to)?;
            sync_folder(&to)?;
            Ok(manifest)
        })
        .await
    }

    /// Checks that a backup is whole, is what its manifest says, and can be read by this program.
    ///
    /// # Errors
    /// [`BackupError::Damaged`]; [`RegistryError::SchemaTooNew`].
    pub async fn verify_backup(backup: &Path) -> Result<BackupManifest, BackupError> {
        sqlx::any::install_default_drivers();
        let path = backup.to_owned();
        let manifest = blocking(move || {
            let manifest = read_manifest(&path)?;
            let (size, sha256) = digest(&path)?;
            if size != manifest.size {
                return Err(damaged(&format!(
                    "it should hold {} bytes and holds {size}",
                    manifest.size
                )));
            }
            if sha256 != manifest.sha256 {
                return Err(damaged("its checksum is another one"));
            }
            Ok(manifest)
        })
        .await?;
        let known = Self::newest_schema();
        if manifest.schema > known {
            let found = manifest.schema;
            return Err(RegistryError::SchemaTooNew { found, known }.into());
        }
        let facts = read_copy(backup).await?;
        let says = |one: &BackupManifest| {
            let text = (one.registry_id.clone(), one.audit_hash.clone());
            (text, one.schema, one.audit_sequence, one.change_version)
        };
        if says(&facts) != says(&manifest) {
            return Err(damaged("its manifest belongs to another one"));
        }
        Ok(manifest)
    }

    /// Puts a backup back into a new place and opens it. The registry writes into its own trail
    /// that it was put back, and from when. `peppers` are those of the escrow file.
    ///
    /// # Errors
    /// [`BackupError::Exists`] if there is a registry already; [`BackupError::Damaged`].
    pub async fn restore_backup(
        actor: &Actor,
        backup: &Path,
        to: &Path,
        clock: Clock,
        peppers: &Peppers,
    ) -> Result<(Self, RestoreReport), BackupError> {
        let manifest = Self::verify_backup(backup).await?;
        // Under another name until it has the mark: nobody opens a copy without it.
        let partial = file::sibling(to, ".restoring");
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        prepare(to, &partial)?;
        let marked = put_back(actor, backup, &partial, clock.clone(), &manifest, peppers).await;
        let marked = match marked {
            Ok(marked) if !has_log(&partial) => Ok(marked),
            Ok(_) => Err(BackupError::File(
                "its log could not be written back".into(),
            )),
            Err(error) => Err(error),
        };
        if marked.is_err() {
            for suffix in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(file::sibling(&partial, suffix));
            }
        }
        let report = marked?;
        let (from, target) = (partial, to.to_owned());
        blocking(move || {
            let _ = fs::remove_file(file::sibling(&from, "-wal"));
            let _ = fs::remove_file(file::sibling(&from, "-shm"));
            fs::rename(&from, &target)?;
            sync_folder(&target)
        })
        .await?;
        tracing::warn!(
            backup_at = report.manifest.at,
            "the registry was put back from a backup: what was revoked since then works again"
        );
        Ok((Self::open(to, clock).await?, report))
    }
}

async fn put_back(
    actor: &Actor,
    backup: &Path,
    partial: &Path,
    clock: Clock,
    manifest: &BackupManifest,
    peppers: &Peppers,
) -> Result<RestoreReport, BackupError> {
    let (from, target) = (backup.to_owned(), partial.to_owned());
    let expected = manifest.sha256.clone();
    blocking(move || {
        fs::copy(&from, &target)?;
        let copy = File::open(&target)?;
        file::restrict(&copy)?;
        copy.sync_all()?;
        if digest(&target)?.1 != expected {
            return Err(damaged("it changed while it was copied"));
        }
        Ok(())
    })
    .await?;
    let registry = LocalRegistry::open(partial, clock).await?;
    let input = (actor.clone(), manifest.clone());
    let marked = registry
        .write(input, |unit, (actor, manifest)| {
            Box::pin(mark_restored(unit, actor, Some(manifest)))
        })
        .await;
    let needed = registry.list_peppers().await;
    registry.close().await;
    let (restored_at, live_secrets) = marked?;
    let missing_peppers = needed?
        .into_iter()
        .filter(|one| one.is_needed && peppers.find(&one.id).is_none())
        .map(|one| one.id)
        .collect();
    Ok(RestoreReport {
        manifest: manifest.clone(),
        restored_at,
        live_secrets,
        missing_peppers,
    })
}

async fn mark_restored(
    unit: &mut Unit,
    actor: &Actor,
    manifest: Option<&BackupManifest>,
) -> Result<(i64, i64), RegistryError> {
    unit.take_time().await?;
    let now = unit.now();
    let live = store::portable::count_live(unit.read()).await?;
    unit.skip_versions(VERSION_STEP);
    // One change at the new number: who followed the old log finds a gap and reads anew.
    let version = unit.change(Subject::Principal(crate::LOCAL_PRINCIPAL.to_owned()));
    store::portable::renumber(unit.write(), version).await?;
    let mut details = vec![("restored_at", now.to_string())];
    if let Some(manifest) = manifest {
        details.extend([
            ("backup_at", manifest.at.to_string()),
            ("backup_sha256", manifest.sha256.clone()),
            ("audit_sequence", manifest.audit_sequence.to_string()),
        ]);
    }
    details.push(("changes_from", version.to_string()));
    let summary = "The registry was put back from a backup: what changed after the backup, revocations too, is not in it".to_owned();
    let event = NewEvent::about_registry(AuditAction::RegistryRestored, summary);
    unit.audit(actor, NewEvent { details, ..event });
    Ok((now, live))
}

/// What a copy that nobody writes to says of itself, after every page of it was read.
async fn read_copy(path: &Path) -> Result<BackupManifest, BackupError> {
    let read = async {
        let options = AnyConnectOptions::from_str(&file::still_url(path))?;
        let mut connection = AnyConnection::connect_with(&options).await?;
        file::check_copy(&mut connection).await?;
        let schema = file::schema_version(&mut connection).await?;
        let head = store::portable::head(&mut connection).await?;
        connection.close().await?;
        Ok::<_, RegistryError>((schema, head))
    };
    let (schema, head) = read.await.map_err(|error| match error {
        RegistryError::Damaged(what) | RegistryError::Store(what) => BackupError::Damaged(what),
        other => other.into(),
    })?;
    Ok(BackupManifest {
        format: String::new(),
        version: 0,
        schema,
        registry_id: head.registry_id,
        at: 0,
        audit_sequence: head.audit_sequence,
        audit_hash: hex::encode(head.audit_hash.unwrap_or_default()),
        change_version: head.change_version,
        size: 0,
        sha256: String::new(),
    })
}

/// Refuses to write over anything, and makes the file that will be filled, readable by its owner only.
fn prepare(to: &Path, partial: &Path) -> Result<(), BackupError> {
    // The log of a registry that is gone would be taken for this one's.
    let beside = ["", "-wal", "-shm", "-journal"].map(|suffix| file::sibling(to, suffix));
    for path in beside.into_iter().chain([manifest_path(to)]) {
        // A dangling link counts: it would lead elsewhere.
        if fs::symlink_metadata(&path).is_ok() {
            return Err(BackupError::Exists(path.display().to_string()));
        }
    }
    // One that broke off earlier; a stranger's link is removed, not followed.
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(file::sibling(partial, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    create_private(partial)?;
    Ok(())
}

fn create_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn manifest_path(backup: &Path) -> PathBuf {
    file::sibling(backup, ".manifest.json")
}

fn write_manifest(backup: &Path, manifest: &BackupManifest) -> Result<(), BackupError> {
    let path = manifest_path(backup);
    let partial = file::sibling(&path, ".partial");
    let _ = fs::remove_file(&partial);
    let mut target = create_private(&partial)?;
    serde_json::to_writer_pretty(&mut target, manifest).map_err(std::io::Error::from)?;
    target.sync_all()?;
    fs::rename(&partial, &path)?;
    Ok(())
}

fn read_manifest(backup: &Path) -> Result<BackupManifest, BackupError> {
    let path = manifest_path(backup);
    let file = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged("its manifest is missing"),
        _ => error.into(),
    })?;
    let mut text = String::new();
    file.take(MAX_MANIFEST)
        .read_to_string(&mut text)
        .map_err(|_| damaged("its manifest cannot be read"))?;
    let manifest: BackupManifest =
        serde_json::from_str(&text).map_err(|_| damaged("its manifest cannot be read"))?;
    if manifest.format != FORMAT || manifest.version != 1 {
        return Err(damaged("its manifest is of another kind"));
    }
    Ok(manifest)
}

fn digest(path: &Path) -> Result<(u64, String), BackupError> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut block = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok((size, hex::encode(hasher.finalize())));
        }
        size += count as u64;
        hasher.update(&block[..count]);
    }
}

fn has_log(path: &Path) -> bool {
    fs::metadata(file::sibling(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0)
}

/// A rename is kept by the folder.
fn sync_folder(path: &Path) -> Result<(), BackupError> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    run_blocking(move || Ok(work())).await?
}

#[cfg(test)]
mod tests {
    use keywright_domain::audit::Actor;

    use super::*;

    #[tokio::test]
    async fn a_backup_is_as_old_as_its_beginning() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let to = folder.path().join("copy.db");
        let partial = file::sibling(&to, ".partial");
        // Time passes while pages are copied.
        let clock = Clock::from_fn(move || match fs::metadata(&partial) {
            Ok(copied) if copied.len() > 0 => 2,
            _ => 1,
        });
        let registry = LocalRegistry::open(&folder.path().join("registry.db"), clock).await?;
        let manifest = registry.back_up(&Actor::person("tester"), &to).await?;
        assert_eq!(manifest.at, 1);
        registry.close().await;
        Ok(())
    }
}
