//! Verification of a presented key: no database for what cannot be ours, one read for the rest,
//! no write except for the first use of a secret.

use keywright_domain::api_keys::verification::judge;
use keywright_domain::api_keys::{KeyDigest, KeyMac, Kid, PlainKey, Refusal};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::scopes::Scope;

use crate::api_keys::{PepperKey, about_key};
use crate::store::audit::NewEvent;
use crate::store::candidates::Candidate;
use crate::{LocalRegistry, RegistryError, store};

/// What came of a verification.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Let through, or why not.
    pub verdict: Result<(), Refusal>,
    /// Kid, where the text had our format.
    pub kid: Option<String>,
    /// The key, once the secret matched.
    pub key_id: Option<String>,
    /// Until when this secret works, when it is on its way out.
    pub retires_at: Option<i64>,
}

impl Verification {
    fn refused(kid: Option<String>, refusal: Refusal) -> Self {
        Self {
            verdict: Err(refusal),
            kid,
            key_id: None,
            retires_at: None,
        }
    }
}

impl LocalRegistry {
    /// Verifies a presented key. An error is never an acceptance: callers refuse on `Err`.
    ///
    /// # Errors
    /// [`RegistryError::PepperMissing`] if the row names another pepper; [`RegistryError`] if the
    /// file cannot be read.
    pub async fn verify_api_key(
        &self,
        presented: &str,
        required: Option<&Scope>,
        pepper: &PepperKey,
    ) -> Result<Verification, RegistryError> {
        let plain = match PlainKey::parse(presented) {
            Ok(plain) => plain,
            Err(error) => return Ok(Verification::refused(None, Refusal::Malformed(error))),
        };
        let kid = plain.kid().to_string();
        let mac = pepper.pepper.mac(&KeyDigest::of(&plain));
        let candidate = self.find_candidate(plain.kid()).await?;
        let Some(candidate) = candidate else {
            // The same work as for a wrong secret, so that time does not tell which kids exist.
            let _ = std::hint::black_box(mac.matches(&KeyMac::from_bytes([0; 32])));
            return Ok(Verification::refused(Some(kid), Refusal::NotFound));
        };
        if candidate.pepper_id != pepper.id {
            return Err(RegistryError::PepperMissing);
        }
        if !candidate.mac.matches(&mac) {
            return Ok(Verification::refused(Some(kid), Refusal::NotFound));
        }
        let now = self.now();
        let verdict = judge(&candidate.key, &candidate.secret, required, now);
        if verdict.is_ok() {
            if candidate.secret.first_used_at.is_none() {
                self.write_first_use(&candidate, now).await;
            } else {
                self.shared.uses.record(&kid, now);
            }
        }
        Ok(Verification {
            verdict,
            kid: Some(kid),
            key_id: Some(candidate.key.id),
            retires_at: candidate.secret.retires_at,
        })
    }

    async fn find_candidate(&self, kid: &Kid) -> Result<Option<Candidate>, RegistryError> {
        let mut reader = self.shared.reader.lock().await;
        let mut connection = match reader.take() {
            Some(connection) => connection,
            None => self.shared.pool.acquire().await?,
        };
        // Put back only after a whole answer: a call that failed or was cancelled in the middle
        // leaves the next one to take a fresh connection.
        let candidate = store::candidates::find(&mut connection, kid).await?;
        *reader = Some(connection);
        Ok(candidate)
    }

    /// AC-147: the verification stands even when this write fails; the use waits for the flush.
    async fn write_first_use(&self, candidate: &Candidate, now: i64) {
        let kid = candidate.secret.kid.as_str();
        let written: Result<bool, RegistryError> = async {
            let _writer = self.shared.writer.lock().await;
            let mut transaction = store::begin(&self.shared.pool).await?;
            if !store::secrets::mark_first_use(&mut transaction, kid, now).await? {
                return Ok(false);
            }
            store::secrets::add_uses(&mut transaction, kid, 0, now).await?;
            let details = vec![("kid", kid.to_owned())];
            let event = NewEvent {
                summary: format!("First use of a secret of API key “{}”", candidate.key.name),
                ..about_key(
                    AuditAction::SecretFirstUsed,
                    &candidate.key,
                    "used",
                    details,
                )
            };
            store::audit::insert(&mut transaction, &Actor::keywright(), now, event).await?;
            transaction.commit().await?;
            Ok(true)
        }
        .await;
        match written {
            Ok(true) => {}
            Ok(false) => self.shared.uses.record(kid, now),
            Err(error) => {
                tracing::warn!(
                    code = error.code(),
                    kid,
                    "the first use of a secret was not written"
                );
                self.shared.uses.record(kid, now);
            }
        }
    }
}
