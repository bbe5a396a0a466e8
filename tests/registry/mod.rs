//! The registry's contract: what every registry must do, on real files and on a real PostgreSQL.

mod crash;
mod faults;
mod fixture;
mod log_tap;
mod migrations;
mod model;
mod nodes;
mod on_postgres;
mod on_sqlite;
mod scanner;

pub(crate) use fixture::{
    Fixture, Kind, START, checksum, copy_of, from_issue, pepper, rand_text, wish,
};
pub(crate) use log_tap::LogTap;
