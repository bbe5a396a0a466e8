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
const COLUMNS: [&str; 5] = ["When", "What", "How", "Device", "Address"];

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
        // On a telephone each row stands as a block. The roles keep it a table for those who hear it.
        table.stacked role="table" {
            thead role="rowgroup" { tr role="row" {
                @for title in COLUMNS { th scope="col" role="columnheader" { (title) } }
            } }
            tbody role="rowgroup" {
                @for row in &rows { tr role="row" {
                    td role="cell" data-title=(COLUMNS[0]) { (dates::shown(row.at)) }
                    td role="cell" data-title=(COLUMNS[1]) {
                        @if row.succeeded { "Signed in" } @else {
                            span.badge.danger { "Refused" } " " span.muted { (why(&row.outcome)) }
                        }
                        @if new.sign_ins.contains(&row.id) { " " span.badge.warn { "New device" } }
                    }
                    td role="cell" data-title=(COLUMNS[2]) { (row.method) }
                    td role="cell" data-title=(COLUMNS[3]) { (row.device.shown()) }
                    td role="cell" data-title=(COLUMNS[4]) { (row.address) }
                } }
            }
        }
        (further(&app.settings.path("/account/history"), next.as_deref()))
    };
    Ok(visitor.page(app, Page::new("History", content).wide()))
}

/// Why somebody was refused, in plain words where there are some for it.
fn why(outcome: &str) -> &str {
    match outcome {
        "credentials_invalid" => "wrong password",
        "code_invalid" => "wrong code",
        "user_disabled" => "the account is disabled",
        "idp_access_denied" => "not allowed at the provider",
        other => other,
    }
}
