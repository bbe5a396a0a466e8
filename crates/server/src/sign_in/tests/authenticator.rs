//! An authenticator for tests: keys of all three algorithms, and every flag can be wrong.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

enum Key {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// One credential of it.
pub(crate) struct Authenticator {
    key: Key,
    pub(crate) id: Vec<u8>,
    pub(crate) counter: u32,
    pub(crate) flags: u8,
    pub(crate) origin: String,
    pub(crate) rp_id: String,
    pub(crate) user_handle: Option<String>,
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Authenticator {
    /// With a key of this COSE algorithm.
    pub(crate) fn new(alg: i64) -> Self {
        let random = SystemRandom::new();
        let key = match alg {
            -7 => {
                let scheme = &ECDSA_P256_SHA256_ASN1_SIGNING;
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
                Key::Ec(EcdsaKeyPair::from_pkcs8(scheme, pkcs8.as_ref()).unwrap())
            }
            -8 => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Key::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
            }
            _ => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let _: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
                Key::Rsa(key)
            }
        };
        let id: [u8; 16] = rand::random();
        Self {
            key,
            id: id.to_vec(),
            counter: 0,
            flags: 0x05,
            origin: "http://localhost:8377".into(),
            rp_id: "localhost".into(),
            user_handle: None,
        }
    }

    fn cose(&self) -> Vec<u8> {
        let int = |number: i64| Value::Integer(number.into());
        let entries = match &self.key {
            Key::Ec(key) => {
                let point = key.public_key().as_ref();
                vec![
                    (int(1), int(2)),
                    (int(3), int(-7)),
                    (int(-1), int(1)),
                    (int(-2), Value::Bytes(point[1..33].to_vec())),
                    (int(-3), Value::Bytes(point[33..].to_vec())),
                ]
            }
            Key::Ed(key) => vec![
                (int(1), int(1)),
                (int(3), int(-8)),
                (int(-1), int(6)),
                (int(-2), Value::Bytes(key.public_key().as_ref().to_vec())),
            ],
            Key::Rsa(key) => {
                let public = key.public_key();
                let n = public.modulus().big_endian_without_leading_zero();
                let e = public.exponent().big_endian_without_leading_zero();
                vec![
                    (int(1), int(3)),
                    (int(3), int(-257)),
                    (int(-1), Value::Bytes(n.to_vec())),
                    (int(-2), Value::Bytes(e.to_vec())),
                ]
            }
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&Value::Map(entries), &mut bytes).unwrap();
        bytes
    }

    fn data(&self, credential: bool) -> Vec<u8> {
        let mut data = Sha256::digest(&self.rp_id).to_vec();
        data.push(self.flags | if credential { 0x40 } else { 0 });
        data.extend(self.counter.to_be_bytes());
        if credential {
            data.extend([0; 16]);
            data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
            data.extend(&self.id);
            data.extend(self.cose());
        }
        data
    }

    fn client_data(&self, kind: &str, options: &Json) -> String {
        json!({
            "type": kind,
            "challenge": options["publicKey"]["challenge"],
            "origin": self.origin,
            "crossOrigin": false,
        })
        .to_string()
    }

    /// The answer to options of a registration.
    pub(crate) fn make(&mut self, options: &Json) -> Json {
        self.user_handle = options["publicKey"]["user"]["id"]
            .as_str()
            .map(str::to_owned);
        let object = Value::Map(vec![
            (Value::Text("fmt".into()), Value::Text("none".into())),
            (Value::Text("attStmt".into()), Value::Map(Vec::new())),
            (
                Value::Text("authData".into()),
                Value::Bytes(self.data(true)),
            ),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&object, &mut bytes).unwrap();
        json!({
            "state": options["state"],
            "name": "Test key",
            "client_data": text(self.client_data("webauthn.create", options)),
            "attestation_object": text(bytes),
            "transports": ["usb", "teleport"],
        })
    }

    /// The answer to options of a sign-in.
    pub(crate) fn answer(&self, options: &Json) -> Json {
        let client_data = self.client_data("webauthn.get", options);
        let data = self.data(false);
        let mut message = data.clone();
        message.extend(Sha256::digest(&client_data));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Ec(key) => key.sign(&random, &message).unwrap().as_ref().to_vec(),
            Key::Ed(key) => key.sign(&message).as_ref().to_vec(),
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, &message, &mut signature)
                    .unwrap();
                signature
            }
        };
        json!({
            "state": options["state"],
            "id": text(&self.id),
            "client_data": text(client_data),
            "authenticator_data": text(data),
            "signature": text(signature),
            "user_handle": self.user_handle,
            "return_to": "/x",
        })
    }
}
