//! What a key in JSON shows (RFC 7517).

use serde_json::{Map, Value};

/// Members that belong to nobody but the key's owner (RFC 7518 §6.2.2, §6.3.2, §6.4).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Whether a JWK shows something private or is a shared secret.
#[must_use]
pub fn is_private(jwk: &Map<String, Value>) -> bool {
    PRIVATE.iter().any(|member| jwk.contains_key(*member))
}
