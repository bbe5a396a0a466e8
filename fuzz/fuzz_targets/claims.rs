//! The `claims` parameter (OpenID Connect Core §5.5): what it gives is in it, and bounded.
#![no_main]

// The file by itself: the whole server would have to be built.
#[expect(dead_code, reason = "what reads is thrown at, and not all of it")]
#[path = "../../crates/server/src/oauth2/authorization_request/acr.rs"]
mod acr;
#[path = "../../crates/server/src/oauth2/authorization_request/claims.rs"]
mod claims;

/// As the server's.
mod browser_session {
    pub(crate) const ACR_ONE: &str = "aal1";
    pub(crate) const ACR_TWO: &str = "aal2";
}

mod oauth2 {
    /// As the server's, which comes with the registry.
    pub(crate) mod user_claims {
        pub(crate) fn scope_of(claim: &str) -> Option<&'static str> {
            match claim {
                "name" => Some("profile"),
                "email" | "email_verified" => Some("email"),
                _ => None,
            }
        }
    }
}

mod problem {
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) struct OAuthError;

    impl OAuthError {
        pub(crate) fn new(_code: &'static str, _text: &str) -> Self {
            Self
        }
    }
}

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let read = claims::read(text);
    let value = serde_json::from_str::<Value>(text);
    let Ok(wanted) = read else {
        return;
    };
    let value = value.expect("JSON");
    assert!(value.is_object());
    let place = |name: &str| value.get(name).and_then(Value::as_object);
    let places = || ["id_token", "userinfo"].into_iter().filter_map(place);
    for (scope, names) in [
        ("profile", &["name"][..]),
        ("email", &["email", "email_verified"]),
    ] {
        let asked = places().any(|place| names.iter().any(|name| place.contains_key(*name)));
        assert_eq!(wanted.scopes.contains(scope), asked, "{scope}");
    }
    let in_text = |wish: &Value, text: &str| {
        wish["value"] == text
            || wish["values"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one == text))
    };
    if let Some(subject) = &wanted.subject {
        assert!(subject.len() <= 200);
        assert!(places().any(|place| place.get("sub").is_some_and(|wish| in_text(wish, subject))));
    }
    if let Some(acr) = &wanted.acr {
        assert!((1..=21).contains(&acr.values.len()));
        let wish = &value["id_token"]["acr"];
        assert!(
            acr.values
                .iter()
                .all(|one| one.len() <= 200 && in_text(wish, one))
        );
        assert_eq!(acr.essential, wish["essential"] == true);
        assert!(acr.needed().is_none_or(|level| level < acr::LEVELS.len()));
        // Whoever has the highest level has every level that we know.
        let highest = acr::LEVELS[acr::LEVELS.len() - 1];
        assert_eq!(acr.is_met_by(highest), acr.needed().is_some());
    }
});
