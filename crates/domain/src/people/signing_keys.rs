//! Signing keys: published before they sign, and until the last token they signed has expired.

/// State of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, so that verifiers know it before it signs.
    Pending,
    /// Signs. One for each algorithm.
    Active,
    /// Signs no more; its public half verifies.
    Retiring,
    /// Over: its private half is gone.
    Retired,
}

impl KeyState {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Active, Self::Retiring, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// Whether its public half belongs into the JWKS (S38).
    #[must_use]
    pub fn is_published(self) -> bool {
        self != Self::Retired
    }

    /// Whether a key may go from `self` to `next`. No key comes back.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Active | Self::Retired)
                | (Self::Active, Self::Retiring)
                | (Self::Retiring, Self::Retired)
        )
    }
}

/// A signing key, without its private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// `kid` of its tokens.
    pub kid: String,
    /// `alg` of its tokens.
    pub alg: String,
    /// Public half (RFC 7517), JSON.
    pub public_jwk: String,
    /// State as stored.
    pub state: KeyState,
    /// When it was made (Unix ms).
    pub created_at: i64,
    /// When it begins to sign by itself; none for by hand.
    pub activate_at: Option<i64>,
    /// When it began.
    pub activated_at: Option<i64>,
    /// When the last token it signed has expired.
    pub retire_at: Option<i64>,
    /// When it was retired.
    pub retired_at: Option<i64>,
}

impl SigningKey {
    /// The state that time alone has brought it to at `now`.
    #[must_use]
    pub fn due(&self, now: i64) -> Option<KeyState> {
        match self.state {
            KeyState::Pending if self.activate_at.is_some_and(|at| at <= now) => {
                Some(KeyState::Active)
            }
            KeyState::Retiring if self.retire_at.is_some_and(|at| at <= now) => {
                Some(KeyState::Retired)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_201_a_key_is_published_before_and_after_it_signs() {
        use KeyState::{Active, Pending, Retired, Retiring};
        let all = [Pending, Active, Retiring, Retired];
        for (index, state) in all.into_iter().enumerate() {
            assert_eq!(KeyState::parse(state.as_str()), Some(state));
            for earlier in &all[..=index] {
                assert!(!state.may_become(*earlier));
            }
        }
        assert!(Pending.may_become(Active) && Active.may_become(Retiring));
        // A key that signed has tokens about: it cannot go at once.
        assert!(!Active.may_become(Retired) && !Pending.may_become(Retiring));
        assert!(Pending.is_published() && Retiring.is_published() && !Retired.is_published());
    }

    #[test]
    fn time_brings_a_key_on() {
        let mut key = SigningKey {
            kid: "k".into(),
            alg: "RS256".into(),
            public_jwk: "{}".into(),
            state: KeyState::Pending,
            created_at: 0,
            activate_at: Some(10),
            activated_at: None,
            retire_at: None,
            retired_at: None,
        };
        assert_eq!((key.due(9), key.due(10)), (None, Some(KeyState::Active)));
        key.state = KeyState::Active;
        assert_eq!(key.due(99), None);
        (key.state, key.retire_at) = (KeyState::Retiring, Some(20));
        assert_eq!((key.due(19), key.due(20)), (None, Some(KeyState::Retired)));
    }
}
