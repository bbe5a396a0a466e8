//! Facebook: an OpenID provider whose metadata do not say where codes are exchanged, and which says of an
//! address nothing but what it is.

use axum::http::StatusCode;
use serde_json::json;

use super::linking::link;
use super::stub::{SECRET, Stub, callback};
use crate::rp::load;
use crate::test_support::TestServer;

#[tokio::test]
async fn s1_32_facebook_signs_in_who_linked_it_and_its_addresses_link_nobody() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "facebook", "facebook").await;
    // What it does not say.
    stub.plan(|plan| {
        plan.claims.insert("email_verified".into(), json!(null));
    });
    let mut browser = server.browser();
    let sent = stub.begin(&mut browser, "facebook").await;
    let dialog = format!("{}/dialog/oauth?", stub.0.base);
    assert!(sent.location().starts_with(&dialog), "{}", sent.location());
    let param = |name: &str| sent.location_param(name).unwrap_or_default();
    assert_eq!(param("scope"), "openid email public_profile");
    assert_eq!(
        (param("nonce").len(), &*param("code_challenge_method")),
        (43, "S256")
    );
    let back = browser
        .get(&callback("facebook", &sent, "&code=good"))
        .await;
    assert_eq!(back.status, StatusCode::CONFLICT);
    assert!(back.text.contains("sign_in_to_link"), "{}", back.text);

    let back = link(&stub, &mut server.sign_in_as(&ada).await, "facebook").await;
    assert_eq!(back.location(), "/account/sign-in", "{}", back.text);
    let back = stub.trip(&mut server.browser(), "facebook").await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
    // The secret goes in the body, beside the verifier that the stub looked at.
    let form = stub.0.form.lock().unwrap().clone();
    let secret = form.iter().find(|(name, _)| name == "client_secret");
    assert_eq!(secret.map(|(_, value)| value.as_str()), Some(SECRET));
    assert_eq!(*stub.0.authorization.lock().unwrap(), "");
    // Who came is the signed token's word.
    stub.plan(|plan| plan.forged = true);
    let mut browser = server.browser();
    let back = stub.trip(&mut browser, "facebook").await;
    assert!(back.text.contains("invalid_signature"), "{}", back.text);
    assert!(browser.cookie("session").is_none());
    // A new proof is asked for in its own words.
    let again = browser.get("/rp/authorize?idp=facebook&again=1").await;
    assert_eq!(
        again.location_param("auth_type").as_deref(),
        Some("reauthenticate")
    );
}

#[tokio::test]
async fn s1_32_facebooks_own_addresses_are_known_and_nobody_is_asked_for_them() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add_with(&server, "facebook", "facebook", |one| {
        (one.issuer, one.name, one.trusts_email) = (None, None, None);
    })
    .await;
    let app = server.server.app();
    let provider = load(app, "facebook").await.unwrap();
    assert_eq!(
        (provider.name.as_str(), provider.issuer.as_str()),
        ("Facebook", "https://www.facebook.com")
    );
    let metadata = app.rp.metadata.find(&app.rp.http, &provider, app.now());
    let metadata = metadata.await.unwrap();
    let jwks_uri = metadata.jwks_uri.unwrap();
    assert_eq!(
        [
            metadata.authorization_endpoint.as_str(),
            metadata.token_endpoint.as_str(),
            jwks_uri.as_str(),
        ],
        [
            "https://www.facebook.com/dialog/oauth",
            "https://graph.facebook.com/oauth/access_token",
            "https://www.facebook.com/.well-known/oauth/openid/jwks/",
        ]
    );
    let (stored, _) = server
        .registry()
        .find_identity_provider("facebook")
        .await
        .unwrap();
    assert!(!stored.trusts_email);
}
