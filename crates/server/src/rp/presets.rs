//! The kinds of providers, what is particular about each, and a stored provider as it is spoken to.

use keywright_domain::SecretText;
use keywright_domain::issuer::{Issuer, IssuerRule};
use keywright_domain::people::Sealed;
use keywright_registry::people::IdentityProvider;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::secrets::ServerSecrets;

/// Microsoft's one metadata document for all tenants names this issuer, and each ID token its own
/// tenant in `tid`.
const MICROSOFT_TEMPLATE: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";

/// Facebook's issuer, which is also where browsers go; its API has an address of its own.
pub(super) const FACEBOOK: &str = "https://www.facebook.com";

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any OpenID provider, by discovery.
    OpenId,
    /// OAuth 2.0 with an API of its own.
    GitHub,
    /// OpenID, with `hd` and an `iss` that may lack its scheme.
    Google,
    /// OpenID.
    GitLab,
    /// OpenID; its common endpoints serve every tenant.
    Microsoft,
    /// OpenID by codes and PKCE; its metadata name no token endpoint.
    Facebook,
}

impl Kind {
    /// Reads a kind.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "openid" => Self::OpenId,
            "github" => Self::GitHub,
            "google" => Self::Google,
            "gitlab" => Self::GitLab,
            "microsoft" => Self::Microsoft,
            "facebook" => Self::Facebook,
            _ => return None,
        })
    }

    /// The provider's name, where it has one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OpenId => "",
            Self::GitHub => "GitHub",
            Self::Google => "Google",
            Self::GitLab => "GitLab",
            Self::Microsoft => "Microsoft",
            Self::Facebook => "Facebook",
        }
    }

    /// Its issuer, unless another is given.
    pub(crate) fn issuer(self) -> Option<&'static str> {
        match self {
            Self::OpenId => None,
            Self::GitHub => Some("https://github.com"),
            Self::Google => Some("https://accounts.google.com"),
            Self::GitLab => Some("https://gitlab.com"),
            Self::Microsoft => Some("https://login.microsoftonline.com/common/v2.0"),
            Self::Facebook => Some(FACEBOOK),
        }
    }

    fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &["read:user", "user:email"],
            // It refuses `profile`; the name comes by a scope of its own.
            Self::Facebook => &["openid", "email", "public_profile"],
            _ => &["openid", "profile", "email"],
        }
    }

    /// Whether its word on e-mail addresses is taken unless somebody says otherwise. Microsoft's
    /// tenants choose their addresses freely, Facebook says nothing of an address but what it is, and of an
    /// unknown provider nothing is known.
    pub(crate) fn trusts_email(self, issuer: &str) -> bool {
        matches!(self, Self::GitHub | Self::Google | Self::GitLab) && self.issuer() == Some(issuer)
    }

    fn rule(self, issuer: Issuer) -> IssuerRule {
        let shared = ["common", "organizations", "consumers"]
            .iter()
            .any(|name| issuer.as_str() == MICROSOFT_TEMPLATE.replace("{tenantid}", name));
        match self {
            Self::Google => IssuerRule::WithOrWithoutScheme(issuer),
            Self::Microsoft if shared => IssuerRule::TenantTemplate(MICROSOFT_TEMPLATE.to_owned()),
            _ => IssuerRule::Exact(issuer),
        }
    }
}

/// How we prove ourselves at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenAuth {
    /// In the `Authorization` header.
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
}

/// What else is stored of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Extra {
    /// In place of the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<String>>,
    /// In place of what the metadata says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_auth: Option<TokenAuth>,
    /// Google: only people of this Workspace domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hosted_domain: Option<String>,
}

/// A provider, ready to be spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    /// Part of addresses.
    pub(crate) id: String,
    /// Shown to people.
    pub(crate) name: String,
    /// How it is spoken to.
    pub(crate) kind: Kind,
    /// Byte for byte as configured.
    pub(crate) issuer: Issuer,
    /// What may stand in `iss`.
    pub(crate) rule: IssuerRule,
    /// Ours there.
    pub(crate) client_id: String,
    /// Ours there; none for a public client.
    pub(crate) secret: Option<SecretText>,
    /// What else is set.
    pub(crate) extra: Extra,
}

/// What a provider's secret is sealed for: it opens for this provider only.
pub(crate) fn secret_purpose(id: &str) -> String {
    format!("identity provider secret {id}")
}

impl Provider {
    /// Opens what is stored.
    ///
    /// # Errors
    /// [`Failure`] for what was not stored by us, or under another master key.
    pub(crate) fn open(
        stored: &IdentityProvider,
        sealed: Option<&Sealed>,
        secrets: &ServerSecrets,
    ) -> Result<Self, Failure> {
        let unusable = |what: &str| {
            Failure::new(
                "provider_unusable",
                "This identity provider is not set up properly",
            )
            .with_status(axum::http::StatusCode::SERVICE_UNAVAILABLE)
            .with_advice("Sign in another way, and tell whoever runs this site.")
            .with_detail(format!("{}: {what}", stored.id))
        };
        let kind = Kind::parse(&stored.kind).ok_or_else(|| unusable("its kind is unknown"))?;
        let issuer = Issuer::parse(&stored.issuer).map_err(|_| unusable("its issuer is none"))?;
        let extra = serde_json::from_str(&stored.settings)
            .map_err(|_| unusable("its settings cannot be read"))?;
        let secret = match sealed {
            None => None,
            Some(sealed) => {
                let plain = secrets
                    .unseal(&secret_purpose(&stored.id), sealed)
                    .map_err(|_| unusable("its secret cannot be opened"))?;
                let text = String::from_utf8(plain.to_vec());
                Some(SecretText::new(
                    text.map_err(|_| unusable("its secret is no text"))?,
                ))
            }
        };
        Ok(Self {
            id: stored.id.clone(),
            name: stored.name.clone(),
            kind,
            rule: kind.rule(issuer.clone()),
            issuer,
            client_id: stored.client_id.clone(),
            secret,
            extra,
        })
    }

    /// `scope` of the authorization request.
    pub(crate) fn scope(&self) -> String {
        match &self.extra.scopes {
            Some(own) => own.join(" "),
            None => self.kind.scopes().join(" "),
        }
    }
}
