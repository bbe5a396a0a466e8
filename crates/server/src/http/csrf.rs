//! CSRF: a token that only our pages can know, bound to the session, or before anybody signed in to a
//! cookie; and the browser's own word on where a request comes from. Every cookie-authenticated
//! request that changes something needs both (S2-29, AC-100..104).

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use rand::Rng as _;
use subtle::ConstantTimeEq as _;

use super::cookies::{self, Cookies, Name};
use crate::problem::Problem;
use crate::secrets::ServerSecrets;
use crate::settings::Settings;
use axum::http::StatusCode;

/// The header of requests that scripts make.
pub(crate) const HEADER: &str = "x-csrf-token";
/// The field of forms.
pub(crate) const FIELD: &str = "csrf_token";

const NONCE: usize = 16;
const LENGTH: usize = NONCE + 32;

/// A token with what makes its cookie.
#[derive(Clone, Debug)]
pub(crate) struct Csrf {
    /// For the form or the script.
    pub(crate) token: SecretText,
    /// `Set-Cookie`, unless the browser has it already.
    pub(crate) set_cookie: Option<HeaderValue>,
}

/// The token of this browser: the one in its cookie if it is good for this session, otherwise a new
/// one (S2-31, S2-32). `session_id` is the session's public id; none before a sign-in.
pub(crate) fn token(
    settings: &Settings,
    secrets: &ServerSecrets,
    cookies: &Cookies,
    session_id: Option<&str>,
) -> Csrf {
    if let Some(own) = cookies.get(settings, Name::Csrf)
        && is_ours(secrets, own.expose(), session_id)
    {
        return Csrf {
            token: own.clone(),
            set_cookie: None,
        };
    }
    fresh(settings, secrets, session_id)
}

/// A new token, for after a sign-in.
pub(crate) fn fresh(
    settings: &Settings,
    secrets: &ServerSecrets,
    session_id: Option<&str>,
) -> Csrf {
    let mut bytes = [0_u8; LENGTH];
    rand::rng().fill_bytes(&mut bytes[..NONCE]);
    let tag = tag(secrets, &bytes[..NONCE], session_id);
    bytes[NONCE..].copy_from_slice(&tag);
    let token = SecretText::new(URL_SAFE_NO_PAD.encode(bytes));
    let set_cookie = cookies::set(settings, Name::Csrf, &token, None);
    Csrf {
        token,
        set_cookie: Some(set_cookie),
    }
}

/// Checks a request that changes something by the cookie's authority. `field`: the token in the form,
/// where there is no header.
///
/// # Errors
/// 403 `origin_rejected`, `csrf_missing`, `csrf_invalid`.
pub(crate) fn check(
    settings: &Settings,
    secrets: &ServerSecrets,
    headers: &HeaderMap,
    cookies: &Cookies,
    session_id: Option<&str>,
    field: Option<&str>,
) -> Result<(), Problem> {
    check_origin(settings, headers)?;
    let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let Some(given) = header.or(field).filter(|text| !text.is_empty()) else {
        let detail =
            format!("this changes something: send the token of /auth/csrfToken as {HEADER}");
        return Err(forbidden("csrf_missing", &detail));
    };
    // Before a sign-in nothing but the cookie binds the token to this browser.
    let bound = session_id.is_some()
        || cookies
            .get(settings, Name::Csrf)
            .is_some_and(|own| own.matches(given));
    if bound && is_ours(secrets, given, session_id) {
        Ok(())
    } else {
        let detail = "the CSRF token is not this session's: reload the page and try again";
        Err(forbidden("csrf_invalid", detail))
    }
}

/// Refuses what a browser says comes from another site (AC-104). Our pages send no referrer, and then
/// browsers send `Origin: null` with our own forms too: `Sec-Fetch-Site`, which no page can set, must
/// say that it is ours.
pub(crate) fn check_origin(settings: &Settings, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| -> Option<&str> {
        headers.get(name).map(|value| value.to_str().unwrap_or("?"))
    };
    let site = text("sec-fetch-site");
    let foreign_origin = match text(header::ORIGIN.as_str()) {
        Some("null") => site != Some("same-origin"),
        Some(origin) => origin != settings.origin(),
        None => false,
    };
    let foreign_site = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    if foreign_origin || foreign_site {
        return Err(forbidden(
            "origin_rejected",
            "this request comes from another site",
        ));
    }
    Ok(())
}

fn forbidden(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, code, detail)
}

fn tag(secrets: &ServerSecrets, nonce: &[u8], session_id: Option<&str>) -> [u8; 32] {
    match session_id {
        Some(id) => secrets.tag(&[b"csrf session", nonce, id.as_bytes()]),
        None => secrets.tag(&[b"csrf before", nonce]),
    }
}

fn is_ours(secrets: &ServerSecrets, token: &str, session_id: Option<&str>) -> bool {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(token) else {
        return false;
    };
    let Some((nonce, given)) = bytes.split_at_checked(NONCE) else {
        return false;
    };
    tag(secrets, nonce, session_id).ct_eq(given).into()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Site {
        settings: Settings,
        secrets: ServerSecrets,
        _folder: tempfile::TempDir,
    }

    fn site() -> Site {
        let folder = tempfile::tempdir().unwrap();
        Site {
            settings: Settings::new("http://127.0.0.1:1", PathBuf::new()).unwrap(),
            secrets: ServerSecrets::create(folder.path()).unwrap(),
            _folder: folder,
        }
    }

    fn with_cookie(token: &SecretText) -> Cookies {
        let mut headers = HeaderMap::new();
        let text = format!("csrf_token={}", token.expose());
        headers.insert(header::COOKIE, text.parse().unwrap());
        Cookies::read(&headers)
    }

    #[test]
    fn ac_101_ac_103_a_token_is_good_for_its_session_and_comes_again() {
        let site = site();
        let (settings, secrets) = (&site.settings, &site.secrets);
        let none = Cookies::default();
        let first = token(settings, secrets, &none, Some("one"));
        assert!(first.set_cookie.is_some());
        let again = token(settings, secrets, &with_cookie(&first.token), Some("one"));
        assert_eq!(again.token.expose(), first.token.expose());
        assert!(again.set_cookie.is_none());
        let other = token(settings, secrets, &with_cookie(&first.token), Some("two"));
        assert_ne!(other.token.expose(), first.token.expose());

        let check = |id: Option<&str>, given: &str, cookies: &Cookies| {
            let headers = HeaderMap::new();
            check(settings, secrets, &headers, cookies, id, Some(given)).map_err(|e| e.code)
        };
        assert_eq!(check(Some("one"), first.token.expose(), &none), Ok(()));
        assert_eq!(
            check(Some("two"), first.token.expose(), &none),
            Err("csrf_invalid")
        );
        assert_eq!(check(Some("one"), "", &none), Err("csrf_missing"));
        assert_eq!(check(Some("one"), "AAAA", &none), Err("csrf_invalid"));
        // A token from before the sign-in is none for the session, and needs its cookie.
        let before = token(settings, secrets, &none, None);
        assert_eq!(
            check(Some("one"), before.token.expose(), &none),
            Err("csrf_invalid")
        );
        assert_eq!(
            check(None, before.token.expose(), &none),
            Err("csrf_invalid")
        );
        let own = with_cookie(&before.token);
        assert_eq!(check(None, before.token.expose(), &own), Ok(()));
        assert_eq!(
            check(None, first.token.expose(), &with_cookie(&first.token)),
            Err("csrf_invalid")
        );
    }

    #[test]
    fn ac_104_other_sites_are_refused() {
        let site = site();
        for (name, value, good) in [
            ("origin", "http://127.0.0.1:1", true),
            ("origin", "http://127.0.0.1:2", false),
            ("origin", "https://evil.example", false),
            ("origin", "null", false),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-site", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(
                check_origin(&site.settings, &headers).is_ok(),
                good,
                "{name}: {value}"
            );
        }
        let mut headers = HeaderMap::new();
        headers.insert("origin", "null".parse().unwrap());
        assert!(check_origin(&site.settings, &headers).is_err());
        headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
        assert!(check_origin(&site.settings, &headers).is_ok());
        headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert!(check_origin(&site.settings, &headers).is_err());
    }
}
