//! Files as targets: read whole, replaced at once or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Reason;

/// A larger file is not one that a secret is delivered into.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Permissions of a new file: its owner's alone.
pub(super) const PRIVATE: u32 = 0o600;

/// A file as it was.
pub(super) struct Content {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Permission bits; without meaning where the system has none.
    pub(super) mode: u32,
}

/// The file, if it exists.
pub(super) async fn read(path: &Path) -> Result<Option<Content>, Reason> {
    let path = path.to_owned();
    blocking(move || match File::open(&path) {
        Ok(mut file) => {
            let about = file.metadata()?;
            if !about.is_file() {
                return Err(io::Error::other("this is not a file"));
            }
            if about.len() > LARGEST {
                return Err(io::Error::other("the file is too large"));
            }
            let mut bytes = Zeroizing::new(Vec::with_capacity(about.len() as usize + 1));
            file.read_to_end(&mut bytes)?;
            let mode = mode_of(&about);
            Ok(Some(Content { bytes, mode }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    })
    .await
}

/// Puts a file in the place of another: whoever reads meanwhile sees the one or the other.
pub(super) async fn replace(
    path: &Path,
    bytes: Zeroizing<Vec<u8>>,
    mode: u32,
) -> Result<(), Reason> {
    let path = path.to_owned();
    blocking(move || {
        let folder = folder_of(&path)?;
        // Made with 0600, so that nobody else reads it before it has its own permissions.
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(&bytes)?;
        set_mode(new.as_file(), mode)?;
        new.as_file().sync_all()?;
        new.persist(&path).map_err(|error| error.error)?;
        sync_folder(folder)
    })
    .await
}

/// Removes a file that was not there before.
pub(super) async fn remove(path: &Path) -> Result<(), Reason> {
    let path: PathBuf = path.to_owned();
    blocking(move || match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_folder(folder_of(&path)?),
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Reason> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    path.parent()
        .ok_or_else(|| io::Error::other("this path has no folder"))
}

#[cfg(unix)]
fn mode_of(about: &fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o7777
}

#[cfg(not(unix))]
fn mode_of(_about: &fs::Metadata) -> u32 {
    PRIVATE
}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Makes the new name last over a power cut.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
