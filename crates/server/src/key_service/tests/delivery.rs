//! A scheduled rotation that a program delivers, with a secret that no server ever saw; and the lists
//! that go with rotations.

use axum::http::Method;
use keywright_domain::api_keys::{DAY_MS, KeyDigest, PlainKey, Prefix};
use serde_json::{Value, json};

use super::{fine, id_of, refused, secret_of};
use crate::keys::tests::{root, wish};
use crate::test_support::TestServer;
use crate::webhooks::testing::{Receiver, run, verdict};

/// A secret that a program makes, and what it tells of it.
fn own_secret() -> (String, Value) {
    let plain = PlainKey::generate(&Prefix::new("sk_live").unwrap(), &mut rand::rng());
    let digest = KeyDigest::of(&plain);
    let digest: String = digest
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let told =
        json!({ "kid": plain.kid().as_str(), "last_four": plain.last_four(), "digest": digest });
    (plain.text().expose().to_owned(), told)
}

#[tokio::test]
async fn a_program_delivers_a_scheduled_rotation_by_a_secret_of_its_own() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut wish = wish();
    wish["lifetime_ms"] = json!(300 * DAY_MS);
    let issued = root.issue(wish).await;
    let (key, old) = (id_of(&issued), secret_of(&issued));
    assert_eq!(verdict(&server, &old).await, "valid");
    let path = format!("/api/v1/keys/{key}/schedule");
    let automatic =
        json!({ "every_ms": 7 * DAY_MS, "mode": "automatic", "delivery": "vault:billing" });
    // Nobody would bring the secret anywhere; who listens to everything is not one that delivers.
    let none = root.send(Method::PUT, &path, automatic.clone()).await;
    refused(&none, 409, "nobody_delivers");
    let (receiver, url) = Receiver::listen().await;
    let hook = json!({ "url": url, "events": ["*"] });
    let hook = fine(&root.post("/api/v1/webhooks", hook).await);
    refused(
        &root.send(Method::PUT, &path, automatic.clone()).await,
        409,
        "nobody_delivers",
    );
    refused(&root.get(&path).await, 404, "schedule_not_found");
    let hook = format!(
        "/api/v1/webhooks/{}",
        hook["webhook"]["id"].as_str().unwrap()
    );
    let named = json!({ "events": ["delivery.due", "delivery.failed"] });
    fine(&root.send(Method::PATCH, &hook, named).await);
    fine(&root.send(Method::PUT, &path, automatic.clone()).await);

    server.pass(8 * DAY_MS);
    run(&server).await;
    run(&server).await;
    let got = receiver.take();
    let due: Vec<Value> = got
        .iter()
        .map(crate::webhooks::testing::Got::json)
        .collect();
    let due: Vec<_> = due
        .iter()
        .filter(|event| event["type"] != "webhook.test")
        .collect();
    assert_eq!(due.len(), 1, "{due:?}");
    assert_eq!(due[0]["type"], "delivery.due");
    assert_eq!(due[0]["data"]["target"], "vault:billing");
    let rotation = due[0]["data"]["rotation_id"].as_str().unwrap();
    let rotation = format!("/api/v1/keys/{key}/rotations/{rotation}");
    let seen = root.get(&rotation).await;
    assert_eq!(fine(&seen)["state"], "pending");
    let tag = seen.header("etag").to_owned();

    // The program makes the secret where it is needed; its text never comes here.
    let (plain, told) = own_secret();
    let reissue = format!("{rotation}/reissue");
    let made = root.post(&reissue, json!({ "client_secret": told })).await;
    assert!(fine(&made).get("secret").is_none(), "{}", made.text);
    let kid = told["kid"].as_str().unwrap();
    assert_eq!(made.json()["key"]["secrets"][0]["kid"], kid);
    // Asked again with the same one, nothing more happens; another key's is refused.
    let again = root.post(&reissue, json!({ "client_secret": told })).await;
    assert_eq!(fine(&again)["key"]["epoch"], made.json()["key"]["epoch"]);
    let (_, mut foreign) = own_secret();
    foreign["kid"] = issued["key"]["secrets"][0]["kid"].clone();
    let taken = root
        .post(&reissue, json!({ "client_secret": foreign }))
        .await;
    refused(&taken, 400, "invalid_client_secret");
    let odd = root
        .post(&reissue, json!({ "client_secret": { "kid": "x" } }))
        .await;
    assert_eq!(odd.status, 400, "{}", odd.text);
    refused(
        &root.post(&reissue, json!({ "secret": "x" })).await,
        400,
        "invalid_body",
    );
    let (old_tag, now) = (("if-none-match", tag.as_str()), root.get(&rotation).await);
    let changed = root
        .send_with(Method::GET, &rotation, Value::Null, &[old_tag])
        .await;
    assert_eq!(changed.status, 200, "it has another new secret by now");
    let new_tag = ("if-none-match", now.header("etag"));
    let same = root
        .send_with(Method::GET, &rotation, Value::Null, &[new_tag])
        .await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));

    // Delivered, read back, used: the rotation goes on, and nobody was alarmed.
    let delivered = json!({ "target": "vault:billing", "delivered": true });
    fine(
        &root
            .post(&format!("{rotation}/deliveries"), delivered)
            .await,
    );
    assert_eq!(verdict(&server, &plain).await, "valid");
    assert_eq!(fine(&root.get(&rotation).await)["state"], "overlapping");
    run(&server).await;
    assert!(!receiver.kinds().contains(&"delivery.failed".to_owned()));
    assert_eq!(verdict(&server, &old).await, "valid");
    // A secret that was used is replaced by no other.
    let (_, late) = own_secret();
    let late = root.post(&reissue, json!({ "client_secret": late })).await;
    refused(&late, 409, "no_rotation");

    // The program is gone: that is told, and what works goes on working.
    fine(
        &root
            .send(
                Method::PATCH,
                &hook,
                json!({ "events": ["delivery.failed"] }),
            )
            .await,
    );
    server.pass(8 * DAY_MS);
    run(&server).await;
    run(&server).await;
    assert!(receiver.kinds().contains(&"delivery.failed".to_owned()));
    assert_eq!(verdict(&server, &plain).await, "valid");
}

/// All items of a list, page by page.
async fn all(root: &mut crate::keys::tests::Program, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = fine(&root.get(&format!("{path}?limit={limit}{cursor}")).await);
        let part = page["items"].as_array().unwrap().clone();
        assert!(part.len() <= limit && !part.is_empty(), "{page}");
        items.extend(part);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('~', "%7E")),
            None => return items,
        }
    }
}

#[tokio::test]
async fn rotations_deliveries_and_operations_go_on_in_pages() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let key = id_of(&root.issue(wish()).await);
    let other = id_of(&root.issue(wish()).await);
    let rotations = format!("/api/v1/keys/{key}/rotations");
    let mut made = Vec::new();
    for number in 0..105 {
        // Several in one moment: the order does not hang on the clock alone.
        if number % 10 == 0 {
            server.pass(1000);
        }
        let rotated = fine(&root.post(&rotations, json!({})).await);
        made.push(rotated["rotation_id"].as_str().unwrap().to_owned());
    }
    let first = made[0].clone();
    for limit in [7, 100] {
        let found = all(&mut root, &rotations, limit).await;
        let mut ids: Vec<_> = found
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        let times: Vec<_> = found
            .iter()
            .map(|one| one["created_at"].as_i64().unwrap())
            .collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
        ids.sort();
        let mut expected = made.clone();
        expected.sort();
        assert_eq!(ids, expected);
    }
    // The oldest of more than a hundred is there, with its deliveries; and it is this key's alone.
    let one = format!("{rotations}/{first}");
    assert_eq!(fine(&root.get(&one).await)["id"], first.as_str());
    let foreign = format!("/api/v1/keys/{other}/rotations/{first}");
    refused(&root.get(&foreign).await, 404, "rotation_not_found");
    let deliveries = format!("{one}/deliveries");
    for number in 0..12 {
        let told = json!({ "target": number.to_string(), "delivered": true });
        fine(&root.post(&deliveries, told).await);
        server.pass(i64::from(number % 3));
    }
    let found = all(&mut root, &deliveries, 5).await;
    let times: Vec<_> = found
        .iter()
        .map(|one| one["at"].as_i64().unwrap())
        .collect();
    assert!(times.is_sorted(), "oldest first");
    assert_eq!(found.len(), 12);
    for _ in 0..7 {
        fine(
            &root
                .post("/api/v1/bulk", json!({ "operation": "enable", "ids": [] }))
                .await,
        );
    }
    let found = all(&mut root, "/api/v1/bulk", 3).await;
    let ids: std::collections::BTreeSet<_> =
        found.iter().map(|one| one["id"].to_string()).collect();
    assert_eq!((found.len(), ids.len()), (7, 7));
    for path in [&rotations, &deliveries, &"/api/v1/bulk".to_owned()] {
        refused(
            &root.get(&format!("{path}?cursor=x")).await,
            400,
            "invalid_cursor",
        );
        refused(
            &root.get(&format!("{path}?limit=101")).await,
            400,
            "invalid_parameter",
        );
        refused(
            &root.get(&format!("{path}?page=2")).await,
            400,
            "unknown_parameter",
        );
    }
}

#[tokio::test]
async fn a_scope_is_removed_when_nothing_uses_it() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let path = "/api/v1/scopes/orders:read";
    let key = id_of(&root.issue(wish()).await);
    let delete = |path: &str| (Method::DELETE, path.to_owned());
    let (method, address) = delete(path);
    let held = root.send(method.clone(), &address, Value::Null).await;
    refused(&held, 409, "scope_in_use");
    assert!(held.json()["detail"].as_str().unwrap().contains("keys"));
    // A disabled key may come back; a revoked one does not.
    fine(
        &root
            .post(&format!("/api/v1/keys/{key}/disable"), json!({}))
            .await,
    );
    refused(
        &root.send(method.clone(), &address, Value::Null).await,
        409,
        "scope_in_use",
    );
    fine(
        &root
            .post(&format!("/api/v1/keys/{key}/revoke"), json!({}))
            .await,
    );
    let policy = json!({ "allowed_scopes": ["orders:read"] });
    fine(
        &root
            .send(Method::PUT, "/api/v1/policies/test", policy)
            .await,
    );
    let named = root.send(method.clone(), &address, Value::Null).await;
    refused(&named, 409, "scope_in_use");
    assert!(named.json()["detail"].as_str().unwrap().contains("policy"));
    root.send(Method::DELETE, "/api/v1/policies/test", Value::Null)
        .await;
    let role = keywright_domain::people::RoleName::new("seller").unwrap();
    let scopes = keywright_domain::scopes::ScopeSet::parse("orders:read").unwrap();
    let actor = keywright_domain::audit::Actor::person("test");
    server
        .registry()
        .define_role(&actor, &role, "Sells", &scopes)
        .await
        .unwrap();
    let allowed = root.send(method.clone(), &address, Value::Null).await;
    refused(&allowed, 409, "scope_in_use");
    assert!(allowed.json()["detail"].as_str().unwrap().contains("role"));
    server.registry().delete_role(&actor, &role).await.unwrap();
    // A scope whose name only begins like it is another one.
    let longer = json!({ "name": "orders:read_all" });
    fine(&root.send(Method::PUT, "/api/v1/scopes", longer).await);
    let mut other = wish();
    other["scopes"] = json!(["orders:read_all"]);
    root.issue(other).await;
    let gone = root.send(method.clone(), &address, Value::Null).await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    refused(
        &root.send(method.clone(), &address, Value::Null).await,
        404,
        "scope_not_found",
    );
    refused(
        &root
            .send(method, "/api/v1/scopes/nothing", Value::Null)
            .await,
        404,
        "scope_not_found",
    );
    let refused_one = root.post("/api/v1/keys", wish()).await;
    refused(&refused_one, 400, "unknown_scope");
    let list = fine(&root.get("/api/v1/scopes").await).to_string();
    assert!(
        !list.contains("\"orders:read\"") && list.contains("orders:read_all"),
        "{list}"
    );
    let trail = fine(&root.get("/api/v1/audit?type=scope.removed").await);
    assert_eq!(trail["items"][0]["target_id"], "orders:read", "{trail}");
}
