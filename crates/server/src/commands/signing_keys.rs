//! `keywright-server signing-keys`.

use anyhow::Result;
use keywright_domain::audit::Actor;
use keywright_registry::Clock;
use keywright_server::Server;
use serde_json::json;

use super::installation::Installation;
use super::shared::open_secrets;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SigningKeys {
    /// Lists signing keys, one JSON object a line.
    List(List),
    /// Makes the next key. Running servers read it within a minute, or at once on SIGHUP.
    Rotate(Rotate),
    /// Takes a key away. Tokens that it signed are no good from then on.
    Retire(Retire),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    installation: Installation,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    installation: Installation,
    /// `RS256`, `ES256` or `EdDSA`; all of them if it is left out.
    #[arg(long)]
    alg: Option<String>,
    /// It signs at once, before everybody can know it: for a key that leaked.
    #[arg(long)]
    now: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Retire {
    #[command(flatten)]
    installation: Installation,
    /// The key's id.
    #[arg(long)]
    kid: String,
}

impl SigningKeys {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Retire(retire) => retire.run().await,
        }
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let keys = registry.list_signing_keys().await;
        registry.close().await;
        for key in keys? {
            let line = json!({
                "kid": key.kid,
                "alg": key.alg,
                "state": key.state.as_str(),
                "created_at": key.created_at,
                "activate_at": key.activate_at,
                "activated_at": key.activated_at,
                "retire_at": key.retire_at,
                "retired_at": key.retired_at,
            });
            println!("{line}");
        }
        Ok(())
    }
}

impl Rotate {
    async fn run(self) -> Result<()> {
        for (alg, kid) in self.rotate().await? {
            println!("{}", json!({ "alg": alg, "kid": kid }));
        }
        if self.now {
            eprintln!(
                "the old keys still verify what they signed: `signing-keys retire` ends that"
            );
        }
        Ok(())
    }

    async fn rotate(&self) -> Result<Vec<(String, String)>> {
        let algs = match &self.alg {
            Some(alg) => vec![alg.clone()],
            None => ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec(),
        };
        let (settings, registry) = self.installation.open().await?;
        let secrets = open_secrets(&settings.data)?;
        let server = Server::build(settings, registry, secrets, Clock::system()).await?;
        let mut made = Vec::new();
        for alg in algs {
            let kid = server.rotate_signing_key(&alg, self.now).await;
            made.push(kid.map(|kid| (alg, kid)));
        }
        server.close().await;
        Ok(made.into_iter().collect::<Result<_, _>>()?)
    }
}

impl Retire {
    async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let actor = Actor::person("keywright-server signing-keys retire");
        let retired = registry.retire_signing_key(&actor, &self.kid).await;
        registry.close().await;
        let key = retired?;
        println!("{}", json!({ "kid": key.kid, "state": key.state.as_str() }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keywright_domain::people::KeyState;

    use super::*;
    use crate::commands::shared::tests::set_up_folder;

    async fn states(data: &Path, alg: &str) -> Vec<(String, KeyState)> {
        let (_, registry) = Installation::of(data).open().await.unwrap();
        let keys = registry.list_signing_keys().await.unwrap();
        registry.close().await;
        keys.into_iter()
            .filter(|key| key.alg == alg)
            .map(|key| (key.kid, key.state))
            .collect()
    }

    fn rotate(data: &Path, alg: Option<&str>, now: bool) -> Rotate {
        Rotate {
            installation: Installation::of(data),
            alg: alg.map(str::to_owned),
            now,
        }
    }

    #[tokio::test]
    async fn the_next_key_waits_or_signs_at_once() {
        let folder = set_up_folder().await;
        let data = folder.path();
        assert!(rotate(data, Some("HS256"), false).rotate().await.is_err());
        let made = rotate(data, Some("ES256"), false).rotate().await.unwrap();
        let of = |keys: &[(String, KeyState)], kid: &str| {
            keys.iter()
                .find(|(own, _)| own == kid)
                .map(|(_, state)| *state)
        };
        let keys = states(data, "ES256").await;
        assert_eq!(of(&keys, &made[0].1), Some(KeyState::Pending));
        let old = keys
            .iter()
            .find(|(_, state)| *state == KeyState::Active)
            .unwrap()
            .0
            .clone();
        let made = rotate(data, Some("ES256"), true).rotate().await.unwrap();
        let keys = states(data, "ES256").await;
        assert_eq!(of(&keys, &made[0].1), Some(KeyState::Active));
        let before = of(&keys, &old).expect("it still verifies");
        assert!(before.is_published() && before != KeyState::Active);
        let retire = Retire {
            installation: Installation::of(data),
            kid: old.clone(),
        };
        retire.run().await.unwrap();
        let keys = states(data, "ES256").await;
        assert!(of(&keys, &old).is_none_or(|state| !state.is_published()));
    }
}
