//! The settings file: read once, checked before it is written, written whole or not at all.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use keywright_protocol::settings::Settings;

use crate::home::Home;
use crate::{App, AppError};

/// Why settings were not taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value is out of its bounds.
    #[error("{0}")]
    Invalid(&'static str),
    /// The extra CA file cannot be read as PEM certificates.
    #[error("the extra CA file cannot be used: {0}")]
    CaFile(String),
    /// The file cannot be written.
    #[error("the settings file cannot be written: {0}")]
    Write(String),
}

impl SettingsError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_setting",
            Self::CaFile(_) => "invalid_ca_file",
            Self::Write(_) => "settings_not_written",
        }
    }
}

#[derive(Debug)]
pub(crate) struct SettingsStore {
    file: PathBuf,
    current: RwLock<Settings>,
    /// Held from reading the settings to writing them whole: two changes at one time would each write the
    /// other's old value.
    turn: tokio::sync::Mutex<()>,
}

impl SettingsStore {
    /// Reads the file. One that cannot be understood is kept beside the new one, and said so.
    pub(crate) fn open(home: &Home) -> Result<Self, SettingsError> {
        let file = home.settings_file();
        let current = match std::fs::read_to_string(&file) {
            Ok(text) => match serde_json::from_str::<Settings>(&text)
                .map_err(|error| error.to_string())
                .and_then(|settings| {
                    check(&settings)
                        .map(|()| settings)
                        .map_err(|error| error.to_string())
                }) {
                Ok(settings) => settings,
                Err(reason) => {
                    let aside = file.with_extension("json.not-understood");
                    std::fs::rename(&file, &aside)
                        .map_err(|error| SettingsError::Write(error.to_string()))?;
                    tracing::warn!(reason, kept = %aside.display(), "the settings file was not understood; defaults are in force");
                    Settings::default()
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Settings::default(),
            Err(error) => return Err(SettingsError::Write(error.to_string())),
        };
        Ok(Self {
            file,
            current: RwLock::new(current),
            turn: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn current(&self) -> Settings {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, settings: Settings) -> Result<Settings, SettingsError> {
        let write = |error: std::io::Error| SettingsError::Write(error.to_string());
        let folder = self
            .file
            .parent()
            .ok_or_else(|| SettingsError::Write("it has no folder".into()))?;
        let text = serde_json::to_string_pretty(&settings)
            .map_err(|error| SettingsError::Write(error.to_string()))?;
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(write)?;
        new.write_all(text.as_bytes()).map_err(write)?;
        new.as_file().sync_all().map_err(write)?;
        new.persist(&self.file)
            .map_err(|error| write(error.error))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        Ok(settings)
    }
}

fn check(settings: &Settings) -> Result<(), SettingsError> {
    let rules = [
        (
            (30..=600).contains(&settings.sign_in_timeout_s),
            "A sign-in waits 30 to 600 seconds.",
        ),
        (
            settings.callback_port != Some(0),
            "A fixed callback port is 1 to 65535.",
        ),
        (
            (5..=300).contains(&settings.clipboard_clear_s),
            "The clipboard is cleared after 5 to 300 seconds.",
        ),
        (
            (1..=365).contains(&settings.default_key_lifetime_days),
            "A key lives 1 to 365 days.",
        ),
        (
            (0..=keywright_domain::api_keys::MAX_OVERLAP_MS).contains(&settings.default_overlap_ms),
            "An overlap lasts 0 to 30 days.",
        ),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(SettingsError::Invalid(rule)),
        None => Ok(()),
    }
}

impl App {
    /// The settings in force.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub fn read_settings(&self) -> Result<Settings, AppError> {
        Ok(self.inner.settings.current())
    }

    /// Checks, writes and applies settings.
    ///
    /// # Errors
    /// [`SettingsError`]; the old settings stay in force.
    pub async fn update_settings(&self, mut settings: Settings) -> Result<Settings, AppError> {
        settings.extra_ca_file = settings
            .extra_ca_file
            .map(|path| path.trim().to_owned())
            .filter(|path| !path.is_empty());
        check(&settings)?;
        if let Some(path) = &settings.extra_ca_file {
            crate::http::read_ca_file(path)
                .await
                .map_err(SettingsError::CaFile)?;
        }
        let _turn = self.inner.settings.turn.lock().await;
        // Chosen elsewhere: a page that was read before must not put the old choice back.
        settings.registry_account = self.inner.settings.current().registry_account;
        self.write_settings(settings).await
    }

    /// Another registry is in use from now on.
    pub(crate) async fn set_registry_account(
        &self,
        account_id: Option<String>,
    ) -> Result<(), AppError> {
        let _turn = self.inner.settings.turn.lock().await;
        let settings = Settings {
            registry_account: account_id,
            ..self.inner.settings.current()
        };
        self.write_settings(settings).await.map(drop)
    }

    /// For who has the turn.
    async fn write_settings(&self, settings: Settings) -> Result<Settings, AppError> {
        let app = self.clone();
        let written =
            tokio::task::spawn_blocking(move || app.inner.settings.replace(settings)).await;
        Ok(written.map_err(|error| SettingsError::Write(error.to_string()))??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Result<(tempfile::TempDir, Home), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let home = Home::at(folder.path())?;
        Ok((folder, home))
    }

    #[test]
    fn settings_survive_a_restart() -> Result<(), Box<dyn std::error::Error>> {
        let (_folder, home) = home()?;
        let wanted = Settings {
            clipboard_clear_s: 60,
            ..Settings::default()
        };
        SettingsStore::open(&home)?.replace(wanted.clone())?;
        assert_eq!(SettingsStore::open(&home)?.current(), wanted);
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_understood_is_kept() -> Result<(), Box<dyn std::error::Error>> {
        let (_folder, home) = home()?;
        for text in [
            "{ not json",
            r#"{"signInTimeoutS": 5}"#,
            r#"{"unknown": 1}"#,
        ] {
            std::fs::write(home.settings_file(), text)?;
            assert_eq!(SettingsStore::open(&home)?.current(), Settings::default());
            let kept = home.settings_file().with_extension("json.not-understood");
            assert_eq!(std::fs::read_to_string(kept)?, text);
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_choice_and_a_setting_made_at_one_time_both_stay() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let events = std::sync::Arc::new(crate::remote::tests::Quiet);
        let app = crate::remote::tests::app_with(folder.path(), events)?;
        for round in 0..50 {
            let settings = Settings {
                clipboard_clear_s: 10 + round,
                ..app.read_settings()?
            };
            let account = format!("account {round}");
            let (saved, chosen) = tokio::join!(
                app.update_settings(settings),
                app.set_registry_account(Some(account.clone()))
            );
            saved?;
            chosen?;
            let now = app.read_settings()?;
            assert_eq!(now.clipboard_clear_s, 10 + round);
            assert_eq!(now.registry_account, Some(account));
        }
        Ok(())
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        let good = Settings::default();
        assert!(check(&good).is_ok());
        for bad in [
            Settings {
                sign_in_timeout_s: 29,
                ..good.clone()
            },
            Settings {
                callback_port: Some(0),
                ..good.clone()
            },
            Settings {
                clipboard_clear_s: 301,
                ..good.clone()
            },
            Settings {
                default_key_lifetime_days: 366,
                ..good.clone()
            },
            Settings {
                default_overlap_ms: -1,
                ..good.clone()
            },
        ] {
            assert_eq!(
                check(&bad).expect_err("out of bounds").code(),
                "invalid_setting"
            );
        }
    }
}
