//! The encrypted file on a real disk, with the real cost of argon2id.

use super::*;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn passphrase(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

const GOOD: &str = "correct horse battery";

fn folder() -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    #[cfg(unix)]
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )?;
    Ok(folder)
}

#[test]
fn ac_163_what_was_kept_comes_back_after_a_restart() -> Outcome {
    let folder = folder()?;
    let file = folder.path().join("vault.sealed");
    let vault = Vault::new(file.clone());
    assert!(!vault.is_chosen() && !vault.is_open());
    vault.create(&passphrase(GOOD))?;
    vault.set("refresh:a", &passphrase("canary-refresh-1"))?;
    vault.set("pepper:b", &passphrase("canary-pepper-2"))?;
    assert!(vault.delete("refresh:a")? && !vault.delete("refresh:a")?);

    let again = Vault::new(file.clone());
    assert!(again.is_chosen() && !again.is_open());
    assert_eq!(
        again.read("pepper:b").expect_err("locked").code(),
        "vault_locked"
    );
    again.unlock(&passphrase(GOOD))?;
    assert!(
        again
            .read("pepper:b")?
            .is_some_and(|secret| secret.matches("canary-pepper-2"))
    );
    assert!(again.read("refresh:a")?.is_none());
    again.lock();
    assert_eq!(
        again.read("pepper:b").expect_err("locked").code(),
        "vault_locked"
    );
    let text = std::fs::read_to_string(&file)?;
    for secret in ["canary", GOOD, "pepper:b"] {
        assert!(!text.contains(secret), "{secret} is on disk");
    }
    Ok(())
}

/// After an unlock all accounts are refreshed at once, each by a task of its own.
#[test]
fn ac_163_changes_at_one_time_all_stay() -> Outcome {
    let folder = folder()?;
    let vault = Vault::new(folder.path().join("vault.sealed"));
    vault.create(&passphrase(GOOD))?;
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for account in 0..8 {
            let (vault, start) = (&vault, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..10 {
                    let user = format!("refresh:{account}");
                    vault
                        .set(&user, &passphrase(&format!("token {round}")))
                        .expect("written");
                    let user = format!("probe-{account}-{round}");
                    vault.set(&user, &passphrase("probe")).expect("written");
                    assert!(vault.delete(&user).expect("deleted"), "{user}");
                }
            });
        }
    });
    for account in 0..8 {
        let kept = vault.read(&format!("refresh:{account}"))?;
        assert!(
            kept.is_some_and(|kept| kept.matches("token 9")),
            "the last token of account {account} is there"
        );
    }
    assert_eq!(vault.opened()?.2.len(), 8, "and nothing that was deleted");
    Ok(())
}

#[test]
fn ac_163_a_wrong_passphrase_is_told_and_slows_down() -> Outcome {
    let folder = folder()?;
    let vault = Vault::new(folder.path().join("vault.sealed"));
    vault.create(&passphrase(GOOD))?;
    vault.lock();
    assert_eq!(
        vault
            .unlock(&passphrase("wrong horse battery"))
            .expect_err("wrong")
            .code(),
        "vault_wrong_passphrase"
    );
    assert_eq!(
        vault
            .unlock(&passphrase(GOOD))
            .expect_err("too soon")
            .code(),
        "vault_back_off"
    );
    std::thread::sleep(Duration::from_millis(260));
    vault.unlock(&passphrase(GOOD))?;
    Ok(())
}

#[test]
fn ac_163_a_tampered_file_is_told_and_left_alone() -> Outcome {
    let folder = folder()?;
    let file = folder.path().join("vault.sealed");
    let vault = Vault::new(file.clone());
    vault.create(&passphrase(GOOD))?;
    vault.set("a", &passphrase("b"))?;
    let whole: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let mut cases = vec![b"not json".to_vec(), Vec::new()];
    for (pointer, value) in [
        ("/records/ciphertext", serde_json::json!("AAAA")),
        ("/records/nonce", serde_json::json!("AAAA")),
        (
            "/header/cost/memory_kib",
            serde_json::json!(4_000_000_000_u32),
        ),
        ("/header/format", serde_json::json!("keywright-vault-9")),
    ] {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).ok_or("no such field")? = value;
        cases.push(serde_json::to_vec(&changed)?);
    }
    for case in cases {
        std::fs::write(&file, &case)?;
        let fresh = Vault::new(file.clone());
        assert_eq!(
            fresh
                .unlock(&passphrase(GOOD))
                .expect_err("tampered")
                .code(),
            "vault_corrupt"
        );
        assert_eq!(std::fs::read(&file)?, case, "left alone");
    }
    // Records of one header do not open under another: the header is part of the seal.
    let other = Vault::new(folder.path().join("other.sealed"));
    other.create(&passphrase(GOOD))?;
    let mut mixed: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("other.sealed"))?)?;
    mixed["records"] = whole["records"].clone();
    std::fs::write(&file, serde_json::to_vec(&mixed)?)?;
    assert_eq!(
        Vault::new(file)
            .unlock(&passphrase(GOOD))
            .expect_err("mixed")
            .code(),
        "vault_corrupt"
    );
    Ok(())
}

#[test]
fn a_short_passphrase_makes_no_file() -> Outcome {
    let folder = folder()?;
    let vault = Vault::new(folder.path().join("vault.sealed"));
    assert_eq!(
        vault
            .create(&passphrase("short"))
            .expect_err("short")
            .code(),
        "vault_passphrase_too_short"
    );
    assert!(!vault.is_chosen());
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_file_or_folder_open_to_others_is_refused() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder()?;
    let file = folder.path().join("vault.sealed");
    let vault = Vault::new(file.clone());
    vault.create(&passphrase(GOOD))?;
    assert_eq!(
        std::fs::metadata(&file)?.permissions().mode() & 0o777,
        0o600
    );
    for (path, mode, back) in [
        (&file, 0o640, 0o600),
        (&folder.path().to_owned(), 0o755, 0o700),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        assert_eq!(
            vault.read("a").expect_err("open to others").code(),
            "keychain_failed"
        );
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(back))?;
    }
    assert!(vault.read("a")?.is_none());
    Ok(())
}
