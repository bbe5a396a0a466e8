//! What mails say. Plain text: it is read everywhere, and nothing in it is loaded.

use keywright_domain::people::Session;
use keywright_registry::people::Grant;
use serde::{Deserialize, Serialize};

use super::digest::Gathered;
use crate::http::Peer;
use crate::pages::dates::shown;
use crate::server::App;
use crate::sessions::user_agent;
use crate::webhooks::events::{Event, HYGIENE_ASKED};

/// A mail without an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mail {
    pub(crate) subject: String,
    pub(crate) text: String,
}

impl Mail {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// One line without control characters: a name must not begin a header of its own.
pub(super) fn line(text: &str, most: usize) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(most)
        .collect()
}

fn mail(app: &App, subject: &str, paragraphs: &[String]) -> Mail {
    let site = line(&app.settings.site_name, 60);
    let mut text = paragraphs.join("\n\n");
    text.push_str(&format!(
        "\n\n-- \n{site}\n{}\n",
        app.settings.issuer.as_str()
    ));
    Mail {
        subject: line(&format!("{site}: {subject}"), 200),
        text,
    }
}

/// Said of keys that are refused since they expired, which the same type of event tells.
pub(super) const EXPIRED: &str = "key.expired";
pub(super) const EXPIRING: &str = "key.expiring";

/// By what name it is told to people.
pub(super) fn name_of(event: &Event) -> &'static str {
    if event.kind == EXPIRING && event.is_overdue() {
        EXPIRED
    } else {
        event.kind
    }
}

/// What is to be done about one event.
fn advice(kind: &str) -> &'static str {
    match kind {
        EXPIRED => {
            "It is refused since then. Give its programs a new key, or rotate it now: its old secret does not come back."
        }
        "key.expiring" => {
            "Rotate the key before that: then the old secret goes on for the overlap, and nothing breaks."
        }
        "rotation.due" => "Rotate the key, or let its schedule do it.",
        "rotation.pending" => {
            "Take it by POST /api/v1/keys/{id}/rotations/{rotation_id}/reissue, or in the app. The old secret goes on \
             until the new one is used."
        }
        "overlap.closing" => "Give these callers the new secret, or they will be refused.",
        "key.exposed" => {
            "Whoever has the text may have used it. Look at the key's use, and rotate it where it is needed. \
             A secret that was reported in full has been ended already. What stands as the reason was written by \
             whoever reported it: do not trust an address in it."
        }
        "key.reported" => {
            "Only the public part was told, so nothing was ended. Look whether the whole key is there too; \
             if so, rotate it at once."
        }
        "secret.retired_used" => {
            "Somebody still has the old secret. If it is a program of yours, give it the new one; if not, \
             the old secret has leaked."
        }
        "canary.used" => "Find out how it got there: whoever has this key may have more.",
        "delivery.failed" => {
            "The old secret goes on. See why the new one could not be delivered, and deliver it again."
        }
        HYGIENE_ASKED => {
            "Answer for each of them, with “API keys” of your account, or by \
             POST /api/v1/hygiene/campaigns/{id}/questions/{key_id}."
        }
        "webhook.disabled" => "Mend the receiver, then switch the webhook on again.",
        _ => "",
    }
}

/// The same where one mail tells of several: it names none of them alone.
fn advice_of_several(kind: &str) -> &'static str {
    match kind {
        "key.expiring" => {
            "Rotate keys that expire before they do: then the old secret goes on for the overlap, and nothing breaks."
        }
        EXPIRED => {
            "Keys that have expired are refused. Give their programs new keys, or rotate them now: their old secrets do \
             not come back."
        }
        "rotation.due" => "Rotate keys that are to be rotated, or let their schedules do it.",
        "rotation.pending" => {
            "Take new secrets that wait in the app, or by POST /api/v1/keys/{id}/rotations/{rotation_id}/reissue; \
             GET /api/v1/keys/{id}/rotations tells the rotation, the newest first. The old secrets go on until the new \
             ones are used."
        }
        "overlap.closing" => {
            "Give whoever still uses an old secret the new one, or they will be refused. \
             GET /api/v1/keys/{id}/rotations/current/stragglers tells who that is."
        }
        _ => advice(kind),
    }
}

pub(super) fn of_event(app: &App, event: &Event) -> Mail {
    let mut paragraphs = vec![format!("{}.", line(&event.summary, 300))];
    let lines: Vec<_> = event.lines.iter().map(|text| line(text, 300)).collect();
    if !lines.is_empty() {
        paragraphs.push(lines.join("\n"));
    }
    let advice = advice(name_of(event));
    if !advice.is_empty() {
        paragraphs.push(advice.to_owned());
    }
    mail(app, &event.summary, &paragraphs)
}

/// What so many keys have in common, for one and for several.
fn said_of(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "key.expiring" => ("expires", "expire"),
        EXPIRED => ("has expired", "have expired"),
        "rotation.due" => ("is to be rotated", "are to be rotated"),
        "rotation.pending" => (
            "has a new secret that waits to be taken",
            "have a new secret that waits to be taken",
        ),
        "overlap.closing" => (
            "has an old secret that ends soon and is still in use",
            "have an old secret that ends soon and is still in use",
        ),
        _ => ("asks for something", "ask for something"),
    }
}

/// “100,000”.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Several things that are due for one address.
pub(super) fn of_digest(app: &App, all: &Gathered) -> Mail {
    let mut summary = String::new();
    for (kind, count) in all.counts() {
        let (one, several) = said_of(kind);
        let said = if count == 1 { one } else { several };
        let keys = match (summary.is_empty(), count) {
            (true, 1) => " API key",
            (true, _) => " API keys",
            (false, _) => "",
        };
        if !summary.is_empty() {
            summary.push_str(", ");
        }
        summary.push_str(&format!("{}{keys} {said}", grouped(count)));
    }
    let mut lines: Vec<_> = all.lines().map(str::to_owned).collect();
    let named = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    let left = all.total().saturating_sub(named);
    if left > 0 {
        lines.push(format!("and {} more", grouped(left)));
    }
    let mut paragraphs = vec![format!("{summary}."), lines.join("\n")];
    paragraphs.push(format!(
        "All of them: “API keys” of your account, {}, “Notices” of the app, or GET /api/v1/notices.",
        app.settings.url("/account/api-keys")
    ));
    let advice = all
        .counts()
        .map(|(kind, _)| advice_of_several(kind).to_owned());
    paragraphs.extend(advice.filter(|text| !text.is_empty()));
    mail(app, &summary, &paragraphs)
}

pub(super) fn new_sign_in(app: &App, session: &Session) -> Mail {
    let browser = user_agent::read(&session.user_agent).shown();
    mail(
        app,
        "new sign-in",
        &[
            "Somebody signed in to your account with a browser that it had not seen before."
                .to_owned(),
            format!(
                "When: {} UTC\nBrowser: {}\nAddress: {}",
                shown(app.now()),
                line(&browser, 100),
                line(&session.network, 60)
            ),
            format!(
                "If it was you, nothing is to be done. If not, end the session and change your password: {}",
                app.settings.url("/account")
            ),
        ],
    )
}

pub(super) fn new_identity(app: &App, provider: &str, peer: &Peer) -> Mail {
    let provider = line(provider, 100);
    mail(
        app,
        "another way to sign in",
        &[
            format!("An account at {provider} can sign in to your account from now on."),
            format!(
                "When: {} UTC\nBrowser: {}\nAddress: {}",
                shown(app.now()),
                line(&user_agent::read(&peer.user_agent).shown(), 100),
                line(&peer.network(), 60)
            ),
            format!(
                "If it was you, nothing is to be done. If not, remove it, end the sessions and change your \
                 password: {}",
                app.settings.url("/account/sign-in")
            ),
        ],
    )
}

pub(super) fn unusual_use(
    app: &App,
    program: &str,
    reasons: &[&str],
    now: &Peer,
    before: &Grant,
) -> Mail {
    let said = |text: &str| match line(text, 200).trim() {
        "" => "it does not say".to_owned(),
        text => text.to_owned(),
    };
    mail(
        app,
        "unusual use of an application's access",
        &[
            format!(
                "“{}” has access to your account, and this access was used in an unusual way: {}.",
                line(program, 100),
                reasons.join(", ")
            ),
            format!(
                "When: {} UTC\nAddress: {} (before: {})\nProgram: {} (it was given to: {})",
                shown(app.now()),
                line(&now.network(), 60),
                line(&before.network, 60),
                said(&now.user_agent),
                said(&before.user_agent)
            ),
            format!(
                "If that is you on the way with a new device, nothing is to be done. If not, take the \
                 application's access away: {}",
                app.settings.url("/account")
            ),
        ],
    )
}

pub(super) fn invitation(app: &App, link: &str, until: i64) -> Mail {
    mail(
        app,
        "you are invited",
        &[
            "You are invited to make an account. The link is good once, for you alone:".to_owned(),
            link.to_owned(),
            format!(
                "It can be used until {} UTC. If you did not expect this, do nothing.",
                shown(until)
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_groups_of_three() {
        let read = [0, 999, 1_000, 99_980, 1_234_567].map(grouped);
        assert_eq!(read, ["0", "999", "1,000", "99,980", "1,234,567"]);
    }
}
