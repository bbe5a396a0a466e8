//! GitHub: OAuth 2.0 without OpenID Connect. Who signed in comes from its API; the addresses can
//! be e-mails of several kinds, each with its own "verified".

use serde_json::Value;
use url::Url;

use super::discovery::Metadata;
use super::error::{SignInError, tame};
use super::profile::Profile;
use crate::http::HttpClient;
use crate::tokens::AccessToken;

const AUTHORIZE: &str = "https://github.com/login/oauth/authorize";
const TOKEN: &str = "https://github.com/login/oauth/access_token";
const API: &str = "https://api.github.com";

/// GitHub publishes no metadata; these addresses are documented and fixed.
pub(crate) fn metadata() -> Result<Metadata, SignInError> {
    let unusable = |_| SignInError::InvalidRequest("GitHub's addresses are unusable.".to_owned());
    Ok(Metadata {
        authorization_endpoint: Url::parse(AUTHORIZE).map_err(unusable)?,
        token_endpoint: Url::parse(TOKEN).map_err(unusable)?,
        jwks_uri: None,
        userinfo_endpoint: Some(Url::parse(API).map_err(unusable)?),
        revocation_endpoint: None,
        answers_carry_iss: false,
        secret_in_body: true,
        clock_offset_ms: None,
    })
}

/// The person, by their numeric id: a login name can be given up and taken by somebody else.
pub(crate) async fn fetch_profile(
    http: &HttpClient,
    metadata: &Metadata,
    access_token: &AccessToken,
) -> Result<Profile, SignInError> {
    let api = metadata
        .userinfo_endpoint
        .as_ref()
        .map_or(API, |url| url.as_str().trim_end_matches('/'));
    let user = fetch(http, &format!("{api}/user"), access_token).await?;
    let id = user.get("id").and_then(Value::as_u64);
    let subject = id
        .ok_or_else(|| SignInError::UserinfoFailed("it has no id".to_owned()))?
        .to_string();
    let text = |name: &str| {
        user.get(name)
            .and_then(Value::as_str)
            .map(|value| tame(value, 120))
    };
    let filled = |value: &String| !value.trim().is_empty();
    // Without the scope user:email there is no such list, and that is fine.
    let emails = fetch(http, &format!("{api}/user/emails"), access_token)
        .await
        .unwrap_or(Value::Null);
    let (email, email_verified) = match primary_email(&emails) {
        Some((email, verified)) => (Some(email), verified),
        None => (text("email").filter(filled), false),
    };
    Ok(Profile {
        display_name: text("name")
            .filter(filled)
            .or_else(|| text("login"))
            .unwrap_or_else(|| subject.clone()),
        subject,
        email,
        email_verified,
    })
}

async fn fetch(
    http: &HttpClient,
    url: &str,
    access_token: &AccessToken,
) -> Result<Value, SignInError> {
    let url = Url::parse(url)
        .map_err(|_| SignInError::UserinfoFailed("its address is unusable".to_owned()))?;
    let answer = http.get(&url, Some(access_token.secret().expose())).await?;
    match serde_json::from_slice(&answer.body) {
        Ok(value) if answer.status == 200 => Ok(value),
        _ => Err(SignInError::UserinfoFailed(format!(
            "it is {}",
            answer.describe()
        ))),
    }
}

fn primary_email(emails: &Value) -> Option<(String, bool)> {
    let primary = emails
        .as_array()?
        .iter()
        .find(|email| email.get("primary") == Some(&Value::Bool(true)))?;
    let address = tame(primary.get("email")?.as_str()?, 120);
    Some((address, primary.get("verified") == Some(&Value::Bool(true))))
}

#[cfg(test)]
mod tests;
