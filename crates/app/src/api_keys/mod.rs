//! API keys of this device's registry: the use cases of the window.

mod requests;
mod reveal;
mod rotation;
mod verify;
mod views;

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{ApiKey, DAY_MS};
use keywright_domain::scopes::Scope;
use keywright_protocol::api_keys::{
    ApiKeyCountsView, ApiKeyDetailView, ApiKeyListRequest, ApiKeyPageView, ApiKeyView,
    DisableApiKeyRequest, IssueApiKeyRequest, IssuedApiKeyView, RevokeApiKeyRequest, ScopeView,
};
use keywright_registry::{Issued, RegistryError};

pub use verify::UseCounts;

pub(crate) use reveal::{Origin, Reveals};
pub(crate) use views::{key as key_view, summary as summary_view};

use crate::clock::now_ms;
use crate::remote::{AnyRegistry, Known, is_offline};
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
        let registry = self.keys().await?;
        let mut query = views::query(request);
        let Known {
            value: mut page,
            as_of,
        } = registry.list_api_keys(&query).await?;
        let total = page.total;
        // A search that has found nothing so far goes on: a face shows keys, or that there are none.
        while page.items.is_empty() && page.next_cursor.is_some() {
            query.cursor = page.next_cursor;
            page = registry.list_api_keys(&query).await?.value;
        }
        let owners = page.items.iter().map(|row| &row.owner);
        let may_change = registry.may_change(owners).await;
        let mut view = views::page(page, total, as_of);
        for (key, may_change) in view.items.iter_mut().zip(may_change) {
            key.revocation_queued_at = registry.queued_at(&key.id);
            key.may_change = may_change;
        }
        Ok(view)
    }

    /// Counts by state.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn count_api_keys(&self) -> Result<ApiKeyCountsView, AppError> {
        let counts = self.keys().await?.count_api_keys().await?;
        Ok(views::counts(counts.value))
    }

    /// One key with its secrets and history.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn find_api_key(&self, id: String) -> Result<ApiKeyDetailView, AppError> {
        let registry = self.keys().await?;
        let Known {
            value: (key, events),
            as_of,
        } = registry.find_api_key(&id).await?;
        let rotations = match registry.list_rotations(&id).await {
            // Of an old page some part may never have been seen.
            Err(error) if as_of.is_some() && is_offline(&error) => Vec::new(),
            rotations => rotations?,
        };
        let now = now_ms();
        let rotation = rotation::view(&key, &rotations, now);
        let may_change = registry.may_change(std::iter::once(&key.owner)).await;
        let mut view = views::detail(&key, rotation, events, now);
        view.key.may_change = may_change == [true];
        view.key.revocation_queued_at = registry.queued_at(&id);
        view.stale_since = as_of;
        Ok(view)
    }

    /// Issues a key; its secret waits in memory until it is shown, copied or discarded.
    ///
    /// # Errors
    /// [`AppError::Registry`], [`AppError::Keychain`].
    pub async fn issue_api_key(
        &self,
        request: IssueApiKeyRequest,
    ) -> Result<IssuedApiKeyView, AppError> {
        let _running = self.inner.work.begin();
        let registry = self.keys().await?;
        let allow_never_expires = self.inner.settings.current().allow_never_expires;
        let wish = requests::new_api_key(request, allow_never_expires)?;
        let issued = registry.issue_api_key(self, &wish).await?;
        Ok(self.keep_for_reveal(&issued, registry.account_id(), None))
    }

    /// Revokes a key, effective on the next verification. Of a key that was moved to a server it ends the
    /// copy of this device alone.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn revoke_api_key(
        &self,
        request: RevokeApiKeyRequest,
    ) -> Result<ApiKeyView, AppError> {
        let (id, reason) = (&request.id, &request.reason);
        match self.keys().await? {
            AnyRegistry::Device(registry) => {
                let actor = &self.inner.actor;
                let (found, _) = registry.find_api_key(id).await?;
                let key = if found.promoted_to.is_some() {
                    registry.end_promoted_copy(actor, id, reason).await?
                } else {
                    registry.revoke_api_key(actor, id, reason).await?
                };
                Ok(views::key(&key, now_ms()))
            }
            AnyRegistry::Server(registry) => self.revoke_remotely(&registry, id, reason).await,
        }
    }

    /// Suspends a key until it is enabled again, effective on the next verification.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn disable_api_key(
        &self,
        request: DisableApiKeyRequest,
    ) -> Result<ApiKeyView, AppError> {
        let registry = self.keys().await?;
        let key = registry
            .disable_api_key(self, &request.id, &request.reason)
            .await?;
        Ok(changed(&registry, &key))
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn enable_api_key(&self, id: String) -> Result<ApiKeyView, AppError> {
        let registry = self.keys().await?;
        let key = registry.enable_api_key(self, &id).await?;
        Ok(changed(&registry, &key))
    }

    /// The scopes this registry knows.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn list_scopes(&self) -> Result<Vec<ScopeView>, AppError> {
        let scopes = self.keys().await?.list_scopes().await?;
        Ok(scopes.into_iter().map(views::scope).collect())
    }

    /// Adds a scope, or changes its description.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn define_scope(&self, scope: ScopeView) -> Result<ScopeView, AppError> {
        let registry = self.keys().await?;
        let known = KnownScope {
            scope: Scope::new(scope.name.trim()).map_err(RegistryError::from)?,
            description: scope.description.trim().chars().take(200).collect(),
            low_risk: scope.low_risk,
        };
        Ok(views::scope(registry.define_scope(self, known).await?))
    }

    fn keep_for_reveal(
        &self,
        issued: &Issued,
        account_id: Option<String>,
        rotation_id: Option<String>,
    ) -> IssuedApiKeyView {
        let now = now_ms();
        let text = issued.plain.text().clone();
        let origin = Origin {
            key_id: issued.key.id.clone(),
            account_id,
            rotation_id,
        };
        let key = views::key(&issued.key, now);
        let waiting = self.inner.reveals.keep(text, origin, key, now);
        self.forget_reveal_later(waiting.reveal_id.clone());
        waiting
    }
}

/// A key that was changed; a revocation that waits for its server still does.
fn changed(registry: &AnyRegistry, key: &ApiKey) -> ApiKeyView {
    ApiKeyView {
        revocation_queued_at: registry.queued_at(&key.id),
        ..views::key(key, now_ms())
    }
}

fn days(count: u32) -> i64 {
    i64::from(count).saturating_mul(DAY_MS)
}

#[cfg(test)]
mod tests {
    use keywright_protocol::api_keys::{ApiKeyStateFilter, IssueSettingsRequest};

    use super::*;
    use crate::remote::tests::app as device_app;

    /// Issues a key; returns its id and its whole text.
    pub(super) async fn issued(app: &App, one_time: bool) -> anyhow::Result<(String, String)> {
        app.define_scope(ScopeView {
            name: "a:b".to_owned(),
            description: String::new(),
            low_risk: false,
        })
        .await?;
        let settings = IssueSettingsRequest {
            one_time,
            ..IssueSettingsRequest::default()
        };
        let issued = app
            .issue_api_key(IssueApiKeyRequest {
                name: "a".to_owned(),
                prefix: "sk_live".to_owned(),
                scopes: vec!["a:b".to_owned()],
                expires_in_days: Some(9),
                settings: Some(settings),
            })
            .await?;
        Ok((issued.key.id, app.reveal_secret(issued.reveal_id)?.secret))
    }

    #[tokio::test]
    async fn keys_that_are_disabled_are_found_and_counted() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let app = device_app(folder.path())?;
        let (id, _) = issued(&app, false).await?;
        issued(&app, false).await?;
        app.disable_api_key(DisableApiKeyRequest {
            id: id.clone(),
            reason: String::new(),
        })
        .await?;
        let request = ApiKeyListRequest {
            state: ApiKeyStateFilter::Disabled,
            limit: 10,
            ..ApiKeyListRequest::default()
        };
        let found = app.list_api_keys(request).await?.items;
        let found: Vec<_> = found.iter().map(|key| key.id.as_str()).collect();
        assert_eq!(found, [id.as_str()]);
        let counts = app.count_api_keys().await?;
        assert_eq!((counts.disabled, counts.all), (1, 2));
        app.close().await;
        Ok(())
    }
}
