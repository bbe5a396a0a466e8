//! `/found-key`: whoever found a key gives it here, without an account. What is answered, and when,
//! follows from the form of what was sent alone: nobody learns whether a key is one of ours.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use keywright_domain::SecretText;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::report::{self, Found};
use crate::http::Peer;
use crate::pages::{Page, problem_page};
use crate::problem::Problem;
use crate::server::App;

/// Every answer comes this long after its request. What takes longer goes on after the answer.
const AFTER: Duration = if cfg!(test) {
    Duration::from_millis(40)
} else {
    Duration::from_millis(300)
};
const THANKS: &str = "Thank you. If it is a whole key of ours, its secret is ended and its owner is told; if it is \
                      only a key's id, its owner is told.";

/// A report.
#[derive(Deserialize)]
struct Report {
    /// The key, a text with keys in it, or a key's id.
    key: String,
    /// Where it was.
    #[serde(default)]
    seen_in: String,
}

#[derive(Serialize)]
struct Received {
    status: &'static str,
    message: &'static str,
}

/// The form. It works without JavaScript, and its answer is a page.
pub(super) async fn page(State(app): State<App>) -> Response {
    let action = app.settings.path("/found-key");
    let content = html! {
        h1 { "Report a key that you found" }
        p {
            "If you found an API key where it should not be, paste it here. A key of ours is ended at once, \
             and its owner is told. You need no account, and nothing about you is kept."
        }
        form method="post" action=(action) .stack {
            label for="key" { "The key, or the line that it is in" }
            textarea #key name="key" rows="4" required maxlength="8000" autocomplete="off"
                spellcheck="false" {}
            label for="seen_in" { "Where it was (an address, if there is one)" }
            input #seen_in name="seen_in" type="text" maxlength="500" autocomplete="off";
            button type="submit" { "Report" }
        }
    };
    with_no_store(Page::new("Report a key", content).into_response(&app.settings))
}

/// Takes a report, as JSON or as a form.
pub(super) async fn take(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let begun = Instant::now();
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    let by_form = kind == "application/x-www-form-urlencoded";
    let refuse = |problem: &Problem| {
        if by_form {
            problem_page(&app.settings, problem)
        } else {
            problem.clone().into_response()
        }
    };
    let now = app.now();
    if let Err(waits) = app.leaks.count("found-key", peer.address, now) {
        return refuse(&waits.into());
    }
    let report = match read(&kind, &body) {
        Ok(report) => report,
        Err(problem) => return refuse(&problem),
    };
    let found = Found::new(SecretText::new(report.key), &report.seen_in);
    // By what was sent, never by what it is: a kid alone proves nothing, and nothing is ended for it.
    let status = if found.is_kid() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    if let Err(problem) = report::begin(&app, "found-key door", found).await {
        return refuse(&problem);
    }
    tokio::time::sleep_until(begun + AFTER).await;
    if by_form {
        let page = Page::new("Thank you", thanks()).with_status(status);
        return with_no_store(page.into_response(&app.settings));
    }
    let received = Received {
        status: "received",
        message: THANKS,
    };
    with_no_store((status, Json(received)).into_response())
}

fn thanks() -> Markup {
    html! {
        h1 { "Thank you" }
        p { (THANKS.trim_start_matches("Thank you. ")) }
    }
}

fn read(kind: &str, body: &[u8]) -> Result<Report, Problem> {
    let wrong = |detail: &str| Problem::bad_request("invalid_body", detail);
    let report = match kind {
        "application/json" => serde_json::from_slice(body)
            .map_err(|_| wrong("the body is {\"key\": …, \"seen_in\": …}"))?,
        "application/x-www-form-urlencoded" => {
            let mut report = Report {
                key: String::new(),
                seen_in: String::new(),
            };
            for (name, value) in url::form_urlencoded::parse(body) {
                match &*name {
                    "key" => report.key = value.into_owned(),
                    "seen_in" => report.seen_in = value.into_owned(),
                    _ => {}
                }
            }
            report
        }
        _ => {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let detail = "the body is application/json or a form";
            return Err(Problem::new(status, "unsupported_media_type", detail));
        }
    };
    if report.key.trim().is_empty() {
        return Err(wrong("key: what was found"));
    }
    Ok(report)
}

fn with_no_store(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        axum::http::HeaderValue::from_static("no-store"),
    );
    response
}
