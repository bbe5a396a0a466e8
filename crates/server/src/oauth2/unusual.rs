//! What is unusual about the use of refresh tokens (S1-18): another place and another program at once, and
//! more refreshes than any program needs. It is written down and told, to webhooks and to the person by mail,
//! once a day for each grant, and refuses nobody: telephones travel, programs are updated, and a loop is no theft. What proves a theft, a
//! token that comes twice, ends its family where tokens are rotated.

use std::net::{IpAddr, Ipv4Addr};

use keywright_domain::audit::Actor;
use keywright_registry::people::Grant;

use crate::http::Peer;
use crate::http::failures::Failures;
use crate::http::peer::network;
use crate::notices::people;
use crate::server::App;

/// Refreshes of one grant within [`WINDOW_MS`] that are usual. Access tokens live for five minutes and more:
/// this is what a program and its retries may need many times over.
const MOST: u32 = 30;
const WINDOW_MS: i64 = 60_000;
/// Counted by grant alone.
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// It is written down so often for a grant at most.
const NOTED_MS: i64 = 24 * 60 * 60_000;
/// Where another node wrote it down, nobody here knows when: it is asked again after this time.
const ASKED_AGAIN_MS: i64 = 60 * 60_000;

/// What is kept in memory.
#[derive(Debug)]
pub(crate) struct State {
    refreshes: Failures,
    /// Grants of which it is written down: the database is not asked for each refresh. Bounded as
    /// failures are; one that was dropped is asked about again.
    noted: Failures,
}

impl State {
    /// Nothing seen yet.
    pub(crate) fn new() -> Self {
        Self {
            refreshes: Failures::new(MOST, WINDOW_MS),
            noted: Failures::new(1, NOTED_MS),
        }
    }

    /// Counts a refresh. What is unusual about it; nothing where that is written down already.
    fn reasons(&self, grant: &Grant, peer: &Peer, now: i64) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if is_elsewhere(grant, peer) {
            reasons.push("another network and another program");
        }
        if self.refreshes.check(ANYWHERE, &grant.id, now).is_err() {
            reasons.push("refreshed too often");
        }
        self.refreshes.count(ANYWHERE, &grant.id, now);
        if self.noted.check(ANYWHERE, &grant.id, now).is_err() {
            reasons.clear();
        }
        reasons
    }

    /// `since`: when it was written down.
    fn note(&self, grant_id: &str, since: i64) {
        self.noted.forget(ANYWHERE, grant_id);
        self.noted.count(ANYWHERE, grant_id, since);
    }
}

/// Looks at a refresh that was done. `grant`: as it was before. What cannot be written down is logged: the
/// answer does not depend on it.
pub(crate) async fn look(app: &App, grant: &Grant, peer: &Peer) {
    let (state, now) = (&app.oauth2.unusual, app.now());
    let reasons = state.reasons(grant, peer, now);
    if reasons.is_empty() {
        return;
    }
    let (app, grant, peer) = (App::clone(app), grant.clone(), peer.clone());
    // A task of its own: whoever asked may hang up, and the person is told all the same.
    let told = tokio::spawn(async move { tell(&app, &grant, &peer, &reasons, now).await });
    let _ = told.await;
}

async fn tell(app: &App, grant: &Grant, peer: &Peer, reasons: &[&'static str], now: i64) {
    let state = &app.oauth2.unusual;
    let actor = Actor::person(&grant.client_id).at(peer.address);
    let written = app
        .registry
        .note_unusual_use(&actor, &grant.id, &reasons.join(", "), &peer.user_agent)
        .await;
    match written {
        Ok(true) => {
            state.note(&grant.id, now);
            tracing::warn!(
                client = grant.client_id,
                grant = grant.id,
                ?reasons,
                "unusual use of a grant"
            );
            people::tell_of_unusual_use(app, grant, peer, reasons).await;
            app.notices.wake();
        }
        Ok(false) => state.note(&grant.id, now - NOTED_MS + ASKED_AGAIN_MS),
        Err(error) => tracing::warn!(code = error.code(), "unusual use was not written down"),
    }
}

/// Whether a grant is used from a network where it was not used the last time, by a program that says it is
/// another than the one that got it. Either alone is what happens every day.
fn is_elsewhere(grant: &Grant, peer: &Peer) -> bool {
    let before: Option<IpAddr> = grant.network.parse().ok();
    // A request without a socket, and a grant from before anybody wrote down where from, are nowhere.
    let Some(before) = before.filter(|_| !peer.address.is_unspecified()) else {
        return false;
    };
    network(before) != network(peer.address)
        && program(&grant.user_agent) != program(&peer.user_agent)
}

/// A program without its version: an update is not another program.
fn program(user_agent: &str) -> String {
    let letters = user_agent.chars().filter(|letter| letter.is_alphabetic());
    letters.take(200).collect()
}

#[cfg(test)]
mod tests;
