//! The one client authenticator, for every endpoint that wants a client to prove itself (RFC 6749
//! §2.3, RFC 7523 §2.2). One method a request; the registered method and no other (AC-063).

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use keywright_domain::SecretText;
use keywright_domain::people::{AuthMethod, Client, PeopleError, TokenDigest};
use keywright_registry::RegistryError;

use super::basic::read_basic;
use crate::http::{Params, Peer};
use crate::passwords::PasswordError;
use crate::problem::OAuthError;
use crate::server::App;

/// What a request brought.
#[derive(Debug)]
enum Presented {
    /// `Authorization: Basic`.
    Basic(String, SecretText),
    /// `client_secret` in the form.
    Post(String, SecretText),
    /// `client_assertion` in the form.
    Assertion(Option<String>, SecretText),
    /// Only `client_id`.
    Nothing(String),
}

/// Authenticates the client of a request. `params` is the form.
///
/// # Errors
/// `invalid_client` (401, with a challenge after Basic), `invalid_request` for two methods at once.
pub(crate) async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    params: &Params,
    peer: &Peer,
) -> Result<Arc<Client>, OAuthError> {
    let presented = read(headers, params)?;
    let by_header = matches!(presented, Presented::Basic(..));
    let refused = || OAuthError::invalid_client(by_header);
    let id = match &presented {
        Presented::Basic(id, _) | Presented::Post(id, _) | Presented::Nothing(id) => id.clone(),
        Presented::Assertion(Some(id), _) => id.clone(),
        Presented::Assertion(None, assertion) => {
            super::client_assertion::issuer_of(assertion.expose()).ok_or_else(refused)?
        }
    };
    let failures = &app.oauth2.failures;
    if let Presented::Nothing(_) = presented {
        failures.check_here(app, peer.address, &id)?;
    } else {
        failures
            .check_within_a_second(app, peer.address, &id)
            .await?;
    }
    let client = match app.registry.find_client(&id).await {
        Ok(client) if client.disabled_at.is_none() => client,
        Ok(_) | Err(RegistryError::People(PeopleError::ClientNotFound)) => {
            failures.count_first(app, peer.address, &id).await?;
            return Err(refused());
        }
        Err(error) => return Err(error.into()),
    };
    let proven = match (&presented, client.settings.auth_method) {
        (Presented::Nothing(_), AuthMethod::None) => true,
        (Presented::Basic(_, secret), AuthMethod::ClientSecretBasic)
        | (Presented::Post(_, secret), AuthMethod::ClientSecretPost) => {
            has_secret(app, &client.id, secret).await?
        }
        (Presented::Assertion(_, assertion), AuthMethod::PrivateKeyJwt) => {
            super::client_assertion::verify(app, &client, assertion).await?
        }
        _ => false,
    };
    if proven {
        // Who guessed at many at once, and was refused for it meanwhile, is not told which was right.
        if !matches!(presented, Presented::Nothing(_)) {
            failures.check_here(app, peer.address, &id)?;
        }
        return Ok(client);
    }
    failures.count_first(app, peer.address, &id).await?;
    Err(refused())
}

async fn has_secret(app: &App, client_id: &str, given: &SecretText) -> Result<bool, OAuthError> {
    let digest = TokenDigest::of(given);
    if app.registry.is_client_secret(client_id, &digest).await? {
        return Ok(true);
    }
    // Only secrets that work now: what is remembered of one that ended is not asked.
    for secret in app.registry.list_client_secrets(client_id).await? {
        let Some(hash) = &secret.hash else {
            continue;
        };
        if app.oauth2.chosen_secrets.knows(&secret.id, given) {
            return Ok(true);
        }
        let checked = app.passwords.check(Some(hash), given).await;
        if checked.map_err(busy)?.matches {
            app.oauth2.chosen_secrets.remember(&secret.id, given);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Too many passwords and secrets are being checked at this moment.
fn busy(error: PasswordError) -> OAuthError {
    let mut busy = OAuthError::new("temporarily_unavailable", error.to_string());
    busy.status = StatusCode::SERVICE_UNAVAILABLE;
    busy
}

fn read(headers: &HeaderMap, params: &Params) -> Result<Presented, OAuthError> {
    let several = || {
        OAuthError::new(
            "invalid_request",
            "the client proves itself in one way only",
        )
    };
    let named = params.get("client_id").map(str::to_owned);
    let mut basic = None;
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = authorization.next() {
        if authorization.next().is_some() {
            return Err(several());
        }
        let text = value.to_str().unwrap_or("");
        let pair = read_basic(text).ok_or_else(|| OAuthError::invalid_client(true))?;
        basic = Some(pair);
    }
    let secret = params.secret("client_secret");
    let assertion = params.secret("client_assertion");
    match (basic, secret, assertion) {
        (Some((id, _)), None, None) if named.as_ref().is_some_and(|other| *other != id) => {
            Err(several())
        }
        (Some((id, secret)), None, None) => Ok(Presented::Basic(id, secret)),
        (None, Some(secret), None) => {
            let id = named.ok_or_else(|| OAuthError::invalid_client(false))?;
            Ok(Presented::Post(id, secret))
        }
        (None, None, Some(assertion)) => {
            if params.get("client_assertion_type") != Some(super::client_assertion::TYPE) {
                let text = "client_assertion_type must name a JWT bearer assertion";
                return Err(OAuthError::new("invalid_request", text));
            }
            Ok(Presented::Assertion(named, assertion))
        }
        (None, None, None) => named
            .map(Presented::Nothing)
            .ok_or_else(|| OAuthError::invalid_client(false)),
        _ => Err(several()),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn s18_one_method_a_request() {
        let mut headers = HeaderMap::new();
        let both = Params::parse("client_id=a&client_secret=s&client_assertion=x").unwrap();
        assert_eq!(read(&headers, &both).unwrap_err().error, "invalid_request");
        let basic = format!("Basic {}", STANDARD.encode("a:s"));
        headers.insert(header::AUTHORIZATION, basic.parse().unwrap());
        let post = Params::parse("client_id=a&client_secret=s").unwrap();
        assert_eq!(read(&headers, &post).unwrap_err().error, "invalid_request");
        let other = Params::parse("client_id=b").unwrap();
        assert_eq!(read(&headers, &other).unwrap_err().error, "invalid_request");
        let same = Params::parse("client_id=a").unwrap();
        assert!(matches!(read(&headers, &same), Ok(Presented::Basic(..))));
        let nothing = read(&HeaderMap::new(), &Params::default()).unwrap_err();
        assert_eq!(nothing.error, "invalid_client");
    }
}
