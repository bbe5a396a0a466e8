//! Verification of a pasted key, told step by step.

use keywright_domain::api_keys::{ApiKey, FormatError, Kid, PlainKey, Refusal, SecretState};
use keywright_domain::scopes::{Scope, ScopeRequirement};
use keywright_protocol::api_keys::{
    CheckOutcome, CheckView, VerificationView, VerifyApiKeyRequest,
};
use keywright_registry::{ApiKeyFilter, ApiKeyQuery, RegistryError, VerifyRequest};
use std::time::Instant;
use zeroize::Zeroizing;

use super::views;
use crate::clock::now_ms;
use crate::remote::AnyRegistry;
use crate::{App, AppError};

/// The steps, in the order they are taken.
const STEPS: [(&str, &str, &str); 8] = [
    (
        "format",
        "Format",
        "Prefix, kid and marker are where they belong",
    ),
    ("checksum", "Checksum", "No character was changed or lost"),
    ("secret", "Secret", "The secret is one of this registry's"),
    ("state", "State", "Neither revoked, retired nor disabled"),
    ("expiry", "Expiry", "Begun, and not past its end"),
    ("place", "Place", "May be used from here"),
    ("scope", "Scope", "Holds the scope that is needed"),
    ("limits", "Limits", "Within its limits"),
];

/// What a verification would do besides telling: a key that passes was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UseCounts {
    /// The key is for one use, and this would be it.
    #[error("this key is for one use: a check that passes is that use, and ends the key")]
    EndsKey,
    /// Nobody has used this secret of a rotation yet.
    #[error(
        "nobody has used this new secret yet: a check that passes is its first use. The rotation can no longer \
         be cancelled then, and the time of the old secret may begin to run"
    )]
    IsFirstUse,
}

impl UseCounts {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::EndsKey => "verification_ends_key",
            Self::IsFirstUse => "verification_is_first_use",
        }
    }

    fn of(key: &ApiKey, kid: &Kid, now: i64) -> Option<Self> {
        let secret = key.secrets.iter().find(|secret| secret.kid == *kid)?;
        let state = secret.state(now);
        if key.settings.one_time && state.verifies() {
            Some(Self::EndsKey)
        } else {
            (state == SecretState::Pending).then_some(Self::IsFirstUse)
        }
    }
}

impl App {
    /// Verifies a pasted key and says why it passes or fails. Counts as a use when it passes.
    ///
    /// # Errors
    /// [`AppError::UseCounts`] where that use does more than count and the person was not asked;
    /// [`AppError::Registry`], [`AppError::Keychain`]: nothing is accepted then.
    pub async fn verify_api_key(
        &self,
        request: VerifyApiKeyRequest,
    ) -> Result<VerificationView, AppError> {
        let presented = Zeroizing::new(request.presented);
        let presented = presented.trim();
        let required = request
            .required_scope
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let required = required
            .map(ScopeRequirement::parse)
            .transpose()
            .map_err(RegistryError::from)?;
        let registry = self.keys().await?;
        if !request.knowing
            && let Ok(plain) = PlainKey::parse(presented)
            && let Some(counts) = use_counts(&registry, plain.kid()).await
        {
            return Err(counts.into());
        }
        let request = VerifyRequest {
            presented,
            requirement: required.as_ref(),
            ..VerifyRequest::default()
        };
        let started = Instant::now();
        let verification = registry.verify_api_key(self, &request).await?;
        let took_us = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
        // The verdict is what was asked for. Who may verify a key need not be allowed to see it.
        let key = match &verification.key_id {
            Some(id) => match registry.find_api_key(id).await {
                Ok(found) => Some(views::key(&found.value.0, now_ms())),
                Err(error) => {
                    tracing::debug!(code = error.code(), "a verified key is not shown");
                    None
                }
            },
            None => None,
        };
        let refusal = verification.verdict.as_ref().err();
        let (message, hint) = explain(refusal);
        Ok(VerificationView {
            accepted: refusal.is_none(),
            code: refusal.map_or("valid", Refusal::code).to_owned(),
            message,
            hint,
            checks: checks(refusal, required.as_ref()),
            key,
            kid: verification.kid.map(|kid| kid.to_string()),
            retires_at: verification.retires_at,
            took_us,
        })
    }
}

/// What a use of this secret would do, as far as the person may see the key.
async fn use_counts(registry: &AnyRegistry, kid: &Kid) -> Option<UseCounts> {
    let query = ApiKeyQuery {
        filter: ApiKeyFilter {
            text: kid.to_string(),
            ..ApiKeyFilter::default()
        },
        limit: 2,
        ..ApiKeyQuery::default()
    };
    let found = registry.list_api_keys(&query).await.ok()?.value.items;
    // A list shows the newest secret of a key; older ones were used before it.
    let row = found.into_iter().find(|row| row.kid == kid.as_str())?;
    let (key, _) = registry.find_api_key(&row.id).await.ok()?.value;
    UseCounts::of(&key, kid, now_ms())
}

fn failed_step(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::Malformed(FormatError::Checksum) => 1,
        Refusal::Malformed(_) => 0,
        Refusal::NotFound => 2,
        Refusal::Revoked | Refusal::Retired | Refusal::Disabled | Refusal::OwnerDisabled => 3,
        Refusal::NotYetValid | Refusal::Expired => 4,
        Refusal::IpNotAllowed
        | Refusal::OriginNotAllowed
        | Refusal::WrongEnvironment
        | Refusal::KeyTypeForbidden => 5,
        Refusal::InsufficientScope(_) => 6,
        Refusal::RateLimited { .. } | Refusal::CreditsExhausted { .. } => 7,
    }
}

fn checks(refusal: Option<&Refusal>, required: Option<&ScopeRequirement>) -> Vec<CheckView> {
    let failed = refusal.map_or(STEPS.len(), failed_step);
    let view = |(index, (id, label, detail)): (usize, (&str, &str, &str))| {
        let outcome = match index.cmp(&failed) {
            std::cmp::Ordering::Less if id == "scope" && required.is_none() => {
                CheckOutcome::Skipped
            }
            std::cmp::Ordering::Less => CheckOutcome::Passed,
            std::cmp::Ordering::Equal => CheckOutcome::Failed,
            std::cmp::Ordering::Greater => CheckOutcome::Skipped,
        };
        let detail = match (outcome, required) {
            (CheckOutcome::Failed, _) => {
                refusal.map_or_else(String::new, |refusal| explain(Some(refusal)).0)
            }
            (CheckOutcome::Skipped, None) if id == "scope" && failed == STEPS.len() => {
                "No scope was asked for".to_owned()
            }
            (CheckOutcome::Skipped, _) => "Not tried".to_owned(),
            (CheckOutcome::Passed, Some(scope)) if id == "scope" => {
                format!("Holds {scope}")
            }
            (CheckOutcome::Passed, _) => detail.to_owned(),
        };
        CheckView {
            id: id.to_owned(),
            label: label.to_owned(),
            outcome,
            detail,
        }
    };
    STEPS.into_iter().enumerate().map(view).collect()
}

fn explain(refusal: Option<&Refusal>) -> (String, Option<String>) {
    let (message, hint) = match refusal {
        None => (
            "This key is valid: a request with it would be let through.",
            None,
        ),
        Some(Refusal::Malformed(FormatError::Checksum)) => (
            "The checksum does not fit: at least one character was changed or lost.",
            Some("Copy the key again, whole and without spaces."),
        ),
        Some(Refusal::Malformed(_)) => (
            "This is not the text of a Keywright key.",
            Some("A key looks like sk_live_ followed by 56 letters and digits."),
        ),
        Some(Refusal::NotFound) => (
            "This registry has no such key.",
            Some("It may belong to another registry, or the secret may be wrong."),
        ),
        Some(Refusal::Revoked) => (
            "The key was revoked and never comes back.",
            Some("Issue a new key."),
        ),
        Some(Refusal::Retired) => (
            "This secret was replaced by a rotation and its overlap has ended.",
            Some("Use the key's newer secret, or rotate again to get one."),
        ),
        Some(Refusal::Expired) => (
            "This secret is past its expiry.",
            Some("Rotate the key to get a new secret."),
        ),
        Some(Refusal::NotYetValid) => (
            "The key does not work yet.",
            Some("Wait for its beginning."),
        ),
        Some(Refusal::Disabled) => (
            "The key is disabled.",
            Some("Enable it, and it works again."),
        ),
        Some(Refusal::OwnerDisabled) => (
            "Whoever owns this key is disabled, and all their keys with them.",
            Some("Enable the owner, and the key works again."),
        ),
        Some(Refusal::IpNotAllowed) => (
            "The key works only from some networks, and a check in this window comes from none.",
            Some("Its list of networks is among its settings."),
        ),
        Some(Refusal::OriginNotAllowed) => (
            "The key works only on some web pages, and a check in this window comes from none.",
            Some("Its list of origins is among its settings."),
        ),
        Some(Refusal::WrongEnvironment) => ("The key belongs to another environment.", None),
        Some(Refusal::KeyTypeForbidden) => ("A key of this type may not do that.", None),
        Some(Refusal::RateLimited {
            limit,
            retry_after_ms,
        }) => {
            let seconds = retry_after_ms.saturating_add(999) / 1000;
            return (
                format!("The limit “{limit}” is used up."),
                Some(format!("Try again in {seconds} s. The key itself is fine.")),
            );
        }
        Some(Refusal::CreditsExhausted { .. }) => ("The key has no credits left.", None),
        Some(Refusal::InsufficientScope(missing)) => {
            let names: Vec<&str> = missing.iter().map(Scope::as_str).collect();
            return (
                format!("The key does not hold {}.", names.join(", ")),
                Some("Give the key that scope, or issue one that holds it.".to_owned()),
            );
        }
    };
    (message.to_owned(), hint.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use keywright_protocol::api_keys::{OverlapClock, RotateApiKeyRequest};

    use super::super::tests::issued;
    use super::*;
    use crate::remote::tests::{Server, app as device_app, sign_in};

    type Outcome = anyhow::Result<()>;

    fn asked(presented: &str, knowing: bool) -> VerifyApiKeyRequest {
        VerifyApiKeyRequest {
            presented: presented.to_owned(),
            required_scope: None,
            knowing,
        }
    }

    #[tokio::test]
    async fn a_key_for_one_use_is_not_ended_unasked() -> Outcome {
        let folder = tempfile::tempdir()?;
        let app = device_app(folder.path())?;
        let (_, text) = issued(&app, true).await?;
        for _ in 0..2 {
            let refused = app.verify_api_key(asked(&text, false)).await;
            let error = refused.expect_err("it would end the key");
            assert_eq!(error.code(), "verification_ends_key");
        }
        assert!(app.verify_api_key(asked(&text, true)).await?.accepted);
        // Ended now: there is nothing left to ask about.
        assert!(!app.verify_api_key(asked(&text, false)).await?.accepted);
        app.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_verdict_outlives_a_key_that_may_not_be_seen() -> Outcome {
        let server = Server::start().await?;
        let folder = tempfile::tempdir()?;
        let app = device_app(folder.path())?;
        sign_in(&app, &server.url).await?;
        let (_, text) = issued(&app, false).await?;
        app.choose_registry(Some("a1".to_owned())).await?;
        let valid = serde_json::json!({ "valid": true, "code": "valid", "key_id": "k1" });
        server.says("POST /api/v1/keys/verify", 200, &valid);
        let refused = serde_json::json!({ "code": "insufficient_scope", "detail": "no" });
        server.says("GET /api/v1/keys/k1", 403, &refused);
        let verified = app.verify_api_key(asked(&text, false)).await?;
        assert_eq!((verified.accepted, verified.key), (true, None));
        app.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn the_first_use_of_a_new_secret_is_not_taken_unasked() -> Outcome {
        let folder = tempfile::tempdir()?;
        let app = device_app(folder.path())?;
        let (id, old) = issued(&app, false).await?;
        assert!(app.verify_api_key(asked(&old, false)).await?.accepted);
        let rotated = app
            .rotate_api_key(RotateApiKeyRequest {
                id,
                overlap_ms: 60_000,
                clock: OverlapClock::FromFirstUse,
                silent_ms: None,
                compromised: None,
                expires_in_days: None,
                idempotency_key: "r1".to_owned(),
            })
            .await?;
        let new = app.reveal_secret(rotated.reveal_id)?.secret;
        let refused = app.verify_api_key(asked(&new, false)).await;
        let error = refused.expect_err("it would be the first use");
        assert_eq!(error.code(), "verification_is_first_use");
        let verified = app.verify_api_key(asked(&old, false)).await?;
        assert_eq!((verified.accepted, verified.retires_at), (true, None));
        assert!(app.verify_api_key(asked(&new, true)).await?.accepted);
        // From now on it is a use like any other.
        assert!(app.verify_api_key(asked(&new, false)).await?.accepted);
        app.close().await;
        Ok(())
    }

    #[test]
    fn steps_after_the_failed_one_were_not_tried() {
        let outcomes: Vec<_> = checks(Some(&Refusal::Revoked), None)
            .into_iter()
            .map(|check| check.outcome)
            .collect();
        use CheckOutcome::{Failed, Passed, Skipped};
        assert_eq!(
            outcomes,
            [
                Passed, Passed, Passed, Failed, Skipped, Skipped, Skipped, Skipped
            ]
        );
        assert_eq!(checks(None, None)[6].outcome, Skipped);
        assert_eq!(
            checks(None, ScopeRequirement::parse("a:b").ok().as_ref())[6].outcome,
            Passed
        );
    }
}
