//! Client secrets that people chose are stored as argon2id, which takes its time on purpose. One that
//! was right is remembered for a while, so that a client that asks often is answered as quickly as
//! others: by a digest under a key that this process alone has and forgets with its end.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use keywright_domain::SecretText;
use rand::Rng as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// How long one is remembered.
const LASTS: Duration = Duration::from_secs(300);
/// At most so many.
const MOST: usize = 1_000;

/// What is remembered, by the id of the stored secret.
pub(crate) struct ChosenSecrets {
    key: Zeroizing<[u8; 32]>,
    right: Mutex<HashMap<String, ([u8; 32], Instant)>>,
}

impl std::fmt::Debug for ChosenSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChosenSecrets").finish_non_exhaustive()
    }
}

impl Default for ChosenSecrets {
    fn default() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(&mut *key);
        Self {
            key,
            right: Mutex::default(),
        }
    }
}

impl ChosenSecrets {
    fn digest(&self, id: &str, given: &SecretText) -> [u8; 32] {
        // An id has no zero in it, so that the two cannot run into each other.
        let parts = [id.as_bytes(), b"\0", given.expose().as_bytes()];
        // It cannot fail for HMAC, though its type can; nothing equals what is random then.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&*self.key) else {
            let mut none = [0; 32];
            rand::rng().fill_bytes(&mut none);
            return none;
        };
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether this was the right one a moment ago.
    pub(crate) fn knows(&self, id: &str, given: &SecretText) -> bool {
        self.knows_at(id, given, Instant::now())
    }

    fn knows_at(&self, id: &str, given: &SecretText, now: Instant) -> bool {
        let digest = self.digest(id, given);
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(id).is_some_and(|(own, since)| {
            now.saturating_duration_since(*since) < LASTS && bool::from(own.ct_eq(&digest))
        })
    }

    /// This is the right one.
    pub(crate) fn remember(&self, id: &str, given: &SecretText) {
        self.remember_at(id, given, Instant::now());
    }

    fn remember_at(&self, id: &str, given: &SecretText, now: Instant) {
        let digest = self.digest(id, given);
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MOST {
            right.retain(|_, (_, since)| now.saturating_duration_since(*since) < LASTS);
        }
        if right.len() < MOST {
            right.insert(id.to_owned(), (digest, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_is_known_for_a_while_and_nothing_else() {
        let secret = |text: &str| SecretText::new(text.to_owned());
        let (known, start) = (ChosenSecrets::default(), Instant::now());
        let right = secret("correct horse battery");
        assert!(!known.knows_at("one", &right, start));
        known.remember_at("one", &right, start);
        assert!(known.knows_at("one", &right, start));
        assert!(!known.knows_at("one", &secret("correct horse batterx"), start));
        assert!(!known.knows_at("two", &right, start));
        assert!(!known.knows_at("one", &right, start + LASTS));
        for number in 0..2 * MOST {
            known.remember_at(&number.to_string(), &right, start);
        }
        assert_eq!(known.right.lock().unwrap().len(), MOST);
        // Room comes back with time.
        known.remember_at("late", &right, start + LASTS);
        assert!(known.knows_at("late", &right, start + LASTS));
    }
}
