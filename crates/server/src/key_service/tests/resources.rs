//! Policies, schedules, rotations at work, the audit trail, hygiene: one by one.

use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use keywright_domain::people::RoleName;
use keywright_registry::audit_export::verify_export;
use serde_json::{Value, json};

use super::{fine, id_of, key_of, refused, secret_of, verdict};
use crate::keys::tests::{root, wish};
use crate::test_support::{START, TestServer};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[tokio::test]
async fn ac_142_a_policy_is_set_and_named_in_every_refusal() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let max = json!({ "max_lifetime_ms": 90 * DAY_MS, "allowed_scopes": ["orders:read"] });
    let set = root.send(Method::PUT, "/api/v1/policies/live", max).await;
    assert_eq!(fine(&set)["policy"]["max_lifetime_ms"], 90 * DAY_MS);
    assert_eq!(set.json()["environment"], "live");
    let mut long = wish();
    long["lifetime_ms"] = json!(365 * DAY_MS);
    let mut never = wish();
    never["never_expires"] = json!(true);
    let mut wide = wish();
    wide["scopes"] = json!(["orders:read", "orders:write"]);
    for (body, policy) in [
        (long, "maximum lifetime"),
        (never, "expiry required"),
        (wide, "allowed scopes"),
    ] {
        let answer = root.post("/api/v1/keys", body).await;
        refused(&answer, 400, "policy_violation");
        assert_eq!(answer.json()["policy"], policy, "{}", answer.text);
        assert_eq!(answer.json()["policy_environment"], "live");
    }
    // A rotation is judged by it too.
    let issued = root.issue(wish()).await;
    let rotations = format!("/api/v1/keys/{}/rotations", id_of(&issued));
    let body = json!({ "lifetime_ms": 365 * DAY_MS });
    let answer = root.post(&rotations, body).await;
    refused(&answer, 400, "policy_violation");
    assert_eq!(answer.json()["policy"], "maximum lifetime");

    let every = root
        .send(
            Method::PUT,
            "/api/v1/policies/*",
            json!({ "drain_ms": 60_000 }),
        )
        .await;
    assert_eq!(fine(&every)["environment"], "*");
    let list = fine(&root.get("/api/v1/policies").await);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        fine(&root.get("/api/v1/policies/live").await)["policy"]["allowed_scopes"][0],
        "orders:read"
    );
    for (environment, body, code) in [
        ("live", json!({ "max_lifetime_ms": 1 }), 400),
        (
            "live",
            json!({ "min_overlap_ms": 20, "max_overlap_ms": 10 }),
            400,
        ),
        ("live", json!({ "max_lifetime": 1 }), 400),
        ("live", json!({ "overlap_clock": "later" }), 400),
        (
            "live",
            json!({ "max_age_ms": 30 * DAY_MS, "retire_on_max_age": true }),
            400,
        ),
        ("No Such", json!({}), 400),
    ] {
        let path = format!("/api/v1/policies/{}", environment.replace(' ', "%20"));
        let answer = root.send(Method::PUT, &path, body).await;
        assert_eq!(answer.status, code, "{}", answer.text);
    }
    let path = "/api/v1/policies/live";
    let gone = root.send(Method::DELETE, path, Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let again = root.send(Method::DELETE, path, Value::Null).await;
    refused(&again, 404, "policy_not_found");
    refused(&root.get(path).await, 404, "policy_not_found");
}

#[tokio::test]
async fn a_rotation_that_names_no_clock_has_that_of_the_policy() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let silent = format!("until_drained:{DAY_MS}:{}", 7 * DAY_MS);
    let capped = format!("until_drained:{DAY_MS}:{}", 2 * DAY_MS);
    for (of_policy, asked, expected) in [
        ("from_issue", Value::Null, "from_issue"),
        (silent.as_str(), Value::Null, silent.as_str()),
        (
            silent.as_str(),
            json!({ "overlap_ms": 2 * DAY_MS }),
            capped.as_str(),
        ),
        (
            silent.as_str(),
            json!({ "clock": "from_issue", "overlap_ms": DAY_MS }),
            "from_issue",
        ),
    ] {
        // What is shown of a policy can be sent back.
        let mut policy = json!({ "overlap_clock": of_policy });
        for _ in 0..2 {
            let set = root.send(Method::PUT, "/api/v1/policies/live", policy);
            policy = fine(&set.await)["policy"].clone();
        }
        let issued = root.issue(wish()).await;
        let path = format!("/api/v1/keys/{}/rotations", id_of(&issued));
        let rotated = root.post(&path, asked).await;
        assert_eq!(rotated.status, StatusCode::CREATED, "{}", rotated.text);
        let list = fine(&root.get(&path).await);
        assert_eq!(list["items"][0]["clock"], expected, "{list}");
    }
}

#[tokio::test]
async fn ac_131_a_key_shrinks_with_its_creator() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let registry = server.registry();
    let actor = Actor::person("test");
    let seller = RoleName::new("seller").unwrap();
    let scopes = keywright_domain::scopes::ScopeSet::parse("orders:read orders:write").unwrap();
    registry
        .define_role(&actor, &seller, "Sells", &scopes)
        .await
        .unwrap();
    let person = server.add_user("sam@example.org", &["seller"]).await;
    let mut sam = server.sign_in_as(&person).await;
    let mut body = wish();
    body["scopes"] = json!(["orders:read", "orders:write"]);
    let issued = sam.json(Method::POST, "/api/v1/keys", &body).await;
    assert_eq!(issued.status, StatusCode::CREATED, "{}", issued.text);
    let key = secret_of(&issued.json());
    assert_eq!(
        verdict(&mut root, &key).await["scopes"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // More than they hold, they grant to nobody.
    body["scopes"] = json!(["users:write"]);
    let scope = json!({ "name": "users:write" });
    fine(&root.send(Method::PUT, "/api/v1/scopes", scope).await);
    let answer = sam.json(Method::POST, "/api/v1/keys", &body).await;
    refused(&answer, 403, "scope_exceeds_creator");
    // They lose one, and their key with them.
    let less = keywright_domain::scopes::ScopeSet::parse("orders:read").unwrap();
    registry
        .define_role(&actor, &seller, "Looks", &less)
        .await
        .unwrap();
    let shrunk = verdict(&mut root, &key).await;
    assert_eq!(shrunk["scopes"], json!(["orders:read"]), "{shrunk}");
    let asked = json!({ "key": key, "requirement": "orders:write" });
    let refused = root.post("/api/v1/keys/verify", asked).await.json();
    assert_eq!(refused["code"], "insufficient_scope");
}

#[tokio::test]
async fn schedules_are_set_paused_hastened_and_listed() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let person = server.add_user("holder@example.org", &[]).await;
    let own = id_of(&key_of(&mut root, &person.id).await);
    let other = id_of(&root.issue(wish()).await);
    let body = json!({ "cron": "30 2 1 * *", "time_zone": "Europe/Berlin", "mode": "issue_pending",
        "window": { "days": ["tue", "mon"], "start_minute": 1320, "end_minute": 360 } });
    let path = format!("/api/v1/keys/{own}/schedule");
    let set = fine(&root.send(Method::PUT, &path, body).await);
    assert_eq!(set["schedule"]["cron"], "30 2 1 * *");
    assert_eq!(set["schedule"]["window"]["days"], json!(["mon", "tue"]));
    assert!(set["next_due_at"].as_i64().unwrap() > START);
    let every = json!({ "every_ms": DAY_MS, "mode": "notify_only" });
    let path_other = format!("/api/v1/keys/{other}/schedule");
    fine(&root.send(Method::PUT, &path_other, every).await);
    for (body, code) in [
        (json!({ "mode": "automatic" }), "invalid_schedule"),
        (
            json!({ "every_ms": 1, "mode": "automatic" }),
            "invalid_interval",
        ),
        (
            json!({ "cron": "never", "mode": "automatic" }),
            "invalid_cron",
        ),
        (
            json!({ "every_ms": DAY_MS, "mode": "often" }),
            "invalid_mode",
        ),
        (
            json!({ "every_ms": DAY_MS, "time_zone": "Mars", "mode": "automatic" }),
            "unknown_time_zone",
        ),
    ] {
        refused(&root.send(Method::PUT, &path, body).await, 400, code);
    }
    let page = fine(&root.get("/api/v1/schedules?limit=1").await);
    assert_eq!(page["items"][0]["key_id"], other, "soonest first");
    let cursor = page["next_cursor"].as_str().unwrap().replace('~', "%7E");
    let page = fine(
        &root
            .get(&format!("/api/v1/schedules?limit=1&cursor={cursor}"))
            .await,
    );
    assert_eq!(page["items"][0]["key_id"], own);
    assert!(page["next_cursor"].is_null());
    refused(
        &root.get("/api/v1/schedules?cursor=x").await,
        400,
        "invalid_cursor",
    );
    let mut holder = server.sign_in_as(&person).await;
    let mine = fine(&holder.get("/api/v1/schedules").await);
    assert_eq!(mine["items"].as_array().unwrap().len(), 1);
    assert_eq!(mine["items"][0]["key_id"], own);
    let of_others = holder.get("/api/v1/schedules?owner=local").await;
    refused(&of_others, 403, "insufficient_scope");

    let step = async |root: &mut crate::keys::tests::Program, step: &str| {
        root.send(Method::POST, &format!("{path}/{step}"), Value::Null)
            .await
    };
    assert_eq!(fine(&step(&mut root, "pause").await)["paused_at"], START);
    assert!(fine(&step(&mut root, "resume").await)["paused_at"].is_null());
    server.pass(60_000);
    let now = step(&mut root, "run-now").await;
    assert_eq!(now.status, StatusCode::ACCEPTED, "{}", now.text);
    assert_eq!(now.json()["next_due_at"], START + 60_000);
    refused(&step(&mut root, "dance").await, 404, "step_not_found");
    // Whoever carries out schedules finds it due.
    let app = server.server.app();
    let peppers = app.peppers().unwrap();
    let runs = app
        .registry
        .run_due_schedules(&Actor::keywright(), &peppers, 10)
        .await
        .unwrap();
    assert_eq!(runs.len(), 1);
    let notices = fine(&root.get(&format!("/api/v1/keys/{own}/notices")).await);
    assert!(notices["items"].is_array());
    let gone = root.send(Method::DELETE, &path, Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    refused(&root.get(&path).await, 404, "schedule_not_found");
}

#[tokio::test]
async fn an_old_secret_is_ended_early_once_it_is_silent() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let (id, old) = (id_of(&issued), secret_of(&issued));
    let path = format!("/api/v1/keys/{id}/rotations");
    refused(
        &root.get(&format!("{path}/current/stragglers")).await,
        409,
        "no_rotation",
    );
    let body = json!({ "clock": "from_issue", "overlap_ms": 7 * DAY_MS });
    let rotated = fine(&root.post(&path, body).await);
    let new = secret_of(&rotated);
    let client = json!({ "key": old, "client_label": "nightly", "address": "192.0.2.9" });
    fine(&root.post("/api/v1/keys/verify", client).await);
    fine(
        &root
            .post("/api/v1/keys/verify", json!({ "key": new }))
            .await,
    );
    let board = fine(&root.get(&format!("{path}/current/stragglers")).await);
    assert_eq!(board["remaining_count"], 1, "{board}");
    assert_eq!(board["remaining"][0]["caller"]["client_label"], "nightly");
    assert_eq!(board["drained"], false);
    let early = format!("{path}/current/finish-if-drained");
    let answer = root.post(&early, Value::Null).await;
    refused(&answer, 409, "not_drained");
    assert!(answer.json()["safe_at"].is_i64());
    let closing = fine(
        &root
            .get("/api/v1/overlaps/closing?within_ms=604800000")
            .await,
    );
    assert_eq!(
        closing["items"][0]["callers"][0]["caller"]["client_label"],
        "nightly"
    );
    server.pass(2 * DAY_MS);
    fine(
        &root
            .post("/api/v1/keys/verify", json!({ "key": new }))
            .await,
    );
    let done = fine(&root.post(&early, Value::Null).await);
    assert_eq!(done["rotation"]["state"], "complete", "{done}");
    assert_eq!(verdict(&mut root, &old).await["code"], "retired");
    assert_eq!(verdict(&mut root, &new).await["code"], "valid");
}

#[tokio::test]
async fn ac_137_what_became_of_a_delivery_is_told_and_a_lost_secret_made_anew() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let (id, old) = (id_of(&issued), secret_of(&issued));
    let other = id_of(&root.issue(wish()).await);
    let path = format!("/api/v1/keys/{id}/rotations");
    let rotated = fine(&root.post(&path, Value::Null).await);
    let rotation = rotated["rotation_id"].as_str().unwrap().to_owned();
    let reissue = format!("{path}/{rotation}/reissue");
    let again = fine(&root.post(&reissue, Value::Null).await);
    let (lost, new) = (secret_of(&rotated), secret_of(&again));
    assert_ne!(lost, new);
    assert_eq!(verdict(&mut root, &lost).await["valid"], false);
    // Only below its own key.
    let elsewhere = format!("/api/v1/keys/{other}/rotations/{rotation}/reissue");
    refused(
        &root.post(&elsewhere, Value::Null).await,
        404,
        "rotation_not_found",
    );
    let deliveries = format!("{path}/{rotation}/deliveries");
    let failed =
        json!({ "target": "vault", "delivered": false, "error": "no route", "then": "cancel" });
    let told = fine(&root.post(&deliveries, failed).await);
    assert_eq!(told["delivery"]["error"], "no route");
    assert_eq!(told["rotation"]["state"], "cancelled", "{told}");
    assert_eq!(
        verdict(&mut root, &old).await["code"],
        "valid",
        "the old secret lives"
    );
    let list = fine(&root.get(&deliveries).await);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let alerts = fine(&root.get("/api/v1/alerts?unseen=true").await);
    let mut items = alerts["items"].as_array().unwrap().iter();
    let alert = items.find(|one| one["kind"] == "delivery_failed").unwrap();
    let seen = format!("/api/v1/alerts/{}/seen", alert["id"].as_str().unwrap());
    let answer = root.post(&seen, json!({ "last_at": 1 })).await;
    refused(&answer, 409, "changed_meanwhile");
    let answer = root
        .post(&seen, json!({ "last_at": alert["last_at"] }))
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let alerts = fine(&root.get("/api/v1/alerts?unseen=true").await).to_string();
    assert!(!alerts.contains("delivery_failed"), "{alerts}");
    let odd = json!({ "target": "vault", "delivered": false, "then": "shrug" });
    refused(&root.post(&deliveries, odd).await, 400, "invalid_body");
}

#[tokio::test]
async fn ac_184_the_trail_is_read_in_pages_by_type_person_target_and_time() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let admin = server.add_user("kim@example.org", &["key-admin"]).await;
    let mut kim = server.sign_in_as(&admin).await;
    let own = json!({ "name": "Mine", "prefix": "sk_test", "scopes": ["keys:read"] });
    let issued = fine(&kim.json(Method::POST, "/api/v1/keys", &own).await);
    let id = id_of(&issued);
    server.pass(DAY_MS);
    let path = format!("/api/v1/keys/{id}/revoke");
    fine(
        &kim.json(Method::POST, &path, &json!({ "reason": "over" }))
            .await,
    );
    let mut read = async |query: &str| fine(&root.get(&format!("/api/v1/audit?{query}")).await);
    let actions = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|one| one["action"].as_str().unwrap().to_owned())
            .collect()
    };
    let by_kim = read(&format!("actor={}&type=api_key.", admin.id)).await;
    assert_eq!(
        actions(&by_kim),
        ["api_key.revoked", "api_key.issued"],
        "{by_kim}"
    );
    let one = read(&format!("actor={}&type=api_key.issued", admin.id)).await;
    assert_eq!(actions(&one), ["api_key.issued"]);
    assert_eq!(actions(&read(&format!("target={id}")).await).len(), 2);
    let early = read(&format!("target={id}&until={}", START + 1)).await;
    assert_eq!(actions(&early), ["api_key.issued"]);
    let late = read(&format!("target={id}&from={}", START + 1)).await;
    assert_eq!(actions(&late), ["api_key.revoked"]);
    assert_eq!(late["items"][0]["details"][0]["value"], "over");
    let network = json!({ "name": "network", "value": "0.0.0.0" }); // no socket in these tests
    for page in [&early, &late] {
        let details = page["items"][0]["details"].as_array().unwrap();
        assert!(details.contains(&network), "{page}");
    }
    // A beginning is a beginning only with its dot, and nothing in it is a wildcard.
    assert_eq!(actions(&read("type=api_key").await).len(), 0);
    assert_eq!(actions(&read("type=api%25.").await).len(), 0);
    // All pages together are the whole trail, once.
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = read(&format!("limit=3&cursor={cursor}")).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|one| one["sequence"].as_i64().unwrap()));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    let newest = seen[0];
    assert_eq!(seen, (1..=newest).rev().collect::<Vec<_>>());
    for bad in [
        "limit=101",
        "limit=0",
        "cursor=x",
        "from=x",
        "subject=x",
        "actors=x",
        "type=a&type=b",
    ] {
        let answer = root.get(&format!("/api/v1/audit?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let secret = secret_of(&issued);
    let all = root.get("/api/v1/audit?limit=100").await.text;
    assert!(!all.contains(&secret[20..]));
}

#[tokio::test]
async fn ac_185_the_trail_is_verified_signed_and_exported_for_anybody_to_verify() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    root.issue(wish()).await;
    let signed = fine(&root.post("/api/v1/audit/checkpoints", Value::Null).await);
    let keys = fine(&root.get("/api/v1/audit/checkpoint-keys").await);
    assert_eq!(signed["key_id"], keys["items"][0]["key_id"]);
    assert_eq!(signed["registry_id"], keys["registry_id"]);
    let found = fine(&root.get("/api/v1/audit/verify").await);
    assert_eq!(found["intact"], true, "{found}");
    assert_eq!(found["vouched_through"], signed["sequence"]);
    for _ in 0..30 {
        root.issue(wish()).await;
    }
    let export = root.get("/api/v1/audit/export").await;
    assert_eq!(export.status, StatusCode::OK);
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let key = keys["items"][0]["public_key"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let verdict = verify_export(&mut export.text.as_bytes(), &[key]).unwrap();
    assert!(verdict.is_intact(), "{verdict:?}");
    // One letter, and it shows.
    let changed = export.text.replacen("“Orders”", "“0rders”", 1);
    assert_ne!(changed, export.text);
    let verdict = verify_export(&mut changed.as_bytes(), &[key]).unwrap();
    assert!(!verdict.is_intact());
    // The key is the same after a restart, and another server's is another.
    let server = server.again().await;
    assert_eq!(
        server
            .server
            .app()
            .secrets
            .checkpoint_key()
            .public_key()
            .to_string(),
        keys["items"][0]["public_key"]
    );
    let other = TestServer::start().await;
    assert_ne!(
        other
            .server
            .app()
            .secrets
            .checkpoint_key()
            .public_key()
            .to_string(),
        keys["items"][0]["public_key"]
    );
}

#[tokio::test]
async fn hygiene_counts_and_lists_and_a_preview_tells_who_would_notice() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let issued = root.issue(wish()).await;
    let idle = id_of(&root.issue(wish()).await);
    let mut canary = wish();
    canary["scopes"] = json!([]);
    canary["settings"] = json!({ "canary": true });
    let canary = root.issue(canary).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    let asked = json!({ "key": key, "requirement": "orders:read", "client_label": "shop", "address": "192.0.2.1" });
    fine(&root.post("/api/v1/keys/verify", asked).await);
    verdict(&mut root, &secret_of(&canary)).await;
    let counts = fine(&root.get("/api/v1/hygiene?idle_days=1").await);
    assert!(counts["examined"].as_i64().unwrap() >= 3, "{counts}");
    assert_eq!(counts["counts"]["exposed"], 0);
    server.pass(2 * DAY_MS);
    let unused = fine(
        &root
            .get("/api/v1/hygiene/never_used?idle_days=1&limit=100")
            .await,
    );
    let ids: Vec<_> = unused["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["key_id"])
        .collect();
    assert!(ids.contains(&&json!(idle)), "{unused}");
    refused(
        &root.get("/api/v1/hygiene/ugly").await,
        404,
        "finding_not_found",
    );
    refused(
        &root.get("/api/v1/hygiene?idle_days=0").await,
        400,
        "out_of_bounds",
    );
    refused(
        &root.get("/api/v1/hygiene?days=1").await,
        400,
        "unknown_parameter",
    );
    // Bait was taken.
    let alerts = fine(&root.get("/api/v1/alerts").await);
    assert_eq!(alerts["items"][0]["key_id"], id_of(&canary), "{alerts}");
    assert_eq!(alerts["unseen"], 1, "{alerts}");

    let path = format!("/api/v1/keys/{id}/preview");
    let ended = fine(&root.post(&path, json!({ "revoke": true })).await);
    assert_eq!(
        (&ended["requests"], &ended["refused"]),
        (&json!(1), &json!(1)),
        "{ended}"
    );
    assert_eq!(ended["lines"][0]["caller"]["client_label"], "shop");
    let kept = fine(&root.post(&path, json!({ "scopes": ["orders:read"] })).await);
    assert_eq!(kept["refused"], 0);
    let narrowed = fine(
        &root
            .post(&path, json!({ "networks": ["198.51.100.0/24"], "days": 7 }))
            .await,
    );
    assert_eq!(narrowed["by_code"]["ip_not_allowed"], 1, "{narrowed}");
    for body in [
        json!({}),
        json!({ "revoke": true, "scopes": [] }),
        json!({ "networks": ["here"] }),
    ] {
        assert_eq!(root.post(&path, body).await.status, 400);
    }
    // Nothing of it was done.
    assert_eq!(verdict(&mut root, &key).await["code"], "valid");
}

#[tokio::test]
async fn item_11_a_preview_of_several_keys_is_for_who_may_see_each_of_them() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let person = server.add_user("kim@example.org", &[]).await;
    let mut wish_of_kim = wish();
    wish_of_kim["owner"] = json!({ "kind": "person", "id": person.id });
    let (own, other) = (root.issue(wish_of_kim).await, root.issue(wish()).await);
    for issued in [&own, &other, &other] {
        assert_eq!(
            verdict(&mut root, &secret_of(issued)).await["code"],
            "valid"
        );
    }
    let path = "/api/v1/keys/preview";
    let body = |ids: &[String]| json!({ "ids": ids, "revoke": true });
    let (own, other) = (id_of(&own), id_of(&other));
    let both = [own.clone(), other.clone()];
    let seen = fine(&root.post(path, body(&both)).await);
    assert_eq!(
        (&seen["requests"], &seen["refused"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(seen["lines"][0]["key_id"], other, "most uses first: {seen}");
    assert_eq!(seen["lines"][1]["key_id"], own, "{seen}");
    let mut kim = server.sign_in_as(&person).await;
    let mine = fine(&kim.json(Method::POST, path, &body(&both[..1])).await);
    assert_eq!(mine["requests"], 1, "{mine}");
    // As if it did not exist, and nothing is told of her own.
    let answer = kim.json(Method::POST, path, &body(&both)).await;
    refused(&answer, 404, "key_not_found");
    let many = vec![own; 1001];
    for ids in [&[][..], &many] {
        refused(&root.post(path, body(ids)).await, 400, "out_of_bounds");
    }
}

#[tokio::test]
async fn ac_138_issuing_again_with_one_idempotency_key_makes_no_second_key() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let once = [("idempotency-key", "order-of-monday")];
    let first = root
        .send_with(Method::POST, "/api/v1/keys", wish(), &once)
        .await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let secret = secret_of(&first.json());
    // Written in another way, it is the same request.
    let text = "{ \"scopes\": [\"orders:read\"],  \"prefix\": \"sk_live\", \"name\": \"Orders\" }";
    let bearer = format!("Bearer {}", root.key);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        once[0],
    ];
    for _ in 0..3 {
        let again = root
            .browser
            .send(Method::POST, "/api/v1/keys", &headers, text.into())
            .await;
        assert_eq!(again.status, StatusCode::OK, "{}", again.text);
        assert_eq!(id_of(&again.json()), id_of(&first.json()));
        assert_eq!(again.json()["secret_was_shown"], true);
        assert!(
            !again.text.contains(&secret[20..]),
            "a secret was shown twice"
        );
        assert!(again.header("location").ends_with(&id_of(&first.json())));
    }
    let mut other = wish();
    other["name"] = json!("Other");
    let answer = root
        .send_with(Method::POST, "/api/v1/keys", other.clone(), &once)
        .await;
    refused(&answer, 409, "idempotency_key_reused");
    let list = fine(&root.get("/api/v1/keys?text=O").await);
    let names: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names.iter().filter(|name| **name == "Orders").count(), 1);
    // What was refused was not remembered: the same name works for what is right.
    let mut bad = wish();
    bad["scopes"] = json!(["unknown:thing"]);
    let second = [("idempotency-key", "order-of-tuesday")];
    let answer = root
        .send_with(Method::POST, "/api/v1/keys", bad, &second)
        .await;
    assert_eq!(answer.status, 400);
    let answer = root
        .send_with(Method::POST, "/api/v1/keys", other, &second)
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    // Another caller's names are another's.
    let admin = server.add_user("kim@example.org", &["owner"]).await;
    let mut kim = server.sign_in_as(&admin).await;
    let csrf = kim.cookie("csrf_token").unwrap().to_owned();
    let headers = [
        ("content-type", "application/json"),
        ("x-csrf-token", csrf.as_str()),
        once[0],
    ];
    let answer = kim
        .send(
            Method::POST,
            "/api/v1/keys",
            &headers,
            wish().to_string().into(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let odd = [("idempotency-key", "short")];
    let answer = root
        .send_with(Method::POST, "/api/v1/keys", wish(), &odd)
        .await;
    refused(&answer, 400, "invalid_idempotency_key");
    // A secret that the client made is nobody's loss.
    let mut own = wish();
    own["client_secret"] =
        json!({ "kid": "7Hq2mXw4KdPz", "last_four": "abcd", "digest": "ab".repeat(32) });
    let third = [("idempotency-key", "order-of-friday")];
    for status in [201, 200] {
        let answer = root
            .send_with(Method::POST, "/api/v1/keys", own.clone(), &third)
            .await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(answer.json().get("secret_was_shown").is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_138_twenty_at_the_same_moment_make_one_key() {
    let server = TestServer::start().await;
    let root = root(&server).await;
    let tries = (0..20).map(|_| {
        let (browser, key) = (root.browser.clone(), root.key.clone());
        tokio::spawn(async move {
            let mut program = crate::keys::tests::Program { browser, key };
            let once = [("idempotency-key", "all-at-once")];
            program
                .send_with(Method::POST, "/api/v1/keys", wish(), &once)
                .await
        })
    });
    let (mut made, mut ids) = (0, std::collections::BTreeSet::new());
    for one in tries.collect::<Vec<_>>() {
        let answer = one.await.unwrap();
        made += usize::from(answer.status == StatusCode::CREATED);
        ids.insert(id_of(&fine(&answer)));
    }
    assert_eq!((made, ids.len()), (1, 1));
}

#[tokio::test]
async fn ac_182_what_a_person_may_not_do_is_refused_and_written_down() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let person = server.add_user("curious@example.org", &["member"]).await;
    let mut browser = server.sign_in_as(&person).await;
    for _ in 0..5 {
        refused(
            &browser.get("/api/v1/audit").await,
            403,
            "insufficient_scope",
        );
    }
    let key = id_of(&root.issue(wish()).await);
    let path = format!("/api/v1/keys/{key}/revoke");
    let answer = browser.json(Method::POST, &path, &json!({})).await;
    refused(&answer, 403, "insufficient_scope");
    // It is written behind the answer.
    let query = format!("/api/v1/audit?type=user.access_refused&actor={}", person.id);
    let mut found = Vec::new();
    for _ in 0..200 {
        let page = fine(&root.get(&query).await);
        found = page["items"].as_array().unwrap().clone();
        if found.len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(found.len(), 2, "one a permission and minute: {found:?}");
    let text = json!(found).to_string();
    assert!(
        text.contains("audit:read") && text.contains("keys:write"),
        "{text}"
    );
}
