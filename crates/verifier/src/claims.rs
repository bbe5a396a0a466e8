//! What an access token says (RFC 9068 §2.2), or what the issuer says about it (RFC 7662 §2.2).

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::TokenError;

/// `sub` of a client's own token begins with this at a Keywright server.
const CLIENT_SUBJECT: &str = "client:";

/// Claims of a token that was checked.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// Who it is about: a person's id, or `client:` and a client's.
    pub sub: String,
    /// The services that it is for.
    #[serde(deserialize_with = "one_or_more")]
    pub aud: Vec<String>,
    /// Until when, Unix seconds.
    pub exp: i64,
    /// Since when, Unix seconds.
    #[serde(default)]
    pub iat: Option<i64>,
    /// Not before, Unix seconds.
    #[serde(default)]
    pub nbf: Option<i64>,
    /// The token's own id.
    #[serde(default)]
    pub jti: Option<String>,
    /// The client that has it.
    pub client_id: String,
    /// What it allows.
    #[serde(rename = "scope", default, deserialize_with = "words")]
    pub scopes: Vec<String>,
    /// The session that it was given in.
    #[serde(default)]
    pub sid: Option<String>,
    /// When the person proved who they are, Unix seconds.
    #[serde(default)]
    pub auth_time: Option<i64>,
    /// At which level.
    #[serde(default)]
    pub acr: Option<String>,
    /// In which ways.
    #[serde(default)]
    pub amr: Vec<String>,
    /// Roles of the person.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The key that it is bound to.
    #[serde(default)]
    pub(crate) cnf: Option<Value>,
}

impl Claims {
    /// The person's id; none where the token is a client's own.
    #[must_use]
    pub fn person(&self) -> Option<&str> {
        (!self.sub.starts_with(CLIENT_SUBJECT)).then_some(self.sub.as_str())
    }

    /// Whether the token allows this.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|one| one == scope)
    }

    /// Whether the person has this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|one| one == role)
    }

    /// Reads claims and checks all of them against what is expected here.
    pub(crate) fn check(
        claims: Map<String, Value>,
        expected: &Expected<'_>,
        now_s: i64,
    ) -> Result<Self, TokenError> {
        for name in expected.required {
            if claims.get(*name).is_none_or(Value::is_null) {
                return Err(TokenError::ClaimMissing);
            }
        }
        let claims: Self =
            serde_json::from_value(Value::Object(claims)).map_err(|_| TokenError::Malformed)?;
        if claims.iss != expected.issuer {
            return Err(TokenError::IssuerMismatch);
        }
        if !claims.aud.iter().any(|one| one == expected.audience) {
            return Err(TokenError::WrongAudience);
        }
        if now_s >= claims.exp.saturating_add(expected.leeway_s) {
            return Err(TokenError::Expired);
        }
        let latest = now_s.saturating_add(expected.leeway_s);
        let begins = [claims.nbf, claims.iat];
        if begins.into_iter().flatten().any(|begin| begin > latest) {
            return Err(TokenError::NotYetValid);
        }
        // Whoever has a bound token must show the key as well, and that is not looked at here.
        if claims.cnf.is_some() {
            return Err(TokenError::Bound);
        }
        Ok(claims)
    }
}

/// What a token has to be.
pub(crate) struct Expected<'a> {
    /// `iss`.
    pub(crate) issuer: &'a str,
    /// One of `aud`.
    pub(crate) audience: &'a str,
    /// How far clocks may differ.
    pub(crate) leeway_s: i64,
    /// Claims that must be there.
    pub(crate) required: &'a [&'a str],
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        More(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::More(more) => more,
    })
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let words = text.split(' ').filter(|word| !word.is_empty());
    Ok(words.map(str::to_owned).collect())
}
