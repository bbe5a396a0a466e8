//! Verifying a provider's ID token: form, key, signature, claims, in that order (S64). The key decides
//! the algorithm; what the header says must merely agree.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use keywright_domain::SecretText;
use keywright_domain::id_token::{
    Expected, IdTokenClaims, IdTokenProblem, TokenHash, check_claims,
};
use serde_json::{Map, Value};

use super::jwks::VerificationKey;
use super::strict_json::read_object;

/// No ID token is longer.
const LONGEST: usize = 64 * 1024;

/// A token whose form is right, and whose signature nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct UncheckedJws<'a> {
    /// From the header, one of those we take.
    pub(crate) algorithm: Algorithm,
    /// From the header.
    pub(crate) key_id: Option<String>,
    payload: Map<String, Value>,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> UncheckedJws<'a> {
    /// Takes the token apart.
    ///
    /// # Errors
    /// [`IdTokenProblem`].
    pub(crate) fn parse(token: &'a str) -> Result<Self, IdTokenProblem> {
        let malformed = IdTokenProblem::Malformed;
        if token.len() > LONGEST {
            return Err(malformed("it is enormous"));
        }
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or(malformed("it has no signature"))?;
        let (header, payload) = signed
            .split_once('.')
            .ok_or(malformed("it has no payload"))?;
        if payload.contains('.') {
            return Err(malformed("it has more than three parts"));
        }
        let header = object(header).ok_or(malformed("its header is not strict JSON"))?;
        // Before everything else: `none` has no signature to complain about.
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            Some("RS256") => Algorithm::RS256,
            Some("PS256") => Algorithm::PS256,
            Some("ES256") => Algorithm::ES256,
            Some("EdDSA") => Algorithm::EdDSA,
            _ => return Err(IdTokenProblem::AlgNotAllowed),
        };
        if ["crit", "jku", "x5u", "jwk"]
            .iter()
            .any(|name| header.contains_key(*name))
        {
            return Err(malformed(
                "its header carries a key, an address or an extension",
            ));
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(malformed("its key id is not text")),
        };
        let payload = object(payload).ok_or(malformed("its payload is not strict JSON"))?;
        if signature.is_empty() || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(malformed("its signature is not base64url"));
        }
        Ok(Self {
            algorithm,
            key_id,
            payload,
            signed,
            signature,
        })
    }

    /// Checks signature and claims. Returns them all.
    ///
    /// # Errors
    /// [`IdTokenProblem`].
    pub(crate) fn verify(
        self,
        key: &VerificationKey,
        expected: Expected<'_>,
        access_token: &SecretText,
    ) -> Result<Map<String, Value>, IdTokenProblem> {
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
        check_claims(&read_claims(&self.payload)?, &expected)?;
        Ok(self.payload)
    }
}

fn object(segment: &str) -> Option<Map<String, Value>> {
    read_object(&URL_SAFE_NO_PAD.decode(segment).ok()?)
}

/// The claims that are checked. One of a wrong type must not pass for one that is absent.
fn read_claims(claims: &Map<String, Value>) -> Result<IdTokenClaims, IdTokenProblem> {
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
    for name in ["azp", "nonce", "at_hash"] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            let what = "a claim that must be text is not";
            return Err(IdTokenProblem::Malformed(what));
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
