//! What goes right, and what a person does to it.

use std::sync::Arc;

use anyhow::Result;
use keywright_protocol::accounts::{AccountStatus, SignInStep};
use serde_json::json;

use crate::support::app::{TestApp, request};
use crate::support::bad_issuer::BadIssuer;
use crate::support::browser::Person;
use crate::support::certificates::certificates;
use crate::support::peer::{CLIENT_ID, Peer};
use crate::support::session::in_session;

#[tokio::test(flavor = "multi_thread")]
async fn ac_001_a_person_signs_in_at_a_certified_provider() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&peer.issuer).await?;
    assert_eq!(
        (account.display_name.as_str(), account.subject.as_str()),
        ("Ada Lovelace", "ada")
    );
    assert_eq!(
        (account.email.as_deref(), account.email_verified),
        (Some("ada@example.com"), true)
    );
    assert_eq!(
        (account.issuer.as_str(), account.client_id.as_str()),
        (peer.issuer.as_str(), CLIENT_ID)
    );
    assert_eq!(account.status, AccountStatus::SignedIn);
    assert!(account.identity_verified && account.in_keychain && account.missing_scopes.is_empty());
    let life = account
        .access_token
        .as_ref()
        .expect("an access token in memory");
    assert!(life.refresh_at < life.expires_at && life.expires_at > Some(life.issued_at));
    assert!(
        test.in_keychain(&account).await?.is_some(),
        "the refresh token is in the keychain"
    );
    assert_eq!(test.app.list_accounts().await?, [account]);
    use SignInStep::{Discovering, Ended, Exchanging, Storing, WaitingForBrowser};
    assert_eq!(
        test.steps(),
        [Discovering, WaitingForBrowser, Exchanging, Storing, Ended]
    );
    let page = test.browser.page(0).await?;
    assert!(
        page.body.contains("You can close this tab") && page.body.contains("You are signed in")
    );
    assert!(
        page.url.query().is_none() && page.url.path() == "/done",
        "no code in the address bar"
    );
    for secret in page
        .path
        .iter()
        .flat_map(|url| url.query_pairs())
        .filter(|(name, _)| name == "code" || name == "state")
    {
        assert!(!page.body.contains(&*secret.1), "no code in the page");
    }
    assert_eq!(peer.count("POST /token authorization_code"), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_001_over_https_with_an_authority_of_one_s_own() -> Result<()> {
    in_session!(Unlocked);
    let folder = tempfile::tempdir()?;
    let made = certificates(folder.path(), "127.0.0.1")?;
    let peer = Peer::start(json!({"tls": {"key": made.key, "cert": made.certificate}})).await?;
    let test = TestApp::in_folder(
        Arc::new(tempfile::tempdir()?),
        Person::Approves("ada"),
        Some(&made.authority),
    )?;
    assert_eq!(test.refused(&peer.issuer).await, "certificate_not_trusted");
    test.set(|settings| settings.extra_ca_file = Some(made.authority.display().to_string()))
        .await?;
    let account = test.sign_in(&peer.issuer).await?;
    assert!(peer.issuer.starts_with("https://") && account.identity_verified);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_002_004_c4_the_address_is_complete_and_its_port_is_open() -> Result<()> {
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Looks)?;
    let mut asked = request(&issuer.issuer);
    asked.login_hint = Some("ada@example.com".to_owned());
    let running = test.start(asked);
    let url = test.browser.opened(0).await?;
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let value = |name: &str| {
        let values: Vec<_> = pairs
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(values.len(), 1, "{name} once");
        values[0].to_owned()
    };
    assert_eq!(value("client_id"), CLIENT_ID);
    assert_eq!(value("response_type"), "code");
    assert_eq!(value("code_challenge_method"), "S256");
    assert_eq!(value("scope"), "openid profile email offline_access");
    assert_eq!(value("login_hint"), "ada@example.com");
    assert!(
        value("state").len() >= 43
            && value("nonce").len() >= 43
            && value("code_challenge").len() == 43
    );
    for (name, _) in &pairs {
        assert!(
            !name.contains("secret") && name != "code_verifier",
            "{name}"
        );
    }
    let redirect = url::Url::parse(&value("redirect_uri"))?;
    assert_eq!(
        (redirect.host_str(), redirect.path()),
        (Some("127.0.0.1"), "/callback")
    );
    let port = redirect.port().expect("a port");
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    test.app.close().await;
    assert_eq!(
        running
            .await?
            .err()
            .map(|error| error.code().to_owned())
            .as_deref(),
        Some("login_cancelled")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_008_declining_at_a_certified_provider() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Declines)?;
    let error = test
        .sign_in(&peer.issuer)
        .await
        .expect_err("it was declined");
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("access_denied", "You declined access.")
    );
    let page = test.browser.page(0).await?;
    assert!(page.body.contains("You declined access") && page.url.query().is_none());
    assert!(test.app.list_accounts().await?.is_empty());
    assert_eq!(peer.count("POST /token"), 0, "no side effect");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_025_somebody_else_cannot_take_an_account_s_place() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("x"))?;
    let ada = test.sign_in(&issuer.issuer).await?;
    let before = test.in_keychain(&ada).await?;
    issuer.change(|tricks| tricks.person = Some("bob"));
    let mut again = request(&issuer.issuer);
    again.account_id = Some(ada.id.clone());
    let error = test
        .app
        .sign_in(again.clone())
        .await
        .expect_err("that was bob");
    assert_eq!(error.code(), "account_mismatch");
    assert_eq!(test.app.list_accounts().await?.len(), 1);
    assert_eq!(test.in_keychain(&ada).await?, before, "nothing replaced");
    assert_eq!(
        issuer.seen("/revoke").len(),
        1,
        "bob's tokens were given back"
    );
    issuer.change(|tricks| tricks.person = None);
    let same = test.app.sign_in(again).await?;
    assert_eq!((same.id, same.signed_in_at), (ada.id, ada.signed_in_at));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_167_two_people_at_one_provider() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let ada = test.sign_in(&peer.issuer).await?;
    test.browser.becomes(Person::Approves("bob"));
    let bob = test.sign_in(&peer.issuer).await?;
    assert_ne!(ada.id, bob.id);
    assert_eq!(
        bob.display_name, "Bob Builder",
        "no character that turns text around"
    );
    assert!(!bob.email_verified);
    let (of_ada, of_bob) = (test.in_keychain(&ada).await?, test.in_keychain(&bob).await?);
    assert!(of_ada.is_some() && of_bob.is_some() && of_ada != of_bob);
    test.app.sign_out(ada.id.clone()).await?;
    assert!(test.in_keychain(&ada).await?.is_none());
    assert_eq!(test.in_keychain(&bob).await?, of_bob, "the other one stays");
    assert_eq!(test.app.list_accounts().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_001_a_client_secret_lives_in_the_keychain_only() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({"clientSecret": "secret-canary-77"})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    assert_eq!(
        test.refused(&peer.issuer).await,
        "provider_refused",
        "without the secret"
    );
    let mut with_secret = request(&peer.issuer);
    with_secret.client_secret = Some("secret-canary-77".to_owned());
    let account = test.app.sign_in(with_secret).await?;
    let entry = format!("client-secret:{} {CLIENT_ID}", peer.issuer);
    let stored = || crate::support::app::lookup(&test.service, &entry);
    assert_eq!(stored().await?.as_deref(), Some("secret-canary-77"));
    test.app.refresh_account(account.id.clone()).await?;
    let view = test.app.sign_out(account.id).await?;
    assert!(view.revoked_at_issuer);
    assert_eq!(stored().await?, None);
    Ok(())
}
