//! What the server must keep secret outside its database: the master key, from which sealing and CSRF
//! keys are made, and the peppers of API keys. One folder, 0700, files 0600; nodes over one database
//! share a copy of it. Losing the peppers kills every API key.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use keywright_domain::SecretText;
use keywright_domain::api_keys::Pepper;
use keywright_domain::audit_chain::CheckpointKey;
use keywright_domain::base62::random_id;
use keywright_domain::people::Sealed;
use keywright_registry::{PepperKey, Peppers};
use rand::Rng as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::on_disk;

const MASTER: &str = "master.key";
const PEPPER: &str = "pepper-";
const NONCE: usize = 24;

/// Why the secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// There is none.
    #[error("the master key {0} is missing: run `keywright-server init`, or put its copy back")]
    Missing(PathBuf),
    /// Not 32 bytes of base64url, or all alike.
    #[error("{0} is too weak: it must hold 32 random bytes, as base64url")]
    Weak(PathBuf),
    /// Others may read it.
    #[error("{0} can be read by others: `chmod go= {0}`")]
    Open(PathBuf),
    /// The file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// Sealed under another key, or changed.
    #[error("what was sealed cannot be opened: it was sealed under another master key, or changed")]
    Unseal,
}

impl SecretsError {
    /// Stable code; `master_key` is the setting's name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "master_key_missing",
            Self::Weak(_) => "master_key_weak",
            Self::Open(_) => "master_key_readable_by_others",
            Self::File(..) => "secrets_unreadable",
            Self::Unseal => "unseal_failed",
        }
    }
}

/// The secrets of a server, in memory.
pub struct ServerSecrets {
    folder: PathBuf,
    seal: XChaCha20Poly1305,
    csrf: Zeroizing<[u8; 32]>,
    master: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for ServerSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSecrets")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl ServerSecrets {
    /// Makes a new master key in `folder`; one that is there stays. An empty file is none: nothing was
    /// sealed under it.
    ///
    /// # Errors
    /// [`SecretsError::File`].
    pub fn create(folder: &Path) -> Result<Self, SecretsError> {
        let path = folder.join(MASTER);
        let failed = |error| SecretsError::File(path.clone(), error);
        if is_empty_file(&path) {
            fs::remove_file(&path).map_err(failed)?;
        }
        if !path.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| SecretsError::File(folder.to_owned(), error))?;
            let mut key = Zeroizing::new([0_u8; 32]);
            rand::rng().fill_bytes(&mut *key);
            write_new(&path, &key)?;
            on_disk::sync_folder_of(folder).map_err(failed)?;
        }
        Self::open(folder)
    }

    /// Reads the master key.
    ///
    /// # Errors
    /// [`SecretsError`]; a key that others can read is refused, and so is a weak one.
    pub fn open(folder: &Path) -> Result<Self, SecretsError> {
        let master = read(&folder.join(MASTER))?;
        Ok(Self {
            folder: folder.to_owned(),
            seal: XChaCha20Poly1305::new(&(*derive(&master, b"keywright seal 1")).into()),
            csrf: derive(&master, b"keywright csrf 1"),
            master,
        })
    }

    /// Seals bytes for the database. `purpose` is bound: what was sealed for one opens for no other.
    #[must_use]
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Sealed {
        Sealed::new(seal_with(&self.seal, purpose, plain))
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// [`SecretsError::Unseal`].
    pub fn unseal(
        &self,
        purpose: &str,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        open_with(&self.seal, purpose, sealed.as_bytes())
    }

    /// A key that follows from a token: what is sealed under it needs the token *and* this server
    /// (the successor of a refresh token, for an honest retry).
    #[must_use]
    pub fn seal_under(&self, token: &SecretText, plain: &SecretText) -> Sealed {
        Sealed::new(seal_with(
            &self.token_cipher(token),
            "successor",
            plain.expose().as_bytes(),
        ))
    }

    /// Opens what [`Self::seal_under`] made.
    ///
    /// # Errors
    /// [`SecretsError::Unseal`].
    pub fn unseal_under(
        &self,
        token: &SecretText,
        sealed: &Sealed,
    ) -> Result<SecretText, SecretsError> {
        let plain = open_with(&self.token_cipher(token), "successor", sealed.as_bytes())?;
        String::from_utf8(plain.to_vec())
            .map(SecretText::new)
            .map_err(|_| SecretsError::Unseal)
    }

    /// HMAC-SHA-256 of parts under the key for CSRF tokens and other texts of ours that come back.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        // By hand as in the domain: `new_from_slice` cannot fail for HMAC, though its type can.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&*self.csrf) else {
            return [0; 32];
        };
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The pepper of this id.
    ///
    /// # Errors
    /// [`SecretsError`] if it is not in the folder.
    pub fn pepper(&self, id: &str) -> Result<PepperKey, SecretsError> {
        let bytes = read(&self.pepper_path(id))?;
        Ok(PepperKey {
            id: id.to_owned(),
            pepper: Pepper::from_bytes(*bytes),
        })
    }

    /// Makes a pepper and writes it down. Returns its id.
    ///
    /// # Errors
    /// [`SecretsError::File`].
    pub fn new_pepper(&self) -> Result<String, SecretsError> {
        let id = random_id(&mut rand::rng());
        let pepper = Pepper::generate(&mut rand::rng());
        write_new(&self.pepper_path(&id), pepper.expose())?;
        Ok(id)
    }

    /// The peppers of these ids, the first one in force.
    ///
    /// # Errors
    /// [`SecretsError`] if one is not in the folder: keys under it could not be judged.
    pub fn peppers(&self, ids: &[String]) -> Result<Option<Peppers>, SecretsError> {
        let Some((current, older)) = ids.split_first() else {
            return Ok(None);
        };
        let mut peppers = Peppers::new(self.pepper(current)?);
        for id in older {
            peppers = peppers.with_older(self.pepper(id)?);
        }
        Ok(Some(peppers))
    }

    /// The ids of all peppers in the folder, in force or in reserve.
    ///
    /// # Errors
    /// [`SecretsError::File`].
    pub fn pepper_ids(&self) -> Result<Vec<String>, SecretsError> {
        let read = || {
            let mut ids = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let name = entry?.file_name();
                let name = name.to_str().and_then(|name| name.strip_prefix(PEPPER));
                ids.extend(
                    name.and_then(|name| name.strip_suffix(".key"))
                        .map(str::to_owned),
                );
            }
            ids.sort_unstable();
            Ok(ids)
        };
        read().map_err(|error| SecretsError::File(self.folder.clone(), error))
    }

    /// Deletes a pepper. Every key that is still stored under it is lost: whoever calls this has looked.
    ///
    /// # Errors
    /// [`SecretsError::File`] if there is none.
    pub fn remove_pepper(&self, id: &str) -> Result<(), SecretsError> {
        // By its name in the folder: an id from a command line is no part of a path.
        let path = self.pepper_path(id);
        if !self.pepper_ids()?.iter().any(|known| known == id) {
            return Err(SecretsError::File(path, io::ErrorKind::NotFound.into()));
        }
        fs::remove_file(&path).map_err(|error| SecretsError::File(path, error))
    }

    /// Keeps a pepper that came from another registry with its keys. The same one again is no error.
    ///
    /// # Errors
    /// [`SecretsError::File`] if it cannot be written, or if another pepper has this id.
    pub fn keep_pepper(&self, pepper: &PepperKey) -> Result<(), SecretsError> {
        let path = self.pepper_path(&pepper.id);
        let taken = || {
            let kind = io::ErrorKind::AlreadyExists;
            SecretsError::File(path.clone(), kind.into())
        };
        // The id came from elsewhere, and is a part of a path here.
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if pepper.id.is_empty()
            || pepper.id.len() > 128
            || pepper.id.contains("..")
            || !pepper.id.bytes().all(is_plain)
        {
            let kind = io::ErrorKind::InvalidInput;
            return Err(SecretsError::File(self.folder.clone(), kind.into()));
        }
        if path.exists() {
            let own = self.pepper(&pepper.id)?;
            let is_same = bool::from(own.pepper.expose().ct_eq(pepper.pepper.expose()));
            return if is_same { Ok(()) } else { Err(taken()) };
        }
        write_new(&path, pepper.pepper.expose())
    }

    /// Signs checkpoints of the audit trail. It follows from the master key, which is not in the
    /// database: whoever can write there cannot sign.
    #[must_use]
    pub fn checkpoint_key(&self) -> CheckpointKey {
        CheckpointKey::from_bytes(&derive(&self.master, b"keywright checkpoint 1"))
    }

    /// Where the secrets are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn pepper_path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{PEPPER}{id}.key"))
    }

    fn token_cipher(&self, token: &SecretText) -> XChaCha20Poly1305 {
        let mut key = Zeroizing::new([0_u8; 32]);
        let hkdf = Hkdf::<Sha256>::new(Some(&*self.master), token.expose().as_bytes());
        let expanded = hkdf.expand(b"keywright successor 1", &mut *key);
        debug_assert!(expanded.is_ok(), "32 bytes are always possible");
        XChaCha20Poly1305::new(&(*key).into())
    }
}

fn derive(master: &[u8; 32], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0_u8; 32]);
    let expanded = Hkdf::<Sha256>::new(None, master).expand(label, &mut *key);
    debug_assert!(expanded.is_ok(), "32 bytes are always possible");
    key
}

fn seal_with(cipher: &XChaCha20Poly1305, purpose: &str, plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0_u8; NONCE];
    rand::rng().fill_bytes(&mut nonce);
    let payload = Payload {
        msg: plain,
        aad: purpose.as_bytes(),
    };
    let mut sealed = nonce.to_vec();
    // It fails only beyond 256 GiB. An empty text opens for nobody: fail closed.
    sealed.extend(
        cipher
            .encrypt(&XNonce::from(nonce), payload)
            .unwrap_or_default(),
    );
    sealed
}

fn open_with(
    cipher: &XChaCha20Poly1305,
    purpose: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
    let (nonce, msg) = sealed
        .split_first_chunk::<NONCE>()
        .ok_or(SecretsError::Unseal)?;
    let payload = Payload {
        msg,
        aad: purpose.as_bytes(),
    };
    cipher
        .decrypt(&XNonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| SecretsError::Unseal)
}

fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretsError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SecretsError::Missing(path.to_owned()));
        }
        Err(error) => return Err(SecretsError::File(path.to_owned(), error)),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(SecretsError::Open(path.to_owned()));
    }
    let text = Zeroizing::new(
        fs::read_to_string(path).map_err(|error| SecretsError::File(path.to_owned(), error))?,
    );
    let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map(Zeroizing::new);
    let key: Option<[u8; 32]> = bytes
        .ok()
        .and_then(|bytes| bytes.as_slice().try_into().ok());
    match key {
        Some(key) if key.iter().any(|byte| *byte != key[0]) => Ok(Zeroizing::new(key)),
        _ => Err(SecretsError::Weak(path.to_owned())),
    }
}

fn write_new(path: &Path, key: &[u8; 32]) -> Result<(), SecretsError> {
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(key));
    let line = Zeroizing::new([text.as_bytes(), b"\n"].concat());
    on_disk::write_new(path, &line).map_err(|error| SecretsError::File(path.to_owned(), error))
}

/// What a set-up left that was cut short by a power cut: the name without its content.
fn is_empty_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_200_a_weak_missing_or_open_master_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MASTER);
        let code = |folder: &Path| ServerSecrets::open(folder).unwrap_err().code();
        assert_eq!(code(folder.path()), "master_key_missing");
        for weak in ["", "secret", &URL_SAFE_NO_PAD.encode([7; 32]), "c2hvcnQ"] {
            fs::write(&path, weak).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(code(folder.path()), "master_key_weak", "{weak}");
        }
        fs::remove_file(&path).unwrap();
        ServerSecrets::create(folder.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(code(folder.path()), "master_key_readable_by_others");
    }

    #[test]
    fn a_set_up_that_was_cut_short_goes_on_and_a_whole_master_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MASTER);
        // The name was there, its content was not yet.
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let made = ServerSecrets::create(folder.path()).unwrap();
        let sealed = made.seal("totp", b"canary");
        let again = ServerSecrets::create(folder.path()).unwrap();
        assert!(again.unseal("totp", &sealed).is_ok());
        for weak in ["secret", "\n"] {
            fs::write(&path, weak).unwrap();
            let refused = ServerSecrets::create(folder.path()).unwrap_err();
            assert_eq!(refused.code(), "master_key_weak");
            assert_eq!(fs::read_to_string(&path).unwrap(), weak);
        }
    }

    #[test]
    fn secrets_are_written_whole_and_never_over_others() {
        let folder = tempfile::tempdir().unwrap();
        let own = ServerSecrets::create(folder.path()).unwrap();
        let id = own.new_pepper().unwrap();
        let path = own.pepper_path(&id);
        let before = fs::read_to_string(&path).unwrap();
        let error = write_new(&path, &[7; 32]).unwrap_err();
        assert_eq!(error.code(), "secrets_unreadable");
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 2, "nothing is left of the write: {names:?}");
        for one in names {
            assert_eq!(one.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_this_server_only() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = ServerSecrets::create(one.path()).unwrap();
        let other = ServerSecrets::create(two.path()).unwrap();
        let sealed = own.seal("totp", b"canary");
        assert_eq!(own.unseal("totp", &sealed).unwrap().as_slice(), b"canary");
        assert!(own.unseal("provider", &sealed).is_err());
        assert!(other.unseal("totp", &sealed).is_err());
        let mut bytes = sealed.as_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(own.unseal("totp", &Sealed::new(bytes)).is_err());

        let token = SecretText::new("old".into());
        let sealed = own.seal_under(&token, &SecretText::new("new".into()));
        assert_eq!(own.unseal_under(&token, &sealed).unwrap().expose(), "new");
        let wrong = SecretText::new("old2".into());
        assert!(own.unseal_under(&wrong, &sealed).is_err());
        // The same folder again is the same server.
        let again = ServerSecrets::open(one.path()).unwrap();
        assert!(again.unseal_under(&token, &sealed).is_ok());
        assert_ne!(own.tag(&[b"a", b"bc"]), own.tag(&[b"ab", b"c"]));
    }
}
