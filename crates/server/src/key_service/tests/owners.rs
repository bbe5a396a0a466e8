//! Services and teams: made, seen, renamed, suspended with all their keys, and what is said of people beside them.

use axum::http::Method;
use serde_json::{Value, json};

use super::{fine, key_of, narrow, refused, secret_of, verdict};
use crate::keys::tests::{Program, root, wish};
use crate::test_support::TestServer;

const OWNERS: &str = "/api/v1/owners";

fn billing() -> Value {
    json!({ "kind": "service", "id": "billing", "name": "Billing", "email": "Billing@Example.org" })
}

/// A key of a service, with what else is asked for.
async fn key_for(root: &mut Program, kind: &str, id: &str, more: &Value) -> Value {
    let mut wish = wish();
    wish["owner"] = json!({ "kind": kind, "id": id });
    for (name, value) in more.as_object().into_iter().flatten() {
        wish[name] = value.clone();
    }
    root.issue(wish).await
}

fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn ac_146_a_service_is_made_has_keys_is_suspended_with_them_and_comes_back() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let made = root.post(OWNERS, billing()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(made.location().ends_with("/api/v1/owners/billing"));
    let path = "/api/v1/owners/billing";
    let read = root.get(path).await;
    assert_eq!(read.json(), made.json());
    assert_eq!(read.header("etag"), made.header("etag"));
    let view = fine(&read);
    assert_eq!(view["email"], "billing@example.org", "{view}");
    assert_eq!(view["disabled_at"], Value::Null, "{view}");

    let first = key_for(&mut root, "service", "billing", &json!({})).await;
    let second = key_for(&mut root, "service", "billing", &json!({})).await;
    let others = root.issue(wish()).await;
    let asked = "/api/v1/keys?owner=billing&limit=1";
    assert_eq!(fine(&root.get(asked).await)["total"], 2);
    // A service is no team, whatever its id.
    let mut team = wish();
    team["owner"] = json!({ "kind": "team", "id": "billing" });
    refused(
        &root.post("/api/v1/keys", team).await,
        404,
        "owner_not_found",
    );

    let reason = json!({ "reason": "its host was broken into" });
    let disable = format!("{path}/disable");
    let disabled = root.post(&disable, reason).await;
    let view = fine(&disabled);
    assert_eq!(view["disabled_reason"], "its host was broken into");
    assert_eq!(view["receipt"]["complete"], true, "{view}");
    let seen = root.get(path).await;
    assert_eq!(seen.header("etag"), disabled.header("etag"));
    assert_ne!(seen.header("etag"), read.header("etag"));
    for issued in [&first, &second] {
        let code = verdict(&mut root, &secret_of(issued)).await["code"].clone();
        assert_eq!(code, "owner_disabled");
    }
    assert_eq!(
        verdict(&mut root, &secret_of(&others)).await["code"],
        "valid"
    );
    let mut late = wish();
    late["owner"] = json!({ "kind": "service", "id": "billing" });
    let late = root.post("/api/v1/keys", late).await;
    refused(&late, 404, "owner_not_found");
    // Again it changes nothing, without a body as well.
    let again = fine(&root.post(&disable, Value::Null).await);
    for member in ["disabled_at", "disabled_reason"] {
        assert_eq!(again[member], view[member]);
    }

    let enabled = fine(&root.post(&format!("{path}/enable"), Value::Null).await);
    assert_eq!(enabled["disabled_at"], Value::Null, "{enabled}");
    assert_eq!(enabled["disabled_reason"], Value::Null, "{enabled}");
    for issued in [&first, &second] {
        let code = verdict(&mut root, &secret_of(issued)).await["code"].clone();
        assert_eq!(code, "valid");
    }
    let events = fine(&root.get("/api/v1/audit?target=billing").await);
    let mut told: Vec<_> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["target_id"] == "billing")
        .map(|one| one["action"].as_str().unwrap())
        .collect();
    told.reverse();
    let expected = [
        "principal.created",
        "principal.disabled",
        "principal.enabled",
    ];
    assert_eq!(told, expected, "{events}");
}

#[tokio::test]
async fn a_service_gets_another_name_and_address_and_keeps_what_is_left_out() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    fine(&root.post(OWNERS, billing()).await);
    let path = "/api/v1/owners/billing";
    let mut seen = Vec::new();
    for (change, name, email) in [
        (
            json!({ "name": " Invoices " }),
            "Invoices",
            json!("billing@example.org"),
        ),
        (
            json!({ "email": "ops@example.org" }),
            "Invoices",
            json!("ops@example.org"),
        ),
        (json!({ "email": "" }), "Invoices", Value::Null),
        (
            json!({ "name": "B", "email": "b@example.org" }),
            "B",
            json!("b@example.org"),
        ),
        (json!({}), "B", json!("b@example.org")),
    ] {
        let answer = root.send(Method::PATCH, path, change.clone()).await;
        let view = fine(&answer);
        assert_eq!(
            (&view["name"], &view["email"]),
            (&json!(name), &email),
            "{change}"
        );
        assert_eq!(fine(&root.get(path).await), view);
        seen.push(answer.header("etag").to_owned());
    }
    let last = seen.pop();
    assert_eq!(last.as_ref(), seen.last(), "nothing was changed");
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:?}");
    for (change, code) in [
        (json!({ "name": "" }), "invalid_name"),
        (json!({ "name": "a\nb" }), "invalid_name"),
        (json!({ "name": "x".repeat(121) }), "invalid_name"),
        (json!({ "email": "nobody" }), "invalid_email"),
        (json!({ "kind": "team" }), "invalid_body"),
    ] {
        let answer = root.send(Method::PATCH, path, change).await;
        refused(&answer, 400, code);
        assert_eq!(
            root.get(path).await.header("etag"),
            last.as_deref().unwrap()
        );
    }
}

#[tokio::test]
async fn people_are_no_services_and_ids_mean_nothing_in_an_address() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let person = server.add_user("ada@example.org", &[]).await;
    let with = |name: &str, value: Value| {
        let mut body = billing();
        body[name] = value;
        body
    };
    for (body, code) in [
        (with("kind", json!("person")), "principal_is_user"),
        (with("kind", json!("robot")), "invalid_owner"),
        (with("id", json!("")), "invalid_owner"),
        (with("id", json!("a/b")), "invalid_owner"),
        (with("id", json!("..")), "invalid_owner"),
        (with("id", json!("key:1")), "invalid_owner"),
        (with("id", json!("x".repeat(65))), "invalid_owner"),
        (with("name", json!(" ")), "invalid_name"),
        (with("email", json!("a b@c")), "invalid_email"),
        (with("permissions", json!(["*:*"])), "invalid_body"),
    ] {
        refused(&root.post(OWNERS, body.clone()).await, 400, code);
    }
    fine(&root.post(OWNERS, billing()).await);
    for id in ["billing", "local", person.id.as_str()] {
        let body = with("id", json!(id));
        refused(&root.post(OWNERS, body).await, 409, "owner_exists");
    }
    let key = key_of(&mut root, &person.id).await;
    for id in ["local", person.id.as_str()] {
        let path = format!("{OWNERS}/{id}");
        let name = json!({ "name": "Eve" });
        let renamed = root.send(Method::PATCH, &path, name).await;
        refused(&renamed, 400, "principal_is_user");
        for step in ["disable", "enable"] {
            let body = json!({});
            let answer = root.post(&format!("{path}/{step}"), body).await;
            refused(&answer, 400, "principal_is_user");
        }
        let view = fine(&root.get(&path).await);
        assert_eq!(
            (&view["kind"], &view["disabled_at"]),
            (&json!("person"), &Value::Null)
        );
    }
    assert_eq!(verdict(&mut root, &secret_of(&key)).await["code"], "valid");
    for (method, end) in [
        (Method::GET, ""),
        (Method::PATCH, ""),
        (Method::POST, "/disable"),
        (Method::POST, "/enable"),
    ] {
        let body = if method == Method::GET {
            Value::Null
        } else {
            json!({})
        };
        let answer = root
            .send(method, &format!("{OWNERS}/nobody{end}"), body)
            .await;
        refused(&answer, 404, "owner_not_found");
    }
}

#[tokio::test]
async fn owners_are_listed_by_kind_and_page_by_page() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let person = server.add_user("ada@example.org", &[]).await;
    for id in ["s4", "s0", "s3", "s1", "s2"] {
        let body = json!({ "kind": "service", "id": id, "name": id });
        fine(&root.post(OWNERS, body).await);
    }
    let team = json!({ "kind": "team", "id": "s25", "name": "People" });
    fine(&root.post(OWNERS, team).await);
    for (filter, expected) in [
        ("kind=service", vec!["s0", "s1", "s2", "s3", "s4"]),
        ("kind=team", vec!["s25"]),
    ] {
        let whole = fine(&root.get(&format!("{OWNERS}?{filter}")).await);
        assert_eq!(names(&whole), expected);
        assert_eq!(whole["next_cursor"], Value::Null);
    }
    // As many as fit are no reason for another page.
    let whole = fine(&root.get(&format!("{OWNERS}?kind=service&limit=5")).await);
    assert_eq!(whole["next_cursor"], Value::Null, "{whole}");
    let all = fine(&root.get(OWNERS).await);
    assert!(names(&all).contains(&person.id.as_str()), "{all}");
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = fine(&root.get(&format!("{OWNERS}?limit=3&cursor={cursor}")).await);
        found.extend(page["items"].as_array().unwrap().clone());
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(json!(found), all["items"]);
    assert_eq!(pages, found.len().div_ceil(3));
    for (query, code) in [
        ("kind=robot", "invalid_parameter"),
        ("limit=101", "invalid_parameter"),
        ("limit=0", "invalid_parameter"),
        ("kinds=service", "unknown_parameter"),
    ] {
        refused(&root.get(&format!("{OWNERS}?{query}")).await, 400, code);
    }
}

/// Nearly everybody may see keys; who may see people is fewer.
#[tokio::test]
async fn of_people_the_id_is_seen_with_keys_and_the_rest_by_who_may_see_people() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    fine(&root.post(OWNERS, billing()).await);
    let ada = server.add_user("ada@example.org", &[]).await;
    let path = format!("{OWNERS}/{}", ada.id);
    let left = json!({ "reason": "left in anger" });
    fine(
        &root
            .post(&format!("/api/v1/users/{}/disable", ada.id), left)
            .await,
    );
    let leak = json!({ "reason": "leaked them" });
    fine(&root.post(&format!("{path}/revoke-keys"), leak).await);

    let mut keys = narrow(&server, &mut root, &["keys:read"]).await;
    let mut people = narrow(&server, &mut root, &["keys:read", "users:read"]).await;
    let secrets = ["name", "disabled_reason", "keys_revoked_reason"];
    let told = [json!("ada"), json!("left in anger"), json!("leaked them")];
    for (caller, sees) in [(&mut keys, false), (&mut people, true)] {
        let view = fine(&caller.get(&path).await);
        let list = fine(&caller.get(&format!("{OWNERS}?kind=person")).await);
        let items = list["items"].as_array().unwrap();
        let row = items.iter().find(|one| one["id"] == ada.id.as_str());
        assert_eq!(Some(&view), row);
        assert!(view["disabled_at"].is_i64() && view["keys_revoked_at"].is_i64());
        for (member, text) in secrets.iter().zip(&told) {
            let expected = if sees { text } else { &Value::Null };
            assert_eq!(&view[member], expected, "{member}");
        }
        let service = fine(&caller.get(&format!("{OWNERS}/billing")).await);
        assert_eq!(service["name"], "Billing", "{service}");
    }
    // Without any scope: oneself, and nobody else.
    let bob = server.add_user("bob@example.org", &[]).await;
    let mut browser = server.sign_in_as(&bob).await;
    let own = fine(&browser.get(&format!("{OWNERS}/{}", bob.id)).await);
    assert_eq!(own["name"], "bob", "{own}");
    for other in [
        path.as_str(),
        "/api/v1/owners/billing",
        "/api/v1/owners/nobody",
    ] {
        refused(&browser.get(other).await, 404, "owner_not_found");
    }
    refused(&browser.get(OWNERS).await, 403, "insufficient_scope");
}

#[tokio::test]
async fn management_keys_are_suspended_only_where_that_was_said() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    fine(&root.post(OWNERS, billing()).await);
    let more = json!({ "prefix": "kw_root", "scopes": ["keys:write"] });
    let managing = key_for(&mut root, "service", "billing", &more).await;
    let mut managing = Program {
        browser: server.browser(),
        key: secret_of(&managing),
    };
    let path = "/api/v1/owners/billing/disable";
    refused(
        &managing.post(path, json!({ "reason": "r" })).await,
        409,
        "owner_has_root_keys",
    );
    let name = json!({ "name": "Still there" });
    fine(
        &managing
            .send(Method::PATCH, "/api/v1/owners/billing", name)
            .await,
    );
    fine(&root.post(path, json!({ "root_keys": true })).await);
    refused(&managing.get("/api/v1/keys").await, 401, "owner_disabled");
}
