//! Authorization codes and refresh families.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a test's parts is a failed test"
)]

use anyhow::Result;
use keywright_domain::api_keys::DAY_MS;
use keywright_domain::people::{
    AuthMethod, ClientType, EndReason, GrantRefusal, NewClient, OAuthScopes, RefreshLives, Sealed,
};
use keywright_registry::people::{
    CodeOutcome, CodeRequest, Grant, NewCode, RefreshOutcome, RefreshRequest, User,
};

use super::people::{code_of, person, token};
use super::{Fixture, START};

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

pub(crate) fn scopes(text: &str) -> OAuthScopes {
    OAuthScopes::parse(text).unwrap()
}

pub(crate) fn desktop() -> NewClient {
    NewClient {
        name: "Desktop".to_owned(),
        client_type: ClientType::Public,
        auth_method: AuthMethod::None,
        jwks: None,
        redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        grant_types: ["authorization_code", "refresh_token", DEVICE]
            .map(str::to_owned)
            .to_vec(),
        scopes: scopes("openid profile email"),
        signing_alg: "RS256".to_owned(),
        require_pkce: false,
        require_dpop: false,
        fapi: false,
    }
}

/// A client that proves itself by a secret.
pub(crate) fn confidential() -> NewClient {
    NewClient {
        client_type: ClientType::Confidential,
        auth_method: AuthMethod::ClientSecretBasic,
        ..desktop()
    }
}

/// A fixture with a client “app” and a person.
pub(crate) async fn ready() -> Result<(Fixture, User)> {
    let fixture = super::fixture().await?;
    fixture
        .registry
        .add_client(&fixture.actor, "app", &desktop(), None)
        .await?;
    let ada = person(&fixture, "ada", &[]).await?;
    Ok((fixture, ada))
}

pub(crate) fn new_code(user: &User, code: &str, session_id: Option<&str>) -> NewCode {
    NewCode {
        digest: token(code),
        client_id: "app".to_owned(),
        user_id: user.id.clone(),
        session_id: session_id.map(str::to_owned),
        redirect_uri: "http://127.0.0.1:4000/callback".to_owned(),
        scopes: scopes("openid profile"),
        nonce: Some("n".to_owned()),
        code_challenge: Some("challenge".to_owned()),
        dpop_jkt: None,
        resource: None,
        authenticated_at: START,
        acr: "1".to_owned(),
        amr: "pwd".to_owned(),
        offline: true,
        lifetime_ms: 60_000,
    }
}

pub(crate) fn exchange(code: &str, refresh: &str) -> CodeRequest {
    CodeRequest {
        digest: token(code),
        client_id: "app".to_owned(),
        redirect_uri: "http://127.0.0.1:4000/callback".to_owned(),
        code_challenge: Some("challenge".to_owned()),
        dpop_jkt: None,
        refresh_token: token(refresh),
        access_jti: format!("jti of {code}"),
        access_expires_at: START + 900_000,
        lives: RefreshLives::default(),
        user_agent: "Keywright".to_owned(),
        network: "192.0.2.1".to_owned(),
    }
}

fn refresh(presented: &str, successor: &str) -> RefreshRequest {
    RefreshRequest {
        presented: token(presented),
        successor: token(successor),
        sealed_successor: Sealed::new(successor.as_bytes().to_vec()),
        client_id: "app".to_owned(),
        dpop_jkt: None,
        scopes: None,
        lives: RefreshLives::default(),
        rotate: true,
        network: "192.0.2.1".to_owned(),
    }
}

/// A grant by a code, in a session or not, with the refresh token “r0”.
pub(crate) async fn granted(
    fixture: &Fixture,
    user: &User,
    session_id: Option<&str>,
) -> Result<Grant> {
    let code = format!("code {}", super::rand_text());
    grant_of(fixture, user, &code, "r0", session_id).await
}

pub(crate) async fn grant_of(
    fixture: &Fixture,
    user: &User,
    code: &str,
    refresh: &str,
    session_id: Option<&str>,
) -> Result<Grant> {
    let new = new_code(user, code, session_id);
    fixture.registry.issue_code(&fixture.actor, &new).await?;
    match fixture
        .registry
        .redeem_code(&exchange(code, refresh))
        .await?
    {
        CodeOutcome::Redeemed { grant, .. } => Ok(*grant),
        other => panic!("{other:?}"),
    }
}

fn name(outcome: &RefreshOutcome) -> &'static str {
    match outcome {
        RefreshOutcome::Rotated { .. } => "rotated",
        RefreshOutcome::Kept { .. } => "kept",
        RefreshOutcome::Replayed { .. } => "replayed",
        RefreshOutcome::Reused { .. } => "reused",
        RefreshOutcome::Refused(refusal) => refusal.code(),
    }
}

pub(crate) async fn refreshed(
    fixture: &Fixture,
    presented: &str,
    successor: &str,
) -> Result<&'static str> {
    Ok(name(
        &fixture
            .registry
            .refresh_grant(&refresh(presented, successor))
            .await?,
    ))
}

#[tokio::test]
async fn s26_refresh_tokens_are_bound_to_a_key_for_public_clients_only() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    let secret = token("secret");
    registry
        .add_client(&fixture.actor, "web", &confidential(), Some(&secret))
        .await?;
    for (client, first_key) in [("app", Some("k1")), ("web", None)] {
        let (code, old) = (format!("code {client}"), format!("r of {client}"));
        let new = NewCode {
            client_id: client.to_owned(),
            // The code itself is bound, whoever it is for (RFC 9449 §10).
            dpop_jkt: Some("k1".to_owned()),
            ..new_code(&ada, &code, None)
        };
        registry.issue_code(&fixture.actor, &new).await?;
        let request = CodeRequest {
            client_id: client.to_owned(),
            dpop_jkt: Some("k1".to_owned()),
            ..exchange(&code, &old)
        };
        let CodeOutcome::Redeemed { grant, .. } = registry.redeem_code(&request).await? else {
            panic!("{client}");
        };
        assert_eq!(grant.dpop_jkt.as_deref(), first_key, "{client}");
        let stored = registry.find_grant(&grant.id).await?;
        assert_eq!(stored.dpop_jkt.as_deref(), first_key, "{client}");
        // With the key of a process that was started again.
        let again = RefreshRequest {
            client_id: client.to_owned(),
            dpop_jkt: Some("k2".to_owned()),
            ..refresh(&old, &format!("next {client}"))
        };
        let outcome = registry.refresh_grant(&again).await?;
        let wanted = if first_key.is_some() {
            "sender_key"
        } else {
            "rotated"
        };
        assert_eq!(name(&outcome), wanted, "{client}");
        let foreign = NewCode {
            digest: token(&format!("other {client}")),
            ..new
        };
        registry.issue_code(&fixture.actor, &foreign).await?;
        let request = CodeRequest {
            digest: foreign.digest,
            dpop_jkt: Some("k2".to_owned()),
            ..request
        };
        let refused = registry.redeem_code(&request).await?;
        let key = CodeOutcome::Refused(GrantRefusal::SenderKey);
        assert_eq!(refused, key, "{client}");
    }
    Ok(())
}

#[tokio::test]
async fn s50_access_for_the_time_away_outlives_a_sign_out_and_nothing_else() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    for (number, (reason, stays)) in [
        (EndReason::SignedOut, true),
        (EndReason::TooManySessions, true),
        (EndReason::EndedByUser, false),
        (EndReason::EndedByAdmin, false),
        (EndReason::Reuse, false),
    ]
    .into_iter()
    .enumerate()
    {
        fixture.set_clock(START + i64::try_from(number)?);
        let session = super::people::session(&fixture, &ada, &format!("c{number}")).await?;
        let mut grants = Vec::new();
        for (scope, refresh) in [
            ("offline_access openid", "away"),
            ("offlineXaccess", "here"),
        ] {
            let (code, refresh) = (format!("{refresh}{number}"), format!("{refresh} r{number}"));
            let new = NewCode {
                scopes: scopes(scope),
                ..new_code(&ada, &code, Some(&session.id))
            };
            registry.issue_code(actor, &new).await?;
            let CodeOutcome::Redeemed { grant, .. } =
                registry.redeem_code(&exchange(&code, &refresh)).await?
            else {
                panic!("{code}");
            };
            grants.push(grant.id);
        }
        let ended = registry
            .end_session(actor, &ada.id, &session.id, reason)
            .await?;
        assert_eq!(ended.grants, if stays { 1 } else { 2 }, "{reason:?}");
        // What it has is denied with the session; what it gets next is in none.
        assert!(
            registry
                .is_access_denied("", &session.id, &grants[0])
                .await?
        );
        assert_eq!(registry.is_access_denied("", "", &grants[0]).await?, !stays);
        let left = registry.find_grant(&grants[0]).await?;
        assert_eq!(left.session_id.is_none(), stays, "{reason:?}");
        let wanted = if stays { "rotated" } else { "revoked" };
        let (away, here) = (format!("away r{number}"), format!("here r{number}"));
        let next = format!("next {number}");
        assert_eq!(
            refreshed(&fixture, &away, &next).await?,
            wanted,
            "{reason:?}"
        );
        assert_eq!(
            refreshed(&fixture, &here, "x").await?,
            "revoked",
            "{reason:?}"
        );
    }
    // “Everywhere else” is all that is not in the one that stays.
    let keep = super::people::session(&fixture, &ada, "keep").await?;
    registry
        .end_other_sessions(actor, &ada.id, &keep.id)
        .await?;
    assert_eq!(refreshed(&fixture, "next 0", "y").await?, "revoked");
    Ok(())
}

#[tokio::test]
async fn ac_054_of_fifty_exchanges_of_one_code_one_succeeds() -> Result<()> {
    let (fixture, ada) = ready().await?;
    fixture
        .registry
        .issue_code(&fixture.actor, &new_code(&ada, "code", None))
        .await?;
    let other = fixture.second().await?;
    let mut tasks = Vec::new();
    for number in 0..50 {
        let registry = if number % 2 == 0 {
            fixture.registry.clone()
        } else {
            other.clone()
        };
        let request = exchange("code", &format!("r{number}"));
        tasks.push(tokio::spawn(
            async move { registry.redeem_code(&request).await },
        ));
    }
    let mut redeemed = 0;
    for task in tasks {
        match task.await?? {
            CodeOutcome::Redeemed { code, .. } => {
                assert_eq!(code.nonce.as_deref(), Some("n"));
                redeemed += 1;
            }
            CodeOutcome::Replayed { grant_id } => assert!(grant_id.is_some()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(redeemed, 1);
    Ok(())
}

#[tokio::test]
async fn ac_053_a_code_that_comes_twice_takes_back_what_it_gave() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    let grant = grant_of(&fixture, &ada, "code", "r0", None).await?;
    let outcome = registry.redeem_code(&exchange("code", "x")).await?;
    let expected = CodeOutcome::Replayed {
        grant_id: Some(grant.id.clone()),
    };
    assert_eq!(outcome, expected);
    assert_eq!(
        registry.find_grant(&grant.id).await?.revoke_reason,
        Some(EndReason::Reuse)
    );
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "revoked");
    assert!(registry.is_access_denied("jti of code", "", "").await?);
    assert!(registry.is_access_denied("", "", &grant.id).await?);
    let actions = fixture.actions().await?;
    assert_eq!(
        actions
            .iter()
            .filter(|one| *one == "grant.code_replay")
            .count(),
        1
    );
    Ok(())
}

#[tokio::test]
async fn ac_051_ac_052_ac_055_a_code_that_does_not_fit_is_used_up() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    type Change = fn(&mut CodeRequest);
    let wrong: [(&str, Change); 4] = [
        ("pkce", |request| {
            request.code_challenge = Some("other".to_owned())
        }),
        ("pkce", |request| request.code_challenge = None),
        ("other_client", |request| {
            request.client_id = "web".to_owned()
        }),
        ("redirect_uri", |request| {
            request.redirect_uri = "http://127.0.0.1:4001/callback".to_owned()
        }),
    ];
    for (number, (code, change)) in wrong.into_iter().enumerate() {
        let text = format!("code {number}");
        registry
            .issue_code(&fixture.actor, &new_code(&ada, &text, None))
            .await?;
        let mut request = exchange(&text, "r");
        change(&mut request);
        let CodeOutcome::Refused(refusal) = registry.redeem_code(&request).await? else {
            panic!("{code}")
        };
        assert_eq!(
            (refusal.code(), refusal.oauth_error()),
            (code, "invalid_grant")
        );
        let right = registry.redeem_code(&exchange(&text, "r")).await?;
        assert_eq!(right, CodeOutcome::Replayed { grant_id: None });
    }
    registry
        .issue_code(&fixture.actor, &new_code(&ada, "late", None))
        .await?;
    fixture.set_clock(START + 61_000);
    let late = registry.redeem_code(&exchange("late", "r")).await?;
    assert_eq!(late, CodeOutcome::Refused(GrantRefusal::Expired));
    let never = registry.redeem_code(&exchange("never", "r")).await?;
    assert_eq!(never, CodeOutcome::Refused(GrantRefusal::Unknown));
    let elsewhere = NewCode {
        redirect_uri: "https://evil.example/callback".to_owned(),
        ..new_code(&ada, "x", None)
    };
    let refused = registry.issue_code(&fixture.actor, &elsewhere).await;
    assert_eq!(code_of(refused), "invalid_client_metadata");
    let downgraded = NewCode {
        code_challenge: None,
        ..new_code(&ada, "y", None)
    };
    let refused = registry.issue_code(&fixture.actor, &downgraded).await;
    assert_eq!(code_of(refused), "invalid_client_metadata");
    Ok(())
}

#[tokio::test]
async fn ac_084_fifty_uses_of_one_token_give_one_successor() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let grant = granted(&fixture, &ada, None).await?;
    let other = fixture.second().await?;
    let mut tasks = Vec::new();
    for number in 0..50 {
        let registry = if number % 2 == 0 {
            fixture.registry.clone()
        } else {
            other.clone()
        };
        let successor = format!("s{number}");
        tasks.push(tokio::spawn(async move {
            let outcome = registry.refresh_grant(&refresh("r0", &successor)).await;
            (successor, outcome)
        }));
    }
    let (mut winner, mut replayed) = (None, Vec::new());
    for task in tasks {
        let (successor, outcome) = task.await?;
        match outcome? {
            RefreshOutcome::Rotated { .. } => {
                assert!(
                    winner.replace(successor).is_none(),
                    "one token, one successor"
                );
            }
            RefreshOutcome::Replayed {
                sealed_successor, ..
            } => {
                replayed.push(String::from_utf8(sealed_successor.as_bytes().to_vec())?);
            }
            other => panic!("{other:?}"),
        }
    }
    let winner = winner.expect("one was first");
    assert_eq!(replayed, vec![winner.clone(); 49]);
    assert_eq!(refreshed(&fixture, &winner, "next").await?, "rotated");
    assert_eq!(
        fixture.registry.find_grant(&grant.id).await?.revoked_at,
        None
    );
    Ok(())
}

#[tokio::test]
async fn ac_083_ac_085_reuse_outside_the_grace_ends_the_family_and_nothing_else() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let grant = granted(&fixture, &ada, None).await?;
    let bystander = grant_of(&fixture, &ada, "second", "q0", None).await?;
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "rotated");
    fixture.set_clock(START + 9_999);
    assert_eq!(refreshed(&fixture, "r0", "x").await?, "replayed");
    fixture.set_clock(START + 10_000);
    assert_eq!(refreshed(&fixture, "r0", "x").await?, "reused");
    assert_eq!(refreshed(&fixture, "r1", "r2").await?, "revoked");
    let revoked = fixture.registry.find_grant(&grant.id).await?;
    assert_eq!(revoked.revoke_reason, Some(EndReason::Reuse));
    assert_eq!(refreshed(&fixture, "q0", "q1").await?, "rotated");
    let left = fixture.registry.list_grants(&ada.id, None, 10).await?.items;
    assert_eq!((left.len(), &left[0].id), (1, &bystander.id));
    assert!(
        fixture
            .actions()
            .await?
            .iter()
            .any(|one| one == "grant.refresh_reuse")
    );
    Ok(())
}

#[tokio::test]
async fn fapi_a_token_that_is_not_rotated_stays_and_lives_on() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let grant = granted(&fixture, &ada, None).await?;
    let stays = |presented: &str| RefreshRequest {
        rotate: false,
        network: "198.51.100.1".to_owned(),
        ..refresh(presented, "x")
    };
    let lives = RefreshLives::default();
    for round in 1..=3 {
        fixture.set_clock(START + round * (lives.idle_ms - 1));
        let kept = fixture.registry.refresh_grant(&stays("r0")).await?;
        assert_eq!(name(&kept), "kept", "{round}");
    }
    let used = fixture.registry.find_grant(&grant.id).await?;
    assert_eq!(used.last_used_at, fixture.now());
    assert_eq!(used.network, "198.51.100.1");
    assert_eq!(used.sign_in, grant.sign_in);
    // Nobody has the successor that was brought along.
    assert_eq!(refreshed(&fixture, "x", "y").await?, "unknown");
    // A client that rotates from now on goes on with it, and then it is used.
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "rotated");
    fixture.set_clock(fixture.now() + lives.grace_ms);
    let gone = fixture.registry.refresh_grant(&stays("r0")).await?;
    assert_eq!(name(&gone), "reused");
    // What was silent for too long is over.
    grant_of(&fixture, &ada, "second", "q0", None).await?;
    fixture.set_clock(fixture.now() + lives.idle_ms);
    assert_eq!(
        name(&fixture.registry.refresh_grant(&stays("q0")).await?),
        "idle"
    );
    Ok(())
}

#[tokio::test]
async fn ac_085_an_older_token_is_reuse_even_within_the_grace() -> Result<()> {
    let (fixture, ada) = ready().await?;
    granted(&fixture, &ada, None).await?;
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "rotated");
    assert_eq!(refreshed(&fixture, "r1", "r2").await?, "rotated");
    assert_eq!(refreshed(&fixture, "r0", "x").await?, "reused");
    assert_eq!(refreshed(&fixture, "r2", "r3").await?, "revoked");
    Ok(())
}

#[tokio::test]
async fn ac_088_ac_090_a_foreign_client_and_wider_scopes_get_nothing() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    granted(&fixture, &ada, None).await?;
    let foreign = RefreshRequest {
        client_id: "other".to_owned(),
        ..refresh("r0", "x")
    };
    assert_eq!(
        name(&registry.refresh_grant(&foreign).await?),
        "other_client"
    );
    assert!(
        fixture
            .actions()
            .await?
            .iter()
            .any(|one| one == "grant.refresh_refused")
    );
    let wider = RefreshRequest {
        scopes: Some(scopes("openid email")),
        ..refresh("r0", "x")
    };
    let RefreshOutcome::Refused(refusal) = registry.refresh_grant(&wider).await? else {
        panic!("wider")
    };
    assert_eq!(refusal.oauth_error(), "invalid_scope");
    let narrower = RefreshRequest {
        scopes: Some(scopes("openid")),
        ..refresh("r0", "r1")
    };
    let RefreshOutcome::Rotated {
        scopes: given,
        grant,
    } = registry.refresh_grant(&narrower).await?
    else {
        panic!("narrower")
    };
    assert_eq!(
        (given, grant.scopes),
        (scopes("openid"), scopes("openid profile"))
    );
    // The family keeps what was granted (S23).
    let RefreshOutcome::Rotated { scopes: given, .. } =
        registry.refresh_grant(&refresh("r1", "r2")).await?
    else {
        panic!("all of it")
    };
    assert_eq!(given, scopes("openid profile"));
    Ok(())
}

#[tokio::test]
async fn ac_089_idle_and_absolute_ages_end_a_family() -> Result<()> {
    let (fixture, ada) = ready().await?;
    granted(&fixture, &ada, None).await?;
    grant_of(&fixture, &ada, "second", "q0", None).await?;
    fixture.set_clock(START + 7 * DAY_MS - 1);
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "rotated");
    fixture.set_clock(START + 7 * DAY_MS + 1_000);
    assert_eq!(refreshed(&fixture, "q0", "q1").await?, "idle");
    for day in 2..5 {
        // A moment before the token of a week ago is idle.
        fixture.set_clock(START + day * 7 * DAY_MS - day);
        let (old, new) = (format!("r{}", day - 1), format!("r{day}"));
        assert_eq!(refreshed(&fixture, &old, &new).await?, "rotated");
    }
    fixture.set_clock(START + 30 * DAY_MS + 1_000);
    assert_eq!(refreshed(&fixture, "r4", "r5").await?, "expired");
    Ok(())
}

#[tokio::test]
async fn a_used_code_of_somebody_else_takes_nothing_from_its_client() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    let grant = grant_of(&fixture, &ada, "code", "r0", None).await?;
    let before = fixture.actions().await?.len();
    for stranger in ["web", "nobody"] {
        let request = CodeRequest {
            client_id: stranger.to_owned(),
            ..exchange("code", "x")
        };
        let outcome = registry.redeem_code(&request).await?;
        assert_eq!(outcome, CodeOutcome::Refused(GrantRefusal::OtherClient));
    }
    assert_eq!(registry.find_grant(&grant.id).await?.revoked_at, None);
    assert_eq!(fixture.actions().await?.len(), before, "nothing happened");
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "rotated");
    // Its own client is not so lucky (AC-053).
    registry.redeem_code(&exchange("code", "x")).await?;
    assert_eq!(refreshed(&fixture, "r1", "r2").await?, "revoked");
    Ok(())
}

#[tokio::test]
async fn what_is_denied_stays_so_until_no_token_is_taken_any_more() -> Result<()> {
    // An access token of an hour is taken for half a minute more, and another node may sign with the
    // key before for a minute.
    const LAST_MS: i64 = 3_600_000 + 60_000 + 30_000;
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let session = super::people::session(&fixture, &ada, "one").await?;
    let alone = granted(&fixture, &ada, None).await?;
    grant_of(&fixture, &ada, "c", "q0", Some(&session.id)).await?;
    registry
        .revoke_grant(actor, &alone.id, EndReason::EndedByUser)
        .await?;
    registry
        .end_all_sessions(actor, &ada.id, EndReason::EndedByUser)
        .await?;
    registry
        .deny_access_token(actor, "one", START + 900_000)
        .await?;
    let denied = async || -> Result<(bool, bool, bool)> {
        Ok((
            registry.is_access_denied("", "", &alone.id).await?,
            registry.is_access_denied("", &session.id, "").await?,
            registry.is_access_denied("one", "", "").await?,
        ))
    };
    fixture.set_clock(START + 900_000 + 29_999);
    assert_eq!(denied().await?, (true, true, true));
    fixture.set_clock(START + LAST_MS - 1);
    assert_eq!(denied().await?, (true, true, false));
    fixture.set_clock(START + LAST_MS);
    assert_eq!(denied().await?, (false, false, false));
    // A token that says it is over is taken still: it can be denied.
    registry
        .deny_access_token(actor, "late", START + LAST_MS - 29_999)
        .await?;
    assert!(registry.is_access_denied("late", "", "").await?);
    Ok(())
}
