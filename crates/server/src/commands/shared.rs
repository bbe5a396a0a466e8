//! What several commands do: open a data folder, read a secret from a file.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keywright_domain::SecretText;
use keywright_registry::{Clock, LocalRegistry, Place};
use keywright_server::ServerSecrets;
use keywright_server::settings::{DatabaseAddress, Settings};

/// The settings file of a data folder.
pub(crate) fn settings_path(data: &Path) -> PathBuf {
    data.join("server.toml")
}

/// The folder of the secrets.
pub(crate) fn secrets_path(data: &Path) -> PathBuf {
    data.join("secrets")
}

/// Where the registry of these settings is.
pub(crate) fn place(settings: &Settings) -> Place {
    match &settings.database {
        Some(address) => Place::Postgres(address.expose().to_owned()),
        None => Place::File(settings.data.join("registry.db")),
    }
}

/// Opens the registry that settings name, and makes it where there is none: for what sets a server up.
/// Everything else goes by [`super::installation::Installation::open`].
pub(crate) async fn open_or_make(settings: &Settings) -> Result<LocalRegistry> {
    Ok(match &settings.database {
        Some(address) => {
            LocalRegistry::open_postgres(DatabaseAddress::expose(address), Clock::system()).await?
        }
        None => LocalRegistry::open(&settings.data.join("registry.db"), Clock::system()).await?,
    })
}

/// Opens the secrets of a data folder.
pub(crate) fn open_secrets(data: &Path) -> Result<ServerSecrets> {
    Ok(ServerSecrets::open(&secrets_path(data))?)
}

/// Reads JSON from a file.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// Reads a secret from a file, or from standard input for `-`: never from an argument, which every
/// process of the machine can read.
pub(crate) fn read_secret(path: &Path) -> Result<SecretText> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    }
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
    if trimmed.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(SecretText::new(trimmed.to_owned()))
}

#[cfg(test)]
pub(crate) mod tests {
    use keywright_server::settings::SettingsFile;
    use keywright_server::{FirstOwner, PasswordHasher, Server, set_up};

    use super::*;

    /// A data folder as `init` makes it, that was served once.
    pub(crate) async fn set_up_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        let file = SettingsFile {
            issuer: "http://127.0.0.1:8377".into(),
            ..SettingsFile::default()
        };
        file.write(&settings_path(&data)).unwrap();
        let settings = file.settings(data.clone()).unwrap();
        let secrets = ServerSecrets::create(&secrets_path(&data)).unwrap();
        let registry = open_or_make(&settings).await.unwrap();
        let password = SecretText::new("correct horse battery".into());
        let owner = FirstOwner {
            email: "owner@example.org".into(),
            name: "Owner".into(),
            password_hash: PasswordHasher::new(1)
                .unwrap()
                .hash(&password)
                .await
                .unwrap(),
        };
        set_up(&registry, &secrets, &owner).await.unwrap();
        let server = Server::build(settings, registry, secrets, Clock::system())
            .await
            .unwrap();
        server.close().await;
        folder
    }
}
