//! What GitHub sends and publishes, as bytes: the keys that it signs with, a signature over a report, and the
//! report. No clock and no network.

use std::collections::HashMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Keys that are read of one document.
const MOST_KEYS: usize = 50;
/// What stands before the point in the SPKI of a P-256 key (RFC 5480), as everybody writes it.
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Tokens in one report.
pub(super) const MOST_TOKENS: usize = 1_000;

#[derive(Deserialize)]
struct Published {
    public_keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    key_identifier: String,
    key: String,
}

/// One key that was found.
#[derive(Deserialize)]
pub(super) struct Match {
    /// What was found.
    pub(super) token: String,
    /// What GitHub calls such tokens.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Where it was.
    #[serde(default)]
    pub(super) url: Option<String>,
    /// In what it was: `content`, `commit`, …
    #[serde(default)]
    pub(super) source: Option<String>,
}

/// Why a signed report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadReport {
    /// No list of tokens with their types.
    Malformed,
    /// More than [`MOST_TOKENS`].
    TooMany,
}

/// The tokens of a report.
///
/// # Errors
/// [`BadReport`].
pub(super) fn read_report(body: &[u8]) -> Result<Vec<Match>, BadReport> {
    let matches: Option<Vec<Match>> = read_json(body);
    let matches = matches.ok_or(BadReport::Malformed)?;
    if matches.len() > MOST_TOKENS {
        return Err(BadReport::TooMany);
    }
    Ok(matches)
}

/// JSON is UTF-8 (RFC 8259 §8.1), also where nobody looks.
fn read_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

/// Whether a body is signed (ECDSA, P-256, SHA-256; base64 of ASN.1) by the key of this uncompressed point.
pub(super) fn is_signed(point: &[u8], signature: &str, body: &[u8]) -> bool {
    STANDARD.decode(signature).is_ok_and(|signature| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(body, &signature)
            .is_ok()
    })
}

/// None if there is no key to be read.
pub(super) fn read_keys(body: &[u8]) -> Option<HashMap<String, Vec<u8>>> {
    let published: Published = read_json(body)?;
    let keys = published.public_keys.into_iter().take(MOST_KEYS);
    let points: HashMap<_, _> = keys
        .filter_map(|one| Some((one.key_identifier, point(&one.key)?)))
        .collect();
    (!points.is_empty()).then_some(points)
}

/// The point in a PEM of a P-256 public key.
fn point(pem: &str) -> Option<Vec<u8>> {
    let base64: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = STANDARD.decode(base64).ok()?;
    let point = der.strip_prefix(&SPKI)?;
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_p256_keys_are_read() {
        let mut der = SPKI.to_vec();
        der.push(4);
        der.extend([7; 64]);
        let pem = |der: &[u8]| {
            format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                STANDARD.encode(der)
            )
        };
        assert_eq!(point(&pem(&der)).map(|point| point.len()), Some(65));
        assert_eq!(point(&pem(&der[..90])), None);
        der[20] ^= 1;
        assert_eq!(point(&pem(&der)), None);
        assert_eq!(point("-----BEGIN PUBLIC KEY-----\n!\n"), None);
        assert!(read_keys(b"[]").is_none() && read_keys(b"{\"public_keys\":[]}").is_none());
    }
}
