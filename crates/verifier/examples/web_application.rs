//! A small web application beside the server, under the same host (a proxy sends `/auth`, `/sign-in` and the
//! like to the server, the rest to this). It shows who is signed in, and signs out; the server signs in.
//!
//! ```text
//! SERVER=http://127.0.0.1:8377 cargo run --example web_application
//! ```

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use keywright_verifier::{WebSessionError, WebSessions};

#[derive(serde::Deserialize)]
struct SignOut {
    csrf_token: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = std::env::var("SERVER").context("set SERVER: the issuer")?;
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3004".to_owned());
    let application = application(WebSessions::new(&server)?);
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    axum::serve(listener, application).await?;
    Ok(())
}

/// Its two pages.
pub(crate) fn application(sessions: WebSessions) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/sign-out", post(sign_out))
        .with_state(sessions)
}

async fn home(State(sessions): State<WebSessions>, headers: HeaderMap) -> Response {
    let session = match sessions.session(&headers).await {
        Ok(session) => session,
        Err(error) => return unavailable(error),
    };
    let Some(session) = session else {
        let page = r#"<p>Nobody is signed in.</p><a href="/sign-in?return_to=/">Sign in</a>"#;
        return Html(page).into_response();
    };
    let token = match sessions.csrf_token(&headers).await {
        Ok(token) => token,
        Err(error) => return unavailable(error),
    };
    let page = format!(
        r#"<p>Hello, {}.</p><form method="post" action="/sign-out">
        <input type="hidden" name="csrf_token" value="{}"><button>Sign out</button></form>"#,
        escaped(&session.user.name),
        escaped(&token.token)
    );
    with_cookies(Html(page).into_response(), token.set_cookies)
}

async fn sign_out(
    State(sessions): State<WebSessions>,
    headers: HeaderMap,
    Form(form): Form<SignOut>,
) -> Response {
    match sessions.sign_out(&headers, &form.csrf_token).await {
        Ok(cookies) => {
            let home = [(header::LOCATION, "/")];
            with_cookies((StatusCode::SEE_OTHER, home).into_response(), cookies)
        }
        Err(WebSessionError::Csrf) => StatusCode::FORBIDDEN.into_response(),
        Err(error) => unavailable(error),
    }
}

/// The server's cookies reach the browser through us.
fn with_cookies(mut response: Response, cookies: Vec<HeaderValue>) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn unavailable(error: WebSessionError) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('"', "&quot;")
}
