//! What goes into the index and what comes out.

use std::net::IpAddr;
use std::sync::Arc;

use keywright_domain::api_keys::{
    Gcra, KeyMac, KeyType, NetworkList, OriginList, RateLimit, RateLimits, SecretState,
};

use crate::packed::{KeyId, PackedKid};

/// Number of a scope set in this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopesId(pub(crate) u32);

/// Number of a [`Rules`] in this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RulesId(pub(crate) u32);

/// Number of a principal in this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrincipalId(pub(crate) u32);

/// Number of a short text in this index: an environment, a pepper's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextId(pub(crate) u32);

/// One limit, ready to be counted.
#[derive(Clone, Debug)]
pub(crate) struct CountedLimit {
    pub(crate) name: Arc<str>,
    pub(crate) gcra: Gcra,
    pub(crate) is_shared: bool,
}

/// What restricts a key beyond its scopes; kept once for all keys that have the same.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Its rate limits; all of them count.
    pub limits: RateLimits,
    /// Where it may be used from.
    pub networks: NetworkList,
    /// From which web pages it may be used.
    pub origins: OriginList,
    /// Whether uses are debited in the database.
    pub has_credits: bool,
    counted: Vec<CountedLimit>,
}

impl Rules {
    /// Puts rules together.
    #[must_use]
    pub fn new(
        limits: RateLimits,
        networks: NetworkList,
        origins: OriginList,
        has_credits: bool,
    ) -> Self {
        let counted = limits.as_slice().iter().map(|limit| CountedLimit {
            name: limit.name().into(),
            gcra: Gcra::new(limit),
            is_shared: limit.is_shared_by_owner(),
        });
        Self {
            counted: counted.collect(),
            limits,
            networks,
            origins,
            has_credits,
        }
    }

    /// The limits, ready to be counted, in the same order.
    pub(crate) fn counted(&self) -> &[CountedLimit] {
        &self.counted
    }

    /// About how many bytes they point to.
    pub(crate) fn bytes_beside(&self) -> usize {
        let limits = self.limits.as_slice().iter();
        let limits: usize = limits
            .map(|limit| {
                let name = 2 * limit.name().len() + 32;
                size_of::<RateLimit>() + size_of::<CountedLimit>() + name
            })
            .sum();
        let networks = self.networks.texts().count() * size_of::<(u8, IpAddr, u8)>();
        let origins = self.origins.to_text().len();
        limits + networks + 2 * origins
    }

    /// A text that only equal rules have.
    pub(crate) fn text(&self) -> String {
        let credits = if self.has_credits { "credits" } else { "" };
        let (limits, networks) = (self.limits.to_text(), self.networks.to_text());
        [&limits, &networks, &self.origins.to_text(), credits].join("\n")
    }
}

/// A whole key as it is in the database at `version`, with all its secrets.
#[derive(Clone, Debug)]
pub struct KeyImage {
    /// Stable id.
    pub id: KeyId,
    /// The change-log version of its row, from 0. An older image never overwrites a newer one.
    pub version: i64,
    /// Its environment.
    pub environment: TextId,
    /// Its type.
    pub key_type: KeyType,
    /// When it was issued (Unix ms).
    pub created_at: i64,
    /// Not valid before (Unix ms).
    pub not_before: Option<i64>,
    /// Ended by a person.
    pub revoked: bool,
    /// Paused by a person.
    pub disabled: bool,
    /// Bait.
    pub canary: bool,
    /// Its first accepted verification is its last.
    pub one_time: bool,
    /// Seen in public.
    pub exposed: bool,
    /// What it may do.
    pub scopes: ScopesId,
    /// Whose it is.
    pub owner: Option<PrincipalId>,
    /// Who made it.
    pub creator: Option<PrincipalId>,
    /// What else restricts it.
    pub rules: Option<RulesId>,
    /// Its secrets, all that the database has. One that an earlier image had and this one has not is
    /// gone.
    pub secrets: Vec<SecretImage>,
}

/// One secret of a [`KeyImage`].
#[derive(Clone, Debug)]
pub struct SecretImage {
    /// Public id.
    pub kid: PackedKid,
    /// What is stored of the secret.
    pub mac: KeyMac,
    /// The pepper that the mac was made with.
    pub pepper: TextId,
    /// State as stored.
    pub state: SecretState,
    /// When it ends by itself (Unix ms).
    pub expires_at: Option<i64>,
    /// When its overlap ends (Unix ms).
    pub retires_at: Option<i64>,
    /// Whether its first use was written.
    pub first_used: bool,
    /// Whether it was imported as a hash: then [`crate::Index::kid_of_mac`] finds it.
    pub foreign: bool,
}

/// A principal as it is in the database at `version`.
#[derive(Clone, Copy, Debug)]
pub struct PrincipalImage {
    /// Who.
    pub id: PrincipalId,
    /// The change-log version of its row, from 0.
    pub version: i64,
    /// Paused by a person.
    pub disabled: bool,
    /// What its keys may do at most.
    pub permissions: ScopesId,
    /// Its keys made at this time or before are revoked (Unix ms).
    pub keys_revoked_at: Option<i64>,
}

/// A principal as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrincipalFacts {
    /// Who.
    pub id: PrincipalId,
    /// Version of what is said here.
    pub version: i64,
    /// Paused by a person.
    pub disabled: bool,
    /// What its keys may do at most.
    pub permissions: ScopesId,
    /// Its keys made at this time or before are revoked (Unix ms).
    pub keys_revoked_at: Option<i64>,
}

/// Everything about a secret and its key, of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The secret.
    pub kid: PackedKid,
    /// Where the counters of its key lie: the same for all secrets of a key.
    pub(crate) head: u32,
    /// Its key.
    pub key_id: KeyId,
    /// Version of what is said here.
    pub version: i64,
    /// What is stored of the secret.
    pub mac: KeyMac,
    /// The pepper that the mac was made with.
    pub pepper: TextId,
    /// State of the secret as stored.
    pub state: SecretState,
    /// When the secret ends by itself (Unix ms).
    pub expires_at: Option<i64>,
    /// When its overlap ends (Unix ms).
    pub retires_at: Option<i64>,
    /// Whether its first use was written, or is being written.
    pub first_used: bool,
    /// When the key was issued (Unix ms).
    pub created_at: i64,
    /// Not valid before (Unix ms).
    pub not_before: Option<i64>,
    /// The key was ended by a person.
    pub revoked: bool,
    /// The key was paused by a person.
    pub disabled: bool,
    /// The key was seen in public.
    pub exposed: bool,
    /// The key is bait.
    pub canary: bool,
    /// Its first accepted verification is its last.
    pub one_time: bool,
    /// The environment of the key.
    pub environment: TextId,
    /// The type of the key.
    pub key_type: KeyType,
    /// What the key may do.
    pub scopes: ScopesId,
    /// What else restricts it.
    pub rules: Option<RulesId>,
    /// Whose it is.
    pub owner: Option<PrincipalFacts>,
    /// Who made it.
    pub creator: Option<PrincipalFacts>,
}

/// What the index knows of a secret.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "found is the usual case, and a box would be an allocation for every verification"
)]
pub enum Lookup {
    /// It is in memory and not in doubt.
    Found(Snapshot),
    /// There is no such secret.
    Unknown,
    /// Memory does not know: not loaded yet, or in doubt.
    AskDatabase,
}

/// Whose an imported hash is, as far as the index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KidOfMac {
    /// It was this secret's when it was looked for.
    Is(PackedKid),
    /// There is no such secret.
    Unknown,
    /// Memory does not know: not loaded yet.
    AskDatabase,
}

/// What became of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in the index.
    Applied,
    /// The index has something newer.
    Older,
    /// It cannot be held: a version or a number of records beyond all bounds, or a kid that
    /// another key has. The key is answered with [`Lookup::AskDatabase`].
    NotHeld,
}
