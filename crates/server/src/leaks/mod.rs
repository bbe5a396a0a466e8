//! Keys that are where no key belongs: a door at which anybody can report one, GitHub's reports, and
//! the rules by which scanners find them. `docs/leaks.md` says what reporters and owners see.

mod door;
mod github;
mod github_form;
mod github_keys;
mod report;
mod rules;

pub use github_keys::check as check_github_keys;
pub(crate) use report::see_to;

#[cfg(test)]
mod github_tests;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::http::failures::{Failures, Waits};
use crate::server::{App, BuildError};
use crate::settings::Settings;

/// A line with a key in it, and where it was.
const LARGEST_REPORT: usize = 16 * 1024;
/// GitHub sends many at once.
const LARGEST_PAYLOAD: usize = 1024 * 1024;
const WINDOW_MS: i64 = 600_000;
/// Reports of one source within ten minutes, and of all.
const OF_ONE: u32 = 30;
const OF_ALL: u32 = 1_000;
/// Reports that are worked on at once.
const AT_ONCE: usize = 64;
/// Reports of GitHub that are worked on at once; each may have a thousand tokens. More wait.
const OF_GITHUB_AT_ONCE: usize = 16;

/// What is kept in memory.
#[derive(Debug)]
pub(crate) struct State {
    of_one: Failures,
    of_all: Failures,
    places: Arc<Semaphore>,
    github: github_keys::Keys,
    github_places: Semaphore,
}

impl State {
    /// Nothing reported yet.
    pub(crate) fn new(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {
            of_one: Failures::new(OF_ONE, WINDOW_MS),
            of_all: Failures::new(OF_ALL, WINDOW_MS),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            github: github_keys::Keys::default(),
            github_places: Semaphore::new(OF_GITHUB_AT_ONCE),
        })
    }

    /// Counts a report at the door of everybody. The limits are the same whatever is reported.
    ///
    /// # Errors
    /// [`Waits`] where there were too many.
    fn count(&self, door: &str, source: IpAddr, now: i64) -> Result<(), Waits> {
        let everybody = IpAddr::V4(Ipv4Addr::BROADCAST);
        self.of_one.check(source, door, now)?;
        self.of_all.check(everybody, door, now)?;
        self.of_one.count(source, door, now);
        self.of_all.count(everybody, door, now);
        Ok(())
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/found-key",
            get(door::page)
                .post(door::take)
                .layer(DefaultBodyLimit::max(LARGEST_REPORT)),
        )
        .route(
            "/github/secret-scanning",
            post(github::take).layer(DefaultBodyLimit::max(LARGEST_PAYLOAD)),
        )
        .route("/.well-known/secret-scanning", get(rules::description))
        .route("/scanner-rules/{name}", get(rules::rules))
}
