//! The loopback port and everything strangers can do to it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::waiting::{Waiting, status};
use crate::support::bad_issuer::BadIssuer;
use crate::support::browser::{Person, visit};
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn ac_005_c5_wrong_state_is_ignored() -> Result<()> {
    let waiting = Waiting::new().await?;
    let answer = waiting.get("/callback?code=evil&state=wrong").await?;
    assert_eq!(status(&answer), "400");
    assert!(
        !answer.contains("evil") && !answer.contains("wrong"),
        "nothing comes back"
    );
    assert_eq!(waiting.issuer.seen("/token").len(), 0, "no token request");
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_006_missing_or_repeated_state_is_ignored() -> Result<()> {
    let waiting = Waiting::new().await?;
    let state = waiting.state();
    for query in [
        "code=evil".to_owned(),
        format!("code=evil&state={state}&state={state}"),
        "code=evil&state=".to_owned(),
        String::new(),
    ] {
        assert_eq!(
            status(&waiting.get(&format!("/callback?{query}")).await?),
            "400",
            "{query}"
        );
    }
    assert_eq!(waiting.issuer.seen("/token").len(), 0);
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_007_a_replayed_answer_does_nothing() -> Result<()> {
    let waiting = Waiting::new().await?;
    let (port, state) = (waiting.port(), waiting.state());
    let page = visit(waiting.url.as_str(), &Person::Approves("ada"), None).await?;
    let answer = page
        .path
        .iter()
        .find(|url| url.path() == "/callback")
        .context("no callback")?;
    let replay = format!("{}?{}", answer.path(), answer.query().unwrap_or(""));
    assert!(replay.contains(&state));
    match waiting.get(&replay).await {
        Ok(again) => assert!(matches!(status(&again), "400" | ""), "{again}"),
        Err(_refused) => {}
    }
    waiting.running.await??;
    assert_eq!(
        waiting.issuer.token_requests("authorization_code"),
        1,
        "no second exchange"
    );
    until("the port to be closed", async || {
        TcpStream::connect(("127.0.0.1", port)).await.err()
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_009_a_denial_with_a_wrong_state_is_ignored() -> Result<()> {
    let waiting = Waiting::new().await?;
    assert_eq!(
        status(
            &waiting
                .get("/callback?error=access_denied&state=wrong")
                .await?
        ),
        "400"
    );
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_008_a_denial_with_the_right_state_ends_it() -> Result<()> {
    let waiting =
        Waiting::at(BadIssuer::with(|tricks| tricks.refuses = Some("access_denied")).await?)
            .await?;
    let page = visit(waiting.url.as_str(), &Person::Approves("ada"), None).await?;
    assert!(page.body.contains("You declined access"));
    assert_eq!(waiting.refused().await?, "access_denied");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_013_c4_somebody_on_the_same_port_of_ipv6() -> Result<()> {
    let waiting = Waiting::new().await?;
    // Where this machine has no IPv6 there is nobody to be confused with.
    let _neighbour = TcpListener::bind(("::1", waiting.port())).await.ok();
    assert_eq!(waiting.redirect.host_str(), Some("127.0.0.1"));
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_015_c7_strangers_get_short_answers_and_the_real_one_still_works() -> Result<()> {
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
        (
            format!("POST {right} HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello"),
            "405",
        ),
        (format!("HEAD {right} HTTP/1.1\r\n{host}\r\n"), "405"),
        (
            format!("OPTIONS {right} HTTP/1.1\r\n{host}Origin: https://evil.example.com\r\n\r\n"),
            "405",
        ),
        (
            format!(
                "GET {right} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n",
                waiting.port()
            ),
            "400",
        ),
        (
            format!("GET {right} HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"),
            "400",
        ),
        (format!("GET {right} HTTP/1.1\r\n{host}{host}\r\n"), "400"),
        (format!("GET {right} HTTP/1.0\r\n\r\n"), "400"),
        (
            format!(
                "GET http://127.0.0.1:{}{right} HTTP/1.1\r\n{host}\r\n",
                waiting.port()
            ),
            "400",
        ),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = waiting.raw(&request).await?;
        assert_eq!(status(&answer), expected, "{request}\n{answer}");
        assert!(
            !answer.contains("evil") && !answer.to_lowercase().contains("access-control"),
            "{answer}"
        );
    }
    let megabyte = waiting
        .raw(&format!(
            "GET {right} HTTP/1.1\r\n{host}X: {}\r\n\r\n",
            "x".repeat(1_000_000)
        ))
        .await;
    assert!(
        megabyte.map_or(true, |answer| matches!(
            status(&answer),
            "431" | "414" | "400" | ""
        )),
        "closed within limits"
    );
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
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
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
    for header in [
        "cache-control: no-store",
        "referrer-policy: no-referrer",
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
    ] {
        assert!(lower.contains(header), "{header}\n{answer}");
    }
    assert!(!lower.contains("<script") && !lower.contains("src="));
    waiting.succeeds().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_019_c6_an_answer_of_another_issuer_ends_it() -> Result<()> {
    for iss in [json!("https://evil.example.com"), json!(""), json!(null)] {
        let waiting =
            Waiting::at(BadIssuer::with(|tricks| tricks.iss = Some(iss.clone())).await?).await?;
        let issuer = waiting.issuer.issuer.clone();
        let page = visit(waiting.url.as_str(), &Person::Approves("ada"), None).await?;
        assert!(page.body.contains("did not finish"), "{issuer}");
        assert_eq!(waiting.issuer.seen("/token").len(), 0, "no token request");
        assert_eq!(waiting.refused().await?, "issuer_mismatch", "{iss}");
    }
    // A provider that never sends it may leave it out.
    let issuer = BadIssuer::with(|tricks| {
        tricks.iss = Some(json!(null));
        tricks.metadata = vec![(
            "authorization_response_iss_parameter_supported",
            json!(null),
        )];
        tricks.no_refresh_token = true;
    })
    .await?;
    Waiting::at(issuer).await?.succeeds().await
}
