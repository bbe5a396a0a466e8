//! Keys, secrets and rotations on the wire. None of them holds a secret; the one answer that does is
//! [`IssuedView`], once.

use keywright_domain::api_keys::{
    ApiKey, ApiKeyState, KeyError, Owner, OwnerKind, PlainKey, Rotation, Secret, SecretState,
};
use keywright_registry::{ApiKeySummary, ClientSecret, RegistryError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::settings::SettingsBody;
use crate::nodes::receipts::ReceiptView;
use crate::problem::Problem;

/// Who answers for a key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerBody {
    /// `person`, `service` or `team`.
    #[schema(pattern = "^(person|service|team)$")]
    pub(crate) kind: String,
    /// Their id.
    #[schema(min_length = 1, max_length = 200)]
    pub(crate) id: String,
}

impl OwnerBody {
    /// The domain's owner.
    ///
    /// # Errors
    /// 400 `invalid_owner`.
    pub(crate) fn read(&self) -> Result<Owner, Problem> {
        let kind = OwnerKind::parse(&self.kind);
        kind.and_then(|kind| Owner::new(kind, &self.id).ok())
            .ok_or_else(|| {
                Problem::bad_request(
                    "invalid_owner",
                    "an owner has a kind (person, service, team) and an id",
                )
            })
    }
}

impl From<&Owner> for OwnerBody {
    fn from(owner: &Owner) -> Self {
        Self {
            kind: owner.kind.as_str().to_owned(),
            id: owner.id.clone(),
        }
    }
}

fn key_state(state: ApiKeyState) -> &'static str {
    match state {
        ApiKeyState::Active => "active",
        ApiKeyState::Rotating => "rotating",
        ApiKeyState::Expired => "expired",
        ApiKeyState::Disabled => "disabled",
        ApiKeyState::Revoked => "revoked",
    }
}

fn secret_state(state: SecretState) -> &'static str {
    match state {
        SecretState::Pending => "pending",
        SecretState::Active => "active",
        SecretState::Retiring => "retiring",
        SecretState::Retired => "retired",
        SecretState::Expired => "expired",
        SecretState::Revoked => "revoked",
        SecretState::Aborted => "aborted",
    }
}

/// A key in a list. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyRow {
    id: String,
    name: String,
    prefix: String,
    environment: String,
    owner: OwnerBody,
    scopes: Vec<String>,
    tags: Vec<String>,
    /// `active`, `rotating`, `expired`, `disabled` or `revoked`.
    state: &'static str,
    kid: String,
    last_four: String,
    created_at: i64,
    expires_at: Option<i64>,
    old_secret_works_until: Option<i64>,
    has_pending_secret: bool,
    last_used_at: Option<i64>,
    disabled_at: Option<i64>,
    exposed_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
    /// The registry it was moved to: it is changed there.
    promoted_to: Option<String>,
}

impl From<ApiKeySummary> for KeyRow {
    fn from(key: ApiKeySummary) -> Self {
        Self {
            owner: OwnerBody::from(&key.owner),
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            environment: key.environment.to_string(),
            scopes: key.scopes,
            tags: key.tags,
            state: key_state(key.state),
            kid: key.kid,
            last_four: key.last_four,
            created_at: key.created_at,
            expires_at: key.expires_at,
            old_secret_works_until: key.old_secret_works_until,
            has_pending_secret: key.has_pending_secret,
            last_used_at: key.last_used_at,
            disabled_at: key.disabled_at,
            exposed_at: key.exposed_at,
            revoked_at: key.revoked_at,
            revoked_reason: key.revoked_reason,
            promoted_to: key.promoted_to,
        }
    }
}

/// One secret of a key, without the secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretView {
    kid: String,
    last_four: String,
    /// `pending`, `active`, `retiring`, `retired`, `expired`, `revoked` or `aborted`.
    state: &'static str,
    created_at: i64,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
    pending_until: Option<i64>,
    activated_at: Option<i64>,
    ended_at: Option<i64>,
    ended_reason: Option<String>,
    first_used_at: Option<i64>,
    last_used_at: Option<i64>,
    use_count: i64,
}

impl SecretView {
    fn of(secret: &Secret, now: i64) -> Self {
        Self {
            kid: secret.kid.to_string(),
            last_four: secret.last_four.clone(),
            state: secret_state(secret.state(now)),
            created_at: secret.created_at,
            expires_at: secret.expires_at,
            retires_at: secret.retires_at,
            pending_until: secret.pending_until,
            activated_at: secret.activated_at,
            ended_at: secret.ended_at,
            ended_reason: secret.ended_reason.clone(),
            first_used_at: secret.first_used_at,
            last_used_at: secret.last_used_at,
            use_count: secret.use_count,
        }
    }
}

/// A key with its settings and all its secrets, newest first. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    id: String,
    name: String,
    prefix: String,
    environment: String,
    owner: OwnerBody,
    creator: Option<String>,
    scopes: Vec<String>,
    /// `active`, `rotating`, `expired`, `disabled` or `revoked`.
    state: &'static str,
    /// Number of its last change; its `ETag`.
    epoch: i64,
    created_at: i64,
    not_before: Option<i64>,
    old_secret_works_until: Option<i64>,
    last_used_at: Option<i64>,
    disabled_at: Option<i64>,
    disabled_reason: Option<String>,
    exposed_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
    promoted_to: Option<String>,
    settings: SettingsBody,
    secrets: Vec<SecretView>,
}

impl KeyView {
    /// As it is now.
    pub(crate) fn of(key: &ApiKey, now: i64) -> Self {
        let scopes = key.scopes.as_slice().iter();
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            prefix: key.prefix.to_string(),
            environment: key.environment.to_string(),
            owner: OwnerBody::from(&key.owner),
            creator: key.creator.clone(),
            scopes: scopes.map(|scope| scope.as_str().to_owned()).collect(),
            state: key_state(key.state(now)),
            epoch: key.epoch,
            created_at: key.created_at,
            not_before: key.not_before,
            old_secret_works_until: key.old_secret_works_until(now),
            last_used_at: key.last_used_at(),
            disabled_at: key.disabled_at,
            disabled_reason: key.disabled_reason.clone(),
            exposed_at: key.exposed_at,
            revoked_at: key.revoked_at,
            revoked_reason: key.revoked_reason.clone(),
            promoted_to: key.promoted_to.clone(),
            settings: SettingsBody::from(&key.settings),
            secrets: key
                .secrets
                .iter()
                .rev()
                .map(|secret| SecretView::of(secret, now))
                .collect(),
        }
    }
}

/// A rotation. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotationView {
    id: String,
    key_id: String,
    old_kid: Option<String>,
    new_kid: String,
    overlap_ms: i64,
    /// `from_first_use`, `from_issue` or `until_drained:SILENT_MS:CAP_MS`.
    clock: String,
    /// `pending`, `overlapping`, `complete`, `cancelled` or `rolled_back`.
    state: &'static str,
    requested_by: String,
    reason: Option<String>,
    created_at: i64,
    activated_at: Option<i64>,
    ended_at: Option<i64>,
    ended_by: Option<String>,
}

impl From<Rotation> for RotationView {
    fn from(rotation: Rotation) -> Self {
        Self {
            id: rotation.id,
            key_id: rotation.key_id,
            old_kid: rotation.old.map(|kid| kid.to_string()),
            new_kid: rotation.new.to_string(),
            overlap_ms: rotation.overlap_ms,
            clock: rotation.clock.to_text(),
            state: rotation.state.as_str(),
            requested_by: rotation.requested_by,
            reason: rotation.reason,
            created_at: rotation.created_at,
            activated_at: rotation.activated_at,
            ended_at: rotation.ended_at,
            ended_by: rotation.ended_by,
        }
    }
}

/// A key that was issued or rotated.
#[derive(Serialize, ToSchema)]
pub(crate) struct IssuedView {
    /// The record.
    pub(crate) key: KeyView,
    /// The whole key, this once: it is stored nowhere. Absent where the client made its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// The rotation, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rotation_id: Option<String>,
    /// Which nodes refuse the secret that ended with it; absent where the old one goes on for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<ReceiptView>,
    /// This answers a request that was answered before. The secret was in that answer and is in no
    /// other: if it got lost, revoke the key or rotate it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secret_was_shown: bool,
}

impl IssuedView {
    /// With a secret that we made.
    pub(crate) fn of(key: &ApiKey, plain: Option<&PlainKey>, now: i64) -> Self {
        Self {
            key: KeyView::of(key, now),
            secret: plain.map(|plain| plain.text().expose().to_owned()),
            rotation_id: None,
            receipt: None,
            secret_was_shown: false,
        }
    }
}

impl std::fmt::Debug for IssuedView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedView")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A secret that the client made: its text never comes here.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientSecretBody {
    /// The kid inside its text.
    kid: String,
    /// The last four characters of its text.
    last_four: String,
    /// SHA-256 of its whole text, in hexadecimal digits.
    #[schema(pattern = "^[0-9A-Fa-f]{64}$")]
    digest: String,
}

impl ClientSecretBody {
    /// As the registry takes it.
    ///
    /// # Errors
    /// 400 `invalid_client_secret`.
    pub(crate) fn read(&self) -> Result<ClientSecret, Problem> {
        use keywright_domain::api_keys::{KeyDigest, Kid};
        let refused = || {
            Problem::bad_request(
                "invalid_client_secret",
                "a secret of the client's has a kid, four last characters and a SHA-256 in hexadecimal",
            )
        };
        let kid = Kid::new(&self.kid).map_err(|_| refused())?;
        let digest = digest_of(&self.digest).ok_or_else(refused)?;
        Ok(ClientSecret {
            kid,
            last_four: self.last_four.clone(),
            digest: KeyDigest::from_bytes(digest),
        })
    }
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0_u8; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// What the registry refuses about keys, with the status that fits each.
pub(crate) fn problem(error: RegistryError) -> Problem {
    use axum::http::StatusCode;
    let code = error.code();
    let policy = match &error {
        // Which rule of which policy: programs need not read sentences (AC-142).
        RegistryError::Key(KeyError::Policy(violation)) => {
            Some((violation.policy, violation.environment.to_string()))
        }
        _ => None,
    };
    let mut problem = Problem::from(error);
    if let Some((policy, environment)) = policy {
        problem = problem
            .with("policy", policy)
            .with("policy_environment", environment);
    }
    problem.status = match code {
        "rotation_in_progress"
        | "no_rotation"
        | "too_late_to_roll_back"
        | "key_revoked"
        | "key_promoted" => StatusCode::CONFLICT,
        "changed_meanwhile" => StatusCode::PRECONDITION_FAILED,
        "scope_exceeds_creator" => StatusCode::FORBIDDEN,
        _ => problem.status,
    };
    problem
}
