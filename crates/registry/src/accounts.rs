//! Accounts of this device. Their tokens are not here: refresh tokens live in the keychain.

use keywright_domain::accounts::{Account, AccountChange};
use keywright_domain::audit::{Actor, AuditAction};

use crate::store::{self, audit::NewEvent};
use crate::{LocalRegistry, RegistryError};

impl LocalRegistry {
    /// All accounts, in order of first sign-in.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be read.
    pub async fn list_accounts(&self) -> Result<Vec<Account>, RegistryError> {
        store::accounts::list(&mut *self.shared.pool.acquire().await?).await
    }

    /// One account.
    ///
    /// # Errors
    /// [`RegistryError::AccountNotFound`].
    pub async fn find_account(&self, id: &str) -> Result<Account, RegistryError> {
        store::accounts::find(&mut *self.shared.pool.acquire().await?, id)
            .await?
            .ok_or(RegistryError::AccountNotFound)
    }

    /// Remembers an account that signed in.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be written, or the identity is known already.
    pub async fn insert_account(
        &self,
        actor: &Actor,
        account: Account,
    ) -> Result<(), RegistryError> {
        self.write((actor.clone(), account), |unit, (actor, account)| {
            Box::pin(async move {
                store::accounts::insert(unit.write(), account).await?;
                let event = about(
                    AuditAction::AccountSignedIn,
                    account,
                    "signed in",
                    Vec::new(),
                );
                unit.audit(actor, event);
                Ok(())
            })
        })
        .await
    }

    /// Writes an account again.
    ///
    /// # Errors
    /// [`RegistryError::AccountNotFound`].
    pub async fn update_account(
        &self,
        actor: &Actor,
        account: Account,
        change: AccountChange,
    ) -> Result<(), RegistryError> {
        let (action, verb) = match change {
            AccountChange::SignedInAgain => (AuditAction::AccountSignedInAgain, "signed in again"),
            AccountChange::Refreshed => (AuditAction::AccountRefreshed, "got a fresh access token"),
            AccountChange::ReauthRequired => {
                (AuditAction::AccountReauthRequired, "must sign in again")
            }
        };
        self.write((actor.clone(), account), move |unit, (actor, account)| {
            Box::pin(async move {
                if !store::accounts::update(unit.write(), account).await? {
                    return Err(RegistryError::AccountNotFound);
                }
                unit.audit(actor, about(action, account, verb, Vec::new()));
                Ok(())
            })
        })
        .await
    }

    /// Forgets an account that signed out.
    ///
    /// # Errors
    /// [`RegistryError::AccountNotFound`].
    pub async fn delete_account(
        &self,
        actor: &Actor,
        id: &str,
        details: Vec<(&'static str, String)>,
    ) -> Result<(), RegistryError> {
        self.write(
            (actor.clone(), id.to_owned(), details),
            |unit, (actor, id, details)| {
                Box::pin(async move {
                    let account = store::accounts::find(unit.read(), id)
                        .await?
                        .ok_or(RegistryError::AccountNotFound)?;
                    store::accounts::delete(unit.write(), id).await?;
                    let event = about(
                        AuditAction::AccountSignedOut,
                        &account,
                        "signed out",
                        details.clone(),
                    );
                    unit.audit(actor, event);
                    Ok(())
                })
            },
        )
        .await
    }
}

fn about(
    action: AuditAction,
    account: &Account,
    verb: &str,
    mut details: Vec<(&'static str, String)>,
) -> NewEvent {
    details.push(("issuer", account.issuer.clone()));
    details.push(("subject", account.subject.clone()));
    NewEvent {
        action,
        target_kind: "account",
        target_id: account.id.clone(),
        target_name: account.display_name.clone(),
        summary: format!("“{}” {verb}", account.display_name),
        details,
    }
}
