//! Deliveries over real files and real programs, with a keychain in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use keywright_domain::api_keys::Prefix;
use keywright_protocol::api_keys::{CommandRequest, DeliveryTarget};

use super::*;
use crate::secret_store::EntryName;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A key as the registry makes them.
static SECRET: LazyLock<String> = LazyLock::new(|| {
    let prefix = Prefix::new("sk_live").expect("a prefix");
    let plain = PlainKey::generate(&prefix, &mut rand::rng());
    plain.text().expose().to_owned()
});

struct Place {
    folder: tempfile::TempDir,
    keychain: Keychain,
    secret: SecretText,
}

impl Place {
    fn new() -> Result<Self, std::io::Error> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            keychain: crate::secret_store::tests::in_memory(),
            secret: SecretText::new(SECRET.clone()),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn check(&self, asked: DeliveryTarget) -> Result<Target, DeliveryError> {
        Target::check(asked, &self.secret, &self.path("own"), "ours")
    }

    fn file(&self, name: &str) -> Result<Target, DeliveryError> {
        self.check(DeliveryTarget::File {
            path: self.text(name),
        })
    }

    fn dot_env(&self, name: &str) -> Result<Target, DeliveryError> {
        self.check(DeliveryTarget::DotEnv {
            path: self.text(name),
            variable: "KEY".into(),
        })
    }

    fn shell(&self, script: &str, check: Option<&str>) -> Result<Target, DeliveryError> {
        self.check(DeliveryTarget::Command {
            run: shell(script),
            check: check.map(shell),
        })
    }

    async fn deliver(&self, targets: &[Target]) -> Run {
        deliver_all(&self.keychain, targets, &self.secret, || async { Ok(()) }).await
    }
}

fn shell(script: &str) -> CommandRequest {
    CommandRequest {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
    }
}

fn states(run: &Run) -> Vec<DeliveryState> {
    run.outcomes.iter().map(|outcome| outcome.state).collect()
}

fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

fn left_over(place: &Place) -> std::io::Result<usize> {
    Ok(fs::read_dir(place.folder.path())?.count())
}

#[tokio::test]
async fn a_secret_reaches_files_and_programs_and_is_read_back() -> Outcome {
    let place = Place::new()?;
    fs::write(place.path(".env"), "A=1\nKEY='old' # kept\n")?;
    fs::set_permissions(place.path(".env"), fs::Permissions::from_mode(0o640))?;
    let kept = place.text("kept");
    let run = place
        .deliver(&[
            place.shell(
                &format!("cat > '{kept}'"),
                Some(&format!("cat '{kept}'; echo")),
            )?,
            place.shell("cat > /dev/null", None)?,
            place.dot_env(".env")?,
            place.dot_env("new.env")?,
            place.file("plain")?,
        ])
        .await;
    assert_eq!(run.failed, None);
    assert_eq!(states(&run), [DeliveryState::Delivered; 5]);
    let read: Vec<_> = run.outcomes.iter().map(|one| one.read_back).collect();
    assert_eq!(read, [true, false, true, true, true]);
    assert_eq!(
        fs::read_to_string(place.path(".env"))?,
        format!("A=1\nKEY='{}' # kept\n", *SECRET)
    );
    assert_eq!(fs::read_to_string(place.path("plain"))?, *SECRET);
    assert_eq!(fs::read_to_string(place.path("kept"))?, *SECRET);
    assert_eq!(mode(&place.path(".env"))?, 0o640);
    assert_eq!(mode(&place.path("new.env"))?, 0o600);
    assert_eq!(mode(&place.path("plain"))?, 0o600);
    assert_eq!(left_over(&place)?, 4, "nothing else is left in the folder");
    Ok(())
}

#[tokio::test]
async fn ac_137_one_failure_puts_everything_back() -> Outcome {
    let place = Place::new()?;
    fs::write(place.path(".env"), "KEY=old\r\n")?;
    fs::write(place.path("plain"), "before")?;
    fs::set_permissions(place.path("plain"), fs::Permissions::from_mode(0o644))?;
    let run = place
        .deliver(&[
            place.dot_env(".env")?,
            place.dot_env(".env")?,
            place.file("plain")?,
            place.file("made")?,
            place.shell("cat > /dev/null; echo not today >&2; exit 3", None)?,
            place.shell("exit 0", None)?,
        ])
        .await;
    use DeliveryState::{Failed, NotTried, Restored};
    assert_eq!(
        states(&run),
        [Restored, Restored, Restored, Restored, Failed, NotTried]
    );
    let (target, reason) = run.failed.ok_or("it was delivered")?;
    assert_eq!(target, "the program /bin/sh");
    assert_eq!(reason, "it ended with exit code 3 and said: not today");
    assert_eq!(fs::read_to_string(place.path(".env"))?, "KEY=old\r\n");
    assert_eq!(fs::read_to_string(place.path("plain"))?, "before");
    assert_eq!(mode(&place.path("plain"))?, 0o644);
    assert!(!place.path("made").exists());
    assert_eq!(left_over(&place)?, 2);
    Ok(())
}

#[tokio::test]
async fn what_is_read_back_must_be_what_was_written() -> Outcome {
    let place = Place::new()?;
    let run = place
        .deliver(&[
            place.file("plain")?,
            place.shell("cat > /dev/null", Some("echo something else"))?,
        ])
        .await;
    assert_eq!(
        states(&run),
        [DeliveryState::Restored, DeliveryState::NotRestored]
    );
    assert!(!place.path("plain").exists());
    Ok(())
}

#[tokio::test]
async fn a_registry_that_does_not_confirm_puts_everything_back() -> Outcome {
    let place = Place::new()?;
    let targets = [place.file("plain")?];
    let no = || async { Err("no".to_owned()) };
    let run = deliver_all(&place.keychain, &targets, &place.secret, no).await;
    assert_eq!(states(&run), [DeliveryState::Restored]);
    assert_eq!(run.failed, Some(("the registry".into(), "no".into())));
    assert!(!place.path("plain").exists());
    Ok(())
}

#[tokio::test]
async fn a_program_that_hangs_or_does_not_read_has_failed() -> Outcome {
    let place = Place::new()?;
    let began = std::time::Instant::now();
    let run = place.deliver(&[place.shell("exec sleep 60", None)?]).await;
    let (_, reason) = run.failed.ok_or("it was delivered")?;
    assert_eq!(reason, "it did not end within 3 s");
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    // What it repeats of the secret is not told.
    let run = place
        .deliver(&[place.shell("cat >&2; exit 1", None)?])
        .await;
    let (_, reason) = run.failed.ok_or("it was delivered")?;
    assert!(!reason.contains(&*SECRET), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_link_stays_a_link() -> Outcome {
    let place = Place::new()?;
    fs::write(place.path("real"), "KEY=old\n")?;
    std::os::unix::fs::symlink(place.path("real"), place.path(".env"))?;
    let run = place.deliver(&[place.dot_env(".env")?]).await;
    assert_eq!(run.failed, None);
    assert!(fs::symlink_metadata(place.path(".env"))?.is_symlink());
    assert_eq!(
        fs::read_to_string(place.path("real"))?,
        format!("KEY={}\n", *SECRET)
    );
    Ok(())
}

#[test]
fn targets_that_break_a_rule_are_refused_before_anything_is_touched() -> Outcome {
    let place = Place::new()?;
    fs::create_dir(place.path("own"))?;
    let folder = place.folder.path().canonicalize()?;
    let check = |asked| Target::check(asked, &place.secret, &folder.join("own"), "ours");
    let file = |path: String| DeliveryTarget::File { path };
    let keychain = |service: &str| DeliveryTarget::Keychain {
        service: service.into(),
        username: "ada".into(),
    };
    let command = |program: &str, argument: &str| DeliveryTarget::Command {
        run: CommandRequest {
            program: program.into(),
            arguments: vec![argument.into()],
        },
        check: None,
    };
    for (asked, reason) in [
        (file("relative".into()), "from the root"),
        (file(place.text("none/file")), "does not exist"),
        (file(place.text("own/settings.json")), "Keywright's own"),
        (file(place.text("")), "folder"),
        (keychain("ours"), "Keywright's own"),
        (keychain("dev.keywright.desktop"), "Keywright's own"),
        (keychain(" "), "service name"),
        (command("sh", "x"), "from the root"),
        (command("/no/such/program", "x"), "no such file"),
        (command("/bin/sh", &format!("echo {}", *SECRET)), "argument"),
        (
            DeliveryTarget::DotEnv {
                path: place.text(".env"),
                variable: "1A".into(),
            },
            "begin with a digit",
        ),
    ] {
        let refused = check(asked).expect_err(reason);
        assert_eq!(refused.code(), "invalid_target");
        assert!(refused.to_string().contains(reason), "{refused}");
        assert!(!refused.to_string().contains(&*SECRET));
    }
    Ok(())
}

#[tokio::test]
async fn a_keychain_entry_is_written_read_back_and_put_back() -> Outcome {
    let place = Place::new()?;
    let name = EntryName {
        service: "deploy".into(),
        user: "ada".into(),
    };
    let entry = || {
        place.check(DeliveryTarget::Keychain {
            service: "deploy".into(),
            username: "ada".into(),
        })
    };
    let old = SecretText::new("old".into());
    place.keychain.write_entry(&name, &old).await?;
    let run = place
        .deliver(&[entry()?, place.shell("exit 1", None)?])
        .await;
    assert_eq!(
        states(&run),
        [DeliveryState::Restored, DeliveryState::Failed]
    );
    let held = place.keychain.read_entry(&name).await?;
    assert!(held.is_some_and(|held| held.matches("old")));
    let run = place.deliver(&[entry()?]).await;
    assert!(run.failed.is_none() && run.outcomes[0].read_back);
    let held = place.keychain.read_entry(&name).await?;
    assert!(held.is_some_and(|held| held.matches(&SECRET)));
    Ok(())
}
