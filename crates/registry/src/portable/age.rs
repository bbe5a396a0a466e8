//! Files in the format of age, version 1 (age-encryption.org/v1; C2SP, age.md): sealed under a
//! passphrase, or for one recipient; always in the text form, so that a file that was cut short is
//! told from a damaged one. Whoever has the `age` program can open them without us.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use chacha20poly1305::aead::{Aead, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use keywright_domain::SecretText;
use rand::Rng as _;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

const VERSION: &str = "age-encryption.org/v1";
const SCRYPT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const X25519_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
/// log2 of scrypt's cost for files we make: what `age` itself takes, about a second and 256 MiB.
pub(super) const WORK: u8 = 18;
/// The highest cost that is paid for a file: 1 GiB and some seconds. A stranger's file must not stop the machine.
const MAX_WORK: u8 = 20;
/// Largest file that is opened: peppers are few.
const MAX_FILE: usize = 1024 * 1024;

/// Why a file does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgeError {
    /// Not of this format.
    Foreign,
    /// Its end is missing.
    CutShort,
    /// It was changed, or is no whole file.
    Damaged,
    /// It does not open with what was given.
    WrongKey,
    /// It is sealed in another way: for a recipient, or under a passphrase.
    OtherKind,
    /// Opening it costs more than is ever paid.
    TooCostly,
}

/// Who opens files that were sealed for it. The text is age's own, `AGE-SECRET-KEY-1…`.
pub struct TransferIdentity(StaticSecret);

/// For whom a file is sealed. The text is age's own, `age1…`, and public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferRecipient([u8; 32]);

impl TransferIdentity {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rand::rng().fill_bytes(bytes.as_mut_slice());
        Self(StaticSecret::from(*bytes))
    }

    /// Whom to seal for.
    #[must_use]
    pub fn recipient(&self) -> TransferRecipient {
        TransferRecipient(PublicKey::from(&self.0).to_bytes())
    }

    /// Reads the text; none if it is not one.
    #[must_use]
    pub fn parse(text: &SecretText) -> Option<Self> {
        let (prefix, mut bytes) = bech32::decode(text.expose().trim()).ok()?;
        let fixed = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        bytes.zeroize();
        let is_ours = prefix.as_str().eq_ignore_ascii_case("age-secret-key-");
        Some(Self(StaticSecret::from(*fixed.ok().filter(|_| is_ours)?)))
    }

    /// The text, to be kept where secrets are kept.
    #[must_use]
    pub fn to_text(&self) -> SecretText {
        let prefix = bech32::Hrp::parse_unchecked("AGE-SECRET-KEY-");
        let bytes = Zeroizing::new(self.0.to_bytes());
        // 32 bytes are within bech32's bounds: the empty text never comes out.
        let text = bech32::encode_upper::<bech32::Bech32>(prefix, bytes.as_slice());
        SecretText::new(text.unwrap_or_default())
    }
}

impl std::fmt::Debug for TransferIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransferIdentity(redacted)")
    }
}

impl TransferRecipient {
    /// Reads the text; none if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, bytes) = bech32::decode(text.trim()).ok()?;
        let bytes = <[u8; 32]>::try_from(bytes).ok()?;
        (prefix.as_str() == "age").then_some(Self(bytes))
    }
}

impl std::fmt::Display for TransferRecipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = bech32::Hrp::parse_unchecked("age");
        let text =
            bech32::encode::<bech32::Bech32>(prefix, &self.0).map_err(|_| std::fmt::Error)?;
        f.write_str(&text)
    }
}

/// Seals under a passphrase; `work` is log2 of scrypt's cost.
pub(super) fn seal_under(passphrase: &SecretText, work: u8, plain: &[u8]) -> Option<Vec<u8>> {
    let file_key = random::<16>();
    let salt = random::<16>();
    let wrap = scrypt_key(passphrase, salt.as_slice(), work)?;
    let body = seal_chunk(&wrap, [0; 12], file_key.as_slice())?;
    let arguments = format!("scrypt {} {work}", STANDARD_NO_PAD.encode(salt.as_slice()));
    seal(&file_key, &arguments, &body, plain)
}

/// Seals for a recipient.
pub(super) fn seal_for(recipient: &TransferRecipient, plain: &[u8]) -> Option<Vec<u8>> {
    let file_key = random::<16>();
    let ephemeral = TransferIdentity::generate();
    let share = ephemeral.recipient();
    let wrap = x25519_key(&ephemeral.0, recipient, &share, recipient)?;
    let body = seal_chunk(&wrap, [0; 12], file_key.as_slice())?;
    let arguments = format!("X25519 {}", STANDARD_NO_PAD.encode(share.0));
    seal(&file_key, &arguments, &body, plain)
}

/// Opens a file that was sealed under a passphrase.
pub(super) fn open_under(
    passphrase: &SecretText,
    file: &[u8],
) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    open_large_under(passphrase, file, MAX_FILE)
}

/// The same for files of a size that the caller allows.
pub(super) fn open_large_under(
    passphrase: &SecretText,
    file: &[u8],
    most: usize,
) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let binary = to_binary(file, most)?;
    let (stanzas, parts) = parse(&binary)?;
    // A passphrase stands alone: who seals under one means nobody else.
    let [stanza] = stanzas.as_slice() else {
        return Err(AgeError::OtherKind);
    };
    let ["scrypt", salt, work] = stanza.arguments.as_slice() else {
        return Err(AgeError::OtherKind);
    };
    let salt: [u8; 16] = unpad(salt)?;
    let is_number = work.bytes().all(|byte| byte.is_ascii_digit()) && !work.starts_with('0');
    let work: u8 = work.parse().map_err(|_| AgeError::Damaged)?;
    if !is_number {
        return Err(AgeError::Damaged);
    }
    if work > MAX_WORK {
        return Err(AgeError::TooCostly);
    }
    let wrap = scrypt_key(passphrase, &salt, work).ok_or(AgeError::Damaged)?;
    let file_key = open_chunk(&wrap, [0; 12], &stanza.body).ok_or(AgeError::WrongKey)?;
    open(&file_key, &parts)
}

/// Opens a file that was sealed for this identity.
pub(super) fn open_with(
    identity: &TransferIdentity,
    file: &[u8],
) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let binary = to_binary(file, MAX_FILE)?;
    let (stanzas, parts) = parse(&binary)?;
    let own = identity.recipient();
    let mut failure = AgeError::OtherKind;
    for stanza in &stanzas {
        let ["X25519", share] = stanza.arguments.as_slice() else {
            continue;
        };
        let share = TransferRecipient(unpad(share)?);
        let wrap = x25519_key(&identity.0, &share, &share, &own).ok_or(AgeError::Damaged)?;
        if let Some(file_key) = open_chunk(&wrap, [0; 12], &stanza.body) {
            return open(&file_key, &parts);
        }
        failure = AgeError::WrongKey;
    }
    Err(failure)
}

/// One way to the file's key. Files of others may have several, and some that nobody knows.
struct Stanza<'a> {
    arguments: Vec<&'a str>,
    body: Vec<u8>,
}

struct Parts<'a> {
    /// What the header's checksum covers.
    header: &'a [u8],
    checksum: [u8; 32],
    nonce: [u8; 16],
    payload: &'a [u8],
}

fn seal(file_key: &[u8; 16], arguments: &str, body: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let mut header = format!("{VERSION}\n-> {arguments}\n");
    // 32 bytes are one short line; a full line of 64 would need an empty one after it.
    header.push_str(&STANDARD_NO_PAD.encode(body));
    header.push_str("\n---");
    let checksum = header_mac(file_key, header.as_bytes())?.finalize();
    let mut file = header.into_bytes();
    file.push(b' ');
    file.extend(STANDARD_NO_PAD.encode(checksum.into_bytes()).into_bytes());
    file.push(b'\n');
    let nonce = random::<16>();
    file.extend_from_slice(nonce.as_slice());
    let key = derive(Some(nonce.as_slice()), file_key, b"payload")?;
    let count = plain.len().div_ceil(CHUNK).max(1);
    file.reserve_exact(plain.len() + count * TAG);
    for index in 0..count {
        let part = &plain[index * CHUNK..plain.len().min((index + 1) * CHUNK)];
        file.extend(seal_chunk(
            &key,
            chunk_nonce(index, index + 1 == count),
            part,
        )?);
    }
    Some(armor(&file))
}

fn open(file_key: &[u8], parts: &Parts<'_>) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let file_key = <[u8; 16]>::try_from(file_key)
        .map(Zeroizing::new)
        .map_err(|_| AgeError::Damaged)?;
    let mac = header_mac(&file_key, parts.header).ok_or(AgeError::Damaged)?;
    mac.verify(&parts.checksum.into())
        .map_err(|_| AgeError::Damaged)?;
    let key =
        derive(Some(&parts.nonce), file_key.as_slice(), b"payload").ok_or(AgeError::Damaged)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(parts.payload.len()));
    let chunks: Vec<_> = parts.payload.chunks(CHUNK + TAG).collect();
    for (index, chunk) in chunks.iter().enumerate() {
        let nonce = chunk_nonce(index, index + 1 == chunks.len());
        let opened = open_chunk(&key, nonce, chunk).ok_or(AgeError::Damaged)?;
        // Only an empty file has an empty chunk.
        if opened.is_empty() && index > 0 {
            return Err(AgeError::Damaged);
        }
        plain.extend_from_slice(&opened);
    }
    if chunks.is_empty() {
        return Err(AgeError::CutShort);
    }
    Ok(plain)
}

fn parse(binary: &[u8]) -> Result<(Vec<Stanza<'_>>, Parts<'_>), AgeError> {
    let mut reader = Reader {
        binary,
        position: 0,
    };
    if reader.line().ok() != Some(VERSION) {
        return Err(AgeError::Foreign);
    }
    let mut stanzas = Vec::new();
    let checksum = loop {
        let line = reader.line()?;
        if let Some(checksum) = line.strip_prefix("--- ") {
            break checksum;
        }
        let arguments = line.strip_prefix("-> ").ok_or(AgeError::Damaged)?;
        // The last line of a body is shorter than the others.
        let mut text = String::new();
        loop {
            let part = reader.line()?;
            text.push_str(part);
            if part.len() < 64 {
                break;
            }
        }
        stanzas.push(Stanza {
            arguments: arguments.split(' ').collect(),
            body: STANDARD_NO_PAD
                .decode(text)
                .map_err(|_| AgeError::Damaged)?,
        });
    };
    let header_end = reader.position - 1 - checksum.len() - 1;
    let rest = &binary[reader.position..];
    let (nonce, payload) = rest.split_first_chunk().ok_or(AgeError::CutShort)?;
    let parts = Parts {
        header: &binary[..header_end],
        checksum: unpad(checksum)?,
        nonce: *nonce,
        payload,
    };
    Ok((stanzas, parts))
}

/// Takes lines from the header.
struct Reader<'a> {
    binary: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Result<&'a str, AgeError> {
        let rest = &self.binary[self.position..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or(AgeError::CutShort)?;
        self.position += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| AgeError::Damaged)
    }
}

/// Line by line, into room that is there: a backup is as large as its database, and each copy of it counts.
fn armor(file: &[u8]) -> Vec<u8> {
    let lines = file.len().div_ceil(48);
    let mut armored = String::with_capacity(BEGIN.len() + END.len() + 2 + lines * 65);
    armored.push_str(BEGIN);
    armored.push('\n');
    for line in file.chunks(48) {
        STANDARD.encode_string(line, &mut armored);
        armored.push('\n');
    }
    armored.push_str(END);
    armored.push('\n');
    armored.into_bytes()
}

fn to_binary(file: &[u8], most: usize) -> Result<Vec<u8>, AgeError> {
    if file.len() > most {
        return Err(AgeError::Foreign);
    }
    if file.starts_with(VERSION.as_bytes()) {
        return Ok(file.to_vec());
    }
    let text = std::str::from_utf8(file)
        .map_err(|_| AgeError::Foreign)?
        .trim();
    let Some(text) = text.strip_prefix(BEGIN) else {
        let is_start = !text.is_empty() && BEGIN.starts_with(text);
        return Err(if is_start {
            AgeError::CutShort
        } else {
            AgeError::Foreign
        });
    };
    let text = text.strip_suffix(END).ok_or(AgeError::CutShort)?;
    let joined: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(joined).map_err(|_| AgeError::Damaged)
}

fn unpad<const N: usize>(text: &str) -> Result<[u8; N], AgeError> {
    let bytes = STANDARD_NO_PAD
        .decode(text)
        .map_err(|_| AgeError::Damaged)?;
    bytes.try_into().map_err(|_| AgeError::Damaged)
}

fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::rng().fill_bytes(bytes.as_mut_slice());
    bytes
}

fn chunk_nonce(index: usize, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(index as u64).to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}

fn seal_chunk(key: &[u8; 32], nonce: [u8; 12], plain: &[u8]) -> Option<Vec<u8>> {
    ChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(&Nonce::from(nonce), plain)
        .ok()
}

fn open_chunk(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let plain = ChaCha20Poly1305::new(&Key::from(*key)).decrypt(&Nonce::from(nonce), sealed);
    plain.ok().map(Zeroizing::new)
}

fn header_mac(file_key: &[u8; 16], header: &[u8]) -> Option<Hmac<Sha256>> {
    let key = derive(None, file_key, b"header")?;
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.as_slice()).ok()?;
    mac.update(header);
    Some(mac)
}

fn derive(salt: Option<&[u8]>, secret: &[u8], label: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(salt, secret)
        .expand(label, key.as_mut_slice())
        .ok()?;
    Some(key)
}

fn scrypt_key(passphrase: &SecretText, salt: &[u8], work: u8) -> Option<Zeroizing<[u8; 32]>> {
    let labelled = [SCRYPT_LABEL, salt].concat();
    let cost = scrypt::Params::new(work, 8, 1).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    let text = passphrase.expose().as_bytes();
    scrypt::scrypt(text, &labelled, &cost, key.as_mut_slice()).ok()?;
    Some(key)
}

/// None for a share that forces the result (RFC 7748 §6.1).
fn x25519_key(
    secret: &StaticSecret,
    with: &TransferRecipient,
    share: &TransferRecipient,
    recipient: &TransferRecipient,
) -> Option<Zeroizing<[u8; 32]>> {
    let shared = secret.diffie_hellman(&PublicKey::from(with.0));
    if !shared.was_contributory() {
        return None;
    }
    let salt = [share.0, recipient.0].concat();
    derive(Some(&salt), shared.as_bytes(), X25519_LABEL)
}

#[cfg(test)]
mod tests;
