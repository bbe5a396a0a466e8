//! A keychain that lost the pepper: nothing is made anew by itself, and a person can go on.

use std::sync::Arc;

use keywright_protocol::api_keys::{IssueApiKeyRequest, VerifyApiKeyRequest};
use keywright_protocol::settings::{CreateVaultRequest, NewPepperRequest};
use keywright_registry::{AuditQuery, RegistryError};

use super::entry;
use crate::remote::tests::{Outcome, Quiet, app_with};
use crate::{App, AppError};

/// A key of this device: its id and its text.
async fn issue(app: &App, name: &str) -> Result<(String, String), AppError> {
    let request = IssueApiKeyRequest {
        name: name.into(),
        prefix: "sk_live".into(),
        scopes: vec!["keys:read".into()],
        expires_in_days: Some(30),
        settings: None,
    };
    let issued = app.issue_api_key(request).await?;
    let shown = app.reveal_secret(issued.reveal_id)?;
    Ok((issued.key.id, shown.secret))
}

async fn verify(app: &App, text: &str) -> Result<bool, AppError> {
    let presented = text.to_owned();
    let request = VerifyApiKeyRequest {
        presented,
        required_scope: None,
        knowing: false,
    };
    Ok(app.verify_api_key(request).await?.accepted)
}

/// The keyring was reset, or is another program's now.
async fn lose_pepper(app: &App) -> Outcome {
    let registry = app.inner.registry.get().await?;
    for pepper in registry.list_peppers().await? {
        app.inner.keychain.delete(&entry(&pepper.id)).await?;
    }
    app.inner.pepper.forget().await;
    Ok(())
}

#[tokio::test]
async fn a_lost_pepper_is_told_until_a_person_starts_with_a_new_one() -> Outcome {
    let folder = tempfile::tempdir()?;
    let app = app_with(folder.path(), Arc::new(Quiet))?;
    assert!(app.check_keychain().await?.healthy, "none is needed yet");
    let (id, text) = issue(&app, "first").await?;
    let (_, other) = issue(&app, "second").await?;
    let nothing = NewPepperRequest { keys: 2 };
    let refused = app.start_with_new_pepper(nothing).await;
    assert_eq!(
        refused.expect_err("it is there").code(),
        "pepper_not_missing"
    );
    assert!(verify(&app, &text).await?);

    lose_pepper(&app).await?;
    // It is told by each check, though the keychain answers, and nothing is made anew by itself.
    for _ in 0..2 {
        let view = app.check_keychain().await?;
        assert!(!view.healthy);
        assert_eq!(view.problem.expect("told").code, "pepper_missing");
        let refused = issue(&app, "third").await.expect_err("no pepper");
        assert_eq!(refused.code(), "pepper_missing");
    }
    let lost = app.lost_pepper().await?;
    assert_eq!((lost.lost, lost.keys), (true, 2));
    // Fewer keys than end are no consent.
    let refused = app.start_with_new_pepper(NewPepperRequest { keys: 1 });
    assert_eq!(refused.await.expect_err("two").code(), "changed_meanwhile");
    assert!(app.find_api_key(id.clone()).await?.key.revoked_at.is_none());

    let view = app
        .start_with_new_pepper(NewPepperRequest { keys: 2 })
        .await?;
    assert!(view.healthy && view.problem.is_none());
    let lost = app.lost_pepper().await?;
    assert_eq!((lost.lost, lost.keys), (false, 0));
    for text in [&text, &other] {
        // Refused as any other text, and not as a pepper that is missing: that would bring the banner back.
        assert!(!verify(&app, text).await?);
    }
    let ended = app.find_api_key(id).await?.key;
    assert!(ended.revoked_at.is_some());
    assert_eq!(ended.revoked_reason.as_deref(), Some("its pepper was lost"));
    let (_, text) = issue(&app, "third").await?;
    assert!(verify(&app, &text).await?);

    // The trail has the pepper's end and each key's.
    let registry = app.inner.registry.get().await?;
    let query = AuditQuery {
        limit: 50,
        ..AuditQuery::default()
    };
    let trail = registry.list_audit_events(query).await?.items;
    let count = |action: &str| {
        let of_action = trail.iter().filter(|event| event.action == action);
        of_action.count()
    };
    assert_eq!(count("registry.pepper_rotated"), 1);
    assert_eq!(count("api_key.revoked"), 2);
    app.close().await;
    drop(app);

    // Nothing asks for the lost one after the next start.
    let app = app_with(folder.path(), Arc::new(Quiet))?;
    let needed = super::needed(&app.inner.registry.get().await?).await?;
    assert_eq!(needed.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_start_with_a_new_pepper_that_was_cut_short_goes_on() -> Outcome {
    let folder = tempfile::tempdir()?;
    let app = app_with(folder.path(), Arc::new(Quiet))?;
    let (id, _) = issue(&app, "first").await?;
    lose_pepper(&app).await?;
    // The new pepper is in force, and the app ends before any key has.
    let registry = app.inner.registry.get().await?;
    let old = registry.pepper_id().await?.expect("one");
    let made = app.make_pepper().await?;
    let actor = &app.inner.actor;
    registry.replace_lost_pepper(actor, &old, &made.id).await?;
    let late = registry.replace_lost_pepper(actor, &old, "another").await;
    assert!(matches!(late, Err(RegistryError::Changed)), "{late:?}");

    let view = app.check_keychain().await?;
    assert_eq!(view.problem.expect("told").code, "pepper_missing");
    assert_eq!(app.lost_pepper().await?.keys, 1);
    let view = app
        .start_with_new_pepper(NewPepperRequest { keys: 1 })
        .await?;
    assert!(view.healthy);
    assert!(app.find_api_key(id).await?.key.revoked_at.is_some());
    assert_eq!(
        registry.pepper_id().await?.as_deref(),
        Some(&*made.id),
        "one is enough"
    );
    app.close().await;
    Ok(())
}

/// The keychain is gone for good: no entry, and none can be written.
fn without_keychain(folder: &std::path::Path) -> anyhow::Result<App> {
    let mut app = app_with(folder, Arc::new(Quiet))?;
    let inner = Arc::get_mut(&mut app.inner).expect("alone");
    let file = inner.home.vault_file();
    inner.keychain = crate::secret_store::tests::unavailable(file);
    Ok(app)
}

#[tokio::test]
async fn ac_162_an_encrypted_file_in_place_of_a_keychain_with_the_pepper_ends_the_keys_by_choice()
-> Outcome {
    let folder = tempfile::tempdir()?;
    let app = app_with(folder.path(), Arc::new(Quiet))?;
    let (id, _) = issue(&app, "first").await?;
    app.close().await;
    drop(app);
    let app = without_keychain(folder.path())?;
    let request = |keys| CreateVaultRequest {
        passphrase: "correct horse battery".to_owned(),
        keys,
    };
    let view = app.check_keychain().await?;
    assert_eq!(view.problem.expect("told").code, "keychain_unavailable");
    let lost = app.lost_pepper().await?;
    assert_eq!((lost.lost, lost.keys), (true, 1));
    for told in [None, Some(0)] {
        let refused = app.create_vault(request(told)).await;
        assert_eq!(refused.expect_err("a key ends").code(), "vault_not_needed");
        assert!(!app.inner.home.vault_file().exists());
    }
    let view = app.create_vault(request(Some(1))).await?;
    assert!(view.healthy, "{:?}", view.problem);
    assert!(app.find_api_key(id).await?.key.revoked_at.is_some());
    let (_, text) = issue(&app, "second").await?;
    assert!(verify(&app, &text).await?);
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn a_keychain_that_goes_away_while_the_pepper_is_in_memory_costs_no_key() -> Outcome {
    let folder = tempfile::tempdir()?;
    let app = app_with(folder.path(), Arc::new(Quiet))?;
    let (_, text) = issue(&app, "first").await?;
    let held = app.inner.pepper.0.lock().await.clone();
    app.close().await;
    drop(app);
    let app = without_keychain(folder.path())?;
    *app.inner.pepper.0.lock().await = held;
    assert!(!app.lost_pepper().await?.lost);
    let request = CreateVaultRequest {
        passphrase: "correct horse battery".to_owned(),
        keys: None,
    };
    assert!(app.create_vault(request).await?.healthy);
    // From the file, as after a restart.
    app.inner.pepper.forget().await;
    assert!(verify(&app, &text).await?);
    app.close().await;
    Ok(())
}
