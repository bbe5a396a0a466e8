//! Who signed in, for showing: from the ID token and the userinfo endpoint
//! (OpenID Connect Core §5.3). All of it is foreign text.

use keywright_jose::VerifiedIdToken;
use serde_json::{Map, Value};

use super::discovery::Metadata;
use super::error::{SignInError, tame};
use crate::http::HttpClient;
use crate::tokens::AccessToken;

/// Names are capped here, so that no page has to.
const LONGEST_NAME: usize = 120;

/// A person, as the provider describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) subject: String,
    pub(crate) display_name: String,
    pub(crate) email: Option<String>,
    pub(crate) email_verified: bool,
}

/// The profile: the ID token's claims, completed by the userinfo endpoint where there is one.
/// That endpoint being down does not fail a sign-in; its naming somebody else does (AC-043).
pub(crate) async fn fetch_profile(
    http: &HttpClient,
    metadata: &Metadata,
    token: &VerifiedIdToken,
    access_token: &AccessToken,
) -> Result<Profile, SignInError> {
    let mut claims = token.claims.clone();
    match fetch_userinfo(http, metadata, access_token).await {
        Ok(Some(userinfo)) => {
            if userinfo.get("sub").and_then(Value::as_str) != Some(token.subject.as_str()) {
                return Err(SignInError::SubjectMismatch);
            }
            claims.extend(userinfo);
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(
            code = error.code(),
            "the profile was not completed from userinfo"
        ),
    }
    Ok(describe(&token.subject, &claims))
}

async fn fetch_userinfo(
    http: &HttpClient,
    metadata: &Metadata,
    access_token: &AccessToken,
) -> Result<Option<Map<String, Value>>, SignInError> {
    let Some(url) = &metadata.userinfo_endpoint else {
        return Ok(None);
    };
    let answer = http.get(url, Some(access_token.secret().expose())).await?;
    match serde_json::from_slice(&answer.body) {
        Ok(Value::Object(userinfo)) if answer.status == 200 => Ok(Some(userinfo)),
        _ => Err(SignInError::UserinfoFailed(format!(
            "it is {}",
            answer.describe()
        ))),
    }
}

fn describe(subject: &str, claims: &Map<String, Value>) -> Profile {
    let text = |name: &str| {
        let value = claims
            .get(name)
            .and_then(Value::as_str)
            .map(|value| tame(value, LONGEST_NAME));
        value.filter(|value| !value.trim().is_empty())
    };
    let email = text("email");
    let name = text("name")
        .or_else(|| text("preferred_username"))
        .or_else(|| email.clone());
    let email_verified = match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        // Some providers write it as text.
        Some(Value::String(verified)) => verified == "true",
        _ => false,
    };
    Profile {
        subject: subject.to_owned(),
        display_name: name.unwrap_or_else(|| tame(subject, LONGEST_NAME)),
        email_verified: email_verified && email.is_some(),
        email,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::describe;

    #[test]
    fn names_fall_back_and_are_tamed() {
        let described = |claims: serde_json::Value| {
            let profile = describe(
                "sub-1",
                claims.as_object().unwrap_or(&serde_json::Map::new()),
            );
            (profile.display_name, profile.email, profile.email_verified)
        };
        assert_eq!(described(json!({})), ("sub-1".to_owned(), None, false));
        assert_eq!(
            described(json!({"email": "a@b", "email_verified": "true"})),
            ("a@b".to_owned(), Some("a@b".to_owned()), true)
        );
        assert_eq!(
            described(json!({"name": "Ada", "email_verified": true})),
            ("Ada".to_owned(), None, false)
        );
        let (name, ..) =
            described(json!({"name": format!("\u{202e}evil\n{}", "x".repeat(10_000))}));
        assert!(name.starts_with("evilx") && name.chars().count() <= 121);
    }
}
