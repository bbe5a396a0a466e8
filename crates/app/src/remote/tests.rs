//! A registry on a server written by hand: what is sent, what is remembered, what waits.

mod away;
mod choice;
mod no_network;
mod outcomes;
mod permissions;
mod taken_back;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use keywright_domain::SecretText;
use keywright_domain::accounts::Account;
use keywright_domain::api_keys::{ApiKey, DAY_MS, KeyDigest, Kid, NewApiKey, RotationRequest};
use keywright_protocol::accounts::SignInProgressView;
use keywright_protocol::api_keys::{
    ApiKeyListRequest, IssueApiKeyRequest, RevokeApiKeyRequest, VerifyApiKeyRequest,
};
use keywright_protocol::promotion::PromotionRequest;
use keywright_registry::{
    ApiKeyQuery, ClientSecret, TransferIdentity, VerifyRequest, open_transfer,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Credentials, RemoteRegistry, is_offline};
use crate::clock::now_ms;
use crate::tokens::{AccessToken, TokenLife};
use crate::{App, AppError, EventListener, Home, secret_store};

pub(crate) type Outcome = anyhow::Result<()>;

/// One request, whole.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    text: String,
}

/// A server on a port of its own; it can go away and come back.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) url: String,
    answers: Mutex<HashMap<String, (u16, String)>>,
    /// The only access token that is taken.
    token: Mutex<String>,
    asked: Mutex<Vec<Asked>>,
    /// So many requests are read and then dropped without an answer.
    drops: Mutex<usize>,
    /// Given before an answer to this request.
    gates: Mutex<HashMap<String, Arc<tokio::sync::Semaphore>>>,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    pub(crate) async fn start() -> anyhow::Result<Arc<Self>> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let server = Arc::new(Self {
            url: format!("http://{}", socket.local_addr()?),
            token: Mutex::new("t1".to_owned()),
            ..Self::default()
        });
        server.run(socket);
        Ok(server)
    }

    fn run(self: &Arc<Self>, socket: TcpListener) {
        let answering = Arc::clone(self);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let _served = answering.serve(stream).await;
            }
        });
        *self.running.lock().unwrap() = Some(task);
    }

    pub(crate) async fn stop(&self) {
        let task = self.running.lock().unwrap().take().unwrap();
        task.abort();
        let _ended = task.await;
    }

    async fn again(self: &Arc<Self>) -> Outcome {
        let address = self.url.trim_start_matches("http://");
        self.run(TcpListener::bind(address).await?);
        Ok(())
    }

    /// With null, an answer without a body.
    pub(crate) fn says(&self, request: &str, status: u16, body: &Value) {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = (status, text);
        let mut answers = self.answers.lock().unwrap();
        answers.insert(request.to_owned(), answer);
    }

    /// Answers to this request wait from now on until they are let through.
    pub(crate) fn hold(&self, request: &str) -> Arc<tokio::sync::Semaphore> {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let mut gates = self.gates.lock().unwrap();
        gates.insert(request.to_owned(), Arc::clone(&gate));
        gate
    }

    pub(crate) async fn is_asked(&self, request: &str) -> Outcome {
        for _ in 0..1000 {
            let found = {
                let asked = self.asked.lock().unwrap();
                asked.iter().any(|one| one.line == request)
            };
            if found {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("nobody asks {request}")
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    async fn serve(&self, mut stream: TcpStream) -> Outcome {
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
        let line = line.join(" ");
        let (status, body) = self.answer(&line, &text);
        self.asked.lock().unwrap().push(Asked {
            line: line.clone(),
            text,
        });
        let gate = self.gates.lock().unwrap().get(&line).cloned();
        if let Some(gate) = gate {
            gate.acquire().await?.forget();
        }
        {
            let mut drops = self.drops.lock().unwrap();
            if *drops > 0 {
                *drops -= 1;
                return Ok(());
            }
        }
        let media_type = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\n{media_type}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        Ok(())
    }

    fn answer(&self, line: &str, text: &str) -> (u16, String) {
        let wanted = format!("bearer {}\r\n", self.token.lock().unwrap());
        // The API is for who is signed in; metadata and tokens are for everybody.
        if line.contains(" /api/") && !text.to_ascii_lowercase().contains(&wanted) {
            return (401, json!({"code": "token_expired"}).to_string());
        }
        let path = line.split('?').next().unwrap_or(line);
        let answers = self.answers.lock().unwrap();
        let gone = (404, json!({"code": "key_not_found"}).to_string());
        let found = answers.get(line).or_else(|| answers.get(path));
        found.cloned().unwrap_or(gone)
    }
}

/// Two tokens, one after the other.
#[derive(Clone)]
struct Tokens;

impl Credentials for Tokens {
    async fn token(&self, spent: Option<&SecretText>) -> Result<SecretText, AppError> {
        let token = if spent.is_some() { "t2" } else { "t1" };
        Ok(SecretText::new(token.to_owned()))
    }
}

fn remote(server: &Server) -> Result<RemoteRegistry<Tokens>, AppError> {
    RemoteRegistry::new(&server.url, None, Tokens)
}

fn key(id: &str, name: &str) -> Value {
    json!({
        "id": id, "name": name, "prefix": "sk_live", "environment": "live",
        "owner": { "kind": "person", "id": "ada" }, "creator": "ada", "scopes": ["keys:read"],
        "state": "active", "epoch": 4, "created_at": 1, "settings": {},
        "secrets": [{ "kid": "aaaaaaaaaaaa", "last_four": "abcd", "state": "active", "created_at": 1,
                      "use_count": 0 }],
    })
}

fn page(id: &str, name: &str) -> Value {
    json!({
        "items": [{
            "id": id, "name": name, "prefix": "sk_live", "environment": "live",
            "owner": { "kind": "person", "id": "ada" }, "scopes": ["keys:read"], "tags": [],
            "state": "active", "kid": "aaaaaaaaaaaa", "last_four": "abcd", "created_at": 1,
            "has_pending_secret": false,
        }],
        "next_cursor": null, "total": 1, "total_is_estimate": false,
    })
}

fn wish() -> NewApiKey {
    NewApiKey {
        name: "a".into(),
        prefix: "sk_live".into(),
        scopes: vec!["keys:read".into()],
        lifetime_ms: Some(DAY_MS),
        ..NewApiKey::default()
    }
}

#[tokio::test]
async fn a_rotation_that_was_asked_for_twice_is_ours_where_our_secret_is_there() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    let path = "POST /api/v1/keys/k1/rotations";
    let secret = |kid: &str| -> anyhow::Result<ClientSecret> {
        Ok(ClientSecret {
            kid: Kid::new(kid)?,
            last_four: "abcd".into(),
            digest: KeyDigest::from_bytes([7; 32]),
        })
    };
    let rotate = async |kid: &str| -> anyhow::Result<Result<ApiKey, AppError>> {
        let (wish, secret) = (RotationRequest::default(), secret(kid)?);
        Ok(remote
            .rotate_api_key_to("k1", &wish, "rotation-1", &secret)
            .await)
    };
    // The answer that got lost was about our secret.
    server.says(path, 200, &json!({ "key": key("k1", "a") }));
    assert_eq!(rotate("aaaaaaaaaaaa").await??.id, "k1");
    let other = rotate("bbbbbbbbbbbb").await?.map_err(|error| error.code());
    assert_eq!(other.err(), Some("rotation_already_done"));
    // Another secret is another request.
    let refusal = json!({ "code": "idempotency_key_reused", "status": 409, "detail": "reused" });
    server.says(path, 409, &refusal);
    let other = rotate("bbbbbbbbbbbb").await?.map_err(|error| error.code());
    assert_eq!(other.err(), Some("rotation_already_done"));
    Ok(())
}

#[tokio::test]
async fn ac_150_a_new_secret_never_crosses_the_wire() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    let issued = json!({ "key": key("k1", "a") });
    server.says("POST /api/v1/keys", 201, &issued);
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    server.says("POST /api/v1/keys/k1/rotations", 201, &issued);
    let issued = remote.issue_api_key(&wish()).await?;
    let rotated = remote
        .rotate_api_key("k1", &RotationRequest::default(), "rotation-1")
        .await?;
    let asked = server.asked();
    for one in [&issued, &rotated] {
        let text = one.plain.text().expose();
        // What follows prefix, kid and marker is the secret.
        let secret = &text[text.len() - 38..];
        let said: Vec<_> = asked
            .iter()
            .filter(|asked| asked.text.contains(secret))
            .collect();
        assert!(said.is_empty(), "{said:?}");
        let kid = one.plain.kid().as_str();
        assert!(asked.iter().any(|asked| asked.text.contains(kid)));
    }
    Ok(())
}

#[tokio::test]
async fn ac_152_reads_answer_what_was_known_and_changes_are_refused() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    let query = ApiKeyQuery {
        limit: 10,
        ..ApiKeyQuery::default()
    };
    server.says("GET /api/v1/keys", 200, &page("k1", "known"));
    assert_eq!(remote.list_api_keys(&query).await?.as_of, None);
    let before = now_ms();
    server.stop().await;
    let stale = remote.list_api_keys(&query).await?;
    assert!(stale.as_of.is_some_and(|at| at <= before));
    assert_eq!(stale.value.items[0].name, "known");
    let refused = remote.issue_api_key(&wish()).await.expect_err("offline");
    assert_eq!(refused.code(), "registry_offline");
    let request = RotationRequest::default();
    let refused = remote.rotate_api_key("k1", &request, "rotation-1").await;
    assert_eq!(refused.expect_err("offline").code(), "registry_offline");
    let presented = format!("sk_live_{}", "x".repeat(56));
    let request = VerifyRequest {
        presented: &presented,
        ..VerifyRequest::default()
    };
    let refused = remote.verify_api_key(&request).await;
    assert!(is_offline(&refused.expect_err("never from memory")));
    let other = ApiKeyQuery { limit: 11, ..query };
    let unknown = remote.list_api_keys(&other).await.expect_err("never seen");
    assert_eq!(unknown.code(), "registry_offline");

    server.again().await?;
    remote.kept().wake();
    assert_eq!(remote.list_api_keys(&other).await?.as_of, None);
    assert_eq!(remote.kept().offline_since(), None);
    Ok(())
}

#[tokio::test]
async fn a_503_is_being_away_and_another_status_is_not() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "known"));
    remote.find_api_key("k1").await?;
    let away = json!({ "code": "store_unavailable", "detail": "not now" });
    server.says("GET /api/v1/keys/k1", 503, &away);
    assert!(remote.find_api_key("k1").await?.as_of.is_some());
    remote.kept().wake();
    server.says(
        "GET /api/v1/keys/k1",
        404,
        &json!({ "code": "key_not_found" }),
    );
    let gone = remote.find_api_key("k1").await.expect_err("gone");
    assert_eq!(gone.code(), "key_not_found", "not what was known");
    Ok(())
}

#[tokio::test]
async fn only_what_does_no_harm_is_sent_twice() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    server.says("POST /api/v1/keys/k1/revoke", 200, &key("k1", "a"));
    *server.drops.lock().unwrap() = 1;
    remote.find_api_key("k1").await?;
    *server.drops.lock().unwrap() = 1;
    remote.revoke_api_key("k1", "leaked").await?;
    assert_eq!(server.asked().len(), 4, "each twice");
    *server.drops.lock().unwrap() = 2;
    assert!(remote.find_api_key("k1").await.is_ok(), "as it was known");
    assert_eq!(server.asked().len(), 2, "and not a third time");
    remote.kept().answered(now_ms());

    // Whether a key was issued is looked for, not tried again.
    server.says("POST /api/v1/keys", 201, &json!({ "key": key("k1", "a") }));
    server.says("GET /api/v1/keys", 200, &page("k1", "a"));
    *server.drops.lock().unwrap() = 1;
    let unknown = remote.issue_api_key(&wish()).await.expect_err("not found");
    assert_eq!(unknown.code(), "commit_unknown");
    let lines = server.lines();
    let posts = lines.iter().filter(|line| line.starts_with("POST"));
    assert_eq!(posts.count(), 1, "{lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("GET /api/v1/keys?text="))
    );
    // Where the look gets no answer either, nothing more is known than before: it may have been issued.
    remote.kept().answered(now_ms());
    *server.drops.lock().unwrap() = 3;
    let unknown = remote.issue_api_key(&wish()).await.expect_err("no answer");
    assert_eq!(
        (unknown.code(), unknown.retryable()),
        ("commit_unknown", false)
    );
    assert_eq!(*server.drops.lock().unwrap(), 0, "it was looked for");
    Ok(())
}

#[tokio::test]
async fn ac_158_a_refusal_and_a_spent_token() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    let refusal =
        json!({ "code": "insufficient_scope", "detail": "this needs the scope keys:write" });
    server.says("POST /api/v1/keys/k1/disable", 403, &refusal);
    let refused = remote.disable_api_key("k1", "").await.expect_err("403");
    assert_eq!(refused.code(), "insufficient_scope");
    assert!(refused.to_string().contains("keys:write") && refused.hint().is_some());
    // The server takes the second token: one renewal, and the same call again.
    *server.token.lock().unwrap() = "t2".to_owned();
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    server.asked();
    remote.find_api_key("k1").await?;
    assert_eq!(server.asked().len(), 2);
    *server.token.lock().unwrap() = "t3".to_owned();
    let over = remote.find_api_key("k1").await.expect_err("over");
    assert_eq!(over.code(), "reauth_required");
    assert_eq!(server.asked().len(), 2, "not again and again");
    Ok(())
}

#[test]
fn ac_156_plain_http_is_for_this_machine() {
    let code = |issuer: &str| match RemoteRegistry::new(issuer, None, Tokens) {
        Ok(_) => "taken",
        Err(error) => error.code(),
    };
    assert_eq!(code("http://kw.example.com"), "insecure_endpoint");
    assert_eq!(code("https://kw.example.com"), "taken");
    assert_eq!(code("http://127.0.0.1:8377"), "taken");
}

#[tokio::test]
async fn what_no_registry_says_is_refused() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    let mut odd = key("k1", "a");
    odd["secrets"][0]["state"] = json!("dormant");
    for body in [odd, json!({ "id": "k1" }), json!([])] {
        server.says("GET /api/v1/keys/k1", 200, &body);
        let refused = remote.find_api_key("k1").await.expect_err("odd");
        assert_eq!(refused.code(), "not_keywright_server", "{body}");
    }
    for id in ["", ".", ".."] {
        let refused = remote.find_api_key(id).await.expect_err("no id");
        assert_eq!(refused.code(), "key_not_found");
    }
    Ok(())
}

/// Nobody listens.
pub(crate) struct Quiet;

impl EventListener for Quiet {
    fn sign_in_progressed(&self, _progress: SignInProgressView) {}
    fn accounts_changed(&self) {}
    fn clipboard_cleared(&self) {}
}

pub(crate) fn app(folder: &std::path::Path) -> anyhow::Result<App> {
    app_with(folder, Arc::new(Quiet))
}

/// An app in a folder, with a keychain in memory.
pub(crate) fn app_with(
    folder: &std::path::Path,
    events: Arc<dyn EventListener>,
) -> anyhow::Result<App> {
    let home = Home::at(folder)?;
    let mut app = App::new(home, events, Instant::now())?;
    let inner = Arc::get_mut(&mut app.inner).unwrap();
    inner.keychain = secret_store::tests::in_memory();
    Ok(app)
}

fn hold_token(app: &App) {
    let token = AccessToken::new(SecretText::new("t1".to_owned()));
    let life = TokenLife::new(token, Some(300), now_ms());
    app.inner.accounts.sessions.with("a1", |session| {
        session.renew(life, None);
        session.renewable = true;
    });
}

async fn signed_in(folder: &std::path::Path, issuer: &str) -> anyhow::Result<App> {
    let app = app(folder)?;
    sign_in(&app, issuer).await?;
    Ok(app)
}

/// The account `a1` at a server, with a token.
pub(crate) async fn sign_in(app: &App, issuer: &str) -> Outcome {
    let account = Account {
        id: "a1".to_owned(),
        provider_id: "keywright".to_owned(),
        issuer: issuer.to_owned(),
        subject: "u1".to_owned(),
        client_id: "keywright-desktop".to_owned(),
        display_name: "Ada".to_owned(),
        email: None,
        email_verified: false,
        scopes: vec!["openid".to_owned(), "keys:*".to_owned()],
        missing_scopes: Vec::new(),
        in_keychain: true,
        identity_verified: true,
        signed_in_at: now_ms(),
        last_refreshed_at: None,
    };
    let registry = app.inner.registry.get().await?;
    registry.insert_account(&app.inner.actor, account).await?;
    hold_token(app);
    Ok(())
}

fn list() -> ApiKeyListRequest {
    ApiKeyListRequest {
        limit: 10,
        ..ApiKeyListRequest::default()
    }
}

#[tokio::test]
async fn ac_152_a_revocation_waits_on_disk_and_is_done_when_the_server_is_back() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app_one = signed_in(folder.path(), &server.url).await?;
    let chosen = app_one.choose_registry(Some("a1".to_owned())).await?;
    assert_eq!(chosen.current.as_deref(), Some("a1"));
    assert!(chosen.servers[0].may_write);
    server.says("GET /api/v1/keys", 200, &page("k1", "leaked one"));
    assert_eq!(app_one.list_api_keys(list()).await?.stale_since, None);

    server.stop().await;
    let stale = app_one.list_api_keys(list()).await?;
    assert!(stale.stale_since.is_some());
    let revoke = |id: &str| RevokeApiKeyRequest {
        id: id.to_owned(),
        reason: "leaked".to_owned(),
    };
    let waits = app_one.revoke_api_key(revoke("k1")).await?;
    assert!(waits.revocation_queued_at.is_some() && waits.revoked_at.is_none());
    let unknown = app_one.revoke_api_key(revoke("k9")).await;
    assert_eq!(unknown.expect_err("never seen").code(), "registry_offline");
    let stale = app_one.list_api_keys(list()).await?;
    assert!(stale.items[0].revocation_queued_at.is_some());
    app_one.close().await;
    drop(app_one);

    // The app was started again; the server still is away.
    let app_two = app(folder.path())?;
    hold_token(&app_two);
    let view = app_two.list_registries().await?;
    let waiting = &view.servers[0].queued_revocations;
    assert_eq!((waiting.len(), waiting[0].name.as_str()), (1, "leaked one"));
    assert!(app_two.list_api_keys(list()).await?.stale_since.is_some());

    // It is back, but does not allow it: the person is told, and it does not go away by itself.
    server.again().await?;
    let refusal = json!({ "code": "insufficient_scope", "detail": "no" });
    server.says("POST /api/v1/keys/k1/revoke", 403, &refusal);
    let view = app_two.retry_revocations("a1".to_owned()).await?;
    let refused = view.servers[0].queued_revocations[0].refused.clone();
    assert_eq!(refused.expect("told").code, "insufficient_scope");

    let mut revoked = key("k1", "leaked one");
    revoked["revoked_at"] = json!(5);
    server.says("POST /api/v1/keys/k1/revoke", 200, &revoked);
    server.asked();
    let view = app_two.retry_revocations("a1".to_owned()).await?;
    assert!(view.servers[0].queued_revocations.is_empty());
    let asked = server.asked();
    let told = asked.iter().find(|one| one.line.ends_with("/revoke"));
    assert!(told.is_some_and(|one| one.text.contains("leaked")));
    app_two.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_151_the_registry_of_this_device_asks_nobody() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    assert_eq!(app.list_registries().await?.current, None);
    app.list_api_keys(list()).await?;
    app.count_api_keys().await?;
    app.list_scopes().await?;
    assert!(server.asked().is_empty());
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn a_choice_survives_the_settings_page_and_ends_with_its_account() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let before = app.read_settings()?;
    app.choose_registry(Some("a1".to_owned())).await?;
    let kept = app.update_settings(before).await?;
    assert_eq!(kept.registry_account.as_deref(), Some("a1"));
    let unknown = app.choose_registry(Some("a9".to_owned())).await;
    assert_eq!(unknown.expect_err("nobody").code(), "account_not_found");
    app.sign_out("a1".to_owned()).await?;
    assert_eq!(app.read_settings()?.registry_account, None);
    app.close().await;
    Ok(())
}

/// A key of this device: its id and its text.
async fn issued_here(app: &App) -> anyhow::Result<(String, String)> {
    app.choose_registry(None).await?;
    let request = IssueApiKeyRequest {
        name: "moving".into(),
        prefix: "sk_live".into(),
        scopes: vec!["keys:read".into()],
        expires_in_days: Some(30),
        settings: None,
    };
    let issued = app.issue_api_key(request).await?;
    let shown = app.reveal_secret(issued.reveal_id)?;
    Ok((issued.key.id, shown.secret))
}

#[tokio::test]
async fn ac_155_an_interrupted_move_is_repeated_and_nothing_secret_is_sent() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let (id, text) = issued_here(&app).await?;
    let identity = TransferIdentity::generate();
    let offer = json!({ "registry_id": "r", "recipient": identity.recipient().to_string(),
                        "offer": "the offer", "expires_at": 0 });
    server.says("POST /api/v1/promotions/offers", 200, &offer);
    let request = |dry_run| PromotionRequest {
        account_id: "a1".into(),
        key_ids: vec![id.clone()],
        dry_run,
    };
    let answer = |accepted: &[&str], present: &[&str]| json!({ "dry_run": false, "accepted": accepted, "present": present, "refused": [] });

    // A check moves nothing.
    server.says("POST /api/v1/promotions", 200, &answer(&[&id], &[]));
    let preview = app.promote_keys(request(true)).await?;
    assert_eq!(
        (preview.moved.len(), preview.moved[0].name.as_str()),
        (1, "moving")
    );
    let registry = app.inner.registry.get().await?;
    assert_eq!(registry.find_api_key(&id).await?.0.promoted_to, None);

    // The server takes it, and its answer is lost, again and again.
    server.says(
        "POST /api/v1/promotions",
        503,
        &json!({ "code": "store_unavailable" }),
    );
    let lost = app.promote_keys(request(false)).await.expect_err("lost");
    assert_eq!(lost.code(), "registry_offline");
    assert_eq!(registry.find_api_key(&id).await?.0.promoted_to, None);

    // Once more: it has it already.
    app.remote(&registry.find_account("a1").await?)?
        .kept()
        .answered(0);
    server.says(
        "POST /api/v1/promotions",
        200,
        &answer(&[], &[&id, "never sent"]),
    );
    let moved = app.promote_keys(request(false)).await?;
    assert_eq!((moved.moved.len(), moved.refused.len()), (1, 0));
    let (key, _) = registry.find_api_key(&id).await?;
    assert_eq!(key.promoted_to.as_deref(), Some(server.url.as_str()));
    let verified = app.verify_api_key(VerifyApiKeyRequest {
        presented: text.clone(),
        required_scope: None,
        knowing: true,
    });
    assert!(verified.await?.accepted, "it goes on working here");

    // What went over the wire: neither the key nor a pepper, except sealed for that server.
    let peppers = app.peppers(&registry).await?.expect("peppers");
    let pepper = peppers.current().pepper.expose();
    let standard = base64::engine::general_purpose::STANDARD;
    let asked = server.asked();
    for one in &asked {
        let body = &one.text;
        assert!(!body.contains(&text[text.len() - 38..]), "{body}");
        assert!(!body.contains(&hex::encode(pepper)) && !body.contains(&standard.encode(pepper)));
    }
    let sent = asked
        .iter()
        .rev()
        .find(|one| one.line.ends_with("/promotions"));
    let (_, body) = sent
        .and_then(|one| one.text.split_once("\r\n\r\n"))
        .expect("a body");
    let body: Value = serde_json::from_str(body)?;
    let sealed = standard.decode(body["peppers"].as_str().expect("sealed"))?;
    let opened = open_transfer(&sealed, &identity)?;
    assert_eq!(opened.peppers.current().pepper.expose(), pepper);

    // Here it is changed no more, and revoking it ends the copy alone: the server is not asked.
    let refused = app.enable_api_key(id.clone()).await.expect_err("moved");
    assert_eq!(refused.code(), "key_promoted");
    let before = server.asked().len();
    let ended = app
        .revoke_api_key(RevokeApiKeyRequest {
            id: id.clone(),
            reason: String::new(),
        })
        .await?;
    assert_eq!(ended.moved_to.as_deref(), Some(server.url.as_str()));
    assert!(ended.revoked_at.is_some());
    assert_eq!(server.asked().len(), before);
    let verified = app.verify_api_key(VerifyApiKeyRequest {
        presented: text.clone(),
        required_scope: None,
        knowing: true,
    });
    assert!(!verified.await?.accepted, "the copy is ended");
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_155_collisions_and_keys_that_stay_are_told_by_key() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let (id, _) = issued_here(&app).await?;
    let recipient = TransferIdentity::generate().recipient().to_string();
    let offer =
        json!({ "registry_id": "r", "recipient": recipient, "offer": "o", "expires_at": 0 });
    server.says("POST /api/v1/promotions/offers", 200, &offer);
    let taken = json!({ "key_id": id, "code": "kid_taken", "message": "another key here has it" });
    let answer = json!({ "dry_run": false, "accepted": [], "present": [], "refused": [taken] });
    server.says("POST /api/v1/promotions", 200, &answer);
    let request = |key_ids| PromotionRequest {
        account_id: "a1".into(),
        key_ids,
        dry_run: false,
    };
    // Nothing chosen is nothing, and never everything.
    for none_or_too_many in [Vec::new(), vec![id.clone(); 10_001]] {
        let refused = app.promote_keys(request(none_or_too_many)).await;
        assert_eq!(refused.expect_err("no").code(), "invalid_selection");
    }
    assert!(server.asked().is_empty());
    let view = app.promote_keys(request(vec![id.clone()])).await?;
    assert!(view.moved.is_empty());
    assert_eq!(
        (view.refused[0].code.as_str(), view.refused[0].name.as_str()),
        ("kid_taken", "moving")
    );
    let registry = app.inner.registry.get().await?;
    assert_eq!(
        registry.find_api_key(&id).await?.0.promoted_to,
        None,
        "it is kept here"
    );
    app.close().await;
    Ok(())
}
