//! How verifications end, counted by door and code. Each is one addition to a counter that is there from the
//! start: a verification takes a few microseconds, and looking for a counter by its labels would be felt.

use keywright_domain::api_keys::Refusal;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Where a key is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// `POST /api/v1/keys/verify`, each key by itself.
    Api,
    /// `/verify`, which gateways ask.
    Gateway,
}

/// How a verification ended: codes of verifications (not of answers, in which those of states carry the word key),
/// and what keeps a door from any verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Valid,
    Malformed,
    NotFound,
    Revoked,
    Retired,
    Expired,
    NotYetValid,
    Disabled,
    OwnerDisabled,
    IpNotAllowed,
    OriginNotAllowed,
    WrongEnvironment,
    KeyTypeForbidden,
    InsufficientScope,
    RateLimited,
    CreditsExhausted,
    KeyInUrl,
    CredentialsMissing,
    StoreUnavailable,
    /// Not answered: its time was over, or whoever asked hung up.
    GivenUp,
    /// The request is not in order, or the server is not.
    Other,
}

const ENDINGS: usize = Ending::ALL.len();

impl Ending {
    /// In their order: the number of each is its place.
    const ALL: [Self; 21] = [
        Self::Valid,
        Self::Malformed,
        Self::NotFound,
        Self::Revoked,
        Self::Retired,
        Self::Expired,
        Self::NotYetValid,
        Self::Disabled,
        Self::OwnerDisabled,
        Self::IpNotAllowed,
        Self::OriginNotAllowed,
        Self::WrongEnvironment,
        Self::KeyTypeForbidden,
        Self::InsufficientScope,
        Self::RateLimited,
        Self::CreditsExhausted,
        Self::KeyInUrl,
        Self::CredentialsMissing,
        Self::StoreUnavailable,
        Self::GivenUp,
        Self::Other,
    ];

    /// Of a verdict.
    pub(crate) fn of(verdict: &Result<(), Refusal>) -> Self {
        match verdict {
            Ok(()) => Self::Valid,
            Err(Refusal::Malformed(_)) => Self::Malformed,
            Err(Refusal::NotFound) => Self::NotFound,
            Err(Refusal::Revoked) => Self::Revoked,
            Err(Refusal::Retired) => Self::Retired,
            Err(Refusal::Expired) => Self::Expired,
            Err(Refusal::NotYetValid) => Self::NotYetValid,
            Err(Refusal::Disabled) => Self::Disabled,
            Err(Refusal::OwnerDisabled) => Self::OwnerDisabled,
            Err(Refusal::IpNotAllowed) => Self::IpNotAllowed,
            Err(Refusal::OriginNotAllowed) => Self::OriginNotAllowed,
            Err(Refusal::WrongEnvironment) => Self::WrongEnvironment,
            Err(Refusal::KeyTypeForbidden) => Self::KeyTypeForbidden,
            Err(Refusal::InsufficientScope(_)) => Self::InsufficientScope,
            Err(Refusal::RateLimited { .. }) => Self::RateLimited,
            Err(Refusal::CreditsExhausted { .. }) => Self::CreditsExhausted,
        }
    }

    /// Of what a door answered before there was a verdict.
    pub(crate) fn without_verdict(code: &str) -> Self {
        if code == "commit_unknown" {
            return Self::StoreUnavailable;
        }
        [
            Self::KeyInUrl,
            Self::CredentialsMissing,
            Self::StoreUnavailable,
        ]
        .into_iter()
        .find(|one| one.as_str() == code)
        .unwrap_or(Self::Other)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Malformed => "malformed",
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
            Self::InsufficientScope => "insufficient_scope",
            Self::RateLimited => "rate_limited",
            Self::CreditsExhausted => "credits_exhausted",
            Self::KeyInUrl => "key_in_url",
            Self::CredentialsMissing => "credentials_missing",
            Self::StoreUnavailable => "store_unavailable",
            Self::GivenUp => "given_up",
            Self::Other => "other",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    door: &'static str,
    code: &'static str,
}

/// The counters, by door and ending.
#[derive(Debug)]
pub(super) struct Verifications([[Counter; ENDINGS]; 2]);

impl Verifications {
    /// All at 0 from the start: a first one is a rise then.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family: Family<Labels, Counter> = Family::default();
        registry.register(
            "verifications",
            "Verifications of keys, by where they were asked for and what came of them",
            family.clone(),
        );
        let at = |door: &'static str| {
            Ending::ALL.map(|ending| {
                let code = ending.as_str();
                family.get_or_create_owned(&Labels { door, code })
            })
        };
        Self([at("api"), at("gateway")])
    }

    pub(super) fn count(&self, door: Door, ending: Ending) {
        self.0[door as usize][ending as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use keywright_domain::api_keys::PresentedKey;

    use super::*;

    fn refusals() -> Vec<Refusal> {
        let malformed = PresentedKey::parse("no key").unwrap_err();
        vec![
            Refusal::Malformed(malformed),
            Refusal::NotFound,
            Refusal::Revoked,
            Refusal::Retired,
            Refusal::Expired,
            Refusal::NotYetValid,
            Refusal::Disabled,
            Refusal::OwnerDisabled,
            Refusal::IpNotAllowed,
            Refusal::OriginNotAllowed,
            Refusal::WrongEnvironment,
            Refusal::KeyTypeForbidden,
            Refusal::InsufficientScope(Vec::new()),
            Refusal::RateLimited {
                limit: "one".into(),
                retry_after_ms: 1,
            },
            Refusal::CreditsExhausted { refill_at: None },
        ]
    }

    /// Each has the place that its number says, and the name that a refusal has elsewhere.
    #[test]
    fn every_ending_is_counted_under_its_own_code() {
        for (place, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, place, "{ending:?}");
        }
        let mut registry = Registry::default();
        let counters = Verifications::register(&mut registry);
        let mut codes = vec!["valid"];
        counters.count(Door::Gateway, Ending::of(&Ok(())));
        for refusal in refusals() {
            codes.push(refusal.code());
            counters.count(Door::Gateway, Ending::of(&Err(refusal)));
        }
        for code in ["key_in_url", "credentials_missing", "store_unavailable"] {
            codes.push(code);
            counters.count(Door::Gateway, Ending::without_verdict(code));
        }
        codes.extend(["given_up", "other"]);
        counters.count(Door::Gateway, Ending::GivenUp);
        counters.count(Door::Gateway, Ending::without_verdict("invalid_parameter"));
        assert_eq!(codes.len(), ENDINGS);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for code in codes {
            for (door, count) in [("api", 0), ("gateway", 1)] {
                let line =
                    format!("verifications_total{{door=\"{door}\",code=\"{code}\"}} {count}\n");
                assert!(text.contains(&line), "{line}{text}");
            }
        }
    }
}
