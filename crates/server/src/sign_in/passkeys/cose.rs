//! Public keys as authenticators write them (COSE, RFC 9052 §7, RFC 9053): ES256, EdDSA with Ed25519,
//! RS256. Read here, and made into keys that verify elsewhere.

use ciborium::Value;

use super::Fault;

/// ECDSA on P-256 with SHA-256.
pub(crate) const ES256: i64 = -7;
/// Ed25519.
pub(crate) const EDDSA: i64 = -8;
/// RSA with SHA-256, PKCS #1 v1.5.
pub(crate) const RS256: i64 = -257;

/// A key, by its algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CoseKey {
    /// x and y, 32 bytes each.
    Es256(Vec<u8>, Vec<u8>),
    /// The 32 bytes of an Ed25519 key.
    EdDsa(Vec<u8>),
    /// Modulus and exponent.
    Rs256(Vec<u8>, Vec<u8>),
}

/// Reads a COSE key: one CBOR map and nothing behind it. The algorithm is the key's own.
pub(crate) fn read(cose: &[u8]) -> Result<CoseKey, Fault> {
    let fault = Fault("key_malformed");
    let mut rest = cose;
    let value: Value = ciborium::from_reader(&mut rest).map_err(|_| fault)?;
    let Value::Map(entries) = value else {
        return Err(fault);
    };
    if !rest.is_empty() {
        return Err(fault);
    }
    let number = |label: i64| -> Option<i64> {
        i64::try_from(i128::from(get(&entries, label)?.as_integer()?)).ok()
    };
    let bytes = |label: i64| {
        let part = get(&entries, label).and_then(Value::as_bytes);
        part.cloned().ok_or(fault)
    };
    let of_32 = |label: i64| match bytes(label)? {
        part if part.len() == 32 => Ok(part),
        _ => Err(fault),
    };
    match (number(1), number(3), number(-1)) {
        // kty EC2, crv P-256
        (Some(2), Some(ES256), Some(1)) => Ok(CoseKey::Es256(of_32(-2)?, of_32(-3)?)),
        // kty OKP, crv Ed25519
        (Some(1), Some(EDDSA), Some(6)) => Ok(CoseKey::EdDsa(of_32(-2)?)),
        // kty RSA: -1 is the modulus
        (Some(3), Some(RS256), None) => Ok(CoseKey::Rs256(bytes(-1)?, bytes(-2)?)),
        _ => Err(Fault("algorithm_unknown")),
    }
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
