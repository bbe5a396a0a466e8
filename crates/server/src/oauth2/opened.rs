//! Access tokens of ours whose signature was checked already: the same text is signed as well the next
//! time, as long as the keys are the same. Everything else about a token is asked anew each time.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::body::Bytes;
use sha2::{Digest as _, Sha256};

use super::access_token::AccessClaims;
use crate::signing::{ACCESS_TYPE, KeySet, TokenProblem};

/// At most so many.
const MOST: usize = 10_000;

/// An access token with a good signature.
#[derive(Debug)]
pub(crate) struct AccessToken {
    claims: AccessClaims,
    /// What introspection says of it while it is active.
    pub(crate) introspection: OnceLock<Bytes>,
}

impl Deref for AccessToken {
    type Target = AccessClaims;

    fn deref(&self) -> &AccessClaims {
        &self.claims
    }
}

/// Those that came last, by the SHA-256 of their text.
#[derive(Default)]
pub(crate) struct Opened(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Whose signatures these are.
    keys: Arc<KeySet>,
    tokens: HashMap<[u8; 32], Arc<AccessToken>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

impl Opened {
    /// Opens a token with the keys of this moment.
    ///
    /// # Errors
    /// [`TokenProblem`].
    pub(crate) fn open(
        &self,
        keys: &Arc<KeySet>,
        token: &str,
        now_s: i64,
    ) -> Result<Arc<AccessToken>, TokenProblem> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !Arc::ptr_eq(&known.keys, keys) {
                // A key that is gone takes its tokens with it.
                *known = Known {
                    keys: Arc::clone(keys),
                    tokens: HashMap::new(),
                };
            }
            if let Some(token) = known.tokens.get(&digest) {
                return Ok(Arc::clone(token));
            }
        }
        let opened = Arc::new(AccessToken {
            claims: keys.open(ACCESS_TYPE, token)?,
            introspection: OnceLock::new(),
        });
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&known.keys, keys) {
            if known.tokens.len() >= MOST {
                known.tokens.retain(|_, token| token.exp > now_s);
            }
            if known.tokens.len() >= MOST {
                known.tokens.clear();
            }
            known.tokens.insert(digest, Arc::clone(&opened));
        }
        Ok(opened)
    }
}
