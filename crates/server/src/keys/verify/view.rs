//! What a verification answers.

use std::sync::Arc;

use keywright_domain::api_keys::{RateLimit, Refusal};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{IdText, Verification};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::KEY_IN_URL;
use crate::operations::Outcome;

/// What came of a verification. Always 200: a refusal is an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerifyView<'a> {
    /// Whether a request with this key is let through.
    valid: bool,
    /// `valid`, or why not; treat an unknown code as a refusal.
    code: &'static str,
    /// The key's id, once its secret matched.
    #[schema(value_type = Option<String>)]
    key_id: Option<IdText<20>>,
    /// Public id of the secret.
    #[schema(value_type = Option<String>)]
    kid: Option<IdText<12>>,
    /// Id of its owner, once its secret matched.
    #[schema(value_type = Option<String>)]
    #[serde(serialize_with = "as_text")]
    owner: Option<Arc<str>>,
    /// What it may do now.
    #[schema(value_type = Vec<String>)]
    #[serde(serialize_with = "as_texts")]
    scopes: Option<Arc<ScopeSet>>,
    /// Until when this secret works, when it is on its way out (Unix ms).
    retires_at: Option<i64>,
    /// When it ends by itself (Unix ms).
    expires_at: Option<i64>,
    /// Scopes that would do, where they are missing.
    missing_scopes: Vec<String>,
    /// The limit that is reached.
    limit: Option<String>,
    /// When it is worth trying again, in milliseconds.
    retry_after_ms: Option<i64>,
    /// The limit that `limit_left` speaks of, where the key has limits.
    #[schema(value_type = Option<LimitPolicyView>)]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_policy")]
    limit_policy: Option<RateLimit>,
    /// Requests left on the narrowest limit, or on the one that is reached.
    limit_left: Option<u32>,
    /// When that limit is whole again, in milliseconds.
    limit_reset_ms: Option<u64>,
    /// Credits left, where the key has credits.
    credits_left: Option<i64>,
    /// When credits come back, where none are left (Unix ms).
    refill_at: Option<i64>,
    /// Every single use counts (limits, credits, one use, bait): ask again for the next request.
    every_use_counts: bool,
    /// Every change up to this one of `/api/v1/events` is taken into account: who remembers this answer
    /// forgets it when a later one names the key.
    as_of: i64,
    /// The request that was answered, as in `X-Request-Id`; of many keys it stands beside the results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
}

/// What a limit allows: what a service says in `RateLimit-Policy`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitPolicyView<'a> {
    name: &'a str,
    /// Requests a period.
    count: u32,
    period_ms: u32,
    /// Requests beyond them that may come at once.
    burst: u32,
}

impl<'a> From<&'a RateLimit> for LimitPolicyView<'a> {
    fn from(limit: &'a RateLimit) -> Self {
        Self {
            name: limit.name(),
            count: limit.count(),
            period_ms: limit.period_ms(),
            burst: limit.burst(),
        }
    }
}

fn as_text<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

fn as_policy<S: Serializer>(limit: &Option<RateLimit>, serializer: S) -> Result<S::Ok, S::Error> {
    limit
        .as_ref()
        .map(LimitPolicyView::from)
        .serialize(serializer)
}

fn as_texts<S: Serializer>(
    scopes: &Option<Arc<ScopeSet>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let scopes = scopes.as_deref().map_or(&[][..], ScopeSet::as_slice);
    serializer.collect_seq(scopes.iter().map(Scope::as_str))
}

impl VerifyView<'_> {
    /// What the log says of it: the kid only of a secret that matched, and then it is ours.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            kid: self.kid.filter(|_| self.key_id.is_some()),
            ..Outcome::of(self.code)
        }
    }

    /// Of a key that was in an address: which it is, where it is one, and nothing of what it may do.
    pub(super) fn in_url(verification: Verification, as_of: i64) -> Self {
        Self {
            valid: false,
            code: KEY_IN_URL,
            scopes: None,
            missing_scopes: Vec::new(),
            limit: None,
            retry_after_ms: None,
            every_use_counts: true,
            ..Self::of(verification, as_of)
        }
    }

    pub(super) fn of(verification: Verification, as_of: i64) -> Self {
        let (mut missing, mut limit, mut retry) = (Vec::new(), None, None);
        let mut refill = None;
        match &verification.verdict {
            Err(Refusal::InsufficientScope(scopes)) => {
                missing = scopes.iter().map(|one| one.as_str().to_owned()).collect();
            }
            Err(Refusal::RateLimited {
                limit: name,
                retry_after_ms,
            }) => {
                limit = Some(name.clone());
                retry = Some(*retry_after_ms);
            }
            Err(Refusal::CreditsExhausted { refill_at }) => refill = *refill_at,
            _ => {}
        }
        Self {
            valid: verification.verdict.is_ok(),
            code: verification.code(),
            scopes: verification.scopes,
            key_id: verification.key_id,
            kid: verification.kid,
            owner: verification.owner,
            retires_at: verification.retires_at,
            expires_at: verification.expires_at,
            missing_scopes: missing,
            limit,
            retry_after_ms: retry,
            limit_policy: verification.limit,
            limit_left: verification.limit_left,
            limit_reset_ms: verification.limit_reset_ms,
            credits_left: verification.credits_left,
            refill_at: refill,
            every_use_counts: verification.every_use_counts,
            as_of,
            request_id: None,
        }
    }
}

/// What many keys came to, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerifyMany<'a> {
    pub(super) results: &'a [VerifyView<'a>],
    /// The request that was answered, as in `X-Request-Id`.
    pub(super) request_id: &'a str,
}

/// One answer, or as many as there were keys: how the OpenAPI document has it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described")]
pub(crate) enum VerifyAnswer<'a> {
    /// Of one key.
    One(Box<VerifyView<'a>>),
    /// Of many.
    Many(VerifyMany<'a>),
}
