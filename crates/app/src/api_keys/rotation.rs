//! Rotation: a new secret for a key, and the steps that a person may take while both work.

use keywright_domain::SecretText;
use keywright_domain::api_keys::{
    self as domain, ApiKey, OverlapClock, PlainKey, Rotation, RotationRequest, SecretState,
};
use keywright_protocol::api_keys::{
    self as protocol, ApiKeyView, IssuedApiKeyView, RotateApiKeyRequest, RotationView,
    StepRotationRequest,
};
use keywright_registry::RotationStep;

use super::reveal::Origin;
use super::{days, views};
use crate::clock::now_ms;
use crate::{App, AppError};

impl App {
    /// Rotates a key. A retry with the same idempotency key gives the first answer while its
    /// secret is still waiting, and never rotates twice.
    ///
    /// # Errors
    /// [`AppError::Registry`], [`AppError::Keychain`].
    pub async fn rotate_api_key(
        &self,
        request: RotateApiKeyRequest,
    ) -> Result<IssuedApiKeyView, AppError> {
        let _running = self.inner.work.begin();
        let registry = self.keys().await?;
        let wish = RotationRequest {
            overlap_ms: request.overlap_ms,
            clock: clock(&request),
            lifetime_ms: request.expires_in_days.map(days),
            replaces: None,
            compromised: request.compromised,
        };
        let rotated = registry
            .rotate_api_key(self, &request.id, &wish, &request.idempotency_key)
            .await;
        match rotated {
            Ok(issued) => {
                let once = Some(request.idempotency_key);
                Ok(self.keep_for_reveal(&issued, registry.account_id(), once))
            }
            Err(error) if error.code() == "rotation_already_done" => {
                let Some((reveal_id, reveal_expires_at)) = self
                    .inner
                    .reveals
                    .find_by_rotation(&request.idempotency_key)
                else {
                    return Err(error);
                };
                let (key, _) = registry.find_api_key(&request.id).await?.value;
                Ok(IssuedApiKeyView {
                    key: views::key(&key, now_ms()),
                    reveal_id,
                    reveal_expires_at,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Cancels, rolls back or finishes the rotation of a key that is under way.
    ///
    /// # Errors
    /// [`AppError::Registry`]: `no_rotation`, `too_late_to_roll_back` among others.
    pub async fn step_rotation(
        &self,
        request: StepRotationRequest,
    ) -> Result<ApiKeyView, AppError> {
        let registry = self.keys().await?;
        let step = match request.step {
            protocol::RotationStep::Cancel => RotationStep::Cancel,
            protocol::RotationStep::RollBack => RotationStep::RollBack,
            protocol::RotationStep::Finish => RotationStep::Finish,
        };
        let key = registry.step_rotation(self, &request.id, step).await?;
        Ok(super::changed(&registry, &key))
    }

    /// Takes back the rotation that made a secret, where nobody used the secret yet and the old one
    /// still works. Returns the key as it is then; none where nothing could be taken back.
    pub(crate) async fn cancel_rotation_of(
        &self,
        origin: &Origin,
        secret: &SecretText,
    ) -> Result<Option<ApiKey>, AppError> {
        let registry = self.keys_of(origin.account_id.as_deref()).await?;
        let Ok(plain) = PlainKey::parse(secret.expose()) else {
            return Ok(None);
        };
        if origin.rotation_id.is_none() {
            return Ok(None);
        }
        let (key, _) = registry.find_api_key(&origin.key_id).await?.value;
        let rotations = registry.list_rotations(&origin.key_id).await?;
        let pending = under_way(&key, &rotations, now_ms()).is_some_and(|(rotation, state)| {
            // A server has ids of its own for rotations: what both know is the secret's kid.
            rotation.new == *plain.kid() && state == protocol::RotationState::Pending
        });
        if !pending {
            return Ok(None);
        }
        let cancelled = registry.step_rotation(self, &origin.key_id, RotationStep::Cancel);
        Ok(Some(cancelled.await?))
    }
}

fn clock(request: &RotateApiKeyRequest) -> OverlapClock {
    match request.clock {
        protocol::OverlapClock::FromFirstUse => OverlapClock::FromFirstUse,
        protocol::OverlapClock::FromIssue => OverlapClock::FromIssue,
        protocol::OverlapClock::UntilDrained => OverlapClock::UntilDrained {
            silent_ms: request.silent_ms.unwrap_or(domain::DAY_MS),
            cap_ms: request.overlap_ms,
        },
    }
}

/// The rotation during which both secrets of a key work now. What has ended by time alone is over,
/// whether or not the registry has written it down.
fn under_way<'a>(
    key: &ApiKey,
    rotations: &'a [Rotation],
    now: i64,
) -> Option<(&'a Rotation, protocol::RotationState)> {
    let rotation = rotations.iter().find(|one| one.state.is_open())?;
    let state = |kid: &domain::Kid| {
        let secret = key.secrets.iter().find(|secret| secret.kid == *kid);
        secret.map(|secret| secret.state(now))
    };
    let old = state(rotation.old.as_ref()?)?;
    let new = state(&rotation.new)?;
    match (rotation.state, new) {
        _ if !old.verifies() || !new.verifies() => None,
        (domain::RotationState::Pending, SecretState::Pending) => {
            Some((rotation, protocol::RotationState::Pending))
        }
        _ => Some((rotation, protocol::RotationState::Overlapping)),
    }
}

/// The rotation under way, for a face.
pub(super) fn view(key: &ApiKey, rotations: &[Rotation], now: i64) -> Option<RotationView> {
    let (rotation, state) = under_way(key, rotations, now)?;
    let (clock, silent_ms) = match rotation.clock {
        OverlapClock::FromFirstUse => (protocol::OverlapClock::FromFirstUse, None),
        OverlapClock::FromIssue => (protocol::OverlapClock::FromIssue, None),
        OverlapClock::UntilDrained { silent_ms, .. } => {
            (protocol::OverlapClock::UntilDrained, Some(silent_ms))
        }
    };
    let new = key.secrets.iter().find(|secret| secret.kid == rotation.new);
    Some(RotationView {
        id: rotation.id.clone(),
        state,
        clock,
        overlap_ms: rotation.overlap_ms,
        silent_ms,
        created_at: rotation.created_at,
        old_secret_works_until: key.old_secret_works_until(now),
        pending_until: new.and_then(|secret| secret.pending_until),
    })
}

#[cfg(test)]
mod tests {
    use keywright_domain::api_keys::{
        DAY_MS, Environment, KeySettings, Kid, Owner, OwnerKind, Prefix, Secret,
    };
    use keywright_domain::scopes::ScopeSet;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn key() -> Result<ApiKey, Box<dyn std::error::Error>> {
        let old = Secret::new(
            Kid::new("aaaaaaaaaaaa")?,
            "aaaa",
            SecretState::Active,
            0,
            Some(90 * DAY_MS),
        );
        Ok(ApiKey {
            id: "key".into(),
            name: "a".into(),
            prefix: Prefix::new("sk_live")?,
            environment: Environment::LIVE,
            owner: Owner::new(OwnerKind::Person, "local")?,
            creator: None,
            scopes: ScopeSet::new(Vec::new()),
            settings: KeySettings::default(),
            epoch: 1,
            created_at: 0,
            not_before: None,
            disabled_at: None,
            disabled_reason: None,
            exposed_at: None,
            revoked_at: None,
            revoked_reason: None,
            revoked_with_owner: false,
            promoted_to: None,
            secrets: vec![old],
        })
    }

    fn rotate(key: &mut ApiKey, request: &RotationRequest) -> Result<Rotation, domain::KeyError> {
        let new = Kid::new("bbbbbbbbbbbb").map_err(|_| domain::KeyError::UnknownKid)?;
        key.rotate("rotation", request, (new, "bbbb"), "ada", 0)
    }

    #[test]
    fn a_rotation_waits_for_the_first_use_and_then_counts() -> Outcome {
        let mut key = key()?;
        let mut rotation = rotate(&mut key, &RotationRequest::default())?;
        let seen = view(&key, std::slice::from_ref(&rotation), 5).ok_or("no view")?;
        assert_eq!(seen.state, protocol::RotationState::Pending);
        assert_eq!(seen.overlap_ms, DAY_MS);
        assert!(key.activate(&mut rotation, 10));
        let seen = view(&key, std::slice::from_ref(&rotation), 11).ok_or("no view")?;
        assert_eq!(seen.state, protocol::RotationState::Overlapping);
        assert_eq!(seen.old_secret_works_until, Some(10 + DAY_MS));
        // The overlap is over, though nothing has written that down.
        assert_eq!(view(&key, &[rotation], 10 + DAY_MS), None);
        Ok(())
    }

    #[test]
    fn without_an_old_secret_there_is_nothing_to_take_back() -> Outcome {
        let mut key = key()?;
        let request = RotationRequest {
            compromised: Some("in a log".into()),
            ..RotationRequest::default()
        };
        let rotation = rotate(&mut key, &request)?;
        assert!(rotation.state.is_open());
        assert_eq!(view(&key, &[rotation], 5), None);
        Ok(())
    }
}
