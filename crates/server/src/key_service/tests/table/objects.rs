//! Rows whose path names something that is there, with its real id: whose it is, and in which state. What the
//! table says of a row holds for what is there. To whoever is let through, what is not there is 404, and so is
//! what belongs to somebody else where a person sees their own alone; everybody else is refused as ever, and
//! learns nothing of whether it is there.

use axum::http::Method;
use keywright_domain::audit::Actor;
use keywright_domain::people::EndReason;
use keywright_registry::people::{NewUser, User};
use serde_json::{Value, json};

use super::{ACTORS, DAY_MS, PROVIDER, TABLE, World};
use crate::key_service::tests::fine;
use crate::sessions::tests::give_access;
use crate::test_support::Answer;
use crate::webhooks::testing::run;

/// How something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// As the table means it.
    There,
    /// The caller's own; the third column's, where only that one can have one.
    Own,
    /// Somebody else's, or of something else than the path says.
    Others,
    Disabled,
    /// Removed, ended or taken back.
    Over,
    /// There never was one.
    Never,
}

use Is::{Disabled, Never, Others, Over, Own, There};

/// What a path may name, and in which states it is asked for. The first that a path begins with.
const OBJECTS: &[(&str, &[Is])] = &[
    (
        "/api/v1/users/{id}/sessions/{session_id}",
        &[There, Others, Over, Never],
    ),
    ("/api/v1/users/{id}", &[There, Disabled, Over, Never]),
    ("/api/v1/owners/{id}", &[There, Own, Disabled, Never]),
    ("/api/v1/sessions/{id}", &[Own, Others, Over, Never]),
    ("/api/v1/applications/{client_id}", &[Own, Others, Never]),
    ("/api/v1/notices/{id}", &[There, Others, Never]),
    ("/api/v1/receipts/{version}", &[There, Never]),
    (
        "/api/v1/hygiene/campaigns/{id}/questions/{key_id}",
        &[There, Others, Never],
    ),
    ("/api/v1/hygiene/campaigns/{id}", &[There, Over, Never]),
    ("/api/v1/bulk/{id}", &[There, Own, Never]),
    ("/api/v1/operations/{id}", &[There, Never]),
    ("/api/v1/invitations/{id}", &[There, Over, Never]),
    ("/api/v1/identity-providers/{id}", &[There, Disabled, Never]),
    ("/api/v1/clients/{id}", &[There, Disabled, Over, Never]),
    ("/api/v1/registration-tokens/{id}", &[There, Over, Never]),
    (
        "/api/v1/webhooks/{id}/deliveries/{delivery}",
        &[There, Others, Never],
    ),
    ("/api/v1/webhooks/{id}", &[There, Disabled, Over, Never]),
    ("/api/v1/scopes/{name}", &[There, Never]),
    ("/api/v1/roles/{name}", &[There, Never]),
    ("/api/v1/policies/{environment}", &[There, Never]),
];

/// What a path may name that is nobody's and nothing by itself: keys have their own test, a finding is a word,
/// and an alert that is not there is as one that happened again (409).
const NO_OBJECTS: [&str; 3] = [
    "/api/v1/keys/{id}",
    "/api/v1/hygiene/{finding}",
    "/api/v1/alerts/{id}",
];

/// What a path names, and the states that it is asked for in; none where nothing is named.
pub(super) fn named(path: &str) -> Option<&'static (&'static str, &'static [Is])> {
    if !path.contains('{') || NO_OBJECTS.iter().any(|start| path.starts_with(start)) {
        return None;
    }
    let found = OBJECTS.iter().find(|(start, _)| path.starts_with(start));
    Some(found.unwrap_or_else(|| panic!("{path}: what does it name?")))
}

/// What a caller is told, by the letter of their column.
fn expected((method, path): (&str, &str), column: char, actor: usize, is: Is) -> char {
    let (start, _) = named(path).unwrap();
    let (is_holder, is_stranger) = (actor == 2, actor == 1);
    match (*start, is) {
        // People are changed elsewhere; their keys end here too.
        ("/api/v1/owners/{id}", Own) if method != "GET" && !path.ends_with("/revoke-keys") => {
            if is_holder || column == 'y' {
                'p'
            } else {
                column
            }
        }
        // One's own keys and what one began.
        ("/api/v1/owners/{id}" | "/api/v1/bulk/{id}", Own) if is_holder => 'y',
        // It is looked for before it is asked who may change it: those who may see it are told that it is
        // not there.
        ("/api/v1/bulk/{id}" | "/api/v1/operations/{id}", Never)
            if column == '3' && reads(start, actor) =>
        {
            '4'
        }
        ("/api/v1/owners/{id}", Never) if column == '3' && actor == 4 => '4',
        // About the third column's key, or about nobody's whom the table knows.
        ("/api/v1/notices/{id}", There) if is_stranger => '4',
        ("/api/v1/notices/{id}", Others) if is_stranger || is_holder => '4',
        ("/api/v1/hygiene/campaigns/{id}/questions/{key_id}", Others) if is_holder => '4',
        // Whoever is disabled chooses no password.
        ("/api/v1/users/{id}", Disabled) if column == 'y' && path.ends_with("/password-reset") => {
            '3'
        }
        // What is ended again is ended.
        (
            "/api/v1/users/{id}/sessions/{session_id}"
            | "/api/v1/sessions/{id}"
            | "/api/v1/invitations/{id}"
            | "/api/v1/registration-tokens/{id}"
            | "/api/v1/hygiene/campaigns/{id}",
            Over,
        ) => column,
        // It is there from now on.
        (_, Never) if method == "PUT" && !start.starts_with("/api/v1/users") => column,
        (
            "/api/v1/users/{id}/sessions/{session_id}"
            | "/api/v1/sessions/{id}"
            | "/api/v1/applications/{client_id}"
            | "/api/v1/webhooks/{id}/deliveries/{delivery}",
            Others,
        )
        | (_, Over | Never)
            if column == 'y' =>
        {
            '4'
        }
        _ => column,
    }
}

/// Whether a caller may read what is named so.
fn reads(start: &str, actor: usize) -> bool {
    let row = TABLE.iter().find(|row| row.0 == "GET" && row.1 == start);
    row.is_some_and(|row| row.3.chars().nth(actor) == Some('y'))
}

/// Stricter than the table's own look: done (or refused for the state of the thing, 409), or refused so.
fn came(answer: &Answer) -> char {
    let code = answer.json()["code"].as_str().unwrap_or("").to_owned();
    match (answer.status.as_u16(), code.as_str()) {
        (200..300 | 409, _) => 'y',
        (400, "principal_is_user") => 'p',
        (401, _) => '1',
        (403, _) => '3',
        (404, "not_found" | "") | (405, _) => '?',
        (404, _) => '4',
        (500.., _) => '!',
        _ => 'x',
    }
}

/// What the tests make of things.
pub(super) struct Maker {
    /// Makes names differ.
    made: usize,
    /// Somebody whom no caller is.
    victim: User,
    /// Notices about a key of the third column's, and of the registry's.
    notices: [String; 2],
    /// What could not be made.
    troubles: Vec<String>,
}

/// Of what was answered, or nothing that there is.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or("nothing").to_owned()
}

impl Maker {
    pub(super) async fn new(world: &mut World) -> Self {
        let victim = world.server.add_user("victim@example.org", &[]).await;
        world.server.add_client("theirs", None, |_| {}).await;
        world.server.add_client("own", None, |_| {}).await;
        give_access(&world.server, &victim, None, "theirs", "openid").await;
        let holder = world.people[1].id.clone();
        let soon = json!({ "lifetime_ms": 16 * DAY_MS });
        let keys = [
            world.issue(&holder, &soon).await,
            world.issue("local", &soon).await,
        ];
        run(&world.server).await;
        world.server.pass(3 * DAY_MS);
        run(&world.server).await;
        // Time passed: what callers show is new.
        world.renew().await;
        let list = fine(&world.root.get("/api/v1/notices").await);
        let about = |key: &str| {
            let items = list["items"].as_array().unwrap();
            let notice = items.iter().find(|one| one["key_id"] == key);
            let notice = notice.unwrap_or_else(|| panic!("{key}: {list}"));
            notice["id"].as_str().unwrap().to_owned()
        };
        let notices = [about(&keys[0]), about(&keys[1])];
        Self {
            made: 0,
            victim,
            notices,
            troubles: Vec::new(),
        }
    }

    fn next(&mut self) -> String {
        self.made += 1;
        format!("n{}", self.made)
    }

    async fn user(&mut self, world: &World) -> User {
        let new = NewUser {
            name: self.next(),
            email: None,
            email_verified: false,
            roles: Vec::new(),
            password_hash: None,
        };
        let actor = Actor::person("test");
        let registry = world.server.registry();
        registry.create_user(&actor, &new).await.unwrap()
    }

    /// A new session of somebody: the newest of theirs, as only this test signs them in.
    async fn session(&mut self, world: &World, user: &User) -> String {
        let mut browser = world.server.sign_in_as(user).await;
        let list = fine(&browser.get("/api/v1/sessions").await);
        let items = list["items"].as_array().unwrap();
        let own = items.iter().find(|one| one["current"] == true).unwrap();
        own["id"].as_str().unwrap().to_owned()
    }

    /// A campaign that asks about a new key of somebody's.
    async fn campaign(&mut self, world: &mut World, owner: &str) -> (String, String) {
        let key = world.issue(owner, &json!({})).await;
        let registry = world.server.registry().clone();
        let actor = Actor::person("test");
        let exposed = registry.mark_api_key_exposed(&actor, &key, "a log");
        exposed.await.unwrap();
        let asked = json!({
            "name": self.next(), "findings": ["exposed"], "unanswered": "leave",
            "due_at": world.server.server.app().now() + 10 * DAY_MS,
        });
        let begun = self.made(world, "/api/v1/hygiene/campaigns", asked).await;
        (text(&begun["id"]), key)
    }

    async fn done(&mut self, world: &mut World, method: Method, path: &str, body: Value) -> Value {
        let answer = world.root.send(method.clone(), path, body).await;
        if !answer.status.is_success() {
            let (status, text) = (answer.status, &answer.text);
            self.troubles
                .push(format!("{method} {path} to make one: {status} {text}"));
        }
        answer.json()
    }

    async fn made(&mut self, world: &mut World, path: &str, body: Value) -> Value {
        self.done(world, Method::POST, path, body).await
    }

    async fn put(&mut self, world: &mut World, path: &str, body: Value) {
        self.done(world, Method::PUT, path, body).await;
    }

    async fn deleted(&mut self, world: &mut World, path: &str) {
        self.done(world, Method::DELETE, path, Value::Null).await;
    }

    async fn webhook(&mut self, world: &mut World) -> String {
        let body = json!({ "url": "https://hooks.example.org/", "events": ["key.issued"] });
        let made = self.made(world, "/api/v1/webhooks", body).await;
        text(&made["webhook"]["id"])
    }

    async fn delivery(&mut self, world: &mut World, webhook: &str) -> String {
        let path = format!("/api/v1/webhooks/{webhook}/test");
        let sent = self.made(world, &path, Value::Null).await;
        text(&sent["id"])
    }

    /// What stands in the path for what it names: made for this call.
    pub(super) async fn ids(
        &mut self,
        world: &mut World,
        start: &str,
        is: Is,
        actor: usize,
    ) -> Vec<String> {
        let (registry, by) = (world.server.registry().clone(), Actor::person("test"));
        let never = "A".repeat(20);
        let caller = match actor {
            1..=4 => world.people[actor - 1].clone(),
            _ => world.people[4].clone(),
        };
        match (start, is) {
            ("/api/v1/users/{id}/sessions/{session_id}", is) => {
                let of = self.user(world).await;
                let session = match is {
                    Others => {
                        let victim = self.victim.clone();
                        self.session(world, &victim).await
                    }
                    Never => never,
                    _ => self.session(world, &of).await,
                };
                if is == Over {
                    let reason = EndReason::EndedByAdmin;
                    let ended = registry.end_session(&by, &of.id, &session, reason);
                    ended.await.unwrap();
                }
                vec![of.id, session]
            }
            ("/api/v1/users/{id}", Never) => vec![never],
            ("/api/v1/users/{id}", is) => {
                let user = self.user(world).await;
                if is == Disabled {
                    registry.disable_user(&by, &user.id, "left").await.unwrap();
                }
                if is == Over {
                    registry.delete_user(&by, &user.id).await.unwrap();
                }
                vec![user.id]
            }
            ("/api/v1/owners/{id}", Never) => vec![never],
            ("/api/v1/owners/{id}", Own) => vec![world.people[1].id.clone()],
            ("/api/v1/owners/{id}", is) => {
                let id = self.next();
                let service = json!({ "kind": "service", "id": id, "name": "A service" });
                self.made(world, "/api/v1/owners", service).await;
                if is == Disabled {
                    let path = format!("/api/v1/owners/{id}/disable");
                    self.made(world, &path, Value::Null).await;
                }
                vec![id]
            }
            ("/api/v1/sessions/{id}", Never) => vec![never],
            ("/api/v1/sessions/{id}", is) => {
                let whose = if is == Others {
                    self.victim.clone()
                } else {
                    caller
                };
                let session = self.session(world, &whose).await;
                if is == Over {
                    let reason = EndReason::EndedByUser;
                    let ended = registry.end_session(&by, &whose.id, &session, reason);
                    ended.await.unwrap();
                }
                vec![session]
            }
            ("/api/v1/applications/{client_id}", Others) => vec!["theirs".to_owned()],
            ("/api/v1/applications/{client_id}", Own) => {
                give_access(&world.server, &caller, None, "own", "openid").await;
                vec!["own".to_owned()]
            }
            ("/api/v1/notices/{id}", There) => vec![self.notices[0].clone()],
            ("/api/v1/notices/{id}", Others) => vec![self.notices[1].clone()],
            ("/api/v1/notices/{id}" | "/api/v1/receipts/{version}", Never) => {
                vec!["999999999".to_owned()]
            }
            ("/api/v1/receipts/{version}", _) => {
                let key = world.issue("local", &json!({})).await;
                let path = format!("/api/v1/keys/{key}/revoke");
                let revoked = self.made(world, &path, json!({})).await;
                vec![revoked["receipt"]["version"].to_string()]
            }
            ("/api/v1/hygiene/campaigns/{id}/questions/{key_id}", is) => {
                let owner = match is {
                    Others => "local".to_owned(),
                    _ => world.people[1].id.clone(),
                };
                let (campaign, key) = self.campaign(world, &owner).await;
                vec![if is == Never { never } else { campaign }, key]
            }
            ("/api/v1/hygiene/campaigns/{id}", is) if is != Never => {
                let (campaign, _) = self.campaign(world, "local").await;
                if is == Over {
                    let path = format!("/api/v1/hygiene/campaigns/{campaign}/cancel");
                    self.made(world, &path, Value::Null).await;
                }
                vec![campaign]
            }
            ("/api/v1/bulk/{id}", There) => vec![world.bulk.clone()],
            ("/api/v1/bulk/{id}", Own) => {
                let body = r#"{"operation":"enable","ids":[]}"#;
                let begun = world.send(2, "POST", "/api/v1/bulk", body).await;
                vec![text(&begun.json()["id"])]
            }
            ("/api/v1/operations/{id}", There) => vec![world.operation.clone()],
            ("/api/v1/invitations/{id}", is) if is != Never => {
                let body = json!({ "email": format!("{}@example.org", self.next()) });
                let made = self.made(world, "/api/v1/invitations", body).await;
                let id = text(&made["invitation"]["id"]);
                if is == Over {
                    self.deleted(world, &format!("/api/v1/invitations/{id}"))
                        .await;
                }
                vec![id]
            }
            ("/api/v1/identity-providers/{id}", is) => {
                let path = "/api/v1/identity-providers/id";
                let body = serde_json::from_str(PROVIDER).unwrap();
                self.put(world, path, body).await;
                if is == Disabled {
                    self.deleted(world, path).await;
                }
                let id = match is {
                    Never => self.next(),
                    _ => "id".to_owned(),
                };
                vec![id]
            }
            ("/api/v1/clients/{id}", is) if is != Never => {
                let id = self.next();
                let secret = "a secret that a client keeps";
                world.server.add_client(&id, Some(secret), |_| {}).await;
                if is == Disabled {
                    registry.disable_client(&by, &id).await.unwrap();
                }
                if is == Over {
                    registry.remove_client(&by, &id).await.unwrap();
                }
                vec![id]
            }
            ("/api/v1/registration-tokens/{id}", is) if is != Never => {
                let path = "/api/v1/registration-tokens";
                let made = self.made(world, path, json!({})).await;
                let id = text(&made["registration_token"]["id"]);
                if is == Over {
                    self.deleted(world, &format!("{path}/{id}")).await;
                }
                vec![id]
            }
            ("/api/v1/webhooks/{id}/deliveries/{delivery}", is) => {
                let webhook = self.webhook(world).await;
                let delivery = match is {
                    There => self.delivery(world, &webhook).await,
                    Others => {
                        let other = self.webhook(world).await;
                        self.delivery(world, &other).await
                    }
                    _ => never,
                };
                vec![webhook, delivery]
            }
            ("/api/v1/webhooks/{id}", is) if is != Never => {
                let id = self.webhook(world).await;
                let path = format!("/api/v1/webhooks/{id}");
                if is == Disabled {
                    let off = json!({ "enabled": false });
                    self.done(world, Method::PATCH, &path, off).await;
                }
                if is == Over {
                    self.deleted(world, &path).await;
                }
                vec![id]
            }
            ("/api/v1/scopes/{name}", is) => {
                let name = format!("{}:read", self.next());
                if is == There {
                    let scope = json!({ "name": name });
                    self.put(world, "/api/v1/scopes", scope).await;
                }
                vec![name]
            }
            ("/api/v1/roles/{name}", is) => {
                let name = self.next();
                if is == There {
                    let role = json!({ "permissions": ["a:b"] });
                    self.put(world, &format!("/api/v1/roles/{name}"), role)
                        .await;
                }
                vec![name]
            }
            ("/api/v1/policies/{environment}", is) => {
                let path = "/api/v1/policies/test";
                self.put(world, path, json!({})).await;
                if is == Never {
                    self.deleted(world, path).await;
                }
                vec!["test".to_owned()]
            }
            (_, Never) => vec![never],
            (start, is) => panic!("{start}: how is {is:?} made?"),
        }
    }

    /// A hundred webhooks are the most that there may be.
    async fn without_webhooks(&mut self, world: &mut World) {
        let list = fine(&world.root.get("/api/v1/webhooks").await);
        for one in list["items"].as_array().unwrap() {
            let id = one["id"].as_str().unwrap();
            self.deleted(world, &format!("/api/v1/webhooks/{id}")).await;
        }
    }
}

/// The path with real ids in the places of their names, one after the other.
pub(super) fn filled(path: &str, ids: &[String]) -> String {
    let mut path = path.to_owned();
    for id in ids {
        let (begin, end) = (path.find('{').unwrap(), path.find('}').unwrap());
        path.replace_range(begin..=end, id);
    }
    assert!(!path.contains('{'), "{path}: {ids:?}");
    path
}

#[tokio::test]
async fn routes_of_what_is_there_answer_each_caller_by_whose_it_is_and_its_state() {
    let mut world = World::new().await;
    let mut maker = Maker::new(&mut world).await;
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (method, path, body, columns) in TABLE {
        let Some((start, states)) = named(path) else {
            continue;
        };
        for is in *states {
            // Who changes it, or has one of their own, gets a new one; the others may ask for the same.
            let mut kept: Option<String> = None;
            for (actor, column) in columns.chars().enumerate() {
                let expected = expected((method, path), column, actor, *is);
                let stays = (*method == "GET" || expected != 'y') && *is != Own;
                let address = match kept.take().filter(|_| stays) {
                    Some(address) => address,
                    None => filled(path, &maker.ids(&mut world, start, *is, actor).await),
                };
                let answer = world.send(actor, method, &address, body).await;
                asked += 1;
                if came(&answer) != expected {
                    wrong.push(format!(
                        "{method} {path} ({is:?}) for {}: {expected} was expected, {} {}",
                        ACTORS[actor], answer.status, answer.text
                    ));
                }
                kept = stays.then_some(address);
            }
        }
        if start.starts_with("/api/v1/webhooks") {
            maker.without_webhooks(&mut world).await;
        }
    }
    wrong.append(&mut maker.troubles);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked > 1_500, "{asked}");
    // What was somebody else's is theirs still.
    let victim = maker.victim.clone();
    let mut browser = world.server.sign_in_as(&victim).await;
    let list = fine(&browser.get("/api/v1/applications").await);
    assert_eq!(list["items"][0]["client_id"], "theirs", "{list}");
}
