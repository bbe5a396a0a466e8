//! Several servers over one database: receipts, limits that all count together, jobs that one of them
//! does, and clocks that must agree.

pub(crate) mod attempts;
pub(crate) mod background;
pub(crate) mod clocks;
pub(crate) mod guesses;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod readings;
pub(crate) mod receipts;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use keywright_registry::{LocalRegistry, RegistryError};

use crate::server::{App, BuildError};
use crate::settings::{SettingError, Settings, WithoutRedis};

/// What is kept in memory.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Limits that all nodes count together; none for each by itself.
    pub(crate) redis: Option<Arc<limits::Redis>>,
    /// What the clock said lately.
    pub(crate) readings: readings::Readings,
}

/// Joins the nodes before anything is served.
///
/// # Errors
/// [`BuildError`] for an address of Redis that is none, or if the database cannot be written. A
/// Redis that does not answer yet is no reason not to start.
pub(crate) async fn join(
    settings: &Settings,
    registry: &LocalRegistry,
) -> Result<State, BuildError> {
    registry.join_nodes(&settings.node_name).await?;
    let Some(address) = &settings.redis_url else {
        return Ok(State::default());
    };
    let id = registry.registry_id().await?;
    let refuse = settings.limits_without_redis == WithoutRedis::Refuse;
    let at = limits::Place {
        address: address.expose(),
        authorities: redis_authorities(settings)?,
    };
    let redis = limits::Redis::connect(at, &id, refuse).await?;
    registry.share_limits(Arc::<limits::Redis>::clone(&redis));
    Ok(State {
        redis: Some(redis),
        ..State::default()
    })
}

fn redis_authorities(settings: &Settings) -> Result<Option<Vec<u8>>, SettingError> {
    let Some(path) = &settings.redis_ca else {
        return Ok(None);
    };
    let read = std::fs::read(path).map_err(|error| {
        let why = format!("{} cannot be read: {error}", path.display());
        SettingError::new("redis_ca", why)
    });
    read.map(Some)
}

/// Whether Redis can be reached; good where there is none in the settings.
///
/// # Errors
/// What is wrong, for whoever runs the server; the address, which may hold a password, is not told.
pub async fn check_redis(settings: &Settings) -> Result<(), String> {
    let Some(address) = &settings.redis_url else {
        return Ok(());
    };
    let at = limits::Place {
        address: address.expose(),
        authorities: redis_authorities(settings).map_err(|error| error.to_string())?,
    };
    // Nothing is counted: under which name is all one.
    let redis = limits::Redis::connect(at, "nobody", true).await;
    match redis.map_err(|error| error.to_string())?.is_up() {
        true => Ok(()),
        false => Err("it does not answer, or takes no commands from us".to_owned()),
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/nodes", get(list::list))
        .route("/api/v1/receipts/{version}", get(receipts::read))
}

/// Whether nobody used it before, on any node and before any restart: what is good for one use (DPoP proofs where
/// nodes share the database, RFC 9449 §11.1; answers to passkey challenges) is a row of the database. Each node's
/// own memory is asked first, by whoever calls.
pub(crate) async fn first_use(
    app: &App,
    kind: &'static str,
    owner: &str,
    text: &str,
    until: i64,
) -> bool {
    known(kind, app.registry.use_once(kind, owner, text, until).await)
}

/// The same for what travels with each request and is easily kept by others: one whose row may have been removed,
/// because the clock was ahead, counts as used as well. `until` is its own end, whenever it is shown.
pub(crate) async fn first_proof(
    app: &App,
    kind: &'static str,
    owner: &str,
    text: &str,
    until: i64,
) -> bool {
    let used = app.registry.use_proof_once(kind, owner, text, until);
    known(kind, used.await)
}

fn known(kind: &'static str, used: Result<bool, RegistryError>) -> bool {
    used.unwrap_or_else(|error| {
        tracing::warn!(
            code = error.code(),
            kind,
            "whether it was used is not known: refused"
        );
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{START, TestServer};

    #[tokio::test]
    async fn ac_204_what_cannot_be_written_down_as_used_counts_as_used() {
        let server = TestServer::start().await;
        let app = server.server.app();
        let until = START + 60_000;
        assert!(first_use(app, "challenge", "", "a", until).await);
        assert!(first_proof(app, "dpop", "k", "a", until).await);
        server.registry().close().await;
        assert!(!first_use(app, "challenge", "", "b", until).await);
        assert!(!first_proof(app, "dpop", "k", "b", until).await);
    }
}
