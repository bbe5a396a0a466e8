//! What an authenticator says of a new credential (WebAuthn §6.5.4).

use ciborium::Value;

use super::Fault;

/// `authData` of an attestation object (§6.5.4). We asked for no attestation and believe none; a
/// statement of the format "none" must be empty (§8.7).
pub(super) fn attested(object: &[u8]) -> Result<Vec<u8>, Fault> {
    let fault = Fault("attestation_malformed");
    let mut rest = object;
    let value: Value = ciborium::from_reader(&mut rest).map_err(|_| fault)?;
    let Value::Map(entries) = value else {
        return Err(fault);
    };
    if !rest.is_empty() || entries.len() != 3 {
        return Err(fault);
    }
    let get = |name: &str| {
        let mut found = entries
            .iter()
            .filter(|(own, _)| own.as_text() == Some(name));
        found.next().map(|(_, value)| value)
    };
    let format = get("fmt").and_then(Value::as_text).ok_or(fault)?;
    let statement = get("attStmt").and_then(Value::as_map).ok_or(fault)?;
    if format == "none" && !statement.is_empty() {
        return Err(fault);
    }
    get("authData")
        .and_then(Value::as_bytes)
        .cloned()
        .ok_or(fault)
}
