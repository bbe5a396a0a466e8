//! Issuing, changing, rotating and ending keys of a registry on a server.

use http::Method;
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{
    ApiKey, KeyError, Kid, NewApiKey, PlainKey, Policy, Rotation, RotationRequest,
};
use keywright_domain::scopes::ScopeSet;
use keywright_registry::{
    ApiKeyChange, ApiKeyFilter, ApiKeyQuery, ClientSecret, Issued, RegistryError, RotationStep,
};

use super::call::{Call, Credentials};
use super::wire::{
    ChangeBody, IssueBody, IssuedBody, KeyBody, ReasonBody, RotateBody, ScopeBody, SettingsBody,
    SteppedBody,
};
use super::{RemoteError, RemoteRegistry};
use crate::AppError;

impl<C: Credentials> RemoteRegistry<C> {
    /// Issues a key. Its secret is made here and never sent.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`].
    pub async fn issue_api_key(&self, wish: &NewApiKey) -> Result<Issued, AppError> {
        let prefix = wish.checked_prefix().map_err(RegistryError::from)?;
        let plain = PlainKey::generate(&prefix, &mut rand::rng());
        let secret = ClientSecret::of(&plain);
        let key = match self.issue_api_key_for(wish, &secret).await {
            Ok(key) => key,
            // A key whose secret we would throw away now may be there: we look before we say so. A look that
            // fails tells nothing, least of all that nothing was done.
            Err(error) if is_unknown(&error) => {
                let found = self.find_issued(&secret.kid).await;
                found.ok().flatten().ok_or(error)?
            }
            Err(error) => return Err(error),
        };
        Ok(Issued { key, plain })
    }

    /// Issues a key for a secret that somebody made.
    ///
    /// # Errors
    /// As [`Self::issue_api_key`]; `invalid_client_secret` for a kid that is in use.
    pub async fn issue_api_key_for(
        &self,
        wish: &NewApiKey,
        secret: &ClientSecret,
    ) -> Result<ApiKey, AppError> {
        let prefix = wish.checked_prefix().map_err(RegistryError::from)?;
        let environment = wish.environment_for(&prefix);
        if wish.lifetime_ms.is_none() && !wish.allow_never_expires {
            // Whoever asks did not allow it, whatever the server would.
            Policy::default_for(environment)
                .check_issue(&prefix, &ScopeSet::default(), None)
                .map_err(|violation| RegistryError::from(KeyError::from(violation)))?;
        }
        let body = IssueBody {
            name: &wish.name,
            prefix: &wish.prefix,
            scopes: &wish.scopes,
            lifetime_ms: wish.lifetime_ms,
            never_expires: wish.lifetime_ms.is_none(),
            environment: wish.environment.as_ref().map(|one| one.as_str()),
            owner: wish.owner.as_ref().map(Into::into),
            not_before: wish.not_before,
            settings: SettingsBody::from(&wish.settings),
            client_secret: secret.into(),
        };
        let issued: IssuedBody = self.write(Call::post(&["keys"]).json(&body)).await?;
        self.key(issued.key)
    }

    async fn find_issued(&self, kid: &Kid) -> Result<Option<ApiKey>, AppError> {
        let query = ApiKeyQuery {
            filter: ApiKeyFilter {
                text: kid.to_string(),
                ..ApiKeyFilter::default()
            },
            limit: 2,
            ..ApiKeyQuery::default()
        };
        let found = self.list_api_keys(&query).await?;
        if found.as_of.is_some() {
            return Ok(None);
        }
        let mut rows = found.value.items.into_iter();
        match rows.find(|row| row.kid == kid.as_str()) {
            Some(row) => Ok(Some(self.find_api_key(&row.id).await?.value)),
            None => Ok(None),
        }
    }

    /// Changes name, scopes or settings; with the epoch that was seen, only if nobody changed it since.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`].
    pub async fn change_api_key(
        &self,
        id: &str,
        change: &ApiKeyChange,
    ) -> Result<ApiKey, AppError> {
        let body = ChangeBody {
            name: change.name.as_deref(),
            scopes: change.scopes.as_deref(),
            settings: change.settings.as_ref().map(Into::into),
        };
        let path = ["keys", id];
        let call = Call::post(&path).by(Method::PATCH).renews(&path);
        let mut call = call.json(&body);
        if let Some(epoch) = change.if_epoch {
            call = call.header("If-Match", format!("\"{epoch}\""));
        }
        let key: KeyBody = self.write(call).await?;
        self.key(key)
    }

    /// Ends a key for good. Ending it again changes nothing.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`].
    pub async fn revoke_api_key(&self, id: &str, reason: &str) -> Result<ApiKey, AppError> {
        self.end(id, "revoke", reason).await
    }

    /// Suspends a key until it is enabled again.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`].
    pub async fn disable_api_key(&self, id: &str, reason: &str) -> Result<ApiKey, AppError> {
        self.end(id, "disable", reason).await
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`].
    pub async fn enable_api_key(&self, id: &str) -> Result<ApiKey, AppError> {
        let path = ["keys", id, "enable"];
        let call = Call::post(&path).renews(&path[..2]).repeatable();
        let key: KeyBody = self.write(call).await?;
        self.key(key)
    }

    async fn end(&self, id: &str, how: &str, reason: &str) -> Result<ApiKey, AppError> {
        let path = ["keys", id, how];
        let call = Call::post(&path).renews(&path[..2]);
        let call = call.json(&ReasonBody { reason }).repeatable();
        let key: KeyBody = self.write(call).await?;
        self.key(key)
    }

    /// Gives a key a new secret, which is made here and never sent. A retry with the same id gives the
    /// same secret while what came of it is not known.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`], [`RemoteError::OutcomeUnknown`] among them.
    pub async fn rotate_api_key(
        &self,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
    ) -> Result<Issued, AppError> {
        let known = self.find_api_key(id).await?;
        // The old secret may have ended with a call that was not answered: until that is known the new
        // one is kept, and asked for again it is the same.
        let plain = self.kept().secret_of_rotation(id, rotation_id, || {
            PlainKey::generate(&known.value.prefix, &mut rand::rng())
        });
        let secret = ClientSecret::of(&plain);
        let rotated = self
            .rotate_api_key_to(id, request, rotation_id, &secret)
            .await;
        let rotated = match rotated {
            Err(error) if is_unknown(&error) => match self.find_rotated(id, &secret.kid).await {
                Ok(Some(key)) => Ok(key),
                _ => Err(error),
            },
            // The same id with other terms: the try before this one may have been carried out, with the secret
            // that is kept here and nowhere else.
            Err(error) if error.code() == "rotation_already_done" => {
                match self.find_rotated(id, &secret.kid).await {
                    Ok(Some(key)) => Ok(key),
                    Ok(None) => Err(error),
                    Err(_) => Err(RemoteError::OutcomeUnknown(self.host().to_owned()).into()),
                }
            }
            rotated => rotated,
        };
        // What the way or the sign-in says now tells nothing of an earlier try.
        if matches!(
            rotated,
            Ok(_) | Err(AppError::Registry(_) | AppError::Remote(RemoteError::Refused { .. }))
        ) {
            self.kept().forget_rotation(id, rotation_id);
        } else {
            self.kept.forget_rotations_later();
        }
        Ok(Issued {
            key: rotated?,
            plain,
        })
    }

    /// The key, if it has this secret; an error where the server does not say now whether it has.
    async fn find_rotated(&self, id: &str, kid: &Kid) -> Result<Option<ApiKey>, AppError> {
        let found = self.find_api_key(id).await?;
        if found.as_of.is_some() {
            return Err(RemoteError::OutcomeUnknown(self.host().to_owned()).into());
        }
        let key = found.value;
        let is_there = key.secrets.iter().any(|secret| secret.kid == *kid);
        Ok(is_there.then_some(key))
    }

    /// The same with a secret that somebody made. A retry with the same id gives the same answer.
    ///
    /// # Errors
    /// `rotation_already_done` if the id was used with another secret; otherwise as
    /// [`Self::rotate_api_key`].
    pub async fn rotate_api_key_to(
        &self,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
        secret: &ClientSecret,
    ) -> Result<ApiKey, AppError> {
        let body = RotateBody {
            overlap_ms: request.overlap_ms,
            clock: request.clock.to_text(),
            lifetime_ms: request.lifetime_ms,
            replaces: request.replaces.as_ref().map(ToString::to_string),
            compromised: request.compromised.as_deref(),
            client_secret: secret.into(),
        };
        let path = ["keys", id, "rotations"];
        let call = Call::post(&path)
            .header("Idempotency-Key", rotation_id.to_owned())
            .json(&body)
            .repeatable_if_told();
        let answer: Result<(u16, IssuedBody), AppError> = self.write_with_status(call).await;
        let (status, issued) = match answer {
            // It was carried out before, with another secret: ours is none of the key's.
            Err(error) if error.code() == "idempotency_key_reused" => {
                let kid = String::new();
                return Err(RegistryError::RotationAlreadyDone { kid }.into());
            }
            answer => answer?,
        };
        let key = self.key(issued.key)?;
        // An answer that got lost was asked for again: what counts is whether our secret is there.
        if status == 201 || key.secrets.iter().any(|one| one.kid == secret.kid) {
            return Ok(key);
        }
        // It was carried out before, with a secret that nobody can show again.
        let kid = key.secrets.last().map(|secret| secret.kid.to_string());
        Err(RegistryError::RotationAlreadyDone {
            kid: kid.unwrap_or_default(),
        }
        .into())
    }

    /// Promotes, cancels, rolls back or finishes the rotation that is under way.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`].
    pub async fn step_rotation(
        &self,
        key_id: &str,
        step: RotationStep,
    ) -> Result<(ApiKey, Rotation), AppError> {
        let step = match step {
            RotationStep::Promote => "promote",
            RotationStep::Cancel => "cancel",
            RotationStep::RollBack => "roll-back",
            RotationStep::Finish => "finish",
        };
        let path = ["keys", key_id, "rotations", "current", step];
        let stepped: SteppedBody = self.write(Call::post(&path)).await?;
        let rotation = stepped.rotation.read();
        Ok((
            self.key(stepped.key)?,
            rotation.ok_or_else(|| self.not_keywright())?,
        ))
    }

    /// Ends one secret for good, with a reason. The key and its other secrets go on.
    ///
    /// # Errors
    /// As the registry of this device; [`RemoteError`].
    pub async fn revoke_secret(
        &self,
        key_id: &str,
        kid: &Kid,
        reason: &str,
    ) -> Result<ApiKey, AppError> {
        let path = ["keys", key_id, "secrets", kid.as_str(), "revoke"];
        let call = Call::post(&path).renews(&path[..2]);
        let call = call.json(&ReasonBody { reason }).repeatable();
        let key: KeyBody = self.write(call).await?;
        self.key(key)
    }

    /// Adds a scope to the catalogue, or describes it anew.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn define_scope(&self, known: &KnownScope) -> Result<KnownScope, AppError> {
        let call = Call::post(&["scopes"])
            .by(Method::PUT)
            .json(&ScopeBody::from(known))
            .repeatable();
        let scope: ScopeBody = self.write(call).await?;
        scope.read().ok_or_else(|| self.not_keywright())
    }
}

/// Whether something was sent and nobody knows what came of it.
pub(super) fn is_unknown(error: &AppError) -> bool {
    matches!(error, AppError::Remote(RemoteError::OutcomeUnknown(_)))
}
