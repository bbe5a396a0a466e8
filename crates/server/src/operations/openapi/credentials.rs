//! How callers prove who they are, in the words of OpenAPI.

use utoipa::openapi::Components;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

use crate::http::cookies::Name;
use crate::settings::Settings;

/// The credentials that operations name.
pub(super) fn add_schemes(components: &mut Components, settings: &Settings) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "An access token (RFC 9068). What takes `apiKey` takes a root key here too",
        ))
        .build();
    components.add_security_scheme("accessToken", SecurityScheme::Http(bearer));
    let session = ApiKeyValue::with_description(
        Name::Session.text(settings),
        "A session; what changes something wants its CSRF token too".to_owned(),
    );
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
    let refresh = ApiKeyValue::with_description(
        Name::Refresh.text(settings),
        "The refresh token of a program in a browser".to_owned(),
    );
    components.add_security_scheme("refresh", SecurityScheme::ApiKey(ApiKey::Cookie(refresh)));
    let key = ApiKeyValue::with_description("x-api-key", "A root key");
    components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
}

/// One of these, wherever an operation says nothing else.
pub(super) fn of_most() -> Vec<SecurityRequirement> {
    ["accessToken", "session", "apiKey"]
        .map(|name| SecurityRequirement::new(name, [""; 0]))
        .to_vec()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, StatusCode};
    use serde_json::json;

    use crate::test_support::TestServer;

    /// Nobody is let in where the description asks for credentials, and nobody is sent away for lack of them
    /// where it does not.
    #[tokio::test]
    async fn what_wants_credentials_says_so() {
        let server = TestServer::start().await;
        let document = server.browser().get("/api/openapi.json").await.json();
        let schemes = document["components"]["securitySchemes"].as_object();
        let (mut open, mut wrong) = (0, Vec::new());
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let own = operation.get("security").unwrap_or(&document["security"]);
                let ways = own.as_array().unwrap();
                let named = ways.iter().flat_map(|way| way.as_object().unwrap().keys());
                let known = named.filter(|name| schemes.unwrap().contains_key(*name));
                let is_open = ways.contains(&json!({}));
                assert!(is_open || known.count() == ways.len(), "{method} {path}");
                open += usize::from(is_open);
                let verb: Method = method.to_uppercase().parse().unwrap();
                let asked = path.replace(['{', '}'], "");
                let mut nobody = server.browser();
                let answer = nobody.send(verb, &asked, &[], Body::empty()).await;
                if (answer.status == StatusCode::UNAUTHORIZED) == is_open {
                    wrong.push(format!("{method} {path}: {}", answer.status));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(open, 3);
    }
}
