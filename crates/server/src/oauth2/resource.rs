//! Resource indicators (RFC 8707): a token is for one resource, our own API unless the request names
//! another one that the settings know (S59).

use crate::problem::OAuthError;
use crate::server::App;

/// Whether a text can name a resource: an absolute address without a fragment (RFC 8707 §2).
pub(crate) fn is_identifier(text: &str) -> bool {
    let plain = text.len() <= 1_000 && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain
        && !text.contains('#')
        && url::Url::parse(text).is_ok_and(|url| url.has_host() && url.username().is_empty())
}

/// The resource that a request names; none for our own API.
///
/// # Errors
/// `invalid_target`.
pub(crate) fn read(app: &App, asked: Option<&str>) -> Result<Option<String>, OAuthError> {
    let Some(asked) = asked else { return Ok(None) };
    if !is_identifier(asked) {
        let text = "resource is a complete address without a fragment";
        return Err(OAuthError::new("invalid_target", text));
    }
    if asked == app.settings.issuer.as_str() {
        return Ok(None);
    }
    if app.settings.resources.iter().any(|own| own == asked) {
        return Ok(Some(asked.to_owned()));
    }
    let text = "this resource is not known here";
    Err(OAuthError::new("invalid_target", text))
}

/// Whether a token request stays within its grant: it names the grant's resource or none
/// (RFC 8707 §2.2).
///
/// # Errors
/// `invalid_target`.
pub(crate) fn check_within(
    app: &App,
    granted: Option<&str>,
    asked: Option<&str>,
) -> Result<(), OAuthError> {
    if asked.is_some() && read(app, asked)?.as_deref() != granted {
        let text = "this resource was not granted";
        return Err(OAuthError::new("invalid_target", text));
    }
    Ok(())
}
