//! Mail out, by any SMTP server (RFC 5321): encrypted, except to this machine.

pub(crate) mod deliver;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use zeroize::Zeroizing;

use crate::settings::Settings;
use crate::settings::mail::{MailSettings, SmtpTls};

/// Connecting to one address of the server may take so long.
const CONNECTING: Duration = Duration::from_secs(20);
/// One mail may take so long from the first byte to the last: lettre waits for each answer for ever. It is less than
/// [`keywright_registry::outbox::ATTEMPT`].
const WITHIN: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });
/// The mail was taken: a server that does not say goodbye is not waited for, or the mail would go out again.
const GOODBYE: Duration = Duration::from_secs(1);
/// Whoever looks whether it is there waits no longer.
const CHECK_WITHIN: Duration = Duration::from_secs(10);
/// Answers to one machine's mail by another's would go round for ever (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }
    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Why a mail did not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotSent {
    /// For people; nothing secret.
    pub(crate) why: String,
    /// Whether more tries would not help.
    pub(crate) is_final: bool,
}

/// Sends mail.
pub(crate) struct Mailer {
    from: Mailbox,
    host: String,
    port: u16,
    tls: Tls,
    login: Option<Credentials>,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl Mailer {
    /// Reads the password and the certificate; the server is asked when there is mail.
    ///
    /// # Errors
    /// What is wrong with the settings, for whoever wrote them.
    pub(crate) fn new(settings: &MailSettings) -> Result<Self, String> {
        let from = settings
            .from
            .parse()
            .map_err(|_| "mail.from is no address".to_owned())?;
        let server = &settings.server;
        let mut parameters = TlsParameters::builder(server.host.clone());
        if let Some(path) = &settings.ca {
            let pem =
                std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|_| format!("{} holds no certificate (PEM)", path.display()))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let parameters = parameters
            .build()
            .map_err(|error| format!("TLS: {error}"))?;
        let tls = match server.tls {
            SmtpTls::AtOnce => Tls::Wrapper(parameters),
            SmtpTls::StartTls => Tls::Required(parameters),
            SmtpTls::IfOffered => Tls::Opportunistic(parameters),
        };
        let mut login = None;
        if let Some((user, file)) = &settings.login {
            let text = std::fs::read_to_string(file)
                .map(Zeroizing::new)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let password = text.trim_end_matches(['\r', '\n']).to_owned();
            login = Some(Credentials::new(user.clone(), password));
        }
        Ok(Self {
            from,
            host: server.host.clone(),
            port: server.port,
            tls,
            login,
        })
    }

    /// Sends one mail of plain text. `id` is the same in every try: a reader can tell that it came twice.
    ///
    /// # Errors
    /// [`NotSent`].
    pub(crate) async fn send(
        &self,
        to: &str,
        id: &str,
        subject: &str,
        text: &str,
    ) -> Result<(), NotSent> {
        let is_final = |why: &str| NotSent {
            why: why.to_owned(),
            is_final: true,
        };
        let to: Mailbox = to.parse().map_err(|_| is_final("this is no address"))?;
        let domain = self.from.email.domain();
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(subject)
            .message_id(Some(format!("<{id}@{domain}>")))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN)
            .body(text.to_owned())
            .map_err(|_| is_final("the mail cannot be written"))?;
        match tokio::time::timeout(WITHIN, self.hand_over(&message)).await {
            Ok(Ok(mut connection)) => {
                // It has the mail: whether it says goodbye in time is all one.
                let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
                Ok(())
            }
            Ok(Err(error)) => Err(NotSent {
                // A mailbox that does not exist will not; a wrong password may be put right.
                is_final: error.status().is_some_and(|code| {
                    error.is_permanent() && is_about_mailbox(&code.to_string())
                }),
                why: error.to_string(),
            }),
            Err(_) => Err(NotSent {
                why: "the mail server did not answer in time".to_owned(),
                is_final: false,
            }),
        }
    }

    /// One conversation (RFC 5321 §3), over a connection of its own, until the other side has the mail.
    async fn hand_over(&self, message: &Message) -> Result<AsyncSmtpConnection, Error> {
        let mut connection = self.connect().await?;
        let bytes = message.formatted();
        connection.send(message.envelope(), &bytes).await?;
        Ok(connection)
    }

    /// Encrypted and signed in, as the settings have it.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let hello = ClientId::default();
        let at_once = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let server = (self.host.as_str(), self.port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECTING), &hello, at_once, None);
        let mut connection = connecting.await?;
        match &self.tls {
            Tls::Required(parameters) => connection.starttls(parameters.clone(), &hello).await?,
            Tls::Opportunistic(parameters) if connection.can_starttls() => {
                connection.starttls(parameters.clone(), &hello).await?;
            }
            _ => {}
        }
        if let Some(login) = &self.login {
            connection.auth(DEFAULT_MECHANISMS, login).await?;
        }
        Ok(connection)
    }
}

/// Whether the mail server can be reached and takes the login; good where there is none in the settings.
///
/// # Errors
/// What is wrong, for whoever runs the server.
pub async fn check(settings: &Settings) -> Result<(), String> {
    let Some(mail) = &settings.mail else {
        return Ok(());
    };
    let mailer = Mailer::new(mail)?;
    match tokio::time::timeout(CHECK_WITHIN, mailer.connect()).await {
        Ok(Ok(mut connection)) => {
            let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer in time".to_owned()),
    }
}

/// 550 to 553: no such mailbox, or not for this sender (RFC 5321 §4.2.3).
fn is_about_mailbox(code: &str) -> bool {
    matches!(code, "550" | "551" | "552" | "553")
}
