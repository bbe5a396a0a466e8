//! What is good for one use, across the end of the process (`kill -9`) and another start on the same folder: what
//! was used is not taken again, what is new is, and a certified client notices nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::base62::random_id;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::harness::{Options, ServerProcess, owner, peer};
use crate::support::postgres::Database;

const REDIRECT: &str = "http://127.0.0.1:9999/callback";
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const KEYS: &str = "/api/v1/keys";

struct Answer {
    status: u16,
    body: Value,
    nonce: Option<String>,
    challenge: String,
}

impl Answer {
    /// What it is refused with, at either endpoint.
    fn error(&self) -> &str {
        let of = |name: &str| self.body[name].as_str();
        of("error").or_else(|| of("code")).unwrap_or("")
    }
}

/// A program that signs: its key, and the server that it asks.
struct Program {
    jwk: Value,
    server: ServerProcess,
    client: reqwest::Client,
}

impl Program {
    async fn new(database: Option<&Database>) -> Result<Self> {
        let server = ServerProcess::with(Options {
            database: database.map(|database| database.url().to_owned()),
            ..Options::default()
        })
        .await?;
        let input = json!({ "scenario": "make_key", "issuer": server.issuer });
        let key = peer("openid-client.mjs", &input).await?;
        let file = server.write("jwks.json", &key["public"].to_string())?;
        let words = [
            "--grant",
            "client_credentials",
            "--scope",
            "keys:read",
            "--auth-method",
            "private_key_jwt",
            "--jwks-file",
            &file,
        ];
        server.add_client("signer", None, &words).await?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()?;
        Ok(Self {
            jwk: key["private"].clone(),
            server,
            client,
        })
    }

    async fn sign(&self, kind: &str, claims: Value) -> Result<String> {
        let input = json!({
            "scenario": "sign", "issuer": self.server.issuer, "jwk": self.jwk,
            "tokens": [{ "type": kind, "claims": claims }],
        });
        let signed = peer("openid-client.mjs", &input).await?;
        Ok(signed["tokens"][0].as_str().context("no token")?.to_owned())
    }

    /// An assertion of an hour, without `iat`.
    async fn assertion(&self) -> Result<String> {
        let claims = json!({
            "iss": "signer", "sub": "signer", "aud": self.server.issuer, "jti": random_id(&mut rand::rng()),
            "exp": now_s()? + 3_590,
        });
        self.sign("assertion", claims).await
    }

    /// A proof for one of the two endpoints; for the API with the hash of a token.
    async fn proof(&self, token: Option<&str>, nonce: Option<&str>) -> Result<String> {
        let (method, path) = match token {
            Some(_) => ("GET", KEYS),
            None => ("POST", "/oauth2/token"),
        };
        let mut claims = json!({
            "jti": random_id(&mut rand::rng()), "htm": method, "htu": self.server.at(path), "iat": now_s()?,
        });
        if let Some(token) = token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(token)).into();
        }
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        self.sign("dpop", claims).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let response = request.send().await?;
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Ok(Answer {
            status: response.status().as_u16(),
            nonce: header("dpop-nonce"),
            challenge: header("www-authenticate").unwrap_or_default(),
            body: response.json().await.unwrap_or(Value::Null),
        })
    }

    async fn token(&self, assertion: &str, proof: &str) -> Result<Answer> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", TYPE),
            ("client_assertion", assertion),
        ];
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = self.client.post(self.server.at("/oauth2/token"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.ask(request.header("dpop", proof).body(body)).await
    }

    async fn keys(&self, token: &str, proof: &str) -> Result<Answer> {
        let request = self.client.get(self.server.at(KEYS));
        let request = request.header("authorization", format!("DPoP {token}"));
        self.ask(request.header("dpop", proof)).await
    }

    /// Kills it, and starts it on the same folder.
    async fn kill(&mut self) -> Result<()> {
        self.server.signal("KILL")?;
        let _ = self.server.ended().await?;
        self.server.serve().await
    }
}

fn now_s() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_secs())?)
}

async fn killed(database: Option<&Database>) -> Result<()> {
    let mut program = Program::new(database).await?;
    // Proofs without a nonce are what is shown again: those of a server that was not started just now.
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let (assertion, proof, token) = loop {
        let (assertion, proof) = (program.assertion().await?, program.proof(None, None).await?);
        let answer = program.token(&assertion, &proof).await?;
        if answer.status == 200 {
            let token = answer.body["access_token"].as_str().context("no token")?;
            break (assertion, proof, token.to_owned());
        }
        ensure!(
            answer.error() == "use_dpop_nonce" && std::time::Instant::now() < end,
            "{} {}",
            answer.status,
            answer.body
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let at_keys = program.proof(Some(&token), None).await?;
    let answer = program.keys(&token, &at_keys).await?;
    ensure!(answer.status == 200, "{}", answer.body);

    program.kill().await?;
    let again = program.keys(&token, &at_keys).await?;
    ensure!(again.status == 401, "a proof was taken again");
    let kept = program.assertion().await?;
    let replayed = program.token(&kept, &proof).await?;
    ensure!(replayed.status == 400, "a proof was taken again");
    let unused = program.proof(None, replayed.nonce.as_deref()).await?;
    let again_assertion = program.token(&assertion, &unused).await?;
    ensure!(
        again_assertion.status == 401 && again_assertion.error() == "invalid_client",
        "an assertion was taken again: {}",
        again_assertion.body
    );
    let is_shared = database.is_some();
    let expected = if is_shared {
        "invalid_dpop_proof"
    } else {
        "use_dpop_nonce"
    };
    ensure!(replayed.error() == expected, "{}", replayed.body);
    ensure!(again.challenge.contains(expected), "{}", again.challenge);
    ensure!(again.nonce.is_some() != is_shared, "{expected}");
    // What is new is taken, by the nonce where one was asked for.
    let fresh = program.assertion().await?;
    let answer = program.token(&fresh, &unused).await?;
    ensure!(answer.status == 200, "{}", answer.body);
    let by_nonce = program.proof(Some(&token), again.nonce.as_deref()).await?;
    let answer = program.keys(&token, &by_nonce).await?;
    ensure!(answer.status == 200, "{}", answer.body);
    let twice = program.keys(&token, &by_nonce).await?;
    ensure!(twice.error() == "invalid_dpop_proof", "{}", twice.body);

    // An orderly end is no other: a nonce, too, is good at the process that gave it.
    program.server.signal("TERM")?;
    ensure!(program.server.ended().await?, "it did not end well");
    program.server.serve().await?;
    let again = program.keys(&token, &by_nonce).await?;
    ensure!(again.status == 401, "a proof was taken again");
    ensure!(again.challenge.contains(expected), "{}", again.challenge);
    for used in [&assertion, &kept, &fresh] {
        let proof = program.proof(None, again.nonce.as_deref()).await?;
        let answer = program.token(used, &proof).await?;
        ensure!(answer.error() == "invalid_client", "{}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn ac_063_s58_what_was_used_before_a_kill_is_not_taken_after_it() -> Result<()> {
    killed(None).await
}

#[tokio::test]
async fn ac_063_s58_what_was_used_before_a_kill_is_not_taken_after_it_on_postgresql() -> Result<()>
{
    let database = Database::create().await?;
    killed(Some(&database)).await?;
    database.close().await
}

#[tokio::test]
async fn s26_s58_a_certified_client_goes_on_after_a_kill() -> Result<()> {
    let mut program = Program::new(None).await?;
    let words = [
        "--redirect-uri",
        REDIRECT,
        "--grant",
        "authorization_code",
        "--grant",
        "refresh_token",
        "--scope",
        "openid profile email offline_access",
    ];
    program.server.add_client("third", None, &words).await?;
    let input = json!({
        "scenario": "dpop_begin", "issuer": program.server.issuer, "client": "third", "person": owner(),
    });
    let begun = peer("openid-client.mjs", &input).await?;
    program.kill().await?;
    let go_on = async |client: &str, more: Value| -> Result<Value> {
        let mut input = begun.clone();
        input["scenario"] = "dpop_go_on".into();
        input["issuer"] = program.server.issuer.clone().into();
        input["client"] = client.into();
        for (name, value) in more.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        peer("openid-client.mjs", &input).await
    };
    // Asked once, which it answers by itself; the nonce is good for what follows.
    let result = go_on("third", json!({})).await?;
    ensure!(result["asked"] == 1, "{result}");
    ensure!(result["email"] == owner()["email"], "{result}");
    let more = json!({ "jwk": program.jwk, "scope": "keys:read" });
    let result = go_on("signer", more).await?;
    ensure!(result["asked"] == 1, "{result}");
    let is_bound = result["type"].as_str().context("no type")?;
    ensure!(is_bound.eq_ignore_ascii_case("dpop"), "{result}");
    Ok(())
}
