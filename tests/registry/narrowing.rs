//! Scopes that a rotation takes from its key, and every end of it that gives them back, on either database.

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{
    ApiKey, DAY_MS, NewApiKey, PlainKey, Rotation, RotationRequest, RotationState,
};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_registry::{
    AfterFailure, Conditions, DeliveryOutcome, Issued, LocalRegistry, NarrowScopes, RegistryError,
    RotatedOnce, RotationStep, RotationWish, VerifyRequest,
};

use super::{Fixture, wish};

const BOTH: &str = "keys:read keys:write";

async fn use_it(fixture: &Fixture, issued: &Issued, scope: &str) -> Result<&'static str> {
    let requirement = match scope {
        "" => None,
        scope => Some(ScopeRequirement::parse(scope)?),
    };
    let request = VerifyRequest {
        presented: issued.plain.text().expose(),
        requirement: requirement.as_ref(),
        ..VerifyRequest::default()
    };
    let (registry, peppers) = (&fixture.registry, &fixture.peppers);
    Ok(registry.verify_api_key(&request, peppers).await?.code())
}

async fn old_enough(fixture: &Fixture, prefix: &str) -> Result<Issued> {
    let wish = NewApiKey {
        scopes: BOTH.split(' ').map(str::to_owned).collect(),
        prefix: prefix.to_owned(),
        ..wish("Orders")
    };
    let issued = fixture.issue_as(&wish).await?;
    fixture.set_clock(fixture.now() + 31 * DAY_MS);
    Ok(issued)
}

/// A key of two scopes that has used one of them, and is old enough to be judged.
async fn over_scoped(fixture: &Fixture) -> Result<Issued> {
    let issued = old_enough(fixture, "sk_live").await?;
    ensure!(use_it(fixture, &issued, "keys:read").await? == "valid");
    Ok(issued)
}

async fn rotate(
    fixture: &Fixture,
    registry: &LocalRegistry,
    id: &str,
) -> Result<RotatedOnce, RegistryError> {
    let narrow = NarrowScopes::ToUses { days: 30 };
    let wish = RotationWish {
        request: &RotationRequest::default(),
        narrow: Some(&narrow),
    };
    registry
        .rotate_api_key_once(&fixture.actor, id, wish, None, None, &fixture.peppers)
        .await
}

async fn narrowed(fixture: &Fixture, id: &str) -> Result<(Rotation, PlainKey)> {
    let rotated = rotate(fixture, &fixture.registry, id).await?;
    let RotatedOnce::Now {
        key,
        rotation,
        plain,
    } = rotated
    else {
        anyhow::bail!("it was not asked for before");
    };
    ensure!(key.scopes.to_string() == "keys:read", "{}", key.scopes);
    ensure!(scopes(fixture, id).await? == "keys:read");
    Ok((rotation, plain.context("its secret")?))
}

async fn key(fixture: &Fixture, id: &str) -> Result<ApiKey> {
    Ok(fixture.registry.find_api_key(id).await?.0)
}

/// As they are written.
async fn scopes(fixture: &Fixture, id: &str) -> Result<String> {
    let mut stranger = fixture.stranger().await?;
    let (stored,): (String,) = sqlx::query_as("SELECT scopes FROM api_keys WHERE id = $1")
        .bind(id.to_owned())
        .fetch_one(&mut stranger)
        .await?;
    ensure!(stored == key(fixture, id).await?.scopes.to_string());
    Ok(stored)
}

async fn state(fixture: &Fixture, id: &str, rotation: &Rotation) -> Result<RotationState> {
    let found = fixture.registry.find_rotation(id, &rotation.id);
    Ok(found.await?.state)
}

fn failure() -> DeliveryOutcome {
    DeliveryOutcome::Failed {
        error: "no way there".into(),
        then: AfterFailure::Cancel,
    }
}

#[tokio::test]
async fn every_end_without_the_new_secret_gives_the_scopes_back() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let issued = over_scoped(&fixture).await?;
    let (id, failed) = (issued.key.id.clone(), failure());
    for way in [
        "cancel",
        "roll back",
        "delivery",
        "revoked",
        "found",
        "time",
    ] {
        let (rotation, plain) = narrowed(&fixture, &id).await?;
        let write = use_it(&fixture, &issued, "keys:write").await?;
        ensure!(write == "insufficient_scope", "{way}: {write}");
        match way {
            "cancel" => {
                let step = RotationStep::Cancel;
                registry.step_rotation(actor, &id, step).await?;
            }
            "roll back" => {
                let step = RotationStep::Promote;
                registry.step_rotation(actor, &id, step).await?;
                ensure!(scopes(&fixture, &id).await? == "keys:read");
                let step = RotationStep::RollBack;
                registry.step_rotation(actor, &id, step).await?;
            }
            "delivery" => {
                let told = registry.record_delivery(actor, &rotation.id, "place", &failed);
                told.await?;
            }
            "revoked" => {
                let revoked = registry.revoke_secret(actor, &id, plain.kid(), "leaked");
                revoked.await?;
            }
            "found" => {
                let found = registry.report_found_secret(actor, &id, plain.kid(), "a log");
                ensure!(found.await?);
            }
            _ => {
                fixture.set_clock(fixture.now() + 31 * DAY_MS);
                ensure!(registry.settle_rotations().await? == 1);
            }
        }
        ensure!(scopes(&fixture, &id).await? == BOTH, "{way}");
        ensure!(!state(&fixture, &id, &rotation).await?.is_open(), "{way}");
        ensure!(use_it(&fixture, &issued, "keys:read").await? == "valid");
        // As another node sees it.
        let other = fixture.second().await?;
        ensure!(other.find_api_key(&id).await?.0.scopes.to_string() == BOTH);
        other.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn who_holds_less_gives_nothing_back() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let id = over_scoped(&fixture).await?.key.id;
    let (less, all) = (ScopeSet::parse("keys:read")?, ScopeSet::parse(BOTH)?);
    let failed = failure();
    let (rotation, plain) = narrowed(&fixture, &id).await?;
    let step = registry.step_rotation_by(actor, &id, RotationStep::Cancel, Some(&less));
    ensure!(step.await.expect_err("more").code() == "scope_exceeds_creator");
    // Not taken back, so it is held: somebody else may still do so.
    let told = registry.record_delivery_by(actor, &rotation.id, "place", &failed, Some(&less));
    ensure!(told.await?.1.state == RotationState::Pending);
    ensure!(scopes(&fixture, &id).await? == "keys:read");
    let told = registry.record_delivery_by(actor, &rotation.id, "place", &failed, Some(&all));
    ensure!(told.await?.1.state == RotationState::Cancelled);
    ensure!(scopes(&fixture, &id).await? == BOTH);
    ensure!(fixture.verify_text(plain.text().expose()).await?.code() == "retired");
    // A secret ends whoever ends it.
    let (rotation, plain) = narrowed(&fixture, &id).await?;
    let kid = plain.kid();
    let revoked = registry.revoke_secret_by(actor, &id, kid, "leaked", Some(&less));
    revoked.await?;
    ensure!(scopes(&fixture, &id).await? == "keys:read");
    ensure!(state(&fixture, &id, &rotation).await? == RotationState::Cancelled);
    ensure!(fixture.verify_text(plain.text().expose()).await?.code() == "revoked");
    Ok(())
}

/// What comes back meanwhile counts: in the transaction that hands the secret out.
#[tokio::test]
async fn a_secret_of_a_management_key_is_for_who_holds_what_it_may_do_at_that_moment() -> Result<()>
{
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let (less, all) = (ScopeSet::parse("keys:read")?, ScopeSet::parse(BOTH)?);
    let under = |id: &str, held| registry.under(Conditions::default().secret_of(id, held));
    let issued = over_scoped(&fixture).await?;
    // Others' scopes open other services.
    let other = issued.key.id;
    rotate(&fixture, &under(&other, &less), &other).await?;
    let wish = NewApiKey {
        scopes: BOTH.split(' ').map(str::to_owned).collect(),
        prefix: "kw_root".into(),
        management: true,
        ..wish("Boss")
    };
    let boss = fixture.issue_as(&wish).await?;
    let id = boss.key.id.clone();
    let refused = rotate(&fixture, &under(&id, &less), &id).await;
    ensure!(refused.expect_err("more").code() == "scope_exceeds_creator");
    let rotated = rotate(&fixture, &under(&id, &all), &id).await?;
    let RotatedOnce::Now { rotation, .. } = rotated else {
        anyhow::bail!("it was not asked for before");
    };
    let anew = under(&id, &less);
    let refused = anew.reissue_secret(actor, &rotation.id, &fixture.peppers);
    ensure!(refused.await.expect_err("more").code() == "scope_exceeds_creator");
    let anew = under(&id, &all);
    anew.reissue_secret(actor, &rotation.id, &fixture.peppers)
        .await?;
    ensure!(key(&fixture, &id).await?.secrets.len() == 3);
    Ok(())
}

#[tokio::test]
async fn a_key_whose_uses_all_named_no_scope_is_not_narrowed_by_guess() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let issued = old_enough(&fixture, "sk_live").await?;
    let id = issued.key.id.clone();
    ensure!(use_it(&fixture, &issued, "").await? == "valid");
    let refused = rotate(&fixture, registry, &id).await;
    ensure!(refused.expect_err("unsure").code() == "uses_without_scope");
    ensure!(key(&fixture, &id).await?.secrets.len() == 1);
    // One that was not used is not judged.
    let unused = old_enough(&fixture, "sk_live").await?.key.id;
    rotate(&fixture, registry, &unused).await?;
    ensure!(scopes(&fixture, &unused).await? == BOTH);
    Ok(())
}
