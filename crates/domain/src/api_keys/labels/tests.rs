use proptest::prelude::*;

use super::*;

#[test]
fn tags_are_sorted_unique_and_bounded() {
    let tags = Tags::new(["team:billing", "a", "9", "a"]).expect("tags");
    assert_eq!(tags.as_slice(), ["9", "a", "team:billing"]);
    assert_eq!(tags.to_text(), " 9 a team:billing ");
    assert_eq!(Tags::default().to_text(), "");
    let longest = "a".repeat(32);
    assert!(Tags::new([longest.as_str()]).is_ok());
    let too_long = format!("{longest}a");
    for bad in [
        "",
        "A",
        "a b",
        "-a",
        ":a",
        ".a",
        "_a",
        "ä",
        "a%",
        "a\\",
        too_long.as_str(),
    ] {
        assert!(
            matches!(Tags::new([bad]), Err(TagError::Malformed(_))),
            "{bad}"
        );
    }
    let many: Vec<_> = (0..33).map(|number| format!("t{number}")).collect();
    assert!(Tags::new(many[..32].iter().map(String::as_str)).is_ok());
    assert_eq!(
        Tags::new(many.iter().map(String::as_str)),
        Err(TagError::TooMany)
    );
    let same = ["a"; 33];
    assert_eq!(Tags::new(same).expect("one tag").as_slice(), ["a"]);
}

#[test]
fn stored_tags_are_strict() {
    for bad in [
        " ", "a", " a", "a ", "  ", " b a ", " a a ", "  a ", " a  b ",
    ] {
        assert!(Tags::parse(bad).is_err(), "{bad:?}");
    }
    assert_eq!(Tags::parse(""), Ok(Tags::default()));
}

/// `LIKE … ESCAPE '\'` as SQL has it.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'%', rest @ ..] => (0..=text.len()).any(|from| is_like(&text[from..], rest)),
        [b'\\', letter, rest @ ..] => text.first() == Some(letter) && is_like(&text[1..], rest),
        [b'_', rest @ ..] => !text.is_empty() && is_like(&text[1..], rest),
        [letter, rest @ ..] => text.first() == Some(letter) && is_like(&text[1..], rest),
    }
}

#[test]
fn notes_are_bounded_and_plain() {
    assert_eq!(
        Note::new("one\r\ntwo\n").expect("a note").as_str(),
        "one\ntwo\n"
    );
    assert!(Note::new(&"ä".repeat(2000)).is_ok());
    let too_long = "ä".repeat(2001);
    for bad in [
        "\t",
        "\u{0}",
        "\u{1b}[31m",
        "\r",
        "\u{7f}",
        "\u{85}",
        too_long.as_str(),
    ] {
        assert_eq!(Note::new(bad), Err(NoteError), "{bad:?}");
    }
}

fn metadata(pairs: &[(&str, &str)]) -> Result<Metadata, MetadataError> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Metadata::new(pairs.iter().map(own))
}

#[test]
fn metadata_are_bounded() {
    let kept = metadata(&[("b", "2"), ("Team.id-1_x", "x=y\\n\nz")]).expect("metadata");
    assert_eq!(kept.to_text(), "Team.id-1_x=x=y\\\\n\\nz\nb=2");
    let long_name = format!("a{}", "b".repeat(40));
    for bad in ["", "1a", "_a", "a b", "a=", "ä", long_name.as_str()] {
        assert!(
            matches!(metadata(&[(bad, "")]), Err(MetadataError::Name(_))),
            "{bad}"
        );
    }
    let (full, over) = ("ä".repeat(500), "a".repeat(501));
    assert!(metadata(&[("a", &full)]).is_ok());
    for bad in [over.as_str(), "\t", "\u{0}"] {
        assert_eq!(
            metadata(&[("a", bad)]),
            Err(MetadataError::Value("a".to_owned()))
        );
    }
    assert_eq!(
        metadata(&[("a", "1"), ("a", "1")]),
        Err(MetadataError::NameTwice("a".to_owned()))
    );
    let pairs = |count: usize, value: &str| {
        Metadata::new((0..count).map(|number| (format!("n{number:03}"), value.to_owned())))
    };
    assert!(pairs(50, "x").is_ok());
    assert_eq!(pairs(51, "x"), Err(MetadataError::TooMuch));
    // 4 + 156 bytes, 51 times 160 are 8,160; 32 times 256 are 8 KiB exactly.
    assert!(pairs(32, &"x".repeat(252)).is_ok());
    assert_eq!(pairs(33, &"x".repeat(252)), Err(MetadataError::TooMuch));
}

#[test]
fn stored_metadata_are_strict() {
    for bad in ["a", "a=1\n", "b=1\na=2", "a=\\x", "a=\\", "\n", "a=1\na=2"] {
        assert!(Metadata::parse(bad).is_err(), "{bad:?}");
    }
    assert_eq!(Metadata::parse(""), Ok(Metadata::default()));
    assert_eq!(Metadata::parse("a="), metadata(&[("a", "")]));
}

proptest! {
    #[test]
    fn tags_read_back_and_the_pattern_finds_each_and_no_other(
        tags in prop::collection::btree_set("[ab][ab._:-]{0,3}", 0..8), probe in "[ab][ab._:-]{0,3}",
    ) {
        let kept = Tags::new(tags.iter().map(String::as_str)).expect("tags");
        let text = kept.to_text();
        let pattern = Tags::like_pattern(&probe).expect("a pattern");
        prop_assert_eq!(is_like(text.as_bytes(), pattern.as_bytes()), tags.contains(&probe));
        prop_assert_eq!(Tags::parse(&text), Ok(kept));
    }

    #[test]
    fn metadata_read_back(
        pairs in prop::collection::btree_map("[A-Za-z][A-Za-z0-9_.-]{0,5}", "[a\\\\n=\nä ]{0,20}", 0..10),
    ) {
        let kept = Metadata::new(pairs.clone()).expect("metadata");
        prop_assert_eq!(kept.as_map(), &pairs);
        prop_assert_eq!(Metadata::parse(&kept.to_text()), Ok(kept));
    }
}
