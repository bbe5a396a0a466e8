//! `/account/applications`: who has access to one's account, and an end to it.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::visitor::{Visitor, or_page, see_other};
use super::{csrf_field, tabs};
use crate::http::params::FormParams;
use crate::pages::{Page, dates};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::applications::take_away;
use crate::sessions::review::access_ends_at;
use crate::sessions::views::{self, ApplicationView};

/// More than anybody has; what is beyond them is in the API.
const MOST: usize = 200;

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Response {
    or_page(&app, render(&app, &visitor).await)
}

async fn render(app: &App, visitor: &Visitor) -> Result<Response, Problem> {
    let all = views::applications(app, visitor.user_id()).await?;
    let removed = visitor.query.get("done") == Some("removed");
    let content = html! {
        h1 { "Applications" }
        (tabs(app, "/account/applications"))
        @if removed {
            p.notice.ok role="status" {
                "It has no access any more. If it checks access by itself, it may take what it has until "
                (dates::shown(access_ends_at(app))) " UTC at the latest."
            }
        }
        @if all.is_empty() {
            p { "No application has access to your account." }
        } @else {
            p { "These applications may do something in your name." }
            ul.rows {
                @for view in all.values().take(MOST) { (application(app, visitor, view)) }
            }
        }
    };
    Ok(visitor.page(app, Page::new("Applications", content).wide()))
}

fn application(app: &App, visitor: &Visitor, view: &ApplicationView) -> Markup {
    let id = url::form_urlencoded::byte_serialize(view.client_id.as_bytes()).collect::<String>();
    let action = app
        .settings
        .path(&format!("/account/applications/{id}/remove"));
    html! {
        li {
            div {
                strong { (view.name) }
                dl {
                    dt { "May use" } dd { (view.scopes.join(", ")) }
                    dt { "Since" } dd { (dates::shown(view.allowed_at)) }
                    @if let Some(at) = view.last_used_at { dt { "Last used" } dd { (dates::shown(at)) } }
                    @for grant in &view.grants {
                        dt { "On" }
                        dd {
                            (grant.device.shown()) ", " (grant.address)
                            @if grant.origin == "device" { " " span.badge { "by code" } }
                            span.muted { ", until " (dates::shown(grant.expires_at)) }
                        }
                    }
                }
            }
            form method="post" action=(action) {
                (csrf_field(visitor.csrf()))
                button type="submit" aria-label=(format!("Remove access of {}", view.name)) {
                    "Remove access"
                }
            }
        }
    }
}

/// Takes an application's access away.
pub(super) async fn remove(
    State(app): State<App>,
    visitor: Visitor,
    Path(client_id): Path<String>,
    FormParams(form): FormParams,
) -> Response {
    let remove = async {
        visitor.check(&app, &form)?;
        let (actor, user_id) = (visitor.actor(), visitor.user_id());
        take_away(&app, &actor, user_id, &client_id).await?;
        Ok(see_other(
            &app.settings.path("/account/applications?done=removed"),
        ))
    };
    or_page(&app, remove.await)
}
