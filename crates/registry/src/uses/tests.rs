use super::*;

fn kid(text: &str) -> PackedKid {
    PackedKid::parse(text).unwrap()
}

#[test]
fn networks_read_as_the_rule_has_them() {
    for text in [
        "127.0.0.1",
        "10.20.255.3",
        "1.2.3.4",
        "::ffff:192.0.2.7",
        "2001:db8:1:2::5",
        "::1",
    ] {
        let address: IpAddr = text.parse().unwrap();
        let network = NetworkText::of(Some(address));
        assert_eq!(network.as_str(), network_of(address), "{text}");
    }
    assert_eq!(NetworkText::of(None).as_str(), "");
}

#[test]
fn foreign_text_is_capped_and_plain_text_is_not_copied() {
    assert!(matches!(
        kept(Some("GET /orders"), 64),
        Cow::Borrowed("GET /orders")
    ));
    assert_eq!(kept(Some("a\u{7}b\n"), 64), "ab");
    assert_eq!(kept(Some(&"ü".repeat(70)), 64), "ü".repeat(64));
    assert_eq!(kept(Some("xKYWRT1y"), 64), "(redacted)");
    // Cut first: half a marker is none.
    assert_eq!(kept(Some("abKYWRT1"), 4), "abKY");
}

#[test]
fn a_caller_in_one_piece_is_the_same_caller_and_no_other() {
    let caller = |parts: [&str; 6]| {
        let [client_label, network, agent, route, scope, origin] = parts.map(str::to_owned);
        CallerText {
            client_label,
            network,
            agent,
            route,
            scope,
            origin,
        }
    };
    let texts = [
        ["", "", "", "", "", ""],
        [
            "shop",
            "192.0.2.0/24",
            "curl/8",
            "GET /v1",
            "a:b",
            "https://a.example",
        ],
        ["ab", "", "c", "", "", ""],
        ["a", "", "bc", "", "", ""],
        ["", "", "abc", "", "", ""],
        ["abc", "", "", "", "", ""],
        ["", "", "", "", "", "abc"],
        ["ü", "", "", "GET /ü", "", ""],
    ]
    .map(caller);
    for (at, text) in texts.iter().enumerate() {
        let joined = CallerRef::of_text(text).joined();
        assert_eq!(Joined::of(&joined).to_text(), *text);
        for (other_at, other) in texts.iter().enumerate() {
            assert_eq!(CallerRef::of_text(other).joined() == joined, at == other_at);
        }
    }
    // What stands between the parts cannot stand in one.
    let text = kept(Some("a\nb"), 64);
    assert!(!text.contains(BETWEEN_TEXT), "{text}");
}

#[test]
fn uses_are_told_apart_by_secret_hour_and_caller_and_counted_together_otherwise() {
    let uses = UseRecorder::default();
    let (one, other) = (kid("AAAAAAAAAAAA"), kid("AAAAAAAAAAAB"));
    let from = |address: &str, agent| Caller {
        address: Some(address.parse().unwrap()),
        agent,
        ..Caller::default()
    };
    let here = from("192.0.2.1", Some("curl/8 (x)"));
    uses.record(one, &here, "keys:read", 5);
    uses.record(one, &from("192.0.2.200", Some("curl/8")), "keys:read", 4);
    uses.record(one, &here, "keys:write", 6);
    uses.record(one, &from("192.0.3.1", Some("curl/8")), "keys:read", 6);
    uses.record(one, &here, "keys:read", 5 + HOUR_MS);
    uses.record(other, &here, "keys:read", 5);
    uses.record(other, &Caller::default(), "", 7);
    uses.record(other, &Caller::default(), "", 8);
    assert_eq!(uses.statistics().waiting, 6);
    let taken = uses.take();
    let counts: Vec<_> = taken
        .uses
        .iter()
        .map(|one| (one.count, one.last_at))
        .collect();
    assert_eq!(
        counts,
        [(2, 5), (1, 6), (1, 6), (1, 5 + HOUR_MS), (2, 8), (1, 5)]
    );
    assert_eq!(taken.uses[0].caller.network, "192.0.2.0/24");
    assert_eq!(taken.uses[0].caller.agent, "curl/8");
    assert_eq!(uses.statistics().waiting, 0);
    // What is given back is what was taken, and counts on.
    uses.record(one, &here, "keys:read", 9);
    assert!(uses.give_back(taken.clone()).is_empty());
    let again = uses.take();
    assert_eq!(again.uses.len(), taken.uses.len());
    assert_eq!((again.uses[0].count, again.uses[0].last_at), (3, 9));
    assert_eq!(again.uses[1..], taken.uses[1..]);
}

#[test]
fn what_is_given_back_finds_no_more_room_than_what_comes() {
    let uses = UseRecorder::default();
    let alert = |number: usize| PendingAlert {
        kind: AlertKind::CanaryUsed,
        key_id: "key".to_owned(),
        kid: number.to_string(),
        caller: String::new(),
        count: 2,
        first_at: 1,
        last_at: 1,
    };
    let waiting = Waiting {
        uses: Vec::new(),
        alerts: (0..ALERTS + 3).map(alert).collect(),
        first_uses: (0..FIRST_USES + 4)
            .map(|one| (one.to_string(), 1))
            .collect(),
    };
    let without_place = uses.give_back(waiting);
    let full = uses.statistics();
    assert_eq!((full.alerts_dropped, without_place.len()), (3 * 2, 4));
    assert_eq!(
        full.dropped, 0,
        "a first use that finds no place is tried again"
    );
    // What waits already goes on being counted.
    let again = Waiting {
        alerts: vec![alert(0)],
        first_uses: vec![("0".to_owned(), 1)],
        ..Waiting::default()
    };
    assert!(uses.give_back(again).is_empty());
    let taken = uses.take();
    let full = uses.statistics();
    assert_eq!((full.alerts_dropped, full.dropped), (3 * 2, 0));
    assert_eq!(taken.alerts.len(), ALERTS);
    assert_eq!(taken.first_uses.len(), FIRST_USES);
}

/// A kid of its own for each number.
fn numbered(number: usize) -> PackedKid {
    kid(&format!("{number:012}"))
}

fn labelled(label: &str) -> Caller<'_> {
    Caller {
        client_label: Some(label),
        ..Caller::default()
    }
}

#[test]
fn a_full_queue_counts_its_drops_goes_on_with_what_it_has_and_keeps_first_uses() {
    let uses = UseRecorder::default();
    for number in 0..CAPACITY * 2 {
        uses.record(numbered(number), &Caller::default(), "", 1);
    }
    let full = uses.statistics();
    assert_eq!(full.waiting, CAPACITY, "bounded");
    assert_eq!(full.dropped as usize, CAPACITY, "each one is counted");
    // Everything that is there counts on; nothing that is not finds a place.
    for number in 0..CAPACITY * 2 {
        uses.record(numbered(number), &Caller::default(), "", 2);
    }
    assert_eq!(uses.statistics().dropped as usize, CAPACITY * 2);
    for number in 0..1000 {
        assert!(uses.first_use_waits(&format!("{number:012}"), 3));
    }
    assert_eq!(uses.statistics().first_uses_waiting, 1000);
    assert_eq!(uses.newly_dropped() as usize, CAPACITY * 2);
    assert_eq!(uses.newly_dropped(), 0, "told once");
    let taken = uses.take();
    assert_eq!(taken.uses.len(), CAPACITY);
    assert!(
        taken
            .uses
            .iter()
            .all(|one| (one.count, one.last_at) == (2, 2))
    );
    assert_eq!(taken.first_uses.len(), 1000);
    // There is room again.
    uses.record(numbered(CAPACITY * 3), &Caller::default(), "", 4);
    assert_eq!(uses.statistics().waiting, 1);
    assert_eq!(uses.statistics().dropped as usize, CAPACITY * 2);
}

#[test]
fn full_alerts_count_on_those_that_are_there() {
    let uses = UseRecorder::default();
    let alert = |number: usize, label: &str, at: i64| {
        let kid = format!("{number:012}");
        let kind = AlertKind::EndedSecretUsed;
        uses.alert(kind, "key", &kid, &labelled(label), at);
    };
    for number in 0..ALERTS + 5 {
        alert(number, "first", 10);
    }
    // Full: a new secret finds no place, and neither does a new caller; a known one does.
    alert(ALERTS + 9, "first", 11);
    alert(0, "second", 12);
    alert(0, "first", 13);
    let statistics = uses.statistics();
    assert_eq!(
        (statistics.alerts_waiting, statistics.alerts_dropped),
        (ALERTS, 7)
    );
    assert_eq!(statistics.dropped, 0, "alerts are no uses");
    let taken = uses.take();
    assert_eq!(taken.alerts.len(), ALERTS);
    let first = &taken.alerts[0];
    assert_eq!((first.count, first.first_at, first.last_at), (2, 10, 13));
    // While the database is away they do not grow without end.
    for number in ALERTS..ALERTS * 2 {
        alert(number, "first", 20);
    }
    assert!(uses.give_back(taken).is_empty());
    assert_eq!(uses.statistics().alerts_waiting, ALERTS);
    assert_eq!(uses.statistics().alerts_dropped, 7 + ALERTS as u64 + 1);
}

#[test]
fn a_keys_holder_cannot_make_callers_without_end() {
    let uses = UseRecorder::default();
    let one = numbered(1);
    for number in 0..CALLERS * 3 {
        let label = format!("visitor {number}");
        uses.record(one, &labelled(&label), "orders:read", 5);
    }
    uses.record(one, &labelled("visitor 0"), "orders:read", 6);
    uses.record(one, &labelled(OTHER_CALLERS), "orders:read", 6);
    // Another secret, and another hour, have their own.
    uses.record(numbered(2), &labelled("somebody"), "", 5);
    uses.record(one, &labelled("somebody"), "", 5 + HOUR_MS);
    assert_eq!(uses.statistics().waiting, CALLERS + 3);
    let taken = uses.take();
    let others: Vec<_> = taken
        .uses
        .iter()
        .filter(|one| one.caller.is_others())
        .collect();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].caller, CallerText::others("orders:read"));
    assert_eq!(others[0].count as usize, CALLERS * 2 + 1, "none is lost");
    let known = taken
        .uses
        .iter()
        .find(|one| one.caller.client_label == "visitor 0");
    assert_eq!(known.map(|one| one.count), Some(2));
    assert_eq!(uses.statistics().dropped, 0);
    // Requirements may be the caller's text too.
    for number in 0..CALLERS * 2 {
        uses.record(
            one,
            &labelled("x"),
            &format!("orders:read or x:{number}"),
            5,
        );
    }
    let taken = uses.take().uses;
    assert_eq!(taken.len(), CALLERS + OTHER_REQUIREMENTS + 1);
    let last = taken.iter().find(|one| one.caller.scope == OTHER_SCOPES);
    let counted = last.map(|one| one.count as usize);
    assert_eq!(counted, Some(CALLERS - OTHER_REQUIREMENTS));
    assert!(
        keywright_domain::scopes::ScopeRequirement::parse(OTHER_SCOPES).is_err(),
        "it is no requirement"
    );
}

#[test]
fn alerts_of_one_secret_have_so_many_callers_and_then_others() {
    let uses = UseRecorder::default();
    let kind = AlertKind::EndedSecretUsed;
    for number in 0..ALERT_CALLERS * 3 {
        uses.alert(kind, "key", "k", &labelled(&format!("visitor {number}")), 1);
    }
    let alerts = uses.take().alerts;
    assert_eq!(alerts.len(), ALERT_CALLERS + 1);
    let others = alerts.iter().find(|one| one.caller == OTHER_CALLERS);
    assert_eq!(
        others.map(|one| one.count as usize),
        Some(ALERT_CALLERS * 2)
    );
}
