//! Requests that come again under one name: every route that makes something, out of the table of all
//! routes. A route of the table that is in none of the lists here fails the test.

use axum::http::Method;
use serde_json::{Value, json};

use super::moving::{body as promotion, bundle, hash};
use super::table::TABLE;
use super::{asked_about, fine, id_of, refused};
use crate::keys::tests::{Program, root, wish};
use crate::test_support::{Answer, Browser, TestServer};

/// Routes that make nothing which a second request would make twice: they read, bring a thing into a
/// state where a second time changes nothing, or are refused a second time.
const MAKES_NOTHING: [&str; 30] = [
    "/api/v1/keys/verify",
    "/api/v1/keys/{id}/revoke",
    "/api/v1/keys/{id}/disable",
    "/api/v1/keys/{id}/enable",
    "/api/v1/keys/{id}/rotations/current/{step}",
    "/api/v1/keys/{id}/rotations/current/finish-if-drained",
    "/api/v1/keys/{id}/secrets/{kid}/revoke",
    "/api/v1/keys/{id}/preview",
    "/api/v1/keys/preview",
    "/api/v1/keys/{id}/end-copy",
    "/api/v1/audit/checkpoints",
    "/api/v1/alerts/{id}/seen",
    "/api/v1/notices/read",
    "/api/v1/notices/{id}/read",
    "/api/v1/bulk/{id}/cancel",
    "/api/v1/operations/{id}/cancel",
    "/api/v1/sessions/revoke-others",
    "/api/v1/sessions/revoke-all",
    "/api/v1/users/{id}/disable",
    "/api/v1/users/{id}/enable",
    "/api/v1/users/{id}/sessions/revoke-all",
    "/api/v1/clients/{id}/disable",
    "/api/v1/clients/{id}/enable",
    "/api/v1/clients/{id}/revoke-tokens",
    "/api/v1/owners/{id}/disable",
    "/api/v1/owners/{id}/enable",
    // Again, it ends what was issued since.
    "/api/v1/owners/{id}/revoke-keys",
    "/auth/signOut",
    // By their own way, with tests of their own: `resources`, `keys::tests`.
    "/api/v1/keys",
    "/api/v1/keys/{id}/rotations",
];

/// Whoever asks, in a browser.
struct Person(Browser);

impl Person {
    async fn send(&mut self, path: &str, body: &Value, name: &str) -> Answer {
        let csrf = self.0.cookie("csrf_token").unwrap().to_owned();
        let (kind, text) = match body {
            Value::Null => ("", String::new()),
            Value::String(lines) => ("application/x-ndjson", lines.clone()),
            body => ("application/json", body.to_string()),
        };
        let headers = [
            ("content-type", kind),
            ("x-csrf-token", csrf.as_str()),
            ("idempotency-key", name),
        ];
        self.0.send(Method::POST, path, &headers, text.into()).await
    }

    async fn get(&mut self, path: &str) -> Value {
        fine(&self.0.get(path).await)
    }
}

/// A request that makes something, another one for the same address, and whether the same request under
/// a new name would make another one.
struct Case {
    route: &'static str,
    path: String,
    body: Value,
    other: Value,
    makes_another: bool,
}

struct World {
    server: TestServer,
    there: TestServer,
    root: Program,
    webhook: String,
    victim: String,
}

impl World {
    async fn new() -> (Self, Person, Person) {
        let server = TestServer::start().await;
        let root = root(&server).await;
        let ann = server.add_user("ann@example.org", &["owner"]).await;
        let bob = server.add_user("bob@example.org", &["owner"]).await;
        let victim = server.add_user("victim@example.org", &[]).await;
        let mut ann = Person(server.sign_in_as(&ann).await);
        let bob = Person(server.sign_in_as(&bob).await);
        let hook = json!({ "url": "https://hooks.example.org/", "events": ["webhook.test"] });
        let made = fine(&ann.send("/api/v1/webhooks", &hook, "").await);
        let world = Self {
            there: TestServer::start().await,
            webhook: made["webhook"]["id"].as_str().unwrap().to_owned(),
            victim: victim.id,
            server,
            root,
        };
        (world, ann, bob)
    }

    /// A key with a rotation whose new secret waits.
    async fn rotated(&mut self) -> (String, String) {
        let key = id_of(&self.root.issue(wish()).await);
        let path = format!("/api/v1/keys/{key}/rotations");
        let rotated = fine(&self.root.post(&path, json!({})).await);
        (key, rotated["rotation_id"].as_str().unwrap().to_owned())
    }

    async fn cases(&mut self) -> Vec<Case> {
        let (key, rotation) = self.rotated().await;
        let scheduled = id_of(&self.root.issue(wish()).await);
        let schedule = json!({ "every_ms": 86_400_000_i64, "mode": "notify_only" });
        let path = format!("/api/v1/keys/{scheduled}/schedule");
        fine(&self.root.send(Method::PUT, &path, schedule).await);
        let mut there = root(&self.there).await;
        let moving = id_of(&there.issue(wish()).await);
        let moved = bundle(&mut there, &mut self.root, std::slice::from_ref(&moving)).await;
        let mut another = promotion(&moved, false);
        another["never_expires"] = json!(true);
        let leaving = id_of(&self.root.issue(wish()).await);
        let campaign = asked_about(&self.server, &mut self.root, &scheduled).await;
        let off = asked_about(&self.server, &mut self.root, &leaving).await;
        let due_at = self.server.server.app().now() + 10 * 86_400_000;
        let asking = |name: &str| json!({ "name": name, "findings": ["orphaned"], "due_at": due_at, "unanswered": "leave" });
        let line = |key: &str| {
            json!({ "name": "Old", "hash": hash(key), "scopes": ["orders:read"], "expires_at": 1_830_000_000_000_i64 }).to_string()
        };
        let recipient = fine(&there.post("/api/v1/promotions/offers", Value::Null).await);
        let recipient = recipient["recipient"].clone();
        let webhook = format!("/api/v1/webhooks/{}", self.webhook);
        let rotation = format!("/api/v1/keys/{key}/rotations/{rotation}");
        let case = |route, path: &str, body, other, makes_another| Case {
            route,
            path: path.to_owned(),
            body,
            other,
            makes_another,
        };
        let client = |name: &str| json!({ "client_name": name, "grant_types": ["client_credentials"], "redirect_uris": [] });
        let mut machine = client("Machine");
        machine["client_id"] = json!("machine");
        fine(&self.root.post("/api/v1/clients", machine).await);
        let hook = |text: &str| json!({ "url": "https://hooks.example.org/a", "events": ["*"], "description": text });
        vec![
            case(
                "/api/v1/webhooks",
                "/api/v1/webhooks",
                hook("one"),
                hook("two"),
                true,
            ),
            case(
                "/api/v1/webhooks/{id}/rotate-secret",
                &format!("{webhook}/rotate-secret"),
                Value::Null,
                Value::Null,
                true,
            ),
            case(
                "/api/v1/webhooks/{id}/test",
                &format!("{webhook}/test"),
                Value::Null,
                Value::Null,
                true,
            ),
            case(
                "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
                &format!("{webhook}/deliveries/DELIVERY/redeliver"),
                Value::Null,
                Value::Null,
                false,
            ),
            case(
                "/api/v1/webhooks/{id}/deliveries/redeliver",
                &format!("{webhook}/deliveries/redeliver"),
                json!({ "state": "failed", "since": 0 }),
                json!({ "state": "failed", "since": 1 }),
                false,
            ),
            case(
                "/api/v1/users",
                "/api/v1/users",
                json!({ "name": "New", "password": "a first password of mine" }),
                json!({ "name": "New", "password": "another password of mine" }),
                true,
            ),
            case(
                "/api/v1/users/{id}/password-reset",
                &format!("/api/v1/users/{}/password-reset", self.victim),
                json!({}),
                json!({ "expires_in_hours": 2 }),
                true,
            ),
            case(
                "/api/v1/invitations",
                "/api/v1/invitations",
                json!({ "email": "new@example.org" }),
                json!({ "email": "new@example.org", "roles": ["auditor"] }),
                true,
            ),
            case(
                "/api/v1/owners",
                "/api/v1/owners",
                json!({ "kind": "service", "id": "billing", "name": "Billing" }),
                json!({ "kind": "team", "id": "billing", "name": "Billing" }),
                false,
            ),
            case(
                "/api/v1/bulk",
                "/api/v1/bulk",
                json!({ "operation": "tag", "tag": "a", "ids": [] }),
                json!({ "operation": "tag", "tag": "b", "ids": [] }),
                true,
            ),
            case(
                "/api/v1/hygiene/campaigns",
                "/api/v1/hygiene/campaigns",
                asking("one"),
                asking("two"),
                true,
            ),
            case(
                "/api/v1/hygiene/campaigns/{id}/questions/{key_id}",
                &format!("/api/v1/hygiene/campaigns/{campaign}/questions/{scheduled}"),
                json!({ "answer": "retire", "how": "disable" }),
                json!({ "answer": "retire", "how": "revoke" }),
                true,
            ),
            case(
                "/api/v1/hygiene/campaigns/{id}/cancel",
                &format!("/api/v1/hygiene/campaigns/{off}/cancel"),
                Value::Null,
                Value::Null,
                false,
            ),
            case(
                "/api/v1/import",
                "/api/v1/import?dry_run=false",
                json!(line("old-system-key-one-0123456789")),
                json!(line("old-system-key-two-0123456789")),
                false,
            ),
            case(
                "/api/v1/promotions/offers",
                "/api/v1/promotions/offers",
                Value::Null,
                Value::Null,
                false,
            ),
            case(
                "/api/v1/promotions",
                "/api/v1/promotions",
                promotion(&moved, false),
                another,
                false,
            ),
            case(
                "/api/v1/promotions/bundles",
                "/api/v1/promotions/bundles",
                json!({ "key_ids": [key], "recipient": recipient }),
                json!({ "key_ids": [scheduled], "recipient": recipient }),
                true,
            ),
            case(
                "/api/v1/promotions/left",
                "/api/v1/promotions/left",
                json!({ "key_ids": [leaving], "remote": "there" }),
                json!({ "key_ids": [leaving], "remote": "elsewhere" }),
                false,
            ),
            case(
                "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries",
                &format!("{rotation}/deliveries"),
                json!({ "target": "t", "delivered": true }),
                json!({ "target": "u", "delivered": true }),
                true,
            ),
            case(
                "/api/v1/keys/{id}/rotations/{rotation_id}/reissue",
                &format!("{rotation}/reissue"),
                Value::Null,
                json!({ "client_secret": { "kid": "7Hq2mXw4KdPz", "last_four": "abcd", "digest": "ab".repeat(32) } }),
                true,
            ),
            case(
                "/api/v1/clients",
                "/api/v1/clients",
                client("one"),
                client("two"),
                true,
            ),
            case(
                "/api/v1/clients/{id}/rotate-secret",
                "/api/v1/clients/machine/rotate-secret",
                json!({}),
                json!({ "overlap_ms": 0 }),
                true,
            ),
            case(
                "/api/v1/registration-tokens",
                "/api/v1/registration-tokens",
                json!({ "note": "one" }),
                json!({ "note": "two" }),
                true,
            ),
            case(
                "/api/v1/keys/{id}/schedule/{step}",
                &format!("{path}/run-now"),
                Value::Null,
                Value::Null,
                false,
            ),
        ]
    }

    /// Whatever a request may have made: each change of the registry is an event, and messages are not.
    async fn standing(&self, ann: &mut Person) -> (i64, usize, Value) {
        let trail = ann.get("/api/v1/audit?limit=1").await;
        let sequence = trail["items"][0]["sequence"].as_i64().unwrap();
        let path = format!("/api/v1/webhooks/{}/deliveries", self.webhook);
        let deliveries = ann.get(&path).await["items"].clone();
        let ids = deliveries.as_array().unwrap().iter();
        let ids: Vec<Value> = ids.map(|one| one["id"].clone()).collect();
        (sequence, ids.len(), json!(ids))
    }
}

/// What an answer must not say twice.
fn secrets(answer: &Value) -> Vec<String> {
    ["secret", "link", "client_secret", "token"]
        .iter()
        .filter_map(|name| answer[name].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_retry_under_one_name_never_makes_a_second_one() {
    let (mut world, mut ann, mut bob) = World::new().await;
    let cases = world.cases().await;
    let posts = TABLE.iter().filter(|row| row.0 == "POST");
    for (_, route, ..) in posts {
        let known = MAKES_NOTHING.contains(route) || cases.iter().any(|case| case.route == *route);
        assert!(known, "POST {route}: does a retry make a second one?");
    }
    let (mut secret_ones, mut delivery) = (0, String::new());
    for (number, case) in cases.into_iter().enumerate() {
        let (route, name) = (case.route, format!("request-{number}"));
        let path = case.path.replace("DELIVERY", &delivery);
        let before = world.standing(&mut ann).await;
        let first = ann.send(&path, &case.body, &name).await;
        let made = fine(&first);
        assert_eq!(first.header("idempotency-replayed"), "", "{route}");
        if route.ends_with("/test") {
            delivery = made["id"].as_str().unwrap().to_owned();
        }
        let after = world.standing(&mut ann).await;
        for _ in 0..2 {
            let again = ann.send(&path, &case.body, &name).await;
            fine(&again);
            assert_eq!(again.header("idempotency-replayed"), "true", "{route}");
            for secret in secrets(&made) {
                secret_ones += 1;
                assert!(!again.text.contains(&secret), "{route} shows it twice");
                let said = again.json();
                let was_shown = [&said["secret_was_shown"], &said["link_was_shown"]];
                assert!(was_shown.contains(&&json!(true)), "{route}: {said}");
            }
            for id in ["id", "webhook", "invitation", "client_id"] {
                let of = |view: &Value| match &view[id] {
                    Value::Object(inner) => inner["id"].clone(),
                    other => other.clone(),
                };
                assert_eq!(of(&made), of(&again.json()), "{route}");
            }
        }
        assert_eq!(
            world.standing(&mut ann).await,
            after,
            "{route} did it twice"
        );
        // The name is this request's alone: of this address, of this body, of this caller.
        let other = match &case.other {
            Value::Null => {
                ann.send("/api/v1/users", &json!({ "name": "x" }), &name)
                    .await
            }
            other => ann.send(&path, other, &name).await,
        };
        refused(&other, 409, "idempotency_key_reused");
        assert_eq!(world.standing(&mut ann).await, after, "{route}: refused");
        let strange = bob.send(&path, &case.body, &name).await;
        assert_eq!(strange.header("idempotency-replayed"), "", "{route}");
        // Without the name it would be made twice: or this test proves nothing.
        if case.makes_another {
            assert_ne!(before, after, "{route} made nothing");
            let before = world.standing(&mut ann).await;
            fine(&ann.send(&path, &case.body, &format!("{name}-b")).await);
            assert_ne!(world.standing(&mut ann).await, before, "{route}");
        }
    }
    assert!(secret_ones >= 10, "{secret_ones}");
}

#[tokio::test]
async fn a_retry_after_a_restart_and_after_the_thing_is_gone_makes_nothing() {
    let (world, mut ann, _) = World::new().await;
    let hook = json!({ "url": "https://hooks.example.org/b", "events": ["*"] });
    let made = fine(&ann.send("/api/v1/webhooks", &hook, "one-and-only").await);
    let id = made["webhook"]["id"].as_str().unwrap().to_owned();
    // The answer got lost with the process.
    let World { server, root, .. } = world;
    let server = server.again().await;
    let owner = server.add_user("cy@example.org", &["owner"]).await;
    let mut cy = Person(server.sign_in_as(&owner).await);
    // The same person in a session of the server that runs now.
    let find = server
        .registry()
        .list_users(&Default::default())
        .await
        .unwrap();
    let same = find.items.iter().find(|user| {
        user.email
            .as_ref()
            .is_some_and(|email| email.as_str() == "ann@example.org")
    });
    let mut ann = Person(server.sign_in_as(same.unwrap()).await);
    let again = ann.send("/api/v1/webhooks", &hook, "one-and-only").await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(again.json()["webhook"]["id"], id.as_str());
    assert_eq!(
        ann.get("/api/v1/webhooks").await["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let csrf = cy.0.cookie("csrf_token").unwrap().to_owned();
    let path = format!("/api/v1/webhooks/{id}");
    let headers = [("x-csrf-token", csrf.as_str())];
    let gone =
        cy.0.send(Method::DELETE, &path, &headers, String::new().into())
            .await;
    assert_eq!(gone.status, 204);
    let again = ann.send("/api/v1/webhooks", &hook, "one-and-only").await;
    refused(&again, 410, "made_and_removed");
    assert_eq!(
        ann.get("/api/v1/webhooks").await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    drop(root);
}

#[tokio::test]
async fn what_is_written_down_of_a_request_lets_nobody_guess_its_password() {
    let (world, mut ann, _) = World::new().await;
    let body = json!({ "name": "New", "password": "correct horse battery" });
    fine(&ann.send("/api/v1/users", &body, "with-a-password").await);
    let sorted = serde_json::to_vec(&body).unwrap();
    let plain = <sha2::Sha256 as sha2::Digest>::digest(&sorted);
    let secrets = &world.server.server.app().secrets;
    let kept = secrets.tag(&[
        b"request under a name",
        b"POST",
        b"/api/v1/users",
        b"",
        &sorted,
    ]);
    let files: Vec<Vec<u8>> = world
        .server
        .files()
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let holds = |needle: &[u8]| {
        files
            .iter()
            .any(|file| file.windows(needle.len()).any(|part| part == needle))
    };
    assert!(holds(&kept), "the digest is somewhere else by now");
    assert!(!holds(&plain) && !holds(b"correct horse battery"));
}
