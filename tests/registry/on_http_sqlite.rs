//! AC-150: the contract over HTTP, at a server on SQLite. What is asked of a registry from inside
//! (`inside.rs`) is left out, each test with its reason there.
#![allow(clippy::duplicate_mod, reason = "one suite, once for each place")]

pub(crate) use super::over_http::HttpRegistry as Registry;
pub(crate) use super::*;

pub(crate) type Fixture = super::Fixture<Registry>;

/// A registry of its own for a test.
pub(crate) async fn fixture() -> anyhow::Result<Fixture> {
    Fixture::over_http(Kind::Sqlite).await
}

#[path = "contract.rs"]
mod contract;
#[path = "deliveries.rs"]
mod deliveries;
#[path = "insight.rs"]
mod insight;
#[path = "keys.rs"]
mod keys;
#[path = "lists.rs"]
mod lists;
#[path = "races.rs"]
mod races;
#[path = "schedules.rs"]
mod schedules;
