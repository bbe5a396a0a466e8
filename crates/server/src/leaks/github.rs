//! `/github/secret-scanning`: GitHub's reports of keys that were pushed to it (secret scanning partner
//! program). Each is signed over its raw body (ECDSA, P-256, SHA-256) by a key that GitHub publishes.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use keywright_domain::SecretText;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::github_form::{BadReport, MOST_TOKENS, is_signed, read_report};
use super::github_keys::Key;
use super::report;
use crate::problem::Problem;
use crate::server::App;

const KEY_ID: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";
/// A body that was seen to is remembered for so long, in the database: by all nodes, over restarts.
const REMEMBERED_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// A signed report waits for its turn so long, then GitHub is asked to come again.
const TURN_WITHIN: Duration = if cfg!(test) {
    Duration::from_millis(40)
} else {
    Duration::from_secs(10)
};
/// When.
const AGAIN_AFTER_S: u64 = 15;
/// What it is remembered as.
pub(super) const SEEN: &str = "GitHub report";

/// What we say of it.
#[derive(Serialize)]
struct Labelled {
    token_hash: String,
    token_type: String,
    label: &'static str,
}

fn unsigned() -> Problem {
    Problem::unauthorized(
        "signature_invalid",
        "the body is not signed by a key that GitHub publishes",
    )
}

fn keys_unavailable(retry_after_s: u64) -> Problem {
    let mut problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "keys_unavailable",
        "the keys that GitHub signs with cannot be read now",
    );
    problem.retry_after_s = Some(retry_after_s);
    problem
}

fn busy() -> Problem {
    let mut problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "too many reports are worked on now",
    );
    problem.retry_after_s = Some(AGAIN_AFTER_S);
    problem
}

/// Takes a report.
///
/// No limit by source stands before the signature: strangers could use it up, and GitHub's own reports come
/// from few addresses. What a stranger can cost is a signature to be checked, and a question to GitHub once a
/// minute. What GitHub signed waits for its turn.
///
/// One that comes again gets its labels again, and changes nothing: nothing is ended, nobody is told.
///
/// # Errors
/// 401 without a good signature; 503 if GitHub's keys cannot be known, too many reports are worked on, or the
/// registry or its peppers do not answer.
pub(super) async fn take(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Some(keys_url) = &app.settings.github_keys_url else {
        return Err(Problem::not_found(
            "not_found",
            "reports of GitHub are not taken here",
        ));
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(key_id), Some(signature)) = (text(KEY_ID), text(SIGNATURE)) else {
        return Err(unsigned());
    };
    let now = app.now();
    let found = &app.leaks.github;
    let point = match found.find(&app.rp.http, keys_url, key_id, now).await {
        Key::Point(point) => point,
        Key::NotPublished => return Err(unsigned()),
        Key::Unknown(retry_after_s) => return Err(keys_unavailable(retry_after_s)),
    };
    if !is_signed(&point, signature, &body) {
        return Err(unsigned());
    }
    let turn = tokio::time::timeout(TURN_WITHIN, app.leaks.github_places.acquire()).await;
    // Closed by nobody: an error is that of the time.
    let Ok(Ok(_turn)) = turn else {
        return Err(busy());
    };
    let digest = hex(&Sha256::digest(&body));
    let registry = &app.registry;
    let was_seen_to = registry.was_used(SEEN, key_id, &digest).await?;
    let matches = read_report(&body).map_err(|bad| match bad {
        BadReport::Malformed => Problem::bad_request(
            "invalid_body",
            "the body is a list of tokens with their types",
        ),
        BadReport::TooMany => {
            let detail = format!("at most {MOST_TOKENS} tokens in one report");
            Problem::bad_request("too_many_tokens", detail)
        }
    })?;
    let mut labelled = Vec::with_capacity(matches.len());
    for found in matches {
        let token_hash = hex(&Sha256::digest(found.token.as_bytes()));
        let seen_in = match (&found.url, &found.source) {
            (Some(url), Some(source)) => format!("{url} ({source})"),
            (Some(url), None) => url.clone(),
            (None, source) => source.clone().unwrap_or_default(),
        };
        let token = SecretText::new(found.token);
        let ours = if was_seen_to {
            report::is_ours(&app, &token).await?
        } else {
            report::end(&app, "GitHub secret scanning", &token, &seen_in).await?
        };
        labelled.push(Labelled {
            token_hash,
            token_type: found.kind,
            label: if ours {
                "true_positive"
            } else {
                "false_positive"
            },
        });
    }
    // Only now: one that failed half way must be able to come again. Two at the same time end the same
    // secrets, of which each is ended once.
    if !was_seen_to {
        let until = now.saturating_add(REMEMBERED_MS);
        registry.use_once(SEEN, key_id, &digest, until).await?;
    }
    Ok(answer(&labelled))
}

fn answer(labelled: &[Labelled]) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(labelled)).into_response()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
