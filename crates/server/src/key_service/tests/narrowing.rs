//! Scope right-sizing: proposed by what was used, applied by a rotation, taken back with it.

use axum::http::Method;
use serde_json::{Value, json};

use super::{fine, id_of, narrow, refused, secret_of, verdict};
use crate::keys::tests::{Program, root};
use crate::test_support::TestServer;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

async fn used(root: &mut Program, key: &str, scope: &str) -> Value {
    let mut body = json!({ "key": key });
    if !scope.is_empty() {
        body["requirement"] = json!(scope);
    }
    fine(&root.post("/api/v1/keys/verify", body).await)
}

/// A key of two scopes that has used one of them, and is old enough to be judged.
async fn over_scoped(server: &TestServer, root: &mut Program) -> (String, String) {
    let wish =
        json!({ "name": "Orders", "prefix": "sk_live", "scopes": ["orders:read", "orders:write"] });
    let issued = root.issue(wish).await;
    let (id, text) = (id_of(&issued), secret_of(&issued));
    server.pass(31 * DAY_MS);
    let answer = used(root, &text, "orders:read").await;
    assert_eq!(answer["code"], "valid", "{answer}");
    (id, text)
}

async fn scopes(root: &mut Program, id: &str) -> Value {
    fine(&root.get(&format!("/api/v1/keys/{id}")).await)["scopes"].clone()
}

#[tokio::test]
async fn a_rotation_leaves_a_key_what_it_used_and_its_end_gives_the_rest_back() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let (id, old) = over_scoped(&server, &mut root).await;
    let both = json!(["orders:read", "orders:write"]);
    let proposal = format!("/api/v1/keys/{id}/scope-proposal?days=30");
    let proposed = fine(&root.get(&proposal).await);
    assert_eq!(proposed["granted"], both, "{proposed}");
    assert_eq!(proposed["proposal"]["scopes"], json!(["orders:read"]));
    assert_eq!(proposed["proposal"]["dropped"], json!(["orders:write"]));
    // Younger than the window: nothing is known of it.
    let long = fine(&root.get(&format!("/api/v1/keys/{id}/scope-proposal")).await);
    assert_eq!(
        (&long["id"], &long["proposal"]),
        (&Value::Null, &Value::Null)
    );
    let path = format!("/api/v1/keys/{id}/rotations");
    for (wrong, code) in [
        (json!({ "narrow_days": 30 }), "invalid_body"),
        (
            json!({ "narrow_scopes": true, "scope_proposal": "30-x" }),
            "invalid_body",
        ),
        (
            json!({ "narrow_scopes": true, "narrow_days": 0 }),
            "out_of_bounds",
        ),
    ] {
        refused(&root.post(&path, wrong).await, 400, code);
    }
    for id in ["", "30-x", "x", "90-0000"] {
        let stale = json!({ "scope_proposal": id });
        refused(&root.post(&path, stale).await, 409, "proposal_changed");
    }
    // A window in which nothing can be judged takes nothing away.
    let name = [("idempotency-key", "narrow-once")];
    let body = json!({ "narrow_scopes": true, "narrow_days": 30 });
    for status in [201, 200] {
        let rotated = root
            .send_with(Method::POST, &path, body.clone(), &name)
            .await;
        assert_eq!(rotated.status, status, "{}", rotated.text);
        let rotated = rotated.json();
        assert_eq!(
            rotated["key"]["scopes"],
            json!(["orders:read"]),
            "{rotated}"
        );
        // What was taken away has its receipt.
        assert_eq!(rotated["receipt"].is_object(), status == 201, "{rotated}");
    }
    let write = used(&mut root, &old, "orders:write").await;
    assert_eq!(write["code"], "insufficient_scope", "{write}");
    let back = format!("/api/v1/keys/{id}/rotations/current/cancel");
    fine(&root.post(&back, Value::Null).await);
    assert_eq!(scopes(&mut root, &id).await, both);
    assert_eq!(used(&mut root, &old, "orders:write").await["code"], "valid");
    let query = keywright_registry::AuditQuery {
        limit: 100,
        ..Default::default()
    };
    let trail = server.registry().list_audit_events(query).await.unwrap();
    let of = |action: &str, name: &str, value: &str| {
        let mut trail = trail.items.iter().filter(|one| one.action == action);
        trail.any(|one| one.details.iter().any(|(n, v)| n == name && v == value))
    };
    assert!(of("api_key.rotated", "scopes", "orders:read"));
    assert!(of(
        "api_key.rotated",
        "scopes_before",
        "orders:read orders:write"
    ));
    assert!(of(
        "api_key.rotation_cancelled",
        "scopes",
        "orders:read orders:write"
    ));
}

#[tokio::test]
async fn what_somebody_decided_since_stays_and_a_pending_rotation_ends_with_what_it_took() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let path = |id: &str| format!("/api/v1/keys/{id}/rotations");
    let narrowing = json!({ "narrow_scopes": true, "narrow_days": 30 });
    let both = json!(["orders:read", "orders:write"]);
    // Rolled back while both secrets work.
    let (id, _) = over_scoped(&server, &mut root).await;
    let rotated = fine(&root.post(&path(&id), narrowing.clone()).await);
    let new = secret_of(&rotated);
    assert_eq!(used(&mut root, &new, "orders:read").await["code"], "valid");
    fine(
        &root
            .post(&format!("{}/current/roll-back", path(&id)), Value::Null)
            .await,
    );
    assert_eq!(scopes(&mut root, &id).await, both);
    // A use of the other scope between the look and the rotation: nothing is taken by mistake.
    let seen = format!("/api/v1/keys/{id}/scope-proposal?days=30");
    let seen = fine(&root.get(&seen).await)["id"].clone();
    let current = root
        .post(&path(&id), json!({ "scope_proposal": seen }))
        .await;
    assert_eq!(fine(&current)["key"]["scopes"], json!(["orders:read"]));
    // Another rotation in its place takes over what it took, and gives it back with its own end.
    fine(&root.post(&path(&id), json!({})).await);
    assert_eq!(scopes(&mut root, &id).await, json!(["orders:read"]));
    fine(
        &root
            .post(&format!("{}/current/cancel", path(&id)), Value::Null)
            .await,
    );
    assert_eq!(scopes(&mut root, &id).await, both);
    // Nobody used the secret in time: as if it had been cancelled.
    fine(&root.post(&path(&id), narrowing.clone()).await);
    assert_eq!(scopes(&mut root, &id).await, json!(["orders:read"]));
    server.pass(31 * DAY_MS);
    server.registry().settle_rotations().await.unwrap();
    assert_eq!(scopes(&mut root, &id).await, both);
    // Decided since: the end of the rotation does not undo it.
    let (id, text) = over_scoped(&server, &mut root).await;
    fine(&root.post(&path(&id), narrowing.clone()).await);
    let only = json!({ "scopes": ["orders:write"] });
    let own = format!("/api/v1/keys/{id}");
    fine(&root.send(Method::PATCH, &own, only.clone()).await);
    fine(
        &root
            .post(&format!("{}/current/cancel", path(&id)), Value::Null)
            .await,
    );
    assert_eq!(scopes(&mut root, &id).await, only["scopes"]);
    // Uses without a scope: somebody has to look first.
    let all = json!({ "scopes": ["orders:read", "orders:write"] });
    fine(&root.send(Method::PATCH, &own, all).await);
    assert_eq!(verdict(&mut root, &text).await["code"], "valid");
    let unsure = root.post(&path(&id), narrowing.clone()).await;
    refused(&unsure, 409, "uses_without_scope");
    let proposal = format!("/api/v1/keys/{id}/scope-proposal?days=30");
    let proposed = fine(&root.get(&proposal).await);
    assert_eq!(proposed["proposal"]["unnamed_uses"], 1, "{proposed}");
    assert_eq!(
        used(&mut root, &text, "orders:write").await["code"],
        "valid"
    );
    let stale = json!({ "scope_proposal": proposed["id"] });
    refused(&root.post(&path(&id), stale).await, 409, "proposal_changed");
    assert_eq!(scopes(&mut root, &id).await, both);
}

#[tokio::test]
async fn nobody_gets_scopes_back_for_a_key_that_they_do_not_hold_themselves() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let (id, _) = over_scoped(&server, &mut root).await;
    let mut helper = narrow(&server, &mut root, &["keys:write", "keys:read"]).await;
    let path = format!("/api/v1/keys/{id}/rotations");
    let body = json!({ "narrow_scopes": true, "narrow_days": 30 });
    fine(&helper.post(&path, body).await);
    let back = format!("{path}/current/cancel");
    refused(
        &helper.post(&back, Value::Null).await,
        403,
        "scope_exceeds_creator",
    );
    assert_eq!(scopes(&mut root, &id).await, json!(["orders:read"]));
    // Nor with another secret: a rotation in its place gives nothing back.
    fine(&helper.post(&path, json!({})).await);
    assert_eq!(scopes(&mut root, &id).await, json!(["orders:read"]));
    refused(
        &helper.post(&back, Value::Null).await,
        403,
        "scope_exceeds_creator",
    );
    fine(&root.post(&back, Value::Null).await);
    assert_eq!(
        scopes(&mut root, &id).await,
        json!(["orders:read", "orders:write"])
    );
}

#[tokio::test]
async fn a_management_keys_scopes_do_not_come_back_in_the_hand_of_somebody_with_fewer() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let scope = json!({ "name": "policies:write" });
    fine(&root.send(Method::PUT, "/api/v1/scopes", scope).await);
    let wish = json!({ "name": "Boss", "prefix": "kw_root", "scopes": ["keys:read", "keys:write", "policies:write"] });
    let issued = root.issue(wish).await;
    let mut boss = Program {
        browser: server.browser(),
        key: secret_of(&issued),
    };
    server.pass(31 * DAY_MS);
    // A management key's uses name no scope, so somebody asks about it by name.
    assert_eq!(
        used(&mut root, &boss.key, "keys:read").await["code"],
        "valid"
    );
    let id = id_of(&issued);
    let mut helper = narrow(&server, &mut root, &["keys:read", "keys:write"]).await;
    let path = format!("/api/v1/keys/{id}/rotations");
    // As long as it may do more, its secrets are not for the helper.
    refused(
        &helper.post(&path, json!({})).await,
        403,
        "scope_exceeds_creator",
    );
    let body = json!({ "narrow_scopes": true, "narrow_days": 30 });
    fine(&root.post(&path, body).await);
    assert_eq!(scopes(&mut root, &id).await, json!(["keys:read"]));
    // What the helper gets now can do no more than the helper, whatever becomes of the rotation before.
    let mine = fine(&helper.post(&path, json!({})).await);
    boss.key = secret_of(&mine);
    assert_eq!(scopes(&mut root, &id).await, json!(["keys:read"]));
    let policy = boss
        .send(Method::PUT, "/api/v1/policies/live", json!({}))
        .await;
    refused(&policy, 403, "insufficient_scope");
    let back = format!("{path}/current/roll-back");
    refused(
        &helper.post(&back, Value::Null).await,
        403,
        "scope_exceeds_creator",
    );
}

async fn trail(server: &TestServer, action: &str) -> Vec<Vec<(String, String)>> {
    let query = keywright_registry::AuditQuery {
        limit: 100,
        ..Default::default()
    };
    let trail = server.registry().list_audit_events(query).await.unwrap();
    let of = trail.items.into_iter().filter(|one| one.action == action);
    // Newest first.
    of.map(|one| one.details).collect()
}

fn says(details: &[(String, String)], name: &str) -> Option<String> {
    let mut found = details.iter().filter(|(named, _)| named == name);
    found.next().map(|(_, value)| value.clone())
}

#[tokio::test]
async fn a_delivery_that_failed_gives_the_scopes_back_if_its_reporter_may() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let (id, old) = over_scoped(&server, &mut root).await;
    let mut helper = narrow(&server, &mut root, &["keys:write", "keys:read"]).await;
    let both = json!(["orders:read", "orders:write"]);
    let path = format!("/api/v1/keys/{id}/rotations");
    let body = json!({ "narrow_scopes": true, "narrow_days": 30 });
    let rotation = fine(&root.post(&path, body).await)["rotation_id"].clone();
    let rotation = rotation.as_str().unwrap();
    let told = format!("{path}/{rotation}/deliveries");
    let failed = json!({ "target": "vault", "delivered": false, "error": "x", "then": "cancel" });
    // Held: the scopes are not the helper's to give, and must not be lost.
    let held = fine(&helper.post(&told, failed.clone()).await);
    assert_eq!(held["rotation"]["state"], "pending", "{held}");
    assert_eq!(scopes(&mut root, &id).await, json!(["orders:read"]));
    let cancelled = fine(&root.post(&told, failed).await);
    assert_eq!(cancelled["rotation"]["state"], "cancelled", "{cancelled}");
    assert_eq!(scopes(&mut root, &id).await, both);
    assert_eq!(used(&mut root, &old, "orders:write").await["code"], "valid");
    let trail = trail(&server, "api_key.delivery_failed").await;
    let told = |at: usize, name: &str| says(&trail[at], name);
    assert_eq!(
        told(0, "scopes").as_deref(),
        Some("orders:read orders:write")
    );
    assert_eq!(told(0, "then").as_deref(), Some("cancelled"));
    assert_eq!(told(1, "scopes"), None);
    assert_ne!(told(1, "then").as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn the_end_of_a_pending_secret_gives_the_scopes_back_to_who_holds_them() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let (id, old) = over_scoped(&server, &mut root).await;
    let mut helper = narrow(&server, &mut root, &["keys:write", "keys:read"]).await;
    let both = json!(["orders:read", "orders:write"]);
    let (own, path) = (
        format!("/api/v1/keys/{id}"),
        format!("/api/v1/keys/{id}/rotations"),
    );
    let body = json!({ "narrow_scopes": true, "narrow_days": 30 });
    for by_root in [false, true] {
        let rotated = fine(&root.post(&path, body.clone()).await);
        let new = secret_of(&rotated);
        let kid = keywright_domain::api_keys::PresentedKey::parse(&new).unwrap();
        let revoke = format!("{own}/secrets/{}/revoke", kid.kid());
        let caller = if by_root { &mut root } else { &mut helper };
        // It is never refused: a secret that others know ends.
        fine(&caller.post(&revoke, json!({ "reason": "leaked" })).await);
        assert_eq!(
            used(&mut root, &new, "orders:read").await["code"],
            "revoked"
        );
        let (now, named) = match by_root {
            true => (both.clone(), "scopes"),
            false => (json!(["orders:read"]), "scopes_not_given_back"),
        };
        assert_eq!(scopes(&mut root, &id).await, now);
        let newest = trail(&server, "api_key.secret_revoked")
            .await
            .swap_remove(0);
        assert_eq!(
            says(&newest, named).as_deref(),
            Some("orders:read orders:write"),
            "{newest:?}"
        );
        let patch = json!({ "scopes": both });
        fine(&root.send(Method::PATCH, &own, patch).await);
    }
    // Found where no key belongs: nobody asks for the scopes, as where time is over.
    let rotated = fine(&root.post(&path, body).await);
    let new = secret_of(&rotated);
    let kind = [("content-type", "application/json")];
    let found = axum::body::Body::from(json!({ "key": new }).to_string());
    server
        .browser()
        .send(Method::POST, "/found-key", &kind, found)
        .await;
    for _ in 0..200 {
        if scopes(&mut root, &id).await == both {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(scopes(&mut root, &id).await, both);
    assert_eq!(
        used(&mut root, &new, "orders:read").await["code"],
        "revoked"
    );
    assert_eq!(used(&mut root, &old, "orders:write").await["code"], "valid");
    let newest = trail(&server, "api_key.exposed").await.swap_remove(0);
    assert_eq!(
        says(&newest, "scopes").as_deref(),
        Some("orders:read orders:write"),
        "{newest:?}"
    );
}

#[tokio::test]
async fn a_key_whose_uses_all_named_no_scope_is_refused() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let wish =
        json!({ "name": "Orders", "prefix": "sk_live", "scopes": ["orders:read", "orders:write"] });
    let issued = root.issue(wish).await;
    server.pass(31 * DAY_MS);
    assert_eq!(
        used(&mut root, &secret_of(&issued), "").await["code"],
        "valid"
    );
    let path = format!("/api/v1/keys/{}/rotations", id_of(&issued));
    let body = json!({ "narrow_scopes": true, "narrow_days": 30 });
    refused(&root.post(&path, body).await, 409, "uses_without_scope");
}

/// Each way to a secret of a management key is looked at in the transaction that hands it out.
#[tokio::test]
async fn no_way_leads_to_a_secret_of_a_management_key_that_may_do_more() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let wish = json!({ "name": "Boss", "prefix": "kw_root", "scopes": ["keys:read", "keys:write", "policies:write"] });
    let scope = json!({ "name": "policies:write" });
    fine(&root.send(Method::PUT, "/api/v1/scopes", scope).await);
    let id = id_of(&root.issue(wish).await);
    let mut helper = narrow(&server, &mut root, &["keys:read", "keys:write"]).await;
    let path = format!("/api/v1/keys/{id}/rotations");
    let name = [("idempotency-key", "their-secret")];
    let rotated = fine(&root.post(&path, json!({})).await);
    let anew = format!(
        "{path}/{}/reissue",
        rotated["rotation_id"].as_str().unwrap()
    );
    for path in [&path, &anew] {
        for headers in [&name[..], &[]] {
            let answer = helper.send_with(Method::POST, path, json!({}), headers);
            refused(&answer.await, 403, "scope_exceeds_creator");
        }
    }
    fine(&root.post(&anew, json!({})).await);
}
