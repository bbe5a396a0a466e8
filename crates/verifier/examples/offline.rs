//! A service that checks access tokens by the issuer's keys.
//!
//! ```text
//! ISSUER=https://id.example.com AUDIENCE=https://notes.example.com cargo run --example offline
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:3001/notes
//! ```

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use keywright_verifier::{Authorized, Gate, Offline, Refusal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let issuer = std::env::var("ISSUER").context("set ISSUER")?;
    let audience = std::env::var("AUDIENCE").context("set AUDIENCE")?;
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3001".to_owned());
    let service = service(Gate::new(Offline::new(&issuer, &audience)?));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    axum::serve(listener, service).await?;
    Ok(())
}

/// What stands behind the gate, and what stands beside it.
pub(crate) fn service(gate: Gate<Offline>) -> Router {
    Router::new()
        .route("/notes", get(notes))
        .route("/admin", get(admin).layer(gate.require("notes:admin")))
        .layer(gate)
        .route("/health", get(|| async { "ok" }))
}

/// Everybody with a good token.
async fn notes(token: Authorized) -> Result<String, Refusal> {
    Ok(match token.person() {
        Some(person) => format!("notes of {person}\n"),
        None => format!("the application {} itself\n", token.client_id),
    })
}

/// Tokens with the scope that the route asks for, of people with a role.
async fn admin(token: Authorized) -> Result<&'static str, Refusal> {
    if !token.has_role("admin") {
        return Err(Refusal::InsufficientScope("notes:admin".to_owned()));
    }
    Ok("all notes\n")
}
