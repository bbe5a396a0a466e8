//! The example of `docs/key-api.md`: a program that delivers what a schedule makes, from the schedule to the
//! first use, without anybody at it. It is run as it stands in `docs/examples`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::harness::{Options, ServerProcess};

struct Program {
    _child: Child,
    port: u16,
}

async fn start(server: &ServerProcess, folder: &Path, secret: &str) -> Result<Program> {
    let root = server.write("root.key", &server.root_key)?;
    let hook = server.write("hook.secret", secret)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/deliver.mjs");
    let mut child = Command::new("node")
        .arg(script)
        .env("KEYWRIGHT", &server.issuer)
        .env("ROOT_KEY_FILE", root)
        .env("WEBHOOK_SECRET_FILE", hook)
        .env("FOLDER", folder)
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let out = child.stdout.take().context("no output")?;
    let mut lines = BufReader::new(out).lines();
    let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await??;
    let line = line.context("it ended")?;
    let port = line.strip_prefix("listening ").context(line.clone())?;
    Ok(Program {
        port: port.parse()?,
        _child: child,
    })
}

async fn ask(server: &ServerProcess, method: &str, path: &str, body: Value) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut request = client
        .request(method.parse()?, server.at(path))
        .bearer_auth(&server.root_key);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn verdict(server: &ServerProcess, key: &str) -> Result<u16> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client.get(server.at("/verify")).header("x-api-key", key);
    Ok(request.send().await?.status().as_u16())
}

#[tokio::test]
async fn a_scheduled_rotation_is_delivered_by_the_example_without_anybody() -> Result<()> {
    let options = Options {
        settings: "allow_private_addresses = true",
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    let folder = tempfile::tempdir()?;
    ask(
        &server,
        "PUT",
        "/api/v1/scopes",
        json!({ "name": "orders:read" }),
    )
    .await?;
    let wish = json!({ "name": "Billing", "prefix": "sk_live", "scopes": ["orders:read"] });
    let issued = ask(&server, "POST", "/api/v1/keys", wish).await?;
    let old = issued["secret"].as_str().context("a secret")?.to_owned();
    let id = issued["key"]["id"].as_str().context("an id")?.to_owned();
    ensure!(verdict(&server, &old).await? == 204);
    let file = folder.path().join("billing");
    std::fs::write(&file, &old)?;

    // Its address is known when it listens, its secret when the webhook is there.
    let made = json!({ "url": "http://127.0.0.1:1/", "events": ["delivery.due"] });
    let made = ask(&server, "POST", "/api/v1/webhooks", made).await?;
    let secret = made["secret"].as_str().context("a secret")?;
    let program = start(&server, folder.path(), secret).await?;
    let hook = format!(
        "/api/v1/webhooks/{}",
        made["webhook"]["id"].as_str().context("an id")?
    );
    let url = format!("http://127.0.0.1:{}/", program.port);
    ask(&server, "PATCH", &hook, json!({ "url": url })).await?;
    // Whoever is not the server is not listened to.
    let client = reqwest::Client::builder().no_proxy().build()?;
    let forged = client.post(&url).body(r#"{"type":"delivery.due"}"#).send();
    ensure!(forged.await?.status() == 401);

    let schedule = format!("/api/v1/keys/{id}/schedule");
    let monthly = json!({ "cron": "30 2 1 * *", "time_zone": "Europe/Berlin", "mode": "automatic",
        "delivery": "file:billing" });
    ask(&server, "PUT", &schedule, monthly).await?;
    ask(&server, "POST", &format!("{schedule}/run-now"), Value::Null).await?;
    // Schedules are looked at every half minute.
    let mut new = old.clone();
    for _ in 0..900 {
        new = std::fs::read_to_string(&file)?;
        if new != old {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(new != old, "nothing was delivered: {}", server.logged());
    let rotations = format!("/api/v1/keys/{id}/rotations");
    let found = ask(&server, "GET", &rotations, Value::Null).await?;
    let rotation = found["items"][0].clone();
    ensure!(rotation["state"] == "pending", "{rotation}");
    let of = rotation["id"].as_str().context("an id")?;
    let deliveries = format!("{rotations}/{of}/deliveries");
    let told = crate::support::until("the delivery is told", async || {
        let told = ask(&server, "GET", &deliveries, Value::Null).await.ok()?;
        (told["items"][0]["delivered"] == true).then_some(told)
    });
    let told = told.await?;
    ensure!(told["items"].as_array().map(Vec::len) == Some(1), "{told}");
    // The first use of what stands in the file, and the overlap begins.
    ensure!(verdict(&server, &new).await? == 204);
    ensure!(verdict(&server, &old).await? == 204);
    let found = ask(&server, "GET", &rotations, Value::Null).await?;
    ensure!(found["items"][0]["state"] == "overlapping", "{found}");
    Ok(())
}
