//! The compact form of a signed token (RFC 7515), read strictly, and its signature.
//! The key decides the algorithm; what the header says must merely agree.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use serde_json::{Map, Value};

use crate::error::TokenError;
use crate::jwk::VerificationKey;
use crate::strict_json::read_object;

/// No access token is longer: it has to fit into a header.
pub(crate) const LONGEST: usize = 16 * 1024;

/// A token whose form is right and whose signature nobody has looked at yet.
pub(crate) struct UncheckedJws<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    typ: Option<String>,
    payload: Map<String, Value>,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> UncheckedJws<'a> {
    /// Takes the token apart.
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }
        let header = object(header).ok_or(TokenError::Malformed)?;
        // The algorithm comes before everything else: `none` has no signature to complain about.
        let algorithm = allowed_algorithm(header.get("alg"))?;
        // Extensions that must be understood, and keys that a token brings along: never.
        if ["crit", "jku", "x5u", "jwk", "x5c"]
            .iter()
            .any(|name| header.contains_key(*name))
        {
            return Err(TokenError::Malformed);
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenError::Malformed),
        };
        let (key_id, typ) = (text("kid")?, text("typ")?);
        let payload = object(payload).ok_or(TokenError::Malformed)?;
        if signature.is_empty() || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            algorithm,
            key_id,
            typ,
            payload,
            signed,
            signature,
        })
    }

    /// Whether the token says that it is of this type; `application/` may be left out (RFC 7515
    /// §4.1.9).
    pub(crate) fn is_of_type(&self, wanted: &str) -> bool {
        self.typ.as_deref().is_some_and(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").unwrap_or(&typ) == wanted
        })
    }

    /// Checks the signature; only then may the claims be read.
    pub(crate) fn verify(self, key: &VerificationKey) -> Result<Map<String, Value>, TokenError> {
        if !key.allows(self.algorithm) {
            return Err(TokenError::AlgorithmNotAllowed);
        }
        let checked = crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            key.decoding(),
            self.algorithm,
        );
        match checked {
            Ok(true) => Ok(self.payload),
            Ok(false) | Err(_) => Err(TokenError::InvalidSignature),
        }
    }
}

fn object(segment: &str) -> Option<Map<String, Value>> {
    read_object(&URL_SAFE_NO_PAD.decode(segment).ok()?)
}

fn allowed_algorithm(alg: Option<&Value>) -> Result<Algorithm, TokenError> {
    match alg.and_then(Value::as_str) {
        Some("RS256") => Ok(Algorithm::RS256),
        Some("PS256") => Ok(Algorithm::PS256),
        Some("ES256") => Ok(Algorithm::ES256),
        Some("EdDSA") => Ok(Algorithm::EdDSA),
        _ => Err(TokenError::AlgorithmNotAllowed),
    }
}
