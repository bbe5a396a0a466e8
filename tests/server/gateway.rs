//! Gateways before a small service, configured as docs/gateways.md says: Debian's nginx and Caddy, and of those that
//! Debian has none of, Traefik and Envoy.

mod checks;
mod envoy;
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
use self::site::{Service, Site, manage};
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

/// Caddy with the page's own configuration, on a port of its own.
async fn caddy(folder: &Path, server: &ServerProcess, service: u16) -> Result<(Child, u16)> {
    let port = free_port()?;
    let site = example("## Caddy\n", server, service)?
        .replace("api.example.org", &format!("http://127.0.0.1:{port}"));
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

/// nginx with the page's own configuration, on a port of its own.
async fn nginx(folder: &Path, server: &ServerProcess, service: u16) -> Result<(Child, u16)> {
    let locations = example("## nginx\n", server, service)?;
    start(folder, |port| {
        format!("server {{ listen 127.0.0.1:{port};\n{locations}\n}}")
    })
    .await
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

#[tokio::test]
async fn ac_123_ac_124_ac_132_ac_140_nginx_asks_before_it_lets_through() -> Result<()> {
    let mut server = ServerProcess::start().await?;
    manage(&server, "/api/v1/scopes", json!({ "name": "orders:read" })).await?;
    let limit = json!({ "limits": [{ "name": "requests", "count": 4, "period_ms": 3_600_000 }] });
    let wish = json!({
        "name": "Orders", "prefix": "sk_live", "scopes": ["orders:read"], "settings": limit,
    });
    let issued = manage(&server, "/api/v1/keys", wish.clone()).await?;
    let key = issued["secret"].as_str().context("no secret")?.to_owned();
    let id = issued["key"]["id"].as_str().context("no id")?.to_owned();
    let folder = tempfile::tempdir()?;
    let (_nginx, port) = nginx(folder.path(), &server, Service::start().await?.port).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let get = |path: &str| client.get(format!("http://127.0.0.1:{port}{path}"));

    let none = get("/orders").send().await?;
    ensure!(none.status() == 401, "{}", none.status());
    ensure!(none.headers().get("www-authenticate").is_some());
    // What a client says of itself does not get through.
    let good = get("/orders/7")
        .header("x-api-key", &key)
        .header("x-keywright-key-id", "somebody-else")
        .send()
        .await?;
    ensure!(good.status() == 200, "{}", good.status());
    let text = good.text().await?;
    let wanted = format!("x-keywright-key-id: {}", id.to_lowercase());
    ensure!(
        text.contains(&wanted) && text.contains("x-keywright-scopes: orders:read"),
        "{text}"
    );
    ensure!(
        !text.contains("somebody-else") && !text.contains("x-api-key"),
        "{text}"
    );
    let again = get("/orders").bearer_auth(&key).send().await?;
    ensure!(again.status() == 200, "{}", again.status());
    ensure!(header(&again, "x-ratelimit-remaining") == "2", "{again:?}");
    ensure!(header(&again, "ratelimit").contains("r=2"), "{again:?}");
    let url = get(&format!("/orders?key={key}")).send().await?;
    ensure!(url.status() == 400, "{}", url.status());
    for _ in 0..2 {
        ensure!(get("/orders").bearer_auth(&key).send().await?.status() == 200);
    }
    let limited = get("/orders").bearer_auth(&key).send().await?;
    check_limited(limited).await?;

    let other = manage(&server, "/api/v1/keys", wish).await?;
    let key = other["secret"].as_str().context("no secret")?.to_owned();
    let id = other["key"]["id"].as_str().context("no id")?.to_owned();
    ensure!(get("/").bearer_auth(&key).send().await?.status() == 200);
    manage(&server, &format!("/api/v1/keys/{id}/revoke"), json!({})).await?;
    ensure!(
        get("/").bearer_auth(&key).send().await?.status() == 401,
        "accepted after its revocation"
    );
    // Without an answer nobody gets through.
    server.signal("KILL")?;
    let _ = server.ended().await?;
    ensure!(get("/").bearer_auth(&key).send().await?.status() == 503);
    Ok(())
}

#[tokio::test]
async fn ac_123_ac_132_ac_140_caddy_asks_before_it_lets_through() -> Result<()> {
    let mut server = ServerProcess::start().await?;
    manage(&server, "/api/v1/scopes", json!({ "name": "orders:read" })).await?;
    let limit = json!({ "limits": [{ "name": "requests", "count": 3, "period_ms": 3_600_000 }] });
    let wish = json!({
        "name": "Orders", "prefix": "sk_live", "scopes": ["orders:read"], "settings": limit,
    });
    let issued = manage(&server, "/api/v1/keys", wish.clone()).await?;
    let key = issued["secret"].as_str().context("no secret")?.to_owned();
    let id = issued["key"]["id"].as_str().context("no id")?.to_owned();
    let folder = tempfile::tempdir()?;
    let (_caddy, port) = caddy(folder.path(), &server, Service::start().await?.port).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let get = |path: &str| client.get(format!("http://127.0.0.1:{port}{path}"));

    let none = get("/orders").send().await?;
    ensure!(none.status() == 401, "{}", none.status());
    ensure!(none.headers().get("www-authenticate").is_some());
    let none: Value = none.json().await?;
    ensure!(none["code"] == "credentials_missing", "{none}");
    let good = get("/orders/7")
        .header("x-api-key", &key)
        .header("x-keywright-key-id", "somebody-else")
        .header("x-keywright-owner", "somebody-else")
        .send()
        .await?;
    ensure!(good.status() == 200, "{}", good.status());
    let text = good.text().await?;
    let wanted = format!("x-keywright-key-id: {}", id.to_lowercase());
    ensure!(
        text.contains(&wanted) && text.contains("x-keywright-scopes: orders:read"),
        "{text}"
    );
    ensure!(
        !text.contains("somebody-else") && !text.contains("x-api-key"),
        "{text}"
    );
    let url = get(&format!("/orders?key={key}")).send().await?;
    ensure!(url.status() == 400, "{}", url.status());
    for _ in 0..2 {
        let good = get("/orders").bearer_auth(&key).send().await?;
        ensure!(good.status() == 200, "{}", good.status());
        ensure!(!good.text().await?.contains("authorization"));
    }
    check_limited(get("/orders").bearer_auth(&key).send().await?).await?;

    let other = manage(&server, "/api/v1/keys", wish).await?;
    let key = other["secret"].as_str().context("no secret")?.to_owned();
    let id = other["key"]["id"].as_str().context("no id")?.to_owned();
    ensure!(get("/").bearer_auth(&key).send().await?.status() == 200);
    manage(&server, &format!("/api/v1/keys/{id}/revoke"), json!({})).await?;
    ensure!(get("/").bearer_auth(&key).send().await?.status() == 401);
    // Without an answer nobody gets through.
    server.signal("KILL")?;
    let _ = server.ended().await?;
    let alone = get("/").bearer_auth(&key).send().await?.status();
    ensure!(alone == 502, "{alone}");
    Ok(())
}

/// A site behind nginx; the folder and the process last as long as the test.
async fn behind_nginx(settings: &'static str) -> Result<(Site, Gateway, Child, tempfile::TempDir)> {
    let site = Site::start(settings).await?;
    let folder = tempfile::tempdir()?;
    let (nginx, port) = nginx(folder.path(), &site.server, site.service.port).await?;
    let hands_on = &["Key-Id", "Scopes"];
    Ok((site, Gateway { port, hands_on }, nginx, folder))
}

/// The same of Caddy.
async fn behind_caddy(settings: &'static str) -> Result<(Site, Gateway, Child, tempfile::TempDir)> {
    let site = Site::start(settings).await?;
    let folder = tempfile::tempdir()?;
    let (caddy, port) = caddy(folder.path(), &site.server, site.service.port).await?;
    let hands_on = &["Key-Id", "Scopes"];
    Ok((site, Gateway { port, hands_on }, caddy, folder))
}

const TRUSTED: &str = "proxies.trusted = [\"127.0.0.1/32\"]\n";

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
