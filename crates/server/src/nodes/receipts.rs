//! Revocation receipts over HTTP: which nodes refuse what was taken away, and after how long.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::ApiKey;
use keywright_registry::{RECEIPT_BOUND, Receipt};
use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::manager::Manager;
use crate::keys::views::KeyView;
use crate::problem::Problem;
use crate::server::App;

/// Which nodes refuse what was taken away.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptView {
    /// Number of the change.
    version: i64,
    /// When it was committed (Unix ms, by the node that did it).
    committed_at: i64,
    /// The nodes that were there.
    nodes: Vec<NodeView>,
    /// Whether no node accepts any more what was taken away.
    complete: bool,
    /// So long after the commit no node accepts it, heard of or not (ms).
    bound_ms: u64,
}

/// One node's part.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NodeView {
    /// Its id, new with each start.
    node: String,
    /// Its name.
    name: String,
    /// Whether it said that it knows.
    acknowledged: bool,
    /// How long after the commit it said so, as measured by the node that answers (ms).
    acknowledged_after_ms: Option<f64>,
    /// For one that did not say so: since when it asks the database again, or refuses (Unix ms).
    refuses_from_memory_since: Option<i64>,
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        let nodes = receipt.nodes.into_iter().map(|node| NodeView {
            node: node.id,
            name: node.name,
            acknowledged: node.acknowledged,
            acknowledged_after_ms: node.acknowledged_after.map(milliseconds),
            refuses_from_memory_since: node.refuses_from_memory_since,
        });
        Self {
            version: receipt.version,
            committed_at: receipt.committed_at,
            nodes: nodes.collect(),
            complete: receipt.complete,
            bound_ms: u64::try_from(RECEIPT_BOUND.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Three digits after the point: more is noise.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// A key after something of it was ended, with the receipt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedView {
    #[serde(flatten)]
    key: KeyView,
    /// Which nodes refuse what was taken away; absent where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

/// How long a caller waits for the nodes: `?wait_ms=`, or `Prefer: wait=` in seconds (RFC 7240
/// §4.3); [`RECEIPT_BOUND`] where nothing is said. Whatever is said, nobody waits longer than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Duration);

impl FromRequestParts<App> for Wait {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or("");
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        if let Some((_, text)) = pairs.find(|(name, _)| name == "wait_ms") {
            let wait = text.parse().ok().filter(|ms: &u64| *ms <= 1000);
            return wait
                .map(|ms| Self(Duration::from_millis(ms)))
                .ok_or_else(|| {
                    Problem::bad_request("invalid_wait", "wait_ms is a number from 0 to 1000")
                });
        }
        let wished = parts
            .headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(preferred);
        Ok(Self(wished.unwrap_or(RECEIPT_BOUND).min(RECEIPT_BOUND)))
    }
}

/// `wait=SECONDS` among preferences; one that cannot be read is as if it were not there (§2).
fn preferred(text: &str) -> Option<Duration> {
    text.split([',', ';']).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        value
            .trim()
            .trim_matches('"')
            .parse()
            .ok()
            .map(Duration::from_secs)
    })
}

/// The receipt of what was just done. It is done whether there is one or not.
pub(crate) async fn of(app: &App, version: i64, wait: Wait) -> Option<ReceiptView> {
    match app.registry.receipt(version, wait.0).await {
        Ok(receipt) => {
            if let Some(receipt) = &receipt {
                app.operations.metrics.count_receipt(receipt);
            }
            receipt.map(ReceiptView::from)
        }
        Err(error) => {
            tracing::warn!(code = error.code(), version, "a change has no receipt");
            None
        }
    }
}

/// The receipt of what was done to a person, and so to all keys of theirs: of the newest change of what
/// keys know of them. A change that came between covers the one before it.
pub(crate) async fn of_person(app: &App, id: &str, wait: Wait) -> Option<ReceiptView> {
    match app.registry.find_principal(id).await {
        Ok(principal) => of(app, principal.epoch, wait).await,
        Err(error) => {
            tracing::warn!(code = error.code(), "a change of a person has no receipt");
            None
        }
    }
}

/// A key that lost something as an answer, with its `ETag` and its receipt.
pub(crate) async fn ended(app: &App, key: &ApiKey, wait: Wait) -> Response {
    changed(app, key, Some(wait)).await
}

/// A key as an answer, with its `ETag`, and with a receipt where there is something to wait for.
pub(crate) async fn changed(app: &App, key: &ApiKey, wait: Option<Wait>) -> Response {
    let receipt = match wait {
        Some(wait) => of(app, key.epoch, wait).await,
        None => None,
    };
    let headers = [
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::ETAG, format!("\"{}\"", key.epoch)),
    ];
    let view = EndedView {
        key: KeyView::of(key, app.now()),
        receipt,
    };
    (headers, Json(view)).into_response()
}

/// The receipt of an earlier change, as far as it is known now. `acknowledged_after_ms` is there if the
/// node that answers is the one that made the change.
#[utoipa::path(
    get, path = "/api/v1/receipts/{version}", tag = "keys", params(("version" = i64, Path, description = "Number of the change, from an earlier receipt")),
    responses((status = 200, description = "The receipt", body = ReceiptView), (status = 404, description = "No such change is remembered"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(version): Path<String>,
) -> Result<Response, Problem> {
    // Whoever may end a person gets a receipt, and may look at it again.
    if !manager.may("users:write") && !manager.may("roles:write") {
        manager.require_own("keys:read")?;
    }
    let receipt = match version.parse() {
        Ok(version) => app.registry.receipt(version, Duration::ZERO).await?,
        Err(_) => None,
    };
    let receipt = receipt.ok_or_else(|| {
        Problem::not_found(
            "receipt_not_found",
            "no change of this number is remembered",
        )
    })?;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(ReceiptView::from(receipt))).into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use crate::test_support::TestServer;

    async fn call(
        server: &TestServer,
        method: Method,
        path: &str,
        more: (&str, &str),
    ) -> (StatusCode, Value) {
        let key = server.root_key.expose().to_owned();
        let headers = [("authorization", format!("Bearer {key}"))];
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = headers.chain([more]).collect();
        let answer = server
            .browser()
            .send(method, path, &headers, Body::empty())
            .await;
        (answer.status, answer.json())
    }

    async fn issued(server: &TestServer) -> String {
        let key = server.root_key.expose().to_owned();
        let body = json!({"name": "n", "prefix": "sk_live", "scopes": ["keys:read"]});
        let headers = [
            ("authorization", format!("Bearer {key}")),
            ("content-type", "application/json".to_owned()),
        ];
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = server
            .browser()
            .send(
                Method::POST,
                "/api/v1/keys",
                &headers,
                Body::from(body.to_string()),
            )
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()["key"]["id"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn ac_140_what_ends_a_key_answers_with_a_receipt_of_the_one_node() {
        let server = TestServer::start().await;
        let id = issued(&server).await;
        let path = format!("/api/v1/keys/{id}/disable");
        let (status, disabled) = call(&server, Method::POST, &path, ("", "")).await;
        assert_eq!(status, StatusCode::OK, "{disabled}");
        let receipt = &disabled["receipt"];
        assert_eq!(receipt["complete"], true, "{receipt}");
        assert_eq!(receipt["bound_ms"], 900);
        let nodes = receipt["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 1, "{receipt}");
        assert!(nodes[0]["acknowledged_after_ms"].as_f64().unwrap() < 1000.0);
        assert_eq!(nodes[0]["refuses_from_memory_since"], Value::Null);

        let path = format!("/api/v1/keys/{id}/revoke?wait_ms=0");
        let (status, revoked) = call(&server, Method::POST, &path, ("", "")).await;
        assert_eq!(status, StatusCode::OK, "{revoked}");
        let version = revoked["receipt"]["version"].as_i64().unwrap();
        assert!(version > receipt["version"].as_i64().unwrap());
        let path = format!("/api/v1/receipts/{version}");
        let (status, later) = call(&server, Method::GET, &path, ("", "")).await;
        assert_eq!(
            (status, &later["complete"]),
            (StatusCode::OK, &json!(true)),
            "{later}"
        );
        let path = format!("/api/v1/receipts/{}", version + 1000);
        let (status, _) = call(&server, Method::GET, &path, ("", "")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let mut nobody = server.browser();
        assert_eq!(
            nobody
                .get(&format!("/api/v1/receipts/{version}"))
                .await
                .status,
            StatusCode::UNAUTHORIZED
        );
    }

    #[tokio::test]
    async fn a_wait_out_of_bounds_is_refused_before_anything_is_done() {
        let server = TestServer::start().await;
        let id = issued(&server).await;
        for wait in ["1001", "-1", "x", ""] {
            let path = format!("/api/v1/keys/{id}/revoke?wait_ms={wait}");
            let (status, answer) = call(&server, Method::POST, &path, ("", "")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{wait}: {answer}");
        }
        let (_, key) = call(
            &server,
            Method::GET,
            &format!("/api/v1/keys/{id}"),
            ("", ""),
        )
        .await;
        assert_eq!(key["revoked_at"], Value::Null, "{key}");
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        assert_eq!(preferred("wait=0"), Some(Duration::ZERO));
        assert_eq!(
            preferred("respond-async, wait=10"),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            preferred("return=minimal; Wait=\"1\""),
            Some(Duration::from_secs(1))
        );
        assert_eq!(preferred("wait=soon"), None);
        assert_eq!(preferred("waiting=1"), None);
    }
}
