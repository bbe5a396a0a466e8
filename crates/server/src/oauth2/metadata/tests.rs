mod advertised;
mod client_keys;

use axum::body::Body;
use axum::http::{Method, StatusCode};

use super::*;
use crate::oauth2::testing::ISSUER;
use crate::settings::Settings;
use crate::test_support::TestServer;

#[tokio::test]
async fn s37_both_forms_name_the_issuer_byte_for_byte() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let openid = browser.get(OPENID).await;
    let oauth = browser.get(OAUTH).await;
    assert_eq!(openid.status, StatusCode::OK);
    assert_eq!(openid.json(), oauth.json());
    assert_eq!(openid.json()["issuer"], ISSUER);
    assert_eq!(openid.header("content-type"), "application/json");
}

#[tokio::test]
async fn s37_below_a_path_the_path_is_appended_or_inserted() {
    let server = TestServer::with(|settings| {
        let data = settings.data.clone();
        *settings = Settings::new("http://127.0.0.1:8377/auth/one", data).unwrap();
    })
    .await;
    let mut browser = server.browser();
    let issuer = "http://127.0.0.1:8377/auth/one";
    for path in [
        "/auth/one/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/auth/one",
        "/.well-known/openid-configuration/auth/one",
    ] {
        let document = browser.get(path).await.json();
        assert_eq!(document["issuer"], issuer, "{path}");
        assert_eq!(document["token_endpoint"], format!("{issuer}/oauth2/token"));
    }
    let answer = browser.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let keys = browser.get("/auth/one/oauth2/jwks.json").await;
    assert_eq!(keys.status, StatusCode::OK);
}

#[tokio::test]
async fn ac_066_every_advertised_address_is_there() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let document = browser.get(OPENID).await.json();
    let mut seen = 0;
    for (name, value) in document.as_object().unwrap() {
        if !(name.ends_with("_endpoint") || name == "jwks_uri") {
            continue;
        }
        seen += 1;
        let path = value
            .as_str()
            .unwrap()
            .strip_prefix(ISSUER)
            .unwrap()
            .to_owned();
        for method in [Method::GET, Method::POST] {
            let answer = browser.send(method, &path, &[], Body::empty()).await;
            assert_ne!(answer.status, StatusCode::NOT_FOUND, "{name}: {path}");
        }
    }
    assert_eq!(seen, 10);
    assert_eq!(
        document["grant_types_supported"].as_array().unwrap().len(),
        4
    );
    assert_eq!(
        document["authorization_response_iss_parameter_supported"], true,
        "s11"
    );
    assert_eq!(
        document["code_challenge_methods_supported"],
        json!(["S256"]),
        "s8"
    );
    let text = document.to_string();
    for never in [
        "none\",\"RS",
        "HS256",
        "implicit",
        "password\"",
        "\"token\"",
        "plain",
    ] {
        assert!(!text.contains(never), "{never}");
    }
}

#[tokio::test]
async fn s38_ac_201_only_public_keys_with_ids_of_their_own() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let answer = browser.get("/oauth2/jwks.json").await;
    assert_eq!(answer.header("content-type"), "application/jwk-set+json");
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    let mut kids: Vec<_> = keys
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect();
    kids.sort_unstable();
    kids.dedup();
    assert_eq!(kids.len(), 3);
    for key in &keys {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{private}");
        }
        let kid = key["kid"].as_str().unwrap();
        assert_eq!(
            browser.get(&format!("/oauth2/jwks/{kid}")).await.json(),
            *key
        );
    }
    let unknown = browser.get("/oauth2/jwks/unknown").await;
    assert_eq!(
        unknown.status,
        StatusCode::NOT_FOUND,
        "ac_201: an unknown kid"
    );
    assert_eq!(unknown.json()["code"], "unknown_key");
}

/// We read no client metadata from addresses (CIMD), say so, and fetch nothing.
#[tokio::test]
async fn s61_a_client_id_that_is_an_address_is_unknown_and_never_fetched() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let document = browser.get(OPENID).await.json();
    assert!(
        document
            .get("client_id_metadata_document_supported")
            .is_none()
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/client.json", listener.local_addr().unwrap());
    let encoded: String = url::form_urlencoded::byte_serialize(address.as_bytes()).collect();
    let query = format!("client_id={encoded}&redirect_uri={encoded}&response_type=code");
    let page = browser.get(&format!("/oauth2/authorize?{query}")).await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::BAD_REQUEST, "")
    );
    assert!(page.text.contains("invalid_client"), "{}", page.text);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", address.as_str()),
        ("code", "x"),
        ("redirect_uri", address.as_str()),
    ];
    let token = browser.post("/oauth2/token", &form).await;
    assert_eq!(token.json()["error"], "invalid_client", "{}", token.text);
    let pushed = browser.post("/oauth2/par", &form[1..]).await;
    assert_eq!(pushed.json()["error"], "invalid_client", "{}", pushed.text);
    let came = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept());
    assert!(came.await.is_err(), "somebody asked for the document");
}
