//! `/account`: who one is here, and where one is signed in. One session is ended, all others, or
//! everything; and the page says when access really ends.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::Response;
use keywright_domain::people::{EndReason, RoleName};
use maud::{Markup, html};

use super::visitor::{Visitor, or_page, see_other};
use super::{csrf_field, further, new_devices, tabs};
use crate::http::cookies::{self, Name};
use crate::http::params::FormParams;
use crate::pages::{Page, dates};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions;
use crate::sessions::review::access_ends_at;
use crate::sessions::views::{self, SessionView};

const SESSIONS: u32 = 50;

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Response {
    or_page(&app, render(&app, &visitor).await)
}

async fn render(app: &App, visitor: &Visitor) -> Result<Response, Problem> {
    let cursor = visitor.query.get("cursor");
    let page = app
        .registry
        .list_sessions(visitor.user_id(), true, cursor, SESSIONS)
        .await?;
    let next = page.next_cursor;
    let rows = views::sessions(app, page.items, Some(visitor.session_id())).await?;
    let new = new_devices::read(app, visitor.user_id()).await?;
    let unknown: Vec<&SessionView> = rows
        .iter()
        .filter(|row| !row.current && new.sessions.contains(&row.id))
        .collect();
    let user = &visitor.signed_in.user;
    let roles: Vec<&str> = user.roles.iter().map(RoleName::as_str).collect();
    let content = html! {
        h1 { (user.name) }
        (tabs(app, "/account"))
        (done(app, visitor.query.get("done")))
        @for row in &unknown {
            p.notice.warn role="status" {
                "A new device signed in: " strong { (row.device.shown()) } ", from " (row.address)
                ", on " (dates::shown(row.signed_in_at)) " UTC. If that was not you, end it below and "
                a href=(app.settings.path("/account/sign-in")) { "change how you sign in" } "."
            }
        }
        dl {
            @if let Some(email) = &user.email {
                dt { "E-mail" }
                dd {
                    (email.as_str())
                    @if !user.email_verified { " " span.badge.warn { "not verified" } }
                }
            }
            @if !roles.is_empty() {
                dt { "Roles" }
                dd { (roles.join(", ")) }
            }
        }
        h2 { "Where you are signed in" }
        ul.rows {
            @for row in &rows { (session(app, visitor, row, new.sessions.contains(&row.id))) }
        }
        (further(&app.settings.path("/account"), next.as_deref()))
        p.muted { "Times are UTC. “Last used” is exact to five minutes." }
        div.actions {
            form method="post" action=(app.settings.path("/account/end-others")) {
                (csrf_field(visitor.csrf()))
                button type="submit" { "Sign out everywhere else" }
            }
            a.button href=(app.settings.path("/account/end-everything")) { "End everything…" }
        }
    };
    Ok(visitor.page(app, Page::new("Your account", content).wide()))
}

fn session(app: &App, visitor: &Visitor, row: &SessionView, is_new: bool) -> Markup {
    let clients: Vec<&str> = row.clients.iter().map(|one| one.name.as_str()).collect();
    let ways: Vec<&str> = row.amr.iter().filter_map(|one| way(one)).collect();
    html! {
        li {
            div {
                strong { (row.device.shown()) }
                @if row.current { " " span.badge { "This device" } }
                @if is_new { " " span.badge.warn { "New device" } }
                dl {
                    dt { "Address" } dd { (row.address) }
                    dt { "Signed in" } dd { (dates::shown(row.signed_in_at)) }
                    dt { "Last used" } dd { (dates::shown(row.last_used_at)) }
                    dt { "Expires" } dd { (dates::shown(row.expires_at)) }
                    @if !ways.is_empty() { dt { "By" } dd { (ways.join(", ")) } }
                    @if !clients.is_empty() { dt { "Applications" } dd { (clients.join(", ")) } }
                }
            }
            @if row.current {
                form method="post" action=(app.settings.path("/auth/signOut")) {
                    (csrf_field(visitor.csrf()))
                    input type="hidden" name="token_type_hint" value="session_token";
                    input type="hidden" name="redirectTo" value=(app.settings.path("/account/ended"));
                    button type="submit" { "Sign out" }
                }
            } @else {
                form method="post" action=(app.settings.path(&format!("/account/sessions/{}/end", row.id))) {
                    (csrf_field(visitor.csrf()))
                    button type="submit" aria-label=(format!("End {}", row.device.shown())) { "End" }
                }
            }
        }
    }
}

/// A way of RFC 8176 in plain words; none for what a person need not read.
fn way(amr: &str) -> Option<&str> {
    Some(match amr {
        "pwd" => "password",
        "otp" => "one-time code",
        "hwk" | "swk" => "passkey",
        "fed" => "identity provider",
        "mfa" => "two factors",
        "user" => return None,
        other => other,
    })
}

fn done(app: &App, what: Option<&str>) -> Markup {
    let until = dates::shown(access_ends_at(app));
    let happened = match what {
        Some("session") => "That session is over.",
        Some("others") => {
            "You are signed out everywhere else: in all other browsers, and on devices and in programs that \
             were not signed in from this one."
        }
        _ => return html! {},
    };
    html! {
        p.notice.ok role="status" {
            (happened) " This site refuses its access from now on. Applications that check access by \
             themselves may take what they have until " (until) " UTC at the latest."
        }
    }
}

/// Ends one session.
pub(super) async fn end_one(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    FormParams(form): FormParams,
) -> Response {
    let end = async {
        visitor.check(&app, &form)?;
        let (actor, user_id) = (visitor.actor(), visitor.user_id());
        sessions::end(&app, &actor, user_id, &id, EndReason::EndedByUser).await?;
        if id == visitor.session_id() {
            return gone(&app, &visitor).await;
        }
        Ok(see_other(&app.settings.path("/account?done=session")))
    };
    or_page(&app, end.await)
}

/// Ends all others.
pub(super) async fn end_others(
    State(app): State<App>,
    visitor: Visitor,
    FormParams(form): FormParams,
) -> Response {
    let end = async {
        visitor.check(&app, &form)?;
        let (actor, user_id) = (visitor.actor(), visitor.user_id());
        sessions::end_others(&app, &actor, user_id, visitor.session_id()).await?;
        Ok(see_other(&app.settings.path("/account?done=others")))
    };
    or_page(&app, end.await)
}

/// Asks before everything ends.
pub(super) async fn ask_end_everything(State(app): State<App>, visitor: Visitor) -> Response {
    let until = dates::shown(access_ends_at(&app));
    let content = html! {
        h1 { "End everything?" }
        p {
            "You are signed out of all browsers, this one too, and no application keeps access to your \
             account. Programs that you signed in must be signed in again. Your "
            a href=(app.settings.path(super::api_keys::KEYS_PAGE)) { "API keys" }
            " stay as they are: each is revoked by itself."
        }
        p {
            "This site refuses them at once. Applications that check access by themselves may take what \
             they have until " (until) " UTC at the latest."
        }
        div.actions {
            form method="post" action=(app.settings.path("/account/end-everything")) {
                (csrf_field(visitor.csrf()))
                button.danger type="submit" { "End everything" }
            }
            a.button href=(app.settings.path("/account")) { "Keep it" }
        }
    };
    visitor.page(&app, Page::new("End everything?", content))
}

/// Ends everything.
pub(super) async fn end_everything(
    State(app): State<App>,
    visitor: Visitor,
    FormParams(form): FormParams,
) -> Response {
    let end = async {
        visitor.check(&app, &form)?;
        let (actor, user_id) = (visitor.actor(), visitor.user_id());
        sessions::end_all(&app, &actor, user_id, EndReason::EndedByUser).await?;
        gone(&app, &visitor).await
    };
    or_page(&app, end.await)
}

/// On to the page for whoever is signed in no more, without the cookies; what they signed in for by a page
/// of their own in this browser is over too.
async fn gone(app: &App, visitor: &Visitor) -> Result<Response, Problem> {
    let mut response = see_other(&app.settings.path("/account/ended"));
    let mut cookies = vec![Name::Session, Name::Csrf];
    if visitor.end_own_page(app).await?.is_over() {
        cookies.extend([Name::Refresh, Name::SignIn]);
    }
    for name in cookies {
        let clear = cookies::clear(&app.settings, name);
        response.headers_mut().append(header::SET_COOKIE, clear);
    }
    Ok(response)
}

/// After the end.
pub(super) async fn ended(State(app): State<App>) -> Response {
    let content = html! {
        h1 { "You are signed out" }
        p { "You can close this page, or sign in again." }
        div.actions {
            a.button.primary href=(app.settings.path("/account")) { "Sign in" }
        }
    };
    Page::new("Signed out", content).into_response(&app.settings)
}
