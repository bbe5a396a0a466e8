//! Proof Key for Code Exchange (RFC 7636): a fresh verifier for each authorization request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroize as _;

use crate::SecretText;

/// The only challenge method used (RFC 7636 §4.2); `plain` proves nothing to an eavesdropper.
pub const CHALLENGE_METHOD: &str = "S256";

/// A `code_verifier`: 43 to 128 unreserved characters, sent once, to the token endpoint only.
#[derive(Clone, Debug)]
pub struct PkceVerifier(SecretText);

/// The text is no `code_verifier` (RFC 7636 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("A code verifier has 43 to 128 unreserved characters.")]
pub struct InvalidVerifier;

impl PkceVerifier {
    /// 256 random bits as 43 characters.
    pub fn generate(entropy: &mut impl CryptoRng) -> Self {
        Self(random_token(entropy))
    }

    /// Reads a verifier made elsewhere.
    ///
    /// # Errors
    /// [`InvalidVerifier`] for a wrong length or alphabet.
    pub fn parse(text: String) -> Result<Self, InvalidVerifier> {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if (43..=128).contains(&text.len()) && text.bytes().all(unreserved) {
            Ok(Self(SecretText::new(text)))
        } else {
            Err(InvalidVerifier)
        }
    }

    /// BASE64URL(SHA256(ASCII(code_verifier))), without padding.
    #[must_use]
    pub fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.0.expose().as_bytes()))
    }

    /// The verifier itself, for the token request.
    #[must_use]
    pub fn secret(&self) -> &SecretText {
        &self.0
    }
}

/// 256 random bits as base64url: a `state`, a `nonce` or a verifier.
pub fn random_token(entropy: &mut impl CryptoRng) -> SecretText {
    let mut bytes = [0_u8; 32];
    entropy.fill_bytes(&mut bytes);
    let text = URL_SAFE_NO_PAD.encode(bytes);
    bytes.zeroize();
    SecretText::new(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{InvalidVerifier, PkceVerifier};

    #[test]
    fn ac_003_rfc_7636_appendix_b() -> Result<(), InvalidVerifier> {
        let verifier =
            PkceVerifier::parse("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned())?;
        assert_eq!(
            verifier.challenge(),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        Ok(())
    }

    #[test]
    fn ac_003_c3_ten_thousand_verifiers_differ_and_are_well_formed() -> Result<(), InvalidVerifier>
    {
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let verifier = PkceVerifier::generate(&mut rand::rng());
            let text = verifier.secret().expose().to_owned();
            assert_eq!(text.len(), 43);
            assert_eq!(
                PkceVerifier::parse(text.clone())?.challenge(),
                verifier.challenge()
            );
            assert_eq!(verifier.challenge().len(), 43);
            assert!(!verifier.challenge().contains(['=', '+', '/']));
            assert!(seen.insert(text), "a verifier came twice");
        }
        Ok(())
    }

    #[test]
    fn ac_003_lengths_and_alphabet_are_bounded() {
        for (length, valid) in [(42, false), (43, true), (128, true), (129, false)] {
            assert_eq!(
                PkceVerifier::parse("a".repeat(length)).is_ok(),
                valid,
                "{length}"
            );
        }
        for bad in [' ', '+', '/', '=', 'é', '\0'] {
            assert!(
                PkceVerifier::parse(format!("{}{bad}", "a".repeat(50))).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn debug_shows_no_verifier() {
        let verifier = PkceVerifier::generate(&mut rand::rng());
        assert!(!format!("{verifier:?}").contains(verifier.secret().expose()));
    }
}
