//! Whose a data folder is. Root may write into anybody's, and what it makes there is its own: the server, which runs
//! as the folder's user, could not read it, and would not start again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use keywright_server::settings::Settings;

use super::shared::secrets_path;

/// Refuses to make files as root in the folder of another user. Every other user is refused by the system, or was
/// given the right. A folder that is not there yet is nobody's.
pub(super) fn check(data: &Path) -> Result<()> {
    let Some(owner) = owner_of(data) else {
        return Ok(());
    };
    if may_write(owner, own_id()) || is_given_to(data, owner) {
        return Ok(());
    }
    let name = name_of(owner);
    let way = if name.parse::<u32>().is_ok() {
        format!("setpriv --reuid {name} --clear-groups")
    } else {
        format!("runuser -u {name} --")
    };
    bail!(
        "{} is the folder of {name}, and you are root: the server, which runs as {name}, could not read what is written \
         there. Say `{way} keywright-server …`",
        data.display()
    );
}

/// The server's user: whoever made the secrets serves from them, also where a folder of somebody else's is mounted. Root
/// may have left them there instead: then something else that a server writes is the folder's user's.
fn owner_of(data: &Path) -> Option<u32> {
    let folder = fs::metadata(data).ok()?.uid();
    Some(match fs::metadata(secrets_path(data)) {
        Ok(secrets) if secrets.uid() == 0 && has_written(data, folder) => folder,
        Ok(secrets) => secrets.uid(),
        Err(_) => folder,
    })
}

/// Whether anything that a server writes is this user's.
fn has_written(data: &Path, user: u32) -> bool {
    let secrets = fs::read_dir(secrets_path(data)).into_iter().flatten();
    let secrets = secrets.flatten().map(|entry| entry.path());
    let own = ["registry.db", "served-from"].map(|name| data.join(name));
    own.into_iter()
        .chain(secrets)
        .any(|path| fs::metadata(path).is_ok_and(|found| found.uid() == user))
}

/// Whether root has all that a server writes in the folder of another user, as far as root can tell: right where root
/// serves from it, and wrong where the folder alone was given to whoever does.
pub(super) fn is_roots_in_anothers(data: &Path) -> bool {
    let is_anothers = fs::metadata(data).is_ok_and(|folder| folder.uid() != 0);
    own_id() == 0 && is_anothers && owner_of(data) == Some(0)
}

/// Some file systems give every file one owner, whoever makes it: then nothing can go wrong.
fn is_given_to(data: &Path, owner: u32) -> bool {
    let made = tempfile::NamedTempFile::new_in(data);
    let found = made.and_then(|file| file.as_file().metadata());
    found.is_ok_and(|found| found.uid() == owner)
}

/// The settings, secrets and database of a folder that its user cannot read.
pub(super) fn unreadable(settings: &Settings, file: &Path) -> Vec<PathBuf> {
    let Ok(folder) = fs::metadata(&settings.data) else {
        return Vec::new();
    };
    let user = owner_of(&settings.data).unwrap_or_else(|| folder.uid());
    let mut looked_at = vec![file.to_owned()];
    for name in [
        "registry.db",
        "registry.db-wal",
        "registry.db-shm",
        "served-from",
    ] {
        looked_at.push(settings.data.join(name));
    }
    let secrets = secrets_path(&settings.data);
    looked_at.push(secrets.clone());
    for entry in fs::read_dir(secrets).into_iter().flatten().flatten() {
        // What else lies there is no secret of the server.
        if entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "key")
        {
            looked_at.push(entry.path());
        }
    }
    looked_at.sort_unstable();
    looked_at.retain(|path| {
        // Who looks as the server's user knows by trying: groups and lists of access count too.
        if own_id() != 0 {
            return is_refused(path);
        }
        fs::metadata(path).is_ok_and(|found| {
            !may_read((found.uid(), found.gid(), found.mode()), user, folder.gid())
        })
    });
    looked_at
}

fn is_refused(path: &Path) -> bool {
    let tried = if path.is_dir() {
        fs::read_dir(path).map(drop)
    } else {
        fs::File::open(path).map(drop)
    };
    tried.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The name of a folder's user, for whoever is told what to do.
pub(super) fn name_of_owner(data: &Path) -> String {
    owner_of(data).map_or_else(|| "its user".into(), name_of)
}

fn own_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn may_write(owner: u32, own: u32) -> bool {
    own != 0 || owner == 0
}

/// `file`: user, group and mode.
fn may_read(file: (u32, u32, u32), user: u32, group: u32) -> bool {
    let (owner, its_group, mode) = file;
    user == 0 || owner == user || mode & 0o004 != 0 || (its_group == group && mode & 0o040 != 0)
}

/// From the file alone: users that a network knows are told by their number.
fn name_of(id: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = id.to_string();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    found.unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_alone_is_refused_in_the_folder_of_another() {
        assert!(!may_write(998, 0));
        assert!(may_write(0, 0) && may_write(998, 998));
        // A volume that the system lets a group write into.
        assert!(may_write(0, 998));
    }

    #[test]
    fn a_file_is_read_by_its_user_its_group_and_whoever_everybody_is() {
        for (file, wanted) in [
            ((998, 998, 0o600), true),
            ((0, 0, 0o600), false),
            ((0, 0, 0o644), true),
            ((0, 998, 0o640), true),
            ((0, 998, 0o600), false),
            ((0, 7, 0o640), false),
        ] {
            assert_eq!(may_read(file, 998, 998), wanted, "{file:?}");
        }
        assert!(may_read((998, 998, 0o600), 0, 0), "the server is root's");
    }

    #[test]
    fn a_user_is_told_by_name() {
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(4_294_967_290), "4294967290");
    }
}
