//! Who goes on working while nodes are restarted one after the other, by way of one address: somebody who issues,
//! rotates and revokes; a person who is signed in; a service that remembers answers; and who follows the changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use keywright_domain::base62::random_id;
use keywright_verifier::{ApiKeys, KeyError, KeyRequest};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::parts::{Three, client};
use super::{SECOND, text};
use crate::server::harness::{OWNER, PASSWORD};
use crate::server::kill::person::form;

/// As long as a service's stream may be silent (AC-140).
const FORGOTTEN_WITHIN: Duration = Duration::from_millis(1500);
/// A stream that says nothing for so long is dead: it has a heartbeat each 0.3 s.
const SILENT: Duration = Duration::from_secs(4);

/// Where all of them ask, until they are told to stop.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) base: String,
    pub(super) root_key: String,
    pub(super) stop: Arc<AtomicBool>,
}

impl Site {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks once: nothing is asked again. Under a name where it may be done once alone.
    async fn post(&self, client: &reqwest::Client, path: &str, body: &Value) -> Result<Value> {
        let mut request = client.post(format!("{}{path}", self.base));
        if path.ends_with("/keys") || path.ends_with("/rotations") {
            request = request.header("idempotency-key", random_id(&mut rand::rng()));
        }
        let answer = request.bearer_auth(&self.root_key).json(body).send();
        let answer = answer.await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let said = answer.text().await.with_context(|| path.to_owned())?;
        ensure!(status.is_success(), "{path}: {status} {said}");
        Ok(serde_json::from_str(&said)?)
    }

    async fn code(&self, client: &reqwest::Client, key: &str) -> Result<String> {
        let asked = json!({ "key": key });
        let answer = self.post(client, "/api/v1/keys/verify", &asked).await?;
        Ok(text(&answer["code"])?.to_owned())
    }
}

/// The ids of keys that were revoked.
pub(super) type Revoked = Arc<Mutex<Vec<String>>>;

/// Issues, rotates and revokes a key, and sees that each was done.
async fn one_life(
    site: &Site,
    client: &reqwest::Client,
    keys: &ApiKeys,
    revoked: &Revoked,
) -> Result<String> {
    let made = site
        .post(client, "/api/v1/keys", &Three::wish(json!({})))
        .await?;
    let id = text(&made["key"]["id"])?;
    let path = format!("/api/v1/keys/{id}/rotations");
    let rotated = site
        .post(client, &path, &json!({ "overlap_ms": 60_000 }))
        .await?;
    let secret = text(&rotated["secret"])?.to_owned();
    let code = site.code(client, &secret).await?;
    ensure!(code == "valid", "after its rotation: {code}");
    // What a service remembers from now on.
    let asked = KeyRequest {
        key: &secret,
        ..KeyRequest::default()
    };
    if let Err(error) = keys.verify(&asked).await {
        bail!("a service says of a key that is good: {error:?}");
    }
    let path = format!("/api/v1/keys/{id}/revoke");
    let ended = site.post(client, &path, &json!({})).await?;
    ensure!(ended["receipt"]["complete"] == true, "{ended}");
    let all = || revoked.lock().unwrap_or_else(PoisonError::into_inner);
    all().push(id.to_owned());
    let code = site.code(client, &secret).await?;
    ensure!(code == "revoked", "after the receipt: {code}");
    Ok(secret)
}

/// Gives keys one life after the other.
pub(super) async fn write(
    site: Site,
    keys: ApiKeys,
    revoked: Revoked,
    times: Arc<AtomicU64>,
) -> Result<Vec<String>> {
    let client = client()?;
    let mut failed = Vec::new();
    let mut services = JoinSet::new();
    while !site.is_over() {
        match one_life(&site, &client, &keys, &revoked).await {
            Err(why) => failed.push(format!("a writer: {why:#}")),
            Ok(secret) => {
                times.fetch_add(1, Ordering::Relaxed);
                let keys = keys.clone();
                services.spawn(async move {
                    tokio::time::sleep(FORGOTTEN_WITHIN).await;
                    let asked = KeyRequest {
                        key: &secret,
                        ..KeyRequest::default()
                    };
                    match keys.verify(&asked).await {
                        Err(KeyError::Refused(code)) if code == "key_revoked" => None,
                        other => Some(format!("a service, of a revoked key: {other:?}")),
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(met) = services.join_next().await {
        failed.extend(met?);
    }
    Ok(failed)
}

/// A service that lets a good key through, by memory or by asking.
pub(super) async fn serve(
    site: Site,
    keys: ApiKeys,
    secret: String,
    times: Arc<AtomicU64>,
) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    while !site.is_over() {
        let asked = KeyRequest {
            key: &secret,
            ..KeyRequest::default()
        };
        match keys.verify(&asked).await {
            Ok(_) => drop(times.fetch_add(1, Ordering::Relaxed)),
            Err(error) => failed.push(format!("a service, of a good key: {error:?}")),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(failed)
}

/// The cookies of the owner, who signs in at a node.
pub(super) async fn sign_in(three: &Three) -> Result<String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let cookies = |answer: &reqwest::Response| -> Vec<String> {
        let lines = answer.headers().get_all("set-cookie").iter();
        let pairs = lines.filter_map(|line| line.to_str().ok()?.split(';').next());
        pairs.map(str::to_owned).collect()
    };
    let address = three.first().at("/sign-in");
    let page = cookies(&client.get(&address).send().await?);
    let token = page.iter().find_map(|one| one.strip_prefix("csrf_token="));
    let fields = [
        ("email", OWNER),
        ("password", PASSWORD),
        ("return_to", "/account"),
        ("csrf_token", token.context("no token")?),
    ];
    let answer = client
        .post(&address)
        .header("cookie", page.join("; "))
        .header("origin", "null")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(&fields))
        .send()
        .await?;
    ensure!(answer.status() == 303, "{}", answer.status());
    Ok(cookies(&answer).join("; "))
}

/// A person who is signed in, and looks at their session.
pub(super) async fn look(
    site: Site,
    cookies: String,
    times: Arc<AtomicU64>,
) -> Result<Vec<String>> {
    let client = client()?;
    let mut failed = Vec::new();
    while !site.is_over() {
        let asked = client
            .get(format!("{}/auth/session", site.base))
            .header("cookie", &cookies);
        match asked.send().await {
            Ok(answer) if answer.status() == 200 => drop(times.fetch_add(1, Ordering::Relaxed)),
            Ok(answer) => failed.push(format!("a person: {}", answer.status())),
            Err(error) => failed.push(format!("a person: {error:?}")),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(failed)
}

/// What a follower of the changes was told.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) connections: usize,
    /// Up to which version.
    pub(super) version: Option<i64>,
    /// Keys that changed.
    pub(super) keys: Vec<String>,
}

/// Takes one event.
fn take(followed: &mut Followed, event: &str) -> Result<()> {
    let field = |name: &str| {
        let mut lines = event.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let version: i64 = field("id").context("no id")?.parse()?;
    let data: Value = serde_json::from_str(field("data").context("no data")?)?;
    let before = followed.version.replace(version);
    match field("event") {
        Some("heartbeat") => ensure!(before <= Some(version), "back from {before:?}: {event}"),
        Some("change") => {
            ensure!(
                before < Some(version),
                "{version} after {before:?}: {event}"
            );
            followed.keys.push(text(&data["id"])?.to_owned());
        }
        _ => bail!("{event}"),
    }
    Ok(())
}

/// Follows the changes, and comes again when the stream ends.
pub(super) async fn follow(site: Site, kept: Arc<Mutex<Followed>>) -> Result<Vec<String>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut failed = Vec::new();
    while !site.is_over() {
        let mut request = client.get(format!("{}/api/v1/events", site.base));
        let version = kept.lock().unwrap_or_else(PoisonError::into_inner).version;
        if let Some(version) = version {
            request = request.header("last-event-id", version.to_string());
        }
        let mut stream = match request.bearer_auth(&site.root_key).send().await {
            Ok(answer) if answer.status() == 200 => answer,
            other => {
                failed.push(format!("a follower: {other:?}"));
                tokio::time::sleep(SECOND / 10).await;
                continue;
            }
        };
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .connections += 1;
        let mut rest = String::new();
        while !site.is_over() {
            match tokio::time::timeout(SILENT, stream.chunk()).await {
                Ok(Ok(Some(piece))) => rest.push_str(std::str::from_utf8(&piece)?),
                // A node that ends, ends it in order.
                Ok(Ok(None)) => break,
                other => {
                    failed.push(format!("a follower: {other:?}"));
                    break;
                }
            }
            while let Some(at) = rest.find("\n\n") {
                let event: String = rest.drain(..at + 2).collect();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(why) = take(&mut kept, &event) {
                    failed.push(format!("a follower: {why:#}"));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(failed)
}
