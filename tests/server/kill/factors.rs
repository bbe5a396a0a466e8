//! Ways to sign in: passkeys, one-time codes, recovery codes, and the step-up. Whatever is struck, a person is asked
//! for what they have, and for nothing that they were never shown.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::accounts::somebody;
use super::authenticator::{Authenticator, CodeApp};
use super::person::Person;
use super::{Answer, Victim};
use crate::server::harness::PASSWORD;
use crate::server::log_scan;

const PAGE: &str = "/account/sign-in";
const PASSKEYS: &str = "/account/sign-in/passkeys";
const CODES: &str = "/account/sign-in/codes";
const CONFIRM: &str = "/account/sign-in/codes/confirm";
const REMOVE: &str = "/account/sign-in/codes/remove";
const RECOVERY: &str = "/account/sign-in/recovery-codes";

async fn options(victim: &Victim, person: &Person, path: &str) -> Result<Value> {
    let asked = person.json(victim, Method::POST, path, &json!({}));
    let answer = victim.send(asked).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.body)
}

/// Whether somebody gets in by a passkey alone.
async fn lets_in(victim: &Victim, passkey: &Authenticator) -> Result<bool> {
    let mut guest = Person::default();
    guest.page(victim, "/sign-in").await?;
    let options = options(victim, &guest, "/sign-in/passkey/options").await?;
    let answer = passkey.answer(&options)?;
    let answer = guest.json(victim, Method::POST, "/sign-in/passkey", &answer);
    let answer = victim.send(answer).await?;
    match answer.status {
        200 => {
            guest.keep(&answer);
            ensure!(guest.is_signed_in(victim).await?, "let in, and not");
            Ok(true)
        }
        401 => Ok(false),
        other => anyhow::bail!("{other} {}", answer.body),
    }
}

/// A passkey is there and signs in, or it is not there; the same when it is removed.
pub(super) async fn passkey(victim: &mut Victim, at: u64) -> Result<()> {
    let (_, email) = somebody(victim).await?;
    let mut person = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let mut passkey = Authenticator::new(&victim.server.issuer)?;
    let asked = options(victim, &person, &format!("{PASSKEYS}/options")).await?;
    let made = passkey.make(&asked)?;
    let add = |victim: &Victim| person.json(victim, Method::POST, PASSKEYS, &made);
    let struck = victim.strike(add(victim), at).await?;
    let is_there = lets_in(victim, &passkey).await?;
    let again = victim.send(add(victim)).await?;
    if let Some(answer) = struck {
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        ensure!(is_there, "added, and lost");
    }
    ensure!(
        !is_there || again.status >= 400,
        "one answer added two: {}",
        again.body
    );
    if !lets_in(victim, &passkey).await? {
        // The challenge may be used up, and nothing else.
        let asked = options(victim, &person, &format!("{PASSKEYS}/options")).await?;
        let made = passkey.make(&asked)?;
        let made = person.json(victim, Method::POST, PASSKEYS, &made);
        let added = victim.send(made).await?;
        ensure!(added.status == 200, "{} {}", added.status, added.body);
    }
    ensure!(lets_in(victim, &passkey).await?);
    let shown = person.page(victim, PAGE).await?;
    let times = shown
        .matches(&format!("value=\"{}\"", passkey.id()))
        .count();
    ensure!(times == 2, "renamed and removed by one form each: {times}");

    let id = passkey.id();
    let fields = [("id", id.as_str())];
    let path = format!("{PASSKEYS}/remove");
    let remove = |victim: &Victim, person: &Person| person.post(victim, &path, &fields);
    let struck = victim.strike(remove(victim, &person), at).await?;
    let is_there = lets_in(victim, &passkey).await?;
    let shown = person.page(victim, PAGE).await?.contains(&id);
    ensure!(shown == is_there, "shown: {shown}, lets in: {is_there}");
    if let Some(answer) = struck {
        ensure!(answer.status == 303, "{}", answer.status);
        ensure!(!is_there, "removed, and lets in again");
    }
    if is_there {
        let removed = victim.send(remove(victim, &person)).await?;
        ensure!(removed.status == 303, "{}", removed.status);
    }
    ensure!(!lets_in(victim, &passkey).await?);
    Person::signed_in_as(victim, &email, PASSWORD)
        .await
        .map(drop)
}

/// A browser that was shown where the code goes, after the password; none if nobody asked for one.
async fn before_the_code(victim: &Victim, email: &str) -> Result<Option<Person>> {
    let mut person = Person::default();
    let request = person.fill_in(victim, email, PASSWORD).await?;
    let answer = victim.send(request).await?;
    ensure!(answer.status == 303, "{}", answer.status);
    person.keep(&answer);
    if !answer.location.starts_with("/sign-in/code") {
        return Ok(None);
    }
    person.page(victim, "/sign-in/code").await?;
    Ok(Some(person))
}

fn give_code(victim: &Victim, person: &Person, code: &str) -> reqwest::RequestBuilder {
    let fields = [("code", code), ("return_to", "/account")];
    person.post(victim, "/sign-in/code", &fields)
}

/// Whether a code signs somebody in who gave their password.
async fn signs_in_by(victim: &Victim, email: &str, code: &str) -> Result<bool> {
    let person = before_the_code(victim, email).await?;
    let mut person = person.context("nobody asks for a code")?;
    let answer = victim.send(give_code(victim, &person, code)).await?;
    match answer.status {
        303 => {
            person.keep(&answer);
            ensure!(person.is_signed_in(victim).await?, "let in, and not");
            Ok(true)
        }
        401 => Ok(false),
        other => anyhow::bail!("{other} {}", answer.page),
    }
}

/// The recovery codes of a page that shows them this once.
fn codes_of(answer: &Answer) -> Result<Vec<String>> {
    let items = answer.page.split("<li class=\"mono\">").skip(1);
    let codes: Vec<String> = items
        .filter_map(|rest| rest.split('<').next())
        .map(str::to_owned)
        .collect();
    codes.iter().for_each(|code| log_scan::keep_out(code));
    ensure!(
        answer.status == 200 && codes.len() == 10,
        "{} {}",
        answer.status,
        answer.page
    );
    Ok(codes)
}

/// How many recovery codes somebody has, if codes are on: what the page of a session says.
async fn left(victim: &Victim, person: &mut Person) -> Result<Option<u32>> {
    let page = person.page(victim, PAGE).await?;
    let Some(rest) = page.split("You have ").nth(1) else {
        ensure!(page.contains("Off. An authenticator app"), "{page}");
        return Ok(None);
    };
    let number = rest.split(' ').next().context("no number")?;
    Ok(Some(number.parse()?))
}

/// Somebody with codes: what they are called, a browser that has proven both, and the recovery codes.
struct Enrolled {
    email: String,
    person: Person,
    codes: Vec<String>,
}

async fn enrol(victim: &Victim) -> Result<Enrolled> {
    let (_, email) = somebody(victim).await?;
    let mut person = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let begun = victim.send(person.post(victim, CODES, &[])).await?;
    ensure!(begun.status == 303, "{}", begun.status);
    let mut app = CodeApp::of(&person.page(victim, CODES).await?)?;
    let code = app.code().await?;
    let confirm = person.post(victim, CONFIRM, &[("code", &code)]);
    let confirmed = victim.send(confirm).await?;
    let codes = codes_of(&confirmed)?;
    person.keep(&confirmed);
    Ok(Enrolled {
        email,
        person,
        codes,
    })
}

/// One-time codes are asked for, and ten recovery codes stand in for them; or neither. The same when they are
/// turned off.
pub(super) async fn one_time_codes(victim: &mut Victim, at: u64) -> Result<()> {
    let (_, email) = somebody(victim).await?;
    let mut person = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let struck = victim.strike(person.post(victim, CODES, &[]), at).await?;
    ensure!(struck.is_none_or(|answer| answer.status == 303));
    // Nobody is asked for codes of an app that was never confirmed.
    ensure!(before_the_code(victim, &email).await?.is_none());
    let begun = victim.send(person.post(victim, CODES, &[])).await?;
    ensure!(begun.status == 303, "{}", begun.status);
    let mut app = CodeApp::of(&person.page(victim, CODES).await?)?;
    let code = app.code().await?;
    let fields = [("code", code.as_str())];
    let struck = victim
        .strike(person.post(victim, CONFIRM, &fields), at)
        .await?;
    let asked = before_the_code(victim, &email).await?.is_some();
    let shown = match &struck {
        Some(answer) => {
            let codes = codes_of(answer)?;
            ensure!(asked, "turned on, and nobody asks");
            person.keep(answer);
            Some(codes)
        }
        None => None,
    };
    if asked && !person.is_signed_in(victim).await? {
        // Its session has another cookie by now, which was lost with the answer.
        let mut other = before_the_code(victim, &email)
            .await?
            .context("not asked")?;
        let code = app.code().await?;
        let answer = victim.send(give_code(victim, &other, &code)).await?;
        ensure!(answer.status == 303, "{}", answer.status);
        other.keep(&answer);
        person = other;
    }
    let left_now = left(victim, &mut person).await?;
    ensure!(
        left_now == asked.then_some(10),
        "asked: {asked}, recovery codes: {left_now:?}"
    );
    if let Some(code) = shown.as_ref().and_then(|codes| codes.first()) {
        ensure!(signs_in_by(victim, &email, code).await?, "a code is lost");
        ensure!(!signs_in_by(victim, &email, code).await?, "good for ever");
    }
    if !asked {
        // The same code, since it was not used up.
        let confirm = person.post(victim, CONFIRM, &fields);
        let confirmed = victim.send(confirm).await?;
        codes_of(&confirmed)?;
        ensure!(before_the_code(victim, &email).await?.is_some());
    }
    turning_off(victim, at).await
}

async fn turning_off(victim: &mut Victim, at: u64) -> Result<()> {
    let mut one = enrol(victim).await?;
    let remove = |victim: &Victim, person: &Person| person.post(victim, REMOVE, &[]);
    let struck = victim.strike(remove(victim, &one.person), at).await?;
    let asked = before_the_code(victim, &one.email).await?.is_some();
    let left_now = left(victim, &mut one.person).await?;
    ensure!(
        left_now == asked.then_some(10),
        "asked: {asked}, recovery codes: {left_now:?}"
    );
    if let Some(answer) = struck {
        ensure!(answer.status == 303, "{}", answer.status);
        ensure!(!asked, "turned off, and asked for again");
    }
    if asked {
        ensure!(victim.send(remove(victim, &one.person)).await?.status == 303);
    }
    // What is left of them lets nobody prove more than they do.
    let mut person = Person::signed_in_as(victim, &one.email, PASSWORD).await?;
    person.page(victim, "/sign-in/code").await?;
    let code = one.codes.first().context("no code")?;
    let refused = victim.send(give_code(victim, &person, code)).await?;
    ensure!(refused.status == 401, "{}", refused.status);
    Ok(())
}

/// New recovery codes: all of the old ones are good, or all of the new ones. A code that was used is used up.
pub(super) async fn recovery_codes(victim: &mut Victim, at: u64) -> Result<()> {
    let mut one = enrol(victim).await?;
    let struck = victim
        .strike(one.person.post(victim, RECOVERY, &[]), at)
        .await?;
    ensure!(left(victim, &mut one.person).await? == Some(10));
    let old = one.codes.first().context("no code")?;
    let old_is_good = signs_in_by(victim, &one.email, old).await?;
    let expected = if old_is_good { 9 } else { 10 };
    ensure!(left(victim, &mut one.person).await? == Some(expected));
    let mut codes = one.codes.clone();
    if let Some(answer) = struck {
        codes = codes_of(&answer)?;
        ensure!(!old_is_good, "replaced, and good again");
    } else if !old_is_good {
        // Replaced, and nobody read by what: they are made once more.
        let made = victim.send(one.person.post(victim, RECOVERY, &[])).await?;
        codes = codes_of(&made)?;
    }
    // One is used: the person is in, or it is as good as before.
    let code = codes.get(1).context("no code")?;
    let person = before_the_code(victim, &one.email).await?;
    let mut person = person.context("nobody asks for a code")?;
    let struck = victim.strike(give_code(victim, &person, code), at).await?;
    let again = signs_in_by(victim, &one.email, code).await?;
    if let Some(answer) = struck {
        ensure!(answer.status == 303, "{}", answer.status);
        person.keep(&answer);
        ensure!(person.is_signed_in(victim).await?, "the session is lost");
        ensure!(!again, "a recovery code was used twice");
    }
    ensure!(!signs_in_by(victim, &one.email, code).await?);
    let next = codes.get(2).context("no code")?;
    ensure!(signs_in_by(victim, &one.email, next).await?);
    Ok(())
}

/// Whether a session has proven both factors: then it may see what is guarded by them.
async fn has_both(victim: &Victim, person: &Person) -> Result<bool> {
    let answer = victim.send(person.get(victim, CODES)).await?;
    ensure!(answer.status == 303, "{}", answer.status);
    Ok(answer.location == PAGE)
}

/// A session is trusted more or is as it was; the code that did it does nothing more.
pub(super) async fn step_up(victim: &mut Victim, at: u64) -> Result<()> {
    let (_, email) = somebody(victim).await?;
    // One session before there were codes, and one that turns them on.
    let mut weak = Person::signed_in_as(victim, &email, PASSWORD).await?;
    let mut person = Person::signed_in_as(victim, &email, PASSWORD).await?;
    ensure!(victim.send(person.post(victim, CODES, &[])).await?.status == 303);
    let mut app = CodeApp::of(&person.page(victim, CODES).await?)?;
    let code = app.code().await?;
    let confirm = person.post(victim, CONFIRM, &[("code", &code)]);
    let codes = codes_of(&victim.send(confirm).await?)?;
    ensure!(!has_both(victim, &weak).await?, "it has proven one alone");
    weak.page(victim, "/sign-in/code").await?;
    let code = app.code().await?;
    let struck = victim.strike(give_code(victim, &weak, &code), at).await?;
    if let Some(answer) = struck {
        ensure!(answer.status == 303, "{}", answer.status);
        weak.keep(&answer);
        ensure!(has_both(victim, &weak).await?, "stepped up, and not");
        ensure!(!signs_in_by(victim, &email, &code).await?, "used twice");
        return Ok(());
    }
    // Its cookie is another one by now, if it was stepped up; if not, it is as it was, and may go on.
    if weak.is_signed_in(victim).await? {
        ensure!(!has_both(victim, &weak).await?, "trusted by a lost answer");
        weak.page(victim, "/sign-in/code").await?;
        let code = codes.first().context("no code")?;
        let answer = victim.send(give_code(victim, &weak, code)).await?;
        ensure!(answer.status == 303, "{}", answer.status);
        weak.keep(&answer);
        ensure!(has_both(victim, &weak).await?);
    } else {
        ensure!(!signs_in_by(victim, &email, &code).await?, "used twice");
        let code = codes.first().context("no code")?;
        ensure!(signs_in_by(victim, &email, code).await?);
    }
    Ok(())
}
