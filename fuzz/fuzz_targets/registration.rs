//! Client metadata of a stranger (RFC 7591 §2): whatever they send, it asks for no more than who a person
//! is, and brings no private key.
#![no_main]

// The files by themselves: the whole server would have to be built.
#[expect(dead_code, reason = "what reads is thrown at, and not what writes")]
#[path = "../../crates/server/src/oauth2/client_jws.rs"]
mod client_jws;
#[expect(dead_code, reason = "what reads is thrown at, and not what writes")]
#[path = "../../crates/server/src/oauth2/register/metadata.rs"]
mod metadata;

/// As the server's tree, as far as these files see it.
mod oauth2 {
    pub(crate) use crate::client_jws;

    pub(crate) mod token {
        pub(crate) const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
    }
}

mod problem {
    #[derive(Debug)]
    pub(crate) struct OAuthError;

    impl OAuthError {
        pub(crate) fn new(_code: &'static str, _text: &str) -> Self {
            Self
        }
    }
}

use keywright_domain::people::{AuthMethod, ClientType};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

fuzz_target!(|data: &[u8]| {
    // What nobody reads of a body may be anything: then there is nothing to compare with.
    if std::str::from_utf8(data).is_err() {
        return;
    }
    let read = serde_json::from_slice::<metadata::Metadata>(data);
    let Some(client) = read
        .ok()
        .and_then(|metadata| metadata.to_client(&metadata::Given::default()).ok())
    else {
        return;
    };
    let asked: Value = serde_json::from_slice(data).expect("JSON");
    assert!(
        client
            .scopes
            .as_slice()
            .iter()
            .all(|one| SCOPES.contains(&one.as_str()))
    );
    assert!(
        client
            .grant_types
            .iter()
            .all(|one| one != "client_credentials")
    );
    assert_eq!(
        client.client_type == ClientType::Public,
        client.auth_method == AuthMethod::None
    );
    assert!(client.require_pkce && !client.fapi);
    assert!(client.redirect_uris.len() + client.post_logout_redirect_uris.len() <= 10);
    assert_eq!(client.jwks.is_some(), !asked["jwks"].is_null());
    if let Some(jwks) = &client.jwks {
        let jwks: Value = serde_json::from_str(jwks).expect("JSON");
        let keys = jwks["keys"].as_array().expect("keys");
        assert!((1..=10).contains(&keys.len()));
        for key in keys {
            for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
                assert!(key.get(private).is_none(), "{private}");
            }
        }
    }
});
