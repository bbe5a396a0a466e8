//! A key in the address of a request to any route is refused, whoever asks and whatever else the request has: by
//! now it is in logs and histories (AC-124). What is answered before the router has no query, or looks itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse as _, Response};

use super::answers;
use crate::http::peer::client_address;
use crate::keys;
use crate::pages;
use crate::server::App;

/// The refusal on its way. Boxed, as all that is rare: what requests may need is moved about with every one.
type Refusal = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Refuses a request that has a key in its address; none if it has not.
pub(super) fn refused(app: &App, request: &Request) -> Option<Refusal> {
    let exposed = keys::in_own_url(request.uri().path_and_query()?.as_str())?;
    // Forward authentication looks itself, at more addresses than its own.
    let below = request.uri().path().strip_prefix(&*app.settings.base_path);
    let behind = below.and_then(|path| path.strip_prefix("/verify"));
    if behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return None;
    }
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let connected = connected.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
    let address = client_address(&app.settings, connected, request.headers());
    let by_browser = answers::is_by_browser(request.headers());
    let app = Arc::clone(app);
    Some(Box::pin(async move {
        let problem = keys::verify::refused_in_url(&app, &exposed, address).await;
        match by_browser {
            true => pages::problem_page(&app.settings, &problem),
            false => problem.into_response(),
        }
    }))
}
