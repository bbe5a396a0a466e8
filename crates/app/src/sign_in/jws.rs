//! The compact form of a signed token (RFC 7515), read strictly, and its signature.
//! The key decides the algorithm; what the header says must merely agree.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use keywright_domain::id_token::{IdTokenProblem, TokenHash};
use serde_json::{Map, Value};

use super::jwks::VerificationKey;
use super::strict_json::read_object;

/// No ID token is longer.
const LONGEST: usize = 64 * 1024;

/// A token whose form is right and whose signature nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct UncheckedJws<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    payload: Map<String, Value>,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> UncheckedJws<'a> {
    /// Takes the token apart.
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
        // The algorithm comes before everything else: `none` has no signature to complain about.
        let algorithm = allowed_algorithm(header.get("alg"))?;
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

    /// Checks the signature; only then may the claims be read.
    pub(crate) fn verify(
        self,
        key: &VerificationKey,
    ) -> Result<Map<String, Value>, IdTokenProblem> {
        if !key.algorithms().contains(&self.algorithm) {
            return Err(IdTokenProblem::AlgNotAllowed);
        }
        let checked = crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            key.decoding(),
            self.algorithm,
        );
        match checked {
            Ok(true) => Ok(self.payload),
            Ok(false) | Err(_) => Err(IdTokenProblem::InvalidSignature),
        }
    }
}

/// The hash of `at_hash` that goes with an algorithm.
pub(crate) fn token_hash_of(algorithm: Algorithm) -> TokenHash {
    match algorithm {
        Algorithm::EdDSA => TokenHash::Sha512,
        _ => TokenHash::Sha256,
    }
}

fn object(segment: &str) -> Option<Map<String, Value>> {
    read_object(&URL_SAFE_NO_PAD.decode(segment).ok()?)
}

fn allowed_algorithm(alg: Option<&Value>) -> Result<Algorithm, IdTokenProblem> {
    match alg.and_then(Value::as_str) {
        Some("RS256") => Ok(Algorithm::RS256),
        Some("PS256") => Ok(Algorithm::PS256),
        Some("ES256") => Ok(Algorithm::ES256),
        Some("EdDSA") => Ok(Algorithm::EdDSA),
        _ => Err(IdTokenProblem::AlgNotAllowed),
    }
}
