//! Nobody overwrites what somebody else changed meanwhile: every address of the table of all routes that
//! is put, patched or deleted. One that is in neither list here fails the test.

use axum::http::Method;
use serde_json::{Value, json};

use super::table::TABLE;
use super::{fine, id_of, refused};
use crate::keys::tests::{root, wish};
use crate::test_support::{Answer, Browser, TestServer};

/// Addresses where a state that was seen means nothing, or that have their own way.
const WITHOUT: [&str; 8] = [
    // A key's number of its last change, with tests of its own: `keys::tests`.
    "/api/v1/keys/{id}",
    // Said as a whole each time; nothing else is lost by it.
    "/api/v1/scopes",
    // Ended or taken back: there is only one state to come to.
    "/api/v1/registration-tokens/{id}",
    "/api/v1/sessions/{id}",
    "/api/v1/applications/{client_id}",
    "/api/v1/users/{id}/sessions/{session_id}",
    "/api/v1/invitations/{id}",
    "/api/v1/scopes/{name}",
];

/// A thing with an address.
#[derive(Clone)]
struct Thing {
    route: &'static str,
    path: String,
    /// How it is changed.
    method: Method,
    /// The body of a change; each number is another one.
    body: fn(usize) -> Value,
    /// Whether PUT makes it.
    made_by_put: bool,
    /// How DELETE leaves it: gone, or still there.
    deleted: Option<bool>,
}

#[derive(Clone)]
struct Person(Browser);

impl Person {
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        more: (&str, &str),
    ) -> Answer {
        let csrf = self.0.cookie("csrf_token").unwrap().to_owned();
        let kind = if body.is_null() {
            ""
        } else {
            "application/json"
        };
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let headers = [
            ("content-type", kind),
            ("x-csrf-token", csrf.as_str()),
            more,
        ];
        self.0.send(method, path, &headers, text.into()).await
    }

    async fn get(&mut self, path: &str, more: (&str, &str)) -> Answer {
        self.send(Method::GET, path, &Value::Null, more).await
    }

    /// The tag of what is there.
    async fn tag(&mut self, path: &str) -> String {
        let answer = self.get(path, ("", "")).await;
        fine(&answer);
        tag_in(&answer)
    }
}

#[track_caller]
fn tag_in(answer: &Answer) -> String {
    let tag = answer.header("etag").to_owned();
    let is_strong = tag.len() > 10 && tag.starts_with('"') && tag.ends_with('"');
    assert!(is_strong, "{tag} {}", answer.text);
    tag
}

async fn world() -> (TestServer, Person, Vec<Thing>) {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let key = id_of(&root.issue(wish()).await);
    let ann = server.add_user("ann@example.org", &["owner"]).await;
    let victim = server.add_user("victim@example.org", &[]).await;
    let mut ann = Person(server.sign_in_as(&ann).await);
    let hook = json!({ "url": "https://hooks.example.org/", "events": ["*"] });
    let made = ann
        .send(Method::POST, "/api/v1/webhooks", &hook, ("", ""))
        .await;
    let webhook = fine(&made)["webhook"]["id"].as_str().unwrap().to_owned();
    let program = json!({ "client_id": "program", "redirect_uris": ["http://127.0.0.1/callback"] });
    let made = ann.send(Method::POST, "/api/v1/clients", &program, ("", ""));
    fine(&made.await);
    let service = json!({ "kind": "service", "id": "billing", "name": "Billing" });
    let made = ann.send(Method::POST, "/api/v1/owners", &service, ("", ""));
    fine(&made.await);
    let put = |route, path: String, body| Thing {
        route,
        path,
        method: Method::PUT,
        body,
        made_by_put: true,
        deleted: Some(true),
    };
    let things = vec![
        put(
            "/api/v1/policies/{environment}",
            "/api/v1/policies/live".into(),
            // In an order that is not kept.
            |number| json!({ "drain_ms": 60_000 + number, "allowed_scopes": ["orders:write", "audit:read"] }),
        ),
        put(
            "/api/v1/keys/{id}/schedule",
            format!("/api/v1/keys/{key}/schedule"),
            |number| {
                json!({ "every_ms": 86_400_000 + number, "mode": "notify_only",
                "window": { "days": ["tue", "mon"], "start_minute": 60, "end_minute": 120 } })
            },
        ),
        put(
            "/api/v1/roles/{name}",
            "/api/v1/roles/tester".into(),
            |number| json!({ "description": number.to_string(), "permissions": ["keys:write", "audit:read"] }),
        ),
        Thing {
            deleted: Some(false),
            ..put(
                "/api/v1/identity-providers/{id}",
                "/api/v1/identity-providers/github".into(),
                |number| json!({ "kind": "github", "client_id": format!("Iv1.{number}"), "client_secret": "s" }),
            )
        },
        Thing {
            method: Method::PATCH,
            made_by_put: false,
            ..put(
                "/api/v1/webhooks/{id}",
                format!("/api/v1/webhooks/{webhook}"),
                |number| json!({ "description": number.to_string() }),
            )
        },
        Thing {
            method: Method::PATCH,
            made_by_put: false,
            ..put(
                "/api/v1/clients/{id}",
                "/api/v1/clients/program".into(),
                |number| json!({ "client_name": format!("Program {number}") }),
            )
        },
        Thing {
            method: Method::PATCH,
            made_by_put: false,
            deleted: None,
            ..put(
                "/api/v1/owners/{id}",
                "/api/v1/owners/billing".into(),
                |number| json!({ "name": format!("Billing {number}"), "email": format!("b{number}@example.org") }),
            )
        },
        Thing {
            made_by_put: false,
            deleted: None,
            ..put(
                "/api/v1/users/{id}/roles",
                format!("/api/v1/users/{}/roles", victim.id),
                |number| {
                    let roles = ["member", "auditor", "key-admin", "admin", "owner"];
                    let taken = (0..roles.len()).filter(|bit| number & (1 << bit) != 0);
                    json!({ "roles": taken.map(|bit| roles[bit]).collect::<Vec<_>>() })
                },
            )
        },
        Thing {
            method: Method::PATCH,
            made_by_put: false,
            ..put(
                "/api/v1/users/{id}",
                format!("/api/v1/users/{}", victim.id),
                |number| json!({ "name": format!("Victor {number}"), "email": format!("v{number}@example.org") }),
            )
        },
    ];
    (server, ann, things)
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    let (_server, mut ann, things) = world().await;
    for (method, route, ..) in TABLE {
        let changes = ["PUT", "PATCH", "DELETE"].contains(method);
        let known = WITHOUT.contains(route) || things.iter().any(|thing| thing.route == *route);
        assert!(
            !changes || known,
            "{method} {route}: what of a lost update?"
        );
    }
    for thing in things {
        let (path, method) = (thing.path.as_str(), &thing.method);
        let change = |number| (thing.body)(number);
        if thing.made_by_put {
            let early = ann
                .send(Method::PUT, path, &change(1), ("if-match", "*"))
                .await;
            refused(&early, 412, "precondition_failed");
            let early = ann
                .send(Method::PUT, path, &change(1), ("if-match", "\"any\""))
                .await;
            refused(&early, 412, "precondition_failed");
            let made = ann
                .send(Method::PUT, path, &change(1), ("if-none-match", "*"))
                .await;
            fine(&made);
            assert_eq!(tag_in(&made), ann.tag(path).await, "{path}");
            let again = ann
                .send(Method::PUT, path, &change(2), ("if-none-match", "*"))
                .await;
            refused(&again, 412, "precondition_failed");
        }
        // Read again only if it is another one.
        let first = ann.tag(path).await;
        for known in [first.clone(), format!("\"x\", W/{first}"), "*".into()] {
            let answer = ann.get(path, ("if-none-match", &known)).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text.as_str()),
                (304, ""),
                "{path}"
            );
            assert_eq!(tag_in(&answer), first);
            assert_eq!(answer.header("cache-control"), "no-store");
        }
        assert_eq!(ann.get(path, ("if-none-match", "\"x\"")).await.status, 200);
        refused(
            &ann.get(path, ("if-match", "\"x\"")).await,
            412,
            "precondition_failed",
        );
        let odd = ann
            .send(method.clone(), path, &change(3), ("if-match", "x"))
            .await;
        refused(&odd, 400, "invalid_etag");
        // One changes it, and the other's tag is old.
        let changed = ann
            .send(method.clone(), path, &change(4), ("if-match", &first))
            .await;
        fine(&changed);
        let second = tag_in(&changed);
        assert_ne!(second, first, "{path}");
        assert_eq!(second, ann.tag(path).await, "{path}");
        for stale in [first.clone(), format!("W/{second}")] {
            let late = ann
                .send(method.clone(), path, &change(5), ("if-match", &stale))
                .await;
            refused(&late, 412, "precondition_failed");
        }
        let any = format!("\"x\", {second}");
        assert_eq!(
            second,
            ann.tag(path).await,
            "{path} was changed by who was refused"
        );
        fine(
            &ann.send(method.clone(), path, &change(6), ("if-match", &any))
                .await,
        );
        fine(
            &ann.send(method.clone(), path, &change(7), ("if-match", "*"))
                .await,
        );
        // Without a condition nothing is asked.
        fine(&ann.send(method.clone(), path, &change(8), ("", "")).await);
        let Some(goes) = thing.deleted else { continue };
        let stale = ann
            .send(Method::DELETE, path, &Value::Null, ("if-match", &first))
            .await;
        refused(&stale, 412, "precondition_failed");
        let now = ann.tag(path).await;
        let gone = ann
            .send(Method::DELETE, path, &Value::Null, ("if-match", &now))
            .await;
        // A person's end has a receipt.
        let said = if path.starts_with("/api/v1/users/") {
            200
        } else {
            204
        };
        assert_eq!(gone.status, said, "{path} {}", gone.text);
        let left = ann.get(path, ("", "")).await;
        assert_eq!(left.status, if goes { 404 } else { 200 }, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_who_saw_the_same_one_is_let_through() {
    let (_server, mut ann, things) = world().await;
    for thing in things {
        let path = thing.path.as_str();
        if thing.made_by_put {
            // Eight make it at the same moment: it is made once.
            let (made, late) = race(&ann, &thing, ("if-none-match", "*"), 0).await;
            assert_eq!((made, late), (1, 7), "{path}");
        }
        for round in 1..3 {
            let tag = ann.tag(path).await;
            let (made, late) = race(&ann, &thing, ("if-match", &tag), 8 * round).await;
            assert_eq!((made, late), (1, 7), "{path}");
            assert_ne!(ann.tag(path).await, tag, "{path}");
        }
    }
}

/// How many of eight were let through, and how many were told that it is another one by now.
async fn race(ann: &Person, thing: &Thing, condition: (&str, &str), from: usize) -> (usize, usize) {
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let (mut ann, thing) = (ann.clone(), thing.clone());
            let (name, value) = (condition.0.to_owned(), condition.1.to_owned());
            tokio::spawn(async move {
                let body = (thing.body)(from + number);
                ann.send(thing.method, &thing.path, &body, (&name, &value))
                    .await
            })
        })
        .collect();
    let (mut made, mut late) = (0, 0);
    for one in tries {
        let answer = one.await.unwrap();
        if answer.status.is_success() {
            made += 1;
        } else {
            refused(&answer, 412, "precondition_failed");
            late += 1;
        }
    }
    (made, late)
}

#[tokio::test]
async fn a_clients_tag_is_of_its_secrets_too() {
    let (_server, mut ann, _) = world().await;
    let path = "/api/v1/clients/program";
    let first = ann.tag(path).await;
    let body = json!({ "overlap_ms": 0 });
    let rotate = format!("{path}/rotate-secret");
    fine(&ann.send(Method::POST, &rotate, &body, ("", "")).await);
    let second = ann.tag(path).await;
    assert_ne!(second, first);
    let name = json!({ "client_name": "Another" });
    let late = ann.send(Method::PATCH, path, &name, ("if-match", &first));
    refused(&late.await, 412, "precondition_failed");
    // A change that makes a secret is one with it.
    let key = crate::oauth2::dpop::tests::ClientKey::new();
    let by_key =
        json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [key.jwk] } });
    let changed = ann.send(Method::PATCH, path, &by_key, ("if-match", &second));
    let third = tag_in(&changed.await);
    assert_eq!(third, ann.tag(path).await);
    let back = json!({ "token_endpoint_auth_method": "client_secret_basic", "jwks": null });
    let changed = ann
        .send(Method::PATCH, path, &back, ("if-match", &third))
        .await;
    assert!(fine(&changed)["client_secret"].is_string());
    assert_eq!(tag_in(&changed), ann.tag(path).await);
}
