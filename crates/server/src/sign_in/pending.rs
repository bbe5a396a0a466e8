//! Between the first factor and the second: who proved the first one, sealed into a cookie that lives
//! a few minutes. Nobody is signed in by it. Where they go afterwards stays in address and form: it may
//! be a whole authorization request, and browsers drop cookies of more than 4096 bytes.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::people::Sealed;
use serde::{Deserialize, Serialize};

use crate::http::cookies::{self, Cookies, Name};
use crate::server::App;

const PURPOSE: &str = "pending sign-in";
const LIFE_MS: i64 = 10 * 60 * 1000;

/// Who proved the first factor.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Pending {
    /// Who.
    pub(super) user_id: String,
    /// What was typed.
    pub(super) identifier: String,
    /// Unix ms.
    pub(super) at: i64,
}

impl Pending {
    /// The cookie.
    pub(super) fn cookie(&self, app: &App) -> HeaderValue {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        let sealed = app.secrets.seal(PURPOSE, &plain);
        let value = SecretText::new(URL_SAFE_NO_PAD.encode(sealed.as_bytes()));
        cookies::set(&app.settings, Name::Pending, &value, Some(LIFE_MS / 1000))
    }

    /// Reads it back; none for one that is too old, changed or not ours.
    pub(super) fn read(app: &App, cookies: &Cookies) -> Option<Self> {
        let value = cookies.get(&app.settings, Name::Pending)?;
        let sealed = Sealed::new(URL_SAFE_NO_PAD.decode(value.expose()).ok()?);
        let plain = app.secrets.unseal(PURPOSE, &sealed).ok()?;
        let pending: Self = serde_json::from_slice(&plain).ok()?;
        let age = app.now().saturating_sub(pending.at);
        (0..LIFE_MS).contains(&age).then_some(pending)
    }

    /// A header that takes the cookie away.
    pub(super) fn clear(app: &App, headers: &mut HeaderMap) {
        let gone = cookies::clear(&app.settings, Name::Pending);
        headers.append(header::SET_COOKIE, gone);
    }
}
