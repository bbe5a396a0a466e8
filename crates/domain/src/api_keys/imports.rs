//! Keys that other systems made: their SHA-256 hashes are taken, peppered and looked up by mac.
//! The keys themselves are never taken.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::digest::KeyDigest;
use super::exposure::find_keys;

/// Longest foreign key that is looked at when somebody presents it.
pub const MAX_FOREIGN_KEY_LENGTH: usize = 512;

/// How another system made its hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForeignAlgorithm {
    /// SHA-256 of the whole key.
    Sha256,
    /// The format of the libraries named `prefixed-api-key`: `prefix_short_long`, of which SHA-256
    /// of the long part is stored, found by the short part.
    PrefixedApiKey,
}

impl ForeignAlgorithm {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::PrefixedApiKey => "prefixed-api-key",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Sha256, Self::PrefixedApiKey];
        all.into_iter().find(|one| one.as_str() == text)
    }
}

/// A hash that another system stored.
#[derive(Clone, Debug)]
pub struct ForeignHash {
    algorithm: ForeignAlgorithm,
    digest: KeyDigest,
    short_token: Option<String>,
}

impl ForeignHash {
    /// Reads a hash in one of these forms:
    ///
    /// - 64 hexadecimal digits, alone or after `sha256:`: SHA-256 of the whole key;
    /// - `sha256-` and 44 characters of base64 (with padding): the same;
    /// - `prefixed-api-key:short:` and 64 hexadecimal digits: SHA-256 of the long part.
    ///
    /// # Errors
    /// [`HashRefused`], which says why and what to do, and never repeats the text.
    pub fn parse(text: &str) -> Result<Self, HashRefused> {
        let text = text.trim_ascii();
        if let Some(rest) = text.strip_prefix("prefixed-api-key:") {
            let (short, hash) = rest.split_once(':').ok_or(HashRefused::Malformed)?;
            if !is_token(short) {
                return Err(HashRefused::Malformed);
            }
            let short_token = Some(short.to_owned());
            let bytes = hex_digest(hash).ok_or(HashRefused::Malformed)?;
            return Self::new(ForeignAlgorithm::PrefixedApiKey, bytes, short_token);
        }
        let bytes = if let Some(hash) = text.strip_prefix("sha256:") {
            hex_digest(hash).ok_or(HashRefused::Malformed)?
        } else if let Some(hash) = text.strip_prefix("sha256-") {
            base64_digest(hash).ok_or(HashRefused::Malformed)?
        } else {
            hex_digest(text).ok_or_else(|| HashRefused::of(text))?
        };
        Self::new(ForeignAlgorithm::Sha256, bytes, None)
    }

    fn new(
        algorithm: ForeignAlgorithm,
        bytes: [u8; 32],
        short_token: Option<String>,
    ) -> Result<Self, HashRefused> {
        // The commonest slip of scripts: the variable was empty when it was hashed.
        if bytes == sha256(b"") || bytes == sha256(b"\n") || bytes == [0; 32] {
            return Err(HashRefused::OfNothing);
        }
        Ok(Self {
            algorithm,
            digest: KeyDigest::from_bytes(bytes),
            short_token,
        })
    }

    /// How it was made.
    #[must_use]
    pub fn algorithm(&self) -> ForeignAlgorithm {
        self.algorithm
    }

    /// What is peppered and stored.
    #[must_use]
    pub fn digest(&self) -> &KeyDigest {
        &self.digest
    }

    /// The public short part of a `prefixed-api-key`.
    #[must_use]
    pub fn short_token(&self) -> Option<&str> {
        self.short_token.as_deref()
    }
}

/// A key that is not one of ours, as somebody presented it: the digests to look for. The text
/// itself is not kept.
#[derive(Clone, Debug)]
pub struct PresentedForeignKey {
    /// SHA-256 of the whole text: [`ForeignAlgorithm::Sha256`].
    pub whole: KeyDigest,
    /// Its parts, where it looks like `prefix_short_long`: [`ForeignAlgorithm::PrefixedApiKey`].
    pub prefixed: Option<PrefixedToken>,
}

/// The parts of a `prefixed-api-key` that are needed to find and compare it.
#[derive(Clone, Debug)]
pub struct PrefixedToken {
    /// The public short part.
    pub short_token: String,
    /// SHA-256 of the long part.
    pub digest: KeyDigest,
}

impl PresentedForeignKey {
    /// Digests a text that did not parse as a key of ours; none if it is empty, longer than
    /// [`MAX_FOREIGN_KEY_LENGTH`] or not printable ASCII without blanks, which no header carries.
    #[must_use]
    pub fn parse(presented: &str) -> Option<Self> {
        let is_printable = presented.bytes().all(|byte| byte.is_ascii_graphic());
        if presented.is_empty() || presented.len() > MAX_FOREIGN_KEY_LENGTH || !is_printable {
            return None;
        }
        // Split from the right, so that a prefix with `_` does no harm.
        let mut parts = presented.rsplitn(3, '_');
        let (long, short, prefix) = (parts.next(), parts.next(), parts.next());
        let prefixed = match (long, short, prefix) {
            (Some(long), Some(short), Some(prefix))
                if is_token(long) && is_token(short) && !prefix.is_empty() =>
            {
                Some(PrefixedToken {
                    short_token: short.to_owned(),
                    digest: KeyDigest::from_bytes(sha256(long.as_bytes())),
                })
            }
            _ => None,
        };
        Some(Self {
            whole: KeyDigest::from_bytes(sha256(presented.as_bytes())),
            prefixed,
        })
    }
}

/// A part of a `prefixed-api-key`: base58 there, any letters and digits here.
fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hex_digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn base64_digest(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Why a hash cannot be taken over. No text of it is kept: it may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashRefused {
    /// A hash for passwords, with its name.
    Slow(&'static str),
    /// A hash that is broken or of another family, with its name.
    OtherHash(&'static str),
    /// Announced as SHA-256 and not it.
    Malformed,
    /// The hash of an empty text.
    OfNothing,
    /// A key of this program, in plain text.
    OwnKey,
    /// No hash at all: perhaps the key itself.
    PlainText,
}

impl HashRefused {
    /// Says what a text is that is no SHA-256.
    fn of(text: &str) -> Self {
        const SLOW: [(&str, &str); 14] = [
            ("$2a$", "bcrypt"),
            ("$2b$", "bcrypt"),
            ("$2x$", "bcrypt"),
            ("$2y$", "bcrypt"),
            ("bcrypt", "bcrypt"),
            ("$argon2", "Argon2"),
            ("argon2", "Argon2"),
            ("$scrypt$", "scrypt"),
            ("scrypt", "scrypt"),
            ("$7$", "scrypt"),
            ("$pbkdf2", "PBKDF2"),
            ("pbkdf2", "PBKDF2"),
            ("$5$", "sha256-crypt"),
            ("$6$", "sha512-crypt"),
        ];
        const OTHER: [(&str, &str); 7] = [
            ("md5:", "MD5"),
            ("$1$", "MD5"),
            ("sha1:", "SHA-1"),
            ("sha1-", "SHA-1"),
            ("sha512:", "SHA-512"),
            ("sha512-", "SHA-512"),
            ("hmac", "HMAC"),
        ];
        let start: String = text
            .chars()
            .take(16)
            .collect::<String>()
            .to_ascii_lowercase();
        let starts = |(mark, _): &&(&str, &str)| start.starts_with(mark);
        if let Some((_, name)) = SLOW.iter().find(starts) {
            return Self::Slow(name);
        }
        if let Some((_, name)) = OTHER.iter().find(starts) {
            return Self::OtherHash(name);
        }
        if find_keys(text).next().is_some() {
            return Self::OwnKey;
        }
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.len() {
            32 if is_hex => Self::OtherHash("MD5"),
            40 if is_hex => Self::OtherHash("SHA-1"),
            56 if is_hex => Self::OtherHash("SHA-224"),
            96 if is_hex => Self::OtherHash("SHA-384"),
            128 if is_hex => Self::OtherHash("SHA-512"),
            _ => Self::PlainText,
        }
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "hash_not_importable"
    }
}

impl fmt::Display for HashRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(name) => write!(
                f,
                "this is a hash of {name}: it is salted and slow, so a key cannot be found by it. Issue new keys and let the old system accept its own until they are in use"
            ),
            Self::OtherHash(name) => write!(
                f,
                "this looks like {name}; only SHA-256 can be taken over. Where the old system can still read its keys, hash them again with SHA-256; else issue new keys"
            ),
            Self::Malformed => f.write_str(
                "this is not a whole SHA-256: 64 hexadecimal digits, sha256: before them if you like, or sha256- and base64; for prefixed-api-key: prefixed-api-key:short:64 digits",
            ),
            Self::OfNothing => f.write_str(
                "this is the hash of an empty text, not of a key. Look at the script that made it",
            ),
            Self::OwnKey => f.write_str(
                "this is a key in plain text, and it was made by this program. Never hand over keys; this one should be rotated now",
            ),
            Self::PlainText => f.write_str(
                "this is not a hash; it may be a key in plain text. Never hand over keys: hash each with SHA-256 where it is (printf %s \"$KEY\" | sha256sum) and hand over the hash",
            ),
        }
    }
}

impl core::error::Error for HashRefused {}

#[cfg(test)]
mod tests;
