//! Access tokens that stay fresh, and refresh tokens that are never lost or forked.

use std::sync::Arc;

use anyhow::Result;
use keywright_protocol::accounts::{AccountStatus, AccountView};
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::bad_issuer::{BadIssuer, TokenTrick, post_token};
use crate::support::browser::Person;
use crate::support::peer::Peer;
use crate::support::session::in_session;
use crate::support::until;

async fn signed_in() -> Result<(BadIssuer, TestApp, AccountView)> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    Ok((issuer, test, account))
}

fn reason(account: &AccountView) -> &str {
    account
        .status_reason
        .as_ref()
        .map_or("", |reason| reason.code.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_082_a_token_is_refreshed_before_it_ends() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::with(|tricks| tricks.expires_in_s = Some(4)).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    test.app.start();
    let account = test.sign_in(&issuer.issuer).await?;
    assert_eq!(issuer.token_requests("refresh_token"), 0);
    until("a silent refresh", async || {
        (issuer.token_requests("refresh_token") >= 1).then_some(())
    })
    .await?;
    let fresh = until("the new token", async || {
        test.account()
            .await
            .ok()
            .filter(|one| one.last_refreshed_at.is_some())
    })
    .await?;
    assert_eq!(
        (fresh.id, fresh.status),
        (account.id, AccountStatus::SignedIn)
    );
    assert_eq!(test.browser.count(), 1, "no browser was opened for it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_082_after_a_start_accounts_are_listed_at_once_and_refreshed_behind() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    test.app.close().await;
    let again = test.again(Person::Looks)?;
    again.app.start();
    let listed = again.account().await?;
    assert_eq!(
        (listed.id, listed.status),
        (account.id, AccountStatus::SignedIn)
    );
    until("the refresh of the start", async || {
        (issuer.token_requests("refresh_token") == 1).then_some(())
    })
    .await?;
    let fresh = until("the access token", async || {
        again
            .account()
            .await
            .ok()
            .filter(|one| one.access_token.is_some())
    })
    .await?;
    assert_eq!(fresh.status, AccountStatus::SignedIn);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_083_rotation_at_a_certified_provider() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&peer.issuer).await?;
    let mut before = test.in_keychain(&account).await?;
    for round in 1..=3 {
        let fresh = test.app.refresh_account(account.id.clone()).await?;
        let now = test.in_keychain(&account).await?;
        assert!(
            fresh.last_refreshed_at.is_some() && now.is_some() && now != before,
            "round {round}"
        );
        before = now;
    }
    assert_eq!(peer.count("POST /token refresh_token"), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_083_the_new_token_is_in_the_keychain_before_the_access_token_is_used() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    // The ID token of this refresh is somebody else's: its access token must not be handed out,
    // and yet the rotated refresh token, the only good one left, must not be lost.
    issuer.change(|tricks| tricks.person = Some("eve"));
    let life = test.account().await?.access_token;
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("somebody else's");
    assert_eq!(error.code(), "subject_mismatch");
    assert_eq!(
        test.account().await?.access_token,
        life,
        "the old access token is still the one"
    );
    assert_eq!(
        test.in_keychain(&account).await?,
        Some(issuer.refresh_token())
    );
    issuer.change(|tricks| tricks.person = None);
    assert_eq!(
        test.app.refresh_account(account.id).await?.status,
        AccountStatus::SignedIn
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_084_an_answer_lost_on_the_way() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    issuer.change(|tricks| (tricks.token, tricks.grace) = (TokenTrick::LoseAnswer, true));
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("it was lost");
    assert_eq!(error.code(), "network_error");
    // Within the provider's grace the old token gets the same successor.
    assert_eq!(
        test.app.refresh_account(account.id.clone()).await?.status,
        AccountStatus::SignedIn
    );
    assert_eq!(
        test.in_keychain(&account).await?.as_deref(),
        Some("rt-canary-2")
    );
    // Without one, the person must sign in again: nothing else is known to have happened.
    issuer.change(|tricks| (tricks.token, tricks.grace) = (TokenTrick::LoseAnswer, false));
    test.app
        .refresh_account(account.id.clone())
        .await
        .expect_err("it was lost");
    let error = test
        .app
        .refresh_account(account.id)
        .await
        .expect_err("too late");
    assert_eq!(error.code(), "reauth_required");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_086_a_hundred_refreshes_are_one_request() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    let all: Vec<_> = (0..100)
        .map(|_| {
            let (app, id) = (test.app.clone(), account.id.clone());
            tokio::spawn(async move { app.refresh_account(id).await })
        })
        .collect();
    for one in all {
        one.await??;
    }
    assert_eq!(issuer.token_requests("refresh_token"), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_087_two_processes_never_use_one_token_twice() -> Result<()> {
    in_session!(Unlocked);
    // The provider ends the whole sign-in when a refresh token comes twice, as certified ones do.
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&peer.issuer).await?;
    let other = Arc::new(test.again(Person::Looks)?);
    for _ in 0..5 {
        let (one, two) = tokio::join!(
            test.app.refresh_account(account.id.clone()),
            other.app.refresh_account(account.id.clone())
        );
        assert_eq!(
            (one?.status, two?.status),
            (AccountStatus::SignedIn, AccountStatus::SignedIn)
        );
    }
    assert_eq!(test.browser.count(), 1, "nobody had to sign in again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_087_a_faster_stranger_is_noticed() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    // Somebody who does not know our lock refreshes and stores the new token while we ask.
    issuer.change(|tricks| tricks.token = TokenTrick::Slow);
    let (app, id) = (test.app.clone(), account.id.clone());
    let refreshing = tokio::spawn(async move { app.refresh_account(id).await });
    until("our request", async || {
        (issuer.token_requests("refresh_token") == 1).then_some(())
    })
    .await?;
    let old = issuer.refresh_token();
    post_token(
        &issuer.issuer,
        &format!("grant_type=refresh_token&refresh_token={old}"),
    )
    .await?;
    let user = format!("refresh:{} ada {}", issuer.issuer, account.client_id);
    store(&test.service, &user, &issuer.refresh_token()).await?;
    assert_eq!(refreshing.await??.status, AccountStatus::SignedIn);
    assert_eq!(
        issuer.token_requests("refresh_token"),
        3,
        "ours, theirs, and ours with theirs"
    );
    assert_eq!(
        test.in_keychain(&account).await?,
        Some(issuer.refresh_token())
    );
    Ok(())
}

/// `secret-tool store`, with one attribute more where `twin` says so.
pub(super) async fn store_as(
    service: &str,
    user: &str,
    secret: &str,
    twin: Option<&str>,
) -> Result<()> {
    let mut tool = tokio::process::Command::new("secret-tool");
    tool.args([
        "store",
        "--label=test",
        "service",
        service,
        "username",
        user,
    ]);
    if let Some(twin) = twin {
        tool.args(["twin", twin]);
    }
    let mut child = tool.stdin(std::process::Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        tokio::io::AsyncWriteExt::write_all(&mut stdin, secret.as_bytes()).await?;
    }
    anyhow::ensure!(child.wait().await?.success(), "secret-tool store");
    Ok(())
}

async fn store(service: &str, user: &str, secret: &str) -> Result<()> {
    store_as(service, user, secret, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_091_nothing_is_deleted_while_the_provider_is_away() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    let token = test.in_keychain(&account).await?;
    for trick in [
        TokenTrick::Status(500),
        TokenTrick::Status(503),
        TokenTrick::Status(429),
        TokenTrick::Drop(1),
        TokenTrick::Html,
        TokenTrick::Redirect,
    ] {
        issuer.change(|tricks| tricks.token = trick.clone());
        let error = test
            .app
            .refresh_account(account.id.clone())
            .await
            .expect_err("it is away");
        let view = test.account().await?;
        assert_eq!(
            (view.status, view.in_keychain),
            (AccountStatus::Offline, true),
            "{trick:?}"
        );
        assert_eq!(reason(&view), error.code(), "{trick:?}");
        assert!(view.access_token.is_some(), "{trick:?}");
        assert_eq!(test.in_keychain(&account).await?, token, "{trick:?}");
    }
    issuer.change(|tricks| tricks.token = TokenTrick::Good);
    assert_eq!(
        test.app.refresh_account(account.id).await?.status,
        AccountStatus::SignedIn
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_091_it_is_tried_again_by_itself() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    test.app.start();
    issuer.change(|tricks| tricks.token = TokenTrick::Status(503));
    test.app
        .refresh_account(account.id)
        .await
        .expect_err("it is away");
    issuer.change(|tricks| tricks.token = TokenTrick::Good);
    until("the account to be well again", async || {
        test.account()
            .await
            .ok()
            .filter(|one| one.status == AccountStatus::SignedIn)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_092_invalid_grant_asks_the_person() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    issuer.change(|tricks| tricks.token = TokenTrick::InvalidGrant);
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("it is over");
    assert_eq!(error.code(), "reauth_required");
    let view = test.account().await?;
    assert_eq!(
        (view.status, view.in_keychain),
        (AccountStatus::SignInNeeded, false)
    );
    assert_eq!(reason(&view), "reauth_required");
    assert!(view.access_token.is_none());
    assert_eq!(
        test.in_keychain(&account).await?,
        None,
        "nothing of it stays"
    );
    assert_eq!(
        test.browser.count(),
        1,
        "no browser is opened from the background"
    );
    issuer.change(|tricks| tricks.token = TokenTrick::Good);
    let mut again = crate::support::app::request(&issuer.issuer);
    again.account_id = Some(account.id.clone());
    let back = test.app.sign_in(again).await?;
    assert_eq!(
        (back.id, back.status),
        (account.id, AccountStatus::SignedIn)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_092_a_certified_provider_ends_a_sign_in() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&peer.issuer).await?;
    let token = test.in_keychain(&account).await?.unwrap_or_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let form = format!("token={token}&client_id={}", account.client_id);
    let request = client
        .post(format!("{}/token/revocation", peer.issuer))
        .header("Content-Type", "application/x-www-form-urlencoded");
    assert!(request.body(form).send().await?.status().is_success());
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("revoked elsewhere");
    assert_eq!(error.code(), "reauth_required");
    assert_eq!(test.in_keychain(&account).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_165_an_entry_deleted_outside() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    let user = format!("refresh:{} ada {}", issuer.issuer, account.client_id);
    let cleared = tokio::process::Command::new("secret-tool")
        .args(["clear", "service", &test.service, "username", &user])
        .status()
        .await?;
    assert!(cleared.success() && test.in_keychain(&account).await?.is_none());
    let error = test
        .app
        .refresh_account(account.id.clone())
        .await
        .expect_err("it is gone");
    assert_eq!(error.code(), "reauth_required");
    let view = test.account().await?;
    assert_eq!(
        (view.status, reason(&view)),
        (AccountStatus::SignInNeeded, "reauth_required")
    );
    assert_eq!(issuer.token_requests("refresh_token"), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_087_a_refresh_on_its_way_does_not_overwrite_a_new_sign_in() -> Result<()> {
    in_session!(Unlocked);
    let (issuer, test, account) = signed_in().await?;
    // In this process and in another one.
    for other in [None, Some(test.again(Person::Looks)?)] {
        let before = issuer.token_requests("refresh_token");
        issuer.change(|tricks| tricks.token = TokenTrick::SlowAnswer);
        let app = other.as_ref().map_or(&test.app, |other| &other.app).clone();
        let id = account.id.clone();
        let refreshing = tokio::spawn(async move { app.refresh_account(id).await });
        until("the refresh at the provider", async || {
            (issuer.token_requests("refresh_token") > before).then_some(())
        })
        .await?;
        let again = test.sign_in(&issuer.issuer).await?;
        assert_eq!(
            (again.id, again.status),
            (account.id.clone(), AccountStatus::SignedIn)
        );
        refreshing.await??;
        assert_eq!(
            test.in_keychain(&account).await?,
            Some(issuer.refresh_token()),
            "the newest token is the one that is kept"
        );
    }
    let fresh = test.app.refresh_account(account.id).await?;
    assert_eq!(fresh.status, AccountStatus::SignedIn);
    Ok(())
}
