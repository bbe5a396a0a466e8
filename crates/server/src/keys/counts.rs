//! How many keys there are, by state.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_registry::{ApiKeyCounts, ApiKeyFilter, ApiKeyQuery, StateFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

/// Counts by state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyCounts {
    /// Every key.
    all: i64,
    /// Active or rotating.
    live: i64,
    /// Two secrets verify.
    rotating: i64,
    /// Live and ending within 30 days.
    expiring: i64,
    /// No secret verifies any more.
    expired: i64,
    /// Suspended.
    disabled: i64,
    /// Revoked.
    revoked: i64,
}

impl From<ApiKeyCounts> for KeyCounts {
    fn from(counts: ApiKeyCounts) -> Self {
        Self {
            all: counts.all,
            live: counts.live,
            rotating: counts.rotating,
            expiring: counts.expiring,
            expired: counts.expired,
            disabled: counts.disabled,
            revoked: counts.revoked,
        }
    }
}

/// Counts keys by state: everybody's with `keys:read`, otherwise the caller's own.
#[utoipa::path(
    get, path = "/api/v1/keys/counts", tag = "keys",
    responses((status = 200, description = "With very many keys they may be some seconds old", body = KeyCounts))
)]
pub(crate) async fn counts(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    manager.require_own("keys:read")?;
    let counts = match &manager.person {
        Some(person) if !manager.may("keys:read") => of_owner(&app, person).await?,
        _ => app.registry.count_api_keys().await?,
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((no_store, Json(KeyCounts::from(counts))).into_response())
}

async fn of_owner(app: &App, owner: &str) -> Result<ApiKeyCounts, Problem> {
    let count = async |state| -> Result<i64, Problem> {
        let query = ApiKeyQuery {
            filter: ApiKeyFilter {
                owner: Some(owner.to_owned()),
                state,
                ..ApiKeyFilter::default()
            },
            limit: 1,
            ..ApiKeyQuery::default()
        };
        let page = app.registry.list_api_keys(&query).await?;
        Ok(page.total.map_or(0, |total| total.count))
    };
    Ok(ApiKeyCounts {
        all: count(StateFilter::All).await?,
        live: count(StateFilter::Live).await?,
        rotating: count(StateFilter::Rotating).await?,
        expiring: count(StateFilter::Expiring).await?,
        expired: count(StateFilter::Expired).await?,
        disabled: count(StateFilter::Disabled).await?,
        revoked: count(StateFilter::Revoked).await?,
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, StatusCode};
    use serde_json::{Value, json};

    use crate::test_support::TestServer;

    #[tokio::test]
    async fn everybodys_keys_are_counted_for_who_may_see_them_and_otherwise_ones_own() {
        let server = TestServer::start().await;
        let user = server.add_user("ann@example.org", &[]).await;
        let bearer = format!("Bearer {}", server.root_key.expose());
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let wish = json!({ "name": "Ann's", "prefix": "sk_live", "scopes": ["keys:read"],
                           "owner": { "kind": "person", "id": user.id } });
        let mut root = server.browser();
        let body = Body::from(wish.to_string());
        let issued = root.send(Method::POST, "/api/v1/keys", &headers, body);
        assert_eq!(issued.await.status, StatusCode::CREATED);
        let path = "/api/v1/keys/counts";
        let mut nobody = server.browser();
        assert_eq!(nobody.get(path).await.status, StatusCode::UNAUTHORIZED);
        let seen = |counts: &Value| (counts["all"].as_i64(), counts["live"].as_i64());
        let all = root.send(Method::GET, path, &headers[..1], Body::empty());
        assert_eq!(
            seen(&all.await.json()),
            (Some(2), Some(2)),
            "with the root key"
        );
        let mut ann = server.sign_in_as(&user).await;
        assert_eq!(seen(&ann.get(path).await.json()), (Some(1), Some(1)));
        let other = server.add_user("bob@example.org", &[]).await;
        let mut bob = server.sign_in_as(&other).await;
        assert_eq!(seen(&bob.get(path).await.json()), (Some(0), Some(0)));
    }
}
