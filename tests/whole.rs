//! All whole-system tests, in one binary: linking it once is what a small machine can afford.

mod delivery;
mod desktop;
mod oauth;
mod registry;
mod server;
mod support;
