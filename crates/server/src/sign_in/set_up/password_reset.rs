//! `/password-reset/{token}`: somebody whose password was taken away chooses another. They are not
//! signed in by it: a second factor is asked for as always.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::people::{Email, PeopleError, Sealed};
use keywright_registry::RegistryError;
use keywright_registry::people::User;
use maud::html;
use serde::{Deserialize, Serialize};

use super::{Refused, new_password};
use crate::browser_session::MaybeSignedIn;
use crate::http::params::FormParams;
use crate::http::{Cookies, csrf};
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions;
use crate::sign_in::{self, Asked};

const PURPOSE: &str = "password reset";
/// Ours are shorter.
const LONGEST: usize = 500;

/// What a link says, sealed with the server's secrets: nothing is stored for it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Link {
    /// Whose password.
    pub(crate) user_id: String,
    /// When the one before was taken away: a later one makes this link worthless.
    pub(crate) moment: i64,
    /// Until when it is good (Unix ms).
    pub(crate) until: i64,
    /// Who gave it: it is good as long as they could give it still.
    pub(crate) by: String,
}

impl Link {
    /// As an address.
    pub(crate) fn url(&self, app: &App) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let token = URL_SAFE_NO_PAD.encode(app.secrets.seal(PURPOSE, &json).as_bytes());
        app.settings.url(&format!("/password-reset/{token}"))
    }

    fn open(app: &App, token: &str) -> Option<Self> {
        let token = Some(token).filter(|token| token.len() <= LONGEST)?;
        let sealed = Sealed::new(URL_SAFE_NO_PAD.decode(token).ok()?);
        let json = app.secrets.unseal(PURPOSE, &sealed).ok()?;
        let link: Self = serde_json::from_slice(&json).ok()?;
        (link.until > app.now()).then_some(link)
    }
}

async fn find(app: &App, token: &str) -> Result<(Link, User), Problem> {
    let link = Link::open(app, token).ok_or(RegistryError::People(PeopleError::PasswordReset))?;
    let registry = &app.registry;
    let found = registry.find_password_reset(&link.user_id, link.moment, &link.by);
    let user = found.await?;
    Ok((link, user))
}

/// The form.
pub(crate) async fn show(
    State(app): State<App>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    cookies: Cookies,
    Path(token): Path<String>,
) -> Response {
    let session = signed_in.as_ref().map(|one| one.session.id.as_str());
    match find(&app, &token).await {
        Ok((_, user)) => form(&app, &cookies, session, (&token, &user), None),
        Err(problem) => refused_page(&app, &problem),
    }
}

fn refused_page(app: &App, problem: &Problem) -> Response {
    if problem.code != PeopleError::PasswordReset.code() {
        return pages::problem_page(&app.settings, problem);
    }
    pages::error_page(
        &app.settings,
        StatusCode::NOT_FOUND,
        problem.code,
        "This link is not valid any more",
        "It may have been used, replaced by another, or be too old. Ask whoever sent it for a new one.",
    )
}

fn form(
    app: &App,
    cookies: &Cookies,
    session: Option<&str>,
    (token, user): (&str, &User),
    refused: Option<&Refused>,
) -> Response {
    let made = csrf::token(&app.settings, &app.secrets, cookies, session);
    let email = user.email.as_ref().map_or("", Email::as_str);
    let content = html! {
        h1 { "Choose a new password" }
        p { "It is for the account of " strong { (user.name) } @if !email.is_empty() { " (" (email) ")" } "." }
        (Refused::notice(refused))
        form method="post" action=(app.settings.path(&format!("/password-reset/{token}"))) {
            input type="hidden" name=(csrf::FIELD) value=(made.token.expose());
            // For password managers: whose password it is.
            input type="hidden" name="username" autocomplete="username" value=(email);
            (new_password())
            div.actions { button.primary type="submit" { "Set my password" } }
        }
    };
    let mut headers = HeaderMap::new();
    if let Some(cookie) = made.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    let status = refused.map_or(StatusCode::OK, |refused| refused.status);
    Page::new("New password", content)
        .with_status(status)
        .with_headers(headers)
        .into_response(&app.settings)
}

/// Takes the password, once.
pub(crate) async fn choose(
    State(app): State<App>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    cookies: Cookies,
    headers: HeaderMap,
    Path(token): Path<String>,
    FormParams(given): FormParams,
) -> Response {
    let session = signed_in.as_ref().map(|one| one.session.id.as_str());
    let field = given.get(csrf::FIELD);
    let (settings, secrets) = (&app.settings, &app.secrets);
    if let Err(problem) = csrf::check(settings, secrets, &headers, &cookies, session, field) {
        return pages::problem_page(settings, &problem);
    }
    // Before the password costs anything.
    let (link, user) = match find(&app, &token).await {
        Ok(found) => found,
        Err(problem) => return refused_page(&app, &problem),
    };
    let password = given
        .secret("password")
        .unwrap_or_else(|| SecretText::new(String::new()));
    let hash = match app.passwords.hash(&password).await {
        Ok(hash) => hash,
        Err(error) => {
            let refused = Refused::from(error);
            return form(&app, &cookies, session, (&token, &user), Some(&refused));
        }
    };
    let chosen = app
        .registry
        .choose_password((&link.user_id, link.moment, &link.by), &hash)
        .await;
    let told = match chosen {
        Ok(ended) => sessions::ended_elsewhere(&app, &ended).await,
        Err(error) => return refused_page(&app, &error.into()),
    };
    if let Err(problem) = told {
        return pages::problem_page(settings, &problem);
    }
    let asked = Asked {
        login_hint: user.email.as_ref().map(Email::as_str),
        ..Asked::default()
    };
    let account = app.settings.path("/account");
    sign_in::go(&sign_in::path(&app, &account, asked), HeaderMap::new())
}
