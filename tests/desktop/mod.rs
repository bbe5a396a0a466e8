//! Journeys on the real desktop app: real window, real keychain, real browser, real provider.

mod accessibility;
mod accounts;
mod closing;
mod copying;
mod faults;
mod harness;
mod homes;
mod keyboard;
mod keychain;
mod keys;
mod remote;
mod server;
mod sign_in;
mod traces;
