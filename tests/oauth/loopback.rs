//! The loopback port and everything strangers can do to it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keywright_protocol::accounts::SignInStep;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::support::app::{TestApp, request};
use crate::support::bad_issuer::BadIssuer;
use crate::support::browser::{Person, visit};
use crate::support::peer::Peer;
use crate::support::session::in_session;
use crate::support::until;

/// A sign-in that waits for its browser.
struct Waiting {
    issuer: BadIssuer,
    test: TestApp,
    running: tokio::task::JoinHandle<Result<keywright_protocol::accounts::AccountView, keywright_app::AppError>>,
    url: Url,
    redirect: Url,
}

impl Waiting {
    async fn new() -> Result<Self> {
        Self::at(BadIssuer::with(|tricks| tricks.no_refresh_token = true).await?).await
    }

    async fn at(issuer: BadIssuer) -> Result<Self> {
        let test = TestApp::new(Person::Looks)?;
        let running = test.start(request(&issuer.issuer));
        let url = test.browser.opened(0).await?;
        let redirect = redirect_of(&url)?;
        Ok(Self { issuer, test, running, url, redirect })
    }

    fn state(&self) -> String {
        self.url.query_pairs().find(|(name, _)| name == "state").map(|(_, state)| state.into_owned()).unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.redirect.port().unwrap_or(0)
    }

    /// Sends a request as it stands; answers status line and all.
    async fn raw(&self, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let _read = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn get(&self, target: &str) -> Result<String> {
        self.raw(&format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port())).await
    }

    /// The right answer comes, and the sign-in succeeds.
    async fn succeeds(self) -> Result<()> {
        visit(self.url.as_str(), &Person::Approves("ada"), None).await?;
        self.running.await?.context("the sign-in goes on")?;
        Ok(())
    }

    async fn refused(self) -> Result<String> {
        Ok(self.running.await?.map_or_else(|error| error.code().to_owned(), |_| "signed in".to_owned()))
    }
}

fn redirect_of(url: &Url) -> Result<Url> {
    let redirect = url.query_pairs().find(|(name, _)| name == "redirect_uri");
    Ok(Url::parse(&redirect.context("no redirect_uri")?.1)?)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("")
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_005_wrong_state_is_ignored() -> Result<()> {
    let waiting = Waiting::new().await?;
    let answer = waiting.get("/callback?code=evil&state=wrong").await?;
    assert_eq!(status(&answer), "400");
    assert!(!answer.contains("evil") && !answer.contains("wrong"), "nothing comes back");
    assert_eq!(waiting.issuer.seen("/token").len(), 0, "no token request");
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_006_missing_or_repeated_state_is_ignored() -> Result<()> {
    let waiting = Waiting::new().await?;
    let state = waiting.state();
    for query in ["code=evil".to_owned(), format!("code=evil&state={state}&state={state}"), "code=evil&state=".to_owned(), String::new()] {
        assert_eq!(status(&waiting.get(&format!("/callback?{query}")).await?), "400", "{query}");
    }
    assert_eq!(waiting.issuer.seen("/token").len(), 0);
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_007_a_replayed_answer_does_nothing() -> Result<()> {
    let waiting = Waiting::new().await?;
    let (port, state) = (waiting.port(), waiting.state());
    let page = visit(waiting.url.as_str(), &Person::Approves("ada"), None).await?;
    let answer = page.path.iter().find(|url| url.path() == "/callback").context("no callback")?;
    let replay = format!("{}?{}", answer.path(), answer.query().unwrap_or(""));
    assert!(replay.contains(&state));
    match waiting.get(&replay).await {
        Ok(again) => assert!(matches!(status(&again), "400" | ""), "{again}"),
        Err(_refused) => {}
    }
    waiting.running.await??;
    assert_eq!(waiting.issuer.token_requests("authorization_code"), 1, "no second exchange");
    until("the port to be closed", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_009_a_denial_with_a_wrong_state_is_ignored() -> Result<()> {
    let waiting = Waiting::new().await?;
    assert_eq!(status(&waiting.get("/callback?error=access_denied&state=wrong").await?), "400");
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_008_a_denial_with_the_right_state_ends_it() -> Result<()> {
    let waiting = Waiting::at(BadIssuer::with(|tricks| tricks.refuses = Some("access_denied")).await?).await?;
    let page = visit(waiting.url.as_str(), &Person::Approves("ada"), None).await?;
    assert!(page.body.contains("You declined access"));
    assert_eq!(waiting.refused().await?, "access_denied");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_010_nobody_answers() -> Result<()> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Looks)?;
    test.set(|settings| settings.sign_in_timeout_s = 30).await?;
    let started = Instant::now();
    let running = test.start(request(&issuer.issuer));
    let port = redirect_of(&test.browser.opened(0).await?)?.port().context("no port")?;
    let step = test.step(SignInStep::WaitingForBrowser, 0).await?;
    let error = running.await?.expect_err("nobody answered");
    assert_eq!(error.code(), "login_timeout");
    assert!((29..40).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert!(step.expires_at > 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the port is free");
    TcpListener::bind(("127.0.0.1", port)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_011_cancel_is_immediate() -> Result<()> {
    let waiting = Waiting::new().await?;
    let port = waiting.port();
    let held = TcpStream::connect(("127.0.0.1", port)).await?;
    let id = waiting.test.step(SignInStep::WaitingForBrowser, 0).await?.sign_in_id;
    let started = Instant::now();
    waiting.test.app.cancel_sign_in(id.clone())?;
    assert_eq!(waiting.running.await?.err().map(|error| error.code().to_owned()).as_deref(), Some("login_cancelled"));
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "a later answer is refused");
    drop(held);
    let again = waiting.test.app.cancel_sign_in(id).expect_err("it has ended");
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
    test.set(|settings| settings.callback_port = Some(port)).await?;
    let started = Instant::now();
    let error = test.sign_in(&issuer.issuer).await.expect_err("the port is taken");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(error.code(), "port_unavailable");
    assert!(error.to_string().contains(&port.to_string()));
    assert_eq!(test.browser.count(), 0, "no browser was opened");
    drop(taken);
    // Twice in a row: the first one's page must not keep the port.
    for nth in 0..2 {
        test.sign_in(&issuer.issuer).await?;
        assert_eq!(redirect_of(&test.browser.opened(nth).await?)?.port(), Some(port));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_013_somebody_on_the_same_port_of_ipv6() -> Result<()> {
    let waiting = Waiting::new().await?;
    // Where this machine has no IPv6 there is nobody to be confused with.
    let _neighbour = TcpListener::bind(("::1", waiting.port())).await.ok();
    assert_eq!(waiting.redirect.host_str(), Some("127.0.0.1"));
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_014_without_a_browser_the_answer_is_pasted() -> Result<()> {
    let issuer = BadIssuer::with(|tricks| tricks.no_refresh_token = true).await?;
    let test = TestApp::new(Person::HasNone)?;
    let running = test.start(request(&issuer.issuer));
    let step = test.step(SignInStep::BrowserNotOpened, 0).await?;
    assert!(step.browser_error.is_some_and(|reason| !reason.contains("http")));
    let id = step.sign_in_id;
    let reopened = test.app.reopen_browser(id.clone()).await.expect_err("there still is none");
    assert_eq!(reopened.code(), "browser_open_failed");
    let url = test.browser.opened(0).await?;
    assert_eq!(test.browser.opened(1).await?, url, "reopening opens the same");
    // Another computer's browser ends at an address nobody listens on there.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let answer = client.get(url.clone()).send().await?;
    let pasted = answer.headers()["location"].to_str()?.to_owned();
    let wrong = pasted.replace("state=", "state=x");
    let refused = test.app.finish_sign_in(id.clone(), wrong).await.expect_err("a wrong state");
    assert_eq!(refused.code(), "state_mismatch");
    test.app.finish_sign_in(id.clone(), format!("  {pasted}\n")).await?;
    running.await??;
    assert_eq!(test.app.finish_sign_in(id, pasted).await.expect_err("it has ended").code(), "sign_in_not_found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_014_a_pasted_answer_of_another_issuer_ends_it() -> Result<()> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::HasNone)?;
    let running = test.start(request(&issuer.issuer));
    let id = test.step(SignInStep::BrowserNotOpened, 0).await?.sign_in_id;
    let url = test.browser.opened(0).await?;
    let state = url.query_pairs().find(|(name, _)| name == "state").context("no state")?.1.into_owned();
    test.app.finish_sign_in(id, format!("code=c&state={state}&iss=https%3A%2F%2Fevil.example.com")).await?;
    assert_eq!(running.await?.err().map(|error| error.code().to_owned()).as_deref(), Some("issuer_mismatch"));
    assert_eq!(issuer.seen("/token").len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_015_strangers_get_short_answers_and_the_real_one_still_works() -> Result<()> {
    let waiting = Waiting::new().await?;
    let host = format!("Host: 127.0.0.1:{}\r\n", waiting.port());
    let right = format!("/callback?code=evil&state={}", waiting.state());
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(TcpStream::connect(("127.0.0.1", waiting.port())).await?);
    }
    for (request, expected) in [
        (format!("GET /favicon.ico HTTP/1.1\r\n{host}\r\n"), "404"),
        (format!("GET / HTTP/1.1\r\n{host}\r\n"), "404"),
        (format!("GET /callback/ HTTP/1.1\r\n{host}\r\n"), "404"),
        (format!("GET /Callback HTTP/1.1\r\n{host}\r\n"), "404"),
        (format!("GET /done HTTP/1.1\r\n{host}\r\n"), "404"),
        (format!("POST {right} HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello"), "405"),
        (format!("HEAD {right} HTTP/1.1\r\n{host}\r\n"), "405"),
        (format!("OPTIONS {right} HTTP/1.1\r\n{host}Origin: https://evil.example.com\r\n\r\n"), "405"),
        (format!("GET {right} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", waiting.port()), "400"),
        (format!("GET {right} HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"), "400"),
        (format!("GET {right} HTTP/1.1\r\n{host}{host}\r\n"), "400"),
        (format!("GET {right} HTTP/1.0\r\n\r\n"), "400"),
        (format!("GET http://127.0.0.1:{}{right} HTTP/1.1\r\n{host}\r\n", waiting.port()), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = waiting.raw(&request).await?;
        assert_eq!(status(&answer), expected, "{request}\n{answer}");
        assert!(!answer.contains("evil") && !answer.to_lowercase().contains("access-control"), "{answer}");
    }
    let megabyte = waiting.raw(&format!("GET {right} HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(1_000_000))).await;
    assert!(megabyte.map_or(true, |answer| matches!(status(&answer), "431" | "414" | "400" | "")), "closed within limits");
    assert_eq!(waiting.issuer.seen("/token").len(), 0);
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_015_a_slow_request_is_closed() -> Result<()> {
    let waiting = Waiting::new().await?;
    let mut slow = TcpStream::connect(("127.0.0.1", waiting.port())).await?;
    slow.write_all(b"GET /callback?code=").await?;
    let mut rest = Vec::new();
    let started = Instant::now();
    let _closed = tokio::time::timeout(Duration::from_secs(9), slow.read_to_end(&mut rest)).await?;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_016_a_page_elsewhere_learns_nothing() -> Result<()> {
    let waiting = Waiting::new().await?;
    let answer = waiting
        .raw(&format!(
            "GET /callback?code=evil&state=guess HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nOrigin: https://evil.example.com\r\nSec-Fetch-Site: cross-site\r\n\r\n",
            waiting.port()
        ))
        .await?;
    let lower = answer.to_lowercase();
    assert_eq!(status(&answer), "400");
    assert!(!lower.contains("access-control"));
    for header in ["cache-control: no-store", "referrer-policy: no-referrer", "content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "x-frame-options: deny"] {
        assert!(lower.contains(header), "{header}\n{answer}");
    }
    assert!(!lower.contains("<script") && !lower.contains("src="));
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_017_a_second_sign_in_takes_the_first_one_s_place() -> Result<()> {
    let waiting = Waiting::new().await?;
    let second = waiting.test.start(request(&waiting.issuer.issuer));
    let first = waiting.running.await?.expect_err("the second one came");
    assert_eq!(first.code(), "login_cancelled");
    assert!(first.to_string().contains("newer one"));
    assert!(TcpStream::connect(("127.0.0.1", waiting.redirect.port().unwrap_or(0))).await.is_err());
    let url = waiting.test.browser.opened(1).await?;
    let secrets = |url: &Url| url.query_pairs().into_owned().filter(|(name, _)| ["state", "nonce", "code_challenge"].contains(&name.as_str())).map(|(_, value)| value).collect::<Vec<_>>();
    let (before, after) = (secrets(&waiting.url), secrets(&url));
    assert!(before.len() == 3 && before.iter().all(|secret| !after.contains(secret)), "everything is fresh");
    visit(url.as_str(), &Person::Approves("ada"), None).await?;
    second.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_019_an_answer_of_another_issuer_ends_it() -> Result<()> {
    for iss in [json!("https://evil.example.com"), json!(""), json!(null)] {
        let waiting = Waiting::at(BadIssuer::with(|tricks| tricks.iss = Some(iss.clone())).await?).await?;
        let issuer = waiting.issuer.issuer.clone();
        let page = visit(waiting.url.as_str(), &Person::Approves("ada"), None).await?;
        assert!(page.body.contains("did not finish"), "{issuer}");
        assert_eq!(waiting.issuer.seen("/token").len(), 0, "no token request");
        assert_eq!(waiting.refused().await?, "issuer_mismatch", "{iss}");
    }
    // A provider that never sends it may leave it out.
    let issuer = BadIssuer::with(|tricks| {
        tricks.iss = Some(json!(null));
        tricks.metadata = vec![("authorization_response_iss_parameter_supported", json!(null))];
        tricks.no_refresh_token = true;
    })
    .await?;
    Waiting::at(issuer).await?.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_026_nothing_is_left_of_a_killed_app() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Looks)?;
    let running = test.start(request(&peer.issuer));
    let port = redirect_of(&test.browser.opened(0).await?)?.port().context("no port")?;
    // As near to a kill as one process comes: nothing of the sign-in gets to clean up by itself.
    running.abort();
    test.app.close().await;
    until("the port to be closed", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await?;
    let again = test.again(Person::Approves("ada"))?;
    assert!(again.app.list_accounts().await?.is_empty(), "no stale transaction");
    again.sign_in(&peer.issuer).await?;
    Ok(())
}
