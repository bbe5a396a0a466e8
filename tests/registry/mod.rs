//! The registry's contract: what every registry must do, on real files and on a real PostgreSQL.

mod crash;
mod faults;
mod fixture;
mod migrations;
mod model;
mod log_tap;
mod on_postgres;
mod on_sqlite;
mod scanner;

pub(crate) use fixture::{Fixture, Kind, START, checksum, from_issue, pepper, rand_text, wish};
pub(crate) use fixture::{Fixture, Kind, START, from_issue, pepper, rand_text, wish};
pub(crate) use log_tap::LogTap;
