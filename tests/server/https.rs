//! The server over https, with an authority of the test's own: a certified client that trusts it, one
//! that does not, and Chromium.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{Options, ServerProcess, owner, peer, peer_with};
use crate::support::certificates::{Certificates, certificates};

const TRUSTS: &str = "NODE_EXTRA_CA_CERTS";

struct Secure {
    server: ServerProcess,
    made: Certificates,
    _folder: TempDir,
}

/// A server whose certificate is for `localhost`.
async fn start() -> Result<Secure> {
    let folder = tempfile::tempdir()?;
    let made = certificates(folder.path(), "localhost")?;
    let options = Options {
        host: "localhost",
        tls: Some((made.certificate.clone(), made.key.clone())),
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    let flows = [
        "--redirect-uri",
        "http://127.0.0.1:9999/callback",
        "--scope",
    ];
    let more = [&flows[..], &["openid profile email offline_access"]].concat();
    server.add_client("third", None, &more).await?;
    Ok(Secure {
        server,
        made,
        _folder: folder,
    })
}

impl Secure {
    fn input(&self, scenario: &str) -> Value {
        json!({
            "scenario": scenario, "issuer": self.server.issuer, "client": "third",
            "person": owner(), "pin": self.made.pin,
        })
    }

    fn trusting(&self) -> Result<reqwest::Client> {
        let authority = std::fs::read(&self.made.authority)?;
        let roots = reqwest::Certificate::from_pem_bundle(&authority)?;
        let client = reqwest::Client::builder().no_proxy();
        Ok(client.tls_certs_merge(roots).build()?)
    }
}

#[tokio::test]
async fn s37_s40_ac_044_a_certified_client_over_https_with_an_authority_of_ones_own() -> Result<()>
{
    let secure = start().await?;
    let authority = [(TRUSTS, secure.made.authority.as_path())];
    for scenario in ["code", "refresh"] {
        let result = peer_with("openid-client.mjs", &secure.input(scenario), &authority).await?;
        let refused = result["again"] == "invalid_grant" || result["reuse"] == "invalid_grant";
        ensure!(refused, "{result}");
    }
    Ok(())
}

#[tokio::test]
async fn who_watches_from_beside_is_told_over_https_too() -> Result<()> {
    let Secure { server, made, .. } = &start().await?;
    let listen = server.listen();
    let cert = made.certificate.display().to_string();
    let secure = ["healthy", "--listen", listen, "--tls-cert", &cert];
    let (success, said, complaint) = server.try_command(&secure).await?;
    ensure!(success && said == "ok\n", "{said} {complaint}");
    let ready = [&secure[..], &["--ready"]].concat();
    ensure!(server.try_command(&ready).await?.0);
    // It is asked as it listens, and somebody else at its address is not it.
    let plain = ["healthy", "--listen", listen];
    ensure!(!server.try_command(&plain).await?.0);
    let (success, _, complaint) = server
        .try_command(&["healthy", "--listen", "127.0.0.1:9", "--tls-cert", &cert])
        .await?;
    ensure!(
        !success && complaint.contains("does not answer"),
        "{complaint}"
    );
    Ok(())
}

#[tokio::test]
async fn ac_156_a_certificate_that_the_client_does_not_trust_ends_it() -> Result<()> {
    let secure = start().await?;
    let folder = tempfile::tempdir()?;
    let other = certificates(folder.path(), "localhost")?.authority;
    for variables in [Vec::new(), vec![(TRUSTS, other.as_path())]] {
        let input = secure.input("code");
        let refused = peer_with("openid-client.mjs", &input, &variables).await;
        let said = refused.expect_err("it was believed").to_string();
        ensure!(
            said.contains("certificate") || said.contains("CERT"),
            "{said}"
        );
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    let address = secure.server.at("/oauth2/token");
    ensure!(
        client
            .post(&address)
            .body("code=canary")
            .send()
            .await
            .is_err()
    );
    // Nothing of it was sent before the certificate was refused.
    let log = secure.server.logged();
    ensure!(!log.contains("/oauth2/token"), "{log}");
    Ok(())
}

#[tokio::test]
async fn ac_070_s0_48_host_cookies_in_chromium_over_https() -> Result<()> {
    let secure = start().await?;
    let result = peer("pages.mjs", &secure.input("https")).await?;
    let cookies = result["cookies"].as_array().cloned().unwrap_or_default();
    let wanted = json!({
        "name": "__Host-session", "httpOnly": true, "secure": true, "sameSite": "Lax",
        "path": "/", "domain": "localhost",
    });
    ensure!(cookies.contains(&wanted), "{result:#}");
    let csrf = cookies
        .iter()
        .find(|one| one["name"] == "__Host-csrf_token");
    ensure!(
        csrf.is_some_and(|one| one["sameSite"] == "Strict"),
        "{result:#}"
    );
    ensure!(
        cookies.iter().all(|one| one["secure"] == true),
        "{result:#}"
    );
    ensure!(result["strict"] == "max-age=31536000", "{result:#}");
    // A cookie of the bare name, which plain http could have planted, changes nothing.
    ensure!(
        result["account"] == 1 && result["session"] == 200,
        "{result:#}"
    );
    ensure!(result["out"] == 200 && result["after"] == 401, "{result:#}");
    let left = result["left"].as_array().cloned().unwrap_or_default();
    ensure!(!left.contains(&json!("__Host-session")), "{result:#}");
    Ok(())
}

#[tokio::test]
async fn plain_http_is_told_where_it_is_and_https_is_asked_for_from_then_on() -> Result<()> {
    let secure = start().await?;
    let client = secure.trusting()?;
    let answer = client.get(secure.server.at("/healthz")).send().await?;
    ensure!(answer.status() == 200);
    let strict = answer.headers().get("strict-transport-security");
    ensure!(strict.is_some_and(|value| value == "max-age=31536000"));
    let plain = secure.server.at("/healthz").replace("https:", "http:");
    let answer = client.get(plain).send().await?;
    ensure!(answer.status() == 400 && answer.text().await?.contains("https://"));
    // And where the issuer is this machine by plain http, browsers are not bound to https.
    let open = ServerProcess::start().await?;
    let answer = client.get(open.at("/healthz")).send().await?;
    ensure!(!answer.headers().contains_key("strict-transport-security"));
    Ok(())
}
