//! Who gets mail about what; and mails to one person that no webhook hears of.

use std::collections::HashMap;

use keywright_domain::base62::random_id;
use keywright_domain::people::{Email, Session};
use keywright_registry::RegistryError;
use keywright_registry::outbox::{Channel, MadeOf, NewMessage};
use keywright_registry::people::Grant;

use super::words;
use crate::http::Peer;
use crate::server::App;
use crate::webhooks::events::{self, Event};

/// What mail is sealed for: invitations have a link that whoever reads it can use.
pub(crate) const MAIL_PURPOSE: &str = "mail";

/// The type of the mails about unusual use: that of the event which webhooks hear.
const UNUSUAL_USE: &str = "grant.unusual_use";

/// Who hears of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    /// Whoever answers for the key; administrators where that is nobody with an address.
    Owner,
    /// Both.
    OwnerAndAdministrators,
    /// Those who answer for everything.
    Administrators,
}

fn audience(kind: &str) -> Option<Audience> {
    Some(match kind {
        "key.expiring"
        | "rotation.due"
        | "rotation.pending"
        | "overlap.closing"
        | "delivery.failed"
        | events::HYGIENE_ASKED => Audience::Owner,
        "key.exposed" | "key.reported" | "secret.retired_used" | "canary.used" => {
            Audience::OwnerAndAdministrators
        }
        "webhook.disabled" | "owner.keys_revoked" => Audience::Administrators,
        _ => return None,
    })
}

/// Whether somebody gets mail about such events.
pub(super) fn hear(app: &App, kind: &str) -> bool {
    app.notices.has_mail() && audience(kind).is_some()
}

/// The mails about an event; none where no mail can be sent.
///
/// # Errors
/// [`RegistryError`] if addresses cannot be read.
pub(super) async fn mails(app: &App, event: &Event) -> Result<Vec<NewMessage>, RegistryError> {
    let addresses = addresses(app, event).await?;
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let mail = words::of_event(app, event);
    Ok(addresses
        .into_iter()
        .map(|address| mail_to(app, &event.id, event.kind, address, &mail))
        .collect())
}

/// The addresses of those who are mailed about an event; none where no mail can be sent.
///
/// # Errors
/// [`RegistryError`] if they cannot be read.
pub(super) async fn addresses(app: &App, event: &Event) -> Result<Vec<String>, RegistryError> {
    let Some(audience) = audience(event.kind).filter(|_| app.notices.has_mail()) else {
        return Ok(Vec::new());
    };
    let mut addresses = Vec::new();
    if audience != Audience::Administrators
        && let Some(key_id) = &event.key_id
    {
        let keys = [key_id.clone()];
        addresses.extend(app.registry.owner_addresses(&keys).await?.into_values());
    }
    if audience != Audience::Owner || addresses.is_empty() {
        addresses.extend(app.registry.administrator_addresses().await?);
    }
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Who is mailed about some keys, where that is for owners.
pub(super) struct Addresses {
    owners: HashMap<String, [String; 1]>,
    administrators: Vec<String>,
}

impl Addresses {
    /// The owner of a key; administrators where that is nobody with an address.
    pub(super) fn of(&self, key_id: &str) -> &[String] {
        self.owners
            .get(key_id)
            .map_or(&self.administrators, |owner| owner)
    }
}

/// As [`addresses`], for what many keys have in common to tell their owners.
///
/// # Errors
/// [`RegistryError`] if they cannot be read.
pub(super) async fn addresses_of_owners(
    app: &App,
    key_ids: &[String],
) -> Result<Addresses, RegistryError> {
    let mut found = Addresses {
        owners: HashMap::new(),
        administrators: Vec::new(),
    };
    if !app.notices.has_mail() {
        return Ok(found);
    }
    let owners = app.registry.owner_addresses(key_ids).await?;
    found.owners = owners.into_iter().map(|(id, one)| (id, [one])).collect();
    if key_ids.iter().any(|id| !found.owners.contains_key(id)) {
        found.administrators = app.registry.administrator_addresses().await?;
    }
    Ok(found)
}

pub(crate) fn mail_to(
    app: &App,
    event_id: &str,
    event_type: &str,
    address: String,
    mail: &words::Mail,
) -> NewMessage {
    let sealed = app.secrets.seal(MAIL_PURPOSE, &mail.to_bytes());
    NewMessage {
        event_id: event_id.to_owned(),
        event_type: event_type.to_owned(),
        channel: Channel::Mail,
        target: address,
        body: sealed.as_bytes().to_vec(),
    }
}

/// Puts one mail into the outbox. What goes wrong is logged: no request fails for a mail. Returns whether it is there.
async fn queue(app: &App, kind: &str, address: String, mail: &words::Mail) -> bool {
    let id = format!("msg_{}", random_id(&mut rand::rng()));
    let message = mail_to(app, &id, kind, address.clone(), mail);
    let queued = async {
        app.registry.enqueue(MadeOf::Else, vec![message]).await?;
        // Where too many wait for the address it was not made.
        let made = app.registry.find_message_of(Channel::Mail, &address, &id);
        made.await
    };
    match queued.await {
        Ok(_) => {
            app.notices.wake();
            true
        }
        Err(error) => {
            tracing::warn!(code = error.code(), kind, "a mail could not be queued");
            false
        }
    }
}

/// Tells a person that their account was used by a browser that it had not seen before.
pub(crate) async fn tell_of_new_sign_in(app: &App, session: &Session) {
    if !app.notices.has_mail() || is_first(app, &session.user_id).await {
        return;
    }
    match app.registry.find_user(&session.user_id).await {
        Ok(user) => {
            if let Some(address) = &user.email {
                let mail = words::new_sign_in(app, session);
                queue(app, "user.new_sign_in", address.to_string(), &mail).await;
            }
        }
        Err(error) => tracing::warn!(code = error.code(), "a new sign-in was not told of"),
    }
}

/// Tells a person that an account at a provider signs in to theirs from now on.
pub(crate) async fn tell_of_new_identity(app: &App, user_id: &str, provider: &str, peer: &Peer) {
    if !app.notices.has_mail() {
        return;
    }
    match app.registry.find_user(user_id).await {
        Ok(user) => {
            if let Some(address) = &user.email {
                let mail = words::new_identity(app, provider, peer);
                queue(app, "user.identity_linked", address.to_string(), &mail).await;
            }
        }
        Err(error) => tracing::warn!(code = error.code(), "a new identity was not told of"),
    }
}

/// Tells a person that an application's access to their account was used in an unusual way (S1-18).
/// `before`: the grant as it was then.
pub(crate) async fn tell_of_unusual_use(app: &App, before: &Grant, peer: &Peer, reasons: &[&str]) {
    if !app.notices.has_mail() {
        return;
    }
    let told = async {
        let user = app.registry.find_user(&before.user_id).await?;
        let Some(address) = user.email.as_ref().filter(|_| user.disabled_at.is_none()) else {
            return Ok(());
        };
        // What they allowed is known to them by its name.
        let client = app.registry.find_client(&before.client_id).await?;
        let program = client.settings.name.as_str();
        let mail = words::unusual_use(app, program, reasons, peer, before);
        queue(app, UNUSUAL_USE, address.to_string(), &mail).await;
        Ok::<(), RegistryError>(())
    };
    if let Err(error) = told.await {
        tracing::warn!(code = error.code(), "unusual use was not told of");
    }
}

/// The first sign-in of all is by a browser that was not seen before, and nobody needs to be told.
async fn is_first(app: &App, user_id: &str) -> bool {
    let page = app.registry.list_sign_ins(Some(user_id), None, 50).await;
    page.is_ok_and(|page| {
        let succeeded = page.items.iter().filter(|one| one.outcome == "succeeded");
        succeeded.count() <= 1 && page.next_cursor.is_none()
    })
}

/// Sends an invitation's link to whom it is for. Returns whether it will be sent.
pub(crate) async fn send_invitation(app: &App, address: &Email, link: &str, until: i64) -> bool {
    if !app.notices.has_mail() {
        return false;
    }
    let mail = words::invitation(app, link, until);
    queue(app, "user.invited", address.to_string(), &mail).await
}

#[cfg(test)]
mod tests {
    use keywright_registry::BoardKind;

    use super::*;

    /// The list that people look at has what mail tells them, by the same names.
    #[test]
    fn what_people_are_mailed_is_what_the_notice_board_has() {
        for kind in events::types() {
            let is_mailed = audience(kind).is_some();
            assert_eq!(is_mailed, BoardKind::parse(kind).is_some(), "{kind}");
        }
        for kind in BoardKind::ALL {
            assert!(events::types().any(|one| one == kind.as_str()), "{kind:?}");
        }
    }
}
