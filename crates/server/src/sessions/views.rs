//! What the review shows of sessions, applications and sign-ins: the same facts in the API and on the
//! page.

use std::collections::{BTreeMap, HashMap};

use keywright_domain::people::Session;
use keywright_registry::RegistryError;
use keywright_registry::people::{Grant, SignIn};
use serde::Serialize;

use super::user_agent::{self, Device};
use crate::problem::Problem;
use crate::server::App;

/// Grants of one person that are read for the review; nobody has as many.
const MOST_GRANTS: usize = 5_000;

/// A session, for its person or an administrator. Times are Unix milliseconds.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SessionView {
    /// Stable id: `sid` of tokens.
    pub(crate) id: String,
    /// The session that asks.
    pub(crate) current: bool,
    /// What the browser says it is, in few words.
    #[serde(flatten)]
    pub(crate) device: Device,
    /// What the browser says it is.
    pub(crate) user_agent: String,
    /// The address it was last used from.
    pub(crate) address: String,
    /// When it began.
    pub(crate) signed_in_at: i64,
    /// When the person last proved who they are.
    pub(crate) authenticated_at: i64,
    /// When it was last used, exact to five minutes.
    pub(crate) last_used_at: i64,
    /// When it ends if nobody comes back.
    pub(crate) expires_at: i64,
    /// When it ends in any case.
    pub(crate) ends_at: i64,
    /// Ways of the proof (RFC 8176).
    pub(crate) amr: Vec<String>,
    /// Level of the proof.
    pub(crate) acr: String,
    /// Applications that were signed in through it.
    pub(crate) clients: Vec<ClientView>,
}

/// An application, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ClientView {
    /// `client_id`.
    pub(crate) id: String,
    /// Name.
    pub(crate) name: String,
}

/// An application that has access. Times are Unix milliseconds.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ApplicationView {
    /// `client_id`.
    pub(crate) client_id: String,
    /// Name.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) scopes: Vec<String>,
    /// When it was first allowed something.
    pub(crate) allowed_at: i64,
    /// When it last asked for a token; none if it has no standing access.
    pub(crate) last_used_at: Option<i64>,
    /// Standing access: one for each time it was authorized.
    pub(crate) grants: Vec<GrantView>,
}

/// Standing access of an application: a family of refresh tokens.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct GrantView {
    /// Stable id.
    pub(crate) id: String,
    /// `code` or `device`.
    pub(crate) origin: String,
    /// The session it was given in.
    pub(crate) session_id: Option<String>,
    /// What the program says it is.
    #[serde(flatten)]
    pub(crate) device: Device,
    /// The address it was last used from.
    pub(crate) address: String,
    /// What it allows.
    pub(crate) scopes: Vec<String>,
    /// When it was given.
    pub(crate) created_at: i64,
    /// When it was last used.
    pub(crate) last_used_at: i64,
    /// When it ends in any case.
    pub(crate) expires_at: i64,
}

/// An attempt to sign in.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SignInView {
    /// Stable id.
    pub(crate) id: String,
    /// Unix milliseconds.
    pub(crate) at: i64,
    /// Whether it succeeded.
    pub(crate) succeeded: bool,
    /// `succeeded`, or why not.
    pub(crate) outcome: String,
    /// `password`, `passkey`, or a provider's id.
    pub(crate) method: String,
    /// What the browser says it is, in few words.
    #[serde(flatten)]
    pub(crate) device: Device,
    /// Where from.
    pub(crate) address: String,
    /// The session that followed.
    pub(crate) session_id: Option<String>,
}

impl From<SignIn> for SignInView {
    fn from(one: SignIn) -> Self {
        Self {
            succeeded: one.outcome == "succeeded",
            device: user_agent::read(&one.user_agent),
            id: one.id,
            at: one.at,
            outcome: one.outcome,
            method: one.method,
            address: one.network,
            session_id: one.session_id,
        }
    }
}

/// Names of clients, each read once.
#[derive(Debug, Default)]
struct Names(HashMap<String, String>);

impl Names {
    async fn of(&mut self, app: &App, id: &str) -> Result<String, Problem> {
        if let Some(name) = self.0.get(id) {
            return Ok(name.clone());
        }
        let name = match app.registry.find_client(id).await {
            Ok(client) => client.settings.name.clone(),
            // It is not there any more: its id is what is left of it.
            Err(RegistryError::People(_)) => id.to_owned(),
            Err(error) => return Err(error.into()),
        };
        self.0.insert(id.to_owned(), name.clone());
        Ok(name)
    }
}

/// Sessions with all that the review shows. `current`: the session that asks.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn sessions(
    app: &App,
    rows: Vec<Session>,
    current: Option<&str>,
) -> Result<Vec<SessionView>, Problem> {
    let mut names = Names::default();
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let mut clients = Vec::new();
        for id in app.registry.list_session_clients(&row.id).await?.iter() {
            let name = names.of(app, id).await?;
            let id = id.clone();
            clients.push(ClientView { id, name });
        }
        views.push(SessionView {
            current: current == Some(row.id.as_str()),
            device: user_agent::read(&row.user_agent),
            expires_at: row.runs_out_at(),
            ends_at: row.expires_at,
            signed_in_at: row.created_at,
            authenticated_at: row.authenticated_at,
            last_used_at: row.last_seen_at,
            amr: row.amr.split_whitespace().map(str::to_owned).collect(),
            acr: row.acr,
            address: row.network,
            user_agent: row.user_agent,
            id: row.id,
            clients,
        });
    }
    Ok(views)
}

/// All applications of a person, by `client_id`: what they allowed, and who has standing access.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn applications(
    app: &App,
    user_id: &str,
) -> Result<BTreeMap<String, ApplicationView>, Problem> {
    let mut names = Names::default();
    let mut all: BTreeMap<String, ApplicationView> = BTreeMap::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = app
            .registry
            .list_consents(user_id, cursor.as_deref(), 500)
            .await?;
        for consent in page.items {
            let view = ApplicationView {
                name: names.of(app, &consent.client_id).await?,
                scopes: consent.scopes.as_slice().to_vec(),
                allowed_at: consent.created_at,
                last_used_at: None,
                grants: Vec::new(),
                client_id: consent.client_id.clone(),
            };
            all.insert(consent.client_id, view);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    for grant in grants(app, user_id).await? {
        let name = names.of(app, &grant.client_id).await?;
        let view = all
            .entry(grant.client_id.clone())
            .or_insert_with(|| ApplicationView {
                client_id: grant.client_id.clone(),
                name,
                scopes: Vec::new(),
                allowed_at: grant.created_at,
                last_used_at: None,
                grants: Vec::new(),
            });
        for scope in grant.scopes.as_slice() {
            if !view.scopes.contains(scope) {
                view.scopes.push(scope.clone());
            }
        }
        view.last_used_at = view.last_used_at.max(Some(grant.last_used_at));
        view.grants.push(GrantView {
            device: user_agent::read(&grant.user_agent),
            origin: grant.origin.as_str().to_owned(),
            scopes: grant.scopes.as_slice().to_vec(),
            id: grant.id,
            session_id: grant.session_id,
            address: grant.network,
            created_at: grant.created_at,
            last_used_at: grant.last_used_at,
            expires_at: grant.expires_at,
        });
    }
    Ok(all)
}

/// The grants of a person that still give something.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn grants(app: &App, user_id: &str) -> Result<Vec<Grant>, Problem> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = app
            .registry
            .list_grants(user_id, cursor.as_deref(), 500)
            .await?;
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() || all.len() >= MOST_GRANTS {
            return Ok(all);
        }
    }
}
