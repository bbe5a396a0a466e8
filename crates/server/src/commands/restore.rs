//! `keywright-server restore`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_registry::{Clock, LocalRegistry, Peppers, open_archive};
use keywright_server::{ServerSecrets, sync_folder_of};
use serde_json::json;

use super::backup::{DATABASE, FORMAT, Head, MANIFEST, SECRETS, SETTINGS, is_packed};
use super::installation::Installation;
use super::shared::{read_secret, secrets_path};

/// Puts a backup into a new data folder. What changed after the backup is not in it: keys and
/// sessions that were ended since then work again, until `end-again` ends them by an export of the trail. Refresh
/// families end, unless they are kept by name.
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
                    "what was ended after the backup was made works again: end it again with `keywright-server end-again` before you serve"
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
    installation.check_owner()?;
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
    let (files, passed_over) = unpack(&plain)?;
    for name in passed_over {
        eprintln!("passed over, because it is no secret of the server: {name}");
    }
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
    sync_folder_of(&secrets_path(data).join(SETTINGS))?;
    let copy = scratch.path().join(DATABASE);
    let report = if copy.exists() {
        let peppers = peppers(&files, &secrets).context("the backup holds no pepper")?;
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
    sync_folder_of(&data.join(SETTINGS))?;
    Ok(report)
}

/// The files by name, and the names of those that are not put back.
type Unpacked<'a> = (Vec<(String, &'a [u8])>, Vec<String>);

fn unpack(plain: &[u8]) -> Result<Unpacked<'_>> {
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
    let (mut files, mut passed_over) = (Vec::new(), Vec::new());
    for entry in head.files {
        let is_wanted = is_expected(&entry.name);
        if !is_wanted && !is_passed_over(&entry.name) {
            bail!("the backup holds a file that does not belong into it");
        }
        let (content, after) = rest
            .split_at_checked(entry.size)
            .context("the backup is not whole")?;
        rest = after;
        if is_wanted {
            files.push((entry.name, content));
        } else {
            passed_over.push(entry.name);
        }
    }
    if !rest.is_empty() {
        bail!("the backup is not whole");
    }
    Ok((files, passed_over))
}

/// Names lead nowhere else: whoever made the file may not be us.
fn is_expected(name: &str) -> bool {
    match name.strip_prefix(SECRETS) {
        None => matches!(name, SETTINGS | DATABASE | MANIFEST),
        Some(own) => is_packed(own),
    }
}

/// What lies among the secrets and is none: an editor's copy, the rest of a write that was cut short. Backups
/// of before have such files, and must come back without them. One that leads elsewhere was not made by us.
fn is_passed_over(name: &str) -> bool {
    let own = name.strip_prefix(SECRETS);
    own.is_some_and(|own| !matches!(own, "" | "." | "..") && !own.contains(['/', '\\', '\0']))
}

/// One that cannot be used keeps nothing from coming back: the rest of a write that was cut short, for one.
/// Where keys need it, they are named as keys without a pepper.
fn peppers(files: &[(String, &[u8])], secrets: &ServerSecrets) -> Option<Peppers> {
    let ids = files
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("secrets/pepper-")?.strip_suffix(".key"));
    let mut peppers: Option<Peppers> = None;
    for id in ids {
        match secrets.pepper(id) {
            Ok(one) => {
                peppers = Some(match peppers {
                    None => Peppers::new(one),
                    Some(known) => known.with_older(one),
                });
            }
            Err(error) => eprintln!("a pepper of the backup cannot be used: {error}"),
        }
    }
    peppers
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
        back_up(&installation, &file, &good).await.unwrap();
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
    async fn ac_203_what_lies_among_the_secrets_and_is_none_keeps_no_backup_from_coming_back() {
        let folder = set_up_folder().await;
        let installation = Installation::of(folder.path());
        let secrets = secrets_path(folder.path());
        // A write that was cut short, an editor's copies; and a file of whoever runs the server.
        for name in [".tmpabc", "master.key~", ".master.key.swp", "smtp-password"] {
            fs::write(secrets.join(name), "x").unwrap();
        }
        fs::create_dir(secrets.join("old")).unwrap();
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("backup.age");
        let good = words("correct horse battery");
        let packed = back_up(&installation, &file, &good).await.unwrap();
        let left_out = [".master.key.swp", ".tmpabc", "master.key~", "old"];
        assert_eq!(packed.left_out, left_out);
        assert_eq!(packed.missing_peppers, Vec::<String>::new());
        let new = out.path().join("new");
        restore(&Installation::of(&new), &file, &good, true)
            .await
            .unwrap();
        let names = |folder: &Path| {
            let found = fs::read_dir(secrets_path(folder)).unwrap().flatten();
            let mut names: Vec<_> = found
                .map(|one| one.file_name().into_string().unwrap())
                .collect();
            names.sort_unstable();
            names
        };
        let mut expected = names(folder.path());
        expected.retain(|name| !left_out.contains(&name.as_str()));
        assert_eq!(names(&new), expected);
        assert!(expected.len() >= 3, "{expected:?}");

        // A backup of before holds them all: it comes back without them.
        let mut files = vec![("secrets/.tmpabc".to_owned(), b"cut".to_vec())];
        for name in &expected {
            let content = fs::read(secrets.join(name)).unwrap();
            files.push((format!("{SECRETS}{name}"), content));
            files.push((format!("{SECRETS}{name}~"), b"copy".to_vec()));
        }
        files.push((
            SETTINGS.to_owned(),
            fs::read(installation.settings_file()).unwrap(),
        ));
        let entries: Vec<_> = files
            .iter()
            .map(|(name, content)| json!({ "name": name, "size": content.len() }))
            .collect();
        let head = json!({ "format": FORMAT, "version": 1, "files": entries });
        let mut plain = format!("{head}\n").into_bytes();
        plain.extend(files.into_iter().flat_map(|(_, content)| content));
        let older = out.path().join("older.age");
        fs::write(&older, seal_archive(&plain, &good).unwrap()).unwrap();
        let from_older = out.path().join("from-older");
        restore(&Installation::of(&from_older), &older, &good, true)
            .await
            .unwrap();
        assert_eq!(names(&from_older), expected);
    }

    #[tokio::test]
    async fn ac_203_a_backup_without_what_restore_needs_is_not_taken_for_whole() {
        let folder = set_up_folder().await;
        let installation = Installation::of(folder.path());
        let secrets = secrets_path(folder.path());
        let out = tempfile::tempdir().unwrap();
        let good = words("correct horse battery");
        // The root key is stored under the pepper.
        let own = ServerSecrets::open(&secrets).unwrap();
        let (_, registry) = installation.open().await.unwrap();
        let needed = registry.pepper_id().await.unwrap().unwrap();
        registry.close().await;
        own.new_pepper().unwrap();
        // One whose write was cut short: the name without its content.
        fs::write(secrets.join("pepper-cut.key"), "").unwrap();
        let pepper = secrets.join(format!("pepper-{needed}.key"));
        fs::rename(&pepper, folder.path().join("away")).unwrap();
        let file = out.path().join("backup.age");
        let packed = back_up(&installation, &file, &good).await.unwrap();
        assert_eq!(packed.missing_peppers, std::slice::from_ref(&needed));
        let new = out.path().join("new");
        let report = restore(&Installation::of(&new), &file, &good, true).await;
        assert_eq!(report.unwrap().unwrap().missing_peppers, [needed]);
        for left in own.pepper_ids().unwrap() {
            own.remove_pepper(&left).unwrap();
        }
        let file = out.path().join("without-peppers.age");
        let error = back_up(&installation, &file, &good).await.unwrap_err();
        assert!(error.to_string().contains("no pepper"), "{error}");
        fs::rename(folder.path().join("away"), &pepper).unwrap();
        fs::rename(secrets.join("master.key"), folder.path().join("away")).unwrap();
        let error = back_up(&installation, &file, &good).await.unwrap_err();
        assert!(error.to_string().contains("master key"), "{error}");
        assert!(!file.exists());
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
        for name in [
            "secrets/a/../../x",
            "secrets/",
            "secrets/..",
            "secrets/.",
            "x",
            ".x",
        ] {
            assert!(!is_expected(name) && !is_passed_over(name), "{name}");
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
