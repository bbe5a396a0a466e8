//! API keys of this device's registry: the use cases of the window.

mod reveal;
mod verify;
mod views;

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, OverlapClock, RotationRequest};
use keywright_domain::scopes::Scope;
use keywright_protocol::api_keys::{
    ApiKeyCountsView, ApiKeyDetailView, ApiKeyListRequest, ApiKeyPageView, ApiKeyView,
    IssueApiKeyRequest, IssuedApiKeyView, RevokeApiKeyRequest, RotateApiKeyRequest, ScopeView,
};
use keywright_registry::{Issued, RegistryError};

pub(crate) use reveal::Reveals;

use crate::clock::now_ms;
use crate::{App, AppError};

impl App {
    /// One page of keys.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn list_api_keys(
        &self,
        request: ApiKeyListRequest,
    ) -> Result<ApiKeyPageView, AppError> {
        let registry = self.inner.registry.get().await?;
        let mut query = views::query(request);
        let mut page = registry.list_api_keys(&query).await?;
        let total = page.total;
        // A search that has found nothing so far goes on: a face shows keys, or that there are none.
        while page.items.is_empty() && page.next_cursor.is_some() {
            query.cursor = page.next_cursor;
            page = registry.list_api_keys(&query).await?;
        }
        Ok(views::page(page, total))
    }

    /// Counts by state.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn count_api_keys(&self) -> Result<ApiKeyCountsView, AppError> {
        Ok(views::counts(
            self.inner.registry.get().await?.count_api_keys().await?,
        ))
    }

    /// One key with its secrets and history.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn find_api_key(&self, id: String) -> Result<ApiKeyDetailView, AppError> {
        let (key, events) = self.inner.registry.get().await?.find_api_key(&id).await?;
        Ok(views::detail(&key, events, now_ms()))
    }

    /// Issues a key; its secret waits in memory until it is shown, copied or discarded.
    ///
    /// # Errors
    /// [`AppError::Registry`], [`AppError::Keychain`].
    pub async fn issue_api_key(
        &self,
        request: IssueApiKeyRequest,
    ) -> Result<IssuedApiKeyView, AppError> {
        let registry = self.inner.registry.get().await?;
        let wish = NewApiKey {
            name: request.name,
            prefix: request.prefix,
            scopes: request.scopes,
            lifetime_ms: request.expires_in_days.map(days),
            allow_never_expires: self.inner.settings.current().allow_never_expires,
            ..NewApiKey::default()
        };
        // What cannot be issued is told before the keychain is asked for anything.
        wish.check(&registry.list_scopes().await?, now_ms())
            .map_err(RegistryError::from)?;
        let peppers = self.peppers_or_new(&registry).await?;
        let issued = registry
            .issue_api_key(&self.inner.actor, &wish, &peppers)
            .await?;
        Ok(self.keep_for_reveal(&issued, None))
    }

    /// Rotates a key. A retry with the same idempotency key gives the first answer while its
    /// secret is still waiting, and never rotates twice.
    ///
    /// # Errors
    /// [`AppError::Registry`], [`AppError::Keychain`].
    pub async fn rotate_api_key(
        &self,
        request: RotateApiKeyRequest,
    ) -> Result<IssuedApiKeyView, AppError> {
        let registry = self.inner.registry.get().await?;
        let peppers = self
            .peppers(&registry)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        let wish = RotationRequest {
            overlap_ms: request.overlap_ms,
            clock: OverlapClock::FromIssue,
            lifetime_ms: request.expires_in_days.map(days),
            replaces: None,
            compromised: None,
        };
        let rotated = registry
            .rotate_api_key(
                &self.inner.actor,
                &request.id,
                &wish,
                &request.idempotency_key,
                &peppers,
            )
            .await;
        match rotated {
            Ok(issued) => Ok(self.keep_for_reveal(&issued, Some(request.idempotency_key))),
            Err(error @ RegistryError::RotationAlreadyDone { .. }) => {
                let Some((reveal_id, reveal_expires_at)) = self
                    .inner
                    .reveals
                    .find_by_idempotency_key(&request.idempotency_key)
                else {
                    return Err(error.into());
                };
                let (key, _) = registry.find_api_key(&request.id).await?;
                Ok(IssuedApiKeyView {
                    key: views::key(&key, now_ms()),
                    reveal_id,
                    reveal_expires_at,
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Revokes a key, effective on the next verification.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn revoke_api_key(
        &self,
        request: RevokeApiKeyRequest,
    ) -> Result<ApiKeyView, AppError> {
        let registry = self.inner.registry.get().await?;
        let key = registry
            .revoke_api_key(&self.inner.actor, &request.id, &request.reason)
            .await?;
        Ok(views::key(&key, now_ms()))
    }

    /// The scopes this registry knows.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn list_scopes(&self) -> Result<Vec<ScopeView>, AppError> {
        let scopes = self.inner.registry.get().await?.list_scopes().await?;
        Ok(scopes.into_iter().map(views::scope).collect())
    }

    /// Adds a scope, or changes its description.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn define_scope(&self, scope: ScopeView) -> Result<ScopeView, AppError> {
        let registry = self.inner.registry.get().await?;
        let known = KnownScope {
            scope: Scope::new(scope.name.trim()).map_err(RegistryError::from)?,
            description: scope.description.trim().chars().take(200).collect(),
            low_risk: scope.low_risk,
        };
        Ok(views::scope(
            registry.define_scope(&self.inner.actor, known).await?,
        ))
    }

    fn keep_for_reveal(
        &self,
        issued: &Issued,
        idempotency_key: Option<String>,
    ) -> IssuedApiKeyView {
        let now = now_ms();
        let text = issued.plain.text().clone();
        let (reveal_id, reveal_expires_at) = self.inner.reveals.keep(text, idempotency_key, now);
        self.forget_reveal_later(reveal_id.clone());
        IssuedApiKeyView {
            key: views::key(&issued.key, now),
            reveal_id,
            reveal_expires_at,
        }
    }
}

fn days(count: u32) -> i64 {
    i64::from(count).saturating_mul(DAY_MS)
}
