//! Access tokens that are JWTs, checked by the issuer's keys alone (RFC 9068 §4).

use std::sync::Arc;
use std::time::Duration;

use crate::claims::{Claims, Expected};
use crate::clock::Clock;
use crate::error::{SetupError, TokenError};
use crate::fetch::Fetch;
use crate::issuer::Issuer;
use crate::jwks::IssuerKeys;
use crate::jws::UncheckedJws;
use crate::metadata::Discovery;

/// `typ` of access tokens (RFC 9068 §2.1).
const ACCESS_TYPE: &str = "at+jwt";
/// What every access token has (RFC 9068 §2.2).
const REQUIRED: &[&str] = &["iss", "exp", "aud", "sub", "client_id", "iat", "jti"];
const LEEWAY: Duration = Duration::from_secs(30);
const MOST_LEEWAY: Duration = Duration::from_secs(120);
const OUTAGE: Duration = Duration::from_secs(60 * 60);
const MOST_OUTAGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Checks access tokens by the issuer's published keys. Cheap to clone; clones share the keys.
///
/// A token that was revoked stays good here until it ends. Where that is too long, use
/// [`Online`](crate::Online).
#[derive(Clone)]
pub struct Offline {
    keys: Arc<IssuerKeys>,
    clock: Clock,
    audience: Arc<str>,
    leeway_s: i64,
}

impl std::fmt::Debug for Offline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offline")
            .field("issuer", &self.keys.issuer())
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Offline {
    /// Tokens of this issuer for this service. Nothing is fetched before the first token.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(issuer: &str, audience: &str) -> Result<Self, SetupError> {
        Self::with(issuer, audience, OUTAGE, Clock::new())
    }

    /// As [`Offline::new`], with keys that serve on for this long while the issuer is down: one hour
    /// where nothing is said, a day at most.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn with_outage(issuer: &str, audience: &str, outage: Duration) -> Result<Self, SetupError> {
        Self::with(issuer, audience, outage, Clock::new())
    }

    pub(crate) fn with(
        issuer: &str,
        audience: &str,
        outage: Duration,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        if audience.is_empty() {
            return Err(SetupError::Audience);
        }
        let issuer = Issuer::parse(issuer)?;
        let fetch = Fetch::new(&issuer)?;
        let discovery = Discovery::new(issuer, fetch);
        let keys = IssuerKeys::new(discovery, clock.clone(), outage.min(MOST_OUTAGE));
        Ok(Self {
            keys: Arc::new(keys),
            clock,
            audience: audience.into(),
            leeway_s: seconds(LEEWAY),
        })
    }

    /// How far clocks may differ: 30 seconds where nothing is said, two minutes at most.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway_s = seconds(leeway.min(MOST_LEEWAY));
        self
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`TokenError`]: what is wrong, or that the issuer's keys cannot be had.
    pub async fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let token = UncheckedJws::parse(token)?;
        // Before any request: an ID token of the same issuer is no access token.
        if !token.is_of_type(ACCESS_TYPE) {
            return Err(TokenError::WrongUse);
        }
        let key_id = token.key_id.clone();
        let key = self.keys.find(key_id.as_deref(), token.algorithm).await?;
        let claims = token.verify(&key)?;
        let expected = Expected {
            issuer: self.keys.issuer(),
            audience: &self.audience,
            leeway_s: self.leeway_s,
            required: REQUIRED,
        };
        Claims::check(claims, &expected, self.clock.unix_s())
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(0)
}
