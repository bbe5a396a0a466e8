//! What is written down of clients' own access tokens (RFC 6749 §4.4). The token itself needs no row:
//! it is signed, and denied by its `jti`. The first one of a client in a while has an event of its own
//! before it is given; those that follow within about a second share one, written a moment later.
//! If the process is killed in that second, the log lacks that event and nothing else is lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{Client, OAuthScopes, PeopleError};

use super::clients::about_client;
use crate::{LocalRegistry, RegistryError};

/// At most so many clients and scopes are kept apart; more are written at once.
const MOST: usize = 10_000;
/// So many tokens of one event are named; the rest is counted.
const NAMED: usize = 32;

/// Tokens of one client with the same scopes, since the last event.
#[derive(Clone, Debug)]
struct Tokens {
    client: Arc<Client>,
    scopes: String,
    count: u64,
    jtis: Vec<String>,
}

impl Tokens {
    fn of_none(client: &Arc<Client>, scopes: &str) -> Self {
        Self {
            client: Arc::clone(client),
            scopes: scopes.to_owned(),
            count: 0,
            jtis: Vec::new(),
        }
    }

    fn add(&mut self, count: u64, jtis: impl IntoIterator<Item = String>) {
        self.count += count;
        let room = NAMED.saturating_sub(self.jtis.len());
        self.jtis.extend(jtis.into_iter().take(room));
    }
}

/// By client and scopes.
type Open = HashMap<(String, String), Tokens>;

/// Tokens that wait for their event.
#[derive(Debug, Default)]
pub(crate) struct ClientTokens(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: Open,
    /// The last event could not be written: nothing waits until one can.
    failing: bool,
}

impl ClientTokens {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a token, if an event for such tokens is open. Otherwise opens one.
    fn joins(&self, client: &Arc<Client>, scopes: &OAuthScopes, jti: &str) -> bool {
        let mut state = self.state();
        if state.failing {
            return false;
        }
        let key = (client.id.clone(), scopes.to_string());
        if let Some(tokens) = state.open.get_mut(&key) {
            tokens.add(1, [jti.to_owned()]);
            return true;
        }
        if state.open.len() < MOST {
            let none = Tokens::of_none(client, &key.1);
            state.open.insert(key, none);
        }
        false
    }

    /// Takes what waits. What nobody joined since the last time is closed.
    fn take(&self) -> Vec<Tokens> {
        let mut state = self.state();
        state.open.retain(|_, tokens| tokens.count > 0);
        let waiting = state.open.values().cloned().collect();
        for tokens in state.open.values_mut() {
            (tokens.count, tokens.jtis) = (0, Vec::new());
        }
        waiting
    }

    fn give_back(&self, waiting: Vec<Tokens>) {
        let mut state = self.state();
        for tokens in waiting {
            let key = (tokens.client.id.clone(), tokens.scopes.clone());
            let none = || Tokens::of_none(&tokens.client, &tokens.scopes);
            let open = state.open.entry(key).or_insert_with(none);
            open.add(tokens.count, tokens.jtis);
        }
    }
}

impl LocalRegistry {
    /// Writes down that a client was given an access token of its own (RFC 6749 §4.4). Nothing else is
    /// kept of such a token.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`]; [`PeopleError::Client`] for one that may not have any;
    /// [`RegistryError`] if nothing can be written: then it must not be given.
    pub async fn record_client_token(
        &self,
        client_id: &str,
        jti: &str,
        scopes: &OAuthScopes,
    ) -> Result<(), RegistryError> {
        let client = self.find_client(client_id).await?;
        if !client.may_use("client_credentials") {
            return Err(PeopleError::Client("it may not have tokens of its own").into());
        }
        let waiting = &self.shared.client_tokens;
        if waiting.joins(&client, scopes, jti) {
            return Ok(());
        }
        let mut one = Tokens::of_none(&client, &scopes.to_string());
        one.add(1, [jti.to_owned()]);
        let written = self.write_client_tokens(vec![one]).await;
        waiting.state().failing = written.is_err();
        written
    }

    /// Writes the events of clients' own tokens that wait in memory.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; they wait on, and no more tokens may be given
    /// until something can. After [`RegistryError::CommitUnknown`] they are given up: no token is
    /// counted twice.
    pub async fn flush_client_tokens(&self) -> Result<(), RegistryError> {
        let tokens = &self.shared.client_tokens;
        let waiting = tokens.take();
        if waiting.is_empty() {
            return Ok(());
        }
        let written = self.write_client_tokens(waiting.clone()).await;
        match &written {
            Ok(()) | Err(RegistryError::CommitUnknown(_)) => {}
            Err(_) => tokens.give_back(waiting),
        }
        tokens.state().failing = written.is_err();
        written
    }

    async fn write_client_tokens(&self, waiting: Vec<Tokens>) -> Result<(), RegistryError> {
        self.write(waiting, |unit, waiting| {
            Box::pin(async move {
                for tokens in waiting {
                    let action = AuditAction::ClientTokenIssued;
                    let verb = match tokens.count {
                        1 => "given a token of its own".to_owned(),
                        count => format!("given {count} tokens of its own"),
                    };
                    let mut event = about_client(action, &tokens.client, &verb);
                    if tokens.count > 1 {
                        event.details.push(("count", tokens.count.to_string()));
                    }
                    event.details.push(("jti", tokens.jtis.join(" ")));
                    event.details.push(("scopes", tokens.scopes.clone()));
                    unit.audit(&Actor::person(&tokens.client.id), event);
                }
                Ok(())
            })
        })
        .await
    }
}
