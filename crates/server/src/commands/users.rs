//! `keywright-server users`.

use std::path::PathBuf;

use anyhow::Result;
use keywright_domain::audit::Actor;
use keywright_domain::people::{Email, RoleName};
use keywright_registry::people::NewUser;
use keywright_server::PasswordHasher;

use super::installation::Installation;
use super::shared::read_secret;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Users {
    /// Adds a person.
    Add(Add),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    installation: Installation,
    /// E-mail address, taken as verified: whoever runs this vouches for it.
    #[arg(long)]
    email: String,
    /// Name; what stands before the @ if it is left out.
    #[arg(long)]
    name: Option<String>,
    /// File with the password; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// A role; may be repeated.
    #[arg(long = "role", default_value = "member")]
    roles: Vec<String>,
}

impl Users {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run().await,
        }
    }
}

impl Add {
    async fn run(self) -> Result<()> {
        let email = Email::new(&self.email)?;
        let roles: Result<Vec<_>, _> = self.roles.iter().map(|name| RoleName::new(name)).collect();
        let roles = roles?;
        let password = read_secret(&self.password_file)?;
        let hash = PasswordHasher::new(1)?.hash(&password).await?;
        let (_, registry) = self.installation.open().await?;
        let before_at = email
            .as_str()
            .split('@')
            .next()
            .unwrap_or_default()
            .to_owned();
        let new = NewUser {
            name: self.name.clone().unwrap_or(before_at),
            email: Some(email),
            email_verified: true,
            roles,
            password_hash: Some(hash),
        };
        let actor = Actor::person("keywright-server users add");
        let added = registry.create_user(&actor, &new).await;
        registry.close().await;
        let user = added?;
        println!(
            "{}",
            serde_json::json!({ "id": user.id, "name": user.name })
        );
        Ok(())
    }
}
