//! What the browser says it did (WebAuthn §5.8.1).

use keywright_domain::SecretText;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Fault;

#[derive(Deserialize)]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
    #[serde(rename = "topOrigin")]
    top_origin: Option<String>,
    /// What else browsers say. Kept, because what is skipped is not looked at: it would not have to be JSON.
    #[serde(flatten)]
    _others: Map<String, Value>,
}

/// Checks it: what was done, for which challenge, on which page. A frame of another site is refused.
pub(super) fn check(bytes: &[u8], kind: &str, challenge: &str, origin: &str) -> Result<(), Fault> {
    let data: ClientData =
        serde_json::from_slice(bytes).map_err(|_| Fault("client_data_malformed"))?;
    if data.r#type != kind {
        return Err(Fault("type_mismatch"));
    }
    if !SecretText::new(data.challenge).matches(challenge) {
        return Err(Fault("challenge_mismatch"));
    }
    if data.origin != origin {
        return Err(Fault("origin_mismatch"));
    }
    if data.cross_origin || data.top_origin.is_some() {
        return Err(Fault("cross_origin"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    const ORIGIN: &str = "https://id.example.com";

    fn said(others: &str) -> Result<(), &'static str> {
        let data =
            format!(r#"{{"type":"webauthn.get","challenge":"AAAA","origin":"{ORIGIN}"{others}}}"#);
        check(data.as_bytes(), "webauthn.get", "AAAA", ORIGIN).map_err(|fault| fault.0)
    }

    #[test]
    fn what_browsers_add_may_be_anything_that_is_json() {
        assert_eq!(said(""), Ok(()));
        assert_eq!(
            said(r#","crossOrigin":false,"extra":{"a":["\ud83d\ude00"]}"#),
            Ok(())
        );
        for broken in [
            r#","extra":"\udfff""#,
            r#","extra":["\ud83d"]"#,
            r#","origin":"https://id.example.com""#,
            r#","extra":"#,
        ] {
            assert_eq!(said(broken), Err("client_data_malformed"), "{broken}");
        }
        assert_eq!(
            said(r#","topOrigin":"https://a.example""#),
            Err("cross_origin")
        );
        assert_eq!(said(r#","crossOrigin":true"#), Err("cross_origin"));
    }
}
