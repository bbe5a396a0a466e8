use axum::http::{Method, StatusCode};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::OAuthScopes;
use keywright_registry::AuditQuery;
use keywright_registry::people::NewClientSecret;
use serde_json::{Value, json};

use crate::keys::tests::{Program, root};
use crate::oauth2::testing::{self, basic, text, token_request};
use crate::test_support::{Answer, TestServer};

const LIST: &str = "/api/v1/clients";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    let found = (answer.status.as_u16(), answer.json()["code"].clone());
    assert_eq!(found, (status, code.into()), "{}", answer.text);
}

#[track_caller]
fn fine(answer: &Answer) -> Value {
    assert!(answer.status.is_success(), "{}", answer.text);
    answer.json()
}

/// A root key with these scopes alone.
async fn narrow(server: &TestServer, root: &mut Program, scopes: &[&str]) -> Program {
    for name in scopes {
        let defined = root.send(Method::PUT, "/api/v1/scopes", json!({ "name": name }));
        fine(&defined.await);
    }
    let wish = json!({ "name": "Narrow", "prefix": "kw_root", "scopes": scopes });
    let issued = root.issue(wish).await;
    Program {
        browser: server.browser(),
        key: issued["secret"].as_str().unwrap().to_owned(),
    }
}

fn at(id: &str, step: &str) -> String {
    format!("{LIST}/{id}{step}")
}

fn machine() -> Value {
    json!({
        "client_id": "machine", "client_name": "Machine",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "scope": "openid email offline_access keys:read",
    })
}

/// The client of [`machine`], and its secret.
async fn added(root: &mut Program) -> String {
    let answer = root.send(Method::POST, LIST, machine()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    text(&answer, "client_secret")
}

async fn ask(server: &TestServer, secret: &str, fields: &[(&str, &str)]) -> Answer {
    let authorization = basic("machine", secret);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    token_request(server, &[("authorization", authorization.as_str())], form).await
}

async fn own(server: &TestServer, secret: &str) -> Answer {
    ask(server, secret, &[("grant_type", "client_credentials")]).await
}

async fn refresh(server: &TestServer, secret: &str, token: &str) -> Answer {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
    ask(server, secret, &fields).await
}

async fn redeem(server: &TestServer, secret: &str, code: &str) -> Answer {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", testing::REDIRECT),
        ("code_verifier", testing::VERIFIER),
    ];
    ask(server, secret, &fields).await
}

async fn keys_by(server: &TestServer, token: &str) -> StatusCode {
    let mut program = Program {
        browser: server.browser(),
        key: token.to_owned(),
    };
    program
        .send(Method::GET, "/api/v1/keys", Value::Null)
        .await
        .status
}

#[tokio::test]
async fn clients_are_added_listed_changed_and_removed() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let secret = added(&mut root).await;
    assert_eq!(secret.len(), 43, "256 bits");
    assert_eq!(own(&server, &secret).await.status, StatusCode::OK);
    refused(
        &root.send(Method::POST, LIST, machine()).await,
        409,
        "client_id_taken",
    );

    let read = fine(
        &root
            .send(Method::GET, &at("machine", ""), Value::Null)
            .await,
    );
    assert_eq!(read["client_name"], "Machine");
    assert_eq!(read["public"], false);
    assert_eq!(read["require_pkce"], true);
    assert_eq!(read["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(read["secrets"][0]["expires_at"], Value::Null);
    assert!(!read.to_string().contains(&secret));
    let none = root.send(Method::GET, &at("none", ""), Value::Null).await;
    refused(&none, 404, "client_not_found");

    // What is left out stays; null takes away.
    let uri = "https://machine.example.com/ended";
    let change = json!({ "client_name": "Robot", "backchannel_logout_uri": uri });
    let changed = fine(&root.send(Method::PATCH, &at("machine", ""), change).await);
    assert_eq!(changed["client_name"], "Robot");
    assert_eq!(changed["backchannel_logout_uri"], uri);
    assert_eq!(changed["scope"], read["scope"]);
    assert!(changed.get("client_secret").is_none());
    let change = json!({ "backchannel_logout_uri": null });
    let changed = fine(&root.send(Method::PATCH, &at("machine", ""), change).await);
    assert_eq!(changed["backchannel_logout_uri"], Value::Null);
    assert_eq!(own(&server, &secret).await.status, StatusCode::OK);

    // Another way to prove itself, and back: with a secret of its own again.
    let key = crate::oauth2::dpop::tests::ClientKey::new();
    let change =
        json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [key.jwk]} });
    let changed = fine(&root.send(Method::PATCH, &at("machine", ""), change).await);
    assert!(changed.get("client_secret").is_none());
    assert_eq!(own(&server, &secret).await.status, StatusCode::UNAUTHORIZED);
    let change = json!({ "token_endpoint_auth_method": "client_secret_basic", "jwks": null });
    let back = root.send(Method::PATCH, &at("machine", ""), change).await;
    assert_eq!(fine(&back)["jwks"], Value::Null);
    assert_eq!(own(&server, &secret).await.status, StatusCode::UNAUTHORIZED);
    let secret = text(&back, "client_secret");
    assert_eq!(own(&server, &secret).await.status, StatusCode::OK);

    for (name, value, code) in [
        (
            "redirect_uris",
            json!(["https://*.example.com/"]),
            "invalid_redirect_uri",
        ),
        (
            "redirect_uris",
            json!(["http://example.com/"]),
            "invalid_redirect_uri",
        ),
        ("redirect_uris", json!([]), "invalid_client_metadata"),
        (
            "grant_types",
            json!(["implicit"]),
            "invalid_client_metadata",
        ),
        ("scope", json!("a\u{7}"), "invalid_client_metadata"),
        (
            "token_endpoint_auth_method",
            json!("client_secret_jwt"),
            "invalid_client_metadata",
        ),
        (
            "token_endpoint_auth_method",
            json!("none"),
            "invalid_client_metadata",
        ),
        (
            "id_token_signed_response_alg",
            json!("none"),
            "invalid_client_metadata",
        ),
        (
            "jwks",
            json!({"keys": [{"kty": "oct", "k": "AAAA"}]}),
            "invalid_client_metadata",
        ),
        ("fapi", json!(true), "invalid_client_metadata"),
        ("client_name", json!(""), "invalid_name"),
        ("client_secret", json!("chosen by somebody"), "invalid_body"),
    ] {
        let mut change = json!({});
        change[name] = value.clone();
        let answer = root.send(Method::PATCH, &at("machine", ""), change).await;
        refused(&answer, 400, code);
        let mut new = machine();
        new["client_id"] = json!("other");
        new[name] = value;
        let answer = root.send(Method::POST, LIST, new).await;
        // A new one may be public, where the rest fits.
        refused(&answer, 400, code);
    }

    // A list is by name, and a page goes on where the one before ended.
    for id in ["a", "b"] {
        let public = json!({
            "client_id": id, "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback"],
        });
        let made = root.send(Method::POST, LIST, public).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        assert_eq!(made.json()["public"], true);
        assert!(made.json().get("client_secret").is_none(), "S1");
    }
    let (mut path, mut seen) = (format!("{LIST}?limit=2"), Vec::new());
    loop {
        let page = fine(&root.send(Method::GET, &path, Value::Null).await);
        for one in page["items"].as_array().unwrap() {
            seen.push(one["client_id"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("{LIST}?limit=2&cursor={cursor}");
    }
    for id in ["a", "b", "machine"] {
        assert_eq!(seen.iter().filter(|one| *one == id).count(), 1, "{seen:?}");
    }
    let found = fine(
        &root
            .send(Method::GET, &format!("{LIST}?text=ROBO"), Value::Null)
            .await,
    );
    assert_eq!(found["items"].as_array().unwrap().len(), 1);

    let gone = root
        .send(Method::DELETE, &at("machine", ""), Value::Null)
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let gone = root
        .send(Method::DELETE, &at("machine", ""), Value::Null)
        .await;
    refused(&gone, 404, "client_not_found");
    assert_eq!(own(&server, &secret).await.status, StatusCode::UNAUTHORIZED);
    let path = at(crate::set_up::DESKTOP_CLIENT, "");
    let built_in = root.send(Method::DELETE, &path, Value::Null).await;
    refused(&built_in, 409, "client_built_in");

    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let trail = server
        .registry()
        .list_audit_events(query)
        .await
        .unwrap()
        .items;
    for action in [
        "client.added",
        "client.changed",
        "client.secret_rotated",
        "client.removed",
    ] {
        let of = |one: &&keywright_registry::AuditEvent| {
            one.action == action && one.target_id == "machine"
        };
        let event = trail
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("no {action}"));
        assert!(event.actor.starts_with("key:"), "{}", event.actor);
    }
}

#[tokio::test]
async fn s31_s60_what_a_client_holds_ends_with_it() {
    for (step, body, gone) in [
        ("/disable", json!({}), true),
        ("/revoke-tokens", json!({}), false),
        ("/rotate-secret", json!({ "compromised": true }), true),
        ("", Value::Null, true),
    ] {
        let server = TestServer::start().await;
        let mut root = root(&server).await;
        let secret = added(&mut root).await;
        let user = server.add_user("ann@example.org", &[]).await;
        let mut browser = server.sign_in_as(&user).await;
        let wish = [("client_id", "machine"), ("scope", "openid offline_access")];
        let code = testing::code(&mut browser, &wish).await;
        let tokens = redeem(&server, &secret, &code).await;
        assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
        let (access, family) = (
            text(&tokens, "access_token"),
            text(&tokens, "refresh_token"),
        );
        let waiting = testing::code(&mut browser, &wish).await;
        let mine = text(&own(&server, &secret).await, "access_token");
        assert_eq!(keys_by(&server, &mine).await, StatusCode::OK);
        assert_eq!(
            testing::userinfo(&server, &access).await.status,
            StatusCode::OK
        );

        let method = if step.is_empty() {
            Method::DELETE
        } else {
            Method::POST
        };
        let done = root.send(method, &at("machine", step), body).await;
        assert!(done.status.is_success(), "{step} {}", done.text);
        let now = match step {
            "/rotate-secret" => text(&done, "client_secret"),
            "/disable" | "/revoke-tokens" => {
                assert_eq!(done.json()["grants_revoked"], 1, "{step}");
                secret.clone()
            }
            _ => secret.clone(),
        };
        // Live access tokens, the client's own and a person's; the family; a code that waits.
        assert_eq!(
            keys_by(&server, &mine).await,
            StatusCode::UNAUTHORIZED,
            "{step}"
        );
        let user_info = testing::userinfo(&server, &access).await;
        assert_eq!(user_info.status, StatusCode::UNAUTHORIZED, "{step}");
        assert!(
            !refresh(&server, &now, &family).await.status.is_success(),
            "{step}"
        );
        assert!(
            !redeem(&server, &now, &waiting).await.status.is_success(),
            "{step}"
        );
        assert_eq!(
            own(&server, &secret).await.status.is_success(),
            !gone,
            "{step}"
        );

        // Begun anew, it works; what ended stays so.
        match step {
            "/disable" => {
                let enabled = root
                    .send(Method::POST, &at("machine", "/enable"), Value::Null)
                    .await;
                assert_eq!(enabled.status, StatusCode::NO_CONTENT);
            }
            "" => drop(added(&mut root).await),
            _ => {}
        }
        let again = match step {
            "" => {
                let rotated = json!({ "overlap_ms": 0 });
                let path = at("machine", "/rotate-secret");
                text(
                    &root.send(Method::POST, &path, rotated).await,
                    "client_secret",
                )
            }
            _ => now,
        };
        let fresh = text(&own(&server, &again).await, "access_token");
        assert_eq!(keys_by(&server, &fresh).await, StatusCode::OK, "{step}");
        assert_eq!(
            keys_by(&server, &mine).await,
            StatusCode::UNAUTHORIZED,
            "{step}"
        );
        assert!(
            !refresh(&server, &again, &family).await.status.is_success(),
            "{step}"
        );
    }
}

#[tokio::test]
async fn a_secret_works_on_for_its_overlap_and_then_no_more() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let first = added(&mut root).await;
    let path = at("machine", "/rotate-secret");
    let second = root.send(Method::POST, &path, json!({})).await;
    let second = text(&second, "client_secret");
    for secret in [&first, &second] {
        assert_eq!(own(&server, secret).await.status, StatusCode::OK);
    }
    let read = fine(
        &root
            .send(Method::GET, &at("machine", ""), Value::Null)
            .await,
    );
    let until = read["secrets"][1]["expires_at"].as_i64().unwrap();
    assert_eq!(until, crate::test_support::START + DAY_MS);
    server.pass(DAY_MS);
    assert_eq!(own(&server, &first).await.status, StatusCode::UNAUTHORIZED);
    let third = root
        .send(Method::POST, &path, json!({ "overlap_ms": 0 }))
        .await;
    let third = text(&third, "client_secret");
    assert_eq!(own(&server, &second).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(own(&server, &third).await.status, StatusCode::OK);
    for bad in [
        json!({ "overlap_ms": -1 }),
        json!({ "overlap_ms": 31 * DAY_MS }),
        json!({ "overlap_ms": 1, "compromised": true }),
    ] {
        refused(
            &root.send(Method::POST, &path, bad).await,
            400,
            "invalid_overlap",
        );
    }
    server.add_client("public", None, |_| {}).await;
    let public = root
        .send(Method::POST, &at("public", "/rotate-secret"), json!({}))
        .await;
    refused(&public, 400, "invalid_client_metadata");
}

#[tokio::test]
async fn nobody_takes_over_a_client_that_may_do_more_than_they() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let secret = added(&mut root).await;
    let mut little = narrow(&server, &mut root, &["clients:read", "clients:write"]).await;
    let mut new = machine();
    new["client_id"] = json!("mine");
    refused(
        &little.send(Method::POST, LIST, new.clone()).await,
        403,
        "exceeds_own_permissions",
    );
    new["scope"] = json!("openid offline_access");
    let made = little.send(Method::POST, LIST, new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    // Not by what it may become, nor by its secret, nor by its addresses.
    let more = json!({ "scope": "openid keys:read" });
    let answer = little.send(Method::PATCH, &at("mine", ""), more).await;
    refused(&answer, 403, "exceeds_own_permissions");
    let less = json!({ "scope": "openid", "redirect_uris": ["https://evil.example.com/"] });
    let answer = little.send(Method::PATCH, &at("machine", ""), less).await;
    refused(&answer, 403, "exceeds_own_permissions");
    let path = at("machine", "/rotate-secret");
    let answer = little
        .send(Method::POST, &path, json!({ "compromised": true }))
        .await;
    refused(&answer, 403, "exceeds_own_permissions");
    // Nor by making one of the same name: whoever removes it could, and be it for other services.
    let path = at("machine", "");
    let removed = little.send(Method::DELETE, &path, Value::Null);
    refused(&removed.await, 403, "exceeds_own_permissions");
    assert_eq!(
        own(&server, &secret).await.status,
        StatusCode::OK,
        "nothing happened"
    );
    // What it may ask for decides, so its own it removes.
    let path = at("mine", "");
    let removed = little.send(Method::DELETE, &path, Value::Null);
    assert_eq!(removed.await.status, StatusCode::NO_CONTENT);
    // Taking away is no taking over; giving back is.
    let answer = little
        .send(Method::POST, &at("machine", "/disable"), Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let answer = little
        .send(Method::POST, &at("machine", "/enable"), Value::Null)
        .await;
    refused(&answer, 403, "exceeds_own_permissions");

    // A person is no different, and their refusal is written down.
    let admin = server.add_user("admin@example.org", &["admin"]).await;
    let mut admin = server.sign_in_as(&admin).await;
    let mut wish = machine();
    wish["client_id"] = json!("theirs");
    let answer = admin.json(Method::POST, LIST, &wish).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    wish["client_id"] = json!("more");
    wish["scope"] = json!("roles:write");
    refused(
        &admin.json(Method::POST, LIST, &wish).await,
        403,
        "exceeds_own_permissions",
    );
}

#[tokio::test]
async fn registration_tokens_are_made_listed_and_ended() {
    const TOKENS: &str = "/api/v1/registration-tokens";
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let wish = json!({ "note": "the build", "max_uses": 2, "expires_in_days": 3 });
    let made = root.send(Method::POST, TOKENS, wish).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let token = text(&made, "token");
    assert!(token.starts_with("kw_reg_"));
    let mut program = Program {
        browser: server.browser(),
        key: token.clone(),
    };
    let body = json!({ "redirect_uris": ["https://robot.example.com/callback"] });
    let client = program
        .send(Method::POST, "/oauth2/register", body.clone())
        .await;
    assert_eq!(client.status, StatusCode::CREATED, "{}", client.text);
    let list = fine(&root.send(Method::GET, TOKENS, Value::Null).await);
    let one = &list["items"][0];
    assert_eq!((&one["uses"], &one["max_uses"]), (&json!(1), &json!(2)));
    assert_eq!(one["note"], "the build");
    assert!(!list.to_string().contains(&token));
    let path = at(&text(&client, "client_id"), "");
    let client = fine(&root.send(Method::GET, &path, Value::Null).await);
    assert_eq!(client["registered_by"], one["id"]);
    let path = format!("{TOKENS}/{}", one["id"].as_str().unwrap());
    let ended = root.send(Method::DELETE, &path, Value::Null).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    let refusal = program.send(Method::POST, "/oauth2/register", body).await;
    assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
    let none = root
        .send(Method::DELETE, &format!("{TOKENS}/none"), Value::Null)
        .await;
    refused(&none, 404, "registration_token_not_found");
    for (wish, code) in [
        (json!({ "max_uses": 0 }), "invalid_max_uses"),
        (json!({ "expires_in_days": 31 }), "invalid_lifetime"),
        (json!({ "note": "x".repeat(201) }), "note_too_long"),
    ] {
        refused(&root.send(Method::POST, TOKENS, wish).await, 400, code);
    }
}

#[tokio::test]
async fn c_11_a_secret_that_somebody_chose_is_checked_slowly_once() {
    use std::sync::atomic::Ordering;

    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let new = super::ClientChanges {
        redirect_uris: Some(vec!["http://127.0.0.1/callback".to_owned()]),
        grant_types: Some(vec!["client_credentials".to_owned()]),
        scope: Some("keys:read".to_owned()),
        ..super::ClientChanges::default()
    };
    let new = new.into_new("machine").unwrap();
    assert_eq!(new.scopes, OAuthScopes::parse("keys:read").unwrap());
    let chosen = SecretText::new("correct horse battery staple".to_owned());
    let passwords = &server.server.app().passwords;
    let hash = passwords.hash(&chosen).await.unwrap();
    let shown = hash.expose().to_owned();
    let actor = Actor::person("test");
    let secret = Some(NewClientSecret::Chosen(hash));
    let registry = server.registry();
    registry
        .add_client_with(&actor, "machine", &new, secret)
        .await
        .unwrap();
    let checked = || passwords.verified.load(Ordering::Relaxed);
    let before = checked();
    for _ in 0..3 {
        let answer = own(&server, chosen.expose()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    assert_eq!(checked() - before, 1, "it is remembered");
    // A wrong one is none, nor is what is stored of it.
    for wrong in ["correct horse battery stapler", shown.as_str()] {
        assert_eq!(own(&server, wrong).await.status, StatusCode::UNAUTHORIZED);
    }
    // What is remembered of a secret ends with it.
    let path = at("machine", "/rotate-secret");
    let next = root
        .send(Method::POST, &path, json!({ "overlap_ms": 0 }))
        .await;
    let next = text(&next, "client_secret");
    let late = own(&server, chosen.expose()).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
    assert_eq!(own(&server, &next).await.status, StatusCode::OK);
}

#[tokio::test]
async fn s60_a_registration_token_ends_with_the_root_key_that_made_it() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    for name in ["clients:read", "clients:write"] {
        let defined = root.send(Method::PUT, "/api/v1/scopes", json!({ "name": name }));
        fine(&defined.await);
    }
    let scopes = ["clients:read", "clients:write"];
    let wish = json!({ "name": "Narrow", "prefix": "kw_root", "scopes": scopes });
    let issued = root.issue(wish).await;
    let mut small = Program {
        browser: server.browser(),
        key: issued["secret"].as_str().unwrap().to_owned(),
    };
    let wish = json!({ "max_uses": 9 });
    let made = small.send(Method::POST, "/api/v1/registration-tokens", wish);
    let token = fine(&made.await)["token"].as_str().unwrap().to_owned();
    let register = async || {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", bearer.as_str()),
        ];
        let body = json!({ "redirect_uris": ["https://app.example.org/callback"] }).to_string();
        let mut browser = server.browser();
        let sent = browser.send(Method::POST, "/oauth2/register", &headers, body.into());
        sent.await
    };
    assert_eq!(register().await.status, StatusCode::CREATED);
    let path = format!(
        "/api/v1/keys/{}/revoke",
        issued["key"]["id"].as_str().unwrap()
    );
    fine(&root.send(Method::POST, &path, json!({})).await);
    let refused = register().await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.text);
}
