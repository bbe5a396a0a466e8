//! Gateways before a small service, configured as docs/gateways.md says: Debian's nginx and Caddy, and of those that
//! Debian has none of, Traefik and Envoy.

mod checks;
mod envoy;
mod kept;
mod pages;
mod site;
mod traefik;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use self::checks::Gateway;
use self::site::{Site, raw};
use super::harness::ServerProcess;

const DOCS: &str = include_str!("../../docs/gateways.md");
/// What `cargo xtask test` installs, and where it says that it is.
const PACKAGES: &str = include_str!("../../xtask/gateways.txt");
const FOLDER: &str = "KEYWRIGHT_TEST_GATEWAYS";

/// The program of a package; the page says which version was tested.
fn packaged(package: &str, name: &str, program: &str) -> Result<PathBuf> {
    let folder = std::env::var(FOLDER)
        .with_context(|| format!("{FOLDER} is not set: run the tests by `cargo xtask test`"))?;
    let version = PACKAGES
        .lines()
        .find_map(|line| line.strip_prefix(package)?.strip_prefix("=="))
        .and_then(|rest| rest.split_whitespace().next())
        .context("xtask/gateways.txt has no such package")?;
    let said = format!("by {name} {version}");
    ensure!(
        DOCS.contains(&said),
        "docs/gateways.md does not say \"{said}\""
    );
    Ok(Path::new(&folder).join("bin").join(program))
}

/// A port of 127.0.0.1 that nobody has.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

/// The first block below a heading of the page, for this server and service.
fn example(heading: &str, server: &ServerProcess, service: u16) -> Result<String> {
    let block = DOCS
        .split(heading)
        .nth(1)
        .and_then(|rest| rest.split("```").nth(1))
        .and_then(|block| block.split_once('\n'))
        .context("docs/gateways.md has no such configuration")?;
    let address = server.issuer.trim_start_matches("http://");
    Ok(block
        .1
        .replace("127.0.0.1:8377", address)
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{service}")))
}

/// Caddy with this configuration, on a port of its own.
async fn caddy(folder: &Path, site: &str) -> Result<(Child, u16)> {
    let port = free_port()?;
    let site = site.replace("api.example.org", &format!("http://127.0.0.1:{port}"));
    let file = folder.join(format!("Caddyfile-{port}"));
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{site}"))?;
    let log = folder.join(format!("caddy-{port}.log"));
    let caddy = Command::new("/usr/bin/caddy")
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&file)
        .env("XDG_DATA_HOME", folder)
        .env("XDG_CONFIG_HOME", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .kill_on_drop(true)
        .spawn()
        .context("Caddy cannot be started")?;
    let end = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(Instant::now() < end, "Caddy does not start: {said}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok((caddy, port))
}

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// A refusal that a limit was reached, as the client sees it.
async fn check_limited(answer: reqwest::Response) -> Result<()> {
    ensure!(answer.status() == 429, "{}", answer.status());
    let wait: u64 = header(&answer, "retry-after")
        .parse()
        .context("retry-after")?;
    ensure!((1..=3600).contains(&wait), "{wait}");
    ensure!(header(&answer, "ratelimit").contains("r=0"), "{answer:?}");
    ensure!(
        header(&answer, "x-ratelimit-remaining") == "0",
        "{answer:?}"
    );
    ensure!(
        !header(&answer, "x-ratelimit-reset").is_empty(),
        "{answer:?}"
    );
    ensure!(
        header(&answer, "content-type") == "application/problem+json",
        "{answer:?}"
    );
    ensure!(header(&answer, "cache-control") == "no-store", "{answer:?}");
    let body: Value = answer.json().await?;
    ensure!(
        body["code"] == "rate_limited" && body["status"] == 429,
        "{body}"
    );
    Ok(())
}

/// nginx with what stands in its `http` block, for a port.
pub(super) async fn start(
    folder: &Path,
    inside: impl FnOnce(u16) -> String,
) -> Result<(Child, u16)> {
    let port = free_port()?;
    let inside = inside(port);
    let place = folder.display();
    // Started by root it becomes somebody else, who cannot reach the folder: it stays root. One process,
    // so that ending it ends all of it.
    let user = match std::fs::metadata("/proc/self")?.uid() {
        0 => "user root;",
        _ => "",
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
        .concat();
    let conf = format!(
        "{user}\ndaemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{ access_log {place}/access.log;\n{temporary}\
         {inside} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, conf)?;
    let errors = folder.join("error.log");
    let nginx = Command::new("/usr/sbin/nginx")
        .args([
            "-e".as_ref(),
            errors.as_os_str(),
            "-p".as_ref(),
            folder.as_os_str(),
        ])
        .args(["-c".as_ref(), file.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("nginx cannot be started")?;
    let end = Instant::now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        ensure!(Instant::now() < end, "nginx does not start: {said}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok((nginx, port))
}

/// What the page says for nginx.
#[derive(Debug)]
struct Nginx {
    /// For its `http` block.
    http: String,
    /// For the `server` block.
    server: String,
}

impl Nginx {
    fn read(block: &str) -> Result<Self> {
        let (http, server) = block
            .split_once("# In `server`:\n")
            .context("the page has no part for nginx's server")?;
        Ok(Self {
            http: http.to_owned(),
            server: server.to_owned(),
        })
    }
}

/// With one text in place of another, which must be there.
fn changed(text: &str, from: &str, to: &str) -> Result<String> {
    ensure!(text.contains(from), "{from} is not in: {text}");
    Ok(text.replace(from, to))
}

/// A site behind nginx; the folder and the process last as long as the test.
async fn behind_nginx(settings: &'static str) -> Result<(Site, Gateway, Child, tempfile::TempDir)> {
    behind_changed_nginx(settings, |_, page| Ok(page)).await
}

/// The same with the page's own configuration changed.
async fn behind_changed_nginx(
    settings: &'static str,
    change: impl FnOnce(&ServerProcess, Nginx) -> Result<Nginx>,
) -> Result<(Site, Gateway, Child, tempfile::TempDir)> {
    let site = Site::start(settings).await?;
    let folder = tempfile::tempdir()?;
    let page = Nginx::read(&example("## nginx\n", &site.server, site.service.port)?)?;
    let Nginx { http, server } = change(&site.server, page)?;
    let (nginx, port) = start(folder.path(), |port| {
        format!("{http}\nserver {{ listen 127.0.0.1:{port};\n{server}\n}}")
    })
    .await?;
    let gateway = Gateway {
        port,
        hands_on: &["Key-Id", "Scopes"],
        tells_end: true,
    };
    Ok((site, gateway, nginx, folder))
}

/// The same of Caddy.
async fn behind_caddy(settings: &'static str) -> Result<(Site, Gateway, Child, tempfile::TempDir)> {
    behind_changed_caddy(settings, Ok).await
}

async fn behind_changed_caddy(
    settings: &'static str,
    change: impl FnOnce(String) -> Result<String>,
) -> Result<(Site, Gateway, Child, tempfile::TempDir)> {
    let site = Site::start(settings).await?;
    let folder = tempfile::tempdir()?;
    let page = example("## Caddy\n", &site.server, site.service.port)?;
    let (caddy, port) = caddy(folder.path(), &change(page)?).await?;
    let gateway = Gateway {
        port,
        hands_on: &["Key-Id", "Scopes"],
        tells_end: false,
    };
    Ok((site, gateway, caddy, folder))
}

const TRUSTED: &str = "proxies.trusted = [\"127.0.0.1/32\"]\n";

#[tokio::test]
async fn ac_123_ac_124_ac_132_ac_140_nginx_asks_before_it_lets_through() -> Result<()> {
    let (mut site, gateway, _nginx, _folder) = behind_nginx("").await?;
    checks::asks_before_it_lets_through(&mut site, &gateway, 503).await
}

#[tokio::test]
async fn ac_123_ac_124_ac_132_ac_140_caddy_asks_before_it_lets_through() -> Result<()> {
    let (mut site, gateway, _caddy, _folder) = behind_caddy("").await?;
    checks::asks_before_it_lets_through(&mut site, &gateway, 502).await
}

#[tokio::test]
async fn ac_132_nginx_hands_limits_on() -> Result<()> {
    let (site, gateway, _nginx, _folder) = behind_nginx("").await?;
    let limit = json!({ "limits": [{ "name": "requests", "count": 9, "period_ms": 3_600_000 }] });
    let key = site.issue("orders:read", limit).await?.line();
    let (status, answer) = raw("127.0.0.1", gateway.port, "GET /orders", &[&key]).await?;
    ensure!(status == 200, "{answer}");
    for field in ["RateLimit: \"requests\";r=8", "X-RateLimit-Remaining: 8"] {
        ensure!(answer.contains(field), "{field}: {answer}");
    }
    Ok(())
}

/// A refusal is the same where nginx asked a node first that is away.
#[tokio::test]
async fn ac_123_ac_124_ac_132_nginx_hands_refusals_on_of_the_node_that_answered() -> Result<()> {
    const TRIED: usize = 4;
    let (site, gateway, _nginx, folder) = behind_changed_nginx("", |server, page| {
        let address = server.listen();
        // Nobody listens at the first one; nginx never stops asking it.
        let nodes = format!("server 127.0.0.1:1 max_fails=0; server {address} max_fails=0;");
        let http = changed(&page.http, &format!("server {address};"), &nodes)?;
        Ok(Nginx { http, ..page })
    })
    .await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let port = gateway.port;
    let get = |path: &str| client.get(format!("http://127.0.0.1:{port}{path}"));
    let poor = site.issue("orders:write", json!({})).await?;
    let limit = json!({ "limits": [{ "name": "requests", "count": 1, "period_ms": 3_600_000 }] });
    let once = site.issue("orders:read", limit).await?;
    ensure!(
        get("/orders")
            .bearer_auth(&once.secret)
            .send()
            .await?
            .status()
            == 200
    );
    let nonsense = "sk_live_nonsense";
    for (path, key, status, code) in [
        ("/orders", nonsense, 401_u16, "key_malformed"),
        ("/orders", poor.secret.as_str(), 403, "insufficient_scope"),
        ("/orders", once.secret.as_str(), 429, "rate_limited"),
        (
            "/orders?key=0123456789abcdef",
            poor.secret.as_str(),
            400,
            "key_in_url",
        ),
    ] {
        let before = failed_connections(folder.path())?;
        for _ in 0..TRIED {
            let answer = get(path).bearer_auth(key).send().await?;
            ensure!(answer.status() == status, "{code}: {answer:?}");
            let challenge = header(&answer, "www-authenticate");
            let is_challenged = matches!(status, 401 | 403);
            ensure!(challenge.is_empty() != is_challenged, "{code}: {challenge}");
            let body: Value = answer.json().await?;
            ensure!(body["code"] == code && body["status"] == status, "{body}");
        }
        let failed = failed_connections(folder.path())? - before;
        ensure!(failed > 0, "{code}: no answer had two statuses");
    }
    ensure!(site.service.served() == 1);
    Ok(())
}

/// How often nginx found nobody where it asked.
fn failed_connections(folder: &Path) -> Result<usize> {
    let log = std::fs::read_to_string(folder.join("error.log"))?;
    Ok(log.matches("Connection refused").count())
}

/// What nginx refuses before it asks is not taken for a server that is away.
#[tokio::test]
async fn nginxs_own_refusals_stay_what_they_are() -> Result<()> {
    for (line, status, challenge) in [
        ("deny all;", 403_u16, ""),
        (
            "auth_basic site; auth_basic_user_file nobody;",
            401,
            "Basic realm=\"site\"",
        ),
    ] {
        let (site, gateway, _nginx, _folder) = behind_changed_nginx("", |_, page| {
            let place = "location / {\n";
            let server = changed(&page.server, place, &format!("{place}    {line}\n"))?;
            Ok(Nginx { server, ..page })
        })
        .await?;
        let key = site.issue("orders:read", json!({})).await?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let request = client.get(format!("http://127.0.0.1:{}/orders", gateway.port));
        let answer = request.header("x-api-key", &key.secret).send().await?;
        ensure!(answer.status() == status, "{line} {answer:?}");
        ensure!(
            header(&answer, "www-authenticate") == challenge,
            "{answer:?}"
        );
        ensure!(site.service.served() == 0, "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn ac_123_no_trick_gets_more_from_nginx() -> Result<()> {
    let (site, gateway, _nginx, _folder) = behind_nginx("").await?;
    checks::no_trick_gets_more(&site, &gateway).await
}

#[tokio::test]
async fn ac_123_no_trick_gets_more_from_caddy() -> Result<()> {
    let (site, gateway, _caddy, _folder) = behind_caddy("").await?;
    checks::no_trick_gets_more(&site, &gateway).await
}

#[tokio::test]
async fn ac_132_a_forged_address_counts_for_nothing_behind_nginx() -> Result<()> {
    let (site, gateway, _nginx, _folder) = behind_nginx(TRUSTED).await?;
    checks::a_forged_address_counts_for_nothing(&site, &gateway).await
}

#[tokio::test]
async fn ac_132_a_forged_address_counts_for_nothing_behind_caddy() -> Result<()> {
    let (site, gateway, _caddy, _folder) = behind_caddy(TRUSTED).await?;
    checks::a_forged_address_counts_for_nothing(&site, &gateway).await
}
