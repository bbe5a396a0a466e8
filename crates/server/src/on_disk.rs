//! Files that must be there after a power cut: written under another name, whole, and named afterwards; and
//! the name is on the disk too, which POSIX promises of no file by itself.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file (0600) that must not be there yet.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where it is; others if it cannot be written.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = write_beside(path, bytes)?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder_of(path)
}

/// Writes a file (0600), in the place of one that may be there.
///
/// # Errors
/// It cannot be written: then the old one is as it was.
pub(crate) fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = write_beside(path, bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder_of(path)
}

/// Puts the names in a file's folder on the disk.
///
/// # Errors
/// The folder cannot be read, or the disk failed.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new("."));
    if folder.as_os_str().is_empty() {
        return Path::new(".");
    }
    folder
}

fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}
