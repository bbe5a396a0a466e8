//! How an account stands, for a face: the registry's record joined with what memory knows.

use keywright_domain::accounts::Account;
use keywright_domain::id_token::SKEW_WORTH_NAMING_MS;
use keywright_protocol::ErrorView;
use keywright_protocol::accounts::{AccountStatus, AccountView};

use crate::Inner;
use crate::clock::now_ms;
use crate::sign_in::{ReauthReason, SignInError};
use crate::tokens::{Trouble, provider_of};

/// The account as a face shows it. Nothing secret is in it.
pub(crate) fn view(inner: &Inner, account: &Account) -> AccountView {
    let now = now_ms();
    let (life, trouble, clock_offset_ms, renewable) =
        inner.accounts.sessions.with(&account.id, |session| {
            let life = session
                .life
                .as_ref()
                .map(|life| (life.view(), life.is_over(now)));
            (
                life,
                session.trouble.clone(),
                session.clock_offset_ms,
                session.renewable,
            )
        });
    let alive = life.as_ref().is_some_and(|(_, over)| !over);
    let (status, status_reason) = status(trouble, account.in_keychain, alive, renewable);
    AccountView {
        id: account.id.clone(),
        display_name: account.display_name.clone(),
        email: account.email.clone(),
        email_verified: account.email_verified,
        provider_id: account.provider_id.clone(),
        provider_name: provider_of(account)
            .map_or_else(|_| account.issuer.clone(), |provider| provider.name()),
        issuer: account.issuer.clone(),
        subject: account.subject.clone(),
        client_id: account.client_id.clone(),
        scopes: account.scopes.clone(),
        missing_scopes: account.missing_scopes.clone(),
        status,
        status_reason,
        access_token: life.map(|(view, _)| view),
        in_keychain: account.in_keychain,
        identity_verified: account.identity_verified,
        signed_in_at: account.signed_in_at,
        last_refreshed_at: account.last_refreshed_at,
        clock_offset_ms: clock_offset_ms.filter(|offset| offset.abs() >= SKEW_WORTH_NAMING_MS),
    }
}

fn status(
    trouble: Option<Trouble>,
    in_keychain: bool,
    alive: bool,
    renewable: bool,
) -> (AccountStatus, Option<ErrorView>) {
    let needed = |reason| {
        let error = SignInError::ReauthRequired(reason);
        (AccountStatus::SignInNeeded, Some(error.view()))
    };
    match trouble {
        Some(Trouble::Offline(error)) => (AccountStatus::Offline, Some(error.view())),
        Some(Trouble::Keychain(error)) => (AccountStatus::KeychainUnavailable, Some(error.view())),
        Some(Trouble::SignInNeeded(reason)) => needed(reason),
        None if in_keychain || renewable => (AccountStatus::SignedIn, None),
        None if alive => (AccountStatus::SessionOnly, None),
        None => needed(ReauthReason::SessionEnded),
    }
}
