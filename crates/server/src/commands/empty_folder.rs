//! `serve` on a folder with nothing in it: settings, secrets and a database are made, and the rest is
//! done in a browser.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use keywright_server::settings::SettingsFile;
use keywright_server::{ServerSecrets, prepare};

use super::shared::{open_or_make, secrets_path, settings_path};

const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8377);

/// Whether there is nothing yet: no settings, no secrets, no database.
pub(crate) fn is_empty(data: &Path) -> bool {
    !settings_path(data).exists()
        && !secrets_path(data).exists()
        && !data.join("registry.db").exists()
}

/// Makes what a server needs to start. `database`: PostgreSQL's address, for none the embedded one. It
/// is written down, so that commands find the same registry.
pub(crate) async fn fill(
    data: &Path,
    listen: Option<SocketAddr>,
    database: Option<String>,
) -> Result<()> {
    let listen = listen.unwrap_or(USUAL);
    // The issuer never changes: who serves others must say what they call this server.
    if !listen.ip().is_loopback() {
        bail!(
            "{} is empty, and {listen} is not this machine: run `keywright-server init --data {} \
             --issuer https://…` first",
            data.display(),
            data.display()
        );
    }
    if listen.port() == 0 {
        bail!(
            "{} is empty: name a port, it becomes part of the issuer",
            data.display()
        );
    }
    let file = SettingsFile {
        issuer: format!("http://{listen}"),
        listen: Some(listen),
        database,
        ..SettingsFile::default()
    };
    let settings = file.settings(data.to_owned())?.check()?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("{}", data.display()))?;
    let secrets = ServerSecrets::create(&secrets_path(data))?;
    let registry = open_or_make(&settings).await?;
    let prepared = prepare(&registry, &secrets).await;
    registry.close().await;
    prepared?;
    // Last, as in `init`.
    file.write(&settings_path(data))?;
    eprintln!("made {} for {}", data.display(), file.issuer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_empty_folder_gets_what_a_server_needs() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(is_empty(&data));
        let listen = |text: &str| Some(text.parse().unwrap());
        for refused in ["0.0.0.0:1", "127.0.0.1:0"] {
            assert!(fill(&data, listen(refused), None).await.is_err());
            assert!(!data.exists(), "{refused}");
        }
        fill(&data, listen("127.0.0.1:9001"), None).await.unwrap();
        assert!(!is_empty(&data));
        let installation = super::super::installation::Installation::of(&data);
        let (settings, registry) = installation.open().await.unwrap();
        assert_eq!(settings.issuer.as_str(), "http://127.0.0.1:9001");
        let secrets = super::super::shared::open_secrets(&data).unwrap();
        let pepper = registry.pepper_id().await.unwrap().unwrap();
        assert!(secrets.pepper(&pepper).is_ok());
        registry.close().await;
    }
}
