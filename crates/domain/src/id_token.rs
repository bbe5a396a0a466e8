//! What an ID token must say (OpenID Connect Core §3.1.3.7). Signatures are checked elsewhere;
//! here are only rules over claims, with the time passed in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::SecretText;
use crate::issuer::IssuerRule;

/// How far clocks may differ without anybody being wrong, in seconds.
pub const LEEWAY_S: i64 = 30;
/// From here on a clock is called wrong, in milliseconds.
pub const SKEW_WORTH_NAMING_MS: i64 = 60_000;

/// The claims that are checked, as they were in the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdTokenClaims {
    /// `iss`
    pub iss: Option<String>,
    /// `sub`
    pub sub: Option<String>,
    /// `aud`, one or several
    pub aud: Vec<String>,
    /// `azp`
    pub azp: Option<String>,
    /// `exp`, Unix seconds
    pub exp: Option<i64>,
    /// `iat`, Unix seconds
    pub iat: Option<i64>,
    /// `nbf`, Unix seconds
    pub nbf: Option<i64>,
    /// `nonce`
    pub nonce: Option<String>,
    /// `at_hash`
    pub at_hash: Option<String>,
    /// `tid`, Microsoft's tenant
    pub tid: Option<String>,
}

/// The hash an algorithm's `at_hash` is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenHash {
    /// RS256, PS256, ES256
    Sha256,
    /// EdDSA
    Sha512,
}

/// What is known before the token comes.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Who may have issued it.
    pub issuer: &'a IssuerRule,
    /// Whom it must be for.
    pub client_id: &'a str,
    /// The nonce of this very request; absent for a refresh, which has none of its own.
    pub nonce: Option<&'a SecretText>,
    /// The access token that came with it, and the hash its algorithm uses.
    pub access_token: Option<(&'a SecretText, TokenHash)>,
    /// Unix seconds.
    pub now_s: i64,
}

/// Why an ID token is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdTokenProblem {
    /// Not three base64url segments of strict JSON (AC-042).
    #[error("The provider's ID token is malformed: {0}.")]
    Malformed(&'static str),
    /// An algorithm we do not take (AC-030, AC-031).
    #[error("The provider's ID token uses a signature algorithm that is not allowed.")]
    AlgNotAllowed,
    /// No key of the issuer has this id (AC-038).
    #[error("The provider's ID token is signed with a key the provider does not publish.")]
    UnknownKey,
    /// The signature is wrong.
    #[error("The signature of the provider's ID token is wrong.")]
    InvalidSignature,
    /// A claim that must be there is not (AC-041).
    #[error("The provider's ID token lacks the claim \"{0}\".")]
    ClaimMissing(&'static str),
    /// Somebody else's token (AC-034).
    #[error("The ID token was issued by another provider than the one you chose.")]
    IssuerMismatch,
    /// For somebody else (AC-033).
    #[error("The ID token was issued for another application.")]
    WrongAudience,
    /// Too old (AC-035).
    #[error("The ID token had expired {late_s} s before it arrived.")]
    TokenExpired {
        /// By how much.
        late_s: i64,
    },
    /// From the future (AC-035).
    #[error("The ID token becomes valid only in {early_s} s.")]
    TokenNotYetValid {
        /// By how much.
        early_s: i64,
    },
    /// One of the two above, and the provider's `Date` says that our clock is wrong (AC-036).
    #[error("{}", skew_sentence(*offset_ms))]
    ClockSkew {
        /// How far the provider's clock is ahead of ours, in milliseconds.
        offset_ms: i64,
    },
    /// An answer to another request (AC-037).
    #[error("The ID token does not belong to this sign-in.")]
    NonceMismatch,
    /// The access token is not the one the ID token speaks of.
    #[error("The access token does not belong to the ID token.")]
    AtHashMismatch,
}

impl IdTokenProblem {
    /// Stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "id_token_malformed",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::InvalidSignature => "invalid_signature",
            Self::ClaimMissing(_) => "claim_missing",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::WrongAudience => "wrong_audience",
            Self::TokenExpired { .. } => "token_expired",
            Self::TokenNotYetValid { .. } => "token_not_yet_valid",
            Self::ClockSkew { .. } => "clock_skew",
            Self::NonceMismatch => "nonce_mismatch",
            Self::AtHashMismatch => "at_hash_mismatch",
        }
    }

    /// Blames the clock where the clock is to blame: `offset_ms` is how far the provider's `Date`
    /// was ahead of ours.
    #[must_use]
    pub fn explained_by_clock(self, offset_ms: Option<i64>) -> Self {
        match (&self, offset_ms) {
            (Self::TokenExpired { .. } | Self::TokenNotYetValid { .. }, Some(offset_ms))
                if offset_ms.abs() >= SKEW_WORTH_NAMING_MS =>
            {
                Self::ClockSkew { offset_ms }
            }
            _ => self,
        }
    }
}

fn skew_sentence(offset_ms: i64) -> String {
    let seconds = offset_ms.abs() / 1000;
    let amount = if seconds >= 120 {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    };
    let direction = if offset_ms > 0 { "behind" } else { "ahead of" };
    format!("This computer's clock is {amount} {direction} the provider's.")
}

/// Checks all claims.
///
/// # Errors
/// The first [`IdTokenProblem`] found.
pub fn check_claims(claims: &IdTokenClaims, expected: &Expected<'_>) -> Result<(), IdTokenProblem> {
    let iss = claims
        .iss
        .as_deref()
        .ok_or(IdTokenProblem::ClaimMissing("iss"))?;
    let sub = claims
        .sub
        .as_deref()
        .ok_or(IdTokenProblem::ClaimMissing("sub"))?;
    let exp = claims.exp.ok_or(IdTokenProblem::ClaimMissing("exp"))?;
    let iat = claims.iat.ok_or(IdTokenProblem::ClaimMissing("iat"))?;
    if !is_subject(sub) {
        return Err(IdTokenProblem::ClaimMissing("sub"));
    }
    if claims.aud.is_empty() {
        return Err(IdTokenProblem::ClaimMissing("aud"));
    }
    if !expected.issuer.accepts_token(iss, claims.tid.as_deref()) {
        return Err(IdTokenProblem::IssuerMismatch);
    }
    check_audience(claims, expected.client_id)?;
    check_times(exp, iat, claims.nbf, expected.now_s)?;
    check_nonce(claims, expected.nonce)?;
    check_at_hash(claims, expected.access_token)
}

/// A `sub`: not empty, at most 255 characters, printable.
#[must_use]
pub fn is_subject(sub: &str) -> bool {
    !sub.is_empty() && sub.chars().count() <= 255 && !sub.chars().any(char::is_control)
}

fn check_audience(claims: &IdTokenClaims, client_id: &str) -> Result<(), IdTokenProblem> {
    let ours = claims.aud.iter().any(|aud| aud == client_id);
    let party = match &claims.azp {
        Some(azp) => azp == client_id,
        None => claims.aud.len() == 1,
    };
    if ours && party {
        Ok(())
    } else {
        Err(IdTokenProblem::WrongAudience)
    }
}

fn check_times(exp: i64, iat: i64, nbf: Option<i64>, now: i64) -> Result<(), IdTokenProblem> {
    let late_s = now.saturating_sub(exp);
    if late_s > LEEWAY_S {
        return Err(IdTokenProblem::TokenExpired { late_s });
    }
    let early_s = iat.max(nbf.unwrap_or(iat)).saturating_sub(now);
    if early_s > LEEWAY_S {
        return Err(IdTokenProblem::TokenNotYetValid { early_s });
    }
    Ok(())
}

fn check_nonce(
    claims: &IdTokenClaims,
    expected: Option<&SecretText>,
) -> Result<(), IdTokenProblem> {
    match (expected, &claims.nonce) {
        (None, _) => Ok(()),
        (Some(expected), Some(nonce)) if expected.matches(nonce) => Ok(()),
        (Some(_), _) => Err(IdTokenProblem::NonceMismatch),
    }
}

fn check_at_hash(
    claims: &IdTokenClaims,
    access_token: Option<(&SecretText, TokenHash)>,
) -> Result<(), IdTokenProblem> {
    let (Some(at_hash), Some((token, hash))) = (&claims.at_hash, access_token) else {
        return Ok(());
    };
    let expected = token_hash(token, hash);
    if bool::from(expected.as_bytes().ct_eq(at_hash.as_bytes())) {
        Ok(())
    } else {
        Err(IdTokenProblem::AtHashMismatch)
    }
}

/// BASE64URL of the left half of the access token's hash (OpenID Connect Core §3.1.3.6).
#[must_use]
pub fn token_hash(token: &SecretText, hash: TokenHash) -> String {
    let bytes = token.expose().as_bytes();
    match hash {
        TokenHash::Sha256 => URL_SAFE_NO_PAD.encode(&Sha256::digest(bytes)[..16]),
        TokenHash::Sha512 => URL_SAFE_NO_PAD.encode(&Sha512::digest(bytes)[..32]),
    }
}

#[cfg(test)]
mod tests;
