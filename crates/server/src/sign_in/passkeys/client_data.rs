//! What the browser says it did (WebAuthn §5.8.1).

use keywright_domain::SecretText;
use serde::Deserialize;

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
