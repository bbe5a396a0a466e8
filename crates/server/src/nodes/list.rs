//! Which servers of one database are there, for whoever looks after them.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keywright_registry::Node;
use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;

/// What the figures need too.
const PERMISSION: &str = "metrics:read";

/// The servers over one database.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServersView {
    /// By name.
    items: Vec<ServerView>,
    /// The clock of the one that answers, ahead of the database's (ms); absent where it was not compared, and over
    /// a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_ms: Option<i64>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerView {
    /// Its id, new with each start; receipts name it.
    id: String,
    /// Its name, of the settings.
    name: String,
    /// When it started (Unix ms).
    started_at: i64,
    /// When it last said that it is there (Unix ms).
    heartbeat_at: i64,
    /// The newest change that it has in its memory.
    applied: i64,
    /// Whether it was heard of within five seconds. One that is gone is told for about a minute.
    is_there: bool,
    /// Whether it is the one that answers.
    is_this: bool,
}

impl From<Node> for ServerView {
    fn from(node: Node) -> Self {
        Self {
            id: node.id,
            name: node.name,
            started_at: node.started_at,
            heartbeat_at: node.heartbeat_at,
            applied: node.applied,
            is_there: node.is_there,
            is_this: node.is_this,
        }
    }
}

/// The servers over this database, without revoking anything to hear of them.
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "nodes",
    responses((status = 200, description = "Servers over this database", body = ServersView))
)]
pub(crate) async fn list(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    manager.require(PERMISSION)?;
    let nodes = app.registry.list_nodes().await?;
    let view = ServersView {
        items: nodes.into_iter().map(ServerView::from).collect(),
        clock_skew_ms: app.registry.node_statistics().clock_skew_ms,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Method;

    use crate::test_support::TestServer;

    #[tokio::test]
    async fn whoever_looks_after_servers_sees_which_are_there() {
        let server = TestServer::with(|settings| settings.node_name = "one".to_owned()).await;
        let bearer = format!("Bearer {}", server.root_key.expose());
        let headers = [("authorization", bearer.as_str())];
        let mut browser = server.browser();
        let answer = browser
            .send(Method::GET, "/api/v1/nodes", &headers, Body::empty())
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let found = answer.json();
        let items = found["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{found}");
        assert_eq!(items[0]["name"], "one");
        assert_eq!(
            (&items[0]["is_there"], &items[0]["is_this"]),
            (&true.into(), &true.into())
        );
        assert_eq!(items[0]["id"].as_str(), server.registry().node_id());
        assert!(items[0]["applied"].as_i64().unwrap() > 0, "{found}");
        assert_eq!(items[0]["started_at"], crate::test_support::START);
    }
}
