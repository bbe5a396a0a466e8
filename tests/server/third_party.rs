//! npm openid-client, a certified client, against our server: what it accepts, every client that
//! follows the standards accepts.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::harness::{Options, ServerProcess, owner, peer};
use crate::support::postgres::Database;

const REDIRECT: &str = "http://127.0.0.1:9999/callback";
const SECRET: &str = "a-long-secret-of-a-confidential-client-0123456789";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const FLOWS: &[&str] = &[
    "--redirect-uri",
    REDIRECT,
    "--grant",
    "authorization_code",
    "--grant",
    "refresh_token",
    "--scope",
    "openid profile email offline_access",
];

async fn run(server: &ServerProcess, scenario: &str, more: Value) -> Result<Value> {
    let mut input = json!({
        "scenario": scenario, "issuer": server.issuer, "client": "third", "person": owner(),
    });
    if let (Some(input), Some(more)) = (input.as_object_mut(), more.as_object()) {
        input.extend(more.clone());
    }
    peer("openid-client.mjs", &input).await
}

/// Every flow on both databases, each with a server of its own.
async fn on_both(test: impl AsyncFn(&ServerProcess) -> Result<()>) -> Result<()> {
    let server = ServerProcess::start().await?;
    test(&server).await.context("on SQLite")?;
    drop(server);
    let database = Database::create().await?;
    let options = Options {
        database: Some(database.url().to_owned()),
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    test(&server).await.context("on PostgreSQL")?;
    drop(server);
    database.close().await
}

#[tokio::test]
async fn ac_044_ac_053_s11_s40_the_code_flow_of_a_public_client() -> Result<()> {
    on_both(async |server| {
        server.add_client("third", None, FLOWS).await?;
        let result = run(server, "code", json!({})).await?;
        ensure!(result["again"] == "invalid_grant", "{result}");
        ensure!(
            !result["after"].as_str().unwrap_or("").is_empty(),
            "{result}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn s18_s40_the_code_flow_of_confidential_clients_in_every_algorithm() -> Result<()> {
    on_both(async |server| {
        for (id, alg, method) in [
            ("third-es256", "ES256", "client_secret_basic"),
            ("third-eddsa", "EdDSA", "client_secret_post"),
        ] {
            let more = [FLOWS, &["--alg", alg, "--auth-method", method]].concat();
            server.add_client(id, Some(SECRET), &more).await?;
            let input = json!({ "client": id, "secret": SECRET, "auth": method, "alg": alg });
            let result = run(server, "code", input).await?;
            ensure!(result["again"] == "invalid_grant", "{result}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ac_084_ac_085_ac_090_s22_s24_refresh_tokens_rotate() -> Result<()> {
    on_both(async |server| {
        server.add_client("third", None, FLOWS).await?;
        let result = run(server, "refresh", json!({})).await?;
        ensure!(result["wide"] == "invalid_scope", "{result}");
        ensure!(result["reuse"] == "invalid_grant", "{result}");
        ensure!(result["family"] == "invalid_grant", "{result}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ac_170_ac_171_s52_s53_s55_s56_the_device_flow() -> Result<()> {
    on_both(async |server| {
        let more = [
            "--name",
            "A television",
            "--grant",
            DEVICE,
            "--grant",
            "refresh_token",
            "--scope",
            "openid offline_access",
        ];
        server.add_client("third", None, &more).await?;
        let result = run(server, "device", json!({ "name": "A television" })).await?;
        ensure!(result["pending"] == "authorization_pending", "{result}");
        ensure!(result["spent"] == "invalid_grant", "{result}");
        ensure!(
            result["wrong"] == json!([400, 400, 400, 400, 400]),
            "{result}"
        );
        ensure!(result["throttled"] == 429, "{result}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn s57_pushed_requests_are_used_once() -> Result<()> {
    on_both(async |server| {
        server.add_client("third", Some(SECRET), FLOWS).await?;
        let result = run(server, "par", json!({ "secret": SECRET })).await?;
        ensure!(
            result["second"] == 400 || result["second"] == "invalid_request_uri",
            "{result}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn s26_s58_tokens_bound_by_dpop() -> Result<()> {
    on_both(async |server| {
        server.add_client("third", None, FLOWS).await?;
        let result = run(server, "dpop", json!({})).await?;
        ensure!(result["bearer"] == 401, "{result}");
        ensure!(
            result["other"] == "invalid_grant" || result["other"] == "invalid_dpop_proof",
            "{result}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn s42_s43_s45_s47_signing_out_from_a_client() -> Result<()> {
    on_both(async |server| {
        let more = [
            FLOWS,
            &[
                "--post-logout-redirect-uri",
                "http://127.0.0.1:9999/signed-out",
            ],
        ]
        .concat();
        server.add_client("third", None, &more).await?;
        let result = run(server, "logout", json!({})).await?;
        ensure!(result["silent"] == "login_required", "{result}");
        ensure!(result["userinfo"] == 401, "{result}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ac_094_ac_095_s30_s31_s34_revocation_and_introspection() -> Result<()> {
    on_both(async |server| {
        server.add_client("third", Some(SECRET), FLOWS).await?;
        let result = run(server, "revoke", json!({ "secret": SECRET })).await?;
        ensure!(result["after"] == json!({ "active": false }), "{result}");
        ensure!(result["refresh"] == "invalid_grant", "{result}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ac_064_s25_client_credentials_and_private_key_jwt() -> Result<()> {
    on_both(async |server| {
        let grant = ["--grant", "client_credentials", "--scope", "keys:read"];
        server.add_client("third", Some(SECRET), &grant).await?;
        let input = json!({ "secret": SECRET, "scope": "keys:read" });
        let result = run(server, "client_credentials", input).await?;
        ensure!(result["sub"] == "client:third", "{result}");

        let key = run(server, "make_key", json!({})).await?;
        let file = server.write("jwks.json", &key["public"].to_string())?;
        let more = [
            &grant[..],
            &["--auth-method", "private_key_jwt", "--jwks-file", &file],
        ]
        .concat();
        server.add_client("signer", None, &more).await?;
        let input = json!({ "client": "signer", "jwk": key["private"], "scope": "keys:read" });
        let result = run(server, "private_key_jwt", input).await?;
        ensure!(result["refusal"] == "invalid_client", "{result}");
        Ok(())
    })
    .await
}
