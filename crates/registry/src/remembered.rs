//! Rows that nearly every request of a server asks for, kept in memory: clients with their secrets,
//! people, sessions and lists of them. On SQLite only, where it is exact
//! ([decision 17](../../../docs/decisions/0017-rows-in-memory.md)).
//!
//! Two things make a row old, and both empty this whole memory. A commit of this process: the writer
//! says before it whether it touched any such row, and unless a use case says that it did not, it
//! did. A commit of another process: the header of the write-ahead log's index is not what the last
//! commit of ours left (as for keys, see [`crate::freshness`]); it is read after each lookup.
//!
//! What is read from the database is kept only if nothing was forgotten since before it was read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use keywright_domain::people::{Client, Session, TokenDigest};

use crate::Shared;
use crate::people::clients::ClientSecretRecord;
use crate::people::users::User;

/// At most so many rows of a kind.
const MOST: usize = 10_000;
/// How often a lookup waits for a commit that is being answered before it asks the database.
const TURNS: usize = 4;

/// A client with its secrets that had not ended when it was read, newest first.
#[derive(Debug)]
pub(crate) struct KnownClient {
    pub(crate) client: Arc<Client>,
    pub(crate) secrets: Arc<[ClientSecretRecord]>,
}

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) clients: HashMap<String, Arc<KnownClient>>,
    pub(crate) users: HashMap<String, Arc<User>>,
    /// By the digest of the cookie's token.
    pub(crate) sessions: HashMap<TokenDigest, Arc<Session>>,
    pub(crate) sessions_by_id: HashMap<String, Arc<Session>>,
    /// The first page of a user's sessions that were good when it was read, with one row more than
    /// the page has; by user and size of the page.
    pub(crate) session_lists: HashMap<(String, i64), Arc<[Session]>>,
    /// Ids of the clients of a session.
    pub(crate) session_clients: HashMap<String, Arc<[String]>>,
}

/// One kind of rows.
pub(crate) type Kind<K, V> = fn(&mut Rows) -> &mut HashMap<K, V>;

/// What the writer is about to commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Commit {
    /// Nothing.
    #[default]
    None,
    /// Rows of other kinds.
    Beside,
    /// Rows that may be remembered.
    Through,
}

#[derive(Debug, Default)]
struct State {
    rows: Rows,
    /// The log's header when the rows were as new as the database.
    header: Option<[u8; 48]>,
    commit: Commit,
    /// Counts how often everything was forgotten.
    generation: u64,
}

impl State {
    fn forget(&mut self) {
        self.rows = Rows::default();
        self.generation += 1;
    }

    /// Whether the rows are as new as the database, whose header is this; none if that shows soon.
    fn is_true(&self, header: [u8; 48]) -> Option<bool> {
        let Some(known) = self.header else {
            return Some(false);
        };
        match self.commit {
            Commit::None => Some(known == header),
            Commit::Through => Some(false),
            // The lock is ours until COMMIT: as long as nothing was committed, nobody else did.
            Commit::Beside if commits(&known) == commits(&header) => Some(true),
            // Most likely that was us. It is known in a moment.
            Commit::Beside => None,
        }
    }
}

/// What was found.
enum Found<V> {
    Row(V),
    Nothing,
    Unsure,
}

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Remembered(RwLock<State>);

/// How many commits there were (`iChange`, sqlite.org/walformat.html §2.1).
fn commits(header: &[u8; 48]) -> u32 {
    let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *header;
    u32::from_ne_bytes([a, b, c, d])
}

impl Remembered {
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find<V>(&self, shared: &Shared, read: impl Fn(&Rows) -> Option<V>) -> Found<V> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(row) = read(&state.rows) else {
            return Found::Nothing;
        };
        // After the lookup: what was committed before the question is seen.
        let Some(header) = shared
            .freshness
            .header()
            .filter(|_| !shared.pool.is_closed())
        else {
            return Found::Nothing;
        };
        match state.is_true(header) {
            Some(true) => Found::Row(row),
            Some(false) => Found::Nothing,
            None => Found::Unsure,
        }
    }

    /// A row as it is in the database now, if it is remembered.
    pub(crate) async fn get<V>(
        &self,
        shared: &Shared,
        read: impl Fn(&Rows) -> Option<V>,
    ) -> Option<V> {
        for _ in 0..TURNS {
            match self.find(shared, &read) {
                Found::Row(row) => return Some(row),
                Found::Nothing => return None,
                // The writer's task is next.
                Found::Unsure => tokio::task::yield_now().await,
            }
        }
        None
    }

    /// The same for the writer, whose lock keeps everybody else from committing.
    pub(crate) fn get_now<V>(
        &self,
        shared: &Shared,
        read: impl Fn(&Rows) -> Option<V>,
    ) -> Option<V> {
        match self.find(shared, read) {
            Found::Row(row) => Some(row),
            Found::Nothing | Found::Unsure => None,
        }
    }

    /// To be asked before the database is read, for [`Self::put`]. None where nothing is kept.
    pub(crate) fn before_reading(&self, shared: &Shared) -> Option<u64> {
        let mut state = self.write();
        let header = shared.freshness.header()?;
        if state.commit == Commit::None && state.header != Some(header) {
            // Another process wrote. What is read from now on has it.
            state.forget();
            state.header = Some(header);
        }
        (state.commit != Commit::Through).then_some(state.generation)
    }

    /// Keeps a row that was read after [`Self::before_reading`].
    pub(crate) fn put<K: Eq + Hash + Clone, V>(
        &self,
        generation: Option<u64>,
        kind: Kind<K, V>,
        key: K,
        row: V,
    ) {
        let Some(generation) = generation else { return };
        let mut state = self.write();
        if state.generation != generation || state.commit == Commit::Through {
            return;
        }
        let rows = kind(&mut state.rows);
        if rows.len() >= MOST
            && let Some(any) = rows.keys().next().cloned()
        {
            rows.remove(&any);
        }
        rows.insert(key, row);
    }

    /// The writer has the lock: nobody else commits until it does.
    pub(crate) fn begun(&self, shared: &Shared) {
        let header = shared.freshness.header();
        let mut state = self.write();
        if header.is_none() || state.header != header {
            state.forget();
            state.header = header;
        }
    }

    /// The writer commits now. `through`: unless it is known that no such row was touched.
    pub(crate) fn before_commit(&self, through: bool) {
        let mut state = self.write();
        if through {
            state.forget();
        }
        state.commit = if through {
            Commit::Through
        } else {
            Commit::Beside
        };
    }

    /// The writer's commit was answered; nobody is told of it yet.
    pub(crate) fn after_commit(&self, shared: &Shared) {
        let mut state = self.write();
        let header = shared.freshness.header();
        let ours = state
            .header
            .zip(header)
            .is_some_and(|(old, new)| commits(&new) == commits(&old).wrapping_add(1));
        // What was read while it was under way may be from before it.
        if state.commit == Commit::Through || !ours {
            state.forget();
        }
        state.header = header;
        state.commit = Commit::None;
    }

    /// Whether the commit took place is not known.
    pub(crate) fn after_unknown(&self) {
        let mut state = self.write();
        state.forget();
        state.header = None;
        state.commit = Commit::None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use keywright_domain::audit::Actor;
    use keywright_domain::people::{AuthMethod, ClientType, NewClient, OAuthScopes};

    use crate::{Clock, LocalRegistry};

    fn holds(registry: &LocalRegistry) -> bool {
        let shared = &registry.shared;
        let known = shared
            .remembered
            .get_now(shared, |rows| rows.clients.get("app").cloned());
        known.is_some()
    }

    #[tokio::test]
    async fn what_touches_no_remembered_row_leaves_them_and_everything_else_takes_them_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry/registry.db");
        let registry = LocalRegistry::open(&file, Clock::system()).await.unwrap();
        let other = LocalRegistry::open(&file, Clock::system()).await.unwrap();
        let client = NewClient {
            name: "App".into(),
            client_type: ClientType::Public,
            auth_method: AuthMethod::None,
            jwks: None,
            redirect_uris: vec!["http://127.0.0.1/callback".into()],
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            grant_types: vec!["authorization_code".into()],
            scopes: OAuthScopes::parse("openid").unwrap(),
            signing_alg: "RS256".into(),
            require_pkce: true,
            require_dpop: false,
            fapi: false,
        };
        let actor = Actor::keywright();
        registry
            .add_client(&actor, "app", &client, None)
            .await
            .unwrap();
        assert!(!holds(&registry), "nobody asked yet");
        registry.find_client("app").await.unwrap();
        assert!(holds(&registry));
        // A commit of ours beside it, with a row and without one.
        for _ in 0..3 {
            registry
                .write((), |unit, ()| {
                    Box::pin(async move {
                        unit.write_beside();
                        Ok(())
                    })
                })
                .await
                .unwrap();
            assert!(holds(&registry), "beside");
        }
        // One that says nothing of itself.
        registry
            .write((), |unit, ()| {
                Box::pin(async move {
                    unit.write();
                    Ok(())
                })
            })
            .await
            .unwrap();
        assert!(!holds(&registry), "through");
        // Another process, whatever it writes.
        registry.find_client("app").await.unwrap();
        assert!(holds(&registry));
        other
            .write((), |unit, ()| {
                Box::pin(async move {
                    unit.write_beside();
                    Ok(())
                })
            })
            .await
            .unwrap();
        assert!(!holds(&registry), "another process");
        registry.find_client("app").await.unwrap();
        assert!(holds(&registry));
        registry.close().await;
        assert!(!holds(&registry), "closed");
        assert!(registry.find_client("app").await.is_err());
        other.close().await;
    }
}
