//! Sign-ins, those that failed too: a history to look at, and a wait after wrong passwords.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{TokenDigest, lock_after};

use super::page::{self, Page, Position};
use super::{about, foreign, new_id, users};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

const SUCCEEDED: &str = "succeeded";
/// More than the addresses of one browser by IPv6 in the time that sign-ins are kept: one a day.
const MOST_NETWORKS: i64 = 500;

/// One attempt to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// Stable id.
    pub id: String,
    /// Unix ms.
    pub at: i64,
    /// Whose account, if there is one.
    pub user_id: Option<String>,
    /// What was typed, or what the provider said: foreign text, capped.
    pub identifier: String,
    /// `password`, `passkey`, a provider's id.
    pub method: String,
    /// `succeeded`, or why not.
    pub outcome: String,
    /// Where from.
    pub network: String,
    /// What the browser says it is.
    pub user_agent: String,
    /// The session that followed.
    pub session_id: Option<String>,
    /// Of the token by which the browser is known again; none for failures.
    pub device: Option<TokenDigest>,
}

/// An attempt that is to be written down.
#[derive(Clone, Debug)]
pub struct NewSignIn {
    /// Whose account, if there is one.
    pub user_id: Option<String>,
    /// What was typed, or what the provider said.
    pub identifier: String,
    /// `password`, `passkey`, a provider's id.
    pub method: String,
    /// None if it succeeded; otherwise why not, as a stable code.
    pub failure: Option<String>,
    /// Where from.
    pub network: String,
    /// What the browser says it is.
    pub user_agent: String,
    /// The session that followed.
    pub session_id: Option<String>,
    /// Of the token by which the browser is known again; none for failures.
    pub device: Option<TokenDigest>,
}

/// How an account stands after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignInStanding {
    /// Failures in a row.
    pub failures: i64,
    /// Nothing is tried before this moment.
    pub locked_until: Option<i64>,
    /// Somebody signed in with a browser that was not seen before.
    pub new_device: bool,
}

impl LocalRegistry {
    /// Writes an attempt down. From the fifth failure in a row the account waits, longer each time;
    /// a success ends that.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn record_sign_in(&self, new: &NewSignIn) -> Result<SignInStanding, RegistryError> {
        let sign_in = SignIn {
            id: new_id(),
            at: 0,
            user_id: new.user_id.clone(),
            identifier: foreign(&new.identifier),
            method: foreign(&new.method),
            outcome: new.failure.as_deref().map_or(SUCCEEDED.to_owned(), foreign),
            network: foreign(&new.network),
            user_agent: foreign(&new.user_agent),
            session_id: new.session_id.clone(),
            device: new.device,
        };
        self.write_anyway(sign_in, |unit, sign_in| Box::pin(record(unit, sign_in)))
            .await
    }

    /// One page of attempts, newest first: of one user, or all.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_sign_ins(
        &self,
        user_id: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<SignIn>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let connection = &mut *self.shared.pool.acquire().await?;
        let rows = store::people::sign_ins::list(connection, user_id, &after, limit + 1).await?;
        Ok(page::cut(rows, limit, |one| Position::of(one.at, &one.id)))
    }

    /// The addresses from which somebody signed in, the latest first, 500 at most. However many others
    /// fail, none of these is lost by it.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_sign_in_networks(&self, user_id: &str) -> Result<Vec<String>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::sign_ins::list_networks(connection, user_id, MOST_NETWORKS).await
    }
}

async fn record(unit: &mut Unit, sign_in: &SignIn) -> Result<SignInStanding, RegistryError> {
    let now = unit.now();
    let mut standing = SignInStanding {
        failures: 0,
        locked_until: None,
        new_device: false,
    };
    let user = match &sign_in.user_id {
        Some(id) => Some(users::find(unit, id).await?),
        None => None,
    };
    let succeeded = sign_in.outcome == SUCCEEDED;
    let mut action = if succeeded {
        AuditAction::SignInSucceeded
    } else {
        AuditAction::SignInFailed
    };
    let actor = match &user {
        // By id: names are what people call themselves, `keywright` or another's id among them.
        Some(user) if succeeded => Actor::person(&user.id),
        _ => Actor::keywright(),
    };
    if let Some(user) = &user {
        if succeeded {
            // Not by what the browser says it is: whoever has a password copies that.
            standing.new_device = match &sign_in.device {
                Some(device) => {
                    !store::people::sign_ins::knows_device(unit.read(), &user.id, device).await?
                }
                None => true,
            };
            store::people::users::signed_in(unit.write(), &user.id, now).await?;
        } else {
            standing.failures = store::people::users::count_failure(unit.write(), &user.id).await?;
            if let Some(wait) = lock_after(standing.failures) {
                let until = now.saturating_add(wait);
                store::people::users::lock_until(unit.write(), &user.id, until).await?;
                standing.locked_until = Some(until);
                action = AuditAction::UserLocked;
            }
        }
    }
    let sign_in = SignIn {
        at: now,
        ..sign_in.clone()
    };
    store::people::sign_ins::insert(unit.write(), &sign_in).await?;
    let (id, name) = user.map_or((String::new(), "Somebody".to_owned()), |user| {
        (user.id, user.name)
    });
    let verb = if succeeded {
        "signed in"
    } else {
        "could not sign in"
    };
    let mut details = vec![
        ("method", sign_in.method),
        ("outcome", sign_in.outcome),
        ("network", sign_in.network),
    ];
    if standing.failures > 0 {
        details.push(("failures", standing.failures.to_string()));
    }
    unit.audit(
        &actor,
        about(
            action,
            ("user", &id, &name),
            format!("“{name}” {verb}"),
            details,
        ),
    );
    Ok(standing)
}
