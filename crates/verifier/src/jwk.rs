//! Public keys as an issuer publishes them (RFC 7517), and which of them a token can mean.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

const MOST_KEYS: usize = 100;
/// Shorter RSA keys are not trusted (RFC 7518 §3.3, §3.5), in octets; nobody has longer ones.
const RSA_OCTETS: RangeInclusive<usize> = 2048 / 8..=8192 / 8;
/// Of a coordinate on P-256 (RFC 7518 §6.2.1.2) and of an Ed25519 key (RFC 8037 §2).
const POINT_OCTETS: usize = 32;
/// Members that belong to nobody but the key's owner (RFC 7518 §6.2.2, §6.3.2, §6.4).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A key that may sign access tokens.
#[derive(Clone)]
pub(crate) struct VerificationKey {
    key_id: Option<String>,
    /// What it may be used with; nothing that a token says adds to it.
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl VerificationKey {
    /// Whether the key may be used with this algorithm.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// For the check of a signature.
    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// Reads a JWK; `None` for what signs no access token: secrets, encryption keys, unknown types.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") || is_private(jwk) {
            return None;
        }
        let octets = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_point = |name: &str| octets(name).is_some_and(|x| x.len() == POINT_OCTETS);
        let (decoding, possible) = match (text("kty")?, text("crv")) {
            ("RSA", _) if is_rsa_modulus(&octets("n")?) => {
                let key = DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()?;
                (key, vec![Algorithm::RS256, Algorithm::PS256])
            }
            ("EC", Some("P-256")) if is_point("x") && is_point("y") => {
                let key = DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?;
                (key, vec![Algorithm::ES256])
            }
            ("OKP", Some("Ed25519")) if is_point("x") => {
                let key = DecodingKey::from_ed_components(text("x")?).ok()?;
                (key, vec![Algorithm::EdDSA])
            }
            _ => return None,
        };
        let algorithms: Vec<Algorithm> = match text("alg") {
            None => possible,
            Some(alg) => possible
                .into_iter()
                .filter(|one| format!("{one:?}") == alg)
                .collect(),
        };
        (!algorithms.is_empty()).then(|| Self {
            key_id: text("kid").map(str::to_owned),
            algorithms,
            decoding,
        })
    }
}

/// Whether a JWK shows something private or is a shared secret.
fn is_private(jwk: &Value) -> bool {
    PRIVATE.iter().any(|member| jwk.get(member).is_some())
}

/// Whether a number is as long as an RSA key's; zeros before it do not count.
fn is_rsa_modulus(n: &[u8]) -> bool {
    let zeros = n.iter().take_while(|octet| **octet == 0).count();
    RSA_OCTETS.contains(&(n.len() - zeros))
}

/// The keys of a document; what signs no access token is left out. None if it is no such document.
pub(crate) fn read_keys(document: &Map<String, Value>) -> Option<Vec<VerificationKey>> {
    let keys = document.get("keys")?.as_array()?;
    let keys = keys.iter().take(MOST_KEYS);
    Some(keys.filter_map(VerificationKey::from_jwk).collect())
}

/// The one key that a token can mean. One that names none must fit exactly one.
pub(crate) fn choose(
    keys: &[VerificationKey],
    key_id: Option<&str>,
    algorithm: Algorithm,
) -> Option<VerificationKey> {
    if key_id.is_some() {
        let named = || keys.iter().filter(|key| key.key_id.as_deref() == key_id);
        let fitting = named().find(|key| key.allows(algorithm));
        return fitting.or_else(|| named().next()).cloned();
    }
    let mut fitting = keys.iter().filter(|key| key.allows(algorithm));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}
