//! The commands of the web view: parse, call, answer. No decision is made here.

pub mod accounts;
pub mod activity;
pub mod api_keys;
pub mod closing;
pub mod flows;
pub mod notices;
pub mod registries;
pub mod sessions;
pub mod settings;
