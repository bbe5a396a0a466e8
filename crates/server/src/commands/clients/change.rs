//! `keywright-server clients change`.

use std::path::PathBuf;

use anyhow::Result;
use keywright_domain::audit::Actor;
use keywright_domain::people::{Client, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::LocalRegistry;
use keywright_server::ClientChanges;
use serde_json::json;

use crate::commands::installation::Installation;
use crate::commands::shared::read_json;

#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    #[command(flatten)]
    installation: Installation,
    /// `client_id`.
    #[arg(long)]
    id: String,
    /// Shown to people.
    #[arg(long)]
    name: Option<String>,
    /// Where answers may go, in place of all of before; may be repeated.
    #[arg(long = "redirect-uri", value_name = "URL")]
    redirect_uris: Vec<String>,
    /// Where browsers may go after they signed out, in place of all of before; may be repeated.
    #[arg(long = "post-logout-redirect-uri", value_name = "URL")]
    post_logout_redirect_uris: Vec<String>,
    /// Where it is told of ended sessions; an empty text takes it away.
    #[arg(long, value_name = "URL")]
    backchannel_logout_uri: Option<String>,
    /// `client_secret_basic`, `client_secret_post` or `private_key_jwt`. Where it needs a secret and had
    /// none, one is made and printed.
    #[arg(long, value_name = "METHOD")]
    auth_method: Option<String>,
    /// Its public keys (JWK set).
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// A grant type, in place of all of before; may be repeated.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Scopes it may ask for, in place of all of before.
    #[arg(long)]
    scope: Option<String>,
    /// Algorithm of its ID tokens: RS256, ES256 or EdDSA.
    #[arg(long)]
    alg: Option<String>,
    /// Whether PKCE is required.
    #[arg(long, value_name = "BOOL")]
    pkce: Option<bool>,
    /// FAPI 2.0 Security Profile.
    #[arg(long, value_name = "BOOL")]
    fapi: Option<bool>,
    /// Whether its tokens are always bound to a key (RFC 9449).
    #[arg(long, value_name = "BOOL")]
    dpop: Option<bool>,
}

impl Change {
    fn said(&self) -> Result<ClientChanges> {
        let jwks = self.jwks_file.as_deref().map(read_json).transpose()?;
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let uri = self.backchannel_logout_uri.clone();
        Ok(ClientChanges {
            client_name: self.name.clone(),
            redirect_uris: some(&self.redirect_uris),
            post_logout_redirect_uris: some(&self.post_logout_redirect_uris),
            backchannel_logout_uri: uri.map(|uri| Some(uri).filter(|uri| !uri.is_empty())),
            token_endpoint_auth_method: self.auth_method.clone(),
            jwks: jwks.map(Some),
            grant_types: some(&self.grants),
            scope: self.scope.clone(),
            id_token_signed_response_alg: self.alg.clone(),
            require_pkce: self.pkce,
            dpop_bound_access_tokens: self.dpop,
            fapi: self.fapi,
        })
    }

    pub(super) async fn run(self) -> Result<()> {
        let said = self.said()?;
        let (_, registry) = self.installation.open().await?;
        let changed = change(&registry, &self.id, said).await;
        registry.close().await;
        let (client, secret) = changed?;
        let mut line = super::show::line(&client);
        if let Some(secret) = secret {
            line["client_secret"] = json!(secret);
        }
        println!("{line}");
        Ok(())
    }
}

async fn change(
    registry: &LocalRegistry,
    id: &str,
    said: ClientChanges,
) -> Result<(Client, Option<String>)> {
    let actor = Actor::person("keywright-server clients change");
    let before = registry.find_client(id).await?;
    let new = said.apply(before.settings.clone())?;
    let secret = random_token(&mut rand::rng());
    let digest = TokenDigest::of(&secret);
    let changed = registry
        .change_client_with(&actor, id, &new, Some(&before), Some(&digest))
        .await?;
    let shown = changed.took_secret.then(|| secret.expose().to_owned());
    Ok((changed.client, shown))
}
