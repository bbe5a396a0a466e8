//! What is remembered and what is not, without a server. With one: the server's own tests.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::memory::Memory;
use super::request::{KeyError, KeyLimit, KeyRequest, VerifiedKey, read};
use super::sse::{Event, Reader, Unreadable};

const SILENCE: Duration = Duration::from_millis(1500);
const LATER: Duration = Duration::from_secs(5);
const NOW: Duration = Duration::from_secs(1);

fn key(id: &str) -> Arc<VerifiedKey> {
    Arc::new(VerifiedKey {
        key_id: id.to_owned(),
        kid: None,
        owner: None,
        scopes: Vec::new(),
        retires_at: None,
        expires_at: None,
        limit: None,
    })
}

fn live() -> Memory {
    let mut memory = Memory::new(3);
    memory.heard(10, NOW);
    memory
}

fn fill(memory: &mut Memory, name: u8, id: &str) {
    let place = memory.begin(NOW, SILENCE).unwrap();
    memory.fill([name; 32], key(id), LATER, place, 10);
}

fn has(memory: &mut Memory, name: u8) -> bool {
    memory.get(&[name; 32], NOW, SILENCE).is_some()
}

#[test]
fn ac_140_what_the_stream_names_is_forgotten_and_the_rest_is_not() {
    let mut memory = live();
    fill(&mut memory, 1, "a");
    fill(&mut memory, 2, "a");
    fill(&mut memory, 3, "b");
    memory.key_changed("a", 11);
    assert!(!has(&mut memory, 1) && !has(&mut memory, 2) && has(&mut memory, 3));
    memory.everything_changed(12);
    assert!(!has(&mut memory, 3));
}

#[test]
fn ac_140_an_answer_that_was_overtaken_by_a_change_is_not_remembered() {
    let mut memory = live();
    let place = memory.begin(NOW, SILENCE).unwrap();
    memory.key_changed("a", 11);
    memory.fill([1; 32], key("a"), LATER, place, 11);
    memory.fill([2; 32], key("b"), LATER, place, 11);
    assert!(!has(&mut memory, 1) && has(&mut memory, 2));
    // So is one by a node that had not seen what was told here before it was asked.
    let place = memory.begin(NOW, SILENCE).unwrap();
    memory.fill([3; 32], key("a"), LATER, place, 10);
    assert!(!has(&mut memory, 3));
    // And one after which so much was changed that nobody remembers what.
    let place = memory.begin(NOW, SILENCE).unwrap();
    for version in 0..2000 {
        memory.key_changed("other", 12 + version);
    }
    memory.fill([3; 32], key("a"), LATER, place, 9999);
    assert!(!has(&mut memory, 3));
    let place = memory.begin(NOW, SILENCE).unwrap();
    memory.everything_changed(9999);
    memory.fill([3; 32], key("a"), LATER, place, 9999);
    assert!(!has(&mut memory, 3));
}

#[test]
fn silence_and_a_lost_stream_end_what_is_remembered() {
    let mut memory = live();
    fill(&mut memory, 1, "a");
    assert!(memory.get(&[1; 32], NOW + SILENCE, SILENCE).is_none());
    assert!(memory.begin(NOW + SILENCE, SILENCE).is_none());
    // It comes back: what is remembered counts again, as everything since was told.
    memory.heard(10, NOW + SILENCE);
    assert!(memory.get(&[1; 32], NOW + SILENCE, SILENCE).is_some());
    let place = memory.begin(NOW + SILENCE, SILENCE).unwrap();
    memory.lost();
    assert!(memory.get(&[1; 32], NOW + SILENCE, SILENCE).is_none());
    memory.heard(10, NOW + SILENCE);
    memory.fill([2; 32], key("b"), LATER, place, 10);
    assert!(!has(&mut memory, 2), "asked over a stream that was lost");
    memory.reset(3);
    assert!(!has(&mut memory, 1));
    assert_eq!(memory.version(), Some(3));
}

#[test]
fn it_ends_by_time_and_holds_no_more_than_it_may() {
    let mut memory = live();
    fill(&mut memory, 1, "a");
    memory.heard(10, LATER);
    assert!(memory.get(&[1; 32], LATER, SILENCE).is_none());
    let mut memory = live();
    for name in 0..=255 {
        fill(&mut memory, name, &format!("key{}", name % 7));
        fill(&mut memory, name, "again");
        assert!(memory.size() <= 3, "{}", memory.size());
    }
    assert!(has(&mut memory, 255) && !has(&mut memory, 0));
    let mut nothing = Memory::new(0);
    nothing.heard(1, NOW);
    assert!(nothing.begin(NOW, SILENCE).is_none());
}

#[test]
fn a_question_is_named_by_all_that_its_answer_depends_on() {
    let asked = KeyRequest {
        key: "k",
        ..KeyRequest::default()
    };
    let others = [
        KeyRequest { key: "l", ..asked },
        KeyRequest {
            requirement: Some("a:b"),
            ..asked
        },
        KeyRequest {
            requirement: Some(""),
            ..asked
        },
        KeyRequest {
            environment: Some("a:b"),
            ..asked
        },
        KeyRequest {
            origin: Some("a:b"),
            ..asked
        },
        KeyRequest {
            address: "192.0.2.1".parse().ok(),
            ..asked
        },
        KeyRequest {
            key_types: &["root"],
            ..asked
        },
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(asked.digest(), other.digest(), "{at}");
        for before in &others[..at] {
            assert_ne!(before.digest(), other.digest(), "{at}");
        }
    }
    let noted = KeyRequest {
        agent: Some("x"),
        route: Some("y"),
        ..asked
    };
    assert_eq!(asked.digest(), noted.digest());
    let secret = KeyRequest {
        key: "sk_live_secret",
        ..asked
    };
    assert!(!format!("{secret:?}").contains("sk_live_secret"));
}

#[test]
fn what_cannot_be_read_is_no_acceptance() {
    let said = |value: serde_json::Value| read(value.as_object().unwrap(), 0).map(|one| one.key);
    for odd in [
        json!({}),
        json!({"valid": true}),
        json!({"valid": "true", "code": "valid", "key_id": "k"}),
        json!({"valid": true, "code": "revoked", "key_id": "k"}),
        json!({"valid": true, "code": "valid"}),
    ] {
        assert_eq!(
            said(odd.clone()).err(),
            Some(KeyError::Unavailable),
            "{odd}"
        );
    }
    let refused = said(json!({"valid": false, "code": "valid\"\r\nx: y"}));
    assert_eq!(refused.err(), Some(KeyError::Refused("refused".into())));
    let revoked = said(json!({"valid": false, "code": "revoked", "key_id": "k"}));
    assert_eq!(revoked.err(), Some(KeyError::Refused("key_revoked".into())));
    let older = json!({"valid": true, "code": "valid", "key_id": "k"});
    assert!(read(older.as_object().unwrap(), 0).is_ok_and(|answer| answer.every_use_counts));
}

#[test]
fn ac_132_a_refusal_by_a_limit_says_how_it_stands_and_when_to_come_again() {
    let policy = json!({"name": "requests", "count": 60, "period_ms": 60_000, "burst": 5});
    let refused = |code: &str, more: serde_json::Value| {
        let mut said = json!({"valid": false, "code": code, "limit_policy": policy,
            "limit_left": 0, "limit_reset_ms": 61_001});
        let said = said.as_object_mut().unwrap();
        said.extend(more.as_object().unwrap().clone());
        match read(said, 10_000).map(|one| one.key) {
            Err(KeyError::Limited {
                code: told,
                retry_after_s,
                limit,
            }) if told == code => (retry_after_s, limit),
            other => panic!("{other:?}"),
        }
    };
    let (after, limit) = refused("rate_limited", json!({"retry_after_ms": 1001}));
    let stands = KeyLimit {
        name: "requests".into(),
        count: 60,
        period_ms: 60_000,
        burst: 5,
        left: 0,
        reset_ms: 61_001,
    };
    assert_eq!((after, limit), (Some(2), Some(stands)));
    for (more, after) in [
        (json!({"retry_after_ms": 1000}), Some(1)),
        (json!({"retry_after_ms": 0}), Some(1)),
        (json!({"retry_after_ms": i64::MAX}), None),
        (json!({"refill_at": 12_001}), Some(3)),
        (json!({"refill_at": 9_000}), Some(1)),
        (json!({}), None),
    ] {
        assert_eq!(
            refused("credits_exhausted", more.clone()).0,
            after,
            "{more}"
        );
    }
    // What is no name does not get into headers.
    let odd =
        json!({"limit_policy": {"name": "a\"\r\nx: y", "count": 1, "period_ms": 1, "burst": 0}});
    assert_eq!(refused("rate_limited", odd).1, None);
    assert_eq!(refused("rate_limited", json!({"limit_left": null})).1, None);
}

#[test]
fn events_are_read_in_any_pieces_and_within_bounds() {
    let text = ": hello\nevent: change\nid: 4\ndata: {\"version\":4}\n\nevent: x\n\ndata: a\r\ndata: b\r\n\r\n";
    let whole = Reader::default().take(text.as_bytes()).unwrap();
    let change = Event {
        name: "change".into(),
        data: "{\"version\":4}".into(),
    };
    assert_eq!(whole[0], change);
    assert_eq!(whole[1].data, "a\nb");
    let mut reader = Reader::default();
    let mut pieces = Vec::new();
    for byte in text.as_bytes() {
        pieces.extend(reader.take(&[*byte]).unwrap());
    }
    assert_eq!(pieces, whole);
    let long = "data: ".to_owned() + &"x".repeat(9000);
    assert_eq!(Reader::default().take(long.as_bytes()), Err(Unreadable));
    let many = "data: xxxxxxxx\n".repeat(2000);
    assert_eq!(Reader::default().take(many.as_bytes()), Err(Unreadable));
    assert_eq!(Reader::default().take(b"data: \xff\n"), Err(Unreadable));
}

#[test]
fn ac_140_nothing_is_remembered_past_the_end_of_a_key_or_its_secret_to_the_millisecond() {
    let mut key = VerifiedKey::clone(&key("a"));
    assert!(super::left(&key, 1_800_000_000_999) > Duration::from_secs(1_000_000));
    key.expires_at = Some(1_800_000_009_000);
    key.retires_at = Some(1_800_000_001_499);
    let left = |now| super::left(&key, now).as_millis();
    assert_eq!(left(1_800_000_000_999), 500);
    assert_eq!(left(1_800_000_001_499), 0);
    assert_eq!(left(1_800_000_001_900), 0);
}
