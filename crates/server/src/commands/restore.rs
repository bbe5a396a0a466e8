//! `keywright-server restore`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_registry::{Clock, LocalRegistry, Peppers, open_archive};
use keywright_server::ServerSecrets;
use serde_json::json;

use super::backup::{DATABASE, FORMAT, Head, MANIFEST, SECRETS, SETTINGS};
use super::installation::Installation;
use super::shared::{read_secret, secrets_path};

/// Puts a backup into a new data folder. What changed after the backup is not in it: keys and
/// sessions that were ended since then work again. Refresh families end, unless they are kept by name.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    installation: Installation,
    /// The backup.
    #[arg(long = "from", value_name = "FILE")]
    from: PathBuf,
    /// File with the passphrase; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    /// Keeps refresh families: nothing was served between the backup and now.
    #[arg(long)]
    keep_families: bool,
}

impl Restore {
    pub(crate) async fn run(self) -> Result<()> {
        let passphrase = read_secret(&self.passphrase_file)?;
        let (installation, from) = (&self.installation, &self.from);
        let report = restore(installation, from, &passphrase, self.keep_families).await?;
        let data = installation.data();
        match report {
            Some(report) => {
                eprintln!(
                    "what was ended after the backup was made works again: look at the activity log, and end it again"
                );
                if !report.missing_peppers.is_empty() {
                    eprintln!(
                        "keys under these peppers do not work: {:?}",
                        report.missing_peppers
                    );
                }
                println!(
                    "{}",
                    json!({
                        "restored": data,
                        "backup_at": report.manifest.at,
                        "live_secrets": report.live_secrets,
                        "missing_peppers": report.missing_peppers,
                    })
                );
            }
            None => {
                eprintln!(
                    "settings and secrets are back: put the database's backup back too, then run `keywright-server put-back`"
                );
                println!("{}", json!({ "restored": data }));
            }
        }
        Ok(())
    }
}

/// Puts it back. None where the database was not in it.
pub(super) async fn restore(
    installation: &Installation,
    from: &Path,
    passphrase: &SecretText,
    keep_families: bool,
) -> Result<Option<keywright_registry::RestoreReport>> {
    let data = installation.data();
    let is_empty = match fs::read_dir(data) {
        Ok(mut found) => found.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("{}", data.display())),
    };
    if !is_empty {
        bail!("{} is not empty: name a new folder", data.display());
    }
    let sealed = fs::read(from).with_context(|| format!("{}", from.display()))?;
    let passphrase = passphrase.clone();
    let plain = tokio::task::spawn_blocking(move || open_archive(&sealed, &passphrase)).await??;
    let files = unpack(&plain)?;
    if installation.address().is_some() && files.iter().any(|(name, _)| name == DATABASE) {
        bail!(
            "the backup holds an embedded database, and --database or KEYWRIGHT_SERVER_DATABASE names \
             PostgreSQL: whoever serves there would not see it"
        );
    }

    private_folder(data)?;
    private_folder(&secrets_path(data))?;
    let scratch = tempfile::Builder::new()
        .prefix(".restore")
        .tempdir_in(data)?;
    // The settings come last: a folder without them is not served.
    for (name, bytes) in &files {
        match name.as_str() {
            DATABASE | MANIFEST => write_private(&scratch.path().join(name), bytes)?,
            SETTINGS => {}
            _ => write_private(&data.join(name), bytes)?,
        }
    }
    let secrets = ServerSecrets::open(&secrets_path(data))?;
    let copy = scratch.path().join(DATABASE);
    let report = if copy.exists() {
        let peppers = peppers(&files, &secrets)?.context("the backup holds no pepper")?;
        let actor = Actor::person("keywright-server restore");
        let to = data.join(DATABASE);
        let (registry, report) =
            LocalRegistry::restore_backup(&actor, &copy, &to, Clock::system(), &peppers).await?;
        let ended = match keep_families {
            true => Ok(0),
            false => registry.end_refresh_families(&actor).await,
        };
        registry.close().await;
        ended?;
        Some(report)
    } else {
        None
    };
    for (name, bytes) in files.iter().filter(|(name, _)| name == SETTINGS) {
        write_private(&data.join(name), bytes)?;
    }
    Ok(report)
}

fn unpack(plain: &[u8]) -> Result<Vec<(String, &[u8])>> {
    let foreign = "this is not a backup of a server, or one of a newer program";
    let at = plain
        .iter()
        .position(|byte| *byte == b'\n')
        .context(foreign)?;
    let head: Head = serde_json::from_slice(&plain[..at]).context(foreign)?;
    if head.format != FORMAT || head.version != 1 {
        bail!(foreign);
    }
    let mut rest = &plain[at + 1..];
    let mut files = Vec::new();
    for entry in head.files {
        if !is_expected(&entry.name) {
            bail!("the backup holds a file that does not belong into it");
        }
        let (content, after) = rest
            .split_at_checked(entry.size)
            .context("the backup is not whole")?;
        rest = after;
        files.push((entry.name, content));
    }
    if !rest.is_empty() {
        bail!("the backup is not whole");
    }
    Ok(files)
}

/// Names lead nowhere else: whoever made the file may not be us.
fn is_expected(name: &str) -> bool {
    match name.strip_prefix(SECRETS) {
        None => matches!(name, SETTINGS | DATABASE | MANIFEST),
        Some(own) => {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !own.is_empty() && !own.starts_with('.') && own.bytes().all(plain)
        }
    }
}

fn peppers(files: &[(String, &[u8])], secrets: &ServerSecrets) -> Result<Option<Peppers>> {
    let ids: Vec<String> = files
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("secrets/pepper-")?.strip_suffix(".key"))
        .map(str::to_owned)
        .collect();
    Ok(secrets.peppers(&ids)?)
}

fn private_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{}", path.display()))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{}", path.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use keywright_domain::people::{EndReason, SessionState, TokenDigest};
    use keywright_registry::people::{NewSession, UserQuery};
    use keywright_registry::seal_archive;

    use super::*;
    use crate::commands::backup::back_up;
    use crate::commands::shared::tests::set_up_folder;

    fn words(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    #[tokio::test]
    async fn ac_203_sessions_keys_and_denials_come_back_on_another_machine() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let installation = Installation::of(data);
        let (settings, registry) = installation.open().await.unwrap();
        let query = UserQuery {
            limit: 1,
            ..UserQuery::default()
        };
        let user = registry.list_users(&query).await.unwrap().items.remove(0);
        let actor = Actor::keywright();
        let digests = ["one", "two"].map(|text| TokenDigest::of(&words(text)));
        for digest in &digests {
            let new = NewSession {
                digest: *digest,
                user_id: user.id.clone(),
                acr: "1".into(),
                amr: "pwd".into(),
                proven_at: None,
                user_agent: String::new(),
                network: String::new(),
                lives: settings.sessions,
            };
            registry.start_session(&actor, &new).await.unwrap();
        }
        let (ended, _) = registry.find_session(&digests[1]).await.unwrap().unwrap();
        registry
            .end_session(&actor, &user.id, &ended.id, EndReason::SignedOut)
            .await
            .unwrap();
        let denials = registry.count_denials().await.unwrap();
        assert!(denials > 0);
        let keys = registry.list_signing_keys().await.unwrap();
        registry.close().await;

        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("backup.age");
        let good = words("correct horse battery");
        assert!(
            back_up(&installation, &file, &words("short"))
                .await
                .is_err()
        );
        assert!(!file.exists());
        assert!(back_up(&installation, &file, &good).await.unwrap());
        assert!(
            back_up(&installation, &file, &good).await.is_err(),
            "it is overwritten"
        );
        let sealed = fs::read_to_string(&file).unwrap();
        assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        let left = fs::read_dir(data).unwrap().flatten();
        assert!(
            left.into_iter()
                .all(|one| !one.file_name().to_string_lossy().starts_with('.'))
        );

        let new = out.path().join("new");
        let wrong = restore(
            &Installation::of(&new),
            &file,
            &words("incorrect horse battery"),
            true,
        )
        .await;
        assert!(wrong.is_err() && !new.exists());
        let report = restore(&Installation::of(&new), &file, &good, true)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(report.missing_peppers, Vec::<String>::new());
        assert!(
            restore(&Installation::of(&new), &file, &good, true)
                .await
                .is_err(),
            "it is not empty"
        );

        let (_, registry) = Installation::of(&new).open().await.unwrap();
        let state = async |digest| registry.find_session(digest).await.unwrap().unwrap().1;
        assert_eq!(state(&digests[0]).await, SessionState::Active);
        assert_ne!(state(&digests[1]).await, SessionState::Active);
        assert_eq!(registry.count_denials().await.unwrap(), denials);
        assert_eq!(registry.list_signing_keys().await.unwrap(), keys);
        let secrets = ServerSecrets::open(&secrets_path(&new)).unwrap();
        let good = keywright_server::check_signing_keys(&registry, &secrets)
            .await
            .unwrap();
        assert!(
            good.iter()
                .all(|(_, one)| *one == keywright_server::KeyFinding::Good)
        );
        registry.close().await;
    }

    #[tokio::test]
    async fn a_file_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let good = words("correct horse battery");
        for name in [
            "../x",
            "secrets/../../x",
            "/etc/x",
            "secrets/.x",
            "secrets/",
            "x",
        ] {
            assert!(!is_expected(name), "{name}");
        }
        let head = json!({"format": FORMAT, "version": 1, "files": [{"name": "../x", "size": 1}]});
        let sealed = seal_archive(format!("{head}\nx").as_bytes(), &good).unwrap();
        let file = folder.path().join("evil.age");
        fs::write(&file, sealed).unwrap();
        let data = folder.path().join("data");
        let error = restore(&Installation::of(&data), &file, &good, true)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("does not belong"), "{error}");
        assert!(!data.exists() && !folder.path().join("x").exists());
        for cut in [
            json!({"format": FORMAT, "version": 1, "files": [{"name": "server.toml", "size": 9}]}),
            json!({"format": "other", "version": 1, "files": []}),
        ] {
            assert!(unpack(format!("{cut}\nx").as_bytes()).is_err());
        }
    }
}
