//! Public keys as an issuer publishes them (RFC 7517), and which of them a token can mean.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use keywright_domain::id_token::IdTokenProblem;
use serde_json::Value;

use crate::jwk::is_private;

/// So many keys of one document are read.
const MOST_KEYS: usize = 100;
/// Shorter RSA keys are not trusted (RFC 7518 §3.3, §3.5), in octets; nobody has longer ones.
const RSA_OCTETS: std::ops::RangeInclusive<usize> = 2048 / 8..=8192 / 8;
/// Of a coordinate on P-256 (RFC 7518 §6.2.1.2) and of an Ed25519 key (RFC 8037 §2).
const POINT_OCTETS: usize = 32;

/// A key that may sign ID tokens, and the algorithms that it may be used with: nothing a token says
/// adds to them.
#[derive(Clone)]
pub struct VerificationKey {
    pub(crate) key_id: Option<String>,
    pub(crate) decoding: DecodingKey,
    pub(crate) algorithms: Vec<Algorithm>,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey")
            .field("key_id", &self.key_id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl VerificationKey {
    /// None for what signs no ID token: secrets, private keys, encryption keys, unknown types.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let jwk = jwk.as_object()?;
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") || is_private(jwk) {
            return None;
        }
        let octets = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_point = |name: &str| octets(name).is_some_and(|x| x.len() == POINT_OCTETS);
        let (decoding, possible) = match (text("kty")?, text("crv")) {
            ("RSA", _) if is_rsa_modulus(&octets("n")?) => (
                DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()?,
                vec![Algorithm::RS256, Algorithm::PS256],
            ),
            ("EC", Some("P-256")) if is_point("x") && is_point("y") => (
                DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?,
                vec![Algorithm::ES256],
            ),
            ("OKP", Some("Ed25519")) if is_point("x") => (
                DecodingKey::from_ed_components(text("x")?).ok()?,
                vec![Algorithm::EdDSA],
            ),
            _ => return None,
        };
        let algorithms: Vec<_> = match text("alg") {
            None => possible,
            Some(alg) => possible
                .into_iter()
                .filter(|one| format!("{one:?}") == alg)
                .collect(),
        };
        (!algorithms.is_empty()).then(|| Self {
            key_id: text("kid").map(str::to_owned),
            decoding,
            algorithms,
        })
    }
}

/// Whether a number is as long as an RSA key's; zeros before it do not count.
fn is_rsa_modulus(n: &[u8]) -> bool {
    let zeros = n.iter().take_while(|octet| **octet == 0).count();
    RSA_OCTETS.contains(&(n.len() - zeros))
}

/// The keys of one document; what signs no ID token is left out. None if it is no such document.
#[must_use]
pub fn read_keys(document: &[u8]) -> Option<Vec<VerificationKey>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let keys = document.get("keys")?.as_array()?.iter().take(MOST_KEYS);
    Some(keys.filter_map(VerificationKey::from_jwk).collect())
}

/// The one key that a token can mean, where there is one.
///
/// # Errors
/// [`IdTokenProblem::UnknownKey`].
pub fn choose_key<'a>(
    keys: &'a [VerificationKey],
    key_id: Option<&str>,
    algorithm: Algorithm,
) -> Result<&'a VerificationKey, IdTokenProblem> {
    let fits = |key: &&VerificationKey| key.algorithms.contains(&algorithm);
    if key_id.is_some() {
        let named = || keys.iter().filter(|key| key.key_id.as_deref() == key_id);
        // One that does not fit is known all the same: the algorithm is what is wrong then.
        let chosen = named().find(fits).or_else(|| named().next());
        return chosen.ok_or(IdTokenProblem::UnknownKey);
    }
    let mut fitting = keys.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(IdTokenProblem::UnknownKey),
    }
}
