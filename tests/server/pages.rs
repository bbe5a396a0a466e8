//! The server's pages in Chromium.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::harness::{Options, ServerProcess, owner, peer};

async fn run(server: &ServerProcess, scenario: &str) -> Result<Value> {
    let input = json!({
        "scenario": scenario, "issuer": server.issuer, "client": "third", "person": owner(),
        "shots": std::env::var("KEYWRIGHT_TEST_SHOTS").ok(),
    });
    peer("pages.mjs", &input).await
}

async fn with_client() -> Result<ServerProcess> {
    let server = ServerProcess::start().await?;
    let more = ["--redirect-uri", "http://127.0.0.1:9999/callback"];
    server.add_client("third", None, &more).await?;
    Ok(server)
}

#[tokio::test]
async fn ac_070_s3_49_signing_in_and_consenting_without_scripts() -> Result<()> {
    let server = with_client().await?;
    let result = run(&server, "without_scripts").await?;
    ensure!(result["outside"] == json!([]), "{result}");
    let cookies = result["cookies"].as_array().cloned().unwrap_or_default();
    let session = cookies.iter().find(|one| one["name"] == "session");
    let wanted = json!({
        "name": "session", "httpOnly": true, "secure": true, "sameSite": "Lax", "path": "/",
    });
    ensure!(session == Some(&wanted), "{result}");
    Ok(())
}

#[tokio::test]
async fn ac_196_pages_pass_axe_in_light_and_dark_and_fit_a_telephone() -> Result<()> {
    let server = with_client().await?;
    let result = run(&server, "axe").await?;
    ensure!(result["found"] == json!([]), "{result:#}");
    Ok(())
}

#[tokio::test]
async fn s11_s14_an_answer_by_form_with_and_without_scripts() -> Result<()> {
    let server = with_client().await?;
    let result = run(&server, "form_post").await?;
    let post = json!({
        "method": "POST", "url": "http://127.0.0.1:9999/callback", "code": true, "state": "s",
        "iss": server.issuer, "referrer": null, "blocked": [],
    });
    ensure!(result["posts"] == json!([post, post]), "{result:#}");
    Ok(())
}

#[tokio::test]
async fn s13_s14_a_callback_that_leads_on_to_another_origin() -> Result<()> {
    // An address of logout is held to its port, so the port is known before the client listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let origin = format!("http://127.0.0.1:{port}");
    let (callback, bye) = (format!("{origin}/callback"), format!("{origin}/bye"));
    let server = ServerProcess::start().await?;
    let addresses = [
        "--redirect-uri",
        &callback,
        "--post-logout-redirect-uri",
        &bye,
    ];
    server.add_client("third", None, &addresses).await?;
    let input = json!({
        "scenario": "callback_leads_on", "issuer": server.issuer, "client": "third", "person": owner(),
        "client_origin": origin,
    });
    let result = peer("pages.mjs", &input).await?;
    let at_client = |method: &str, code: bool, error: Value| {
        json!([{
            "method": method, "path": "/callback", "code": code, "error": error, "state": "s",
            "iss": server.issuer, "referrer": null,
        }])
    };
    let code = at_client("GET", true, Value::Null);
    let wanted = [
        ("no", at_client("GET", false, json!("access_denied"))),
        ("yes", code.clone()),
        ("sign-in", code.clone()),
        ("by form", at_client("POST", true, Value::Null)),
        ("silent", code),
        (
            "sign-out",
            json!([{
                "method": "GET", "path": "/bye", "code": false, "error": null, "state": "s", "iss": null,
                "referrer": null,
            }]),
        ),
    ];
    let wanted: Vec<Value> = wanted
        .into_iter()
        .map(|(name, asked)| json!({ "name": name, "landed": true, "asked": asked }))
        .collect();
    for scripts in ["without", "with"] {
        let found = &result[scripts];
        ensure!(found["steps"] == json!(wanted), "{scripts}: {found:#}");
        ensure!(found["stuck"] == json!([]), "{scripts}: {found:#}");
        // No, yes, sign-in and sign-out: each form was answered by a page of ours that goes on.
        ensure!(found["goOn"] == 4, "{scripts}: {found:#}");
    }
    Ok(())
}

#[tokio::test]
async fn ac_196_signing_in_by_keyboard() -> Result<()> {
    let server = ServerProcess::start().await?;
    let result = run(&server, "keyboard").await?;
    ensure!(result["first"] == "Skip to content", "{result}");
    Ok(())
}

#[tokio::test]
async fn ac_062_s14_pages_refuse_to_be_framed() -> Result<()> {
    let server = with_client().await?;
    let result = run(&server, "framing").await?;
    ensure!(result["shows"] == false, "{result}");
    let url = result["url"].as_str().unwrap_or_default();
    ensure!(!url.starts_with(&server.issuer), "{result}");
    Ok(())
}

#[tokio::test]
async fn ac_113_ac_114_ending_other_sessions_on_the_page() -> Result<()> {
    let server = ServerProcess::start().await?;
    let result = run(&server, "sessions").await?;
    ensure!(
        result["other"] == 1 && result["own"] == 0 && result["listed"] != 0,
        "{result}"
    );
    Ok(())
}

#[tokio::test]
async fn a_passkey_is_made_and_signs_in() -> Result<()> {
    let options = Options {
        host: "localhost",
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    let result = run(&server, "passkey").await?;
    ensure!(
        result["made"] == 1 && result["path"] == "/account",
        "{result}"
    );
    Ok(())
}
