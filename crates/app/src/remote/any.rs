//! The registry that the window works with, wherever it is: one place where every use case of keys
//! decides between this device and a server.

use std::sync::Arc;

use keywright_domain::SecretText;
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{ApiKey, NewApiKey, PlainKey, Refusal, Rotation, RotationRequest};
use keywright_registry::people::Page;
use keywright_registry::{
    ApiKeyCounts, ApiKeyPage, ApiKeyQuery, AuditEvent, BoardNotice, BoardQuery, BoardReader,
    IdText, Issued, LocalRegistry, RegistryError, RotationStep, Verification, VerifyRequest,
};

use super::{Credentials, Known, RemoteRegistry};
use crate::clock::now_ms;
use crate::sign_in::{ReauthReason, SignInError};
use crate::tokens::refresh_for_a_call;
use crate::{App, AppError, Inner};

/// The access token of an account of this device.
#[derive(Clone)]
pub(crate) struct AccountToken {
    pub(super) inner: Arc<Inner>,
    pub(super) account_id: String,
}

impl AccountToken {
    /// Whether there is one that can be used now: nobody has to be asked for it.
    pub(crate) fn is_held(&self) -> bool {
        self.held().is_some()
    }

    fn held(&self) -> Option<SecretText> {
        let sessions = &self.inner.accounts.sessions;
        sessions.with(&self.account_id, |session| {
            let life = session.life.as_ref();
            life.filter(|life| !life.is_over(now_ms()))
                .map(|life| life.token.secret().clone())
        })
    }
}

impl Credentials for AccountToken {
    async fn token(&self, spent: Option<&SecretText>) -> Result<SecretText, AppError> {
        let is_new = |token: &SecretText| spent.is_none_or(|spent| !token.matches(spent.expose()));
        if let Some(token) = self.held().filter(is_new) {
            return Ok(token);
        }
        refresh_for_a_call(&self.inner, &self.account_id).await?;
        self.held()
            .ok_or_else(|| SignInError::ReauthRequired(ReauthReason::SessionEnded).into())
    }

    fn is_back(&self) {
        self.inner.events.registry_changed();
    }
}

/// A registry of keys.
#[derive(Clone)]
pub(crate) enum AnyRegistry {
    /// The file of this device.
    Device(LocalRegistry),
    /// One on a server.
    Server(Box<RemoteRegistry<AccountToken>>),
}

impl AnyRegistry {
    /// The account whose server it is; none for this device.
    pub(crate) fn account_id(&self) -> Option<String> {
        match self {
            Self::Device(_) => None,
            Self::Server(registry) => Some(registry.credentials.account_id.clone()),
        }
    }

    /// When the revocation of a key was asked for that waits for its server.
    pub(crate) fn queued_at(&self, key_id: &str) -> Option<i64> {
        match self {
            Self::Device(_) => None,
            Self::Server(registry) => registry.kept().queue.queued_at(key_id),
        }
    }

    pub(crate) async fn list_api_keys(
        &self,
        query: &ApiKeyQuery,
    ) -> Result<Known<ApiKeyPage>, AppError> {
        match self {
            Self::Device(registry) => Ok(Known::fresh(registry.list_api_keys(query).await?)),
            Self::Server(registry) => registry.list_api_keys(query).await,
        }
    }

    pub(crate) async fn count_api_keys(&self) -> Result<Known<ApiKeyCounts>, AppError> {
        match self {
            Self::Device(registry) => Ok(Known::fresh(registry.count_api_keys().await?)),
            Self::Server(registry) => registry.count_api_keys().await,
        }
    }

    /// A key; with its latest events, where the registry tells them.
    pub(crate) async fn find_api_key(
        &self,
        id: &str,
    ) -> Result<Known<(ApiKey, Vec<AuditEvent>)>, AppError> {
        match self {
            Self::Device(registry) => Ok(Known::fresh(registry.find_api_key(id).await?)),
            Self::Server(registry) => {
                let key = registry.find_api_key(id).await?;
                // Who may see a key need not be allowed to see its history.
                let events = registry.list_events(id).await;
                let events = events.map(|events| events.value).unwrap_or_default();
                Ok(key.with(|key| (key, events)))
            }
        }
    }

    pub(crate) async fn list_rotations(&self, key_id: &str) -> Result<Vec<Rotation>, AppError> {
        match self {
            Self::Device(registry) => Ok(registry.list_rotations(key_id).await?),
            Self::Server(registry) => Ok(registry.list_rotations(key_id).await?.value),
        }
    }

    /// One page of notices, and how many in all are unread.
    pub(crate) async fn list_notices(
        &self,
        query: &BoardQuery,
    ) -> Result<Known<(Page<BoardNotice>, i64)>, AppError> {
        match self {
            Self::Device(registry) => {
                let reader = BoardReader::of_this_device();
                let page = registry.list_board(&reader, query).await?;
                let unread = registry.count_unread_notices(&reader).await?;
                Ok(Known::fresh((page, unread)))
            }
            Self::Server(registry) => registry.list_notices(query).await,
        }
    }

    /// Marks one notice as read. Returns how many are left.
    pub(crate) async fn mark_notice_read(&self, sequence: i64) -> Result<i64, AppError> {
        match self {
            Self::Device(registry) => {
                let reader = BoardReader::of_this_device();
                // Where newer news took its place, those are still unread.
                registry.mark_notice_read(&reader, sequence).await?;
                Ok(registry.count_unread_notices(&reader).await?)
            }
            Self::Server(registry) => registry.mark_notice_read(sequence).await,
        }
    }

    /// Marks all notices up to one as read. Returns how many are left.
    pub(crate) async fn mark_notices_read_until(&self, sequence: i64) -> Result<i64, AppError> {
        match self {
            Self::Device(registry) => {
                let reader = BoardReader::of_this_device();
                registry.mark_notices_read_until(&reader, sequence).await?;
                Ok(registry.count_unread_notices(&reader).await?)
            }
            Self::Server(registry) => registry.mark_notices_read_until(sequence).await,
        }
    }

    pub(crate) async fn list_scopes(&self) -> Result<Vec<KnownScope>, AppError> {
        match self {
            Self::Device(registry) => Ok(registry.list_scopes().await?),
            Self::Server(registry) => Ok(registry.list_scopes().await?.value),
        }
    }

    pub(crate) async fn issue_api_key(
        &self,
        app: &App,
        wish: &NewApiKey,
    ) -> Result<Issued, AppError> {
        match self {
            Self::Device(registry) => {
                // What cannot be issued is told before the keychain is asked for anything.
                wish.check(&registry.list_scopes().await?, now_ms())
                    .map_err(RegistryError::from)?;
                let peppers = app.peppers_or_new(registry).await?;
                let actor = &app.inner.actor;
                Ok(registry.issue_api_key(actor, wish, &peppers).await?)
            }
            Self::Server(registry) => registry.issue_api_key(wish).await,
        }
    }

    pub(crate) async fn rotate_api_key(
        &self,
        app: &App,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
    ) -> Result<Issued, AppError> {
        match self {
            Self::Device(registry) => {
                let peppers = app.peppers(registry).await?;
                let peppers = peppers.ok_or(RegistryError::KeyNotFound)?;
                let actor = &app.inner.actor;
                Ok(registry
                    .rotate_api_key(actor, id, request, rotation_id, &peppers)
                    .await?)
            }
            Self::Server(registry) => registry.rotate_api_key(id, request, rotation_id).await,
        }
    }

    pub(crate) async fn step_rotation(
        &self,
        app: &App,
        key_id: &str,
        step: RotationStep,
    ) -> Result<ApiKey, AppError> {
        let (key, _) = match self {
            Self::Device(registry) => {
                registry
                    .step_rotation(&app.inner.actor, key_id, step)
                    .await?
            }
            Self::Server(registry) => registry.step_rotation(key_id, step).await?,
        };
        Ok(key)
    }

    pub(crate) async fn disable_api_key(
        &self,
        app: &App,
        id: &str,
        reason: &str,
    ) -> Result<ApiKey, AppError> {
        match self {
            Self::Device(registry) => Ok(registry
                .disable_api_key(&app.inner.actor, id, reason)
                .await?),
            Self::Server(registry) => registry.disable_api_key(id, reason).await,
        }
    }

    pub(crate) async fn enable_api_key(&self, app: &App, id: &str) -> Result<ApiKey, AppError> {
        match self {
            Self::Device(registry) => Ok(registry.enable_api_key(&app.inner.actor, id).await?),
            Self::Server(registry) => registry.enable_api_key(id).await,
        }
    }

    pub(crate) async fn define_scope(
        &self,
        app: &App,
        known: KnownScope,
    ) -> Result<KnownScope, AppError> {
        match self {
            Self::Device(registry) => Ok(registry.define_scope(&app.inner.actor, known).await?),
            Self::Server(registry) => registry.define_scope(&known).await,
        }
    }

    pub(crate) async fn verify_api_key(
        &self,
        app: &App,
        request: &VerifyRequest<'_>,
    ) -> Result<Verification, AppError> {
        let registry = match self {
            Self::Device(registry) => registry,
            Self::Server(registry) => return registry.verify_api_key(request).await,
        };
        let presented = request.presented;
        // What is not a key of ours may be one that was imported: then the keychain is asked too.
        let needs_peppers = PlainKey::parse(presented).is_ok() || registry.has_foreign_keys();
        let peppers = if needs_peppers {
            app.peppers(registry).await?
        } else {
            None
        };
        match peppers {
            Some(peppers) => Ok(registry.verify_api_key(request, &peppers).await?),
            None => Ok(without_peppers(presented)),
        }
    }
}

/// A registry that never issued a key accepts none, and need not ask the keychain for that.
fn without_peppers(presented: &str) -> Verification {
    match PlainKey::parse(presented) {
        Ok(plain) => Verification::refused(IdText::read(plain.kid().as_str()), Refusal::NotFound),
        Err(error) => Verification::refused(None, Refusal::Malformed(error)),
    }
}
