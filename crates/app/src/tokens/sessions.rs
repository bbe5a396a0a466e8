//! What is known about each account while the app runs: its access token's life, what troubles
//! it, when to try again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keywright_domain::SecretText;
use keywright_protocol::accounts::AccessTokenLifeView;

use super::AccessToken;
use crate::AppError;
use crate::secret_store::KeychainError;
use crate::sign_in::{ReauthReason, SignInError};

/// Refreshed at 80 % of its life, at the latest this long before its end.
const BEFORE_END_MS: i64 = 60_000;
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// What somebody waits for, a list or a revocation, asks a provider that was away again after this time, however
/// long the pause of the background is.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// An access token and its times.
#[derive(Clone, Debug)]
pub(crate) struct TokenLife {
    pub(crate) token: AccessToken,
    issued_at: i64,
    expires_at: Option<i64>,
    refresh_at: Option<i64>,
    received: Instant,
}

impl TokenLife {
    pub(crate) fn new(token: AccessToken, expires_in_s: Option<i64>, now: i64) -> Self {
        let life = expires_in_s.map(|seconds| seconds.clamp(0, 10 * 365 * 86_400) * 1000);
        Self {
            token,
            issued_at: now,
            expires_at: life.map(|life| now + life),
            refresh_at: life.map(|life| now + some_earlier(refresh_after(life))),
            received: Instant::now(),
        }
    }

    /// By the wall clock, which goes on while the computer sleeps, or by the steady one, which
    /// nobody can set back.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        self.refresh_at
            .is_some_and(|at| now >= at || self.elapsed_ms() >= at - self.issued_at)
    }

    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.expires_at
            .is_some_and(|at| now >= at || self.elapsed_ms() >= at - self.issued_at)
    }

    pub(crate) fn view(&self) -> AccessTokenLifeView {
        AccessTokenLifeView {
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            refresh_at: self.refresh_at,
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.received.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// When a token of this life is due: at 80 % of it or a minute before its end, whichever comes
/// first (AC-082); a life too short for that minute is used for 40 % at least.
fn refresh_after(life_ms: i64) -> i64 {
    let share = life_ms / 5 * 4;
    share.min((life_ms - BEFORE_END_MS).max(share / 2))
}

/// Up to a twentieth earlier: devices that signed in at one moment do not all ask again at one moment (C-26).
fn some_earlier(after_ms: i64) -> i64 {
    after_ms - rand::random_range(0..=after_ms / 20)
}

/// What keeps an account from being fresh.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Tried again by itself (AC-091).
    Offline(SignInError),
    /// Tried again by itself; the person may have to unlock something (AC-160).
    Keychain(KeychainError),
    /// Only the person can help (AC-092).
    SignInNeeded(ReauthReason),
}

impl Trouble {
    /// As an error of the call that met it.
    pub(crate) fn into_error(self) -> AppError {
        match self {
            Self::Offline(error) => error.into(),
            Self::Keychain(error) => error.into(),
            Self::SignInNeeded(reason) => SignInError::ReauthRequired(reason).into(),
        }
    }

    /// Whether a face says the same of both.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SignInNeeded(one), Self::SignInNeeded(other)) => one == other,
            (Self::Keychain(one), Self::Keychain(other)) => one.code() == other.code(),
            (Self::Offline(one), Self::Offline(other)) => one.code() == other.code(),
            _ => false,
        }
    }
}

/// One account in memory.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) life: Option<TokenLife>,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) clock_offset_ms: Option<i64>,
    /// A refresh token that the keychain did not take; the only copy there is.
    pub(crate) unsaved_refresh_token: Option<SecretText>,
    /// One refresh at a time.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
    /// Counts refreshes: who waited at the gate sees that one has been done.
    pub(crate) rounds: u64,
    /// There is a refresh token somewhere.
    pub(crate) renewable: bool,
    failures: u32,
    troubled_at: Option<Instant>,
    not_before: Option<Instant>,
}

impl Session {
    /// Fresh tokens: all is well.
    pub(crate) fn renew(&mut self, life: TokenLife, clock_offset_ms: Option<i64>) {
        self.life = Some(life);
        self.clock_offset_ms = clock_offset_ms;
        self.trouble = None;
        self.failures = 0;
        self.troubled_at = None;
        self.not_before = None;
    }

    /// What came of a refresh that failed. Says whether that is something new.
    pub(crate) fn is_troubled(&mut self, trouble: Trouble) -> bool {
        let before = self.trouble.take();
        let news = before.is_none_or(|before| !before.is_same(&trouble));
        match trouble {
            Trouble::SignInNeeded(reason) => self.end(reason),
            temporary => self.fail(temporary),
        }
        news
    }

    /// What troubles it, while it is too early to ask again without a person who wants it.
    pub(crate) fn rests(&self) -> Option<Trouble> {
        let trouble = self.trouble.as_ref()?;
        let soon = self.troubled_at? + LONGEST_REST;
        let until = match trouble {
            // Each look may open a dialog.
            Trouble::Keychain(_) => self.not_before?,
            Trouble::Offline(_) => soon.min(self.not_before?),
            Trouble::SignInNeeded(_) => soon,
        };
        (Instant::now() < until).then(|| trouble.clone())
    }

    /// As if its last trouble were a minute old.
    #[cfg(test)]
    pub(crate) fn troubled_a_minute_ago(&mut self) {
        self.troubled_at = self.troubled_at.and_then(|at| at.checked_sub(LONGEST_REST));
    }

    /// Somebody wants to know now.
    pub(crate) fn wake(&mut self) {
        self.troubled_at = None;
        self.not_before = None;
    }

    /// Something temporary: longer pauses each time, never all at once.
    pub(crate) fn fail(&mut self, trouble: Trouble) {
        self.failures = self.failures.saturating_add(1);
        let asks_a_person = matches!(
            &trouble,
            Trouble::Keychain(KeychainError::Locked | KeychainError::Denied)
        );
        // Each try opens an unlock dialog: not again and again by itself.
        let rest = if asks_a_person {
            LONGEST_PAUSE
        } else {
            pause(self.failures)
        };
        self.trouble = Some(trouble);
        self.troubled_at = Some(Instant::now());
        self.not_before = Some(Instant::now() + rest);
    }

    /// Nothing more to try.
    pub(crate) fn end(&mut self, reason: ReauthReason) {
        self.life = None;
        self.unsaved_refresh_token = None;
        self.renewable = false;
        self.trouble = Some(Trouble::SignInNeeded(reason));
        self.troubled_at = Some(Instant::now());
        self.not_before = None;
    }

    /// Whether the background should refresh now.
    fn is_due(&self, now: i64) -> bool {
        let stale = match (&self.life, &self.trouble) {
            (None, _) | (_, Some(_)) => true,
            (Some(life), None) => life.is_due(now),
        };
        self.renewable && stale && self.is_rested()
    }

    fn is_rested(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }
}

/// 5 s, 10 s, 20 s … 15 min, each between half and the whole of it.
fn pause(failures: u32) -> Duration {
    let whole = Duration::from_secs(5)
        .saturating_mul(1_u32 << failures.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE);
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

/// All accounts in memory, by id.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// Looks at or changes one account's session, making it where there is none.
    pub(crate) fn with<T>(&self, account_id: &str, look: impl FnOnce(&mut Session) -> T) -> T {
        look(self.lock().entry(account_id.to_owned()).or_default())
    }

    /// Forgets an account and wipes its tokens.
    pub(crate) fn forget(&self, account_id: &str) {
        self.lock().remove(account_id);
    }

    /// The keychain answers again: accounts that waited for it need not wait any longer.
    pub(crate) fn keychain_answers(&self) {
        for session in self.lock().values_mut() {
            if matches!(session.trouble, Some(Trouble::Keychain(_))) {
                session.wake();
            }
        }
    }

    /// Accounts whose time has come.
    pub(crate) fn due(&self, now: i64) -> Vec<String> {
        let sessions = self.lock();
        let due = sessions
            .iter()
            .filter(|(_, session)| session.is_due(now) && session.gate.try_lock().is_ok());
        due.map(|(id, _)| id.clone()).collect()
    }

    /// Ends sessions that cannot be renewed and whose access token is over; says whether any was.
    pub(crate) fn end_those_over(&self, now: i64) -> bool {
        let mut any = false;
        for session in self.lock().values_mut() {
            if !session.renewable && session.life.as_ref().is_some_and(|life| life.is_over(now)) {
                session.end(ReauthReason::SessionEnded);
                any = true;
            }
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use keywright_domain::SecretText;

    use super::{
        AccessToken, LONGEST_PAUSE, Session, Sessions, TokenLife, Trouble, pause, refresh_after,
        some_earlier,
    };
    use crate::secret_store::KeychainError;
    use crate::sign_in::SignInError;

    fn life(seconds: i64) -> TokenLife {
        TokenLife::new(
            AccessToken::new(SecretText::new("t".to_owned())),
            Some(seconds),
            1_000_000,
        )
    }

    #[test]
    fn ac_082_due_at_four_fifths_and_a_minute_before_the_end() {
        assert_eq!(refresh_after(3_600_000), 2_880_000);
        assert_eq!(refresh_after(300_000), 240_000);
        assert_eq!(
            refresh_after(200_000),
            140_000,
            "a minute before the end comes first"
        );
        assert!(refresh_after(30_000) > 0 && refresh_after(30_000) < 30_000);
        let life = life(300);
        assert!(!life.is_due(1_000_000) && !life.is_due(1_227_999) && life.is_due(1_240_000));
        assert!(!life.is_over(1_299_999) && life.is_over(1_300_000));
    }

    #[test]
    fn s4_23_devices_do_not_all_refresh_at_one_moment() {
        let mut moments = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let at = life(900).refresh_at.unwrap() - 1_000_000;
            // Never later than 80 % of the life, and never much earlier.
            assert!((684_000..=720_000).contains(&at), "{at}");
            moments.insert(at / 1000);
        }
        assert!(moments.len() > 10, "{moments:?}");
        for short in 0..=40 {
            let at = some_earlier(short);
            assert!(at <= short && at >= short - short / 20, "{short}: {at}");
        }
    }

    #[test]
    fn ac_082_a_clock_set_back_does_not_keep_a_token_for_ever() {
        let life = life(0);
        assert!(life.is_due(0) && life.is_over(0));
    }

    #[test]
    fn ac_091_pauses_grow_and_vary() {
        for (failures, whole) in [(1, 5), (2, 10), (3, 20), (9, 900), (4_000_000, 900)] {
            let whole = Duration::from_secs(whole);
            for _ in 0..50 {
                let pause = pause(failures);
                assert!(
                    pause >= whole / 2 && pause <= whole,
                    "{failures}: {pause:?}"
                );
            }
        }
    }

    #[test]
    fn ac_160_a_locked_keychain_is_not_asked_again_and_again() {
        let sessions = Sessions::default();
        sessions.with("a", |session| {
            session.renewable = true;
            session.fail(Trouble::Keychain(KeychainError::Locked));
        });
        assert!(sessions.due(0).is_empty());
        sessions.with("a", |session| {
            assert!(
                session
                    .not_before
                    .is_some_and(|at| at > Instant::now() + LONGEST_PAUSE / 2)
            )
        });
        sessions.keychain_answers();
        assert_eq!(sessions.due(0), ["a"]);
    }

    #[test]
    fn ac_091_failing_keeps_the_token() {
        let mut session = Session::default();
        session.renew(life(300), None);
        session.fail(Trouble::Offline(SignInError::NetworkError));
        assert!(session.life.is_some() && !session.is_rested());
    }
}
