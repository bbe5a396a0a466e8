//! `/account/history`: who signed in to one's account, and who tried.

use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::visitor::{Visitor, or_page};
use super::{further, new_devices, tabs};
use crate::pages::{Page, dates};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::views::SignInView;

const ROWS: u32 = 50;

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Response {
    or_page(&app, render(&app, &visitor).await)
}

async fn render(app: &App, visitor: &Visitor) -> Result<Response, Problem> {
    let (id, cursor) = (visitor.user_id(), visitor.query.get("cursor"));
    let page = app.registry.list_sign_ins(Some(id), cursor, ROWS).await?;
    let new = new_devices::read(app, id).await?;
    let next = page.next_cursor;
    let rows: Vec<SignInView> = page.items.into_iter().map(SignInView::from).collect();
    let content = html! {
        h1 { "History" }
        (tabs(app, "/account/history"))
        p { "Every attempt to sign in to your account, newest first. Times are UTC." }
        div.scroll {
            table {
                thead { tr {
                    th scope="col" { "When" }
                    th scope="col" { "What" }
                    th scope="col" { "How" }
                    th scope="col" { "Device" }
                    th scope="col" { "Address" }
                } }
                tbody {
                    @for row in &rows { tr {
                        td { (dates::shown(row.at)) }
                        td {
                            @if row.succeeded { "Signed in" } @else {
                                span.badge.danger { "Refused" } " " span.muted { (row.outcome) }
                            }
                            @if new.sign_ins.contains(&row.id) { " " span.badge.warn { "New device" } }
                        }
                        td { (row.method) }
                        td { (row.device.shown()) }
                        td { (row.address) }
                    } }
                }
            }
        }
        (further(&app.settings.path("/account/history"), next.as_deref()))
    };
    Ok(visitor.page(app, Page::new("History", content).wide()))
}
