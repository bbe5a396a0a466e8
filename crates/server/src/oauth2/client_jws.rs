//! Signed tokens that clients make: assertions (RFC 7523) and DPoP proofs (RFC 9449). Asymmetric
//! algorithms only; the algorithm must be the key's own kind.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_jose::Compact;
use keywright_jose::numeric_date::seconds;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// No assertion or proof is longer.
const LONGEST: usize = 8 * 1024;
/// A signed token, read and not believed yet.
pub(crate) struct ClientJws {
    /// `alg`.
    pub(crate) alg: String,
    /// The rest of the header.
    pub(crate) header: Map<String, Value>,
    /// The claims.
    pub(crate) claims: Map<String, Value>,
    message: String,
    signature: Vec<u8>,
}

impl ClientJws {
    /// Reads the compact form (RFC 7515 §3.1). None for anything else, and for extensions that we do
    /// not know (`crit`).
    pub(crate) fn read(token: &str) -> Option<Self> {
        let compact = Compact::read(token, LONGEST).ok()?;
        if compact.header.contains_key("crit") || compact.header.contains_key("b64") {
            return None;
        }
        Some(Self {
            alg: compact.algorithm()?.to_owned(),
            claims: compact.claims().ok()?,
            message: compact.signed.to_owned(),
            signature: compact.signature().ok()?,
            header: compact.header,
        })
    }

    /// A claim that is a text.
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// A claim in seconds.
    pub(crate) fn seconds(&self, claim: &str) -> Option<i64> {
        self.claims.get(claim).and_then(seconds)
    }

    /// Whether the signature is this key's. `none`, symmetric and unknown algorithms are nobody's.
    pub(crate) fn is_signed_by(&self, jwk: &Map<String, Value>) -> bool {
        public_key(&self.alg, jwk).is_some_and(|key| {
            key.verify_sig(self.message.as_bytes(), &self.signature)
                .is_ok()
        })
    }
}

fn public_key(alg: &str, jwk: &Map<String, Value>) -> Option<ParsedPublicKey> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let part = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if text("alg").is_some_and(|own| own != alg) || text("use").is_some_and(|own| own != "sig") {
        return None;
    }
    match (alg, text("kty")?, text("crv")) {
        ("ES256", "EC", Some("P-256")) => {
            let mut point = vec![4];
            point.extend(part("x")?);
            point.extend(part("y")?);
            ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).ok()
        }
        ("EdDSA", "OKP", Some("Ed25519")) => {
            ParsedPublicKey::new(&signature::ED25519, part("x")?).ok()
        }
        ("RS256" | "PS256", "RSA", _) => {
            let components = RsaPublicKeyComponents {
                n: part("n")?,
                e: part("e")?,
            };
            let how = if alg == "RS256" {
                &signature::RSA_PKCS1_2048_8192_SHA256
            } else {
                &signature::RSA_PSS_2048_8192_SHA256
            };
            components.to_parsed_public_key(how).ok()
        }
        _ => None,
    }
}

/// Thumbprint of a public key (RFC 7638 §3).
pub(crate) fn thumbprint(jwk: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    // serde_json sorts members, which is the order that §3.2 wants.
    let core = match text("kty")? {
        "EC" => json!({"crv": text("crv")?, "kty": "EC", "x": text("x")?, "y": text("y")?}),
        "OKP" => json!({"crv": text("crv")?, "kty": "OKP", "x": text("x")?}),
        "RSA" => json!({"e": text("e")?, "kty": "RSA", "n": text("n")?}),
        _ => return None,
    };
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(core.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_042_names_that_come_twice_are_refused() {
        let read = |header: &str, claims: &str| {
            let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
            ClientJws::read(&format!("{}.{}.AA", encode(header), encode(claims)))
        };
        let header = r#"{"typ":"dpop+jwt","alg":"ES256"}"#;
        assert!(read(header, "{}").is_some());
        assert!(read(r#"{"alg":"none","alg":"ES256"}"#, "{}").is_none());
        assert!(read(header, r#"{"htm":"GET","htm":"POST"}"#).is_none());
    }

    #[test]
    fn s58_thumbprint_of_rfc_7638() {
        let jwk = json!({
            "kty": "RSA", "alg": "RS256", "kid": "2011-04-29", "e": "AQAB",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        });
        let print = thumbprint(jwk.as_object().unwrap()).unwrap();
        assert_eq!(print, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
