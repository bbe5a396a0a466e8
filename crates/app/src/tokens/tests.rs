//! Refreshing at a token endpoint written by hand, while the app ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keywright_domain::SecretText;
use serde_json::json;

use super::refresh_entry;
use crate::App;
use crate::remote::tests::{Outcome, Quiet, Server, app_with, sign_in};

/// An app whose account `a1` has the refresh token `r1` in the keychain; the provider gives `r2` for it.
async fn signed_in(folder: &std::path::Path, server: &Server) -> anyhow::Result<(App, String)> {
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
    let app = app_with(folder, Arc::new(Quiet))?;
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
