//! Commands that need no server: they judge what lies in a file, or comes through a pipe.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::harness::{ServerProcess, program};

/// What a command said, and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    complaint: String,
}

/// Runs a command with something at its standard input, and nothing of a server around it.
async fn run(words: &[&str], input: &[u8]) -> Result<Said> {
    let mut process = Command::new(program()?)
        .args(words)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = process.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    let fed = tokio::spawn(async move {
        // One that never reads it closes it.
        let _ = stdin.write_all(&input).await;
    });
    let output = process.wait_with_output().await?;
    fed.await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said {
        code: output.status.code(),
        out: text(&output.stdout),
        complaint: text(&output.stderr),
    })
}

#[tokio::test]
async fn ac_185_an_export_is_verified_by_the_program_with_the_file_and_the_key_alone() -> Result<()>
{
    let server = ServerProcess::start().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let get = async |path: &str| {
        let asked = client.get(server.at(path)).bearer_auth(&server.root_key);
        let answer = asked.send().await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer.text().await?)
    };
    let wish = json!({"name": "Orders", "prefix": "sk_live", "scopes": ["keys:read"]});
    for _ in 0..3 {
        let asked = client.post(server.at("/api/v1/keys"));
        let answer = asked.bearer_auth(&server.root_key).json(&wish).send();
        ensure!(answer.await?.status().as_u16() == 201);
    }
    let keys: Value = serde_json::from_str(&get("/api/v1/audit/checkpoint-keys").await?)?;
    let key = keys["items"][0]["public_key"].as_str().context("no key")?;
    let export = get("/api/v1/audit/export").await?;
    let file = server.write("audit.ndjson", &export)?;

    let words = ["audit", "verify", "--public-key", key, "--file"];
    let said = run(&[&words[..], &[&file]].concat(), b"").await?;
    ensure!(said.code == Some(0), "{}{}", said.out, said.complaint);
    let verdict: Value = serde_json::from_str(&said.out)?;
    ensure!(verdict["intact"] == true, "{verdict}");
    ensure!(verdict["vouched_through"] == verdict["last"], "{verdict}");

    // One letter, through a pipe.
    let changed = export.replacen("“Orders”", "“0rders”", 1);
    ensure!(changed != export);
    let said = run(&[&words[..], &["-"]].concat(), changed.as_bytes()).await?;
    ensure!(said.code == Some(1), "{}{}", said.out, said.complaint);
    let verdict: Value = serde_json::from_str(&said.out)?;
    ensure!(verdict["intact"] == false, "{verdict}");

    // Another key vouches for nothing, and what is no export is none.
    let other = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let words = ["audit", "verify", "--public-key", other, "--file", &file];
    ensure!(run(&words, b"").await?.code == Some(1));
    let words = ["audit", "verify", "--public-key", key, "--file", "-"];
    ensure!(run(&words, b"no export\n").await?.code == Some(2));
    Ok(())
}
