//! Sessions of browsers: two ages, and why one ended.

use super::RefreshLives;

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLives {
    /// Without a request (ms).
    pub idle_ms: i64,
    /// In all (ms).
    pub absolute_ms: i64,
}

impl Default for SessionLives {
    /// 7 days without a request, 30 in all.
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            idle_ms: 7 * DAY_MS,
            absolute_ms: 30 * DAY_MS,
        }
    }
}

impl SessionLives {
    /// As long as a family of refresh tokens, for a sign-in that has no cookie and is seen when its token
    /// is used. Being seen is exact to [`TOUCH_EVERY_MS`], so the session is never over before the family.
    #[must_use]
    pub fn of_refresh(lives: RefreshLives) -> Self {
        Self {
            idle_ms: lives.idle_ms.saturating_add(TOUCH_EVERY_MS),
            absolute_ms: lives.absolute_ms,
        }
    }
}

/// A session is written as seen at most this often (ms), or four times in a short idle life (AC-116).
pub const TOUCH_EVERY_MS: i64 = 5 * 60_000;

/// A session, without its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Public id: the `sid` of tokens (OpenID Connect Back-Channel Logout §2.1).
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// When it began (Unix ms).
    pub created_at: i64,
    /// When the person last signed in (`auth_time`).
    pub authenticated_at: i64,
    /// Latest proof of who they are whose moment is known (Unix ms), 0 for none: a provider may sign
    /// somebody in without asking them, and need not say when it asked.
    pub proven_at: i64,
    /// Latest request, exact to [`TOUCH_EVERY_MS`].
    pub last_seen_at: i64,
    /// How long it lives without a request (ms).
    pub idle_ms: i64,
    /// When it ends in any case.
    pub expires_at: i64,
    /// How it was proven, as a level (OpenID Connect Core §2, `acr`).
    pub acr: String,
    /// How it was proven (RFC 8176), separated by single spaces.
    pub amr: String,
    /// What the browser says it is: foreign text, capped.
    pub user_agent: String,
    /// Where from.
    pub network: String,
    /// When it was ended.
    pub ended_at: Option<i64>,
    /// By whom.
    pub ended_by: Option<String>,
    /// Why.
    pub end_reason: Option<EndReason>,
}

/// Whether a session is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It is.
    Active,
    /// One of its ages is over (AC-106).
    Expired,
    /// It was ended (AC-108).
    Ended,
}

impl SessionState {
    /// Stable code of the refusal; `active` for none.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "session_expired",
            Self::Ended => "session_revoked",
        }
    }
}

impl Session {
    /// When it ends if nobody comes back.
    #[must_use]
    pub fn runs_out_at(&self) -> i64 {
        self.expires_at
            .min(self.last_seen_at.saturating_add(self.idle_ms))
    }

    /// The state at `now`. Ages need no sweeper.
    #[must_use]
    pub fn state(&self, now: i64) -> SessionState {
        match (self.ended_at, self.end_reason) {
            (Some(_), Some(EndReason::Expired)) => SessionState::Expired,
            (Some(_), _) => SessionState::Ended,
            (None, _) if self.runs_out_at() <= now => SessionState::Expired,
            (None, _) => SessionState::Active,
        }
    }

    /// Whether a request at `now` is worth a write.
    #[must_use]
    pub fn touch_is_due(&self, now: i64) -> bool {
        let every = TOUCH_EVERY_MS.min(self.idle_ms / 4);
        now >= self.last_seen_at.saturating_add(every)
    }
}

/// Why a session or a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The person signed out.
    SignedOut,
    /// The person ended it in the list of what they are signed in to.
    EndedByUser,
    /// An administrator ended it.
    EndedByAdmin,
    /// The person began more sessions than one may have (AC-115).
    TooManySessions,
    /// One of its ages was over.
    Expired,
    /// The person was disabled or deleted.
    UserDisabled,
    /// The password was changed.
    PasswordChanged,
    /// A one-use token came twice: somebody else may have it.
    Reuse,
    /// The client was disabled.
    ClientDisabled,
    /// The client gave it back (RFC 7009).
    Revoked,
}

impl EndReason {
    const ALL: [Self; 10] = [
        Self::SignedOut,
        Self::EndedByUser,
        Self::EndedByAdmin,
        Self::TooManySessions,
        Self::Expired,
        Self::UserDisabled,
        Self::PasswordChanged,
        Self::Reuse,
        Self::ClientDisabled,
        Self::Revoked,
    ];

    /// Whether what applications were given for the time when a person is away (`offline_access`) goes on
    /// without the session (OpenID Connect Back-Channel Logout 1.0 §2.7). A browser is left every day; whoever
    /// ends a session in the list, or for safety, means all that it let in.
    #[must_use]
    pub fn leaves_offline_access(self) -> bool {
        matches!(
            self,
            Self::SignedOut | Self::TooManySessions | Self::Expired
        )
    }

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::EndedByUser => "ended_by_user",
            Self::EndedByAdmin => "ended_by_admin",
            Self::TooManySessions => "max_sessions_exceeded",
            Self::Expired => "expired",
            Self::UserDisabled => "user_disabled",
            Self::PasswordChanged => "password_changed",
            Self::Reuse => "reuse",
            Self::ClientDisabled => "client_disabled",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            id: "s".into(),
            user_id: "u".into(),
            created_at: 0,
            authenticated_at: 0,
            proven_at: 0,
            last_seen_at: 1_000,
            idle_ms: 100_000,
            expires_at: 1_000_000,
            acr: String::new(),
            amr: "pwd".into(),
            user_agent: String::new(),
            network: String::new(),
            ended_at: None,
            ended_by: None,
            end_reason: None,
        }
    }

    #[test]
    fn ac_106_both_ages_end_a_session_and_say_so() {
        let mut session = session();
        assert_eq!(session.state(100_999), SessionState::Active);
        assert_eq!(session.state(101_000).code(), "session_expired");
        session.last_seen_at = 999_000;
        assert_eq!(session.state(999_999), SessionState::Active);
        assert_eq!(session.state(1_000_000), SessionState::Expired);
        (session.ended_at, session.end_reason) = (Some(1), Some(EndReason::Expired));
        assert_eq!(session.state(2), SessionState::Expired);
        session.end_reason = Some(EndReason::SignedOut);
        assert_eq!(session.state(2).code(), "session_revoked");
    }

    #[test]
    fn ac_116_a_session_is_touched_every_five_minutes_or_four_times_in_its_idle_life() {
        let mut session = session();
        session.idle_ms = 100_000_000;
        assert!(!session.touch_is_due(300_999));
        assert!(session.touch_is_due(301_000));
        session.idle_ms = 60_000;
        assert!(!session.touch_is_due(15_999));
        assert!(session.touch_is_due(16_000));
    }

    #[test]
    fn reasons_read_back() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(EndReason::parse("user_logout"), None);
    }
}
