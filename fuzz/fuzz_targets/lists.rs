//! Networks, origins and recurrences that are given with a key: read back as they are written, and a
//! network lets in what its own arithmetic says.
#![no_main]

use std::net::IpAddr;

use keywright_domain::api_keys::{NetworkList, OriginList};
use keywright_domain::schedules::CronExpression;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(networks) = NetworkList::parse(first) {
        let again = NetworkList::parse(&networks.to_text()).expect("it was written by us");
        assert_eq!(again, networks);
        if let Ok(address) = rest.parse::<IpAddr>() {
            let inside = |one: String| {
                let network: ipnet::IpNet = one.parse().expect("a network");
                network.contains(&address.to_canonical())
            };
            let allowed = networks.is_empty() || networks.texts().any(inside);
            assert_eq!(networks.allows(address), allowed);
        }
    }
    if let Ok(origins) = OriginList::parse(first) {
        let again = OriginList::parse(&origins.to_text()).expect("it was written by us");
        assert_eq!(again, origins);
        // A listed origin is one of the allowed ones, unless it stands for many.
        for one in origins.texts().filter(|one| !one.contains("*.")) {
            assert!(origins.allows(Some(&one)), "{one}");
        }
        if !origins.is_empty() && origins.allows(Some(rest)) {
            assert!(rest.is_ascii() && rest.contains("://"), "{rest}");
            assert!(!rest.contains(['/', '?', '#', '@']) || rest.matches('/').count() == 2);
        }
    }
    if let Ok(cron) = CronExpression::new(first) {
        let again = CronExpression::new(cron.as_str()).expect("it is as it was");
        assert_eq!(again.as_str(), cron.as_str());
    }
});
