use proptest::prelude::*;

use super::*;

fn list(text: &str) -> OriginList {
    OriginList::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn only_listed_origins_pass() {
    let list = list("https://app.example.org https://*.example.com http://localhost:3000");
    for good in [
        "https://app.example.org",
        "https://app.example.org:443",
        "HTTPS://App.Example.Org",
        "https://a.example.com",
        "https://a-b.example.com",
        "http://localhost:3000",
    ] {
        assert!(list.allows(Some(good)), "{good}");
    }
    for bad in [
        "",
        "null",
        "*",
        "http://app.example.org",
        "https://app.example.org:8443",
        "https://app.example.org/",
        "https://app.example.org.",
        "https://app.example.org.evil.test",
        "https://evilapp.example.org",
        "https://example.com",
        "https://.example.com",
        "https://a.b.example.com",
        "https://aexample.com",
        "https://*.example.com",
        "https://a.example.com:444",
        "http://localhost",
        "http://localhost:3001",
        "https://app.example.org https://app.example.org",
        "https://user@app.example.org",
        "https://ä.example.com",
    ] {
        assert!(!list.allows(Some(bad)), "{bad}");
    }
    // Nobody is a wildcard, though its parent is listed.
    let parent = OriginList::parse("https://example.com").expect("an origin");
    assert!(parent.allows(Some("https://example.com")));
    assert!(!parent.allows(Some("https://*.example.com")));
    assert!(!list.allows(None), "an origin is asked for");
    assert!(OriginList::default().allows(None) && OriginList::default().allows(Some("null")));
}

#[test]
fn origins_have_one_text() {
    for (given, kept) in [
        ("HTTPS://App.Example.org:443", "https://app.example.org"),
        ("http://localhost:80", "http://localhost"),
        ("https://localhost:80", "https://localhost:80"),
        ("https://*.Example.org:8443", "https://*.example.org:8443"),
        ("https://[2001:DB8:0::1]:443", "https://[2001:db8::1]"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        (
            "https://xn--bcher-kva.example",
            "https://xn--bcher-kva.example",
        ),
        ("tauri://localhost", "tauri://localhost"),
    ] {
        assert_eq!(list(given).to_text(), kept);
    }
    assert_eq!(
        list("https://a.test https://A.test:443").to_text(),
        "https://a.test"
    );
}

#[test]
fn malformed_origins_are_refused() {
    for bad in [
        " ",
        "*",
        "null",
        "example.org",
        "https://",
        "https://*",
        "https://*.org",
        "https://*.",
        "://a.b",
        "https://*.*.example.org",
        "https://a.*.org",
        "https://*a.example.org",
        "https://a..org",
        "https://a.org/",
        "https://a.org/x",
        "https://a.org?x",
        "https://a.org#x",
        "https://u@a.org",
        "https://a.org:",
        "https://a.org:0",
        "https://a.org:65536",
        "https://a.org:080",
        "https://a.org:+1",
        "https://a.org:1:2",
        "https://-a.org",
        "https://a-.org",
        "https://a_b.org",
        "https://127.1",
        "https://1.2.3.4.5",
        "https://256.1.1.1",
        "https://*.1.2.3.4",
        "https://[::1",
        "https://::1",
        "https://[::1]x",
        "https://[v1.a]",
        "1https://a.org",
        "https:/a.org",
        "https://*.[::1]",
    ] {
        assert!(
            matches!(OriginList::parse(bad), Err(OriginError::Malformed(_))),
            "{bad}: {:?}",
            OriginList::parse(bad)
        );
    }
    let error = OriginList::parse("https://bücher.example").expect_err("not ASCII");
    assert!(matches!(error, OriginError::NotAscii(_)) && error.to_string().contains("xn--"));
    let many = |count: usize| {
        (0..count)
            .map(|number| format!("https://a{number}.test"))
            .collect::<Vec<_>>()
    };
    assert!(OriginList::new(many(64).iter().map(String::as_str)).is_ok());
    assert_eq!(
        OriginList::new(many(65).iter().map(String::as_str)),
        Err(OriginError::TooMany)
    );
}

proptest! {
    #[test]
    fn origins_read_back_and_allow_themselves(
        origins in prop::collection::vec("https?://[a-z][a-z0-9]{0,5}\\.(test|example)(:[1-9][0-9]{0,3})?", 1..10),
    ) {
        let list = OriginList::new(origins.iter().map(String::as_str)).expect("origins");
        for origin in &origins {
            prop_assert!(list.allows(Some(origin)));
        }
        prop_assert_eq!(OriginList::parse(&list.to_text()), Ok(list));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[htps:/*.a1\\[\\]\\-ä]{0,30}", start in any::<bool>()) {
        let text = if start { format!("https://{text}") } else { text };
        if let Ok(list) = OriginList::parse(&text) {
            prop_assert_eq!(OriginList::parse(&list.to_text()), Ok(list));
        }
    }
}
