//! Keychains that are locked, missing or muddled; and that nothing secret is anywhere else.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_app::secret_store::Keychain;
use keywright_domain::SecretText;
use keywright_protocol::accounts::AccountStatus;
use keywright_protocol::settings::KeychainView;

use super::refresh::store_as;
use crate::support::app::{TestApp, lookup};
use crate::support::bad_issuer::BadIssuer;
use crate::support::browser::Person;
use crate::support::session::{dismiss_dialog, in_session, lock_keychain, restart_keychain};

fn problem(view: &KeychainView) -> &str {
    view.problem
        .as_ref()
        .map_or("", |problem| problem.code.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_keychain() -> Result<()> {
    in_session!(Unlocked);
    let folder = tempfile::tempdir()?;
    let keychain = Keychain::new(
        format!("dev.keywright.test.{}", std::process::id()),
        folder.path().join("vault.sealed"),
    );
    let view = keychain.probe().await;
    assert!(view.healthy && view.problem.is_none(), "{view:?}");
    assert_eq!(view.store_name, "Secret Service");
    let secret = SecretText::new("s3cret-ü".to_owned());
    keychain.write("a", &secret).await?;
    assert_eq!(
        lookup(keychain.service(), "a").await?.as_deref(),
        Some("s3cret-ü")
    );
    keychain
        .write("a", &SecretText::new("other".to_owned()))
        .await?;
    assert!(
        keychain
            .read("a")
            .await?
            .is_some_and(|read| read.matches("other"))
    );
    assert!(keychain.delete("a").await? && !keychain.delete("a").await?);
    assert_eq!(lookup(keychain.service(), "a").await?, None);
    Ok(())
}

/// What every broken keychain must be: told in time, in a sentence and a line of help, and no
/// reason to lose a sign-in or an account.
async fn broken(code: &str) -> Result<()> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let started = Instant::now();
    let view = test.app.check_keychain().await?;
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    assert_eq!((view.healthy, problem(&view)), (false, code));
    let told = view.problem.expect("a problem");
    assert!(told.message.ends_with('.') && told.hint.is_some_and(|hint| hint.ends_with('.')));
    // Signed in for this session, visibly, and never written anywhere else.
    let account = test.sign_in(&issuer.issuer).await?;
    assert_eq!(
        (account.status, account.in_keychain),
        (AccountStatus::KeychainUnavailable, false)
    );
    assert_eq!(
        account
            .status_reason
            .as_ref()
            .map(|reason| reason.code.as_str()),
        Some(code)
    );
    assert!(account.access_token.is_some());
    assert_eq!(
        found(test.folder.path(), &[issuer.refresh_token()]),
        Vec::<String>::new()
    );
    // Its refresh token works from memory; the keychain is asked again.
    let refreshed = test.app.refresh_account(account.id.clone()).await;
    assert_eq!(
        test.account().await?.status,
        AccountStatus::KeychainUnavailable
    );
    assert!(refreshed.is_ok() || refreshed.is_err_and(|error| error.code() == code));
    let view = test.app.sign_out(account.id).await?;
    assert!(
        view.revoked_at_issuer,
        "the token in memory was the only one"
    );
    assert!(test.app.list_accounts().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_160_a_keychain_that_is_locked_later_does_not_sign_anybody_out() -> Result<()> {
    in_session!(Own);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    lock_keychain()?;
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("it is locked");
    assert_eq!(error.code(), "keychain_locked");
    let view = test.account().await?;
    assert_eq!(
        (view.status, view.in_keychain),
        (AccountStatus::KeychainUnavailable, true)
    );
    assert_eq!(
        view.status_reason.map(|reason| reason.code).as_deref(),
        Some("keychain_locked")
    );
    let kept = test
        .app
        .sign_out(account.id.clone())
        .await
        .expect_err("its token would stay behind");
    assert_eq!(kept.code(), "keychain_locked");
    assert_eq!(
        test.app.list_accounts().await?.len(),
        1,
        "not silently forgotten"
    );
    assert_eq!(issuer.seen("/revoke").len(), 0, "nor half signed out");
    restart_keychain()?;
    assert_eq!(
        test.app.refresh_account(account.id.clone()).await?.status,
        AccountStatus::SignedIn
    );
    assert!(test.app.sign_out(account.id).await?.keychain_entry_deleted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_160_161_an_unlock_dialog_that_nobody_answers_and_one_that_is_dismissed() -> Result<()> {
    in_session!(Screen);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    lock_keychain()?;
    let started = Instant::now();
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("it is locked");
    assert_eq!(error.code(), "keychain_locked");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    let again = Instant::now();
    let view = test.app.check_keychain().await?;
    assert_eq!(
        (
            problem(&view),
            again.elapsed() < Duration::from_millis(2500)
        ),
        ("keychain_locked", true)
    );
    assert_eq!(
        test.app.list_accounts().await?.len(),
        1,
        "lists do not wait for it"
    );
    // The person closes the dialog: the stuck thread is free, and the next one is denied.
    dismiss_dialog()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (app, id) = (test.app.clone(), account.id.clone());
    let denied = tokio::spawn(async move { app.refresh_account(id).await });
    tokio::time::sleep(Duration::from_millis(2200)).await;
    dismiss_dialog()?;
    assert_eq!(
        denied.await?.expect_err("dismissed").code(),
        "keychain_denied"
    );
    let view = test.account().await?;
    assert_eq!(
        (view.status, view.in_keychain),
        (AccountStatus::KeychainUnavailable, true)
    );
    restart_keychain()?;
    assert_eq!(
        test.app.refresh_account(account.id).await?.status,
        AccountStatus::SignedIn
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_160_a_restarted_keychain_is_found_again() -> Result<()> {
    in_session!(Own);
    let folder = tempfile::tempdir()?;
    let keychain = Keychain::new(
        "dev.keywright.test".to_owned(),
        folder.path().join("vault.sealed"),
    );
    keychain
        .write("a", &SecretText::new("one".to_owned()))
        .await?;
    restart_keychain()?;
    assert!(
        keychain
            .read("a")
            .await?
            .is_some_and(|read| read.matches("one"))
    );
    restart_keychain()?;
    keychain
        .write("a", &SecretText::new("two".to_owned()))
        .await?;
    restart_keychain()?;
    assert!(keychain.probe().await.healthy);
    assert!(keychain.delete("a").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_160_a_locked_keychain() -> Result<()> {
    in_session!(Locked);
    broken("keychain_locked").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_162_c13_no_secret_service() -> Result<()> {
    in_session!(NoKeychain);
    broken("keychain_unavailable").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_162_no_bus_at_all() -> Result<()> {
    in_session!(NoBus);
    broken("keychain_unavailable").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_166_duplicates_are_named_and_not_guessed() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    let user = format!("refresh:{} ada {}", issuer.issuer, account.client_id);
    store_as(&test.service, &user, "another", Some("yes")).await?;
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("which one?");
    assert_eq!(error.code(), "keychain_ambiguous");
    assert!(
        error.to_string().contains(&user) && error.to_string().contains('2'),
        "{error}"
    );
    assert_eq!(issuer.token_requests("refresh_token"), 0, "none was tried");
    assert_eq!(
        test.account().await?.status,
        AccountStatus::KeychainUnavailable
    );
    let kept = test
        .app
        .sign_out(account.id.clone())
        .await
        .expect_err("which one?");
    assert_eq!(kept.code(), "keychain_ambiguous");
    let tool = tokio::process::Command::new("secret-tool")
        .args([
            "clear",
            "service",
            &test.service,
            "username",
            &user,
            "twin",
            "yes",
        ])
        .status()
        .await?;
    assert!(tool.success());
    assert_eq!(
        test.app.refresh_account(account.id).await?.status,
        AccountStatus::SignedIn
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_168_c12_no_token_is_on_disk_in_logs_in_arguments_or_in_the_environment() -> Result<()> {
    // A process of its own: the log is the whole process's.
    in_session!(Own);
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    subscriber
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .try_init()
        .map_err(|error| anyhow::anyhow!(error))?;
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    let mut canaries = vec![issuer.refresh_token()];
    test.app.refresh_account(account.id.clone()).await?;
    canaries.push(issuer.refresh_token());
    canaries.extend(["at-canary-".to_owned(), "code-1".to_owned()]);
    let exchange = issuer.seen("/token").remove(0);
    canaries.push(exchange.form["code_verifier"].clone());
    let view = format!("{:?}", test.app.list_accounts().await?);
    assert!(canaries.iter().all(|canary| !view.contains(canary)));
    assert_eq!(found(test.folder.path(), &canaries), Vec::<String>::new());
    issuer.change(|tricks| tricks.person = Some("eve"));
    test.app
        .refresh_account(account.id.clone())
        .await
        .expect_err("somebody else's");
    canaries.push(issuer.refresh_token());
    test.app.sign_out(account.id).await?;
    assert_eq!(found(test.folder.path(), &canaries), Vec::<String>::new());
    let logged = String::from_utf8(log.0.lock().unwrap().clone())?;
    assert!(logged.contains("keywright_app"), "the log was caught");
    for line in logged.lines() {
        assert!(
            canaries.iter().all(|canary| !line.contains(canary)),
            "{line}"
        );
    }
    for file in ["cmdline", "environ"] {
        let text =
            String::from_utf8_lossy(&std::fs::read(format!("/proc/self/{file}"))?).into_owned();
        assert!(
            canaries.iter().all(|canary| !text.contains(canary)),
            "{file}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_27_s1_28_the_keychain_has_the_refresh_token_and_no_access_token() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    for round in 0..3 {
        let view = test.account().await?;
        assert!(view.access_token.is_some(), "{round}: it is in memory");
        let (names, secrets) = everything(&test.service).await?;
        let name = format!("refresh:{} ada {}", issuer.issuer, account.client_id);
        assert_eq!(names, [name], "{round}");
        assert!(secrets.contains(&issuer.refresh_token()), "{round}");
        assert!(!secrets.contains("at-canary"), "{round}: {secrets}");
        test.app.refresh_account(account.id.clone()).await?;
    }
    Ok(())
}

/// All that the keychain holds under a service, as another program reads it: names, and the secrets.
async fn everything(service: &str) -> Result<(Vec<String>, String)> {
    let mut tool = tokio::process::Command::new("secret-tool");
    let search = tool.args(["search", "--all", "service", service]);
    let output = search.output().await?;
    anyhow::ensure!(output.status.success(), "secret-tool search");
    // It writes the attributes to standard error.
    let said = String::from_utf8(output.stderr)?;
    let names = said
        .lines()
        .filter_map(|line| line.strip_prefix("attribute.username = "));
    let names = names.map(str::to_owned).collect();
    Ok((names, String::from_utf8(output.stdout)?))
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Files under a folder that hold one of the texts.
fn found(folder: &Path, texts: &[String]) -> Vec<String> {
    let mut hits = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            hits.extend(found(&entry.path(), texts));
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            let holds = |text: &String| {
                bytes
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
            };
            hits.extend(
                texts
                    .iter()
                    .filter(|text| holds(text))
                    .map(|text| format!("{}: {text}", entry.path().display())),
            );
        }
    }
    hits
}
