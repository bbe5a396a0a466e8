//! What a key may be and do: each refusal of a verification, policies, owners, peppers.

use std::net::IpAddr;

use anyhow::Result;
use keywright_domain::api_keys::{
    CreditPlan, DAY_MS, Environment, KeySettings, KeyType, NetworkList, NewApiKey, OriginList,
    Owner, OwnerKind, PlainKey, Policy, PolicyEnvironment, Prefix, RateLimit, RateLimits, Refill,
    Refusal, RotationRequest,
};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_registry::{
    ApiKeyChange, Caller, ClientSecret, Issued, PrincipalChange, RotationStep, Verification,
    VerifyRequest,
};

use super::{Fixture, START, checksum, wish};

fn with(settings: KeySettings) -> NewApiKey {
    NewApiKey {
        settings,
        ..wish("a key")
    }
}

pub(super) fn asking(issued: &Issued) -> VerifyRequest<'_> {
    VerifyRequest {
        presented: issued.plain.text().expose(),
        ..VerifyRequest::default()
    }
}

pub(super) async fn verify(fixture: &Fixture, request: VerifyRequest<'_>) -> Result<Verification> {
    Ok(fixture
        .registry
        .verify_api_key(&request, &fixture.peppers)
        .await?)
}

fn from(address: &str) -> Result<Caller<'static>> {
    Ok(Caller {
        address: Some(address.parse::<IpAddr>()?),
        ..Caller::default()
    })
}

#[tokio::test]
async fn ac_132_the_61st_request_of_a_minute_is_limited_and_others_are_not() -> Result<()> {
    let fixture = super::fixture().await?;
    let limit = RateLimit::new("requests", 60, 60_000, 0, false)?;
    let limited = fixture
        .issue_as(&with(KeySettings {
            limits: RateLimits::one(limit),
            ..KeySettings::default()
        }))
        .await?;
    let other = fixture.issue("other").await?;
    for left in (0..60).rev() {
        let answer = fixture.verify(&limited).await?;
        assert_eq!((answer.code(), answer.limit_left), ("valid", Some(left)));
    }
    let refused = fixture.verify(&limited).await?;
    let Err(Refusal::RateLimited {
        limit,
        retry_after_ms,
    }) = &refused.verdict
    else {
        anyhow::bail!("{:?}", refused.verdict)
    };
    assert_eq!((limit.as_str(), *retry_after_ms), ("requests", 1000));
    assert_eq!(fixture.code(&other).await?, "valid");
    fixture.set_clock(START + 1000);
    assert_eq!(fixture.code(&limited).await?, "valid", "one came back");
    assert_eq!(fixture.code(&limited).await?, "rate_limited");
    Ok(())
}

#[tokio::test]
async fn an_overlap_does_not_double_a_limit_or_credits() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture
        .issue_as(&with(KeySettings {
            limits: RateLimits::one(RateLimit::new("requests", 10, 60_000, 0, false)?),
            credits: Some(CreditPlan {
                amount: 6,
                refill: None,
            }),
            ..KeySettings::default()
        }))
        .await?;
    let newer = fixture.rotate(&issued.key.id, DAY_MS).await?;
    let mut accepted = 0;
    for secret in [&issued, &newer].into_iter().cycle().take(20) {
        accepted += usize::from(fixture.code(secret).await? == "valid");
    }
    assert_eq!(accepted, 6);
    Ok(())
}

#[tokio::test]
async fn a_limit_may_be_shared_by_all_keys_of_an_owner() -> Result<()> {
    let fixture = super::fixture().await?;
    let settings = KeySettings {
        limits: RateLimits::one(RateLimit::new("all", 4, 60_000, 0, true)?),
        ..KeySettings::default()
    };
    let (one, two) = (
        fixture.issue_as(&with(settings.clone())).await?,
        fixture.issue_as(&with(settings)).await?,
    );
    let mut codes = Vec::new();
    for key in [&one, &two, &one, &two, &one, &two] {
        codes.push(fixture.code(key).await?);
    }
    assert_eq!(codes[..4], ["valid"; 4]);
    assert_eq!(codes[4..], ["rate_limited"; 2]);
    Ok(())
}

#[tokio::test]
async fn ac_132_a_shared_limit_is_not_given_back_by_one_of_the_same_name_and_other_terms()
-> Result<()> {
    const MONTH: u32 = 2_592_000_000;
    let fixture = super::fixture().await?;
    let shared = |count, period_ms| {
        let limit = RateLimit::new("requests", count, period_ms, 0, true)?;
        let limits = RateLimits::one(limit);
        let settings = KeySettings {
            limits,
            ..KeySettings::default()
        };
        anyhow::Ok(with(settings))
    };
    let month = fixture.issue_as(&shared(4, MONTH)?).await?;
    let minute = fixture.issue_as(&shared(60, 60_000)?).await?;
    for _ in 0..4 {
        assert_eq!(fixture.code(&month).await?, "valid");
    }
    for round in 1..4 {
        assert_eq!(fixture.code(&month).await?, "rate_limited");
        assert_eq!(fixture.code(&minute).await?, "valid", "its own terms");
        fixture.set_clock(START + round * 61_000);
    }
    assert_eq!(fixture.code(&month).await?, "rate_limited");
    let other = fixture.issue_as(&shared(4, MONTH)?).await?;
    assert_eq!(fixture.code(&other).await?, "rate_limited", "equal terms");
    Ok(())
}

#[tokio::test]
async fn credits_end_and_come_back() -> Result<()> {
    let fixture = super::fixture().await?;
    let refill = Refill {
        amount: 2,
        every_ms: DAY_MS,
        cap: 3,
    };
    let issued = fixture
        .issue_as(&with(KeySettings {
            credits: Some(CreditPlan {
                amount: 3,
                refill: Some(refill),
            }),
            ..KeySettings::default()
        }))
        .await?;
    let spend = VerifyRequest {
        credits: Some(2),
        ..asking(&issued)
    };
    assert_eq!(verify(&fixture, spend).await?.credits_left, Some(1));
    let refused = verify(&fixture, spend).await?;
    assert_eq!(refused.code(), "credits_exhausted");
    let Err(Refusal::CreditsExhausted { refill_at }) = refused.verdict else {
        anyhow::bail!("another refusal")
    };
    assert_eq!(refill_at, Some(START + DAY_MS));
    fixture.set_clock(START + DAY_MS);
    assert_eq!(verify(&fixture, spend).await?.credits_left, Some(1));
    Ok(())
}

#[tokio::test]
async fn ac_145_networks_and_origins_are_kept_to() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture
        .issue_as(&with(KeySettings {
            networks: NetworkList::new(["10.1.0.0/16"])?,
            origins: OriginList::new(["https://*.example.org"])?,
            ..KeySettings::default()
        }))
        .await?;
    let origin = Some("https://app.example.org");
    for (address, origin, code) in [
        ("10.1.2.3", origin, "valid"),
        ("::ffff:10.1.2.3", origin, "valid"),
        ("10.2.2.3", origin, "ip_not_allowed"),
        (
            "10.1.2.3",
            Some("https://example.com"),
            "origin_not_allowed",
        ),
        ("10.1.2.3", None, "origin_not_allowed"),
    ] {
        let caller = Caller {
            origin,
            ..from(address)?
        };
        let answer = verify(
            &fixture,
            VerifyRequest {
                caller,
                ..asking(&issued)
            },
        )
        .await?;
        assert_eq!(answer.code(), code, "{address} {origin:?}");
    }
    assert_eq!(
        fixture.code(&issued).await?,
        "ip_not_allowed",
        "an unknown address is on no list"
    );
    Ok(())
}

#[tokio::test]
async fn ac_141_a_key_of_another_environment_or_type_is_refused() -> Result<()> {
    let fixture = super::fixture().await?;
    let test = fixture
        .issue_as(&NewApiKey {
            prefix: "sk_test".into(),
            ..wish("test")
        })
        .await?;
    let live = Environment::LIVE;
    let request = VerifyRequest {
        environment: Some(&live),
        ..asking(&test)
    };
    assert_eq!(verify(&fixture, request).await?.code(), "wrong_environment");
    let publishable = fixture
        .issue_as(&NewApiKey {
            prefix: "pk_live".into(),
            scopes: vec!["keys:verify".into()],
            ..wish("publishable")
        })
        .await?;
    let request = VerifyRequest {
        key_types: &[KeyType::Secret, KeyType::Root],
        ..asking(&publishable)
    };
    assert_eq!(
        verify(&fixture, request).await?.code(),
        "key_type_forbidden"
    );
    Ok(())
}

#[tokio::test]
async fn a_requirement_is_a_condition_over_scopes() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture
        .issue_as(&NewApiKey {
            scopes: vec!["keys:*".into(), "audit:read".into()],
            ..wish("a")
        })
        .await?;
    for (condition, code) in [
        ("keys:read and (users:read or audit:read)", "valid"),
        ("keys:write and users:write", "insufficient_scope"),
        ("users:read or users:write", "insufficient_scope"),
    ] {
        let requirement = ScopeRequirement::parse(condition)?;
        let request = VerifyRequest {
            requirement: Some(&requirement),
            ..asking(&issued)
        };
        assert_eq!(verify(&fixture, request).await?.code(), code, "{condition}");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_does_not_work_before_its_beginning() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture
        .issue_as(&NewApiKey {
            not_before: Some(START + 1000),
            ..wish("later")
        })
        .await?;
    assert_eq!(fixture.code(&issued).await?, "not_yet_valid");
    fixture.set_clock(START + 1000);
    assert_eq!(fixture.code(&issued).await?, "valid");
    Ok(())
}

#[tokio::test]
async fn a_disabled_key_is_refused_until_it_is_enabled() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    let (registry, id) = (&fixture.registry, &issued.key.id);
    registry
        .disable_api_key(&fixture.actor, id, "holiday")
        .await?;
    assert_eq!(fixture.code(&issued).await?, "disabled");
    registry.enable_api_key(&fixture.actor, id).await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    registry.revoke_api_key(&fixture.actor, id, "over").await?;
    let enabled = registry.enable_api_key(&fixture.actor, id).await;
    assert_eq!(enabled.expect_err("revoked").code(), "key_revoked");
    Ok(())
}

#[tokio::test]
async fn a_one_time_key_works_once() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture
        .issue_as(&with(KeySettings {
            one_time: true,
            ..KeySettings::default()
        }))
        .await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    assert_eq!(fixture.code(&issued).await?, "retired");
    let other = fixture.second().await?;
    let answer = other
        .verify_api_key(&asking(&issued), &fixture.peppers)
        .await?;
    assert_eq!(answer.code(), "retired");
    Ok(())
}

#[tokio::test]
async fn ac_146_an_owner_takes_their_keys_along() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    registry
        .create_principal(
            actor,
            "shop",
            OwnerKind::Service,
            "Shop",
            &ScopeSet::everything(),
        )
        .await?;
    let owner = Some(Owner::new(OwnerKind::Service, "shop")?);
    let mut keys = Vec::new();
    for name in ["one", "two", "three"] {
        keys.push(
            fixture
                .issue_as(&NewApiKey {
                    owner: owner.clone(),
                    ..wish(name)
                })
                .await?,
        );
    }
    let before = fixture.actions().await?.len();
    registry
        .change_principal(actor, "shop", &PrincipalChange::Disable("paused".into()))
        .await?;
    for key in &keys {
        assert_eq!(fixture.code(key).await?, "owner_disabled");
    }
    registry
        .change_principal(actor, "shop", &PrincipalChange::Enable)
        .await?;
    for key in &keys {
        assert_eq!(fixture.code(key).await?, "valid");
    }
    registry
        .change_principal(actor, "shop", &PrincipalChange::RevokeKeys("leak".into()))
        .await?;
    for key in &keys {
        assert_eq!(fixture.code(key).await?, "revoked");
    }
    fixture.set_clock(START + 1);
    let newer = fixture
        .issue_as(&NewApiKey {
            owner,
            ..wish("newer")
        })
        .await?;
    assert_eq!(
        fixture.code(&newer).await?,
        "valid",
        "what is made later is not revoked"
    );
    let changes = fixture.actions().await?.len() - before;
    assert_eq!(
        changes,
        3 + 3 + 1 + 1,
        "one event a change: three first uses, an issue, a first use"
    );
    Ok(())
}

#[tokio::test]
async fn ac_142_a_policy_refuses_by_its_name() -> Result<()> {
    let fixture = super::fixture().await?;
    let floor = RateLimit::new("requests", 100, 60_000, 0, false)?;
    let policy = Policy {
        environment: PolicyEnvironment::All,
        max_lifetime_ms: 90 * DAY_MS,
        min_overlap_ms: DAY_MS,
        allowed_scopes: Some(ScopeSet::parse("keys:*")?),
        allowed_prefixes: Some(vec![Prefix::new("sk_live")?]),
        rate_limit_floor: Some(floor),
        ..Policy::default_for(Environment::LIVE)
    };
    fixture.registry.set_policy(&fixture.actor, &policy).await?;
    let wishes = [
        (
            "maximum lifetime",
            NewApiKey {
                lifetime_ms: Some(91 * DAY_MS),
                ..wish("a")
            },
        ),
        (
            "expir",
            NewApiKey {
                lifetime_ms: None,
                allow_never_expires: true,
                ..wish("a")
            },
        ),
        (
            "allowed scopes",
            NewApiKey {
                scopes: vec!["audit:read".into()],
                ..wish("a")
            },
        ),
        (
            "allowed prefixes",
            NewApiKey {
                prefix: "sk_test".into(),
                ..wish("a")
            },
        ),
        (
            "rate limit floor",
            with(KeySettings {
                limits: RateLimits::one(RateLimit::new("mine", 101, 60_000, 0, false)?),
                ..KeySettings::default()
            }),
        ),
    ];
    for (name, wish) in wishes {
        let error = fixture
            .registry
            .issue_api_key(&fixture.actor, &wish, &fixture.peppers)
            .await
            .expect_err(name);
        assert_eq!(error.code(), "policy_violation", "{name}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let issued = fixture.issue("fits").await?;
    assert_eq!(
        issued.key.settings.limits.as_slice().len(),
        1,
        "the floor was given to it"
    );
    let short = fixture
        .rotate_as(&issued.key.id, &super::from_issue(1000))
        .await;
    assert!(format!("{:?}", short.expect_err("too short")).contains("minimum overlap"));
    assert_eq!(fixture.registry.list_policies().await?, [policy]);
    assert!(
        fixture
            .registry
            .remove_policy(&fixture.actor, &PolicyEnvironment::All)
            .await?
    );
    fixture.rotate(&issued.key.id, 1000).await?;
    Ok(())
}

#[tokio::test]
async fn ac_133_a_flood_of_wrong_keys_from_one_place_is_throttled() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("good").await?;
    let stranger = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
    let wrong = VerifyRequest {
        presented: stranger.text().expose(),
        caller: from("192.0.2.1")?,
        ..VerifyRequest::default()
    };
    let mut codes = Vec::new();
    for _ in 0..200 {
        codes.push(verify(&fixture, wrong).await?.code());
    }
    assert_eq!(codes[0], "not_found");
    assert_eq!(codes[199], "rate_limited");
    // From there nothing that would have to be looked for or guessed; what memory knows to be good is
    // neither: the place may be a gateway that others use too.
    let good = VerifyRequest {
        caller: from("192.0.2.1")?,
        ..asking(&issued)
    };
    assert_eq!(verify(&fixture, good).await?.code(), "valid");
    let text = issued.plain.text().expose();
    let body = &text[..text.len() - 6];
    let (head, secret) = body.split_at(body.len() - 32);
    let guess = format!("{head}{}", secret.chars().rev().collect::<String>());
    let guess = format!("{guess}{}", checksum(&guess));
    let guessed = VerifyRequest {
        presented: &guess,
        caller: from("192.0.2.1")?,
        ..VerifyRequest::default()
    };
    for _ in 0..59 {
        // The answer is the one that strangers get: nobody learns which kids there are.
        assert_eq!(verify(&fixture, guessed).await?.code(), "rate_limited");
        assert_eq!(verify(&fixture, wrong).await?.code(), "rate_limited");
    }
    assert_eq!(verify(&fixture, good).await?.code(), "valid");
    assert_eq!(verify(&fixture, guessed).await?.code(), "rate_limited");
    assert_eq!(
        verify(&fixture, good).await?.code(),
        "rate_limited",
        "after sixty guesses nothing is computed for this kid any more"
    );
    let other = fixture.issue("other").await?;
    let request = VerifyRequest {
        caller: from("192.0.2.1")?,
        ..asking(&other)
    };
    assert_eq!(verify(&fixture, request).await?.code(), "valid");
    // Whoever has the secret is told its state.
    fixture
        .registry
        .revoke_api_key(&fixture.actor, &other.key.id, "")
        .await?;
    assert_eq!(verify(&fixture, request).await?.code(), "revoked");
    let elsewhere = VerifyRequest {
        caller: from("198.51.100.7")?,
        ..asking(&issued)
    };
    assert_eq!(verify(&fixture, elsewhere).await?.code(), "valid");
    Ok(())
}

#[tokio::test]
async fn ac_133_a_good_key_from_a_throttled_place_is_let_through_right_after_somebody_wrote()
-> Result<()> {
    let fixture = super::fixture().await?;
    let second = fixture.second().await?;
    let issued = fixture.issue("good").await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    let stranger = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
    let wrong = VerifyRequest {
        presented: stranger.text().expose(),
        caller: from("192.0.2.1")?,
        ..VerifyRequest::default()
    };
    let good = VerifyRequest {
        caller: from("192.0.2.1")?,
        ..asking(&issued)
    };
    while verify(&fixture, wrong).await?.code() != "rate_limited" {}
    for number in 0..20 {
        let wish = wish(&format!("of another process {number}"));
        second
            .issue_api_key(&fixture.actor, &wish, &fixture.peppers)
            .await?;
        assert_eq!(verify(&fixture, good).await?.code(), "valid", "{number}");
        assert_eq!(verify(&fixture, wrong).await?.code(), "rate_limited");
    }
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn a_secret_made_by_the_client_never_comes_here() -> Result<()> {
    let fixture = super::fixture().await?;
    let plain = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
    let secret = ClientSecret::of(&plain);
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let key = registry
        .issue_api_key_for(actor, &wish("mine"), &secret, &fixture.peppers)
        .await?;
    assert_eq!(
        fixture.verify_text(plain.text().expose()).await?.code(),
        "valid"
    );
    let again = registry
        .issue_api_key_for(actor, &wish("again"), &secret, &fixture.peppers)
        .await;
    assert_eq!(
        again.expect_err("the kid is taken").code(),
        "invalid_client_secret"
    );
    let newer = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
    let secret = ClientSecret::of(&newer);
    let request = super::from_issue(DAY_MS);
    let first = registry
        .rotate_api_key_to(
            actor,
            &key.id,
            &request,
            "rotation-1",
            &secret,
            &fixture.peppers,
        )
        .await?;
    let retried = registry
        .rotate_api_key_to(
            actor,
            &key.id,
            &request,
            "rotation-1",
            &secret,
            &fixture.peppers,
        )
        .await?;
    assert_eq!(
        (first.1.new, first.0.secrets.len()),
        (retried.1.new, retried.0.secrets.len())
    );
    assert_eq!(
        fixture.verify_text(newer.text().expose()).await?.code(),
        "valid"
    );
    Ok(())
}

#[tokio::test]
async fn a_change_counts_from_the_next_verification_on() -> Result<()> {
    let fixture = super::fixture().await?;
    let issued = fixture.issue("a").await?;
    let requirement = ScopeRequirement::parse("audit:read")?;
    let request = VerifyRequest {
        requirement: Some(&requirement),
        ..asking(&issued)
    };
    assert_eq!(
        verify(&fixture, request).await?.code(),
        "insufficient_scope"
    );
    let change = keywright_registry::ApiKeyChange {
        scopes: Some(vec!["audit:read".into()]),
        if_epoch: Some(issued.key.epoch),
        ..Default::default()
    };
    let registry = &fixture.registry;
    let changed = registry
        .change_api_key(&fixture.actor, &issued.key.id, &change)
        .await?;
    assert!(changed.epoch > issued.key.epoch);
    assert_eq!(verify(&fixture, request).await?.code(), "valid");
    let stale = registry
        .change_api_key(&fixture.actor, &issued.key.id, &change)
        .await;
    assert_eq!(
        stale.expect_err("changed since").code(),
        "changed_meanwhile"
    );
    Ok(())
}

#[tokio::test]
async fn a_rotation_is_cancelled_rolled_back_promoted_and_finished() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let first = fixture.issue("stepped").await?;
    let id = &first.key.id;
    let nothing = registry
        .step_rotation(actor, id, RotationStep::Finish)
        .await;
    assert_eq!(nothing.expect_err("none yet").code(), "no_rotation");
    let wish = RotationRequest::default();

    let cancelled = fixture.rotate_as(id, &wish).await?;
    let (key, rotation) = registry
        .step_rotation(actor, id, RotationStep::Cancel)
        .await?;
    assert_eq!((key.secrets.len(), rotation.state.is_open()), (2, false));
    let codes = (fixture.code(&first).await?, fixture.code(&cancelled).await?);
    assert_eq!(codes, ("valid", "retired"));

    let taken_back = fixture.rotate_as(id, &wish).await?;
    let (_, rotation) = registry
        .step_rotation(actor, id, RotationStep::Promote)
        .await?;
    assert_eq!(rotation.activated_at, Some(START));
    registry
        .step_rotation(actor, id, RotationStep::RollBack)
        .await?;
    assert_eq!(fixture.code(&first).await?, "valid");
    assert_ne!(fixture.code(&taken_back).await?, "valid");

    let last = fixture.rotate_as(id, &wish).await?;
    registry
        .step_rotation(actor, id, RotationStep::Promote)
        .await?;
    registry
        .step_rotation(actor, id, RotationStep::Finish)
        .await?;
    let codes = (fixture.code(&first).await?, fixture.code(&last).await?);
    assert_eq!(codes, ("retired", "valid"));
    Ok(())
}

#[tokio::test]
async fn ac_140_a_key_revoked_with_its_owner_is_not_rotated_changed_or_enabled() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let shop = owned_by_a_shop(&fixture).await?;
    let issued = fixture.issue_as(&shop).await?;
    let paused = fixture.issue_as(&shop).await?;
    let rotation_id = super::rand_text();
    let request = RotationRequest::default();
    registry
        .rotate_api_key(
            actor,
            &issued.key.id,
            &request,
            &rotation_id,
            &fixture.peppers,
        )
        .await?;
    registry
        .disable_api_key(actor, &paused.key.id, "holiday")
        .await?;
    fixture.set_clock(START + 1);
    registry
        .change_principal(actor, "shop", &PrincipalChange::RevokeKeys("leak".into()))
        .await?;
    let (id, events) = (&issued.key.id, fixture.actions().await?.len());
    let once = super::rand_text();
    let rotated = registry.rotate_api_key(actor, id, &request, &once, &fixture.peppers);
    assert_eq!(rotated.await.expect_err("rotated").code(), "key_revoked");
    let open = registry.list_rotations(id).await?.remove(0);
    let again = registry.reissue_secret(actor, &open.id, &fixture.peppers);
    assert_eq!(again.await.expect_err("reissued").code(), "key_revoked");
    for step in [
        RotationStep::Promote,
        RotationStep::RollBack,
        RotationStep::Cancel,
    ] {
        let stepped = registry.step_rotation(actor, id, step).await;
        assert_eq!(stepped.expect_err("stepped").code(), "key_revoked");
    }
    let change = ApiKeyChange {
        name: Some("another".into()),
        ..ApiKeyChange::default()
    };
    let changed = registry.change_api_key(actor, id, &change).await;
    assert_eq!(changed.expect_err("changed").code(), "key_revoked");
    let enabled = registry.enable_api_key(actor, &paused.key.id).await;
    assert_eq!(enabled.expect_err("enabled").code(), "key_revoked");
    let disabled = registry.disable_api_key(actor, id, "x").await;
    assert_eq!(disabled.expect_err("disabled").code(), "key_revoked");
    let (shown, _) = registry.find_api_key(id).await?;
    assert_eq!(shown.revoked_at, Some(START + 1));
    assert_eq!(shown.revoked_reason.as_deref(), Some("leak"));
    assert_eq!(
        fixture.actions().await?.len(),
        events,
        "and nothing was written of it"
    );
    assert_eq!(fixture.code(&issued).await?, "revoked");
    // It may be ended by itself too, once, whatever becomes of the owner.
    for _ in 0..2 {
        let ended = registry.revoke_api_key(actor, id, "by name").await?;
        assert_eq!(ended.revoked_reason.as_deref(), Some("by name"));
        assert_eq!(fixture.actions().await?.len(), events + 1);
    }
    assert_eq!(fixture.code(&issued).await?, "revoked");
    Ok(())
}

/// A wish for a key of a service of its own.
async fn owned_by_a_shop(fixture: &Fixture) -> Result<NewApiKey> {
    let everything = ScopeSet::everything();
    let (actor, kind) = (&fixture.actor, OwnerKind::Service);
    let made = fixture
        .registry
        .create_principal(actor, "shop", kind, "Shop", &everything);
    made.await?;
    Ok(NewApiKey {
        owner: Some(Owner::new(kind, "shop")?),
        ..wish("of a shop")
    })
}
