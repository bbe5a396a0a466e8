//! `keywright-server backup`: settings, secrets and the embedded database in one file, sealed under a
//! passphrase in age's format. Its content is a line of JSON with names and sizes, then the files.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_registry::{MAX_ARCHIVE, seal_archive};
use keywright_server::{ServerSecrets, sync_folder_of};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::installation::Installation;
use super::shared::{read_secret, secrets_path};

pub(super) const FORMAT: &str = "keywright-server-backup";
pub(super) const DATABASE: &str = "registry.db";
pub(super) const MANIFEST: &str = "registry.db.manifest.json";
pub(super) const SETTINGS: &str = "server.toml";
pub(super) const SECRETS: &str = "secrets/";
/// Most that one file holds, in bytes: all of it is in memory, and sealed text is longer.
const MOST: u64 = MAX_ARCHIVE as u64 / 2;

/// Writes settings, secrets and the embedded database into one sealed file, at most 2 GiB. The server may
/// run meanwhile. With PostgreSQL the database is not in it: use PostgreSQL's own backups.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    installation: Installation,
    /// The file to be made.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with the passphrase; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
}

/// The first line of a backup.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) files: Vec<Entry>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: usize,
}

impl Backup {
    pub(crate) async fn run(self) -> Result<()> {
        let passphrase = read_secret(&self.passphrase_file)?;
        let with_database = self.installation.settings()?.database.is_none();
        let packed = back_up(&self.installation, &self.out, &passphrase).await?;
        packed.tell();
        if !with_database {
            eprintln!(
                "the database is in PostgreSQL and is not in this file. Its own backup (pg_dump --format=custom) has to be the older \
                 of the two: what it needs of peppers is in this file then, whatever was added in between"
            );
        }
        println!(
            "{}",
            json!({ "backup": self.out, "database": with_database })
        );
        // The file is there: what is left is worth more than nothing. But nobody must take it for whole.
        if !packed.missing_peppers.is_empty() {
            bail!(
                "the backup is made, and peppers that the registry needs are not in it, because they cannot be read in {}: {:?}. \
                 Put their copies back, then make it again",
                secrets_path(self.installation.data()).display(),
                packed.missing_peppers
            );
        }
        Ok(())
    }
}

/// What did not come into a file.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Names among the secrets that the server did not write: an editor's copy, the rest of a write that was
    /// cut short.
    pub(super) left_out: Vec<String>,
    /// Peppers that the registry needs and that are not in the folder, or cannot be used. Not looked for without the database.
    pub(super) missing_peppers: Vec<String>,
}

impl Packed {
    /// Says on standard error what was left out.
    pub(super) fn tell(&self) {
        for name in &self.left_out {
            eprintln!("left out, because it is no secret of the server: {SECRETS}{name}");
        }
    }
}

/// Whether a name among the secrets is packed, and put back: plain ones. One question for both sides, so
/// that what is packed comes back.
pub(super) fn is_packed(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

/// Writes the file, with the database where it is the embedded one.
pub(super) async fn back_up(
    installation: &Installation,
    out: &Path,
    passphrase: &SecretText,
) -> Result<Packed> {
    let settings = installation.settings()?;
    installation.check(&settings)?;
    let with_database = settings.database.is_none();
    write(installation, out, passphrase, with_database).await
}

/// Writes settings and secrets, with the embedded database or without.
pub(super) async fn write(
    installation: &Installation,
    out: &Path,
    passphrase: &SecretText,
    with_database: bool,
) -> Result<Packed> {
    write_within(installation, out, passphrase, with_database, MOST).await
}

async fn write_within(
    installation: &Installation,
    out: &Path,
    passphrase: &SecretText,
    with_database: bool,
    most: u64,
) -> Result<Packed> {
    if fs::symlink_metadata(out).is_ok() {
        bail!("{} is there already", out.display());
    }
    let (settings, data) = (installation.settings()?, installation.data());
    // Refuses a master key that is missing, weak or a link: it could not be used after `restore` either.
    let own = ServerSecrets::open(&secrets_path(data))?;
    // Beside the database, so that no copy of it ever lies where others can read.
    let scratch = tempfile::Builder::new()
        .prefix(".backup")
        .tempdir_in(data)?;
    let mut paths = vec![(SETTINGS.to_owned(), installation.settings_file())];
    let mut needed: Vec<String> = Vec::new();
    if with_database {
        let registry = installation.open_as(&settings).await?;
        let actor = Actor::person("keywright-server backup");
        let copy = scratch.path().join(DATABASE);
        let made = async {
            // Before it is copied: that takes minutes, and as much room again.
            check_size(registry.size_of_backup().await?, most)?;
            registry.back_up(&actor, &copy).await?;
            anyhow::Ok(registry.list_peppers().await?)
        };
        let made = made.await;
        registry.close().await;
        // The first one is in force, whether it was used yet or not.
        let known = made?.into_iter().enumerate();
        needed = known
            .filter(|(at, one)| *at == 0 || one.is_needed)
            .map(|(_, one)| one.id)
            .collect();
        paths.push((DATABASE.to_owned(), copy));
        paths.push((MANIFEST.to_owned(), scratch.path().join(MANIFEST)));
    }
    // After the database: a pepper is in the folder before a key is stored under it.
    let (secrets, left_out) = read_secrets(&secrets_path(data))?;
    let is_there = |id: &String| own.pepper(id).is_ok();
    if with_database && !own.pepper_ids()?.iter().any(is_there) {
        bail!(
            "no pepper in {} can be used: put its copy back",
            own.folder().display()
        );
    }
    let missing_peppers = needed.into_iter().filter(|id| !is_there(id));
    let packed = Packed {
        left_out,
        missing_peppers: missing_peppers.collect(),
    };
    let named = |(name, path)| (format!("{SECRETS}{name}"), path);
    paths.extend(secrets.into_iter().map(named));
    let passphrase = passphrase.clone();
    let sealed = tokio::task::spawn_blocking(move || -> Result<Vec<u8>> {
        let plain = pack(&paths, most)?;
        Ok(seal_archive(&plain, &passphrase)?)
    })
    .await??;
    write_new(out, &sealed).with_context(|| format!("{}", out.display()))?;
    Ok(packed)
}

/// What goes into a backup: its name there, and where it is.
type NamedFiles = Vec<(String, PathBuf)>;

/// The secrets to be packed, by name, and the names of what is left out.
fn read_secrets(folder: &Path) -> Result<(NamedFiles, Vec<String>)> {
    let (mut packed, mut left_out) = (Vec::new(), Vec::new());
    for found in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let found = found?;
        let name = found.file_name().to_string_lossy().into_owned();
        if found.file_type()?.is_file() && is_packed(&name) {
            packed.push((name, found.path()));
        } else {
            left_out.push(name);
        }
    }
    left_out.sort_unstable();
    Ok((packed, left_out))
}

fn check_size(size: u64, most: u64) -> Result<()> {
    if size > most {
        bail!(
            "it would hold {size} bytes, and a backup in one file holds at most {most}. Take a snapshot of the whole \
             folder by the file system, or copy it while the server is stopped, and put it back by \
             `keywright-server put-back`"
        );
    }
    Ok(())
}

fn pack(paths: &[(String, PathBuf)], most: u64) -> Result<Zeroizing<Vec<u8>>> {
    let mut head = Head {
        format: FORMAT.to_owned(),
        version: 1,
        files: Vec::new(),
    };
    let mut total: u64 = 0;
    for (name, path) in paths {
        let size = fs::metadata(path)?.len();
        total = total.saturating_add(size);
        head.files.push(Entry {
            name: name.clone(),
            size: usize::try_from(size)?,
        });
    }
    check_size(total, most)?;
    let line = serde_json::to_vec(&head)?;
    let room = line.len() + 1 + usize::try_from(total)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(room));
    plain.extend_from_slice(&line);
    plain.push(b'\n');
    for ((name, path), entry) in paths.iter().zip(&head.files) {
        // Straight into its place: each copy of a database counts. One more than expected tells that it grew.
        let before = plain.len();
        let most = (entry.size as u64).saturating_add(1);
        fs::File::open(path)?.take(most).read_to_end(&mut plain)?;
        if plain.len() - before != entry.size {
            bail!("{name} changed while it was read: try again");
        }
    }
    Ok(plain)
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written?;
    sync_folder_of(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::shared::tests::set_up_folder;

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_it_is_copied() {
        let folder = set_up_folder().await;
        let told = Installation::of(folder.path());
        let out = folder.path().join("backup.age");
        let passphrase = SecretText::new("correct horse battery staple".into());
        let written = write_within(&told, &out, &passphrase, true, 1000).await;
        let text = written.expect_err("too large").to_string();
        assert!(text.contains("at most 1000"), "{text}");
        assert!(text.contains("put-back"), "{text}");
        assert!(!out.exists());
        let (_, registry) = told.open().await.unwrap();
        let size = registry.size_of_backup().await.unwrap();
        let query = keywright_registry::AuditQuery {
            limit: 100,
            ..keywright_registry::AuditQuery::default()
        };
        let events = registry.list_audit_events(query).await.unwrap().items;
        registry.close().await;
        assert!(
            events
                .iter()
                .all(|event| event.action != "registry.backed_up")
        );
        // What is said of a copy is what it takes.
        let copy = folder.path().join("copy.db");
        let (_, registry) = told.open().await.unwrap();
        let made = registry
            .back_up(&Actor::person("test"), &copy)
            .await
            .unwrap();
        registry.close().await;
        assert!(
            made.size <= size + 65_536 && size < made.size * 2,
            "{size} {made:?}"
        );
    }
}
