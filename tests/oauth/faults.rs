//! Providers that misbehave. Every one of these ends with nothing stored.

use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_protocol::accounts::AccountStatus;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::bad_issuer::{BadIssuer, TokenTrick, Tricks};
use crate::support::browser::Person;
use crate::support::session::in_session;

/// The code a sign-in ends with when the provider does this, after making sure that nothing stayed.
async fn refused(change: impl FnOnce(&mut Tricks)) -> Result<String> {
    let issuer = BadIssuer::with(change).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let code = test.refused(&issuer.issuer).await;
    if code != "signed in" {
        assert!(
            test.app.list_accounts().await?.is_empty(),
            "{code}: no account"
        );
        let user = format!(
            "refresh:{} ada {}",
            issuer.issuer,
            crate::support::peer::CLIENT_ID
        );
        if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() {
            assert_eq!(
                crate::support::app::lookup(&test.service, &user).await?,
                None,
                "{code}: no token"
            );
        }
    }
    Ok(code)
}

async fn refused_for_claim(name: &'static str, value: Value) -> Result<String> {
    refused(|tricks| tricks.claims = vec![(name, value)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_020_c8_metadata_of_somebody_else() -> Result<()> {
    let other = |value: Value| move |tricks: &mut Tricks| tricks.metadata = vec![("issuer", value)];
    assert_eq!(
        refused(other(json!("https://evil.example.com"))).await?,
        "discovery_issuer_mismatch"
    );
    assert_eq!(
        refused(other(json!(null))).await?,
        "discovery_issuer_mismatch"
    );
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    assert_eq!(
        test.refused(&format!("{}/", issuer.issuer)).await,
        "discovery_issuer_mismatch",
        "one slash more"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_020_plain_http_elsewhere() -> Result<()> {
    let test = TestApp::new(Person::Approves("ada"))?;
    assert_eq!(
        test.refused("http://id.example.com").await,
        "insecure_endpoint"
    );
    assert_eq!(test.refused("not an address").await, "invalid_issuer");
    for endpoint in [
        "token_endpoint",
        "authorization_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
    ] {
        let code =
            refused(|tricks| tricks.metadata = vec![(endpoint, json!("http://id.example.com/x"))])
                .await?;
        assert_eq!(code, "insecure_endpoint", "{endpoint}");
    }
    assert_eq!(
        refused(|tricks| tricks.metadata =
            vec![("authorization_endpoint", json!("file:///etc/passwd"))])
        .await?,
        "insecure_endpoint"
    );
    assert_eq!(test.browser.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_020_metadata_that_is_none() -> Result<()> {
    let answered = |status: u16, kind: &'static str, body: String| {
        move |tricks: &mut Tricks| tricks.discovery = Some((status, kind, body))
    };
    assert_eq!(
        refused(answered(404, "text/html", "gone".to_owned())).await?,
        "discovery_failed"
    );
    assert_eq!(
        refused(answered(200, "text/html", "<html>".to_owned())).await?,
        "discovery_failed"
    );
    assert_eq!(
        refused(answered(200, "application/json", "[]".to_owned())).await?,
        "discovery_failed"
    );
    assert_eq!(
        refused(answered(503, "text/html", "later".to_owned())).await?,
        "provider_unavailable"
    );
    assert_eq!(
        refused(answered(302, "text/html", String::new())).await?,
        "unexpected_redirect"
    );
    let enormous = format!("{{\"x\":\"{}\"}}", "x".repeat(3_000_000));
    assert_eq!(
        refused(answered(200, "application/json", enormous)).await?,
        "response_too_large"
    );
    for member in ["token_endpoint", "authorization_endpoint", "jwks_uri"] {
        assert_eq!(
            refused(|tricks| tricks.metadata = vec![(member, Value::Null)]).await?,
            "discovery_failed",
            "{member}"
        );
    }
    let test = TestApp::new(Person::Approves("ada"))?;
    assert_eq!(test.refused("http://127.0.0.1:1").await, "network_error");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_021_c9_a_redirecting_token_endpoint_is_not_followed() -> Result<()> {
    let issuer = BadIssuer::with(|tricks| tricks.token = TokenTrick::Redirect).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    assert_eq!(test.refused(&issuer.issuer).await, "unexpected_redirect");
    assert!(issuer.seen("/elsewhere").is_empty());
    assert!(test.browser.page(0).await?.body.contains("did not finish"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_021_token_answers_that_are_none() -> Result<()> {
    let trick = |token: TokenTrick| move |tricks: &mut Tricks| tricks.token = token;
    let html = BadIssuer::with(trick(TokenTrick::Html)).await?;
    let error = TestApp::new(Person::Approves("ada"))?
        .sign_in(&html.issuer)
        .await
        .expect_err("a web page");
    assert_eq!(error.code(), "invalid_token_response");
    assert!(error.to_string().contains("an HTML page"), "{error}");
    assert_eq!(
        refused(trick(TokenTrick::Enormous)).await?,
        "response_too_large"
    );
    assert_eq!(
        refused(trick(TokenTrick::Json(json!({})))).await?,
        "invalid_token_response"
    );
    assert_eq!(
        refused(trick(TokenTrick::Json(
            json!({"access_token": "", "token_type": "Bearer"})
        )))
        .await?,
        "invalid_token_response"
    );
    assert_eq!(
        refused(trick(TokenTrick::Json(
            json!({"access_token": "x", "token_type": "DPoP"})
        )))
        .await?,
        "invalid_token_response"
    );
    assert_eq!(
        refused(trick(TokenTrick::InvalidGrant)).await?,
        "provider_refused"
    );
    assert_eq!(
        refused(trick(TokenTrick::Status(500))).await?,
        "provider_unavailable"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_022_without_a_refresh_token_it_is_for_one_session() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::with(|tricks| tricks.no_refresh_token = true).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    assert_eq!(
        (account.status, account.in_keychain),
        (AccountStatus::SessionOnly, false)
    );
    assert_eq!(test.in_keychain(&account).await?, None);
    let error = test
        .app
        .refresh_account(account.id)
        .await
        .expect_err("nothing to refresh with");
    assert_eq!(error.code(), "reauth_required");
    assert_eq!(
        test.account().await?.status,
        AccountStatus::SessionOnly,
        "asking for it ends nothing"
    );
    let later = test.again(Person::Looks)?.account().await?;
    assert_eq!(
        later.status,
        AccountStatus::SignInNeeded,
        "it ends with the app"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_023_scopes_that_were_not_granted_are_named() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::with(|tricks| tricks.scope = Some("openid email")).await?;
    let account = TestApp::new(Person::Approves("ada"))?
        .sign_in(&issuer.issuer)
        .await?;
    assert_eq!(account.scopes, ["openid", "email"]);
    assert_eq!(account.missing_scopes, ["profile", "offline_access"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_024_one_retry_when_the_network_drops() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::with(|tricks| tricks.token = TokenTrick::Drop(1)).await?;
    TestApp::new(Person::Approves("ada"))?
        .sign_in(&issuer.issuer)
        .await?;
    assert_eq!(issuer.token_requests("authorization_code"), 2);
    let issuer = BadIssuer::with(|tricks| tricks.token = TokenTrick::Drop(2)).await?;
    let error = TestApp::new(Person::Approves("ada"))?
        .sign_in(&issuer.issuer)
        .await
        .expect_err("it broke twice");
    assert_eq!((error.code(), error.retryable()), ("network_error", true));
    assert_eq!(issuer.token_requests("authorization_code"), 2, "one retry");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_024_a_hanging_token_endpoint_does_not_hang_the_app() -> Result<()> {
    let started = Instant::now();
    assert_eq!(
        refused(|tricks| tricks.token = TokenTrick::Hang).await?,
        "network_error"
    );
    assert!(
        started.elapsed() < Duration::from_secs(45),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_030_031_algorithms_that_are_not_allowed() -> Result<()> {
    for alg in ["none", "None", "HS256", "HS512", "RS1", ""] {
        assert_eq!(
            refused(|tricks| tricks.header = vec![("alg", json!(alg))]).await?,
            "alg_not_allowed",
            "{alg}"
        );
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let body = URL_SAFE_NO_PAD.encode(r#"{"sub":"ada"}"#);
    let unsigned = format!("{header}.{body}.");
    assert_eq!(
        refused(|tricks| tricks.id_token = Some(Some(unsigned))).await?,
        "alg_not_allowed"
    );
    assert_eq!(
        refused(|tricks| tricks.id_token = Some(None)).await?,
        "id_token_missing"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_033_034_037_041_c10_claims_of_another_sign_in() -> Result<()> {
    assert_eq!(
        refused_for_claim("aud", json!("another-app")).await?,
        "wrong_audience"
    );
    assert_eq!(
        refused_for_claim("aud", json!(["a", "b"])).await?,
        "wrong_audience"
    );
    assert_eq!(
        refused_for_claim("azp", json!("another-app")).await?,
        "wrong_audience"
    );
    assert_eq!(
        refused_for_claim("iss", json!("https://evil.example.com")).await?,
        "issuer_mismatch"
    );
    assert_eq!(
        refused_for_claim("nonce", json!("another")).await?,
        "nonce_mismatch"
    );
    assert_eq!(
        refused_for_claim("nonce", Value::Null).await?,
        "nonce_mismatch"
    );
    assert_eq!(
        refused_for_claim("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")).await?,
        "at_hash_mismatch"
    );
    for claim in ["exp", "iat", "sub", "iss"] {
        assert_eq!(
            refused_for_claim(claim, Value::Null).await?,
            "claim_missing",
            "{claim}"
        );
    }
    assert_eq!(
        refused_for_claim("exp", json!(1_000_000_000)).await?,
        "token_expired"
    );
    assert_eq!(
        refused_for_claim("iat", json!(9_000_000_000_i64)).await?,
        "token_not_yet_valid"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_036_a_wrong_clock_is_named() -> Result<()> {
    let issuer = BadIssuer::with(|tricks| tricks.clock_ahead_s = 600).await?;
    let error = TestApp::new(Person::Approves("ada"))?
        .sign_in(&issuer.issuer)
        .await
        .expect_err("from the future");
    assert_eq!(error.code(), "clock_skew");
    assert!(error.to_string().contains("min behind"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_036_a_clock_that_is_a_little_off_is_shown() -> Result<()> {
    in_session!(Unlocked);
    // Behind us: nothing is from the future, nothing has expired yet.
    let issuer = BadIssuer::with(|tricks| tricks.clock_ahead_s = -120).await?;
    let account = TestApp::new(Person::Approves("ada"))?
        .sign_in(&issuer.issuer)
        .await?;
    let offset = account.clock_offset_ms.unwrap_or(0);
    assert!((-125_000..=-115_000).contains(&offset), "{offset}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_038_039_keys_that_are_new() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    test.sign_in(&issuer.issuer).await?;
    assert_eq!(issuer.seen("/jwks").len(), 1);
    issuer.rotate_key()?;
    test.sign_in(&issuer.issuer).await?;
    assert_eq!(
        issuer.seen("/jwks").len(),
        2,
        "asked again for the unknown key, once"
    );
    issuer.rotate_key()?;
    assert_eq!(
        test.refused(&issuer.issuer).await,
        "unknown_key",
        "not twice within a minute"
    );
    assert_eq!(issuer.seen("/jwks").len(), 2);
    assert_eq!(
        refused(|tricks| tricks.publishes_no_key = true).await?,
        "unknown_key"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_042_a_token_cannot_bring_its_own_keys() -> Result<()> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    for member in ["jku", "x5u"] {
        let address = format!("{}/planted", issuer.issuer);
        issuer.change(|tricks| tricks.header = vec![(member, json!(address))]);
        assert_eq!(
            test.refused(&issuer.issuer).await,
            "id_token_malformed",
            "{member}"
        );
    }
    issuer.change(|tricks| tricks.header = vec![("crit", json!(["b64"]))]);
    assert_eq!(test.refused(&issuer.issuer).await, "id_token_malformed");
    assert!(issuer.seen("/planted").is_empty(), "nothing was fetched");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_043_c11_a_profile_of_somebody_else() -> Result<()> {
    assert_eq!(
        refused(|tricks| tricks.userinfo_sub = Some("eve")).await?,
        "subject_mismatch"
    );
    Ok(())
}
