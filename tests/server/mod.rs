//! The server as a process of its own, met by other people's programs: a certified client, a certified
//! provider behind it, Chromium, PostgreSQL, signals.

mod answered_later;
mod at_rest;
mod bulk;
mod clock;
mod clock_steps;
mod commands;
mod delivering;
mod every_page;
mod flood;
mod gateway;
mod harness;
mod https;
mod hung_up;
mod kill;
mod load;
mod log_scan;
mod mail;
mod nodes;
mod nul;
mod offline;
mod pages;
mod process;
mod restore;
mod schema;
mod services;
mod soak;
mod third_party;
mod traces;
mod upstream;
mod used_once;
mod webhooks;

pub(crate) use harness::{OWNER, PASSWORD, ServerProcess, peer};
