//! `[mail]`: the SMTP server that mail goes out by.

use std::path::PathBuf;

use keywright_domain::issuer::is_loopback_host;
use serde::{Deserialize, Serialize};
use url::Url;

use super::SettingError;

/// When the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte (RFC 8314).
    AtOnce,
    /// Before anything is said (RFC 3207), or nothing is sent.
    StartTls,
    /// Where the server offers it: only on this machine.
    IfOffered,
}

/// Which server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpServer {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// When the connection is encrypted.
    pub tls: SmtpTls,
}

/// How mail is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    /// The server.
    pub server: SmtpServer,
    /// `Name <address>`.
    pub from: String,
    /// User and the file with the password; none for a server that asks for none.
    pub login: Option<(String, PathBuf)>,
    /// A certificate (PEM) that is trusted beside the system's.
    pub ca: Option<PathBuf>,
}

/// `[mail]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailTable {
    /// `smtps://host` or `smtp://host`.
    pub smtp_url: Option<String>,
    /// `Name <address>`.
    pub from: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Certificate (PEM) to trust beside the system's.
    pub ca: Option<PathBuf>,
}

impl MailTable {
    /// What it says; none where no server is named.
    ///
    /// # Errors
    /// [`SettingError`], by the setting's name.
    pub fn settings(&self) -> Result<Option<MailSettings>, SettingError> {
        let Some(url) = &self.smtp_url else {
            if *self == Self::default() {
                return Ok(None);
            }
            return Err(SettingError::new("mail.smtp_url", "it is missing"));
        };
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => Some((user.clone(), file.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(SettingError::new("mail.password_file", "it is missing"));
            }
            (None, Some(_)) => return Err(SettingError::new("mail.user", "it is missing")),
        };
        let from = self
            .from
            .clone()
            .ok_or_else(|| SettingError::new("mail.from", "it is missing"))?;
        if from.parse::<lettre::message::Mailbox>().is_err() {
            return Err(SettingError::new("mail.from", "this is no mail address"));
        }
        Ok(Some(MailSettings {
            server: server(url)?,
            from,
            login,
            ca: self.ca.clone(),
        }))
    }
}

fn server(text: &str) -> Result<SmtpServer, SettingError> {
    let refuse = |why: &str| SettingError::new("mail.smtp_url", why);
    let url = Url::parse(text).map_err(|_| refuse("this is no address"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(
            "user and password go into mail.user and mail.password_file",
        ));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("allowed are a host and a port"));
    }
    let host = url.host_str().ok_or_else(|| refuse("it names no host"))?;
    let (port, tls) = match url.scheme() {
        "smtps" => (465, SmtpTls::AtOnce),
        "smtp" if is_loopback_host(host) => (25, SmtpTls::IfOffered),
        "smtp" => (587, SmtpTls::StartTls),
        _ => return Err(refuse("it begins with smtps:// or smtp://")),
    };
    Ok(SmtpServer {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: url.port().unwrap_or(port),
        tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(url: &str) -> MailTable {
        MailTable {
            smtp_url: Some(url.into()),
            from: Some("Keys <keys@example.org>".into()),
            ..MailTable::default()
        }
    }

    #[test]
    fn mail_is_encrypted_except_to_this_machine() {
        let tls = |url: &str| {
            let server = table(url).settings().unwrap().unwrap().server;
            (server.tls, server.port)
        };
        assert_eq!(tls("smtps://mail.example.org"), (SmtpTls::AtOnce, 465));
        assert_eq!(tls("smtp://mail.example.org"), (SmtpTls::StartTls, 587));
        assert_eq!(tls("smtp://mail.example.org:25"), (SmtpTls::StartTls, 25));
        assert_eq!(tls("smtp://127.0.0.1:2525"), (SmtpTls::IfOffered, 2525));
        assert_eq!(MailTable::default().settings().unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let refused = |table: MailTable| table.settings().unwrap_err().setting;
        for bad in [
            "mail.example.org",
            "http://mail.example.org",
            "smtp://user:secret@mail.example.org",
            "smtp://mail.example.org/path",
        ] {
            assert_eq!(refused(table(bad)), "mail.smtp_url", "{bad}");
        }
        let good = || table("smtps://mail.example.org");
        let nowhere = MailTable {
            smtp_url: None,
            ..good()
        };
        assert_eq!(refused(nowhere), "mail.smtp_url");
        let nobody = MailTable {
            from: Some("nobody".into()),
            ..good()
        };
        assert_eq!(refused(nobody), "mail.from");
        let half = MailTable {
            user: Some("keys".into()),
            ..good()
        };
        assert_eq!(refused(half), "mail.password_file");
    }
}
