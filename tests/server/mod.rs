//! The server as a process of its own, met by other people's programs: a certified client, a certified
//! provider behind it, Chromium, PostgreSQL, signals.

mod gateway;
mod harness;
mod nodes;
mod pages;
mod process;
mod schema;
mod third_party;
mod upstream;
mod webhooks;

pub(crate) use harness::{OWNER, PASSWORD, ServerProcess, peer};
