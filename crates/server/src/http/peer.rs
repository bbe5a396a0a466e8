//! Who asks: the address, and what the program says it is. `X-Forwarded-For` counts only from
//! configured proxies, read from the right.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;

use super::forwarded;
use crate::server::App;
use crate::settings::Settings;

/// Characters of a `User-Agent` that are kept.
const LONGEST_AGENT: usize = 300;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where from.
    pub(crate) address: IpAddr,
    /// `User-Agent`: foreign text, capped.
    pub(crate) user_agent: String,
}

impl Peer {
    /// The address as text, for records.
    pub(crate) fn network(&self) -> String {
        self.address.to_string()
    }

    fn read(settings: &Settings, connected: IpAddr, headers: &HeaderMap) -> Self {
        Self::at(client_address(settings, connected, headers), headers)
    }

    /// Somebody whose address is known.
    pub(crate) fn at(address: IpAddr, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            match text.len() <= LONGEST_AGENT {
                true => text.into_owned(),
                false => text.chars().take(LONGEST_AGENT).collect(),
            }
        });
        Self {
            address,
            user_agent: user_agent.unwrap_or_default(),
        }
    }
}

/// What counts as one place: an address of IPv4; of IPv6 its /64, for whoever has one address there has all
/// of them, and browsers change theirs every day (RFC 8981).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Where a request came from; `connected` is the other end of the socket.
pub(crate) fn client_address(
    settings: &Settings,
    connected: IpAddr,
    headers: &HeaderMap,
) -> IpAddr {
    let lines = headers.get_all("x-forwarded-for").iter();
    let lines: Vec<&str> = lines.filter_map(|value| value.to_str().ok()).collect();
    forwarded::client_address(connected, &lines, |address| settings.trusts_proxy(address))
}

impl FromRequestParts<App> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        // Requests without a socket (another program's router, tests) count as unknown.
        let connected = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
        Ok(Self::read(&app.settings, connected, &parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn ac_132_a_forged_forwarded_address_counts_from_trusted_proxies_only() {
        let mut settings = Settings::new("http://127.0.0.1:1", PathBuf::new()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            "6.6.6.6, 9.9.9.9, 10.0.0.2".parse().unwrap(),
        );
        let seen = |settings: &Settings, from: &str| {
            client_address(settings, from.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(seen(&settings, "10.0.0.1"), "10.0.0.1");
        settings.trusted_proxies.push("10.0.0.0/8".parse().unwrap());
        assert_eq!(seen(&settings, "10.0.0.1"), "9.9.9.9");
        assert_eq!(seen(&settings, "::ffff:10.0.0.1"), "9.9.9.9");
        assert_eq!(seen(&settings, "8.8.8.8"), "8.8.8.8");
    }
}
