//! A server whose settings name a mail server: what it has to tell goes out by SMTP, from the file of settings to
//! the socket. Notices of time too: of a key that expires, and of a new secret that waits.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{OWNER, Options, PASSWORD};
use super::kill::person::Person;
use super::kill::{Victim, keys};
use super::log_scan;
use crate::support::postgres::Database;

const LOGIN: &str = "a password for the mail server alone";

/// One mail that came: who it is for, what it says, and who its sender said that they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Came {
    pub(super) to: String,
    pub(super) text: String,
    login: String,
}

/// A mail server on this machine, which asks for a password. It says so long after a mail came that it has it.
pub(super) async fn listen(after: Duration) -> Result<(Arc<Mutex<Vec<Came>>>, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let mails = Arc::<Mutex<Vec<Came>>>::default();
    let kept = Arc::clone(&mails);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move { talk(stream, &kept, after).await });
        }
    });
    Ok((mails, port))
}

async fn talk(stream: TcpStream, kept: &Mutex<Vec<Came>>, after: Duration) -> Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 here\r\n").await?;
    let mut came = Came::default();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words = line.trim_end();
        let answer = match words.get(..4).unwrap_or_default() {
            "EHLO" => "250-here\r\n250 AUTH PLAIN",
            "AUTH" => {
                let last = words.rsplit(' ').next().unwrap_or_default();
                came.login = String::from_utf8(STANDARD.decode(last)?)?;
                "235 welcome"
            }
            "MAIL" if came.login.is_empty() => "530 who are you",
            "RCPT" => {
                came.to = words.to_owned();
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                while line != ".\r\n" {
                    line.clear();
                    ensure!(stream.read_line(&mut line).await? > 0, "it left");
                    came.text.push_str(&line);
                }
                let whole = came.clone();
                came.text.clear();
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(whole);
                tokio::time::sleep(after).await;
                "250 kept"
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

/// Settings that send mail there; `folder`: for the password.
pub(super) fn settings(port: u16, folder: &Path) -> Result<String> {
    let password = folder.join("password");
    std::fs::write(&password, format!("{LOGIN}\n"))?;
    log_scan::keep_out(LOGIN);
    Ok(format!(
        "mail.smtp_url = \"smtp://127.0.0.1:{port}\"\n\
         mail.from = \"Keywright <keys@example.org>\"\n\
         mail.user = \"keys\"\n\
         mail.password_file = \"{}\"\n",
        password.display()
    ))
}

#[tokio::test]
async fn the_table_of_mail_sends_an_invitation_once_and_its_password_is_in_no_log() -> Result<()> {
    let (mails, port) = listen(Duration::ZERO).await?;
    let folder = tempfile::tempdir()?;
    let settings = settings(port, folder.path())?;
    let options = Options {
        settings: Box::leak(settings.into_boxed_str()),
        ..Options::default()
    };
    let victim = Victim::with(options).await?;
    let owner = Person::signed_in(&victim, PASSWORD).await?;
    let body = json!({ "email": "grace@example.org" });
    let invite = owner.json(&victim, Method::POST, "/api/v1/invitations", &body);
    let invited = victim.send(invite).await?;
    ensure!(invited.status == 201, "{} {}", invited.status, invited.body);
    let link = invited.text("link")?.to_owned();
    let for_grace = || -> Vec<Came> {
        let mails = mails.lock().unwrap_or_else(PoisonError::into_inner);
        let mails = mails.iter().filter(|mail| mail.to.contains("grace@"));
        mails.cloned().collect()
    };
    crate::support::until("the mail", async || (!for_grace().is_empty()).then_some(())).await?;
    // Once, also when the outbox was looked at again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let came = for_grace();
    ensure!(came.len() == 1, "{came:?}");
    let text = came[0].text.replace("=\r\n", "").replace("=3D", "=");
    ensure!(text.contains(&link), "{text}");
    ensure!(
        text.contains("From: Keywright <keys@example.org>"),
        "{text}"
    );
    ensure!(
        came[0].login == format!("\0keys\0{LOGIN}"),
        "{}",
        came[0].login
    );
    // The log is searched for the password and the link when the server ends; here it said something at all.
    ensure!(!victim.server.logged().is_empty());
    Ok(())
}

const DAY_S: i64 = 24 * 60 * 60;
/// Longer than any turn of what goes on beside requests.
const A_TURN: Duration = Duration::from_secs(70);

/// A key of somebody's: its id.
async fn issue(victim: &Victim, owner: &str, name: &str, days: i64) -> Result<String> {
    let wish = json!({
        "name": name, "prefix": "sk_live", "scopes": ["keys:read"],
        "owner": { "kind": "person", "id": owner }, "lifetime_ms": days * DAY_S * 1000,
    });
    let asked = keys::request(victim, "/api/v1/keys", &wish);
    let issued = victim.send(asked).await?;
    ensure!(issued.status == 201, "{} {}", issued.status, issued.body);
    let id = issued.body["key"]["id"].as_str();
    Ok(id.context("no id")?.to_owned())
}

/// Mails to an address that say both, without the breaks of their encoding.
fn saying(mails: &Mutex<Vec<Came>>, to: &str, name: &str, what: &str) -> Vec<String> {
    let mails = mails.lock().unwrap_or_else(PoisonError::into_inner);
    let to = mails.iter().filter(|mail| mail.to.contains(to));
    let texts = to.map(|mail| mail.text.replace("=\r\n", ""));
    texts
        .filter(|text| text.contains(name) && text.contains(what))
        .collect()
}

/// Waits for such a mail, and returns it.
async fn comes(mails: &Mutex<Vec<Came>>, to: &str, name: &str, what: &str) -> Result<String> {
    let end = Instant::now() + A_TURN;
    while Instant::now() < end {
        if let Some(text) = saying(mails, to, name, what).pop() {
            return Ok(text);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let all = mails.lock().unwrap_or_else(PoisonError::into_inner).clone();
    bail!("no mail about {name}: {all:?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_143_expiry_and_a_waiting_secret_are_told_to_the_owner_by_mail_once_also_after_a_kill()
-> Result<()> {
    let (mails, port) = listen(Duration::ZERO).await?;
    let folder = tempfile::tempdir()?;
    let mut victim = Victim::with(Options {
        settings: Box::leak(settings(port, folder.path())?.into_boxed_str()),
        own_clock: true,
        ..Options::default()
    })
    .await?;
    let grace = json!({ "name": "Grace", "email": "grace@example.org", "email_verified": true });
    let asked = keys::request(&victim, "/api/v1/users", &grace);
    let made = victim.send(asked).await?;
    ensure!(made.status == 201, "{} {}", made.status, made.body);
    let grace = made.text("id")?.to_owned();
    let came = async |name: &str, what: &str| comes(&mails, "grace@", name, what).await;

    // A schedule has its turn: a new secret waits to be taken.
    issue(&victim, &grace, "Billing", 40).await?;
    let scheduled = issue(&victim, &grace, "Orders", 300).await?;
    let schedule = json!({ "every_ms": 2 * DAY_S * 1000, "mode": "issue_pending" });
    let path = format!("/api/v1/keys/{scheduled}/schedule");
    let set = victim.client.put(victim.server.at(&path));
    let set = set.bearer_auth(&victim.server.root_key).json(&schedule);
    ensure!(victim.send(set).await?.status == 200);
    victim.server.clock()?.put(2 * DAY_S + 60)?;
    let waits = ("Orders", "/reissue");
    let text = came(waits.0, waits.1).await?;
    ensure!(!text.contains("Billing"), "{text}");
    ensure!(!text.contains("sk_live_"), "a secret is in a mail: {text}");

    // That is all of it: the next turn would be told too.
    let end = victim.client.delete(victim.server.at(&path));
    let end = end.bearer_auth(&victim.server.root_key);
    let ended = victim.send(end).await?;
    ensure!(ended.status < 300, "{} {}", ended.status, ended.body);

    // And time: the key ends in ten days.
    victim.server.clock()?.put(30 * DAY_S)?;
    let expires = ("Billing", "expires within 14 days");
    let text = came(expires.0, expires.1).await?;
    ensure!(
        text.contains("From: Keywright <keys@example.org>"),
        "{text}"
    );
    let login = {
        let mails = mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails
            .iter()
            .all(|mail| mail.login == format!("\0keys\0{LOGIN}"))
    };
    ensure!(login, "somebody else sent one");

    // Killed, and looked again: what was told is not told again.
    victim.server.signal("KILL")?;
    let _ = victim.server.ended().await?;
    victim.server.serve().await?;
    issue(&victim, &grace, "Tomorrow", 1).await?;
    victim.server.clock()?.put(30 * DAY_S + 600)?;
    came("Tomorrow", "expires ").await?;
    for (name, what) in [waits, expires] {
        let all = saying(&mails, "grace@", name, what);
        ensure!(
            all.len() == 1,
            "{name} was told {} times: {all:?}",
            all.len()
        );
    }
    Ok(())
}

async fn of_a_found_key(database: Option<String>) -> Result<()> {
    let (mails, port) = listen(Duration::ZERO).await?;
    let folder = tempfile::tempdir()?;
    let victim = Victim::with(Options {
        settings: Box::leak(settings(port, folder.path())?.into_boxed_str()),
        database,
        ..Options::default()
    })
    .await?;
    let mut people = Vec::new();
    for (name, is_verified) in [("grace", true), ("heidi", true), ("ivan", false)] {
        let email = format!("{name}@example.org");
        let body = json!({ "name": name, "email": email, "email_verified": is_verified });
        let made = victim
            .send(keys::request(&victim, "/api/v1/users", &body))
            .await?;
        ensure!(made.status == 201, "{} {}", made.status, made.body);
        people.push(made.text("id")?.to_owned());
    }
    let wish = json!({
        "name": "Billing", "prefix": "sk_live", "scopes": ["keys:read"],
        "owner": { "kind": "person", "id": people[0] },
    });
    let issued = victim
        .send(keys::request(&victim, "/api/v1/keys", &wish))
        .await?;
    ensure!(issued.status == 201, "{} {}", issued.status, issued.body);
    let key = issued.text("secret")?.to_owned();
    ensure!(keys::verdict(&victim, &key).await? == "valid");

    let stranger = victim.client.post(victim.server.at("/found-key"));
    let report = stranger.header("content-type", "application/json");
    let report = report.body(json!({ "key": key }).to_string());
    ensure!(victim.send(report).await?.status == 200);
    let what = "found where no key belongs";
    let told = |to: &str| saying(&mails, to, "Billing", what);
    // Whose it is, and whoever administers the server.
    let all = ["grace@example.org", OWNER];
    crate::support::until("a mail to each", async || {
        all.iter().all(|to| !told(to).is_empty()).then_some(())
    })
    .await?;
    let code = keys::verdict(&victim, &key).await?;
    ensure!(code == "key_revoked" || code == "revoked", "it is {code}");
    // Once each, and nobody else.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for to in all {
        let mails = told(to);
        ensure!(mails.len() == 1, "{to}: {mails:?}");
        ensure!(!mails[0].contains(&key[20..]), "the key is in a mail");
    }
    let everybody = told("@");
    ensure!(everybody.len() == 2, "somebody else too: {everybody:?}");
    Ok(())
}

#[tokio::test]
async fn ac_144_owner_and_administrators_hear_of_a_found_key_by_mail() -> Result<()> {
    of_a_found_key(None).await
}

#[tokio::test]
async fn ac_144_owner_and_administrators_hear_of_a_found_key_by_mail_on_postgresql() -> Result<()> {
    let database = Database::create().await?;
    of_a_found_key(Some(database.url().to_owned())).await?;
    database.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_139_an_overlap_that_closes_is_told_to_the_owner_by_mail_with_who_goes_on_as_before()
-> Result<()> {
    let (mails, port) = listen(Duration::ZERO).await?;
    let folder = tempfile::tempdir()?;
    let victim = Victim::with(Options {
        settings: Box::leak(settings(port, folder.path())?.into_boxed_str()),
        own_clock: true,
        ..Options::default()
    })
    .await?;
    let grace = json!({ "name": "Grace", "email": "grace@example.org", "email_verified": true });
    let asked = keys::request(&victim, "/api/v1/users", &grace);
    let grace = victim.send(asked).await?.text("id")?.to_owned();
    let mut secrets = Vec::new();
    for name in ["Billing", "Orders"] {
        let wish = json!({
            "name": name, "prefix": "sk_live", "scopes": ["keys:read"],
            "owner": { "kind": "person", "id": grace },
        });
        let asked = keys::request(&victim, "/api/v1/keys", &wish);
        let issued = victim.send(asked).await?;
        let id = issued.body["key"]["id"].as_str().context("no id")?;
        let path = format!("/api/v1/keys/{id}/rotations");
        let wish = json!({ "overlap_ms": DAY_S * 1000, "clock": "from_issue" });
        let rotated = victim.send(keys::request(&victim, &path, &wish)).await?;
        ensure!(rotated.status == 201, "{} {}", rotated.status, rotated.body);
        secrets.push([
            issued.text("secret")?.to_owned(),
            rotated.text("secret")?.to_owned(),
        ]);
    }
    // Half an hour before its end the caller of one goes on as before, and that of the other has the new secret.
    let closes = "Give these callers the new secret";
    victim.server.clock()?.put(DAY_S - 30 * 60)?;
    ensure!(keys::verdict(&victim, &secrets[0][0]).await? == "valid");
    ensure!(keys::verdict(&victim, &secrets[1][1]).await? == "valid");
    let text = comes(&mails, "grace@", "Billing", closes).await?;
    ensure!(!text.contains("Orders"), "{text}");
    ensure!(!text.contains("sk_live_"), "a secret is in a mail: {text}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = saying(&mails, "@", "", closes);
    ensure!(all.len() == 1, "{all:?}");
    Ok(())
}
