//! Use cases that are one request each. What it does is done or not, what was answered stays done, and asked again
//! it is done once.

use anyhow::{Context as _, Result, ensure};
use keywright_domain::base62::random_id;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::accounts::{good, somebody};
use super::key_changes::with;
use super::keys::{get, issued, request, verdict};
use super::person::Person;
use super::{ANSWERED, Victim, access};
use crate::server::harness::PASSWORD;

const DAY_MS: i64 = 86_400_000;

fn name() -> String {
    format!("struck-{}", random_id(&mut rand::rng()).to_lowercase())
}

/// Strikes one request. `again` is what it may be told the second time, where the first was done, besides success.
async fn settle(
    victim: &mut Victim,
    at: u64,
    send: impl Fn(&Victim) -> RequestBuilder,
    done: impl AsyncFn(&Victim) -> Result<bool>,
    again: &[u16],
) -> Result<()> {
    ensure!(!done(victim).await?, "done before it was asked for");
    let struck = victim.strike(send(victim), at).await?;
    let is_done = done(victim).await?;
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(is_done, "told so, and it is not done");
    }
    let second = victim.send(send(victim)).await?;
    if !(is_done && again.contains(&second.status)) {
        good(&second)?;
    }
    ensure!(done(victim).await?, "asked again, and not done");
    Ok(())
}

async fn send(victim: &Victim, request: RequestBuilder) -> Result<Value> {
    let answer = victim.send(request).await?;
    good(&answer)?;
    Ok(answer.body)
}

async fn make(victim: &Victim, path: &str, body: &Value) -> Result<Value> {
    send(victim, request(victim, path, body)).await
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("no text")
}

fn items(body: &Value) -> Result<&Vec<Value>> {
    body["items"].as_array().context("no items")
}

/// The only one of a list that is meant, or none.
async fn find(victim: &Victim, path: &str, is: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
    let list = get(victim, path).await?;
    let mut found = items(&list.body)?.iter().filter(|one| is(one));
    let one = found.next().cloned();
    ensure!(found.next().is_none(), "it was made twice: {}", list.body);
    Ok(one)
}

/// Whether an address is there.
async fn is_there(victim: &Victim, path: &str) -> Result<bool> {
    let read = victim.client.get(victim.server.at(path));
    let read = read.bearer_auth(&victim.server.root_key);
    let status = victim.send(read).await?.status;
    ensure!(matches!(status, 200 | 404), "{path}: {status}");
    Ok(status == 200)
}

/// One secret of a key ends, the other goes on.
pub(super) async fn secret(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, old) = issued(victim).await?;
    let rotations = format!("/api/v1/keys/{id}/rotations");
    let new = text(&make(victim, &rotations, &json!({})).await?["secret"])?;
    ensure!(verdict(victim, &new).await? == "valid");
    let key = get(victim, &format!("/api/v1/keys/{id}")).await?.body;
    let secrets = key["secrets"].as_array().context("no secrets")?;
    let of_old = |one: &&Value| one["kid"].as_str().is_some_and(|kid| old.contains(kid));
    let kid = secrets.iter().find(of_old);
    let kid = text(&kid.context("no kid")?["kid"])?;
    let path = format!("/api/v1/keys/{id}/secrets/{kid}/revoke");
    let body = json!({ "reason": "a test" });
    let done = async |victim: &Victim| -> Result<bool> {
        ensure!(verdict(victim, &new).await? == "valid", "the other is lost");
        Ok(verdict(victim, &old).await? != "valid")
    };
    settle(
        victim,
        at,
        |victim| request(victim, &path, &body),
        done,
        &[409],
    )
    .await
}

/// An overlap that nobody needs any more ends early.
pub(super) async fn drained(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, _) = issued(victim).await?;
    let rotations = format!("/api/v1/keys/{id}/rotations");
    let wish = json!({ "clock": "until_drained:60000:86400000" });
    make(victim, &rotations, &wish).await?;
    make(victim, &format!("{rotations}/current/promote"), &json!({})).await?;
    let path = format!("{rotations}/current/finish-if-drained");
    let done = async |victim: &Victim| -> Result<bool> {
        let key = get(victim, &format!("/api/v1/keys/{id}")).await?.body;
        let working = key["secrets"].as_array().context("no secrets")?.iter();
        let working =
            working.filter(|one| matches!(one["state"].as_str(), Some("active" | "retiring")));
        let is_over = working.count() == 1;
        let rotation = find(victim, &rotations, |_| true).await?;
        let state = rotation.context("no rotation")?["state"] == "complete";
        ensure!(state == is_over, "half of it: {key}");
        Ok(is_over)
    };
    let send = |victim: &Victim| request(victim, &path, &json!({}));
    settle(victim, at, send, done, &[409]).await
}

/// What became of a delivery is written down once, with its alert.
pub(super) async fn delivery(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, old) = issued(victim).await?;
    let rotations = format!("/api/v1/keys/{id}/rotations");
    make(victim, &rotations, &json!({})).await?;
    let rotation = find(victim, &rotations, |_| true).await?;
    let rotation = text(&rotation.context("no rotation")?["id"])?;
    let path = format!("{rotations}/{rotation}/deliveries");
    let (target, once) = (name(), name());
    let body = json!({ "target": target, "delivered": false, "error": "no room", "then": "hold" });
    let send = |victim: &Victim| request(victim, &path, &body).header("idempotency-key", &once);
    let done = async |victim: &Victim| -> Result<bool> {
        ensure!(
            verdict(victim, &old).await? == "valid",
            "the old one is lost"
        );
        let there = find(victim, &path, |_| true).await?.is_some();
        let alert = find(victim, "/api/v1/alerts?limit=100", |one| {
            one["caller"] == *target
        });
        ensure!(alert.await?.is_some() == there, "half of it");
        Ok(there)
    };
    settle(victim, at, send, done, &[]).await
}

/// A scope is defined, and taken away.
pub(super) async fn scope(victim: &mut Victim, at: u64) -> Result<()> {
    let scope = format!("{}:read", name());
    let body = json!({ "name": scope, "description": "a test" });
    let there = async |victim: &Victim| -> Result<bool> {
        let list = get(victim, "/api/v1/scopes").await?;
        let mut all = list.body["items"].as_array().context("no items")?.iter();
        let one = all.find(|one| one["name"] == *scope);
        ensure!(one.is_none_or(|one| one["description"] == "a test"));
        Ok(one.is_some())
    };
    let put = |victim: &Victim| with(victim, Method::PUT, "/api/v1/scopes", &body);
    settle(victim, at, put, &there, &[]).await?;
    let path = format!("/api/v1/scopes/{scope}");
    let remove = |victim: &Victim| with(victim, Method::DELETE, &path, &json!({}));
    let gone = async |victim: &Victim| -> Result<bool> { Ok(!there(victim).await?) };
    settle(victim, at, remove, gone, &[404]).await
}

/// An alert is seen, its notice read, and then all of them.
pub(super) async fn alert(victim: &mut Victim, at: u64) -> Result<()> {
    let mut notices = Vec::new();
    for number in 0..2 {
        let wish = json!({
            "name": name(), "prefix": "sk_live", "scopes": [], "settings": { "canary": true },
        });
        let made = make(victim, "/api/v1/keys", &wish).await?;
        let id = text(&made["key"]["id"])?;
        verdict(victim, &text(&made["secret"])?).await?;
        let of_it = |one: &Value| one["key_id"] == *id;
        let alert = find(victim, "/api/v1/alerts?limit=100", of_it).await?;
        let alert = alert.context("no alert")?;
        if number == 0 {
            let path = format!("/api/v1/alerts/{}/seen", text(&alert["id"])?);
            let body = json!({ "last_at": alert["last_at"] });
            let seen = async |victim: &Victim| -> Result<bool> {
                let alert = find(victim, "/api/v1/alerts?limit=100", of_it).await?;
                Ok(alert.is_some_and(|one| one["seen_at"].is_i64()))
            };
            settle(
                victim,
                at,
                |victim| request(victim, &path, &body),
                seen,
                &[409],
            )
            .await?;
        }
        let notice = find(victim, "/api/v1/notices?limit=100", of_it).await?;
        notices.push(text(&notice.context("no notice")?["id"])?);
    }
    let is_read = async |victim: &Victim, id: &str| -> Result<bool> {
        let notice = find(victim, "/api/v1/notices?limit=100", |one| one["id"] == *id).await?;
        let read = &notice.context("no notice")?["read"];
        read.as_bool().context("no word of it")
    };
    let path = format!("/api/v1/notices/{}/read", notices[1]);
    let done = async |victim: &Victim| -> Result<bool> {
        ensure!(!is_read(victim, &notices[0]).await?, "so is the other");
        is_read(victim, &notices[1]).await
    };
    let send = |victim: &Victim| request(victim, &path, &json!({}));
    settle(victim, at, send, done, &[]).await?;
    let until = json!({ "until": notices[1] });
    let send = |victim: &Victim| request(victim, "/api/v1/notices/read", &until);
    let done = async |victim: &Victim| -> Result<bool> { is_read(victim, &notices[0]).await };
    settle(victim, at, send, done, &[]).await
}

/// A checkpoint is there whole, or not: the trail with its signatures verifies.
pub(super) async fn checkpoint(victim: &mut Victim, at: u64) -> Result<()> {
    issued(victim).await?;
    let path = "/api/v1/audit/checkpoints";
    let send = |victim: &Victim| request(victim, path, &json!({}));
    let struck = victim.strike(send(victim), at).await?;
    if let Some(answer) = &struck {
        good(answer)?;
    }
    let again = make(victim, path, &json!({})).await?;
    let before = struck.map_or(0, |one| one.body["sequence"].as_i64().unwrap_or(0));
    ensure!(
        again["sequence"].as_i64().is_some_and(|now| now >= before),
        "{again}"
    );
    let verdict = get(victim, "/api/v1/audit/verify").await?.body;
    ensure!(verdict["intact"] == true, "{verdict}");
    Ok(())
}

/// The policy of an environment is taken away.
pub(super) async fn policy(victim: &mut Victim, at: u64) -> Result<()> {
    let path = format!("/api/v1/policies/{}", name());
    let body = json!({ "max_lifetime_ms": 30 * DAY_MS });
    send(victim, with(victim, Method::PUT, &path, &body)).await?;
    let remove = |victim: &Victim| with(victim, Method::DELETE, &path, &json!({}));
    let gone = async |victim: &Victim| -> Result<bool> { Ok(!is_there(victim, &path).await?) };
    settle(victim, at, remove, gone, &[404]).await
}

/// An operation that is called off comes to an end, whatever was lost, and says how far it came.
pub(super) async fn cancellation(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, secret) = issued(victim).await?;
    let body = json!({ "operation": "tag", "tag": "struck", "ids": [id] });
    let begun = text(&make(victim, "/api/v1/bulk", &body).await?["id"])?;
    let line = json!({ "name": "old", "hash": "ab".repeat(32), "scopes": ["keys:read"] });
    let import = victim.client.post(victim.server.at("/api/v1/import"));
    let import = import.bearer_auth(&victim.server.root_key);
    let import = import.header("content-type", "application/x-ndjson");
    let import = import
        .header("prefer", "respond-async")
        .body(line.to_string());
    let later = text(&send(victim, import).await?["id"])?;
    for path in [
        format!("/api/v1/bulk/{begun}"),
        format!("/api/v1/operations/{later}"),
    ] {
        let cancel = format!("{path}/cancel");
        let struck = victim
            .strike(request(victim, &cancel, &json!({})), at)
            .await?;
        if let Some(answer) = &struck {
            good(answer)?;
        }
        make(victim, &cancel, &json!({})).await?;
        let mut state = String::new();
        // Whoever carried it out is dead: it is seen that nobody does a while later.
        for _ in 0..40 {
            state = text(&get(victim, &path).await?.body["state"])?;
            if state != "running" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let ended = ["done", "cancelled", "interrupted", "stopped", "running"];
        ensure!(ended.contains(&state.as_str()), "{path}: {state}");
    }
    ensure!(verdict(victim, &secret).await? == "valid");
    Ok(())
}

/// A webhook is made once; a message of it is sent, and once more.
pub(super) async fn webhook(victim: &mut Victim, at: u64) -> Result<()> {
    let (said, once) = (name(), name());
    let body = json!({ "url": "http://127.0.0.1:9/hook", "events": ["rotation.pending"], "description": said });
    let add = |victim: &Victim| {
        request(victim, "/api/v1/webhooks", &body).header("idempotency-key", &once)
    };
    let of_it = |one: &Value| one["description"] == *said;
    let there = async |victim: &Victim| -> Result<bool> {
        Ok(find(victim, "/api/v1/webhooks", of_it).await?.is_some())
    };
    settle(victim, at, add, there, &[]).await?;
    let made = find(victim, "/api/v1/webhooks", of_it).await?;
    let path = format!(
        "/api/v1/webhooks/{}",
        text(&made.context("it is gone")?["id"])?
    );
    let many = async |victim: &Victim| -> Result<usize> {
        let list = get(victim, &format!("{path}/deliveries")).await?;
        Ok(items(&list.body)?.len())
    };
    let (test, named) = (format!("{path}/test"), name());
    let sent = async |victim: &Victim| -> Result<bool> { Ok(many(victim).await? > 0) };
    let ask =
        |victim: &Victim| request(victim, &test, &json!({})).header("idempotency-key", &named);
    settle(victim, at, ask, sent, &[]).await?;
    ensure!(many(victim).await? == 1, "two messages of one request");
    let list = get(victim, &format!("{path}/deliveries")).await?;
    let first = text(&items(&list.body)?[0]["id"])?;
    let (redeliver, named) = (format!("{path}/deliveries/{first}/redeliver"), name());
    let ask =
        |victim: &Victim| request(victim, &redeliver, &json!({})).header("idempotency-key", &named);
    if let Some(answer) = victim.strike(ask(victim), at).await? {
        good(&answer)?;
    }
    send(victim, ask(victim)).await?;
    let (all, named) = (format!("{path}/deliveries/redeliver"), name());
    let failed = json!({ "state": "failed", "since": 0 });
    let ask = |victim: &Victim| request(victim, &all, &failed).header("idempotency-key", &named);
    if let Some(answer) = victim.strike(ask(victim), at).await? {
        good(&answer)?;
    }
    send(victim, ask(victim)).await?;
    ensure!(many(victim).await? <= 2, "three messages of two requests");
    send_away(victim, &path).await
}

/// Removes something, so that the next round begins as this one did.
async fn send_away(victim: &Victim, path: &str) -> Result<()> {
    good(
        &victim
            .send(with(victim, Method::DELETE, path, &json!({})))
            .await?,
    )
}

/// A client is added once, switched off and on, loses its tokens and goes.
pub(super) async fn client(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, once) = (name(), name());
    let body = json!({
        "client_id": id, "client_name": "Struck", "redirect_uris": [access::REDIRECT], "scope": "openid",
        "token_endpoint_auth_method": "client_secret_post",
    });
    let path = format!("/api/v1/clients/{id}");
    let add = |victim: &Victim| {
        request(victim, "/api/v1/clients", &body).header("idempotency-key", &once)
    };
    let there = async |victim: &Victim| -> Result<bool> { is_there(victim, &path).await };
    settle(victim, at, add, &there, &[]).await?;
    let is_off = async |victim: &Victim| -> Result<bool> {
        let seen = get(victim, &path).await?.body;
        Ok(seen["disabled_at"].is_i64() || seen["disabled"] == true)
    };
    let off = format!("{path}/disable");
    let send = |victim: &Victim| request(victim, &off, &json!({}));
    settle(victim, at, send, &is_off, &[]).await?;
    let on = format!("{path}/enable");
    let send = |victim: &Victim| request(victim, &on, &json!({}));
    let is_on = async |victim: &Victim| -> Result<bool> { Ok(!is_off(victim).await?) };
    settle(victim, at, send, is_on, &[]).await?;
    let remove = |victim: &Victim| with(victim, Method::DELETE, &path, &json!({}));
    let gone = async |victim: &Victim| -> Result<bool> { Ok(!there(victim).await?) };
    settle(victim, at, remove, gone, &[404]).await
}

/// All tokens of a client end: refresh families too.
pub(super) async fn tokens(victim: &mut Victim, at: u64) -> Result<()> {
    let family = access::family(victim).await?;
    let refresh = family.text("refresh_token")?.to_owned();
    let path = "/api/v1/clients/third/revoke-tokens";
    let send = |victim: &Victim| request(victim, path, &json!({}));
    let userinfo = async |victim: &Victim| -> Result<bool> {
        let read = victim.client.get(victim.server.at("/oauth2/userinfo"));
        let read = read.bearer_auth(family.text("access_token")?);
        let status = victim.send(read).await?.status;
        ensure!(matches!(status, 200 | 401), "{status}");
        Ok(status == 401)
    };
    settle(victim, at, send, userinfo, &[]).await?;
    let refused = access::refresh_with(victim, &refresh).await?;
    ensure!(refused.status == 400, "{} {}", refused.status, refused.body);
    Ok(())
}

/// A token with which programs register themselves: made once, and ended.
pub(super) async fn registration_token(victim: &mut Victim, at: u64) -> Result<()> {
    let (note, once) = (name(), name());
    let body = json!({ "note": note, "expires_in_days": 1, "max_uses": 1 });
    let list = "/api/v1/registration-tokens";
    let of_it = |one: &Value| one["note"] == *note;
    let make = |victim: &Victim| request(victim, list, &body).header("idempotency-key", &once);
    let there =
        async |victim: &Victim| -> Result<bool> { Ok(find(victim, list, of_it).await?.is_some()) };
    settle(victim, at, make, there, &[]).await?;
    let made = find(victim, list, of_it).await?.context("it is gone")?;
    let path = format!("{list}/{}", text(&made["id"])?);
    let end = |victim: &Victim| with(victim, Method::DELETE, &path, &json!({}));
    let is_over = async |victim: &Victim| -> Result<bool> {
        let one = find(victim, list, of_it).await?;
        Ok(one.is_none_or(|one| one["ended_at"].is_i64()))
    };
    settle(victim, at, end, is_over, &[404]).await
}

/// A person is let in again; an administrator ends one of their sessions, and all of them.
pub(super) async fn person(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let (id, email) = somebody(victim).await?;
    let path = format!("/api/v1/users/{id}");
    let off = format!("{path}/disable");
    let off = owner.json(victim, Method::POST, &off, &json!({}));
    send(victim, off).await?;
    let on = format!("{path}/enable");
    let is_on = async |victim: &Victim| -> Result<bool> {
        let seen = victim.send(owner.get(victim, &path)).await?;
        good(&seen)?;
        Ok(seen.body["disabled_at"].is_null() && seen.body["disabled"] != true)
    };
    let enable = |victim: &Victim| owner.json(victim, Method::POST, &on, &json!({}));
    settle(victim, at, enable, is_on, &[]).await?;
    let first = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let of = victim.send(owner.get(victim, &format!("{path}/sessions")));
    let session = text(&items(&of.await?.body)?[0]["id"])?;
    let second = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let one = format!("{path}/sessions/{session}");
    let end = |victim: &Victim| owner.json(victim, Method::DELETE, &one, &json!({}));
    let is_over = async |victim: &Victim| -> Result<bool> {
        ensure!(second.is_signed_in(victim).await?, "so is the other");
        Ok(!first.is_signed_in(victim).await?)
    };
    settle(victim, at, end, is_over, &[404]).await?;
    let all = format!("{path}/sessions/revoke-all");
    let end = |victim: &Victim| owner.json(victim, Method::POST, &all, &json!({}));
    let is_over =
        async |victim: &Victim| -> Result<bool> { Ok(!second.is_signed_in(victim).await?) };
    settle(victim, at, end, is_over, &[]).await
}

/// One's own: an application's access, a session, the others, all.
pub(super) async fn own_sessions(victim: &mut Victim, at: u64) -> Result<()> {
    let mine = Person::signed_in(victim, PASSWORD).await?;
    let refresh = access::family(victim)
        .await?
        .text("refresh_token")?
        .to_owned();
    let path = "/api/v1/applications/third";
    let remove = |victim: &Victim| mine.json(victim, Method::DELETE, path, &json!({}));
    let gone = async |victim: &Victim| -> Result<bool> {
        let list = victim
            .send(mine.get(victim, "/api/v1/applications"))
            .await?;
        let there = items(&list.body)?
            .iter()
            .any(|one| one["client_id"] == "third");
        Ok(!there)
    };
    settle(victim, at, remove, gone, &[404]).await?;
    let refused = access::refresh_with(victim, &refresh).await?;
    ensure!(refused.status == 400, "{} {}", refused.status, refused.body);

    let list = async |victim: &Victim| -> Result<Vec<String>> {
        let list = victim
            .send(mine.get(victim, "/api/v1/sessions?limit=100"))
            .await?;
        let all = items(&list.body)?.iter().map(|one| text(&one["id"]));
        all.collect::<Result<Vec<_>>>()
    };
    let before = list(victim).await?;
    let other = Person::signed_in(victim, PASSWORD).await?;
    let new = list(victim)
        .await?
        .into_iter()
        .find(|id| !before.contains(id));
    let path = format!("/api/v1/sessions/{}", new.context("no session")?);
    let end = |victim: &Victim| mine.json(victim, Method::DELETE, &path, &json!({}));
    let is_over =
        async |victim: &Victim| -> Result<bool> { Ok(!other.is_signed_in(victim).await?) };
    settle(victim, at, end, is_over, &[404]).await?;

    let other = Person::signed_in(victim, PASSWORD).await?;
    let path = "/api/v1/sessions/revoke-others";
    let end = |victim: &Victim| mine.json(victim, Method::POST, path, &json!({}));
    let is_over = async |victim: &Victim| -> Result<bool> {
        ensure!(mine.is_signed_in(victim).await?, "so is the one that asked");
        Ok(!other.is_signed_in(victim).await?)
    };
    settle(victim, at, end, is_over, &[]).await?;

    let other = Person::signed_in(victim, PASSWORD).await?;
    let path = "/api/v1/sessions/revoke-all";
    let end = |victim: &Victim| mine.json(victim, Method::POST, path, &json!({}));
    let is_over = async |victim: &Victim| -> Result<bool> {
        let (one, two) = (
            mine.is_signed_in(victim).await?,
            other.is_signed_in(victim).await?,
        );
        ensure!(one == two, "half of it: {one} {two}");
        Ok(!one)
    };
    // Whoever asked is signed out with all others.
    settle_once(victim, at, end, is_over).await
}

/// One that the caller does not survive: the second time it is somebody that nobody knows.
async fn settle_once(
    victim: &mut Victim,
    at: u64,
    send: impl Fn(&Victim) -> RequestBuilder,
    done: impl AsyncFn(&Victim) -> Result<bool>,
) -> Result<()> {
    settle(victim, at, send, done, &[401, 403]).await
}

/// An invitation is made once, and taken back.
pub(super) async fn invitation(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let (email, once) = (format!("{}@example.org", name()), name());
    let body = json!({ "email": email, "roles": ["member"] });
    let list = "/api/v1/invitations";
    let invite = |victim: &Victim| {
        let request = owner.json(victim, Method::POST, list, &body);
        request.header("idempotency-key", &once)
    };
    let of_it = async |victim: &Victim| -> Result<Option<Value>> {
        let all = victim.send(owner.get(victim, list)).await?;
        good(&all)?;
        let mut found = items(&all.body)?
            .iter()
            .filter(|one| one["email"] == *email);
        let one = found.next().cloned();
        ensure!(found.next().is_none(), "invited twice");
        Ok(one)
    };
    let there = async |victim: &Victim| -> Result<bool> { Ok(of_it(victim).await?.is_some()) };
    settle(victim, at, invite, there, &[]).await?;
    let made = of_it(victim).await?.context("it is gone")?;
    let path = format!("{list}/{}", text(&made["id"])?);
    let withdraw = |victim: &Victim| owner.json(victim, Method::DELETE, &path, &json!({}));
    let gone = async |victim: &Victim| -> Result<bool> {
        Ok(of_it(victim)
            .await?
            .is_none_or(|one| one["withdrawn_at"].is_i64()))
    };
    settle(victim, at, withdraw, gone, &[404, 409]).await
}

/// The end of a session that a client asks for, and the person's yes.
pub(super) async fn end_session(victim: &mut Victim, at: u64) -> Result<()> {
    let mut person = Person::signed_in(victim, PASSWORD).await?;
    let page = person.page(victim, "/oauth2/end_session").await?;
    let path = "/oauth2/end_session/confirm";
    ensure!(page.contains(path), "nobody is asked: {page}");
    let confirm = |victim: &Victim| person.post(victim, path, &[]);
    let is_over =
        async |victim: &Victim| -> Result<bool> { Ok(!person.is_signed_in(victim).await?) };
    settle(victim, at, confirm, is_over, &[400, 401, 403]).await
}

/// A command that brings a pepper into force is killed: one is in force, and every key verifies.
pub(super) async fn pepper(victim: &mut Victim, at: u64) -> Result<()> {
    let (_, before) = issued(victim).await?;
    let said = victim.server.command(&["peppers", "add"]).await?;
    let id = text(&serde_json::from_str::<Value>(&said)?["id"])?;
    victim.server.signal("HUP")?;
    let words = ["peppers", "use", "--id", &id, "--everywhere"];
    // It opens the registry first: later kills than a request's.
    let delay = (at != ANSWERED).then(|| at * 20 + 30_000);
    let killed = victim.server.kill_command(&words, delay).await?;
    victim.note(killed);
    let list = victim.server.command(&["peppers", "list"]).await?;
    let mut in_force = Vec::new();
    for line in list.lines() {
        let one: Value = serde_json::from_str(line)?;
        if one["state"] == "in_force" {
            in_force.push(text(&one["id"])?);
        }
    }
    ensure!(in_force.len() == 1, "{list}");
    ensure!(killed || in_force[0] == id, "told so, and {list}");
    if in_force[0] != id {
        victim.server.command(&words).await?;
    }
    victim.server.signal("HUP")?;
    // Its pepper is known from the signal on; the row follows with the use.
    let mut code = String::new();
    for _ in 0..40 {
        let asked = request(victim, "/api/v1/keys/verify", &json!({ "key": before }));
        let answer = victim.send(asked).await?;
        code = match answer.status {
            200 => text(&answer.body["code"])?,
            503 => "503".to_owned(),
            other => anyhow::bail!("{other} {}", answer.body),
        };
        if code == "valid" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ensure!(code == "valid", "{code}");
    let (_, after) = issued(victim).await?;
    ensure!(verdict(victim, &after).await? == "valid");
    Ok(())
}
