//! Keeping a sign-in that passed every check: the refresh token goes to the keychain, the account
//! to the registry, the access token to memory, in that order.

use std::sync::Arc;

use keywright_domain::SecretText;
use keywright_domain::accounts::{Account, AccountChange};

use crate::clock::now_ms;
use crate::secret_store::KeychainError;
use crate::sign_in::{SignedIn, new_id};
use crate::tokens::{TokenLife, Trouble, client_secret_entry, refresh_entry};
use crate::{AppError, Inner};

/// Stores the sign-in. A keychain that does not answer makes it one for this session only, and
/// says so (AC-161); it is never written anywhere else instead.
pub(crate) async fn keep(inner: &Arc<Inner>, signed_in: SignedIn) -> Result<Account, AppError> {
    let registry = inner.registry.get().await?;
    let known = registry.list_accounts().await?;
    let mut account = describe(&signed_in);
    let same = |other: &&Account| refresh_entry(other) == refresh_entry(&account);
    let before = known.iter().find(same).cloned();
    if let Some(before) = &before {
        account.id.clone_from(&before.id);
        account.signed_in_at = before.signed_in_at;
    }
    let refresh_token = signed_in.tokens.refresh_token;
    let kept = match &refresh_token {
        Some(token) => Some(store(inner, &account, token, signed_in.client_secret.as_ref()).await),
        None => None,
    };
    // Where nothing new was written, what was there before is there still.
    let had_entry = before.as_ref().is_some_and(|before| before.in_keychain);
    account.in_keychain = matches!(kept, Some(Ok(()))) || had_entry;
    let noted = match before {
        Some(_) => {
            registry
                .update_account(&inner.actor, account.clone(), AccountChange::SignedInAgain)
                .await
        }
        None => registry.insert_account(&inner.actor, account.clone()).await,
    };
    if let Err(error) = noted {
        forget_token(inner, &account).await;
        return Err(error.into());
    }
    let life = TokenLife::new(
        signed_in.tokens.access_token,
        signed_in.tokens.expires_in_s,
        now_ms(),
    );
    inner.accounts.sessions.with(&account.id, |session| {
        session.renew(life, signed_in.tokens.clock_offset_ms);
        session.renewable = refresh_token.is_some() || account.in_keychain;
        session.unsaved_refresh_token = None;
        if let Some(Err(error)) = kept {
            session.unsaved_refresh_token = refresh_token;
            session.fail(Trouble::Keychain(error));
        }
    });
    Ok(account)
}

async fn store(
    inner: &Inner,
    account: &Account,
    refresh_token: &SecretText,
    client_secret: Option<&SecretText>,
) -> Result<(), KeychainError> {
    if let Some(secret) = client_secret {
        inner
            .keychain
            .write(
                &client_secret_entry(&account.issuer, &account.client_id),
                secret,
            )
            .await?;
    }
    inner
        .keychain
        .write(&refresh_entry(account), refresh_token)
        .await
}

/// No account, no entry: an orphan in the keychain would never be found again.
async fn forget_token(inner: &Inner, account: &Account) {
    if account.in_keychain
        && let Err(error) = inner.keychain.delete(&refresh_entry(account)).await
    {
        tracing::error!(
            code = error.code(),
            "a refresh token was left behind in the keychain"
        );
    }
}

fn describe(signed_in: &SignedIn) -> Account {
    let asked = &signed_in.asked_scopes;
    let granted = signed_in
        .tokens
        .scopes
        .clone()
        .unwrap_or_else(|| asked.clone());
    let missing_scopes = asked
        .iter()
        .filter(|scope| !granted.contains(scope))
        .cloned()
        .collect();
    let now = now_ms();
    Account {
        id: new_id(),
        provider_id: signed_in.provider.preset.id.to_owned(),
        issuer: signed_in.provider.issuer.to_string(),
        subject: signed_in.profile.subject.clone(),
        client_id: signed_in.client_id.clone(),
        display_name: signed_in.profile.display_name.clone(),
        email: signed_in.profile.email.clone(),
        email_verified: signed_in.profile.email_verified,
        scopes: granted,
        missing_scopes,
        in_keychain: false,
        identity_verified: signed_in.identity_verified,
        signed_in_at: now,
        last_refreshed_at: None,
    }
}
