//! Strict session cookies do not come along from another site: a page of ours goes to the same address
//! once more, and then they do.

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use url::Url;

use super::going_on::go_on;
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
    Some(go_on(app, "One moment", url.as_str(), HeaderMap::new()))
}
