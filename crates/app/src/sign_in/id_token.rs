//! Verifying an ID token: form, key, signature, claims, in that order.

use keywright_domain::SecretText;
use keywright_domain::id_token::{Expected, IdTokenClaims, IdTokenProblem, check_claims};
use keywright_domain::issuer::IssuerRule;
use serde_json::{Map, Value};
use url::Url;

use super::error::SignInError;
use super::jwks::KeyCache;
use super::jws::{UncheckedJws, token_hash_of};
use crate::http::HttpClient;

/// What an ID token is checked against, besides its issuer's keys.
pub(crate) struct IdTokenContext<'a> {
    pub(crate) issuer: &'a IssuerRule,
    pub(crate) client_id: &'a str,
    /// Absent for a refresh.
    pub(crate) nonce: Option<&'a SecretText>,
    pub(crate) access_token: &'a SecretText,
    pub(crate) now_ms: i64,
    /// How far the provider's clock is ahead of ours.
    pub(crate) clock_offset_ms: Option<i64>,
}

/// An ID token that passed every check.
#[derive(Debug)]
pub(crate) struct VerifiedIdToken {
    pub(crate) subject: String,
    /// All claims, for the profile.
    pub(crate) claims: Map<String, Value>,
}

/// Verifies the token with the keys at `jwks_uri`.
pub(crate) async fn verify_id_token(
    http: &HttpClient,
    keys: &KeyCache,
    jwks_uri: &Url,
    token: &SecretText,
    context: &IdTokenContext<'_>,
) -> Result<VerifiedIdToken, SignInError> {
    let jws = UncheckedJws::parse(token.expose())?;
    let key = keys
        .find(http, jwks_uri, jws.key_id.as_deref(), jws.algorithm)
        .await?;
    let hash = token_hash_of(jws.algorithm);
    let claims = jws.verify(&key)?;
    let checked = read_claims(&claims)?;
    let expected = Expected {
        issuer: context.issuer,
        client_id: context.client_id,
        nonce: context.nonce,
        access_token: Some((context.access_token, hash)),
        now_s: context.now_ms.div_euclid(1000),
    };
    check_claims(&checked, &expected)
        .map_err(|problem| problem.explained_by_clock(context.clock_offset_ms))?;
    let subject = checked.sub.ok_or(IdTokenProblem::ClaimMissing("sub"))?;
    Ok(VerifiedIdToken { subject, claims })
}

/// The checked claims; one of a wrong type counts as missing.
pub(crate) fn read_claims(claims: &Map<String, Value>) -> Result<IdTokenClaims, IdTokenProblem> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let aud = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => {
            let texts: Option<Vec<String>> = several
                .iter()
                .map(|aud| aud.as_str().map(str::to_owned))
                .collect();
            texts.ok_or(IdTokenProblem::WrongAudience)?
        }
        _ => Vec::new(),
    };
    // A claim that is there but unreadable must not pass for one that is absent.
    for name in ["azp", "nonce", "at_hash"] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            return Err(IdTokenProblem::Malformed(
                "a claim that must be text is not",
            ));
        }
    }
    if claims.contains_key("nbf") && seconds(claims.get("nbf")).is_none() {
        return Err(IdTokenProblem::Malformed("its nbf is no time"));
    }
    Ok(IdTokenClaims {
        iss: text("iss"),
        sub: text("sub"),
        aud,
        azp: text("azp"),
        exp: seconds(claims.get("exp")),
        iat: seconds(claims.get("iat")),
        nbf: seconds(claims.get("nbf")),
        nonce: text("nonce"),
        at_hash: text("at_hash"),
        tid: text("tid"),
    })
}

/// NumericDate (RFC 7519 §2); fractions of a second are cut off.
fn seconds(value: Option<&Value>) -> Option<i64> {
    let number = value?.as_number()?;
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    let fraction = number.as_f64()?;
    // Year 9999; beyond it the cast would not be exact.
    (0.0..=253_402_300_799.0).contains(&fraction).then(|| {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the range was just checked"
        )]
        let whole = fraction.floor() as i64;
        whole
    })
}

#[cfg(test)]
mod tests;
