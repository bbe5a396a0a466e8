//! The second factor: a one-time code, or a recovery code. Each is good once.

use std::net::{IpAddr, Ipv4Addr};

use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::PeopleError;
use keywright_registry::RegistryError;

use super::{recovery, totp};
use crate::problem::Problem;
use crate::server::App;

/// Guesses are counted by person: an address is changed more easily than a password is found.
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What `seal` binds the secret of somebody's one-time codes to.
pub(crate) fn purpose(user_id: &str) -> String {
    format!("totp {user_id}")
}

/// The ways of a proof (RFC 8176) once a code came on top of it.
pub(crate) fn added_to(amr: &str) -> String {
    let mut ways: Vec<&str> = amr.split_ascii_whitespace().collect();
    for way in ["otp", "mfa"] {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways.join(" ")
}

/// Whether somebody set one-time codes up and confirmed them.
///
/// # Errors
/// [`Problem`] if that cannot be read.
pub(crate) async fn is_set_up(app: &App, user_id: &str) -> Result<bool, Problem> {
    match app.registry.find_totp(user_id).await {
        Ok(found) => Ok(found.confirmed_at.is_some()),
        Err(RegistryError::People(PeopleError::TotpNotFound)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Checks a code and uses it up. False if it does not count.
///
/// # Errors
/// 429 after too many wrong ones.
pub(crate) async fn accept(app: &App, user_id: &str, given: &str) -> Result<bool, Problem> {
    let failures = &app.sign_in.codes;
    failures.check(app, ANYWHERE, user_id).await?;
    failures.count_first(app, ANYWHERE, user_id).await?;
    let text: String = given
        .chars()
        .filter(|c| !c.is_whitespace())
        .take(64)
        .collect();
    let good = if totp::looks_like_code(&text) {
        accept_step(app, user_id, &text).await?
    } else {
        recovery::accept(app, user_id, &text).await?
    };
    if good {
        failures.forget(app, ANYWHERE, user_id).await;
    }
    Ok(good)
}

/// The first code of an app that was just set up. Returns the recovery codes that its person has from now on, to be
/// shown this once; none for a code that does not count.
///
/// # Errors
/// 429 after too many wrong ones.
pub(crate) async fn confirm(
    app: &App,
    actor: &Actor,
    user_id: &str,
    given: &str,
) -> Result<Option<Vec<SecretText>>, Problem> {
    let failures = &app.sign_in.codes;
    failures.check(app, ANYWHERE, user_id).await?;
    failures.count_first(app, ANYWHERE, user_id).await?;
    let text: String = given
        .chars()
        .filter(|c| !c.is_whitespace())
        .take(64)
        .collect();
    let step = match totp::looks_like_code(&text) {
        true => step_of(app, user_id, &text, false).await?,
        false => None,
    };
    let Some(step) = step else { return Ok(None) };
    // Hashed first: they come into force with the app, or neither does.
    let (codes, hashes) = recovery::make(app).await?;
    // That took a while: set-up may have begun anew in another window, and this is no code of that secret.
    if step_of(app, user_id, &text, false).await? != Some(step) {
        return Ok(None);
    }
    let confirmed = app.registry.confirm_totp(actor, user_id, step, &hashes);
    if !confirmed.await? {
        return Ok(None);
    }
    failures.forget(app, ANYWHERE, user_id).await;
    Ok(Some(codes))
}

async fn accept_step(app: &App, user_id: &str, code: &str) -> Result<bool, Problem> {
    let Some(step) = step_of(app, user_id, code, true).await? else {
        return Ok(false);
    };
    let actor = Actor::person(user_id);
    Ok(app.registry.accept_totp_step(&actor, user_id, step).await?)
}

/// The time step of a code that is right now; none for any other. Nothing is used up.
async fn step_of(
    app: &App,
    user_id: &str,
    code: &str,
    only_confirmed: bool,
) -> Result<Option<i64>, Problem> {
    let found = match app.registry.find_totp(user_id).await {
        Ok(found) if found.confirmed_at.is_some() || !only_confirmed => found,
        Ok(_) | Err(RegistryError::People(PeopleError::TotpNotFound)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let secret = app
        .secrets
        .unseal(&purpose(user_id), &found.sealed)
        .map_err(|error| {
            tracing::error!(%error, "one-time codes of a person cannot be read");
            crate::problem::store_unavailable()
        })?;
    Ok(totp::step_of(&secret, code, app.now()))
}
