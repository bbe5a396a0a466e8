//! The client secret of a provider that insists on one: given once, sent each time, gone with the account.

use std::sync::{Arc, Mutex};

use keywright_domain::SecretText;
use keywright_protocol::accounts::SignInRequest;

use super::keep::keep;
use crate::browser::OpenBrowser;
use crate::remote::tests::{Outcome, Quiet, app_with};
use crate::sign_in::{Preset, Profile, SignedIn, Tokens};
use crate::tokens::{AccessToken, client_secret_entry};

/// A browser that shows nothing, and says what it was asked to.
#[derive(Default)]
struct Unseen(Mutex<Vec<String>>);

impl OpenBrowser for Unseen {
    fn open(&self, url: &str) -> Result<(), String> {
        self.0.lock().unwrap().push(url.to_owned());
        Err("there is none".to_owned())
    }
}

fn secret(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

/// A sign-in at GitHub, which gives no refresh token.
fn signed_in(client_secret: &str) -> anyhow::Result<SignedIn> {
    let preset = Preset::find("github").expect("it is a preset");
    Ok(SignedIn {
        provider: preset.provider("")?,
        client_id: "app".to_owned(),
        client_secret: Some(secret(client_secret)),
        asked_scopes: vec!["read:user".to_owned()],
        profile: Profile {
            subject: "42".to_owned(),
            display_name: "Ada".to_owned(),
            email: None,
            email_verified: false,
        },
        identity_verified: false,
        tokens: Tokens {
            access_token: AccessToken::new(secret("token")),
            expires_in_s: None,
            refresh_token: None,
            id_token: None,
            scopes: None,
            clock_offset_ms: None,
        },
    })
}

fn request(account_id: Option<&str>) -> SignInRequest {
    SignInRequest {
        provider_id: "github".to_owned(),
        issuer: String::new(),
        client_id: "app".to_owned(),
        client_secret: Some(String::new()),
        scopes: Vec::new(),
        login_hint: None,
        account_id: account_id.map(str::to_owned),
    }
}

#[tokio::test]
async fn ac_001_a_client_secret_is_typed_once_and_asked_for_before_the_browser_opens() -> Outcome {
    let folder = tempfile::tempdir()?;
    let app = app_with(folder.path(), Arc::new(Quiet))?;
    let browser = Arc::new(Unseen::default());
    app.use_browser(browser.clone());
    // Nobody has given one yet: nobody is sent anywhere.
    let refused = app.sign_in(request(None)).await.expect_err("none");
    assert_eq!(refused.code(), "invalid_request");
    assert!(refused.to_string().contains("client secret"));
    assert!(browser.0.lock().unwrap().is_empty());

    let account = keep(&app.inner, signed_in("hush")?).await?;
    let entry = client_secret_entry(&account.issuer, "app");
    let kept = app.inner.keychain.read(&entry).await?;
    assert!(kept.is_some_and(|kept| kept.matches("hush")));
    // Signing in again goes on with it, as far as the browser.
    let again = tokio::spawn({
        let (app, request) = (app.clone(), request(Some(&account.id)));
        async move { app.sign_in(request).await }
    });
    for _ in 0..500 {
        if !browser.0.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let opened = browser.0.lock().unwrap().clone();
    assert_eq!(opened.len(), 1);
    assert!(opened[0].starts_with("https://github.com/login/oauth/authorize?"));
    assert!(!opened[0].contains("hush"));
    app.cancel_all_sign_ins();
    let cancelled = again.await?.expect_err("cancelled");
    assert_eq!(cancelled.code(), "login_cancelled");

    // It goes with the last account of its client.
    app.sign_out(account.id).await?;
    assert!(app.inner.keychain.read(&entry).await?.is_none());
    app.close().await;
    Ok(())
}
