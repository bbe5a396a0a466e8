//! Challenges: random, for one browser and one purpose, a few minutes long, and good once. They travel
//! sealed through the page, so that any node over the same secrets knows them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::people::Sealed;
use keywright_domain::pkce::random_token;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::Fault;
use crate::browser_session::SignedIn;
use crate::http::Cookies;
use crate::http::cookies::Name;
use crate::nodes;
use crate::server::App;

const SEAL: &str = "passkey challenge";
/// How long the page waits for the person, in ms.
pub(super) const LIFE_MS: i64 = 5 * 60 * 1000;
/// Most answered challenges that are remembered; beyond that nobody new is let in for a while.
const MOST: usize = 50_000;

/// What a challenge is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) enum Purpose {
    /// To sign in or step up.
    Use,
    /// To add a passkey.
    Add,
}

/// A challenge.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Challenge {
    /// 256 random bits, base64url: as the browser sends it back.
    pub(super) text: String,
    purpose: Purpose,
    bound_to: String,
    until: i64,
}

impl Challenge {
    /// A new one for this browser; none without a cookie of ours.
    pub(super) fn new(
        app: &App,
        cookies: &Cookies,
        current: Option<&SignedIn>,
        purpose: Purpose,
    ) -> Option<Self> {
        Some(Self {
            text: random_token(&mut rand::rng()).expose().to_owned(),
            purpose,
            bound_to: binding(app, cookies, current)?,
            until: app.now() + LIFE_MS,
        })
    }

    /// For the page.
    pub(super) fn seal(&self, app: &App) -> String {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(app.secrets.seal(SEAL, &plain).as_bytes())
    }

    /// Reads what came back.
    pub(super) fn open(
        app: &App,
        cookies: &Cookies,
        current: Option<&SignedIn>,
        purpose: Purpose,
        sealed: &str,
    ) -> Result<Self, Fault> {
        let fault = Fault("challenge_unknown");
        let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| fault)?;
        let plain = app.secrets.unseal(SEAL, &Sealed::new(bytes));
        let challenge: Self =
            serde_json::from_slice(&plain.map_err(|_| fault)?).map_err(|_| fault)?;
        let here = binding(app, cookies, current).ok_or(fault)?;
        let ours: bool = challenge.bound_to.as_bytes().ct_eq(here.as_bytes()).into();
        if !ours || challenge.purpose != purpose {
            return Err(Fault("challenge_of_another"));
        }
        if challenge.until <= app.now() {
            return Err(Fault("challenge_expired"));
        }
        Ok(challenge)
    }

    /// Uses it up, after its answer was found right.
    pub(super) async fn use_up(&self, app: &App) -> Result<(), Fault> {
        let answered = &app.sign_in.answered;
        if answered.first(&self.text, self.until, app.now())
            && nodes::first_use(app, "challenge", "", &self.text, self.until).await
        {
            Ok(())
        } else {
            Err(Fault("challenge_used"))
        }
    }
}

/// The session, or before one the browser's CSRF cookie.
fn binding(app: &App, cookies: &Cookies, current: Option<&SignedIn>) -> Option<String> {
    match current {
        Some(current) => Some(format!("session {}", current.session.id)),
        None => {
            let own = cookies.get(&app.settings, Name::Csrf)?;
            Some(format!("browser {}", own.expose()))
        }
    }
}

/// Challenges that were answered, until they would have expired.
#[derive(Debug, Default)]
pub(crate) struct Answered(Mutex<HashMap<String, i64>>);

impl Answered {
    fn first(&self, text: &str, until: i64, now: i64) -> bool {
        let mut answered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.len() >= MOST {
            answered.retain(|_, until| *until > now);
        }
        answered.len() < MOST && answered.insert(text.to_owned(), until).is_none()
    }
}
