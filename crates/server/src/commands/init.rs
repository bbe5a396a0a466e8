//! `keywright-server init`: once for each data folder.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use keywright_domain::SecretText;
use keywright_server::settings::{Settings, SettingsFile};
use keywright_server::{FirstOwner, PasswordHasher, ServerSecrets, set_up};

use super::installation::Installation;
use super::shared::{open_or_make, read_secret, secrets_path};

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    #[command(flatten)]
    installation: Installation,
    /// The address by which people and programs reach the server; it never changes afterwards.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Address of the first owner.
    #[arg(long, value_name = "EMAIL")]
    admin_email: String,
    /// Name of the first owner.
    #[arg(long, value_name = "NAME", default_value = "Owner")]
    admin_name: String,
    /// File with the first owner's password; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    admin_password_file: PathBuf,
}

impl Init {
    pub(crate) async fn run(self) -> Result<()> {
        let data = self.installation.data();
        let path = self.installation.settings_file();
        if path.exists() {
            bail!(
                "{} is set up already: `keywright-server serve --data {}`",
                data.display(),
                data.display()
            );
        }
        // Everything that can be refused comes before anything is written.
        self.installation.check_owner()?;
        Settings::new(&self.issuer, data.to_owned())?.check()?;
        let password: SecretText = read_secret(&self.admin_password_file)?;
        let hasher = PasswordHasher::new(1)?;
        let password_hash = hasher.hash(&password).await?;

        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .with_context(|| format!("{}", data.display()))?;
        let file = SettingsFile {
            issuer: self.issuer.clone(),
            database: self.installation.address(),
            ..SettingsFile::default()
        };
        let settings = file.settings(data.to_owned())?;
        let secrets = ServerSecrets::create(&secrets_path(data))?;
        let registry = open_or_make(&settings).await?;
        let owner = FirstOwner {
            email: self.admin_email.clone(),
            name: self.admin_name.clone(),
            password_hash,
        };
        let root = set_up(&registry, &secrets, &owner).await?;
        registry.close().await;
        // Last: a folder whose set-up was cut short is set up again.
        file.write(&path)?;
        eprintln!("set up {} for {}", data.display(), self.issuer);
        eprintln!("the root key, shown once and stored nowhere:");
        println!("{}", root.expose());
        eprintln!(
            "whoever loses {} loses every key: `keywright-server escrow --data {} --out FILE --passphrase-file F` makes a copy",
            secrets_path(data).display(),
            data.display()
        );
        Ok(())
    }
}
