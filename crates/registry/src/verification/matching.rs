//! Which secret a presented text is, if any: from memory where it is fresh, else from the database.

use std::time::Duration;

use keywright_domain::api_keys::{KeyDigest, KeyMac, PresentedKey, RateLimit, Refusal};
use keywright_index::{Lookup, PackedKid, Snapshot};

use super::{
    ABSENT_MS, COMMIT_WAIT, FAILURES_LIMIT, IdText, LOOKS, Match, Verification, VerifyRequest,
    micros,
};
use crate::peppers::Peppers;
use crate::store;
use crate::{LocalRegistry, RegistryError, freshness};

/// Why a presented key of our form is none of ours.
pub(super) enum Miss {
    /// The kid is known, the secret is not its.
    Wrong,
    /// Nobody knows the kid.
    Unknown,
}

/// A call that was asked to verify keys. It needs the log as it was after it came, and no newer: one reading is enough for
/// all of its keys.
#[derive(Debug, Default)]
pub(super) struct Asked(Option<Duration>);

impl Asked {
    /// A moment after the call came. Taken where somebody needs it: a clock costs as much as a lookup.
    fn since(&mut self) -> Duration {
        *self.0.get_or_insert_with(freshness::moment)
    }
}

impl LocalRegistry {
    /// Failures from one place are few; who makes many is refused before anybody is asked. Such a place
    /// may be a gateway with strangers and good clients behind it, so a key of ours whose secret
    /// matches what is in memory is no guess, and is let through: see [`Self::match_in_memory`].
    pub(super) fn throttled(
        &self,
        request: &VerifyRequest<'_>,
        plain: Option<&PresentedKey<'_>>,
        now: i64,
    ) -> Option<Verification> {
        let address = request.caller.address?;
        let retry_after_ms = self.shared.throttle.check(address, micros(now)).err()?;
        let kid = plain.and_then(|plain| IdText::read(plain.kid()));
        let refusal = Refusal::RateLimited {
            limit: FAILURES_LIMIT.to_owned(),
            retry_after_ms: i64::try_from(retry_after_ms).unwrap_or(i64::MAX),
        };
        let (count, period) = (
            keywright_index::FAILURES,
            keywright_index::FAILURES_PERIOD_MS,
        );
        Some(Verification {
            limit: RateLimit::new(FAILURES_LIMIT, count, period, 0, false).ok(),
            limit_left: Some(0),
            limit_reset_ms: Some(retry_after_ms),
            ..Verification::refused(kid, refusal)
        })
    }

    pub(super) fn count_failure(&self, request: &VerifyRequest<'_>, now: i64) {
        if let Some(address) = request.caller.address {
            self.shared.throttle.fail(address, micros(now));
        }
    }

    /// A key of ours, if memory alone proves that it is one. Nobody is asked about it, and nothing is computed
    /// for a kid that is not in memory. Where something was committed a moment ago, or another process wrote,
    /// the log is read first, once for all who wait: but only for a secret that was right before that, so that
    /// nobody who guesses causes a reading.
    ///
    /// # Errors
    /// [`RegistryError`] for such a secret, if the log cannot be read.
    pub(super) async fn match_in_memory(
        &self,
        plain: &PresentedKey<'_>,
        peppers: &Peppers,
        now: i64,
    ) -> Result<Option<Match>, RegistryError> {
        let Some(kid) = PackedKid::parse(plain.kid()) else {
            return Ok(None);
        };
        let mut read = None;
        for _ in 0..LOOKS {
            let readings = freshness::readings(&self.shared);
            let Lookup::Found(snapshot) = self.shared.index.lookup(kid, now) else {
                return Ok(None);
            };
            // After the lookup, as always.
            let may_answer = freshness::may_answer(&self.shared, readings, read);
            let found = self.match_from_throttled(plain, snapshot, peppers, now);
            if may_answer || found.is_none() {
                return Ok(found);
            }
            read = freshness::before_a_look(&self.shared).await?;
        }
        Ok(None)
    }

    /// The same of what was looked up. A secret of ours has 190 bits, which nobody guesses at any speed;
    /// what guesses cost is bounded all the same, by kid.
    pub(super) fn match_from_throttled(
        &self,
        plain: &PresentedKey<'_>,
        snapshot: Snapshot,
        peppers: &Peppers,
        now: i64,
    ) -> Option<Match> {
        let kid = snapshot.kid;
        let guesses = &self.shared.guesses;
        guesses.check_kid(kid, micros(now)).ok()?;
        let found = self.match_snapshot(plain, kid, Some(snapshot), peppers);
        let found = found.ok().flatten();
        if found.is_none() {
            guesses.fail_kid(kid, micros(now));
        }
        found
    }

    /// Which of ours a key is. `asked`: the call of several keys that it is part of.
    pub(super) async fn match_ours(
        &self,
        plain: &PresentedKey<'_>,
        peppers: &Peppers,
        now: i64,
        asked: Option<&mut Asked>,
    ) -> Result<Result<Match, Miss>, RegistryError> {
        let Some(kid) = PackedKid::parse(plain.kid()) else {
            return Ok(Err(Miss::Unknown));
        };
        let snapshot = self.snapshot(kid, plain.kid(), now, asked).await?;
        let is_known = snapshot.is_some();
        let found = self.match_snapshot(plain, kid, snapshot, peppers)?;
        Ok(found.ok_or(match is_known {
            true => Miss::Wrong,
            false => Miss::Unknown,
        }))
    }

    /// For a kid that is not known the log is read, which another node may have written a moment ago. A wrong secret
    /// takes as long, so that time does not tell which kids exist (AC-127).
    pub(super) async fn as_for_an_unknown_kid(
        &self,
        refused: Verification,
        asked: Option<&mut Asked>,
    ) -> Result<Verification, RegistryError> {
        let mut alone = Asked::default();
        let asked = asked.unwrap_or(&mut alone);
        if !freshness::is_exact(&self.shared) {
            freshness::ensure_since(&self.shared, asked.since()).await?;
        }
        Ok(refused)
    }

    /// Compares a key with what is known of its kid.
    pub(super) fn match_snapshot(
        &self,
        plain: &PresentedKey<'_>,
        kid: PackedKid,
        snapshot: Option<Snapshot>,
        peppers: &Peppers,
    ) -> Result<Option<Match>, RegistryError> {
        let digest = KeyDigest::of_presented(plain);
        let Some(snapshot) = snapshot else {
            // The same work as for a wrong secret, so that time does not tell which kids exist.
            let mac = peppers.current().pepper.mac(&digest);
            let _ = std::hint::black_box(mac.matches(&KeyMac::from_bytes([0; 32])));
            return Ok(None);
        };
        let pepper_id = self.shared.index.text(snapshot.pepper);
        let Some(pepper) = pepper_id.and_then(|id| peppers.find(id)) else {
            if peppers.is_complete() && !snapshot.state.verifies() {
                return Ok(None);
            }
            return Err(RegistryError::PepperMissing);
        };
        if !snapshot.mac.matches(&pepper.pepper.mac(&digest)) {
            return Ok(None);
        }
        let current = peppers.current();
        if pepper.id != current.id && snapshot.state.verifies() {
            self.rewrite_mac(
                plain.kid(),
                &pepper.id,
                current.pepper.mac(&digest),
                &current.id,
            );
        }
        Ok(Some(Match { kid, snapshot }))
    }

    /// What is known of a kid: from memory if it is fresh, else from the database.
    pub(super) async fn snapshot(
        &self,
        kid: PackedKid,
        text: &str,
        now: i64,
        asked: Option<&mut Asked>,
    ) -> Result<Option<Snapshot>, RegistryError> {
        // Most are in memory, and memory is fresh: nothing of what comes else is needed.
        let readings = freshness::readings(&self.shared);
        if let Lookup::Found(snapshot) = self.shared.index.lookup(kid, now)
            && freshness::is_trusted(&self.shared, readings)
        {
            return Ok(Some(snapshot));
        }
        Box::pin(self.snapshot_in_time(kid, text, now, asked)).await
    }

    async fn snapshot_in_time(
        &self,
        kid: PackedKid,
        text: &str,
        now: i64,
        asked: Option<&mut Asked>,
    ) -> Result<Option<Snapshot>, RegistryError> {
        let mut alone = Asked::default();
        let asked = asked.unwrap_or(&mut alone);
        let index = &self.shared.index;
        let mut is_exact = freshness::is_exact(&self.shared);
        let (mut started, mut read) = (None, None);
        loop {
            // Freshness is checked after the lookup: a process that was frozen in between must not
            // answer with what it knew before.
            let readings = freshness::readings(&self.shared);
            let found = index.lookup(kid, now);
            if !freshness::may_answer(&self.shared, readings, read) {
                read = freshness::before_a_look(&self.shared).await?;
                continue;
            }
            match found {
                Lookup::Found(snapshot) => return Ok(Some(snapshot)),
                Lookup::Unknown => {
                    if is_exact {
                        return Ok(None);
                    }
                    // Another node may have issued it a moment ago.
                    freshness::ensure_since(&self.shared, asked.since()).await?;
                    is_exact = true;
                    continue;
                }
                Lookup::AskDatabase => {}
            }
            let started = *started.get_or_insert_with(std::time::Instant::now);
            let question = index.ask(kid);
            self.shared.reader.load(text).await?;
            if !matches!(index.lookup(kid, now), Lookup::AskDatabase) {
                continue;
            }
            let mut connection = self.shared.pool.acquire().await?;
            if store::secrets::find_key_id(&mut connection, text)
                .await?
                .is_none()
            {
                index.note_absent(question, now.saturating_add(ABSENT_MS));
                return Ok(None);
            }
            drop(connection);
            // A change of it is being committed: its answer is a moment away.
            if started.elapsed() > COMMIT_WAIT {
                return Err(RegistryError::Locked);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
