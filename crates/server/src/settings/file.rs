//! `server.toml`: what may stand in it. Unknown names are refused, so that a typing error is not a
//! default.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

use super::mail::MailTable;
use super::retention::RetentionTable;
use super::{DatabaseAddress, SameSite, SettingError, Settings, SignUp, WithoutRedis};
use crate::on_disk;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
    /// It is no TOML, or has a name or a value that it must not have.
    #[error("{0}: {1}")]
    Content(PathBuf, String),
    /// A setting is refused.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// The file, as written. Everything but the issuer may be left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettingsFile {
    /// The issuer.
    pub issuer: String,
    /// Where requests are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// PostgreSQL's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Text in place of “Keywright” on pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site_name: Option<String>,
    /// Whether `/authorize` and `/token` stand beside `/oauth2/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_aliases: Option<bool>,
    /// Whether private addresses may be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_private_addresses: Option<bool>,
    /// How long requests in progress are waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_s: Option<u64>,
    /// How long readiness says no before connections are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_notice_s: Option<u64>,
    /// What this process is called among several over one database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// A Redis that counts rate limits for all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<String>,
    /// PEM file with the authorities that vouch for it; none for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_ca: Option<PathBuf>,
    /// `per_node` or `refuse`, while Redis does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits_without_redis: Option<String>,
    /// `json` or `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
    /// Figures.
    #[serde(skip_serializing_if = "is_default")]
    pub metrics: MetricsTable,
    /// Traces.
    #[serde(skip_serializing_if = "is_default")]
    pub telemetry: TelemetryTable,
    /// Resources besides our own API that access tokens may be made for (RFC 8707).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: TlsTable,
    /// Proxies.
    #[serde(skip_serializing_if = "is_default")]
    pub proxies: ProxiesTable,
    /// Tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub tokens: TokensTable,
    /// Sessions.
    #[serde(skip_serializing_if = "is_default")]
    pub sessions: SessionsTable,
    /// Accounts.
    #[serde(skip_serializing_if = "is_default")]
    pub sign_up: SignUpTable,
    /// Mail.
    #[serde(skip_serializing_if = "is_default")]
    pub mail: MailTable,
    /// What is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub retention: RetentionTable,
    /// Keys that were found.
    #[serde(skip_serializing_if = "is_default")]
    pub leaks: LeaksTable,
}

/// `[leaks]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeaksTable {
    /// Where GitHub publishes the keys that it signs with.
    pub github_keys_url: Option<String>,
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsTable {
    /// PEM file.
    pub cert: Option<PathBuf>,
    /// PEM file.
    pub key: Option<PathBuf>,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsTable {
    /// A listener for figures and probes alone.
    pub listen: Option<SocketAddr>,
    /// Networks that may read them beside the rest.
    pub allow: Vec<IpNet>,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryTable {
    /// A collector's address.
    pub otlp_endpoint: Option<String>,
    /// How many requests of a hundred are traced.
    pub sample_percent: Option<u32>,
}

/// `[proxies]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxiesTable {
    /// Networks of proxies whose `X-Forwarded-For` counts.
    pub trusted: Vec<IpNet>,
}

/// `[tokens]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokensTable {
    /// Life of access tokens.
    pub access_s: Option<i64>,
    /// Life of authorization codes.
    pub code_s: Option<i64>,
    /// Life of refresh tokens without a use.
    pub refresh_idle_days: Option<i64>,
    /// Life of refresh tokens in all.
    pub refresh_days: Option<i64>,
    /// How long the token before may come again.
    pub refresh_grace_s: Option<i64>,
    /// How long a signing key signs.
    pub signing_key_days: Option<i64>,
}

/// `[sessions]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsTable {
    /// Life in all.
    pub max_age_s: Option<i64>,
    /// Life without a request.
    pub idle_s: Option<i64>,
    /// How many a person may have.
    pub max: Option<usize>,
    /// `lax` or `strict`.
    pub same_site: Option<String>,
}

/// `[sign_up]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignUpTable {
    /// Roles of people who come by an identity provider; absent: only who was invited.
    pub provider_roles: Option<Vec<String>>,
}

/// A collector's address.
///
/// # Errors
/// [`SettingError`] for what is none.
pub fn collector(text: &str) -> Result<Url, SettingError> {
    Url::parse(text)
        .map_err(|error| SettingError::new("telemetry.otlp_endpoint", error.to_string()))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SettingsFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text =
            fs::read_to_string(path).map_err(|error| FileError::File(path.to_owned(), error))?;
        toml::from_str(&text)
            .map_err(|error| FileError::Content(path.to_owned(), error.to_string()))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let text = toml::to_string_pretty(self)
            .map_err(|error| FileError::Content(path.to_owned(), error.to_string()))?;
        on_disk::write_over(path, text.as_bytes())
            .map_err(|error| FileError::File(path.to_owned(), error))
    }

    /// What it says, over the defaults; not yet checked.
    ///
    /// # Errors
    /// [`FileError::Setting`].
    pub fn settings(&self, data: PathBuf) -> Result<Settings, FileError> {
        let mut settings = Settings::new(&self.issuer, data)?;
        let set_s = |into: &mut i64, seconds: Option<i64>| {
            if let Some(seconds) = seconds {
                *into = seconds.saturating_mul(1000);
            }
        };
        let set_days = |into: &mut i64, days: Option<i64>| {
            if let Some(days) = days {
                *into = days.saturating_mul(DAY_MS);
            }
        };
        settings.listen = self.listen.unwrap_or(settings.listen);
        settings.database = self.database.clone().map(DatabaseAddress::new);
        settings.site_name = self.site_name.clone().unwrap_or(settings.site_name);
        settings.short_aliases = self.short_aliases.unwrap_or(false);
        settings.allow_private_addresses = self.allow_private_addresses.unwrap_or(false);
        settings.drain = self.drain_s.map_or(settings.drain, Duration::from_secs);
        settings.drain_notice = self
            .drain_notice_s
            .map_or(settings.drain_notice, Duration::from_secs);
        settings.node_name = self.node_name.clone().unwrap_or(settings.node_name);
        settings.redis_url = self.redis_url.clone().map(DatabaseAddress::new);
        settings.redis_ca.clone_from(&self.redis_ca);
        settings.limits_without_redis = match self.limits_without_redis.as_deref() {
            None | Some("per_node") => WithoutRedis::PerNode,
            Some("refuse") => WithoutRedis::Refuse,
            Some(other) => {
                let why = format!("“{other}” is neither per_node nor refuse");
                return Err(SettingError::new("limits_without_redis", why).into());
            }
        };
        settings.metrics_listen = self.metrics.listen;
        settings.metrics_allow.clone_from(&self.metrics.allow);
        settings.otlp_endpoint = self
            .telemetry
            .otlp_endpoint
            .as_deref()
            .map(collector)
            .transpose()?;
        settings.otlp_sample_percent = self.telemetry.sample_percent.unwrap_or(100);
        settings.log_json = match self.log_format.as_deref() {
            None | Some("json") => true,
            Some("text") => false,
            Some(other) => {
                let why = format!("“{other}” is neither json nor text");
                return Err(SettingError::new("log_format", why).into());
            }
        };
        settings.tls = match (&self.tls.cert, &self.tls.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(SettingError::new("tls.key", "it is missing").into()),
            (None, Some(_)) => return Err(SettingError::new("tls.cert", "it is missing").into()),
        };
        settings.resources.clone_from(&self.resources);
        settings.trusted_proxies.clone_from(&self.proxies.trusted);
        set_s(&mut settings.access_ms, self.tokens.access_s);
        set_s(&mut settings.code_ms, self.tokens.code_s);
        set_days(&mut settings.refresh.idle_ms, self.tokens.refresh_idle_days);
        set_days(&mut settings.refresh.absolute_ms, self.tokens.refresh_days);
        set_s(&mut settings.refresh.grace_ms, self.tokens.refresh_grace_s);
        set_days(&mut settings.signing_key_ms, self.tokens.signing_key_days);
        set_s(&mut settings.sessions.absolute_ms, self.sessions.max_age_s);
        set_s(&mut settings.sessions.idle_ms, self.sessions.idle_s);
        settings.max_sessions = self.sessions.max.unwrap_or(settings.max_sessions);
        settings.same_site = match self.sessions.same_site.as_deref() {
            None | Some("lax") => SameSite::Lax,
            Some("strict") => SameSite::Strict,
            Some(other) => {
                let why = format!("“{other}” is neither lax nor strict");
                return Err(SettingError::new("sessions.same_site", why).into());
            }
        };
        settings.mail = self.mail.settings()?;
        settings.retention = self.retention.settings()?;
        settings.github_keys_url =
            match &self.leaks.github_keys_url {
                None => None,
                Some(text) => Some(url::Url::parse(text).map_err(|_| {
                    SettingError::new("leaks.github_keys_url", "this is no address")
                })?),
            };
        settings.sign_up = match &self.sign_up.provider_roles {
            Some(roles) => SignUp::ByProvider(roles.clone()),
            None => SignUp::Invited,
        };
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_typing_errors_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        let file = SettingsFile {
            issuer: "http://127.0.0.1:1".into(),
            tokens: TokensTable {
                access_s: Some(600),
                ..TokensTable::default()
            },
            ..SettingsFile::default()
        };
        file.write(&path).unwrap();
        let settings = SettingsFile::read(&path)
            .unwrap()
            .settings(folder.path().to_owned())
            .unwrap();
        assert_eq!(settings.access_ms, 600_000);
        for bad in ["isuer = \"x\"", "issuer = 1", "[tokens]\nacces_s = 1", "["] {
            fs::write(&path, bad).unwrap();
            let error = SettingsFile::read(&path).unwrap_err();
            assert!(matches!(error, FileError::Content(..)), "{bad}");
        }
        fs::write(
            &path,
            "issuer = \"http://127.0.0.1:1\"\n[sessions]\nsame_site = \"none\"",
        )
        .unwrap();
        let read = SettingsFile::read(&path).unwrap();
        let error = read.settings(PathBuf::new()).unwrap_err();
        assert!(error.to_string().contains("sessions.same_site"), "{error}");
    }
}
