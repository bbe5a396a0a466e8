//! Signing out: the issuer is told, the keychain entry goes, the account is forgotten. The local
//! part happens even when the issuer cannot be reached (AC-097).

use std::sync::Arc;
use std::time::Duration;

use keywright_domain::SecretText;
use keywright_domain::accounts::Account;
use keywright_protocol::accounts::SignOutView;

use crate::clock::now_ms;
use crate::sign_in::{SignInError, TokenEndpoint};
use crate::tokens::{client_secret_entry, provider_of, refresh_entry};
use crate::{AppError, Inner};

/// Nobody waits longer than this for a provider before being signed out here.
pub(super) const REVOCATION_LIMIT: Duration = Duration::from_secs(8);

/// Signs an account out.
pub(crate) async fn sign_out(
    inner: &Arc<Inner>,
    account_id: &str,
) -> Result<SignOutView, AppError> {
    let gate = inner
        .accounts
        .sessions
        .with(account_id, |session| Arc::clone(&session.gate));
    // A refresh under way would store a new token right after this one was deleted.
    let _turn = gate.lock().await;
    let registry = inner.registry.get().await?;
    let account = registry.find_account(account_id).await?;
    let entry = refresh_entry(&account);
    let unsaved = inner
        .accounts
        .sessions
        .with(account_id, |session| session.unsaved_refresh_token.clone());
    // Before anything is undone: a keychain that does not answer keeps account and token together.
    let stored = if account.in_keychain {
        inner.keychain.read(&entry).await?
    } else {
        None
    };
    let access_token = inner.accounts.sessions.with(account_id, |session| {
        session
            .life
            .as_ref()
            .filter(|life| !life.is_over(now_ms()))
            .map(|life| life.token.secret().clone())
    });
    // The refresh token first: with it, a provider ends its access tokens, too (RFC 7009 §2.1).
    let tokens = [
        (unsaved.or(stored), "refresh_token"),
        (access_token, "access_token"),
    ];
    let tokens = tokens
        .into_iter()
        .filter_map(|(token, kind)| Some((token?, kind)))
        .collect::<Vec<_>>();
    let revoked = match tokens.is_empty() {
        true => Ok(false),
        false => {
            match tokio::time::timeout(REVOCATION_LIMIT, revoke(inner, &account, &tokens)).await {
                Ok(revoked) => revoked.map(|()| true),
                Err(_elapsed) => Err(SignInError::RevocationFailed(
                    "it did not answer in time".to_owned(),
                )),
            }
        }
    };
    let keychain_entry_deleted = match inner.keychain.delete(&entry).await {
        Ok(_existed) => true,
        Err(error) if account.in_keychain => return Err(error.into()),
        // Nothing of this account was ever put there.
        Err(_) => false,
    };
    forget_client_secret(inner, &account).await;
    let note = revoked.as_ref().err().map(SignInError::view);
    let told = match &revoked {
        Ok(true) => "yes",
        Ok(false) => "nothing to revoke",
        Err(error) => error.code(),
    };
    registry
        .delete_account(
            &inner.actor,
            account_id,
            vec![("revoked_at_issuer", told.to_owned())],
        )
        .await?;
    inner.accounts.sessions.forget(account_id);
    inner.remotes.forget(&account).await;
    Ok(SignOutView {
        account_id: account_id.to_owned(),
        revoked_at_issuer: matches!(revoked, Ok(true)),
        revocation_note: note,
        keychain_entry_deleted,
    })
}

/// Revokes tokens of an account at its issuer (RFC 7009), in this order.
///
/// # Errors
/// [`SignInError`]: `revocation_failed`, `revocation_unsupported` and what its metadata came to.
pub(super) async fn revoke(
    inner: &Inner,
    account: &Account,
    tokens: &[(SecretText, &str)],
) -> Result<(), SignInError> {
    let provider = provider_of(account)?;
    let http = inner
        .accounts
        .http
        .current(inner.settings.current().extra_ca_file.as_deref())?;
    let failed = |error: SignInError| {
        SignInError::RevocationFailed(error.to_string().trim_end_matches('.').to_owned())
    };
    let metadata = inner
        .accounts
        .metadata
        .find(&http, &provider)
        .await
        .map_err(failed)?;
    let secret_entry = client_secret_entry(&account.issuer, &account.client_id);
    let client_secret = inner.keychain.read(&secret_entry).await.unwrap_or(None);
    let endpoint = TokenEndpoint {
        http: &http,
        metadata: &metadata,
        client_id: &account.client_id,
        client_secret: client_secret.as_ref(),
    };
    for (token, kind) in tokens {
        endpoint.revoke(token, kind).await?;
    }
    Ok(())
}

/// A client secret is shared by the accounts of one client: it goes with the last of them.
async fn forget_client_secret(inner: &Inner, account: &Account) {
    let others =
        async { Ok::<_, AppError>(inner.registry.get().await?.list_accounts().await?) }.await;
    let shared = others.map_or(true, |others| {
        others.iter().any(|other| {
            other.id != account.id
                && other.issuer == account.issuer
                && other.client_id == account.client_id
        })
    });
    if !shared
        && let Err(error) = inner
            .keychain
            .delete(&client_secret_entry(&account.issuer, &account.client_id))
            .await
    {
        tracing::warn!(
            code = error.code(),
            "a client secret was left behind in the keychain"
        );
    }
}
