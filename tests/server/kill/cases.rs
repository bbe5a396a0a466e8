//! The table: use cases of people. Each ends as it began, so that the next can strike the same server.

use std::future::Future;
use std::pin::Pin;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::access::{self, authorize, code_of, redeem, token};
use super::person::{Person, field, form};
use super::{
    BULK_DELAYS, CODES_DELAYS, DELAYS, FEW_DELAYS, HELD_BULK_DELAYS, HELD_DELAYS, SLOW_DELAYS,
    Victim, accounts, administration, factors, hooks, key_changes, keys, narrowing, plain, reports,
};
use crate::server::harness::{OWNER, PASSWORD};

type Struck<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
type Case = fn(&mut Victim, u64) -> Struck<'_>;
/// A use case, and when it is struck.
pub(super) type One = (&'static str, Case, &'static [u64]);

/// Use cases of people and of their clients; of keys, the first three.
pub(super) const ALL: &[One] = &[
    (
        "sign-in",
        |victim, at| Box::pin(sign_in(victim, at)),
        &SLOW_DELAYS,
    ),
    (
        "end of a session",
        |victim, at| Box::pin(sign_out(victim, at)),
        &DELAYS,
    ),
    (
        "end of other sessions",
        |victim, at| Box::pin(end_others(victim, at)),
        &DELAYS,
    ),
    (
        "change of a password",
        |victim, at| Box::pin(password(victim, at)),
        &SLOW_DELAYS,
    ),
    (
        "consent and code",
        |victim, at| Box::pin(consent(victim, at)),
        &DELAYS,
    ),
    (
        "redemption of a code",
        |victim, at| Box::pin(access::redemption(victim, at)),
        &DELAYS,
    ),
    (
        "refresh",
        |victim, at| Box::pin(access::refresh(victim, at)),
        &DELAYS,
    ),
    (
        "revocation of a token",
        |victim, at| Box::pin(access::revocation(victim, at)),
        &DELAYS,
    ),
    (
        "approval of a device",
        |victim, at| Box::pin(access::approval(victim, at)),
        &DELAYS,
    ),
    (
        "tokens of a device",
        |victim, at| Box::pin(access::device_tokens(victim, at)),
        &DELAYS,
    ),
    (
        "registration of a client",
        |victim, at| Box::pin(registration(victim, at)),
        &DELAYS,
    ),
    (
        "issue of a key",
        |victim, at| Box::pin(keys::issue(victim, at)),
        &DELAYS,
    ),
    (
        "rotation of a key",
        |victim, at| Box::pin(keys::rotation(victim, at)),
        &DELAYS,
    ),
    (
        "revocation of a key",
        |victim, at| Box::pin(keys::revocation(victim, at)),
        &DELAYS,
    ),
];

/// Changes of keys and of what is around them.
pub(super) const OF_KEYS: &[One] = &[
    (
        "change of a key",
        |victim, at| Box::pin(narrowing::change(victim, at)),
        &HELD_DELAYS,
    ),
    (
        "schedule",
        |victim, at| Box::pin(narrowing::schedule(victim, at)),
        &HELD_DELAYS,
    ),
    (
        "switch of a key",
        |victim, at| Box::pin(key_changes::switch(victim, at)),
        &HELD_DELAYS,
    ),
    (
        "end of an overlap",
        |victim, at| Box::pin(key_changes::finish(victim, at)),
        &HELD_DELAYS,
    ),
    (
        "roll-back",
        |victim, at| Box::pin(key_changes::roll_back(victim, at)),
        &HELD_DELAYS,
    ),
    (
        "reissue",
        |victim, at| Box::pin(key_changes::reissue(victim, at)),
        &HELD_DELAYS,
    ),
    (
        "many keys at once",
        |victim, at| Box::pin(key_changes::bulk(victim, at)),
        &HELD_BULK_DELAYS,
    ),
    (
        "import",
        |victim, at| Box::pin(key_changes::import(victim, at)),
        &HELD_BULK_DELAYS,
    ),
    (
        "policy",
        |victim, at| Box::pin(key_changes::policy(victim, at)),
        &HELD_DELAYS,
    ),
    (
        "webhook",
        |victim, at| Box::pin(hooks::webhook(victim, at)),
        &HELD_DELAYS,
    ),
];

/// Accounts, other providers, and keys that sign.
pub(super) const OF_ACCOUNTS: &[One] = &[
    (
        "invitation",
        |victim, at| Box::pin(accounts::invitation(victim, at)),
        &SLOW_DELAYS,
    ),
    (
        "disabling",
        |victim, at| Box::pin(accounts::disabling(victim, at)),
        &DELAYS,
    ),
    (
        "password reset",
        |victim, at| Box::pin(accounts::password_reset(victim, at)),
        &SLOW_DELAYS,
    ),
    (
        "login of a browser client",
        |victim, at| Box::pin(accounts::browser_login(victim, at)),
        &SLOW_DELAYS,
    ),
    (
        "refresh of a browser client",
        |victim, at| Box::pin(accounts::browser_refresh(victim, at)),
        &DELAYS,
    ),
    (
        "pushed request",
        |victim, at| Box::pin(accounts::pushed(victim, at)),
        &DELAYS,
    ),
    (
        "answer of a provider",
        |victim, at| Box::pin(accounts::provider_answer(victim, at)),
        &BULK_DELAYS,
    ),
    (
        "rotation of signing keys",
        |victim, at| Box::pin(accounts::signing_keys(victim, at)),
        &DELAYS,
    ),
];

/// Ways to sign in.
pub(super) const OF_FACTORS: &[One] = &[
    (
        "passkey",
        |victim, at| Box::pin(factors::passkey(victim, at)),
        &DELAYS,
    ),
    (
        "one-time codes",
        |victim, at| Box::pin(factors::one_time_codes(victim, at)),
        &CODES_DELAYS,
    ),
    (
        "recovery codes",
        |victim, at| Box::pin(factors::recovery_codes(victim, at)),
        &CODES_DELAYS,
    ),
    (
        "step-up",
        |victim, at| Box::pin(factors::step_up(victim, at)),
        &DELAYS,
    ),
];

/// What administrators do.
pub(super) const OF_ADMINISTRATION: &[One] = &[
    (
        "people",
        |victim, at| Box::pin(narrowing::users(victim, at)),
        &DELAYS,
    ),
    (
        "roles",
        |victim, at| Box::pin(administration::roles(victim, at)),
        &DELAYS,
    ),
    (
        "secret of a client",
        |victim, at| Box::pin(administration::client_secret(victim, at)),
        &DELAYS,
    ),
    (
        "a client's way to prove itself",
        |victim, at| Box::pin(administration::client_method(victim, at)),
        &DELAYS,
    ),
    (
        "identity provider",
        |victim, at| Box::pin(administration::identity_provider(victim, at)),
        &DELAYS,
    ),
    (
        "promotion",
        |victim, at| Box::pin(administration::promotion(victim, at)),
        &BULK_DELAYS,
    ),
    (
        "campaign",
        |victim, at| Box::pin(administration::campaign(victim, at)),
        &BULK_DELAYS,
    ),
    (
        "all keys of an owner",
        |victim, at| Box::pin(administration::owner(victim, at)),
        &DELAYS,
    ),
    (
        "service",
        |victim, at| Box::pin(administration::service(victim, at)),
        &DELAYS,
    ),
];

/// One request each.
pub(super) const PLAIN: &[One] = &[
    (
        "one secret of a key",
        |victim, at| Box::pin(plain::secret(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "end of a drained overlap",
        |victim, at| Box::pin(plain::drained(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "report of a delivery",
        |victim, at| Box::pin(plain::delivery(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "scope",
        |victim, at| Box::pin(plain::scope(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "alert and notices",
        |victim, at| Box::pin(plain::alert(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "checkpoint",
        |victim, at| Box::pin(plain::checkpoint(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "removal of a policy",
        |victim, at| Box::pin(plain::policy(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "cancellation",
        |victim, at| Box::pin(plain::cancellation(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "webhook and its messages",
        |victim, at| Box::pin(plain::webhook(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "client",
        |victim, at| Box::pin(plain::client(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "tokens of a client",
        |victim, at| Box::pin(plain::tokens(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "registration token",
        |victim, at| Box::pin(plain::registration_token(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "person",
        |victim, at| Box::pin(plain::person(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "one's own sessions",
        |victim, at| Box::pin(plain::own_sessions(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "invitation of somebody",
        |victim, at| Box::pin(plain::invitation(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "change of the pepper",
        |victim, at| Box::pin(plain::pepper(victim, at)),
        &FEW_DELAYS,
    ),
    (
        "report of GitHub",
        |victim, at| Box::pin(reports::of_github(victim, at)),
        &BULK_DELAYS,
    ),
    (
        "end of a session by a client",
        |victim, at| Box::pin(plain::end_session(victim, at)),
        &FEW_DELAYS,
    ),
];

/// All of them.
pub(super) fn every() -> impl Iterator<Item = &'static One> {
    [
        ALL,
        OF_KEYS,
        OF_ACCOUNTS,
        OF_FACTORS,
        OF_ADMINISTRATION,
        PLAIN,
    ]
    .into_iter()
    .flatten()
}

/// What all of them need.
pub(super) async fn prepare(victim: &Victim) -> Result<()> {
    let flows = [
        "--redirect-uri",
        access::REDIRECT,
        "--grant",
        "authorization_code",
        "--grant",
        "refresh_token",
        "--grant",
        access::DEVICE,
        "--scope",
        "openid email offline_access",
    ];
    victim.server.add_client("third", None, &flows).await
}

async fn sign_in(victim: &mut Victim, at: u64) -> Result<()> {
    let mut person = Person::default();
    let request = person.fill_in_sign_in(victim, PASSWORD).await?;
    if let Some(answer) = victim.strike(request, at).await? {
        ensure!(answer.status == 303, "{}", answer.status);
        person.keep(&answer);
        ensure!(
            person.is_signed_in(victim).await?,
            "a session that was given is lost"
        );
    }
    // And nobody is locked out by what was lost.
    Person::signed_in(victim, PASSWORD).await.map(drop)
}

async fn sign_out(victim: &mut Victim, at: u64) -> Result<()> {
    let person = Person::signed_in(victim, PASSWORD).await?;
    let request = person.post(victim, "/auth/signOut", &[]);
    if let Some(answer) = victim.strike(request, at).await? {
        ensure!(answer.status == 200, "{}", answer.status);
        ensure!(
            !person.is_signed_in(victim).await?,
            "signed out, and signed in again"
        );
    }
    victim
        .send(person.post(victim, "/auth/signOut", &[]))
        .await?;
    ensure!(!person.is_signed_in(victim).await?);
    Ok(())
}

async fn end_others(victim: &mut Victim, at: u64) -> Result<()> {
    let other = Person::signed_in(victim, PASSWORD).await?;
    let person = Person::signed_in(victim, PASSWORD).await?;
    let request = person.post(victim, "/account/end-others", &[]);
    if let Some(answer) = victim.strike(request, at).await? {
        ensure!(answer.status == 303, "{}", answer.status);
        ensure!(!other.is_signed_in(victim).await?, "ended, and good again");
    }
    ensure!(
        person.is_signed_in(victim).await?,
        "the one that asked is gone"
    );
    Ok(())
}

async fn may_sign_in(victim: &Victim, password: &str) -> Result<bool> {
    let body = json!({ "email": OWNER, "password": password }).to_string();
    let request = victim.client.post(victim.server.at("/auth/login"));
    let request = request
        .header("content-type", "application/json")
        .body(body);
    let answer = victim.send(request).await?;
    ensure!(
        matches!(answer.status, 200 | 401),
        "{} {}",
        answer.status,
        answer.body
    );
    Ok(answer.status == 200)
}

/// There and back: the first change is struck, the second one is not.
async fn password(victim: &mut Victim, at: u64) -> Result<()> {
    const OTHER: &str = "an altogether different phrase";
    let path = "/account/sign-in/password";
    let other = Person::signed_in(victim, PASSWORD).await?;
    let mut person = Person::signed_in(victim, PASSWORD).await?;
    let request = person.post(victim, path, &[("password", OTHER)]);
    let answer = victim.strike(request, at).await?;
    let (old, new) = (
        may_sign_in(victim, PASSWORD).await?,
        may_sign_in(victim, OTHER).await?,
    );
    ensure!(old != new, "both passwords are good, or none: {old} {new}");
    if let Some(answer) = answer {
        ensure!(answer.status == 303 && new, "{} {new}", answer.status);
        person.keep(&answer);
    }
    ensure!(
        other.is_signed_in(victim).await? == old,
        "the password and what hangs on it"
    );
    if new {
        let person = Person::signed_in(victim, OTHER).await?;
        let request = person.post(victim, path, &[("password", PASSWORD)]);
        ensure!(victim.send(request).await?.status == 303);
    }
    ensure!(may_sign_in(victim, PASSWORD).await?);
    Ok(())
}

async fn consent(victim: &mut Victim, at: u64) -> Result<()> {
    let mut person = Person::signed_in(victim, PASSWORD).await?;
    let page = person.page(victim, &authorize("consent")).await?;
    let fields = [
        ("request", field(&page, "request")?),
        ("decision", "allow".to_owned()),
    ];
    let fields = fields
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let request = person.post(victim, "/oauth2/authorize/consent", &fields);
    if let Some(answer) = victim.strike(request, at).await? {
        let code = code_of(&answer.location)?;
        ensure!(
            redeem(victim, &code).await?.status == 200,
            "a code that was given is lost"
        );
        ensure!(
            redeem(victim, &code).await?.status == 400,
            "it was redeemed twice"
        );
    }
    // Whether it was remembered or not, the next request ends with a code.
    let code = access::code(victim, &mut person).await?;
    ensure!(redeem(victim, &code).await?.status == 200);
    Ok(())
}

async fn registration(victim: &mut Victim, at: u64) -> Result<()> {
    let said = victim
        .server
        .command(&["clients", "registration-token", "--uses", "10"])
        .await?;
    let initial = said.trim().to_owned();
    let metadata = json!({
        "client_name": "Struck", "redirect_uris": [access::REDIRECT],
        "token_endpoint_auth_method": "client_secret_post",
    });
    let request = |victim: &Victim| {
        let request = victim.client.post(victim.server.at("/oauth2/register"));
        let request = request.bearer_auth(&initial);
        request
            .header("content-type", "application/json")
            .body(metadata.to_string())
    };
    let struck = victim.strike(request(victim), at).await?;
    let again = victim.send(request(victim)).await?;
    for answer in struck.iter().chain([&again]) {
        ensure!(answer.status == 201, "{} {}", answer.status, answer.body);
        let uri = answer.text("registration_client_uri")?;
        let own = victim
            .client
            .get(uri)
            .bearer_auth(answer.text("registration_access_token")?);
        ensure!(
            victim.send(own).await?.status == 200,
            "a client that was registered is lost"
        );
        // Its secret is good: what is wrong is the code.
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", answer.text("client_id")?),
            ("client_secret", answer.text("client_secret")?),
            ("redirect_uri", access::REDIRECT),
            ("code", "none"),
        ];
        let refused = token(victim, form(&fields)).await?;
        let error = refused.body["error"].as_str().context("no error")?;
        ensure!(
            error == "invalid_grant" || error == "invalid_request",
            "{}",
            refused.body
        );
    }
    ensure!(struck.is_none_or(|first| first.body["client_id"] != again.body["client_id"]));
    ensure!(again.body["client_id"] != Value::Null);
    Ok(())
}
