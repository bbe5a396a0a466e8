//! One signing key, parsed once. The algorithm belongs to the key; nothing a token says changes it.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

/// Algorithms that we sign with (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Alg {
    /// OpenID Connect wants it.
    Rs256,
    /// FAPI 2.0.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// All of them, in the order of the metadata.
    pub(crate) const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// `alg`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Reads `alg`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.as_str() == text)
    }

    /// Left half of a hash with this algorithm's hash function: `at_hash` (OpenID Connect Core
    /// §3.1.3.6; Ed25519 uses SHA-512).
    pub(crate) fn half_hash(self, text: &str) -> String {
        match self {
            Self::EdDsa => URL_SAFE_NO_PAD.encode(&Sha512::digest(text)[..32]),
            _ => URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..16]),
        }
    }
}

/// The key could not be made, read or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key cannot be {0}")]
pub(crate) struct KeyFault(pub(crate) &'static str);

enum Private {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
}

/// A key pair.
pub(crate) struct Signer {
    /// Its id: the thumbprint of its public half (RFC 7638).
    pub(crate) kid: String,
    /// Its algorithm.
    pub(crate) alg: Alg,
    /// Its public half as a JWK.
    pub(crate) jwk: Value,
    private: Private,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("kid", &self.kid)
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Makes a key pair. Slow for RSA: not on a worker thread. Returns it with its PKCS #8 bytes.
    pub(crate) fn generate(alg: Alg) -> Result<(Self, Zeroizing<Vec<u8>>), KeyFault> {
        let fault = KeyFault("made");
        let random = SystemRandom::new();
        let pkcs8 = match alg {
            Alg::Rs256 => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| fault)?;
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| fault)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
            Alg::Es256 => {
                let document =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                        .map_err(|_| fault)?;
                Zeroizing::new(document.as_ref().to_vec())
            }
            Alg::EdDsa => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| fault)?;
                Zeroizing::new(document.as_ref().to_vec())
            }
        };
        let signer = Self::from_pkcs8(alg, &pkcs8)?;
        Ok((signer, pkcs8))
    }

    /// Reads a key pair.
    pub(crate) fn from_pkcs8(alg: Alg, pkcs8: &[u8]) -> Result<Self, KeyFault> {
        let fault = KeyFault("read");
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // Members of the thumbprint in the order that RFC 7638 §3.2 wants: serde_json sorts them.
        let (private, core) = match alg {
            Alg::Rs256 => {
                let key = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| fault)?;
                let public = key.public_key();
                let n = encode(public.modulus().big_endian_without_leading_zero());
                let e = encode(public.exponent().big_endian_without_leading_zero());
                let core = json!({"e": e, "kty": "RSA", "n": n});
                (Private::Rsa(Box::new(key)), core)
            }
            Alg::Es256 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
                    .map_err(|_| fault)?;
                let point = key.public_key().as_ref();
                let (x, y) = point
                    .get(1..)
                    .and_then(|rest| rest.split_at_checked(32))
                    .ok_or(fault)?;
                let core = json!({"crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y)});
                (Private::Ec(Box::new(key)), core)
            }
            Alg::EdDsa => {
                let key = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| fault)?;
                let x = encode(key.public_key().as_ref());
                let core = json!({"crv": "Ed25519", "kty": "OKP", "x": x});
                (Private::Ed(Box::new(key)), core)
            }
        };
        let kid = encode(&Sha256::digest(core.to_string()));
        let mut jwk = core;
        jwk["kid"] = kid.clone().into();
        jwk["alg"] = alg.as_str().into();
        jwk["use"] = "sig".into();
        Ok(Self {
            kid,
            alg,
            jwk,
            private,
        })
    }

    /// The encoded header of tokens of a type. Only the key and the type decide it.
    pub(crate) fn header(&self, typ: &str) -> String {
        header_of(self.alg, &self.kid, typ)
    }

    /// A signed token (RFC 7515 §3.1).
    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, KeyFault> {
        let payload = serde_json::to_vec(claims).map_err(|_| KeyFault("used: no JSON"))?;
        let mut token = self.header(typ);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.sign_bytes(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let fault = KeyFault("used");
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| fault)?;
                Ok(signature)
            }
            Private::Ec(key) => {
                let signature = key.sign(&random, message).map_err(|_| fault)?;
                Ok(signature.as_ref().to_vec())
            }
            Private::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

pub(super) fn header_of(alg: Alg, kid: &str, typ: &str) -> String {
    let header = format!(
        "{{\"alg\":\"{}\",\"kid\":\"{kid}\",\"typ\":\"{typ}\"}}",
        alg.as_str()
    );
    URL_SAFE_NO_PAD.encode(header)
}

/// The public half of a published key, for tokens of our own that come back.
pub(super) struct Verifying {
    key: ParsedPublicKey,
}

impl Verifying {
    /// Reads a JWK of ours.
    pub(super) fn from_jwk(alg: Alg, jwk: &Value) -> Option<Self> {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
        let key = match alg {
            Alg::Rs256 => {
                let components = signature::RsaPublicKeyComponents {
                    n: part("n")?,
                    e: part("e")?,
                };
                components
                    .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
                    .ok()?
            }
            Alg::Es256 => {
                let mut point = vec![4];
                point.extend(part("x")?);
                point.extend(part("y")?);
                ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).ok()?
            }
            Alg::EdDsa => ParsedPublicKey::new(&signature::ED25519, part("x")?).ok()?,
        };
        Some(Self { key })
    }

    /// Whether the signature is this key's.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}
