//! Passwords: argon2id on a pool of its own, so that sign-ins never slow down everything else. When
//! too many wait, the next is turned away at once: the queue would be the denial of service.

mod threads;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use keywright_domain::SecretText;
use rand::Rng as _;
use tokio::sync::Semaphore;

use self::threads::{Hashing, Memory};

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Longest password, in characters: more is somebody who wants us to work.
pub(crate) const LONGEST: usize = 128;
/// Shortest password that may be set (NIST SP 800-63B §3.1.1.2, where it is one of two factors).
pub(crate) const SHORTEST: usize = 8;
/// So many may wait for each worker.
const QUEUE: usize = 32;

/// Why a password cannot be set or checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than 8 characters.
    #[error("a password has at least {SHORTEST} characters")]
    TooShort,
    /// More than 128 characters.
    #[error("a password has at most {LONGEST} characters")]
    TooLong,
    /// Too many sign-ins at this moment.
    #[error("too many sign-ins at this moment: try again in a few seconds")]
    Busy,
    /// The hash could not be made.
    #[error("the password could not be processed")]
    Failed,
}

impl PasswordError {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TooShort => "password_too_short",
            Self::TooLong => "password_too_long",
            Self::Busy => "sign_in_busy",
            Self::Failed => "password_failed",
        }
    }
}

/// What a check came to.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Whether it is the password.
    pub(crate) matches: bool,
    /// A hash with today's parameters, where the stored one has weaker ones.
    pub(crate) upgraded: Option<SecretText>,
}

/// Hashes and checks passwords.
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    workers: Arc<Semaphore>,
    hashing: Arc<Hashing>,
    waiting: Arc<AtomicUsize>,
    most: usize,
    /// Checked for people whom nobody knows, so that both take the same time (S3-47).
    nobody: Arc<SecretText>,
    /// How many were verified.
    #[cfg(test)]
    pub(crate) verified: Arc<AtomicUsize>,
}

impl PasswordHasher {
    /// With so many at once.
    ///
    /// # Errors
    /// [`PasswordError::Failed`].
    pub fn new(workers: usize) -> Result<Self, PasswordError> {
        let workers = workers.max(1);
        Ok(Self {
            workers: Arc::new(Semaphore::new(workers)),
            hashing: Arc::new(Hashing::new(workers)),
            waiting: Arc::default(),
            most: workers * QUEUE,
            nobody: Arc::new(hash_of_nothing()?),
            #[cfg(test)]
            verified: Arc::default(),
        })
    }

    /// The hash (PHC text) of a new password.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: &SecretText) -> Result<SecretText, PasswordError> {
        let length = password.expose().chars().count();
        if length < SHORTEST {
            return Err(PasswordError::TooShort);
        }
        if length > LONGEST {
            return Err(PasswordError::TooLong);
        }
        let password = password.clone();
        self.run(move |memory| hash_now(memory, password.expose().as_bytes()))
            .await?
    }

    /// The hash of a short code that we made.
    pub(crate) async fn hash_code(&self, code: &SecretText) -> Result<SecretText, PasswordError> {
        let code = code.clone();
        self.run(move |memory| hash_now(memory, code.expose().as_bytes()))
            .await?
    }

    /// Checks a password; `stored` is none for somebody who has none or does not exist: the same
    /// work, and never a match.
    pub(crate) async fn check(
        &self,
        stored: Option<&SecretText>,
        password: &SecretText,
    ) -> Result<Checked, PasswordError> {
        let exists = stored.is_some();
        let too_long = password.expose().chars().count() > LONGEST;
        let stored = stored.cloned().unwrap_or_else(|| (*self.nobody).clone());
        let password = password.clone();
        #[cfg(test)]
        self.verified.fetch_add(1, Ordering::Relaxed);
        self.run(move |memory| {
            // What is too long is checked as an empty one: the same work, and no more.
            let given = if too_long { "" } else { password.expose() };
            let parsed = PasswordHash::new(stored.expose()).map_err(|_| PasswordError::Failed)?;
            let matches = is_of(memory, given.as_bytes(), &parsed)? && exists && !too_long;
            let upgraded = if matches && is_weaker(&parsed) {
                Some(hash_now(memory, given.as_bytes())?)
            } else {
                None
            };
            Ok(Checked { matches, upgraded })
        })
        .await?
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Memory) -> T + Send + Sync + 'static,
    ) -> Result<T, PasswordError> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.most {
            return Err(PasswordError::Busy);
        }
        let workers = Arc::clone(&self.workers);
        let permit = workers
            .acquire_owned()
            .await
            .map_err(|_| PasswordError::Failed)?;
        self.hashing
            .run(permit, work)
            .await
            .ok_or(PasswordError::Failed)
    }
}

fn parameters() -> Result<Params, PasswordError> {
    Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Failed)
}

fn hash_now(memory: &mut Memory, password: &[u8]) -> Result<SecretText, PasswordError> {
    let mut salt = [0_u8; 16];
    rand::rng().fill_bytes(&mut salt);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters()?);
    let mut output = [0_u8; Params::DEFAULT_OUTPUT_LEN];
    compute(memory, &argon2, password, &salt, &mut output)?;
    phc(&salt, &output)
}

/// Whether a hash is of this password. It says itself how it was made.
fn is_of(memory: &mut Memory, password: &[u8], hash: &PasswordHash) -> Result<bool, PasswordError> {
    let failed = |_| PasswordError::Failed;
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
        return Ok(false);
    };
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(failed)?;
    let version = hash.version.map(Version::try_from).transpose();
    let version = version.map_err(|_| PasswordError::Failed)?;
    let params = Params::try_from(hash).map_err(failed)?;
    let argon2 = Argon2::new(algorithm, version.unwrap_or_default(), params);
    let mut output = [0_u8; Output::MAX_LENGTH];
    let output = output
        .get_mut(..expected.len())
        .ok_or(PasswordError::Failed)?;
    compute(memory, &argon2, password, salt, output)?;
    // Compared in constant time.
    Ok(Output::new(output).map_err(|_| PasswordError::Failed)? == *expected)
}

fn compute(
    memory: &mut Memory,
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
) -> Result<(), PasswordError> {
    let blocks = argon2.params().block_count();
    if let Some(more) = blocks.checked_sub(memory.len()) {
        // A hash from elsewhere may ask for more than there is.
        let room = memory.try_reserve_exact(more);
        room.map_err(|_| PasswordError::Failed)?;
        memory.resize(blocks, Block::new());
    }
    let room = memory.get_mut(..blocks).ok_or(PasswordError::Failed)?;
    let done = argon2.hash_password_into_with_memory(password, salt, output, room);
    if blocks > MEMORY_KIB as usize {
        // One that wanted more than ours do: that much is not kept.
        *memory = Memory::new();
    }
    done.map_err(|_| PasswordError::Failed)
}

/// The text of a hash with today's parameters (PHC string format).
fn phc(salt: &[u8], output: &[u8]) -> Result<SecretText, PasswordError> {
    let failed = |_| PasswordError::Failed;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&parameters()?).map_err(failed)?,
        salt: Some(Salt::new(salt).map_err(|_| PasswordError::Failed)?),
        hash: Some(Output::new(output).map_err(|_| PasswordError::Failed)?),
    };
    Ok(SecretText::new(hash.to_string()))
}

/// Reads like a hash of today's parameters, and belongs to no password. It is not computed: the start
/// would take as long as a sign-in, and hold as much memory.
fn hash_of_nothing() -> Result<SecretText, PasswordError> {
    let (mut salt, mut output) = ([0_u8; 16], [0_u8; Params::DEFAULT_OUTPUT_LEN]);
    rand::rng().fill_bytes(&mut salt);
    rand::rng().fill_bytes(&mut output);
    phc(&salt, &output)
}

fn is_weaker(hash: &PasswordHash) -> bool {
    let Ok(params) = Params::try_from(hash) else {
        return true;
    };
    hash.algorithm.as_str() != "argon2id"
        || params.m_cost() < MEMORY_KIB
        || params.t_cost() < PASSES
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher as _;

    use super::*;

    #[test]
    fn what_is_checked_for_nobody_costs_what_a_real_hash_costs() {
        let nobody = hash_of_nothing().unwrap();
        let real = hash_now(&mut Memory::new(), b"correct horse").unwrap();
        let parts = |hash: &SecretText| {
            let parsed = PasswordHash::new(hash.expose()).unwrap();
            let sizes = (parsed.salt.unwrap().len(), parsed.hash.unwrap().len());
            (parsed.algorithm, parsed.version, parsed.params, sizes)
        };
        assert_eq!(parts(&nobody), parts(&real));
        assert_ne!(nobody.expose(), hash_of_nothing().unwrap().expose());
    }

    fn secret(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    #[tokio::test]
    async fn ac_181_parameters_are_in_the_hash_and_weak_ones_are_upgraded() {
        let hasher = PasswordHasher::new(1).unwrap();
        let hash = hasher.hash(&secret("correct horse")).await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let right = hasher
            .check(Some(&hash), &secret("correct horse"))
            .await
            .unwrap();
        assert!(right.matches && right.upgraded.is_none());
        let wrong = hasher
            .check(Some(&hash), &secret("correct horsf"))
            .await
            .unwrap();
        assert!(!wrong.matches);

        let weak = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(8, 1, 1, None).unwrap(),
        );
        let weak: PasswordHash = weak
            .hash_password_with_salt(b"correct horse", &[7; 16])
            .unwrap();
        let weak = secret(&weak.to_string());
        let upgraded = hasher
            .check(Some(&weak), &secret("correct horse"))
            .await
            .unwrap();
        let stronger = upgraded.upgraded.unwrap();
        assert!(
            hasher
                .check(Some(&stronger), &secret("correct horse"))
                .await
                .unwrap()
                .matches
        );
        let wrong = hasher.check(Some(&weak), &secret("x")).await.unwrap();
        assert!(!wrong.matches && wrong.upgraded.is_none());
    }

    #[tokio::test]
    async fn ac_181_a_password_of_129_characters_is_refused() {
        let hasher = PasswordHasher::new(1).unwrap();
        let long = secret(&"ü".repeat(129));
        assert_eq!(
            hasher.hash(&long).await.unwrap_err(),
            PasswordError::TooLong
        );
        assert_eq!(
            hasher.hash(&secret("short")).await.unwrap_err(),
            PasswordError::TooShort
        );
        assert!(hasher.hash(&secret(&"ü".repeat(128))).await.is_ok());
        // Nobody has it, and nobody has the empty one that takes its place.
        let empty = hasher.hash_code(&secret("")).await.unwrap();
        assert!(!hasher.check(Some(&empty), &long).await.unwrap().matches);
    }

    #[tokio::test]
    async fn somebody_unknown_never_matches() {
        let hasher = PasswordHasher::new(1).unwrap();
        assert!(
            !hasher
                .check(None, &secret("anything"))
                .await
                .unwrap()
                .matches
        );
    }

    #[tokio::test]
    async fn too_many_at_once_are_turned_away() {
        let mut hasher = PasswordHasher::new(1).unwrap();
        hasher.most = 2;
        let tries = (0..6).map(|_| {
            let hasher = hasher.clone();
            tokio::spawn(async move { hasher.check(None, &secret("anything")).await })
        });
        let mut busy = 0;
        for one in tries.collect::<Vec<_>>() {
            busy += usize::from(matches!(one.await.unwrap(), Err(PasswordError::Busy)));
        }
        assert!(busy >= 1, "{busy}");
        assert!(hasher.check(None, &secret("anything")).await.is_ok());
    }
}
