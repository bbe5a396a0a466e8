//! Policies: what an environment allows of its keys. Every refusal names the policy (AC-142).

use core::fmt;

use super::environment::Environment;
use super::format::Prefix;
use super::limits::{RateLimit, RateLimits};
use super::settings::KeySettings;
use super::{DAY_MS, MAX_LIFETIME_MS, MAX_OVERLAP_MS, MIN_LIFETIME_MS};
use crate::scopes::ScopeSet;

/// Longest age that a policy can name: ten years, for keys that never expire.
pub const MAX_AGE_MS: i64 = 3650 * DAY_MS;
/// Shortest silence after which a secret may count as drained: one minute.
pub const MIN_SILENT_MS: i64 = 60_000;

/// The environments that a policy speaks of. Text: a name, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PolicyEnvironment {
    /// Every environment without a policy of its own.
    All,
    /// One environment.
    One(Environment),
}

impl PolicyEnvironment {
    /// Reads the stable text.
    ///
    /// # Errors
    /// [`PolicyError::Environment`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        match text {
            "*" => Ok(Self::All),
            name => Environment::new(name)
                .map(Self::One)
                .map_err(|_| PolicyError::Environment),
        }
    }

    /// Stable text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "*",
            Self::One(environment) => environment.as_str(),
        }
    }
}

impl fmt::Display for PolicyEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When the overlap of a rotation begins and how it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OverlapClock {
    /// The overlap runs from the first use of the new secret: nobody is locked out while the new
    /// secret is still on its way.
    #[default]
    FromFirstUse,
    /// The overlap runs from the moment the new secret was made.
    FromIssue,
    /// The old secret works until nobody has used it for `silent_ms`, but no longer than `cap_ms`
    /// from the first use of the new one.
    UntilDrained {
        /// The silence that ends it (ms).
        silent_ms: i64,
        /// The end in any case (ms).
        cap_ms: i64,
    },
}

impl OverlapClock {
    /// Reads the stable text.
    ///
    /// # Errors
    /// [`PolicyError::OverlapClock`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        match text {
            "from_first_use" => return Ok(Self::FromFirstUse),
            "from_issue" => return Ok(Self::FromIssue),
            _ => {}
        }
        let times = text
            .strip_prefix("until_drained:")
            .and_then(|rest| rest.split_once(':'))
            .and_then(|(silent, cap)| Some((silent.parse().ok()?, cap.parse().ok()?)));
        let (silent_ms, cap_ms) = times.ok_or(PolicyError::OverlapClock)?;
        let clock = Self::UntilDrained { silent_ms, cap_ms };
        // One clock has one text: no signs, no leading zeros.
        if clock.to_text() != text {
            return Err(PolicyError::OverlapClock);
        }
        clock.check(MAX_OVERLAP_MS)?;
        Ok(clock)
    }

    /// Stable text: `from_first_use`, `from_issue`, `until_drained:silent_ms:cap_ms`.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::FromFirstUse => "from_first_use".to_owned(),
            Self::FromIssue => "from_issue".to_owned(),
            Self::UntilDrained { silent_ms, cap_ms } => {
                format!("until_drained:{silent_ms}:{cap_ms}")
            }
        }
    }

    /// Whether its times are such as the stable text can hold.
    pub(super) fn is_sound(&self) -> bool {
        self.check(MAX_OVERLAP_MS).is_ok()
    }

    fn check(&self, max_overlap_ms: i64) -> Result<(), PolicyError> {
        let Self::UntilDrained { silent_ms, cap_ms } = *self else {
            return Ok(());
        };
        if silent_ms < MIN_SILENT_MS || silent_ms > cap_ms {
            return Err(PolicyError::OverlapClock);
        }
        if cap_ms > max_overlap_ms {
            return Err(PolicyError::Contradiction(
                "the cap of the overlap's clock is longer than the maximum overlap",
            ));
        }
        Ok(())
    }
}

/// What an environment allows of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where it holds.
    pub environment: PolicyEnvironment,
    /// Longest life of a secret (ms).
    pub max_lifetime_ms: i64,
    /// Age (ms) at which a secret is overdue for rotation: its owner is told, and it goes on working. What
    /// ends it is its expiry, which `max_lifetime_ms` bounds. None: that is enough.
    pub max_age_ms: Option<i64>,
    /// Whether secrets may live for ever.
    pub never_expires_allowed: bool,
    /// Shortest overlap of a rotation (ms). A compromised key ends without one all the same.
    pub min_overlap_ms: i64,
    /// Longest overlap of a rotation (ms).
    pub max_overlap_ms: i64,
    /// What keys may hold at most; none: whatever the registry knows.
    pub allowed_scopes: Option<ScopeSet>,
    /// Which prefixes keys may have; none: any.
    pub allowed_prefixes: Option<Vec<Prefix>>,
    /// Every key carries a limit at least this strict; one without limits gets this one.
    pub rate_limit_floor: Option<RateLimit>,
    /// When the overlap of a rotation begins and how it ends.
    pub overlap_clock: OverlapClock,
    /// Silence (ms) of the old secret after which it may be ended as drained, where the clock of its
    /// rotation says nothing of silence.
    pub drain_ms: i64,
}

impl Policy {
    /// What holds where nobody has set a policy: secrets live 1 to 365 days, overlaps last at most
    /// 30 days from the first use of the new secret.
    #[must_use]
    pub fn default_for(environment: Environment) -> Self {
        Self {
            environment: PolicyEnvironment::One(environment),
            max_lifetime_ms: MAX_LIFETIME_MS,
            max_age_ms: None,
            never_expires_allowed: false,
            min_overlap_ms: 0,
            max_overlap_ms: MAX_OVERLAP_MS,
            allowed_scopes: None,
            allowed_prefixes: None,
            rate_limit_floor: None,
            overlap_clock: OverlapClock::FromFirstUse,
            drain_ms: DAY_MS,
        }
    }

    /// Checks the policy itself.
    ///
    /// # Errors
    /// [`PolicyError`]: a time out of its bounds, or two rules that cannot both be kept.
    pub fn check(&self) -> Result<(), PolicyError> {
        let contradiction = |text| Err(PolicyError::Contradiction(text));
        if !(MIN_LIFETIME_MS..=MAX_LIFETIME_MS).contains(&self.max_lifetime_ms) {
            return Err(PolicyError::MaxLifetime);
        }
        let is_age = |age: i64| (MIN_LIFETIME_MS..=MAX_AGE_MS).contains(&age);
        if !self.max_age_ms.is_none_or(is_age) {
            return Err(PolicyError::MaxAge);
        }
        let overlaps = 0..=MAX_OVERLAP_MS;
        if !overlaps.contains(&self.min_overlap_ms) || !overlaps.contains(&self.max_overlap_ms) {
            return Err(PolicyError::Overlap);
        }
        if !(MIN_SILENT_MS..=MAX_OVERLAP_MS).contains(&self.drain_ms) {
            return Err(PolicyError::Drain);
        }
        if self.min_overlap_ms > self.max_overlap_ms {
            return contradiction("the minimum overlap is longer than the maximum overlap");
        }
        if self.min_overlap_ms > self.max_lifetime_ms {
            return contradiction("the minimum overlap is longer than the maximum lifetime");
        }
        if self
            .allowed_scopes
            .as_ref()
            .is_some_and(|set| set.as_slice().is_empty())
        {
            return contradiction("no scope is allowed, but every key needs one");
        }
        if let Some(prefixes) = &self.allowed_prefixes {
            if prefixes.is_empty() {
                return contradiction("no prefix is allowed, but every key has one");
            }
            if prefixes.iter().any(|prefix| !self.fits_environment(prefix)) {
                return contradiction("an allowed prefix names another environment");
            }
        }
        self.overlap_clock.check(self.max_overlap_ms)
    }

    fn fits_environment(&self, prefix: &Prefix) -> bool {
        match (&self.environment, Environment::of_prefix(prefix)) {
            (PolicyEnvironment::One(mine), Some(named)) => *mine == named,
            _ => true,
        }
    }

    /// Judges a wish for a new key; its settings are judged by [`Policy::check_settings`].
    ///
    /// # Errors
    /// [`PolicyViolation`], naming the first policy broken.
    pub fn check_issue(
        &self,
        prefix: &Prefix,
        scopes: &ScopeSet,
        lifetime_ms: Option<i64>,
    ) -> Result<(), PolicyViolation> {
        self.check_lifetime(lifetime_ms)?;
        if let Some(allowed) = &self.allowed_prefixes
            && !allowed.contains(prefix)
        {
            let list: Vec<_> = allowed.iter().map(Prefix::as_str).collect();
            return Err(self.violation(
                "allowed prefixes",
                format!(
                    "the prefix {prefix} is not allowed; allowed: {}",
                    list.join(", ")
                ),
            ));
        }
        self.check_scopes(scopes)
    }

    /// Judges the scopes of a key, new or changed.
    ///
    /// # Errors
    /// [`PolicyViolation`] of “allowed scopes”, naming the first scope beyond it.
    pub fn check_scopes(&self, scopes: &ScopeSet) -> Result<(), PolicyViolation> {
        let Some(allowed) = &self.allowed_scopes else {
            return Ok(());
        };
        let beyond = scopes.as_slice().iter().find(|one| !allowed.covers(one));
        match beyond {
            None => Ok(()),
            Some(scope) => Err(self.violation(
                "allowed scopes",
                format!(
                    "the scope {} is not allowed; allowed: {allowed}",
                    scope.as_str()
                ),
            )),
        }
    }

    /// Judges a rotation: the overlap and the life of the new secret (none: for ever). A
    /// compromised key may always end its old secret at once.
    ///
    /// # Errors
    /// [`PolicyViolation`], naming the first policy broken.
    pub fn check_rotation(
        &self,
        overlap_ms: i64,
        lifetime_ms: Option<i64>,
        compromised: bool,
    ) -> Result<(), PolicyViolation> {
        self.check_lifetime(lifetime_ms)?;
        let min_overlap_ms = if compromised { 0 } else { self.min_overlap_ms };
        if overlap_ms < min_overlap_ms {
            let least = Span(min_overlap_ms);
            return Err(self.violation(
                "minimum overlap",
                format!("the old secret keeps working for at least {least}"),
            ));
        }
        if overlap_ms > self.max_overlap_ms {
            let most = Span(self.max_overlap_ms);
            return Err(self.violation(
                "maximum overlap",
                format!("the old secret keeps working for at most {most}"),
            ));
        }
        if lifetime_ms.is_some_and(|lifetime| lifetime < overlap_ms) {
            return Err(self.violation(
                "overlap within lifetime",
                "the new secret would expire before the old one stops working".to_owned(),
            ));
        }
        Ok(())
    }

    /// The clock of a rotation whose request names none. `overlap_ms` is the overlap that it asks for, if
    /// it does: where the old secret works until it is silent, that is the cap.
    #[must_use]
    pub fn clock_of_rotation(&self, overlap_ms: Option<i64>) -> OverlapClock {
        match (self.overlap_clock, overlap_ms) {
            (OverlapClock::UntilDrained { silent_ms, .. }, Some(cap_ms)) if cap_ms < silent_ms => {
                // It ends before any silence could be long enough.
                OverlapClock::FromFirstUse
            }
            (OverlapClock::UntilDrained { silent_ms, .. }, Some(cap_ms)) => {
                OverlapClock::UntilDrained { silent_ms, cap_ms }
            }
            (clock, _) => clock,
        }
    }

    /// Judges the settings of a key, new or changed. Give keys without limits the floor first, by
    /// [`Policy::apply_rate_limit_floor`].
    ///
    /// # Errors
    /// [`PolicyViolation`] of “rate limit floor” if no limit is strict enough. A canary has no
    /// rights and needs no limit.
    pub fn check_settings(&self, settings: &KeySettings) -> Result<(), PolicyViolation> {
        let Some(floor) = &self.rate_limit_floor else {
            return Ok(());
        };
        let mut limits = settings.limits.as_slice().iter();
        if settings.canary || limits.any(|limit| limit.is_at_least_as_strict_as(floor)) {
            return Ok(());
        }
        Err(self.violation(
            "rate limit floor",
            format!("a key carries a limit at least as strict as {floor}"),
        ))
    }

    /// Gives a key without limits the limit that the policy asks for; others stay as they are.
    pub fn apply_rate_limit_floor(&self, settings: &mut KeySettings) {
        if let Some(floor) = &self.rate_limit_floor
            && settings.limits.as_slice().is_empty()
            && !settings.canary
        {
            settings.limits = RateLimits::one(floor.clone());
        }
    }

    fn check_lifetime(&self, lifetime_ms: Option<i64>) -> Result<(), PolicyViolation> {
        let Some(lifetime_ms) = lifetime_ms else {
            return if self.never_expires_allowed {
                Ok(())
            } else {
                Err(self.violation(
                    "expiry required",
                    "keys that never expire are not issued here".to_owned(),
                ))
            };
        };
        if lifetime_ms < MIN_LIFETIME_MS {
            let least = Span(MIN_LIFETIME_MS);
            return Err(self.violation(
                "minimum lifetime",
                format!("a secret lives at least {least}"),
            ));
        }
        if lifetime_ms > self.max_lifetime_ms {
            let most = Span(self.max_lifetime_ms);
            return Err(
                self.violation("maximum lifetime", format!("a secret lives at most {most}"))
            );
        }
        Ok(())
    }

    fn violation(&self, policy: &'static str, message: String) -> PolicyViolation {
        PolicyViolation {
            policy,
            environment: self.environment.clone(),
            message,
        }
    }
}

/// A time for people, in the largest unit that is exact.
struct Span(i64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 4] = [
            (DAY_MS, "day"),
            (3_600_000, "hour"),
            (60_000, "minute"),
            (1000, "second"),
        ];
        let exact = UNITS.iter().find(|(unit, _)| self.0 % unit == 0);
        let (number, name) = match exact {
            Some((unit, name)) if self.0 != 0 => (self.0 / unit, *name),
            Some(_) => (0, "second"),
            None => (self.0, "millisecond"),
        };
        let plural = if number == 1 { "" } else { "s" };
        write!(f, "{number} {name}{plural}")
    }
}

/// A wish that a policy refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy “{policy}” ({environment}): {message}")]
pub struct PolicyViolation {
    /// The policy's name, for people, stable.
    pub policy: &'static str,
    /// Where it holds.
    pub environment: PolicyEnvironment,
    /// What it asks for.
    pub message: String,
}

impl PolicyViolation {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "policy_violation"
    }
}

/// Why a policy is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Neither an environment nor `*`.
    #[error("a policy names an environment, or * for all")]
    Environment,
    /// Out of bounds.
    #[error("the maximum lifetime is 1 to 365 days")]
    MaxLifetime,
    /// Out of bounds.
    #[error("the maximum age is 1 day to 10 years")]
    MaxAge,
    /// Out of bounds.
    #[error("overlaps last 0 to 30 days")]
    Overlap,
    /// Out of bounds.
    #[error("a secret counts as drained after 1 minute to 30 days of silence")]
    Drain,
    /// Not a clock.
    #[error(
        "the overlap's clock is from_first_use, from_issue or until_drained:silent_ms:cap_ms, at least a minute of silence and no more than the cap"
    )]
    OverlapClock,
    /// Two rules that cannot both be kept.
    #[error("the policy contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl PolicyError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid_policy"
    }
}

#[cfg(test)]
mod tests;
