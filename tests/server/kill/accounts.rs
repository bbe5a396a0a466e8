//! Use cases about people and on the way to other providers: invitations, disabling, links for another
//! password, tokens of browser clients, pushed requests, a provider's answer, signing keys.

use anyhow::{Context as _, Result, ensure};
use keywright_domain::base62::random_id;
use serde_json::{Value, json};

use super::access::redeem;
use super::person::{Person, form, parameter};
use super::{Answer, Victim};
use crate::server::harness::{OWNER, PASSWORD, peer};

const OTHER: &str = "an altogether different phrase";

pub(super) fn good(answer: &Answer) -> Result<()> {
    ensure!(
        (200..400).contains(&answer.status),
        "{} {}",
        answer.status,
        answer.body
    );
    Ok(())
}

fn login(victim: &Victim, email: &str, password: &str) -> reqwest::RequestBuilder {
    let body = json!({ "email": email, "password": password }).to_string();
    let request = victim.client.post(victim.server.at("/auth/login"));
    request
        .header("content-type", "application/json")
        .body(body)
}

async fn may_sign_in(victim: &Victim, email: &str, password: &str) -> Result<bool> {
    let answer = victim.send(login(victim, email, password)).await?;
    ensure!(
        matches!(answer.status, 200 | 401),
        "{} {}",
        answer.status,
        answer.body
    );
    Ok(answer.status == 200)
}

fn address() -> String {
    format!("{}@example.org", random_id(&mut rand::rng()).to_lowercase())
}

/// Somebody new: their id, their address.
pub(super) async fn somebody(victim: &Victim) -> Result<(String, String)> {
    let email = address();
    let file = victim.server.write("somebody.password", PASSWORD)?;
    let words = ["users", "add", "--email", &email, "--password-file", &file];
    let said: Value = serde_json::from_str(&victim.server.command(&words).await?)?;
    let id = said["id"].as_str().context("no id")?.to_owned();
    Ok((id, email))
}

/// The path of an address of ours.
fn path_of(victim: &Victim, address: &str) -> Result<String> {
    let path = address.strip_prefix(&victim.server.issuer);
    Ok(path.context("not ours")?.to_owned())
}

/// An invitation makes an account or is still good; never both, never neither.
pub(super) async fn invitation(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let email = address();
    let body = json!({ "email": email });
    let made = owner.json(victim, reqwest::Method::POST, "/api/v1/invitations", &body);
    let made = victim.send(made).await?;
    good(&made)?;
    let path = path_of(victim, made.text("link")?)?;
    let fields = [("name", "Grace"), ("password", PASSWORD)];
    let mut guest = Person::default();
    guest.page(victim, &path).await?;
    let struck = victim
        .strike(guest.post(victim, &path, &fields), at)
        .await?;
    let is_there = may_sign_in(victim, &email, PASSWORD).await?;
    let waits = victim.send(guest.get(victim, &path)).await?.status == 200;
    ensure!(
        is_there != waits,
        "account: {is_there}, invitation: {waits}"
    );
    if let Some(answer) = struck {
        ensure!(answer.status == 303 && is_there, "{}", answer.status);
        guest.keep(&answer);
        ensure!(guest.is_signed_in(victim).await?, "the session is lost");
    }
    if waits {
        let mut again = Person::default();
        again.page(victim, &path).await?;
        let accepted = victim.send(again.post(victim, &path, &fields)).await?;
        ensure!(accepted.status == 303, "{}", accepted.status);
        ensure!(may_sign_in(victim, &email, PASSWORD).await?);
    }
    let used = victim.send(guest.get(victim, &path)).await?;
    ensure!(used.status == 404, "it is good for ever: {}", used.status);
    Ok(())
}

/// Disabling ends sessions, refresh tokens and access, with the sign-in, or nothing of it.
pub(super) async fn disabling(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let (id, email) = somebody(victim).await?;
    let person = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let tokens = victim.send(login(victim, &email, PASSWORD)).await?;
    let access = tokens.text("access_token")?.to_owned();
    let mut browser = Person::default();
    browser.keep(&tokens);
    let path = format!("/api/v1/users/{id}/disable");
    let disable = |victim: &Victim| owner.json(victim, reqwest::Method::POST, &path, &json!({}));
    let struck = victim.strike(disable(victim), at).await?;
    let session = person.is_signed_in(victim).await?;
    let signs_in = may_sign_in(victim, &email, PASSWORD).await?;
    ensure!(
        session == signs_in,
        "session: {session}, sign-in: {signs_in}"
    );
    if let Some(answer) = struck {
        good(&answer)?;
        ensure!(!session, "disabled, and good again");
    } else if session {
        good(&victim.send(disable(victim)).await?)?;
    }
    ensure!(!person.is_signed_in(victim).await?);
    ensure!(!may_sign_in(victim, &email, PASSWORD).await?);
    let info = victim.client.get(victim.server.at("/auth/session"));
    ensure!(victim.send(info.bearer_auth(&access)).await?.status == 401);
    let refreshed = victim
        .send(browser.post(victim, "/auth/refresh", &[]))
        .await?;
    ensure!(
        refreshed.status == 401,
        "{} {}",
        refreshed.status,
        refreshed.body
    );
    Ok(())
}

/// A password is taken away with all that hangs on it, and chosen anew by a link that is good once.
pub(super) async fn password_reset(victim: &mut Victim, at: u64) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let (id, email) = somebody(victim).await?;
    let person = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let path = format!("/api/v1/users/{id}/password-reset");
    let reset = |victim: &Victim| owner.json(victim, reqwest::Method::POST, &path, &json!({}));
    let struck = victim.strike(reset(victim), at).await?;
    let session = person.is_signed_in(victim).await?;
    let old = may_sign_in(victim, &email, PASSWORD).await?;
    ensure!(session == old, "session: {session}, password: {old}");
    let link = match struck {
        Some(answer) => {
            ensure!(!old, "taken away, and good again");
            answer.text("link")?.to_owned()
        }
        None => victim.send(reset(victim)).await?.text("link")?.to_owned(),
    };
    let link = path_of(victim, &link)?;
    let choose = [("password", OTHER)];
    let mut guest = Person::default();
    guest.page(victim, &link).await?;
    let struck = victim
        .strike(guest.post(victim, &link, &choose), at)
        .await?;
    let new = may_sign_in(victim, &email, OTHER).await?;
    let waits = victim.send(guest.get(victim, &link)).await?.status == 200;
    ensure!(new != waits, "password: {new}, link: {waits}");
    ensure!(struck.is_none_or(|answer| answer.status == 303 && new));
    if waits {
        let chosen = victim.send(guest.post(victim, &link, &choose)).await?;
        ensure!(chosen.status == 303, "{}", chosen.status);
    }
    ensure!(may_sign_in(victim, &email, OTHER).await?);
    ensure!(!may_sign_in(victim, &email, PASSWORD).await?);
    ensure!(!person.is_signed_in(victim).await?);
    Ok(())
}

/// Tokens of a browser client: what was given is good, and nobody is locked out by what was lost.
pub(super) async fn browser_login(victim: &mut Victim, at: u64) -> Result<()> {
    let struck = victim.strike(login(victim, OWNER, PASSWORD), at).await?;
    let again = victim.send(login(victim, OWNER, PASSWORD)).await?;
    for answer in struck.iter().chain([&again]) {
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        let mut browser = Person::default();
        browser.keep(answer);
        let refreshed = victim
            .send(browser.post(victim, "/auth/refresh", &[]))
            .await?;
        ensure!(refreshed.status == 200, "tokens that were given are lost");
    }
    Ok(())
}

/// A refresh by cookie has one successor, whatever was lost.
pub(super) async fn browser_refresh(victim: &mut Victim, at: u64) -> Result<()> {
    let tokens = victim.send(login(victim, OWNER, PASSWORD)).await?;
    let mut browser = Person::default();
    browser.keep(&tokens);
    let refresh = |victim: &Victim| browser.post(victim, "/auth/refresh", &[]);
    let first = victim.strike(refresh(victim), at).await?;
    let second = victim.send(refresh(victim)).await?;
    ensure!(second.status == 200, "{} {}", second.status, second.body);
    let cookie = |answer: &Answer| {
        let mut own = Person::default();
        own.keep(answer);
        own.header()
    };
    if let Some(first) = &first {
        ensure!(cookie(first) == cookie(&second), "the family forked");
    }
    let mut next = Person::default();
    next.keep(&second);
    let next = victim.send(next.post(victim, "/auth/refresh", &[])).await?;
    ensure!(next.status == 200, "{} {}", next.status, next.body);
    Ok(())
}

/// A pushed request that was answered is good, once.
pub(super) async fn pushed(victim: &mut Victim, at: u64) -> Result<()> {
    let person = Person::signed_in(victim, PASSWORD).await?;
    let authorize = super::access::authorize("");
    let (_, query) = authorize.split_once('?').context("no query")?;
    let push = |victim: &Victim| {
        let request = victim.client.post(victim.server.at("/oauth2/par"));
        let kind = "application/x-www-form-urlencoded";
        request.header("content-type", kind).body(query.to_owned())
    };
    let struck = victim.strike(push(victim), at).await?;
    let again = victim.send(push(victim)).await?;
    for answer in struck.iter().chain([&again]) {
        ensure!(answer.status == 201, "{} {}", answer.status, answer.body);
        let uri = answer.text("request_uri")?;
        let path = format!(
            "/oauth2/authorize?{}",
            form(&[("client_id", "third"), ("request_uri", uri)])
        );
        // Struck as well: the person sees a page, a code comes, or the request is as good as before.
        let used = victim.strike(person.get(victim, &path), at).await?;
        let later = victim.send(person.get(victim, &path)).await?;
        let codes: Vec<String> = used
            .iter()
            .chain([&later])
            .filter_map(|answer| parameter(&answer.location, "code"))
            .collect();
        ensure!(codes.len() <= 1, "one request gave two codes");
        for code in &codes {
            ensure!(redeem(victim, code).await?.status == 200);
        }
        ensure!(used.is_none_or(|answer| answer.status < 500));
        ensure!(later.status < 500, "{}", later.status);
    }
    Ok(())
}

/// The answer of another provider signs in once; afterwards there is one identity, and the person finds
/// their account again.
pub(super) async fn provider_answer(victim: &mut Victim, at: u64) -> Result<()> {
    let input = json!({
        "scenario": "upstream_answer", "issuer": victim.server.issuer, "login": "ada",
        "back": victim.server.at("/rp/callback/upstream"),
    });
    let answer = peer("openid-client.mjs", &input).await?;
    let text = |name: &str| answer[name].as_str().context("no answer");
    let mut person = Person::default();
    person.set(text("name")?, text("cookie")?);
    let path = path_of(victim, text("url")?)?;
    let struck = victim.strike(person.get(victim, &path), at).await?;
    let second = victim.send(person.get(victim, &path)).await?;
    let third = victim.send(person.get(victim, &path)).await?;
    ensure!(third.status >= 400, "an answer is good for ever");
    if let Some(first) = struck {
        ensure!(first.status == 303, "{}", first.status);
        ensure!(second.status >= 400, "one answer signed in twice");
        person.keep(&first);
        ensure!(person.is_signed_in(victim).await?, "the session is lost");
    }
    let whole = json!({ "scenario": "upstream", "issuer": victim.server.issuer, "login": "ada" });
    let again = peer("openid-client.mjs", &whole).await?;
    ensure!(
        again["session"]["user"]["email"] == "ada@example.com",
        "{again}"
    );
    let owner = Person::signed_in(victim, PASSWORD).await?;
    let people = victim.send(owner.get(victim, "/api/v1/users")).await?;
    let ada = people.body["items"].as_array().map(|items| {
        let hers = |one: &&Value| one["email"] == "ada@example.com";
        items.iter().filter(hers).count()
    });
    ensure!(ada == Some(1), "{}", people.body);
    Ok(())
}

/// A command that rotates signing keys is killed: every token verifies, there is one key that signs of
/// each kind, and the command can be given again.
pub(super) async fn signing_keys(victim: &mut Victim, at: u64) -> Result<()> {
    let tokens = super::access::family(victim).await?;
    let delay = if at == super::ANSWERED {
        None
    } else {
        Some(at)
    };
    let words = ["signing-keys", "rotate", "--alg", "ES256", "--now"];
    // It builds a server before it rotates: later kills than a request's.
    let killed = victim
        .server
        .kill_command(&words, delay.map(|us| us * 40 + 250_000))
        .await?;
    victim.note(killed);
    victim.server.signal("HUP")?;
    let list = victim.server.command(&["signing-keys", "list"]).await?;
    let mut active = Vec::new();
    for line in list.lines() {
        let key: Value = serde_json::from_str(line)?;
        if key["state"] == "active" {
            active.push(key["alg"].as_str().unwrap_or("").to_owned());
        }
    }
    active.sort();
    ensure!(active == ["ES256", "EdDSA", "RS256"], "{list}");
    let userinfo = victim.client.get(victim.server.at("/oauth2/userinfo"));
    let userinfo = userinfo.bearer_auth(tokens.text("access_token")?);
    ensure!(
        victim.send(userinfo).await?.status == 200,
        "a token of before is refused"
    );
    let fresh = super::access::family(victim).await?;
    let userinfo = victim.client.get(victim.server.at("/oauth2/userinfo"));
    let userinfo = userinfo.bearer_auth(fresh.text("access_token")?);
    ensure!(victim.send(userinfo).await?.status == 200);
    Ok(())
}
