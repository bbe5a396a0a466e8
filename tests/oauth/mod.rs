//! Signing in, refreshing and signing out, against a certified provider and a misbehaving one,
//! with the real Secret Service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what goes wrong in a test's parts is a failed test"
)]

mod faults;
mod flows;
mod keychain;
mod loopback;
mod pending;
mod refresh;
mod sign_in;
mod sign_out;
mod waiting;
