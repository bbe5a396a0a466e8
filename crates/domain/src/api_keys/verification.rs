//! The verdict on a presented secret, in a fixed order. Until the mac matches, nothing is told.

use std::net::IpAddr;

use super::environment::{Environment, KeyType};
use super::lifecycle::SecretState;
use super::networks::NetworkList;
use super::origins::OriginList;
use crate::scopes::{Scope, ScopeRequirement, ScopeSet};

/// Why a presented key is refused. The list grows; treat unknown codes as a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a key of ours by its looks.
    Malformed(super::FormatError),
    /// Unknown kid, or a known kid with another secret: the same answer for both.
    NotFound,
    /// Ended by a person.
    Revoked,
    /// Its overlap ended, or it was cancelled before its first use.
    Retired,
    /// Past its expiry.
    Expired,
    /// Before its beginning.
    NotYetValid,
    /// Suspended.
    Disabled,
    /// Its owner is suspended.
    OwnerDisabled,
    /// The caller's address is not on its list, or is not known.
    IpNotAllowed,
    /// The caller's origin is not on its list, or is not known.
    OriginNotAllowed,
    /// A key of another environment.
    WrongEnvironment,
    /// A key of a type that may not do this.
    KeyTypeForbidden,
    /// The key does not hold what was required; these scopes would do.
    InsufficientScope(Vec<Scope>),
    /// A limit of the key, its owner or the caller's address.
    RateLimited {
        /// Name of the limit.
        limit: String,
        /// When it is worth trying again.
        retry_after_ms: i64,
    },
    /// No credits left.
    CreditsExhausted {
        /// When some come back (Unix ms); none for never.
        refill_at: Option<i64>,
    },
}

impl Refusal {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::NotFound => "not_found",
            Self::Revoked => "revoked",
            Self::Retired => "retired",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Disabled => "disabled",
            Self::OwnerDisabled => "owner_disabled",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::WrongEnvironment => "wrong_environment",
            Self::KeyTypeForbidden => "key_type_forbidden",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::RateLimited { .. } => "rate_limited",
            Self::CreditsExhausted { .. } => "credits_exhausted",
        }
    }
}

/// The verdict on a secret whose mac matched.
pub type Verdict = Result<(), Refusal>;

/// What is known of a secret and its key at the moment of a verification.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// State of the secret at that moment.
    pub secret: SecretState,
    /// The key was revoked, by itself or with everything of its owner.
    pub revoked: bool,
    /// The key is suspended.
    pub disabled: bool,
    /// Its owner is suspended.
    pub owner_disabled: bool,
    /// From when the key verifies.
    pub not_before: Option<i64>,
    /// Where it may be used.
    pub environment: &'a Environment,
    /// By its prefix.
    pub key_type: KeyType,
    /// From where it may be used.
    pub networks: &'a NetworkList,
    /// From which pages it may be used.
    pub origins: &'a OriginList,
    /// What it may do: granted, and still held by its creator.
    pub scopes: &'a ScopeSet,
}

/// What is asked of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Scopes that are needed.
    pub requirement: Option<&'a ScopeRequirement>,
    /// The environment that the resource belongs to.
    pub environment: Option<&'a Environment>,
    /// Types of keys that may do this; empty for all.
    pub key_types: &'a [KeyType],
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Its `Origin` (RFC 6454).
    pub origin: Option<&'a str>,
}

/// Judges a matching secret at `now`. Limits and credits are taken after this, and only then.
///
/// # Errors
/// The first [`Refusal`] in the order: secret, key, owner, beginning and expiry, network and
/// origin, environment and type, scopes.
pub fn judge(facts: &Facts<'_>, ask: &Ask<'_>, now: i64) -> Verdict {
    match facts.secret {
        SecretState::Revoked => return Err(Refusal::Revoked),
        SecretState::Retired | SecretState::Aborted => return Err(Refusal::Retired),
        _ => {}
    }
    if facts.revoked {
        return Err(Refusal::Revoked);
    }
    if facts.disabled {
        return Err(Refusal::Disabled);
    }
    if facts.owner_disabled {
        return Err(Refusal::OwnerDisabled);
    }
    if facts.not_before.is_some_and(|start| now < start) {
        return Err(Refusal::NotYetValid);
    }
    if facts.secret == SecretState::Expired {
        return Err(Refusal::Expired);
    }
    // A list without anything to compare with refuses: an unknown address is on no list.
    if !facts.networks.is_empty()
        && !ask
            .address
            .is_some_and(|address| facts.networks.allows(address))
    {
        return Err(Refusal::IpNotAllowed);
    }
    if !facts.origins.allows(ask.origin) {
        return Err(Refusal::OriginNotAllowed);
    }
    if ask
        .environment
        .is_some_and(|wanted| wanted != facts.environment)
    {
        return Err(Refusal::WrongEnvironment);
    }
    if !ask.key_types.is_empty() && !ask.key_types.contains(&facts.key_type) {
        return Err(Refusal::KeyTypeForbidden);
    }
    match ask.requirement {
        Some(requirement) if !requirement.is_met_by(facts.scopes) => Err(
            Refusal::InsufficientScope(requirement.missing(facts.scopes)),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(
        secret: SecretState,
        scopes: &'a ScopeSet,
        open: &'a (NetworkList, OriginList),
    ) -> Facts<'a> {
        Facts {
            secret,
            revoked: false,
            disabled: false,
            owner_disabled: false,
            not_before: None,
            environment: &Environment::LIVE,
            key_type: KeyType::Secret,
            networks: &open.0,
            origins: &open.1,
            scopes,
        }
    }

    #[test]
    fn every_state_of_a_secret_has_its_answer() {
        use SecretState::{Aborted, Active, Expired, Pending, Retired, Retiring, Revoked};
        let (scopes, open) = (ScopeSet::everything(), Default::default());
        for (state, code) in [
            (Pending, "valid"),
            (Active, "valid"),
            (Retiring, "valid"),
            (Retired, "retired"),
            (Aborted, "retired"),
            (Expired, "expired"),
            (Revoked, "revoked"),
        ] {
            let verdict = judge(&facts(state, &scopes, &open), &Ask::default(), 0);
            assert_eq!(
                verdict.map_or_else(|refusal| refusal.code(), |()| "valid"),
                code,
                "{state:?}"
            );
        }
    }

    /// Everything is wrong at once; mended one by one, the next reason is told.
    #[test]
    fn ac_129_reasons_are_told_in_their_order() {
        let networks = NetworkList::new(["10.0.0.0/8"]).expect("a network");
        let origins = OriginList::new(["https://app.example"]).expect("an origin");
        let (scopes, lists) = (
            ScopeSet::parse("orders:read").expect("scopes"),
            (networks, origins),
        );
        let need = ScopeRequirement::from(Scope::new("orders:write").expect("a scope"));
        let mut facts = Facts {
            revoked: true,
            disabled: true,
            owner_disabled: true,
            not_before: Some(10),
            ..facts(SecretState::Retired, &scopes, &lists)
        };
        let mut ask = Ask {
            requirement: Some(&need),
            environment: Some(&Environment::TEST),
            key_types: &[KeyType::Root],
            address: None,
            origin: Some("https://evil.example"),
        };
        let mut told = Vec::new();
        let mut now = 9;
        for step in 0..12 {
            told.push(judge(&facts, &ask, now).map_or_else(|refusal| refusal.code(), |()| "valid"));
            match step {
                0 => facts.secret = SecretState::Expired,
                1 => facts.revoked = false,
                2 => facts.disabled = false,
                3 => facts.owner_disabled = false,
                4 => now = 10,
                5 => facts.secret = SecretState::Active,
                6 => ask.address = Some("::ffff:10.1.2.3".parse().expect("an address")),
                7 => ask.origin = Some("https://app.example"),
                8 => ask.environment = Some(&Environment::LIVE),
                9 => ask.key_types = &[],
                _ => ask.requirement = None,
            }
        }
        assert_eq!(
            told,
            [
                "retired",
                "revoked",
                "disabled",
                "owner_disabled",
                "not_yet_valid",
                "expired",
                "ip_not_allowed",
                "origin_not_allowed",
                "wrong_environment",
                "key_type_forbidden",
                "insufficient_scope",
                "valid"
            ]
        );
    }

    #[test]
    fn ac_145_a_list_of_networks_refuses_what_it_cannot_see() {
        let lists = (
            NetworkList::new(["2001:db8::/32"]).expect("a network"),
            OriginList::default(),
        );
        let scopes = ScopeSet::everything();
        let facts = facts(SecretState::Active, &scopes, &lists);
        for (address, allowed) in [
            (None, false),
            (Some("2001:db8::1"), true),
            (Some("2001:db9::1"), false),
        ] {
            let address = address.map(|text| text.parse().expect("an address"));
            let ask = Ask {
                address,
                ..Ask::default()
            };
            assert_eq!(judge(&facts, &ask, 0).is_ok(), allowed, "{address:?}");
        }
    }
}
