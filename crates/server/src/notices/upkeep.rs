//! What time ends, and what is kept no longer. Every node may do it: what one did is nothing to do for
//! the next.

use keywright_domain::audit::Actor;
use keywright_registry::RegistryError;

use super::State;
use crate::server::App;

const MINUTE_MS: i64 = 60_000;
const PEOPLE_EVERY_MS: i64 = 10 * MINUTE_MS;
const RETENTION_EVERY_MS: i64 = 24 * 60 * MINUTE_MS;
/// Batches at most in one turn; the rest waits for the next.
const BATCHES: usize = 50;

/// Does what is due.
pub(super) async fn run(app: &App) {
    let (state, now) = (&app.notices, app.now());
    if State::is_time(&state.settled_at, now, MINUTE_MS) {
        match app.registry.settle_rotations().await {
            Ok(0) => {}
            Ok(_) => state.wake(),
            Err(error) => tracing::warn!(code = error.code(), "rotations wait for their end"),
        }
    }
    if State::is_time(&state.pruned_at, now, PEOPLE_EVERY_MS)
        && let Err(error) = prune(app).await
    {
        tracing::warn!(code = error.code(), "what is over waits for its removal");
    }
    if State::is_time(&state.retained_at, now, RETENTION_EVERY_MS)
        && let Err(error) = retain(app).await
    {
        tracing::warn!(code = error.code(), "retention waits for its next turn");
    }
}

async fn prune(app: &App) -> Result<(), RegistryError> {
    for _ in 0..BATCHES {
        let kept = &app.settings.retention.people;
        if !app.registry.prune_people(kept).await?.more {
            break;
        }
    }
    Ok(())
}

async fn retain(app: &App) -> Result<(), RegistryError> {
    // The audit trail is only cut behind a signature.
    let key = app.secrets.checkpoint_key();
    app.registry
        .run_retention(
            &Actor::keywright(),
            &app.settings.retention.keys,
            Some(&key),
            &|_| {},
        )
        .await
        .map(drop)
}
