//! Who asks, behind proxies: without trust the other end of the connection; never an address that
//! only an untrusted one vouches for.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/http/forwarded.rs"]
mod forwarded;

use std::net::{IpAddr, Ipv4Addr};

use forwarded::client_address;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.lines().collect();
    let us = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let is_proxy = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10);
    assert_eq!(client_address(us, &lines, |_| false), us);
    let stranger = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
    assert_eq!(client_address(stranger, &lines, is_proxy), stranger);

    let seen = client_address(us, &lines, is_proxy);
    assert_eq!(seen, seen.to_canonical());
    // Read again from the left: everything right of the answer is a trusted proxy.
    let all: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).collect();
    let parsed = |text: &str| {
        text.trim()
            .parse::<IpAddr>()
            .ok()
            .map(|one| one.to_canonical())
    };
    let behind = all.iter().rev().take(64);
    let proxies = behind
        .take_while(|one| parsed(one).is_some_and(is_proxy))
        .count();
    let expected = match all.iter().rev().take(64).nth(proxies) {
        Some(next) => parsed(next).or_else(|| match proxies {
            0 => Some(us),
            n => parsed(all[all.len() - n]),
        }),
        None if proxies == 0 => Some(us),
        None => parsed(all[all.len() - proxies]),
    };
    assert_eq!(Some(seen), expected, "{text:?}");
});
