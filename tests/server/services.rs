//! The services of the verifier's examples, as programs of their own beside a real server: what is good is let
//! through, what is bad is not, and what was ended is refused when the example says so.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::harness::{OWNER, Options, PASSWORD, ServerProcess};
use crate::support::until;

const NOTES: &str = "https://notes.example.com";
const PAY: &str = "https://pay.example.com";
const SECRET: &str = "a-long-secret-of-an-application-of-the-examples";
/// How soon a service that follows the server's changes refuses: it says a third of a second, and what was accepted is
/// remembered for five where it is told of no change.
const SOON: Duration = Duration::from_secs(2);
/// And a service that the machine does not let run.
const AT_LAST: Duration = Duration::from_secs(10);
/// So many keys are ended; one of them is refused soon.
const ENDED: usize = 3;
/// So often a key is shown to a service, which asks about it once or twice.
const SHOWN: i64 = 60;

/// One of the examples, serving.
struct Service {
    base: String,
    client: reqwest::Client,
    process: Child,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
    }
}

/// What a service answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    challenge: String,
    cookies: Vec<String>,
    body: String,
}

impl Service {
    /// Starts it with these variables, and waits until it takes requests. What it says lands beside the server's
    /// log, and is searched for secrets as that is.
    async fn start(
        server: &ServerProcess,
        example: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let tests = std::env::current_exe()?;
        let folder = tests.parent().and_then(Path::parent).context("no folder")?;
        let program = folder.join("examples").join(example);
        ensure!(
            program.is_file(),
            "{} is missing: run `cargo build --package keywright-verifier --examples`",
            program.display()
        );
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let listen = listener.local_addr()?.to_string();
        drop(listener);
        let log = server.data().with_file_name(format!("log-{example}"));
        let file = std::fs::File::create(&log)?;
        let process = Command::new(program)
            .env("LISTEN", &listen)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        let service = Self {
            base: format!("http://{listen}"),
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(20))
                .build()?,
            process,
        };
        let what = format!("{example} listens");
        let listening = until(&what, async || {
            tokio::net::TcpStream::connect(&listen).await.ok()
        });
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        listening.await.with_context(said)?;
        Ok(service)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let response = request.send().await?;
        let lines = |name: &str| -> Vec<String> {
            let lines = response.headers().get_all(name).iter();
            lines
                .filter_map(|line| Some(line.to_str().ok()?.to_owned()))
                .collect()
        };
        Ok(Answer {
            status: response.status().as_u16(),
            challenge: lines("www-authenticate").join(", "),
            cookies: lines("set-cookie"),
            body: response.text().await?,
        })
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// With a bearer token, or without one.
    async fn ask(&self, method: &str, path: &str, token: &str) -> Result<Answer> {
        let mut request = self.request(method.parse()?, path);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        self.send(request).await
    }
}

/// Calls the server with its root key.
async fn api(
    server: &ServerProcess,
    method: reqwest::Method,
    path: &str,
    body: Value,
) -> Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client.request(method, server.at(path));
    let response = request
        .bearer_auth(&server.root_key)
        .json(&body)
        .send()
        .await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A key with these scopes: its id and its text.
async fn key(server: &ServerProcess, prefix: &str, scopes: &[&str]) -> Result<(String, String)> {
    let wish = json!({ "name": "of an example", "prefix": prefix, "scopes": scopes });
    let issued = api(server, reqwest::Method::POST, "/api/v1/keys", wish).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    Ok((text(&issued["key"]["id"])?, text(&issued["secret"])?))
}

/// How often anybody asked the server about a key so far.
async fn asked_about_keys(server: &ServerProcess) -> Result<i64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let page = client.get(server.at("/metrics")).send().await?;
    let page = page.text().await?;
    let name = "keywright_http_requests_total{route=\"/api/v1/keys/verify\"";
    let lines = page.lines().filter(|line| line.starts_with(name));
    let counts = lines.map(|line| line.rsplit(' ').next().unwrap_or("").parse::<i64>());
    let count = counts.sum::<Result<i64, _>>()?;
    ensure!(count > 0, "nobody asked yet");
    Ok(count)
}

/// The same with another letter in its middle: what somebody makes up.
fn with_another_letter(text: &str) -> String {
    let at = text.len() / 2;
    let other = if text.as_bytes()[at] == b'A' {
        "B"
    } else {
        "A"
    };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

#[tokio::test]
async fn ac_140_the_example_behind_keys_takes_the_good_and_refuses_a_revoked_one_soon() -> Result<()>
{
    let server = ServerProcess::start().await?;
    let scope = json!({ "name": "orders:read" });
    api(&server, reqwest::Method::PUT, "/api/v1/scopes", scope).await?;
    let (_, own) = key(&server, "kw_root", &["keys:verify"]).await?;
    let variables = [("SERVER", server.issuer.as_str()), ("ROOT_KEY", &own)];
    let service = Service::start(&server, "api_keys", &variables).await?;
    let orders = async |name: &str, key: &str| {
        let request = service.request(reqwest::Method::GET, "/orders");
        service.send(request.header(name, key)).await
    };

    let (id, good) = key(&server, "sk_live", &["orders:read"]).await?;
    let (_, narrow) = key(&server, "sk_live", &["keys:read"]).await?;
    for _ in 0..3 {
        let answer = orders("x-api-key", &good).await?;
        let said = format!("orders for key {id}\n");
        ensure!(
            (answer.status, answer.body.as_str()) == (200, &said),
            "{answer:?}"
        );
    }
    let as_bearer = service.ask("GET", "/orders", &good).await?;
    ensure!(as_bearer.status == 200, "{as_bearer:?}");
    let none = service.ask("GET", "/orders", "").await?;
    ensure!(
        none.status == 401 && none.challenge.starts_with("Bearer"),
        "{none:?}"
    );
    for bad in [with_another_letter(&good), "sk_live_nonsense".to_owned()] {
        let answer = orders("x-api-key", &bad).await?;
        ensure!(answer.status == 401, "{bad}: {answer:?}");
    }
    let less = orders("x-api-key", &narrow).await?;
    ensure!(
        less.status == 403 && less.challenge.contains("orders:read"),
        "{less:?}"
    );

    // It hears the server's changes, so it need not ask about each.
    crate::support::until("answers are remembered", async || {
        let before = asked_about_keys(&server).await.ok()?;
        for _ in 0..SHOWN {
            let answer = orders("x-api-key", &good).await.ok()?;
            (answer.status == 200).then_some(())?;
        }
        let asked = asked_about_keys(&server).await.ok()? - before;
        (asked <= SHOWN / 10).then_some(())
    })
    .await?;

    // And what they name is refused long before it would be forgotten.
    let mut best = AT_LAST;
    for _ in 0..ENDED {
        let (id, key) = key(&server, "sk_live", &["orders:read"]).await?;
        for _ in 0..3 {
            ensure!(orders("x-api-key", &key).await?.status == 200);
        }
        let path = format!("/api/v1/keys/{id}/revoke");
        api(&server, reqwest::Method::POST, &path, json!({})).await?;
        let revoked = Instant::now();
        let refused = loop {
            let asked = revoked.elapsed();
            let answer = orders("x-api-key", &key).await?;
            if answer.status == 401 {
                break asked;
            }
            ensure!(answer.status == 200, "{answer:?}");
            ensure!(
                asked < AT_LAST,
                "let through {asked:?} after it was revoked"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        best = best.min(refused);
        for _ in 0..20 {
            let answer = orders("x-api-key", &key).await?;
            ensure!(answer.status == 401, "it came back: {answer:?}");
        }
    }
    ensure!(best < SOON, "none of {ENDED} was refused before {best:?}");
    ensure!(orders("x-api-key", &good).await?.status == 200);
    Ok(())
}

/// Two clients: one whose tokens are shown to services, and one that is a service.
async fn with_clients() -> Result<ServerProcess> {
    let options = Options {
        settings: "resources = [\"https://notes.example.com\", \"https://pay.example.com\"]\n",
        ..Options::default()
    };
    let server = ServerProcess::with(options).await?;
    let grant = ["--grant", "client_credentials", "--scope"];
    for (id, scope) in [
        ("robot", "payments notes:admin notes:read"),
        ("pay", "tokens:introspect"),
    ] {
        let more = [&grant[..], &[scope]].concat();
        server.add_client(id, Some(SECRET), &more).await?;
    }
    Ok(server)
}

async fn post_form(
    server: &ServerProcess,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<(u16, String)> {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client
        .post(server.at(path))
        .basic_auth("robot", Some(SECRET));
    let response = request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// A token of the robot's own, for a service; for the server's API where none is named.
async fn token(server: &ServerProcess, resource: &str, scope: &str) -> Result<String> {
    let mut fields = vec![("grant_type", "client_credentials"), ("scope", scope)];
    fields.extend((!resource.is_empty()).then_some(("resource", resource)));
    let (status, text) = post_form(server, "/oauth2/token", &fields).await?;
    ensure!(status == 200, "{status} {text}");
    let answer: Value = serde_json::from_str(&text)?;
    let token = answer["access_token"].as_str().context("no token")?;
    super::log_scan::keep_out(token);
    Ok(token.to_owned())
}

async fn revoke(server: &ServerProcess, token: &str) -> Result<()> {
    let (status, text) = post_form(server, "/oauth2/revoke", &[("token", token)]).await?;
    ensure!(status == 200, "{status} {text}");
    Ok(())
}

fn refused(answer: &Answer, code: &str) -> Result<()> {
    ensure!(
        answer.status == 401 && answer.challenge.contains(code),
        "{code}: {answer:?}"
    );
    Ok(())
}

#[tokio::test]
async fn s2_06_the_offline_example_takes_good_tokens_until_they_end_without_asking() -> Result<()> {
    let server = with_clients().await?;
    let variables = [("ISSUER", server.issuer.as_str()), ("AUDIENCE", NOTES)];
    let service = Service::start(&server, "offline", &variables).await?;
    let good = token(&server, NOTES, "notes:read").await?;
    let answer = service.ask("GET", "/notes", &good).await?;
    ensure!(
        (answer.status, answer.body.as_str()) == (200, "the application robot itself\n"),
        "{answer:?}"
    );
    ensure!(service.ask("GET", "/health", "").await?.status == 200);
    ensure!(service.ask("GET", "/notes", "").await?.status == 401);
    let (signed, signature) = good.rsplit_once('.').context("no JWT")?;
    let forged = format!("{signed}.{}", with_another_letter(signature));
    refused(
        &service.ask("GET", "/notes", &forged).await?,
        "invalid_signature",
    )?;
    let elsewhere = token(&server, PAY, "payments").await?;
    refused(
        &service.ask("GET", "/notes", &elsewhere).await?,
        "wrong_audience",
    )?;
    // A scope that is missing, and a role that no application has.
    let narrow = service.ask("GET", "/admin", &good).await?;
    ensure!(narrow.status == 403, "{narrow:?}");
    let wide = token(&server, NOTES, "notes:admin notes:read").await?;
    let wide = service.ask("GET", "/admin", &wide).await?;
    ensure!(
        wide.status == 403 && wide.challenge.contains("insufficient_scope"),
        "{wide:?}"
    );

    // What it is for: it asks nobody about a token. So one that was revoked is good until it ends, and the
    // server may be away.
    revoke(&server, &good).await?;
    ensure!(service.ask("GET", "/notes", &good).await?.status == 200);
    server.signal("STOP")?;
    let answer = service.ask("GET", "/notes", &good).await;
    server.signal("CONT")?;
    ensure!(answer?.status == 200, "it asked the server");
    Ok(())
}

#[tokio::test]
async fn s2_06_ac_094_the_online_example_refuses_a_revoked_token_at_once() -> Result<()> {
    let mut server = with_clients().await?;
    let variables = [
        ("ISSUER", server.issuer.as_str()),
        ("AUDIENCE", PAY),
        ("CLIENT_ID", "pay"),
        ("CLIENT_SECRET", SECRET),
    ];
    let service = Service::start(&server, "online", &variables).await?;
    let good = token(&server, PAY, "payments").await?;
    let pay = async |token: &str| service.ask("POST", "/payments", token).await;
    for _ in 0..3 {
        let answer = pay(&good).await?;
        ensure!(
            (answer.status, answer.body.as_str()) == (200, "paid by client:robot\n"),
            "{answer:?}"
        );
    }
    ensure!(pay("").await?.status == 401);
    refused(&pay(&with_another_letter(&good)).await?, "token_revoked")?;
    let elsewhere = token(&server, NOTES, "payments").await?;
    refused(&pay(&elsewhere).await?, "wrong_audience")?;
    let narrow = pay(&token(&server, PAY, "notes:read").await?).await?;
    ensure!(
        narrow.status == 403 && narrow.challenge.contains("payments"),
        "{narrow:?}"
    );
    revoke(&server, &good).await?;
    refused(&pay(&good).await?, "token_revoked")?;

    // Nobody is let through while nobody can be asked.
    let other = token(&server, PAY, "payments").await?;
    ensure!(pay(&other).await?.status == 200);
    server.signal("TERM")?;
    ensure!(server.ended().await?, "{}", server.logged());
    let away = pay(&other).await?;
    ensure!(away.status == 503 && away.challenge.is_empty(), "{away:?}");
    Ok(())
}

/// Cookies as a browser sends them back, out of `Set-Cookie`.
fn sent_back(lines: &[String]) -> String {
    let pairs = lines.iter().filter_map(|line| line.split(';').next());
    pairs.collect::<Vec<_>>().join("; ")
}

/// The value of the form's field that proves where it came from.
fn csrf_token(page: &str) -> Result<String> {
    let rest = page.split("name=\"csrf_token\" value=\"").nth(1);
    let token = rest.and_then(|rest| rest.split('"').next());
    Ok(token
        .with_context(|| format!("no token: {page}"))?
        .to_owned())
}

/// The cookies of the owner, who signed in on the server's page.
async fn signed_in(server: &ServerProcess, service: &Service) -> Result<String> {
    let page = service.client.get(server.at("/sign-in"));
    let page = service.send(page).await?;
    let token = csrf_token(&page.body)?;
    let fields = [
        ("email", OWNER),
        ("password", PASSWORD),
        ("return_to", "/account"),
        ("csrf_token", token.as_str()),
    ];
    let request = service.client.post(server.at("/sign-in")).form(&fields);
    let request = from_our_page(request, &sent_back(&page.cookies));
    let answer = service.send(request).await?;
    ensure!(answer.status == 303, "{answer:?}");
    Ok(sent_back(&answer.cookies))
}

/// What a browser says of a form on a page of the same host.
fn from_our_page(request: reqwest::RequestBuilder, cookies: &str) -> reqwest::RequestBuilder {
    let request = request.header("origin", "null");
    request
        .header("sec-fetch-site", "same-origin")
        .header("cookie", cookies)
}

#[tokio::test]
async fn s2_25_s2_37_the_web_application_knows_whose_session_it_is_until_it_ends() -> Result<()> {
    let server = ServerProcess::start().await?;
    let variables = [("SERVER", server.issuer.as_str())];
    let service = Service::start(&server, "web_application", &variables).await?;
    let home = async |cookies: &str| {
        let request = service.request(reqwest::Method::GET, "/");
        service.send(request.header("cookie", cookies)).await
    };
    let nobody = "Nobody is signed in.";
    ensure!(home("").await?.body.contains(nobody));
    let cookies = signed_in(&server, &service).await?;
    let made_up: Vec<_> = cookies.split("; ").map(with_another_letter).collect();
    let made_up = made_up.join("; ");
    ensure!(home(&made_up).await?.body.contains(nobody));
    let page = home(&cookies).await?;
    ensure!(
        page.status == 200 && page.body.contains("Hello, "),
        "{page:?}"
    );
    let token = csrf_token(&page.body)?;
    let all = format!("{cookies}; {}", sent_back(&page.cookies));
    let sign_out = async |token: &str| {
        let request = service.request(reqwest::Method::POST, "/sign-out");
        let request = from_our_page(request, &all);
        service.send(request.form(&[("csrf_token", token)])).await
    };
    let forged = sign_out(&with_another_letter(&token)).await?;
    ensure!(forged.status == 403, "{forged:?}");
    ensure!(home(&cookies).await?.body.contains("Hello, "));
    let out = sign_out(&token).await?;
    ensure!(out.status == 303, "{out:?}");
    // The server's cookies are taken away through the application.
    ensure!(
        out.cookies.iter().any(|line| line.contains("Max-Age=0")),
        "{out:?}"
    );
    ensure!(home(&cookies).await?.body.contains(nobody));
    Ok(())
}
