//! Sessions and applications of an account at a Keywright server: told by the server's API, by the
//! account's own access token.

mod answers;
mod api;
mod error;

#[cfg(test)]
mod tests;

use keywright_protocol::sessions::{AccountSessionsView, EndedSessionsView};

pub use error::SessionsError;

use crate::{App, AppError};
use api::Api;

impl App {
    /// Where an account is signed in, and which applications have access to it.
    ///
    /// # Errors
    /// [`AppError::Sessions`]; [`AppError::SignIn`] if the server cannot be reached or the person
    /// must sign in again.
    pub async fn list_sessions(&self, account_id: String) -> Result<AccountSessionsView, AppError> {
        let api = Api::of(&self.inner, &account_id).await?;
        let (sessions, more_sessions) = api.list("sessions", answers::session).await?;
        let (applications, more_applications) = api
            .list("applications", |item| {
                answers::application(item, &api.account.client_id)
            })
            .await?;
        let mut view = AccountSessionsView {
            account_id,
            sessions,
            applications,
            more: more_sessions || more_applications,
        };
        let own_first = |current: bool| !current;
        view.sessions
            .sort_by_key(|one| (own_first(one.current), -one.last_used_at));
        view.applications
            .sort_by_key(|one| (own_first(one.current), one.name.to_lowercase()));
        Ok(view)
    }

    /// Ends a session of an account.
    ///
    /// # Errors
    /// As [`App::list_sessions`]; [`SessionsError::Gone`].
    pub async fn end_session(
        &self,
        account_id: String,
        session_id: String,
    ) -> Result<(), AppError> {
        let api = Api::of(&self.inner, &account_id).await?;
        api.delete("sessions", &session_id).await
    }

    /// Ends all sessions of an account but the one that this device was signed in through.
    ///
    /// # Errors
    /// As [`App::list_sessions`]; [`SessionsError::NoOwnSession`].
    pub async fn end_other_sessions(
        &self,
        account_id: String,
    ) -> Result<EndedSessionsView, AppError> {
        let api = Api::of(&self.inner, &account_id).await?;
        api.end_others().await
    }

    /// Takes an application's access to an account away.
    ///
    /// # Errors
    /// As [`App::list_sessions`]; [`SessionsError::Gone`].
    pub async fn end_application(
        &self,
        account_id: String,
        client_id: String,
    ) -> Result<(), AppError> {
        let api = Api::of(&self.inner, &account_id).await?;
        api.delete("applications", &client_id).await
    }
}
