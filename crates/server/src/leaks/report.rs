//! What is done about a report: a secret that matches is ended, a kid is told of.

use std::sync::Arc;
use std::time::Duration;

use keywright_domain::SecretText;
use keywright_domain::api_keys::{Kid, find_keys};
use keywright_domain::audit::Actor;
use keywright_registry::RegistryError;

use crate::problem::{Problem, store_unavailable};
use crate::server::App;

/// Keys of one report that are looked at.
const MOST_KEYS: usize = 5;
/// A text that is no key of ours may be one that was imported, if it is not longer.
const LONGEST_FOREIGN: usize = 512;
/// Waits before further tries, when the registry does not answer.
const WAITS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];

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
        let ours = find_keys(text).take(MOST_KEYS);
        let ours: Vec<_> = ours
            .filter_map(|found| text.get(found.range))
            .map(|key| SecretText::new(key.to_owned()))
            .collect();
        let trimmed = text.trim();
        if ours.is_empty() && trimmed.len() <= LONGEST_FOREIGN {
            return vec![SecretText::new(trimmed.to_owned())];
        }
        ours
    }
}

/// Sees to a report in the background.
///
/// # Errors
/// 503 where too many are being worked on: the same for every report.
pub(super) fn begin(app: &App, by: &'static str, found: Found) -> Result<(), Problem> {
    let Ok(place) = Arc::clone(&app.leaks.places).try_acquire_owned() else {
        return Err(store_unavailable());
    };
    let app = Arc::clone(app);
    tokio::spawn(async move {
        for wait in [Duration::ZERO].into_iter().chain(WAITS) {
            tokio::time::sleep(wait).await;
            match see_to(&app, by, &found).await {
                Ok(()) => {
                    drop(place);
                    return;
                }
                Err(error) => {
                    tracing::error!(code = error.code(), "a found key waits to be seen to");
                }
            }
        }
        tracing::error!("a found key was not seen to: given up");
        drop(place);
    });
    Ok(())
}

async fn see_to(app: &App, by: &str, found: &Found) -> Result<(), RegistryError> {
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

/// Ends the secret if it is one of ours. Returns whether it is, in whatever state.
///
/// # Errors
/// [`RegistryError`]: then nothing is known.
pub(super) async fn end(
    app: &App,
    by: &str,
    text: &SecretText,
    seen_in: &str,
) -> Result<bool, RegistryError> {
    let Some(peppers) = app.peppers() else {
        return Ok(false);
    };
    let found = app
        .registry
        .identify_secret(text.expose(), &peppers)
        .await?;
    let Some((kid, key_id)) = found else {
        return Ok(false);
    };
    let Ok(kid) = Kid::new(&kid) else {
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
