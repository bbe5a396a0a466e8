//! Which addresses our requests may go to (S66): public ones. An administrator, a client or a provider's
//! document names hosts; none of them may make us speak to our own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Networks of the IANA special-purpose registry (RFC 6890), multicast, and the one public address
/// that a cloud uses for itself.
const REFUSED_V4: [([u8; 4], u8); 17] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Metadata of clouds: 169.254.169.254 and 169.254.170.2.
    ([169, 254, 0, 0], 16),
    ([168, 63, 129, 16], 32),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Within 2000::/3, outside of which nothing is public.
const REFUSED_V6: [([u16; 2], u8); 4] = [
    // Protocol assignments, among them Teredo, which carries addresses of IPv4.
    ([0x2001, 0], 23),
    ([0x2001, 0xdb8], 32),
    // 6to4 carries addresses of IPv4.
    ([0x2002, 0], 16),
    ([0x3fff, 0], 20),
];

/// Whether everybody can reach it. Mapped and translated addresses of IPv4 are none: a name that has
/// such an address is up to something.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|(net, length)| {
            Ipv4Net::new(Ipv4Addr::from(*net), *length).is_ok_and(|net| net.contains(&address))
        }),
        IpAddr::V6(address) => {
            address.segments()[0] & 0xe000 == 0x2000
                && !REFUSED_V6.iter().any(|([a, b], length)| {
                    Ipv6Net::new(Ipv6Addr::new(*a, *b, 0, 0, 0, 0, 0, 0), *length)
                        .is_ok_and(|net| net.contains(&address))
                })
        }
    }
}

/// Whether a request may go there. Private ones only where the settings allow them; what is no
/// address of one machine never.
pub(crate) fn is_allowed(address: IpAddr, private_too: bool) -> bool {
    if !private_too {
        return is_public(address);
    }
    let canonical = address.to_canonical();
    let broadcast = canonical == IpAddr::V4(Ipv4Addr::BROADCAST);
    !canonical.is_unspecified() && !canonical.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_205_s66_only_public_addresses_are_asked() {
        for public in [
            "8.8.8.8",
            "140.82.121.3",
            "172.15.255.255",
            "172.32.0.1",
            "100.63.255.255",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450:4001:80b::200e",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(refused.parse().unwrap()), "{refused}");
        }
    }

    #[test]
    fn s66_the_setting_opens_private_networks_but_nothing_odd() {
        let allowed = |text: &str| is_allowed(text.parse().unwrap(), true);
        assert!(allowed("127.0.0.1") && allowed("10.0.0.1") && allowed("::1"));
        for odd in [
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:0.0.0.0",
        ] {
            assert!(!allowed(odd), "{odd}");
        }
        assert!(!is_allowed("127.0.0.1".parse().unwrap(), false));
    }
}
