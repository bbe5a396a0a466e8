//! What is done about a report: a secret that matches is ended, a kid is told of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use keywright_domain::SecretText;
use keywright_domain::api_keys::{Kid, find_keys};
use keywright_domain::audit::Actor;
use keywright_domain::people::Sealed;
use keywright_registry::RegistryError;
use keywright_registry::outbox::{Attempt, Channel, Claimed, NewMessage, Outcome};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::notices::retry::next_try;
use crate::problem::{Problem, store_unavailable};
use crate::server::App;

/// Keys of one report that are looked at: more than fit into the largest.
const MOST_KEYS: usize = 500;
/// A text that is no key of ours may be one that was imported, if it is not longer.
const LONGEST_FOREIGN: usize = 512;
/// Reports that wait at most, for all nodes.
const MOST_WAITING: i64 = 1_000;
/// Taken at once by whoever wrote a report down; the rest is for the background.
const TAKEN_AT_ONCE: u32 = 4;
const PURPOSE: &str = "found key";

/// What somebody found.
pub(super) struct Found {
    text: SecretText,
    seen_in: String,
}

impl Found {
    /// A text, and where it was.
    pub(super) fn new(text: SecretText, seen_in: &str) -> Self {
        let seen_in: String = seen_in.trim().chars().take(500).collect();
        Self { text, seen_in }
    }

    /// Whether it is a kid and nothing else.
    pub(super) fn is_kid(&self) -> bool {
        self.kid().is_some()
    }

    fn kid(&self) -> Option<Kid> {
        Kid::new(self.text.expose().trim()).ok()
    }

    /// Texts that may be whole keys.
    fn keys(&self) -> Vec<SecretText> {
        let text = self.text.expose();
        let mut seen = HashSet::new();
        let ours = find_keys(text).filter_map(|found| text.get(found.range));
        let ours: Vec<_> = ours
            .filter(|key| seen.insert(*key))
            .take(MOST_KEYS)
            .map(|key| SecretText::new(key.to_owned()))
            .collect();
        let trimmed = text.trim();
        if ours.is_empty() && trimmed.len() <= LONGEST_FOREIGN {
            return vec![SecretText::new(trimmed.to_owned())];
        }
        ours
    }
}

/// What is written down of a report, sealed: it may hold the very key.
#[derive(Deserialize, Serialize)]
struct Kept {
    by: String,
    text: String,
    seen_in: String,
}

/// Writes a report down, whatever it holds, so that neither a crash nor a registry that falls silent
/// loses it, and sees to it in the background.
///
/// # Errors
/// 503 where it could not be written down, or too many are: the same for every report.
pub(super) async fn begin(app: &App, by: &str, found: Found) -> Result<(), Problem> {
    let Ok(place) = Arc::clone(&app.leaks.places).try_acquire_owned() else {
        return Err(store_unavailable());
    };
    let kept = Kept {
        by: by.to_owned(),
        text: found.text.expose().to_owned(),
        seen_in: found.seen_in,
    };
    let plain = Zeroizing::new(serde_json::to_vec(&kept).unwrap_or_default());
    drop(SecretText::new(kept.text));
    let message = NewMessage {
        event_id: keywright_domain::base62::random_id(&mut rand::rng()),
        event_type: "key.found".to_owned(),
        channel: Channel::FoundKey,
        target: "registry".to_owned(),
        body: app.secrets.seal(PURPOSE, &plain).as_bytes().to_vec(),
    };
    app.registry.enqueue_one(message, MOST_WAITING).await?;
    let app = Arc::clone(app);
    tokio::spawn(async move {
        // Not when the background looks next: whoever found it may use it.
        let taken = app
            .registry
            .claim_messages(&[Channel::FoundKey], TAKEN_AT_ONCE);
        match taken.await {
            Ok(taken) => {
                for claimed in taken {
                    if let Err(error) = see_to(&app, &claimed).await {
                        tracing::warn!(code = error.code(), "a found key has its turn again");
                    }
                }
            }
            Err(error) => tracing::warn!(code = error.code(), "a found key has its turn later"),
        }
        drop(place);
    });
    Ok(())
}

/// Sees to a report that was written down. Nothing of it is kept afterwards.
///
/// # Errors
/// [`RegistryError`]: then it has its turn again when its claim runs out.
pub(crate) async fn see_to(app: &App, claimed: &Claimed) -> Result<(), RegistryError> {
    let message = &claimed.message;
    let sealed = Sealed::new(claimed.body.clone());
    let kept = app.secrets.unseal(PURPOSE, &sealed).ok();
    let kept: Option<Kept> = kept.and_then(|plain| serde_json::from_slice(&plain).ok());
    let Some(kept) = kept else {
        tracing::error!("a found key cannot be read: it was sealed under another master key");
        return app.registry.remove_message(&message.id).await;
    };
    let found = Found {
        text: SecretText::new(kept.text),
        seen_in: kept.seen_in,
    };
    let (at, begun) = (app.now(), Instant::now());
    let Err(error) = act(app, &kept.by, &found).await else {
        return app.registry.remove_message(&message.id).await;
    };
    let again = next_try(message.attempts, app.now());
    tracing::error!(
        code = error.code(),
        tries = message.attempts,
        given_up = again.is_none(),
        "a found key was not seen to"
    );
    let attempt = Attempt {
        attempt: message.attempts,
        at,
        duration_ms: i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX),
        status: None,
        error: Some(error.code().to_owned()),
        excerpt: String::new(),
    };
    let is_over = again.is_none();
    let outcome = again.map_or(Outcome::Failed, Outcome::Again);
    crate::notices::record(app, message, attempt, outcome).await?;
    if is_over {
        app.registry.remove_message(&message.id).await?;
    }
    Ok(())
}

async fn act(app: &App, by: &str, found: &Found) -> Result<(), RegistryError> {
    if let Some(kid) = found.kid() {
        // Anybody knows a kid: what a stranger writes beside it would reach its owner by our mail.
        let actor = Actor::person(by);
        let told = app
            .registry
            .report_found_kid(&actor, &kid, "its id was reported");
        if told.await? {
            app.notices.wake();
        }
        return Ok(());
    }
    for key in found.keys() {
        end(app, by, &key, &found.seen_in).await?;
    }
    Ok(())
}

/// Kid and key of a text that is a secret of ours.
async fn identify(app: &App, text: &SecretText) -> Result<Option<(Kid, String)>, RegistryError> {
    // Without peppers nobody knows whose it is: the report waits for them.
    let peppers = app.peppers().ok_or(RegistryError::PepperMissing)?;
    let found = app
        .registry
        .identify_secret(text.expose(), &peppers)
        .await?;
    Ok(found.and_then(|(kid, key_id)| Some((Kid::new(&kid).ok()?, key_id))))
}

/// Whether it is one of ours, in whatever state. Nothing is ended.
///
/// # Errors
/// [`RegistryError`]: then nothing is known.
pub(super) async fn is_ours(app: &App, text: &SecretText) -> Result<bool, RegistryError> {
    Ok(identify(app, text).await?.is_some())
}

/// Ends the secret if it is one of ours. Returns whether it is, in whatever state.
///
/// # Errors
/// [`RegistryError`], [`RegistryError::PepperMissing`] where there are no peppers: then nothing is known.
pub(super) async fn end(
    app: &App,
    by: &str,
    text: &SecretText,
    seen_in: &str,
) -> Result<bool, RegistryError> {
    let Some((kid, key_id)) = identify(app, text).await? else {
        return Ok(false);
    };
    let seen_in = if seen_in.is_empty() {
        "reported in full"
    } else {
        seen_in
    };
    let actor = Actor::person(by);
    let ended = app
        .registry
        .report_found_secret(&actor, &key_id, &kid, seen_in);
    if ended.await? {
        tracing::warn!(
            key = key_id,
            kid = kid.as_str(),
            by,
            "a found secret was ended"
        );
        app.notices.wake();
    }
    Ok(true)
}
