//! `keywright-server clients add`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use keywright_domain::audit::Actor;
use keywright_domain::people::TokenDigest;
use keywright_domain::pkce::random_token;
use keywright_registry::people::NewClientSecret;
use keywright_server::ClientChanges;
use serde_json::json;

use super::secret::stored;
use crate::commands::installation::Installation;
use crate::commands::shared::{read_json, read_secret};

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    installation: Installation,
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
    /// File with its secret, 16 to 128 characters; `-` for standard input. Left out, a good one is made
    /// and printed.
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
    /// Scopes it may ask for; `openid profile email offline_access` if it is left out.
    #[arg(long)]
    scope: Option<String>,
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

impl Add {
    fn method(&self) -> String {
        let usual = match (self.public, &self.jwks_file) {
            (true, _) => "none",
            (false, Some(_)) => "private_key_jwt",
            (false, None) => "client_secret_basic",
        };
        self.auth_method.clone().unwrap_or_else(|| usual.to_owned())
    }

    pub(super) async fn run(self) -> Result<()> {
        let method = self.method();
        if self.public && method != "none" {
            bail!("--public and --auth-method {method} do not fit together");
        }
        let jwks = self.jwks_file.as_deref().map(read_json).transpose()?;
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let said = ClientChanges {
            client_name: self.name,
            redirect_uris: some(self.redirect_uris),
            post_logout_redirect_uris: some(self.post_logout_redirect_uris),
            backchannel_logout_uri: self.backchannel_logout_uri.map(Some),
            token_endpoint_auth_method: Some(method.clone()),
            jwks: jwks.map(Some),
            grant_types: some(self.grants),
            scope: self.scope,
            id_token_signed_response_alg: Some(self.alg),
            require_pkce: Some(!self.no_pkce),
            dpop_bound_access_tokens: Some(self.dpop),
            fapi: Some(self.fapi),
        };
        let new = said.into_new(&self.id)?;
        let given = self.secret_file.as_deref().map(read_secret).transpose()?;
        let needs = new.auth_method.needs_secret();
        if given.is_some() && !needs {
            bail!("{method} and --secret-file do not fit together");
        }
        let made = (needs && given.is_none()).then(|| random_token(&mut rand::rng()));
        let secret = match (&given, &made) {
            (Some(given), _) => Some(stored(given).await?),
            (None, Some(made)) => Some(NewClientSecret::Random(TokenDigest::of(made))),
            (None, None) => None,
        };
        let (_, registry) = self.installation.open().await?;
        let actor = Actor::person("keywright-server clients add");
        let added = registry
            .add_client_with(&actor, &self.id, &new, secret)
            .await;
        registry.close().await;
        let client = added?;
        let mut line = json!({ "client_id": client.id });
        if let Some(secret) = made {
            eprintln!("its secret, shown once and stored nowhere, is in the line below");
            line["client_secret"] = secret.expose().into();
        }
        println!("{line}");
        Ok(())
    }
}
