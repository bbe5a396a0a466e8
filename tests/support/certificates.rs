//! A certificate authority of the test's own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _,
};
use sha2::{Digest as _, Sha256};

/// PEM files of an authority and of a server it vouches for.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The server's public key as browsers pin it: base64 of its SHA-256.
    pub(crate) pin: String,
}

/// Makes an authority and a certificate for `host`.
pub(crate) fn certificates(folder: &Path, host: &str) -> Result<Certificates> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Keywright test authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![host.to_owned()])?.signed_by(&key, &authority)?;
    let made = Certificates {
        authority: folder.join("authority.pem"),
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        pin: STANDARD.encode(Sha256::digest(key.subject_public_key_info())),
    };
    std::fs::write(&made.authority, authority.pem())?;
    std::fs::write(&made.certificate, leaf.pem())?;
    std::fs::write(&made.key, key.serialize_pem())?;
    Ok(made)
}
