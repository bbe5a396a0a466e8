//! Who came back, as the provider says: from the ID token and userinfo (OpenID Connect Core §5.3), or
//! from GitHub's API. All of it is foreign text.

use keywright_domain::SecretText;
use keywright_domain::people::Email;
use keywright_registry::people::IdentityClaims;
use serde_json::{Map, Value};
use url::Url;

use super::discovery::Metadata;
use super::failure::{Failure, tame};
use super::outbound::Outbound;
use super::presets::{Kind, Provider};

const LONGEST_NAME: usize = 120;

/// The claims of a verified ID token, completed by userinfo where there is one. That endpoint being
/// down does not fail a sign-in; its naming somebody else does.
///
/// # Errors
/// [`Failure`]: `subject_mismatch`, `hosted_domain_mismatch`.
pub(super) async fn from_id_token(
    http: &Outbound,
    metadata: &Metadata,
    provider: &Provider,
    token: Map<String, Value>,
    access_token: &SecretText,
) -> Result<IdentityClaims, Failure> {
    let text_of = |claims: &Map<String, Value>, name: &str| {
        claims.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let subject = text_of(&token, "sub").unwrap_or_default();
    let iss = text_of(&token, "iss").unwrap_or_default();
    // Who is let in is the signed token's word, not userinfo's.
    if let Some(domain) = &provider.extra.hosted_domain
        && text_of(&token, "hd").as_deref() != Some(domain.as_str())
    {
        return Err(Failure::new(
            "hosted_domain_mismatch",
            "This account does not belong to the organisation",
        )
        .with_status(axum::http::StatusCode::FORBIDDEN)
        .with_advice(format!("Sign in with an account of {domain}.")));
    }
    let mut claims = token;
    if let Some(url) = &metadata.userinfo_endpoint {
        match fetch(http, url, access_token).await {
            Ok(Value::Object(userinfo)) => {
                if userinfo.get("sub").and_then(Value::as_str) != Some(subject.as_str()) {
                    let detail = "userinfo speaks of somebody else";
                    return Err(Failure::provider("subject_mismatch", detail));
                }
                complete(&mut claims, userinfo);
            }
            Ok(_) => tracing::warn!(provider = %provider.id, "userinfo is no object"),
            Err(failure) => {
                tracing::warn!(provider = %provider.id, code = failure.code, "no userinfo");
            }
        }
    }
    let email = text_of(&claims, "email").and_then(|text| Email::new(&text).ok());
    let said = match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(verified)) => verified == "true",
        _ => false,
    };
    let named = ["name", "preferred_username"]
        .iter()
        .filter_map(|name| text_of(&claims, name))
        .map(|name| tame(&name, LONGEST_NAME))
        .find(|name| !name.trim().is_empty());
    let name = named.unwrap_or_else(|| email.as_ref().map_or("Somebody", Email::as_str).to_owned());
    let hosted = text_of(&claims, "hd").is_some_and(|hd| !hd.is_empty());
    let is_gmail = email
        .as_ref()
        .is_some_and(|email| email.as_str().ends_with("@gmail.com"));
    // Google has authority over addresses of its own and of its Workspaces only.
    let has_authority = provider.kind != Kind::Google || hosted || is_gmail;
    // The issuer in one spelling: Google's has two. Microsoft's tenants are issuers of their own.
    let issuer = if provider.kind == Kind::Microsoft {
        iss
    } else {
        provider.issuer.to_string()
    };
    Ok(IdentityClaims {
        provider_id: provider.id.clone(),
        issuer,
        subject,
        name,
        email_verified: email.is_some() && said && has_authority,
        email,
    })
}

/// Userinfo adds what the signed token does not say. An address and its “verified” belong together:
/// they are taken from one place.
fn complete(claims: &mut Map<String, Value>, userinfo: Map<String, Value>) {
    let has_email = claims.contains_key("email");
    for (name, value) in userinfo {
        let of_email = matches!(name.as_str(), "email" | "email_verified");
        if !(claims.contains_key(&name) || (of_email && has_email) || name == "hd") {
            claims.insert(name, value);
        }
    }
}

/// The person at GitHub, by their number: a login name can be given up and taken by somebody else.
///
/// # Errors
/// [`Failure`].
pub(super) async fn from_github(
    http: &Outbound,
    metadata: &Metadata,
    provider: &Provider,
    access_token: &SecretText,
) -> Result<IdentityClaims, Failure> {
    let unusable = |detail: &str| Failure::provider("idp_userinfo_unusable", detail);
    let api = metadata
        .userinfo_endpoint
        .as_ref()
        .map_or("", |url| url.as_str().trim_end_matches('/'));
    let address = |path: &str| Url::parse(&format!("{api}{path}")).map_err(|_| unusable("address"));
    let user = fetch(http, &address("/user")?, access_token).await?;
    let subject = user
        .get("id")
        .and_then(Value::as_u64)
        .ok_or_else(|| unusable("a user without an id"))?
        .to_string();
    let emails = match fetch(http, &address("/user/emails")?, access_token).await {
        Ok(emails) => emails,
        Err(failure) => {
            tracing::warn!(code = failure.code, "GitHub gave no list of addresses");
            Value::Null
        }
    };
    // The address of the profile is whatever somebody typed: only the list says what was verified.
    let primary = emails.as_array().and_then(|all| {
        all.iter()
            .find(|one| one.get("primary") == Some(&Value::Bool(true)))
    });
    let email = primary
        .and_then(|one| one.get("email")?.as_str())
        .and_then(|text| Email::new(text).ok());
    let verified = primary.and_then(|one| one.get("verified")) == Some(&Value::Bool(true));
    let name = ["name", "login"]
        .iter()
        .filter_map(|name| user.get(*name)?.as_str())
        .map(|name| tame(name, LONGEST_NAME))
        .find(|name| !name.trim().is_empty())
        .unwrap_or_else(|| subject.clone());
    Ok(IdentityClaims {
        provider_id: provider.id.clone(),
        issuer: provider.issuer.to_string(),
        subject,
        name,
        email_verified: verified && email.is_some(),
        email,
    })
}

async fn fetch(http: &Outbound, url: &Url, access_token: &SecretText) -> Result<Value, Failure> {
    let answer = http.get(url, Some(access_token)).await?;
    let unusable = || {
        let detail = format!("status {}", answer.status);
        Failure::provider("idp_userinfo_unusable", detail)
    };
    if answer.status != 200 {
        return Err(unusable());
    }
    serde_json::from_slice(&answer.body).map_err(|_| unusable())
}
