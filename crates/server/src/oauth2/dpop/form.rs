//! What a proof says, before anything of it is believed (RFC 9449 §4.2).

use keywright_jose::jwk::is_private;
use keywright_jose::numeric_date::seconds;
use serde_json::{Map, Value};

const LONGEST_JTI: usize = 200;

/// A proof's header and claims, as far as they count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    /// The public key that it brings.
    pub(crate) jwk: &'a Map<String, Value>,
    /// Its id, of a sensible length.
    pub(crate) jti: &'a str,
    /// The method of the request.
    pub(crate) htm: &'a str,
    /// The address of the request.
    pub(crate) htu: &'a str,
    /// When it was made, Unix seconds.
    pub(crate) iat: i64,
    /// A nonce, ours or not.
    pub(crate) nonce: Option<&'a str>,
    /// The hash of the access token beside it.
    pub(crate) ath: Option<&'a str>,
}

/// Reads a proof.
///
/// # Errors
/// What is wrong with it, in words for its client.
pub(crate) fn read<'a>(
    header: &'a Map<String, Value>,
    claims: &'a Map<String, Value>,
) -> Result<Form<'a>, &'static str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let (Some(jti), Some(htm), Some(htu), Some(iat)) = (
        text("jti").filter(|jti| !jti.is_empty() && jti.len() <= LONGEST_JTI),
        text("htm"),
        text("htu"),
        claims.get("iat").and_then(seconds),
    ) else {
        return Err("the DPoP proof lacks jti, htm, htu or iat");
    };
    if header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
        return Err("the type of a DPoP proof is dpop+jwt");
    }
    let jwk = header.get("jwk").and_then(Value::as_object);
    let jwk = jwk.ok_or("the DPoP proof has no public key")?;
    if is_private(jwk) {
        return Err("the DPoP proof shows a private key");
    }
    Ok(Form {
        jwk,
        jti,
        htm,
        htu,
        iat,
        nonce: text("nonce"),
        ath: text("ath"),
    })
}

/// Without query and fragment, normalised (RFC 9449 §4.3).
pub(crate) fn is_same_address(given: &str, own: &str) -> bool {
    let read = |text: &str| {
        let mut url = url::Url::parse(text).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    };
    match (read(given), read(own)) {
        (Some(given), Some(own)) => given == own,
        _ => false,
    }
}
