//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): clients are told that a session
//! ended. Each is a message of the outbox, written with the end of the session: nobody is forgotten in a
//! crash, and what fails is tried again (S50).

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use keywright_domain::people::Client;
use keywright_registry::RegistryError;
use keywright_registry::outbox::{Attempt, Channel, Claimed, Outcome};
use keywright_registry::people::Logout;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use super::access_token::{new_jti, sign};
use crate::notices::retry::next_try;
use crate::rp::outbound::OutboundError;
use crate::server::App;
use crate::signing::{Alg, LOGOUT_TYPE};

/// A logout token is good for two minutes (§2.4).
const LIFE_S: i64 = 120;
/// Taken at once by whoever ended a session; the rest is for the background.
const AT_ONCE: u32 = 16;
/// So many look at once, and send what they found: clients that answer slowly hold up the background at worst.
const MOST_AT_ONCE: usize = 16;

/// Bounds those who do not wait for the background.
#[derive(Debug)]
pub(crate) struct Hurry {
    places: Arc<Semaphore>,
}

impl Hurry {
    /// Nobody is on the way.
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        }
    }
}

/// Claims of a logout token (§2.4). Never a nonce.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    sid: &'a str,
    events: Value,
}

/// Sends logout tokens that the registry wrote down with the end of a session, without waiting for the
/// background to look: a session that ended is worth a moment. What is not sent from here is sent from
/// there.
pub(crate) fn deliver_soon(app: &App) {
    let Ok(place) = Arc::clone(&app.oauth2.extensions.logouts.places).try_acquire_owned() else {
        app.notices.wake();
        return;
    };
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let claimed = app
            .registry
            .claim_messages(&[Channel::Logout], AT_ONCE)
            .await;
        let mut on_their_way = JoinSet::new();
        match claimed {
            Ok(claimed) => {
                for one in claimed {
                    let app = Arc::clone(&app);
                    on_their_way.spawn(async move {
                        if let Err(error) = deliver(&app, &one).await {
                            tracing::warn!(
                                code = error.code(),
                                "a logout token has its turn again"
                            );
                        }
                    });
                }
            }
            Err(error) => tracing::warn!(code = error.code(), "logout tokens wait for their turn"),
        }
        while on_their_way.join_next().await.is_some() {}
        drop(place);
    });
}

/// Tries once, and writes down what came of it.
///
/// # Errors
/// [`RegistryError`]: then the message is free again when its claim runs out.
pub(crate) async fn deliver(app: &App, claimed: &Claimed) -> Result<(), RegistryError> {
    let message = &claimed.message;
    let (at, begun) = (app.now(), Instant::now());
    let sent = try_once(app, claimed).await;
    let (outcome, error) = match &sent {
        Ok(()) => {
            tracing::info!(
                client = message.target,
                tries = message.attempts,
                "a client was told of a logout"
            );
            (Outcome::Delivered, None)
        }
        Err(Failed::Final(why)) => {
            tracing::warn!(
                client = message.target,
                why,
                "a client cannot be told of a logout"
            );
            (Outcome::Failed, Some(*why))
        }
        Err(Failed::Again(why)) => {
            let again = next_try(message.attempts, app.now());
            tracing::warn!(
                client = message.target,
                why,
                tries = message.attempts,
                given_up = again.is_none(),
                "a client was not told of a logout"
            );
            (again.map_or(Outcome::Failed, Outcome::Again), Some(*why))
        }
    };
    let attempt = Attempt {
        attempt: message.attempts,
        at,
        duration_ms: i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX),
        status: None,
        error: error.map(str::to_owned),
        excerpt: String::new(),
    };
    crate::notices::record(app, message, attempt, outcome).await
}

async fn try_once(app: &App, claimed: &Claimed) -> Result<(), Failed> {
    let ended: Logout = serde_json::from_slice(&claimed.body)
        .map_err(|_| Failed::Final("nothing is known of it"))?;
    let client = match app.registry.find_client(&claimed.message.target).await {
        Ok(client) => client,
        Err(RegistryError::People(_)) => return Err(Failed::Final("there is no such client")),
        Err(_) => return Err(Failed::Again("the registry does not answer")),
    };
    let Some(address) = client.settings.backchannel_logout_uri.clone() else {
        return Err(Failed::Final("it has no address for it any more"));
    };
    send(app, &client, &ended.user_id, &ended.session_id, &address).await
}

/// Why a client was not told.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// More tries would not help.
    Final(&'static str),
    /// It may work later.
    Again(&'static str),
}

async fn send(
    app: &App,
    client: &Client,
    user_id: &str,
    session_id: &str,
    address: &str,
) -> Result<(), Failed> {
    let alg = Alg::parse(&client.settings.signing_alg).ok_or(Failed::Final("no such algorithm"))?;
    let now = app.now() / 1000;
    let claims = Claims {
        iss: app.settings.issuer.as_str(),
        sub: user_id,
        aud: &client.id,
        iat: now,
        exp: now + LIFE_S,
        jti: new_jti(),
        sid: session_id,
        events: json!({ "http://schemas.openid.net/event/backchannel-logout": {} }),
    };
    let token =
        sign(app, alg, LOGOUT_TYPE, &claims).map_err(|_| Failed::Again("nothing can be signed"))?;
    let url = Url::parse(address).map_err(|_| Failed::Final("its address is none"))?;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("logout_token", &token)
        .finish();
    let answer = app.rp.http.post_form(&url, form, None).await;
    match answer.map(|answer| answer.status) {
        Ok(200..=299) => Ok(()),
        // §2.8: the client did not take it; it will not take it again.
        Ok(400..=407 | 409..=428 | 430..=499) => Err(Failed::Final("it answered with a refusal")),
        Ok(_) => Err(Failed::Again("it answered with an error")),
        Err(OutboundError::Redirect(_)) => Err(Failed::Final("it answered with a redirect")),
        Err(OutboundError::Insecure(_)) => Err(Failed::Final("its address is not https")),
        // A name may lead elsewhere tomorrow.
        Err(OutboundError::Forbidden(_)) => Err(Failed::Again("its address is private")),
        Err(OutboundError::Timeout(_)) => Err(Failed::Again("it did not answer in time")),
        Err(_) => Err(Failed::Again("no answer")),
    }
}
