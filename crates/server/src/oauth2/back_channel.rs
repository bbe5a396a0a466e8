//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): clients are told that a session
//! ended. Each is a message of the outbox: what fails is tried again, after a restart too (S50).

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use keywright_domain::people::Client;
use keywright_registry::RegistryError;
use keywright_registry::outbox::{Attempt, Channel, Claimed, MadeOf, NewMessage, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use url::Url;

use super::access_token::{new_jti, sign};
use crate::notices::retry::next_try;
use crate::rp::outbound::OutboundError;
use crate::server::App;
use crate::signing::{Alg, LOGOUT_TYPE};

/// A logout token is good for two minutes (§2.4).
const LIFE_S: i64 = 120;
const MOST_WAITING: usize = 1_000;
/// Taken at once by whoever ended a session; the rest is for the background.
const AT_ONCE: u32 = 16;

/// Bounds what is being written down.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Arc<Semaphore>,
}

impl Queue {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }
}

/// What a message holds: its token is made anew for each try.
#[derive(Serialize, Deserialize)]
struct Ended {
    user_id: String,
    session_id: String,
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

/// Tells every client of these sessions that has an address for it (S50). `clients`: session id and the
/// ids of its clients, read before the session ended.
pub(crate) fn sessions_ended(app: &App, user_id: &str, sessions: Vec<(String, Vec<String>)>) {
    if sessions.iter().all(|(_, clients)| clients.is_empty()) {
        return;
    }
    let Ok(place) = Arc::clone(&app.oauth2.extensions.logouts.waiting).try_acquire_owned() else {
        tracing::error!("too many sessions end at once: clients are not told");
        return;
    };
    let (app, user_id) = (Arc::clone(app), user_id.to_owned());
    tokio::spawn(async move {
        let told = tell(&app, &user_id, sessions).await;
        if let Err(error) = told {
            tracing::error!(code = error.code(), "clients were not told of a logout");
        }
        drop(place);
    });
}

async fn tell(
    app: &App,
    user_id: &str,
    sessions: Vec<(String, Vec<String>)>,
) -> Result<(), RegistryError> {
    let mut messages = Vec::new();
    for (session_id, clients) in sessions {
        for client_id in clients {
            let Ok(client) = app.registry.find_client(&client_id).await else {
                tracing::warn!(client = client_id, "a client was not told of a logout");
                continue;
            };
            if client.settings.backchannel_logout_uri.is_none() {
                continue;
            }
            let ended = Ended {
                user_id: user_id.to_owned(),
                session_id: session_id.clone(),
            };
            messages.push(NewMessage {
                event_id: format!("logout_{session_id}"),
                event_type: "session.ended".to_owned(),
                channel: Channel::Logout,
                target: client_id,
                body: serde_json::to_vec(&ended).unwrap_or_default(),
            });
        }
    }
    app.registry.enqueue(MadeOf::Else, messages).await?;
    // Not when the background looks next: a session that ended is worth a moment.
    for claimed in app
        .registry
        .claim_messages(&[Channel::Logout], AT_ONCE)
        .await?
    {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            if let Err(error) = deliver(&app, &claimed).await {
                tracing::warn!(code = error.code(), "a logout token has its turn again");
            }
        });
    }
    Ok(())
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
    let ended: Ended = serde_json::from_slice(&claimed.body)
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
