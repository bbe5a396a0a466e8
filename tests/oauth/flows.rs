//! What is recorded of real sign-ins and refreshes: which step failed, when, why, and nothing secret.

use anyhow::{Context as _, Result};
use keywright_protocol::flows::FlowTraceView;
use url::Url;

use super::waiting::{Waiting, status};
use crate::support::app::{TestApp, request};
use crate::support::bad_issuer::{BadIssuer, Tricks, post_token};
use crate::support::browser::{Person, visit};
use crate::support::session::in_session;

/// The newest trace of a flow.
fn newest(test: &TestApp, flow: &str) -> Result<FlowTraceView> {
    let mut traces = test.app.list_flow_traces()?.into_iter();
    traces
        .find(|trace| trace.flow == flow)
        .context("nothing was recorded")
}

/// `3`, `5 state_mismatch`, `8 end`.
fn told(trace: &FlowTraceView) -> Vec<String> {
    let line = |event: &keywright_protocol::flows::FlowEventView| {
        let code = event.code.iter().map(|code| format!(" {code}"));
        let end = event.ended.then(|| " end".to_owned());
        let rest: String = code.chain(end).collect();
        format!("{}{rest}", event.step)
    };
    trace.events.iter().map(line).collect()
}

/// Nothing that was sent either way stands in what was recorded, and times only grow.
fn is_clean(test: &TestApp, issuer: &BadIssuer) -> Result<()> {
    let traces = test.app.list_flow_traces()?;
    let text = serde_json::to_string(&traces)?;
    let mut secrets = vec!["canary".to_owned()];
    for seen in issuer
        .seen("/authorize")
        .iter()
        .chain(&issuer.seen("/token"))
    {
        for name in [
            "code",
            "code_verifier",
            "code_challenge",
            "state",
            "nonce",
            "refresh_token",
            "client_id",
        ] {
            secrets.extend(seen.query.get(name).cloned());
            secrets.extend(seen.form.get(name).cloned());
        }
    }
    assert!(
        secrets.len() > 4,
        "there was something to find: {secrets:?}"
    );
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        assert!(!text.contains(secret.as_str()), "{secret} in {text}");
    }
    for trace in traces {
        assert!(trace.events.is_sorted_by_key(|event| event.after_ms));
        assert!(trace.started_at > 0 && trace.provider_name == "127.0.0.1");
    }
    Ok(())
}

async fn without_refresh_token() -> Result<BadIssuer> {
    BadIssuer::with(|tricks| tricks.no_refresh_token = true).await
}

const ALL: [&str; 8] = ["1", "2", "3", "4", "5", "6", "7", "8 end"];

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_a_sign_in_is_recorded_step_by_step() -> Result<()> {
    let issuer = without_refresh_token().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    assert!(test.app.list_flow_traces()?.is_empty());
    test.sign_in(&issuer.issuer).await?;
    let trace = newest(&test, "authorization-code")?;
    assert_eq!(told(&trace), ALL);
    assert!(!trace.running && trace.left_out == 0);
    is_clean(&test, &issuer)
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_ac_005_an_answer_with_another_state_is_marked_and_the_sign_in_goes_on() -> Result<()>
{
    let waiting = Waiting::new().await?;
    // The browser has the link before the sign-in knows that it was opened.
    while told(&newest(&waiting.test, "authorization-code")?).len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let answer = waiting
        .get("/callback?code=at-canary-code&state=canary")
        .await?;
    assert_eq!(status(&answer), "400");
    let trace = newest(&waiting.test, "authorization-code")?;
    assert_eq!(told(&trace), ["1", "2", "3", "5 state_mismatch"]);
    assert!(trace.running);
    visit(waiting.url.as_str(), &Person::Approves("ada"), None).await?;
    waiting.running.await??;
    let trace = newest(&waiting.test, "authorization-code")?;
    let expected = [
        "1",
        "2",
        "3",
        "5 state_mismatch",
        "4",
        "5",
        "6",
        "7",
        "8 end",
    ];
    assert_eq!(told(&trace), expected);
    is_clean(&waiting.test, &waiting.issuer)
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_ac_008_declining_is_marked_where_the_person_was_asked() -> Result<()> {
    let issuer = BadIssuer::with(|tricks| tricks.refuses = Some("access_denied")).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    assert_eq!(test.refused(&issuer.issuer).await, "access_denied");
    let trace = newest(&test, "authorization-code")?;
    assert_eq!(told(&trace), ["1", "2", "3", "4 access_denied end"]);
    is_clean(&test, &issuer)
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_ac_051_a_verifier_that_does_not_fit_is_marked_at_the_exchange() -> Result<()> {
    let issuer = without_refresh_token().await?;
    let test = TestApp::new(Person::Looks)?;
    let running = test.start(request(&issuer.issuer));
    // Somebody in between puts a challenge of their own into the address.
    let mut url = test.browser.opened(0).await?;
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(pairs.iter().map(|(name, value)| {
            let planted = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
            let value = if name == "code_challenge" {
                planted
            } else {
                value
            };
            (name, value)
        }));
    visit(Url::as_str(&url), &Person::Approves("ada"), None).await?;
    let error = running.await?.expect_err("the verifier does not fit");
    assert_eq!(error.code(), "provider_refused");
    let trace = newest(&test, "authorization-code")?;
    let expected = ["1", "2", "3", "4", "5", "6 invalid_grant end"];
    assert_eq!(told(&trace), expected);
    is_clean(&test, &issuer)
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_ac_085_a_refresh_token_that_was_used_is_marked_at_the_rotation() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    test.app.refresh_account(account.id.clone()).await?;
    assert_eq!(
        told(&newest(&test, "refresh-token")?),
        ["1", "2", "3", "4 end"]
    );
    // A thief is faster.
    let stolen = issuer.refresh_token();
    let form = format!("grant_type=refresh_token&refresh_token={stolen}");
    post_token(&issuer.issuer, &form).await?;
    let refused = test.app.refresh_account(account.id).await;
    assert_eq!(refused.expect_err("it was used").code(), "reauth_required");
    let trace = newest(&test, "refresh-token")?;
    assert_eq!(told(&trace), ["1", "2", "3 invalid_grant end"]);
    is_clean(&test, &issuer)
}

/// What a provider does, and where that is marked.
type Case = (&'static str, fn(&mut Tricks), &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_other_failures_are_marked_at_their_steps() -> Result<()> {
    let cases: [Case; 5] = [
        (
            "no metadata",
            |tricks| tricks.discovery = Some((404, "text/plain", String::new())),
            "3 discovery_failed end",
        ),
        (
            "refused in words of the provider's own",
            |tricks| tricks.refuses = Some("canary_refusal"),
            "5 provider_refused end",
        ),
        (
            "from another issuer",
            |tricks| tricks.iss = Some("https://canary.example".into()),
            "5 issuer_mismatch end",
        ),
        (
            "no ID token",
            |tricks| tricks.id_token = Some(None),
            "7 id_token_missing end",
        ),
        (
            "somebody else's profile",
            |tricks| tricks.userinfo_sub = Some("eve"),
            "8 subject_mismatch end",
        ),
    ];
    for (name, trick, expected) in cases {
        let issuer = without_refresh_token().await?;
        issuer.change(trick);
        let test = TestApp::new(Person::Approves("ada"))?;
        test.refused(&issuer.issuer).await;
        let trace = newest(&test, "authorization-code")?;
        assert_eq!(
            told(&trace).last().map(String::as_str),
            Some(expected),
            "{name}"
        );
        let text = serde_json::to_string(&trace)?;
        assert!(!text.contains("canary"), "{name}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_ac_014_without_a_browser_the_sign_in_is_shown_as_waiting() -> Result<()> {
    let issuer = without_refresh_token().await?;
    let test = TestApp::new(Person::HasNone)?;
    let running = test.start(request(&issuer.issuer));
    let step = test
        .step(
            keywright_protocol::accounts::SignInStep::BrowserNotOpened,
            0,
        )
        .await?;
    let trace = newest(&test, "authorization-code")?;
    assert_eq!(told(&trace), ["1", "2", "3 browser_open_failed"]);
    assert!(trace.running);
    test.app.cancel_sign_in(step.sign_in_id)?;
    running.await?.expect_err("it was cancelled");
    let trace = newest(&test, "authorization-code")?;
    let expected = ["1", "2", "3 browser_open_failed", "4 login_cancelled end"];
    assert_eq!(told(&trace), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_195_ac_011_a_sign_in_that_is_cancelled_before_there_is_a_link_sent_nobody_anywhere()
-> Result<()> {
    // A provider that takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let issuer = format!("http://{}", silent.local_addr()?);
    let test = TestApp::new(Person::Approves("ada"))?;
    let running = test.start(request(&issuer));
    let discovering = keywright_protocol::accounts::SignInStep::Discovering;
    let step = test.step(discovering, 0).await?;
    // The pair for PKCE is made after that was told.
    while told(&newest(&test, "authorization-code")?).len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    test.app.cancel_sign_in(step.sign_in_id)?;
    running.await?.expect_err("it was cancelled");
    let trace = newest(&test, "authorization-code")?;
    assert_eq!(told(&trace), ["1", "2", "3 login_cancelled end"]);
    Ok(())
}
