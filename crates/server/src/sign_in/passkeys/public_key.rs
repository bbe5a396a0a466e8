//! Public keys of passkeys (COSE, RFC 9052 §7, RFC 9053): ES256, EdDSA with Ed25519, RS256.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use ciborium::Value;

use super::Fault;

/// `pubKeyCredParams`, what we like best first.
pub(super) const ALGORITHMS: [i64; 3] = [ES256, EDDSA, RS256];
const ES256: i64 = -7;
const EDDSA: i64 = -8;
const RS256: i64 = -257;

/// Reads a COSE key. The algorithm is the key's own.
pub(super) fn read(cose: &[u8]) -> Result<ParsedPublicKey, Fault> {
    let fault = Fault("key_malformed");
    let value: Value = ciborium::from_reader(cose).map_err(|_| fault)?;
    let Value::Map(entries) = value else {
        return Err(fault);
    };
    let number = |label: i64| -> Option<i64> {
        i64::try_from(i128::from(get(&entries, label)?.as_integer()?)).ok()
    };
    let bytes = |label: i64| -> Option<&Vec<u8>> { get(&entries, label)?.as_bytes() };
    let key = match (number(1), number(3), number(-1)) {
        // kty EC2, crv P-256
        (Some(2), Some(ES256), Some(1)) => {
            let (x, y) = (bytes(-2).ok_or(fault)?, bytes(-3).ok_or(fault)?);
            if x.len() != 32 || y.len() != 32 {
                return Err(fault);
            }
            let mut point = vec![4];
            point.extend(x);
            point.extend(y);
            ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        }
        // kty OKP, crv Ed25519
        (Some(1), Some(EDDSA), Some(6)) => ParsedPublicKey::new(&ED25519, bytes(-2).ok_or(fault)?),
        // kty RSA: -1 is the modulus
        (Some(3), Some(RS256), None) => {
            let components = RsaPublicKeyComponents {
                n: bytes(-1).ok_or(fault)?,
                e: bytes(-2).ok_or(fault)?,
            };
            components
                .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
                .map_err(|_| fault)
                .map(Ok)?
        }
        _ => return Err(Fault("algorithm_unknown")),
    };
    key.map_err(|_| fault)
}

/// A member; none if its label is there twice.
fn get(entries: &[(Value, Value)], label: i64) -> Option<&Value> {
    let mut found = entries
        .iter()
        .filter(|(own, _)| *own == Value::Integer(label.into()))
        .map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}
