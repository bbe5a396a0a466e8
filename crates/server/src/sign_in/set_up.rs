//! The first set-up in the browser, guarded by a code that the terminal shows; invitations; and links
//! for another password.

pub(crate) mod first_owner;
pub(crate) mod invitation;
pub(crate) mod password_reset;

#[cfg(test)]
mod password_reset_tests;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use keywright_domain::SecretText;
use maud::{Markup, html};

use crate::http::failures::Failures;
use crate::problem::Problem;
use crate::server::App;
use crate::{PasswordError, passwords};

/// What the set-up keeps in memory.
#[derive(Debug)]
pub(crate) struct State {
    /// The code of the terminal; none where nothing is to be set up. Whoever holds the lock sets up.
    pub(crate) code: tokio::sync::Mutex<Option<SecretText>>,
    /// Wrong codes.
    failures: Failures,
}

impl Default for State {
    fn default() -> Self {
        Self {
            code: tokio::sync::Mutex::default(),
            failures: Failures::new(10, 60_000),
        }
    }
}

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/set-up",
            get(first_owner::show).post(first_owner::set_up_now),
        )
        .route(
            "/invitations/{token}",
            get(invitation::show).post(invitation::accept),
        )
        .route(
            "/password-reset/{token}",
            get(password_reset::show).post(password_reset::choose),
        )
}

/// A form that was not good: what to say above it.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    says: String,
}

impl From<PasswordError> for Refused {
    fn from(error: PasswordError) -> Self {
        let status = match error {
            PasswordError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            PasswordError::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, &error.to_string())
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status, &problem.detail)
    }
}

impl Refused {
    fn new(status: StatusCode, says: &str) -> Self {
        let mut letters = says.chars();
        let first: String = letters
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .collect();
        let says = format!("{first}{}.", letters.as_str());
        Self { status, says }
    }

    fn notice(refused: Option<&Self>) -> Markup {
        html! {
            @if let Some(refused) = refused {
                p.notice.error role="alert" { (refused.says) }
            }
        }
    }
}

/// The fields for a new password.
fn new_password() -> Markup {
    html! {
        label for="password" { "Password" }
        input #password type="password" name="password" required autocomplete="new-password"
            minlength=(passwords::SHORTEST) maxlength=(passwords::LONGEST)
            aria-describedby="password-hint";
        p.hint #password-hint {
            "At least " (passwords::SHORTEST) " characters. A sentence is easier to keep in mind than a riddle."
        }
    }
}
