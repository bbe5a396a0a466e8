//! Grants: authorization codes and families of refresh tokens. Who may redeem what, once.

use core::fmt;

/// OAuth scopes of one grant (RFC 6749 §3.3): sorted, without duplicates. Not the scopes of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OAuthScopes(Vec<String>);

impl OAuthScopes {
    /// Reads scope tokens, separated by spaces; none if one has a character that RFC 6749 forbids.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let mut scopes = Vec::new();
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            if token.len() > 100 || !token.bytes().all(allowed) || scopes.len() == 100 {
                return None;
            }
            scopes.push(token.to_owned());
        }
        scopes.sort();
        scopes.dedup();
        Some(Self(scopes))
    }

    /// The tokens, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Whether it holds `scope`.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.0.iter().any(|own| own == scope)
    }

    /// Whether every scope of `other` is in it.
    #[must_use]
    pub fn contains_all(&self, other: &Self) -> bool {
        other.0.iter().all(|scope| self.contains(scope))
    }

    /// Both together.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut scopes: Vec<_> = self.0.iter().chain(&other.0).cloned().collect();
        scopes.sort();
        scopes.dedup();
        Self(scopes)
    }
}

impl fmt::Display for OAuthScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// No access token lives longer than this (ms).
pub const LONGEST_ACCESS_MS: i64 = 60 * 60 * 1000;

/// How far the clocks of servers that decide together may be apart (ms). A moment that is further ahead than
/// this was written by a clock that was wrong, or was put back since: how long ago it was cannot be told.
pub const CLOCKS_APART_MS: i64 = 5_000;

/// How far clocks may differ (ms): an access token is taken for so long after its `exp`.
pub const ACCESS_LEEWAY_MS: i64 = 30 * 1000;

/// How often nodes settle and read the signing keys (ms): another node may sign with the key before for
/// so long.
pub const SETTLE_KEYS_MS: i64 = 60 * 1000;

/// For so long (ms) after its last moment something about access tokens is kept: what is denied, and
/// the key that signs no more. No token is good any more then, wherever it was signed.
pub const ACCESS_KEPT_MS: i64 = LONGEST_ACCESS_MS + SETTLE_KEYS_MS + ACCESS_LEEWAY_MS;

/// How long refresh tokens live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshLives {
    /// Without a use (ms).
    pub idle_ms: i64,
    /// The family in all (ms).
    pub absolute_ms: i64,
    /// How long the token before may come again (ms).
    pub grace_ms: i64,
}

impl Default for RefreshLives {
    /// 7 days without a use, 30 in all, 10 seconds of grace.
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            idle_ms: 7 * DAY_MS,
            absolute_ms: 30 * DAY_MS,
            grace_ms: 10_000,
        }
    }
}

/// Why a code, device code or refresh token gives nothing. The token endpoint says
/// `invalid_grant` for all but [`Self::Scope`] and [`Self::ClientDisabled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantRefusal {
    /// We never gave it, or have forgotten it.
    Unknown,
    /// Its time is over.
    Expired,
    /// The family was not used for too long (AC-089).
    Idle,
    /// Another client has it (AC-055, AC-088).
    OtherClient,
    /// Another redirect URI than the request named.
    RedirectUri,
    /// The verifier does not fit, or one side has none (AC-051, S10).
    Pkce,
    /// Not the key that it is bound to (RFC 9449 §5).
    SenderKey,
    /// More than was granted (AC-090).
    Scope,
    /// The family is revoked.
    Revoked,
    /// The session in which it was given has ended.
    SessionEnded,
    /// The person is disabled (AC-093).
    UserDisabled,
    /// The client is disabled.
    ClientDisabled,
}

impl GrantRefusal {
    /// Stable text for the audit trail.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::OtherClient => "other_client",
            Self::RedirectUri => "redirect_uri",
            Self::Pkce => "pkce",
            Self::SenderKey => "sender_key",
            Self::Scope => "scope",
            Self::Revoked => "revoked",
            Self::SessionEnded => "session_ended",
            Self::UserDisabled => "user_disabled",
            Self::ClientDisabled => "client_disabled",
        }
    }

    /// The error of the token endpoint (RFC 6749 §5.2).
    #[must_use]
    pub fn oauth_error(self) -> &'static str {
        match self {
            Self::Scope => "invalid_scope",
            Self::ClientDisabled => "invalid_client",
            _ => "invalid_grant",
        }
    }
}

/// What a code is bound to, and what the token request says.
#[derive(Clone, Copy, Debug)]
pub struct CodeFacts<'a> {
    /// End of the code (Unix ms).
    pub expires_at: i64,
    /// Its client, and the one that asks.
    pub client: (&'a str, &'a str),
    /// Its redirect URI, and the one in the token request.
    pub redirect_uri: (&'a str, &'a str),
    /// Its `code_challenge`, and the one made from the verifier.
    pub code_challenge: (Option<&'a str>, Option<&'a str>),
    /// Its `dpop_jkt`, if it has one, and the thumbprint of the proof's key.
    pub dpop_jkt: (Option<&'a str>, Option<&'a str>),
    /// Whether the person is disabled.
    pub user_disabled: bool,
    /// Whether the client is disabled.
    pub client_disabled: bool,
    /// Whether the session it was given in has ended.
    pub session_ended: bool,
}

impl CodeFacts<'_> {
    /// Whether the code may be redeemed at `now`. It is used up either way.
    ///
    /// # Errors
    /// [`GrantRefusal`]; who asks comes before what is wrong.
    pub fn check(&self, now: i64) -> Result<(), GrantRefusal> {
        let bound_elsewhere = self.dpop_jkt.0.is_some() && self.dpop_jkt.0 != self.dpop_jkt.1;
        let refusals = [
            (self.client.0 != self.client.1, GrantRefusal::OtherClient),
            (self.expires_at <= now, GrantRefusal::Expired),
            (
                self.redirect_uri.0 != self.redirect_uri.1,
                GrantRefusal::RedirectUri,
            ),
            (
                self.code_challenge.0 != self.code_challenge.1,
                GrantRefusal::Pkce,
            ),
            (bound_elsewhere, GrantRefusal::SenderKey),
            (self.client_disabled, GrantRefusal::ClientDisabled),
            (self.user_disabled, GrantRefusal::UserDisabled),
            (self.session_ended, GrantRefusal::SessionEnded),
        ];
        match refusals.into_iter().find(|(is, _)| *is) {
            Some((_, refusal)) => Err(refusal),
            None => Ok(()),
        }
    }
}

/// What is known of a refresh token, its family, and the request.
#[derive(Clone, Copy, Debug)]
pub struct RefreshFacts<'a> {
    /// The family's client, and the one that asks.
    pub client: (&'a str, &'a str),
    /// The family's key, if it is bound to one, and the thumbprint of the proof's key.
    pub dpop_jkt: (Option<&'a str>, Option<&'a str>),
    /// When the token was rotated, if it was.
    pub rotated_at: Option<i64>,
    /// Whether its successor is still the family's newest: nobody used it yet.
    pub successor_is_current: bool,
    /// End of the token if nobody uses it.
    pub idle_expires_at: i64,
    /// End of the family.
    pub expires_at: i64,
    /// Whether the family is revoked.
    pub revoked: bool,
    /// Whether the person is disabled.
    pub user_disabled: bool,
    /// Whether the client is disabled.
    pub client_disabled: bool,
    /// What was granted, and what is asked for now.
    pub scopes: (&'a OAuthScopes, Option<&'a OAuthScopes>),
    /// How long the token before may come again (ms).
    pub grace_ms: i64,
}

/// What becomes of a refresh request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshVerdict {
    /// It is rotated.
    Rotate,
    /// An honest retry: the same successor again.
    Replay,
    /// It was used before: somebody else may have it. The family ends (RFC 9700 §4.14.2).
    Reuse,
    /// Nothing, and nothing changes.
    Refuse(GrantRefusal),
}

impl RefreshFacts<'_> {
    /// Decides at `now`. A foreign client never ends a family: it only proved that it has the text.
    #[must_use]
    pub fn judge(&self, now: i64) -> RefreshVerdict {
        let wrong_key = self.dpop_jkt.0.is_some() && self.dpop_jkt.0 != self.dpop_jkt.1;
        let refusals = [
            (self.client.0 != self.client.1, GrantRefusal::OtherClient),
            (wrong_key, GrantRefusal::SenderKey),
            (self.client_disabled, GrantRefusal::ClientDisabled),
            (self.revoked, GrantRefusal::Revoked),
            (self.user_disabled, GrantRefusal::UserDisabled),
            (self.expires_at <= now, GrantRefusal::Expired),
        ];
        if let Some((_, refusal)) = refusals.into_iter().find(|(is, _)| *is) {
            return RefreshVerdict::Refuse(refusal);
        }
        let too_wide = self
            .scopes
            .1
            .is_some_and(|asked| !self.scopes.0.contains_all(asked));
        // A clock that was put back does not give the token before its time again.
        let is_retry =
            |at: i64| (-CLOCKS_APART_MS..self.grace_ms).contains(&now.saturating_sub(at));
        match self.rotated_at {
            Some(at) if !self.successor_is_current || !is_retry(at) => RefreshVerdict::Reuse,
            None if self.idle_expires_at <= now => RefreshVerdict::Refuse(GrantRefusal::Idle),
            _ if too_wide => RefreshVerdict::Refuse(GrantRefusal::Scope),
            Some(_) => RefreshVerdict::Replay,
            None => RefreshVerdict::Rotate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(scopes: &OAuthScopes) -> RefreshFacts<'_> {
        RefreshFacts {
            client: ("a", "a"),
            dpop_jkt: (None, None),
            rotated_at: None,
            successor_is_current: false,
            idle_expires_at: 1_000,
            expires_at: 5_000,
            revoked: false,
            user_disabled: false,
            client_disabled: false,
            scopes: (scopes, None),
            grace_ms: 10,
        }
    }

    #[test]
    fn ac_084_ac_085_only_the_token_just_before_comes_again_and_only_briefly() {
        let scopes = OAuthScopes::parse("openid").unwrap();
        let rotated = RefreshFacts {
            rotated_at: Some(100),
            successor_is_current: true,
            ..facts(&scopes)
        };
        assert_eq!(rotated.judge(109), RefreshVerdict::Replay);
        assert_eq!(rotated.judge(110), RefreshVerdict::Reuse);
        // Another server rotated it, whose clock is ahead; a clock was put back.
        assert_eq!(rotated.judge(100 - CLOCKS_APART_MS), RefreshVerdict::Replay);
        assert_eq!(rotated.judge(99 - CLOCKS_APART_MS), RefreshVerdict::Reuse);
        let older = RefreshFacts {
            successor_is_current: false,
            ..rotated
        };
        assert_eq!(older.judge(101), RefreshVerdict::Reuse);
    }

    #[test]
    fn ac_088_a_foreign_client_does_not_end_the_family() {
        let scopes = OAuthScopes::default();
        let foreign = RefreshFacts {
            client: ("a", "b"),
            rotated_at: Some(1),
            ..facts(&scopes)
        };
        assert_eq!(
            foreign.judge(900),
            RefreshVerdict::Refuse(GrantRefusal::OtherClient)
        );
    }

    #[test]
    fn ac_089_ac_090_ages_and_scopes() {
        let scopes = OAuthScopes::parse("openid profile").unwrap();
        let facts = facts(&scopes);
        assert_eq!(facts.judge(999), RefreshVerdict::Rotate);
        assert_eq!(
            facts.judge(1_000),
            RefreshVerdict::Refuse(GrantRefusal::Idle)
        );
        assert_eq!(
            facts.judge(5_000),
            RefreshVerdict::Refuse(GrantRefusal::Expired)
        );
        let wider = OAuthScopes::parse("openid email").unwrap();
        let asked = RefreshFacts {
            scopes: (&scopes, Some(&wider)),
            ..facts
        };
        let RefreshVerdict::Refuse(refusal) = asked.judge(1) else {
            panic!("refused")
        };
        assert_eq!(refusal.oauth_error(), "invalid_scope");
        let narrower = OAuthScopes::parse("openid").unwrap();
        let asked = RefreshFacts {
            scopes: (&scopes, Some(&narrower)),
            ..facts
        };
        assert_eq!(asked.judge(1), RefreshVerdict::Rotate);
    }

    #[test]
    fn s10_a_verifier_without_a_challenge_is_refused_and_the_reverse() {
        let facts = CodeFacts {
            expires_at: 10,
            client: ("a", "a"),
            redirect_uri: ("r", "r"),
            code_challenge: (Some("c"), Some("c")),
            dpop_jkt: (None, Some("k")),
            user_disabled: false,
            client_disabled: false,
            session_ended: false,
        };
        assert_eq!(facts.check(9), Ok(()));
        assert_eq!(facts.check(10), Err(GrantRefusal::Expired));
        for challenge in [(Some("c"), None), (None, Some("c")), (Some("c"), Some("d"))] {
            let facts = CodeFacts {
                code_challenge: challenge,
                ..facts
            };
            assert_eq!(facts.check(9), Err(GrantRefusal::Pkce));
        }
        let bound = CodeFacts {
            dpop_jkt: (Some("j"), Some("k")),
            ..facts
        };
        assert_eq!(bound.check(9), Err(GrantRefusal::SenderKey));
    }

    #[test]
    fn scopes_are_a_set_of_plain_tokens() {
        let scopes = OAuthScopes::parse(" b a  a ").unwrap();
        assert_eq!(scopes.to_string(), "a b");
        assert_eq!(OAuthScopes::parse("a\\b"), None);
        assert_eq!(OAuthScopes::parse("ä"), None);
        let both = scopes.union(&OAuthScopes::parse("c").unwrap());
        assert_eq!(both.to_string(), "a b c");
    }
}
