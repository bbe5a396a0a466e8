//! Refreshing at a token endpoint written by hand: while the app ends, and for calls that come again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keywright_domain::SecretText;
use keywright_domain::accounts::AccountChange;
use keywright_protocol::accounts::{AccountView, SignInProgressView};
use serde_json::json;

use super::{Trouble, refresh_entry};
use crate::remote::tests::{Outcome, Quiet, Server, app_with, sign_in};
use crate::{App, EventListener, secret_store};

/// Counts how often it is told that some account changed.
#[derive(Default)]
struct Told(AtomicUsize);

impl Told {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl EventListener for Told {
    fn sign_in_progressed(&self, _progress: SignInProgressView) {}
    fn accounts_changed(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn clipboard_cleared(&self) {}
}

/// An app whose account `a1` has the refresh token `r1` in the keychain; the provider gives `r2` for it.
async fn signed_in(folder: &std::path::Path, server: &Server) -> anyhow::Result<(App, String)> {
    signed_in_with(folder, server, Arc::new(Quiet)).await
}

async fn signed_in_with(
    folder: &std::path::Path,
    server: &Server,
    events: Arc<dyn EventListener>,
) -> anyhow::Result<(App, String)> {
    let issuer = &server.url;
    let metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    });
    server.says("GET /.well-known/openid-configuration", 200, &metadata);
    let tokens = json!({ "access_token": "t2", "token_type": "Bearer", "expires_in": 300,
                         "refresh_token": "r2" });
    server.says("POST /token", 200, &tokens);
    let app = app_with(folder, events)?;
    sign_in(&app, issuer).await?;
    let account = app.inner.registry.get().await?.find_account("a1").await?;
    let entry = refresh_entry(&account);
    let old = SecretText::new("r1".to_owned());
    app.inner.keychain.write(&entry, &old).await?;
    Ok((app, entry))
}

#[tokio::test]
async fn ac_083_the_end_of_the_app_waits_until_a_new_refresh_token_is_kept() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let (app, entry) = signed_in(folder.path(), &server).await?;
    let gate = server.hold("POST /token");
    let refreshing = tokio::spawn({
        let app = app.clone();
        async move { app.refresh_account("a1".to_owned()).await }
    });
    server.is_asked("POST /token").await?;
    let closing = tokio::spawn({
        let app = app.clone();
        async move { app.close().await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!closing.is_finished(), "the answer is not kept yet");
    gate.add_permits(1);
    closing.await?;
    let kept = app.inner.keychain.read(&entry).await?;
    assert!(kept.is_some_and(|kept| kept.matches("r2")));
    let _told = refreshing.await?;
    Ok(())
}

#[tokio::test]
async fn a_provider_that_says_nothing_does_not_keep_the_app_from_its_end() -> Outcome {
    let folder = tempfile::tempdir()?;
    let app = app_with(folder.path(), Arc::new(Quiet))?;
    let _unfinished = app.inner.accounts.begin()?;
    let started = Instant::now();
    app.inner.accounts.finish(Duration::from_millis(100)).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(3));
    assert!(app.inner.accounts.begin().is_err(), "nothing more begins");
    Ok(())
}

/// The access token of `a1` is over.
fn end_token(app: &App) {
    let sessions = &app.inner.accounts.sessions;
    sessions.with("a1", |session| session.life = None);
}

async fn ask_ten_times(app: &App, code: &str) -> Outcome {
    for _ in 0..10 {
        let registry = app.inner.registry.get().await?;
        app.remote(&registry.find_account("a1").await?)?
            .kept()
            .wake();
        let refused = app.registry_permissions().await.expect_err("no token");
        assert_eq!(refused.code(), code);
    }
    Ok(())
}

async fn account(app: &App) -> anyhow::Result<AccountView> {
    Ok(app.list_accounts().await?.remove(0))
}

fn token_requests(server: &Server) -> usize {
    let lines = server.lines();
    lines.iter().filter(|line| *line == "POST /token").count()
}

#[tokio::test]
async fn ac_092_a_sign_in_that_ended_is_told_once_however_often_a_call_needs_it() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let told = Arc::new(Told::default());
    let (app, _) = signed_in_with(folder.path(), &server, told.clone()).await?;
    server.says("POST /token", 400, &json!({ "error": "invalid_grant" }));
    app.choose_registry(Some("a1".to_owned())).await?;
    end_token(&app);
    ask_ten_times(&app, "reauth_required").await?;
    assert_eq!(told.times(), 1);
    assert_eq!(app.list_flow_traces()?.len(), 1);
    // Not even a person's wish changes the reason: there is nothing to renew it with.
    let refused = app.refresh_account("a1".to_owned()).await;
    assert_eq!(refused.expect_err("over").code(), "reauth_required");
    let reason = account(&app).await?.status_reason.expect("a reason");
    assert!(reason.message.contains("provider ended"), "{reason:?}");
    assert_eq!((told.times(), token_requests(&server)), (1, 1));
    app.close().await;
    drop(app);

    // The app was started again.
    let app = app_with(folder.path(), told.clone())?;
    ask_ten_times(&app, "reauth_required").await?;
    assert_eq!(told.times(), 1, "nothing new");
    assert!(app.list_flow_traces()?.is_empty());
    assert_eq!(token_requests(&server), 0);
    app.close().await;
    Ok(())
}

/// The registry was away when the keychain had kept the refresh token: the account does not say so.
#[tokio::test]
async fn ac_083_a_sign_in_of_which_the_keychain_was_not_noted_is_renewed_from_it() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let (app, entry) = signed_in(folder.path(), &server).await?;
    let registry = app.inner.registry.get().await?;
    let mut unnoted = registry.find_account("a1").await?;
    unnoted.in_keychain = false;
    let refreshed = AccountChange::Refreshed;
    registry
        .update_account(&app.inner.actor, unnoted, refreshed)
        .await?;
    end_token(&app);
    app.refresh_account("a1".to_owned()).await?;
    let kept = app.inner.keychain.read(&entry).await?;
    assert!(kept.is_some_and(|kept| kept.matches("r2")));
    assert!(registry.find_account("a1").await?.in_keychain);
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_160_a_locked_keychain_is_asked_once_however_often_a_call_needs_it() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let told = Arc::new(Told::default());
    let (mut app, _) = signed_in_with(folder.path(), &server, told.clone()).await?;
    let (keychain, asked) = secret_store::tests::locked();
    Arc::get_mut(&mut app.inner).expect("nobody else").keychain = keychain;
    app.choose_registry(Some("a1".to_owned())).await?;
    end_token(&app);
    ask_ten_times(&app, "keychain_locked").await?;
    let once = asked();
    assert!(once > 0 && told.times() == 1);
    ask_ten_times(&app, "keychain_locked").await?;
    assert_eq!((asked(), told.times()), (once, 1), "no dialog again");
    // Once a person has looked after it, it is asked.
    app.inner.accounts.sessions.keychain_answers();
    ask_ten_times(&app, "keychain_locked").await?;
    assert_eq!((asked(), told.times()), (2 * once, 1));
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_091_a_provider_that_is_away_is_not_asked_for_every_call() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let told = Arc::new(Told::default());
    let (app, _) = signed_in_with(folder.path(), &server, told.clone()).await?;
    let away = json!({ "error": "temporarily_unavailable" });
    server.says("POST /token", 503, &away);
    app.choose_registry(Some("a1".to_owned())).await?;
    end_token(&app);
    ask_ten_times(&app, "registry_offline").await?;
    assert_eq!((told.times(), token_requests(&server)), (1, 1));
    // However long the background waits, a call is not told the same for a quarter of an hour.
    app.inner.accounts.sessions.with("a1", |session| {
        for _ in 0..12 {
            session.fail(Trouble::Offline(crate::sign_in::SignInError::NetworkError));
        }
        session.troubled_a_minute_ago();
        assert!(session.rests().is_none());
    });
    ask_ten_times(&app, "registry_offline").await?;
    assert_eq!(token_requests(&server), 1);
    // A person who wants to know asks.
    app.retry_revocations("a1".to_owned()).await?;
    ask_ten_times(&app, "registry_offline").await?;
    assert_eq!(token_requests(&server), 1);
    app.close().await;
    Ok(())
}
