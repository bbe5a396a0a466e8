//! A generated export, and each kind of damage to its text.

use std::io::{BufReader, Error, repeat};

use keywright_domain::audit_chain::{CheckpointKey, Fault, hash};

use super::*;

const REGISTRY: &str = "r1";

fn key(seed: u8) -> CheckpointKey {
    CheckpointKey::from_bytes(&[seed; 32])
}

fn events(count: i64) -> Vec<ExportEvent> {
    let mut previous = EventHash::GENESIS;
    (1..=count)
        .map(|sequence| {
            let mut event = ExportEvent {
                sequence,
                at: 1_790_000_000_000 + sequence,
                action: "api_key.issued".to_owned(),
                actor: "Zoë".to_owned(),
                target_kind: "api_key".to_owned(),
                target_id: format!("k{sequence}"),
                target_name: "a \"name\",\r\n\u{2028}\0 in two lines".to_owned(),
                summary: "Issued".to_owned(),
                details: r#"[["prefix","sk\u005flive"]]"#.to_owned(),
                hash: previous,
            };
            event.hash = hash(&previous, &event.as_chained());
            previous = event.hash;
            event
        })
        .collect()
}

fn checkpoint(key: &CheckpointKey, event: &ExportEvent) -> ExportLine {
    let signed = key.sign(REGISTRY, event.sequence, event.hash, 1_790_000_000_500);
    ExportLine::Checkpoint(signed.into())
}

fn text_of(line: &ExportLine) -> String {
    let mut text = Vec::new();
    write_line(&mut text, line).unwrap();
    String::from_utf8(text).unwrap()
}

fn header(starts_after: i64, ends_at: i64) -> String {
    let keys = vec![key(1).public_key()];
    let header = ExportHeader::new(REGISTRY.to_owned(), keys, starts_after, ends_at);
    text_of(&ExportLine::Header(header))
}

/// Lines of a trail of eight events, with checkpoints after the fourth and the last:
/// 0 is the header, 1 to 4 and 6 to 9 are events, 5 and 10 are checkpoints.
fn export() -> Vec<String> {
    let mut lines = vec![header(0, 8)];
    for event in events(8) {
        let signed = checkpoint(&key(1), &event);
        let vouched = event.sequence % 4 == 0;
        lines.push(text_of(&ExportLine::Event(event)));
        if vouched {
            lines.push(text_of(&signed));
        }
    }
    lines
}

fn verify(lines: &[String]) -> Result<Verdict, ExportError> {
    verify_export(lines.concat().as_bytes(), &[key(1).public_key()])
}

fn broken(at: i64, fault: Fault, vouched: Option<i64>) -> Verdict {
    Verdict::Broken { at, fault, vouched }
}

/// The line's number and the words of the refusal.
fn refusal(lines: &[String]) -> String {
    verify(lines).unwrap_err().to_string()
}

#[test]
fn ac_185_an_export_verifies_without_a_database() {
    let verdict = verify(&export()).unwrap();
    let expected = Verdict::Intact {
        events: 8,
        first: Some(1),
        last: Some(8),
        checkpoints: 2,
        vouched: Some(8),
        hash: events(8)[7].hash,
    };
    assert_eq!(verdict, expected);
    // As other systems write lines; and without the last line's end.
    let text = export().concat();
    let trusted = [key(2).public_key(), key(1).public_key()];
    for text in [text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
        let verdict = verify_export(text.as_bytes(), &trusted).unwrap();
        assert_eq!(verdict, expected);
    }
}

#[test]
fn the_lines_never_change() {
    let event = events(1).remove(0);
    assert_eq!(
        header(0, 8),
        "{\"header\":{\"format\":\"keywright-audit\",\"version\":1,\"registry_id\":\"r1\",\
         \"public_keys\":[\"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c\"],\
         \"starts_after\":0,\"ends_at\":8}}\n"
    );
    assert_eq!(
        text_of(&ExportLine::Event(event.clone())),
        format!(
            "{{\"event\":{{\"sequence\":1,\"at\":1790000000001,\"action\":\"api_key.issued\",\
             \"actor\":\"Zoë\",\"target_kind\":\"api_key\",\"target_id\":\"k1\",\
             \"target_name\":\"a \\\"name\\\",\\r\\n\u{2028}\\u0000 in two lines\",\
             \"summary\":\"Issued\",\"details\":\"[[\\\"prefix\\\",\\\"sk\\\\u005flive\\\"]]\",\
             \"hash\":\"{}\"}}}}\n",
            event.hash
        )
    );
    let signed = key(1).sign(REGISTRY, 1, event.hash, 1_790_000_000_500);
    assert_eq!(
        text_of(&checkpoint(&key(1), &event)),
        format!(
            "{{\"checkpoint\":{{\"registry_id\":\"r1\",\"sequence\":1,\"hash\":\"{}\",\
             \"at\":1790000000500,\"key_id\":\"34750f98bd59fcfc\",\"signature\":\"{}\"}}}}\n",
            event.hash, signed.signature
        )
    );
}

#[test]
fn ac_185_a_changed_event_is_named() {
    for (from, to) in [
        ("\"at\":1790000000006", "\"at\":1790000000007"),
        (
            "\"action\":\"api_key.issued\"",
            "\"action\":\"api_key.revoked\"",
        ),
        ("\"target_id\":\"k6\"", "\"target_id\":\"k7\""),
        // The same JSON value in other bytes is another text.
        ("\\\\u005f", "_"),
    ] {
        let mut lines = export();
        let changed = lines[7].replace(from, to);
        assert_ne!(changed, lines[7], "{from}");
        lines[7] = changed;
        let expected = broken(6, Fault::Changed, Some(4));
        assert_eq!(verify(&lines).unwrap(), expected, "{from}");
    }
}

#[test]
fn ac_185_missing_added_and_moved_lines_are_named() {
    let with = |damage: fn(&mut Vec<String>)| {
        let mut lines = export();
        damage(&mut lines);
        verify(&lines).unwrap()
    };
    let missing = |through| Fault::Missing { through };
    assert_eq!(
        with(|lines| drop(lines.remove(2))),
        broken(2, missing(2), None)
    );
    assert_eq!(
        with(|lines| drop(lines.drain(6..8))),
        broken(5, missing(6), Some(4))
    );
    assert_eq!(
        with(|lines| lines.swap(6, 7)),
        broken(5, Fault::OutOfOrder, Some(4))
    );
    assert_eq!(
        with(|lines| lines.insert(8, lines[2].clone())),
        broken(2, Fault::Inserted, Some(4))
    );
    assert_eq!(
        with(|lines| lines.swap(4, 5)),
        broken(4, Fault::OutOfOrder, None)
    );
    // The last event without, and with, its checkpoint.
    let cut = Fault::CutAfterCheckpoint { checkpoint: 8 };
    assert_eq!(with(|lines| drop(lines.remove(9))), broken(8, cut, Some(4)));
    assert_eq!(
        with(|lines| lines.truncate(9)),
        broken(8, missing(8), Some(4))
    );
}

#[test]
fn a_cut_that_also_changes_the_header_is_a_shorter_trail() {
    let mut lines = export();
    lines.truncate(9);
    lines[0] = header(0, 7);
    let Verdict::Intact { last, vouched, .. } = verify(&lines).unwrap() else {
        panic!("nothing in the file tells");
    };
    assert_eq!((last, vouched), (Some(7), Some(4)));
}

#[test]
fn ac_185_a_trail_made_anew_is_seen_by_its_checkpoint() {
    let mut all = events(4);
    all[1].actor = "nobody".to_owned();
    for index in 1..4 {
        let previous = all[index - 1].hash;
        all[index].hash = hash(&previous, &all[index].as_chained());
    }
    let honest = export();
    let mut lines = vec![header(0, 4)];
    lines.extend(
        all.into_iter()
            .map(|event| text_of(&ExportLine::Event(event))),
    );
    lines.push(honest[5].clone());
    let expected = broken(4, Fault::Rewritten { since: 1 }, None);
    assert_eq!(verify(&lines).unwrap(), expected);
}

#[test]
fn keys_of_the_header_are_not_trusted() {
    let text = export().concat();
    let key_id = key(1).public_key().key_id();
    let expected = broken(4, Fault::UnknownKey { key_id }, None);
    for trusted in [vec![], vec![key(2).public_key()]] {
        let verdict = verify_export(text.as_bytes(), &trusted).unwrap();
        assert_eq!(verdict, expected);
    }
}

#[test]
fn forged_and_foreign_checkpoints_are_named() {
    let mut lines = export();
    lines[5] = lines[5].replace("1790000000500", "1790000000501");
    let expected = broken(4, Fault::BadCheckpoint, None);
    assert_eq!(verify(&lines).unwrap(), expected);
    let mut lines = export();
    lines[0] = lines[0].replace("\"r1\"", "\"r2\"");
    let expected = broken(4, Fault::ForeignCheckpoint, None);
    assert_eq!(verify(&lines).unwrap(), expected);
}

#[test]
fn a_pruned_trail_begins_with_the_checkpoint_of_its_cut() {
    let rest = |first: String| [vec![first], export().drain(5..).collect()].concat();
    let Verdict::Intact {
        events,
        first,
        last,
        checkpoints,
        ..
    } = verify(&rest(header(4, 8))).unwrap()
    else {
        panic!("it is whole");
    };
    assert_eq!((events, first, last, checkpoints), (4, Some(5), Some(8), 2));
    // Without the header's word for it, or without the checkpoint, events are missing.
    let cut = Fault::CutAfterCheckpoint { checkpoint: 4 };
    let missing = Fault::Missing { through: 4 };
    for other in [0, 3, -4] {
        let verdict = verify(&rest(header(other, 8))).unwrap();
        assert_eq!(verdict, broken(1, missing.clone(), None));
    }
    let mut lines = rest(header(4, 8));
    lines.remove(1);
    assert_eq!(verify(&lines).unwrap(), broken(1, missing, None));
    // A header that speaks of a cut where there is none hides nothing before it.
    let mut lines = export();
    lines[0] = header(4, 8);
    assert!(verify(&lines).unwrap().is_intact());
    lines[2] = lines[2].replace("k2", "k3");
    let changed = broken(2, Fault::Changed, None);
    assert_eq!(verify(&lines).unwrap(), changed);
    lines.drain(1..3);
    let hole = broken(1, Fault::Missing { through: 2 }, None);
    assert_eq!(verify(&lines).unwrap(), hole);
    // Nothing but the checkpoint: everything was pruned, or it was cut.
    lines = vec![header(4, 4), export().remove(5)];
    assert!(verify(&lines).unwrap().is_intact());
    lines[0] = header(0, 4);
    assert_eq!(verify(&lines).unwrap(), broken(1, cut, None));
    // A forged start is no start.
    let mut lines = rest(header(4, 8));
    lines[1] = lines[1].replace("1790000000500", "1790000000501");
    let expected = broken(4, Fault::BadCheckpoint, None);
    assert_eq!(verify(&lines).unwrap(), expected);
}

#[test]
fn hostile_lines_are_answered_by_their_number() {
    let event = export().remove(1);
    let with = |line: &str| {
        let mut lines = export();
        lines[2] = format!("{line}\n");
        refusal(&lines)
    };
    let began = "line 3 is not a line of an audit export: ";
    for (line, reason) in [
        ("", "EOF while parsing a value"),
        ("[]", "expected value"),
        ("\"event\"", "invalid type: unit variant"),
        ("{\"events\":{}}", "unknown variant `events`"),
        ("{\"event\":{\"sequence\":1}}", "missing field `at`"),
        (&"[".repeat(100_000), "expected value"),
        (
            &event.replace("\"at\":", "\"note\":\"x\",\"at\":"),
            "unknown field `note`",
        ),
        (
            &event.replace("\"at\":", "\"\\u001b[2J\\n\":\"x\",\"at\":"),
            "unknown field `[2J`",
        ),
        (
            &event.replace("\"at\":", &format!("\"{}\":1,\"at\":", "n".repeat(9_999))),
            "unknown field `nnn",
        ),
        (
            &event.replace("\"at\":", "\"at\":1,\"at\":"),
            "duplicate field `at`",
        ),
        (&event.replace("\"at\":1", "\"at\":99999999999"), "invalid"),
        (
            &event.replace("\"at\":", "\"at\":1.5e"),
            "number out of range",
        ),
        (
            &event.replace("\"hash\":\"", "\"hash\":\"0"),
            "an event hash has 64 lower-case",
        ),
        (
            &event.replace("}}", "},\"checkpoint\":{}}"),
            "expected value",
        ),
        (&event.replace("}}", "}}{}"), "trailing characters"),
        (&event[..55], "EOF while parsing a string"),
    ] {
        let words = with(line);
        assert!(words.starts_with(&format!("{began}{reason}")), "{words}");
        assert!(words.len() < 400 && !words.contains('\u{1b}'), "{words}");
    }
    let mut text = export().concat().into_bytes();
    let place = text.len() - 20;
    text[place] = 0xff;
    let error = verify_export(text.as_slice(), &[key(1).public_key()]).unwrap_err();
    assert!(matches!(error, ExportError::Malformed { line: 11, .. }));
    let mut lines = export();
    lines.insert(5, header(0, 8));
    assert_eq!(refusal(&lines), "line 6 is a second header");
}

#[test]
fn what_is_broken_stays_broken_whatever_follows() {
    let mut lines = export();
    lines[2] = lines[2].replace("k2", "k3");
    let expected = broken(2, Fault::Changed, None);
    for after in ["{\n".to_owned(), "a".repeat(MAX_LINE_LENGTH), header(0, 8)] {
        let mut lines = lines.clone();
        lines[4] = after;
        assert_eq!(verify(&lines).unwrap(), expected);
    }
}

#[test]
fn what_is_no_export_of_this_version_is_said_so() {
    let words = "this is not an audit export of Keywright";
    let first = header(0, 8);
    for line in [
        String::new(),
        "\n".to_owned(),
        "PK\u{3}\u{4}".to_owned(),
        export().remove(1),
        first.replace("keywright-audit", "other-audit"),
        "x".repeat(MAX_LINE_LENGTH + 1),
    ] {
        assert_eq!(refusal(&[line]), words);
    }
    let newer = "{\"header\":{\"format\":\"keywright-audit\",\"version\":2,\"more\":true}}\n";
    assert_eq!(
        refusal(&[newer.to_owned()]),
        "the export has format version 2; this program reads version 1 only"
    );
    for (from, to, words) in [
        (
            "\"registry_id\"",
            "\"note\":1,\"registry_id\"",
            "unknown field `note`",
        ),
        ("8a88", "8A88", "a checkpoint's public key has 64"),
        ("\"starts_after\":0,", "", "missing field `starts_after`"),
    ] {
        let refused = refusal(&[first.replace(from, to)]);
        assert!(refused.starts_with("line 1 is not a line of an audit export: "));
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn lines_have_a_bound_in_both_directions() {
    let mut event = events(1).remove(0);
    let rest = text_of(&ExportLine::Event(event.clone())).len() - event.summary.len();
    event.summary = "x".repeat(MAX_LINE_LENGTH - rest);
    event.hash = hash(&EventHash::GENESIS, &event.as_chained());
    let longest = text_of(&ExportLine::Event(event.clone()));
    assert_eq!(longest.len(), MAX_LINE_LENGTH);
    let lines = [header(0, 1), longest.clone()];
    assert!(verify(&lines).unwrap().is_intact());
    let lines = [header(0, 1), format!(" {longest}")];
    assert_eq!(refusal(&lines), "line 2 is longer than a line may be");
    event.summary.push('x');
    let mut written = Vec::new();
    let refused = write_line(&mut written, &ExportLine::Event(event));
    assert!(matches!(refused, Err(ExportError::TooLongToWrite)));
    assert!(written.is_empty());
    // A line without an end is not read to its end.
    let first = header(0, 1);
    let mut endless = BufReader::new(first.as_bytes().chain(repeat(b'x')).take(1 << 26));
    let refused = verify_export(&mut endless, &[]);
    assert!(matches!(refused, Err(ExportError::LineTooLong { line: 2 })));
    assert!(endless.get_ref().limit() > (1 << 26) - 2 * MAX_LINE_LENGTH as u64);
}

#[test]
fn a_failing_reader_or_writer_is_an_error_with_its_line() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(Error::other("the disk went away"))
        }
    }
    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(Error::other("the disk is full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let text = export()[..3].concat();
    let reader = BufReader::new(text.as_bytes().chain(Failing));
    let error = verify_export(reader, &[key(1).public_key()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 4 could not be read: the disk went away"
    );
    let event = ExportLine::Event(events(1).remove(0));
    let error = write_line(&mut Failing, &event).unwrap_err();
    assert!(matches!(error, ExportError::Write(_)));
}

#[test]
fn ac_185_no_byte_can_change_and_no_end_can_be_cut() {
    let lines = [&export()[1..3], &[String::new()]].concat();
    let signed = text_of(&checkpoint(&key(1), &events(2)[1]));
    let first = header(0, 2);
    let text = [first.clone(), lines.concat(), signed].concat();
    let trusted = [key(1).public_key()];
    let intact = |text: &[u8]| verify_export(text, &trusted).is_ok_and(|found| found.is_intact());
    assert!(intact(text.as_bytes()));
    for place in first.len()..text.len() {
        for mask in [0x01, 0x02, 0x20, 0x80] {
            let mut changed = text.clone().into_bytes();
            changed[place] ^= mask;
            assert!(!intact(&changed), "{place} {mask}");
        }
    }
    // A header that expects two events, and a checkpoint that is no longer asked for.
    let events_end = first.len() + lines.concat().len();
    for length in 0..text.len() - 1 {
        let whole_events = length == events_end || length == events_end - 1;
        assert_eq!(intact(&text.as_bytes()[..length]), whole_events, "{length}");
    }
}
