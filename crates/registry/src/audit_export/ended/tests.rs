//! Trails that go on from a backup, and trails that do not.

use keywright_domain::audit_chain::hash;

use super::super::{ExportHeader, write_line};
use super::*;

/// A trail of these events (action, target, details), each chained to the one before. `salt` tells two pasts apart.
fn trail(salt: &str, events: &[(&str, &str, &str)]) -> Vec<ExportEvent> {
    let mut previous = EventHash::GENESIS;
    let mut chained = Vec::new();
    for (number, (action, target, details)) in events.iter().enumerate() {
        let mut event = ExportEvent {
            sequence: i64::try_from(number).unwrap() + 1,
            at: 1_790_000_000_000,
            action: (*action).to_owned(),
            actor: salt.to_owned(),
            target_kind: "api_key".to_owned(),
            target_id: (*target).to_owned(),
            target_name: String::new(),
            summary: String::new(),
            details: (*details).to_owned(),
            hash: previous,
        };
        event.hash = hash(&previous, &event.as_chained());
        previous = event.hash;
        chained.push(event);
    }
    chained
}

fn export(events: &[ExportEvent]) -> Vec<u8> {
    let ends_at = events.last().map_or(0, |event| event.sequence);
    let header = ExportHeader::new("r1".to_owned(), Vec::new(), 0, ends_at);
    let mut text = Vec::new();
    write_line(&mut text, &ExportLine::Header(header)).unwrap();
    for event in events {
        write_line(&mut text, &ExportLine::Event(event.clone())).unwrap();
    }
    text
}

fn read(events: &[ExportEvent], points: &[PutBackPoint]) -> Option<EndedSince> {
    EndedSince::read(export(events).as_slice(), points, i64::MAX).unwrap()
}

/// A registry that was put back after this many of these events.
fn put_back_after(events: &[ExportEvent], many: usize) -> PutBackPoint {
    PutBackPoint {
        last: events[many - 1].sequence,
        hash: events[many - 1].hash,
        next: trail("another way", &[("registry.restored", "registry", "[]")])[0].hash,
        at: 1_790_000_000_500,
    }
}

const EVENTS: [(&str, &str, &str); 16] = [
    ("api_key.revoked", "before", "[]"),
    ("registry.backed_up", "registry", "[]"),
    ("api_key.revoked", "revoked", "[]"),
    ("api_key.disabled", "disabled", "[]"),
    ("api_key.disabled", "enabled", "[]"),
    ("api_key.enabled", "enabled", "[]"),
    (
        "api_key.secret_revoked",
        "secret",
        r#"[["kid","a"],["reason","x"]]"#,
    ),
    (
        "api_key.rotation_finished",
        "rotated",
        r#"[["rotation","r"],["kid","new"],["old_kid","old"]]"#,
    ),
    (
        "api_key.rotated",
        "leaked",
        r#"[["kid","new"],["overlap_ms","0"],["compromised","x"]]"#,
    ),
    (
        "api_key.rotated",
        "overlapping",
        r#"[["kid","new"],["overlap_ms","9"]]"#,
    ),
    ("principal.keys_revoked", "team", "[]"),
    ("user.disabled", "away", "[]"),
    ("user.disabled", "back", "[]"),
    ("user.enabled", "back", "[]"),
    ("session.ended", "session", r#"[["user","somebody"]]"#),
    ("user.password_changed", "somebody", "[]"),
];

#[test]
fn ac_203_what_was_ended_after_the_backup_and_nothing_else() {
    let events = trail("one", &EVENTS);
    let since = read(&events, &[put_back_after(&events, 2)]).unwrap();
    assert_eq!((since.after, since.through), (2, 16));
    let key = |id: &str| since.keys.get(id).cloned().unwrap_or_default();
    assert!(!since.keys.contains_key("before"));
    assert!(key("revoked").is_revoked && key("disabled").is_disabled);
    assert_eq!(key("enabled"), KeyEnd::default());
    assert_eq!(key("secret").kids, BTreeSet::from(["a".to_owned()]));
    assert_eq!(key("rotated").only.as_deref(), Some("new"));
    assert_eq!(since.put_back_at, 1_790_000_000_500);
    assert_eq!(key("leaked").only.as_deref(), Some("new"));
    assert_eq!(key("overlapping"), KeyEnd::default());
    assert!(since.owners["team"].is_without_keys);
    assert_eq!(since.disabled_users, BTreeSet::from(["away".to_owned()]));
    assert_eq!(since.sessions["session"], "somebody");
    // Whose sessions ended with something else: a suspension that is over, another password.
    let signed_out = ["back", "somebody"].map(str::to_owned);
    assert_eq!(since.signed_out, BTreeSet::from(signed_out));
    let look_at: Vec<_> = since.look_at.keys().map(String::as_str).collect();
    assert_eq!(look_at, ["user.password_changed"]);
}

#[test]
fn ac_203_a_trail_that_does_not_go_on_from_the_backup_says_nothing() {
    let events = trail("one", &EVENTS);
    let point = put_back_after(&events, 2);
    assert_eq!(read(&events, &[]), None, "nothing was put back");
    assert_eq!(read(&trail("other", &EVENTS), &[point]), None);
    assert_eq!(read(&events[..1], &[point]), None, "older than the backup");
    assert_eq!(read(&events[..2], &[point]), None, "as old as the backup");
    assert_eq!(read(&events[2..], &[point]), None, "it begins after it");
    // Of the registry itself since it was put back.
    let own = PutBackPoint {
        next: events[2].hash,
        ..point
    };
    assert_eq!(read(&events, &[own]), None);
    assert!(read(&events, &[point]).is_some());
}

#[test]
fn ac_203_of_several_backups_that_were_put_back_the_newest_that_the_file_knows_counts() {
    let events = trail("one", &EVENTS);
    let points = [put_back_after(&events, 2), put_back_after(&events, 4)];
    assert_eq!(read(&events, &points).unwrap().after, 4);
    // One that the file does not know, since it was exported before, takes nothing from the others.
    let later = PutBackPoint {
        last: 99,
        ..points[1]
    };
    assert_eq!(read(&events, &[points[0], later]).unwrap().after, 2);
}

#[test]
fn ac_203_what_no_signature_covers_is_not_read() {
    let events = trail("one", &EVENTS);
    let point = put_back_after(&events, 2);
    let text = export(&events);
    let read = |vouched| EndedSince::read(text.as_slice(), &[point], vouched).unwrap();
    let since = read(8).unwrap();
    assert_eq!(since.through, 8);
    assert!(since.keys.contains_key("rotated") && !since.keys.contains_key("leaked"));
    assert!(since.owners.is_empty() && since.disabled_users.is_empty());
    assert_eq!(
        read(2),
        None,
        "nothing of what came after the backup is signed"
    );
}
