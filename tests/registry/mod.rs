//! The registry's contract: what every registry must do, on real files and on a real PostgreSQL, and
//! at servers on both.

mod crash;
mod detours;
mod faults;
mod fixture;
mod flood;
mod log_tap;
mod migrations;
mod migrations_postgres;
mod model;
mod nodes;
mod on_http_postgres;
mod on_http_sqlite;
mod on_postgres;
mod on_sqlite;
mod over_http;
mod policy_ages;
mod scanner;
mod secure;
mod trigrams;
mod use_queue;

pub(crate) use fixture::{
    Fixture, Kind, START, checksum, copy_of, from_issue, pepper, rand_text, wish,
};
pub(crate) use log_tap::LogTap;
