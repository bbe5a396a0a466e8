//! Who may read the figures: they tell how many people are there, and when.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use super::metrics;
use crate::caller::Caller;
use crate::http::Peer;
use crate::problem::Problem;
use crate::server::App;
use crate::settings::Settings;

/// Permission to read them from elsewhere.
const PERMISSION: &str = "metrics:read";
/// Headers by which proxies give themselves away.
const OF_PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// `/metrics` beside the API: from networks that the settings name, or with a permission. With a
/// listener of its own it is not here at all.
pub(super) async fn on_main_listener(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Problem> {
    if app.settings.metrics_listen.is_some() {
        return Err(Problem::not_found(
            "not_found",
            "there is nothing at this address",
        ));
    }
    let (mut parts, _) = request.into_parts();
    let Ok(peer) = Peer::from_request_parts(&mut parts, &app).await;
    let connected = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0.ip());
    let near = connected.is_some_and(|connected| {
        is_near(&app.settings, connected, peer.address, &parts.headers)
    });
    if !near {
        let caller = Caller::from_request_parts(&mut parts, &app).await?;
        caller.require(PERMISSION)?;
    }
    Ok(answer(&app).await)
}

/// `/metrics` on the listener for machines: who reaches that may read it.
pub(super) async fn text(State(app): State<App>) -> Response {
    answer(&app).await
}

/// A proxy on this machine that nobody named makes every stranger look local: it gives itself away by
/// its headers, and then only a permission counts.
fn is_near(settings: &Settings, connected: IpAddr, peer: IpAddr, headers: &HeaderMap) -> bool {
    let by_proxy = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
    if by_proxy && !settings.trusts_proxy(connected) {
        return false;
    }
    let peer = peer.to_canonical();
    peer.is_loopback() || settings.metrics_allow.iter().any(|net| net.contains(&peer))
}

async fn answer(app: &App) -> Response {
    metrics::look(app).await;
    let kind: (HeaderName, HeaderValue) = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
    );
    ([kind], app.operations.metrics.text()).into_response()
}
