//! Credits: what a key may use up, and how they come back. Text of a plan: `amount`, or
//! `amount+refill/every_ms<cap`.

use super::DAY_MS;

/// Most credits a key can hold; small enough for every reader of JSON.
pub const MAX_CREDITS: i64 = 1_000_000_000_000_000;
/// Shortest time between two refills: one minute.
pub const MIN_REFILL_MS: i64 = 60_000;
/// Longest time between two refills: 366 days.
pub const MAX_REFILL_MS: i64 = 366 * DAY_MS;

/// The credits of a key. They belong to the key: a rotation neither doubles nor restores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditPlan {
    /// What it starts with.
    pub amount: i64,
    /// How they come back; none: never.
    pub refill: Option<Refill>,
}

/// How credits come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// Credits a period.
    pub amount: i64,
    /// The period (ms).
    pub every_ms: i64,
    /// A refill never lifts the credits above this; what was above it before stays.
    pub cap: i64,
}

impl CreditPlan {
    /// Checks a plan.
    ///
    /// # Errors
    /// [`CreditsError`]: the first rule it breaks.
    pub fn check(&self) -> Result<(), CreditsError> {
        if !(0..=MAX_CREDITS).contains(&self.amount) {
            return Err(CreditsError::Amount);
        }
        let Some(refill) = self.refill else {
            return Ok(());
        };
        if !(1..=MAX_CREDITS).contains(&refill.amount) {
            return Err(CreditsError::RefillAmount);
        }
        if !(MIN_REFILL_MS..=MAX_REFILL_MS).contains(&refill.every_ms) {
            return Err(CreditsError::Period);
        }
        if !(refill.amount..=MAX_CREDITS).contains(&refill.cap) {
            return Err(CreditsError::Cap);
        }
        Ok(())
    }

    /// The state of a key that was just issued.
    #[must_use]
    pub fn start(&self, now: i64) -> CreditState {
        CreditState {
            remaining: self.amount,
            refilled_at: now,
        }
    }

    /// Reads a plan as [`CreditPlan::to_text`] writes it.
    ///
    /// # Errors
    /// [`CreditsError`].
    pub fn parse(text: &str) -> Result<Self, CreditsError> {
        let plan = match text.split_once('+') {
            None => Self {
                amount: number(text)?,
                refill: None,
            },
            Some((amount, rest)) => {
                let (refill, rest) = rest.split_once('/').ok_or(CreditsError::Text)?;
                let (every_ms, cap) = rest.split_once('<').ok_or(CreditsError::Text)?;
                Self {
                    amount: number(amount)?,
                    refill: Some(Refill {
                        amount: number(refill)?,
                        every_ms: number(every_ms)?,
                        cap: number(cap)?,
                    }),
                }
            }
        };
        plan.check()?;
        Ok(plan)
    }

    /// The text to store: `1000+100/3600000<1000`.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self.refill {
            None => self.amount.to_string(),
            Some(Refill {
                amount,
                every_ms,
                cap,
            }) => format!("{}+{amount}/{every_ms}<{cap}", self.amount),
        }
    }
}

/// Digits only, without a sign or leading zeros, so that one plan has one text.
fn number(text: &str) -> Result<i64, CreditsError> {
    let number: i64 = text.parse().map_err(|_| CreditsError::Text)?;
    if number >= 0 && number.to_string() == text {
        Ok(number)
    } else {
        Err(CreditsError::Text)
    }
}

/// What is left of a key's credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditState {
    /// Credits left.
    pub remaining: i64,
    /// Start of the period that runs (Unix ms). It moves by whole periods only, so that looking
    /// often never shifts the next refill.
    pub refilled_at: i64,
}

impl CreditState {
    /// The state at `now`: with the refills of every whole period since. A clock that went
    /// backwards changes nothing.
    #[must_use]
    pub fn settle(&self, plan: &CreditPlan, now: i64) -> Self {
        let Some(refill) = plan.refill else {
            return *self;
        };
        let periods = now.saturating_sub(self.refilled_at) / refill.every_ms.max(1);
        if periods <= 0 {
            return *self;
        }
        let refilled = self
            .remaining
            .saturating_add(refill.amount.saturating_mul(periods));
        Self {
            remaining: refilled.min(refill.cap.max(self.remaining)),
            refilled_at: self.refilled_at + periods * refill.every_ms.max(1),
        }
    }

    /// Settles, then takes `cost` credits. A cost of 0 always passes.
    ///
    /// # Errors
    /// [`CreditsExhausted`] if fewer are left; nothing is taken then.
    pub fn debit(&self, plan: &CreditPlan, cost: u32, now: i64) -> Result<Self, CreditsExhausted> {
        let settled = self.settle(plan, now);
        let cost = i64::from(cost);
        if cost == 0 || cost <= settled.remaining {
            return Ok(Self {
                remaining: settled.remaining - cost,
                ..settled
            });
        }
        let refill_at = plan
            .refill
            .filter(|refill| cost <= refill.cap)
            .map(|refill| {
                let lacking = cost.saturating_sub(settled.remaining).max(1).unsigned_abs();
                let periods = lacking.div_ceil(refill.amount.max(1).unsigned_abs());
                let wait = i64::try_from(periods)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(refill.every_ms);
                settled.refilled_at.saturating_add(wait)
            });
        Err(CreditsExhausted {
            remaining: settled.remaining.max(0),
            refill_at,
        })
    }
}

/// Fewer credits are left than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key's credits are used up: {remaining} left")]
pub struct CreditsExhausted {
    /// Credits left.
    pub remaining: i64,
    /// When refills will have made up for what is lacking (Unix ms); none: never.
    pub refill_at: Option<i64>,
}

/// Why a plan is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditsError {
    /// Negative or too many.
    #[error("a key starts with 0 to 10¹⁵ credits")]
    Amount,
    /// None, negative or too many.
    #[error("a refill brings 1 to 10¹⁵ credits")]
    RefillAmount,
    /// Too short or too long.
    #[error("credits come back every minute at most and every 366 days at least")]
    Period,
    /// Below one refill, or too many.
    #[error("the cap is at least one refill and at most 10¹⁵ credits")]
    Cap,
    /// Not the stored text of a plan.
    #[error("credits are written amount or amount+refill/every_ms<cap")]
    Text,
}

#[cfg(test)]
mod tests;
