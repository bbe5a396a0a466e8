//! One operation over many keys.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{fine, id_of, key_of, refused, secret_of, verdict};
use crate::keys::tests::{Program, root, wish};
use crate::test_support::TestServer;

async fn ended(root: &mut Program, id: &str) -> Value {
    for _ in 0..600 {
        let view = fine(&root.get(&format!("/api/v1/bulk/{id}")).await);
        if view["state"] != "running" {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not end");
}

async fn begin(root: &mut Program, body: Value) -> String {
    let answer = root.post("/api/v1/bulk", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert!(
        answer
            .header("location")
            .ends_with(&format!("/api/v1/bulk/{id}"))
    );
    id
}

async fn tagged(root: &mut Program, count: usize) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for _ in 0..count {
        let mut wish = wish();
        wish["settings"] = json!({ "tags": ["old"] });
        let issued = root.issue(wish).await;
        keys.push((id_of(&issued), secret_of(&issued)));
    }
    keys
}

#[tokio::test]
async fn many_keys_are_changed_by_filter_and_each_failure_is_told() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let keys = tagged(&mut root, 12).await;
    let spared = secret_of(&root.issue(wish()).await);
    let filter = json!({ "tag": "old" });
    let plan = json!({ "operation": "revoke", "filter": filter, "dry_run": true });
    let plan = fine(&root.post("/api/v1/bulk", plan).await);
    assert_eq!(plan["total"], 12, "{plan}");
    assert_eq!(verdict(&mut root, &keys[0].1).await["code"], "valid");
    let disable = begin(
        &mut root,
        json!({ "operation": "disable", "filter": filter }),
    )
    .await;
    let view = ended(&mut root, &disable).await;
    assert_eq!(
        (&view["state"], &view["changed"]),
        (&json!("done"), &json!(12)),
        "{view}"
    );
    assert_eq!(verdict(&mut root, &keys[3].1).await["code"], "disabled");
    // One is ended, one does not exist.
    fine(
        &root
            .post(&format!("/api/v1/keys/{}/revoke", keys[5].0), json!({}))
            .await,
    );
    let mut ids: Vec<_> = keys.iter().map(|(id, _)| id.clone()).collect();
    ids.extend(["A".repeat(20), ids[0].clone()]);
    let enable = begin(&mut root, json!({ "operation": "enable", "ids": ids })).await;
    let view = ended(&mut root, &enable).await;
    assert_eq!(view["total"], 13, "each once: {view}");
    assert_eq!((&view["done"], &view["failed"]), (&json!(13), &json!(2)));
    let codes: Vec<_> = view["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["code"])
        .collect();
    assert_eq!(codes, ["key_revoked", "key_not_found"]);
    let path = format!("/api/v1/bulk/{enable}/failures");
    let first = fine(&root.get(&format!("{path}?limit=1")).await);
    let next = first["next_cursor"].as_str().unwrap();
    let next = fine(&root.get(&format!("{path}?limit=1&cursor={next}")).await);
    assert_eq!(first["items"][0], view["failures"][0]);
    assert_eq!(next["items"][0], view["failures"][1]);
    assert!(next.get("next_cursor").is_none_or(Value::is_null), "{next}");
    refused(
        &root.get("/api/v1/bulk/nothing/failures").await,
        404,
        "operation_not_found",
    );
    let tag = begin(
        &mut root,
        json!({ "operation": "tag", "tag": "new", "filter": filter }),
    )
    .await;
    assert_eq!(ended(&mut root, &tag).await["failed"], 1, "the revoked one");
    let list = fine(&root.get("/api/v1/keys?tag=new").await);
    assert_eq!(list["items"].as_array().unwrap().len(), 11);
    let revoke = json!({ "operation": "revoke", "filter": filter, "reason": "tidying" });
    let revoke = begin(&mut root, revoke).await;
    assert_eq!(
        ended(&mut root, &revoke).await["changed"],
        12,
        "again is no error"
    );
    for (_, secret) in &keys {
        assert_eq!(verdict(&mut root, secret).await["code"], "revoked");
    }
    assert_eq!(verdict(&mut root, &spared).await["code"], "valid");
    let list = fine(&root.get("/api/v1/bulk").await);
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
    let items = list["items"].as_array().unwrap();
    assert!(items.iter().any(|one| one["id"] == revoke.as_str()));
}

#[tokio::test]
async fn what_was_listed_is_what_is_done_and_nothing_if_it_is_another_number_by_now() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let start = server.server.app().now();
    tagged(&mut root, 2).await;
    server.pass(60_000);
    let late = tagged(&mut root, 3).await;
    let mut short = wish();
    short["lifetime_ms"] = json!(86_400_000);
    root.issue(short).await;
    for (filter, query, count) in [
        (json!({ "created_from": start + 60_000 }), "created_from", 4),
        (
            json!({ "expires_before": start + 2 * 86_400_000 }),
            "expires_before",
            1,
        ),
    ] {
        let at = &filter[query];
        let list = fine(&root.get(&format!("/api/v1/keys?{query}={at}")).await);
        assert_eq!(list["total"], count, "{list}");
        let body = json!({ "operation": "revoke", "filter": filter, "dry_run": true });
        let plan = fine(&root.post("/api/v1/bulk", body).await);
        assert_eq!(plan["total"], count, "{filter}: {plan}");
    }
    let filter = json!({ "created_from": start + 60_000, "tag": "old" });
    let mut order = json!({ "operation": "revoke", "filter": filter, "expect": 4 });
    let answer = root.post("/api/v1/bulk", order.clone()).await;
    refused(&answer, 409, "plan_changed");
    assert_eq!(answer.json()["total"], 3);
    assert_eq!(good(&mut root, &late).await, 3);
    order["expect"] = json!(3);
    order["filter"]["state"] = json!("live");
    let name = [("idempotency-key", "expected-three")];
    let begun = root
        .send_with(Method::POST, "/api/v1/bulk", order.clone(), &name)
        .await;
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(ended(&mut root, &id).await["changed"], 3);
    // The same request again is the same operation, though no key fits any more.
    let again = root
        .send_with(Method::POST, "/api/v1/bulk", order, &name)
        .await;
    assert_eq!(fine(&again)["id"], id.as_str());
}

#[tokio::test]
async fn no_filter_ends_the_keys_that_manage() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    tagged(&mut root, 2).await;
    for filter in [json!({ "state": "live" }), json!({ "prefix": "kw_root" })] {
        let all = begin(
            &mut root,
            json!({ "operation": "revoke", "filter": filter }),
        )
        .await;
        assert_eq!(ended(&mut root, &all).await["failed"], 0);
    }
    fine(&root.get("/api/v1/keys").await);
}

#[tokio::test]
async fn secrets_of_many_keys_are_the_clients_own() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let (id, old) = (id_of(&issued), secret_of(&issued));
    let prefix = keywright_domain::api_keys::Prefix::new("sk_live").unwrap();
    let plain = keywright_domain::api_keys::PlainKey::generate(&prefix, &mut rand::rng());
    let digest = Sha256::digest(plain.text().expose());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret =
        json!({ "kid": plain.kid().as_str(), "last_four": plain.last_four(), "digest": digest });
    let body = json!({ "operation": "rotate", "client_secrets": { &id: secret } });
    for _ in 0..2 {
        let rotate = begin(&mut root, body.clone()).await;
        let view = ended(&mut root, &rotate).await;
        assert_eq!(
            (&view["changed"], &view["failed"]),
            (&json!(1), &json!(0)),
            "{view}"
        );
    }
    let new = plain.text().expose().to_owned();
    for key in [&old, &new] {
        assert_eq!(verdict(&mut root, key).await["code"], "valid");
    }
    let rotations = fine(&root.get(&format!("/api/v1/keys/{id}/rotations")).await);
    assert_eq!(
        rotations["items"].as_array().unwrap().len(),
        1,
        "twice is once"
    );
    for body in [
        json!({ "operation": "rotate", "ids": [id] }),
        json!({ "operation": "rotate", "client_secrets": {} }),
        json!({ "operation": "explode", "ids": [] }),
        json!({ "operation": "revoke" }),
        json!({ "operation": "revoke", "filter": {} }),
        json!({ "operation": "revoke", "filter": { "tags": "old" } }),
        json!({ "operation": "tag", "ids": [] }),
        json!({ "operation": "revoke", "ids": vec!["x"; 10_001] }),
    ] {
        refused(&root.post("/api/v1/bulk", body).await, 400, "invalid_body");
    }
}

#[tokio::test]
async fn it_is_cancelled_within_a_second_and_what_was_done_stands() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let ids: Vec<String> = (0..10_000).map(|number| format!("{number:020}")).collect();
    // Keys that do not exist fail one by one, as slowly as a database reads.
    let id = begin(&mut root, json!({ "operation": "revoke", "ids": ids })).await;
    let answer = root
        .post(&format!("/api/v1/bulk/{id}/cancel"), Value::Null)
        .await;
    assert_eq!(fine(&answer)["cancel_asked"], true);
    let view = ended(&mut root, &id).await;
    assert_eq!(view["state"], "cancelled", "{view}");
    let done = view["done"].as_i64().unwrap();
    assert!(done < 10_000, "{done}");
    assert_eq!(view["failed"], done);
    assert!(view["failures"].as_array().unwrap().len() <= 100);
    let again = root
        .post(&format!("/api/v1/bulk/{id}/cancel"), Value::Null)
        .await;
    assert_eq!(fine(&again)["state"], "cancelled");
    refused(
        &root.get("/api/v1/bulk/nothing").await,
        404,
        "operation_not_found",
    );
}

#[tokio::test]
async fn one_that_a_restart_broke_off_shows_as_interrupted() {
    let server = TestServer::start().await;
    let mut before = root(&server).await;
    let ids: Vec<String> = (0..10_000).map(|number| format!("{number:020}")).collect();
    let id = begin(&mut before, json!({ "operation": "revoke", "ids": ids })).await;
    let server = server.again().await;
    let mut after = root(&server).await;
    let view = fine(&after.get(&format!("/api/v1/bulk/{id}")).await);
    assert_eq!(view["state"], "running", "nobody can know yet: {view}");
    server.pass(31_000);
    let view = fine(&after.get(&format!("/api/v1/bulk/{id}")).await);
    assert_eq!(view["state"], "interrupted", "{view}");
    assert!(view["done"].as_i64().unwrap() < 10_000);
    let list = fine(&after.get("/api/v1/bulk").await);
    assert_eq!(list["items"][0]["state"], "interrupted");
}

#[tokio::test]
async fn ac_182_people_change_their_own_keys_and_stop_when_they_may_no_more() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let person = server.add_user("holder@example.org", &[]).await;
    let own = key_of(&mut root, &person.id).await;
    let other = root.issue(wish()).await;
    let mut holder = server.sign_in_as(&person).await;
    let body = json!({ "operation": "disable", "ids": [id_of(&own), id_of(&other)] });
    let begun = holder.json(Method::POST, "/api/v1/bulk", &body).await;
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let view = ended(&mut root, &id).await;
    assert_eq!(view["failures"][0]["code"], "key_not_found", "{view}");
    assert_eq!((&view["changed"], &view["failed"]), (&json!(1), &json!(1)));
    assert_eq!(
        verdict(&mut root, &secret_of(&other)).await["code"],
        "valid"
    );
    // A filter finds nobody else's.
    let body = json!({ "operation": "revoke", "filter": { "state": "all", "prefix": "sk_live" }, "dry_run": true });
    let plan = holder.json(Method::POST, "/api/v1/bulk", &body).await;
    assert_eq!(fine(&plan)["total"], 1);
    let body = json!({ "operation": "revoke", "filter": { "owner": "local" }, "dry_run": true });
    let plan = holder.json(Method::POST, "/api/v1/bulk", &body).await;
    refused(&plan, 403, "insufficient_scope");
    let theirs = fine(&holder.get("/api/v1/bulk").await);
    assert_eq!(theirs["items"].as_array().unwrap().len(), 1);
    // Disabled in between, or of no role any more: nothing more is done.
    let actor = keywright_domain::audit::Actor::person("test");
    for is_disabled in [true, false] {
        let email = format!("kim-{is_disabled}@example.org");
        let admin = server.add_user(&email, &["key-admin"]).await;
        let mut kim = server.sign_in_as(&admin).await;
        let ids: Vec<String> = (0..10_000).map(|number| format!("{number:020}")).collect();
        let body = json!({ "operation": "revoke", "ids": ids });
        let begun = kim.json(Method::POST, "/api/v1/bulk", &body).await;
        let id = begun.json()["id"].as_str().unwrap().to_owned();
        let (registry, person) = (server.registry(), &*admin.id);
        let done = if is_disabled {
            registry
                .disable_user(&actor, person, "left")
                .await
                .map(drop)
        } else {
            registry.set_user_roles(&actor, person, &[]).await.map(drop)
        };
        done.unwrap();
        let view = ended(&mut root, &id).await;
        assert_eq!(view["state"], "stopped", "disabled: {is_disabled}, {view}");
        assert_eq!(view["problem"]["code"], "access_ended", "{view}");
        let listed = fine(&root.get("/api/v1/bulk").await);
        let listed = listed["items"].as_array().unwrap().iter();
        let listed = listed.filter(|one| one["id"] == id.as_str());
        let problems: Vec<_> = listed.map(|one| &one["problem"]).collect();
        assert_eq!(problems, [&view["problem"]]);
    }
}

/// The keys of a list that are still good.
async fn good(root: &mut Program, keys: &[(String, String)]) -> usize {
    let mut good = 0;
    for (_, secret) in keys {
        good += usize::from(verdict(root, secret).await["code"] == "valid");
    }
    good
}

#[tokio::test]
async fn an_operation_ends_with_the_root_key_that_began_it() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    for how in ["revoke", "disable"] {
        let keys = tagged(&mut root, 6).await;
        let wish = json!({ "name": "Cleaner", "prefix": "kw_root", "scopes": ["keys:*"] });
        let cleaner = root.issue(wish).await;
        let mut program = Program {
            browser: server.browser(),
            key: secret_of(&cleaner),
        };
        // Its own end is the third of what it asks for.
        let mut ids: Vec<_> = keys.iter().map(|(id, _)| id.clone()).collect();
        ids.insert(2, id_of(&cleaner));
        let bulk = begin(&mut program, json!({ "operation": how, "ids": ids })).await;
        let view = ended(&mut root, &bulk).await;
        assert_eq!(
            (&view["state"], &view["done"]),
            (&json!("stopped"), &json!(3)),
            "{view}"
        );
        assert_eq!(good(&mut root, &keys).await, 4);
    }
}

#[tokio::test]
async fn an_operation_ends_with_the_session_or_the_token_that_began_it() {
    use keywright_domain::people::OAuthScopes;

    use crate::sessions::tests::give_access;

    const MANY: usize = 250;
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let owner = server.add_user("boss@example.org", &["owner"]).await;
    let keys = tagged(&mut root, MANY).await;
    let filter = json!({ "tag": "old", "state": "live" });
    let order = json!({ "operation": "disable", "filter": filter });
    server
        .add_client("cleaner", None, |new| {
            new.scopes = OAuthScopes::parse("keys:*").unwrap();
        })
        .await;
    let mut left = MANY;
    for by_token in [false, true] {
        let begun = if by_token {
            let access = give_access(&server, &owner, None, "cleaner", "keys:*").await;
            let mut program = Program {
                browser: server.browser(),
                key: access.token,
            };
            let begun = program.post("/api/v1/bulk", order.clone()).await;
            // The person takes the application's access away.
            let mut browser = server.sign_in_as(&owner).await;
            let csrf = browser.cookie("csrf_token").unwrap_or("").to_owned();
            let headers = [("x-csrf-token", csrf.as_str())];
            let none = axum::body::Body::empty();
            let path = "/api/v1/applications/cleaner";
            let gone = browser.send(Method::DELETE, path, &headers, none).await;
            assert!(gone.status.is_success(), "{} {}", gone.status, gone.text);
            begun
        } else {
            let mut other = server.sign_in_as(&owner).await;
            let begun = other.json(Method::POST, "/api/v1/bulk", &order).await;
            let path = "/api/v1/sessions/revoke-all";
            let out = other.json(Method::POST, path, &json!({})).await;
            assert!(out.status.is_success(), "{} {}", out.status, out.text);
            begun
        };
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
        let view = ended(&mut root, begun.json()["id"].as_str().unwrap()).await;
        assert_eq!(view["state"], "stopped", "by token: {by_token}, {view}");
        let still = good(&mut root, &keys).await;
        assert_eq!(
            still,
            left - usize::try_from(view["done"].as_i64().unwrap()).unwrap()
        );
        assert!(still > 0, "nothing was left to be stopped");
        left = still;
    }
}
