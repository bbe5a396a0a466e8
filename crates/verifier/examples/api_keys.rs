//! A service behind API keys of a Keywright server.
//!
//! ```text
//! SERVER=https://keys.example.com ROOT_KEY=kw_root_… cargo run --example api_keys
//! curl -H "X-API-Key: $KEY" http://127.0.0.1:3003/orders
//! ```

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use keywright_verifier::{ApiKey, ApiKeys, KeyGate};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let set = |name: &'static str| std::env::var(name).with_context(|| format!("set {name}"));
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3003".to_owned());
    let keys = ApiKeys::new(&set("SERVER")?, &set("ROOT_KEY")?)?;
    let gate = KeyGate::new(keys).require("orders:read");
    let service = Router::new().route("/orders", get(orders)).layer(gate);
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    // Keys that are bound to networks need the address of the connection.
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await?;
    Ok(())
}

async fn orders(key: ApiKey) -> String {
    format!("orders for key {}\n", key.key_id)
}
