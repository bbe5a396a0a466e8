//! The app's folder: `KEYWRIGHT_HOME`, or the user's data folder. All of its files are in there.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The app's identifier, and the service name of its keychain entries.
const IDENTIFIER: &str = "dev.keywright.desktop";
const VARIABLE: &str = "KEYWRIGHT_HOME";

/// The folder that holds all files of one installation of the app.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
    from_environment: bool,
    identifier: String,
}

/// Why there is no folder to work in.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The system does not say where the user's data folder is.
    #[error("this system does not say where your data folder is")]
    Unknown,
    /// The folder cannot be made or read.
    #[error("the folder {path} cannot be used: {reason}")]
    Unusable {
        /// The folder.
        path: String,
        /// What the system said.
        reason: String,
    },
}

impl HomeError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "home_unknown",
            Self::Unusable { .. } => "home_unusable",
        }
    }
}

impl Home {
    /// Finds the folder, making it (0700) where missing.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn from_environment() -> Result<Self, HomeError> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(folder) => Self::at(Path::new(&folder)),
            None => {
                let folders = directories::ProjectDirs::from("dev", "", "Keywright")
                    .ok_or(HomeError::Unknown)?;
                let folder = make(folders.data_dir())?;
                Ok(Self {
                    folder,
                    from_environment: false,
                    identifier: IDENTIFIER.to_owned(),
                })
            }
        }
    }

    /// A home of its own: its keychain entries and its single instance are set apart by the
    /// folder's path, so that two homes do not meet.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn at(folder: &Path) -> Result<Self, HomeError> {
        let folder = make(folder)?;
        let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
        let identifier = format!("{IDENTIFIER}.h{}", &hex::encode(digest)[..10]);
        Ok(Self {
            folder,
            from_environment: true,
            identifier,
        })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether `KEYWRIGHT_HOME` (or a test) chose it.
    #[must_use]
    pub fn is_from_environment(&self) -> bool {
        self.from_environment
    }

    /// Names this home among the running instances of the app.
    #[must_use]
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The service name of this home's keychain entries.
    #[must_use]
    pub fn keychain_service(&self) -> &str {
        &self.identifier
    }

    /// The registry.
    #[must_use]
    pub fn registry_file(&self) -> PathBuf {
        self.folder.join("registry.db")
    }

    /// The settings.
    #[must_use]
    pub fn settings_file(&self) -> PathBuf {
        self.folder.join("settings.json")
    }

    /// The encrypted file, where a person chose one in place of a keychain.
    #[must_use]
    pub fn vault_file(&self) -> PathBuf {
        self.folder.join("vault.sealed")
    }

    /// The log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("logs").join("keywright.log")
    }

    /// What is kept of registries on servers.
    #[must_use]
    pub fn servers_folder(&self) -> PathBuf {
        self.folder.join("servers")
    }

    /// Locks between processes.
    #[must_use]
    pub fn locks_folder(&self) -> PathBuf {
        self.folder.join("locks")
    }
}

fn make(folder: &Path) -> Result<PathBuf, HomeError> {
    let unusable = |error: std::io::Error| HomeError::Unusable {
        path: folder.display().to_string(),
        reason: error.to_string(),
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(unusable)?;
    folder.canonicalize().map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_homes_have_two_identifiers_and_one_home_has_one()
    -> Result<(), Box<dyn std::error::Error>> {
        let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let identifier = |folder: &Path| Home::at(folder).map(|home| home.identifier().to_owned());
        assert_ne!(identifier(one.path())?, identifier(two.path())?);
        assert_eq!(identifier(one.path())?, identifier(&one.path().join("."))?);
        Ok(())
    }

    #[test]
    fn a_file_in_the_way_is_told() -> Result<(), Box<dyn std::error::Error>> {
        let file = tempfile::NamedTempFile::new()?;
        let error = Home::at(file.path())
            .map(|_| ())
            .expect_err("a file is no folder");
        assert_eq!(error.code(), "home_unusable");
        Ok(())
    }
}
