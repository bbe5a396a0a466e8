//! `keywright-server peppers`: the peppers of API keys, and how a newer one takes the place of an older.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use keywright_domain::audit::Actor;
use keywright_registry::LocalRegistry;
use keywright_server::ServerSecrets;
use serde_json::{Value, json};

use super::installation::Installation;
use super::shared::open_secrets;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum PepperCommand {
    /// Lists peppers, one JSON object a line: which is in force, and what still uses an older one.
    List(List),
    /// Makes a pepper and puts it among the secrets, in reserve.
    Add(Add),
    /// Brings a pepper into force: new secrets are stored under it, and those that are used follow.
    Use(Use),
    /// Deletes the file of a pepper that nothing needs any more.
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    installation: Installation,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    #[command(flatten)]
    installation: Installation,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Use {
    #[command(flatten)]
    installation: Installation,
    /// The pepper's id, as `add` printed it.
    #[arg(long)]
    id: String,
    /// With PostgreSQL: every node has the file, for a minute or since a SIGHUP.
    #[arg(long)]
    everywhere: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    installation: Installation,
    /// The pepper's id.
    #[arg(long)]
    id: String,
}

impl PepperCommand {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::List(list) => {
                for line in list.lines().await? {
                    println!("{line}");
                }
                Ok(())
            }
            Self::Add(add) => add.run().await,
            Self::Use(bring) => bring.run().await,
            Self::Remove(remove) => remove.run().await,
        }
    }
}

impl List {
    async fn lines(&self) -> Result<Vec<Value>> {
        let (settings, registry) = self.installation.open().await?;
        let lines = list(&registry, &open_secrets(&settings.data)?).await;
        registry.close().await;
        lines
    }
}

async fn list(registry: &LocalRegistry, secrets: &ServerSecrets) -> Result<Vec<Value>> {
    let here: BTreeSet<String> = secrets.pepper_ids()?.into_iter().collect();
    let known = registry.list_peppers().await?;
    let mut lines = Vec::new();
    for (at, pepper) in known.iter().enumerate() {
        let uses = registry.count_secrets_under(&pepper.id).await?;
        lines.push(json!({
            "id": pepper.id,
            "state": if at == 0 { "in_force" } else if pepper.is_needed { "needed" } else { "unused" },
            "created_at": pepper.created_at,
            "live_secrets": uses,
            "is_here": here.contains(&pepper.id),
        }));
    }
    let reserve = here
        .iter()
        .filter(|id| known.iter().all(|one| one.id != **id));
    lines.extend(reserve.map(|id| json!({ "id": id, "state": "in_reserve", "is_here": true })));
    Ok(lines)
}

impl Add {
    async fn run(&self) -> Result<()> {
        let id = self.add().await?;
        println!("{}", json!({ "id": id }));
        eprintln!(
            "it is in reserve: copy its file to the secrets of every other node, make the escrow file anew, then \
             `keywright-server peppers use --id {id}`"
        );
        Ok(())
    }

    async fn add(&self) -> Result<String> {
        self.installation.check_owner()?;
        // A folder whose registry does not answer is not the one that is meant.
        let (settings, registry) = self.installation.open().await?;
        registry.close().await;
        Ok(open_secrets(&settings.data)?.new_pepper()?)
    }
}

impl Use {
    async fn run(&self) -> Result<()> {
        self.bring_into_force().await?;
        println!("{}", json!({ "id": self.id, "state": "in_force" }));
        eprintln!(
            "running servers store new secrets under it within a minute, or at once on SIGHUP; keep the older ones until \
             `keywright-server peppers list` calls them unused"
        );
        Ok(())
    }

    async fn bring_into_force(&self) -> Result<()> {
        let (settings, registry) = self.installation.open().await?;
        let done = async {
            // Without its file every key made from now on would be lost.
            open_secrets(&settings.data)?.pepper(&self.id)?;
            if settings.database.is_some() && !self.everywhere {
                bail!(
                    "a node without this pepper refuses every key that is stored under it: copy the file to the secrets of \
                     every node, wait a minute or send SIGHUP, and say `--everywhere`"
                );
            }
            let actor = Actor::person("keywright-server peppers use");
            Ok(registry.rotate_pepper(&actor, &self.id).await?)
        }
        .await;
        registry.close().await;
        done
    }
}

impl Remove {
    async fn run(&self) -> Result<()> {
        self.remove().await?;
        println!("{}", json!({ "id": self.id, "state": "removed" }));
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        let (settings, registry) = self.installation.open().await?;
        let known = registry.list_peppers().await;
        registry.close().await;
        let known = known?;
        let position = known.iter().position(|pepper| pepper.id == self.id);
        match position.and_then(|at| known.get(at)) {
            Some(_) if position == Some(0) => {
                bail!("it is in force: bring another one into force first")
            }
            Some(pepper) if pepper.is_needed => bail!(
                "live keys are stored under it; a key follows when it is used, or when it is rotated: `keywright-server peppers \
                 list` says how many are left"
            ),
            _ => Ok(open_secrets(&settings.data)?.remove_pepper(&self.id)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keywright_domain::api_keys::NewApiKey;
    use keywright_registry::{ApiKeyQuery, LocalRegistry, VerifyRequest};

    use super::*;
    use crate::commands::shared::tests::set_up_folder;

    fn bring(data: &Path, id: &str) -> Use {
        Use {
            installation: Installation::of(data),
            id: id.to_owned(),
            everywhere: false,
        }
    }

    async fn states(data: &Path) -> Vec<(String, String, Option<i64>)> {
        let list = List {
            installation: Installation::of(data),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines = list.lines().await.unwrap().into_iter();
        lines
            .map(|line| {
                (
                    text(&line["id"]),
                    text(&line["state"]),
                    line["live_secrets"].as_i64(),
                )
            })
            .collect()
    }

    async fn remove(data: &Path, id: &str) -> Result<()> {
        let installation = Installation::of(data);
        let id = id.to_owned();
        Remove { installation, id }.remove().await
    }

    /// What a server does that has read the folder.
    async fn served(data: &Path) -> (LocalRegistry, keywright_registry::Peppers) {
        let (_, registry) = Installation::of(data).open().await.unwrap();
        let secrets = open_secrets(data).unwrap();
        let peppers = keywright_server::peppers_of(&registry, &secrets).await;
        (registry, peppers.unwrap().unwrap())
    }

    #[tokio::test]
    async fn root_makes_no_pepper_in_the_folder_of_another_user() {
        let folder = set_up_folder().await;
        // Only root can give a folder away, and only root is refused.
        let give = |path: &Path| std::os::unix::fs::chown(path, Some(65_534), None);
        if give(folder.path()).is_err() {
            return;
        }
        let add = || Add {
            installation: Installation::of(folder.path()),
        };
        // A folder of somebody's that is mounted for a server of root's: root made its secrets.
        add().add().await.unwrap();
        assert_eq!(states(folder.path()).await.len(), 2);
        give(&super::super::shared::secrets_path(folder.path())).unwrap();
        let add = add();
        let refused = add.add().await.unwrap_err().to_string();
        assert!(refused.contains("runuser -u "), "{refused}");
        assert_eq!(states(folder.path()).await.len(), 2);
    }

    #[tokio::test]
    async fn ac_148_a_newer_pepper_comes_into_force_and_the_older_goes_when_nothing_needs_it() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let before = states(data).await;
        let (old, root_keys) = (before[0].0.clone(), before[0].2.unwrap());
        assert_eq!((before.len(), before[0].1.as_str()), (1, "in_force"));
        let (registry, peppers) = served(data).await;
        let actor = Actor::keywright();
        let wish = NewApiKey {
            prefix: "sk_live".into(),
            name: "of before".into(),
            scopes: vec!["keys:read".into()],
            lifetime_ms: Some(2 * 86_400_000),
            ..NewApiKey::default()
        };
        let issued = registry
            .issue_api_key(&actor, &wish, &peppers)
            .await
            .unwrap();
        registry.close().await;

        assert!(
            bring(data, "nobody-made-it")
                .bring_into_force()
                .await
                .is_err()
        );
        let add = Add {
            installation: Installation::of(data),
        };
        let new = add.add().await.unwrap();
        assert_eq!(states(data).await[1].1, "in_reserve");
        bring(data, &new).bring_into_force().await.unwrap();
        let again = bring(data, &new).bring_into_force().await;
        assert!(again.is_err(), "it is in force already");
        let named =
            |id: &str, state: &str, uses: i64| (id.to_owned(), state.to_owned(), Some(uses));
        let expected = [
            named(&new, "in_force", 0),
            named(&old, "needed", root_keys + 1),
        ];
        assert_eq!(states(data).await, expected);
        for id in [&new, &old] {
            assert!(remove(data, id).await.is_err(), "{id}");
        }

        // A key follows when it is used.
        let (registry, peppers) = served(data).await;
        assert_eq!(peppers.current().id, new);
        let text = issued.plain.text();
        let request = VerifyRequest {
            presented: text.expose(),
            ..VerifyRequest::default()
        };
        let verified = registry.verify_api_key(&request, &peppers).await.unwrap();
        assert!(verified.verdict.is_ok(), "{:?}", verified.verdict);
        registry.flush_uses().await.unwrap();
        registry.close().await;
        let after = states(data).await;
        assert_eq!(after[0], named(&new, "in_force", 1));
        assert_eq!(after[1], named(&old, "needed", root_keys));

        // What never follows is revoked, or waited for.
        let (registry, _) = served(data).await;
        let all = ApiKeyQuery {
            limit: 100,
            ..ApiKeyQuery::default()
        };
        for key in registry.list_api_keys(&all).await.unwrap().items {
            if key.id != issued.key.id {
                registry
                    .revoke_api_key(&actor, &key.id, "test")
                    .await
                    .unwrap();
            }
        }
        registry.close().await;
        assert_eq!(states(data).await[1], named(&old, "unused", 0));
        remove(data, &old).await.unwrap();
        assert!(remove(data, &old).await.is_err(), "there is none any more");
        let (registry, peppers) = served(data).await;
        let verified = registry.verify_api_key(&request, &peppers).await.unwrap();
        assert!(verified.verdict.is_ok());
        registry.close().await;
    }
}
