//! What is asked of a verification: as it is described, and where it stands in a request's body.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use keywright_domain::SecretText;
use keywright_domain::api_keys::{Environment, KeyType, find_keys};
use keywright_domain::scopes::ScopeRequirement;
use keywright_registry::{Caller, VerifyRequest};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::NOWHERE;
use crate::problem::Problem;

/// No key is longer; foreign ones have room.
const LONGEST: usize = 512;

/// A key that somebody presented to a service, and what it is needed for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyBody {
    /// The whole key.
    #[schema(value_type = String)]
    #[serde(deserialize_with = "secret_text")]
    key: SecretText,
    /// A scope, or scopes joined by `and`, `or` and parentheses.
    requirement: Option<String>,
    /// The environment that the resource belongs to.
    environment: Option<String>,
    /// Types that may do this: `secret`, `publishable`, `root`, `custom`; empty for all.
    #[serde(default)]
    key_types: Vec<String>,
    /// What it counts for on rate limits; 1 if it is left out.
    cost: Option<u32>,
    /// Credits it takes; 1 if it is left out.
    credits: Option<u32>,
    /// Where the request came from.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// Its `Origin`.
    origin: Option<String>,
    /// Its `User-Agent`.
    agent: Option<String>,
    /// Which part of the service, for example `GET /orders`.
    route: Option<String>,
    /// What the client calls itself.
    client_label: Option<String>,
    /// It was in the address of a request: it is flagged and its owner told, nothing is counted, and the answer is
    /// the refusal `key_in_url`. What stands around the key may stand here too.
    #[serde(default)]
    in_url: bool,
}

fn secret_text<'de, D: Deserializer<'de>>(given: D) -> Result<SecretText, D::Error> {
    String::deserialize(given).map(SecretText::new)
}

impl fmt::Debug for VerifyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyBody").finish_non_exhaustive()
    }
}

/// [`VerifyBody`] where it stands in the body of a request: most are answered without a copy of anything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyRef<'a> {
    #[serde(borrow)]
    key: KeyText<'a>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    requirement: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    environment: Option<Cow<'a, str>>,
    #[serde(default)]
    key_types: Vec<String>,
    cost: Option<u32>,
    credits: Option<u32>,
    address: Option<IpAddr>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    origin: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    agent: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    route: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    client_label: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) in_url: bool,
}

/// A key in the body of a request. Where it is written with escapes it is a copy, which is wiped.
enum KeyText<'a> {
    Here(&'a str),
    Copied(SecretText),
}

impl KeyText<'_> {
    fn expose(&self) -> &str {
        match self {
            Self::Here(text) => text,
            Self::Copied(text) => text.expose(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for KeyText<'a> {
    fn deserialize<D: Deserializer<'de>>(given: D) -> Result<Self, D::Error> {
        given.deserialize_str(Text).map(|text| match text {
            Cow::Borrowed(text) => Self::Here(text),
            Cow::Owned(text) => Self::Copied(SecretText::new(text)),
        })
    }
}

/// Takes a text where it stands, if it can.
struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }
}

/// Serde borrows a plain `Cow`, but none that is optional.
fn optional_text<'de: 'a, 'a, D>(given: D) -> Result<Option<Cow<'a, str>>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Optional;

    impl<'de> Visitor<'de> for Optional {
        type Value = Option<Cow<'de, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, given: D) -> Result<Self::Value, D::Error> {
            given.deserialize_str(Text).map(Some)
        }
    }

    given.deserialize_option(Optional)
}

impl<'a> From<&'a VerifyBody> for VerifyRef<'a> {
    fn from(body: &'a VerifyBody) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            key: KeyText::Here(body.key.expose()),
            requirement: text(&body.requirement),
            environment: text(&body.environment),
            key_types: body.key_types.clone(),
            cost: body.cost,
            credits: body.credits,
            address: body.address,
            origin: text(&body.origin),
            agent: text(&body.agent),
            route: text(&body.route),
            client_label: text(&body.client_label),
            in_url: body.in_url,
        }
    }
}

impl VerifyRef<'_> {
    /// What the key is needed for.
    pub(super) fn needs(&self) -> Result<Needs, Problem> {
        let types = self.key_types.iter().map(String::as_str);
        let needs = Needs::read(
            self.requirement.as_deref(),
            self.environment.as_deref(),
            types,
        )?;
        if self.key.expose().len() > LONGEST {
            return Err(Problem::bad_request("key_too_long", "no key is so long"));
        }
        if self.in_url {
            return Ok(Needs {
                requirement: None,
                environment: Environment::new(NOWHERE).ok(),
                key_types: Vec::new(),
            });
        }
        Ok(needs)
    }

    /// What is presented: of an address, the key that is found in it.
    fn presented(&self) -> &str {
        let text = self.key.expose();
        let found = self.in_url.then(|| find_keys(text).next()).flatten();
        found
            .and_then(|found| text.get(found.range))
            .unwrap_or(text)
    }

    pub(super) fn request<'a>(&'a self, needs: &'a Needs) -> VerifyRequest<'a> {
        VerifyRequest {
            presented: self.presented(),
            requirement: needs.requirement.as_ref(),
            environment: needs.environment.as_ref(),
            key_types: &needs.key_types,
            cost: self.cost,
            credits: self.credits,
            caller: Caller {
                address: self.address,
                origin: self.origin.as_deref(),
                agent: self.agent.as_deref(),
                route: self.route.as_deref(),
                client_label: self.client_label.as_deref(),
            },
        }
    }
}

/// One key, or many.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum VerifyAsk {
    /// Many: each is judged by itself.
    Many {
        /// At most 100.
        keys: Vec<VerifyBody>,
    },
    /// One.
    One(Box<VerifyBody>),
}

/// A requirement, an environment and types, read once.
#[derive(Debug)]
pub(crate) struct Needs {
    pub(crate) requirement: Option<ScopeRequirement>,
    pub(crate) environment: Option<Environment>,
    pub(crate) key_types: Vec<KeyType>,
}

impl Needs {
    /// Reads what a caller wrote.
    ///
    /// # Errors
    /// 400: a service that asks for something unreadable must not be told "valid".
    pub(crate) fn read<'a>(
        requirement: Option<&str>,
        environment: Option<&str>,
        key_types: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Problem> {
        let requirement = requirement.map(ScopeRequirement::parse).transpose();
        let environment = environment.map(Environment::new).transpose();
        let types: Option<Vec<_>> = key_types.map(KeyType::parse).collect();
        Ok(Self {
            requirement: requirement
                .map_err(|error| Problem::bad_request(error.code(), error.to_string()))?,
            environment: environment
                .map_err(|error| Problem::bad_request(error.code(), error.to_string()))?,
            key_types: types.ok_or_else(|| {
                let detail = "a key type is secret, publishable, root or custom";
                Problem::bad_request("invalid_key_type", detail)
            })?,
        })
    }
}
