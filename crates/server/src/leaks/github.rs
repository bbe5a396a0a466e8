//! `/github/secret-scanning`: GitHub's reports of keys that were pushed to it (secret scanning partner
//! program). Each is signed over its raw body (ECDSA, P-256, SHA-256) by a key that GitHub publishes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywright_domain::SecretText;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::report;
use crate::http::Peer;
use crate::problem::Problem;
use crate::server::App;

const KEY_ID: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";
/// Keys in one report.
const MOST: usize = 1_000;
/// A body that came before, within this time, is not seen to again.
const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1000;
const MOST_REMEMBERED: usize = 10_000;

/// One key that was found.
#[derive(Deserialize)]
struct Match {
    token: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

/// What we say of it.
#[derive(Serialize)]
struct Labelled {
    token_hash: String,
    token_type: String,
    label: &'static str,
}

/// Bodies that were seen to.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<[u8; 32], i64>>);

impl Seen {
    fn knows(&self, body: &[u8; 32], now: i64) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(body).is_some_and(|at| now - at < REMEMBERED_MS)
    }

    fn remember(&self, body: [u8; 32], now: i64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST_REMEMBERED {
            seen.retain(|_, at| now - *at < REMEMBERED_MS);
            let oldest = seen.iter().min_by_key(|(_, at)| **at).map(|(one, _)| *one);
            if seen.len() >= MOST_REMEMBERED
                && let Some(oldest) = oldest
            {
                seen.remove(&oldest);
            }
        }
        seen.insert(body, now);
    }
}

fn unsigned() -> Problem {
    Problem::unauthorized(
        "signature_invalid",
        "the body is not signed by a key that GitHub publishes",
    )
}

/// Takes a report.
///
/// # Errors
/// 401 without a good signature; 503 if the registry does not answer: GitHub tries again.
pub(super) async fn take(
    State(app): State<App>,
    peer: Peer,
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
    // Each unknown key may be a question to GitHub.
    app.leaks.count("github", peer.address, now)?;
    let point = app
        .leaks
        .github
        .find(&app.rp.http, keys_url, key_id, now)
        .await
        .map_err(|error| {
            tracing::warn!(%error, "GitHub's keys cannot be read");
            let detail = "the keys that GitHub signs with cannot be read now";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", detail)
        })?
        .ok_or_else(unsigned)?;
    let signature = STANDARD.decode(signature).map_err(|_| unsigned())?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
        .verify(&body, &signature)
        .map_err(|_| unsigned())?;
    let digest: [u8; 32] = Sha256::digest(&body).into();
    if app.leaks.seen.knows(&digest, now) {
        return Ok(answer(&[]));
    }
    let matches: Vec<Match> = serde_json::from_slice(&body).map_err(|_| {
        Problem::bad_request(
            "invalid_body",
            "the body is a list of tokens with their types",
        )
    })?;
    if matches.len() > MOST {
        let detail = format!("at most {MOST} tokens in one report");
        return Err(Problem::bad_request("too_many_tokens", detail));
    }
    let mut labelled = Vec::with_capacity(matches.len());
    for found in matches {
        let token_hash = hex(&Sha256::digest(found.token.as_bytes()));
        let seen_in = match (&found.url, &found.source) {
            (Some(url), Some(source)) => format!("{url} ({source})"),
            (Some(url), None) => url.clone(),
            (None, source) => source.clone().unwrap_or_default(),
        };
        let token = SecretText::new(found.token);
        let ours = report::end(&app, "GitHub secret scanning", &token, &seen_in).await?;
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
    // Only now: one that failed half way must be able to come again.
    app.leaks.seen.remember(digest, now);
    Ok(answer(&labelled))
}

fn answer(labelled: &[Labelled]) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(labelled)).into_response()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_remembered_for_a_day_and_not_without_end() {
        let seen = Seen::default();
        seen.remember([1; 32], 0);
        assert!(seen.knows(&[1; 32], REMEMBERED_MS - 1));
        assert!(!seen.knows(&[1; 32], REMEMBERED_MS));
        for n in 0..MOST_REMEMBERED + 5 {
            let mut body = [0; 32];
            body[..8].copy_from_slice(&n.to_le_bytes());
            seen.remember(body, i64::try_from(n).unwrap());
        }
        assert!(seen.0.lock().unwrap().len() <= MOST_REMEMBERED);
    }
}
