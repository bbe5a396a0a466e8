//! What a generator cannot guess: for every operation with an id in its address something of its own that is there,
//! and words that some fields are limited to. It draws them four times in five, and anything else otherwise.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::reached::operations;
use crate::server::harness::{OWNER, PASSWORD, ServerProcess};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const PROBABILITY: f64 = 0.8;

/// A parameter (`path.id`, `body.mode`), and what it may be.
type Hint = (String, Vec<Value>);

/// Makes things on the server, with its root key, and what is about people as the owner.
struct Maker<'a> {
    server: &'a ServerProcess,
    owner: String,
    client: reqwest::Client,
    made: u32,
}

fn of<const N: usize>(name: &str, values: [Value; N]) -> Hint {
    (name.to_owned(), values.to_vec())
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("no text")?.to_owned())
}

impl Maker<'_> {
    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.request(method, self.server.at(path));
        let of_people = ["users", "roles", "invitations", "identity-providers"];
        let kind = path.split('/').nth(3).unwrap_or_default();
        let kind = kind.split('?').next().unwrap_or_default();
        let bearer = match of_people.contains(&kind) {
            true => &self.owner,
            false => &self.server.root_key,
        };
        let request = request.bearer_auth(bearer);
        let response = match body {
            Value::Null => request.send().await?,
            body => request.json(body).send().await?,
        };
        let status = response.status();
        let said = response.text().await?;
        ensure!(status.is_success(), "{path}: {status} {said}");
        Ok(serde_json::from_str(&said).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.send(Method::POST, path, &body).await
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    /// A key: its id, a kid, and its text.
    async fn key(&mut self, more: Value) -> Result<(String, String, String)> {
        let mut wish = json!({
            "name": format!("key {}", self.number()), "prefix": "sk_live", "scopes": ["keys:read"],
        });
        if let (Some(wish), Value::Object(more)) = (wish.as_object_mut(), more) {
            wish.extend(more);
        }
        let issued = self.post("/api/v1/keys", wish).await?;
        let kid = text(&issued["key"]["secrets"][0]["kid"])?;
        Ok((text(&issued["key"]["id"])?, kid, text(&issued["secret"])?))
    }

    async fn person(&mut self) -> Result<String> {
        let number = self.number();
        let body = json!({ "name": format!("Person {number}"), "email": format!("p{number}@example.org") });
        text(&self.post("/api/v1/users", body).await?["id"])
    }

    /// What an operation on a key needs.
    async fn of_key(&mut self, operation: &str) -> Result<Vec<Hint>> {
        let (id, kid, _) = self.key(json!({})).await?;
        let at = |rest: &str| format!("/api/v1/keys/{id}{rest}");
        let mut hints: Vec<Hint> = vec![of("path.id", [json!(id)])];
        if operation.contains("/rotations/") {
            let rotated = self
                .post(&at("/rotations"), json!({ "overlap_ms": DAY_MS }))
                .await?;
            hints.push(of("path.rotation_id", [rotated["rotation_id"].clone()]));
            hints.push(of("path.step", [json!("promote"), json!("finish")]));
        }
        if operation.contains("/schedule") {
            let body = json!({ "every_ms": 7 * DAY_MS, "mode": "notify_only" });
            self.send(Method::PUT, &at("/schedule"), &body).await?;
            let steps = ["pause", "resume", "run-now"];
            hints.push(of("path.step", steps.map(|step| json!(step))));
        }
        if operation.ends_with("/end-copy") {
            let body = json!({ "key_ids": [id], "remote": "https://other.example.org" });
            self.post("/api/v1/promotions/left", body).await?;
        }
        hints.push(of("path.kid", [json!(kid)]));
        Ok(hints)
    }

    async fn of_person(&mut self, operation: &str) -> Result<Vec<Hint>> {
        let id = self.person().await?;
        let mut hints = vec![of("path.id", [json!(id)])];
        if operation.contains("/owners/") {
            let owner = json!({ "kind": "person", "id": id });
            self.key(json!({ "owner": owner })).await?;
        }
        if operation.contains("{session_id}") {
            let (person, session) = self.session().await?;
            hints = vec![
                of("path.id", [json!(person)]),
                of("path.session_id", [json!(session)]),
            ];
        }
        Ok(hints)
    }

    /// Somebody who is signed in: the person and the session.
    async fn session(&mut self) -> Result<(String, String)> {
        let email = format!("s{}@example.org", self.number());
        let file = self.server.write("seed-password", PASSWORD)?;
        let words = ["users", "add", "--email", &email, "--password-file", &file];
        self.server.command(&words).await?;
        let body = json!({ "email": email, "password": PASSWORD });
        let request = self.client.post(self.server.at("/auth/login")).json(&body);
        let status = request.send().await?.status();
        ensure!(status == 200, "{status}");
        let found = format!("/api/v1/users?text={email}");
        let people = self.send(Method::GET, &found, &Value::Null).await?;
        let id = text(&people["items"][0]["id"])?;
        let path = format!("/api/v1/users/{id}/sessions");
        let sessions = self.send(Method::GET, &path, &Value::Null).await?;
        Ok((id, text(&sessions["items"][0]["id"])?))
    }

    /// What is needed below a path that holds one thing of a kind.
    async fn of_thing(&mut self, kind: &str, operation: &str) -> Result<Vec<Hint>> {
        let number = self.number();
        let id = |made: Value| vec![of("path.id", [made["id"].clone()])];
        Ok(match kind {
            "roles" => {
                let name = format!("seed-{number}");
                let body = json!({ "permissions": ["keys:read"] });
                let path = format!("/api/v1/roles/{name}");
                self.send(Method::PUT, &path, &body).await?;
                vec![of("path.name", [json!(name)])]
            }
            "scopes" => {
                let name = format!("seed{number}:read");
                self.send(Method::PUT, "/api/v1/scopes", &json!({ "name": name }))
                    .await?;
                vec![of("path.name", [json!(name)])]
            }
            "policies" => {
                let body = json!({ "max_age_ms": 300 * DAY_MS });
                for environment in ["live", "test"] {
                    let path = format!("/api/v1/policies/{environment}");
                    self.send(Method::PUT, &path, &body).await?;
                }
                vec![of("path.environment", [json!("live"), json!("test")])]
            }
            "invitations" => {
                let body = json!({ "email": format!("i{number}@example.org") });
                id(self.post("/api/v1/invitations", body).await?)
            }
            "clients" => {
                let body = json!({
                    "client_name": format!("Client {number}"), "grant_types": ["client_credentials"],
                    "scope": "keys:read",
                });
                let made = self.post("/api/v1/clients", body).await?;
                vec![of("path.id", [made["client_id"].clone()])]
            }
            "identity-providers" => {
                let name = format!("seed-{number}");
                let body = json!({
                    "kind": "oidc", "name": name, "issuer": "https://id.example.com", "client_id": "c",
                });
                let path = format!("/api/v1/identity-providers/{name}");
                self.send(Method::PUT, &path, &body).await?;
                vec![of("path.id", [json!(name)])]
            }
            "registration-tokens" => {
                id(self.post("/api/v1/registration-tokens", json!({})).await?)
            }
            "webhooks" => {
                let body =
                    json!({ "url": "https://hooks.example.org/", "events": ["key.revoked"] });
                let made = self.post("/api/v1/webhooks", body).await?;
                let own = text(&made["id"])?;
                let path = format!("/api/v1/webhooks/{own}/test");
                let sent = self.send(Method::POST, &path, &Value::Null).await?;
                let mut hints = vec![of("path.id", [json!(own)])];
                if operation.contains("{delivery}") {
                    hints.push(of("path.delivery", [sent["id"].clone()]));
                }
                hints
            }
            "bulk" => {
                let (key, _, _) = self.key(json!({})).await?;
                let body = json!({ "operation": "tag", "tag": "seed", "ids": [key] });
                id(self.post("/api/v1/bulk", body).await?)
            }
            "receipts" => {
                let (key, _, _) = self.key(json!({})).await?;
                let path = format!("/api/v1/keys/{key}/revoke");
                let revoked = self.post(&path, json!({})).await?;
                vec![of("path.version", [revoked["receipt"]["version"].clone()])]
            }
            "alerts" => {
                let settings = json!({ "canary": true });
                let canary = json!({ "scopes": [], "settings": settings });
                let (_, _, bait) = self.key(canary).await?;
                self.post("/api/v1/keys/verify", json!({ "key": bait }))
                    .await?;
                let path = "/api/v1/alerts?limit=1&unseen=true";
                let alerts = self.send(Method::GET, path, &Value::Null).await?;
                let newest = &alerts["items"][0];
                vec![
                    of("path.id", [newest["id"].clone()]),
                    of("body.last_at", [newest["last_at"].clone()]),
                ]
            }
            _ => Vec::new(),
        })
    }

    async fn of_campaign(&mut self) -> Result<Vec<Hint>> {
        let never = json!({ "never_expires": true });
        let (key, _, _) = self.key(never).await?;
        let due = now()? + 30 * DAY_MS;
        let body = json!({
            "name": format!("Campaign {}", self.number()), "findings": ["never_expires"], "due_at": due,
            "unanswered": "leave",
        });
        let begun = self.post("/api/v1/hygiene/campaigns", body).await?;
        let id = begun["id"].clone();
        Ok(vec![of("path.id", [id]), of("path.key_id", [json!(key)])])
    }

    async fn of_operation(&mut self, method: &str, path: &str) -> Result<Vec<Hint>> {
        let parts: Vec<&str> = path.trim_start_matches("/api/v1/").split('/').collect();
        let mut hints = match parts.as_slice() {
            ["keys", "{id}", ..] => self.of_key(path).await?,
            ["users" | "owners", "{id}", ..] => self.of_person(path).await?,
            ["hygiene", "{finding}"] => vec![of("path.finding", [json!("idle")])],
            ["hygiene", "campaigns", "{id}", ..] => self.of_campaign().await?,
            [kind, one, ..] if one.starts_with('{') => self.of_thing(kind, path).await?,
            _ => Vec::new(),
        };
        // Only what its address has.
        hints.retain(|(name, _)| match name.strip_prefix("path.") {
            Some(name) => path.contains(&format!("{{{name}}}")),
            None => true,
        });
        hints.extend(self.of_body(method, path).await?);
        Ok(hints)
    }

    /// Fields with a few words, with a form of their own, or that name something that is there.
    async fn of_body(&mut self, method: &str, path: &str) -> Result<Vec<Hint>> {
        let due = now()? + 30 * DAY_MS;
        let body = match (method, path.trim_start_matches("/api/v1/")) {
            ("PUT", "keys/{id}/schedule") => json!({
                "mode": ["notify_only", "issue_pending"], "every_ms": 7 * DAY_MS, "time_zone": "UTC",
            }),
            ("POST", "keys") => json!({
                "name": "A key", "prefix": "sk_live", "scopes[*]": "keys:read", "lifetime_ms": 30 * DAY_MS,
                "environment": "live",
            }),
            ("PATCH", "keys/{id}") => json!({ "name": "Another name", "scopes[*]": "keys:read" }),
            ("POST", "keys/{id}/rotations") => json!({
                "overlap_ms": DAY_MS, "clock": "from_issue", "lifetime_ms": 30 * DAY_MS,
            }),
            ("POST", "keys/{id}/rotations/{rotation_id}/deliveries") => {
                json!({ "target": "vault", "then": "hold" })
            }
            ("POST", "keys/{id}/preview") => json!({ "days": 7, "scopes[*]": "keys:read" }),
            ("POST", "keys/preview") => {
                let (key, _, _) = self.key(json!({})).await?;
                json!({ "ids[*]": key, "days": 7, "scopes[*]": "keys:read" })
            }
            ("PUT", "policies/{environment}") => json!({
                "max_lifetime_ms": 90 * DAY_MS, "max_age_ms": 80 * DAY_MS, "min_overlap_ms": 0,
                "max_overlap_ms": DAY_MS, "overlap_clock": "from_issue", "drain_ms": DAY_MS,
                "allowed_scopes[*]": "keys:read", "allowed_prefixes[*]": "sk_live",
            }),
            ("PUT", "scopes") => json!({ "name": ["orders:read", "orders:write"] }),
            ("POST", "bulk") => {
                let (key, _, _) = self.key(json!({})).await?;
                json!({ "operation": "tag", "tag": "seed", "ids[*]": key })
            }
            ("POST", "hygiene/campaigns") => json!({
                "name": "Autumn", "findings[*]": "never_expires", "unanswered": "leave", "due_at": due,
                "environment": "live", "idle_days": 30, "window_days": 30, "networks": 5,
            }),
            ("POST", "hygiene/campaigns/{id}/questions/{key_id}") => json!({
                "answer": "keep", "reason": "the yearly close", "until": due, "how": "disable",
            }),
            ("POST", "promotions/bundles") => {
                let (key, _, _) = self.key(json!({})).await?;
                let offer = self.send(Method::POST, "/api/v1/promotions/offers", &Value::Null);
                json!({ "key_ids[*]": key, "recipient": offer.await?["recipient"] })
            }
            ("POST", "promotions/left") => {
                let (key, _, _) = self.key(json!({})).await?;
                json!({ "key_ids[*]": key, "remote": "the other one" })
            }
            ("POST", "users") => json!({ "name": "Nia", "email": "nia@example.org" }),
            ("PATCH", "users/{id}") => json!({ "name": "Noa", "email": "noa@example.org" }),
            ("PUT", "users/{id}/roles") => json!({ "roles[*]": "member" }),
            ("PUT", "roles/{name}") => json!({ "permissions[*]": "keys:read" }),
            ("POST", "invitations") => json!({ "email": "new@example.org", "roles[*]": "member" }),
            ("PUT", "identity-providers/{id}") => json!({
                "kind": "oidc", "name": "Another", "issuer": "https://id.example.com", "client_id": "c",
            }),
            ("POST", "clients") => json!({
                "client_name": "A client", "grant_types[*]": "client_credentials",
                "scope": "keys:read", "token_endpoint_auth_method": "client_secret_basic",
                "redirect_uris[*]": "https://app.example.org/callback",
                "id_token_signed_response_alg": "ES256",
            }),
            ("PATCH", "clients/{id}") => json!({ "client_name": "Another", "scope": "keys:read" }),
            ("POST", "registration-tokens") => {
                json!({ "note": "for a test", "expires_in_days": 2, "max_uses": 3 })
            }
            ("POST" | "PATCH", "webhooks" | "webhooks/{id}") => json!({
                "url": "https://hooks.example.org/", "events[*]": "key.revoked", "description": "of a test",
            }),
            ("POST", "/auth/login") => json!({ "email": OWNER, "password": PASSWORD }),
            _ => json!({}),
        };
        let fields = body.as_object().context("no fields")?;
        let hint = |(name, value): (&String, &Value)| {
            let values = match value {
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            };
            (format!("body.{name}"), values)
        };
        Ok(fields.iter().map(hint).collect())
    }
}

/// Unix ms.
fn now() -> Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

/// The generator's own settings, in TOML.
pub(super) async fn all(server: &ServerProcess, document: &Value) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let body = json!({ "email": OWNER, "password": PASSWORD });
    let signed_in = client.post(server.at("/auth/login")).json(&body).send();
    let signed_in: Value = serde_json::from_str(&signed_in.await?.text().await?)?;
    let mut maker = Maker {
        server,
        owner: text(&signed_in["access_token"])?,
        client,
        made: 0,
    };
    let (mut dictionaries, mut bindings) = (String::new(), String::new());
    let mut count = 0;
    for (method, path) in operations(document)? {
        let operation = format!("{method} {path}");
        let hints = maker.of_operation(&method, &path).await;
        let hints = hints.with_context(|| format!("for {operation}"))?;
        if hints.is_empty() {
            continue;
        }
        let mut parameters = Vec::new();
        for (name, values) in hints {
            count += 1;
            let values: Vec<_> = values.iter().map(Value::to_string).collect();
            dictionaries += &format!(
                "[dictionaries.d{count}]\nvalues = [{}]\n",
                values.join(", ")
            );
            parameters.push(format!(
                "{name:?} = {{ dictionary = \"d{count}\", probability = {PROBABILITY} }}"
            ));
        }
        bindings += &format!(
            "[[operations]]\ninclude-name = {operation:?}\nparameters = {{ {} }}\n",
            parameters.join(", ")
        );
    }
    Ok(dictionaries + &bindings)
}
