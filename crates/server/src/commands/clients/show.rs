//! `keywright-server clients list` and `show`.

use anyhow::Result;
use keywright_domain::people::Client;
use serde_json::{Value, json};

use crate::commands::installation::Installation;

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    installation: Installation,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    installation: Installation,
    /// `client_id`.
    #[arg(long)]
    id: String,
}

/// A client as a line of a list.
pub(super) fn line(client: &Client) -> Value {
    json!({
        "client_id": client.id,
        "name": client.settings.name,
        "type": client.settings.client_type.as_str(),
        "auth_method": client.settings.auth_method.as_str(),
        "redirect_uris": client.settings.redirect_uris,
        "grant_types": client.settings.grant_types,
        "scope": client.settings.scopes.to_string(),
        "registered_by": client.registered_by,
        "disabled": client.disabled_at.is_some(),
    })
}

impl List {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let mut cursor: Option<String> = None;
        loop {
            let page = registry.list_clients("", cursor.as_deref(), 200).await?;
            for client in &page.items {
                println!("{}", line(client));
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

impl Show {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let found = registry.find_client(&self.id).await;
        let secrets = registry.list_client_secrets(&self.id).await;
        registry.close().await;
        let (client, own) = (found?, secrets?);
        let settings = &client.settings;
        let jwks = settings.jwks.as_deref();
        let jwks: Option<Value> = jwks.and_then(|text| serde_json::from_str(text).ok());
        let mut shown = line(&client);
        shown["post_logout_redirect_uris"] = json!(settings.post_logout_redirect_uris);
        shown["backchannel_logout_uri"] = json!(settings.backchannel_logout_uri);
        shown["jwks"] = json!(jwks);
        shown["alg"] = json!(settings.signing_alg);
        shown["pkce"] = json!(settings.require_pkce);
        shown["dpop"] = json!(settings.require_dpop);
        shown["fapi"] = json!(settings.fapi);
        shown["created_at"] = json!(client.created_at);
        shown["changed_at"] = json!(client.changed_at);
        shown["disabled_at"] = json!(client.disabled_at);
        let secrets = own.iter().map(|secret| {
            let until = (secret.expires_at < i64::MAX).then_some(secret.expires_at);
            json!({ "id": secret.id, "created_at": secret.created_at, "expires_at": until })
        });
        shown["secrets"] = secrets.collect();
        println!("{shown}");
        Ok(())
    }
}
