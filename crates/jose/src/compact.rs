//! The compact form of a signed token (RFC 7515 §3.1), taken apart and not believed yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::strict_json::read_object;

/// Three parts, of which the header is read already: a caller looks at `alg` before anything else,
/// since `none` has no signature to complain about.
#[derive(Debug)]
pub struct Compact<'a> {
    /// The header, strict JSON.
    pub header: Map<String, Value>,
    /// What the signature covers.
    pub signed: &'a str,
    /// The signature as it was sent.
    pub signature_text: &'a str,
    payload: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes a token apart that is at most so many bytes long.
    ///
    /// # Errors
    /// What is wrong with its form, in words after “it is malformed:”.
    pub fn read(token: &'a str, longest: usize) -> Result<Self, &'static str> {
        if token.len() > longest {
            return Err("it is enormous");
        }
        let (signed, signature_text) = token.rsplit_once('.').ok_or("it has no signature")?;
        let (header, payload) = signed.split_once('.').ok_or("it has no payload")?;
        if payload.contains('.') {
            return Err("it has more than three parts");
        }
        Ok(Self {
            header: object(header).ok_or("its header is not strict JSON")?,
            signed,
            signature_text,
            payload,
        })
    }

    /// `alg` of the header, where it is text.
    #[must_use]
    pub fn algorithm(&self) -> Option<&str> {
        self.header.get("alg")?.as_str()
    }

    /// Whether the header brings extensions that must be understood, or its own keys or an address of
    /// them: a token that says how it wants to be believed is not.
    #[must_use]
    pub fn brings_its_own(&self) -> bool {
        ["crit", "b64", "jku", "x5u", "jwk"]
            .iter()
            .any(|name| self.header.contains_key(*name))
    }

    /// The claims.
    ///
    /// # Errors
    /// As [`Compact::read`].
    pub fn claims(&self) -> Result<Map<String, Value>, &'static str> {
        object(self.payload).ok_or("its payload is not strict JSON")
    }

    /// The signature, which is never empty.
    ///
    /// # Errors
    /// As [`Compact::read`].
    pub fn signature(&self) -> Result<Vec<u8>, &'static str> {
        URL_SAFE_NO_PAD
            .decode(self.signature_text)
            .ok()
            .filter(|signature| !signature.is_empty())
            .ok_or("its signature is not base64url")
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    read_object(&URL_SAFE_NO_PAD.decode(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[test]
    fn ac_042_what_is_malformed_is_no_token() {
        let (header, claims) = (encode(r#"{"alg":"ES256"}"#), encode("{}"));
        let good = format!("{header}.{claims}.AA");
        let read = Compact::read(&good, 100).unwrap();
        assert_eq!(read.algorithm(), Some("ES256"));
        assert!(read.claims().unwrap().is_empty() && !read.brings_its_own());
        assert_eq!(read.signature().unwrap(), [0]);
        assert_eq!(read.signed, format!("{header}.{claims}"));
        for bad in [
            String::new(),
            "a.b".to_owned(),
            format!("{header}.{claims}"),
            format!("{good}.AA"),
            format!("{header}=.{claims}.AA"),
            format!("{}.{claims}.AA", encode(r#"{"alg":"none","alg":"ES256"}"#)),
            format!("{}.{claims}.AA", encode("[]")),
        ] {
            assert!(Compact::read(&bad, 100).is_err(), "{bad}");
        }
        assert!(Compact::read(&good, good.len() - 1).is_err());
        let twice = format!("{header}.{}.AA", encode(r#"{"a":1,"a":1}"#));
        assert!(Compact::read(&twice, 100).unwrap().claims().is_err());
        for signature in ["", "A", "!!"] {
            let token = format!("{header}.{claims}.{signature}");
            assert!(Compact::read(&token, 100).unwrap().signature().is_err());
        }
        for name in ["crit", "b64", "jku", "x5u", "jwk"] {
            let token = format!("{}.{claims}.AA", encode(&format!(r#"{{"{name}":1}}"#)));
            assert!(
                Compact::read(&token, 100).unwrap().brings_its_own(),
                "{name}"
            );
        }
    }
}
