//! Commands that need no server: they judge what lies in a file, or comes through a pipe.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{PlainKey, Prefix};
use rand::distr::{Alphanumeric, SampleString as _};
use rand::{RngExt as _, SeedableRng as _};
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

async fn git(folder: &Path, words: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=A Test",
            "-c",
            "user.email=test@example.org",
        ])
        .args(words)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .await
        .context("git")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {words:?}: {complaint}");
    Ok(output.stdout)
}

fn key(prefix: &str) -> Result<PlainKey> {
    Ok(PlainKey::generate(&Prefix::new(prefix)?, &mut rand::rng()))
}

/// What was found, as (kid, file, line). The whole of a key is never shown.
fn findings(said: &Said, keys: &[&PlainKey]) -> Result<Vec<(String, String, i64)>> {
    for key in keys {
        let secret = &key.text().expose()[key.text().expose().len() - 38..];
        for shown in [&said.out, &said.complaint] {
            ensure!(!shown.contains(&secret[..8]), "the secret is shown");
        }
    }
    let lines = said.out.lines().map(|line| {
        let found: Value = serde_json::from_str(line)?;
        let text = |name: &str| found[name].as_str().map(str::to_owned).context("no text");
        let line = found["line"].as_i64().context("no line")?;
        Ok((text("kid")?, text("file")?, line))
    });
    let mut lines = lines.collect::<Result<Vec<_>>>()?;
    lines.sort();
    Ok(lines)
}

#[tokio::test]
async fn ac_149_keys_are_found_in_files_git_history_and_shell_history() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (committed, typed, there) = (key("sk_live")?, key("acme_live")?, key("sk_test")?);
    let all = [&committed, &typed, &there];

    // Committed once, and taken out with the next commit.
    let project = folder.path().join("project");
    std::fs::create_dir_all(project.join("src/deep"))?;
    git(&project, &["init", "--quiet"]).await?;
    let text = |key: &PlainKey| key.text().expose().to_owned();
    let settings = project.join("settings.py");
    std::fs::write(
        &settings,
        format!("DEBUG = 1\nKEY = '{}'\n", text(&committed)),
    )?;
    git(&project, &["add", "."]).await?;
    git(&project, &["commit", "--quiet", "-m", "Settings"]).await?;
    std::fs::write(&settings, "DEBUG = 1\nKEY = environ['KEY']\n")?;
    git(&project, &["commit", "--quiet", "-am", "Not here"]).await?;

    // Typed into a shell, and left in a file; a link leads to it once more.
    let history = folder.path().join(".zsh_history");
    let typed_text = text(&typed);
    std::fs::write(
        &history,
        format!(
            ": 1700000000:0;ls\n: 1700000001:0;curl -H \"Authorization: Bearer {typed_text}\" https://api.example\n"
        ),
    )?;
    let deep = project.join("src/deep/notes.bin");
    let mut bytes = vec![0xff, 0xfe, b'\n', b'\n'];
    bytes.extend(format!("\\n{}", text(&there)).as_bytes());
    std::fs::write(&deep, bytes)?;
    std::os::unix::fs::symlink(&deep, project.join("again"))?;
    std::os::unix::fs::symlink(&project, project.join("src/circle"))?;

    let name = |path: &Path| path.display().to_string();
    let words = ["keys", "scan", &name(&project), &name(&history)];
    let said = run(&words, b"").await?;
    ensure!(said.code == Some(1), "{}", said.complaint);
    let mut expected = vec![
        (typed.kid().to_string(), name(&history), 2),
        (there.kid().to_string(), name(&deep), 3),
    ];
    expected.sort();
    ensure!(findings(&said, &all)? == expected, "{}", said.out);

    // What is gone from the files is in the history still.
    let log = git(&project, &["log", "-p", "--all", "--text"]).await?;
    let said = run(&["keys", "scan", "-"], &log).await?;
    ensure!(said.code == Some(1), "{}", said.complaint);
    let found = findings(&said, &all)?;
    ensure!(!found.is_empty());
    ensure!(
        found
            .iter()
            .all(|(kid, file, _)| kid == committed.kid().as_str() && file == "-"),
        "{}",
        said.out
    );

    // A file that is not there is no clean one.
    let said = run(&["keys", "scan", &name(&folder.path().join("gone"))], b"").await?;
    ensure!(said.code == Some(2) && said.out.is_empty(), "{}", said.out);
    Ok(())
}

#[tokio::test]
async fn ac_149_a_hundred_thousand_random_lines_hold_no_key() -> Result<()> {
    // The same ones every time.
    let mut random = rand::rngs::StdRng::seed_from_u64(149);
    let mut text = String::new();
    for number in 0..100_000 {
        let length = random.random_range(20..120);
        let line = Alphanumeric.sample_string(&mut random, length);
        text.push_str(&line);
        // Every other line has the very shape of a key, and a checksum of chance.
        if number % 2 == 0 {
            let kid = Alphanumeric.sample_string(&mut random, 12);
            let rest = Alphanumeric.sample_string(&mut random, 38);
            text.push_str(&format!(" sk_live_{kid}KYWRT1{rest}"));
        }
        text.push('\n');
    }
    let said = run(&["keys", "scan", "-"], text.as_bytes()).await?;
    ensure!(said.code == Some(0), "{} {}", said.out, said.complaint);
    ensure!(said.out.is_empty(), "{}", said.out);
    // And one that is a key is found among them.
    let planted = key("sk_live")?;
    let at = text.len() / 2 + text[text.len() / 2..].find('\n').context("a line")? + 1;
    text.insert_str(at, &format!("{}\n", planted.text().expose()));
    let said = run(&["keys", "scan", "-"], text.as_bytes()).await?;
    let found = findings(&said, &[&planted])?;
    ensure!(found.len() == 1 && found[0].0 == planted.kid().as_str());
    Ok(())
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
    // The last event is that of the signature itself.
    let number = |name: &str| verdict[name].as_i64().context("no number");
    ensure!(
        number("vouched_through")? + 1 == number("last")?,
        "{verdict}"
    );

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
