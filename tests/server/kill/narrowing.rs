//! What takes something away from a key or a person, and what gives it back: changes of a key as one, its schedule,
//! people.

use anyhow::{Context as _, Result, ensure};
use keywright_domain::base62::random_id;
use reqwest::Method;
use serde_json::{Value, json};

use super::Victim;
use super::accounts::good;
use super::key_changes::with;
use super::keys::{get, issued, request};
use super::person::Person;
use crate::server::harness::PASSWORD;

const DAY_MS: i64 = 86_400_000;
/// Where callers come from, before and after.
const HERE: &str = "192.0.2.1";
const THERE: &str = "198.51.100.1";

/// What a verification says of a key that comes from an address and needs a scope.
async fn asked(victim: &Victim, secret: &str, address: &str, scope: &str) -> Result<String> {
    let body = json!({ "key": secret, "address": address, "requirement": scope });
    let asked = request(victim, "/api/v1/keys/verify", &body);
    let answer = victim.send(asked).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.text("code")?.to_owned())
}

/// `PATCH` of a key: name, scopes and networks are the old ones or the new ones, all of them, and a verification
/// holds by what is shown.
pub(super) async fn change(victim: &mut Victim, at: u64) -> Result<()> {
    let wish = json!({
        "name": "wide", "prefix": "sk_live", "scopes": ["audit:read", "keys:read"],
    });
    let made = victim.send(request(victim, "/api/v1/keys", &wish)).await?;
    good(&made)?;
    let id = made.body["key"]["id"].as_str().context("no id")?;
    let secret = made.text("secret")?.to_owned();
    let path = format!("/api/v1/keys/{id}");
    ensure!(asked(victim, &secret, HERE, "audit:read").await? == "valid");
    let narrow = json!({
        "name": "narrow", "scopes": ["keys:read"], "settings": { "networks": ["198.51.100.0/24"] },
    });
    let send = |victim: &Victim| with(victim, Method::PATCH, &path, &narrow);
    let struck = victim.strike(send(victim), at).await?;
    let shown = get(victim, &path).await?.body;
    let parts = [
        shown["name"] == "narrow",
        shown["scopes"] == json!(["keys:read"]),
        shown["settings"]["networks"] == json!(["198.51.100.0/24"]),
        asked(victim, &secret, THERE, "audit:read").await? == "insufficient_scope",
        asked(victim, &secret, HERE, "keys:read").await? == "ip_not_allowed",
    ];
    let is_new = parts[0];
    ensure!(parts == [is_new; 5], "{parts:?}: {shown}");
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(is_new, "told so, and {shown}");
    }
    good(&victim.send(send(victim)).await?)?;
    ensure!(asked(victim, &secret, THERE, "keys:read").await? == "valid");
    ensure!(asked(victim, &secret, HERE, "keys:read").await? == "ip_not_allowed");
    ensure!(asked(victim, &secret, THERE, "audit:read").await? == "insufficient_scope");
    Ok(())
}

/// What is shown of a key's schedule; none where it has none.
async fn schedule_of(victim: &Victim, path: &str) -> Result<Option<Value>> {
    let read = victim.client.get(victim.server.at(path));
    let read = read.bearer_auth(&victim.server.root_key);
    let answer = victim.send(read).await?;
    ensure!(
        matches!(answer.status, 200 | 404),
        "{} {}",
        answer.status,
        answer.body
    );
    Ok((answer.status == 200).then_some(answer.body))
}

/// A schedule is set whole, replaced whole, paused and taken away, each as it was answered.
pub(super) async fn schedule(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, _) = issued(victim).await?;
    let path = format!("/api/v1/keys/{id}/schedule");
    let of = |days: i64| {
        json!({
            "every_ms": days * DAY_MS, "mode": "notify_only", "delivery": format!("by {days}"),
        })
    };
    let pair = |seen: &Option<Value>| {
        seen.as_ref().map(|seen| {
            let (every, delivery) = (&seen["schedule"]["every_ms"], &seen["schedule"]["delivery"]);
            let days = every.as_i64().unwrap_or(0) / DAY_MS;
            (days, delivery.as_str().map(str::to_owned))
        })
    };
    let whole = |days: i64| Some((days, Some(format!("by {days}"))));
    for (before, after) in [(None, 30), (whole(30), 60)] {
        let put = |victim: &Victim| with(victim, Method::PUT, &path, &of(after));
        let struck = victim.strike(put(victim), at).await?;
        let seen = pair(&schedule_of(victim, &path).await?);
        ensure!(seen == before || seen == whole(after), "{seen:?}");
        if let Some(answer) = &struck {
            good(answer)?;
            ensure!(seen == whole(after), "told so, and {seen:?}");
        }
        good(&victim.send(put(victim)).await?)?;
        ensure!(pair(&schedule_of(victim, &path).await?) == whole(after));
    }
    for (step, is_paused) in [("pause", true), ("resume", false)] {
        let step = format!("{path}/{step}");
        let struck = victim
            .strike(request(victim, &step, &json!({})), at)
            .await?;
        let seen = schedule_of(victim, &path).await?.context("it is lost")?;
        ensure!(pair(&Some(seen.clone())) == whole(60), "{seen}");
        if let Some(answer) = &struck {
            good(answer)?;
            ensure!(seen["paused_at"].is_i64() == is_paused, "{step}: {seen}");
        }
        good(&victim.send(request(victim, &step, &json!({}))).await?)?;
        let seen = schedule_of(victim, &path).await?.context("it is lost")?;
        ensure!(seen["paused_at"].is_i64() == is_paused, "{step}: {seen}");
    }
    let remove = |victim: &Victim| with(victim, Method::DELETE, &path, &json!({}));
    let struck = victim.strike(remove(victim), at).await?;
    let seen = schedule_of(victim, &path).await?;
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(seen.is_none(), "taken away, and there again");
    }
    if seen.is_some() {
        ensure!(pair(&seen) == whole(60), "{seen:?}");
        good(&victim.send(remove(victim)).await?)?;
    }
    ensure!(schedule_of(victim, &path).await?.is_none());
    Ok(())
}

async fn people(victim: &Victim, owner: &Person, email: &str) -> Result<Vec<Value>> {
    let path = format!("/api/v1/users?text={email}");
    let list = victim.send(owner.get(victim, &path)).await?;
    good(&list)?;
    Ok(list.body["items"].as_array().context("no list")?.clone())
}

/// A person is added once, changed whole and removed with all that is theirs.
pub(super) async fn users(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let (email, other) = (address(), address());
    let once = random_id(&mut rand::rng());
    let body = json!({ "name": "Grace", "email": email, "roles": ["member"] });
    let add = |victim: &Victim| {
        let request = owner.json(victim, Method::POST, "/api/v1/users", &body);
        request.header("idempotency-key", &once)
    };
    let struck = victim.strike(add(victim), at).await?;
    let again = victim.send(add(victim)).await?;
    good(&again)?;
    let id = again.text("id")?.to_owned();
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(answer.text("id")? == id, "added twice");
        ensure!(again.status == 200, "added anew: {}", again.status);
    }
    ensure!(people(victim, &owner, &email).await?.len() == 1);
    let path = format!("/api/v1/users/{id}");
    let roles = victim
        .send(owner.get(victim, &format!("{path}/roles")))
        .await?;
    ensure!(roles.body["roles"] == json!(["member"]), "{}", roles.body);

    // A key and a session of theirs go with them.
    let wish = json!({
        "name": "theirs", "prefix": "sk_live", "scopes": ["keys:read"],
        "owner": { "kind": "person", "id": id },
    });
    let made = victim.send(request(victim, "/api/v1/keys", &wish)).await?;
    good(&made)?;
    let secret = made.text("secret")?.to_owned();
    let change = json!({ "name": "Hopper", "email": other, "email_verified": true });
    let patch = owner.json(victim, Method::PATCH, &path, &change);
    let struck = victim.strike(patch, at).await?;
    let seen = victim.send(owner.get(victim, &path)).await?;
    good(&seen)?;
    let parts = [
        seen.body["name"] == "Hopper",
        seen.body["email"] == *other,
        seen.body["email_verified"] == true,
    ];
    ensure!(parts == [parts[0]; 3], "{}", seen.body);
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(parts[0], "told so, and {}", seen.body);
    }

    let remove = |victim: &Victim| owner.json(victim, Method::DELETE, &path, &json!({}));
    let struck = victim.strike(remove(victim), at).await?;
    let there = victim.send(owner.get(victim, &path)).await?.status == 200;
    let code = super::keys::verdict(victim, &secret).await?;
    ensure!(
        there == (code == "valid"),
        "there: {there}, and their key is {code}"
    );
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(!there, "removed, and there again");
    }
    if there {
        good(&victim.send(remove(victim)).await?)?;
    }
    ensure!(super::keys::verdict(victim, &secret).await? != "valid");
    ensure!(people(victim, &owner, &other).await?.is_empty());
    ensure!(people(victim, &owner, &email).await?.is_empty());
    Ok(())
}

fn address() -> String {
    format!("{}@example.org", random_id(&mut rand::rng()).to_lowercase())
}
