//! Signing in, refreshing and signing out, against a certified provider and a misbehaving one,
//! with the real Secret Service.

mod faults;
mod keychain;
mod loopback;
mod refresh;
mod sign_in;
mod sign_out;
