//! A backup is put back into a new place while more happened after it: on SQLite by `restore`, or as a
//! snapshot of the folder and `put-back`, on PostgreSQL by its own programs and `put-back`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::kill::{Victim, access};
use super::nodes::cluster::newest;
use crate::support::postgres::Database;

async fn ask(victim: &Victim, path: &str, body: Value) -> Result<Value> {
    let request = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(victim.server.at(path))
        .bearer_auth(&victim.server.root_key)
        .json(&body);
    let answer = victim.send(request).await?;
    ensure!(
        answer.status < 300,
        "{path}: {} {}",
        answer.status,
        answer.body
    );
    Ok(answer.body)
}

async fn issue(victim: &Victim) -> Result<(String, String)> {
    let wish = json!({"name": "key of a test", "prefix": "sk_live", "scopes": ["keys:read"]});
    let made = ask(victim, "/api/v1/keys", wish).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    Ok((text(&made["key"]["id"])?, text(&made["secret"])?))
}

async fn code(victim: &Victim, secret: &str) -> Result<String> {
    let answer = ask(victim, "/api/v1/keys/verify", json!({ "key": secret })).await?;
    Ok(answer["code"].as_str().context("no code")?.to_owned())
}

/// Revokes a key: the number of the change.
async fn revoke(victim: &Victim, id: &str) -> Result<i64> {
    let path = format!("/api/v1/keys/{id}/revoke?wait_ms=0");
    let answer = ask(victim, &path, json!({})).await?;
    answer["receipt"]["version"].as_i64().context("no version")
}

async fn postgres(program: &str, words: &[&str]) -> Result<()> {
    let path: PathBuf = newest()?.join(program);
    let output = Command::new(path)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {complaint}");
    Ok(())
}

/// How the backup is made and put back.
#[derive(Clone, Copy)]
enum By<'a> {
    Archive,
    Snapshot,
    Postgres(&'a Database, &'a Database),
}

/// A folder as it lies there, with the log of its database.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let mut options = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut options, 0o700);
    options.create(to)?;
    for found in std::fs::read_dir(from)? {
        let (found, target) = match found {
            Ok(found) => (found.path(), to.join(found.file_name())),
            Err(error) => return Err(error.into()),
        };
        if found.is_dir() {
            copy_folder(&found, &target)?;
        } else {
            std::fs::copy(&found, &target)?;
        }
    }
    Ok(())
}

async fn all(by: By<'_>) -> Result<()> {
    let database = match by {
        By::Postgres(old, new) => Some((old, new)),
        _ => None,
    };
    let mut victim = Victim::start(database.map(|(old, _)| old.url().to_owned())).await?;
    access::prepare(&victim).await?;
    let (_, kept) = issue(&victim).await?;
    let (ended_id, ended) = issue(&victim).await?;
    let (rotated_id, rotated) = issue(&victim).await?;
    revoke(&victim, &ended_id).await?;
    let live = access::family(&victim)
        .await?
        .text("refresh_token")?
        .to_owned();
    let other = access::family(&victim)
        .await?
        .text("refresh_token")?
        .to_owned();
    let other = access::refresh_with(&victim, &other).await?;
    let other = other.text("refresh_token")?.to_owned();

    let passphrase = victim
        .server
        .write("passphrase", "correct horse battery staple\n")?;
    let file = victim
        .server
        .data()
        .with_file_name("backup.age")
        .display()
        .to_string();
    let dump = victim
        .server
        .data()
        .with_file_name("dump")
        .display()
        .to_string();
    let snapshot = victim.server.data().with_file_name("snapshot");
    if let By::Snapshot = by {
        victim.server.signal("KILL")?;
        let _ = victim.server.ended().await?;
        copy_folder(&victim.server.data(), &snapshot)?;
        victim.server.serve().await?;
    } else {
        let words = ["backup", "--out", &file, "--passphrase-file", &passphrase];
        victim.server.command(&words).await?;
    }
    if let Some((old, _)) = database {
        postgres("pg_dump", &["--format=custom", "--file", &dump, old.url()]).await?;
    }

    // The server goes on, and what happens now is in no backup.
    let rotations = format!("/api/v1/keys/{rotated_id}/rotations?wait_ms=0");
    let made = ask(&victim, &rotations, json!({ "overlap_ms": 0 })).await?;
    let successor = made["secret"].as_str().context("no secret")?.to_owned();
    let refreshed = access::refresh_with(&victim, &live).await?;
    ensure!(refreshed.status == 200, "{}", refreshed.body);
    let refreshed = refreshed.text("refresh_token")?.to_owned();
    let mut version = 0;
    for _ in 0..5 {
        let (id, _) = issue(&victim).await?;
        version = revoke(&victim, &id).await?;
    }
    victim.server.signal("KILL")?;
    let _ = victim.server.ended().await?;

    let data = victim.server.data();
    std::fs::rename(&data, data.with_file_name("old"))?;
    if let By::Snapshot = by {
        copy_folder(&snapshot, &data)?;
        let said = victim.server.command(&["put-back"]).await?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["families_ended"] == 2, "{said}");
    } else {
        let words = ["restore", "--from", &file, "--passphrase-file", &passphrase];
        victim.server.command(&words).await?;
    }
    if let Some((_, new)) = database {
        let to = format!("--dbname={}", new.url());
        postgres("pg_restore", &["--clean", "--if-exists", &to, &dump]).await?;
        let words = ["put-back", "--database", new.url()];
        let said = victim.server.command(&words).await?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["families_ended"] == 2, "{said}");
        victim.server.set_database(new.url().to_owned());
    }
    victim.server.serve().await?;

    ensure!(code(&victim, &kept).await? == "valid", "a key is lost");
    ensure!(
        code(&victim, &ended).await? == "revoked",
        "an ended key is back"
    );
    // The rotation is not in the backup, as the page says.
    ensure!(code(&victim, &rotated).await? == "valid");
    ensure!(code(&victim, &successor).await? == "not_found");
    // No family goes on, with whatever token of it: none has two ends.
    for token in [&live, &refreshed, &other] {
        let answer = access::refresh_with(&victim, token).await?;
        ensure!(answer.status == 400, "{} {}", answer.status, answer.body);
        ensure!(answer.body["error"] == "invalid_grant", "{}", answer.body);
    }
    // A new sign-in gives a new one.
    let fresh = access::family(&victim)
        .await?
        .text("refresh_token")?
        .to_owned();
    ensure!(access::refresh_with(&victim, &fresh).await?.status == 200);
    // Numbers of changes are newer than all that anybody saw.
    let (id, _) = issue(&victim).await?;
    let later = revoke(&victim, &id).await?;
    ensure!(later > version, "{later} after {version}");
    let words = ["doctor", "--offline"];
    let (success, said, complaint) = victim.server.try_command(&words).await?;
    ensure!(success, "{said}{complaint}");
    Ok(())
}

#[tokio::test]
async fn ac_203_a_backup_put_back_forks_no_family_and_revives_nothing_on_sqlite() -> Result<()> {
    all(By::Archive).await
}

#[tokio::test]
async fn ac_203_a_snapshot_put_back_forks_no_family_and_revives_nothing_on_sqlite() -> Result<()> {
    all(By::Snapshot).await
}

#[tokio::test]
async fn ac_203_a_backup_put_back_forks_no_family_and_revives_nothing_on_postgresql() -> Result<()>
{
    let (old, new) = (Database::create().await?, Database::create().await?);
    all(By::Postgres(&old, &new)).await?;
    old.close().await?;
    new.close().await
}
