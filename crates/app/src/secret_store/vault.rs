//! The encrypted file: where secrets rest when there is no keychain and a person chose it.
//! It is never made by itself, never under a key derived from the machine, and always visible.
//!
//! argon2id makes a key of the passphrase; that key wraps a random one; the random one seals all
//! records (XChaCha20-Poly1305, the header as associated data). Written whole, or not at all.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use keywright_domain::SecretText;
use rand::Rng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeychainError;

type Result<T> = std::result::Result<T, KeychainError>;
type Records = BTreeMap<String, Zeroizing<String>>;

/// What a new file is made with: 64 MiB, three passes, four lanes.
const COST: Cost = Cost {
    memory_kib: 65_536,
    passes: 3,
    lanes: 4,
};
/// A file that asks for more than this is not ours.
const COST_LIMIT: Cost = Cost {
    memory_kib: 1_048_576,
    passes: 10,
    lanes: 16,
};
/// Shortest passphrase.
const MIN_PASSPHRASE: usize = 12;
/// After a wrong passphrase: 0.25 s, doubled each time, up to this.
const MAX_BACK_OFF: Duration = Duration::from_secs(8);

/// The encrypted file, chosen or not, open or not.
pub(super) struct Vault {
    file: PathBuf,
    key: Mutex<Option<Zeroizing<[u8; 32]>>>,
    failures: Mutex<Failures>,
    /// Held from reading the file to writing it: two changes at one time would each write the records without
    /// the other's.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Failures {
    count: u32,
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    kdf: String,
    cost: Cost,
    salt: String,
    wrapped_key: Sealed,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    nonce: String,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    header: Header,
    records: Sealed,
}

const FORMAT: &str = "keywright-vault-1";
const KDF: &str = "argon2id";

impl Vault {
    pub(super) fn new(file: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            file,
            key: Mutex::default(),
            failures: Mutex::default(),
            writing: Mutex::default(),
        })
    }

    /// Whether a person chose the file at some time.
    pub(super) fn is_chosen(&self) -> bool {
        std::fs::symlink_metadata(&self.file).is_ok()
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.key).is_some()
    }

    /// Makes the file. Slow on purpose (argon2id): not on the caller's thread.
    pub(super) fn create(&self, passphrase: &SecretText) -> Result<()> {
        if passphrase.expose().chars().count() < MIN_PASSPHRASE {
            return Err(KeychainError::VaultPassphraseTooShort);
        }
        let _turn = lock(&self.writing);
        if self.is_chosen() {
            return Err(KeychainError::Failed {
                detail: "there is an encrypted file already".to_owned(),
            });
        }
        let mut salt = [0_u8; 16];
        rand::rng().fill_bytes(&mut salt);
        let mut key = Zeroizing::new([0_u8; 32]);
        rand::rng().fill_bytes(key.as_mut());
        let wrapping = derive(passphrase, &salt, COST)?;
        let wrapped_key = seal(&wrapping, key.as_ref(), KDF.as_bytes())?;
        let header = Header {
            format: FORMAT.to_owned(),
            kdf: KDF.to_owned(),
            cost: COST,
            salt: STANDARD.encode(salt),
            wrapped_key,
        };
        self.write(header, &key, &Records::new())?;
        *lock(&self.key) = Some(key);
        Ok(())
    }

    /// Opens the file. Slow on purpose (argon2id), and slower after each wrong passphrase.
    pub(super) fn unlock(&self, passphrase: &SecretText) -> Result<()> {
        self.refuse_while_backing_off()?;
        let file = self.load()?;
        let salt = decode(&file.header.salt)?;
        let wrapping = derive(passphrase, &salt, file.header.cost)?;
        let Ok(key) = open(&wrapping, &file.header.wrapped_key, KDF.as_bytes()) else {
            let mut failures = lock(&self.failures);
            failures.count = failures.count.saturating_add(1);
            failures.last = Some(Instant::now());
            return Err(KeychainError::VaultWrongPassphrase);
        };
        let key: [u8; 32] = key
            .as_slice()
            .try_into()
            .map_err(|_| KeychainError::VaultCorrupt)?;
        let key = Zeroizing::new(key);
        records(&file, &key)?;
        *lock(&self.failures) = Failures::default();
        *lock(&self.key) = Some(key);
        Ok(())
    }

    /// Forgets the key.
    pub(super) fn lock(&self) {
        *lock(&self.key) = None;
    }

    pub(super) fn read(&self, user: &str) -> Result<Option<SecretText>> {
        let (_, _, records) = self.opened()?;
        Ok(records
            .get(user)
            .map(|secret| SecretText::new(secret.to_string())))
    }

    pub(super) fn set(&self, user: &str, secret: &SecretText) -> Result<()> {
        let _turn = lock(&self.writing);
        let (key, file, mut records) = self.opened()?;
        records.insert(user.to_owned(), Zeroizing::new(secret.expose().to_owned()));
        self.write(file.header, &key, &records)
    }

    pub(super) fn delete(&self, user: &str) -> Result<bool> {
        let _turn = lock(&self.writing);
        let (key, file, mut records) = self.opened()?;
        let existed = records.remove(user).is_some();
        if existed {
            self.write(file.header, &key, &records)?;
        }
        Ok(existed)
    }

    fn opened(&self) -> Result<(Zeroizing<[u8; 32]>, File, Records)> {
        let key = lock(&self.key).clone().ok_or(KeychainError::VaultLocked)?;
        let file = self.load()?;
        let records = records(&file, &key)?;
        Ok((key, file, records))
    }

    fn refuse_while_backing_off(&self) -> Result<()> {
        let failures = lock(&self.failures);
        let pause = Duration::from_millis(250)
            .saturating_mul(1 << failures.count.saturating_sub(1).min(8))
            .min(MAX_BACK_OFF);
        match failures.last {
            Some(last) if last.elapsed() < pause => Err(KeychainError::VaultBackOff),
            _ => Ok(()),
        }
    }

    fn load(&self) -> Result<File> {
        check_modes(&self.file)?;
        let text = std::fs::read(&self.file).map_err(|error| failed(&error))?;
        let file: File = serde_json::from_slice(&text).map_err(|_| KeychainError::VaultCorrupt)?;
        let (cost, limit) = (file.header.cost, COST_LIMIT);
        let within = cost.memory_kib <= limit.memory_kib
            && cost.passes <= limit.passes
            && cost.lanes <= limit.lanes;
        if file.header.format != FORMAT || file.header.kdf != KDF || !within {
            return Err(KeychainError::VaultCorrupt);
        }
        Ok(file)
    }

    fn write(&self, header: Header, key: &[u8; 32], records: &Records) -> Result<()> {
        let plain: BTreeMap<&str, &str> = records
            .iter()
            .map(|(user, secret)| (user.as_str(), secret.as_str()))
            .collect();
        let plain =
            Zeroizing::new(serde_json::to_vec(&plain).map_err(|_| KeychainError::VaultCorrupt)?);
        let records = seal(key, &plain, &associated_data(&header)?)?;
        let text = serde_json::to_vec_pretty(&File { header, records })
            .map_err(|_| KeychainError::VaultCorrupt)?;
        let folder = self.file.parent().ok_or(KeychainError::VaultCorrupt)?;
        // A temporary file of this crate is 0600 from its first byte.
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        new.write_all(&text).map_err(|error| failed(&error))?;
        new.as_file().sync_all().map_err(|error| failed(&error))?;
        new.persist(&self.file)
            .map_err(|error| failed(&error.error))?;
        Ok(())
    }
}

fn associated_data(header: &Header) -> Result<Vec<u8>> {
    serde_json::to_vec(header).map_err(|_| KeychainError::VaultCorrupt)
}

fn records(file: &File, key: &[u8; 32]) -> Result<Records> {
    let plain = open(key, &file.records, &associated_data(&file.header)?)?;
    let records: BTreeMap<String, String> =
        serde_json::from_slice(&plain).map_err(|_| KeychainError::VaultCorrupt)?;
    Ok(records
        .into_iter()
        .map(|(user, secret)| (user, Zeroizing::new(secret)))
        .collect())
}

fn derive(passphrase: &SecretText, salt: &[u8], cost: Cost) -> Result<Zeroizing<[u8; 32]>> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|_| KeychainError::VaultCorrupt)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), salt, key.as_mut())
        .map_err(|_| KeychainError::VaultCorrupt)?;
    Ok(key)
}

fn seal(key: &[u8; 32], plain: &[u8], associated: &[u8]) -> Result<Sealed> {
    let mut nonce = [0_u8; 24];
    rand::rng().fill_bytes(&mut nonce);
    let ciphertext = XChaCha20Poly1305::new(key.into())
        .encrypt(
            &XNonce::from(nonce),
            Payload {
                msg: plain,
                aad: associated,
            },
        )
        .map_err(|_| KeychainError::VaultCorrupt)?;
    Ok(Sealed {
        nonce: STANDARD.encode(nonce),
        ciphertext: STANDARD.encode(ciphertext),
    })
}

fn open(key: &[u8; 32], sealed: &Sealed, associated: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let nonce: [u8; 24] = decode(&sealed.nonce)?
        .try_into()
        .map_err(|_| KeychainError::VaultCorrupt)?;
    let ciphertext = decode(&sealed.ciphertext)?;
    XChaCha20Poly1305::new(key.into())
        .decrypt(
            &XNonce::from(nonce),
            Payload {
                msg: &ciphertext,
                aad: associated,
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| KeychainError::VaultCorrupt)
}

fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|_| KeychainError::VaultCorrupt)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: &std::io::Error) -> KeychainError {
    KeychainError::Failed {
        detail: format!("the encrypted file: {error}"),
    }
}

/// A link, or a file or folder that others can read, is refused.
#[cfg(unix)]
fn check_modes(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let refused = |detail: &str| KeychainError::Failed {
        detail: format!("the encrypted file {detail}"),
    };
    let metadata = std::fs::symlink_metadata(file).map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(refused("is not a plain file"));
    }
    let folder = file.parent().ok_or(KeychainError::VaultCorrupt)?;
    let folder = std::fs::metadata(folder).map_err(|error| failed(&error))?;
    if metadata.permissions().mode() & 0o077 != 0 || folder.permissions().mode() & 0o077 != 0 {
        return Err(refused("or its folder can be read by others"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_modes(_: &Path) -> Result<()> {
    Ok(()) // Windows: the profile folder's access list is the user's own.
}

#[cfg(test)]
#[path = "vault_tests.rs"]
mod tests;
