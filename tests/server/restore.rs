//! A backup is put back into a new place while more happened after it: on SQLite by `restore`, or as a
//! snapshot of the folder and `put-back`, on PostgreSQL by its own programs and `put-back`. There the two parts are
//! made while the server writes, and a pepper comes into force in between.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::harness::PASSWORD;
use super::kill::person::Person;
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

/// What a backup is made of.
struct Backup {
    passphrase: String,
    file: String,
    dump: String,
    snapshot: PathBuf,
}

/// Makes a backup, beside the server's folder.
async fn back_up(victim: &mut Victim, by: By<'_>) -> Result<Backup> {
    let beside = |name: &str| victim.server.data().with_file_name(name);
    let backup = Backup {
        passphrase: victim
            .server
            .write("passphrase", "correct horse battery staple\n")?,
        file: beside("backup.age").display().to_string(),
        dump: beside("dump").display().to_string(),
        snapshot: beside("snapshot"),
    };
    if let By::Snapshot = by {
        victim.server.signal("KILL")?;
        let _ = victim.server.ended().await?;
        copy_folder(&victim.server.data(), &backup.snapshot)?;
        victim.server.serve().await?;
        return Ok(backup);
    }
    let (file, passphrase) = (&backup.file, &backup.passphrase);
    let words = ["backup", "--out", file, "--passphrase-file", passphrase];
    victim.server.command(&words).await?;
    if let By::Postgres(old, _) = by {
        let words = ["--format=custom", "--file", &backup.dump, old.url()];
        postgres("pg_dump", &words).await?;
    }
    Ok(backup)
}

/// Ends the server and puts the backup in the place of what it has; it is not served yet.
async fn put_back(victim: &mut Victim, by: By<'_>, backup: &Backup) -> Result<()> {
    victim.server.signal("KILL")?;
    let _ = victim.server.ended().await?;
    let data = victim.server.data();
    std::fs::rename(&data, data.with_file_name("old"))?;
    if let By::Snapshot = by {
        copy_folder(&backup.snapshot, &data)?;
        let said = victim.server.command(&["put-back"]).await?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["families_ended"] == 2, "{said}");
        return Ok(());
    }
    let (file, passphrase) = (&backup.file, &backup.passphrase);
    let words = ["restore", "--from", file, "--passphrase-file", passphrase];
    victim.server.command(&words).await?;
    if let By::Postgres(_, new) = by {
        let to = format!("--dbname={}", new.url());
        postgres("pg_restore", &["--clean", "--if-exists", &to, &backup.dump]).await?;
        let words = ["put-back", "--database", new.url()];
        let said = victim.server.command(&words).await?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["families_ended"] == 2, "{said}");
        victim.server.set_database(new.url().to_owned());
    }
    Ok(())
}

/// The address of its old database, if it has one.
fn old_database(by: By<'_>) -> Option<String> {
    match by {
        By::Postgres(old, _) => Some(old.url().to_owned()),
        _ => None,
    }
}

async fn all(by: By<'_>) -> Result<()> {
    let mut victim = Victim::start(old_database(by)).await?;
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

    let backup = back_up(&mut victim, by).await?;

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
    put_back(&mut victim, by, &backup).await?;
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

async fn get(victim: &Victim, path: &str) -> Result<String> {
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(victim.server.at(path))
        .bearer_auth(&victim.server.root_key)
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(text)
}

/// The first one of a page: its id.
fn first_id(page: &str) -> Result<String> {
    let page: Value = serde_json::from_str(page)?;
    let id = page["items"][0]["id"].as_str();
    Ok(id.with_context(|| page.to_string())?.to_owned())
}

/// A person without a way to sign in, and a key of theirs.
async fn owner_with_key(victim: &Victim) -> Result<(String, String)> {
    let made = ask(victim, "/api/v1/users", json!({ "name": "Billing" })).await?;
    let id = made["id"].as_str().context("no id")?.to_owned();
    let wish = json!({
        "name": "key of a test", "prefix": "sk_live", "scopes": ["keys:read"],
        "owner": { "kind": "person", "id": id },
    });
    let key = ask(victim, "/api/v1/keys", wish).await?;
    let secret = key["secret"].as_str().context("no secret")?.to_owned();
    Ok((id, secret))
}

/// What was ended after the backup is ended again by an export of the trail, before anybody is served.
async fn ends_again(by: By<'_>) -> Result<()> {
    let mut victim = Victim::start(old_database(by)).await?;
    access::prepare(&victim).await?;
    access::family(&victim).await?;
    access::family(&victim).await?;
    let stays = Person::signed_in(&victim, PASSWORD).await?;
    let signed_out = Person::signed_in(&victim, PASSWORD).await?;
    let owner = first_id(&get(&victim, "/api/v1/users").await?)?;
    let sessions = format!("/api/v1/users/{owner}/sessions");
    let session = first_id(&get(&victim, &sessions).await?)?;
    let (_, kept) = issue(&victim).await?;
    let (revoked_id, revoked) = issue(&victim).await?;
    let (leaked_id, leaked) = issue(&victim).await?;
    let (replaced_id, replaced) = issue(&victim).await?;
    let (overlapping_id, overlapping) = issue(&victim).await?;
    let (suspended_id, suspended) = issue(&victim).await?;
    let (enabled_id, enabled) = issue(&victim).await?;
    let (left, of_left) = owner_with_key(&victim).await?;
    let (gone, of_gone) = owner_with_key(&victim).await?;
    let (away, of_away) = owner_with_key(&victim).await?;
    let older = get(&victim, "/api/v1/audit/export").await?;
    let backup = back_up(&mut victim, by).await?;

    let on = async |path: String, body: Value| ask(&victim, &path, body).await;
    let key = |id: &str, step: &str| format!("/api/v1/keys/{id}/{step}?wait_ms=0");
    let reason = json!({ "reason": "found in a log" });
    on(key(&revoked_id, "revoke"), reason.clone()).await?;
    on(
        key(&leaked_id, "rotations"),
        json!({ "compromised": "found in a log" }),
    )
    .await?;
    on(key(&replaced_id, "rotations"), json!({ "overlap_ms": 0 })).await?;
    on(key(&overlapping_id, "rotations"), json!({})).await?;
    on(key(&suspended_id, "disable"), reason.clone()).await?;
    on(key(&enabled_id, "disable"), reason.clone()).await?;
    on(key(&enabled_id, "enable"), json!({})).await?;
    on(format!("/api/v1/owners/{left}/revoke-keys"), reason.clone()).await?;
    on(format!("/api/v1/users/{away}/disable"), reason).await?;
    for path in [
        format!("/api/v1/users/{gone}"),
        format!("{sessions}/{session}"),
    ] {
        let request = victim.client.delete(victim.server.at(&path));
        let request = request.bearer_auth(&victim.server.root_key);
        let answer = victim.send(request).await?;
        ensure!(answer.status < 300, "{path}: {}", answer.status);
    }
    // Issued and ended since: nothing of it is in the backup.
    let (id, late) = issue(&victim).await?;
    revoke(&victim, &id).await?;
    let trail = get(&victim, "/api/v1/audit/export").await?;
    let file = victim.server.write("audit.ndjson", &trail)?;
    let words = ["end-again", "--trail", &file];
    // Where nothing was put back there is nothing to end again.
    let (success, said, complaint) = victim.server.try_command(&words).await?;
    ensure!(
        !success && complaint.contains("put back"),
        "{said}{complaint}"
    );
    put_back(&mut victim, by, &backup).await?;

    // Another's word counts for nothing, and neither does one that is older than the backup.
    let changed = trail.replacen("“key of a test”", "“kex of a test”", 1);
    ensure!(changed != trail);
    for (text, why) in [
        (&changed, "is not what was written"),
        (&older, "not newer than the backup"),
    ] {
        let file = victim.server.write("other.ndjson", text)?;
        let words = ["end-again", "--trail", &file];
        let (success, said, complaint) = victim.server.try_command(&words).await?;
        ensure!(!success && said.is_empty(), "{said}");
        ensure!(complaint.contains(why), "{why}: {complaint}");
    }
    let said: Value = serde_json::from_str(&victim.server.command(&words).await?)?;
    ensure!(said["failed"] == json!([]), "{said}");
    ensure!(said["keys"] == 4 && said["owners"] == 3, "{said}");
    ensure!(said["sessions"] == 1 && said["unknown"] == 1, "{said}");
    // Again, it finds all of it done; who was deleted is not there any more.
    let said: Value = serde_json::from_str(&victim.server.command(&words).await?)?;
    ensure!(
        said["failed"] == json!([]) && said["unknown"] == 2,
        "{said}"
    );
    victim.server.serve().await?;
    for (person, expected) in [(&stays, 200), (&signed_out, 401)] {
        let answer = victim.send(person.get(&victim, "/api/v1/sessions")).await?;
        ensure!(
            answer.status == expected,
            "{} {}",
            answer.status,
            answer.body
        );
    }
    for (name, secret, expected) in [
        ("kept", &kept, "valid"),
        ("revoked", &revoked, "revoked"),
        ("leaked", &leaked, "revoked"),
        ("replaced", &replaced, "revoked"),
        // Its overlap did not end: nothing ended.
        ("overlapping", &overlapping, "valid"),
        ("suspended", &suspended, "disabled"),
        ("enabled again", &enabled, "valid"),
        ("of who left", &of_left, "revoked"),
        ("of who is suspended", &of_away, "owner_disabled"),
        ("of who was deleted", &of_gone, "owner_disabled"),
        ("late", &late, "not_found"),
    ] {
        let found = code(&victim, secret).await?;
        ensure!(found == expected, "{name}: {found} and not {expected}");
    }
    // What was issued and rotated since the backup was put back is not what the trail speaks of.
    let rotations = format!("/api/v1/keys/{leaked_id}/rotations");
    let rotated = ask(&victim, &rotations, json!({ "overlap_ms": 0 })).await?;
    let wish = json!({
        "name": "key of a test", "prefix": "sk_live", "scopes": ["keys:read"], "owner": { "kind": "person", "id": left },
    });
    let fresh = ask(&victim, "/api/v1/keys", wish).await?;
    let words = ["end-again", "--trail", &file];
    let said: Value = serde_json::from_str(&victim.server.command(&words).await?)?;
    ensure!(said["failed"] == json!([]), "{said}");
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    for (name, made) in [("rotated since", &rotated), ("issued since", &fresh)] {
        let secret = made["secret"].as_str().context("no secret")?;
        let found = code(&victim, secret).await?;
        ensure!(found == "valid", "{name}: {found}");
    }
    let words = ["doctor", "--offline"];
    let (success, said, complaint) = victim.server.try_command(&words).await?;
    ensure!(success, "{said}{complaint}");
    Ok(())
}

#[tokio::test]
async fn ac_203_ac_140_what_was_ended_after_a_backup_is_ended_again_on_sqlite() -> Result<()> {
    ends_again(By::Archive).await
}

#[tokio::test]
async fn ac_203_ac_140_what_was_ended_after_a_snapshot_is_ended_again_on_sqlite() -> Result<()> {
    ends_again(By::Snapshot).await
}

#[tokio::test]
async fn ac_203_ac_140_what_was_ended_after_a_backup_is_ended_again_on_postgresql() -> Result<()> {
    let (old, new) = (Database::create().await?, Database::create().await?);
    ends_again(By::Postgres(&old, &new)).await?;
    old.close().await?;
    new.close().await
}

/// Issues keys until it is told to stop, and takes none for issued that was not answered.
async fn keep_issuing(
    client: reqwest::Client,
    at: String,
    root_key: String,
    stop: Arc<AtomicBool>,
    issued: tokio::sync::mpsc::UnboundedSender<String>,
) -> Result<()> {
    let wish = json!({"name": "key of a test", "prefix": "sk_live", "scopes": ["keys:read"]});
    while !stop.load(Ordering::Relaxed) {
        let made = client.post(&at).bearer_auth(&root_key).json(&wish).send();
        let made: Value = serde_json::from_str(&made.await?.text().await?)?;
        let secret = made["secret"].as_str().with_context(|| made.to_string())?;
        issued.send(secret.to_owned())?;
    }
    Ok(())
}

/// Makes a pepper, brings it into force and waits until the server stores new keys under it: its id.
async fn next_pepper(victim: &Victim) -> Result<String> {
    let said = victim.server.command(&["peppers", "add"]).await?;
    let said: Value = serde_json::from_str(&said)?;
    let id = said["id"].as_str().context("no id")?.to_owned();
    victim.server.signal("HUP")?;
    let words = ["peppers", "use", "--id", &id, "--everywhere"];
    victim.server.command(&words).await?;
    victim.server.signal("HUP")?;
    for _ in 0..200 {
        let list = victim.server.command(&["peppers", "list"]).await?;
        for line in list.lines() {
            let one: Value = serde_json::from_str(line)?;
            if one["id"] == *id && one["live_secrets"].as_i64().is_some_and(|many| many > 20) {
                return Ok(id);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("nothing is stored under it: {}", victim.server.logged())
}

async fn made_while_it_writes(dump_comes_first: bool) -> Result<()> {
    let (old, new) = (Database::create().await?, Database::create().await?);
    let mut victim = Victim::start(Some(old.url().to_owned())).await?;
    let passphrase = victim
        .server
        .write("passphrase", "correct horse battery staple\n")?;
    let beside = |name: &str| {
        let path = victim.server.data().with_file_name(name);
        path.display().to_string()
    };
    let (file, dump, away) = (beside("backup.age"), beside("dump"), beside("old"));
    let back_up = ["backup", "--out", &file, "--passphrase-file", &passphrase];
    let to_file = ["--format=custom", "--file", &dump, old.url()];

    let stop = Arc::<AtomicBool>::default();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (at, root_key) = (
            victim.server.at("/api/v1/keys"),
            victim.server.root_key.clone(),
        );
        writers.spawn(keep_issuing(
            client,
            at,
            root_key,
            Arc::clone(&stop),
            sender.clone(),
        ));
    }
    let mut issued = Vec::new();
    while issued.len() < 30 {
        issued.push(receiver.recv().await.context("nobody issues")?);
    }
    let before = issued.len();
    let pepper = if dump_comes_first {
        postgres("pg_dump", &to_file).await?;
        let pepper = next_pepper(&victim).await?;
        victim.server.command(&back_up).await?;
        pepper
    } else {
        victim.server.command(&back_up).await?;
        let pepper = next_pepper(&victim).await?;
        while let Ok(secret) = receiver.try_recv() {
            issued.push(secret);
        }
        postgres("pg_dump", &to_file).await?;
        pepper
    };
    // All that was answered before the dump began is in it.
    let in_dump = issued.len();
    stop.store(true, Ordering::Relaxed);
    while let Some(wrote) = writers.join_next().await {
        wrote??;
    }
    drop(sender);
    while let Some(secret) = receiver.recv().await {
        issued.push(secret);
    }
    ensure!(issued.len() > before + 20, "{} of {before}", issued.len());
    victim.server.signal("KILL")?;
    let _ = victim.server.ended().await?;

    let data = victim.server.data();
    std::fs::rename(&data, &away)?;
    let words = ["restore", "--from", &file, "--passphrase-file", &passphrase];
    victim.server.command(&words).await?;
    let to = format!("--dbname={}", new.url());
    postgres("pg_restore", &["--clean", "--if-exists", &to, &dump]).await?;
    victim
        .server
        .command(&["put-back", "--database", new.url()])
        .await?;
    victim.server.set_database(new.url().to_owned());
    let doctor = ["doctor", "--offline"];
    let (success, said, complaint) = victim.server.try_command(&doctor).await?;
    let told = format!("{said}{complaint}");
    if dump_comes_first {
        ensure!(success, "{told}");
    } else {
        // The other way round it is said which one is missing, and the old folder has it.
        ensure!(!success && told.contains(&pepper), "{told}");
        let name = format!("secrets/pepper-{pepper}.key");
        std::fs::copy(Path::new(&away).join(&name), data.join(&name))?;
        let (success, said, complaint) = victim.server.try_command(&doctor).await?;
        ensure!(success, "{said}{complaint}");
    }
    victim.server.serve().await?;
    for (number, secret) in issued.iter().enumerate() {
        let found = code(&victim, secret).await?;
        let may_be_lost = number >= in_dump && found == "not_found";
        ensure!(
            found == "valid" || may_be_lost,
            "{number} of {in_dump}: {found}"
        );
    }
    // And new ones are stored under a pepper that is there.
    let (_, fresh) = issue(&victim).await?;
    ensure!(code(&victim, &fresh).await? == "valid");
    old.close().await?;
    new.close().await
}

#[tokio::test]
async fn ac_203_ac_148_a_dump_and_then_a_backup_while_it_writes_lose_no_pepper() -> Result<()> {
    made_while_it_writes(true).await
}

#[tokio::test]
async fn ac_203_ac_148_a_backup_that_is_older_than_its_dump_says_which_pepper_is_missing()
-> Result<()> {
    made_while_it_writes(false).await
}
