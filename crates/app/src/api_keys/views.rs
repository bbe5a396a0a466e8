//! From the registry's types to what a face may show.

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{self as domain, ApiKey, RateLimit, Secret};
use keywright_protocol::api_keys::{
    ApiKeyCountsView, ApiKeyDetailView, ApiKeyListRequest, ApiKeyPageView, ApiKeySettingsView,
    ApiKeySort, ApiKeyState, ApiKeyStateFilter, ApiKeyView, RateLimitView, RotationView, ScopeView,
    SecretState, SecretView,
};
use keywright_registry::{
    ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeySummary, ApiKeyTotal,
    AuditEvent, LOCAL_PRINCIPAL, StateFilter,
};

use crate::activity::event_view;

pub(super) fn query(request: ApiKeyListRequest) -> ApiKeyQuery {
    ApiKeyQuery {
        filter: ApiKeyFilter {
            text: request.text,
            state: match request.state {
                ApiKeyStateFilter::All => StateFilter::All,
                ApiKeyStateFilter::Live => StateFilter::Live,
                ApiKeyStateFilter::Rotating => StateFilter::Rotating,
                ApiKeyStateFilter::Expiring => StateFilter::Expiring,
                ApiKeyStateFilter::Expired => StateFilter::Expired,
                ApiKeyStateFilter::Disabled => StateFilter::Disabled,
                ApiKeyStateFilter::Revoked => StateFilter::Revoked,
            },
            ..ApiKeyFilter::default()
        },
        order: match request.sort {
            ApiKeySort::CreatedDesc => ApiKeyOrder::CreatedDesc,
            ApiKeySort::CreatedAsc => ApiKeyOrder::CreatedAsc,
            ApiKeySort::NameAsc => ApiKeyOrder::NameAsc,
            ApiKeySort::NameDesc => ApiKeyOrder::NameDesc,
            ApiKeySort::ExpiresAsc => ApiKeyOrder::ExpiresAsc,
            ApiKeySort::LastUsedDesc => ApiKeyOrder::LastUsedDesc,
        },
        cursor: request.cursor,
        limit: request.limit,
    }
}

pub(crate) fn key(key: &ApiKey, now: i64) -> ApiKeyView {
    let current = key.current_secret(now);
    ApiKeyView {
        id: key.id.clone(),
        name: key.name.clone(),
        prefix: key.prefix.to_string(),
        scopes: key
            .scopes
            .as_slice()
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect(),
        state: key_state(key.state(now)),
        kid: current
            .map(|secret| secret.kid.to_string())
            .unwrap_or_default(),
        last_four: current
            .map(|secret| secret.last_four.clone())
            .unwrap_or_default(),
        created_at: key.created_at,
        expires_at: current.and_then(|secret| secret.expires_at),
        old_secret_works_until: key.old_secret_works_until(now),
        last_used_at: key.last_used_at(),
        revoked_at: key.revoked_at,
        revoked_reason: key.revoked_reason.clone(),
        revocation_queued_at: None,
        moved_to: key.promoted_to.clone(),
        may_change: true,
    }
}

pub(super) fn detail(
    record: &ApiKey,
    rotation: Option<RotationView>,
    events: Vec<AuditEvent>,
    now: i64,
) -> ApiKeyDetailView {
    ApiKeyDetailView {
        key: key(record, now),
        settings: settings(record),
        rotation,
        secrets: record
            .secrets
            .iter()
            .rev()
            .map(|one| secret(one, now))
            .collect(),
        activity: events.into_iter().map(event_view).collect(),
        stale_since: None,
    }
}

fn settings(key: &ApiKey) -> ApiKeySettingsView {
    let own = key.owner.id == LOCAL_PRINCIPAL;
    let limit = |limit: &RateLimit| RateLimitView {
        name: limit.name().to_owned(),
        count: limit.count(),
        period_ms: limit.period_ms(),
        burst: limit.burst(),
        shared_by_owner: limit.is_shared_by_owner(),
    };
    let settings = &key.settings;
    ApiKeySettingsView {
        environment: key.environment.to_string(),
        owner: (!own).then(|| key.owner.to_text()),
        not_before: key.not_before,
        disabled_at: key.disabled_at,
        disabled_reason: key.disabled_reason.clone(),
        tags: settings.tags.as_slice().to_vec(),
        note: settings.note.as_str().to_owned(),
        limits: settings.limits.as_slice().iter().map(limit).collect(),
        networks: settings.networks.texts().collect(),
        origins: settings.origins.texts().collect(),
        credits: settings.credits.map(|plan| plan.amount),
        one_time: settings.one_time,
    }
}

pub(super) fn page(
    page: ApiKeyPage,
    total: Option<ApiKeyTotal>,
    as_of: Option<i64>,
) -> ApiKeyPageView {
    ApiKeyPageView {
        items: page.items.into_iter().map(summary).collect(),
        next_cursor: page.next_cursor,
        total: total.map(|total| total.count),
        total_is_estimate: total.is_some_and(|total| total.is_estimate),
        stale_since: as_of,
    }
}

pub(crate) fn summary(summary: ApiKeySummary) -> ApiKeyView {
    ApiKeyView {
        id: summary.id,
        name: summary.name,
        prefix: summary.prefix,
        scopes: summary.scopes,
        state: key_state(summary.state),
        kid: summary.kid,
        last_four: summary.last_four,
        created_at: summary.created_at,
        expires_at: summary.expires_at,
        old_secret_works_until: summary.old_secret_works_until,
        last_used_at: summary.last_used_at,
        revoked_at: summary.revoked_at,
        revoked_reason: summary.revoked_reason,
        revocation_queued_at: None,
        moved_to: summary.promoted_to,
        may_change: true,
    }
}

pub(super) fn counts(counts: ApiKeyCounts) -> ApiKeyCountsView {
    let ApiKeyCounts {
        all,
        live,
        rotating,
        expiring,
        expired,
        disabled,
        revoked,
    } = counts;
    ApiKeyCountsView {
        all,
        live,
        rotating,
        expiring,
        expired,
        disabled,
        revoked,
    }
}

pub(super) fn scope(known: KnownScope) -> ScopeView {
    ScopeView {
        name: known.scope.as_str().to_owned(),
        description: known.description,
        low_risk: known.low_risk,
    }
}

fn secret(secret: &Secret, now: i64) -> SecretView {
    SecretView {
        kid: secret.kid.to_string(),
        last_four: secret.last_four.clone(),
        state: secret_state(secret.state(now)),
        created_at: secret.created_at,
        expires_at: secret.expires_at,
        retires_at: secret.retires_at,
        first_used_at: secret.first_used_at,
        last_used_at: secret.last_used_at,
        use_count: secret.use_count,
    }
}

fn key_state(state: domain::ApiKeyState) -> ApiKeyState {
    match state {
        domain::ApiKeyState::Active => ApiKeyState::Active,
        domain::ApiKeyState::Rotating => ApiKeyState::Rotating,
        domain::ApiKeyState::Expired => ApiKeyState::Expired,
        domain::ApiKeyState::Disabled => ApiKeyState::Disabled,
        domain::ApiKeyState::Revoked => ApiKeyState::Revoked,
    }
}

fn secret_state(state: domain::SecretState) -> SecretState {
    match state {
        domain::SecretState::Pending => SecretState::Pending,
        domain::SecretState::Active => SecretState::Active,
        domain::SecretState::Retiring => SecretState::Retiring,
        domain::SecretState::Retired => SecretState::Retired,
        domain::SecretState::Expired => SecretState::Expired,
        domain::SecretState::Revoked => SecretState::Revoked,
        domain::SecretState::Aborted => SecretState::Aborted,
    }
}
