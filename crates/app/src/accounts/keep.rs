//! Keeping a sign-in that passed every check: the refresh token goes to the keychain, the account
//! to the registry, the access token to memory, in that order.

use std::sync::Arc;

use keywright_domain::SecretText;
use keywright_domain::accounts::{Account, AccountChange};

use super::sign_out::{REVOCATION_LIMIT, revoke};
use crate::clock::now_ms;
use crate::secret_store::KeychainError;
use crate::sign_in::{SignedIn, new_id};
use crate::tokens::{RefreshLock, Session, TokenLife, Trouble, client_secret_entry, refresh_entry};
use crate::{AppError, Inner};

/// Stores the sign-in. A keychain that does not answer makes it one for this session only, and
/// says so (AC-161); it is never written anywhere else instead.
pub(crate) async fn keep(inner: &Arc<Inner>, signed_in: SignedIn) -> Result<Account, AppError> {
    let registry = inner.registry.get().await?;
    let mut account = describe(&signed_in);
    let entry = refresh_entry(&account);
    let known = async || -> Result<Option<Account>, AppError> {
        let all = registry.list_accounts().await?;
        Ok(all.into_iter().find(|other| refresh_entry(other) == entry))
    };
    // A refresh under way, here or in another process, would put its own token over this one: the same
    // gate and the same lock, in the same order.
    let gate = known().await?.map(|before| {
        let gate = |session: &mut Session| Arc::clone(&session.gate);
        inner.accounts.sessions.with(&before.id, gate)
    });
    let _turn = match &gate {
        Some(gate) => Some(gate.lock().await),
        None => None,
    };
    let _lock = RefreshLock::acquire(&inner.home.locks_folder(), &entry).await?;
    // Signed out, or signed in elsewhere, meanwhile.
    let before = known().await?;
    if let Some(before) = &before {
        account.id.clone_from(&before.id);
        account.signed_in_at = before.signed_in_at;
    }
    let refresh_token = signed_in.tokens.refresh_token;
    let old = match &before {
        Some(before) if refresh_token.is_some() => Old::read(inner, before).await,
        _ => Old::default(),
    };
    let client_secret = signed_in.client_secret.as_ref();
    let kept = match &refresh_token {
        Some(token) => Some(store(inner, &account, token, client_secret).await),
        None => {
            // GitHub gives no refresh token; the next sign-in there needs the client secret all the same.
            if let Err(error) = store_client_secret(inner, &account, client_secret).await {
                tracing::warn!(code = error.code(), "a client secret is not kept");
            }
            None
        }
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
    let replaced = old.replaced(refresh_token.as_ref(), matches!(kept, Some(Ok(()))));
    inner.accounts.sessions.with(&account.id, |session| {
        session.rounds += 1;
        session.renew(life, signed_in.tokens.clock_offset_ms);
        session.renewable = refresh_token.is_some() || account.in_keychain;
        session.unsaved_refresh_token = None;
        if let Some(Err(error)) = kept {
            session.unsaved_refresh_token = refresh_token;
            session.fail(Trouble::Keychain(error));
        }
    });
    inner.remotes.signed_in(&account);
    if signed_in.provider.preset.ends_one_sign_in && !replaced.is_empty() {
        revoke_behind(inner, &account, replaced);
    }
    Ok(account)
}

/// The refresh tokens of the sign-in before.
#[derive(Default)]
struct Old {
    stored: Option<SecretText>,
    unsaved: Option<SecretText>,
}

impl Old {
    async fn read(inner: &Inner, account: &Account) -> Self {
        let unsaved = |session: &mut Session| session.unsaved_refresh_token.clone();
        let stored = match account.in_keychain {
            true => inner.keychain.read(&refresh_entry(account)).await,
            false => Ok(None),
        };
        Self {
            stored: stored.unwrap_or_else(|error| {
                tracing::warn!(code = error.code(), "an old refresh token cannot be read");
                None
            }),
            unsaved: inner.accounts.sessions.with(&account.id, unsaved),
        }
    }

    /// Those that nobody has any more, now that there is a new one; the stored one only where the new
    /// one was written over it.
    fn replaced(self, new: Option<&SecretText>, written: bool) -> Vec<SecretText> {
        let Some(new) = new else { return Vec::new() };
        let stored = self.stored.filter(|_| written);
        let both = [self.unsaved, stored].into_iter().flatten();
        both.filter(|old| !old.matches(new.expose())).collect()
    }
}

/// Ends the sign-in before at its issuer (RFC 7009). Nobody waits for it, and nothing comes of it if it
/// fails: the new sign-in is good, and the old token ends by itself.
fn revoke_behind(inner: &Arc<Inner>, account: &Account, tokens: Vec<SecretText>) {
    let (inner, account) = (Arc::clone(inner), account.clone());
    tokio::spawn(async move {
        let tokens: Vec<_> = tokens
            .into_iter()
            .map(|token| (token, "refresh_token"))
            .collect();
        let revoked = revoke(&inner, &account, &tokens);
        match tokio::time::timeout(REVOCATION_LIMIT, revoked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(code = error.code(), "an old sign-in was not revoked");
            }
            Err(_elapsed) => tracing::warn!("an old sign-in was not revoked in time"),
        }
    });
}

async fn store(
    inner: &Inner,
    account: &Account,
    refresh_token: &SecretText,
    client_secret: Option<&SecretText>,
) -> Result<(), KeychainError> {
    store_client_secret(inner, account, client_secret).await?;
    inner
        .keychain
        .write(&refresh_entry(account), refresh_token)
        .await
}

async fn store_client_secret(
    inner: &Inner,
    account: &Account,
    client_secret: Option<&SecretText>,
) -> Result<(), KeychainError> {
    let Some(secret) = client_secret else {
        return Ok(());
    };
    let entry = client_secret_entry(&account.issuer, &account.client_id);
    inner.keychain.write(&entry, secret).await
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
