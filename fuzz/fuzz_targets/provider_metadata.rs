//! A provider's metadata: used only if they are of the issuer that was asked, and nobody is sent to an
//! address that they must not name.
#![no_main]

use keywright_domain::issuer::{Issuer, IssuerRule, is_loopback_host};
use keywright_jose::{MetadataProblem, ProviderMetadata};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use url::Url;

fuzz_target!(|data: &[u8]| {
    // The issuer as configured, then the document.
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let issuer = std::str::from_utf8(parts.next().unwrap_or_default());
    let Some(issuer) = issuer.ok().and_then(|text| Issuer::parse(text).ok()) else {
        return;
    };
    let document = parts.next().unwrap_or_default();
    let rule = IssuerRule::Exact(issuer.clone());
    let read =
        |check: fn(&Url) -> Result<(), ()>| ProviderMetadata::read(document, &issuer, &rule, check);
    // Whoever goes nowhere reads nothing.
    assert!(read(|_| Err(())).is_err());
    let Ok(metadata) = read(|_| Ok(())) else {
        return;
    };
    let loose: Value = serde_json::from_slice(document).expect("JSON");
    assert_eq!(loose["issuer"], issuer.as_str());
    let named = |name: &str| {
        loose[name]
            .as_str()
            .map(|text| Url::parse(text).expect("a URL"))
    };
    let required = |url: &Url| Some(url.clone());
    let all = [
        (
            "authorization_endpoint",
            required(&metadata.authorization_endpoint),
        ),
        ("token_endpoint", required(&metadata.token_endpoint)),
        ("jwks_uri", required(&metadata.jwks_uri)),
        ("userinfo_endpoint", metadata.userinfo_endpoint.clone()),
        ("revocation_endpoint", metadata.revocation_endpoint.clone()),
    ];
    for (name, url) in &all {
        assert_eq!(*url, named(name), "{name}");
        let Some(url) = url else { continue };
        let plain = url.scheme() == "http";
        assert!(plain || url.scheme() == "https", "{url}");
        assert!(!plain || is_loopback_host(issuer.host()), "{url}");
        assert!(url.has_host() && url.fragment().is_none(), "{url}");
        assert!(
            url.username().is_empty() && url.password().is_none(),
            "{url}"
        );
    }
    assert_eq!(
        metadata.answers_carry_iss,
        loose["authorization_response_iss_parameter_supported"] == true
    );
    // The same document is nobody else's.
    let other = Issuer::parse("https://another.example.com").expect("an issuer");
    if other != issuer {
        let rule = IssuerRule::Exact(other.clone());
        let read = ProviderMetadata::read(document, &other, &rule, |_| Ok::<(), ()>(()));
        assert_eq!(read, Err(MetadataProblem::Issuer(issuer.to_string())));
    }
    // What `check` says against one address is the answer.
    let read = ProviderMetadata::read(document, &issuer, &rule, |url| {
        (*url != metadata.token_endpoint)
            .then_some(())
            .ok_or("there")
    });
    assert_eq!(read, Err(MetadataProblem::Refused("there")));
});
