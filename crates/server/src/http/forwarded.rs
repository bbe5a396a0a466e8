//! `X-Forwarded-For`: who asked the proxy that asks us.

use std::net::IpAddr;

/// So many addresses are read, from the right: no chain of proxies is longer.
const MOST: usize = 64;

/// The right-most address that no trusted proxy has: what stands left of it, anybody can write.
/// `lines` are the values of the header, in their order.
pub(crate) fn client_address(
    connected: IpAddr,
    lines: &[&str],
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut address = connected.to_canonical();
    let from_the_right = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for text in from_the_right.take(MOST) {
        if !is_trusted(address) {
            break;
        }
        let Ok(before) = text.trim().parse::<IpAddr>() else {
            break;
        };
        address = before.to_canonical();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_without_end_is_read_to_a_bound() {
        let line = ["10.0.0.1"; 10_000].join(", ");
        let from: IpAddr = "10.0.0.2".parse().unwrap();
        let seen = client_address(from, &["8.8.8.8", &line], |_| true);
        assert_eq!(seen.to_string(), "10.0.0.1");
        assert_eq!(
            client_address(from, &["x, 10.0.0.3"], |_| true).to_string(),
            "10.0.0.3"
        );
        assert_eq!(client_address(from, &["9.9.9.9"], |_| false), from);
    }
}
