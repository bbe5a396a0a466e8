//! Changes of API keys and of what is around them: the switch, the steps of a rotation, many keys at once,
//! imports, policies.

use anyhow::{Result, ensure};
use keywright_domain::base62::random_id;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::keys::{get, issued, request, verdict};
use super::{Answer, Victim};

fn good(answer: &Answer) -> Result<()> {
    ensure!(
        (200..300).contains(&answer.status),
        "{} {}",
        answer.status,
        answer.body
    );
    Ok(())
}

/// A request that changes with another method than POST.
pub(super) fn with(
    victim: &Victim,
    method: reqwest::Method,
    path: &str,
    body: &Value,
) -> reqwest::RequestBuilder {
    let request = victim.client.request(method, victim.server.at(path));
    request
        .bearer_auth(&victim.server.root_key)
        .header("content-type", "application/json")
        .body(body.to_string())
}

async fn of_key(victim: &Victim, id: &str) -> Result<Value> {
    Ok(get(victim, &format!("/api/v1/keys/{id}")).await?.body)
}

/// Off, and on again: the switch is where the last answer said, and what verification says is what is shown.
pub(super) async fn switch(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, secret) = issued(victim).await?;
    ensure!(verdict(victim, &secret).await? == "valid");
    for (step, wanted) in [("disable", "disabled"), ("enable", "valid")] {
        let path = format!("/api/v1/keys/{id}/{step}");
        let before = verdict(victim, &secret).await?;
        let body = json!({ "reason": "a test" });
        let struck = victim.strike(request(victim, &path, &body), at).await?;
        let after = verdict(victim, &secret).await?;
        if let Some(answer) = &struck {
            good(answer)?;
            ensure!(after == wanted, "{step}: told so, and {after}");
        }
        ensure!(after == wanted || after == before, "{step}: {after}");
        let shown = of_key(victim, &id).await?["disabled_at"].is_i64();
        ensure!(shown == (after == "disabled"), "shown: {shown}, {after}");
        good(&victim.send(request(victim, &path, &body)).await?)?;
        ensure!(verdict(victim, &secret).await? == wanted);
    }
    Ok(())
}

/// A key whose rotation is under way and whose new secret was used: key, old secret, new secret, rotation.
async fn rotating(victim: &Victim) -> Result<(String, String, String, String)> {
    let (id, old) = issued(victim).await?;
    let path = format!("/api/v1/keys/{id}/rotations");
    let rotated = victim.send(request(victim, &path, &json!({}))).await?;
    good(&rotated)?;
    let (new, rotation) = (rotated.text("secret")?, rotated.text("rotation_id")?);
    Ok((id, old, new.to_owned(), rotation.to_owned()))
}

/// `finish`: the old secret ends, all at once or not at all.
pub(super) async fn finish(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, old, new, _) = rotating(victim).await?;
    ensure!(verdict(victim, &new).await? == "valid");
    ensure!(verdict(victim, &old).await? == "valid");
    let path = format!("/api/v1/keys/{id}/rotations/current/finish");
    let struck = victim
        .strike(request(victim, &path, &json!({})), at)
        .await?;
    let is_over = verdict(victim, &old).await? != "valid";
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(is_over, "finished, and the old secret is good again");
    }
    ensure!(
        verdict(victim, &new).await? == "valid",
        "the new one is lost"
    );
    let again = victim.send(request(victim, &path, &json!({}))).await?;
    ensure!(
        if is_over {
            again.status == 409
        } else {
            again.status == 200
        },
        "over: {is_over}, and {} {}",
        again.status,
        again.body
    );
    ensure!(verdict(victim, &old).await? != "valid");
    ensure!(verdict(victim, &new).await? == "valid");
    Ok(())
}

/// `roll-back`: the new secret ends and the old one stays.
pub(super) async fn roll_back(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, old, new, _) = rotating(victim).await?;
    ensure!(verdict(victim, &new).await? == "valid");
    let path = format!("/api/v1/keys/{id}/rotations/current/roll-back");
    let struck = victim
        .strike(request(victim, &path, &json!({})), at)
        .await?;
    let is_back = verdict(victim, &new).await? != "valid";
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(is_back, "rolled back, and the new secret is good again");
    }
    ensure!(
        verdict(victim, &old).await? == "valid",
        "the old one is lost"
    );
    if !is_back {
        good(&victim.send(request(victim, &path, &json!({}))).await?)?;
    }
    ensure!(verdict(victim, &new).await? != "valid");
    ensure!(verdict(victim, &old).await? == "valid");
    // And nothing of it is in the way of the next one.
    let rotate = request(victim, &format!("/api/v1/keys/{id}/rotations"), &json!({}));
    good(&victim.send(rotate).await?)
}

/// `reissue`: one pending secret, whichever answer was read; the one before it is good for nothing.
pub(super) async fn reissue(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, old, first, rotation) = rotating(victim).await?;
    let path = format!("/api/v1/keys/{id}/rotations/{rotation}/reissue");
    let struck = victim
        .strike(request(victim, &path, &json!({})), at)
        .await?;
    let again = victim.send(request(victim, &path, &json!({}))).await?;
    good(&again)?;
    let last = again.text("secret")?.to_owned();
    let mut dead = vec![first];
    if let Some(answer) = &struck {
        good(answer)?;
        dead.push(answer.text("secret")?.to_owned());
    }
    for secret in &dead {
        let code = verdict(victim, secret).await?;
        ensure!(code != "valid", "a secret that was replaced is good");
    }
    ensure!(
        verdict(victim, &old).await? == "valid",
        "the old one is lost"
    );
    ensure!(
        verdict(victim, &last).await? == "valid",
        "the last one is lost"
    );
    let rotations = get(victim, &format!("/api/v1/keys/{id}/rotations")).await?;
    ensure!(
        rotations.body["items"].as_array().map(Vec::len) == Some(1),
        "{}",
        rotations.body
    );
    Ok(())
}

/// Many keys at once: each is changed or not, the operation says how it ended, and once more does the rest.
pub(super) async fn bulk(victim: &mut Victim, at: u64) -> Result<()> {
    let mut keys = Vec::new();
    for _ in 0..12 {
        keys.push(issued(victim).await?);
    }
    let ids: Vec<&str> = keys.iter().map(|(id, _)| id.as_str()).collect();
    let body = json!({ "operation": "revoke", "ids": ids, "reason": "a test" });
    let path = "/api/v1/bulk";
    let struck = victim.strike(request(victim, path, &body), at).await?;
    if let Some(answer) = &struck {
        good(answer)?;
        let id = answer.text("id")?.to_owned();
        let seen = get(victim, &format!("/api/v1/bulk/{id}")).await?;
        let (state, changed) = (seen.text("state")?, seen.body["changed"].as_i64());
        ensure!(
            matches!(state, "done" | "interrupted" | "running"),
            "{}",
            seen.body
        );
        let mut ended = 0;
        for (_, secret) in &keys {
            ended += i64::from(verdict(victim, secret).await? != "valid");
        }
        // What it says was done was done.
        ensure!(
            changed.is_some_and(|said| said <= ended),
            "{ended}: {}",
            seen.body
        );
        ensure!(state != "done" || ended == 12, "{ended}: {}", seen.body);
    }
    for (id, secret) in &keys {
        let shown = of_key(victim, id).await?["revoked_at"].is_i64();
        let code = verdict(victim, secret).await?;
        ensure!(shown == (code != "valid"), "shown: {shown}, {code}");
    }
    let again = victim.send(request(victim, path, &body)).await?;
    good(&again)?;
    let one = format!("/api/v1/bulk/{}", again.text("id")?);
    for _ in 0..200 {
        if get(victim, &one).await?.body["state"] == "done" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (_, secret) in &keys {
        ensure!(verdict(victim, secret).await? != "valid");
    }
    Ok(())
}

/// An import: every line that was answered is there, and importing again takes the rest, nothing twice.
pub(super) async fn import(victim: &mut Victim, at: u64) -> Result<()> {
    let secrets: Vec<String> = (0..20)
        .map(|_| format!("old-{}", random_id(&mut rand::rng())))
        .collect();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let expires_at = u64::try_from(since.as_millis())? + 30 * 86_400_000;
    let mut file = String::new();
    for secret in &secrets {
        let hash: String = Sha256::digest(secret)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let line = json!({
            "name": "Old", "hash": hash, "scopes": ["keys:read"], "expires_at": expires_at,
        });
        file.push_str(&format!("{line}\n"));
    }
    let send = |victim: &Victim| {
        let request = victim
            .client
            .post(victim.server.at("/api/v1/import?dry_run=false"));
        let request = request.bearer_auth(&victim.server.root_key);
        request
            .header("content-type", "application/x-ndjson")
            .body(file.clone())
    };
    let lines = |answer: &Answer, list: &str| answer.body[list].as_array().map_or(0, Vec::len);
    let struck = victim.strike(send(victim), at).await?;
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(lines(answer, "imported") == 20, "{}", answer.body);
    }
    let again = victim.send(send(victim)).await?;
    good(&again)?;
    let (new, known) = (lines(&again, "imported"), lines(&again, "present"));
    ensure!(new + known == 20, "{}", again.body);
    ensure!(
        struck.is_none() || new == 0,
        "imported twice: {}",
        again.body
    );
    for secret in &secrets {
        let code = verdict(victim, secret).await?;
        ensure!(code == "valid", "an imported key is {code}");
    }
    Ok(())
}

/// A policy is the old one or the new one, whole.
pub(super) async fn policy(victim: &mut Victim, at: u64) -> Result<()> {
    const DAY: i64 = 86_400_000;
    let path = "/api/v1/policies/killed";
    let of = |days: i64| json!({ "max_lifetime_ms": days * DAY, "drain_ms": days * 1000 + 60_000 });
    good(
        &victim
            .send(with(victim, reqwest::Method::PUT, path, &of(90)))
            .await?,
    )?;
    let struck = victim
        .strike(with(victim, reqwest::Method::PUT, path, &of(30)), at)
        .await?;
    let seen = get(victim, path).await?;
    let pair = (
        seen.body["policy"]["max_lifetime_ms"].as_i64(),
        seen.body["policy"]["drain_ms"].as_i64(),
    );
    let whole = |days: i64| (Some(days * DAY), Some(days * 1000 + 60_000));
    ensure!(pair == whole(90) || pair == whole(30), "{}", seen.body);
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(pair == whole(30), "told so, and {}", seen.body);
    }
    Ok(())
}
