//! GitHub's reports of keys that it found. GitHub is imitated: its keys are published and its reports signed as its
//! documentation says.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::accounts::good;
use super::keys::{get, issued, verdict};
use super::{Answer, Victim};

const KEY_ID: &str = "struck";
static PAIR: LazyLock<Option<KeyPair>> =
    LazyLock::new(|| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).ok());

/// Publishes the keys that reports are signed with, and says where.
pub(super) async fn publish() -> Result<String> {
    let pem = PAIR.as_ref().context("no key")?.public_key_pem();
    let keys = json!({ "public_keys": [
        { "key_identifier": KEY_ID, "key": pem, "is_current": true },
    ]});
    let body = keys.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/keys", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await;
            let head = "HTTP/1.1 200 yes\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length:";
            let answer = format!("{head} {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok(address)
}

/// Each key that it names is ended or as it was, and sent again all of them are; sent once more nothing is done.
pub(super) async fn of_github(victim: &mut Victim, at: u64) -> Result<()> {
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.push(issued(victim).await?);
    }
    let url = "https://github.com/example/example/blob/main/.env";
    let tokens = keys.iter().map(|(_, secret)| {
        json!({ "token": secret, "type": "keywright_api_key", "url": url, "source": "content" })
    });
    let body = Value::Array(tokens.collect()).to_string();
    let pair = PAIR.as_ref().context("no key")?;
    let signature = STANDARD.encode(pair.sign(body.as_bytes())?);
    let send = |victim: &Victim| -> RequestBuilder {
        let report = victim
            .client
            .post(victim.server.at("/github/secret-scanning"));
        report
            .header("content-type", "application/json")
            .header("github-public-key-identifier", KEY_ID)
            .header("github-public-key-signature", &signature)
            .body(body.clone())
    };
    let ours = |answer: &Answer| {
        let labels = answer.body.as_array().map_or(&[][..], Vec::as_slice);
        let ours = labels.iter().filter(|one| one["label"] == "true_positive");
        ours.count()
    };
    let struck = victim.strike(send(victim), at).await?;
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(ours(answer) == keys.len(), "{}", answer.body);
    }
    let mut ended = Vec::new();
    for (id, secret) in &keys {
        let code = verdict(victim, secret).await?;
        let key = get(victim, &format!("/api/v1/keys/{id}")).await?.body;
        // The secret ends that was found; the key would go on with another.
        let at = key["secrets"][0]["ended_at"].as_i64();
        ensure!(at.is_some() == (code != "valid"), "{code}: {key}");
        ensure!(struck.is_none() || code != "valid", "told so, and {code}");
        ended.push(at);
    }
    let again = victim.send(send(victim)).await?;
    good(&again)?;
    ensure!(ours(&again) == keys.len(), "{}", again.body);
    for ((id, secret), before) in keys.iter().zip(ended) {
        ensure!(verdict(victim, secret).await? != "valid");
        let key = get(victim, &format!("/api/v1/keys/{id}")).await?.body;
        let now = key["secrets"][0]["ended_at"].as_i64();
        ensure!(before.is_none() || before == now, "ended twice: {key}");
    }
    Ok(())
}
