//! Issue, verify, rotate, revoke, and the audit row of each.

use anyhow::Result;
use keywright_domain::api_keys::{ApiKeyState, DAY_MS, NewApiKey, SecretState};
use keywright_domain::scopes::{Scope, ScopeRequirement};
use keywright_registry::VerifyRequest;

use super::{START, checksum, from_issue, wish};

#[tokio::test]
async fn ac_120_an_issued_key_verifies_and_has_its_prefix() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("Deploy bot").await?;
    let text = issued.plain.text().expose();
    assert!(text.starts_with("sk_live_") && text.len() == "sk_live_".len() + 56);
    let verification = fixture.verify(&issued).await?;
    assert_eq!(verification.code(), "valid");
    assert_eq!(verification.key_id.as_deref(), Some(issued.key.id.as_str()));
    Ok(())
}

#[tokio::test]
async fn ac_126_a_malformed_key_is_refused_without_the_database() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    fixture.registry.close().await;
    let mut text = issued.plain.text().expose().to_owned();
    let last = if text.ends_with('0') { '1' } else { '0' };
    text.pop();
    text.push(last);
    let verification = fixture.verify_text(&text).await?;
    assert_eq!(verification.code(), "malformed");
    let closed = fixture.verify_text(issued.plain.text().expose()).await;
    assert!(
        closed.is_err(),
        "a well-formed key needs the database, and its absence is no acceptance"
    );
    Ok(())
}

#[tokio::test]
async fn ac_127_an_unknown_kid_and_a_wrong_secret_are_the_same_answer() -> Result<()> {
    let (fixture, stranger) = (super::fixture().await?, super::fixture().await?);
    let ours = fixture.issue("ours").await?;
    let unknown = fixture.verify(&stranger.issue("theirs").await?).await?;
    let text = ours.plain.text().expose();
    // The same kid with another secret and a checksum that fits.
    let mut forged = text[..text.len() - 38].to_owned() + &"0".repeat(32);
    forged.push_str(&checksum(&forged));
    let wrong = fixture.verify_text(&forged).await?;
    assert_eq!((unknown.code(), wrong.code()), ("not_found", "not_found"));
    assert_eq!((unknown.key_id, wrong.key_id), (None, None));
    Ok(())
}

#[tokio::test]
async fn ac_128_a_key_expires_at_the_exact_millisecond() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    fixture.set_clock(START + 90 * DAY_MS - 1);
    assert_eq!(fixture.code(&issued).await?, "valid");
    fixture.set_clock(START + 90 * DAY_MS);
    assert_eq!(fixture.code(&issued).await?, "expired");
    Ok(())
}

#[tokio::test]
async fn ac_129_a_missing_scope_is_named() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    let text = issued.plain.text().expose();
    for (scope, code) in [("keys:read", "valid"), ("keys:write", "insufficient_scope")] {
        let requirement = ScopeRequirement::parse(scope)?;
        let request = VerifyRequest {
            presented: text,
            requirement: Some(&requirement),
            ..VerifyRequest::default()
        };
        let verification = fixture
            .registry
            .verify_api_key(&request, &fixture.peppers)
            .await?;
        assert_eq!(verification.code(), code);
    }
    Ok(())
}

#[tokio::test]
async fn ac_130_an_unknown_scope_is_refused_until_it_is_defined() -> Result<()> {
    let fixture = super::fixture().await?;
    let wish = NewApiKey {
        scopes: vec!["orders:read".into()],
        ..wish("a")
    };
    let refused = fixture
        .registry
        .issue_api_key(&fixture.actor, &wish, &fixture.peppers)
        .await;
    assert_eq!(refused.expect_err("unknown").code(), "unknown_scope");
    let scope = keywright_domain::api_keys::lifecycle::KnownScope {
        scope: Scope::new("orders:read")?,
        description: "See orders".into(),
        low_risk: false,
    };
    fixture.registry.define_scope(&fixture.actor, scope).await?;
    fixture
        .registry
        .issue_api_key(&fixture.actor, &wish, &fixture.peppers)
        .await?;
    Ok(())
}

#[tokio::test]
async fn broken_wishes_change_nothing_and_name_their_rule() -> Result<()> {
    let fixture = super::fixture().await?;
    let before = fixture.actions().await?;
    let cases = [
        (
            NewApiKey {
                name: "  ".into(),
                ..wish("")
            },
            "invalid_name",
        ),
        (
            NewApiKey {
                name: "x".repeat(121),
                ..wish("")
            },
            "invalid_name",
        ),
        (
            NewApiKey {
                name: "a\nb".into(),
                ..wish("")
            },
            "invalid_name",
        ),
        (
            NewApiKey {
                prefix: "1x".into(),
                ..wish("a")
            },
            "invalid_prefix",
        ),
        (
            NewApiKey {
                prefix: "kw_root".into(),
                ..wish("a")
            },
            "prefix_reserved",
        ),
        (
            NewApiKey {
                scopes: vec![],
                ..wish("a")
            },
            "scope_required",
        ),
        (
            NewApiKey {
                scopes: vec!["nonsense".into()],
                ..wish("a")
            },
            "invalid_scope",
        ),
        (
            NewApiKey {
                prefix: "pk_live".into(),
                ..wish("a")
            },
            "scope_not_publishable",
        ),
        (
            NewApiKey {
                lifetime_ms: None,
                ..wish("a")
            },
            "policy_violation",
        ),
        (
            NewApiKey {
                lifetime_ms: Some(366 * DAY_MS),
                ..wish("a")
            },
            "policy_violation",
        ),
        (
            NewApiKey {
                lifetime_ms: Some(-1),
                ..wish("a")
            },
            "policy_violation",
        ),
    ];
    for (wish, code) in cases {
        let refused = fixture
            .registry
            .issue_api_key(&fixture.actor, &wish, &fixture.peppers)
            .await;
        assert_eq!(refused.expect_err("a broken rule").code(), code, "{wish:?}");
    }
    assert_eq!(fixture.actions().await?, before);
    assert_eq!(fixture.registry.count_api_keys().await?.all, 0);
    Ok(())
}

#[tokio::test]
async fn ac_134_both_secrets_verify_until_the_overlap_ends() -> Result<()> {
    let fixture = super::fixture().await?;
    let old = fixture.issue("a").await?;
    let new = fixture.rotate(&old.key.id, DAY_MS).await?;
    assert_eq!(new.key.id, old.key.id);
    assert_eq!(
        (fixture.code(&old).await?, fixture.code(&new).await?),
        ("valid", "valid")
    );
    assert_eq!(fixture.verify(&old).await?.retires_at, Some(START + DAY_MS));
    let (key, _) = fixture.registry.find_api_key(&old.key.id).await?;
    assert_eq!(key.state(START), ApiKeyState::Rotating);
    fixture.set_clock(START + DAY_MS);
    assert_eq!(
        (fixture.code(&old).await?, fixture.code(&new).await?),
        ("retired", "valid")
    );

    let newest = fixture.rotate(&old.key.id, 0).await?;
    assert_eq!(
        (fixture.code(&new).await?, fixture.code(&newest).await?),
        ("retired", "valid")
    );
    Ok(())
}

#[tokio::test]
async fn ac_135_rotating_twice_leaves_two_live_secrets() -> Result<()> {
    let fixture = super::fixture().await?;
    let first = fixture.issue("a").await?;
    let second = fixture.rotate(&first.key.id, DAY_MS).await?;
    let third = fixture.rotate(&first.key.id, DAY_MS).await?;
    let codes = [
        fixture.code(&first).await?,
        fixture.code(&second).await?,
        fixture.code(&third).await?,
    ];
    assert_eq!(
        codes,
        ["valid", "retired", "valid"],
        "the unused second one was cancelled"
    );
    let (key, _) = fixture.registry.find_api_key(&first.key.id).await?;
    let states: Vec<_> = key
        .secrets
        .iter()
        .map(|secret| secret.state(START))
        .collect();
    assert_eq!(
        states,
        [
            SecretState::Retiring,
            SecretState::Aborted,
            SecretState::Active
        ]
    );
    Ok(())
}

#[tokio::test]
async fn ac_136_a_rotation_keeps_the_record_and_shows_the_chain() -> Result<()> {
    let fixture = super::fixture().await?;
    let old = fixture.issue("Billing").await?;
    fixture.set_clock(START + 80 * DAY_MS);
    let new = fixture.rotate(&old.key.id, DAY_MS).await?;
    let (key, events) = fixture.registry.find_api_key(&old.key.id).await?;
    assert_eq!(
        (key.name.as_str(), key.prefix.as_str()),
        ("Billing", "sk_live")
    );
    assert_eq!(key.scopes, old.key.scopes);
    assert_eq!(key.secrets.len(), 2);
    assert_eq!(key.secrets[1].expires_at, Some(START + 170 * DAY_MS));
    assert_eq!(new.plain.prefix().as_str(), "sk_live");
    let actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["api_key.rotated", "api_key.issued"]);
    Ok(())
}

#[tokio::test]
async fn a_retried_rotation_never_rotates_twice() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    let request = from_issue(DAY_MS);
    let rotate = || {
        fixture.registry.rotate_api_key(
            &fixture.actor,
            &issued.key.id,
            &request,
            "rotation-once",
            &fixture.peppers,
        )
    };
    rotate().await?;
    assert_eq!(
        rotate().await.expect_err("done before").code(),
        "rotation_already_done"
    );
    assert_eq!(
        fixture
            .registry
            .find_api_key(&issued.key.id)
            .await?
            .0
            .secrets
            .len(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn ac_140_a_revoked_key_is_refused_at_once_and_never_comes_back() -> Result<()> {
    let fixture = super::fixture().await?;
    let old = fixture.issue("a").await?;
    let new = fixture.rotate(&old.key.id, DAY_MS).await?;
    assert_eq!(fixture.code(&new).await?, "valid");
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &old.key.id, "leaked")
        .await?;
    assert_eq!(
        (fixture.code(&old).await?, fixture.code(&new).await?),
        ("revoked", "revoked")
    );
    let rows = fixture.actions().await?.len();
    let again = fixture
        .registry
        .revoke_api_key(&fixture.actor, &old.key.id, "again")
        .await?;
    assert_eq!(again.revoked_reason.as_deref(), Some("leaked"));
    assert_eq!(fixture.actions().await?.len(), rows, "no change, no row");
    let refused = fixture.rotate(&old.key.id, 0).await.expect_err("revoked");
    assert!(refused.to_string().contains("revoked"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn every_change_has_one_audit_row_without_gaps() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    fixture.code(&issued).await?;
    fixture.code(&issued).await?;
    fixture.rotate(&issued.key.id, DAY_MS).await?;
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &issued.key.id, "")
        .await?;
    let expected = [
        "registry.created",
        "registry.pepper_adopted",
        "api_key.issued",
        "api_key.secret_first_used",
        "api_key.rotated",
        "api_key.revoked",
    ];
    assert_eq!(fixture.actions().await?, expected);
    let page = fixture
        .registry
        .list_audit_events(keywright_registry::AuditQuery {
            limit: 500,
            ..Default::default()
        })
        .await?;
    let sequences: Vec<_> = page
        .items
        .iter()
        .rev()
        .map(|event| event.sequence)
        .collect();
    let whole: Vec<_> = (1..=i64::try_from(sequences.len())?).collect();
    assert_eq!(sequences, whole);
    Ok(())
}

#[tokio::test]
async fn ac_147_uses_are_counted_and_the_first_is_written_at_once() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    fixture.code(&issued).await?;
    // Seen by a second process at once, before any flush.
    let other = fixture.second().await?;
    let (key, _) = other.find_api_key(&issued.key.id).await?;
    assert_eq!(key.secrets[0].first_used_at, Some(START));
    fixture.set_clock(START + 5);
    for _ in 0..10 {
        fixture.code(&issued).await?;
    }
    let (key, _) = fixture.registry.find_api_key(&issued.key.id).await?;
    assert_eq!(
        (key.last_used_at(), key.secrets[0].use_count),
        (Some(START + 5), 11)
    );
    Ok(())
}
