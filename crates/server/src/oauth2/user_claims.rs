//! Claims about a person, by scope (OpenID Connect Core §5.4): only what this registry knows.

use keywright_domain::people::{Email, OAuthScopes};
use keywright_registry::people::User;
use serde_json::{Map, Value};

/// Claims with the scope that gives them.
const CLAIMS: [(&str, &str); 3] = [
    ("name", "profile"),
    ("email", "email"),
    ("email_verified", "email"),
];

/// Names of all claims about people.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CLAIMS.into_iter().map(|(name, _)| name)
}

/// The scope that gives a claim; none for one that we do not have.
pub(crate) fn scope_of(claim: &str) -> Option<&'static str> {
    CLAIMS
        .into_iter()
        .find(|(name, _)| *name == claim)
        .map(|(_, scope)| scope)
}

/// What scopes tell of a person. `sub` is not in it.
pub(crate) fn of(user: &User, scopes: &OAuthScopes) -> Map<String, Value> {
    let mut claims = Map::new();
    if scopes.contains("profile") {
        claims.insert("name".into(), user.name.clone().into());
    }
    if scopes.contains("email")
        && let Some(email) = user.email.as_ref().map(Email::as_str)
    {
        claims.insert("email".into(), email.into());
        claims.insert("email_verified".into(), user.email_verified.into());
    }
    claims
}
