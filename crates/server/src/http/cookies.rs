//! Our cookies: names, attributes, and reading them. All are Secure; `__Host-` binds them to this
//! host where the issuer is https (RFC 6265bis §4.1.3.2).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite as CookieSameSite, time::Duration};
use keywright_domain::SecretText;
use keywright_domain::pkce::random_token;

pub(crate) use super::cookie_header::Cookies;
use crate::settings::{SameSite, Settings};

/// Which of our cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The browser session.
    Session,
    /// The CSRF token, also before anybody signed in.
    Csrf,
    /// Binds a browser to its trip to an identity provider.
    Login,
    /// The refresh token of browser clients (`/auth/refresh` only).
    Refresh,
    /// Which sign-in a page of one's own made (`/auth/login`): for signing out, which the refresh cookie
    /// does not reach.
    SignIn,
    /// A second factor is still to come: who proved the first one.
    Pending,
    /// By what a browser is known again when somebody signs in.
    Device,
}

impl Name {
    /// The name in the header.
    pub(crate) fn text(self, settings: &Settings) -> String {
        let (bare, host_wide) = match self {
            Self::Session => ("session", true),
            Self::Csrf => ("csrf_token", true),
            Self::Login => ("login", true),
            Self::Refresh => ("refresh_token", false),
            Self::SignIn => ("sign_in", true),
            Self::Pending => ("pending_sign_in", true),
            Self::Device => ("device", true),
        };
        // A browser takes the prefixes from https only.
        match (settings.is_https(), host_wide) {
            (true, true) => format!("__Host-{bare}"),
            (true, false) => format!("__Secure-{bare}"),
            (false, _) => bare.to_owned(),
        }
    }

    fn path(self, settings: &Settings) -> String {
        match self {
            Self::Refresh => settings.path("/auth/refresh"),
            _ => "/".to_owned(),
        }
    }

    fn same_site(self, settings: &Settings) -> CookieSameSite {
        match self {
            // They must come back from the identity provider: a cross-site navigation.
            Self::Login | Self::Device => CookieSameSite::Lax,
            Self::Session if settings.same_site == SameSite::Lax => CookieSameSite::Lax,
            _ => CookieSameSite::Strict,
        }
    }
}

/// A `Set-Cookie` value. `max_age_s`: none for as long as the browser runs.
pub(crate) fn set(
    settings: &Settings,
    name: Name,
    value: &SecretText,
    max_age_s: Option<i64>,
) -> HeaderValue {
    let mut built = Cookie::build((name.text(settings), value.expose().to_owned()))
        .path(name.path(settings))
        .secure(true)
        .same_site(name.same_site(settings))
        .http_only(true);
    if let Some(seconds) = max_age_s {
        built = built.max_age(Duration::seconds(seconds));
    }
    header_value(&built.build())
}

/// A `Set-Cookie` value that takes a cookie away.
pub(crate) fn clear(settings: &Settings, name: Name) -> HeaderValue {
    set(settings, name, &SecretText::new(String::new()), Some(0))
}

fn header_value(cookie: &Cookie<'_>) -> HeaderValue {
    let text = cookie.to_string();
    // Our values are base64url: this is for whoever changes that.
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

impl Cookies {
    /// Reads them; a line that is no text has none.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::COOKIE).iter();
        Self::of(lines.filter_map(|line| line.to_str().ok()))
    }

    /// One of ours.
    pub(crate) fn get(&self, settings: &Settings, name: Name) -> Option<&SecretText> {
        self.named(&name.text(settings))
    }

    /// The random token in one of ours, or another where there is none that we could have made.
    pub(crate) fn token(&self, settings: &Settings, name: Name) -> SecretText {
        let ours = |token: &&SecretText| {
            let text = token.expose();
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            text.len() == 43 && text.bytes().all(letter)
        };
        let found = self.get(settings, name).filter(ours).cloned();
        found.unwrap_or_else(|| random_token(&mut rand::rng()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Cookies {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::read(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn ac_070_attributes_of_the_session_cookie() {
        let settings = Settings::new("https://id.example.com", PathBuf::new()).unwrap();
        let value = SecretText::new("v".into());
        let text = set(&settings, Name::Session, &value, None);
        assert_eq!(
            text.to_str().unwrap(),
            "__Host-session=v; HttpOnly; SameSite=Lax; Secure; Path=/"
        );
        let text = set(&settings, Name::Refresh, &value, Some(60));
        assert_eq!(
            text.to_str().unwrap(),
            "__Secure-refresh_token=v; HttpOnly; SameSite=Strict; Secure; Path=/auth/refresh; Max-Age=60"
        );
        assert!(text.is_sensitive());
    }

    #[test]
    fn s2_09_s2_15_s4_28_s4_29_s4_30_every_cookie_is_guarded_whatever_the_settings_say() {
        use CookieSameSite::{Lax, Strict};
        let all = [
            (Name::Session, Lax),
            (Name::Csrf, Strict),
            (Name::Login, Lax),
            (Name::Refresh, Strict),
            (Name::SignIn, Strict),
            (Name::Pending, Strict),
            (Name::Device, Lax),
        ];
        for issuer in [
            "http://127.0.0.1:1",
            "https://id.example.com",
            "https://id.example.com/one",
        ] {
            let mut settings = Settings::new(issuer, PathBuf::new()).unwrap();
            for strict in [false, true] {
                if strict {
                    settings.same_site = SameSite::Strict;
                }
                for (name, usual) in all {
                    let value = set(&settings, name, &SecretText::new("v".into()), None);
                    let cookie = Cookie::parse(value.to_str().unwrap().to_owned()).unwrap();
                    assert_eq!(cookie.http_only(), Some(true), "{issuer} {name:?}");
                    assert_eq!(cookie.secure(), Some(true), "{issuer} {name:?}");
                    assert_eq!(cookie.domain(), None, "{issuer} {name:?}");
                    // What comes back from a provider's site stays lax whatever is set.
                    let wanted = match name {
                        Name::Session if strict => Strict,
                        _ => usual,
                    };
                    assert_eq!(cookie.same_site(), Some(wanted), "{issuer} {name:?}");
                    let path = match name {
                        Name::Refresh => format!("{}/auth/refresh", settings.base_path),
                        _ => "/".to_owned(),
                    };
                    assert_eq!(cookie.path(), Some(path.as_str()), "{issuer} {name:?}");
                    let prefix = match (settings.is_https(), name) {
                        (false, _) => "",
                        (true, Name::Refresh) => "__Secure-",
                        (true, _) => "__Host-",
                    };
                    let (prefixed, bare) = cookie.name().split_at(prefix.len());
                    assert_eq!(prefixed, prefix, "{issuer} {name:?}");
                    assert!(!bare.starts_with('_'), "{issuer} {name:?}");
                }
            }
        }
    }

    #[test]
    fn a_cookie_that_comes_twice_is_none() {
        let settings = Settings::new("http://127.0.0.1:1", PathBuf::new()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "session=a; other=b".parse().unwrap());
        let one = Cookies::read(&headers);
        assert_eq!(one.get(&settings, Name::Session).unwrap().expose(), "a");
        headers.append(header::COOKIE, "session=evil".parse().unwrap());
        assert!(
            Cookies::read(&headers)
                .get(&settings, Name::Session)
                .is_none()
        );
    }
}
