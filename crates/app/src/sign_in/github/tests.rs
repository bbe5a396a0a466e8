//! GitHub's peculiarities, against a stand-in on loopback with its documented answers.

use std::sync::{Arc, Mutex};

use keywright_domain::SecretText;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::{fetch_profile, metadata};
use crate::http::HttpClient;
use crate::sign_in::SignInError;
use crate::sign_in::authorization::Attempt;
use crate::sign_in::discovery::Metadata;
use crate::sign_in::exchange::{TokenEndpoint, Tokens};

struct StandIn {
    metadata: Metadata,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Answers by path; a path that is not listed is 404.
async fn stand_in(
    answers: &'static [(&'static str, u16, &'static str)],
) -> Result<StandIn, anyhow::Error> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", socket.local_addr()?);
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut request = vec![0; 8192];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("").to_owned();
            let found = answers.iter().find(|(at, ..)| *at == path);
            let (status, body) = found.map_or((404, "{}"), |(_, status, body)| (*status, *body));
            if let Ok(mut seen) = seen.lock() {
                seen.push(request);
            }
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _sent = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    let metadata = Metadata {
        token_endpoint: Url::parse(&format!("{base}/login/oauth/access_token"))?,
        userinfo_endpoint: Some(Url::parse(&base)?),
        ..metadata()?
    };
    Ok(StandIn { metadata, requests })
}

async fn exchange(stand_in: &StandIn) -> Result<Result<Tokens, SignInError>, anyhow::Error> {
    let http = HttpClient::new(None)?;
    let secret = SecretText::new("not-so-secret".to_owned());
    let endpoint = TokenEndpoint {
        http: &http,
        metadata: &stand_in.metadata,
        client_id: "app",
        client_secret: Some(&secret),
    };
    let code = SecretText::new("c".to_owned());
    Ok(endpoint
        .exchange_code(&code, &Attempt::new(), "http://127.0.0.1:1/callback")
        .await)
}

const TOKEN: (&str, u16, &str) = (
    "/login/oauth/access_token",
    200,
    r#"{"access_token":"gho_x","token_type":"bearer","scope":"read:user,user:email"}"#,
);

#[tokio::test]
async fn a_person_is_their_numeric_id() -> Result<(), anyhow::Error> {
    let stand_in = stand_in(&[
        TOKEN,
        ("/user", 200, r#"{"id":583231,"login":"octocat","name":"The Octocat","email":"public@example.com"}"#),
        ("/user/emails", 200, r#"[{"email":"old@example.com","primary":false,"verified":true},{"email":"octo@example.com","primary":true,"verified":true}]"#),
    ])
    .await?;
    let tokens = exchange(&stand_in).await??;
    assert_eq!(
        tokens.scopes,
        Some(vec!["read:user".to_owned(), "user:email".to_owned()])
    );
    assert!(tokens.refresh_token.is_none() && tokens.id_token.is_none());
    let profile = fetch_profile(
        &HttpClient::new(None)?,
        &stand_in.metadata,
        &tokens.access_token,
    )
    .await?;
    assert_eq!(
        (profile.subject.as_str(), profile.display_name.as_str()),
        ("583231", "The Octocat")
    );
    assert_eq!(
        (profile.email.as_deref(), profile.email_verified),
        (Some("octo@example.com"), true)
    );
    let requests = stand_in
        .requests
        .lock()
        .map(|requests| requests.clone())
        .unwrap_or_default();
    assert!(
        requests[0].contains("code_verifier=")
            && requests[0].contains("client_secret=not-so-secret")
    );
    assert!(
        requests
            .iter()
            .all(|request| request.to_lowercase().contains("user-agent: keywright/"))
    );
    assert!(
        requests[1..]
            .iter()
            .all(|request| request.contains("Bearer gho_x") || request.contains("bearer gho_x"))
    );
    Ok(())
}

#[tokio::test]
async fn without_the_email_scope_the_public_address_is_unverified() -> Result<(), anyhow::Error> {
    let stand_in = stand_in(&[
        TOKEN,
        (
            "/user",
            200,
            r#"{"id":1,"login":"octocat","name":null,"email":"public@example.com"}"#,
        ),
    ])
    .await?;
    let tokens = exchange(&stand_in).await??;
    let profile = fetch_profile(
        &HttpClient::new(None)?,
        &stand_in.metadata,
        &tokens.access_token,
    )
    .await?;
    assert_eq!(
        (profile.display_name.as_str(), profile.email_verified),
        ("octocat", false)
    );
    Ok(())
}

#[tokio::test]
async fn an_error_in_a_200_answer_is_an_error() -> Result<(), anyhow::Error> {
    let stand_in = stand_in(&[(
        "/login/oauth/access_token",
        200,
        r#"{"error":"bad_verification_code","error_description":"The code passed is incorrect or expired."}"#,
    )])
    .await?;
    let refused = exchange(&stand_in).await?;
    assert!(
        matches!(refused, Err(SignInError::ProviderRefused { error, .. }) if error == "bad_verification_code")
    );
    Ok(())
}

#[tokio::test]
async fn a_profile_without_an_id_is_refused() -> Result<(), anyhow::Error> {
    let stand_in = stand_in(&[TOKEN, ("/user", 200, r#"{"login":"octocat"}"#)]).await?;
    let tokens = exchange(&stand_in).await??;
    let refused = fetch_profile(
        &HttpClient::new(None)?,
        &stand_in.metadata,
        &tokens.access_token,
    )
    .await;
    assert_eq!(
        refused.err().map(|error| error.code()),
        Some("userinfo_failed")
    );
    Ok(())
}
