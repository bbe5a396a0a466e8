//! Endpoints beyond RFC 6749: introspection, revocation, device authorization, pushed requests,
//! registration, sign-out.

use axum::Router;

use super::dpop::own_seconds::OwnSeconds;
use super::used::Used;
use super::{back_channel, device, end_session, introspect, pushed_requests, register, revoke};
use crate::http::failures::Failures;
use crate::nodes::guesses::Guesses;
use crate::server::App;

/// What these endpoints keep in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// DPoP proofs that were used.
    pub(crate) proofs: Used,
    /// Those of pushed requests, whose senders need not prove who they are: they are for another address
    /// than the rest, and take their room only from each other.
    pub(crate) pushed_proofs: Used,
    /// Whose proofs without a nonce those two know, where they know only their own.
    pub(crate) own_seconds: OwnSeconds,
    /// By chance, at each start: nonces are made of it where the memory of proofs ends with the process.
    pub(crate) process: [u8; 16],
    /// Client assertions that were used.
    pub(crate) assertions: Used,
    /// Wrong user codes (AC-171).
    pub(crate) guesses: Guesses,
    /// Device requests that were begun.
    pub(crate) devices: Failures,
    /// Clients that were registered, and tokens for it that were wrong.
    pub(crate) registrations: Failures,
    /// Logout tokens on their way.
    pub(crate) logouts: back_channel::Hurry,
}

impl State {
    /// Nothing remembered yet. `now`: Unix ms.
    pub(crate) fn new(now: i64) -> Self {
        Self {
            proofs: Used::new(200_000),
            pushed_proofs: Used::new(20_000),
            own_seconds: OwnSeconds::new(now),
            process: rand::random(),
            assertions: Used::new(200_000),
            guesses: Guesses::new("user codes", 5, 600_000),
            devices: Failures::new(60, 60_000),
            registrations: Failures::new(20, 60_000),
            logouts: back_channel::Hurry::new(),
        }
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .merge(introspect::routes())
        .merge(revoke::routes())
        .merge(device::routes())
        .merge(pushed_requests::routes())
        .merge(register::routes())
        .merge(end_session::routes())
}

/// Starts what goes on beside requests.
pub(crate) fn start_background_work(_app: &App) {}
