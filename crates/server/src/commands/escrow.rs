//! `keywright-server escrow`: settings and secrets in one sealed file, without the database.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::backup;
use super::installation::Installation;
use super::shared::read_secret;

/// Seals settings, master key and peppers into one file, to be kept where the database's backups are
/// not. Signing keys are in the database, sealed under the master key: the two together are everything.
/// `restore --from FILE` puts it back. Make it anew when a pepper was added.
#[derive(Debug, clap::Args)]
pub(crate) struct Escrow {
    #[command(flatten)]
    installation: Installation,
    /// The file to be made.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with the passphrase; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
}

impl Escrow {
    pub(crate) async fn run(self) -> Result<()> {
        let passphrase = read_secret(&self.passphrase_file)?;
        let packed = backup::write(&self.installation, &self.out, &passphrase, false).await?;
        packed.tell();
        println!("{}", json!({ "escrow": self.out }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keywright_domain::SecretText;
    use keywright_server::ServerSecrets;

    use super::*;
    use crate::commands::restore::restore;
    use crate::commands::shared::secrets_path;
    use crate::commands::shared::tests::set_up_folder;

    #[tokio::test]
    async fn ac_203_secrets_come_back_from_escrow_and_open_a_database_that_was_copied() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("escrow.age");
        let words = |text: &str| SecretText::new(text.to_owned());
        assert!(
            backup::write(&Installation::of(data), &file, &words("short"), false)
                .await
                .is_err()
        );
        let good = words("correct horse battery");
        let installation = Installation::of(data);
        backup::write(&installation, &file, &good, false)
            .await
            .unwrap();
        let sealed = fs::read(&file).unwrap();
        for secret in fs::read_dir(secrets_path(data)).unwrap().flatten() {
            let text = fs::read(secret.path()).unwrap();
            assert!(!sealed.windows(20).any(|part| part == &text[..20]));
        }
        let new = out.path().join("new");
        assert!(
            restore(
                &Installation::of(&new),
                &file,
                &words("incorrect horse battery"),
                true
            )
            .await
            .is_err()
        );
        assert!(
            restore(&Installation::of(&new), &file, &good, true)
                .await
                .unwrap()
                .is_none()
        );
        assert!(!new.join("registry.db").exists());
        // The database comes by another way: copied while nobody writes, or by pg_dump.
        fs::copy(data.join("registry.db"), new.join("registry.db")).unwrap();
        let (_, registry) = Installation::of(&new).open().await.unwrap();
        let secrets = ServerSecrets::open(&secrets_path(&new)).unwrap();
        let keys = keywright_server::check_signing_keys(&registry, &secrets)
            .await
            .unwrap();
        assert!(!keys.is_empty());
        assert!(
            keys.iter()
                .all(|(_, one)| *one == keywright_server::KeyFinding::Good)
        );
        let peppers = registry.list_peppers().await.unwrap();
        let ids: Vec<String> = peppers.into_iter().map(|one| one.id).collect();
        assert!(secrets.peppers(&ids).unwrap().is_some());
        registry.close().await;
    }
}
