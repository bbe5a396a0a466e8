//! Journeys on the real desktop app: real window, real keychain, real browser, real provider.

mod copying;
mod harness;
mod keys;
mod sign_in;
