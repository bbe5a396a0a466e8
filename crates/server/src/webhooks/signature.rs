//! Secrets and signatures of Standard Webhooks: `v1,` and the base64 of HMAC-SHA-256 over
//! `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keywright_domain::SecretText;
use rand::Rng as _;
use sha2::Sha256;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";
const LENGTH: usize = 32;

/// A new secret, as it is shown once.
pub(super) fn new_secret() -> SecretText {
    let mut bytes = Zeroizing::new([0_u8; LENGTH]);
    rand::rng().fill_bytes(&mut *bytes);
    SecretText::new(format!("{PREFIX}{}", STANDARD.encode(*bytes)))
}

/// The signature of one message by one secret; none for what is no secret.
pub(super) fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let key = Zeroizing::new(STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    Some(format!(
        "v1,{}",
        STANDARD.encode(mac.finalize().into_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_the_standards_libraries_make() {
        // The example of the Standard Webhooks specification and of its reference libraries.
        let signed = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signed.as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
        assert_eq!(sign("g0hM9SsE", "a", 1, b""), None);
    }

    #[test]
    fn secrets_are_random_and_of_the_standards_form() {
        let (one, two) = (new_secret(), new_secret());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), PREFIX.len() + 44);
        assert!(sign(one.expose(), "a", 1, b"x").is_some());
    }
}
