//! Which server a command is about: its folder, its settings and its registry, said in the same way to
//! every command. A command that worked on another registry than the server's would say that all is
//! well and change nothing, so whatever does not fit together is refused.

use std::convert::Infallible;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use keywright_registry::LocalRegistry;
use keywright_server::settings::{DatabaseAddress, Settings, SettingsFile};
use url::Url;

use super::owner;
use super::shared::{open_or_make, place, settings_path};

/// Where in PostgreSQL the folder's registry was when it was last served; without name and password.
const SERVED_FROM: &str = "served-from";

/// Folder, settings and registry of a server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Installation {
    /// Folder of settings, secrets and the embedded database.
    #[arg(long, env = "KEYWRIGHT_SERVER_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Settings file in place of `server.toml` in the data folder.
    #[arg(long, env = "KEYWRIGHT_SERVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// PostgreSQL in place of the embedded database: `postgres://…`.
    #[arg(
        long,
        env = "KEYWRIGHT_SERVER_DATABASE",
        value_name = "URL",
        hide_env_values = true,
        value_parser = address
    )]
    database: Option<DatabaseAddress>,
}

/// It may hold a password, and arguments can be printed.
#[expect(clippy::unnecessary_wraps, reason = "clap's parsers return results")]
pub(super) fn address(text: &str) -> Result<DatabaseAddress, Infallible> {
    Ok(DatabaseAddress::new(text.to_owned()))
}

impl Installation {
    /// The folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// PostgreSQL's address, if it was said beside the file.
    pub(crate) fn address(&self) -> Option<String> {
        let address = self.database.as_ref();
        address.map(|address| address.expose().to_owned())
    }

    /// Whether the settings are in another file than the folder's own.
    pub(crate) fn has_own_file(&self) -> bool {
        self.config.is_some()
    }

    /// The settings file.
    pub(crate) fn settings_file(&self) -> PathBuf {
        let own = || settings_path(&self.data);
        self.config.clone().unwrap_or_else(own)
    }

    /// Refuses to make files in the folder of another user, for whom they would be closed. For commands that make
    /// some.
    pub(crate) fn check_owner(&self) -> Result<()> {
        owner::check(&self.data)
    }

    /// The file's settings, then the address that was said beside it; not yet checked.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let path = self.settings_file();
        if !path.exists() {
            bail!(
                "there is no {}: run `keywright-server init --data {}` first",
                path.display(),
                self.data.display()
            );
        }
        let mut settings = SettingsFile::read(&path)?.settings(self.data.clone())?;
        if let Some(address) = &self.database {
            settings.database = Some(address.clone());
        }
        Ok(settings)
    }

    /// Settings and registry, for a command.
    pub(crate) async fn open(&self) -> Result<(Settings, LocalRegistry)> {
        let settings = self.settings()?;
        let registry = self.open_as(&settings).await?;
        Ok((settings, registry))
    }

    /// The registry of these settings. It is never made: a command without the server's address would
    /// find an empty one.
    pub(crate) async fn open_as(&self, settings: &Settings) -> Result<LocalRegistry> {
        self.check(settings)?;
        if LocalRegistry::stored_schema(&place(settings))
            .await?
            .is_none()
        {
            bail!("there is no registry in {}", where_it_is(settings));
        }
        open_or_make(settings).await
    }

    /// Refuses settings that lead to another registry than the one that the folder was last served
    /// from, unless its address was said to this very command.
    pub(crate) fn check(&self, settings: &Settings) -> Result<()> {
        self.check_serving(settings)?;
        let (Some(address), Some(served)) = (&settings.database, self.served_from()?) else {
            return Ok(());
        };
        let own = label(address);
        if own == served || self.database.is_some() || self.has_own_file() {
            return Ok(());
        }
        bail!(
            "{} says that the registry is in {own}, and it was last served from {served}: \
             say which with --database or KEYWRIGHT_SERVER_DATABASE",
            self.settings_file().display()
        );
    }

    /// Refuses the embedded database where it is not the folder's registry.
    pub(crate) fn check_serving(&self, settings: &Settings) -> Result<()> {
        if settings.database.is_some() {
            return Ok(());
        }
        if let Some(served) = self.served_from()? {
            bail!(
                "the registry of {} is in PostgreSQL, and was last served from {served}: give its \
                 address with --database or KEYWRIGHT_SERVER_DATABASE, or write it into {}. If the \
                 registry came back into this folder, remove {}",
                self.data.display(),
                self.settings_file().display(),
                self.data.join(SERVED_FROM).display()
            );
        }
        let file = self.data.join("registry.db");
        if !file.exists() {
            bail!(
                "there is no {}: give the registry's address with --database or \
                 KEYWRIGHT_SERVER_DATABASE where it is in PostgreSQL, or restore a backup",
                file.display()
            );
        }
        Ok(())
    }

    /// Writes down where in PostgreSQL the registry is that is being served, for commands that are not
    /// told. A folder that cannot be written is served all the same.
    pub(crate) fn remember(&self, settings: &Settings) {
        let Some(address) = &settings.database else {
            return;
        };
        let own = label(address);
        let before = self.served_from().ok().flatten();
        if before.as_deref() == Some(own.as_str()) {
            return;
        }
        if let Some(before) = before {
            tracing::warn!(before, now = own, "another database than before is served");
        }
        let write = || -> Result<()> {
            // 0600, and whole or not at all: several nodes may share the folder.
            let mut file = tempfile::NamedTempFile::new_in(&self.data)?;
            writeln!(file, "{own}")?;
            file.as_file().sync_all()?;
            file.persist(self.data.join(SERVED_FROM))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "commands will not know where the registry is: say --database to each");
        }
    }

    fn served_from(&self) -> Result<Option<String>> {
        match fs::read_to_string(self.data.join(SERVED_FROM)) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn where_it_is(settings: &Settings) -> String {
    match &settings.database {
        Some(address) => label(address),
        None => settings.data.display().to_string(),
    }
}

/// What tells one database from another in an address, without who asks and what proves it.
fn label(address: &DatabaseAddress) -> String {
    let Ok(mut url) = Url::parse(address.expose()) else {
        return "PostgreSQL".to_owned();
    };
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| matches!(&**name, "host" | "hostaddr" | "port" | "dbname"))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    // An address without a host has nobody in it either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::shared::tests::set_up_folder;

    impl Installation {
        /// What a command has that was told nothing but the folder.
        pub(crate) fn of(data: &Path) -> Self {
            Self {
                data: data.to_owned(),
                config: None,
                database: None,
            }
        }

        fn at(&self, url: &str) -> Self {
            Self {
                database: Some(DatabaseAddress::new(url.to_owned())),
                ..self.clone()
            }
        }
    }

    #[test]
    fn a_label_has_neither_name_nor_password() {
        for (address, shown) in [
            (
                "postgres://kw:s3cret@db.example:5433/keys?sslmode=require&password=s3cret",
                "postgres://db.example:5433/keys",
            ),
            (
                "postgres:///keys?host=/run/postgresql&user=kw",
                "postgres:///keys?host=%2Frun%2Fpostgresql",
            ),
            ("host=db password=s3cret", "PostgreSQL"),
        ] {
            let address = DatabaseAddress::new(address.to_owned());
            assert_eq!(label(&address), shown);
            let told = Installation::of(Path::new("d")).at(address.expose());
            assert!(!format!("{told:?}").contains("s3cret"));
        }
    }

    #[tokio::test]
    async fn a_folder_knows_that_its_registry_is_elsewhere() {
        let folder = set_up_folder().await;
        let told = Installation::of(folder.path());
        let embedded = told.settings().unwrap();
        told.check(&embedded).unwrap();
        told.remember(&embedded);
        told.check(&embedded).expect("it is served from here");

        let away = told.at("postgres://kw:s3cret@db.example/keys");
        away.remember(&away.settings().unwrap());
        let written = fs::read_to_string(folder.path().join(SERVED_FROM)).unwrap();
        assert_eq!(written, "postgres://db.example/keys\n");
        for refused in [told.check(&embedded), told.check_serving(&embedded)] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("postgres://db.example/keys"), "{text}");
            assert!(text.contains("--database"), "{text}");
        }
        assert!(told.open().await.is_err());
        away.check(&away.settings().unwrap()).unwrap();

        // The file names another one: only who says so means it.
        let mut other = embedded.clone();
        other.database = Some(DatabaseAddress::new("postgres://old.example/keys".into()));
        let text = told.check(&other).unwrap_err().to_string();
        assert!(text.contains("old.example") && text.contains("db.example"));
        told.check_serving(&other)
            .expect("who serves says where it is");
        other.database = Some(DatabaseAddress::new("postgres://me@db.example/keys".into()));
        told.check(&other).expect("the same, by another name");
    }

    #[tokio::test]
    async fn a_command_makes_no_registry() {
        let folder = set_up_folder().await;
        let told = Installation::of(folder.path());
        fs::remove_file(folder.path().join("registry.db")).unwrap();
        let text = told.open().await.unwrap_err().to_string();
        assert!(text.contains("registry.db"), "{text}");
        assert!(told.check_serving(&told.settings().unwrap()).is_err());
        assert!(!folder.path().join("registry.db").exists());
    }
}
