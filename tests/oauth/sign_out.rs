//! Signing out here, there, and where one of the two cannot be reached.

use anyhow::Result;
use keywright_protocol::accounts::{AccountStatus, SignInRequest, SignOutView};
use serde_json::json;

use crate::support::app::{TestApp, request};
use crate::support::bad_issuer::BadIssuer;
use crate::support::browser::Person;
use crate::support::peer::Peer;
use crate::support::session::in_session;
use crate::support::until;

fn note(view: &SignOutView) -> &str {
    view.revocation_note
        .as_ref()
        .map_or("", |note| note.code.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_097_c15_signing_out_ends_it_everywhere() -> Result<()> {
    in_session!(Unlocked);
    let peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&peer.issuer).await?;
    let token = test.in_keychain(&account).await?.unwrap_or_default();
    let view = test.app.sign_out(account.id.clone()).await?;
    assert!(
        view.revoked_at_issuer && view.keychain_entry_deleted && view.revocation_note.is_none()
    );
    assert_eq!(test.in_keychain(&account).await?, None);
    assert!(test.app.list_accounts().await?.is_empty());
    // The old refresh token is dead at the provider.
    let form = format!(
        "grant_type=refresh_token&refresh_token={token}&client_id={}",
        account.client_id
    );
    let answer = crate::support::bad_issuer::post_token(&peer.issuer, &form).await?;
    assert_eq!(answer["error"], "invalid_grant");
    assert_eq!(
        test.app
            .sign_out(account.id)
            .await
            .expect_err("it is gone")
            .code(),
        "account_not_found"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_097_the_local_part_happens_when_the_provider_is_away() -> Result<()> {
    in_session!(Unlocked);
    let mut peer = Peer::start(json!({})).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&peer.issuer).await?;
    peer.end().await?;
    let view = test.app.sign_out(account.id.clone()).await?;
    assert!(!view.revoked_at_issuer && view.keychain_entry_deleted);
    assert_eq!(note(&view), "revocation_failed");
    assert_eq!(test.in_keychain(&account).await?, None);
    assert!(test.app.list_accounts().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_097_providers_that_do_not_revoke_are_told_apart() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::with(|tricks| tricks.revocation = Some(503)).await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    assert_eq!(
        note(&test.app.sign_out(account.id).await?),
        "revocation_failed"
    );
    let issuer =
        BadIssuer::with(|tricks| tricks.metadata = vec![("revocation_endpoint", json!(null))])
            .await?;
    let account = test.sign_in(&issuer.issuer).await?;
    let view = test.app.sign_out(account.id).await?;
    assert_eq!(
        (view.revoked_at_issuer, note(&view)),
        (false, "revocation_unsupported")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ac_097_both_tokens_are_revoked_and_the_refresh_token_first() -> Result<()> {
    in_session!(Unlocked);
    let issuer = BadIssuer::start().await?;
    let test = TestApp::new(Person::Approves("ada"))?;
    let account = test.sign_in(&issuer.issuer).await?;
    test.app.sign_out(account.id).await?;
    let revoked: Vec<_> = issuer
        .seen("/revoke")
        .iter()
        .map(|seen| {
            (
                seen.form["token"].clone(),
                seen.form["token_type_hint"].clone(),
            )
        })
        .collect();
    let pair = |token: &str, kind: &str| (token.to_owned(), kind.to_owned());
    assert_eq!(
        revoked,
        [
            pair("rt-canary-1", "refresh_token"),
            pair("at-canary-1", "access_token")
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_again_ends_the_sign_in_before_at_a_keywright_server() -> Result<()> {
    in_session!(Unlocked);
    for (revocation, provider_id, revoked) in [
        (200, "keywright", vec!["rt-canary-1"]),
        // What cannot be revoked costs nobody their sign-in.
        (503, "keywright", vec!["rt-canary-1"]),
        // Elsewhere that could end the new one too.
        (200, "openid", vec![]),
    ] {
        let issuer = BadIssuer::with(|tricks| tricks.revocation = Some(revocation)).await?;
        let test = TestApp::new(Person::Approves("ada"))?;
        let asked = || SignInRequest {
            provider_id: provider_id.to_owned(),
            ..request(&issuer.issuer)
        };
        let first = test.app.sign_in(asked()).await?;
        let again = test.app.sign_in(asked()).await?;
        assert_eq!(
            (first.id, again.status),
            (again.id.clone(), AccountStatus::SignedIn)
        );
        let newest = test.in_keychain(&again).await?;
        assert_eq!(newest, Some(issuer.refresh_token()));
        let told = async || {
            let all = issuer.seen("/revoke");
            let tokens = all.iter().map(|seen| seen.form["token"].clone());
            tokens.collect::<Vec<_>>()
        };
        if revoked.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        } else {
            until("the revocation", async || {
                (!told().await.is_empty()).then_some(())
            })
            .await?;
        }
        assert_eq!(told().await, revoked, "{provider_id} {revocation}");
        assert_eq!(test.in_keychain(&again).await?, newest);
    }
    Ok(())
}
