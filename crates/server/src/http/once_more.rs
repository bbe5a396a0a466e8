//! Strict session cookies do not come along from another site: a page of ours goes to the same address
//! once more, and then they do.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::html;
use url::Url;

use crate::pages::Page;
use crate::server::App;
use crate::settings::SameSite;

/// The page that goes on by itself, where session cookies are strict and a browser says that another
/// site sent it here by a link. In a frame of another site they would not come along the second time
/// either, and our pages are not shown there. `address`: where it is now, without the query.
pub(crate) fn hop(app: &App, headers: &HeaderMap, address: &str, query: &str) -> Option<Response> {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|own| own == value);
    let in_a_frame = headers.contains_key("sec-fetch-dest") && !is("sec-fetch-dest", "document");
    let strict = app.settings.same_site == SameSite::Strict;
    if !strict || !is("sec-fetch-site", "cross-site") || in_a_frame {
        return None;
    }
    let Ok(url) = Url::parse(&format!("{address}?{query}")) else {
        return Some(StatusCode::BAD_REQUEST.into_response());
    };
    Some(go_on(app, "One moment", &url, HeaderMap::new()))
}

/// A page that goes on by itself, with a link for browsers that do not.
pub(crate) fn go_on(app: &App, title: &str, url: &Url, mut headers: HeaderMap) -> Response {
    if let Some(value) = refresh_to(url) {
        headers.insert(header::REFRESH, value);
    }
    let content = html! {
        h1 { (title) }
        p { "If nothing happens, follow the link." }
        div.actions { a.button.primary href=(url.as_str()) { "Continue" } }
    };
    Page::new(title, content)
        .with_headers(headers)
        .into_response(&app.settings)
}

/// `Refresh` for a page that goes on by itself.
fn refresh_to(url: &Url) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("0; url={url}")).ok()
}
