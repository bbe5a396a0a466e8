//! Use cases of administrators: roles, secrets of clients, identity providers, keys that move here from another
//! registry, campaigns of hygiene, and all keys of an owner.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Pepper};
use keywright_domain::audit::Actor;
use keywright_domain::base62::random_id;
use keywright_registry::{
    Clock, LocalRegistry, PepperKey, Peppers, TransferRecipient, VerifyRequest,
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{REDIRECT, token};
use super::accounts::{good, somebody};
use super::key_changes::with;
use super::keys::{get, request, verdict};
use super::person::{Person, form};
use super::{Answer, Victim};
use crate::server::harness::PASSWORD;

fn name() -> String {
    format!("struck-{}", random_id(&mut rand::rng()).to_lowercase())
}

async fn seen(victim: &Victim, person: &Person, path: &str) -> Result<Answer> {
    let answer = victim.send(person.get(victim, path)).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer)
}

/// What a person may do is what their roles say, and a role is the old one or the new one, whole.
pub(super) async fn roles(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let name = name();
    let role = format!("/api/v1/roles/{name}");
    let one = json!({ "description": "one", "permissions": ["audit:read"] });
    let two = json!({ "description": "two", "permissions": ["audit:read", "keys:read"] });
    good(
        &victim
            .send(owner.json(victim, Method::PUT, &role, &one))
            .await?,
    )?;
    let (id, email) = somebody(victim).await?;
    let person = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let path = format!("/api/v1/users/{id}/roles");
    // Given, and taken away.
    for roles in [json!(["member", name]), json!(["member"])] {
        let before = seen(victim, &owner, &path).await?.body["roles"].clone();
        let body = json!({ "roles": roles });
        let set = |victim: &Victim| owner.json(victim, Method::PUT, &path, &body);
        let struck = victim.strike(set(victim), at).await?;
        let now = seen(victim, &owner, &path).await?.body["roles"].clone();
        ensure!(now == before || now == roles, "{now}");
        if let Some(answer) = struck {
            good(&answer)?;
            ensure!(now == roles, "told so, and {now}");
        }
        let read = person.get(victim, "/api/v1/audit?limit=1");
        let may = victim.send(read).await?.status;
        let expected = if now == json!(["member"]) { 403 } else { 200 };
        ensure!(may == expected, "{now}: {may}");
        good(&victim.send(set(victim)).await?)?;
    }
    let redefine = owner.json(victim, Method::PUT, &role, &two);
    let struck = victim.strike(redefine, at).await?;
    let now = seen(victim, &owner, &role).await?.body;
    let is = |wanted: &Value| {
        ["description", "permissions"]
            .iter()
            .all(|member| now[member] == wanted[member])
    };
    ensure!(is(&one) || is(&two), "{now}");
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(is(&two), "told so, and {now}");
    }
    let remove = |victim: &Victim| owner.json(victim, Method::DELETE, &role, &json!({}));
    let struck = victim.strike(remove(victim), at).await?;
    let there = victim.send(owner.get(victim, &role)).await?.status;
    ensure!(matches!(there, 200 | 404), "{there}");
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(there == 404, "removed, and there again");
    }
    if there == 200 {
        good(&victim.send(remove(victim)).await?)?;
    }
    Ok(())
}

/// Whether a client is known by a secret: what is wrong then is its code.
async fn knows(victim: &Victim, id: &str, secret: &str) -> Result<bool> {
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("client_secret", secret),
        ("redirect_uri", REDIRECT),
        ("code", "none"),
    ];
    let refused = token(victim, form(&fields)).await?;
    match refused.body["error"].as_str() {
        Some("invalid_client") => Ok(false),
        Some("invalid_grant" | "invalid_request") => Ok(true),
        _ => anyhow::bail!("{} {}", refused.status, refused.body),
    }
}

/// A client's secret that was shown is good, rotated once for one request; one that others know ends when that was
/// said, whatever was lost.
pub(super) async fn client_secret(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let id = name();
    let body = json!({
        "client_id": id, "redirect_uris": [REDIRECT], "scope": "openid",
        "token_endpoint_auth_method": "client_secret_post",
    });
    let made = owner.json(victim, Method::POST, "/api/v1/clients", &body);
    let made = victim.send(made).await?;
    good(&made)?;
    let old = made.text("client_secret")?.to_owned();
    ensure!(knows(victim, &id, &old).await?);
    ensure!(!knows(victim, &id, "another secret of nobody's").await?);
    let path = format!("/api/v1/clients/{id}");
    let secrets = async |victim: &Victim| -> Result<usize> {
        let client = seen(victim, &owner, &path).await?;
        Ok(client.body["secrets"].as_array().context("no list")?.len())
    };
    let once = random_id(&mut rand::rng());
    let rotate = |victim: &Victim| {
        let body = json!({ "overlap_ms": 3_600_000 });
        let request = owner.json(
            victim,
            Method::POST,
            &format!("{path}/rotate-secret"),
            &body,
        );
        request.header("idempotency-key", &once)
    };
    let first = victim.strike(rotate(victim), at).await?;
    let many = secrets(victim).await?;
    ensure!(matches!(many, 1 | 2), "{many} secrets");
    ensure!(knows(victim, &id, &old).await?, "its overlap is over");
    let second = victim.send(rotate(victim)).await?;
    good(&second)?;
    ensure!(secrets(victim).await? == 2, "rotated twice");
    if let Some(first) = &first {
        good(first)?;
        ensure!(many == 2, "told so, and not done");
    }
    // It is shown by whichever answer did it.
    ensure!(second.body["secret_was_shown"] == true || many == 1);
    let mut new = Vec::new();
    for answer in first.iter().chain([&second]) {
        if let Some(secret) = answer.body["client_secret"].as_str() {
            ensure!(
                knows(victim, &id, secret).await?,
                "it was given, and is lost"
            );
            new.push(secret.to_owned());
        }
    }
    ensure!(new.len() <= 1, "shown twice");

    let body = json!({ "compromised": true });
    let end = owner.json(
        victim,
        Method::POST,
        &format!("{path}/rotate-secret"),
        &body,
    );
    let struck = victim.strike(end, at).await?;
    let mut good_ones = Vec::new();
    for secret in new.iter().chain([&old]) {
        good_ones.push(knows(victim, &id, secret).await?);
    }
    let is_done = good_ones.iter().all(|good| !good);
    ensure!(
        is_done || good_ones.iter().all(|good| *good),
        "{good_ones:?}"
    );
    ensure!(secrets(victim).await? == if is_done { 1 } else { 2 });
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(is_done, "ended, and good again");
        ensure!(knows(victim, &id, answer.text("client_secret")?).await?);
    }
    let gone = owner.json(victim, Method::DELETE, &path, &json!({}));
    good(&victim.send(gone).await?)
}

/// A client that proves itself by a secret from now on has one, or proves itself as before.
pub(super) async fn client_method(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let id = name();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let point = key.public_key_raw().get(1..).context("no point")?;
    let (x, y) = point.split_at_checked(32).context("no point")?;
    let text = |bytes| URL_SAFE_NO_PAD.encode::<&[u8]>(bytes);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) });
    let body = json!({
        "client_id": id, "redirect_uris": [REDIRECT], "scope": "openid",
        "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [jwk] },
    });
    let made = owner.json(victim, Method::POST, "/api/v1/clients", &body);
    good(&victim.send(made).await?)?;
    let path = format!("/api/v1/clients/{id}");
    let by_secret = json!({ "token_endpoint_auth_method": "client_secret_post", "jwks": null });
    let change = |victim: &Victim| owner.json(victim, Method::PATCH, &path, &by_secret);
    let struck = victim.strike(change(victim), at).await?;
    let now = seen(victim, &owner, &path).await?.body;
    let secrets = now["secrets"].as_array().map(Vec::len);
    let is_changed = now["token_endpoint_auth_method"] == "client_secret_post";
    ensure!(
        secrets == Some(usize::from(is_changed)) && now["jwks"].is_null() == is_changed,
        "{now}"
    );
    let told = match struck {
        Some(answer) => {
            ensure!(is_changed, "told so, and {now}");
            Some(answer)
        }
        None if is_changed => None,
        None => Some(victim.send(change(victim)).await?),
    };
    if let Some(answer) = told {
        good(&answer)?;
        ensure!(knows(victim, &id, answer.text("client_secret")?).await?);
    }
    let gone = owner.json(victim, Method::DELETE, &path, &json!({}));
    good(&victim.send(gone).await?)
}

/// An identity provider is the old one or the new one, whole, and people see it where it is in use.
pub(super) async fn identity_provider(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let id = name();
    let path = format!("/api/v1/identity-providers/{id}");
    let issuer = format!("https://{id}.example.com");
    let of = |number: u32| {
        json!({
            "kind": "openid", "issuer": issuer, "name": format!("Login {number} of {id}"),
            "client_id": format!("ours-{number}"), "client_secret": format!("a secret of number {number}"),
            "trusts_email": number == 2,
        })
    };
    let put = |victim: &Victim, number| owner.json(victim, Method::PUT, &path, &of(number));
    let read = async |victim: &Victim| victim.send(owner.get(victim, &path)).await;
    let is_shown = async |victim: &Victim, number: u32| -> Result<bool> {
        let page = Person::default().page(victim, "/sign-in").await?;
        Ok(page.contains(&format!("Continue with Login {number} of {id}")))
    };
    for number in [1, 2] {
        let struck = victim.strike(put(victim, number), at).await?;
        let now = read(victim).await?;
        let is = |number: u32| {
            let wanted = of(number);
            ["name", "client_id", "trusts_email"]
                .iter()
                .all(|member| now.body[member] == wanted[member])
        };
        let is_new = now.status == 200 && is(number);
        let is_old = match number {
            1 => now.status == 404,
            _ => now.status == 200 && is(1),
        };
        ensure!(is_new || is_old, "{} {}", now.status, now.body);
        ensure!(is_shown(victim, number).await? == is_new);
        if let Some(answer) = struck {
            good(&answer)?;
            ensure!(is_new, "told so, and {}", now.body);
        }
        good(&victim.send(put(victim, number)).await?)?;
    }
    let out = |victim: &Victim| owner.json(victim, Method::DELETE, &path, &json!({}));
    let struck = victim.strike(out(victim), at).await?;
    let now = read(victim).await?;
    let enabled = now.body["enabled"].as_bool().context("not there")?;
    ensure!(now.body["name"] == of(2)["name"], "{}", now.body);
    ensure!(is_shown(victim, 2).await? == enabled);
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(!enabled, "taken out, and in use again");
    }
    good(&victim.send(out(victim)).await?)?;
    ensure!(!is_shown(victim, 2).await?);
    Ok(())
}

/// A registry on somebody's machine, with keys in use.
struct Local {
    registry: LocalRegistry,
    peppers: Peppers,
    actor: Actor,
    ids: Vec<String>,
    keys: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Local {
    async fn with(many: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&file, Clock::system()).await?;
        let actor = Actor::person("tester");
        let id = random_id(&mut rand::rng());
        registry.adopt_pepper(&actor, &id).await?;
        let pepper = Pepper::generate(&mut rand::rng());
        let peppers = Peppers::new(PepperKey { id, pepper });
        let (mut ids, mut keys) = (Vec::new(), Vec::new());
        for number in 0..many {
            let wish = NewApiKey {
                name: format!("Local {number}"),
                prefix: "sk_live".to_owned(),
                scopes: vec!["keys:read".to_owned()],
                lifetime_ms: Some(30 * DAY_MS),
                ..NewApiKey::default()
            };
            let issued = registry.issue_api_key(&actor, &wish, &peppers).await?;
            ids.push(issued.key.id.clone());
            keys.push(issued.plain.text().expose().to_owned());
        }
        Ok(Self {
            registry,
            peppers,
            actor,
            ids,
            keys,
            _folder: folder,
        })
    }

    /// How many of its keys are good here.
    async fn good_here(&self) -> Result<usize> {
        let mut good = 0;
        for key in &self.keys {
            let request = VerifyRequest {
                presented: key,
                ..VerifyRequest::default()
            };
            let judged = self.registry.verify_api_key(&request, &self.peppers);
            good += usize::from(judged.await?.code() == "valid");
        }
        Ok(good)
    }

    /// How many are good at the server.
    async fn good_there(&self, victim: &Victim) -> Result<usize> {
        let mut good = 0;
        for key in &self.keys {
            good += usize::from(verdict(victim, key).await? == "valid");
        }
        Ok(good)
    }
}

/// Keys of a local registry that a server takes: all of them or none, once, and each string is good all the while.
/// What was left to the server is changed there alone.
pub(super) async fn promotion(victim: &mut Victim, at: u64) -> Result<()> {
    let local = Local::with(5).await?;
    let offer = request(victim, "/api/v1/promotions/offers", &json!({}));
    let offer = victim.send(offer).await?;
    good(&offer)?;
    let (bundle, refused) = local
        .registry
        .promotion_bundle(&local.ids, &local.peppers)
        .await?;
    ensure!(refused.is_empty(), "{refused:?}");
    let recipient = TransferRecipient::parse(offer.text("recipient")?).context("whose?")?;
    let peppers = local
        .registry
        .hand_over_peppers(&local.actor, &local.peppers, &recipient)
        .await?;
    let body = json!({
        "offer": offer.text("offer")?, "peppers": STANDARD.encode(peppers),
        "bundle": serde_json::to_value(&bundle)?, "dry_run": false,
    });
    let take = |victim: &Victim| request(victim, "/api/v1/promotions", &body);
    let struck = victim.strike(take(victim), at).await?;
    let came = local.good_there(victim).await?;
    ensure!(matches!(came, 0 | 5), "{came} of five came");
    let lines = |answer: &Answer, list: &str| answer.body[list].as_array().map_or(0, Vec::len);
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(
            lines(answer, "accepted") == 5 && came == 5,
            "{}",
            answer.body
        );
    }
    ensure!(local.good_here().await? == 5, "gone before it was left");
    let again = victim.send(take(victim)).await?;
    good(&again)?;
    let (new, known) = (lines(&again, "accepted"), lines(&again, "present"));
    ensure!((new, known) == (5 - came, came), "{}", again.body);
    ensure!(local.good_there(victim).await? == 5);
    let remote = victim.server.issuer.clone();
    let left = local
        .registry
        .mark_promoted(&local.actor, &local.ids, &remote);
    ensure!(left.await?.is_empty());
    ensure!(local.good_here().await? == 5, "the copies ended with it");
    // And from the server to another one: each key is left there or kept, and once more does the rest.
    let ids: Vec<&str> = local.ids.iter().map(String::as_str).collect();
    let body = json!({ "key_ids": ids, "remote": "https://keys.example.org" });
    let leave = |victim: &Victim| request(victim, "/api/v1/promotions/left", &body);
    let struck = victim.strike(leave(victim), at).await?;
    let gone = async |victim: &Victim| -> Result<usize> {
        let mut gone = 0;
        for id in &ids {
            let key = get(victim, &format!("/api/v1/keys/{id}")).await?;
            gone += usize::from(key.body["promoted_to"] == "https://keys.example.org");
        }
        Ok(gone)
    };
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(gone(victim).await? == 5, "left, and kept");
    }
    good(&victim.send(leave(victim)).await?)?;
    ensure!(gone(victim).await? == 5, "kept");
    ensure!(
        local.good_there(victim).await? == 5,
        "the copies ended with it"
    );
    for id in &ids {
        let path = format!("/api/v1/keys/{id}/end-copy");
        good(&victim.send(request(victim, &path, &json!({}))).await?)?;
    }
    ensure!(local.good_there(victim).await? == 0);
    Ok(())
}

/// Keys that a campaign will ask about: they never expire.
async fn for_ever(victim: &Victim, owner: &str, many: usize) -> Result<Vec<(String, String)>> {
    let mut keys = Vec::new();
    for _ in 0..many {
        let wish = json!({
            "name": name(), "prefix": "sk_live", "scopes": ["keys:read"], "never_expires": true,
            "owner": { "kind": "person", "id": owner },
        });
        let issued = victim.send(request(victim, "/api/v1/keys", &wish)).await?;
        good(&issued)?;
        let id = issued.body["key"]["id"].as_str().context("no id")?;
        keys.push((id.to_owned(), issued.text("secret")?.to_owned()));
    }
    Ok(keys)
}

/// A campaign asks about all of its keys or there is none; an answer stands with what it did to the key.
pub(super) async fn campaign(victim: &mut Victim, at: u64) -> Result<()> {
    const CAMPAIGNS: &str = "/api/v1/hygiene/campaigns";
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_millis(),
    )?;
    let (owner, _) = somebody(victim).await?;
    let keys = for_ever(victim, &owner, 6).await?;
    let title = name();
    let body = json!({
        "name": title, "findings": ["never_expires"], "due_at": now + 20 * DAY_MS, "unanswered": "leave",
    });
    let once = random_id(&mut rand::rng());
    let begin =
        |victim: &Victim| request(victim, CAMPAIGNS, &body).header("idempotency-key", &once);
    let struck = victim.strike(begin(victim), at).await?;
    let again = victim.send(begin(victim)).await?;
    good(&again)?;
    let id = again.text("id")?.to_owned();
    if let Some(answer) = &struck {
        good(answer)?;
        ensure!(answer.text("id")? == id, "begun twice");
    }
    let list = get(victim, &format!("{CAMPAIGNS}?limit=100")).await?;
    let list = list.body["items"].as_array().context("no items")?.clone();
    let own = list.iter().filter(|one| one["name"] == *title).count();
    ensure!(own == 1, "{own} campaigns");
    let questions = async |victim: &Victim| -> Result<Vec<Value>> {
        let path = format!("{CAMPAIGNS}/{id}/questions?limit=100&owner={owner}");
        let list = get(victim, &path).await?;
        Ok(list.body["items"].as_array().context("no items")?.clone())
    };
    let asked = questions(victim).await?;
    ensure!(asked.len() == 6, "{} of six were asked about", asked.len());
    ensure!(asked.iter().all(|one| one["state"] == "open"), "{asked:?}");

    let keep =
        json!({ "answer": "keep", "reason": "the yearly close", "until": now + 60 * DAY_MS });
    let revoke =
        json!({ "answer": "retire", "how": "revoke", "at_once": true, "reason": "unused" });
    let suspend =
        json!({ "answer": "retire", "how": "disable", "at_once": true, "reason": "unused" });
    for ((key, secret), (given, state)) in
        keys.iter()
            .zip([(&keep, "keep"), (&revoke, "retired"), (&suspend, "retired")])
    {
        let path = format!("{CAMPAIGNS}/{id}/questions/{key}");
        let tell = |victim: &Victim| request(victim, &path, given);
        let struck = victim.strike(tell(victim), at).await?;
        let all = questions(victim).await?;
        let one = all.iter().find(|one| one["key_id"] == key.as_str());
        let one = one.context("its question is gone")?;
        let stands = one["state"] == state;
        ensure!(stands || one["state"] == "open", "{one}");
        // Written down with what was said, and done with it.
        ensure!(
            stands == (one["reason"] == given["reason"])
                && stands == one["answered_by"].is_string(),
            "{one}"
        );
        let goes_on = verdict(victim, secret).await? == "valid";
        ensure!(goes_on == (state == "keep" || !stands), "{one}: {goes_on}");
        if let Some(answer) = &struck {
            good(answer)?;
            ensure!(stands, "told so, and {one}");
        }
        if !stands {
            good(&victim.send(tell(victim)).await?)?;
        }
    }
    let rest = questions(victim).await?;
    let open = rest.iter().filter(|one| one["state"] == "open").count();
    ensure!(open == 3, "{rest:?}");
    // Called off, and nothing of it is left for the next one.
    let cancel = format!("{CAMPAIGNS}/{id}/cancel");
    let struck = victim
        .strike(request(victim, &cancel, &json!({})), at)
        .await?;
    let now = get(victim, &format!("{CAMPAIGNS}/{id}")).await?;
    let is_off = now.body["state"] == "cancelled";
    let waits = now.body["questions"]["open"] == 3;
    ensure!(is_off != waits, "{}", now.body);
    ensure!(struck.is_none() || is_off, "told so, and {}", now.body);
    if !is_off {
        good(&victim.send(request(victim, &cancel, &json!({}))).await?)?;
    }
    for (key, _) in &keys {
        let path = format!("/api/v1/keys/{key}/revoke");
        victim.send(request(victim, &path, &json!({}))).await?;
    }
    Ok(())
}

/// All keys of an owner end, or none does, and nobody else's.
pub(super) async fn owner(victim: &mut Victim, at: u64) -> Result<()> {
    let (id, _) = somebody(victim).await?;
    let (other, _) = somebody(victim).await?;
    let wish = |owner: &str| {
        json!({
            "name": name(), "prefix": "sk_live", "scopes": ["keys:read"],
            "owner": { "kind": "person", "id": owner },
        })
    };
    let issue = async |victim: &Victim, owner: &str| -> Result<String> {
        let issued = request(victim, "/api/v1/keys", &wish(owner));
        let issued = victim.send(issued).await?;
        good(&issued)?;
        Ok(issued.text("secret")?.to_owned())
    };
    let mut theirs = Vec::new();
    for _ in 0..8 {
        theirs.push(issue(victim, &id).await?);
    }
    let kept = issue(victim, &other).await?;
    let still = async |victim: &Victim| -> Result<usize> {
        let mut good = 0;
        for key in &theirs {
            good += usize::from(verdict(victim, key).await? == "valid");
        }
        Ok(good)
    };
    ensure!(still(victim).await? == 8);
    let path = format!("/api/v1/owners/{id}/revoke-keys");
    let body = json!({ "reason": "left the company" });
    let revoke = |victim: &Victim| with(victim, Method::POST, &path, &body);
    let struck = victim.strike(revoke(victim), at).await?;
    let good_ones = still(victim).await?;
    ensure!(matches!(good_ones, 0 | 8), "{good_ones} of eight go on");
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(good_ones == 0, "ended, and good again");
        ensure!(answer.body["keys_revoked_reason"] == "left the company");
    } else if good_ones == 8 {
        good(&victim.send(revoke(victim)).await?)?;
    }
    ensure!(still(victim).await? == 0);
    ensure!(verdict(victim, &kept).await? == "valid", "somebody else's");
    let new = issue(victim, &id).await?;
    ensure!(
        verdict(victim, &new).await? == "valid",
        "ended before it was made"
    );
    Ok(())
}

/// A service is made once and whole, has one name and address or the other, and its keys are all suspended or none.
pub(super) async fn service(victim: &mut Victim, at: u64) -> Result<()> {
    let id = name();
    let path = format!("/api/v1/owners/{id}");
    let seen = async |victim: &Victim| -> Result<Answer> {
        let asked = victim.client.get(victim.server.at(&path));
        victim
            .send(asked.bearer_auth(&victim.server.root_key))
            .await
    };
    let wish = json!({ "kind": "service", "id": id, "name": "One", "email": "one@example.org" });
    let struck = victim
        .strike(request(victim, "/api/v1/owners", &wish), at)
        .await?;
    let there = seen(victim).await?;
    ensure!(matches!(there.status, 200 | 404), "{}", there.body);
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(there.status == 200, "made, and not there");
    }
    let is = |found: &Value, name: &str| {
        found["name"] == name && found["email"] == format!("{}@example.org", name.to_lowercase())
    };
    if there.status == 200 {
        ensure!(is(&there.body, "One"), "{}", there.body);
    } else {
        good(
            &victim
                .send(request(victim, "/api/v1/owners", &wish))
                .await?,
        )?;
    }

    let two = json!({ "name": "Two", "email": "two@example.org" });
    let change = |victim: &Victim| with(victim, Method::PATCH, &path, &two);
    let struck = victim.strike(change(victim), at).await?;
    let now = seen(victim).await?.body;
    ensure!(is(&now, "One") || is(&now, "Two"), "{now}");
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(is(&now, "Two"), "told so, and {now}");
    }

    let mut keys = Vec::new();
    for _ in 0..4 {
        let wish = json!({
            "name": name(), "prefix": "sk_live", "scopes": ["keys:read"],
            "owner": { "kind": "service", "id": id },
        });
        let issued = victim.send(request(victim, "/api/v1/keys", &wish)).await?;
        good(&issued)?;
        keys.push(issued.text("secret")?.to_owned());
    }
    for (step, done, before) in [
        ("disable", "owner_disabled", "valid"),
        ("enable", "valid", "owner_disabled"),
    ] {
        let place = format!("{path}/{step}");
        let take = |victim: &Victim| request(victim, &place, &json!({}));
        let struck = victim.strike(take(victim), at).await?;
        let first = verdict(victim, &keys[0]).await?;
        ensure!(first == done || first == before, "{step}: {first}");
        for key in &keys {
            let code = verdict(victim, key).await?;
            ensure!(code == first, "{step}: {code} beside {first}");
        }
        let is_disabled = seen(victim).await?.body["disabled_at"].is_i64();
        ensure!(
            is_disabled == (first == "owner_disabled"),
            "{step}: {first}"
        );
        if let Some(answer) = struck {
            good(&answer)?;
            ensure!(first == done, "told so, and {first}");
        } else if first == before {
            good(&victim.send(take(victim)).await?)?;
        }
        ensure!(verdict(victim, &keys[0]).await? == done);
    }
    Ok(())
}
