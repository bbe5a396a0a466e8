//! `/set-up`: whoever has the code that the terminal shows becomes the first owner, and sees the root
//! key, once.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::Email;
use maud::html;

use super::{Refused, new_password};
use crate::browser_session::{self, ACR_ONE, Proof};
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf};
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::server::App;
use crate::{FirstOwner, SetUpError, set_up};

/// Where the page is.
pub(crate) const PATH: &str = "/set-up";

/// Makes the code that opens the set-up, in groups that can be typed: 119 bits.
pub(crate) fn new_code() -> SecretText {
    let id = keywright_domain::base62::random_id(&mut rand::rng());
    let mut text = String::with_capacity(id.len() + id.len() / 4);
    for (at, letter) in id.chars().enumerate() {
        if at > 0 && at % 5 == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    SecretText::new(text)
}

/// The form, as long as nobody is here.
pub(crate) async fn show(State(app): State<App>, cookies: Cookies) -> Response {
    if app.sign_in.set_up.code.lock().await.is_none() {
        return nothing_to_do(&app);
    }
    form(&app, &cookies, &Params::default(), None)
}

fn nothing_to_do(app: &App) -> Response {
    pages::error_page(
        &app.settings,
        StatusCode::NOT_FOUND,
        "set_up_done",
        "There is nothing to set up here",
        "This server has an owner already, or was started in another way. Sign in, or ask them for an \
         invitation.",
    )
}

fn form(app: &App, cookies: &Cookies, given: &Params, refused: Option<&Refused>) -> Response {
    let made = csrf::token(&app.settings, &app.secrets, cookies, None);
    let value = |name: &str| given.get(name).unwrap_or("").to_owned();
    let content = html! {
        h1 { "Set up this server" }
        p { "You become its first owner, and may do everything here." }
        (Refused::notice(refused))
        form method="post" action=(app.settings.path(PATH)) {
            input type="hidden" name=(csrf::FIELD) value=(made.token.expose());
            label for="code" { "Code" }
            input #code .mono type="text" name="code" required autocomplete="off" spellcheck="false"
                autocapitalize="off" aria-describedby="code-hint";
            p.hint #code-hint { "The terminal in which the server was started shows it." }
            label for="name" { "Your name" }
            input #name type="text" name="name" required maxlength="120" autocomplete="name" value=(value("name"));
            label for="email" { "Your e-mail address" }
            input #email type="email" name="email" required maxlength="254" autocomplete="username" value=(value("email"));
            (new_password())
            div.actions { button.primary type="submit" { "Set up" } }
        }
    };
    let mut headers = HeaderMap::new();
    if let Some(cookie) = made.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    let status = refused.map_or(StatusCode::OK, |refused| refused.status);
    Page::new("Set up", content)
        .with_status(status)
        .with_headers(headers)
        .into_response(&app.settings)
}

/// Sets up, once.
pub(crate) async fn set_up_now(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    FormParams(given): FormParams,
) -> Response {
    let field = given.get(csrf::FIELD);
    let checked = csrf::check(&app.settings, &app.secrets, &headers, &cookies, None, field);
    if let Err(problem) = checked {
        return pages::problem_page(&app.settings, &problem);
    }
    // Held to the end: two who have the code do not both set up.
    let mut code = app.sign_in.set_up.code.lock().await;
    let Some(expected) = code.clone() else {
        return nothing_to_do(&app);
    };
    let done = async {
        check_code(&app, &peer, &expected, given.get("code").unwrap_or(""))?;
        create(&app, &given).await
    };
    let (root, email) = match done.await {
        Ok(made) => made,
        Err(Denied::Form(refused)) => return form(&app, &cookies, &given, Some(&refused)),
        Err(Denied::Done) => {
            *code = None;
            return nothing_to_do(&app);
        }
    };
    *code = None;
    drop(code);
    tracing::info!(event = "set_up", "the server was set up in a browser");
    let headers = sign_in(&app, &cookies, &peer, &email).await;
    finished(&app, &root, headers)
}

enum Denied {
    Form(Refused),
    Done,
}

impl<T: Into<Refused>> From<T> for Denied {
    fn from(refused: T) -> Self {
        Self::Form(refused.into())
    }
}

fn check_code(app: &App, peer: &Peer, expected: &SecretText, given: &str) -> Result<(), Refused> {
    let failures = &app.sign_in.set_up.failures;
    let (address, now) = (peer.address, app.now());
    failures
        .check(address, "set-up", now)
        .map_err(|waits| Refused::from(Problem::from(waits)))?;
    if expected.matches(given.trim()) {
        return Ok(());
    }
    failures.count(address, "set-up", now);
    let says = "this is not the code that the terminal shows";
    Err(Refused::new(StatusCode::FORBIDDEN, says))
}

async fn create(app: &App, given: &Params) -> Result<(SecretText, Email), Denied> {
    let bad = |says: String| Refused::new(StatusCode::BAD_REQUEST, &says);
    let name = keywright_domain::people::person_name(given.get("name").unwrap_or(""))
        .map_err(|error| bad(error.to_string()))?;
    let email =
        Email::new(given.get("email").unwrap_or("")).map_err(|error| bad(error.to_string()))?;
    let password = given
        .secret("password")
        .unwrap_or_else(|| SecretText::new(String::new()));
    let password_hash = app.passwords.hash(&password).await.map_err(Refused::from)?;
    let owner = FirstOwner {
        email: email.as_str().to_owned(),
        name,
        password_hash,
    };
    match set_up(&app.registry, &app.secrets, &owner).await {
        Ok(root) => Ok((root, email)),
        Err(SetUpError::AlreadyDone) => Err(Denied::Done),
        Err(SetUpError::Registry(error)) => Err(Problem::from(error).into()),
        Err(SetUpError::Secrets(error)) => {
            tracing::error!(code = error.code(), "a secret could not be kept");
            Err(crate::problem::store_unavailable().into())
        }
    }
}

/// Signs the owner in. Where that fails they sign in by themselves: the root key must be shown.
async fn sign_in(app: &App, cookies: &Cookies, peer: &Peer, email: &Email) -> HeaderMap {
    let begun = async {
        let found = app.registry.find_credentials(email).await?;
        let Some(credentials) = found else {
            return Ok::<_, Problem>(HeaderMap::new());
        };
        let proof = Proof {
            amr: "pwd",
            acr: ACR_ONE,
            method: "password",
            identifier: email.as_str(),
            proven_at: Some(app.now()),
        };
        let begun = browser_session::begin(app, cookies, peer, &credentials.user_id, &proof);
        Ok(begun.await?.headers)
    };
    begun.await.unwrap_or_else(|problem| {
        tracing::warn!(
            code = problem.code,
            "the new owner must sign in by themselves"
        );
        HeaderMap::new()
    })
}

fn finished(app: &App, root: &SecretText, headers: HeaderMap) -> Response {
    let content = html! {
        h1 { "This server is yours" }
        p {
            "This is its root key. It may do everything, it is shown this once, and it is stored nowhere: \
             keep it where you keep what you must not lose."
        }
        p.notice.warn { code { (root.expose()) } }
        p { "You are signed in. Day to day you need your password, not this key." }
        div.actions {
            a.button.primary href=(app.settings.path("/account")) { "I kept it: go on" }
        }
    };
    Page::new("Set up", content)
        .with_headers(headers)
        .into_response(&app.settings)
}
