//! One try to send one mail of the outbox.

use std::time::Instant;

use keywright_domain::people::Sealed;
use keywright_registry::RegistryError;
use keywright_registry::outbox::{Attempt, Claimed, Outcome};

use super::{Mailer, NotSent};
use crate::notices::Mail;
use crate::notices::people::MAIL_PURPOSE;
use crate::notices::retry::next_try;
use crate::server::App;

/// Tries once, and writes down what came of it.
///
/// # Errors
/// [`RegistryError`]: then the message is free again when its claim runs out.
pub(crate) async fn deliver(
    app: &App,
    mailer: Option<&Mailer>,
    claimed: &Claimed,
) -> Result<(), RegistryError> {
    let Some(mailer) = mailer else {
        return Ok(());
    };
    let message = &claimed.message;
    let at = app.now();
    let begun = Instant::now();
    let sent = match open(app, &claimed.body) {
        Some(mail) => {
            let id = format!("{}.{}", message.event_id, message.id);
            mailer
                .send(&message.target, &id, &mail.subject, &mail.text)
                .await
        }
        None => Err(NotSent {
            why: "it cannot be opened by this server".to_owned(),
            is_final: true,
        }),
    };
    let duration_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let (outcome, error) = match sent {
        Ok(()) => (Outcome::Delivered, None),
        Err(failed) => {
            // Whose mail it is stays out of the log.
            tracing::warn!(
                kind = message.event_type,
                attempt = message.attempts,
                why = failed.why,
                "a mail was not sent"
            );
            let again = next_try(message.attempts, app.now()).filter(|_| !failed.is_final);
            (
                again.map_or(Outcome::Failed, Outcome::Again),
                Some(failed.why),
            )
        }
    };
    let attempt = Attempt {
        attempt: message.attempts,
        at,
        duration_ms,
        status: None,
        error,
        excerpt: String::new(),
    };
    crate::notices::record(app, message, attempt, outcome).await
}

fn open(app: &App, sealed: &[u8]) -> Option<Mail> {
    let sealed = Sealed::new(sealed.to_vec());
    let plain = app.secrets.unseal(MAIL_PURPOSE, &sealed).ok()?;
    serde_json::from_slice(&plain).ok()
}
