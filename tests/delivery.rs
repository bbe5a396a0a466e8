//! Delivery of a secret by the whole app, with a real keychain, real files and real programs.

use std::fs;

use anyhow::{Context as _, Result};
use keywright_protocol::accounts::SignInRequest;
use keywright_protocol::api_keys::{
    CommandRequest, DeliverSecretRequest, DeliveryState, DeliveryTarget, DeliveryView,
    IssueApiKeyRequest, IssuedApiKeyView, OverlapClock, RotateApiKeyRequest, ScopeView,
    VerifyApiKeyRequest,
};
use serde_json::{Value, json};

use crate::server::{OWNER, PASSWORD, ServerProcess};
use crate::support::app::{TestApp, lookup, request};
use crate::support::browser::Person;
use crate::support::session::in_session;

async fn issue(test: &TestApp) -> Result<IssuedApiKeyView> {
    let scope = ScopeView {
        name: "a:b".to_owned(),
        description: String::new(),
        low_risk: false,
    };
    test.app.define_scope(scope).await?;
    issue_with(test, "a:b").await
}

async fn issue_with(test: &TestApp, scope: &str) -> Result<IssuedApiKeyView> {
    let request = IssueApiKeyRequest {
        name: "delivered".to_owned(),
        prefix: "sk_live".to_owned(),
        scopes: vec![scope.to_owned()],
        expires_in_days: Some(90),
        settings: None,
    };
    Ok(test.app.issue_api_key(request).await?)
}

fn rotation(id: &str) -> RotateApiKeyRequest {
    RotateApiKeyRequest {
        id: id.to_owned(),
        overlap_ms: 3_600_000,
        clock: OverlapClock::FromFirstUse,
        silent_ms: None,
        compromised: None,
        expires_in_days: None,
        idempotency_key: "rotation".to_owned(),
    }
}

async fn rotate(test: &TestApp, id: &str) -> Result<IssuedApiKeyView> {
    Ok(test.app.rotate_api_key(rotation(id)).await?)
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
        knowing: true,
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

/// An app that works with the registry of a server.
async fn at(server: &ServerProcess) -> Result<TestApp> {
    let test = TestApp::new(Person::Allows(OWNER, PASSWORD))?;
    let wish = SignInRequest {
        provider_id: "keywright".to_owned(),
        client_id: "keywright-desktop".to_owned(),
        ..request(&server.issuer)
    };
    let account = test.app.sign_in(wish).await?;
    let chosen = test.app.choose_registry(Some(account.id.clone())).await?;
    assert_eq!(chosen.current, Some(account.id));
    Ok(test)
}

/// What the server itself says, asked by its root key.
async fn asked(server: &ServerProcess, path: &str, body: Option<Value>) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = match body {
        None => client.get(server.at(path)),
        Some(body) => client
            .post(server.at(path))
            .header("content-type", "application/json")
            .body(body.to_string()),
    };
    let answer = request.bearer_auth(&server.root_key).send().await?;
    Ok(serde_json::from_str(&answer.text().await?)?)
}

async fn code(server: &ServerProcess, key: &str) -> Result<Value> {
    let verify = "/api/v1/keys/verify";
    Ok(asked(server, verify, Some(json!({ "key": key }))).await?["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_takes_a_rotation_at_a_server_back_unless_its_secret_is_used()
-> Result<()> {
    in_session!(Unlocked);
    let server = ServerProcess::start().await?;
    let test = at(&server).await?;
    // The app may not add to a server's scopes: one that each server has.
    let issued = issue_with(&test, "keys:read").await?;
    let old = test.app.reveal_secret(issued.reveal_id)?.secret;
    let rotated = rotate(&test, &issued.key.id).await?;
    let new = test.app.reveal_secret(rotated.reveal_id.clone())?.secret;
    let list = format!("/api/v1/keys/{}/rotations", issued.key.id);
    let rotations = asked(&server, &list, None).await?;
    assert_eq!(rotations["items"][0]["state"], "pending", "{rotations}");

    let failing = || vec![program("cat > /dev/null; exit 7")];
    let view = deliver(&test, &rotated.reveal_id, failing()).await?;
    assert_eq!(
        view.problem.context("it was delivered")?.code,
        "hook_failed"
    );
    assert!(view.rotation_cancelled);
    let rotations = asked(&server, &list, None).await?;
    assert_eq!(rotations["items"][0]["state"], "cancelled", "{rotations}");
    assert_ne!(code(&server, &new).await?, "valid");
    assert_eq!(code(&server, &old).await?, "valid");
    let gone = deliver(&test, &rotated.reveal_id, failing()).await;
    assert!(gone.is_err_and(|error| error.to_string().contains("no longer kept")));

    // The next one is in use somewhere before its delivery fails: nothing is taken from who uses it.
    let wish = RotateApiKeyRequest {
        idempotency_key: "rotation-2".to_owned(),
        ..rotation(&issued.key.id)
    };
    let rotated = test.app.rotate_api_key(wish).await?;
    let new = test.app.reveal_secret(rotated.reveal_id.clone())?.secret;
    assert_eq!(code(&server, &new).await?, "valid");
    let view = deliver(&test, &rotated.reveal_id, failing()).await?;
    assert!(view.problem.is_some() && !view.rotation_cancelled);
    assert_eq!(code(&server, &new).await?, "valid");
    Ok(())
}
