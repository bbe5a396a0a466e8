//! No address of a private network is ever called public, in whatever form it comes; and nothing
//! public is refused where private ones are allowed.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/rp/addresses.rs"]
mod addresses;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use addresses::{is_allowed, is_public};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(four) = data.first_chunk::<4>() {
        let four = Ipv4Addr::from(*four);
        check(four.into());
        for form in [four.to_ipv6_mapped(), four.to_ipv6_compatible()] {
            assert!(!is_public(form.into()), "{form}");
        }
    }
    if let Some(sixteen) = data.first_chunk::<16>() {
        check(Ipv6Addr::from(*sixteen).into());
    }
    if let Some(text) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse().ok())
    {
        check(text);
    }
});

fn check(address: IpAddr) {
    let public = is_public(address);
    assert!(!(public && is_ours(address)), "{address}");
    assert_eq!(is_allowed(address, false), public, "{address}");
    assert!(!public || is_allowed(address, true), "{address}");
}

/// The standard library's own rules, and none of the tables of the server.
fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [a, b, ..] = four.octets();
            four.is_private()
                || four.is_loopback()
                || four.is_link_local()
                || four.is_multicast()
                || four.is_broadcast()
                || four.is_documentation()
                || four.is_unspecified()
                || a == 0
                || a >= 240
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(six) => {
            six.is_loopback()
                || six.is_unspecified()
                || six.is_multicast()
                || six.is_unique_local()
                || six.is_unicast_link_local()
                || six.to_ipv4().is_some()
                || six.segments()[..2] == [0x2001, 0xdb8]
                || six.segments()[..2] == [0x64, 0xff9b]
                || six.segments()[0] == 0x2002
        }
    }
}
