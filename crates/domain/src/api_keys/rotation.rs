//! Rotation: a second secret for the same key, and an end for the first one.
//!
//! ```text
//!  pending --first use | promoted--> active --successor activated--> retiring --overlap ends | drained--> retired
//!     \--cancelled | timed out--> aborted       any live state --compromise--> revoked (terminal)
//!                                    retiring --rolled back--> active
//! ```
//! At most two secrets verify. The old one never lives longer than it would have without a rotation.

use super::lifecycle::{
    ApiKey, ApiKeyState, KeyError, Secret, SecretState, check_lifetime, check_reason,
};
use super::{Kid, MAX_OVERLAP_MS, OverlapClock};

/// What a person or a schedule wants of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationRequest {
    /// How long the old secret keeps working once its clock runs; 0 ends it at once.
    pub overlap_ms: i64,
    /// What starts that clock.
    pub clock: OverlapClock,
    /// Life of the new secret: `None` keeps the lifetime of the old one.
    pub lifetime_ms: Option<i64>,
    /// The secret that is to be replaced, as the caller saw it. If another one is current by now,
    /// somebody else rotated: [`KeyError::RotationInProgress`].
    pub replaces: Option<Kid>,
    /// The old secrets are known to others: they end at once as revoked, with this reason.
    pub compromised: Option<String>,
}

impl Default for RotationRequest {
    /// A day of overlap from the first use of the new secret.
    fn default() -> Self {
        Self {
            overlap_ms: super::DAY_MS,
            clock: OverlapClock::FromFirstUse,
            lifetime_ms: None,
            replaces: None,
            compromised: None,
        }
    }
}

impl RotationRequest {
    /// How long the old secret can work at most after the clock started: what policies judge. A
    /// compromise ends it at once, whatever else was asked for.
    #[must_use]
    pub fn longest_overlap_ms(&self) -> i64 {
        match self.clock {
            _ if self.compromised.is_some() => 0,
            OverlapClock::UntilDrained { cap_ms, .. } => cap_ms,
            OverlapClock::FromFirstUse | OverlapClock::FromIssue => self.overlap_ms,
        }
    }
}

/// Ties the old secret of a key and the new one together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Chosen by whoever asks: a second request with the same id does nothing.
    pub id: String,
    /// The key.
    pub key_id: String,
    /// The secret that is replaced, if one still worked.
    pub old: Option<Kid>,
    /// The secret that replaces it.
    pub new: Kid,
    /// How long the old one works after the clock started.
    pub overlap_ms: i64,
    /// What starts the clock.
    pub clock: OverlapClock,
    /// How far it is.
    pub state: RotationState,
    /// Who asked.
    pub requested_by: String,
    /// Why, for a compromise.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at: i64,
    /// When the new secret was first used or promoted.
    pub activated_at: Option<i64>,
    /// When it was over.
    pub ended_at: Option<i64>,
    /// What ended it: `overlap`, `drained`, `superseded`, `timeout` or a person.
    pub ended_by: Option<String>,
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationState {
    /// The new secret was not used yet.
    Pending,
    /// The new secret is in use; the old one may still work.
    Overlapping,
    /// The old secret has ended.
    Complete,
    /// The new secret was cancelled before anybody used it.
    Cancelled,
    /// The old secret is the current one again.
    RolledBack,
}

impl RotationState {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Overlapping => "overlapping",
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Overlapping,
            Self::Complete,
            Self::Cancelled,
            Self::RolledBack,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    /// Whether something can still come of it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Overlapping)
    }
}

impl Rotation {
    fn end(&mut self, state: RotationState, now: i64, by: &str) {
        self.state = state;
        self.ended_at = Some(now);
        self.ended_by = Some(by.to_owned());
    }

    /// Ends it because a newer one takes its place.
    pub fn supersede(&mut self, now: i64) {
        let state = if self.state == RotationState::Pending {
            RotationState::Cancelled
        } else {
            RotationState::Complete
        };
        self.end(state, now, "superseded");
    }
}

impl ApiKey {
    /// Gives the key a new secret. A pending one is cancelled first; a predecessor of the
    /// predecessor ends at once; the current one works until its overlap ends, never longer than
    /// before. Returns the rotation; an earlier open one is to be [superseded](Rotation::supersede).
    ///
    /// # Errors
    /// [`KeyError::Revoked`], [`KeyError::RotationInProgress`], [`KeyError::Overlap`],
    /// [`KeyError::Lifetime`], [`KeyError::OverlapOutlivesSecret`], [`KeyError::ReasonRequired`];
    /// the key is unchanged then.
    pub fn rotate(
        &mut self,
        id: &str,
        request: &RotationRequest,
        (kid, last_four): (Kid, &str),
        requested_by: &str,
        now: i64,
    ) -> Result<Rotation, KeyError> {
        if self.state(now) == ApiKeyState::Revoked {
            return Err(KeyError::Revoked);
        }
        let overlap_ms = request.longest_overlap_ms();
        // Nothing overlaps after a compromise: no clock can be wrong for it.
        let clock = match request.compromised {
            Some(_) => OverlapClock::FromIssue,
            None => request.clock,
        };
        if !(0..=MAX_OVERLAP_MS).contains(&overlap_ms) || !clock.is_sound() {
            return Err(KeyError::Overlap);
        }
        if let (Some(expected), Some(current)) = (&request.replaces, self.current_secret(now))
            && *expected != current.kid
        {
            return Err(KeyError::RotationInProgress);
        }
        let reason = request
            .compromised
            .as_deref()
            .map(check_reason)
            .transpose()?;
        if reason == Some(None) {
            return Err(KeyError::ReasonRequired);
        }
        let reason = reason.flatten();
        let lifetime = match request.lifetime_ms {
            Some(lifetime) => {
                check_lifetime(Some(lifetime), false)?;
                Some(lifetime)
            }
            None => self.inherited_lifetime_ms(now),
        };
        if lifetime.is_some_and(|lifetime| lifetime < overlap_ms) {
            return Err(KeyError::OverlapOutlivesSecret);
        }
        self.note_ended(now);
        let at_issue = clock == OverlapClock::FromIssue;
        let old = self.make_room(reason.as_deref(), overlap_ms, at_issue, now);
        let mut secret = Secret::new(kid.clone(), last_four, SecretState::Pending, now, lifetime);
        secret.pending_until = self.pending_until(old.as_ref(), lifetime, now);
        self.secrets.push(secret);
        Ok(Rotation {
            id: id.to_owned(),
            key_id: self.id.clone(),
            old,
            new: kid,
            overlap_ms,
            clock,
            state: RotationState::Pending,
            requested_by: requested_by.to_owned(),
            reason,
            created_at: now,
            activated_at: None,
            ended_at: None,
            ended_by: None,
        })
    }

    /// Writes down what time has ended, so that a clock that goes back cannot bring it back.
    pub(super) fn note_ended(&mut self, now: i64) {
        for secret in &mut self.secrets {
            let state = secret.state(now);
            if !secret.stored.verifies() || state.verifies() {
                continue;
            }
            let (at, why) = match state {
                SecretState::Retired => (secret.retires_at, "its overlap ended"),
                SecretState::Aborted => (secret.pending_until, "nobody used it in time"),
                _ => (secret.expires_at, "it expired"),
            };
            secret.end(state, at.unwrap_or(now), Some(why));
        }
    }

    /// Leaves at most one verifying secret, and starts the end of it where the clock runs already.
    fn make_room(
        &mut self,
        compromised: Option<&str>,
        overlap_ms: i64,
        at_issue: bool,
        now: i64,
    ) -> Option<Kid> {
        for secret in &mut self.secrets {
            if !secret.state(now).verifies() {
                continue;
            }
            if let Some(reason) = compromised {
                secret.end(SecretState::Revoked, now, Some(reason));
            } else if secret.stored == SecretState::Pending {
                secret.end(
                    SecretState::Aborted,
                    now,
                    Some("a newer rotation took its place"),
                );
            }
        }
        let live = |secret: &Secret| secret.state(now).verifies();
        let old = self.secrets.iter().rposition(live)?;
        for secret in &mut self.secrets[..old] {
            if live(secret) {
                secret.end(
                    SecretState::Retired,
                    now,
                    Some("a newer rotation ended its overlap"),
                );
            }
        }
        let secret = &mut self.secrets[old];
        if overlap_ms == 0 {
            secret.end(SecretState::Retired, now, Some("rotated without overlap"));
            return None;
        }
        if at_issue {
            secret.retire_by(now.saturating_add(overlap_ms));
        }
        Some(secret.kid.clone())
    }

    /// A secret nobody uses is cancelled, unless it will be the only one left to use.
    fn pending_until(&self, old: Option<&Kid>, lifetime: Option<i64>, now: i64) -> Option<i64> {
        let end = now.saturating_add(MAX_OVERLAP_MS.min(lifetime.unwrap_or(i64::MAX)));
        let old = self
            .secrets
            .iter()
            .find(|secret| Some(&secret.kid) == old)?;
        let outlives =
            old.stored == SecretState::Active && old.expires_at.is_none_or(|expiry| expiry > end);
        outlives.then_some(end)
    }

    /// The first use of a secret, or its promotion by hand: it becomes the active one, and the
    /// clock of the old one starts where it waited for this. Returns whether anything changed.
    pub fn activate(&mut self, rotation: &mut Rotation, now: i64) -> bool {
        self.note_ended(now);
        let Some(new) = self
            .secrets
            .iter_mut()
            .find(|secret| secret.kid == rotation.new)
        else {
            return false;
        };
        if rotation.state != RotationState::Pending || new.state(now) != SecretState::Pending {
            return false;
        }
        new.stored = SecretState::Active;
        new.activated_at = Some(now);
        new.pending_until = None;
        rotation.activated_at = Some(now);
        rotation.state = RotationState::Overlapping;
        let old = self
            .secrets
            .iter_mut()
            .find(|secret| Some(&secret.kid) == rotation.old.as_ref());
        match old {
            Some(old) if old.state(now).verifies() => {
                if rotation.clock != OverlapClock::FromIssue {
                    old.retire_by(now.saturating_add(rotation.overlap_ms));
                }
            }
            _ => rotation.end(RotationState::Complete, now, "overlap"),
        }
        true
    }

    /// Cancels a rotation whose new secret nobody used. The old secret is as it was before.
    ///
    /// # Errors
    /// [`KeyError::NoRotation`] if the new secret is in use or the rotation is over;
    /// [`KeyError::TooLateToRollBack`] if the new one is all that is left.
    pub fn cancel_rotation(
        &mut self,
        rotation: &mut Rotation,
        by: &str,
        now: i64,
    ) -> Result<(), KeyError> {
        if rotation.state != RotationState::Pending {
            return Err(KeyError::NoRotation);
        }
        if !self.works(rotation.old.as_ref(), now) {
            return Err(KeyError::TooLateToRollBack);
        }
        self.give_back(rotation, now);
        rotation.end(RotationState::Cancelled, now, by);
        Ok(())
    }

    /// Makes the old secret the current one again and ends the new one, while the old one works.
    ///
    /// # Errors
    /// [`KeyError::NoRotation`]; [`KeyError::TooLateToRollBack`] once the old secret has ended.
    pub fn roll_back(
        &mut self,
        rotation: &mut Rotation,
        by: &str,
        now: i64,
    ) -> Result<(), KeyError> {
        if self.state(now) == ApiKeyState::Revoked {
            return Err(KeyError::Revoked);
        }
        if !rotation.state.is_open() {
            return Err(KeyError::NoRotation);
        }
        if !self.works(rotation.old.as_ref(), now) {
            return Err(KeyError::TooLateToRollBack);
        }
        self.give_back(rotation, now);
        rotation.end(RotationState::RolledBack, now, by);
        Ok(())
    }

    fn works(&self, kid: Option<&Kid>, now: i64) -> bool {
        self.secrets
            .iter()
            .any(|secret| Some(&secret.kid) == kid && secret.state(now).verifies())
    }

    fn give_back(&mut self, rotation: &Rotation, now: i64) {
        self.note_ended(now);
        for secret in &mut self.secrets {
            if secret.kid == rotation.new && secret.stored.verifies() {
                secret.end(
                    SecretState::Aborted,
                    now,
                    Some("its rotation was taken back"),
                );
            } else if Some(&secret.kid) == rotation.old.as_ref()
                && secret.state(now) == SecretState::Retiring
            {
                secret.stored = SecretState::Active;
                secret.retires_at = None;
            }
        }
    }

    /// Ends the overlap now: because the old secret is silent, or because a named person says so.
    ///
    /// # Errors
    /// [`KeyError::NoRotation`] if the new secret was not used yet or the rotation is over.
    pub fn finish_rotation(
        &mut self,
        rotation: &mut Rotation,
        by: &str,
        now: i64,
    ) -> Result<(), KeyError> {
        if rotation.state != RotationState::Overlapping {
            return Err(KeyError::NoRotation);
        }
        self.note_ended(now);
        for secret in &mut self.secrets {
            if Some(&secret.kid) == rotation.old.as_ref() && secret.state(now).verifies() {
                secret.end(SecretState::Retired, now, Some(by));
            }
        }
        rotation.end(RotationState::Complete, now, by);
        Ok(())
    }

    /// Makes the pending secret of a rotation anew, when the answer that held it was lost: the one
    /// before is cancelled, the rotation stays the same.
    ///
    /// # Errors
    /// [`KeyError::NoRotation`] once the new secret was used or has ended; [`KeyError::Revoked`].
    pub fn reissue(
        &mut self,
        rotation: &mut Rotation,
        kid: Kid,
        last_four: &str,
        now: i64,
    ) -> Result<(), KeyError> {
        if self.revoked_at.is_some() {
            return Err(KeyError::Revoked);
        }
        self.note_ended(now);
        let lost = self
            .secrets
            .iter_mut()
            .find(|secret| secret.kid == rotation.new);
        let Some(lost) = lost.filter(|secret| secret.state(now) == SecretState::Pending) else {
            return Err(KeyError::NoRotation);
        };
        if rotation.state != RotationState::Pending {
            return Err(KeyError::NoRotation);
        }
        lost.end(SecretState::Aborted, now, Some("made anew"));
        let mut secret = Secret::new(
            kid.clone(),
            last_four,
            SecretState::Pending,
            now,
            lost.lifetime_ms(),
        );
        secret.pending_until = lost.pending_until;
        self.secrets.push(secret);
        rotation.new = kid;
        Ok(())
    }

    /// The lifetime that a rotation without a wish gives the new secret: that of the current one.
    #[must_use]
    pub fn inherited_lifetime_ms(&self, now: i64) -> Option<i64> {
        self.current_secret(now).and_then(Secret::lifetime_ms)
    }

    /// What time alone did to a rotation: its overlap ended, its pending secret timed out, or the
    /// old secret has been silent for as long as the policy asks. Returns whether anything changed.
    pub fn settle_rotation(&mut self, rotation: &mut Rotation, now: i64) -> bool {
        let state = |kid: Option<&Kid>| {
            self.secrets
                .iter()
                .find(|secret| Some(&secret.kid) == kid)
                .map(|secret| secret.state(now))
        };
        let (old, new) = (state(rotation.old.as_ref()), state(Some(&rotation.new)));
        match rotation.state {
            RotationState::Pending if new.is_none_or(|new| !new.verifies()) => {
                // It timed out: as if it had been cancelled. (A revoked one has ended already.)
                self.give_back(rotation, now);
                rotation.end(RotationState::Cancelled, now, "timeout");
                true
            }
            RotationState::Overlapping if old.is_none_or(|old| !old.verifies()) => {
                self.note_ended(now);
                rotation.end(RotationState::Complete, now, "overlap");
                true
            }
            // What replaced it may have ended too: then silence is no reason to end the last one.
            RotationState::Overlapping
                if new.is_some_and(SecretState::verifies) && self.is_drained(rotation, now) =>
            {
                self.finish_rotation(rotation, "drained", now).is_ok()
            }
            _ => false,
        }
    }

    /// Whether the old secret was silent for the window that its clock asks for.
    #[must_use]
    pub fn is_drained(&self, rotation: &Rotation, now: i64) -> bool {
        let OverlapClock::UntilDrained { silent_ms, .. } = rotation.clock else {
            return false;
        };
        let old = self
            .secrets
            .iter()
            .find(|secret| Some(&secret.kid) == rotation.old.as_ref());
        let quiet_since = old
            .and_then(|old| old.last_used_at)
            .max(rotation.activated_at);
        quiet_since.is_some_and(|since| now.saturating_sub(since) >= silent_ms)
    }

    /// A key for one use was used: every secret of it ends.
    pub fn end_one_time(&mut self, now: i64) {
        self.note_ended(now);
        for secret in &mut self.secrets {
            if secret.stored.verifies() {
                secret.end(
                    SecretState::Retired,
                    now,
                    Some("made for one use, and used"),
                );
            }
        }
    }

    /// Ends one secret for good. The others stay as they are: a use of an ended secret alerts, and
    /// never ends the rest by itself.
    ///
    /// # Errors
    /// [`KeyError::UnknownKid`], [`KeyError::ReasonRequired`], [`KeyError::ReasonTooLong`].
    pub fn revoke_secret(&mut self, kid: &Kid, reason: &str, now: i64) -> Result<bool, KeyError> {
        let reason = check_reason(reason)?.ok_or(KeyError::ReasonRequired)?;
        let secret = self
            .secrets
            .iter_mut()
            .find(|secret| secret.kid == *kid)
            .ok_or(KeyError::UnknownKid)?;
        if !secret.state(now).verifies() {
            return Ok(false);
        }
        secret.end(SecretState::Revoked, now, Some(&reason));
        self.note_ended(now);
        // One that nobody used yet may be all that is left: then it does not time out any more.
        let mut live = self
            .secrets
            .iter_mut()
            .filter(|secret| secret.state(now).verifies());
        if let (Some(last), None) = (live.next(), live.next()) {
            last.pending_until = None;
        }
        Ok(true)
    }
}

impl Secret {
    /// Begins or shortens its overlap; never makes its life longer.
    fn retire_by(&mut self, end: i64) {
        let ends = [self.retires_at, self.expires_at, Some(end)];
        self.retires_at = ends.into_iter().flatten().min();
        self.stored = SecretState::Retiring;
    }
}

#[cfg(test)]
mod tests;
