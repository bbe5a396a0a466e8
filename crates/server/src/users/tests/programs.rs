//! Keys and clients that manage people: as far as their scopes go, and not a step further.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::people::OAuthScopes;
use keywright_registry::AuditQuery;
use serde_json::{Value, json};

use super::{owner, refused, signed_in};
use crate::keys::tests::{Program, root};
use crate::oauth2::testing::{basic, text, token_request};
use crate::test_support::TestServer;

/// All that an administrator may do with people and providers, and what a member may do.
const ADMIN: [&str; 11] = [
    "users:read",
    "users:write",
    "roles:read",
    "roles:write",
    "providers:read",
    "providers:write",
    "sessions:read",
    "sessions:write",
    "keys:read",
    "keys:verify",
    "scopes:read",
];
const EXCEEDS: &str = "exceeds_own_permissions";
const ABOVE: &str = "person_may_do_more";

/// A root key with these scopes, and its id.
async fn key(server: &TestServer, root: &mut Program, scopes: &[&str]) -> (Program, String) {
    for name in scopes.iter().filter(|name| !name.contains('*')) {
        let scope = json!({ "name": name });
        let known = root.send(Method::PUT, "/api/v1/scopes", scope).await;
        assert_eq!(known.status, StatusCode::OK, "{}", known.text);
    }
    let wish = json!({ "name": "HR", "prefix": "kw_root", "scopes": scopes });
    let issued = root.issue(wish).await;
    let program = Program {
        browser: server.browser(),
        key: issued["secret"].as_str().unwrap().to_owned(),
    };
    (program, issued["key"]["id"].as_str().unwrap().to_owned())
}

/// A client's own token for these scopes.
async fn client(server: &TestServer, scopes: &[&str]) -> Program {
    let scopes = scopes.join(" ");
    server
        .add_client("machine", Some("secret-of-the-machine"), |new| {
            new.grant_types = vec!["client_credentials".into()];
            new.scopes = OAuthScopes::parse(&scopes).unwrap();
        })
        .await;
    let authorization = basic("machine", "secret-of-the-machine");
    let headers = [("authorization", authorization.as_str())];
    let form = "grant_type=client_credentials".to_owned();
    let answer = token_request(server, &headers, form).await;
    Program {
        browser: server.browser(),
        key: text(&answer, "access_token"),
    }
}

async fn get(program: &mut Program, path: &str) -> crate::test_support::Answer {
    program.send(Method::GET, path, Value::Null).await
}

/// Who did what, newest first.
async fn trail(server: &TestServer) -> Vec<(String, String)> {
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    let page = server.registry().list_audit_events(query).await.unwrap();
    let events = page.items.into_iter();
    events.map(|event| (event.action, event.actor)).collect()
}

#[tokio::test]
async fn a_root_key_does_with_people_what_its_scopes_say_and_the_trail_names_it() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let (mut hr, id) = key(&server, &mut root, &ADMIN).await;
    let (mut reader, _) = key(&server, &mut root, &["users:read"]).await;

    let body = json!({ "name": "Ada", "email": "ada@example.org", "roles": ["member"] });
    let made = hr.send(Method::POST, "/api/v1/users", body.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let ada = format!("/api/v1/users/{}", made.json()["id"].as_str().unwrap());
    let shown = get(&mut reader, &ada).await;
    assert_eq!(shown.json()["email"], "ada@example.org", "{}", shown.text);
    refused(
        &reader.send(Method::DELETE, &ada, Value::Null).await,
        403,
        "insufficient_scope",
    );
    refused(
        &get(&mut reader, "/api/v1/roles").await,
        403,
        "insufficient_scope",
    );
    let disable = format!("{ada}/disable");
    let disabled = hr.send(Method::POST, &disable, json!({})).await;
    assert!(disabled.json()["disabled_at"].is_i64(), "{}", disabled.text);
    let over = format!("{ada}/sessions/revoke-all");
    let over = hr.send(Method::POST, &over, Value::Null).await;
    assert_eq!(over.status, StatusCode::OK, "{}", over.text);
    let gone = hr.send(Method::DELETE, &ada, Value::Null).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text);

    let trail = trail(&server).await;
    let by = format!("key:{id}");
    for action in ["user.created", "user.disabled", "user.deleted"] {
        let event = (action.to_owned(), by.clone());
        assert!(trail.contains(&event), "{action} of {by} in {trail:?}");
    }
    let refusals = trail
        .iter()
        .filter(|(action, actor)| action == "user.access_refused" && actor.starts_with("key:"));
    assert_eq!(refusals.count(), 2, "{trail:?}");

    // No key has an account, and a session beside a key is no way to choose.
    refused(
        &get(&mut hr, "/api/v1/sessions").await,
        401,
        "wrong_token_use",
    );
    let (_, mut boss) = owner(&server).await;
    let headers = [("x-api-key", hr.key.as_str())];
    let both = boss
        .send(Method::GET, "/api/v1/users", &headers, Body::empty())
        .await;
    refused(&both, 400, "ambiguous_credentials");
}

#[tokio::test]
async fn ac_131_a_key_or_a_client_gives_and_takes_over_nothing_that_it_does_not_hold() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let (boss, _) = owner(&server).await;
    let boss = format!("/api/v1/users/{boss}");
    let mia = server.add_user("mia@example.org", &["member"]).await;
    let mia = format!("/api/v1/users/{}", mia.id);
    let boss_before = get(&mut root, &boss).await.json();
    let programs = [
        key(&server, &mut root, &ADMIN).await.0,
        client(&server, &ADMIN).await,
    ];
    let all = json!({ "permissions": ["*:*"] });
    let defined = root
        .send(Method::PUT, "/api/v1/roles/all", all.clone())
        .await;
    assert_eq!(defined.status, StatusCode::OK, "{}", defined.text);
    let owners = json!({ "roles": ["owner"] });
    let provider = json!({
        "kind": "openid", "issuer": "https://id.example.com", "client_id": "c", "trusts_email": true,
    });
    let few = json!({ "permissions": ["keys:read"] });
    for mut program in programs {
        for (method, path, body, code) in [
            // Itself or somebody made an owner, by each way.
            (
                "POST",
                "/api/v1/users".to_owned(),
                json!({ "name": "x", "roles": ["owner"] }),
                EXCEEDS,
            ),
            (
                "POST",
                "/api/v1/invitations".to_owned(),
                json!({ "email": "x@example.org", "roles": ["owner"] }),
                EXCEEDS,
            ),
            ("PUT", format!("{mia}/roles"), owners.clone(), EXCEEDS),
            ("PUT", "/api/v1/roles/more".to_owned(), all.clone(), EXCEEDS),
            ("PUT", "/api/v1/roles/all".to_owned(), few.clone(), EXCEEDS),
            // Whoever answers for identities answers for the owner's.
            (
                "PUT",
                "/api/v1/identity-providers/evil".to_owned(),
                provider.clone(),
                EXCEEDS,
            ),
            // The owner taken over, or shut out.
            (
                "PATCH",
                boss.clone(),
                json!({ "email": "x@example.org" }),
                ABOVE,
            ),
            ("POST", format!("{boss}/password-reset"), json!({}), ABOVE),
            ("POST", format!("{boss}/disable"), json!({}), ABOVE),
            ("POST", format!("{boss}/enable"), Value::Null, ABOVE),
            ("DELETE", boss.clone(), Value::Null, ABOVE),
            (
                "PUT",
                format!("{boss}/roles"),
                json!({ "roles": ["member"] }),
                ABOVE,
            ),
        ] {
            let method: Method = method.parse().unwrap();
            let answer = program.send(method, &path, body).await;
            refused(&answer, 403, code);
        }
        // What it holds, it gives.
        let member = json!({ "roles": ["member"] });
        let given = program
            .send(Method::PUT, &format!("{mia}/roles"), member)
            .await;
        assert_eq!(given.status, StatusCode::OK, "{}", given.text);
        let known = program
            .send(Method::PUT, "/api/v1/roles/reader", few.clone())
            .await;
        assert_eq!(known.status, StatusCode::OK, "{}", known.text);
    }
    assert_eq!(get(&mut root, &boss).await.json(), boss_before);
    let roles = get(&mut root, &format!("{mia}/roles")).await;
    assert_eq!(roles.json()["roles"], json!(["member"]));
    let providers = get(&mut root, "/api/v1/identity-providers").await;
    assert_eq!(providers.json()["items"], json!([]));

    // A key that may do everything does it as an owner does.
    let path = "/api/v1/identity-providers/good";
    let put = root.send(Method::PUT, path, provider).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let path = format!("{mia}/roles");
    let given = root.send(Method::PUT, &path, owners).await;
    assert_eq!(given.json()["roles"], json!(["owner"]), "{}", given.text);
    // And it does not leave the installation without an owner.
    let member = json!({ "roles": ["member"] });
    let taken = root.send(Method::PUT, &path, member.clone()).await;
    assert_eq!(taken.status, StatusCode::OK, "{}", taken.text);
    let path = format!("{boss}/roles");
    refused(
        &root.send(Method::PUT, &path, member).await,
        409,
        "last_owner",
    );
}

#[tokio::test]
async fn what_a_key_gave_is_good_as_long_as_the_key_could_give_it() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mia = server.add_user("mia@example.org", &["member"]).await;
    let reset = format!("/api/v1/users/{}/password-reset", mia.id);
    for end in ["revoke", "narrow"] {
        let (mut hr, id) = key(&server, &mut root, &ADMIN).await;
        let body = json!({ "email": format!("{end}@example.org"), "roles": ["member"] });
        let invited = hr.send(Method::POST, "/api/v1/invitations", body).await;
        assert_eq!(invited.status, StatusCode::CREATED, "{}", invited.text);
        assert_eq!(
            invited.json()["invitation"]["invited_by"],
            format!("key:{id}")
        );
        let reset = hr.send(Method::POST, &reset, json!({})).await;
        assert_eq!(reset.status, StatusCode::CREATED, "{}", reset.text);
        let links = [&invited, &reset].map(|answer| {
            let link = answer.json()["link"].as_str().unwrap().to_owned();
            link.replace("http://127.0.0.1:8377", "")
        });
        let mut browser = server.browser();
        for link in &links {
            assert_eq!(browser.get(link).await.status, StatusCode::OK, "{link}");
        }
        let path = format!("/api/v1/keys/{id}");
        let ended = match end {
            "revoke" => {
                let path = format!("{path}/revoke");
                root.send(Method::POST, &path, json!({})).await
            }
            _ => {
                let change = json!({ "scopes": ["users:read"] });
                root.send(Method::PATCH, &path, change).await
            }
        };
        assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
        for link in &links {
            let answer = browser.get(link).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{end}: {link}");
        }
    }
}

#[tokio::test]
async fn ac_131_a_person_puts_an_identity_provider_only_who_may_do_everything() {
    let server = TestServer::start().await;
    let path = "/api/v1/identity-providers/evil";
    let provider = json!({
        "kind": "openid", "issuer": "https://id.example.com", "client_id": "c", "trusts_email": true,
    });
    let (_, mut adam) = signed_in(&server, "adam@example.org", "admin").await;
    let answer = adam.json(Method::PUT, path, &provider).await;
    refused(&answer, 403, EXCEEDS);
    let (_, mut boss) = owner(&server).await;
    let answer = boss.json(Method::PUT, path, &provider).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    // Nor does he turn one that is there to himself; he sees it and puts it off.
    let answer = adam.json(Method::PUT, path, &provider).await;
    refused(&answer, 403, EXCEEDS);
    assert_eq!(adam.get(path).await.status, StatusCode::OK);
    let answer = adam.json(Method::DELETE, path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
}

#[tokio::test]
async fn ac_131_a_root_key_that_a_persons_root_key_made_ends_with_the_person() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    // Known scopes, so that the keys below may have them.
    drop(key(&server, &mut root, &ADMIN).await);
    let (bob, mut session) = signed_in(&server, "bob@example.org", "admin").await;
    let wish = json!({ "name": "A", "prefix": "kw_root", "scopes": ["keys:*", "users:write", "users:read"] });
    let first = session.json(Method::POST, "/api/v1/keys", &wish).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let mut first = Program {
        browser: server.browser(),
        key: first.json()["secret"].as_str().unwrap().to_owned(),
    };
    let second = first.issue(wish).await;
    let mut second = Program {
        browser: server.browser(),
        key: second["secret"].as_str().unwrap().to_owned(),
    };
    // What it makes for others is theirs.
    let plain = json!({ "name": "C", "prefix": "sk_test", "scopes": ["keys:read"] });
    let others = second.issue(plain).await;
    assert!(others["key"]["creator"].is_null(), "{others}");
    let person = json!({ "name": "x", "roles": [] });
    let added = second
        .send(Method::POST, "/api/v1/users", person.clone())
        .await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    let path = format!("/api/v1/users/{}/disable", bob.id);
    let ended = root.send(Method::POST, &path, json!({})).await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    for program in [&mut first, &mut second] {
        let answer = program
            .send(Method::POST, "/api/v1/users", person.clone())
            .await;
        assert!(
            matches!(answer.status.as_u16(), 401 | 403),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn ac_146_who_may_end_people_may_look_at_the_receipt_again() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut hr = key(&server, &mut root, &["users:read", "users:write"])
        .await
        .0;
    let leaver = server.add_user("leaver@example.org", &[]).await;
    let path = format!("/api/v1/users/{}/disable?wait_ms=0", leaver.id);
    let ended = hr.send(Method::POST, &path, json!({})).await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    let version = &ended.json()["receipt"]["version"];
    let receipt = get(&mut hr, &format!("/api/v1/receipts/{version}")).await;
    assert_eq!(receipt.status, StatusCode::OK, "{}", receipt.text);
}
