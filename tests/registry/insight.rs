//! Stragglers, warnings before an overlap ends, hygiene, and previews of changes.

use std::collections::BTreeMap;

use anyhow::Result;
use keywright_domain::api_keys::{
    DAY_MS, Environment, NetworkList, NewApiKey, OriginList, OwnerKind, Policy, RotationRequest,
};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_registry::{
    Caller, CallerIdentity, HygieneFinding, HygieneQuery, HygieneRules, Issued, PreviewEffect,
    PrincipalChange, Progress, ProposedChange, RotationStep, Trend, VerifyRequest,
};

use super::{Fixture, START, from_issue, wish};

const HOUR: i64 = 60 * 60 * 1000;
const MINUTE: i64 = 60 * 1000;

/// An accepted use by somebody.
struct Use<'a> {
    label: &'a str,
    address: &'a str,
    route: &'a str,
    scope: &'a str,
    origin: Option<&'a str>,
}

impl Default for Use<'_> {
    fn default() -> Self {
        Self {
            label: "billing",
            address: "192.0.2.10",
            route: "GET /orders",
            scope: "keys:read",
            origin: None,
        }
    }
}

async fn use_it(fixture: &Fixture, issued: &Issued, one: &Use<'_>) -> Result<()> {
    let requirement = (!one.scope.is_empty())
        .then(|| ScopeRequirement::parse(one.scope))
        .transpose()?;
    let request = VerifyRequest {
        presented: issued.plain.text().expose(),
        requirement: requirement.as_ref(),
        caller: Caller {
            address: Some(one.address.parse()?),
            origin: one.origin,
            agent: Some("curl/8.5.0 (linux)"),
            route: Some(one.route),
            client_label: Some(one.label),
        },
        ..VerifyRequest::default()
    };
    let verified = fixture
        .registry
        .verify_api_key(&request, &fixture.peppers)
        .await?;
    assert_eq!(verified.code(), "valid");
    Ok(())
}

async fn use_as(fixture: &Fixture, issued: &Issued, label: &str, times: usize) -> Result<()> {
    for _ in 0..times {
        let one = Use {
            label,
            ..Use::default()
        };
        use_it(fixture, issued, &one).await?;
    }
    Ok(())
}

#[tokio::test]
async fn rule_13_the_board_tells_who_moved_who_did_not_and_when_it_is_safe() -> Result<()> {
    let fixture = super::fixture().await?;
    let old = fixture.issue("Deploy bot").await?;
    let begin = START - START % HOUR;
    // A nightly job, and two services that use it all the time.
    for night in 0..3 {
        fixture.set_clock(begin + night * DAY_MS);
        use_as(&fixture, &old, "nightly", 1).await?;
    }
    fixture.set_clock(begin + 2 * DAY_MS + HOUR);
    let request = RotationRequest {
        overlap_ms: 7 * DAY_MS,
        ..RotationRequest::default()
    };
    let new = fixture.rotate_as(&old.key.id, &request).await?;
    let rotated = fixture.now();
    for (hour, times) in [(0, 8), (1, 8), (2, 8), (3, 1), (4, 1), (5, 1)] {
        fixture.set_clock(rotated + hour * HOUR + MINUTE);
        use_as(&fixture, &old, "slow", times).await?;
        if hour < 2 {
            use_as(&fixture, &old, "quick", 4).await?;
        } else {
            use_as(&fixture, &new, "quick", 4).await?;
        }
    }
    let last_use = fixture.now();
    fixture.set_clock(rotated + 6 * HOUR + 13 * MINUTE);
    use_as(&fixture, &new, "fresh", 1).await?;

    let board = fixture.registry.stragglers(&old.key.id).await?;
    assert_eq!(board.at, fixture.now());
    assert_eq!(board.last_used_at, Some(last_use));
    let names = |list: &[keywright_registry::Straggler]| -> Vec<_> {
        list.iter()
            .map(|one| (one.caller.client_label.clone(), one.progress, one.old_uses))
            .collect()
    };
    assert_eq!(
        names(&board.remaining),
        [
            ("slow".to_owned(), Progress::NotMoved, 27),
            ("nightly".to_owned(), Progress::NotMoved, 3)
        ]
    );
    assert_eq!(
        names(&board.moved),
        [
            ("fresh".to_owned(), Progress::Moved, 0),
            ("quick".to_owned(), Progress::Moved, 8)
        ]
    );
    assert_eq!(board.remaining[0].trend, Trend::Falling);
    assert_eq!(board.trend, Trend::Falling);
    assert_eq!(
        board.remaining[0].caller,
        CallerIdentity {
            client_label: "slow".to_owned(),
            network: "192.0.2.0/24".to_owned(),
            agent: "curl/8.5.0".to_owned(),
            route: "GET /orders".to_owned(),
        }
    );
    // The nightly job was silent for a day at a time: half as long again, and it is gone.
    assert_eq!(board.safe_at, begin + 2 * DAY_MS + DAY_MS * 3 / 2);
    assert!(!board.drained, "silent for minutes, not for a day");

    // A part of a caller that moved still uses the old one.
    use_as(&fixture, &old, "quick", 1).await?;
    let board = fixture.registry.stragglers(&old.key.id).await?;
    assert!(
        names(&board.remaining).contains(&("quick".to_owned(), Progress::Partly, 9)),
        "{board:?}"
    );
    fixture.set_clock(fixture.now() + DAY_MS);
    let board = fixture.registry.stragglers(&old.key.id).await?;
    assert!(board.drained && board.trend == Trend::Falling);
    assert_eq!(
        board.closes_at,
        Some(rotated + 2 * HOUR + MINUTE + 7 * DAY_MS)
    );
    fixture
        .registry
        .step_rotation(&fixture.actor, &old.key.id, RotationStep::Finish)
        .await?;
    let over = fixture.registry.stragglers(&old.key.id).await;
    assert_eq!(over.expect_err("over").code(), "no_rotation");
    Ok(())
}

#[tokio::test]
async fn ac_139_an_overlap_that_ends_soon_warns_with_network_and_route() -> Result<()> {
    let fixture = super::fixture().await?;
    let (used, silent, later) = (
        fixture.issue("used").await?,
        fixture.issue("silent").await?,
        fixture.issue("later").await?,
    );
    for issued in [&used, &silent] {
        fixture.rotate(&issued.key.id, DAY_MS).await?;
    }
    fixture.rotate(&later.key.id, 3 * DAY_MS).await?;
    use_as(&fixture, &silent, "gone", 1).await?;
    fixture.set_clock(START + DAY_MS - 30 * MINUTE);
    use_as(&fixture, &used, "worker", 2).await?;
    use_as(&fixture, &later, "worker", 1).await?;
    fixture.set_clock(START + DAY_MS - 10 * MINUTE);
    let warnings = fixture.registry.warnings_before_close(HOUR).await?;
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert_eq!(warning.key_id, used.key.id);
    assert_eq!(warning.closes_at, START + DAY_MS);
    assert_eq!(warning.old_kid, used.plain.kid().as_str());
    let [late] = warning.callers.as_slice() else {
        panic!("{warning:?}");
    };
    assert_eq!(late.caller.network, "192.0.2.0/24");
    assert_eq!(late.caller.route, "GET /orders");
    assert_eq!(late.last_at, START + DAY_MS - 30 * MINUTE);
    // Not before it ends soon, and not after it has ended.
    assert_eq!(
        fixture.registry.warnings_before_close(5 * MINUTE).await?,
        []
    );
    fixture.set_clock(START + DAY_MS);
    assert_eq!(fixture.registry.warnings_before_close(HOUR).await?, []);
    Ok(())
}

fn never_expiring(name: &str) -> NewApiKey {
    NewApiKey {
        lifetime_ms: None,
        allow_never_expires: true,
        scopes: vec!["keys:*".to_owned()],
        ..wish(name)
    }
}

async fn names(fixture: &Fixture, finding: HygieneFinding) -> Result<Vec<String>> {
    let mut query = HygieneQuery {
        finding,
        rules: rules(),
        cursor: None,
        limit: 1,
    };
    let mut names = Vec::new();
    loop {
        let page = fixture.registry.hygiene(&query).await?;
        names.extend(page.items.iter().map(|item| item.name.clone()));
        if page.next_cursor.is_none() {
            names.sort();
            return Ok(names);
        }
        query.cursor = page.next_cursor;
    }
}

fn rules() -> HygieneRules {
    HygieneRules {
        idle_days: 30,
        window_days: 30,
        networks: 3,
    }
}

#[tokio::test]
async fn item_6_every_finding_lists_its_keys_page_by_page_and_counts_them() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let actor = &fixture.actor;
    registry
        .create_principal(
            actor,
            "ann",
            OwnerKind::Person,
            "Ann",
            &ScopeSet::everything(),
        )
        .await?;
    let policy = Policy {
        max_age_ms: Some(45 * DAY_MS),
        ..Policy::default_for(Environment::TEST)
    };
    registry.set_policy(actor, &policy).await?;
    let year = |name: &str| NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish(name)
    };
    fixture.issue_as(&year("never used a")).await?;
    fixture.issue_as(&year("never used b")).await?;
    let idle = fixture.issue_as(&year("idle")).await?;
    let forever = fixture.issue_as(&never_expiring("forever")).await?;
    let narrow = fixture.issue_as(&year("narrow")).await?;
    let shared = fixture.issue_as(&year("shared")).await?;
    let exposed = fixture.issue_as(&year("exposed")).await?;
    let revoked = fixture.issue_as(&never_expiring("revoked")).await?;
    let owner = keywright_domain::api_keys::Owner::new(OwnerKind::Person, "ann")?;
    let orphan = fixture
        .issue_as(&NewApiKey {
            owner: Some(owner),
            ..year("orphan")
        })
        .await?;
    let old = fixture
        .issue_as(&NewApiKey {
            prefix: "sk_test".to_owned(),
            ..year("old")
        })
        .await?;
    registry.revoke_api_key(actor, &revoked.key.id, "").await?;
    registry
        .mark_api_key_exposed(actor, &exposed.key.id, "a log")
        .await?;
    use_as(&fixture, &idle, "x", 1).await?;
    fixture.set_clock(START + 60 * DAY_MS);
    for issued in [&forever, &narrow, &shared, &exposed, &orphan, &old] {
        use_as(&fixture, issued, "x", 1).await?;
    }
    for address in ["198.51.100.1", "203.0.113.1", "203.0.113.2"] {
        let one = Use {
            address,
            ..Use::default()
        };
        use_it(&fixture, &shared, &one).await?;
    }
    fixture.issue_as(&year("young")).await?;
    let disable = PrincipalChange::Disable("left".to_owned());
    registry.change_principal(actor, "ann", &disable).await?;

    use HygieneFinding as Finding;
    let expected: BTreeMap<Finding, Vec<&str>> = BTreeMap::from([
        (Finding::NeverUsed, vec!["never used a", "never used b"]),
        (Finding::Idle, vec!["idle"]),
        (Finding::NeverExpires, vec!["forever"]),
        (Finding::OverScoped, vec!["forever"]),
        (Finding::Orphaned, vec!["orphan"]),
        (Finding::ManyNetworks, vec!["shared"]),
        (Finding::PastMaximumAge, vec!["old"]),
        (Finding::Exposed, vec!["exposed"]),
    ]);
    for (finding, expected) in &expected {
        assert_eq!(names(&fixture, *finding).await?, *expected, "{finding:?}");
    }
    let counts = registry.count_hygiene(&rules()).await?;
    for (finding, expected) in &expected {
        assert_eq!(counts.of(*finding), expected.len() as i64, "{finding:?}");
    }
    assert_eq!(counts.examined, 10, "all but the revoked one");

    let query = HygieneQuery {
        finding: Finding::NeverExpires,
        rules: rules(),
        cursor: None,
        limit: 50,
    };
    let page = registry.hygiene(&query).await?;
    let item = &page.items[0];
    assert_eq!(item.findings, [Finding::NeverExpires, Finding::OverScoped]);
    let proposal = item.proposal.as_ref().expect("over-scoped");
    assert_eq!(proposal.scopes.to_string(), "keys:read");
    assert_eq!(proposal.dropped[0].as_str(), "keys:*");
    assert_eq!(proposal.unnamed_uses, 0);
    let wrong = HygieneQuery {
        rules: HygieneRules {
            networks: 1,
            ..rules()
        },
        ..query
    };
    let refused = registry.hygiene(&wrong).await.expect_err("out of bounds");
    assert_eq!(refused.code(), "out_of_bounds");
    Ok(())
}

#[tokio::test]
async fn item_6_a_scope_used_once_in_the_window_is_never_proposed_away() -> Result<()> {
    let fixture = super::fixture().await?;
    let key = fixture.issue_as(&never_expiring("reader")).await?;
    fixture.set_clock(START + 40 * DAY_MS);
    let write = Use {
        scope: "keys:write and keys:read",
        ..Use::default()
    };
    use_it(&fixture, &key, &write).await?;
    fixture.set_clock(START + 60 * DAY_MS);
    use_as(&fixture, &key, "x", 100).await?;
    let query = HygieneQuery {
        finding: HygieneFinding::OverScoped,
        rules: rules(),
        cursor: None,
        limit: 50,
    };
    let page = fixture.registry.hygiene(&query).await?;
    let proposal = page.items[0].proposal.as_ref().expect("over-scoped");
    assert_eq!(proposal.scopes.to_string(), "keys:read keys:write");
    // Out of the window it is not asked for any more.
    fixture.set_clock(START + 71 * DAY_MS);
    let page = fixture.registry.hygiene(&query).await?;
    let proposal = page.items[0].proposal.as_ref().expect("over-scoped");
    assert_eq!(proposal.scopes.to_string(), "keys:read");
    Ok(())
}

#[tokio::test]
async fn item_11_a_preview_tells_who_would_have_been_refused_and_changes_nothing() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let first = fixture.issue_as(&never_expiring("first")).await?;
    let other = fixture.issue("other").await?;
    fixture.set_clock(START + 10 * DAY_MS);
    let uses = [
        (3, Use::default()),
        (
            2,
            Use {
                label: "admin",
                address: "198.51.100.7",
                scope: "keys:write",
                route: "POST /keys",
                ..Use::default()
            },
        ),
        (
            1,
            Use {
                label: "page",
                scope: "",
                origin: Some("https://app.example.org"),
                ..Use::default()
            },
        ),
    ];
    for (times, one) in &uses {
        for _ in 0..*times {
            use_it(&fixture, &first, one).await?;
        }
    }
    // The uses of a secret that was replaced since count all the same.
    let newer = fixture.rotate_as(&first.key.id, &from_issue(HOUR)).await?;
    use_as(&fixture, &newer, "billing", 1).await?;
    use_as(&fixture, &other, "billing", 5).await?;
    let (key, events) = registry.find_api_key(&first.key.id).await?;

    let one = [first.key.id.clone()];
    let both = [first.key.id.clone(), other.key.id.clone()];
    let revoke = registry
        .preview_change(&both, &ProposedChange::Revoke, 7)
        .await?;
    assert_eq!((revoke.requests, revoke.refused), (12, 12));
    assert_eq!(revoke.by_code, BTreeMap::from([("revoked", 12)]));
    assert_eq!(revoke.lines[0].uses, 5);
    assert_eq!(revoke.lines[0].key_id, other.key.id);

    let scopes = ProposedChange::Scopes(ScopeSet::parse("keys:read")?);
    let scopes = registry.preview_change(&one, &scopes, 7).await?;
    assert_eq!((scopes.requests, scopes.refused), (7, 2));
    let [line] = scopes.lines.as_slice() else {
        panic!("{scopes:?}");
    };
    assert_eq!(line.effect, PreviewEffect::Refused("insufficient_scope"));
    assert_eq!(line.caller.client_label, "admin");
    assert_eq!(line.caller.route, "POST /keys");
    assert_eq!(line.requirement, "keys:write");

    let networks = NetworkList::new(["198.51.100.0/24", "192.0.2.10"])?;
    let networks = ProposedChange::Networks(networks);
    let networks = registry.preview_change(&one, &networks, 7).await?;
    assert_eq!(
        (networks.refused, networks.uncertain),
        (0, 5),
        "uses are known by their /24, and one address of it is allowed"
    );
    let elsewhere = ProposedChange::Networks(NetworkList::new(["10.0.0.0/8"])?);
    let elsewhere = registry.preview_change(&one, &elsewhere, 7).await?;
    assert_eq!(elsewhere.by_code, BTreeMap::from([("ip_not_allowed", 7)]));

    let origins = ProposedChange::Origins(OriginList::new(["https://app.example.org"])?);
    let origins = registry.preview_change(&one, &origins, 7).await?;
    assert_eq!(origins.by_code, BTreeMap::from([("origin_not_allowed", 6)]));

    fixture.set_clock(START + 20 * DAY_MS);
    let past = registry
        .preview_change(&one, &ProposedChange::Revoke, 7)
        .await?;
    assert_eq!(past.requests, 0, "out of the window");
    let nobody = registry
        .preview_change(&["x".to_owned()], &ProposedChange::Revoke, 7)
        .await;
    assert_eq!(nobody.expect_err("unknown").code(), "key_not_found");
    let (after, events_after) = registry.find_api_key(&first.key.id).await?;
    assert_eq!((after.epoch, events_after), (key.epoch, events));
    Ok(())
}
