//! The contract on PostgreSQL.
#![allow(clippy::duplicate_mod, reason = "one suite, once for each database")]

pub(crate) use super::*;

/// Here.
pub(crate) type Registry = keywright_registry::LocalRegistry;

/// A registry of its own for a test.
pub(crate) async fn fixture() -> anyhow::Result<Fixture> {
    Fixture::on(Kind::Postgres).await
}

#[path = "again.rs"]
mod again;
#[path = "audit.rs"]
mod audit;
#[path = "board.rs"]
mod board;
#[path = "campaigns.rs"]
mod campaigns;
#[path = "clients.rs"]
mod clients;
#[path = "contract.rs"]
mod contract;
#[path = "deliveries.rs"]
mod deliveries;
#[path = "denials.rs"]
mod denials;
#[path = "digests.rs"]
mod digests;
#[path = "grants.rs"]
pub(crate) mod grants;
#[path = "hung_up.rs"]
mod hung_up;
#[path = "hygiene_sweep.rs"]
mod hygiene_sweep;
#[path = "inside.rs"]
mod inside;
#[path = "insight.rs"]
mod insight;
#[path = "key_service.rs"]
mod key_service;
#[path = "keys.rs"]
mod keys;
#[path = "later.rs"]
mod later;
#[path = "lists.rs"]
mod lists;
#[path = "lists_model.rs"]
mod lists_model;
#[path = "lists_plans.rs"]
mod lists_plans;
#[path = "makers.rs"]
mod makers;
#[path = "narrowing.rs"]
mod narrowing;
#[path = "nul.rs"]
mod nul;
#[path = "outbox.rs"]
mod outbox;
#[path = "people.rs"]
pub(crate) mod people;
#[path = "portable.rs"]
mod portable;
#[path = "promotion.rs"]
mod promotion;
#[path = "races.rs"]
mod races;
#[path = "remembered.rs"]
mod remembered;
#[path = "retention.rs"]
mod retention;
#[path = "schedules.rs"]
mod schedules;
#[path = "sharing.rs"]
mod sharing;
#[path = "signing_in.rs"]
mod signing_in;
#[path = "stretches.rs"]
mod stretches;
#[path = "together.rs"]
mod together;
