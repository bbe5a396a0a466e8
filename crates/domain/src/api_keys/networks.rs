//! The networks that a key may be used from, and the network that a use is counted under.
//! Text: networks in CIDR form, sorted, joined by one blank.

use core::fmt;
use core::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Most networks of one key.
pub const MAX_NETWORKS: usize = 64;

/// The networks that a key may be used from: sorted, without duplicates, at most 64. Empty: any.
///
/// IPv4-mapped IPv6 (`::ffff:192.0.2.1`) is IPv4 here, in the list as in the address that asks
/// (AC-145); `::/0` therefore means all of IPv6 and nothing of IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkList(Vec<IpNet>);

impl NetworkList {
    /// Checks networks in CIDR form; an address alone is a network of one.
    ///
    /// # Errors
    /// [`NetworkError`]: the first rule broken.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, NetworkError> {
        let mut list = Vec::new();
        for text in networks {
            if list.len() == MAX_NETWORKS {
                return Err(NetworkError::TooMany);
            }
            list.push(parse_network(text)?);
        }
        list.sort();
        list.dedup();
        Ok(Self(list))
    }

    /// Whether a request from `address` may pass.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.is_empty() || self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether the list restricts nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each network in CIDR form.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(IpNet::to_string)
    }

    /// Reads networks joined by one blank; no text, no networks.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        Self::new(text.split(' '))
    }

    /// The text to store.
    #[must_use]
    pub fn to_text(&self) -> String {
        let texts: Vec<_> = self.texts().collect();
        texts.join(" ")
    }
}

fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let malformed = || NetworkError::Malformed(text.chars().take(60).collect());
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| malformed())?;
    let length = match length {
        None if address.is_ipv4() => 32,
        None => 128,
        Some(length) => {
            let number: u8 = length.parse().map_err(|_| malformed())?;
            if number.to_string() != length {
                return Err(malformed());
            }
            number
        }
    };
    let network = as_ipv4(IpNet::new(address, length).map_err(|_| malformed())?);
    let truncated = network.trunc();
    if truncated == network {
        Ok(network)
    } else {
        Err(NetworkError::HostBits {
            given: network.to_string(),
            meant: truncated.to_string(),
        })
    }
}

/// A network inside `::ffff:0:0/96` as the IPv4 network that it stands for.
fn as_ipv4(network: IpNet) -> IpNet {
    let IpNet::V6(inner) = network else {
        return network;
    };
    let mapped = inner.addr().to_ipv4_mapped();
    let length = inner.prefix_len().checked_sub(96);
    match (mapped, length) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(network, IpNet::V4),
        _ => network,
    }
}

/// The network that a use is counted under: the /24 of IPv4, the /48 of IPv6. Coarse on purpose:
/// enough to find a caller, too little to follow a person.
#[must_use]
pub fn network_of(address: IpAddr) -> String {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, length)
        .map_or_else(|_| String::new(), |network| network.trunc().to_string())
}

impl fmt::Display for NetworkList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not CIDR.
    #[error("“{0}” is not a network: write 192.0.2.0/24, 2001:db8::/48 or one address")]
    Malformed(String),
    /// Bits are set behind the prefix.
    #[error("“{given}” names an address inside a network; the network is {meant}")]
    HostBits {
        /// As it was given.
        given: String,
        /// The network that the address lies in.
        meant: String,
    },
    /// More than [`MAX_NETWORKS`].
    #[error("a key has at most {MAX_NETWORKS} networks")]
    TooMany,
}

#[cfg(test)]
mod tests;
