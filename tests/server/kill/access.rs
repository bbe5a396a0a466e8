//! Use cases of clients: codes, refresh tokens, devices. What may happen once happens at most once.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::person::{Person, field, form, parameter};
use super::{Answer, Victim};
use crate::server::harness::PASSWORD;

pub(super) const REDIRECT: &str = "http://127.0.0.1:9999/callback";
pub(super) const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// The path of an authorization request.
pub(super) fn authorize(prompt: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let fields = [
        ("client_id", "third"),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("scope", "openid email offline_access"),
        ("state", "s"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("prompt", prompt),
    ];
    format!("/oauth2/authorize?{}", form(&fields))
}

/// The code of an answer to the client.
pub(super) fn code_of(location: &str) -> Result<String> {
    parameter(location, "code").with_context(|| format!("no code in {location}"))
}

/// A code, whether the person is asked for consent or not.
pub(super) async fn code(victim: &Victim, person: &mut Person) -> Result<String> {
    let answer = victim.send(person.get(victim, &authorize(""))).await?;
    if !answer.location.is_empty() {
        return code_of(&answer.location);
    }
    let page = person.page(victim, &authorize("")).await?;
    let sealed = field(&page, "request")?;
    let fields = [("request", sealed.as_str()), ("decision", "allow")];
    let request = person.post(victim, "/oauth2/authorize/consent", &fields);
    code_of(&victim.send(request).await?.location)
}

fn token_request(victim: &Victim, body: String) -> reqwest::RequestBuilder {
    let request = victim.client.post(victim.server.at("/oauth2/token"));
    let kind = "application/x-www-form-urlencoded";
    request.header("content-type", kind).body(body)
}

/// A request at the token endpoint.
pub(super) async fn token(victim: &Victim, body: String) -> Result<Answer> {
    victim.send(token_request(victim, body)).await
}

fn redeem_form(code: &str) -> String {
    form(&[
        ("grant_type", "authorization_code"),
        ("client_id", "third"),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("code", code),
    ])
}

/// Uses a code.
pub(super) async fn redeem(victim: &Victim, code: &str) -> Result<Answer> {
    token(victim, redeem_form(code)).await
}

fn refresh_form(refresh_token: &str) -> String {
    form(&[
        ("grant_type", "refresh_token"),
        ("client_id", "third"),
        ("refresh_token", refresh_token),
    ])
}

/// Uses a refresh token.
pub(in crate::server) async fn refresh_with(
    victim: &Victim,
    refresh_token: &str,
) -> Result<Answer> {
    token(victim, refresh_form(refresh_token)).await
}

/// Revokes a token.
pub(in crate::server) async fn revoke(victim: &Victim, one: &str) -> Result<Answer> {
    let fields = [("client_id", "third"), ("token", one)];
    let request = victim.client.post(victim.server.at("/oauth2/revoke"));
    let kind = "application/x-www-form-urlencoded";
    victim
        .send(request.header("content-type", kind).body(form(&fields)))
        .await
}

/// The client that these use.
pub(in crate::server) async fn prepare(victim: &Victim) -> Result<()> {
    super::cases::prepare(victim).await
}

async fn signed_in(victim: &Victim) -> Result<(Person, String)> {
    let mut person = Person::signed_in(victim, PASSWORD).await?;
    let code = code(victim, &mut person).await?;
    Ok((person, code))
}

/// Tokens of a new family.
pub(in crate::server) async fn family(victim: &Victim) -> Result<Answer> {
    let (_, code) = signed_in(victim).await?;
    let tokens = redeem(victim, &code).await?;
    ensure!(tokens.status == 200, "{}", tokens.body);
    Ok(tokens)
}

pub(super) async fn redemption(victim: &mut Victim, at: u64) -> Result<()> {
    let (_, code) = signed_in(victim).await?;
    let request = token_request(victim, redeem_form(&code));
    let first = victim.strike(request, at).await?;
    let second = redeem(victim, &code).await?;
    let third = redeem(victim, &code).await?;
    ensure!(
        matches!(second.status, 200 | 400),
        "{} {}",
        second.status,
        second.body
    );
    ensure!(third.status == 400, "it is good for ever");
    if let Some(first) = first {
        ensure!(first.status == 200, "{}", first.body);
        ensure!(second.status == 400, "it gave tokens twice");
        // The second use took back what the first one gave (AC-053).
        let refreshed = token(victim, refresh_form(first.text("refresh_token")?)).await?;
        ensure!(refreshed.status == 400, "{}", refreshed.body);
    }
    Ok(())
}

pub(super) async fn refresh(victim: &mut Victim, at: u64) -> Result<()> {
    let old = family(victim).await?.text("refresh_token")?.to_owned();
    let request = token_request(victim, refresh_form(&old));
    let first = victim.strike(request, at).await?;
    // Whatever was lost: the token that was sent has its one successor (AC-084).
    let second = token(victim, refresh_form(&old)).await?;
    ensure!(second.status == 200, "{} {}", second.status, second.body);
    let successor = second.text("refresh_token")?;
    if let Some(first) = first {
        ensure!(
            first.text("refresh_token")? == successor,
            "the family forked"
        );
    }
    let next = token(victim, refresh_form(successor)).await?;
    ensure!(next.status == 200, "{}", next.body);
    Ok(())
}

pub(super) async fn revocation(victim: &mut Victim, at: u64) -> Result<()> {
    let tokens = family(victim).await?;
    let (refresh, access) = (tokens.text("refresh_token")?, tokens.text("access_token")?);
    let revoke = |victim: &Victim| {
        let fields = [("client_id", "third"), ("token", refresh)];
        let request = victim.client.post(victim.server.at("/oauth2/revoke"));
        let kind = "application/x-www-form-urlencoded";
        request.header("content-type", kind).body(form(&fields))
    };
    let first = victim.strike(revoke(victim), at).await?;
    if first.is_none() {
        // It happened whole or not at all: both tokens are good, or none is.
        let userinfo = victim.client.get(victim.server.at("/oauth2/userinfo"));
        let access_is_good = victim.send(userinfo.bearer_auth(access)).await?.status == 200;
        let refresh_is_good = token(victim, refresh_form(refresh)).await?.status == 200;
        ensure!(
            access_is_good == refresh_is_good,
            "{access_is_good} {refresh_is_good}"
        );
        ensure!(victim.send(revoke(victim)).await?.status == 200);
    }
    let refreshed = token(victim, refresh_form(refresh)).await?;
    ensure!(
        refreshed.status == 400,
        "revoked, and good again: {}",
        refreshed.body
    );
    let userinfo = victim.client.get(victim.server.at("/oauth2/userinfo"));
    ensure!(victim.send(userinfo.bearer_auth(access)).await?.status == 401);
    Ok(())
}

async fn device(victim: &Victim) -> Result<Answer> {
    let fields = [("client_id", "third"), ("scope", "openid offline_access")];
    let request = victim
        .client
        .post(victim.server.at("/oauth2/device_authorization"));
    let kind = "application/x-www-form-urlencoded";
    let answer = victim
        .send(request.header("content-type", kind).body(form(&fields)))
        .await?;
    ensure!(answer.status == 200, "{}", answer.body);
    Ok(answer)
}

fn poll_form(device_code: &str) -> String {
    form(&[
        ("grant_type", DEVICE),
        ("client_id", "third"),
        ("device_code", device_code),
    ])
}

fn allow(victim: &Victim, person: &Person, user_code: &str) -> reqwest::RequestBuilder {
    person.post(
        victim,
        "/device",
        &[("user_code", user_code), ("decision", "allow")],
    )
}

pub(super) async fn approval(victim: &mut Victim, at: u64) -> Result<()> {
    let mut person = Person::signed_in(victim, PASSWORD).await?;
    let begun = device(victim).await?;
    let user_code = begun.text("user_code")?;
    person
        .page(victim, &format!("/device?user_code={user_code}"))
        .await?;
    let request = allow(victim, &person, user_code);
    let answer = victim.strike(request, at).await?;
    let page = person
        .page(victim, &format!("/device?user_code={user_code}"))
        .await?;
    let waits = page.contains("value=\"allow\"");
    if let Some(answer) = answer {
        ensure!(answer.status == 303, "{}", answer.status);
        ensure!(!waits, "allowed, and asked again");
    }
    if waits {
        let allowed = victim.send(allow(victim, &person, user_code)).await?;
        ensure!(allowed.status == 303, "{}", allowed.status);
    }
    let tokens = token(victim, poll_form(begun.text("device_code")?)).await?;
    ensure!(tokens.status == 200, "{}", tokens.body);
    Ok(())
}

pub(super) async fn device_tokens(victim: &mut Victim, at: u64) -> Result<()> {
    let mut person = Person::signed_in(victim, PASSWORD).await?;
    let begun = device(victim).await?;
    let (device_code, user_code) = (begun.text("device_code")?, begun.text("user_code")?);
    person
        .page(victim, &format!("/device?user_code={user_code}"))
        .await?;
    ensure!(victim.send(allow(victim, &person, user_code)).await?.status == 303);
    let request = token_request(victim, poll_form(device_code));
    let first = victim.strike(request, at).await?;
    let second = token(victim, poll_form(device_code)).await?;
    let third = token(victim, poll_form(device_code)).await?;
    ensure!(
        matches!(second.status, 200 | 400),
        "{} {}",
        second.status,
        second.body
    );
    ensure!(third.status == 400, "it is good for ever");
    if let Some(first) = first {
        ensure!(first.status == 200, "{}", first.body);
        ensure!(second.status == 400, "it gave tokens twice");
        let refreshed = token(victim, refresh_form(first.text("refresh_token")?)).await?;
        ensure!(
            refreshed.status == 200,
            "tokens that were given are lost: {}",
            refreshed.body
        );
    }
    Ok(())
}
