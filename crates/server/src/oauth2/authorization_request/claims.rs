//! The `claims` parameter (OpenID Connect Core §5.5): JSON from outside, read with care.

use keywright_domain::people::OAuthScopes;
use serde_json::{Map, Value};

use super::acr::AcrWish;
use crate::oauth2::user_claims;
use crate::problem::OAuthError;

/// What the parameter asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Scopes that give the claims.
    pub(crate) scopes: OAuthScopes,
    /// `acr` of the ID token.
    pub(crate) acr: Option<AcrWish>,
    /// `sub`: nobody else will do.
    pub(crate) subject: Option<String>,
}

/// Reads it. Claims that we do not have are left out, as the standard says.
///
/// # Errors
/// `invalid_request` if it is not such a JSON object.
pub(crate) fn read(text: &str) -> Result<Wanted, OAuthError> {
    let bad = || OAuthError::new("invalid_request", "claims is no such JSON object");
    let Ok(Value::Object(members)) = serde_json::from_str::<Value>(text) else {
        return Err(bad());
    };
    let mut wanted = Wanted::default();
    let mut scopes = Vec::new();
    for (place, in_id_token) in [("id_token", true), ("userinfo", false)] {
        let claims = match members.get(place) {
            Some(Value::Object(claims)) => claims,
            None | Some(Value::Null) => continue,
            Some(_) => return Err(bad()),
        };
        for (claim, wish) in claims {
            let wish = match wish {
                Value::Null => &Map::new(),
                Value::Object(wish) => wish,
                _ => return Err(bad()),
            };
            scopes.extend(user_claims::scope_of(claim));
            match claim.as_str() {
                "sub" => {
                    let asked = values(wish).into_iter().next();
                    if wanted.subject.is_some() && asked.is_some() && asked != wanted.subject {
                        return Err(bad());
                    }
                    wanted.subject = wanted.subject.take().or(asked);
                }
                "acr" if in_id_token => {
                    let essential = wish.get("essential") == Some(&Value::Bool(true));
                    let values = values(wish);
                    if !values.is_empty() {
                        wanted.acr = Some(AcrWish { values, essential });
                    }
                }
                _ => {}
            }
        }
    }
    wanted.scopes = OAuthScopes::parse(&scopes.join(" ")).unwrap_or_default();
    Ok(wanted)
}

/// `value` or `values`, texts only, bounded.
fn values(wish: &Map<String, Value>) -> Vec<String> {
    let one = wish.get("value").into_iter();
    let many = wish.get("values").and_then(Value::as_array);
    one.chain(many.into_iter().flatten())
        .filter_map(Value::as_str)
        .filter(|text| text.len() <= 200)
        .take(20)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_scopes_acr_and_sub() {
        let wanted = read(
            r#"{"id_token":{"acr":{"essential":true,"values":["aal2","x"]},"sub":{"value":"u"},
                "auth_time":{"essential":true}},"userinfo":{"name":null,"email":{"essential":true},
                "picture":null}}"#,
        )
        .unwrap();
        assert_eq!(wanted.scopes.to_string(), "email profile");
        assert_eq!(wanted.subject.as_deref(), Some("u"));
        let acr = wanted.acr.unwrap();
        assert!(acr.essential);
        assert_eq!(acr.values, ["aal2", "x"]);
        assert_eq!(read("{}").unwrap(), Wanted::default());
        for bad in [
            "",
            "[]",
            "{\"id_token\":1}",
            "{\"userinfo\":{\"name\":true}}",
            r#"{"id_token":{"sub":{"value":"a"}},"userinfo":{"sub":{"value":"b"}}}"#,
        ] {
            assert_eq!(read(bad).unwrap_err().error, "invalid_request", "{bad}");
        }
    }
}
