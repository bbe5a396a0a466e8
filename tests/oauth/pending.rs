//! A sign-in that is pending: how it waits, and what ends it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keywright_protocol::accounts::SignInStep;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::waiting::{Waiting, redirect_of};
use crate::support::app::{TestApp, request};
use crate::support::bad_issuer::BadIssuer;
use crate::support::browser::{Person, visit};
use crate::support::peer::Peer;
use crate::support::session::in_session;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn ac_010_nobody_answers() -> Result<()> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Looks)?;
    test.set(|settings| settings.sign_in_timeout_s = 30).await?;
    let started = Instant::now();
    let running = test.start(request(&issuer.issuer));
    let port = redirect_of(&test.browser.opened(0).await?)?
        .port()
        .context("no port")?;
    let step = test.step(SignInStep::WaitingForBrowser, 0).await?;
    let error = running.await?.expect_err("nobody answered");
    assert_eq!(error.code(), "login_timeout");
    assert!(
        (29..40).contains(&started.elapsed().as_secs()),
        "{:?}",
        started.elapsed()
    );
    assert!(step.expires_at > 0);
    assert!(
        TcpStream::connect(("127.0.0.1", port)).await.is_err(),
        "the port is free"
    );
    TcpListener::bind(("127.0.0.1", port)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_011_cancel_is_immediate() -> Result<()> {
    let waiting = Waiting::new().await?;
    let port = waiting.port();
    let held = TcpStream::connect(("127.0.0.1", port)).await?;
    let id = waiting
        .test
        .step(SignInStep::WaitingForBrowser, 0)
        .await?
        .sign_in_id;
    let started = Instant::now();
    waiting.test.app.cancel_sign_in(id.clone())?;
    assert_eq!(
        waiting
            .running
            .await?
            .err()
            .map(|error| error.code().to_owned())
            .as_deref(),
        Some("login_cancelled")
    );
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(
        TcpStream::connect(("127.0.0.1", port)).await.is_err(),
        "a later answer is refused"
    );
    drop(held);
    let again = waiting
        .test
        .app
        .cancel_sign_in(id)
        .expect_err("it has ended");
    assert_eq!(again.code(), "sign_in_not_found");
    assert_eq!(waiting.test.steps().last(), Some(&SignInStep::Ended));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_012_a_fixed_port_that_is_taken_is_named() -> Result<()> {
    let issuer = BadIssuer::with(|tricks| tricks.no_refresh_token = true).await?;
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let port = taken.local_addr()?.port();
    let test = TestApp::new(Person::Approves("ada"))?;
    test.set(|settings| settings.callback_port = Some(port))
        .await?;
    let started = Instant::now();
    let error = test
        .sign_in(&issuer.issuer)
        .await
        .expect_err("the port is taken");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(error.code(), "port_unavailable");
    assert!(error.to_string().contains(&port.to_string()));
    assert_eq!(test.browser.count(), 0, "no browser was opened");
    drop(taken);
    // Twice in a row: the first one's page must not keep the port.
    for nth in 0..2 {
        test.sign_in(&issuer.issuer).await?;
        assert_eq!(
            redirect_of(&test.browser.opened(nth).await?)?.port(),
            Some(port)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_014_without_a_browser_the_answer_is_pasted() -> Result<()> {
    let issuer = BadIssuer::with(|tricks| tricks.no_refresh_token = true).await?;
    let test = TestApp::new(Person::HasNone)?;
    let running = test.start(request(&issuer.issuer));
    let step = test.step(SignInStep::BrowserNotOpened, 0).await?;
    assert!(
        step.browser_error
            .is_some_and(|reason| !reason.contains("http"))
    );
    let id = step.sign_in_id;
    let reopened = test
        .app
        .reopen_browser(id.clone())
        .await
        .expect_err("there still is none");
    assert_eq!(reopened.code(), "browser_open_failed");
    let url = test.browser.opened(0).await?;
    assert_eq!(
        test.browser.opened(1).await?,
        url,
        "reopening opens the same"
    );
    // Another computer's browser ends at an address nobody listens on there.
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let answer = client.get(url.clone()).send().await?;
    let pasted = answer.headers()["location"].to_str()?.to_owned();
    let wrong = pasted.replace("state=", "state=x");
    let refused = test
        .app
        .finish_sign_in(id.clone(), wrong)
        .await
        .expect_err("a wrong state");
    assert_eq!(refused.code(), "state_mismatch");
    test.app
        .finish_sign_in(id.clone(), format!("  {pasted}\n"))
        .await?;
    running.await??;
    assert_eq!(
        test.app
            .finish_sign_in(id, pasted)
            .await
            .expect_err("it has ended")
            .code(),
        "sign_in_not_found"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_014_a_pasted_answer_of_another_issuer_ends_it() -> Result<()> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::HasNone)?;
    let running = test.start(request(&issuer.issuer));
    let id = test.step(SignInStep::BrowserNotOpened, 0).await?.sign_in_id;
    let url = test.browser.opened(0).await?;
    let state = url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .context("no state")?
        .1
        .into_owned();
    test.app
        .finish_sign_in(
            id,
            format!("code=c&state={state}&iss=https%3A%2F%2Fevil.example.com"),
        )
        .await?;
    assert_eq!(
        running
            .await?
            .err()
            .map(|error| error.code().to_owned())
            .as_deref(),
        Some("issuer_mismatch")
    );
    assert_eq!(issuer.seen("/token").len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_017_c17_a_second_sign_in_takes_the_first_one_s_place() -> Result<()> {
    let waiting = Waiting::new().await?;
    let second = waiting.test.start(request(&waiting.issuer.issuer));
    let first = tokio::time::timeout(Duration::from_secs(10), waiting.running).await??;
    let first = first.expect_err("the second one came");
    assert_eq!(first.code(), "login_cancelled");
    assert!(first.to_string().contains("newer one"));
    assert!(
        TcpStream::connect(("127.0.0.1", waiting.redirect.port().unwrap_or(0)))
            .await
            .is_err()
    );
    let url = waiting.test.browser.opened(1).await?;
    let secrets = |url: &Url| {
        url.query_pairs()
            .into_owned()
            .filter(|(name, _)| ["state", "nonce", "code_challenge"].contains(&name.as_str()))
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let (before, after) = (secrets(&waiting.url), secrets(&url));
    assert!(
        before.len() == 3 && before.iter().all(|secret| !after.contains(secret)),
        "everything is fresh"
    );
    visit(url.as_str(), &Person::Approves("ada"), None).await?;
    second.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_026_nothing_is_left_of_a_killed_app() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Looks)?;
    let running = test.start(request(&peer.issuer));
    let port = redirect_of(&test.browser.opened(0).await?)?
        .port()
        .context("no port")?;
    // As near to a kill as one process comes: nothing of the sign-in gets to clean up by itself.
    running.abort();
    test.app.close().await;
    until("the port to be closed", async || {
        TcpStream::connect(("127.0.0.1", port)).await.err()
    })
    .await?;
    let again = test.again(Person::Approves("ada"))?;
    assert!(
        again.app.list_accounts().await?.is_empty(),
        "no stale transaction"
    );
    again.sign_in(&peer.issuer).await?;
    Ok(())
}
