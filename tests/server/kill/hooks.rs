//! Webhooks: their change, their secret and their end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::Victim;
use super::accounts::good;
use super::key_changes::with;
use super::keys::{get, request};

/// A message is sent a moment after it was made, also by a server that was just started.
const SENT_WITHIN: Duration = Duration::from_secs(30);

/// A message as it came.
#[derive(Clone, Debug)]
struct Message {
    id: String,
    timestamp: String,
    /// One for each secret, with a space between them.
    signatures: String,
    body: String,
}

impl Message {
    fn read(head: &str, body: &str) -> Self {
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found
                .next()
                .map_or("", |(_, value)| value.trim())
                .to_owned()
        };
        Self {
            id: field("webhook-id"),
            timestamp: field("webhook-timestamp"),
            signatures: field("webhook-signature"),
            body: body.to_owned(),
        }
    }

    /// Whether one of its signatures is by this secret, as Standard Webhooks says.
    fn is_signed_by(&self, secret: &str) -> Result<bool> {
        let secret = secret.strip_prefix("whsec_").context("no secret")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(secret)?)?;
        let Self {
            id,
            timestamp,
            body,
            ..
        } = self;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        Ok(self.signatures.split(' ').any(|one| one == signature))
    }
}

type Came = Arc<Mutex<Vec<Message>>>;

fn keep(came: &Came, message: Option<Message>) {
    let mut came = came.lock().unwrap_or_else(PoisonError::into_inner);
    came.extend(message);
}

/// Somebody who listens, and takes what comes.
async fn listen() -> Result<(Came, String)> {
    let came = Came::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/hook", listener.local_addr()?);
    let kept = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
            let message = loop {
                let Ok(read @ 1..) = stream.read(&mut part).await else {
                    break None;
                };
                bytes.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n")
                    && serde_json::from_str::<Value>(body).is_ok()
                {
                    break Some(Message::read(head, body));
                }
            };
            keep(&kept, message);
            let answer = "HTTP/1.1 204 yes\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok((came, address))
}

/// Asks for a message and waits until it comes.
async fn tested(victim: &Victim, path: &str, came: &Came) -> Result<Message> {
    let many = || came.lock().unwrap_or_else(PoisonError::into_inner).len();
    let before = many();
    let test = request(victim, &format!("{path}/test"), &json!({}));
    good(&victim.send(test).await?)?;
    let end = Instant::now() + SENT_WITHIN;
    while many() == before {
        ensure!(Instant::now() < end, "no message comes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let came = came.lock().unwrap_or_else(PoisonError::into_inner);
    came.last().cloned().context("no message")
}

/// A webhook is the old one or the new one, whole; a secret that was told is the one that it signs with, and the one
/// before it too for a while.
pub(super) async fn webhook(victim: &mut Victim, at: u64) -> Result<()> {
    let (came, url) = listen().await?;
    let made = json!({ "url": url, "events": ["rotation.pending"], "description": "a" });
    let made = victim
        .send(request(victim, "/api/v1/webhooks", &made))
        .await?;
    good(&made)?;
    let id = made.body["webhook"]["id"].as_str();
    let id = id.with_context(|| format!("no id: {}", made.body))?;
    let first = made.text("secret")?;
    let path = format!("/api/v1/webhooks/{id}");
    let message = tested(victim, &path, &came).await?;
    ensure!(message.is_signed_by(first)?, "{message:?}");

    let other = format!("{url}/b");
    let change = json!({ "url": other, "description": "b", "enabled": false });
    let struck = victim
        .strike(with(victim, Method::PATCH, &path, &change), at)
        .await?;
    let seen = get(victim, &path).await?;
    let is_new = (seen.body["url"] == *other, seen.body["description"] == "b");
    ensure!(
        matches!(is_new, (true, true) | (false, false)),
        "{}",
        seen.body
    );
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(is_new == (true, true), "told so, and {}", seen.body);
    }
    let back = json!({ "url": url, "enabled": true });
    good(
        &victim
            .send(with(victim, Method::PATCH, &path, &back))
            .await?,
    )?;

    let rotate = request(victim, &format!("{path}/rotate-secret"), &json!({}));
    let told = victim.strike(rotate, at).await?;
    let message = tested(victim, &path, &came).await?;
    let many = message.signatures.split(' ').count();
    ensure!(
        message.is_signed_by(first)?,
        "whoever knows the one before alone is told nothing any more: {message:?}"
    );
    match &told {
        Some(answer) => {
            good(answer)?;
            let new = answer.text("secret")?;
            ensure!(new != first, "it is the one before");
            ensure!(many == 2, "told so, and {message:?}");
            ensure!(message.is_signed_by(new)?, "it has another: {message:?}");
        }
        // There is a new one or not, and nobody knows it.
        None => ensure!(matches!(many, 1 | 2), "{message:?}"),
    }
    // The next one is known again.
    let rotate = request(victim, &format!("{path}/rotate-secret"), &json!({}));
    let answer = victim.send(rotate).await?;
    good(&answer)?;
    let message = tested(victim, &path, &came).await?;
    ensure!(message.is_signed_by(answer.text("secret")?)?, "{message:?}");

    let gone = victim
        .strike(with(victim, Method::DELETE, &path, &json!({})), at)
        .await?;
    let read = victim.client.get(victim.server.at(&path));
    let read = read.bearer_auth(&victim.server.root_key);
    let there = victim.send(read).await?.status;
    ensure!(matches!(there, 200 | 404), "{there}");
    if let Some(answer) = &gone {
        good(answer)?;
        ensure!(there == 404, "removed, and there again");
    }
    if there == 200 {
        let remove = with(victim, Method::DELETE, &path, &json!({}));
        good(&victim.send(remove).await?)?;
    }
    Ok(())
}
