use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn list(text: &str) -> NetworkList {
    NetworkList::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn ac_145_only_listed_networks_pass() {
    let list = list("192.0.2.0/24 2001:db8::/48 203.0.113.7");
    for good in ["192.0.2.0", "192.0.2.255", "2001:db8:0:1::1", "203.0.113.7"] {
        assert!(list.allows(address(good)), "{good}");
    }
    for bad in [
        "192.0.3.0",
        "192.0.1.255",
        "2001:db8:1::1",
        "203.0.113.8",
        "::1",
        "::",
    ] {
        assert!(!list.allows(address(bad)), "{bad}");
    }
    assert!(NetworkList::default().allows(address("::1")));
    assert_eq!(list.to_text(), "192.0.2.0/24 203.0.113.7/32 2001:db8::/48");
}

#[test]
fn ac_145_ipv4_mapped_ipv6_is_ipv4_on_both_sides() {
    assert!(list("192.0.2.0/24").allows(address("::ffff:192.0.2.9")));
    assert!(!list("192.0.2.0/24").allows(address("::ffff:192.0.3.9")));
    let mapped = list("::ffff:192.0.2.0/120");
    assert_eq!(mapped, list("192.0.2.0/24"));
    assert!(mapped.allows(address("192.0.2.9")) && mapped.allows(address("::ffff:192.0.2.9")));
    assert_eq!(list("::ffff:192.0.2.1"), list("192.0.2.1"));
    assert_eq!(list("::ffff:0:0/96"), list("0.0.0.0/0"));
    let all_of_ipv6 = list("::/0");
    assert!(all_of_ipv6.allows(address("2001:db8::1")));
    assert!(!all_of_ipv6.allows(address("::ffff:192.0.2.1")));
    assert!(!all_of_ipv6.allows(address("192.0.2.1")));
    // IPv4-compatible addresses (::a.b.c.d) are not mapped ones.
    assert!(!list("192.0.2.0/24").allows(address("::192.0.2.9")));
}

#[test]
fn bits_behind_the_prefix_are_an_error_that_says_what_was_meant() {
    for (given, meant) in [
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:db8::1/48", "2001:db8::/48"),
        ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        ("10.0.0.0/0", "0.0.0.0/0"),
    ] {
        let error = NetworkList::parse(given).expect_err(given);
        assert!(error.to_string().contains(meant), "{error}");
    }
}

#[test]
fn malformed_networks_are_refused() {
    for bad in [
        " ",
        "a",
        "192.0.2/24",
        "192.0.2.0/33",
        "192.0.2.0/",
        "192.0.2.0/+8",
        "192.0.2.0/08",
        "192.0.2.0/24/24",
        "192.0.02.0/24",
        "2001:db8::/129",
        "fe80::1%eth0",
        "[::1]",
        "0x7f.0.0.1",
        "192.0.2.0/24  10.0.0.0/8",
        "192.0.2.0/24 ",
        "::ffff:192.0.2.0/255.255.255.0",
    ] {
        assert!(
            matches!(NetworkList::parse(bad), Err(NetworkError::Malformed(_))),
            "{bad}"
        );
    }
    let many = |count: usize| {
        (0..count)
            .map(|number| format!("10.0.{number}.0/24"))
            .collect::<Vec<_>>()
    };
    assert!(NetworkList::new(many(64).iter().map(String::as_str)).is_ok());
    assert_eq!(
        NetworkList::new(many(65).iter().map(String::as_str)),
        Err(NetworkError::TooMany)
    );
}

#[test]
fn a_use_is_counted_under_a_coarse_network() {
    assert_eq!(network_of(address("192.0.2.77")), "192.0.2.0/24");
    assert_eq!(network_of(address("::ffff:192.0.2.77")), "192.0.2.0/24");
    assert_eq!(
        network_of(address("2001:db8:1:2:3:4:5:6")),
        "2001:db8:1::/48"
    );
    assert_eq!(network_of(address("::1")), "::/48");
}

proptest! {
    #[test]
    fn a_network_holds_what_shares_its_first_bits(
        network in any::<u32>(), other in any::<u32>(), length in 0_u8..=32, flip in 0_u32..32,
    ) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let list = list(&format!("{}/{length}", Ipv4Addr::from(network & mask)));
        // Near addresses as well as far ones.
        for probe in [other, network ^ (1 << flip)] {
            let probe_address = Ipv4Addr::from(probe);
            let inside = probe & mask == network & mask;
            prop_assert_eq!(list.allows(probe_address.into()), inside);
            prop_assert_eq!(list.allows(probe_address.to_ipv6_mapped().into()), inside);
        }
    }

    #[test]
    fn networks_read_back(
        pairs in prop::collection::vec((any::<u128>(), 0_u8..=128), 0..10),
        old in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..10),
    ) {
        let texts: Vec<_> = pairs
            .into_iter()
            .map(|(bits, length)| IpNet::new(Ipv6Addr::from(bits).into(), length))
            .chain(old.into_iter().map(|(bits, length)| IpNet::new(Ipv4Addr::from(bits).into(), length)))
            .map(|network| network.expect("a network").trunc().to_string())
            .collect();
        let list = NetworkList::new(texts.iter().map(String::as_str)).expect("networks");
        prop_assert_eq!(NetworkList::parse(&list.to_text()), Ok(list));
    }
}
