//! One check of e-mail and password, for the page and for browser clients (C-19). Strangers cost the
//! same work and get the same answer as wrong passwords (S3-47, AC-180).

use std::net::IpAddr;

use keywright_domain::SecretText;
use keywright_domain::people::Email;
use keywright_registry::people::NewSignIn;

use super::busy;
use crate::http::Peer;
use crate::http::peer::network;
use crate::problem::Problem;
use crate::server::App;

/// What is said for a wrong password, a stranger, a disabled person and an account that waits.
pub(crate) const REFUSED: &str = "the e-mail address and the password do not match";

/// What an attempt came to.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is this person.
    Proven(Proven),
    /// It is not; whoever asks is told nothing more.
    Refused,
}

/// Somebody who proved a password.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    /// Who.
    pub(crate) user_id: String,
    /// Whether a second factor is needed.
    pub(crate) needs_code: bool,
    /// What was typed.
    pub(crate) identifier: String,
}

/// Checks an attempt and writes it down if it failed; a success is written down when the session or
/// grant begins.
///
/// # Errors
/// 429 after too many failures, 503 when too many wait.
pub(crate) async fn check(
    app: &App,
    peer: &Peer,
    email: &str,
    password: &SecretText,
) -> Result<Attempt, Problem> {
    let now = app.now();
    let identifier: String = email.trim().to_lowercase().chars().take(254).collect();
    let (accounts, sources) = (&app.sign_in.accounts, &app.sign_in.sources);
    accounts.check(app, peer.address, &identifier).await?;
    sources.check(app, peer.address, "").await?;
    // Counted before the work, so that many at once are not more than one after the other: neither at one
    // account nor by one source at many.
    let counted_at = sources.count_attempt(app, peer.address, "").await?;
    let account_at = match accounts.count_attempt(app, peer.address, &identifier).await {
        Ok(at) => at,
        Err(waits) => {
            // Nothing was tried.
            sources.take_back(app, peer.address, "", counted_at).await;
            return Err(waits.into());
        }
    };
    // Nor is anything where we cannot look, or have no time to.
    let take_back = async || {
        let account = accounts.take_back(app, peer.address, &identifier, account_at);
        account.await;
        sources.take_back(app, peer.address, "", counted_at).await;
    };
    let credentials = match Email::new(&identifier) {
        Ok(email) => match app.registry.find_credentials(&email).await {
            Ok(found) => found,
            Err(error) => {
                take_back().await;
                return Err(error.into());
            }
        },
        Err(_) => None,
    };
    let hash = credentials
        .as_ref()
        .and_then(|found| found.password_hash.as_ref());
    let checked = match app.passwords.check(hash, password).await {
        Ok(checked) => checked,
        Err(error) => {
            // Who was turned away by others' sign-ins has not guessed.
            take_back().await;
            return Err(busy(error));
        }
    };
    let (mut failure, mut whose) = ("credentials_invalid", None);
    if let Some(found) = credentials {
        let waits = found.locked_until.is_some_and(|until| until > now)
            && !knows_network(app, &found.user_id, peer).await?;
        if checked.matches && !found.disabled && !waits {
            accounts.forget(app, peer.address, &identifier).await;
            // This one only: whoever has an account of their own does not guess the more for it.
            sources.take_back(app, peer.address, "", counted_at).await;
            if let Some(stronger) = &checked.upgraded {
                app.registry
                    .upgrade_password_hash(&found.user_id, stronger)
                    .await?;
            }
            return Ok(Attempt::Proven(Proven {
                user_id: found.user_id,
                needs_code: found.needs_totp,
                identifier,
            }));
        }
        if waits {
            // Not counted to the account: otherwise strangers could make it wait for ever.
            failure = "account_waits";
        } else {
            if found.disabled {
                failure = "user_disabled";
            }
            whose = Some(found.user_id);
        }
    }
    record_failure(app, peer, whose, &identifier, "password", failure).await?;
    Ok(Attempt::Refused)
}

/// Whether the person signed in from there before. Others who guess make an account wait, but never
/// for its owner at home: changing addresses alone locks nobody out.
async fn knows_network(app: &App, user_id: &str, peer: &Peer) -> Result<bool, Problem> {
    let known = app.registry.list_sign_in_networks(user_id).await?;
    let here = network(peer.address);
    // A place, not an address: those of IPv6 change while one stays at home.
    let is_here = |one: &String| one.parse().ok().map(network) == Some(here);
    Ok(!is_unknown(peer.address) && known.iter().any(is_here))
}

/// A request without a socket comes from nowhere that could be known.
fn is_unknown(address: IpAddr) -> bool {
    address.is_unspecified()
}

/// Writes a failure down and counts it.
///
/// # Errors
/// [`Problem`] if it cannot be written.
pub(super) async fn record_failure(
    app: &App,
    peer: &Peer,
    user_id: Option<String>,
    identifier: &str,
    method: &str,
    failure: &str,
) -> Result<(), Problem> {
    app.operations.metrics.count_sign_in(method, false);
    app.registry
        .record_sign_in(&NewSignIn {
            user_id,
            identifier: identifier.to_owned(),
            method: method.to_owned(),
            failure: Some(failure.to_owned()),
            network: peer.network(),
            user_agent: peer.user_agent.clone(),
            session_id: None,
            device: None,
        })
        .await?;
    Ok(())
}
