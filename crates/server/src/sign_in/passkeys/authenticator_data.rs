//! What the authenticator signs (WebAuthn §6.1).

use ciborium::Value;
use subtle::ConstantTimeEq as _;

use super::{Fault, sha256};

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const MAY_BE_COPIED: u8 = 0x08;
const IS_COPIED: u8 = 0x10;
const HAS_CREDENTIAL: u8 = 0x40;
const HAS_EXTENSIONS: u8 = 0x80;
/// §4: a credential id has at most 1023 bytes.
const LONGEST_ID: usize = 1023;

/// Checked authenticator data.
#[derive(Debug)]
pub(super) struct AuthenticatorData {
    /// Signature counter; 0 for those that have none.
    pub(super) counter: i64,
    /// It is kept in sync between devices, so it is no piece of hardware.
    pub(super) is_synced: bool,
    /// A new credential: its id and its COSE key.
    pub(super) credential: Option<(Vec<u8>, Vec<u8>)>,
}

/// Reads and checks it: for our relying party, with the person there and verified.
pub(super) fn check(bytes: &[u8], rp_id: &str) -> Result<AuthenticatorData, Fault> {
    let fault = Fault("authenticator_data_malformed");
    let (hash, rest) = bytes.split_at_checked(32).ok_or(fault)?;
    let (flags, rest) = rest.split_first().ok_or(fault)?;
    let (counter, mut rest) = rest.split_first_chunk::<4>().ok_or(fault)?;
    if !bool::from(sha256(rp_id.as_bytes()).ct_eq(hash)) {
        return Err(Fault("rp_id_mismatch"));
    }
    let has = |flag: u8| flags & flag != 0;
    if !has(PRESENT) {
        return Err(Fault("user_not_present"));
    }
    if !has(VERIFIED) {
        return Err(Fault("user_not_verified"));
    }
    if has(IS_COPIED) && !has(MAY_BE_COPIED) {
        return Err(Fault("backup_flags_impossible"));
    }
    let credential = if has(HAS_CREDENTIAL) {
        let (_aaguid, after) = rest.split_at_checked(16).ok_or(fault)?;
        let (length, after) = after.split_first_chunk::<2>().ok_or(fault)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 || length > LONGEST_ID {
            return Err(Fault("credential_id_length"));
        }
        let (id, after) = after.split_at_checked(length).ok_or(fault)?;
        let key = one_item(after).ok_or(fault)?;
        rest = after.get(key.len()..).ok_or(fault)?;
        Some((id.to_vec(), key.to_vec()))
    } else {
        None
    };
    if has(HAS_EXTENSIONS) {
        let extensions = one_item(rest).ok_or(fault)?;
        rest = rest.get(extensions.len()..).ok_or(fault)?;
    }
    if !rest.is_empty() {
        return Err(fault);
    }
    Ok(AuthenticatorData {
        counter: i64::from(u32::from_be_bytes(*counter)),
        is_synced: has(MAY_BE_COPIED),
        credential,
    })
}

/// The bytes of the map that these begin with.
fn one_item(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    let value: Value = ciborium::from_reader(&mut rest).ok()?;
    value.as_map()?;
    bytes.get(..bytes.len() - rest.len())
}
