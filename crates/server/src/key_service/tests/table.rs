//! Who may call what: every route, every kind of caller, whose key it is, and in which state. A route
//! of the sources without a row here fails the build, and so does a row without a route.

mod routes;
mod things;

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Method;
use base64::Engine as _;
use keywright_domain::audit::Actor;
use keywright_domain::people::OAuthScopes;
use keywright_registry::people::User;
use serde_json::{Value, json};

use super::{asked_about, id_of, narrow, secret_of};
use crate::keys::tests::{Program, root};
use crate::sessions::tests::give_access;
use crate::test_support::{Answer, Browser, TestServer};

/// Callers, in the order of the table's columns.
const ACTORS: [&str; 11] = [
    "nobody",
    "a person without a role",
    "the key's owner, without a role",
    "a key-admin",
    "an auditor",
    "a root key",
    "a root key for keys:verify",
    "a client's token for keys:read",
    "an owner of the registry",
    "an owner's access token for keys:*",
    "a key that is no root key",
];

// What a column says: y let through, 1 401, 3 403, 4 404 as if it did not exist. A failure of the server
// (! for 5xx) is none of them.
// For keys that belong to somebody else, the third column is the second.

/// Reading a key.
const SEE: &str = "14yyyy3yyy3";
/// Changing a key.
const CHANGE: &str = "14yy3y33yy3";
/// What everybody has of their own.
const LIST: &str = "1yyyyy3yyy3";
/// `keys:read`.
const KEYS_READ: &str = "133yyy3yyy3";
/// `keys:write` and `keys:*`.
const KEYS_WRITE: &str = "133y3y33yy3";
/// Changing an owner of keys who is none of the callers.
const OWNER: &str = "144y3y33yy3";
/// `keys:verify`.
const VERIFY: &str = "133y3yy3yy3";
/// What key-admins and auditors read.
const READ: &str = "133yyy33y33";
/// What only owners and root keys do, people and providers among it.
const ALL: &str = "13333y33y33";
/// A person's own account: no key and no program has one.
const ACCOUNT: &str = "1yyyy113y31";
/// Owners, administrators and auditors; root keys too.
const WATCH: &str = "1333yy33y33";
/// For everybody.
pub(super) const PUBLIC: &str = "yyyyyyyyyyy";

/// Method, path, body, who may. `{id}` below `/api/v1/keys` is the key.
pub(super) const TABLE: &[(&str, &str, &str, &str)] = &[
    ("GET", "/api/v1/keys", "", LIST),
    // Who holds no scope can grant none; an auditor holds keys:read.
    (
        "POST",
        "/api/v1/keys",
        r#"{"name":"n","prefix":"sk_test","scopes":["keys:read"]}"#,
        "133yyy33yy3",
    ),
    ("GET", "/api/v1/keys/counts", "", LIST),
    ("POST", "/api/v1/keys/verify", r#"{"key":"x"}"#, VERIFY),
    ("GET", "/api/v1/keys/{id}", "", SEE),
    ("PATCH", "/api/v1/keys/{id}", r#"{"name":"n"}"#, CHANGE),
    ("GET", "/api/v1/nodes", "", WATCH),
    ("GET", "/api/v1/receipts/{version}", "", LIST),
    ("POST", "/api/v1/keys/{id}/revoke", "{}", CHANGE),
    ("POST", "/api/v1/keys/{id}/disable", "{}", CHANGE),
    ("POST", "/api/v1/keys/{id}/enable", "", CHANGE),
    ("GET", "/api/v1/keys/{id}/rotations", "", SEE),
    ("POST", "/api/v1/keys/{id}/rotations", "{}", CHANGE),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/current/{step}",
        "",
        CHANGE,
    ),
    (
        "GET",
        "/api/v1/keys/{id}/rotations/current/stragglers",
        "",
        SEE,
    ),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/current/finish-if-drained",
        "",
        CHANGE,
    ),
    ("GET", "/api/v1/keys/{id}/rotations/{rotation_id}", "", SEE),
    (
        "GET",
        "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries",
        "",
        SEE,
    ),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries",
        r#"{"target":"t","delivered":true}"#,
        CHANGE,
    ),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/{rotation_id}/reissue",
        "",
        CHANGE,
    ),
    (
        "POST",
        "/api/v1/keys/{id}/secrets/{kid}/revoke",
        "{}",
        CHANGE,
    ),
    ("GET", "/api/v1/keys/{id}/schedule", "", SEE),
    (
        "PUT",
        "/api/v1/keys/{id}/schedule",
        r#"{"every_ms":86400000,"mode":"notify_only"}"#,
        CHANGE,
    ),
    ("DELETE", "/api/v1/keys/{id}/schedule", "", CHANGE),
    ("POST", "/api/v1/keys/{id}/schedule/{step}", "", CHANGE),
    ("GET", "/api/v1/keys/{id}/notices", "", SEE),
    (
        "POST",
        "/api/v1/keys/{id}/preview",
        r#"{"revoke":true}"#,
        SEE,
    ),
    // Refused for its bounds, after the permission.
    (
        "POST",
        "/api/v1/keys/preview",
        r#"{"ids":[],"revoke":true}"#,
        LIST,
    ),
    ("GET", "/api/v1/keys/{id}/scope-proposal", "", SEE),
    ("POST", "/api/v1/keys/{id}/end-copy", "{}", CHANGE),
    ("GET", "/api/v1/owners", "", KEYS_READ),
    (
        "POST",
        "/api/v1/owners",
        r#"{"kind":"service","id":"tester","name":"n"}"#,
        KEYS_WRITE,
    ),
    // A service; nobody learns whether there is one.
    ("GET", "/api/v1/owners/{id}", "", "144yyy3yyy3"),
    ("PATCH", "/api/v1/owners/{id}", r#"{"name":"n"}"#, OWNER),
    ("POST", "/api/v1/owners/{id}/disable", "{}", OWNER),
    ("POST", "/api/v1/owners/{id}/enable", "", OWNER),
    ("POST", "/api/v1/owners/{id}/revoke-keys", "{}", OWNER),
    // What each may do is what the rest of this table says.
    ("GET", "/api/v1/permissions", "", "1yyyyyyyyy3"),
    ("GET", "/api/v1/scopes", "", "1yyyyy33y33"),
    ("PUT", "/api/v1/scopes", r#"{"name":"a:b"}"#, ALL),
    ("DELETE", "/api/v1/scopes/{name}", "", ALL),
    ("GET", "/api/v1/policies", "", READ),
    ("GET", "/api/v1/policies/{environment}", "", READ),
    ("PUT", "/api/v1/policies/{environment}", "{}", ALL),
    ("DELETE", "/api/v1/policies/{environment}", "", ALL),
    ("GET", "/api/v1/schedules", "", LIST),
    ("GET", "/api/v1/overlaps/closing", "", KEYS_READ),
    ("GET", "/api/v1/audit", "", READ),
    ("GET", "/api/v1/audit/verify", "", READ),
    ("GET", "/api/v1/audit/export", "", READ),
    ("GET", "/api/v1/audit/checkpoint-keys", "", READ),
    ("POST", "/api/v1/audit/checkpoints", "", ALL),
    ("GET", "/api/v1/alerts", "", KEYS_READ),
    (
        "POST",
        "/api/v1/alerts/{id}/seen",
        r#"{"last_at":1}"#,
        KEYS_WRITE,
    ),
    // Of what is told about all keys or one's own; whoever reads it marks it for themselves.
    ("GET", "/api/v1/notices", "", LIST),
    ("POST", "/api/v1/notices/read", r#"{"until":"0"}"#, LIST),
    ("POST", "/api/v1/notices/{id}/read", "", LIST),
    ("GET", "/api/v1/hygiene", "", KEYS_READ),
    ("GET", "/api/v1/hygiene/{finding}", "", KEYS_READ),
    ("GET", "/api/v1/hygiene/campaigns", "", KEYS_READ),
    (
        "POST",
        "/api/v1/hygiene/campaigns",
        r#"{"name":"n","findings":["idle"],"due_at":1,"unanswered":"leave"}"#,
        KEYS_WRITE,
    ),
    ("GET", "/api/v1/hygiene/campaigns/{id}", "", KEYS_READ),
    (
        "GET",
        "/api/v1/hygiene/campaigns/{id}/questions",
        "",
        KEYS_READ,
    ),
    // About a key of the third column's.
    (
        "POST",
        "/api/v1/hygiene/campaigns/{id}/questions/{key_id}",
        r#"{"answer":"retire","how":"disable"}"#,
        CHANGE,
    ),
    (
        "POST",
        "/api/v1/hygiene/campaigns/{id}/cancel",
        "",
        KEYS_WRITE,
    ),
    ("GET", "/api/v1/hygiene/questions", "", LIST),
    // It names people too.
    ("GET", "/api/v1/export", "", WATCH),
    ("POST", "/api/v1/import", "{}", KEYS_WRITE),
    ("POST", "/api/v1/promotions/offers", "", KEYS_WRITE),
    ("POST", "/api/v1/promotions", "{}", KEYS_WRITE),
    ("POST", "/api/v1/promotions/bundles", "{}", ALL),
    ("POST", "/api/v1/promotions/left", "{}", KEYS_WRITE),
    // Asked for something that is refused after the permission: the stream would not end.
    ("GET", "/api/v1/events", "", VERIFY),
    ("GET", "/api/v1/bulk", "", LIST),
    (
        "POST",
        "/api/v1/bulk",
        r#"{"operation":"revoke","ids":[],"dry_run":true}"#,
        "1yyyyy33yy3",
    ),
    // The root key's.
    ("GET", "/api/v1/bulk/{id}", "", "144yyy3yyy3"),
    ("GET", "/api/v1/bulk/{id}/failures", "", "144yyy3yyy3"),
    ("POST", "/api/v1/bulk/{id}/cancel", "", "144y3y33yy3"),
    ("GET", "/api/v1/operations", "", KEYS_READ),
    // The root key's check of the audit trail.
    ("GET", "/api/v1/operations/{id}", "", "144yyy44y43"),
    ("POST", "/api/v1/operations/{id}/cancel", "", "14433y44y43"),
    ("GET", "/api/v1/sessions", "", ACCOUNT),
    ("POST", "/api/v1/sessions/revoke-others", "", ACCOUNT),
    ("POST", "/api/v1/sessions/revoke-all", "", ACCOUNT),
    ("DELETE", "/api/v1/sessions/{id}", "", ACCOUNT),
    ("GET", "/api/v1/applications", "", ACCOUNT),
    ("DELETE", "/api/v1/applications/{client_id}", "", ACCOUNT),
    ("GET", "/api/v1/sign-ins", "", ACCOUNT),
    ("GET", "/api/v1/users", "", WATCH),
    ("POST", "/api/v1/users", r#"{"name":"n"}"#, ALL),
    ("GET", "/api/v1/users/{id}", "", WATCH),
    ("PATCH", "/api/v1/users/{id}", r#"{"name":"n"}"#, ALL),
    ("DELETE", "/api/v1/users/{id}", "", ALL),
    ("POST", "/api/v1/users/{id}/disable", "{}", ALL),
    ("POST", "/api/v1/users/{id}/enable", "", ALL),
    ("POST", "/api/v1/users/{id}/password-reset", "{}", ALL),
    ("GET", "/api/v1/users/{id}/roles", "", WATCH),
    (
        "PUT",
        "/api/v1/users/{id}/roles",
        r#"{"roles":["member"]}"#,
        ALL,
    ),
    ("GET", "/api/v1/users/{id}/sessions", "", WATCH),
    ("POST", "/api/v1/users/{id}/sessions/revoke-all", "", ALL),
    (
        "DELETE",
        "/api/v1/users/{id}/sessions/{session_id}",
        "",
        ALL,
    ),
    ("GET", "/api/v1/users/{id}/sign-ins", "", WATCH),
    ("GET", "/api/v1/roles", "", WATCH),
    ("GET", "/api/v1/roles/{name}", "", WATCH),
    (
        "PUT",
        "/api/v1/roles/{name}",
        r#"{"permissions":["a:b"]}"#,
        ALL,
    ),
    ("DELETE", "/api/v1/roles/{name}", "", ALL),
    ("GET", "/api/v1/invitations", "", WATCH),
    (
        "POST",
        "/api/v1/invitations",
        r#"{"email":"a@b.example"}"#,
        ALL,
    ),
    ("DELETE", "/api/v1/invitations/{id}", "", ALL),
    ("GET", "/api/v1/identity-providers", "", WATCH),
    ("GET", "/api/v1/identity-providers/{id}", "", WATCH),
    ("PUT", "/api/v1/identity-providers/{id}", PROVIDER, ALL),
    ("DELETE", "/api/v1/identity-providers/{id}", "", ALL),
    ("GET", "/api/v1/clients", "", WATCH),
    ("POST", "/api/v1/clients", r#"{"client_name":"n"}"#, ALL),
    ("GET", "/api/v1/clients/{id}", "", WATCH),
    ("PATCH", "/api/v1/clients/{id}", "{}", ALL),
    ("DELETE", "/api/v1/clients/{id}", "", ALL),
    ("POST", "/api/v1/clients/{id}/disable", "", ALL),
    ("POST", "/api/v1/clients/{id}/enable", "", ALL),
    ("POST", "/api/v1/clients/{id}/rotate-secret", "{}", ALL),
    ("POST", "/api/v1/clients/{id}/revoke-tokens", "", ALL),
    ("GET", "/api/v1/registration-tokens", "", WATCH),
    ("POST", "/api/v1/registration-tokens", "{}", ALL),
    ("DELETE", "/api/v1/registration-tokens/{id}", "", ALL),
    ("GET", "/api/v1/webhooks", "", WATCH),
    (
        "POST",
        "/api/v1/webhooks",
        r#"{"url":"https://hooks.example.org/","events":["*"]}"#,
        ALL,
    ),
    ("GET", "/api/v1/webhooks/{id}", "", WATCH),
    ("PATCH", "/api/v1/webhooks/{id}", "{}", ALL),
    ("DELETE", "/api/v1/webhooks/{id}", "", ALL),
    ("POST", "/api/v1/webhooks/{id}/rotate-secret", "", ALL),
    ("POST", "/api/v1/webhooks/{id}/test", "", ALL),
    ("GET", "/api/v1/webhooks/{id}/deliveries", "", WATCH),
    (
        "GET",
        "/api/v1/webhooks/{id}/deliveries/{delivery}",
        "",
        WATCH,
    ),
    (
        "POST",
        "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
        "",
        ALL,
    ),
    (
        "POST",
        "/api/v1/webhooks/{id}/deliveries/redeliver",
        r#"{"state":"failed","since":0}"#,
        ALL,
    ),
    ("GET", "/auth/session", "", "1yyyy111y11"),
    ("GET", "/auth/csrfToken", "", PUBLIC),
    ("POST", "/auth/signOut", "", PUBLIC),
];

const PROVIDER: &str =
    r#"{"kind":"oidc","name":"n","issuer":"https://id.example.com","client_id":"c"}"#;

struct World {
    server: TestServer,
    root: Program,
    narrow: Program,
    /// A key that may do everything, where a key of its kind may do something.
    ordinary: String,
    client: String,
    /// An application of an owner of the registry.
    app: String,
    people: [User; 5],
    bulk: String,
    /// A check of the audit trail that is answered later.
    operation: String,
    /// A campaign, and the holder's key that it asks about.
    asked: (String, String),
    local: String,
    /// Signed in already; for routes that end no session.
    browsers: BTreeMap<usize, Browser>,
    /// Somebody who is disabled but for the moment in which they get a key.
    gone: String,
    /// Keys that are to be expired, by owner.
    expired: BTreeMap<String, Vec<String>>,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// In which a key may be.
const STATES: [&str; 7] = [
    "active",
    "disable",
    "revoke",
    "rotating",
    "not yet valid",
    "owner disabled",
    "expired",
];
/// More than one round of all callers through all routes uses up.
const EXPIRED: usize = 140;
/// What a `{step}` may be, by the path before it.
const STEPS: [(&str, &[&str]); 2] = [
    (
        "/rotations/current/{step}",
        &["promote", "cancel", "roll-back", "finish"],
    ),
    ("/schedule/{step}", &["pause", "resume", "run-now"]),
];

/// The address, once for each of its steps.
fn each_step(path: &str) -> Vec<String> {
    let Some((_, steps)) = STEPS.iter().find(|(end, _)| path.ends_with(end)) else {
        assert!(!path.contains("{step}"), "{path}: which steps");
        return vec![path.to_owned()];
    };
    steps
        .iter()
        .map(|step| path.replace("{step}", step))
        .collect()
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let mut root = root(&server).await;
        let narrow = narrow(&server, &mut root, &["keys:verify"]).await;
        let wish = json!({ "name": "Ordinary", "prefix": "sk_live", "scopes": ["*:*"] });
        let ordinary = secret_of(&root.issue(wish).await);
        let gone = server.add_user("gone@example.org", &[]).await.id;
        server
            .add_client("machine", Some("secret-of-the-machine"), |new| {
                new.grant_types = vec!["client_credentials".into()];
                new.scopes = OAuthScopes::parse("keys:read").unwrap();
            })
            .await;
        server
            .add_client("app", None, |new| {
                new.scopes = OAuthScopes::parse("keys:*").unwrap();
            })
            .await;
        let people = [
            server.add_user("stranger@example.org", &[]).await,
            server.add_user("holder@example.org", &[]).await,
            server.add_user("keys@example.org", &["key-admin"]).await,
            server.add_user("auditor@example.org", &["auditor"]).await,
            server.add_user("boss@example.org", &["owner"]).await,
        ];
        let begun = root
            .post("/api/v1/bulk", json!({"operation": "enable", "ids": []}))
            .await;
        assert_eq!(begun.status, 202, "{}", begun.text);
        let bulk = begun.json()["id"].as_str().unwrap().to_owned();
        let later = [("prefer", "respond-async")];
        let begun = root
            .send_with(Method::GET, "/api/v1/audit/verify", Value::Null, &later)
            .await;
        assert_eq!(begun.status, 202, "{}", begun.text);
        let operation = begun.json()["id"].as_str().unwrap().to_owned();
        let mut world = Self {
            local: "local".to_owned(),
            server,
            root,
            narrow,
            ordinary,
            gone,
            client: String::new(),
            app: String::new(),
            people,
            bulk,
            operation,
            asked: (String::new(), String::new()),
            browsers: BTreeMap::new(),
            expired: BTreeMap::new(),
        };
        world.renew().await;
        let holder = world.people[1].id.clone();
        let key = world.issue(&holder, &json!({})).await;
        let campaign = asked_about(&world.server, &mut world.root, &key).await;
        world.asked = (campaign, key);
        world
    }

    /// New access tokens, and nobody signed in.
    async fn renew(&mut self) {
        let basic =
            base64::engine::general_purpose::STANDARD.encode("machine:secret-of-the-machine");
        let basic = format!("Basic {basic}");
        let headers = [
            ("authorization", basic.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let form = Body::from("grant_type=client_credentials");
        let token = self
            .server
            .browser()
            .send(Method::POST, "/oauth2/token", &headers, form)
            .await;
        self.client = token.json()["access_token"].as_str().unwrap().to_owned();
        // Of somebody whose sessions and applications no row ends.
        let email = format!("boss{}@example.org", self.expired.len());
        let owner = self.server.add_user(&email, &["owner"]).await;
        let access = give_access(&self.server, &owner, None, "app", "keys:*").await;
        self.app = access.token;
        self.browsers.clear();
    }

    async fn issue(&mut self, owner: &str, change: &Value) -> String {
        let mut wish = crate::keys::tests::wish();
        if owner != self.local {
            wish["owner"] = json!({ "kind": "person", "id": owner });
        }
        for (name, value) in change.as_object().into_iter().flatten() {
            wish[name] = value.clone();
        }
        let issued = self.root.issue(wish).await;
        assert!(secret_of(&issued).starts_with("sk_live"));
        id_of(&issued)
    }

    async fn key(&mut self, owner: &str, state: &str) -> String {
        match state {
            "active" => self.issue(owner, &json!({})).await,
            "not yet valid" => {
                let in_two_months = self.server.server.app().now() + 60 * DAY_MS;
                let change = json!({ "not_before": in_two_months });
                self.issue(owner, &change).await
            }
            "expired" => {
                if !self.expired.contains_key(owner) {
                    let mut ids = Vec::new();
                    for _ in 0..EXPIRED {
                        let change = json!({ "lifetime_ms": DAY_MS });
                        ids.push(self.issue(owner, &change).await);
                    }
                    self.server.pass(DAY_MS + 1);
                    self.expired.insert(owner.to_owned(), ids);
                    self.renew().await;
                }
                let ids = self.expired.get_mut(owner).unwrap();
                ids.pop().expect("more expired keys")
            }
            "owner disabled" => {
                let (gone, actor) = (self.gone.clone(), Actor::person("test"));
                let registry = self.server.registry().clone();
                registry.enable_user(&actor, &gone).await.unwrap();
                let id = self.issue(&gone, &json!({})).await;
                registry.disable_user(&actor, &gone, "left").await.unwrap();
                id
            }
            "rotating" => {
                let id = self.issue(owner, &json!({})).await;
                let path = format!("/api/v1/keys/{id}/rotations");
                let body = json!({ "clock": "from_issue" });
                let done = self.root.post(&path, body).await;
                assert_eq!(done.status, 201, "{}", done.text);
                id
            }
            step => {
                let id = self.issue(owner, &json!({})).await;
                let path = format!("/api/v1/keys/{id}/{step}");
                let done = self.root.post(&path, json!({})).await;
                assert_eq!(done.status, 200, "{}", done.text);
                id
            }
        }
    }

    async fn send(&mut self, actor: usize, method: &str, path: &str, body: &str) -> Answer {
        let method: Method = method.parse().unwrap();
        let kind = if path.ends_with("/import") {
            "application/x-ndjson"
        } else {
            "application/json"
        };
        let kind = if body.is_empty() { "" } else { kind };
        // An events stream that is let through would not end.
        let event = if path.ends_with("/events") {
            "none"
        } else {
            ""
        };
        let more = [("content-type", kind), ("last-event-id", event)];
        let bearer = match actor {
            5 => Some(self.root.key.clone()),
            6 => Some(self.narrow.key.clone()),
            7 => Some(self.client.clone()),
            9 => Some(self.app.clone()),
            10 => Some(self.ordinary.clone()),
            _ => None,
        };
        let person = match actor {
            1..=4 => Some(&self.people[actor - 1]),
            8 => Some(&self.people[4]),
            _ => None,
        };
        let of_keys = path.starts_with("/api/v1/keys/");
        let mut browser = match person {
            Some(person) if of_keys => match self.browsers.remove(&actor) {
                Some(browser) => browser,
                None => self.server.sign_in_as(person).await,
            },
            // Each time anew: some routes end sessions.
            Some(person) => self.server.sign_in_as(person).await,
            None => self.server.browser(),
        };
        let csrf = browser.cookie("csrf_token").unwrap_or("").to_owned();
        let bearer = bearer
            .map(|key| format!("Bearer {key}"))
            .unwrap_or_default();
        let mut headers = vec![
            ("authorization", bearer.as_str()),
            ("x-csrf-token", csrf.as_str()),
        ];
        headers.extend(more);
        let body = Body::from(body.to_owned());
        let answer = browser.send(method, path, &headers, body).await;
        if of_keys {
            self.browsers.insert(actor, browser);
        }
        answer
    }
}

fn seen(answer: &Answer) -> char {
    let code = answer.json()["code"].as_str().unwrap_or("").to_owned();
    match (answer.status.as_u16(), code.as_str()) {
        (401, _) => '1',
        (403, _) => '3',
        (404, "key_not_found" | "operation_not_found" | "owner_not_found") => '4',
        (500.., _) => '!',
        (404, "not_found") | (405, _) => '?',
        _ => 'y',
    }
}

#[tokio::test]
async fn routes_without_a_key_answer_each_caller_as_the_table_says() {
    let mut world = World::new().await;
    let victim = world.server.add_user("victim@example.org", &[]).await;
    let service = json!({ "kind": "service", "id": "billing", "name": "Billing" });
    let made = world.root.post("/api/v1/owners", service).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let mut wrong = Vec::new();
    for (method, path, body, expected) in TABLE {
        if path.starts_with("/api/v1/keys/{id}") {
            continue;
        }
        let asked = path
            .replace("/bulk/{id}", &format!("/bulk/{}", world.bulk))
            .replace(
                "/operations/{id}",
                &format!("/operations/{}", world.operation),
            )
            .replace("/campaigns/{id}", &format!("/campaigns/{}", world.asked.0))
            .replace("{key_id}", &world.asked.1)
            .replace("/users/{id}", &format!("/users/{}", victim.id))
            .replace("/owners/{id}", "/owners/billing")
            .replace("{environment}", "live")
            .replace("{finding}", "idle")
            .replace("{name}", "tester")
            .replace("{version}", "1")
            .replace(['{', '}'], "");
        for (actor, expected) in expected.chars().enumerate() {
            let answer = world.send(actor, method, &asked, body).await;
            if seen(&answer) != expected {
                wrong.push(format!(
                    "{method} {path} for {}: {expected} was expected, {} {}",
                    ACTORS[actor], answer.status, answer.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn routes_of_a_key_answer_each_caller_as_the_table_says_whosever_it_is_and_in_any_state() {
    let mut world = World::new().await;
    let holder = world.people[1].id.clone();
    let mut wrong = Vec::new();
    for owner in [holder.as_str(), "local"] {
        for state in STATES {
            let of_others = owner == "local" || state == "owner disabled";
            let mut key = world.key(owner, state).await;
            for (method, path, body, expected) in TABLE {
                let Some(rest) = path.strip_prefix("/api/v1/keys/{id}") else {
                    continue;
                };
                let columns: Vec<char> = expected.chars().collect();
                for rest in each_step(rest) {
                    let rest = rest.replace(['{', '}'], "");
                    for (actor, name) in ACTORS.iter().enumerate() {
                        // Of keys of others, owners of keys are strangers too.
                        let column = if actor == 2 && of_others { 1 } else { actor };
                        let asked = format!("/api/v1/keys/{key}{rest}");
                        let answer = world.send(actor, method, &asked, body).await;
                        if seen(&answer) != columns[column] {
                            wrong.push(format!(
                                "{method} {path} as {rest} ({owner}'s, {state}) for {}: {} was expected, {} {}",
                                name, columns[column], answer.status, answer.text
                            ));
                        }
                        // What changed it may have changed its state.
                        if *method != "GET" && answer.status.is_success() {
                            key = world.key(owner, state).await;
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_refusal_tells_nothing_of_a_key_that_is_not_the_callers() {
    let mut world = World::new().await;
    let holder = world.people[1].id.clone();
    let key = world.key(&holder, "active").await;
    let there = world
        .send(1, "GET", &format!("/api/v1/keys/{key}"), "")
        .await;
    let absent = "A".repeat(20);
    let nowhere = world
        .send(1, "GET", &format!("/api/v1/keys/{absent}"), "")
        .await;
    let without_id = |answer: &Answer| {
        let mut body = answer.json();
        body["request_id"] = Value::Null;
        body
    };
    assert_eq!(there.status, nowhere.status);
    assert_eq!(without_id(&there), without_id(&nowhere));
}

/// What a face offers goes by this: it must say what the routes do (AC-158).
#[tokio::test]
async fn ac_158_what_a_caller_is_told_they_may_do_is_what_the_routes_let_through() {
    let mut world = World::new().await;
    let expected = |method: &str, path: &str, actor: usize| {
        let mut rows = TABLE.iter();
        let row = rows.find(|row| row.0 == method && row.1 == path).unwrap();
        row.3.chars().nth(actor) == Some('y')
    };
    for (actor, name) in ACTORS.iter().enumerate().skip(1) {
        let asked = "/api/v1/permissions";
        if !expected("GET", asked, actor) {
            continue;
        }
        let told = world.send(actor, "GET", asked, "").await.json();
        let issue = ("POST", "/api/v1/keys");
        let verify = ("POST", "/api/v1/keys/verify");
        let define = ("PUT", "/api/v1/scopes");
        for (word, (method, path)) in [
            ("issue", issue),
            ("verify", verify),
            ("define_scopes", define),
        ] {
            // An auditor holds a scope to grant, and so issues keys of their own.
            assert_eq!(
                told[word],
                expected(method, path, actor),
                "{name}: {word} in {told}"
            );
        }
        // Of somebody else's key the owner of keys is a stranger, as everywhere.
        let others = if actor == 2 { 1 } else { actor };
        let revoke = "/api/v1/keys/{id}/revoke";
        assert_eq!(
            told["change_all"],
            expected("POST", revoke, others),
            "{name}: {told}"
        );
        if actor == 2 {
            assert_eq!(told["change_own"], true, "{told}");
            assert_eq!(told["person"], world.people[1].id.as_str());
        }
    }
}
