//! Verification by a registry on a server.

use std::net::IpAddr;
use std::sync::Arc;

use keywright_domain::api_keys::{FormatError, PlainKey, Refusal};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{IdText, Verification, VerifyRequest};
use serde::{Deserialize, Serialize};

use super::RemoteRegistry;
use super::call::{Call, Credentials};
use crate::AppError;

#[derive(Serialize)]
struct VerifyBody<'a> {
    key: &'a str,
    requirement: Option<String>,
    environment: Option<&'a str>,
    key_types: Vec<&'static str>,
    cost: Option<u32>,
    credits: Option<u32>,
    address: Option<IpAddr>,
    origin: Option<&'a str>,
    agent: Option<&'a str>,
    route: Option<&'a str>,
    client_label: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct VerifyAnswer {
    valid: bool,
    code: String,
    key_id: Option<String>,
    kid: Option<String>,
    owner: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    retires_at: Option<i64>,
    expires_at: Option<i64>,
    #[serde(default)]
    missing_scopes: Vec<String>,
    limit: Option<String>,
    retry_after_ms: Option<i64>,
    limit_left: Option<u32>,
    limit_reset_ms: Option<u64>,
    credits_left: Option<i64>,
    refill_at: Option<i64>,
    #[serde(default)]
    every_use_counts: bool,
}

impl<C: Credentials> RemoteRegistry<C> {
    /// Verifies a presented key. An error is never an acceptance, and nothing is remembered.
    ///
    /// # Errors
    /// [`super::RemoteError`].
    pub async fn verify_api_key(
        &self,
        request: &VerifyRequest<'_>,
    ) -> Result<Verification, AppError> {
        let format = PlainKey::parse(request.presented).err();
        // A key of ours with a letter wrong is nobody's: most of it stays here.
        if let Some(error @ FormatError::Checksum) = format {
            return Ok(Verification::refused(None, Refusal::Malformed(error)));
        }
        let body = VerifyBody {
            key: request.presented,
            requirement: request.requirement.map(ToString::to_string),
            environment: request.environment.map(|one| one.as_str()),
            key_types: request.key_types.iter().map(|one| one.as_str()).collect(),
            cost: request.cost,
            credits: request.credits,
            address: request.caller.address,
            origin: request.caller.origin,
            agent: request.caller.agent,
            route: request.caller.route,
            client_label: request.caller.client_label,
        };
        // Not repeatable: it counts on limits and takes credits.
        let answer: VerifyAnswer = self
            .write(Call::post(&["keys", "verify"]).json(&body))
            .await?;
        read(answer, format).ok_or_else(|| self.not_keywright())
    }
}

/// None for what no registry says: then nobody is let through.
fn read(answer: VerifyAnswer, format: Option<FormatError>) -> Option<Verification> {
    let verdict = verdict(&answer, format)?;
    let set = |texts: &[String]| -> Option<Vec<Scope>> {
        texts.iter().map(|text| Scope::new(text).ok()).collect()
    };
    let scopes = answer.key_id.is_some().then(|| set(&answer.scopes));
    // An id that is none is nothing that a registry says.
    let kid = answer.kid.as_deref().map(IdText::read);
    let key_id = answer.key_id.as_deref().map(IdText::read);
    if kid == Some(None) || key_id == Some(None) {
        return None;
    }
    Some(Verification {
        verdict,
        kid: kid.flatten(),
        owner: answer.owner.map(Arc::from),
        scopes: match scopes {
            Some(scopes) => Some(Arc::new(ScopeSet::new(scopes?))),
            None => None,
        },
        key_id: key_id.flatten(),
        retires_at: answer.retires_at,
        expires_at: answer.expires_at,
        limit: None,
        limit_left: answer.limit_left,
        limit_reset_ms: answer.limit_reset_ms,
        credits_left: answer.credits_left,
        every_use_counts: answer.every_use_counts,
    })
}

fn verdict(answer: &VerifyAnswer, format: Option<FormatError>) -> Option<Result<(), Refusal>> {
    if answer.valid || answer.code == "valid" {
        return (answer.valid && answer.code == "valid").then_some(Ok(()));
    }
    Some(Err(match answer.code.as_str() {
        "malformed" => Refusal::Malformed(format.unwrap_or(FormatError::Marker)),
        "not_found" => Refusal::NotFound,
        "revoked" => Refusal::Revoked,
        "retired" => Refusal::Retired,
        "expired" => Refusal::Expired,
        "not_yet_valid" => Refusal::NotYetValid,
        "disabled" => Refusal::Disabled,
        "owner_disabled" => Refusal::OwnerDisabled,
        "ip_not_allowed" => Refusal::IpNotAllowed,
        "origin_not_allowed" => Refusal::OriginNotAllowed,
        "wrong_environment" => Refusal::WrongEnvironment,
        "key_type_forbidden" => Refusal::KeyTypeForbidden,
        "insufficient_scope" => {
            let missing = answer.missing_scopes.iter();
            let missing: Option<Vec<_>> = missing.map(|text| Scope::new(text).ok()).collect();
            Refusal::InsufficientScope(missing?)
        }
        "rate_limited" => Refusal::RateLimited {
            limit: answer.limit.clone()?,
            retry_after_ms: answer.retry_after_ms?,
        },
        "credits_exhausted" => Refusal::CreditsExhausted {
            refill_at: answer.refill_at,
        },
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(answer: Value) -> Option<&'static str> {
        let answer = serde_json::from_value(answer).ok()?;
        read(answer, None).map(|verification| verification.code())
    }

    #[test]
    fn only_a_whole_yes_is_a_yes() {
        let of = |valid: bool, code: &str| judged(json!({ "valid": valid, "code": code }));
        assert_eq!(of(true, "valid"), Some("valid"));
        assert_eq!(of(false, "revoked"), Some("revoked"));
        for (valid, code) in [
            (false, "valid"),
            (true, "revoked"),
            (false, "something_new"),
        ] {
            assert_eq!(of(valid, code), None, "{valid} {code}");
        }
        // Ids have their length and their letters.
        for (kid, key_id, code) in [
            ("aB3dE5gH7jK9", "aB3dE5gH7jK9mN1pQ3rS", Some("valid")),
            ("aB3dE5gH7jK", "aB3dE5gH7jK9mN1pQ3rS", None),
            ("aB3dE5gH7jK9", "aB3dE5gH7jK9mN1pQ3r/", None),
        ] {
            let answer = json!({ "valid": true, "code": "valid", "kid": kid, "key_id": key_id });
            assert_eq!(judged(answer), code, "{kid} {key_id}");
        }
        assert_eq!(judged(json!({})), None);
        assert_eq!(judged(json!({ "valid": true })), None);
    }
}
