//! Verifying an ID token: form, key, signature, claims, in that order (OpenID Connect Core §3.1.3.7).
//! The key decides the algorithm; what the header says must merely agree.

use jsonwebtoken::{Algorithm, crypto};
use keywright_domain::SecretText;
use keywright_domain::id_token::{
    Expected, IdTokenClaims, IdTokenProblem, TokenHash, check_claims,
};
use serde_json::{Map, Value};

use crate::compact::Compact;
use crate::keys::VerificationKey;
use crate::numeric_date::seconds;

/// No ID token is longer.
const LONGEST: usize = 64 * 1024;

/// A token whose form is right, and whose signature nobody has looked at yet.
#[derive(Debug)]
pub struct UncheckedIdToken<'a> {
    /// From the header, one of those we take.
    pub algorithm: Algorithm,
    /// From the header.
    pub key_id: Option<String>,
    payload: Map<String, Value>,
    signed: &'a str,
    signature: &'a str,
}

/// A token that passed every check.
#[derive(Clone, Debug)]
pub struct VerifiedIdToken {
    /// `sub`.
    pub subject: String,
    /// All claims, for the profile.
    pub claims: Map<String, Value>,
}

impl<'a> UncheckedIdToken<'a> {
    /// Takes the token apart.
    ///
    /// # Errors
    /// [`IdTokenProblem`].
    pub fn parse(token: &'a str) -> Result<Self, IdTokenProblem> {
        let malformed = IdTokenProblem::Malformed;
        let compact = Compact::read(token, LONGEST).map_err(malformed)?;
        let algorithm = match compact.algorithm() {
            Some("RS256") => Algorithm::RS256,
            Some("PS256") => Algorithm::PS256,
            Some("ES256") => Algorithm::ES256,
            Some("EdDSA") => Algorithm::EdDSA,
            _ => return Err(IdTokenProblem::AlgNotAllowed),
        };
        if compact.brings_its_own() {
            return Err(malformed(
                "its header carries a key, an address or an extension",
            ));
        }
        let key_id = match compact.header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(malformed("its key id is not text")),
        };
        let payload = compact.claims().map_err(malformed)?;
        compact.signature().map_err(malformed)?;
        Ok(Self {
            algorithm,
            key_id,
            payload,
            signed: compact.signed,
            signature: compact.signature_text,
        })
    }

    /// Checks signature and claims. `access_token` is what came with it, for `at_hash`; the one of
    /// `expected` is not looked at.
    ///
    /// # Errors
    /// [`IdTokenProblem`].
    pub fn verify(
        self,
        key: &VerificationKey,
        expected: Expected<'_>,
        access_token: &SecretText,
    ) -> Result<VerifiedIdToken, IdTokenProblem> {
        if !key.algorithms.contains(&self.algorithm) {
            return Err(IdTokenProblem::AlgNotAllowed);
        }
        let good = crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            &key.decoding,
            self.algorithm,
        );
        if !matches!(good, Ok(true)) {
            return Err(IdTokenProblem::InvalidSignature);
        }
        let hash = match self.algorithm {
            Algorithm::EdDSA => TokenHash::Sha512,
            _ => TokenHash::Sha256,
        };
        let expected = Expected {
            access_token: Some((access_token, hash)),
            ..expected
        };
        let checked = read_claims(&self.payload)?;
        check_claims(&checked, &expected)?;
        Ok(VerifiedIdToken {
            subject: checked.sub.ok_or(IdTokenProblem::ClaimMissing("sub"))?,
            claims: self.payload,
        })
    }
}

/// The claims that are checked. One of a wrong type must not pass for one that is absent.
///
/// # Errors
/// [`IdTokenProblem`].
pub fn read_claims(claims: &Map<String, Value>) -> Result<IdTokenClaims, IdTokenProblem> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let time = |name: &str| claims.get(name).and_then(seconds);
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
    for name in ["azp", "nonce", "at_hash"] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            let what = "a claim that must be text is not";
            return Err(IdTokenProblem::Malformed(what));
        }
    }
    if claims.contains_key("nbf") && time("nbf").is_none() {
        return Err(IdTokenProblem::Malformed("its nbf is no time"));
    }
    Ok(IdTokenClaims {
        iss: text("iss"),
        sub: text("sub"),
        aud,
        azp: text("azp"),
        exp: time("exp"),
        iat: time("iat"),
        nbf: time("nbf"),
        nonce: text("nonce"),
        at_hash: text("at_hash"),
        tid: text("tid"),
    })
}
