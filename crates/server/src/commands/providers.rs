//! `keywright-server providers`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use keywright_domain::audit::Actor;
use keywright_registry::people::NewProvider;
use keywright_server::{ProviderDescription, TokenAuth};

use super::installation::Installation;
use super::shared::{open_secrets, read_secret};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Providers {
    /// Adds an identity provider, or says everything of it anew.
    Add(Box<Add>),
    /// Lists identity providers, one JSON object a line.
    List(List),
    /// Takes an identity provider out of use; what is linked to it stays.
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    installation: Installation,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    installation: Installation,
    /// Which.
    #[arg(long)]
    id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    installation: Installation,
    /// Part of addresses: 1 to 40 small letters, digits, - or _.
    #[arg(long)]
    id: String,
    /// `openid`, `github`, `google`, `gitlab`, `microsoft` or `facebook`.
    #[arg(long)]
    kind: String,
    /// Shown to people; the kind's name if it is left out.
    #[arg(long)]
    name: Option<String>,
    /// The kind's own if it is left out.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Ours there.
    #[arg(long)]
    client_id: String,
    /// File with our secret there; `-` for standard input. None for a public client.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A scope in place of the usual ones; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// `client_secret_basic` or `client_secret_post`, in place of what its metadata says.
    #[arg(long, value_name = "METHOD")]
    token_auth: Option<String>,
    /// Google: only people of this Workspace domain.
    #[arg(long, value_name = "DOMAIN")]
    hosted_domain: Option<String>,
    /// Whether its word that an address is verified is enough to link by it.
    #[arg(long, value_name = "BOOL")]
    trusts_email: Option<bool>,
}

impl Providers {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
        }
    }
}

impl Add {
    async fn run(self) -> Result<()> {
        let client_secret = match &self.secret_file {
            Some(path) => Some(read_secret(path)?),
            None => None,
        };
        let token_auth = match self.token_auth.as_deref() {
            None => None,
            Some("client_secret_basic") => Some(TokenAuth::ClientSecretBasic),
            Some("client_secret_post") => Some(TokenAuth::ClientSecretPost),
            Some(other) => bail!("--token-auth: “{other}” is not known"),
        };
        let settings = self.installation.settings()?;
        let secrets = open_secrets(&settings.data)?;
        let description = ProviderDescription {
            id: self.id.clone(),
            kind: self.kind,
            name: self.name,
            issuer: self.issuer,
            client_id: self.client_id,
            client_secret,
            scopes: (!self.scopes.is_empty()).then_some(self.scopes),
            token_auth,
            hosted_domain: self.hosted_domain,
            trusts_email: self.trusts_email,
            enabled: true,
        };
        let new = description.into_provider(&secrets, settings.allow_private_addresses)?;
        let registry = self.installation.open_as(&settings).await?;
        let actor = Actor::person("keywright-server providers add");
        let stored = registry.put_identity_provider(&actor, &new).await;
        registry.close().await;
        let stored = stored?;
        let line = serde_json::json!({
            "id": stored.id,
            "redirect_uri": settings.url(&format!("/rp/callback/{}", stored.id)),
            "sign_in_redirect_uri": settings.url(&format!("/auth/callback/{}", stored.id)),
        });
        println!("{line}");
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let all = registry.list_identity_providers().await;
        registry.close().await;
        for provider in all? {
            let line = serde_json::json!({
                "id": provider.id,
                "kind": provider.kind,
                "name": provider.name,
                "issuer": provider.issuer,
                "client_id": provider.client_id,
                "trusts_email": provider.trusts_email,
                "disabled": provider.disabled_at.is_some(),
            });
            println!("{line}");
        }
        Ok(())
    }
}

impl Remove {
    async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let result = async {
            let all = registry.list_identity_providers().await?;
            let Some(before) = all.into_iter().find(|one| one.id == self.id) else {
                bail!("there is no identity provider “{}”", self.id);
            };
            let new = NewProvider {
                id: before.id,
                kind: before.kind,
                name: before.name,
                issuer: before.issuer,
                client_id: before.client_id,
                sealed_secret: None,
                settings: before.settings,
                trusts_email: before.trusts_email,
                enabled: false,
            };
            let actor = Actor::person("keywright-server providers remove");
            registry.put_identity_provider(&actor, &new).await?;
            Ok(())
        };
        let done = result.await;
        registry.close().await;
        done
    }
}
