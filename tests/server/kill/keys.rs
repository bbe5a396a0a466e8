//! Use cases of API keys.

use anyhow::{Context as _, Result, ensure};
use keywright_domain::base62::random_id;
use serde_json::{Value, json};

use super::{Answer, Victim};

pub(in crate::server) fn request(
    victim: &Victim,
    path: &str,
    body: &Value,
) -> reqwest::RequestBuilder {
    let request = victim.client.post(victim.server.at(path));
    let request = request.bearer_auth(&victim.server.root_key);
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

pub(in crate::server) async fn get(victim: &Victim, path: &str) -> Result<Answer> {
    let request = victim.client.get(victim.server.at(path));
    let answer = victim
        .send(request.bearer_auth(&victim.server.root_key))
        .await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer)
}

/// What a verification says of a key.
pub(in crate::server) async fn verdict(victim: &Victim, secret: &str) -> Result<String> {
    let asked = request(victim, "/api/v1/keys/verify", &json!({ "key": secret }));
    let answer = victim.send(asked).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.text("code")?.to_owned())
}

fn wish(name: &str) -> Value {
    json!({ "name": name, "prefix": "sk_live", "scopes": ["keys:read"] })
}

pub(in crate::server) async fn issued(victim: &Victim) -> Result<(String, String)> {
    let name = random_id(&mut rand::rng());
    let answer = victim
        .send(request(victim, "/api/v1/keys", &wish(&name)))
        .await?;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.body);
    let id = answer.body["key"]["id"].as_str().context("no id")?;
    Ok((id.to_owned(), answer.text("secret")?.to_owned()))
}

pub(super) async fn issue(victim: &mut Victim, at: u64) -> Result<()> {
    let name = random_id(&mut rand::rng());
    let struck = victim
        .strike(request(victim, "/api/v1/keys", &wish(&name)), at)
        .await?;
    let list = get(victim, "/api/v1/keys?limit=100").await?;
    let items = list.body["items"].as_array().context("no items")?;
    let found: Vec<_> = items.iter().filter(|one| one["name"] == *name).collect();
    ensure!(found.len() <= 1, "issued twice");
    if let Some(answer) = struck {
        ensure!(answer.status == 201, "{} {}", answer.status, answer.body);
        ensure!(found.len() == 1, "a key that was given is lost");
        ensure!(verdict(victim, answer.text("secret")?).await? == "valid");
    }
    Ok(())
}

pub(super) async fn rotation(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, old) = issued(victim).await?;
    let path = format!("/api/v1/keys/{id}/rotations");
    let key = random_id(&mut rand::rng());
    let rotate =
        |victim: &Victim| request(victim, &path, &json!({})).header("idempotency-key", &key);
    let first = victim.strike(rotate(victim), at).await?;
    // Carried out before, or now, and once (AC-138).
    let second = victim.send(rotate(victim)).await?;
    ensure!(
        matches!(second.status, 200 | 201),
        "{} {}",
        second.status,
        second.body
    );
    let rotations = get(victim, &path).await?;
    let count = rotations.body["items"].as_array().map(Vec::len);
    ensure!(count == Some(1), "{}", rotations.body);
    ensure!(
        verdict(victim, &old).await? == "valid",
        "the overlap is over"
    );
    let told = first
        .iter()
        .chain([&second])
        .find_map(|one| one.body["secret"].as_str());
    if let Some(new) = told {
        ensure!(
            verdict(victim, new).await? == "valid",
            "a secret that was given is lost"
        );
    }
    if let Some(first) = &first {
        ensure!(first.status == 201 && second.status == 200, "rotated twice");
    }
    Ok(())
}

pub(super) async fn revocation(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, secret) = issued(victim).await?;
    ensure!(verdict(victim, &secret).await? == "valid");
    let path = format!("/api/v1/keys/{id}/revoke");
    let body = json!({ "reason": "it is known to others" });
    let struck = victim.strike(request(victim, &path, &body), at).await?;
    if let Some(answer) = struck {
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    } else {
        let again = victim.send(request(victim, &path, &body)).await?;
        ensure!(again.status == 200, "{} {}", again.status, again.body);
    }
    let code = verdict(victim, &secret).await?;
    ensure!(
        code == "key_revoked" || code == "revoked",
        "revoked, and {code}"
    );
    Ok(())
}
