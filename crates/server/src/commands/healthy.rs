//! `keywright-server healthy`: asks the server of a data folder, from beside it, whether it runs. For
//! whoever watches a container: address, path and TLS are what the settings say, not what was guessed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use keywright_server::settings::Settings;

use super::installation::Installation;
use super::overrides::Overrides;

/// Whoever watches gives up soon after.
const WITHIN: Duration = Duration::from_secs(2);

/// Asks the server of this folder whether it runs; the exit code says it. Takes the same settings,
/// flags and variables as `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Healthy {
    #[command(flatten)]
    installation: Installation,
    #[command(flatten)]
    overrides: Overrides,
    /// Asks whether it can do its work, and not only whether it runs: the database too.
    #[arg(long)]
    ready: bool,
}

impl Healthy {
    pub(crate) async fn run(self) -> Result<()> {
        let settings = self.overrides.over(self.installation.settings()?)?;
        let url = self.address(&settings);
        let client = reqwest::Client::builder()
            .timeout(WITHIN)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // The certificate is for the public name and not for this address. Nothing secret is sent,
            // and nothing that is answered is believed but that somebody answers.
            .tls_danger_accept_invalid_certs(true)
            .build()?;
        let answer = client.get(&url).send().await;
        let answer = answer.with_context(|| format!("{url} does not answer"))?;
        if !answer.status().is_success() {
            bail!("{url} answers with status {}", answer.status().as_u16());
        }
        println!("ok");
        Ok(())
    }

    fn address(&self, settings: &Settings) -> String {
        let probe = if self.ready { "readyz" } else { "healthz" };
        // The listener for machines has no TLS and no path of the issuer's.
        if let Some(machines) = settings.metrics_listen {
            return format!("http://{}/{probe}", reachable(machines));
        }
        let listen = reachable(settings.listen);
        let scheme = if settings.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let issuer = settings.issuer.as_str();
        let path = url::Url::parse(issuer).map_or_else(|_| String::new(), |url| url.path().into());
        format!("{scheme}://{listen}{}/{probe}", path.trim_end_matches('/'))
    }
}

/// Who listens everywhere listens here too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        healthy: Healthy,
    }

    #[test]
    fn the_address_is_what_the_server_listens_on() {
        let address = |words: &[&str], change: fn(&mut Settings)| {
            let all = [&["healthy", "--data", "/nowhere"], words].concat();
            let healthy = Alone::parse_from(all).healthy;
            let mut settings =
                Settings::new("https://id.example.org/auth", "/nowhere".into()).unwrap();
            change(&mut settings);
            healthy.address(&healthy.overrides.over(settings).unwrap())
        };
        let same = |_: &mut Settings| {};
        assert_eq!(address(&[], same), "http://127.0.0.1:8377/auth/healthz");
        let tls = ["--tls-cert", "a.pem", "--tls-key", "a.key", "--ready"];
        let words = [&["--listen", "0.0.0.0:443"][..], &tls].concat();
        assert_eq!(address(&words, same), "https://127.0.0.1:443/auth/readyz");
        let tls = |settings: &mut Settings| {
            settings.tls = Some(("a".into(), "b".into()));
            settings.listen = "[::]:8443".parse().unwrap();
        };
        assert_eq!(address(&[], tls), "https://[::1]:8443/auth/healthz");
        let machines = |settings: &mut Settings| {
            settings.metrics_listen = Some("0.0.0.0:9100".parse().unwrap());
            settings.tls = Some(("a".into(), "b".into()));
        };
        assert_eq!(address(&[], machines), "http://127.0.0.1:9100/healthz");
    }
}
