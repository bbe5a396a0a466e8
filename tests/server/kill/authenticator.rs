//! What a person has in their pocket: an authenticator of a few lines (Web Authentication Level 3) with one
//! credential, and an app that shows one-time codes (RFC 6238).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::server::log_scan;

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One passkey.
pub(super) struct Authenticator {
    key: KeyPair,
    id: [u8; 16],
    origin: String,
    user: Value,
}

impl Authenticator {
    /// A new one, for a server at `localhost`.
    pub(super) fn new(origin: &str) -> Result<Self> {
        Ok(Self {
            key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            id: rand::random(),
            origin: origin.to_owned(),
            user: Value::Null,
        })
    }

    /// Its credential's id, as pages show it.
    pub(super) fn id(&self) -> String {
        text(self.id)
    }

    /// Authenticator data (§6.1): user present and verified, the counter stands at 0.
    fn data(&self, with_credential: bool) -> Result<Vec<u8>> {
        let mut data = Sha256::digest("localhost").to_vec();
        data.push(0x05 | if with_credential { 0x40 } else { 0 });
        data.extend([0; 4]);
        if with_credential {
            // Of no maker's, 16 bytes of id, and the key (RFC 9052 §7, ES256).
            data.extend([0; 16]);
            data.extend([0, 16]);
            data.extend(self.id);
            let point = self.key.public_key_raw();
            let (x, y) = point
                .get(1..)
                .and_then(|both| both.split_at_checked(32))
                .context("no point")?;
            data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
            data.extend(x);
            data.extend([0x22, 0x58, 0x20]);
            data.extend(y);
        }
        Ok(data)
    }

    fn client_data(&self, kind: &str, options: &Value) -> String {
        json!({
            "type": kind, "challenge": options["publicKey"]["challenge"], "origin": self.origin,
            "crossOrigin": false,
        })
        .to_string()
    }

    /// The answer to the options of a registration (§5.1.3).
    pub(super) fn make(&mut self, options: &Value) -> Result<Value> {
        self.user = options["publicKey"]["user"]["id"].clone();
        let data = self.data(true)?;
        // {"fmt": "none", "attStmt": {}, "authData": data} as CBOR (RFC 8949).
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        object.push(u8::try_from(data.len())?);
        object.extend(data);
        Ok(json!({
            "state": options["state"], "name": "A key of a test",
            "client_data": text(self.client_data("webauthn.create", options)),
            "attestation_object": text(object), "transports": ["usb"],
        }))
    }

    /// The answer to the options of a sign-in (§5.1.4).
    pub(super) fn answer(&self, options: &Value) -> Result<Value> {
        let client_data = self.client_data("webauthn.get", options);
        let data = self.data(false)?;
        let mut signed = data.clone();
        signed.extend(Sha256::digest(&client_data));
        Ok(json!({
            "state": options["state"], "id": self.id(), "client_data": text(client_data),
            "authenticator_data": text(data), "signature": text(self.key.sign(&signed)?),
            "user_handle": self.user, "return_to": "/account",
        }))
    }
}

/// An app that shows codes.
pub(super) struct CodeApp {
    secret: Vec<u8>,
    /// The time step of the latest code that it showed.
    shown: u64,
}

impl CodeApp {
    /// Scans the page that shows the secret.
    pub(super) fn of(page: &str) -> Result<Self> {
        let shown = page
            .split("<p class=\"mono\">")
            .nth(1)
            .and_then(|rest| rest.split('<').next())
            .with_context(|| format!("no secret: {page}"))?;
        let letters = shown.bytes().filter(u8::is_ascii_alphanumeric);
        let (mut secret, mut bits, mut many) = (Vec::new(), 0_u32, 0_u32);
        for letter in letters {
            // RFC 4648 §6.
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                _ => letter - b'2' + 26,
            };
            bits = (bits << 5) | u32::from(value);
            many += 5;
            if many >= 8 {
                many -= 8;
                secret.push(u8::try_from((bits >> many) & 0xff)?);
            }
        }
        log_scan::keep_out(&shown.replace(' ', ""));
        Ok(Self { secret, shown: 0 })
    }

    /// A code that it did not show yet: of now, or of the half minute to come, which counts as well.
    pub(super) async fn code(&mut self) -> Result<String> {
        loop {
            let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let now = since.as_secs() / 30;
            let step = now.max(self.shown + 1);
            if step <= now + 1 {
                self.shown = step;
                return self.of_step(step);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// RFC 4226 §5.3.
    fn of_step(&self, step: u64) -> Result<String> {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.secret)?;
        mac.update(&step.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        let at = usize::from(hash[19] & 0x0f);
        let four: [u8; 4] = hash[at..at + 4].try_into()?;
        let number = u32::from_be_bytes(four) & 0x7fff_ffff;
        Ok(format!("{:06}", number % 1_000_000))
    }
}
