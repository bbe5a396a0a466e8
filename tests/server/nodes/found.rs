//! GitHub's signed report of a key, taken by any of three processes over PostgreSQL: it ends the key for all of
//! them, once, whichever node it comes to and however often (AC-144).

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywright_registry::{Clock, LocalRegistry};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::SECOND;
use super::parts::{Three, client};
use crate::server::harness::Options;
use crate::support::postgres::Database;

/// What the server writes down that a report was seen to as.
const SEEN: &str = "GitHub report";

/// Publishes one key and signs with it, as GitHub does (ECDSA, P-256, SHA-256).
struct GitHub {
    pair: KeyPair,
    key_id: String,
    keys_url: String,
}

impl GitHub {
    async fn start() -> Result<Self> {
        let pair = KeyPair::generate()?;
        let pem = pair.public_key_pem();
        let key_id = digest(&pem);
        let body = json!({ "public_keys": [
            { "key_identifier": key_id, "key": pem, "is_current": true },
        ]})
        .to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let keys_url = format!("http://{}/keys", listener.local_addr()?);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Self {
            pair,
            key_id,
            keys_url,
        })
    }

    fn sign(&self, body: &str) -> Result<String> {
        Ok(STANDARD.encode(self.pair.sign(body.as_bytes())?))
    }

    /// Sends a report to a node, signed anew.
    async fn report(&self, three: &Three, node: usize, body: &str) -> Result<Value> {
        let (status, answer) = self.send(three, node, &self.sign(body)?, body).await?;
        ensure!(status == 200, "node {node}: {status} {answer}");
        Ok(answer)
    }

    async fn send(
        &self,
        three: &Three,
        node: usize,
        signature: &str,
        body: &str,
    ) -> Result<(u16, Value)> {
        let answer = client()?
            .post(three.caller(node).at("/github/secret-scanning"))
            .header("content-type", "application/json")
            .header("github-public-key-identifier", &self.key_id)
            .header("github-public-key-signature", signature)
            .body(body.to_owned())
            .send()
            .await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }
}

/// SHA-256 in small hexadecimal digits.
fn digest(text: &str) -> String {
    use std::fmt::Write as _;
    let bytes = Sha256::digest(text.as_bytes());
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn report_of(tokens: &[&str]) -> String {
    let found = |token: &&str| {
        json!({
            "token": token,
            "type": "keywright_api_key",
            "url": "https://github.com/octocat/Hello-World/blob/123/foo.txt",
            "source": "content",
        })
    };
    Value::from(tokens.iter().map(found).collect::<Vec<_>>()).to_string()
}

/// The rows of the trail that say so of a key.
async fn told(three: &Three, id: &str) -> Result<usize> {
    let path = format!("/api/v1/audit?type=api_key.exposed&target={id}");
    let (status, page) = three.caller(0).get(&path).await?;
    ensure!(status == 200, "{status} {page}");
    Ok(page["items"].as_array().context("no rows")?.len())
}

/// Whoever took the report refuses the key now, the others within a second (AC-140).
async fn ended_everywhere(three: &Three, taken_by: &[usize], secret: &str) -> Result<()> {
    let answered = Instant::now();
    for node in taken_by {
        let code = three.caller(*node).code(secret).await?;
        ensure!(code == "revoked", "node {node} took it: {code}");
    }
    for node in 0..3 {
        loop {
            let asked = answered.elapsed();
            let code = three.caller(node).code(secret).await?;
            if code == "revoked" {
                break;
            }
            ensure!(code == "valid" || code == "503", "node {node}: {code}");
            ensure!(
                code == "503" || asked < SECOND,
                "node {node} after {asked:?}"
            );
            ensure!(asked < SECOND * 10, "node {node}: {code}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_144_ac_140_a_signed_report_to_any_node_ends_the_key_on_all_and_once() -> Result<()> {
    let (github, database) = (GitHub::start().await?, Database::create().await?);
    let settings = format!(
        "allow_private_addresses = true\nleaks.github_keys_url = \"{}\"\n",
        github.keys_url
    );
    let options = Options {
        settings: Box::leak(settings.into_boxed_str()),
        ..Options::default()
    };
    let three = Three::on(database.url(), options).await?;
    let (id, secret) = three.issue(json!({})).await?;
    let (raced_id, raced) = three.issue(json!({})).await?;
    let (kept_id, kept) = three.issue(json!({})).await?;
    for node in 0..3 {
        for secret in [&secret, &raced, &kept] {
            ensure!(three.caller(node).code(secret).await? == "valid");
        }
    }

    // What GitHub did not sign ends nothing, wherever it comes.
    let body = report_of(&[&secret, "sk_live_nonsense"]);
    let of_another = github.sign(&report_of(&[&kept]))?;
    for node in 0..3 {
        let (status, answer) = github.send(&three, node, &of_another, &body).await?;
        ensure!(
            status == 401 && answer["code"] == "signature_invalid",
            "node {node}: {status} {answer}"
        );
    }
    ensure!(three.caller(0).code(&secret).await? == "valid");

    // One report, to the second node.
    let labels = github.report(&three, 1, &body).await?;
    ended_everywhere(&three, &[1], &secret).await?;
    ensure!(labels[0]["label"] == "true_positive", "{labels}");
    ensure!(labels[0]["token_hash"] == digest(&secret), "{labels}");
    ensure!(labels[1]["label"] == "false_positive", "{labels}");
    ensure!(told(&three, &id).await? == 1);
    let (_, key) = three.caller(2).get(&format!("/api/v1/keys/{id}")).await?;
    ensure!(key["exposed_at"].is_i64(), "{key}");

    // Played again to each: the same labels, and nothing happens.
    let registry = LocalRegistry::open_postgres(database.url(), Clock::system()).await?;
    let name = digest(&body);
    let seen = registry.was_used(SEEN, &github.key_id, &name).await?;
    ensure!(seen, "it is remembered for all nodes");
    for node in 0..3 {
        ensure!(github.report(&three, node, &body).await? == labels);
    }
    ensure!(told(&three, &id).await? == 1, "it is told once");
    let path = format!("/api/v1/keys/{id}");
    let (_, after) = three.caller(2).get(&path).await?;
    ensure!(
        after["exposed_at"] == key["exposed_at"],
        "{after}, not {key}"
    );

    // A report that another node saw to ends nothing, also where there would be something to end.
    let known = report_of(&[&kept]);
    let (name, a_day) = (digest(&known), 24 * 60 * 60 * 1000);
    let until = Clock::system().now().saturating_add(a_day);
    ensure!(
        registry
            .use_once(SEEN, &github.key_id, &name, until)
            .await?
    );
    for node in 0..3 {
        let labels = github.report(&three, node, &known).await?;
        ensure!(labels[0]["label"] == "true_positive", "{labels}");
    }
    tokio::time::sleep(SECOND).await;
    for node in 0..3 {
        let code = three.caller(node).code(&kept).await?;
        ensure!(code == "valid", "node {node}: {code}");
    }
    ensure!(told(&three, &kept_id).await? == 0);

    // To all of them at the same moment: each takes it, one ends it.
    let body = report_of(&[&raced]);
    let mut sent = JoinSet::new();
    for node in 0..3 {
        let request = client()?
            .post(three.caller(node).at("/github/secret-scanning"))
            .header("content-type", "application/json")
            .header("github-public-key-identifier", &github.key_id)
            .header("github-public-key-signature", github.sign(&body)?)
            .body(body.clone());
        sent.spawn(request.send());
    }
    while let Some(answered) = sent.join_next().await {
        let answer = answered??;
        ensure!(answer.status() == 200, "{}", answer.status());
        let labels: Value = answer.json().await?;
        ensure!(labels[0]["label"] == "true_positive", "{labels}");
    }
    ended_everywhere(&three, &[0, 1, 2], &raced).await?;
    ensure!(told(&three, &raced_id).await? == 1, "it is told once");
    registry.close().await;
    three.close().await?;
    database.close().await
}
