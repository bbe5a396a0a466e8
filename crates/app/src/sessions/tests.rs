//! The app against a server written by hand, on this machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use keywright_domain::SecretText;
use keywright_domain::accounts::Account;
use keywright_protocol::accounts::SignInProgressView;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::clock::now_ms;
use crate::tokens::{AccessToken, TokenLife};
use crate::{App, EventListener, Home, secret_store};

struct Silent;

impl EventListener for Silent {
    fn sign_in_progressed(&self, _progress: SignInProgressView) {}
    fn accounts_changed(&self) {}
    fn clipboard_cleared(&self) {}
}

/// What the server does; `answers` are by method and address.
#[derive(Default)]
struct Server {
    url: String,
    answers: Mutex<HashMap<String, (u16, String)>>,
    /// The only access token that is taken.
    token: Mutex<String>,
    /// Whether the refresh token is good.
    refreshes: Mutex<bool>,
    requests: Mutex<Vec<String>>,
}

impl Server {
    async fn start() -> anyhow::Result<Arc<Self>> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let server = Arc::new(Self {
            url: format!("http://{}", socket.local_addr()?),
            token: Mutex::new("t1".to_owned()),
            refreshes: Mutex::new(true),
            ..Self::default()
        });
        let answering = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let _served = answering.serve(stream).await;
            }
        });
        Ok(server)
    }

    fn says(&self, request: &str, status: u16, body: &Value) {
        let answer = (status, body.to_string());
        self.answers
            .lock()
            .unwrap()
            .insert(request.to_owned(), answer);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    async fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut text = String::new();
        loop {
            let mut part = vec![0; 8192];
            let read = stream.read(&mut part).await?;
            text.push_str(&String::from_utf8_lossy(&part[..read]));
            let lower = text.to_ascii_lowercase();
            let length = lower.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
            if read == 0 || body.is_some_and(|got| got >= length.unwrap_or(0)) {
                break;
            }
        }
        let line: Vec<&str> = text.split(' ').take(2).collect();
        let request = line.join(" ");
        let (status, body) = self.answer(&request, &text);
        self.requests.lock().unwrap().push(request);
        let kind = if body.starts_with('<') {
            "text/html"
        } else {
            "application/problem+json"
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        Ok(())
    }

    fn answer(&self, request: &str, text: &str) -> (u16, String) {
        let url = &self.url;
        if request.starts_with("GET /.well-known/") {
            let metadata = json!({
                "issuer": url, "authorization_endpoint": format!("{url}/authorize"),
                "token_endpoint": format!("{url}/token"), "jwks_uri": format!("{url}/jwks"),
            });
            return (200, metadata.to_string());
        }
        if request == "POST /token" {
            if !*self.refreshes.lock().unwrap() {
                return (400, json!({"error": "invalid_grant"}).to_string());
            }
            *self.token.lock().unwrap() = "t2".to_owned();
            let tokens = json!({"access_token": "t2", "token_type": "Bearer", "expires_in": 300});
            return (200, tokens.to_string());
        }
        let wanted = format!("bearer {}\r\n", self.token.lock().unwrap());
        if !text.to_ascii_lowercase().contains(&wanted) {
            return (401, json!({"code": "token_revoked"}).to_string());
        }
        let answers = self.answers.lock().unwrap();
        let gone = (404, json!({"code": "not_found"}).to_string());
        answers.get(request).cloned().unwrap_or(gone)
    }
}

struct Signed {
    app: App,
    _folder: TempDir,
}

/// An account that has the access token `t1`, and a refresh token in a keychain of its own.
async fn signed_in(issuer: &str, provider_id: &str) -> anyhow::Result<Signed> {
    let folder = tempfile::tempdir()?;
    let home = Home::at(folder.path())?;
    let mut app = App::new(home, Arc::new(Silent), Instant::now())?;
    let inner = Arc::get_mut(&mut app.inner).unwrap();
    inner.keychain = secret_store::tests::in_memory();
    let account = Account {
        id: "a1".to_owned(),
        provider_id: provider_id.to_owned(),
        issuer: issuer.to_owned(),
        subject: "u1".to_owned(),
        client_id: "keywright-desktop".to_owned(),
        display_name: "Ada".to_owned(),
        email: None,
        email_verified: false,
        scopes: vec!["openid".to_owned(), "account".to_owned()],
        missing_scopes: Vec::new(),
        in_keychain: true,
        identity_verified: true,
        signed_in_at: now_ms(),
        last_refreshed_at: None,
    };
    let entry = crate::tokens::refresh_entry(&account);
    let refresh_token = SecretText::new("r1".to_owned());
    app.inner.keychain.write(&entry, &refresh_token).await?;
    let registry = app.inner.registry.get().await?;
    registry.insert_account(&app.inner.actor, account).await?;
    hold(&app, "t1", 300);
    Ok(Signed {
        app,
        _folder: folder,
    })
}

fn hold(app: &App, token: &str, seconds: i64) {
    let token = AccessToken::new(SecretText::new(token.to_owned()));
    let life = TokenLife::new(token, Some(seconds), now_ms());
    app.inner.accounts.sessions.with("a1", |session| {
        session.renew(life, None);
        session.renewable = true;
    });
}

fn session(id: &str, current: bool, last_used_at: i64) -> Value {
    json!({
        "id": id, "current": current, "device": "computer", "browser": "Firefox 128",
        "os": "Linux", "user_agent": "Mozilla/5.0 \u{202e}x\u{0007}", "address": "192.0.2.7",
        "signed_in_at": 1, "authenticated_at": 1, "last_used_at": last_used_at, "expires_at": 9,
        "ends_at": 9, "amr": ["pwd", "otp"], "acr": "2",
        "clients": [{"id": "notes", "name": "Notes"}], "something_new": {},
    })
}

fn application(client_id: &str, name: &str) -> Value {
    json!({
        "client_id": client_id, "name": name, "scopes": ["openid"], "allowed_at": 1,
        "last_used_at": null,
        "grants": [{"id": "g1", "expires_at": 5}, {"id": "g2", "expires_at": 7}],
    })
}

const SESSIONS: &str = "GET /api/v1/sessions?limit=100";
const APPLICATIONS: &str = "GET /api/v1/applications?limit=100";

fn fill(server: &Server) {
    let first = json!({"items": [session("s1", false, 5), session("s2", false, 8)],
        "next_cursor": "a b"});
    let second = json!({"items": [session("s3", true, 2)], "next_cursor": null});
    server.says(SESSIONS, 200, &first);
    server.says(&format!("{SESSIONS}&cursor=a+b"), 200, &second);
    let applications = json!({"items": [application("notes", "Notes"),
        application("keywright-desktop", "Keywright")], "next_cursor": null});
    server.says(APPLICATIONS, 200, &applications);
}

async fn code(signed: &Signed) -> String {
    match signed.app.list_sessions("a1".to_owned()).await {
        Ok(_) => "listed".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}

#[tokio::test]
async fn sessions_are_listed_whole_with_this_device_first() -> anyhow::Result<()> {
    let server = Server::start().await?;
    fill(&server);
    let signed = signed_in(&server.url, "keywright").await?;
    let view = signed.app.list_sessions("a1".to_owned()).await?;
    let ids: Vec<_> = view.sessions.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["s3", "s2", "s1"]);
    let first = &view.sessions[0];
    assert!(first.current && !view.more);
    assert_eq!(first.user_agent, "Mozilla/5.0 x");
    assert_eq!(first.methods, ["pwd", "otp"]);
    assert_eq!(first.applications[0].name, "Notes");
    let names: Vec<_> = view.applications.iter().map(|one| &one.name).collect();
    assert_eq!(names, ["Keywright", "Notes"]);
    assert_eq!(view.applications[0].expires_at, Some(7));
    Ok(())
}

#[tokio::test]
async fn a_list_without_an_end_is_cut() -> anyhow::Result<()> {
    let server = Server::start().await?;
    fill(&server);
    let endless = json!({"items": [session("s1", false, 5)], "next_cursor": "x"});
    server.says(SESSIONS, 200, &endless);
    server.says(&format!("{SESSIONS}&cursor=x"), 200, &endless);
    let signed = signed_in(&server.url, "keywright").await?;
    let view = signed.app.list_sessions("a1".to_owned()).await?;
    assert!(view.more);
    assert_eq!(view.sessions.len(), 5);
    Ok(())
}

#[tokio::test]
async fn sessions_and_applications_are_ended_by_their_ids() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.says("DELETE /api/v1/sessions/s1", 204, &Value::Null);
    server.says("DELETE /api/v1/applications/a%2Fb", 204, &Value::Null);
    let gone = json!({"code": "session_not_found", "detail": "no"});
    server.says("DELETE /api/v1/sessions/s9", 404, &gone);
    let ended = json!({"sessions": 2, "grants": 1, "access_ends_at": 77});
    server.says("POST /api/v1/sessions/revoke-others", 200, &ended);
    let signed = signed_in(&server.url, "keywright").await?;
    let (app, id) = (&signed.app, || "a1".to_owned());
    app.end_session(id(), "s1".to_owned()).await?;
    app.end_application(id(), "a/b".to_owned()).await?;
    let ended = app.end_other_sessions(id()).await?;
    assert_eq!((ended.sessions, ended.access_ends_at), (2, Some(77)));
    server.asked();
    let refused = app.end_session(id(), "s9".to_owned()).await;
    assert_eq!(
        refused.err().map(|error| error.code()),
        Some("session_gone")
    );
    // An id that would be another address never leaves.
    for bad in ["", ".", ".."] {
        let refused = app.end_session(id(), bad.to_owned()).await;
        assert_eq!(
            refused.err().map(|error| error.code()),
            Some("session_gone")
        );
    }
    assert_eq!(server.asked(), ["DELETE /api/v1/sessions/s9"]);
    let none = json!({"code": "no_session", "detail": "none"});
    server.says("POST /api/v1/sessions/revoke-others", 400, &none);
    let refused = app.end_other_sessions(id()).await;
    assert_eq!(
        refused.err().map(|error| error.code()),
        Some("no_own_session")
    );
    Ok(())
}

#[tokio::test]
async fn ac_081_a_token_that_is_not_taken_is_renewed_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    fill(&server);
    let signed = signed_in(&server.url, "keywright").await?;
    *server.token.lock().unwrap() = "t2".to_owned();
    assert_eq!(code(&signed).await, "listed");
    let asked = server.asked();
    let count = |wanted: &str| asked.iter().filter(|one| *one == wanted).count();
    assert_eq!((count(SESSIONS), count("POST /token")), (2, 1));
    // One that has ended is renewed before anything is asked.
    hold(&signed.app, "t1", 0);
    assert_eq!(code(&signed).await, "listed");
    let asked = server.asked();
    let first = asked.iter().find(|one| !one.contains("well-known"));
    assert_eq!(first.map(String::as_str), Some("POST /token"));
    Ok(())
}

#[tokio::test]
async fn signed_out_is_said_plainly() -> anyhow::Result<()> {
    let server = Server::start().await?;
    fill(&server);
    let signed = signed_in(&server.url, "keywright").await?;
    // The server takes no token at all, not even a new one.
    *server.token.lock().unwrap() = "t3".to_owned();
    *server.refreshes.lock().unwrap() = false;
    assert_eq!(code(&signed).await, "reauth_required");
    let accounts = signed.app.list_accounts().await?;
    assert!(!accounts[0].in_keychain);
    Ok(())
}

#[tokio::test]
async fn each_refusal_has_its_own_words() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let signed = signed_in(&server.url, "keywright").await?;
    let problem = |code: &str| json!({"code": code, "detail": "because\u{0007}"});
    let cases = [
        (403, problem("insufficient_scope"), "sessions_not_allowed"),
        (403, problem("blocked"), "server_refused"),
        (404, problem("not_found"), "not_keywright_server"),
        (404, Value::String("x".to_owned()), "not_keywright_server"),
        (503, problem("store_unavailable"), "provider_unavailable"),
        (429, problem("too_many"), "provider_unavailable"),
        (302, json!({}), "unexpected_redirect"),
        (200, json!({"rows": []}), "not_keywright_server"),
        (200, json!({"items": [{"id": 1}]}), "not_keywright_server"),
    ];
    for (status, body, wanted) in cases {
        server.says(SESSIONS, status, &body);
        assert_eq!(code(&signed).await, wanted, "{status} {body}");
    }
    let html = (200, "<html>".to_owned());
    server
        .answers
        .lock()
        .unwrap()
        .insert(SESSIONS.to_owned(), html);
    assert_eq!(code(&signed).await, "not_keywright_server");
    Ok(())
}

#[tokio::test]
async fn offline_is_not_signed_out() -> anyhow::Result<()> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", socket.local_addr()?);
    drop(socket);
    let signed = signed_in(&url, "keywright").await?;
    assert_eq!(code(&signed).await, "network_error");
    let accounts = signed.app.list_accounts().await?;
    assert!(accounts[0].in_keychain);
    Ok(())
}

#[tokio::test]
async fn the_token_of_another_provider_goes_nowhere() -> anyhow::Result<()> {
    let server = Server::start().await?;
    fill(&server);
    let signed = signed_in(&server.url, "openid").await?;
    assert_eq!(code(&signed).await, "not_keywright_server");
    assert!(server.asked().is_empty());
    Ok(())
}
