//! What lies in the database and in a backup of it when every kind of secret went over HTTP: none of them in clear
//! text, in no usual encoding, and no pepper (AC-121).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::harness::PASSWORD;
use super::kill::person::Person;
use super::kill::{Victim, access, keys};
use super::nodes::cluster::newest;
use crate::support::postgres::Database;

/// Something that must not be found.
struct Secret {
    what: String,
    bytes: Vec<u8>,
}

/// What went through the server.
#[derive(Default)]
struct Secrets {
    all: Vec<Secret>,
    /// The public ids of secrets, which are stored: found, or the search looked at nothing.
    kids: Vec<String>,
}

impl Secrets {
    fn add(&mut self, what: &str, text: &str) {
        self.all.push(Secret {
            what: what.to_owned(),
            bytes: text.as_bytes().to_vec(),
        });
    }

    /// An API key: its 32 secret characters, without what lists show of it, and its digest, which a pepper protects.
    fn key(&mut self, what: &str, text: &str) -> Result<()> {
        ensure!(text.len() > 60, "{what} is no key");
        let end = text.len() - 6;
        self.add(what, &text[end - 32..end]);
        self.all.push(Secret {
            what: format!("the digest of {what}"),
            bytes: Sha256::digest(text).to_vec(),
        });
        self.kids.push(text[end - 50..end - 38].to_owned());
        Ok(())
    }
}

/// How somebody might write bytes down.
fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        bytes.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        STANDARD.encode(bytes).into_bytes(),
        STANDARD_NO_PAD.encode(bytes).into_bytes(),
        URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
    ]
}

/// Which of these are in there: one pass, as there are many of them and megabytes of it.
fn found<'a>(bytes: &[u8], parts: &'a [(String, Vec<u8>)]) -> BTreeSet<&'a str> {
    let pair = |bytes: &[u8]| usize::from(bytes[0]) * 256 + usize::from(bytes[1]);
    let mut by_start = vec![Vec::new(); 256 * 256];
    for (what, part) in parts {
        by_start[pair(part)].push((what, part));
    }
    let mut found = BTreeSet::new();
    for at in 0..bytes.len().saturating_sub(1) {
        for (what, part) in &by_start[pair(&bytes[at..])] {
            if bytes[at..].starts_with(part) {
                found.insert(what.as_str());
            }
        }
    }
    found
}

fn search(place: &str, bytes: &[u8], secrets: &Secrets) -> Result<()> {
    let spelled = secrets.all.iter().flat_map(|secret| {
        let spellings = spellings(&secret.bytes).into_iter();
        spellings.map(|spelling| (secret.what.clone(), spelling))
    });
    let spelled: Vec<_> = spelled.collect();
    let there = found(bytes, &spelled);
    ensure!(there.is_empty(), "in {place}: {there:?}");
    let kids = secrets.kids.iter();
    let kids: Vec<_> = kids
        .map(|kid| (kid.clone(), kid.clone().into_bytes()))
        .collect();
    let there = found(bytes, &kids);
    ensure!(
        !kids.is_empty() && kids.iter().all(|(kid, _)| there.contains(kid.as_str())),
        "of the public ids {there:?} are in {place}: the search looks at nothing"
    );
    Ok(())
}

async fn ask(victim: &Victim, path: &str, body: Value) -> Result<Value> {
    let answer = victim.send(keys::request(victim, path, &body)).await?;
    ensure!(
        answer.status < 300,
        "{path}: {} {}",
        answer.status,
        answer.body
    );
    Ok(answer.body)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("no text: {value}"))
}

/// Each way by which a secret of a key reaches the server or leaves it.
async fn of_keys(victim: &Victim, secrets: &mut Secrets) -> Result<()> {
    let (id, first) = keys::issued(victim).await?;
    secrets.key("an issued key", &first)?;
    let path = format!("/api/v1/keys/{id}/rotations");
    let rotated = ask(victim, &path, json!({})).await?;
    secrets.key("a rotated key", text(&rotated["secret"])?)?;
    let rotation = text(&rotated["rotation_id"])?;
    let path = format!("{path}/{rotation}/reissue");
    let again = ask(victim, &path, json!({})).await?;
    secrets.key("a key that was made anew", text(&again["secret"])?)?;
    ensure!(keys::verdict(victim, text(&again["secret"])?).await? == "valid");
    ensure!(keys::verdict(victim, &first).await? == "valid");
    // Asked for twice under one name: the second answer is made from what is stored.
    let wish = json!({ "name": "once", "prefix": "sk_live", "scopes": ["keys:read"] });
    for _ in 0..2 {
        let request = keys::request(victim, "/api/v1/keys", &wish);
        let request = request.header("idempotency-key", "the-same-request-of-this-test");
        let answer = victim.send(request).await?;
        ensure!(answer.status < 300, "{} {}", answer.status, answer.body);
        if let Some(secret) = answer.body["secret"].as_str() {
            secrets.key("a key that was asked for twice", secret)?;
        }
    }
    // One that came from elsewhere, by its digest: it is shown to us when it is used.
    let old = format!(
        "legacy-{}",
        keywright_domain::base62::random_id(&mut rand::rng())
    );
    let hash: String = Sha256::digest(&old)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let ends = u64::try_from(since.as_millis())? + 30 * 86_400_000;
    let line = json!({ "name": "Old", "hash": hash, "scopes": ["keys:read"], "expires_at": ends });
    let import = victim
        .client
        .post(victim.server.at("/api/v1/import?dry_run=false"))
        .bearer_auth(&victim.server.root_key)
        .header("content-type", "application/x-ndjson")
        .body(format!("{line}\n"));
    let imported = victim.send(import).await?;
    ensure!(imported.status < 300, "{}", imported.body);
    ensure!(keys::verdict(victim, &old).await? == "valid");
    secrets.add("an imported key", &old);
    // One that somebody found: the door keeps it sealed until it was dealt with.
    let (_, found) = keys::issued(victim).await?;
    secrets.key("a key that was found", &found)?;
    let body = json!({ "key": found, "seen_in": "https://paste.example.org/1" });
    let report = victim
        .client
        .post(victim.server.at("/found-key"))
        .header("content-type", "application/json")
        .body(body.to_string());
    ensure!(victim.send(report).await?.status == 200);
    crate::support::until("it is ended", async || {
        let code = keys::verdict(victim, &found).await.ok()?;
        (code != "valid").then_some(())
    })
    .await?;
    // And one in the path of an address of ours.
    let (_, lost) = keys::issued(victim).await?;
    secrets.key("a key in an address", &lost)?;
    let path = format!("/verify?api_key={lost}");
    victim
        .send(victim.client.get(victim.server.at(&path)))
        .await?;
    Ok(())
}

/// What people, clients and those who are told of events hold.
async fn of_others(victim: &Victim, secrets: &mut Secrets) -> Result<()> {
    let owner = Person::signed_in(victim, PASSWORD).await?;
    secrets.add("a password", PASSWORD);
    for pair in owner.header().split("; ") {
        if let Some((name, value)) = pair.split_once('=').filter(|(_, value)| value.len() > 20) {
            secrets.add(&format!("the cookie {name}"), value);
        }
    }
    let body = json!({ "email": "grace@example.org" });
    let invite = owner.json(victim, Method::POST, "/api/v1/invitations", &body);
    let invited = victim.send(invite).await?;
    let link = invited.text("link")?;
    let token = link.rsplit(['/', '=']).next().context("no token")?;
    secrets.add("an invitation", token);
    let tokens = access::family(victim).await?;
    for name in ["access_token", "refresh_token", "id_token"] {
        secrets.add(name, tokens.text(name)?);
    }
    let next = access::refresh_with(victim, tokens.text("refresh_token")?).await?;
    secrets.add("the next refresh token", next.text("refresh_token")?);
    let hook = json!({ "url": "https://hooks.example.org/a", "events": ["*"] });
    let hook = ask(victim, "/api/v1/webhooks", hook).await?;
    let secret = text(&hook["secret"])?;
    secrets.add("the secret of a webhook", secret);
    if let Ok(bytes) = STANDARD.decode(secret.trim_start_matches("whsec_")) {
        let what = "the bytes of a webhook's secret".to_owned();
        secrets.all.push(Secret { what, bytes });
    }
    let client = json!({
        "client_id": "confidential", "redirect_uris": ["http://127.0.0.1:9999/callback"],
        "scope": "openid", "token_endpoint_auth_method": "client_secret_post",
    });
    let client = ask(victim, "/api/v1/clients", client).await?;
    secrets.add("the secret of a client", text(&client["client_secret"])?);
    Ok(())
}

/// What the folder of secrets holds: peppers, and the key that seals the rest.
fn of_folder(data: &Path, secrets: &mut Secrets) -> Result<()> {
    let (mut peppers, folder) = (0, data.join("secrets"));
    for entry in std::fs::read_dir(&folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let line = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(line.trim()).unwrap_or_default();
        if bytes.len() == 32 {
            peppers += usize::from(name.starts_with("pepper-"));
            secrets.all.push(Secret { what: name, bytes });
        }
    }
    ensure!(peppers > 0, "no pepper is looked for");
    Ok(())
}

fn all_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if !path.is_dir() {
            found.push(path);
        } else if entry.file_name() != "secrets" {
            all_files(&path, found)?;
        }
    }
    Ok(())
}

/// The database's files of a data folder, as one.
fn database_of(data: &Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    all_files(data, &mut files)?;
    let is_database = |path: &PathBuf| path.to_string_lossy().contains("registry.db");
    ensure!(files.iter().any(is_database), "{files:?}");
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend(std::fs::read(file)?);
    }
    Ok(bytes)
}

async fn filled(database: Option<String>) -> Result<(Victim, Secrets)> {
    let victim = Victim::start(database).await?;
    access::prepare(&victim).await?;
    let mut secrets = Secrets::default();
    secrets.key("the root key", &victim.server.root_key)?;
    of_keys(&victim, &mut secrets).await?;
    of_others(&victim, &mut secrets).await?;
    of_folder(&victim.server.data(), &mut secrets)?;
    Ok((victim, secrets))
}

#[tokio::test]
async fn ac_121_no_secret_is_in_the_database_or_in_a_backup_of_it_on_sqlite() -> Result<()> {
    let (mut victim, secrets) = filled(None).await?;
    let (server, data) = (&victim.server, victim.server.data());
    let passphrase = server.write("passphrase", "correct horse battery staple\n")?;
    let file = data.with_file_name("backup.age").display().to_string();
    let words = ["backup", "--out", &file, "--passphrase-file", &passphrase];
    server.command(&words).await?;
    search("the database", &database_of(&data)?, &secrets)?;
    victim.server.signal("TERM")?;
    ensure!(victim.server.ended().await?, "{}", victim.server.logged());
    search("the closed database", &database_of(&data)?, &secrets)?;
    std::fs::rename(&data, data.with_file_name("old"))?;
    let words = ["restore", "--from", &file, "--passphrase-file", &passphrase];
    victim.server.command(&words).await?;
    search("the backup", &database_of(&data)?, &secrets)
}

#[tokio::test]
async fn ac_121_no_secret_is_in_a_dump_of_the_database_on_postgresql() -> Result<()> {
    let database = Database::create().await?;
    let (victim, secrets) = filled(Some(database.url().to_owned())).await?;
    let output = Command::new(newest()?.join("pg_dump"))
        .args(["--format=plain", database.url()])
        .stdin(Stdio::null())
        .output()
        .await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{complaint}");
    search("the dump", &output.stdout, &secrets)?;
    drop(victim);
    database.close().await
}
