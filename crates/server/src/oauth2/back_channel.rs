//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): clients are told that a session
//! ended. In the background, with a few tries; what cannot be delivered is in the log (S50).

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use keywright_domain::people::Client;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::access_token::{new_jti, sign};
use crate::server::App;
use crate::signing::{Alg, LOGOUT_TYPE};

/// A logout token is good for two minutes (§2.4).
const LIFE_S: i64 = 120;
/// One try takes no longer.
const TIME_OUT: Duration = Duration::from_secs(5);
/// Waits before further tries.
const BACK_OFF: [Duration; 3] = if cfg!(test) {
    [Duration::from_millis(10); 3]
} else {
    [
        Duration::from_secs(2),
        Duration::from_secs(15),
        Duration::from_secs(120),
    ]
};
const MOST_WAITING: usize = 1_000;
const MOST_AT_ONCE: usize = 8;

/// Bounds what is on its way.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Arc<Semaphore>,
    sending: Arc<Semaphore>,
}

impl Queue {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            sending: Arc::new(Semaphore::new(MOST_AT_ONCE)),
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

/// Tells every client of these sessions that has an address for it, in the background: bounded tries,
/// failures recorded (S50). `clients`: session id and the ids of its clients, read before the session
/// ended.
pub(crate) fn sessions_ended(app: &App, user_id: &str, sessions: Vec<(String, Vec<String>)>) {
    for (session_id, clients) in sessions {
        for client_id in clients {
            let waiting = Arc::clone(&app.oauth2.extensions.logouts.waiting);
            let Ok(place) = waiting.try_acquire_owned() else {
                tracing::warn!(client = client_id, "too many logout tokens wait: not told");
                continue;
            };
            let (app, user_id, session_id) =
                (Arc::clone(app), user_id.to_owned(), session_id.clone());
            tokio::spawn(async move {
                tell(&app, &user_id, &session_id, &client_id).await;
                drop(place);
            });
        }
    }
}

async fn tell(app: &App, user_id: &str, session_id: &str, client_id: &str) {
    let client = match app.registry.find_client(client_id).await {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(
                client = client_id,
                code = error.code(),
                "a client was not told of a logout"
            );
            return;
        }
    };
    let Some(address) = client.settings.backchannel_logout_uri.clone() else {
        return;
    };
    for (tries, wait) in [Duration::ZERO].into_iter().chain(BACK_OFF).enumerate() {
        tokio::time::sleep(wait).await;
        let Ok(_turn) = app.oauth2.extensions.logouts.sending.acquire().await else {
            return;
        };
        match send(app, &client, user_id, session_id, &address).await {
            Ok(()) => {
                tracing::info!(client = client.id, tries, "a client was told of a logout");
                return;
            }
            Err(Failed::Final(why)) => {
                tracing::warn!(
                    client = client.id,
                    why,
                    "a client cannot be told of a logout"
                );
                return;
            }
            Err(Failed::Again(why)) => {
                tracing::warn!(
                    client = client.id,
                    why,
                    tries,
                    "a client was not told of a logout"
                );
            }
        }
    }
    tracing::error!(
        client = client.id,
        "a client was not told of a logout: given up"
    );
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
    let (url, addresses) = resolve(address, app.settings.allow_private_addresses).await?;
    let mut builder = reqwest::Client::builder()
        // A redirect could lead where we must not ask, and a proxy would look names up by itself.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIME_OUT);
    if let Some(host) = url.domain() {
        // Asked where we looked: a name cannot turn private between the check and the request.
        builder = builder.resolve_to_addrs(host, &addresses);
    }
    let http = builder
        .build()
        .map_err(|_| Failed::Again("no HTTP client"))?;
    let answer = http
        .post(url)
        .form(&[("logout_token", token)])
        .send()
        .await
        .map_err(|_| Failed::Again("no answer"))?;
    match answer.status().as_u16() {
        200..=299 => Ok(()),
        // §2.8: the client did not take it; it will not take it again.
        400..=407 | 409..=428 | 430..=499 => Err(Failed::Final("it answered with a refusal")),
        300..=399 => Err(Failed::Final("it answered with a redirect")),
        _ => Err(Failed::Again("it answered with an error")),
    }
}

/// Where an address leads, if we may ask there (SSRF): https anywhere public; http and private
/// addresses where the settings allow them.
async fn resolve(address: &str, allow_private: bool) -> Result<(Url, Vec<SocketAddr>), Failed> {
    let url = Url::parse(address).map_err(|_| Failed::Final("its address is none"))?;
    if url.scheme() != "https" && !(url.scheme() == "http" && allow_private) {
        return Err(Failed::Final("its address is not https"));
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let found: Vec<SocketAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => vec![SocketAddr::new(ip.into(), port)],
        Some(Host::Ipv6(ip)) => vec![SocketAddr::new(ip.into(), port)],
        Some(Host::Domain(name)) => {
            let looked_up = tokio::time::timeout(TIME_OUT, tokio::net::lookup_host((name, port)));
            match looked_up.await {
                Ok(Ok(found)) => found.collect(),
                _ => return Err(Failed::Again("its name was not found")),
            }
        }
        None => return Err(Failed::Final("its address has no host")),
    };
    if found.is_empty() {
        return Err(Failed::Again("its name was not found"));
    }
    if !allow_private && !found.iter().all(|one| is_public(one.ip())) {
        return Err(Failed::Final("its address is private"));
    }
    Ok((url, found))
}

/// Whether an address is of the public internet.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b == 18 || b == 19))
                || (a == 192 && b == 0 && c == 0))
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            // Only 2000::/3 is given out; 6to4, NAT64 and Teredo could lead back inside.
            (a & 0xe000) == 0x2000 && a != 0x2002 && !(a == 0x2001 && (b == 0 || b == 0xdb8))
        }
    }
}
