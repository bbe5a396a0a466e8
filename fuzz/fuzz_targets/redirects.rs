//! Redirect URIs. What is registered allows itself and nothing else, but for the port of a loopback
//! address; and another parser agrees about host, path and query.
#![no_main]

use keywright_domain::people::RedirectUri;
use libfuzzer_sys::fuzz_target;
use url::{Host, Url};

fuzz_target!(|text: &str| {
    let (registered, asked) = text.split_once('\n').unwrap_or((text, text));
    let Ok(uri) = RedirectUri::new(registered) else {
        return;
    };
    assert_eq!(uri.as_str(), registered);
    assert!(uri.allows(registered));
    assert!(!registered.contains(['#', '*', ' ', '"', '<', '>', '\\']));
    // Nobody's name, nothing that runs, and plain http to this machine only.
    if let Ok(url) = Url::parse(registered) {
        assert!(url.username().is_empty() && url.password().is_none() || !url.has_host());
        match url.scheme() {
            "https" => {}
            "http" => assert!(is_loopback(&url), "{registered}"),
            other => assert!(other.contains('.'), "{registered}"),
        }
    }
    // As the browser is sent on: only where it was registered.
    for asked in [asked, &format!("{registered}{asked}")] {
        if asked == registered || !uri.allows(asked) {
            continue;
        }
        let (own, other) = (Url::parse(registered), Url::parse(asked));
        let (Ok(own), Ok(other)) = (own, other) else {
            // Then no browser follows it.
            continue;
        };
        assert!(is_loopback(&own) && is_loopback(&other), "{asked}");
        assert_eq!((own.host(), own.path()), (other.host(), other.path()));
        assert_eq!((own.scheme(), own.query()), (other.scheme(), other.query()));
        assert!(other.username().is_empty() && other.password().is_none());
    }
});

fn is_loopback(url: &Url) -> bool {
    url.scheme() == "http"
        && match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            _ => false,
        }
}
