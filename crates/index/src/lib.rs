//! The index of keys that verification reads: all keys in memory, about 90 bytes each.
//!
//! This room is synchronous and has no IO and no clock: images of keys come in with the version of
//! their row, facts come out. It judges nothing: the rules are the domain's.
//!
//! Deny early, allow late: before a change is committed, [`Index::doubt_key`]; after it,
//! [`Index::apply_key`]. In between the index answers [`Lookup::AskDatabase`].

mod absent;
mod counters;
mod image;
mod index;
mod intern;
mod packed;
mod principals;
mod record;
mod row;
mod slab;
mod table;
mod throttle;

pub use absent::Question;
pub use counters::LimitAnswer;
pub use image::{
    Applied, KeyImage, KidOfMac, Lookup, PrincipalFacts, PrincipalId, PrincipalImage, Rules,
    RulesId, ScopesId, SecretImage, Snapshot, TextId,
};
pub use index::{Index, Statistics};
pub use packed::{KeyId, PackedKid};
pub use throttle::{FAILURES, FAILURES_PERIOD_MS, FailureThrottle};
