//! The server as a process: signals, a database that goes away, people who mean harm.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::harness::{OWNER, Options, PASSWORD, ServerProcess, owner, peer};
use super::log_scan;
use crate::support::postgres::Database;

const FLOWS: &[&str] = &[
    "--redirect-uri",
    "http://127.0.0.1:9999/callback",
    "--scope",
    "openid profile email offline_access",
];

fn client() -> Result<reqwest::Client> {
    let limit = Duration::from_secs(20);
    Ok(reqwest::Client::builder()
        .no_proxy()
        .timeout(limit)
        .build()?)
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

/// A request of a public client at the token endpoint.
async fn token(server: &ServerProcess, fields: &[(&str, &str)]) -> Result<(u16, Value)> {
    let response = client()?
        .post(server.at("/oauth2/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(fields))
        .send()
        .await?;
    let status = response.status().as_u16();
    let text = response.text().await?;
    let answer = serde_json::from_str(&text).unwrap_or(Value::Null);
    log_scan::keep_out_of(&answer);
    Ok((status, answer))
}

async fn sign_in(server: &ServerProcess) -> Result<Value> {
    let input = json!({
        "scenario": "sign_in_only", "issuer": server.issuer, "client": "third", "person": owner(),
    });
    peer("openid-client.mjs", &input).await
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name}"))
}

async fn refresh(server: &ServerProcess, old: &str) -> Result<(u16, Value)> {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "third"),
        ("refresh_token", old),
    ];
    token(server, &fields).await
}

#[tokio::test]
async fn sigterm_lets_requests_in_progress_end() -> Result<()> {
    let mut server = ServerProcess::start().await?;
    let address = server.issuer.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let body = form(&[("grant_type", "refresh_token"), ("client_id", "nobody")]);
    let (first, last) = body.split_at(5);
    let head = "content-type: application/x-www-form-urlencoded\r\nconnection: close";
    write!(
        stream,
        "POST /oauth2/token HTTP/1.1\r\nhost: {address}\r\n{head}\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    )?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("TERM")?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write_all(last.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains("invalid_client"), "{answer}");
    ensure!(server.ended().await?, "{}", server.logged());
    // And the folder serves again.
    server.serve().await?;
    ensure!(client()?.get(server.at("/readyz")).send().await?.status() == 200);
    Ok(())
}

/// A way to a database at which a start waits: it takes connections, and hands them on once it is opened.
async fn closed_way(to: &url::Url) -> Result<(url::Url, tokio::sync::watch::Sender<bool>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut way = to.clone();
    ensure!(way.set_host(Some("127.0.0.1")).is_ok());
    ensure!(way.set_port(Some(listener.local_addr()?.port())).is_ok());
    let target = format!(
        "{}:{}",
        to.host_str().context("no host")?,
        to.port().unwrap_or(5432)
    );
    let (open, is_open) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (target, mut is_open) = (target.clone(), is_open.clone());
            tokio::spawn(async move {
                is_open.wait_for(|open| *open).await?;
                let mut database = tokio::net::TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut database).await?;
                anyhow::Ok(())
            });
        }
    });
    Ok((way, open))
}

#[tokio::test]
async fn signals_during_a_start_end_it_well_or_change_nothing() -> Result<()> {
    let database = Database::create().await?;
    let options = Options {
        database: Some(database.url().to_owned()),
        ..Options::default()
    };
    let mut server = ServerProcess::with(options).await?;
    server.signal("TERM")?;
    ensure!(server.ended().await?);
    let (way, open) = closed_way(&url::Url::parse(database.url())?).await?;
    server.set_database(way.into());

    // A reload is no end, though nothing can be read again yet.
    let id = server.begin()?;
    listens(id).await?;
    server.signal("HUP")?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    open.send(true)?;
    server.ready().await?;
    ensure!(client()?.get(server.at("/readyz")).send().await?.status() == 200);
    server.signal("TERM")?;
    ensure!(server.ended().await?, "{}", server.logged());

    // A stop is one, though nothing is there to be drained.
    open.send(false)?;
    let id = server.begin()?;
    listens(id).await?;
    server.signal("TERM")?;
    ensure!(server.ended().await?, "{}", server.logged());
    drop(server);
    database.close().await
}

/// Waits until a process handles signals itself, and a moment more, so that it waits for its database.
async fn listens(id: u32) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    // The lowest bit is SIGHUP's, which is the last that it listens to.
    while caught(id)?.is_none_or(|mask| mask & 1 == 0) {
        ensure!(Instant::now() < end, "it does not listen to signals");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

/// The signals that a process handles itself, one bit each.
fn caught(id: u32) -> Result<Option<u64>> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    Ok(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()))
}

#[tokio::test]
async fn ac_084_ac_203_s24_killed_in_the_middle_of_refreshes() -> Result<()> {
    let mut server = ServerProcess::start().await?;
    server.add_client("third", None, FLOWS).await?;
    let tokens = sign_in(&server).await?;
    let mut newest = text(&tokens, "refresh_token")?.to_owned();
    let mut lost = 0;
    for round in 0..12_u64 {
        let (old, at) = (newest.clone(), server.at("/oauth2/token"));
        let body = form(&[
            ("grant_type", "refresh_token"),
            ("client_id", "third"),
            ("refresh_token", &old),
        ]);
        let client = client()?;
        let asked = tokio::spawn(async move {
            let request = client
                .post(at)
                .header("content-type", "application/x-www-form-urlencoded");
            request.body(body).send().await?.text().await
        });
        tokio::time::sleep(Duration::from_micros(round * 700)).await;
        server.signal("KILL")?;
        let _ = server.ended().await?;
        let answered = asked.await?.ok();
        server.serve().await?;
        // Whatever was lost: the token that was sent still obtains its one successor (AC-084).
        let (status, answer) = refresh(&server, &old).await?;
        ensure!(status == 200, "round {round}: {status} {answer}");
        let successor = text(&answer, "refresh_token")?.to_owned();
        match answered.and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
            Some(first) if first["refresh_token"].is_string() => {
                ensure!(
                    first["refresh_token"] == *successor,
                    "it forked in round {round}"
                );
            }
            _ => lost += 1,
        }
        newest = successor;
    }
    ensure!(lost > 0, "no kill hit a request: the test shows nothing");
    Ok(())
}

#[tokio::test]
async fn ac_204_the_database_goes_away_and_comes_back() -> Result<()> {
    let database = Database::create().await?;
    let options = Options {
        database: Some(database.url().to_owned()),
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    server.add_client("third", None, FLOWS).await?;
    let tokens = sign_in(&server).await?;
    let access = text(&tokens, "access_token")?.to_owned();
    let client = client()?;
    let userinfo = async || {
        let request = client
            .get(server.at("/oauth2/userinfo"))
            .bearer_auth(&access);
        anyhow::Ok(request.send().await?.status().as_u16())
    };
    ensure!(userinfo().await? == 200);

    let name = database
        .url()
        .rsplit('/')
        .next()
        .context("no name")?
        .to_owned();
    let mut admin = PgConnection::connect(&std::env::var("KEYWRIGHT_TEST_POSTGRES")?).await?;
    let mut run = async |sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut admin)
            .await
            .map(drop)
    };
    run(format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS false")).await?;
    run(format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    ))
    .await?;
    let ready = async || anyhow::Ok(client.get(server.at("/readyz")).send().await?.status());
    ensure!(ready().await? == 503, "ready without a database");
    ensure!(userinfo().await? == 503, "let through without a database");
    let (status, answer) = refresh(&server, text(&tokens, "refresh_token")?).await?;
    ensure!(status == 503, "{status} {answer}");
    ensure!(client.get(server.at("/healthz")).send().await?.status() == 200);

    run(format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true")).await?;
    let end = Instant::now() + Duration::from_secs(20);
    while ready().await? != 200 {
        ensure!(Instant::now() < end, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(userinfo().await? == 200);
    let (status, answer) = refresh(&server, text(&tokens, "refresh_token")?).await?;
    ensure!(status == 200, "{status} {answer}");
    drop(server);
    database.close().await
}

#[tokio::test]
async fn ac_202_nothing_secret_is_logged() -> Result<()> {
    let server = ServerProcess::start().await?;
    server.add_client("third", None, FLOWS).await?;
    let tokens = sign_in(&server).await?;
    let _ = refresh(&server, text(&tokens, "refresh_token")?).await?;
    let _ = refresh(&server, "canary-refresh-token-that-nobody-has").await?;
    let client = client()?;
    let bad = client
        .get(server.at("/oauth2/userinfo?access_token=canary-in-the-query"))
        .bearer_auth("canary-bearer-token")
        .send()
        .await?;
    // Two tokens in one request (S27).
    ensure!(bad.status() == 400, "{}", bad.status());
    let bad = client
        .get(server.at("/oauth2/userinfo"))
        .bearer_auth("canary-bearer-token");
    ensure!(bad.send().await?.status() == 401);
    let login = client
        .post(server.at("/auth/login"))
        .json(&json!({ "email": OWNER, "password": "canary-password" }))
        .send()
        .await?;
    ensure!(login.status().is_client_error(), "{}", login.status());
    let log = server.logged();
    ensure!(!log.is_empty(), "nothing is logged: the test shows nothing");
    let secrets = ["access_token", "refresh_token", "id_token"].map(|name| text(&tokens, name));
    for secret in secrets {
        ensure!(!log.contains(secret?), "a token is in the log");
    }
    ensure!(!log.contains("canary") && !log.contains(PASSWORD), "{log}");
    Ok(())
}

/// Sends bytes and reads what comes back, until the other side closes or some seconds are over.
fn raw(address: &str, bytes: &[u8]) -> Result<(String, Duration)> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    // It may have hung up on us already.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok((text, start.elapsed()))
}

#[tokio::test]
async fn malformed_and_oversized_requests_are_answered_and_others_served() -> Result<()> {
    let server = ServerProcess::start().await?;
    let address = server.issuer.trim_start_matches("http://").to_owned();
    let many: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = "z".repeat(200_000);
    let body = "a=".to_owned() + &"b".repeat(10_000_000);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "10,000 headers",
            format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").into(),
        ),
        (
            "a large header",
            format!("GET / HTTP/1.1\r\nhost: x\r\nx: {large}\r\n\r\n").into(),
        ),
        (
            "a long path",
            format!("GET /{large} HTTP/1.1\r\nhost: x\r\n\r\n").into(),
        ),
        (
            "10 MB of body",
            format!(
                "POST /oauth2/token HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
                 application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into(),
        ),
        (
            "no HTTP",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("binary", vec![0xff; 4096]),
        (
            "a bad length",
            b"POST /oauth2/token HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec(),
        ),
    ];
    for (name, bytes) in cases {
        let (address, name) = (address.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || {
            let (answer, took) = raw(&address, &bytes)?;
            let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            ensure!(refused, "{name}: {}", answer.lines().next().unwrap_or(""));
            ensure!(took < Duration::from_secs(18), "{name} took {took:?}");
            anyhow::Ok(())
        })
        .await??;
    }
    // Half a request, byte by byte, on many connections: closed in time, and others are served.
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(&address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        slow.push(stream);
    }
    let start = Instant::now();
    ensure!(client()?.get(server.at("/healthz")).send().await?.status() == 200);
    ensure!(start.elapsed() < Duration::from_secs(2));
    let closed = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        slow[0].read_to_end(&mut rest)
    });
    match tokio::time::timeout(Duration::from_secs(20), closed).await {
        Ok(_) => Ok(()),
        Err(_) => bail!("a slow connection stays open"),
    }
}

#[tokio::test]
async fn ac_200_what_is_unsafe_is_refused_by_name() -> Result<()> {
    let mut server = ServerProcess::start().await?;
    server.signal("TERM")?;
    ensure!(server.ended().await?);
    let key = server.data().join("secrets/master.key");
    std::fs::write(&key, "weak")?;
    let (success, _, complaint) = server.try_command(&["serve"]).await?;
    ensure!(!success && complaint.contains("master.key"), "{complaint}");
    let (success, _, complaint) = server
        .try_command(&[
            "clients",
            "add",
            "--id",
            "wild",
            "--public",
            "--redirect-uri",
            "https://*.example.org/",
        ])
        .await?;
    ensure!(!success && complaint.contains("redirect"), "{complaint}");
    Ok(())
}
