//! API keys: issue, rotate, revoke, find, list. The rules are the domain's; the transaction,
//! the row and the audit event are here.

use keywright_domain::api_keys::{
    ApiKey, KeyDigest, NewApiKey, Pepper, PlainKey, RotationRequest, Secret, SecretState,
};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::random_id;

use crate::audit::AuditEvent;
use crate::store::{self, audit::NewEvent};
use crate::{LocalRegistry, RegistryError};

pub(crate) use crate::listing::Cursor;
pub use crate::listing::{
    ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeySummary, StateFilter,
};

/// A pepper with the id that rows name it by. It lives in the keychain; the caller hands it over.
#[derive(Debug)]
pub struct PepperKey {
    /// The id in the database.
    pub id: String,
    /// The pepper itself.
    pub pepper: Pepper,
}

/// A key and its new secret, in plain text for the one and only time.
#[derive(Debug)]
pub struct Issued {
    /// The record.
    pub key: ApiKey,
    /// The secret.
    pub plain: PlainKey,
}

impl LocalRegistry {
    /// The id of the pepper that new keys are made with; none before the first.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be read.
    pub async fn pepper_id(&self) -> Result<Option<String>, RegistryError> {
        store::api_keys::pepper_id(&mut *self.shared.pool.acquire().await?).await
    }

    /// Writes down which pepper the keychain holds, unless one is written down already.
    /// Returns the id in force: the caller's, or the one that another process was first with.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be written.
    pub async fn adopt_pepper(&self, actor: &Actor, id: &str) -> Result<String, RegistryError> {
        let _writer = self.shared.writer.lock().await;
        let mut transaction = store::begin(&self.shared.pool).await?;
        if let Some(existing) = store::api_keys::pepper_id(&mut transaction).await? {
            return Ok(existing);
        }
        store::api_keys::insert_pepper(&mut transaction, id, self.now()).await?;
        let summary = "A pepper was made and put into the keychain".to_owned();
        let event = NewEvent::about_registry(AuditAction::PepperAdopted, summary);
        store::audit::insert(&mut transaction, actor, self.now(), event).await?;
        transaction.commit().await?;
        Ok(id.to_owned())
    }

    /// Issues a key.
    ///
    /// # Errors
    /// [`RegistryError::Key`] for a broken rule; [`RegistryError`] if the file cannot be written.
    pub async fn issue_api_key(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        pepper: &PepperKey,
    ) -> Result<Issued, RegistryError> {
        let _writer = self.shared.writer.lock().await;
        let mut transaction = store::begin(&self.shared.pool).await?;
        let catalogue = store::scopes::list(&mut transaction).await?;
        let (name, prefix, scopes) = wish.check(&catalogue)?;
        let now = self.now();
        let plain = PlainKey::generate(&prefix, &mut rand::rng());
        let secret = Secret {
            kid: plain.kid().clone(),
            last_four: plain.last_four().to_owned(),
            stored: SecretState::Active,
            created_at: now,
            expires_at: wish.lifetime_ms.map(|lifetime| now + lifetime),
            retires_at: None,
            first_used_at: None,
            last_used_at: None,
            use_count: 0,
        };
        let key = ApiKey {
            id: random_id(&mut rand::rng()),
            name,
            prefix,
            scopes,
            epoch: 1,
            created_at: now,
            revoked_at: None,
            revoked_reason: None,
            secrets: vec![secret.clone()],
        };
        store::api_keys::insert(&mut transaction, &key, now).await?;
        let mac = pepper.pepper.mac(&KeyDigest::of(&plain));
        store::secrets::insert(&mut transaction, &key.id, 0, &secret, &mac, &pepper.id).await?;
        let mut details = secret_details(&secret);
        details.push(("scopes", key.scopes.to_string()));
        let event = about_key(AuditAction::ApiKeyIssued, &key, "issued", details);
        store::audit::insert(&mut transaction, actor, now, event).await?;
        transaction.commit().await?;
        Ok(Issued { key, plain })
    }

    /// Gives a key a new secret; the old one works until the overlap ends.
    ///
    /// # Errors
    /// [`RegistryError::RotationAlreadyDone`] for an idempotency key that was used before: a retry
    /// never rotates twice. [`RegistryError::KeyNotFound`], [`RegistryError::Key`].
    pub async fn rotate_api_key(
        &self,
        actor: &Actor,
        id: &str,
        request: RotationRequest,
        idempotency_key: &str,
        pepper: &PepperKey,
    ) -> Result<Issued, RegistryError> {
        let _writer = self.shared.writer.lock().await;
        let mut transaction = store::begin(&self.shared.pool).await?;
        if let Some(kid) = store::api_keys::find_rotation(&mut transaction, idempotency_key).await?
        {
            return Err(RegistryError::RotationAlreadyDone { kid });
        }
        let mut key = store::api_keys::find(&mut transaction, id)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        let now = self.now();
        let plain = PlainKey::generate(&key.prefix, &mut rand::rng());
        key.rotate(request, plain.kid().clone(), plain.last_four(), now)?;
        let position = key.secrets.len() - 1;
        for old in &key.secrets[..position] {
            store::secrets::update_state(&mut transaction, old).await?;
        }
        let secret = &key.secrets[position];
        let mac = pepper.pepper.mac(&KeyDigest::of(&plain));
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        store::secrets::insert(
            &mut transaction,
            &key.id,
            position,
            secret,
            &mac,
            &pepper.id,
        )
        .await?;
        store::api_keys::update(&mut transaction, &key, now).await?;
        store::api_keys::insert_rotation(&mut transaction, idempotency_key, id, plain.kid(), now)
            .await?;
        let mut details = secret_details(secret);
        details.push(("overlap_ms", request.overlap_ms.to_string()));
        if let Some(until) = key.old_secret_works_until(now) {
            details.push(("old_secret_works_until", until.to_string()));
        }
        let event = about_key(AuditAction::ApiKeyRotated, &key, "rotated", details);
        store::audit::insert(&mut transaction, actor, now, event).await?;
        transaction.commit().await?;
        Ok(Issued { key, plain })
    }

    /// Ends a key; the next verification refuses it. Ending it again changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::Key`].
    pub async fn revoke_api_key(
        &self,
        actor: &Actor,
        id: &str,
        reason: &str,
    ) -> Result<ApiKey, RegistryError> {
        let _writer = self.shared.writer.lock().await;
        let mut transaction = store::begin(&self.shared.pool).await?;
        let mut key = store::api_keys::find(&mut transaction, id)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        let now = self.now();
        if !key.revoke(reason, now)? {
            return Ok(key);
        }
        for secret in &key.secrets {
            store::secrets::update_state(&mut transaction, secret).await?;
        }
        store::api_keys::update(&mut transaction, &key, now).await?;
        let details = vec![("reason", key.revoked_reason.clone().unwrap_or_default())];
        let event = about_key(AuditAction::ApiKeyRevoked, &key, "revoked", details);
        store::audit::insert(&mut transaction, actor, now, event).await?;
        transaction.commit().await?;
        Ok(key)
    }

    /// A key with its secrets and its latest 100 events.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`].
    pub async fn find_api_key(&self, id: &str) -> Result<(ApiKey, Vec<AuditEvent>), RegistryError> {
        // One snapshot for both reads, and what waits in memory shows in the counts.
        self.flush_uses().await.unwrap_or_else(|error| {
            tracing::warn!(code = error.code(), "use counts may be behind");
        });
        let mut transaction = self.shared.pool.begin().await?;
        let key = store::api_keys::find(&mut transaction, id)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        let events = store::audit::list_of_target(&mut transaction, "api_key", id, 100).await?;
        Ok((key, events))
    }

    /// Writes the uses that wait in memory.
    ///
    /// # Errors
    /// [`RegistryError`] if the file cannot be written; the uses wait on.
    pub async fn flush_uses(&self) -> Result<(), RegistryError> {
        let uses = self.shared.uses.take();
        if uses.is_empty() {
            return Ok(());
        }
        let written: Result<(), RegistryError> = async {
            let _writer = self.shared.writer.lock().await;
            let mut transaction = store::begin(&self.shared.pool).await?;
            store::api_keys::add_uses(&mut transaction, &uses).await?;
            Ok(transaction.commit().await?)
        }
        .await;
        if written.is_err() {
            self.shared.uses.give_back(uses);
        }
        written
    }
}

fn secret_details(secret: &Secret) -> Vec<(&'static str, String)> {
    let expires = secret
        .expires_at
        .map_or_else(|| "never".to_owned(), |at| at.to_string());
    vec![("kid", secret.kid.to_string()), ("expires_at", expires)]
}

pub(crate) fn about_key(
    action: AuditAction,
    key: &ApiKey,
    verb: &str,
    details: Vec<(&'static str, String)>,
) -> NewEvent {
    NewEvent {
        action,
        target_kind: "api_key",
        target_id: key.id.clone(),
        target_name: key.name.clone(),
        summary: format!("API key “{}” was {verb}", key.name),
        details,
    }
}
