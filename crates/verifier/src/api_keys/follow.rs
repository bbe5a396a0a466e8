//! Follows the server's stream of changes, for as long as anybody verifies keys.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Deserialize;

use super::Shared;
use super::sse::{Event, Reader};

/// After a failure the stream is asked for again after this time, twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// What an event says.
#[derive(Deserialize)]
struct Told {
    version: i64,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    id: String,
}

/// Begins to follow.
pub(super) fn start(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut wait = FIRST_WAIT;
        loop {
            let Some(was_heard) = once(&weak).await else {
                return;
            };
            if was_heard {
                wait = FIRST_WAIT;
            }
            // Many services that lost one server do not all come back at the same moment.
            let spread = u64::from(std::process::id()) % 50;
            tokio::time::sleep(wait + Duration::from_millis(spread)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    });
}

/// One stream from its beginning to its end. Whether anything was heard; none when nobody verifies keys
/// any more.
async fn once(weak: &Weak<Shared>) -> Option<bool> {
    let shared = weak.upgrade()?;
    let after = shared.memory().version();
    let asked = shared
        .fetch
        .open_stream(&shared.events_url, &shared.credential, after);
    let mut response = match asked.await {
        Ok(response) => response,
        Err(reason) => {
            shared.memory().lost();
            tracing::warn!(
                reason,
                "changes of keys cannot be followed: each key is asked about"
            );
            return Some(false);
        }
    };
    let silence = shared.silence;
    drop(shared);
    let mut reader = Reader::default();
    let mut was_heard = false;
    loop {
        let piece = tokio::time::timeout(silence, response.chunk()).await;
        let shared = weak.upgrade()?;
        let events = match piece {
            Ok(Ok(Some(piece))) => reader.take(&piece).ok(),
            // It ended, it broke, or it is silent.
            _ => None,
        };
        let is_sound = match events {
            Some(events) => events.iter().all(|event| {
                was_heard = true;
                take(&shared, event)
            }),
            None => false,
        };
        if !is_sound {
            shared.memory().lost();
            return Some(was_heard);
        }
    }
}

/// Does what an event says. False for one that cannot be read: what it was about is not known.
fn take(shared: &Shared, event: &Event) -> bool {
    let Ok(told) = serde_json::from_str::<Told>(&event.data) else {
        return false;
    };
    let now = shared.clock.elapsed();
    let mut memory = shared.memory();
    match (event.name.as_str(), told.subject.as_str()) {
        ("heartbeat", _) => memory.heard(told.version, now),
        ("change", "api_key") => memory.key_changed(&told.id, told.version),
        // A person's role, a suspended owner, and whatever later versions tell: it may be about any key.
        ("reset", _) => memory.reset(told.version),
        _ => memory.everything_changed(told.version),
    }
    true
}
