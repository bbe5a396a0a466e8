//! The settings of a key on the wire.

use std::collections::BTreeMap;

use keywright_domain::api_keys::settings::SettingsError;
use keywright_domain::api_keys::{
    CreditPlan, KeySettings, Metadata, NetworkList, Note, OriginList, RateLimit, RateLimits,
    Refill, Tags,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One rate limit of a key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimitBody {
    /// Name, told when it is reached.
    #[schema(pattern = "^[a-z0-9_-]{1,32}$")]
    name: String,
    /// So many requests …
    #[schema(minimum = 1)]
    count: u32,
    /// … in so many milliseconds.
    #[schema(minimum = 1000, maximum = 2592000000i64)]
    period_ms: u32,
    /// And so many more at once.
    #[serde(default)]
    burst: u32,
    /// All keys of the owner share it.
    #[serde(default)]
    shared_by_owner: bool,
}

impl RateLimitBody {
    /// The domain's limit.
    ///
    /// # Errors
    /// The first rule broken.
    pub(crate) fn read(&self) -> Result<RateLimit, SettingsError> {
        let (count, period, burst) = (self.count, self.period_ms, self.burst);
        let limit = RateLimit::new(&self.name, count, period, burst, self.shared_by_owner)?;
        Ok(limit)
    }
}

impl From<&RateLimit> for RateLimitBody {
    fn from(limit: &RateLimit) -> Self {
        Self {
            name: limit.name().to_owned(),
            count: limit.count(),
            period_ms: limit.period_ms(),
            burst: limit.burst(),
            shared_by_owner: limit.is_shared_by_owner(),
        }
    }
}

/// Credits that come back.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefillBody {
    /// Credits a period.
    #[schema(minimum = 1, maximum = 1000000000000000i64)]
    amount: i64,
    /// The period, in milliseconds.
    #[schema(minimum = 60000, maximum = 31622400000i64)]
    every_ms: i64,
    /// Never above this.
    #[schema(minimum = 1, maximum = 1000000000000000i64)]
    cap: i64,
}

/// Credits of a key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreditsBody {
    /// At the beginning.
    #[schema(minimum = 0, maximum = 1000000000000000i64)]
    amount: i64,
    /// What comes back; absent for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refill: Option<RefillBody>,
}

/// What may be changed without a new secret. What is absent restricts nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SettingsBody {
    /// Rate limits; all of them count.
    #[schema(max_items = 8)]
    limits: Vec<RateLimitBody>,
    /// Networks (CIDR) it may be used from; empty for anywhere.
    #[schema(max_items = 64)]
    networks: Vec<String>,
    /// Origins (RFC 6454) it may be used from; empty for any.
    #[schema(max_items = 64)]
    origins: Vec<String>,
    /// For finding it.
    tags: Vec<String>,
    /// For people.
    #[schema(max_length = 2000)]
    note: String,
    /// For programs.
    metadata: BTreeMap<String, String>,
    /// Its first accepted verification is its last.
    one_time: bool,
    /// Bait: without rights, and any use is an alarm.
    canary: bool,
    /// Credits; absent for no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<CreditsBody>,
}

impl SettingsBody {
    /// The domain's settings.
    ///
    /// # Errors
    /// The first rule broken.
    pub(crate) fn read(&self) -> Result<KeySettings, SettingsError> {
        let limits: Result<Vec<_>, _> = self.limits.iter().map(RateLimitBody::read).collect();
        let metadata = self.metadata.clone();
        Ok(KeySettings {
            limits: RateLimits::new(limits?)?,
            networks: NetworkList::new(self.networks.iter().map(String::as_str))?,
            origins: OriginList::new(self.origins.iter().map(String::as_str))?,
            tags: Tags::new(self.tags.iter().map(String::as_str))?,
            note: Note::new(&self.note)?,
            metadata: Metadata::new(metadata)?,
            one_time: self.one_time,
            canary: self.canary,
            credits: self.credits.as_ref().map(|credits| CreditPlan {
                amount: credits.amount,
                refill: credits.refill.as_ref().map(|refill| Refill {
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
        let limits = settings.limits.as_slice().iter();
        Self {
            limits: limits.map(RateLimitBody::from).collect(),
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
