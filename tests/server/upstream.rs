//! Our server as a relying party of npm oidc-provider, a certified provider.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::harness::{Options, ServerProcess, peer};
use crate::support::peer::{CLIENT_ID, Peer};

const SECRET: &str = "the-secret-of-our-server-at-its-provider-0123456789";

/// A server that trusts a provider, and the provider.
pub(super) async fn start() -> Result<(ServerProcess, Peer)> {
    let options = Options {
        settings: "allow_private_addresses = true",
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    let provider = trust_a_provider(&server).await?;
    Ok((server, provider))
}

/// A provider that a server trusts from now on.
pub(super) async fn trust_a_provider(server: &ServerProcess) -> Result<Peer> {
    let provider = Peer::start(json!({
        "clientSecret": SECRET,
        "redirectUris": [server.at("/rp/callback/upstream")],
        "applicationType": "web",
    }))
    .await?;
    let secret = server.write("upstream.secret", SECRET)?;
    server
        .command(&[
            "providers",
            "add",
            "--id",
            "upstream",
            "--kind",
            "openid",
            "--issuer",
            &provider.issuer,
            "--client-id",
            CLIENT_ID,
            "--secret-file",
            &secret,
            "--trusts-email",
            "true",
        ])
        .await?;
    Ok(provider)
}

async fn go(server: &ServerProcess, login: &str) -> Result<Value> {
    let input = json!({ "scenario": "upstream", "issuer": server.issuer, "login": login });
    peer("openid-client.mjs", &input).await
}

#[tokio::test]
async fn ac_070_s64_s65_signing_in_by_a_certified_provider() -> Result<()> {
    let (server, provider) = start().await?;
    // Nobody invited them yet.
    let stranger = go(&server, "ada").await?;
    ensure!(stranger["session"].is_null(), "{stranger}");
    let password = server.write("ada.password", "correct horse battery")?;
    server
        .command(&[
            "users",
            "add",
            "--email",
            "ada@example.com",
            "--password-file",
            &password,
        ])
        .await?;
    // Both sides say that the address is hers: linked.
    let ada = go(&server, "ada").await?;
    ensure!(ada["status"] == 200 && ada["path"] == "/account", "{ada}");
    ensure!(
        ada["session"]["user"]["email"] == "ada@example.com",
        "{ada}"
    );
    ensure!(provider.count("POST /token authorization_code") >= 2);
    // And found again by issuer and subject.
    let again = go(&server, "ada").await?;
    ensure!(
        again["session"]["user"]["id"] == ada["session"]["user"]["id"],
        "{again}"
    );
    Ok(())
}

#[tokio::test]
async fn ac_076_s65_an_address_that_is_not_verified_there_links_nobody() -> Result<()> {
    let (server, _provider) = start().await?;
    let password = server.write("bob.password", "correct horse battery")?;
    server
        .command(&[
            "users",
            "add",
            "--email",
            "bob@example.com",
            "--password-file",
            &password,
        ])
        .await?;
    let bob = go(&server, "bob").await?;
    ensure!(bob["session"].is_null() && bob["status"] != 200, "{bob}");
    Ok(())
}
