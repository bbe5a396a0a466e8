//! By what a browser is known again: a cookie that lives long and signs nobody in. Whether a person was here
//! with it before is in the history of their sign-ins, by its digest.

use axum::http::HeaderValue;
use keywright_domain::people::TokenDigest;

use crate::http::Cookies;
use crate::http::cookies::{self, Name};
use crate::server::App;

/// As long as browsers keep a cookie at most; each sign-in begins it anew.
const LIFE_S: i64 = 400 * 24 * 60 * 60;

/// A browser.
pub(crate) struct Device {
    /// What the history has of it.
    pub(crate) digest: TokenDigest,
    /// The cookie, with its age begun anew.
    pub(crate) cookie: HeaderValue,
}

/// The browser that sent these cookies; one that has none of this name is a new one.
pub(crate) fn of(app: &App, cookies: &Cookies) -> Device {
    let token = cookies.token(&app.settings, Name::Device);
    Device {
        digest: TokenDigest::of(&token),
        cookie: cookies::set(&app.settings, Name::Device, &token, Some(LIFE_S)),
    }
}
