//! The key service on a real registry, without a socket.

mod addresses;
mod gateways;
mod held;
mod limited;
mod once;
mod owners;
mod receipts;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use keywright_domain::people::OAuthScopes;
use serde_json::{Value, json};

use crate::oauth2::dpop::tests::ClientKey;
use crate::oauth2::testing;
use crate::test_support::{Answer, Browser, TestServer};

/// Whoever sends a key in a header.
pub(crate) struct Program {
    pub(crate) browser: Browser,
    pub(crate) key: String,
}

impl Program {
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Value) -> Answer {
        self.send_with(method, path, body, &[]).await
    }

    pub(crate) async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        body: Value,
        more: &[(&str, &str)],
    ) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend_from_slice(more);
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                headers.push(("content-type", "application/json"));
                Body::from(body.to_string())
            }
        };
        self.browser.send(method, path, &headers, body).await
    }

    pub(crate) async fn issue(&mut self, body: Value) -> Value {
        let answer = self.send(Method::POST, "/api/v1/keys", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()
    }
}

pub(crate) async fn root(server: &TestServer) -> Program {
    let mut root = Program {
        browser: server.browser(),
        key: server.root_key.expose().to_owned(),
    };
    for name in ["orders:read", "orders:write"] {
        let scope = json!({ "name": name, "low_risk": name == "orders:read" });
        let answer = root.send(Method::PUT, "/api/v1/scopes", scope).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    root
}

fn with_key(key: &str) -> [(&str, &str); 1] {
    [("x-api-key", key)]
}

async fn ask(browser: &mut Browser, path: &str, headers: &[(&str, &str)]) -> Answer {
    browser
        .send(Method::GET, path, headers, Body::empty())
        .await
}

pub(crate) fn wish() -> Value {
    json!({ "name": "Orders", "prefix": "sk_live", "scopes": ["orders:read"] })
}

#[tokio::test]
async fn ac_120_ac_122_a_key_is_issued_and_its_secret_shown_once() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let secret = issued["secret"].as_str().unwrap();
    assert!(
        secret.starts_with("sk_live_") && secret.len() == 64,
        "{secret}"
    );
    let id = issued["key"]["id"].as_str().unwrap();
    let path = format!("/api/v1/keys/{id}");
    let read = root.send(Method::GET, &path, Value::Null).await;
    assert_eq!(read.status, StatusCode::OK);
    assert!(
        !read.text.contains(&secret[20..]),
        "the secret is shown again"
    );
    assert_eq!(read.json()["secrets"][0]["last_four"], secret[60..]);
    let list = root
        .send(Method::GET, "/api/v1/keys?text=Orders", Value::Null)
        .await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 1);
    assert!(!list.text.contains(&secret[20..]));
    // A secret that the client made never comes back, and its text never came here.
    let digest = "ab".repeat(32);
    let mut wish = wish();
    wish["client_secret"] = json!({ "kid": "7Hq2mXw4KdPz", "last_four": "abcd", "digest": digest });
    let own = root.issue(wish).await;
    assert!(own.get("secret").is_none(), "{own}");
}

#[tokio::test]
async fn ac_123_ac_126_ac_127_ac_129_verification_in_headers_only() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let mut browser = server.browser();
    let bearer = format!("Bearer {key}");
    let accepted = ask(&mut browser, "/verify", &[("authorization", &bearer)]).await;
    assert_eq!(accepted.status, StatusCode::NO_CONTENT, "{}", accepted.text);
    assert_eq!(accepted.header("x-keywright-key-id"), issued["key"]["id"]);
    assert_eq!(accepted.header("x-keywright-scopes"), "orders:read");
    let plain = ask(&mut browser, "/verify", &with_key(key)).await;
    assert_eq!(plain.status, StatusCode::NO_CONTENT);
    let both = [("authorization", bearer.as_str()), ("x-api-key", key)];
    assert_eq!(
        ask(&mut browser, "/verify", &both).await.status,
        StatusCode::NO_CONTENT
    );
    let different = [("authorization", bearer.as_str()), ("x-api-key", "other")];
    let answer = ask(&mut browser, "/verify", &different).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["code"], "ambiguous_credentials");
    let basic = [("authorization", "Basic eDp5"), ("x-api-key", key)];
    assert_eq!(
        ask(&mut browser, "/verify", &basic).await.status,
        StatusCode::BAD_REQUEST
    );

    let none = ask(&mut browser, "/verify", &[]).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(none.header("www-authenticate"), "Bearer");
    let malformed = ask(&mut browser, "/verify", &with_key("sk_live_nonsense")).await;
    assert_eq!(malformed.json()["code"], "key_malformed");
    // Unknown and wrong: one answer.
    let prefix = keywright_domain::api_keys::Prefix::new("sk_live").unwrap();
    let other = keywright_domain::api_keys::PlainKey::generate(&prefix, &mut rand::rng());
    let unknown = ask(&mut browser, "/verify", &with_key(other.text().expose())).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(unknown.json()["code"], "key_not_found");
    let taken = keywright_domain::api_keys::PlainKey::generate(&prefix, &mut rand::rng());
    let mut same_kid = wish();
    same_kid["client_secret"] =
        json!({ "kid": taken.kid().as_str(), "last_four": "abcd", "digest": "ab".repeat(32) });
    root.issue(same_kid).await;
    let wrong = ask(&mut browser, "/verify", &with_key(taken.text().expose())).await;
    let told = |answer: &Answer| {
        let mut body = answer.json();
        if let Some(fields) = body.as_object_mut() {
            // The kid is what was sent.
            let own = |name: &str| matches!(name, "request_id" | "instance" | "kid");
            fields.retain(|name, _| !own(name));
        }
        let challenge = answer.header("www-authenticate").to_owned();
        (answer.status, challenge, body)
    };
    assert_eq!(told(&wrong), told(&unknown));

    let scope = ask(&mut browser, "/verify?scope=orders:write", &with_key(key)).await;
    assert_eq!(scope.status, StatusCode::FORBIDDEN);
    assert!(
        scope
            .header("www-authenticate")
            .contains("scope=\"orders:write\"")
    );
    assert_eq!(scope.json()["code"], "insufficient_scope");
    let misspelt = ask(&mut browser, "/verify?scopes=orders:write", &with_key(key)).await;
    assert_eq!(misspelt.json()["code"], "unknown_parameter");
    let environment = ask(&mut browser, "/verify?environment=test", &with_key(key)).await;
    assert_eq!(environment.json()["code"], "wrong_environment");
}

#[tokio::test]
async fn ac_124_a_key_in_a_url_is_refused_and_flagged() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let (key, id) = (issued["secret"].as_str().unwrap(), &issued["key"]["id"]);
    let path = format!("/api/v1/keys/{}", id.as_str().unwrap());
    let mut browser = server.browser();
    // One key of 62 ends with it.
    let other = if key.ends_with('0') { "1" } else { "0" };
    let made_up = format!("{}{other}", &key[..key.len() - 1]);
    for uri in [
        format!("/orders?x={made_up}"),
        "/orders?api_key=0123456789abcdef0123".into(),
    ] {
        let answer = ask(&mut browser, "/verify", &[("x-original-uri", &uri)]).await;
        let expected = if uri.contains("api_key") {
            "key_in_url"
        } else {
            "credentials_missing"
        };
        assert_eq!(answer.json()["code"], expected, "{uri}");
    }
    let before = root.send(Method::GET, &path, Value::Null).await.json();
    assert!(before["exposed_at"].is_null());
    let encoded = key.replace('_', "%5F");
    for uri in [
        format!("/orders?page=2&x={key}"),
        format!("/{encoded}/orders"),
    ] {
        let headers = [("x-forwarded-uri", uri.as_str()), ("x-api-key", key)];
        let answer = ask(&mut browser, "/verify", &headers).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert_eq!(answer.json()["code"], "key_in_url");
        assert!(!answer.text.contains(key));
    }
    let after = root.send(Method::GET, &path, Value::Null).await.json();
    assert!(after["exposed_at"].is_i64(), "{after}");
    assert_eq!(
        after["secrets"][0]["use_count"], 0,
        "it was counted as a use"
    );
}

#[tokio::test]
async fn ac_132_a_limit_is_429_with_its_fields() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut wish = wish();
    wish["settings"] =
        json!({ "limits": [{ "name": "requests", "count": 2, "period_ms": 60_000 }] });
    let issued = root.issue(wish).await;
    let key = issued["secret"].as_str().unwrap();
    let mut browser = server.browser();
    for left in ["1", "0"] {
        let answer = ask(&mut browser, "/verify", &with_key(key)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(answer.header("x-ratelimit-remaining"), left);
    }
    let headers = [("x-api-key", key), ("x-forwarded-for", "192.0.2.7")];
    let answer = ask(&mut browser, "/verify", &headers).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.json()["code"], "rate_limited");
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(answer.header("ratelimit"), "\"requests\";r=0;t=60");
    assert_eq!(answer.header("ratelimit-policy"), "\"requests\";q=2;w=60");
    assert_eq!(answer.header("x-ratelimit-limit"), "2");
    assert_eq!(answer.header("x-ratelimit-remaining"), "0");
    server.pass(30_000);
    assert_eq!(
        ask(&mut browser, "/verify", &with_key(key)).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn ac_134_ac_138_rotation_over_http_with_one_idempotency_key() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let (old, id) = (
        issued["secret"].as_str().unwrap().to_owned(),
        issued["key"]["id"].as_str().unwrap().to_owned(),
    );
    let path = format!("/api/v1/keys/{id}/rotations");
    let once = [("idempotency-key", "a-rotation-of-mine")];
    let body = json!({ "clock": "from_issue", "overlap_ms": 60_000 });
    let first = root
        .send_with(Method::POST, &path, body.clone(), &once)
        .await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let new = first.json()["secret"].as_str().unwrap().to_owned();
    let again = root.send_with(Method::POST, &path, body, &once).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    assert!(again.json().get("secret").is_none());
    assert_eq!(again.json()["key"]["secrets"].as_array().unwrap().len(), 2);
    let mut browser = server.browser();
    for key in [&old, &new] {
        assert_eq!(
            ask(&mut browser, "/verify", &with_key(key)).await.status,
            StatusCode::NO_CONTENT
        );
    }
    server.pass(60_001);
    let retired = ask(&mut browser, "/verify", &with_key(&old)).await;
    assert_eq!(retired.json()["code"], "key_retired");
    assert_eq!(
        ask(&mut browser, "/verify", &with_key(&new)).await.status,
        StatusCode::NO_CONTENT
    );
    // Without a body, and then back.
    let second = root.send(Method::POST, &path, Value::Null).await;
    assert_eq!(second.status, StatusCode::CREATED, "{}", second.text);
    let cancel = format!("{path}/current/cancel");
    let stepped = root.send(Method::POST, &cancel, Value::Null).await;
    assert_eq!(
        stepped.json()["rotation"]["state"],
        "cancelled",
        "{}",
        stepped.text
    );
    let list = root.send(Method::GET, &path, Value::Null).await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 2);
    let late = root
        .send(
            Method::POST,
            &format!("{path}/current/roll-back"),
            Value::Null,
        )
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
}

#[tokio::test]
async fn ac_140_revoked_is_refused_at_once_and_twice_is_no_error() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let path = format!("/api/v1/keys/{}", issued["key"]["id"].as_str().unwrap());
    let mut browser = server.browser();
    let disable = root
        .send(
            Method::POST,
            &format!("{path}/disable"),
            json!({ "reason": "away" }),
        )
        .await;
    assert_eq!(disable.json()["state"], "disabled");
    assert_eq!(
        ask(&mut browser, "/verify", &with_key(key)).await.json()["code"],
        "key_disabled"
    );
    root.send(Method::POST, &format!("{path}/enable"), Value::Null)
        .await;
    assert_eq!(
        ask(&mut browser, "/verify", &with_key(key)).await.status,
        StatusCode::NO_CONTENT
    );
    for _ in 0..2 {
        let revoked = root
            .send(Method::POST, &format!("{path}/revoke"), Value::Null)
            .await;
        assert_eq!(revoked.status, StatusCode::OK, "{}", revoked.text);
    }
    assert_eq!(
        ask(&mut browser, "/verify", &with_key(key)).await.json()["code"],
        "key_revoked"
    );
    let enable = root
        .send(Method::POST, &format!("{path}/enable"), Value::Null)
        .await;
    assert_eq!(enable.status, StatusCode::CONFLICT);
    let rotate = root
        .send(Method::POST, &format!("{path}/rotations"), Value::Null)
        .await;
    assert_eq!(rotate.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn ac_130_ac_131_ac_142_what_is_refused_at_issue_says_why() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let cases = [
        (
            json!({ "name": "a", "prefix": "sk_live", "scopes": ["unknown:thing"] }),
            400,
            "unknown_scope",
        ),
        (
            json!({ "name": "a", "prefix": "sk_live", "scopes": [] }),
            400,
            "scope_required",
        ),
        (
            json!({ "name": "", "prefix": "sk_live", "scopes": ["orders:read"] }),
            400,
            "invalid_name",
        ),
        (
            json!({ "name": "a", "prefix": "pk_live", "scopes": ["orders:write"] }),
            400,
            "scope_not_publishable",
        ),
        (
            json!({ "name": "a", "prefix": "sk_live", "scopes": ["orders:read"], "lifetime_ms": 1 }),
            400,
            "policy_violation",
        ),
        (
            json!({ "name": "a", "prefix": "sk_live", "scopes": ["orders:read"], "scope": 1 }),
            400,
            "invalid_body",
        ),
        (
            json!({ "name": "a", "prefix": "sk_live", "scopes": ["orders:read"], "settings": { "networks": ["here"] } }),
            400,
            "invalid_network",
        ),
    ];
    for (body, status, code) in cases {
        let answer = root.send(Method::POST, "/api/v1/keys", body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (status, &json!(code)),
            "{body}"
        );
    }
    // A program with less than everything grants no more than it holds.
    let wish =
        json!({ "name": "Small root", "prefix": "kw_root", "scopes": ["keys:*", "orders:read"] });
    let issued = root.issue(wish).await;
    let mut small = Program {
        browser: server.browser(),
        key: issued["secret"].as_str().unwrap().to_owned(),
    };
    let body = json!({ "name": "a", "prefix": "sk_live", "scopes": ["orders:write"] });
    let answer = small.send(Method::POST, "/api/v1/keys", body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["code"], "scope_exceeds_creator");
    let body = json!({ "name": "a", "prefix": "sk_live", "scopes": ["orders:read"] });
    assert_eq!(
        small.send(Method::POST, "/api/v1/keys", body).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn ac_141_only_root_keys_manage() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    for (prefix, scope) in [("pk_live", "orders:read"), ("sk_live", "orders:read")] {
        let body = json!({ "name": "a", "prefix": prefix, "scopes": [scope] });
        let issued = root.issue(body).await;
        let mut program = Program {
            browser: server.browser(),
            key: issued["secret"].as_str().unwrap().to_owned(),
        };
        let answer = program.send(Method::GET, "/api/v1/keys", Value::Null).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.json()["code"], "key_type_forbidden", "{prefix}");
    }
}

#[test]
fn a_service_of_a_persons_name_is_not_that_person() {
    use keywright_domain::api_keys::{Owner, OwnerKind};

    for (kind, id, is_own) in [
        (OwnerKind::Person, "ada", true),
        (OwnerKind::Person, "bob", false),
        (OwnerKind::Service, "ada", false),
        (OwnerKind::Team, "ada", false),
    ] {
        let owner = Owner::new(kind, id).unwrap();
        assert_eq!(
            super::manager::Manager::owns("ada", &owner),
            is_own,
            "{owner:?}"
        );
    }
}

#[tokio::test]
async fn people_manage_their_own_keys_and_see_nobody_elses() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let other = root.issue(wish()).await;
    let other_path = format!("/api/v1/keys/{}", other["key"]["id"].as_str().unwrap());
    // Somebody without a role that says anything about keys.
    let nobody = server.add_user("dev@example.org", &[]).await;
    let mut browser = server.sign_in_as(&nobody).await;
    let list = browser.get("/api/v1/keys").await;
    assert_eq!(list.status, StatusCode::OK, "{}", list.text);
    assert_eq!(list.json()["items"], json!([]));
    assert_eq!(browser.get(&other_path).await.status, StatusCode::NOT_FOUND);
    let revoke = browser
        .json(Method::POST, &format!("{other_path}/revoke"), &json!({}))
        .await;
    assert_eq!(revoke.status, StatusCode::NOT_FOUND);
    // They hold no scope, so they can grant none.
    let answer = browser.json(Method::POST, "/api/v1/keys", &wish()).await;
    assert_eq!(
        answer.json()["code"],
        "scope_exceeds_creator",
        "{}",
        answer.text
    );
    // A member may read all keys and change none of others.
    let member = server.add_user("member@example.org", &["member"]).await;
    let mut browser = server.sign_in_as(&member).await;
    assert_eq!(browser.get(&other_path).await.status, StatusCode::OK);
    let revoke = browser
        .json(Method::POST, &format!("{other_path}/revoke"), &json!({}))
        .await;
    assert_eq!(revoke.status, StatusCode::FORBIDDEN);
    let own = json!({ "name": "Mine", "prefix": "sk_test", "scopes": ["keys:read"] });
    let issued = browser.json(Method::POST, "/api/v1/keys", &own).await;
    assert_eq!(issued.status, StatusCode::CREATED, "{}", issued.text);
    assert_eq!(issued.json()["key"]["owner"]["id"], member.id);
    let path = format!(
        "/api/v1/keys/{}/revoke",
        issued.json()["key"]["id"].as_str().unwrap()
    );
    assert_eq!(
        browser.json(Method::POST, &path, &json!({})).await.status,
        StatusCode::OK
    );
    // For somebody else they may not.
    let mut body = own.clone();
    body["owner"] = json!({ "kind": "person", "id": nobody.id });
    let answer = browser.json(Method::POST, "/api/v1/keys", &body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let mut body = own;
    body["prefix"] = json!("kw_root");
    let answer = browser.json(Method::POST, "/api/v1/keys", &body).await;
    assert_eq!(
        answer.status,
        StatusCode::FORBIDDEN,
        "a member made a root key"
    );
}

#[tokio::test]
async fn ac_105_a_session_and_a_key_together_are_refused() {
    let server = TestServer::start().await;
    let owner = server.add_user("two@example.org", &["owner"]).await;
    let mut browser = server.sign_in_as(&owner).await;
    let key = server.root_key.expose().to_owned();
    let answer = ask(&mut browser, "/api/v1/keys", &with_key(&key)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["code"], "ambiguous_credentials");
    let nothing = server.browser().get("/api/v1/keys").await;
    assert_eq!(nothing.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn changes_are_made_on_what_was_seen() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let path = format!("/api/v1/keys/{}", issued["key"]["id"].as_str().unwrap());
    let tag = root
        .send(Method::GET, &path, Value::Null)
        .await
        .header("etag")
        .to_owned();
    let body = json!({ "name": "Other", "settings": { "tags": ["team"] } });
    let seen = [("if-match", tag.as_str())];
    let changed = root
        .send_with(Method::PATCH, &path, body.clone(), &seen)
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!(changed.json()["settings"]["tags"], json!(["team"]));
    let late = root.send_with(Method::PATCH, &path, body, &seen).await;
    assert_eq!(
        late.status,
        StatusCode::PRECONDITION_FAILED,
        "{}",
        late.text
    );
    assert_eq!(late.json()["code"], "changed_meanwhile");
}

#[tokio::test]
async fn verifying_one_and_many_needs_a_permission() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let one = json!({ "key": key, "requirement": "orders:read and not_a" });
    let answer = root.send(Method::POST, "/api/v1/keys/verify", one).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    let one = json!({ "key": key, "requirement": "orders:read or orders:write" });
    let answer = root.send(Method::POST, "/api/v1/keys/verify", one).await;
    assert_eq!(
        (&answer.json()["valid"], &answer.json()["code"]),
        (&json!(true), &json!("valid"))
    );
    let many = json!({ "keys": [{ "key": key }, { "key": "x" }, { "key": key, "requirement": "orders:write" }] });
    let answer = root
        .send(Method::POST, "/api/v1/keys/verify", many)
        .await
        .json();
    let codes: Vec<_> = (0..3)
        .map(|at| answer["results"][at]["code"].clone())
        .collect();
    assert_eq!(
        codes,
        [
            json!("valid"),
            json!("malformed"),
            json!("insufficient_scope")
        ]
    );
    let too_many = json!({ "keys": vec![json!({ "key": "x" }); 101] });
    let answer = root
        .send(Method::POST, "/api/v1/keys/verify", too_many)
        .await;
    assert_eq!(answer.json()["code"], "too_many_keys");
    let nobody = server.add_user("dev@example.org", &[]).await;
    let mut browser = server.sign_in_as(&nobody).await;
    let answer = browser
        .json(Method::POST, "/api/v1/keys/verify", &json!({ "key": key }))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn ac_125_a_key_counts_in_no_other_place() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let key = issued["secret"].as_str().unwrap();
    let mut browser = server.browser();
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let form = Body::from(format!("api_key={key}&access_token={key}"));
    let answer = browser.send(Method::POST, "/verify", &[kind], form).await;
    assert_eq!(answer.json()["code"], "credentials_missing", "in a form");
    browser.cookies.push(("api_key".into(), key.into()));
    let answer = ask(&mut browser, "/verify", &[]).await;
    assert_eq!(answer.json()["code"], "credentials_missing", "in a cookie");
    browser.cookies.clear();
    for uri in [format!("/verify/{key}"), format!("/verify?key={key}")] {
        let answer = ask(&mut browser, &uri, &with_key(key)).await;
        assert_eq!(answer.json()["code"], "key_in_url");
    }
    // What stands behind “#” is the browser's: a request line that has it all the same is read without, and
    // the key is no key of that request.
    let uri = format!("/verify#access_token={key}");
    let answer = ask(&mut browser, &uri, &[]).await;
    assert_eq!(answer.json()["code"], "credentials_missing", "a fragment");
    assert!(!answer.text.contains(key));
    // But what a gateway tells of an address is looked at whole.
    for name in ["x-original-uri", "x-forwarded-uri", "x-envoy-original-path"] {
        let issued = root.issue(wish()).await;
        let key = issued["secret"].as_str().unwrap();
        let encoded = key.replace('_', "%5F");
        let id = issued["key"]["id"].as_str().unwrap();
        for uri in [
            format!("/orders#access_token={key}"),
            format!("/orders?page=2#{encoded}"),
        ] {
            let headers = [(name, uri.as_str()), ("x-api-key", key)];
            let answer = ask(&mut browser, "/verify", &headers).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {uri}");
            assert_eq!(answer.json()["code"], "key_in_url", "{name}: {uri}");
            assert!(!answer.text.contains(key));
        }
        let path = format!("/api/v1/keys/{id}");
        let flagged = root.send(Method::GET, &path, Value::Null).await.json();
        assert!(flagged["exposed_at"].is_i64(), "{name}: {flagged}");
    }
}

#[tokio::test]
async fn a_disabled_client_manages_nothing_with_the_token_it_has() {
    let server = TestServer::start().await;
    let secret = "secret-of-the-machine";
    server
        .add_client("machine", Some(secret), |new| {
            new.grant_types = vec!["client_credentials".into()];
            new.scopes = OAuthScopes::parse("keys:read").unwrap();
        })
        .await;
    let basic = testing::basic("machine", secret);
    let form = "grant_type=client_credentials".to_owned();
    let answer = testing::token_request(&server, &[("authorization", &basic)], form).await;
    let mut machine = Program {
        browser: server.browser(),
        key: testing::text(&answer, "access_token"),
    };
    let allowed = machine.send(Method::GET, "/api/v1/keys", Value::Null).await;
    assert_eq!(allowed.status, StatusCode::OK, "{}", allowed.text);
    let (registry, actor) = (server.registry(), Actor::person("test"));
    registry.disable_client(&actor, "machine").await.unwrap();
    let refused = machine.send(Method::GET, "/api/v1/keys", Value::Null).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.text);
    assert_eq!(refused.json()["code"], "token_revoked");
    registry.enable_client(&actor, "machine").await.unwrap();
    let allowed = machine.send(Method::GET, "/api/v1/keys", Value::Null).await;
    assert_eq!(allowed.status, StatusCode::OK, "{}", allowed.text);
}

#[tokio::test]
async fn s58_bound_tokens_manage_keys_each_with_a_proof_of_its_own() {
    const KEYS: &str = "/api/v1/keys";
    let server = TestServer::start().await;
    let secret = "secret-of-the-machine";
    server
        .add_client("machine", Some(secret), |new| {
            new.grant_types = vec!["client_credentials".into()];
            new.scopes = OAuthScopes::parse("keys:read").unwrap();
            new.require_dpop = true;
        })
        .await;
    let key = ClientKey::new();
    let basic = testing::basic("machine", secret);
    let proof = key.proof("t", "POST", "/oauth2/token", None);
    let headers = [("authorization", basic.as_str()), ("dpop", proof.as_str())];
    let form = "grant_type=client_credentials".to_owned();
    let answer = testing::token_request(&server, &headers, form).await;
    assert_eq!(answer.json()["token_type"], "DPoP", "{}", answer.text);
    let own = testing::text(&answer, "access_token");
    // A person's, of a public client.
    server
        .add_client("app", None, |new| {
            new.scopes = OAuthScopes::parse("openid keys:read").unwrap();
        })
        .await;
    let ann = server.add_user("ann@example.org", &[]).await;
    let mut browser = server.sign_in_as(&ann).await;
    let code = testing::code(&mut browser, &[("scope", "openid keys:read")]).await;
    let form = format!(
        "grant_type=authorization_code&client_id=app&code={code}&redirect_uri={}&code_verifier={}",
        testing::REDIRECT,
        testing::VERIFIER
    );
    let proof = key.proof("t2", "POST", "/oauth2/token", None);
    let answer = testing::token_request(&server, &[("dpop", &proof)], form).await;
    let persons = testing::text(&answer, "access_token");
    for (jti, token) in [("k1", own), ("k2", persons)] {
        let bound = format!("DPoP {token}");
        let proof = key.proof(jti, "GET", KEYS, Some(&token));
        let with = [("authorization", bound.as_str()), ("dpop", proof.as_str())];
        let allowed = ask(&mut server.browser(), KEYS, &with).await;
        assert_eq!(allowed.status, StatusCode::OK, "{jti} {}", allowed.text);
        let again = ask(&mut server.browser(), KEYS, &with).await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED, "{jti} a used proof");
        for scheme in ["DPoP", "Bearer"] {
            let alone = format!("{scheme} {token}");
            let alone = [("authorization", alone.as_str())];
            let refused = ask(&mut server.browser(), KEYS, &alone).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{jti} {scheme}");
        }
        let proof = key.proof(&format!("{jti} b"), "GET", KEYS, Some(&token));
        let with = [("authorization", bound.as_str()), ("dpop", proof.as_str())];
        let both = ask(&mut browser, KEYS, &with).await;
        assert_eq!(both.json()["code"], "ambiguous_credentials", "{jti}");
    }
    // A key is no bound token.
    let bound = format!("DPoP {}", server.root_key.expose());
    let refused = ask(&mut server.browser(), KEYS, &[("authorization", &bound)]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}
