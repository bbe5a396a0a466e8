//! Delivery of a secret by the whole app, with a real keychain, real files and real programs.

use std::fs;

use anyhow::{Context as _, Result};
use keywright_protocol::api_keys::{
    CommandRequest, DeliverSecretRequest, DeliveryState, DeliveryTarget, DeliveryView,
    IssueApiKeyRequest, IssuedApiKeyView, OverlapClock, RotateApiKeyRequest, ScopeView,
    VerifyApiKeyRequest,
};

use crate::support::app::{TestApp, lookup};
use crate::support::browser::Person;
use crate::support::session::in_session;

async fn issue(test: &TestApp) -> Result<IssuedApiKeyView> {
    let scope = ScopeView {
        name: "a:b".to_owned(),
        description: String::new(),
        low_risk: false,
    };
    test.app.define_scope(scope).await?;
    let request = IssueApiKeyRequest {
        name: "delivered".to_owned(),
        prefix: "sk_live".to_owned(),
        scopes: vec!["a:b".to_owned()],
        expires_in_days: Some(90),
        settings: None,
    };
    Ok(test.app.issue_api_key(request).await?)
}

async fn rotate(test: &TestApp, id: &str) -> Result<IssuedApiKeyView> {
    let request = RotateApiKeyRequest {
        id: id.to_owned(),
        overlap_ms: 3_600_000,
        clock: OverlapClock::FromFirstUse,
        silent_ms: None,
        compromised: None,
        expires_in_days: None,
        idempotency_key: "rotation".to_owned(),
    };
    Ok(test.app.rotate_api_key(request).await?)
}

async fn deliver(
    test: &TestApp,
    reveal_id: &str,
    targets: Vec<DeliveryTarget>,
) -> Result<DeliveryView> {
    let request = DeliverSecretRequest {
        reveal_id: reveal_id.to_owned(),
        targets,
    };
    Ok(test.app.deliver_secret(request).await?)
}

async fn verified(test: &TestApp, secret: &str) -> Result<String> {
    let request = VerifyApiKeyRequest {
        presented: secret.to_owned(),
        required_scope: None,
    };
    Ok(test.app.verify_api_key(request).await?.code)
}

/// An entry that no other test has.
fn entry(test: &TestApp) -> (String, DeliveryTarget) {
    let service = format!("delivery-test-{}", test.service.replace('.', "-"));
    let target = DeliveryTarget::Keychain {
        service: service.clone(),
        username: "ada".to_owned(),
    };
    (service, target)
}

fn program(script: &str) -> DeliveryTarget {
    DeliveryTarget::Command {
        run: CommandRequest {
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
        },
        check: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_secret_is_in_the_keychain_and_not_used_yet() -> Result<()> {
    in_session!(Unlocked);
    let test = TestApp::new(Person::Approves("ada"))?;
    let issued = issue(&test).await?;
    let rotated = rotate(&test, &issued.key.id).await?;
    let (service, target) = entry(&test);
    let view = deliver(&test, &rotated.reveal_id, vec![target]).await?;
    assert_eq!(view.problem, None);
    assert!(view.outcomes[0].read_back);
    let secret = test.app.reveal_secret(rotated.reveal_id)?.secret;
    assert_eq!(lookup(&service, "ada").await?, Some(secret.clone()));
    // The delivery was no use: the clock of the overlap has not begun.
    let detail = test.app.find_api_key(issued.key.id.clone()).await?;
    assert_eq!(detail.key.old_secret_works_until, None);
    assert_eq!(detail.secrets[0].use_count, 0);
    assert_eq!(verified(&test, &secret).await?, "valid");
    let detail = test.app.find_api_key(issued.key.id).await?;
    assert!(detail.key.old_secret_works_until.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_137_a_failed_delivery_leaves_the_old_secret_live() -> Result<()> {
    in_session!(Unlocked);
    let test = TestApp::new(Person::Approves("ada"))?;
    let issued = issue(&test).await?;
    let old = test.app.reveal_secret(issued.reveal_id)?.secret;
    let rotated = rotate(&test, &issued.key.id).await?;
    let new = test.app.reveal_secret(rotated.reveal_id.clone())?.secret;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(".env");
    fs::write(&file, "KEY=old\n")?;
    let (service, keychain) = entry(&test);
    let targets = vec![
        keychain,
        DeliveryTarget::DotEnv {
            path: file.display().to_string(),
            variable: "KEY".to_owned(),
        },
        program("cat > /dev/null; exit 7"),
    ];
    let view = deliver(&test, &rotated.reveal_id, targets).await?;
    let problem = view.problem.context("it was delivered")?;
    assert_eq!(problem.code, "hook_failed");
    assert!(problem.message.contains("/bin/sh"), "{}", problem.message);
    assert!(view.rotation_cancelled);
    let states: Vec<_> = view.outcomes.iter().map(|one| one.state).collect();
    assert_eq!(
        states,
        [
            DeliveryState::Restored,
            DeliveryState::Restored,
            DeliveryState::Failed
        ]
    );
    assert_eq!(lookup(&service, "ada").await?, None);
    assert_eq!(fs::read_to_string(&file)?, "KEY=old\n");
    assert_eq!(verified(&test, &old).await?, "valid");
    assert_ne!(verified(&test, &new).await?, "valid");
    let gone = deliver(&test, &rotated.reveal_id, vec![program("cat > /dev/null")]).await;
    assert!(gone.is_err_and(|error| error.to_string().contains("no longer kept")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_of_a_secret_in_use_takes_nothing_back() -> Result<()> {
    in_session!(Unlocked);
    let test = TestApp::new(Person::Approves("ada"))?;
    let issued = issue(&test).await?;
    let rotated = rotate(&test, &issued.key.id).await?;
    let new = test.app.reveal_secret(rotated.reveal_id.clone())?.secret;
    assert_eq!(verified(&test, &new).await?, "valid");
    let view = deliver(&test, &rotated.reveal_id, vec![program("exit 1")]).await?;
    assert!(view.problem.is_some() && !view.rotation_cancelled);
    assert_eq!(verified(&test, &new).await?, "valid");
    Ok(())
}
