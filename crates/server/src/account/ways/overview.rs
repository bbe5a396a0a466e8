//! The page: what somebody can sign in with, and what they can change.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_registry::people::{LinkedIdentity, Passkey};
use maud::{Markup, html};

use super::{PAGE, guard};
use crate::account;
use crate::browser_session::{MaybeSignedIn, SignedIn};
use crate::http::csrf;
use crate::http::{Cookies, Params};
use crate::pages::dates::shown as date;
use crate::pages::{self, Page};
use crate::passwords::{LONGEST, SHORTEST};
use crate::problem::Problem;
use crate::rp;
use crate::server::App;
use crate::sign_in::{passkeys, second_factor};

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new().route(PAGE, get(show))
}

async fn show(
    State(app): State<App>,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(current) = current else {
        return guard::to_sign_in(&app);
    };
    let params = Params::parse(&query.unwrap_or_default()).unwrap_or_default();
    let notice = params.get("done").and_then(what_was_done).map(Notice::Done);
    page(&app, &cookies, &current, notice, StatusCode::OK)
        .await
        .unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}

/// What stands above the page.
pub(super) enum Notice<'a> {
    Done(&'a str),
    Wrong(&'a str),
}

/// Only texts of ours: the address could say anything.
fn what_was_done(code: &str) -> Option<&'static str> {
    Some(match code {
        "password" => "Your password is changed. Your other browsers were signed out.",
        "codes-off" => "One-time codes are off.",
        "passkey" => "Your passkey was added.",
        "passkey-renamed" => "Your passkey has its new name.",
        "passkey-removed" => "Your passkey was removed.",
        "unlinked" => "The link was removed.",
        _ => return None,
    })
}

/// The page with a notice.
pub(super) async fn page(
    app: &App,
    cookies: &Cookies,
    current: &SignedIn,
    notice: Option<Notice<'_>>,
    status: StatusCode,
) -> Result<Response, Problem> {
    let user = &current.user;
    let token = csrf::token(
        &app.settings,
        &app.secrets,
        cookies,
        Some(&current.session.id),
    );
    let hidden = html! { input type="hidden" name=(csrf::FIELD) value=(token.token.expose()); };
    let has_codes = second_factor::is_set_up(app, &user.id).await?;
    let recovery = app.registry.list_recovery_codes(&user.id).await?.len();
    let own = app.registry.list_passkeys(&user.id).await?;
    let identities = app.registry.list_identities(&user.id).await?;
    let content = html! {
        h1 { "Ways to sign in" }
        (account::tabs(app, PAGE))
        @match notice {
            Some(Notice::Done(text)) => p.notice.ok role="status" { (text) },
            Some(Notice::Wrong(text)) => p.notice.error role="alert" { (text) },
            None => {}
        }
        section aria-labelledby="password-title" {
            h2 #password-title { "Password" }
            (password(app, current, &hidden))
        }
        section aria-labelledby="passkeys-title" {
            h2 #passkeys-title { "Passkeys" }
            (passkeys_of(app, &own, token.token.expose(), &hidden))
        }
        section aria-labelledby="codes-title" {
            h2 #codes-title { "One-time codes" }
            (codes(app, has_codes, recovery, &hidden))
        }
        section aria-labelledby="linked-title" {
            h2 #linked-title { "Linked accounts" }
            (linked(app, &identities, &hidden))
            (rp::buttons_to_link(app, &user.id).await?)
        }
    };
    let mut headers = axum::http::HeaderMap::new();
    if let Some(cookie) = &token.set_cookie {
        headers.append(axum::http::header::SET_COOKIE, cookie.clone());
    }
    Ok(Page::new("Ways to sign in", content)
        .wide()
        .with_status(status)
        .with_script(passkeys::SCRIPT)
        .with_headers(headers)
        .into_response(&app.settings))
}

fn path(app: &App, rest: &str) -> String {
    app.settings.path(&format!("{PAGE}{rest}"))
}

fn password(app: &App, current: &SignedIn, hidden: &Markup) -> Markup {
    let user = &current.user;
    html! {
        @if let Some(at) = user.password_changed_at.filter(|_| user.has_password) {
            p { "Set on " (date(at)) "." }
        } @else {
            p { "You have no password." }
        }
        form.narrow method="post" action=(path(app, "/password")) {
            (hidden)
            @if let Some(email) = &user.email {
                input type="hidden" name="username" value=(email.as_str()) autocomplete="username";
            }
            @if user.has_password {
                label for="current" { "Current password" }
                input #current type="password" name="current" autocomplete="current-password" maxlength="512"
                    aria-describedby="current-hint";
                p.hint #current-hint { "Not needed in the ten minutes after you signed in." }
            }
            label for="new" { "New password" }
            input #new type="password" name="password" autocomplete="new-password"
                minlength=(SHORTEST) maxlength=(LONGEST) required aria-describedby="new-hint";
            p.hint #new-hint { "At least " (SHORTEST) " characters. A few words together are good." }
            div.actions { button type="submit" {
                @if user.has_password { "Change password" } @else { "Set password" }
            } }
        }
    }
}

fn passkeys_of(app: &App, own: &[Passkey], csrf: &str, hidden: &Markup) -> Markup {
    html! {
        @if own.is_empty() {
            p { "A passkey signs you in with your fingerprint, your face or the lock of your screen." }
        }
        @for (at, one) in own.iter().enumerate() {
            @let id = URL_SAFE_NO_PAD.encode(&one.credential_id);
            div.way {
                p {
                    strong { (one.name) } " "
                    @if one.suspect_at.is_some() { span.badge.danger { "There may be a copy: remove it" } }
                    br;
                    span.muted {
                        "Added " (date(one.created_at))
                        @if let Some(used) = one.last_used_at { ", last used " (date(used)) }
                    }
                }
                form.row method="post" action=(path(app, "/passkeys/rename")) {
                    (hidden)
                    input type="hidden" name="id" value=(id);
                    label for=(format!("name-{at}")) { "Name" }
                    input id=(format!("name-{at}")) type="text" name="name" value=(one.name) maxlength="120" required;
                    button type="submit" { "Rename" }
                }
                form.row method="post" action=(path(app, "/passkeys/remove")) {
                    (hidden)
                    input type="hidden" name="id" value=(id);
                    button.danger type="submit" aria-label=(format!("Remove {}", one.name)) { "Remove" }
                }
            }
        }
        @if passkeys::rp_id(&app.settings).is_some() {
            div.narrow data-passkey="add" data-options=(path(app, "/passkeys/options"))
                data-answer=(path(app, "/passkeys")) data-csrf=(csrf) hidden {
                label for="passkey-name" { "Name of the new passkey" }
                input #passkey-name type="text" value="Passkey" maxlength="120";
                div.actions { button type="button" { "Add a passkey" } }
                p.notice.error role="alert" hidden {}
            }
            noscript { p.hint { "Passkeys need JavaScript." } }
        } @else {
            p.hint { "Passkeys need a host name, and this server is reached by an address." }
        }
    }
}

fn codes(app: &App, has_codes: bool, recovery: usize, hidden: &Markup) -> Markup {
    html! {
        @if has_codes {
            p {
                "On. After your password you are asked for a code of your authenticator app. "
                "You have " (recovery) " recovery codes left."
            }
            div.actions {
                form method="post" action=(path(app, "/recovery-codes")) {
                    (hidden) button type="submit" { "Make new recovery codes" }
                }
                form method="post" action=(path(app, "/codes/remove")) {
                    (hidden) button.danger type="submit" { "Turn off" }
                }
            }
        } @else {
            p { "Off. An authenticator app shows a new code every 30 seconds; a password alone is then not enough." }
            form method="post" action=(path(app, "/codes")) {
                (hidden) div.actions { button type="submit" { "Set up" } }
            }
        }
    }
}

fn linked(app: &App, identities: &[LinkedIdentity], hidden: &Markup) -> Markup {
    html! {
        @if identities.is_empty() { p { "None." } }
        @for one in identities {
            @let name = one.email.as_deref().unwrap_or(&one.subject);
            div.way {
                p {
                    strong { (one.provider_id) } " " (name)
                    br;
                    span.muted { "Linked " (date(one.created_at)) ", last used " (date(one.last_used_at)) }
                }
                form.row method="post" action=(path(app, "/identities/unlink")) {
                    (hidden)
                    input type="hidden" name="id" value=(one.id);
                    button.danger type="submit" aria-label=(format!("Unlink {}", one.provider_id)) { "Unlink" }
                }
            }
        }
    }
}

/// A refusal of the registry, on the page if the person can do something about it.
pub(super) async fn refused(
    app: &App,
    cookies: &Cookies,
    current: &SignedIn,
    problem: Problem,
) -> Response {
    let text = match problem.code {
        "last_sign_in_method" => {
            "This is the last way you can sign in. Add another one first.".to_owned()
        }
        _ if problem.status.is_server_error()
            || problem.status == StatusCode::TOO_MANY_REQUESTS =>
        {
            return pages::problem_page(&app.settings, &problem);
        }
        _ => format!("That did not work: {}.", problem.detail),
    };
    let notice = Some(Notice::Wrong(&text));
    page(app, cookies, current, notice, problem.status)
        .await
        .unwrap_or_else(|problem| pages::problem_page(&app.settings, &problem))
}
