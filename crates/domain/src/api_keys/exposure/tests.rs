use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn key(prefix: &str) -> PlainKey {
    PlainKey::generate(&Prefix::new(prefix).expect("a prefix"), &mut rand::rng())
}

fn found(text: &str) -> Vec<Found> {
    find_keys(text).collect()
}

#[test]
fn ac_149_a_planted_key_is_found_in_every_syntax() {
    for prefix in ["sk_live", "ab", "A234567890123456", "kw_root", "a__b"] {
        let key = key(prefix);
        let plain = key.text().expose();
        for (before, after) in [
            ("", ""),
            ("export KEY=", "\n"),
            ("{\"key\":\"", "\"}"),
            ("curl -H 'Authorization: Bearer ", "' https://x.test"),
            ("https://x.test/?api_key=", "&b=1"),
            ("https://x.test/%3D", "%26b"),
            ("line\\n", "\\n"),
            ("ключ: ", "ключ"),
            ("KYWRT1 KYWRT1", "KYWRT1"),
            ("_", "_"),
        ] {
            let text = format!("{before}{plain}{after}");
            let all = found(&text);
            assert_eq!(all.len(), 1, "{before}…{after}");
            assert_eq!(&text[all[0].range.clone()], plain);
            assert_eq!((&all[0].kid, &all[0].prefix), (key.kid(), key.prefix()));
        }
    }
}

#[test]
fn ac_149_look_alikes_are_not_found() {
    let key = key("sk_live");
    let plain = key.text().expose();
    let cut = &plain[..plain.len() - 1];
    let last = if plain.ends_with('a') { 'b' } else { 'a' };
    let changed = format!("{cut}{last}");
    let other_prefix = plain.replacen("sk_live", "sk_test", 1);
    let wrapped = format!("{}\n{}", &plain[..40], &plain[40..]);
    let dashed = plain.replacen("live_", "live-", 1);
    let foreign = format!("{}ä{}", &plain[..30], &plain[31..]);
    let no_prefix = &plain[7..];
    for bad in [
        "",
        "KYWRT1",
        cut,
        &changed,
        &other_prefix,
        &wrapped,
        &dashed,
        &foreign,
        no_prefix,
    ] {
        assert_eq!(found(bad), [], "{bad}");
        assert!(matches!(redact(bad), Cow::Borrowed(_)));
    }
}

#[test]
fn redaction_leaves_prefix_and_kid_and_nothing_to_use() {
    let (one, two) = (key("sk_live"), key("acme"));
    let (a, b) = (one.text().expose(), two.text().expose());
    let text = format!("a={a} b={b} again={a}; ä");
    assert_eq!(
        redact(&text),
        format!(
            "a=sk_live_{}…redacted b=acme_{}…redacted again=sk_live_{}…redacted; ä",
            one.kid(),
            two.kid(),
            one.kid()
        )
    );
    // Side by side, with nothing between them.
    let glued = format!("{a}{b}{a}");
    assert_eq!(found(&glued).len(), 3);
    assert_eq!(
        redact(&glued),
        format!(
            "sk_live_{0}…redactedacme_{1}…redactedsk_live_{0}…redacted",
            one.kid(),
            two.kid()
        )
    );
}

/// A key whose prefix is the end of another one: somebody took pains.
#[test]
fn keys_that_share_letters_are_both_found_and_both_redacted() {
    // The checksum begins with a digit, and a prefix with a letter: its last five are taken.
    let (first, second) = (0..1000)
        .find_map(|_| {
            let first = key("sk_live");
            let plain = first.text().expose();
            let prefix = Prefix::new(&plain[plain.len() - 5..]).ok()?;
            let second = PlainKey::generate(&prefix, &mut rand::rng());
            Some((first, second))
        })
        .expect("one in two checksums will do");
    let text = format!("{}{}", first.text().expose(), &second.text().expose()[5..]);
    let kids: Vec<_> = found(&text).into_iter().map(|one| one.kid).collect();
    assert_eq!(kids, [first.kid().clone(), second.kid().clone()]);
    let redacted = redact(&text);
    assert_eq!(found(&redacted), []);
    let secrets = [
        &first.text().expose()[26..58],
        &second.text().expose()[24..56],
    ];
    assert!(secrets.iter().all(|secret| !redacted.contains(secret)));
}

#[test]
fn ac_149_hostile_text_takes_time_in_proportion() {
    // Every part looks like a key until its checksum; four times the text, about four times the time.
    let look_alike = format!("{}_{}", "a".repeat(16), "KYWRT1".repeat(9));
    let time = |count: usize| {
        let texts = [
            look_alike.repeat(count),
            "KYWRT1".repeat(10 * count),
            "_aaaaaaaaaaaaKYWRT1".repeat(4 * count),
            "ä_".repeat(30 * count),
        ];
        let start = Instant::now();
        for text in &texts {
            assert_eq!(found(text), []);
        }
        start.elapsed()
    };
    time(100);
    let (short, long) = (time(1000), time(16_000));
    // Quadratic work would take 256 times as long.
    assert!(long < short * 80, "{short:?} {long:?}");
}

proptest! {
    #[test]
    fn keys_are_found_where_they_are_and_nothing_else_is(
        parts in prop::collection::vec("[a-zA-Z0-9_ä \n=\"K]{0,20}|KYWRT1|_[a-zA-Z0-9]{12}KYWRT1", 1..8),
    ) {
        let keys: Vec<_> = parts.iter().map(|_| key("sk_test")).collect();
        let mut text = String::new();
        let mut places = Vec::new();
        for (part, key) in parts.iter().zip(&keys) {
            text.push_str(part);
            places.push(text.len()..text.len() + key.text().expose().len());
            text.push_str(key.text().expose());
        }
        let ranges: Vec<_> = find_keys(&text).map(|one| one.range).collect();
        prop_assert_eq!(ranges, places);
        let redacted = redact(&text).into_owned();
        prop_assert_eq!(find_keys(&redacted).count(), 0);
        for (part, key) in parts.iter().zip(&keys) {
            prop_assert!(redacted.contains(part.as_str()));
            prop_assert!(!redacted.contains(&key.text().expose()[20..]));
            prop_assert!(redacted.contains(key.kid().as_str()));
        }
    }

    #[test]
    fn ac_149_random_lines_hold_no_key(text in "[a-zA-Z0-9_]{200}") {
        prop_assert_eq!(find_keys(&text).count(), 0);
    }
}
