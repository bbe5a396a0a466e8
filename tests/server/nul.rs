//! U+0000 in whatever a caller sends: PostgreSQL has no place for it and SQLite has. Both answer alike, route by route,
//! and neither says that the database is away.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::harness::{Options, ServerProcess};
use crate::support::postgres::Database;

struct World {
    server: ServerProcess,
    client: Client,
    wrong: Vec<String>,
}

impl World {
    async fn new(database: Option<String>) -> Result<Self> {
        let options = Options {
            database,
            ..Options::default()
        };
        Ok(Self {
            server: ServerProcess::with(options).await?,
            client: Client::builder()
                .no_proxy()
                .timeout(std::time::Duration::from_secs(30))
                .build()?,
            wrong: Vec::new(),
        })
    }

    fn ask(&self, method: &str, path: &str) -> Result<RequestBuilder> {
        let method: Method = method.parse()?;
        let asked = self.client.request(method, self.server.at(path));
        Ok(asked.bearer_auth(&self.server.root_key))
    }

    /// Status, and the body as JSON.
    async fn answer(asked: RequestBuilder) -> Result<(u16, Value)> {
        let answer = asked.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        Self::answer(self.ask("POST", path)?.json(body)).await
    }

    async fn refused(&mut self, about: String, asked: RequestBuilder) -> Result<()> {
        let (status, answer) = Self::answer(asked).await?;
        if (status, answer["code"].as_str()) != (400, Some("invalid_character")) {
            self.wrong.push(format!("{about}: {status} {answer}"));
        }
        Ok(())
    }

    /// Each parameter, the query and the body of each operation of the description. How many operations.
    async fn every_operation(&mut self) -> Result<usize> {
        let asked = self.ask("GET", "/api/openapi.json")?;
        let (_, described) = Self::answer(asked).await?;
        let mut operations = 0;
        for (path, methods) in described["paths"].as_object().context("no paths")? {
            let names: Vec<_> = path
                .split('/')
                .filter(|part| part.starts_with('{'))
                .collect();
            let others = |path: String| {
                names
                    .iter()
                    .fold(path, |path, name| path.replace(name, "x"))
            };
            for (method, operation) in methods.as_object().context("no methods")? {
                operations += 1;
                let method = method.to_uppercase();
                let in_path = names.iter().map(|name| others(path.replace(name, "a%00b")));
                let mut addresses: Vec<_> = in_path.collect();
                addresses.push(others(path.clone()) + "?limit=%00");
                for address in addresses {
                    let asked = self.ask(&method, &address)?;
                    self.refused(format!("{method} {address}"), asked).await?;
                }
                let body = &operation["requestBody"]["content"]["application/json"];
                let plain = others(path.clone());
                // A person's own account no key has: it is not asked for a body.
                let is_theirs = ["/auth/", "/api/v1/sessions", "/api/v1/applications"];
                let is_theirs = is_theirs.iter().any(|start| plain.starts_with(start));
                if body.is_object() && !is_theirs && !plain.ends_with("/keys/verify") {
                    let body = json!({ "reason": "a\0b" });
                    let asked = self.ask(&method, &plain)?.json(&body);
                    self.refused(format!("the body of {method} {plain}"), asked)
                        .await?;
                }
            }
        }
        Ok(operations)
    }

    /// What is more than a request's own form.
    async fn every_other_way(&mut self) -> Result<()> {
        let wish = json!({ "name": "a", "prefix": "sk_live", "scopes": ["keys:read"] });
        let (status, issued) = self.post("/api/v1/keys", &wish).await?;
        ensure!(status == 201, "{issued}");
        let (id, key) = (
            issued["key"]["id"].as_str().context("no id")?,
            issued["secret"].as_str().context("no secret")?,
        );
        // It stays as it is, and its owner is told so.
        for step in ["revoke", "disable"] {
            let path = format!("/api/v1/keys/{id}/{step}");
            let answer = self.post(&path, &json!({ "reason": "a\0" })).await?;
            ensure!(answer.0 == 400, "{step}: {answer:?}");
        }
        let keys = json!({ "keys": [{ "key": "sk_live_\0" }, { "key": key }, { "key": format!("{key}\0") }] });
        let (status, answer) = self.post("/api/v1/keys/verify", &keys).await?;
        let code = |at: usize| answer["results"][at]["code"].as_str().unwrap_or("");
        ensure!(
            status == 200 && [code(0), code(1), code(2)] == ["malformed", "valid", "malformed"],
            "{answer}"
        );
        // The address of another service's request, where it may mean something.
        let asked = self.client.get(self.server.at("/verify"));
        let asked = asked.header("x-api-key", key);
        let asked = asked.header("x-original-uri", "/a%00b?c=%00");
        let status = asked.send().await?.status();
        ensure!(status == 204, "{status}");
        for body in [
            json!({ "key": "\0", "seen_in": "b" }),
            json!({ "key": key, "seen_in": "here\0" }),
        ] {
            let asked = self.client.post(self.server.at("/found-key")).json(&body);
            let answer = Self::answer(asked).await?;
            ensure!(answer.0 == 200, "{answer:?}");
        }
        let lines = [
            json!({ "name": "a\0", "hash": "0".repeat(64), "scopes": ["keys:read"] }),
            json!({ "name": "a", "hash": "1".repeat(64), "scopes": ["keys:read"], "note": "\0" }),
            json!({ "name": "a", "hash": "2".repeat(64), "scopes": ["keys:read"] }),
        ];
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let asked = self
            .ask("POST", "/api/v1/import?never_expires=true&prefix=sk_live")?
            .header("content-type", "application/x-ndjson")
            .body(lines);
        let (status, answer) = Self::answer(asked).await?;
        ensure!(
            status == 200
                && answer["refused"].as_array().map(Vec::len) == Some(2)
                && answer["stopped"].is_null(),
            "{status} {answer}"
        );
        self.oauth().await
    }

    async fn oauth(&mut self) -> Result<()> {
        let basic = base64::engine::general_purpose::STANDARD.encode("a\0:b");
        for path in [
            "token",
            "par",
            "introspect",
            "revoke",
            "device_authorization",
        ] {
            let address = self.server.at(&format!("/oauth2/{path}"));
            let form = [("grant_type", "client_credentials"), ("token", "a")];
            let asked = self.client.post(&address).form(&form);
            let asked = asked.header("authorization", format!("Basic {basic}"));
            let (status, answer) = Self::answer(asked).await?;
            ensure!(
                (status, &answer["error"]) == (401, &json!("invalid_client")),
                "{path}: {status} {answer}"
            );
            let form = [("grant_type", "client_credentials"), ("client_id", "a\0")];
            let (status, answer) = Self::answer(self.client.post(&address).form(&form)).await?;
            ensure!(
                (status, &answer["error"]) == (400, &json!("invalid_request")),
                "{path}: {status} {answer}"
            );
        }
        // Nobody has looked at its signature when its client is looked for.
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let part = |value: &Value| url.encode(value.to_string());
        let (header, claims) = (
            json!({ "alg": "ES256" }),
            json!({ "iss": "a\0", "sub": "a\0", "aud": "b", "jti": "c", "exp": 1 }),
        );
        let signature = url.encode([0; 64]);
        let assertion = format!("{}.{}.{signature}", part(&header), part(&claims));
        let form = [
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion.as_str()),
        ];
        let address = self.server.at("/oauth2/token");
        let (status, answer) = Self::answer(self.client.post(&address).form(&form)).await?;
        ensure!(
            (400..500).contains(&status) && answer["error"] == "invalid_client",
            "{status} {answer}"
        );
        let page = self
            .server
            .at("/oauth2/authorize?client_id=a%00&response_type=code");
        let (status, answer) = Self::answer(self.client.get(page)).await?;
        ensure!(
            (status, &answer["error"]) == (400, &json!("invalid_request")),
            "{status} {answer}"
        );
        Ok(())
    }
}

async fn alike(database: Option<String>) -> Result<()> {
    let mut world = World::new(database).await?;
    let operations = world.every_operation().await?;
    ensure!(operations > 120, "{operations}");
    ensure!(world.wrong.is_empty(), "{}", world.wrong.join("\n"));
    world.every_other_way().await?;
    let logged = world.server.logged();
    ensure!(!logged.contains("could not answer"), "{logged}");
    Ok(())
}

#[tokio::test]
async fn u_0000_is_refused_by_name_by_every_operation_on_sqlite() -> Result<()> {
    alike(None).await
}

#[tokio::test]
async fn u_0000_is_refused_by_name_by_every_operation_on_postgresql() -> Result<()> {
    let database = Database::create().await?;
    alike(Some(database.url().to_owned())).await
}
