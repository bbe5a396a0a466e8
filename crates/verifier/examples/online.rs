//! A service that asks the issuer about each access token, so that a revoked one is refused at once.
//!
//! ```text
//! ISSUER=https://id.example.com AUDIENCE=https://pay.example.com \
//! CLIENT_ID=pay CLIENT_SECRET=… cargo run --example online
//! curl -X POST -H "Authorization: Bearer $TOKEN" http://127.0.0.1:3002/payments
//! ```

use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::post;
use keywright_verifier::{Authorized, Gate, Online};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let set = |name: &'static str| std::env::var(name).with_context(|| format!("set {name}"));
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3002".to_owned());
    // Where money moves, nothing is remembered: every request is a question.
    let online = Online::with_memory(
        &set("ISSUER")?,
        &set("AUDIENCE")?,
        &set("CLIENT_ID")?,
        &set("CLIENT_SECRET")?,
        0,
        Duration::ZERO,
    )?;
    let service = Router::new()
        .route("/payments", post(pay))
        .layer(Gate::new(online).require("payments"));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    axum::serve(listener, service).await?;
    Ok(())
}

async fn pay(token: Authorized) -> String {
    format!("paid by {}\n", token.sub)
}
