//! What scanners need to find keys of ours: the pattern, rules for gitleaks and TruffleHog, and where
//! to report what was found.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::problem::Problem;
use crate::server::App;

const GITLEAKS: &str = include_str!("../../../../packaging/scanners/gitleaks.toml");
const TRUFFLEHOG: &str = include_str!("../../../../packaging/scanners/trufflehog.yaml");
/// The rules of `packaging/scanners` without what may stand before a key.
const PATTERN: &str = r"[A-Za-z][A-Za-z0-9_]{0,14}[A-Za-z0-9]_[0-9A-Za-z]{12}KYWRT1[0-9A-Za-z]{38}";
const CACHE: &str = "public, max-age=3600";

/// `/.well-known/secret-scanning`
pub(super) async fn description(State(app): State<App>) -> Response {
    let url = |path: &str| app.settings.url(path);
    let description = json!({
        "pattern": PATTERN,
        "checksum": "CRC-32C over everything before the last six characters, in base62",
        "report": url("/found-key"),
        "rules": {
            "gitleaks": url("/scanner-rules/gitleaks.toml"),
            "trufflehog": url("/scanner-rules/trufflehog.yaml"),
        },
    });
    ([(header::CACHE_CONTROL, CACHE)], Json(description)).into_response()
}

/// `/scanner-rules/…`
pub(super) async fn rules(Path(name): Path<String>) -> Result<Response, Problem> {
    let (kind, text) = match name.as_str() {
        "gitleaks.toml" => ("application/toml", GITLEAKS),
        "trufflehog.yaml" => ("application/yaml", TRUFFLEHOG),
        _ => {
            let detail = "there are gitleaks.toml and trufflehog.yaml";
            return Err(Problem::not_found("not_found", detail));
        }
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, CACHE)];
    Ok((headers, text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_the_one_of_the_rules() {
        for rules in [GITLEAKS, TRUFFLEHOG] {
            assert!(rules.contains(PATTERN));
        }
    }
}
