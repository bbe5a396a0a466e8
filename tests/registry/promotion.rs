//! Keys that move from one registry to another, and never change their text.
#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use anyhow::{Context as _, Result};
use keywright_domain::api_keys::{
    CreditPlan, DAY_MS, KeySettings, NewApiKey, OverlapClock, Owner, OwnerKind, Policy,
    RotationRequest,
};
use keywright_domain::base62::random_id;
use keywright_domain::scopes::ScopeSet;
use keywright_registry::{
    AcceptOptions, ImportFormat, LOCAL_PRINCIPAL, NoticeSubject, Peppers, PrincipalChange,
    TransferIdentity, open_transfer,
};

use super::portable::{code, events, hash, options};
use super::{Fixture, Kind, START, pepper, wish};

/// Two registries on different databases, with peppers of one name and different bytes.
struct Pair {
    local: Fixture,
    remote: Fixture,
}

impl Pair {
    async fn new() -> Result<Self> {
        let local = super::fixture().await?;
        let other = match local.kind {
            Kind::Sqlite => Kind::Postgres,
            Kind::Postgres => Kind::Sqlite,
        };
        let mut remote = Fixture::on(other).await?;
        remote.peppers = Peppers::new(pepper("pepper-1", 99));
        Ok(Self { local, remote })
    }
}

/// Hands the peppers of one registry over to another, sealed on their way.
async fn hand_over(from: &Fixture, to: &mut Fixture) -> Result<()> {
    let identity = TransferIdentity::generate();
    let sealed = from
        .registry
        .hand_over_peppers(&from.actor, &from.peppers, &identity.recipient())
        .await?;
    let opened = open_transfer(&sealed, &identity)?;
    let own = super::copy_of(&to.peppers);
    to.peppers = super::copy_of(&opened.peppers)
        .iter()
        .fold(own, |all, one| {
            all.with_older(keywright_registry::PepperKey {
                id: one.id.clone(),
                pepper: keywright_domain::api_keys::Pepper::from_bytes(*one.pepper.expose()),
            })
        });
    Ok(())
}

#[tokio::test]
async fn a_promoted_key_verifies_before_during_and_after() -> Result<()> {
    let Pair { local, mut remote } = Pair::new().await?;
    let issued = local.issue("moving").await?;
    let text = issued.plain.text().expose();
    let ids = [issued.key.id.clone()];
    hand_over(&local, &mut remote).await?;
    assert_eq!(remote.verify_text(text).await?.code(), "not_found");
    let (bundle, refused) = local
        .registry
        .promotion_bundle(&ids, &local.peppers)
        .await?;
    assert!(refused.is_empty());
    let wire = serde_json::to_string(&bundle)?;
    assert!(!wire.contains(text) && !wire.contains(&"07".repeat(32)));
    let bundle = serde_json::from_str(&wire)?;
    let accept = AcceptOptions::default();
    let report = remote
        .registry
        .accept_promotion(&remote.actor, &bundle, &remote.peppers, &accept)
        .await?;
    assert_eq!(report.accepted, ids);
    assert_eq!(local.verify_text(text).await?.code(), "valid");
    assert_eq!(remote.verify_text(text).await?.code(), "valid");
    // The first use stored it under the remote's own pepper: the one that was handed over may go.
    for _ in 0..1000 {
        let peppers = remote.registry.list_peppers().await?;
        if peppers
            .iter()
            .all(|one| (one.id == "pepper-1") == one.is_needed)
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let own = Peppers::new(pepper("pepper-1", 99));
    assert_eq!(code(&remote.registry, &own, text).await?, "valid");

    let left = local
        .registry
        .mark_promoted(&local.actor, &ids, "https://keys.example")
        .await?;
    assert!(left.is_empty());
    assert_eq!(local.verify_text(text).await?.code(), "valid");
    let again = remote
        .registry
        .accept_promotion(&remote.actor, &bundle, &remote.peppers, &accept)
        .await?;
    assert_eq!((again.accepted.len(), again.present), (0, ids.to_vec()));

    // On to a third registry, of the first one's kind.
    let mut third = Fixture::on(local.kind).await?;
    third.peppers = Peppers::new(pepper("pepper-1", 42));
    hand_over(&remote, &mut third).await?;
    let (bundle, refused) = remote
        .registry
        .promotion_bundle(&ids, &remote.peppers)
        .await?;
    assert!(refused.is_empty());
    let report = third
        .registry
        .accept_promotion(&third.actor, &bundle, &third.peppers, &accept)
        .await?;
    assert_eq!(report.accepted, ids);
    assert_eq!(third.verify_text(text).await?.code(), "valid");
    assert_eq!(
        events(&third.registry, "api_key.promotion_accepted").await?,
        1
    );
    assert_eq!(events(&local.registry, "api_key.promoted").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_promoted_key_is_changed_where_it_lives_now() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("moved").await?;
    let pending = fixture
        .rotate_as(
            &issued.key.id,
            &RotationRequest {
                clock: OverlapClock::FromFirstUse,
                ..RotationRequest::default()
            },
        )
        .await?;
    let rotation = fixture
        .registry
        .list_rotations(&issued.key.id)
        .await?
        .remove(0);
    let (registry, actor, id) = (&fixture.registry, &fixture.actor, issued.key.id.as_str());
    registry
        .mark_promoted(actor, &[id.to_owned()], "elsewhere")
        .await?;
    let change = keywright_registry::ApiKeyChange {
        name: Some("x".into()),
        ..Default::default()
    };
    let once = super::rand_text();
    let kid = issued.plain.kid();
    let refusals = [
        registry.change_api_key(actor, id, &change).await.err(),
        registry.revoke_api_key(actor, id, "").await.err(),
        registry.disable_api_key(actor, id, "").await.err(),
        registry.enable_api_key(actor, id).await.err(),
        registry.revoke_secret(actor, id, kid, "x").await.err(),
        registry
            .rotate_api_key(actor, id, &super::from_issue(0), &once, &fixture.peppers)
            .await
            .err(),
        registry
            .reissue_secret(actor, &rotation.id, &fixture.peppers)
            .await
            .err(),
        registry
            .step_rotation(actor, id, keywright_registry::RotationStep::Promote)
            .await
            .err(),
    ];
    for (index, refusal) in refusals.iter().enumerate() {
        let code = refusal
            .as_ref()
            .map(keywright_registry::RegistryError::code);
        assert_eq!(code, Some("key_promoted"), "{index}");
    }
    assert_eq!(fixture.code(&issued).await?, "valid");
    assert_eq!(fixture.code(&pending).await?, "valid");
    let marked = registry
        .mark_promoted(actor, &[id.to_owned()], "a third")
        .await?;
    assert_eq!(marked[0].code, "key_promoted");
    let (_, refused) = registry
        .promotion_bundle(&[id.to_owned()], &fixture.peppers)
        .await?;
    assert_eq!(refused[0].code, "key_promoted");
    let kept = fixture.issue("kept").await?;
    assert!(
        registry
            .end_promoted_copy(actor, &kept.key.id, "")
            .await
            .is_err()
    );
    registry.end_promoted_copy(actor, id, "gone").await?;
    assert_eq!(fixture.code(&issued).await?, "revoked");
    assert_eq!(fixture.code(&kept).await?, "valid");
    Ok(())
}

#[tokio::test]
async fn a_rotation_under_way_moves_along() -> Result<()> {
    let Pair { local, mut remote } = Pair::new().await?;
    let old = local.issue("rotating").await?;
    let new = local
        .rotate_as(&old.key.id, &RotationRequest::default())
        .await?;
    hand_over(&local, &mut remote).await?;
    let ids = [old.key.id.clone()];
    let (bundle, _) = local
        .registry
        .promotion_bundle(&ids, &local.peppers)
        .await?;
    let accept = AcceptOptions::default();
    remote
        .registry
        .accept_promotion(&remote.actor, &bundle, &remote.peppers, &accept)
        .await?;
    assert_eq!(remote.code(&old).await?, "valid");
    assert_eq!(remote.code(&new).await?, "valid");
    // On a busy machine the write of the first use may wait (AC-147): it comes with the flush.
    remote.registry.flush_uses().await?;
    // The first use of the new secret started the overlap there.
    remote.set_clock(START + 2 * DAY_MS);
    assert_eq!(remote.code(&old).await?, "retired");
    assert_eq!(remote.code(&new).await?, "valid");
    Ok(())
}

#[tokio::test]
async fn the_remote_takes_nothing_that_it_forbids_or_has() -> Result<()> {
    let Pair { local, mut remote } = Pair::new().await?;
    hand_over(&local, &mut remote).await?;
    let good = local.issue("good").await?;
    let wide = local
        .issue_as(&NewApiKey {
            scopes: vec!["users:write".into()],
            ..wish("wide")
        })
        .await?;
    let long = local
        .issue_as(&NewApiKey {
            lifetime_ms: Some(300 * DAY_MS),
            ..wish("long")
        })
        .await?;
    let credits = CreditPlan {
        amount: 5,
        refill: None,
    };
    let refused_here = [
        NewApiKey {
            settings: KeySettings {
                credits: Some(credits),
                ..KeySettings::default()
            },
            ..wish("credits")
        },
        NewApiKey {
            settings: KeySettings {
                one_time: true,
                ..KeySettings::default()
            },
            ..wish("once")
        },
    ];
    let mut ids = vec![
        good.key.id.clone(),
        wide.key.id.clone(),
        long.key.id.clone(),
    ];
    let mut stay = vec!["x".repeat(20)];
    for wish in &refused_here {
        stay.push(local.issue_as(wish).await?.key.id);
    }
    ids.extend(stay.clone());
    let (bundle, refused) = local
        .registry
        .promotion_bundle(&ids, &local.peppers)
        .await?;
    let mut codes: Vec<_> = refused.iter().map(|one| one.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["key_has_credits", "key_not_found", "key_one_time"]);
    let policy = Policy {
        max_lifetime_ms: 100 * DAY_MS,
        allowed_scopes: Some(keywright_domain::scopes::ScopeSet::parse("keys:read")?),
        ..Policy::default_for(keywright_domain::api_keys::Environment::LIVE)
    };
    remote.registry.set_policy(&remote.actor, &policy).await?;
    let dry = AcceptOptions {
        dry_run: true,
        ..AcceptOptions::default()
    };
    let (registry, actor) = (&remote.registry, &remote.actor);
    let report = registry
        .accept_promotion(actor, &bundle, &remote.peppers, &dry)
        .await?;
    assert_eq!(report.accepted, std::slice::from_ref(&good.key.id));
    assert_eq!(registry.count_api_keys().await?.all, 0);
    let report = registry
        .accept_promotion(actor, &bundle, &remote.peppers, &AcceptOptions::default())
        .await?;
    assert_eq!(report.accepted, std::slice::from_ref(&good.key.id));
    assert!(
        report
            .refused
            .iter()
            .all(|one| one.code == "policy_violation")
    );
    assert_eq!(report.refused.len(), 2);
    assert_eq!(remote.code(&wide).await?, "not_found");

    // Ids and kids that are taken. The same bundle would be altered, so its parts are changed as
    // the bundle's maker would: the tag is made anew by a registry that has the pepper.
    let bounded = AcceptOptions {
        creator: Some("nobody".into()),
        ..AcceptOptions::default()
    };
    let other = local.issue("other").await?;
    let (bundle, _) = local
        .registry
        .promotion_bundle(std::slice::from_ref(&other.key.id), &local.peppers)
        .await?;
    let report = registry
        .accept_promotion(actor, &bundle, &remote.peppers, &bounded)
        .await?;
    assert_eq!(report.refused[0].code, "owner_not_found");
    let mut connection = remote.stranger().await?;
    for (column, code) in [("kid", "kid_taken"), ("id", "key_exists")] {
        let taken = remote.issue(column).await?;
        let sql = if column == "kid" {
            "UPDATE secrets SET kid = $1 WHERE kid = $2"
        } else {
            "INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, search_text, kid, last_four, expires_order, old_works_until, last_used_order) \
             SELECT $1, name, prefix, scopes, epoch, created_at, search_text, kid, last_four, expires_order, old_works_until, last_used_order FROM api_keys WHERE kid = $2"
        };
        let value = if column == "kid" {
            other.plain.kid().to_string()
        } else {
            other.key.id.clone()
        };
        sqlx::query(sql)
            .bind(value)
            .bind(taken.plain.kid().to_string())
            .execute(&mut connection)
            .await?;
        let report = registry
            .accept_promotion(actor, &bundle, &remote.peppers, &AcceptOptions::default())
            .await?;
        assert_eq!(report.refused[0].code, code);
        if column == "kid" {
            let kid = other.plain.kid().to_string();
            sqlx::query("UPDATE secrets SET kid = $1 WHERE kid = $2")
                .bind(taken.plain.kid().to_string())
                .bind(kid)
                .execute(&mut connection)
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_key_from_the_future_is_not_taken() -> Result<()> {
    let Pair { local, mut remote } = Pair::new().await?;
    hand_over(&local, &mut remote).await?;
    let policy = Policy {
        max_lifetime_ms: 100 * DAY_MS,
        ..Policy::default_for(keywright_domain::api_keys::Environment::LIVE)
    };
    remote.registry.set_policy(&remote.actor, &policy).await?;
    // A registry whose clock is half a minute ahead, and one whose clock says 2100.
    local.set_clock(START + 30_000);
    let ahead = local.issue("ahead").await?;
    let rotated = local.issue("rotated").await?;
    local.set_clock(4_102_444_800_000);
    let future = local.issue("future").await?;
    let second = local
        .rotate_as(&rotated.key.id, &RotationRequest::default())
        .await;
    // Its first secret has ended by then: it is of today, and the second one is of 2100.
    local.set_clock(START + 30_000);
    assert!(second.is_ok());
    let ids = [
        ahead.key.id.clone(),
        rotated.key.id.clone(),
        future.key.id.clone(),
    ];
    let (bundle, refused) = local
        .registry
        .promotion_bundle(&ids, &local.peppers)
        .await?;
    assert_eq!(refused, []);
    let report = remote
        .registry
        .accept_promotion(
            &remote.actor,
            &bundle,
            &remote.peppers,
            &AcceptOptions::default(),
        )
        .await?;
    assert_eq!(report.accepted, std::slice::from_ref(&ahead.key.id));
    assert_eq!(report.refused.len(), 2);
    for one in &report.refused {
        assert_eq!(one.code, "created_in_future", "{one:?}");
    }
    assert_eq!(remote.code(&future).await?, "not_found");
    // What was a little ahead is of now: the next revocation of all keys covers it, and no more.
    let (taken, _) = remote.registry.find_api_key(&ahead.key.id).await?;
    assert_eq!(
        (taken.created_at, taken.secrets[0].created_at),
        (START, START)
    );
    Ok(())
}

/// It is as new as the revocation allows, and its secret is as old as it was.
#[tokio::test]
async fn rule_11_a_key_that_came_after_all_keys_of_its_owner_were_revoked_is_told_of_by_its_secret()
-> Result<()> {
    let Pair { local, mut remote } = Pair::new().await?;
    let long = NewApiKey {
        lifetime_ms: Some(365 * DAY_MS),
        ..wish("old")
    };
    let old = local.issue_as(&long).await?;
    hand_over(&local, &mut remote).await?;
    let policy = Policy {
        max_age_ms: Some(60 * DAY_MS),
        ..Policy::default_for(keywright_domain::api_keys::Environment::LIVE)
    };
    remote.registry.set_policy(&remote.actor, &policy).await?;
    local.set_clock(START + 90 * DAY_MS);
    remote.set_clock(START + 80 * DAY_MS);
    let revoke = PrincipalChange::RevokeKeys("leak".into());
    remote
        .registry
        .change_principal(&remote.actor, LOCAL_PRINCIPAL, &revoke)
        .await?;
    remote.set_clock(START + 90 * DAY_MS);
    // One of their own, which has time.
    remote.issue_as(&long).await?;
    let ids = [old.key.id.clone()];
    let (bundle, refused) = local
        .registry
        .promotion_bundle(&ids, &local.peppers)
        .await?;
    assert_eq!(refused, []);
    let accept = AcceptOptions::default();
    let report = remote
        .registry
        .accept_promotion(&remote.actor, &bundle, &remote.peppers, &accept)
        .await?;
    assert_eq!(report.accepted, ids);
    let (taken, _) = remote.registry.find_api_key(&old.key.id).await?;
    assert_eq!(taken.created_at, START + 80 * DAY_MS + 1);
    let notices = remote.registry.due_notices(500).await?;
    let told: Vec<_> = notices
        .iter()
        .map(|one| (one.key_id.as_str(), one.subject, one.due_at))
        .collect();
    let wanted = (
        old.key.id.as_str(),
        NoticeSubject::Rotation,
        START + 60 * DAY_MS,
    );
    assert_eq!(told, [wanted]);
    remote
        .registry
        .mark_notice_sent(&notices[0].id, "mail")
        .await?;
    // Neither an hour later, nor when the walk in the order of time comes to it.
    for later in [90 * DAY_MS + 3_600_000, 112 * DAY_MS] {
        remote.set_clock(START + later);
        assert_eq!(remote.registry.due_notices(500).await?, [], "once");
    }
    Ok(())
}

#[tokio::test]
async fn an_altered_bundle_or_a_wrong_pepper_is_refused() -> Result<()> {
    let Pair { local, mut remote } = Pair::new().await?;
    let issued = local.issue("moving").await?;
    let (bundle, _) = local
        .registry
        .promotion_bundle(std::slice::from_ref(&issued.key.id), &local.peppers)
        .await?;
    let accept = AcceptOptions::default();
    let try_with = |bundle: keywright_registry::PromotionBundle, peppers: Peppers| {
        let (remote, accept) = (&remote, &accept);
        async move {
            let registry = &remote.registry;
            let answer = registry
                .accept_promotion(&remote.actor, &bundle, &peppers, accept)
                .await;
            answer.map(|_| ()).map_err(|error| error.code())
        }
    };
    assert_eq!(
        try_with(bundle.clone(), super::copy_of(&remote.peppers)).await,
        Err("pepper_missing")
    );
    let id = bundle.needed_peppers().next().context("a pepper")?;
    let wrong = super::copy_of(&remote.peppers).with_older(pepper(&id, 8));
    assert_eq!(try_with(bundle.clone(), wrong).await, Err("bundle_altered"));
    let right = super::copy_of(&remote.peppers).with_older(pepper(&id, 7));
    let mut text = serde_json::to_value(&bundle)?;
    text["body"]["keys"][0]["scopes"] = "users:write".into();
    assert_eq!(
        try_with(serde_json::from_value(text)?, super::copy_of(&right)).await,
        Err("bundle_altered")
    );
    let mut text = serde_json::to_value(&bundle)?;
    text["tags"] = serde_json::json!([]);
    assert_eq!(
        try_with(serde_json::from_value(text)?, super::copy_of(&right)).await,
        Err("bundle_altered")
    );
    assert_eq!(try_with(bundle.clone(), right).await, Ok(()));
    hand_over(&local, &mut remote).await?;
    let own = local
        .registry
        .accept_promotion(
            &local.actor,
            &bundle,
            &{ super::copy_of(&local.peppers).with_older(pepper(&id, 7)) },
            &accept,
        )
        .await;
    assert_eq!(own.expect_err("refused").code(), "bundle_own");
    Ok(())
}

#[tokio::test]
async fn foreign_keys_move_too() -> Result<()> {
    let Pair { local, mut remote } = Pair::new().await?;
    hand_over(&local, &mut remote).await?;
    let text = format!("foreign-{}", random_id(&mut rand::rng()));
    let csv = format!(
        "name,hash,scopes,expires_at\nf,{},keys:read,{}\n",
        hash(&text),
        START + 9 * DAY_MS
    );
    let free = options(ImportFormat::Csv);
    let report = local
        .registry
        .import_api_keys(&local.actor, csv.as_bytes(), &local.peppers, &free)
        .await?;
    let ids = [report.imported[0].key_id.clone().context("an id")?];
    let (bundle, _) = local
        .registry
        .promotion_bundle(&ids, &local.peppers)
        .await?;
    let accept = AcceptOptions::default();
    let report = remote
        .registry
        .accept_promotion(&remote.actor, &bundle, &remote.peppers, &accept)
        .await?;
    assert_eq!(report.accepted, ids);
    assert_eq!(remote.verify_text(&text).await?.code(), "valid");
    Ok(())
}

#[tokio::test]
async fn ac_140_keys_that_ended_or_rest_with_their_owner_do_not_move() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let (kind, everything) = (OwnerKind::Person, ScopeSet::everything());
    registry
        .create_principal(actor, "ann", kind, "Ann", &everything)
        .await?;
    let of_ann = NewApiKey {
        owner: Some(Owner::new(kind, "ann")?),
        ..wish("of Ann")
    };
    let issued = fixture.issue_as(&of_ann).await?;
    let ids = [issued.key.id.clone()];
    let bundle = || registry.promotion_bundle(&ids, &fixture.peppers);
    assert_eq!(bundle().await?.1, [], "it could move");

    let suspend = PrincipalChange::Disable("away".into());
    registry.change_principal(actor, "ann", &suspend).await?;
    let (made, refused) = bundle().await?;
    assert_eq!(made.key_ids().count(), 0);
    assert_eq!(refused[0].code, "owner_disabled");
    registry
        .change_principal(actor, "ann", &PrincipalChange::Enable)
        .await?;
    assert_eq!(bundle().await?.1, [], "it could move again");

    let revoke = PrincipalChange::RevokeKeys("leak".into());
    registry.change_principal(actor, "ann", &revoke).await?;
    let (made, refused) = bundle().await?;
    assert_eq!(made.key_ids().count(), 0);
    assert_eq!(refused[0].code, "key_revoked");
    // A bundle that was made before does not make it a key that lives elsewhere.
    let left = registry.mark_promoted(actor, &ids, "elsewhere").await?;
    assert_eq!(left[0].code, "key_revoked");
    Ok(())
}
