//! What came of deliveries of new secrets, and what that does to their rotations.

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, RotationState, SecretState};
use keywright_registry::{
    AfterFailure, AlertKind, AlertQuery, DeliveryOutcome, Issued, RotationStep,
};

use super::{START, from_issue, rand_text};

fn failed(then: AfterFailure) -> DeliveryOutcome {
    DeliveryOutcome::Failed {
        error: "permission denied".to_owned(),
        then,
    }
}

#[tokio::test]
async fn ac_137_a_failed_delivery_cancels_what_reached_nobody_and_leaves_the_old_secret()
-> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let old = fixture.issue("a").await?;
    let id = rand_text();
    let new = registry
        .rotate_api_key(
            &fixture.actor,
            &old.key.id,
            &from_issue(DAY_MS),
            &id,
            &fixture.peppers,
        )
        .await?;
    let (delivery, rotation) = registry
        .record_delivery(
            &fixture.actor,
            &id,
            "file:/srv/key",
            &failed(AfterFailure::Cancel),
        )
        .await?;
    assert_eq!(rotation.state, RotationState::Cancelled);
    assert_eq!(delivery.error.as_deref(), Some("permission denied"));
    assert_eq!(delivery.kid, new.plain.kid().as_str());
    assert_eq!(
        registry.list_deliveries(&id, None, 100).await?.items,
        [delivery]
    );
    assert_eq!(fixture.code(&new).await?, "retired");
    fixture.set_clock(START + 2 * DAY_MS);
    assert_eq!(
        fixture.code(&old).await?,
        "valid",
        "the overlap does not run any more"
    );
    assert_eq!(registry.count_unseen_alerts().await?, 2);
    let alerts = registry
        .list_alerts(&AlertQuery {
            limit: 10,
            ..AlertQuery::default()
        })
        .await?;
    let failure = alerts
        .items
        .iter()
        .find(|alert| alert.kind == AlertKind::DeliveryFailed)
        .expect("an alarm");
    assert_eq!(
        (failure.key_id.as_str(), failure.caller.as_str()),
        (old.key.id.as_str(), "file:/srv/key")
    );
    let actions = fixture.actions().await?;
    assert!(actions.contains(&"api_key.delivery_failed".to_owned()));
    let unknown = registry
        .record_delivery(&fixture.actor, "x", "y", &DeliveryOutcome::Delivered)
        .await;
    assert_eq!(unknown.expect_err("unknown").code(), "rotation_not_found");
    Ok(())
}

#[tokio::test]
async fn ac_137_a_held_rotation_keeps_the_old_secret_until_the_new_one_is_used() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let (held, arrived) = (
        fixture.issue("held").await?,
        fixture.issue("arrived").await?,
    );
    let (one, two) = (rand_text(), rand_text());
    let rotate = |key: &Issued, id: &str| {
        let (key_id, id) = (key.key.id.clone(), id.to_owned());
        async {
            let (key_id, id) = (key_id, id);
            registry
                .rotate_api_key(
                    &fixture.actor,
                    &key_id,
                    &from_issue(DAY_MS),
                    &id,
                    &fixture.peppers,
                )
                .await
        }
    };
    let new = rotate(&held, &one).await?;
    rotate(&arrived, &two).await?;
    let (_, rotation) = registry
        .record_delivery(&fixture.actor, &one, "env", &failed(AfterFailure::Hold))
        .await?;
    assert_eq!(rotation.state, RotationState::Pending);
    // It reached one place: taking it back would cut that one off.
    registry
        .record_delivery(&fixture.actor, &two, "env", &DeliveryOutcome::Delivered)
        .await?;
    let (_, rotation) = registry
        .record_delivery(&fixture.actor, &two, "file", &failed(AfterFailure::Cancel))
        .await?;
    assert_eq!(rotation.state, RotationState::Pending);
    assert_eq!(
        registry.list_deliveries(&two, None, 100).await?.items.len(),
        2
    );
    fixture.set_clock(START + 5 * DAY_MS);
    registry.settle_rotations().await?;
    for issued in [&held, &arrived] {
        assert_eq!(fixture.code(issued).await?, "valid", "the old one lives on");
    }
    assert_eq!(fixture.code(&new).await?, "valid");
    fixture.set_clock(START + 6 * DAY_MS);
    assert_eq!(
        fixture.code(&held).await?,
        "retired",
        "the overlap ran from the first use of the new one"
    );
    let finished = registry
        .step_rotation(&fixture.actor, &held.key.id, RotationStep::Finish)
        .await;
    assert!(
        finished
            .is_ok_and(|(key, _)| { key.secrets[0].state(fixture.now()) == SecretState::Retired })
    );
    Ok(())
}
