//! `private_key_jwt`: a client's own signed assertion (RFC 7523 §3, OpenID Connect Core §9). Only the
//! keys that the client registered count, and every assertion counts once: a row of the database, since it may live
//! for an hour, and longer than the process.

#[cfg(test)]
mod tests;

use keywright_domain::SecretText;
use keywright_domain::people::Client;
use keywright_jose::jwk::is_private;
use serde_json::{Map, Value};

use super::client_jws::ClientJws;
use crate::problem::OAuthError;
use crate::server::App;

/// `client_assertion_type`.
pub(crate) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far clocks may differ, in seconds.
const LEEWAY_S: i64 = 10;
/// An assertion ends within this time, in seconds: longer ones would have to be remembered longer.
const LONGEST_S: i64 = 3_600;
const LONGEST_JTI: usize = 200;
/// So many keys of a client are tried.
const MOST_KEYS: usize = 20;

/// Who an assertion says it is from, before anything of it is believed.
pub(crate) fn issuer_of(assertion: &str) -> Option<String> {
    let jws = ClientJws::read(assertion)?;
    jws.text("iss")
        // Nobody has this name, and a database may fail at it.
        .filter(|iss| iss.len() <= 100 && !iss.contains('\0'))
        .map(str::to_owned)
}

/// Whether an assertion is the client's, for us, and new.
///
/// # Errors
/// [`OAuthError`] if that cannot be found out.
pub(crate) async fn verify(
    app: &App,
    client: &Client,
    assertion: &SecretText,
) -> Result<bool, OAuthError> {
    let Some((jti, until)) = judge(app, client, assertion.expose()) else {
        return Ok(false);
    };
    let used = &app.oauth2.extensions.assertions;
    if !used.first_time(&client.id, &jti, until, app.now()) {
        return Ok(false);
    }
    let first = app
        .registry
        .use_proof_once("assertion", &client.id, &jti, until);
    Ok(first.await?)
}

/// Its `jti`, and when it ends (Unix ms), if it is the client's, for us and in time.
fn judge(app: &App, client: &Client, assertion: &str) -> Option<(String, i64)> {
    let jws = ClientJws::read(assertion)?;
    // FAPI 2.0 Security Profile §5.4 forbids PKCS #1 v1.5.
    if client.settings.fapi && jws.alg == "RS256" {
        return None;
    }
    let keys: Value = serde_json::from_str(client.settings.jwks.as_deref()?).ok()?;
    let kid = jws.header.get("kid").and_then(Value::as_str);
    let is_named =
        |key: &&Map<String, Value>| kid.is_none() || key.get("kid").and_then(Value::as_str) == kid;
    let mut own = keys
        .get("keys")?
        .as_array()?
        .iter()
        .filter_map(Value::as_object)
        .filter(|key| !is_private(key))
        .filter(is_named)
        .take(MOST_KEYS);
    if !own.any(|key| jws.is_signed_by(key)) {
        return None;
    }
    let now = app.now() / 1000;
    let is_client = |claim: &str| jws.text(claim) == Some(client.id.as_str());
    let exp = jws.seconds("exp")?;
    let begins = |claim: &str| jws.seconds(claim).is_none_or(|at| at <= now + LEEWAY_S);
    let good = is_client("iss")
        && is_client("sub")
        && is_for_us(app, client, jws.claims.get("aud")?)
        && exp + LEEWAY_S > now
        && exp <= now + LONGEST_S
        && begins("nbf")
        && begins("iat");
    let jti = jws.text("jti")?;
    if !good || jti.is_empty() || jti.len() > LONGEST_JTI {
        return None;
    }
    Some((jti.to_owned(), (exp + LEEWAY_S).saturating_mul(1000)))
}

/// The issuer, or the endpoint that older clients name (RFC 7523 §3, RFC 9126 §2). FAPI 2.0 Security Profile
/// §5.3.2.1: the issuer alone, as one text. An assertion that names several could have been made for
/// another server.
fn is_for_us(app: &App, client: &Client, aud: &Value) -> bool {
    if client.settings.fapi {
        return aud.as_str() == Some(app.settings.issuer.as_str());
    }
    let own = |text: &str| {
        text == app.settings.issuer.as_str()
            || text == app.settings.url("/oauth2/token")
            || text == app.settings.url("/oauth2/par")
    };
    match aud {
        Value::String(text) => own(text),
        Value::Array(several) => several.iter().filter_map(Value::as_str).any(own),
        _ => false,
    }
}
