//! Pages that go on by themselves. Browsers hold `form-action` of a page against every redirect that
//! follows its form (CSP3 §4.2.4, as Chromium does it), also against those of the address that it led to:
//! a client's callback may send the browser on to anywhere, and no policy can name that. So a form's
//! answer that leads away from here is a page, at which the chain of redirects ends.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use maud::html;

use crate::pages::Page;
use crate::server::App;

/// A page that goes on by itself, with a link for browsers that do not. Its title is of ours and says
/// nothing of `address`, which may carry a code: histories and tabs show titles.
pub(crate) fn go_on(app: &App, title: &str, address: &str, mut headers: HeaderMap) -> Response {
    // What is no header cannot be followed by itself; the link leads there all the same.
    if let Ok(value) = HeaderValue::try_from(format!("0; url={address}")) {
        headers.insert(header::REFRESH, value);
    }
    let content = html! {
        h1 { (title) }
        p { "If nothing happens, follow the link." }
        div.actions { a.button.primary href=(address) { "Continue" } }
    };
    Page::new(title, content)
        .with_headers(headers)
        .into_response(&app.settings)
}

/// The answer to a form of ours, or to a page of ours that a form leads to: a redirect to a web address
/// elsewhere becomes a page that goes on there. What stays here stays a redirect. So does what leads to a
/// program's own scheme: it ends there, its scheme is in the policy of the form's page, and browsers start
/// programs more readily after a button than after a page that goes on.
pub(crate) fn after_a_form(app: &App, response: Response) -> Response {
    let leads_to = |value: &HeaderValue| {
        let address = value.to_str().ok()?;
        let begins = |with: &str| {
            let start = address.get(..with.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        (begins("https://") || begins("http://")).then(|| address.to_owned())
    };
    let location = response.headers().get(header::LOCATION);
    let Some(address) = location.and_then(leads_to) else {
        return response;
    };
    if response.status() != StatusCode::SEE_OTHER {
        return response;
    }
    let mut headers = response.headers().clone();
    headers.remove(header::LOCATION);
    headers.remove(header::CONTENT_LENGTH);
    go_on(app, "Back to the application", &address, headers)
}
