//! The providers the dialog offers by name, and what is special about each.

use keywright_domain::issuer::{InvalidIssuer, Issuer, IssuerRule};
use keywright_protocol::accounts::ProviderPresetView;

/// A provider, once the person chose it.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) preset: &'static Preset,
    /// As configured, and as the account will carry it.
    pub(crate) issuer: Issuer,
    /// What may stand in `iss`.
    pub(crate) rule: IssuerRule,
}

/// What is fixed about a provider.
#[derive(Debug)]
pub(crate) struct Preset {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    issuer: &'static str,
    /// Where the provider knows this app already.
    client_id: &'static str,
    pub(crate) kind: Kind,
    default_scopes: &'static [&'static str],
    pub(crate) wants_client_secret: bool,
    registration_hint: &'static str,
    /// Each sign-in is a grant of its own there: revoking a token of one leaves the others alone. Many
    /// providers end all that a person gave the application instead.
    pub(crate) ends_one_sign_in: bool,
    /// Further parameters of the authorization request.
    pub(crate) extra_parameters: &'static [(&'static str, &'static str)],
}

/// How a provider tells who signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OpenID Connect: metadata, ID token, userinfo.
    OpenId,
    /// GitHub: OAuth 2.0 with an API of its own (`github.rs`).
    GitHub,
}

/// A Keywright server: its API tells the sessions of an account, too.
pub(crate) const KEYWRIGHT: &str = "keywright";

const OPENID: &[&str] = &["openid", "profile", "email", "offline_access"];

/// Microsoft's one metadata document for all tenants names this issuer; each ID token names its
/// own tenant in `tid`, and `iss` is the template with that tenant put in.
const MICROSOFT_TEMPLATE: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";

/// In the order of the dialog.
pub(crate) static PRESETS: &[Preset] = &[
    Preset {
        id: "openid",
        name: "OpenID provider",
        issuer: "",
        client_id: "",
        kind: Kind::OpenId,
        default_scopes: OPENID,
        wants_client_secret: false,
        registration_hint: "Register a native (public) application with the redirect address http://127.0.0.1/callback, any port.",
        ends_one_sign_in: false,
        extra_parameters: &[],
    },
    Preset {
        id: KEYWRIGHT,
        name: "Keywright server",
        issuer: "",
        client_id: "keywright-desktop",
        kind: Kind::OpenId,
        // `account`: sessions and applications; those after it: the server's registry of keys.
        default_scopes: &[
            "openid",
            "profile",
            "email",
            "offline_access",
            "account",
            "keys:*",
            "scopes:read",
            "audit:read",
        ],
        wants_client_secret: false,
        registration_hint: "A Keywright server knows this app already; nothing needs to be registered.",
        ends_one_sign_in: true,
        extra_parameters: &[],
    },
    Preset {
        id: "google",
        name: "Google",
        issuer: "https://accounts.google.com",
        client_id: "",
        kind: Kind::OpenId,
        // Google refuses offline_access and gives a refresh token by parameters instead.
        default_scopes: &["openid", "profile", "email"],
        wants_client_secret: true,
        registration_hint: "Google Cloud console, APIs & Services, Credentials: an OAuth client of type Desktop app.",
        ends_one_sign_in: false,
        extra_parameters: &[("access_type", "offline"), ("prompt", "consent")],
    },
    Preset {
        id: "github",
        name: "GitHub",
        issuer: "https://github.com",
        client_id: "",
        kind: Kind::GitHub,
        default_scopes: &["read:user", "user:email"],
        wants_client_secret: true,
        registration_hint: "GitHub, Settings, Developer settings, OAuth Apps: callback URL http://127.0.0.1/callback.",
        ends_one_sign_in: false,
        extra_parameters: &[],
    },
    Preset {
        id: "gitlab",
        name: "GitLab",
        issuer: "https://gitlab.com",
        client_id: "",
        kind: Kind::OpenId,
        default_scopes: &["openid", "profile", "email"],
        wants_client_secret: false,
        registration_hint: "GitLab, Preferences, Applications: not confidential, redirect URI http://127.0.0.1/callback.",
        ends_one_sign_in: false,
        extra_parameters: &[],
    },
    Preset {
        id: "microsoft",
        name: "Microsoft",
        issuer: "https://login.microsoftonline.com/common/v2.0",
        client_id: "",
        kind: Kind::OpenId,
        default_scopes: OPENID,
        wants_client_secret: false,
        registration_hint: "Entra admin center, App registrations: platform Mobile and desktop, redirect URI http://127.0.0.1/callback.",
        ends_one_sign_in: false,
        extra_parameters: &[],
    },
];

impl Preset {
    pub(crate) fn find(id: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.id == id)
    }

    pub(crate) fn view(&self) -> ProviderPresetView {
        ProviderPresetView {
            id: self.id.to_owned(),
            name: self.name.to_owned(),
            issuer: self.issuer.to_owned(),
            client_id: self.client_id.to_owned(),
            is_openid: self.kind == Kind::OpenId,
            default_scopes: self.default_scopes(),
            wants_client_secret: self.wants_client_secret,
            registration_hint: self.registration_hint.to_owned(),
        }
    }

    pub(crate) fn default_scopes(&self) -> Vec<String> {
        self.default_scopes
            .iter()
            .map(|scope| (*scope).to_owned())
            .collect()
    }

    /// The provider of this preset; `typed` is the issuer where the preset has none of its own.
    pub(crate) fn provider(&'static self, typed: &str) -> Result<Provider, InvalidIssuer> {
        let issuer = Issuer::parse(if self.issuer.is_empty() {
            typed.trim()
        } else {
            self.issuer
        })?;
        let rule = match self.id {
            "google" => IssuerRule::WithOrWithoutScheme(issuer.clone()),
            "microsoft" => IssuerRule::TenantTemplate(MICROSOFT_TEMPLATE.to_owned()),
            _ => IssuerRule::Exact(issuer.clone()),
        };
        Ok(Provider {
            preset: self,
            issuer,
            rule,
        })
    }
}

impl Provider {
    /// The preset's name, or the issuer's host.
    pub(crate) fn name(&self) -> String {
        if self.preset.issuer.is_empty() {
            self.issuer.host().to_owned()
        } else {
            self.preset.name.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PRESETS, Preset};

    #[test]
    fn presets_are_complete() {
        assert_eq!(
            PRESETS.iter().map(|p| p.id).collect::<Vec<_>>(),
            [
                "openid",
                "keywright",
                "google",
                "github",
                "gitlab",
                "microsoft"
            ]
        );
        for preset in PRESETS {
            let provider = preset.provider("http://127.0.0.1:4000");
            assert!(
                provider.is_ok_and(|p| !p.name().is_empty()),
                "{}",
                preset.id
            );
            assert!(
                !preset.view().default_scopes.is_empty()
                    && !preset.view().registration_hint.is_empty()
            );
        }
        assert!(Preset::find("nonesuch").is_none());
    }
}
