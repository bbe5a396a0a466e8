//! What is said of an identity provider, by the API and by the command line: checked, and its secret
//! sealed.

use keywright_domain::SecretText;
use keywright_domain::issuer::Issuer;
use keywright_registry::people::NewProvider;
use url::Url;

use super::outbound::{Outbound, OutboundError};
use super::presets::{Extra, Kind, TokenAuth, secret_purpose};
use crate::secrets::ServerSecrets;

const LONGEST: usize = 512;
const MOST_SCOPES: usize = 20;

/// An identity provider before it is stored.
#[derive(Clone, Debug, Default)]
pub struct ProviderDescription {
    /// Part of addresses.
    pub id: String,
    /// `openid`, `github`, `google`, `gitlab`, `microsoft` or `facebook`.
    pub kind: String,
    /// Shown to people; the kind's name if it is left out.
    pub name: Option<String>,
    /// The kind's own if it is left out.
    pub issuer: Option<String>,
    /// Ours there.
    pub client_id: String,
    /// Ours there; none leaves the one before.
    pub client_secret: Option<SecretText>,
    /// In place of the usual ones.
    pub scopes: Option<Vec<String>>,
    /// In place of what the provider's metadata says.
    pub token_auth: Option<TokenAuth>,
    /// Google: only people of this Workspace domain.
    pub hosted_domain: Option<String>,
    /// Whether its word that an address is verified is enough to link by it; the kind's usual if it
    /// is left out.
    pub trusts_email: Option<bool>,
    /// Whether people can sign in by it.
    pub enabled: bool,
}

/// What is said of a provider does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ProviderError {
    /// Which member.
    pub field: &'static str,
    /// Why, and what is allowed.
    pub why: String,
}

fn refuse(field: &'static str, why: impl Into<String>) -> ProviderError {
    ProviderError {
        field,
        why: why.into(),
    }
}

impl ProviderDescription {
    /// Checks it, and seals the secret. `private_too`: its issuer may be on a private network.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub fn into_provider(
        self,
        secrets: &ServerSecrets,
        private_too: bool,
    ) -> Result<NewProvider, ProviderError> {
        let kind = Kind::parse(&self.kind).ok_or_else(|| {
            refuse(
                "kind",
                "openid, github, google, gitlab, microsoft or facebook",
            )
        })?;
        let issuer = match self.issuer.as_deref().or(kind.issuer()) {
            Some(text) => text,
            None => return Err(refuse("issuer", "an OpenID provider needs one")),
        };
        check_issuer(issuer, private_too)?;
        let printable =
            |text: &str| !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !printable(&self.client_id) || self.client_id.len() > LONGEST {
            return Err(refuse("client_id", "1 to 512 characters of ASCII"));
        }
        if let Some(secret) = &self.client_secret
            && (!printable(secret.expose()) || secret.expose().len() > LONGEST)
        {
            return Err(refuse("client_secret", "1 to 512 characters of ASCII"));
        }
        if let Some(scopes) = &self.scopes {
            let token = |text: &String| {
                let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
                !text.is_empty() && text.len() <= 200 && text.bytes().all(allowed)
            };
            if scopes.is_empty() || scopes.len() > MOST_SCOPES || !scopes.iter().all(token) {
                return Err(refuse(
                    "scopes",
                    "1 to 20 scopes, as RFC 6749 §3.3 writes them",
                ));
            }
            if kind != Kind::GitHub && !scopes.iter().any(|scope| scope == "openid") {
                return Err(refuse("scopes", "openid must be one of them"));
            }
        }
        if let Some(domain) = &self.hosted_domain {
            let letter =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            if kind != Kind::Google
                || domain.is_empty()
                || domain.len() > 253
                || !domain.bytes().all(letter)
            {
                return Err(refuse(
                    "hosted_domain",
                    "a domain in small letters, for google only",
                ));
            }
        }
        let extra = Extra {
            scopes: self.scopes,
            token_auth: self.token_auth,
            hosted_domain: self.hosted_domain,
        };
        let settings = serde_json::to_string(&extra)
            .map_err(|_| refuse("settings", "they cannot be written"))?;
        let purpose = secret_purpose(&self.id);
        let sealed_secret = self
            .client_secret
            .as_ref()
            .map(|secret| secrets.seal(&purpose, secret.expose().as_bytes()));
        let fallback = match kind {
            Kind::OpenId => {
                Issuer::parse(issuer).map_or(String::new(), |one| one.host().to_owned())
            }
            _ => kind.name().to_owned(),
        };
        Ok(NewProvider {
            name: self.name.unwrap_or(fallback),
            trusts_email: self
                .trusts_email
                .unwrap_or_else(|| kind.trusts_email(issuer)),
            issuer: issuer.to_owned(),
            id: self.id,
            kind: self.kind,
            client_id: self.client_id,
            sealed_secret,
            settings,
            enabled: self.enabled,
        })
    }
}

/// What can be refused without asking anybody: the rest is refused when the provider is asked (S66).
fn check_issuer(text: &str, private_too: bool) -> Result<(), ProviderError> {
    let issuer = Issuer::parse(text).map_err(|error| refuse("issuer", error.to_string()))?;
    let url = Url::parse(&issuer.discovery_url()).map_err(|_| refuse("issuer", "no address"))?;
    let outbound = Outbound::new(private_too).map_err(|error| refuse("issuer", error))?;
    outbound.check(&url).map_err(|error| match error {
        OutboundError::Insecure(_) => refuse("issuer", "it must begin with https://"),
        _ => {
            let why = "it is within a private network: allow_private_addresses is off";
            refuse("issuer", why)
        }
    })
}
