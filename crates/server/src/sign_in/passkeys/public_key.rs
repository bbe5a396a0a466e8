//! Public keys of passkeys, made of what authenticators wrote.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

use super::Fault;
use super::cose::{self, CoseKey, EDDSA, ES256, RS256};

/// `pubKeyCredParams`, what we like best first.
pub(super) const ALGORITHMS: [i64; 3] = [ES256, EDDSA, RS256];

/// Reads a COSE key.
pub(super) fn read(cose: &[u8]) -> Result<ParsedPublicKey, Fault> {
    let fault = Fault("key_malformed");
    match cose::read(cose)? {
        CoseKey::Es256(x, y) => {
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).map_err(|_| fault)
        }
        CoseKey::EdDsa(key) => ParsedPublicKey::new(&ED25519, key).map_err(|_| fault),
        CoseKey::Rs256(n, e) => RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| fault),
    }
}
