//! Keys, secrets and rotations as a server writes them, and back to the domain's types. What no
//! registry writes is refused as a whole: a list with a row left out would be worse than none.

use std::collections::BTreeMap;

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::settings::SettingsError;
use keywright_domain::api_keys::{
    ApiKey, ApiKeyState, CreditPlan, Environment, KeySettings, Kid, Metadata, NetworkList, Note,
    OriginList, OverlapClock, Owner, OwnerKind, Prefix, RateLimit, RateLimits, Refill, Rotation,
    RotationState, Secret, SecretState, Tags,
};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{ApiKeyCounts, ApiKeySummary, AuditEvent, ClientSecret};
use serde::{Deserialize, Serialize};

/// Who answers for a key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwnerBody {
    kind: String,
    id: String,
}

impl OwnerBody {
    fn read(&self) -> Option<Owner> {
        Owner::new(OwnerKind::parse(&self.kind)?, &self.id).ok()
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

fn key_state(text: &str) -> Option<ApiKeyState> {
    Some(match text {
        "active" => ApiKeyState::Active,
        "rotating" => ApiKeyState::Rotating,
        "expired" => ApiKeyState::Expired,
        "disabled" => ApiKeyState::Disabled,
        "revoked" => ApiKeyState::Revoked,
        _ => return None,
    })
}

fn secret_state(text: &str) -> Option<SecretState> {
    Some(match text {
        "pending" => SecretState::Pending,
        "active" => SecretState::Active,
        "retiring" => SecretState::Retiring,
        "retired" => SecretState::Retired,
        "expired" => SecretState::Expired,
        "revoked" => SecretState::Revoked,
        "aborted" => SecretState::Aborted,
        _ => return None,
    })
}

/// A key in a list.
#[derive(Debug, Deserialize)]
pub(super) struct KeyRow {
    id: String,
    name: String,
    prefix: String,
    environment: String,
    owner: OwnerBody,
    scopes: Vec<String>,
    tags: Vec<String>,
    state: String,
    pub(super) kid: String,
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
    promoted_to: Option<String>,
}

impl KeyRow {
    pub(super) fn read(self) -> Option<ApiKeySummary> {
        Some(ApiKeySummary {
            environment: Environment::new(&self.environment).ok()?,
            owner: self.owner.read()?,
            state: key_state(&self.state)?,
            id: self.id,
            name: self.name,
            prefix: self.prefix,
            scopes: self.scopes,
            tags: self.tags,
            kid: self.kid,
            last_four: self.last_four,
            created_at: self.created_at,
            expires_at: self.expires_at,
            old_secret_works_until: self.old_secret_works_until,
            has_pending_secret: self.has_pending_secret,
            last_used_at: self.last_used_at,
            disabled_at: self.disabled_at,
            exposed_at: self.exposed_at,
            revoked_at: self.revoked_at,
            revoked_reason: self.revoked_reason,
            promoted_to: self.promoted_to,
        })
    }
}

/// A page of keys.
#[derive(Debug, Deserialize)]
pub(super) struct KeyPage {
    pub(super) items: Vec<KeyRow>,
    pub(super) next_cursor: Option<String>,
    pub(super) total: Option<i64>,
    #[serde(default)]
    pub(super) total_is_estimate: bool,
}

/// Keys by state.
#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    all: i64,
    live: i64,
    rotating: i64,
    expiring: i64,
    expired: i64,
    disabled: i64,
    revoked: i64,
}

impl From<Counts> for ApiKeyCounts {
    fn from(counts: Counts) -> Self {
        Self {
            all: counts.all,
            live: counts.live,
            rotating: counts.rotating,
            expiring: counts.expiring,
            expired: counts.expired,
            disabled: counts.disabled,
            revoked: counts.revoked,
        }
    }
}

#[derive(Debug, Deserialize)]
struct SecretBody {
    kid: String,
    last_four: String,
    state: String,
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

impl SecretBody {
    fn read(self) -> Option<Secret> {
        Some(Secret {
            kid: Kid::new(&self.kid).ok()?,
            stored: secret_state(&self.state)?,
            last_four: self.last_four,
            created_at: self.created_at,
            expires_at: self.expires_at,
            retires_at: self.retires_at,
            pending_until: self.pending_until,
            activated_at: self.activated_at,
            ended_at: self.ended_at,
            ended_reason: self.ended_reason,
            first_used_at: self.first_used_at,
            last_used_at: self.last_used_at,
            use_count: self.use_count,
        })
    }
}

/// A key with everything.
#[derive(Debug, Deserialize)]
pub(super) struct KeyBody {
    id: String,
    name: String,
    prefix: String,
    environment: String,
    owner: OwnerBody,
    creator: Option<String>,
    scopes: Vec<String>,
    epoch: i64,
    created_at: i64,
    not_before: Option<i64>,
    disabled_at: Option<i64>,
    disabled_reason: Option<String>,
    exposed_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
    promoted_to: Option<String>,
    settings: SettingsBody,
    secrets: Vec<SecretBody>,
}

impl KeyBody {
    pub(super) fn read(self) -> Option<ApiKey> {
        let scopes = self.scopes.iter().map(|text| Scope::new(text).ok());
        // Newest first on the wire, oldest first in the domain.
        let secrets = self.secrets.into_iter().rev().map(SecretBody::read);
        Some(ApiKey {
            prefix: Prefix::new(&self.prefix).ok()?,
            environment: Environment::new(&self.environment).ok()?,
            owner: self.owner.read()?,
            scopes: ScopeSet::new(scopes.collect::<Option<_>>()?),
            settings: self.settings.read().ok()?,
            secrets: secrets.collect::<Option<_>>()?,
            id: self.id,
            name: self.name,
            creator: self.creator,
            epoch: self.epoch,
            created_at: self.created_at,
            not_before: self.not_before,
            disabled_at: self.disabled_at,
            disabled_reason: self.disabled_reason,
            exposed_at: self.exposed_at,
            revoked_at: self.revoked_at,
            revoked_reason: self.revoked_reason,
            revoked_with_owner: false,
            promoted_to: self.promoted_to,
        })
    }
}

/// A key that was issued or rotated. There is never a secret in it: we make our own.
#[derive(Debug, Deserialize)]
pub(super) struct IssuedBody {
    pub(super) key: KeyBody,
}

/// What a step of a rotation came to.
#[derive(Debug, Deserialize)]
pub(super) struct SteppedBody {
    pub(super) key: KeyBody,
    pub(super) rotation: RotationBody,
}

/// A list of anything.
#[derive(Debug, Deserialize)]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
}

/// A rotation.
#[derive(Debug, Deserialize)]
pub(super) struct RotationBody {
    id: String,
    key_id: String,
    old_kid: Option<String>,
    new_kid: String,
    overlap_ms: i64,
    clock: String,
    state: String,
    requested_by: String,
    reason: Option<String>,
    created_at: i64,
    activated_at: Option<i64>,
    ended_at: Option<i64>,
    ended_by: Option<String>,
}

impl RotationBody {
    pub(super) fn read(self) -> Option<Rotation> {
        Some(Rotation {
            old: self.old_kid.as_deref().map(Kid::new).transpose().ok()?,
            new: Kid::new(&self.new_kid).ok()?,
            clock: OverlapClock::parse(&self.clock).ok()?,
            state: RotationState::parse(&self.state)?,
            id: self.id,
            key_id: self.key_id,
            overlap_ms: self.overlap_ms,
            requested_by: self.requested_by,
            reason: self.reason,
            created_at: self.created_at,
            activated_at: self.activated_at,
            ended_at: self.ended_at,
            ended_by: self.ended_by,
        })
    }
}

#[derive(Debug, Deserialize)]
struct DetailBody {
    name: String,
    value: String,
}

/// An event of the audit trail.
#[derive(Debug, Deserialize)]
pub(super) struct EventBody {
    sequence: i64,
    at: i64,
    action: String,
    actor: String,
    target_kind: String,
    target_id: String,
    target_name: String,
    summary: String,
    details: Vec<DetailBody>,
}

impl From<EventBody> for AuditEvent {
    fn from(event: EventBody) -> Self {
        let details = event.details.into_iter();
        Self {
            sequence: event.sequence,
            at: event.at,
            action: event.action,
            actor: event.actor,
            target_kind: event.target_kind,
            target_id: event.target_id,
            target_name: event.target_name,
            summary: event.summary,
            details: details.map(|one| (one.name, one.value)).collect(),
        }
    }
}

/// A scope of the catalogue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScopeBody {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    low_risk: bool,
}

impl ScopeBody {
    pub(super) fn read(self) -> Option<KnownScope> {
        Some(KnownScope {
            scope: Scope::new(&self.name).ok()?,
            description: self.description,
            low_risk: self.low_risk,
        })
    }
}

impl From<&KnownScope> for ScopeBody {
    fn from(known: &KnownScope) -> Self {
        Self {
            name: known.scope.as_str().to_owned(),
            description: known.description.clone(),
            low_risk: known.low_risk,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct RateLimitBody {
    name: String,
    count: u32,
    period_ms: u32,
    #[serde(default)]
    burst: u32,
    #[serde(default)]
    shared_by_owner: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct RefillBody {
    amount: i64,
    every_ms: i64,
    cap: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct CreditsBody {
    amount: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refill: Option<RefillBody>,
}

/// What may be changed without a new secret.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SettingsBody {
    limits: Vec<RateLimitBody>,
    networks: Vec<String>,
    origins: Vec<String>,
    tags: Vec<String>,
    note: String,
    metadata: BTreeMap<String, String>,
    one_time: bool,
    canary: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<CreditsBody>,
}

impl SettingsBody {
    fn read(self) -> Result<KeySettings, SettingsError> {
        let limits = self.limits.iter().map(|one| {
            let (count, period, burst) = (one.count, one.period_ms, one.burst);
            RateLimit::new(&one.name, count, period, burst, one.shared_by_owner)
        });
        Ok(KeySettings {
            limits: RateLimits::new(limits.collect::<Result<_, _>>()?)?,
            networks: NetworkList::new(self.networks.iter().map(String::as_str))?,
            origins: OriginList::new(self.origins.iter().map(String::as_str))?,
            tags: Tags::new(self.tags.iter().map(String::as_str))?,
            note: Note::new(&self.note)?,
            metadata: Metadata::new(self.metadata)?,
            one_time: self.one_time,
            canary: self.canary,
            credits: self.credits.map(|credits| CreditPlan {
                amount: credits.amount,
                refill: credits.refill.map(|refill| Refill {
                    amount: refill.amount,
                    every_ms: refill.every_ms,
                    cap: refill.cap,
                }),
            }),
        })
    }
}

impl From<&KeySettings> for SettingsBody {
    fn from(settings: &KeySettings) -> Self {
        let limit = |one: &RateLimit| RateLimitBody {
            name: one.name().to_owned(),
            count: one.count(),
            period_ms: one.period_ms(),
            burst: one.burst(),
            shared_by_owner: one.is_shared_by_owner(),
        };
        Self {
            limits: settings.limits.as_slice().iter().map(limit).collect(),
            networks: settings.networks.texts().collect(),
            origins: settings.origins.texts().collect(),
            tags: settings.tags.as_slice().to_vec(),
            note: settings.note.as_str().to_owned(),
            metadata: settings.metadata.as_map().clone(),
            one_time: settings.one_time,
            canary: settings.canary,
            credits: settings.credits.as_ref().map(|plan| CreditsBody {
                amount: plan.amount,
                refill: plan.refill.map(|refill| RefillBody {
                    amount: refill.amount,
                    every_ms: refill.every_ms,
                    cap: refill.cap,
                }),
            }),
        }
    }
}

/// A secret that we made: what goes to the server of it.
#[derive(Debug, Serialize)]
pub(super) struct ClientSecretBody {
    kid: String,
    last_four: String,
    digest: String,
}

impl From<&ClientSecret> for ClientSecretBody {
    fn from(secret: &ClientSecret) -> Self {
        Self {
            kid: secret.kid.to_string(),
            last_four: secret.last_four.clone(),
            digest: hex::encode(secret.digest.as_bytes()),
        }
    }
}

/// A wish for a key.
#[derive(Debug, Serialize)]
pub(super) struct IssueBody<'a> {
    pub(super) name: &'a str,
    pub(super) prefix: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) lifetime_ms: Option<i64>,
    pub(super) never_expires: bool,
    pub(super) environment: Option<&'a str>,
    pub(super) owner: Option<OwnerBody>,
    pub(super) not_before: Option<i64>,
    pub(super) settings: SettingsBody,
    pub(super) client_secret: ClientSecretBody,
}

/// What is to be changed of a key.
#[derive(Debug, Serialize)]
pub(super) struct ChangeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scopes: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) settings: Option<SettingsBody>,
}

/// A wish for a rotation.
#[derive(Debug, Serialize)]
pub(super) struct RotateBody<'a> {
    pub(super) overlap_ms: i64,
    pub(super) clock: String,
    pub(super) lifetime_ms: Option<i64>,
    pub(super) replaces: Option<String>,
    pub(super) compromised: Option<&'a str>,
    pub(super) client_secret: ClientSecretBody,
}

/// Why.
#[derive(Debug, Serialize)]
pub(super) struct ReasonBody<'a> {
    pub(super) reason: &'a str,
}
