//! `/invitations/{token}`: somebody who was invited gives a name and a password, and is signed in.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::SecretText;
use keywright_domain::people::{PeopleError, RoleName, TokenDigest};
use keywright_registry::RegistryError;
use keywright_registry::people::{Invitation, NewUser};
use maud::html;

use super::{Refused, new_password};
use crate::browser_session::{self, ACR_ONE, MaybeSignedIn, Proof};
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf};
use crate::pages::{self, Page};
use crate::problem::Problem;
use crate::server::App;

/// Our tokens have 43 characters.
const LONGEST: usize = 100;

/// The form.
pub(crate) async fn show(
    State(app): State<App>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    cookies: Cookies,
    Path(token): Path<String>,
) -> Response {
    let session = signed_in.as_ref().map(|one| one.session.id.as_str());
    match find(&app, &token).await {
        Ok((_, invitation)) => form(
            &app,
            &cookies,
            session,
            (&token, &invitation),
            &Params::default(),
            None,
        ),
        Err(problem) => refused_page(&app, &problem),
    }
}

async fn find(app: &App, token: &str) -> Result<(TokenDigest, Invitation), Problem> {
    if token.len() > LONGEST {
        return Err(RegistryError::from(PeopleError::Invitation).into());
    }
    let digest = TokenDigest::of(&SecretText::new(token.to_owned()));
    let invitation = app.registry.find_invitation(&digest).await?;
    Ok((digest, invitation))
}

fn refused_page(app: &App, problem: &Problem) -> Response {
    if problem.code != PeopleError::Invitation.code() {
        return pages::problem_page(&app.settings, problem);
    }
    pages::error_page(
        &app.settings,
        StatusCode::NOT_FOUND,
        problem.code,
        "This invitation is not valid any more",
        "It may have been used, withdrawn, or be too old. Ask whoever invited you for a new one.",
    )
}

fn form(
    app: &App,
    cookies: &Cookies,
    session: Option<&str>,
    (token, invitation): (&str, &Invitation),
    given: &Params,
    refused: Option<&Refused>,
) -> Response {
    let made = csrf::token(&app.settings, &app.secrets, cookies, session);
    let roles: Vec<&str> = invitation.roles.iter().map(RoleName::as_str).collect();
    let content = html! {
        h1 { "You are invited" }
        p {
            "You get an account for " strong { (invitation.email.as_str()) }
            @if !roles.is_empty() { ", as " (roles.join(", ")) }
            "."
        }
        (Refused::notice(refused))
        form method="post" action=(app.settings.path(&format!("/invitations/{token}"))) {
            input type="hidden" name=(csrf::FIELD) value=(made.token.expose());
            // For password managers: whose password it is.
            input type="hidden" name="username" autocomplete="username" value=(invitation.email.as_str());
            label for="name" { "Your name" }
            input #name type="text" name="name" required maxlength="120" autocomplete="name"
                value=(given.get("name").unwrap_or(""));
            (new_password())
            div.actions { button.primary type="submit" { "Make my account" } }
        }
    };
    let mut headers = HeaderMap::new();
    if let Some(cookie) = made.set_cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    let status = refused.map_or(StatusCode::OK, |refused| refused.status);
    Page::new("Invitation", content)
        .with_status(status)
        .with_headers(headers)
        .into_response(&app.settings)
}

/// Accepts, once.
pub(crate) async fn accept(
    State(app): State<App>,
    peer: Peer,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    cookies: Cookies,
    headers: HeaderMap,
    Path(token): Path<String>,
    FormParams(given): FormParams,
) -> Response {
    let session = signed_in.as_ref().map(|one| one.session.id.as_str());
    let field = given.get(csrf::FIELD);
    let checked = csrf::check(
        &app.settings,
        &app.secrets,
        &headers,
        &cookies,
        session,
        field,
    );
    if let Err(problem) = checked {
        return pages::problem_page(&app.settings, &problem);
    }
    // Before the password costs anything.
    let (digest, invitation) = match find(&app, &token).await {
        Ok(found) => found,
        Err(problem) => return refused_page(&app, &problem),
    };
    let again = |refused: &Refused| {
        let what = (token.as_str(), &invitation);
        form(&app, &cookies, session, what, &given, Some(refused))
    };
    let new = match new_user(&app, &given).await {
        Ok(new) => new,
        Err(refused) => return again(&refused),
    };
    let user = match app.registry.accept_invitation(&digest, &new).await {
        Ok(user) => user,
        Err(RegistryError::People(error @ PeopleError::EmailTaken)) => {
            return again(&Refused::new(StatusCode::CONFLICT, &error.to_string()));
        }
        Err(error) => return refused_page(&app, &error.into()),
    };
    let proof = Proof {
        amr: "pwd",
        acr: ACR_ONE,
        method: "invitation",
        identifier: invitation.email.as_str(),
        proven_at: Some(app.now()),
    };
    match browser_session::begin(&app, &cookies, &peer, &user.id, &proof).await {
        Ok(begun) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            let target = app.settings.path("/account");
            let location = HeaderValue::try_from(target).unwrap_or(HeaderValue::from_static("/"));
            response.headers_mut().insert(header::LOCATION, location);
            for cookie in begun.headers.get_all(header::SET_COOKIE) {
                response
                    .headers_mut()
                    .append(header::SET_COOKIE, cookie.clone());
            }
            response
        }
        Err(problem) => pages::problem_page(&app.settings, &problem),
    }
}

async fn new_user(app: &App, given: &Params) -> Result<NewUser, Refused> {
    let name = keywright_domain::people::person_name(given.get("name").unwrap_or(""))
        .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let password = given
        .secret("password")
        .unwrap_or_else(|| SecretText::new(String::new()));
    let hash = app.passwords.hash(&password).await?;
    Ok(NewUser {
        name,
        // Address and roles are the invitation's.
        email: None,
        email_verified: false,
        roles: Vec::new(),
        password_hash: Some(hash),
    })
}
