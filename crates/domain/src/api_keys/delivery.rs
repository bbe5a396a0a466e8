//! What becomes of a rotation whose new secret did not reach the place it was made for.

use super::rotation::RotationState;
use super::{ApiKey, OverlapClock, Rotation, SecretState};

impl ApiKey {
    /// Lets the old secret live on while the new one is not where it should be: an overlap that ran
    /// from the issue of the new secret stops, and will run from its first use. Its own expiry
    /// stays. Returns whether anything changed; a new secret that is in use has arrived somewhere,
    /// and an old one that has ended never returns.
    pub fn hold_rotation(&mut self, rotation: &mut Rotation, now: i64) -> bool {
        if rotation.state != RotationState::Pending || rotation.clock != OverlapClock::FromIssue {
            return false;
        }
        let old = self.secrets.iter_mut().find(|secret| {
            Some(&secret.kid) == rotation.old.as_ref() && secret.state(now).verifies()
        });
        let Some(old) = old else { return false };
        if old.stored == SecretState::Retiring {
            old.stored = SecretState::Active;
            old.retires_at = None;
        }
        rotation.clock = OverlapClock::FromFirstUse;
        true
    }

    /// Whether taking a rotation back leaves a secret that works.
    #[must_use]
    pub fn old_secret_works(&self, rotation: &Rotation, now: i64) -> bool {
        self.secrets.iter().any(|secret| {
            Some(&secret.kid) == rotation.old.as_ref() && secret.state(now).verifies()
        })
    }
}
