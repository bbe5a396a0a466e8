//! Keys on their way to another registry: their rows and, for each secret that still verifies, the
//! stored value. The peppers travel apart from it, sealed; neither is worth anything without the
//! other, and no key's text is in either. docs/decisions/0006-promotion.md says why.

use std::fmt;

use keywright_domain::api_keys::{ApiKey, KeyDigest, KeyMac, Rotation, Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::escrow::moved_pepper_id;
use crate::peppers::Peppers;
use crate::store::{self, secrets::state_text};
use crate::{LocalRegistry, RegistryError};

const FORMAT: &str = "keywright-promotion";
const VERSION: u32 = 1;
/// Most keys of one bundle.
pub(super) const MAX_BUNDLE: usize = 500;

/// Keys for another registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionBundle {
    pub(super) body: BundleBody,
    /// One for each pepper that is needed, over the whole body: who has the pepper can tell that
    /// the body is as it was made, and that the pepper is the right one.
    pub(super) tags: Vec<BundleTag>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleBody {
    format: String,
    version: u32,
    pub(super) registry_id: String,
    pub(super) made_at: i64,
    pub(super) keys: Vec<BundledKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleTag {
    /// The pepper's id at its origin.
    pub(super) pepper_id: String,
    pub(super) tag: MacText,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundledKey {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) environment: String,
    pub(super) owner: String,
    pub(super) creator: Option<String>,
    pub(super) scopes: String,
    pub(super) limits: String,
    pub(super) networks: String,
    pub(super) origins: String,
    pub(super) tags: String,
    pub(super) note: String,
    pub(super) metadata: String,
    pub(super) canary: bool,
    pub(super) created_at: i64,
    pub(super) not_before: Option<i64>,
    pub(super) disabled_at: Option<i64>,
    pub(super) disabled_reason: Option<String>,
    pub(super) exposed_at: Option<i64>,
    pub(super) secrets: Vec<BundledSecret>,
    pub(super) rotation: Option<BundledRotation>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundledSecret {
    pub(super) kid: String,
    pub(super) last_four: String,
    pub(super) state: String,
    pub(super) algorithm: String,
    pub(super) pepper_id: String,
    pub(super) value: MacText,
    pub(super) created_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) retires_at: Option<i64>,
    pub(super) pending_until: Option<i64>,
    pub(super) activated_at: Option<i64>,
    pub(super) first_used_at: Option<i64>,
    pub(super) last_used_at: Option<i64>,
    pub(super) use_count: i64,
}

/// A rotation that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundledRotation {
    pub(super) id: String,
    pub(super) old: Option<String>,
    pub(super) new: String,
    pub(super) overlap_ms: i64,
    pub(super) clock: String,
    pub(super) state: String,
    pub(super) requested_by: String,
    pub(super) reason: Option<String>,
    pub(super) created_at: i64,
    pub(super) activated_at: Option<i64>,
}

/// A stored value, as hexadecimal digits on its way and never in a log.
#[derive(Clone)]
pub(super) struct MacText(pub(super) KeyMac);

impl fmt::Debug for MacText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacText(redacted)")
    }
}

impl Serialize for MacText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for MacText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| serde::de::Error::custom("a value has 64 hexadecimal digits"))?;
        Ok(Self(KeyMac::from_bytes(bytes)))
    }
}

/// A key that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromotionRefused {
    /// Its id.
    pub key_id: String,
    /// Stable.
    pub code: &'static str,
    /// In plain words.
    pub message: String,
}

impl PromotionRefused {
    pub(super) fn new(key_id: &str, code: &'static str, message: &str) -> Self {
        Self {
            key_id: key_id.to_owned(),
            code,
            message: message.to_owned(),
        }
    }
}

/// Why nothing moves.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PromotionError {
    /// Not a bundle, or of another version.
    #[error("this is not a bundle of keys that this version of Keywright can read")]
    Foreign,
    /// The bundle and the peppers do not belong together, or one of them was changed.
    #[error(
        "the bundle is not as it was made, or the pepper that came with it is another one; nothing was taken"
    )]
    Altered,
    /// The bundle came back to where it was made.
    #[error("this bundle was made by this registry")]
    OwnBundle,
    /// Too many keys.
    #[error("a bundle holds at most {MAX_BUNDLE} keys; move them in parts")]
    TooMany,
    /// The other registry's name.
    #[error("the other registry's name has 1 to 200 characters and no control characters")]
    RemoteName,
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl PromotionError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Foreign => "bundle_foreign",
            Self::Altered => "bundle_altered",
            Self::OwnBundle => "bundle_own",
            Self::TooMany => "bundle_too_large",
            Self::RemoteName => "invalid_remote_name",
            Self::Registry(error) => error.code(),
        }
    }
}

impl PromotionBundle {
    /// Whose keys they are.
    #[must_use]
    pub fn registry_id(&self) -> &str {
        &self.body.registry_id
    }

    /// The keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.body.keys.iter().map(|key| key.id.as_str())
    }

    /// The ids under which the receiving registry must hold the peppers.
    pub fn needed_peppers(&self) -> impl Iterator<Item = String> {
        let tags = self.tags.iter();
        tags.map(|tag| moved_pepper_id(&self.body.registry_id, &tag.pepper_id))
    }

    /// What the tags are over. Text of a key is 512 printable characters at most, so that no key
    /// has the digest of a body.
    fn digest(body: &BundleBody) -> Result<KeyDigest, PromotionError> {
        let text = serde_json::to_vec(body).map_err(|_| PromotionError::Foreign)?;
        let mut hasher = Sha256::new();
        hasher.update(b"keywright promotion 1\n");
        hasher.update(&text);
        Ok(KeyDigest::from_bytes(hasher.finalize().into()))
    }

    /// Checks the bundle against the peppers that came with it, here under their moved ids.
    pub(super) fn check(&self, peppers: &Peppers) -> Result<(), PromotionError> {
        let body = &self.body;
        if body.format != FORMAT || body.version != VERSION {
            return Err(PromotionError::Foreign);
        }
        if body.keys.len() > MAX_BUNDLE {
            return Err(PromotionError::TooMany);
        }
        let digest = Self::digest(body)?;
        for tag in &self.tags {
            let id = moved_pepper_id(&body.registry_id, &tag.pepper_id);
            let pepper = peppers.find(&id).ok_or(RegistryError::PepperMissing)?;
            if !pepper.pepper.mac(&digest).matches(&tag.tag.0) {
                return Err(PromotionError::Altered);
            }
        }
        let has_tag = |secret: &BundledSecret| {
            let mut tags = self.tags.iter();
            tags.any(|tag| tag.pepper_id == secret.pepper_id)
        };
        if body.keys.iter().any(|key| !key.secrets.iter().all(has_tag)) {
            return Err(PromotionError::Altered);
        }
        Ok(())
    }
}

impl LocalRegistry {
    /// Makes a bundle of keys for another registry; those that cannot move are told by key. Nothing
    /// changes here: [`Self::mark_promoted`] does, once the other registry has taken them.
    ///
    /// # Errors
    /// [`PromotionError::TooMany`]; [`RegistryError`] if nothing can be read.
    pub async fn promotion_bundle(
        &self,
        key_ids: &[String],
        peppers: &Peppers,
    ) -> Result<(PromotionBundle, Vec<PromotionRefused>), PromotionError> {
        if key_ids.len() > MAX_BUNDLE {
            return Err(PromotionError::TooMany);
        }
        self.flush_uses().await?;
        let now = self.now();
        let mut snapshot = store::begin_snapshot(&self.shared.pool, self.shared.kind).await?;
        let head = store::portable::head(&mut snapshot).await?;
        let (mut keys, mut refused) = (Vec::new(), Vec::new());
        let mut ids = key_ids.to_vec();
        ids.sort();
        ids.dedup();
        for id in &ids {
            let Some(key) = store::api_keys::find(&mut snapshot, id).await? else {
                let message = RegistryError::KeyNotFound.to_string();
                refused.push(PromotionRefused::new(id, "key_not_found", &message));
                continue;
            };
            let owner = store::principals::find(&mut snapshot, &key.owner.id).await?;
            let is_suspended = owner.is_none_or(|owner| owner.disabled_at.is_some());
            if let Some(refusal) = why_not(&key, is_suspended, now) {
                refused.push(refusal);
                continue;
            }
            let values = store::portable::values_of_key(&mut snapshot, id).await?;
            let secrets: Vec<_> = key
                .secrets
                .iter()
                .filter(|secret| secret.state(now).verifies())
                .filter_map(|secret| {
                    let mut values = values.iter();
                    let value = values.find(|(kid, _, _)| kid == secret.kid.as_str())?;
                    Some(bundled_secret(secret, value))
                })
                .collect();
            if secrets
                .iter()
                .any(|one| peppers.find(&one.pepper_id).is_none())
            {
                let message = RegistryError::PepperMissing.to_string();
                refused.push(PromotionRefused::new(id, "pepper_missing", &message));
                continue;
            }
            let rotation = store::rotations::find_open(&mut snapshot, id).await?;
            // Its other side has ended: time has ended the rotation too.
            let has = |kid: &str| secrets.iter().any(|secret| secret.kid == kid);
            let rotation = rotation.filter(|rotation| {
                let old = rotation.old.as_ref();
                has(rotation.new.as_str()) && old.is_none_or(|old| has(old.as_str()))
            });
            keys.push(bundled_key(&key, secrets, rotation));
        }
        snapshot.rollback().await.map_err(RegistryError::from)?;
        let body = BundleBody {
            format: FORMAT.to_owned(),
            version: VERSION,
            registry_id: head.registry_id,
            made_at: now,
            keys,
        };
        let digest = PromotionBundle::digest(&body)?;
        let mut needed: Vec<String> = body
            .keys
            .iter()
            .flat_map(|key| key.secrets.iter().map(|secret| secret.pepper_id.clone()))
            .collect();
        needed.sort();
        needed.dedup();
        let tags = needed.into_iter().filter_map(|pepper_id| {
            let tag = MacText(peppers.find(&pepper_id)?.pepper.mac(&digest));
            Some(BundleTag { pepper_id, tag })
        });
        let tags = tags.collect();
        Ok((PromotionBundle { body, tags }, refused))
    }
}

/// Why a key cannot move. One whose owner is suspended would work again where it has another owner.
fn why_not(key: &ApiKey, owner_is_suspended: bool, now: i64) -> Option<PromotionRefused> {
    let refuse = |code, message: &str| Some(PromotionRefused::new(&key.id, code, message));
    if let Err(error) = key.check_is_kept_here() {
        return refuse(error.code(), &error.to_string());
    }
    if key.revoked_at.is_some() {
        return refuse(
            "key_revoked",
            "the key is revoked; there is nothing to move",
        );
    }
    if owner_is_suspended {
        return refuse(
            "owner_disabled",
            "its owner is suspended, and the other registry knows nothing of that; enable the owner first",
        );
    }
    if key.settings.one_time {
        return refuse(
            "key_one_time",
            "a one-time key could be used once in each registry; issue it in the other one",
        );
    }
    if key.settings.credits.is_some() {
        return refuse(
            "key_has_credits",
            "credits are counted in one place; in two they would be spent twice. Remove them, move the key, and set them there",
        );
    }
    if key.prefix.as_str() == keywright_domain::api_keys::format::ROOT_PREFIX {
        return refuse(
            "prefix_reserved",
            "a management key belongs to its registry",
        );
    }
    let mut secrets = key.secrets.iter();
    if !secrets.any(|secret| secret.state(now).verifies()) {
        return refuse("key_expired", "no secret of the key works any more");
    }
    None
}

fn bundled_key(
    key: &ApiKey,
    secrets: Vec<BundledSecret>,
    rotation: Option<Rotation>,
) -> BundledKey {
    let settings = &key.settings;
    BundledKey {
        id: key.id.clone(),
        name: key.name.clone(),
        prefix: key.prefix.as_str().to_owned(),
        environment: key.environment.as_str().to_owned(),
        owner: key.owner.to_text(),
        creator: key.creator.clone(),
        scopes: key.scopes.to_string(),
        limits: settings.limits.to_text(),
        networks: settings.networks.to_text(),
        origins: settings.origins.to_text(),
        tags: settings.tags.to_text(),
        note: settings.note.as_str().to_owned(),
        metadata: settings.metadata.to_text(),
        canary: settings.canary,
        created_at: key.created_at,
        not_before: key.not_before,
        disabled_at: key.disabled_at,
        disabled_reason: key.disabled_reason.clone(),
        exposed_at: key.exposed_at,
        secrets,
        rotation: rotation.map(|rotation| BundledRotation {
            id: rotation.id,
            old: rotation.old.map(|kid| kid.to_string()),
            new: rotation.new.to_string(),
            overlap_ms: rotation.overlap_ms,
            clock: rotation.clock.to_text(),
            state: rotation.state.as_str().to_owned(),
            requested_by: rotation.requested_by,
            reason: rotation.reason,
            created_at: rotation.created_at,
            activated_at: rotation.activated_at,
        }),
    }
}

fn bundled_secret(
    secret: &Secret,
    (_, value, stored): &(String, KeyMac, store::portable::StoredAs),
) -> BundledSecret {
    BundledSecret {
        kid: secret.kid.to_string(),
        last_four: secret.last_four.clone(),
        state: state_text(secret.stored).to_owned(),
        algorithm: stored.algorithm.clone(),
        pepper_id: stored.pepper_id.clone(),
        value: MacText(value.clone()),
        created_at: secret.created_at,
        expires_at: secret.expires_at,
        retires_at: secret.retires_at,
        pending_until: secret.pending_until,
        activated_at: secret.activated_at,
        first_used_at: secret.first_used_at,
        last_used_at: secret.last_used_at,
        use_count: secret.use_count,
    }
}
