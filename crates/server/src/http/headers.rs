//! Headers of every answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::server::App;

/// What no page of ours needs is off; pages that need more say so themselves.
pub(crate) const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'";

const FIXED: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Adds what every answer has and this one did not set itself.
pub(crate) fn for_every_answer(app: &App, headers: &mut HeaderMap) {
    secure(headers);
    if app.settings.is_https() {
        only_https(headers);
    }
    if app.operations.is_draining() {
        // Whoever keeps the connection would ask on it again when it is about to be closed.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn secure(headers: &mut HeaderMap) {
    for (name, value) in FIXED {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    // Nothing of ours is for a cache but what says so.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Browsers ask for nothing here by plain http for a year (RFC 6797). Only where the issuer is https,
/// and for this host alone: what stands beside it is not ours to decide.
fn only_https(headers: &mut HeaderMap) {
    let year = HeaderValue::from_static("max-age=31536000");
    headers
        .entry(header::STRICT_TRANSPORT_SECURITY)
        .or_insert(year);
}
