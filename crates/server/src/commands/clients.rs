//! `keywright-server clients`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use keywright_domain::audit::Actor;
use keywright_domain::people::{AuthMethod, ClientType, NewClient, OAuthScopes, TokenDigest};
use keywright_registry::Clock;
use keywright_server::registration_token;

use super::DataFolder;
use super::shared::{open_registry, open_secrets, read_secret, read_settings};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Clients {
    /// Adds an application.
    Add(Box<Add>),
    /// Lists applications, one JSON object a line.
    List(List),
    /// Makes a token with which programs register themselves (RFC 7591).
    RegistrationToken(RegistrationToken),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RegistrationToken {
    #[command(flatten)]
    folder: DataFolder,
    /// How long it is good. It cannot be taken back before.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=30))]
    days: u8,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    folder: DataFolder,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    folder: DataFolder,
    /// `client_id`.
    #[arg(long)]
    id: String,
    /// Shown to people; the id if it is left out.
    #[arg(long)]
    name: Option<String>,
    /// Where answers may go; may be repeated.
    #[arg(long = "redirect-uri", value_name = "URL")]
    redirect_uris: Vec<String>,
    /// It cannot keep a secret: desktop, mobile and browser programs.
    #[arg(long, conflicts_with_all = ["secret_file", "jwks_file"])]
    public: bool,
    /// File with its secret (16 characters or more); `-` for standard input.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Where browsers may go after they signed out; may be repeated.
    #[arg(long = "post-logout-redirect-uri", value_name = "URL")]
    post_logout_redirect_uris: Vec<String>,
    /// Where it is told of ended sessions.
    #[arg(long, value_name = "URL")]
    backchannel_logout_uri: Option<String>,
    /// `client_secret_basic` (the default with a secret), `client_secret_post` or `private_key_jwt`.
    #[arg(long, value_name = "METHOD")]
    auth_method: Option<String>,
    /// Its public keys (JWK set), for `private_key_jwt`.
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// A grant type, named as on the wire; may be repeated. Default: `authorization_code` and
    /// `refresh_token`.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Scopes it may ask for.
    #[arg(long, default_value = "openid profile email offline_access")]
    scope: String,
    /// Algorithm of its ID tokens: RS256, ES256 or EdDSA.
    #[arg(long, default_value = "RS256")]
    alg: String,
    /// It may do without PKCE (confidential clients only).
    #[arg(long)]
    no_pkce: bool,
    /// FAPI 2.0 Security Profile.
    #[arg(long)]
    fapi: bool,
    /// Its tokens are always bound to a key (RFC 9449).
    #[arg(long)]
    dpop: bool,
}

impl Clients {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::RegistrationToken(token) => token.run(),
        }
    }
}

impl Add {
    fn method(&self) -> Result<AuthMethod> {
        if self.public {
            return Ok(AuthMethod::None);
        }
        let method = match &self.auth_method {
            Some(text) => AuthMethod::parse(text)
                .with_context(|| format!("--auth-method: “{text}” is not known"))?,
            None if self.jwks_file.is_some() => AuthMethod::PrivateKeyJwt,
            None if self.secret_file.is_some() => AuthMethod::ClientSecretBasic,
            None => bail!("say --public, or give a --secret-file or a --jwks-file"),
        };
        if method.needs_secret() != self.secret_file.is_some() {
            bail!("{} and --secret-file do not fit together", method.as_str());
        }
        Ok(method)
    }

    async fn run(self) -> Result<()> {
        let method = self.method()?;
        let secret = match &self.secret_file {
            Some(path) => Some(read_secret(path)?),
            None => None,
        };
        if secret
            .as_ref()
            .is_some_and(|secret| secret.expose().len() < 16)
        {
            bail!(
                "the secret is too short: it needs 128 random bits, that is 16 characters or more"
            );
        }
        let jwks = match &self.jwks_file {
            Some(path) => {
                Some(fs::read_to_string(path).with_context(|| format!("{}", path.display()))?)
            }
            None => None,
        };
        let grant_types = if self.grants.is_empty() {
            vec!["authorization_code".to_owned(), "refresh_token".to_owned()]
        } else {
            self.grants.clone()
        };
        let new = NewClient {
            name: self.name.clone().unwrap_or_else(|| self.id.clone()),
            client_type: if self.public {
                ClientType::Public
            } else {
                ClientType::Confidential
            },
            auth_method: method,
            jwks,
            redirect_uris: self.redirect_uris.clone(),
            post_logout_redirect_uris: self.post_logout_redirect_uris.clone(),
            backchannel_logout_uri: self.backchannel_logout_uri.clone(),
            grant_types,
            scopes: OAuthScopes::parse(&self.scope)
                .context("--scope has a character it must not")?,
            signing_alg: self.alg.clone(),
            require_pkce: !self.no_pkce,
            require_dpop: self.dpop,
            fapi: self.fapi,
        };
        let settings = read_settings(&self.folder.data, None)?;
        let registry = open_registry(&settings).await?;
        let digest = secret.as_ref().map(TokenDigest::of);
        let actor = Actor::person("keywright-server clients add");
        let added = registry
            .add_client(&actor, &self.id, &new, digest.as_ref())
            .await;
        registry.close().await;
        let client = added?;
        println!("{}", serde_json::json!({ "client_id": client.id }));
        Ok(())
    }
}

impl RegistrationToken {
    fn run(self) -> Result<()> {
        let secrets = open_secrets(&self.folder.data)?;
        let now = Clock::system().now();
        let expires_at = now + i64::from(self.days) * 24 * 60 * 60 * 1000;
        let token = registration_token(&secrets, expires_at);
        println!("{}", token.expose());
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let settings = read_settings(&self.folder.data, None)?;
        let registry = open_registry(&settings).await?;
        let mut cursor: Option<String> = None;
        loop {
            let page = registry.list_clients("", cursor.as_deref(), 200).await?;
            for client in page.items {
                let line = serde_json::json!({
                    "client_id": client.id,
                    "name": client.settings.name,
                    "type": client.settings.client_type.as_str(),
                    "auth_method": client.settings.auth_method.as_str(),
                    "redirect_uris": client.settings.redirect_uris,
                    "grant_types": client.settings.grant_types,
                    "scope": client.settings.scopes.to_string(),
                    "disabled": client.disabled_at.is_some(),
                });
                println!("{line}");
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        registry.close().await;
        Ok(())
    }
}
