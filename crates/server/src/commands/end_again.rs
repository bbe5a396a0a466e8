//! `keywright-server end-again`.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keywright_domain::audit::Actor;
use keywright_domain::audit_chain::{CheckpointPublicKey, Verdict};
use keywright_registry::EndedAgain;
use keywright_registry::audit_export::{EndedSince, PutBackPoint, verify_export};
use keywright_server::ServerSecrets;
use serde_json::{Value, json};

use super::installation::Installation;
use super::shared::secrets_path;

/// Ends again what was ended after a backup that was put back: keys and secrets, people and owners, sessions,
/// applications. What it was is read from an export of the trail (`GET /api/v1/audit/export`) that is newer than the
/// backup, up to where this server's key signed it. Say it after `restore` or `put-back`, before anything is served.
/// Again, it does what is left; what was made since the backup was put back stays.
#[derive(Debug, clap::Args)]
pub(crate) struct EndAgain {
    #[command(flatten)]
    installation: Installation,
    /// The export.
    #[arg(long, value_name = "FILE")]
    trail: PathBuf,
}

impl EndAgain {
    pub(crate) async fn run(self) -> Result<()> {
        let secrets = ServerSecrets::open(&secrets_path(self.installation.data()))?;
        let key = secrets.checkpoint_key().public_key();
        let (_, registry) = self.installation.open().await?;
        let ended = async {
            let points = registry.put_back_points().await?;
            let trail = self.trail.clone();
            let read = tokio::task::spawn_blocking(move || read(&trail, &key, &points));
            let since = read.await??;
            let actor = Actor::person("keywright-server end-again");
            let told = registry.end_again(&actor, &since).await?;
            anyhow::Ok((since, told))
        };
        let ended = ended.await;
        registry.close().await;
        let (since, told) = ended?;
        if !since.look_at.is_empty() {
            eprintln!(
                "not done again, since it takes somebody who knows what it was: see look_at, by action and id"
            );
        }
        println!("{}", view(&since, &told));
        if !told.failed.is_empty() {
            bail!("some of it could not be ended again: see failed");
        }
        Ok(())
    }
}

/// Verifies the file, and reads what was ended.
fn read(path: &Path, key: &CheckpointPublicKey, points: &[PutBackPoint]) -> Result<EndedSince> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("{name}"))?;
    let keys = std::slice::from_ref(key);
    let verdict = verify_export(BufReader::new(&file), keys).with_context(|| format!("{name}"))?;
    let vouched = match verdict {
        Verdict::Intact {
            vouched: Some(vouched),
            ..
        } => vouched,
        Verdict::Intact { .. } => bail!("{name}: this server's key vouches for none of it"),
        broken @ Verdict::Broken { .. } => bail!("{name}: {broken}"),
    };
    file.rewind().with_context(|| format!("{name}"))?;
    let since = EndedSince::read(BufReader::new(&file), points, vouched)
        .with_context(|| format!("{name}"))?;
    since.with_context(|| {
        format!(
            "{name} does not go on from a backup that was put back here: it is not newer than the backup, it \
             begins after it, or `restore` or `put-back` was not said yet"
        )
    })
}

fn view(since: &EndedSince, told: &EndedAgain) -> Value {
    let failed = told.failed.iter().map(|one| {
        json!({ "kind": one.kind, "id": one.id, "code": one.error.code(), "message": one.error.to_string() })
    });
    json!({
        "after": since.after,
        "through": since.through,
        "keys": told.keys,
        "owners": told.owners,
        "sessions": told.sessions,
        "clients": told.clients,
        "unknown": told.unknown,
        "failed": failed.collect::<Vec<_>>(),
        "look_at": since.look_at,
    })
}
