//! Clients and consents, devices, revocation, pushed requests, and what is pruned.

use anyhow::Result;
use keywright_domain::SecretText;
use keywright_domain::api_keys::DAY_MS;
use keywright_domain::people::{
    AuthMethod, ClientType, EndReason, GrantRefusal, NewClient, RefreshLives, Session,
};
use keywright_registry::AuditQuery;
use keywright_registry::outbox::Channel;
use keywright_registry::people::{
    CodeOutcome, DeviceOutcome, DevicePoll, Logout, NamedResource, NewDeviceRequest,
    NewRegistrationToken, PeopleRetention, User,
};

use super::START;
use super::grants::{desktop, exchange, grant_of, granted, new_code, ready, refreshed, scopes};
use super::people::{code_of, count, session, state_of, token};

#[tokio::test]
async fn a_client_has_two_secrets_while_one_is_replaced() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let server = NewClient {
        client_type: ClientType::Confidential,
        auth_method: AuthMethod::ClientSecretBasic,
        ..desktop()
    };
    let missing = registry.add_client(actor, "web", &server, None).await;
    assert_eq!(code_of(missing), "invalid_client_metadata");
    registry
        .add_client(actor, "web", &server, Some(&token("s1")))
        .await?;
    let again = registry
        .add_client(actor, "web", &server, Some(&token("s1")))
        .await;
    assert_eq!(code_of(again), "client_id_taken");
    registry
        .rotate_client_secret(actor, "web", &token("s2"), 1_000)
        .await?;
    let working = async || -> Result<Vec<_>> {
        let secrets = registry.list_client_secrets("web").await?;
        Ok(secrets.into_iter().map(|secret| secret.digest).collect())
    };
    assert_eq!(working().await?, [token("s2"), token("s1")]);
    registry
        .rotate_client_secret(actor, "web", &token("s3"), 1_000)
        .await?;
    assert_eq!(working().await?, [token("s3"), token("s2")]);
    fixture.set_clock(START + 1_000);
    assert_eq!(working().await?, [token("s3")]);
    let public = registry.change_client(actor, "web", &desktop()).await;
    assert_eq!(code_of(public), "invalid_client_metadata");
    let renamed = NewClient {
        name: "Site".to_owned(),
        ..server
    };
    let changed = registry.change_client(actor, "web", &renamed).await?;
    assert_eq!(*registry.find_client("web").await?, changed);
    registry.add_client(actor, "app", &desktop(), None).await?;
    let first = registry.list_clients("", None, 1).await?;
    let second = registry
        .list_clients("", first.next_cursor.as_deref(), 1)
        .await?;
    assert_eq!(
        (first.items[0].id.as_str(), second.items[0].id.as_str()),
        ("app", "web")
    );
    assert!(second.next_cursor.is_none());
    assert_eq!(registry.list_clients("SIT", None, 9).await?.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn ac_093_a_disabled_person_or_client_gets_nothing() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let grant = granted(&fixture, &ada, None).await?;
    registry
        .issue_code(actor, &new_code(&ada, "waiting", None))
        .await?;
    registry.disable_user(actor, &ada.id, "left").await?;
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "revoked");
    assert!(
        registry.is_access_denied("", "", &grant.id).await?,
        "denied at once"
    );
    let waiting = registry.redeem_code(&exchange("waiting", "x")).await?;
    assert_eq!(waiting, CodeOutcome::Refused(GrantRefusal::UserDisabled));
    registry.enable_user(actor, &ada.id).await?;
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "revoked");
    grant_of(&fixture, &ada, "second", "q0", None).await?;
    assert_eq!(registry.disable_client(actor, "app").await?, 1);
    assert_eq!(refreshed(&fixture, "q0", "q1").await?, "client_disabled");
    registry.enable_client(actor, "app").await?;
    assert_eq!(refreshed(&fixture, "q0", "q1").await?, "revoked");
    Ok(())
}

#[tokio::test]
async fn ac_094_ac_095_revocation_ends_the_grant_and_denies_its_access_tokens() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    let actor = &fixture.actor.clone().at("203.0.113.9".parse()?);
    let grant = granted(&fixture, &ada, None).await?;
    assert!(
        !registry
            .revoke_refresh_token(actor, &token("unknown"), "app")
            .await?
    );
    assert!(
        !registry
            .revoke_refresh_token(actor, &token("r0"), "other")
            .await?
    );
    assert_eq!(
        registry
            .find_grant_of_token(&token("r0"))
            .await?
            .expect("it")
            .revoked_at,
        None
    );
    assert!(
        registry
            .revoke_refresh_token(actor, &token("r0"), "app")
            .await?
    );
    // AC-184: from where it was asked, once, and not twice where the event says it itself.
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let trail = registry.list_audit_events(query).await?.items;
    let networks = |action: &str| -> Vec<String> {
        let event = trail.iter().find(|event| event.action == action);
        let details = event.map(|event| event.details.clone()).unwrap_or_default();
        let named = details.into_iter().filter(|(name, _)| name == "network");
        named.map(|(_, value)| value).collect()
    };
    assert_eq!(networks("grant.revoked"), ["203.0.113.9"]);
    assert_eq!(networks("grant.code_redeemed"), ["192.0.2.1"]);
    assert_eq!(networks("user.created"), Vec::<String>::new());
    assert!(registry.is_access_denied("", "", &grant.id).await?);
    assert!(
        !registry
            .revoke_grant(actor, &grant.id, EndReason::EndedByUser)
            .await?,
        "again"
    );
    registry
        .deny_access_token(actor, "one", START + 900_000)
        .await?;
    registry
        .deny_access_token(actor, "gone", START - 30_000)
        .await?;
    let denied = registry.list_denials(None, 1).await?;
    let rest = registry
        .list_denials(denied.next_cursor.as_deref(), 10)
        .await?
        .items;
    assert_eq!(denied.items.len() + rest.len(), 2);
    assert!(registry.is_access_denied("one", "", "").await?);
    fixture.set_clock(START + 930_000);
    assert!(
        !registry.is_access_denied("one", "", "").await?,
        "it has expired by itself"
    );
    Ok(())
}

#[tokio::test]
async fn ending_a_session_ends_the_grants_given_in_it() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let first = session(&fixture, &ada, "one").await?;
    let second = session(&fixture, &ada, "two").await?;
    grant_of(&fixture, &ada, "c1", "r0", Some(&first.id)).await?;
    grant_of(&fixture, &ada, "c2", "q0", Some(&second.id)).await?;
    grant_of(&fixture, &ada, "c3", "p0", None).await?;
    assert_eq!(*registry.list_session_clients(&first.id).await?, ["app"]);
    registry
        .issue_code(actor, &new_code(&ada, "open", Some(&first.id)))
        .await?;
    let ended = registry
        .end_other_sessions(actor, &ada.id, &second.id)
        .await?;
    assert_eq!(
        (ended.sessions.as_slice(), ended.grants),
        (std::slice::from_ref(&first.id), 2)
    );
    assert_eq!(refreshed(&fixture, "p0", "p1").await?, "revoked");
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "revoked");
    assert_eq!(refreshed(&fixture, "q0", "q1").await?, "rotated");
    let open = registry.redeem_code(&exchange("open", "x")).await?;
    assert_eq!(open, CodeOutcome::Refused(GrantRefusal::SessionEnded));
    let all = registry
        .end_all_sessions(actor, &ada.id, EndReason::EndedByAdmin)
        .await?;
    assert_eq!((all.sessions.len(), all.grants), (1, 1));
    assert_eq!(refreshed(&fixture, "q1", "q2").await?, "revoked");
    Ok(())
}

#[tokio::test]
async fn consent_is_remembered_added_to_and_taken_back_with_its_grants() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    registry
        .give_consent(actor, &ada.id, "app", None, &scopes("openid"))
        .await?;
    let both = registry
        .give_consent(actor, &ada.id, "app", None, &scopes("email"))
        .await?;
    assert_eq!(both.scopes, scopes("openid email"));
    granted(&fixture, &ada, None).await?;
    assert_eq!(
        registry.list_consents(&ada.id, None, 10).await?.items,
        [both]
    );
    let mut removed = Vec::new();
    for _ in 0..2 {
        let ended = registry.revoke_consent(actor, &ada.id, "app").await?;
        removed.push(ended.expect("it had something").grants);
    }
    assert_eq!(removed, [1, 0], "again changes nothing");
    assert_eq!(super::people::count(&fixture, "consent.revoked").await?, 1);
    assert_eq!(registry.revoke_consent(actor, &ada.id, "none").await?, None);
    assert_eq!(registry.find_consent(&ada.id, "app").await?, None);
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "revoked");
    let anew = registry
        .give_consent(actor, &ada.id, "app", None, &scopes("email"))
        .await?;
    assert_eq!(anew.scopes, scopes("email"), "what was taken back stays so");
    Ok(())
}

/// A client that is told of logouts, in a session of ada's.
async fn told(fixture: &super::Fixture, ada: &User) -> Result<Session> {
    let address = Some("https://app.example.com/logout".to_owned());
    let new = NewClient {
        backchannel_logout_uri: address,
        ..desktop()
    };
    fixture
        .registry
        .change_client(&fixture.actor, "app", &new)
        .await?;
    let session = session(fixture, ada, "one").await?;
    grant_of(fixture, ada, "c", "r0", Some(&session.id)).await?;
    Ok(session)
}

async fn logouts(fixture: &super::Fixture) -> Result<Vec<String>> {
    let (messages, _) = fixture
        .registry
        .list_messages(Channel::Logout, "app", None, 10)
        .await?;
    Ok(messages.into_iter().map(|one| one.event_id).collect())
}

#[tokio::test]
async fn s50_a_session_ends_with_the_message_of_it_or_not_at_all() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada_id = ada.id.as_str();
    let one = told(&fixture, &ada).await?;
    let end = async || {
        registry
            .end_session(actor, ada_id, &one.id, EndReason::SignedOut)
            .await
    };
    // Who is to be told cannot be read, or it cannot be written: the session goes on, and so does its
    // token. Nobody is forgotten.
    for (broken, mended) in [
        (
            "ALTER TABLE session_clients RENAME TO away",
            "ALTER TABLE away RENAME TO session_clients",
        ),
        (
            "ALTER TABLE outbox RENAME TO away",
            "ALTER TABLE away RENAME TO outbox",
        ),
    ] {
        let mut stranger = fixture.stranger().await?;
        sqlx::query(broken).execute(&mut stranger).await?;
        assert!(end().await.is_err(), "{broken}");
        sqlx::query(mended).execute(&mut stranger).await?;
        assert_eq!(state_of(&fixture, "one").await?, Some("active"), "{broken}");
        assert!(
            !registry.is_access_denied("", &one.id, "").await?,
            "{broken}"
        );
    }
    assert!(logouts(&fixture).await?.is_empty());
    assert_eq!(end().await?.told, 1);
    assert_eq!(end().await?.told, 0, "again");
    assert_eq!(logouts(&fixture).await?, [format!("logout_{}", one.id)]);
    let claimed = registry.claim_messages(&[Channel::Logout], 10).await?;
    let said: Logout = serde_json::from_slice(&claimed[0].body)?;
    assert_eq!((said.user_id.as_str(), &said.session_id), (ada_id, &one.id));
    Ok(())
}

#[tokio::test]
async fn s59_consent_is_for_the_resource_it_was_given_for() -> Result<()> {
    const API: &str = "https://api.example.com";
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let allowed = async |resource: Option<&str>| -> Result<Option<String>> {
        let found = registry.find_consented_scopes(&ada.id, "app", resource);
        Ok(found.await?.map(|scopes| scopes.to_string()))
    };
    assert_eq!(allowed(None).await?, None);
    for (resource, given) in [
        (Some(API), "openid"),
        (None, "email"),
        (Some(API), "profile"),
    ] {
        let given = scopes(given);
        registry
            .give_consent(actor, &ada.id, "app", resource, &given)
            .await?;
    }
    assert_eq!(allowed(None).await?.as_deref(), Some("email"));
    assert_eq!(allowed(Some(API)).await?.as_deref(), Some("openid profile"));
    assert_eq!(allowed(Some("https://other.example.com")).await?, None);
    // One line on the person's page, with everything.
    let all = registry.list_consents(&ada.id, None, 10).await?.items;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].scopes, scopes("email openid profile"));
    registry.revoke_consent(actor, &ada.id, "app").await?;
    assert_eq!(
        (allowed(None).await?, allowed(Some(API)).await?),
        (None, None)
    );
    registry
        .give_consent(actor, &ada.id, "app", None, &scopes("openid"))
        .await?;
    assert_eq!(
        allowed(Some(API)).await?,
        None,
        "what was taken back stays so"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_let_in_and_not_fetched_yet_ends_with_the_access() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    // With a consent that is remembered and without one: devices are let in without.
    for (round, consent) in [("a", true), ("b", false)] {
        let name = |what: &str| format!("{what} {round}");
        if consent {
            registry
                .give_consent(actor, &ada.id, "app", None, &scopes("openid"))
                .await?;
        }
        let code = new_code(&ada, &name("code"), None);
        registry.issue_code(actor, &code).await?;
        let request = registry.start_device(&device(&name("device"))).await?;
        registry
            .decide_device(actor, &request.user_code, &ada.id, None, true)
            .await?;
        let waiting = registry.start_device(&device(&name("waiting"))).await?;
        registry.revoke_consent(actor, &ada.id, "app").await?;
        assert_eq!(
            registry.redeem_code(&exchange(&name("code"), "x")).await?,
            CodeOutcome::Refused(GrantRefusal::Unknown)
        );
        assert_eq!(
            registry.poll_device(&poll(&name("device"), "x")).await?,
            DeviceOutcome::Refused(GrantRefusal::Unknown)
        );
        // What nobody decided is nobody's yet.
        registry.find_device(&waiting.user_code).await?;
        let last = fixture.actions().await?.pop();
        assert_eq!(last.as_deref(), Some("consent.revoked"));
    }
    // Nothing to take back is nothing that happened.
    let before = fixture.actions().await?.len();
    let nothing = registry.revoke_consent(actor, &ada.id, "app").await?;
    assert!(nothing.is_none_or(|ended| ended.grants == 0 && ended.told == 0));
    assert_eq!(fixture.actions().await?.len(), before);
    Ok(())
}

#[tokio::test]
async fn s59_a_poll_that_names_another_resource_changes_nothing() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let asked = NewDeviceRequest {
        resource: Some("https://api.example.com".to_owned()),
        ..device("d")
    };
    let request = registry.start_device(&asked).await?;
    registry
        .decide_device(actor, &request.user_code, &ada.id, None, true)
        .await?;
    let named = |resource: NamedResource| DevicePoll {
        resource,
        ..poll("d", "r")
    };
    for other in ["https://other.example.com", ""] {
        let resource = match other {
            "" => NamedResource::Own,
            other => NamedResource::Other(other.to_owned()),
        };
        let outcome = registry.poll_device(&named(resource)).await?;
        assert_eq!(outcome, DeviceOutcome::OtherResource);
    }
    let right = named(NamedResource::Other("https://api.example.com".to_owned()));
    let outcome = registry.poll_device(&right).await?;
    let DeviceOutcome::Redeemed(grant) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        grant.grant.resource.as_deref(),
        Some("https://api.example.com")
    );
    Ok(())
}

fn device(code: &str) -> NewDeviceRequest {
    NewDeviceRequest {
        digest: token(code),
        client_id: "app".to_owned(),
        scopes: scopes("openid"),
        resource: None,
        user_agent: "Television".to_owned(),
        network: "192.0.2.7".to_owned(),
        interval_ms: 5_000,
        lifetime_ms: 600_000,
    }
}

fn poll(code: &str, refresh: &str) -> DevicePoll {
    DevicePoll {
        digest: token(code),
        client_id: "app".to_owned(),
        resource: NamedResource::Unnamed,
        dpop_jkt: None,
        refresh_token: token(refresh),
        lives: RefreshLives::default(),
    }
}

#[tokio::test]
async fn s55_s56_a_device_waits_and_gets_its_tokens_once() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let request = registry.start_device(&device("d")).await?;
    assert_eq!(
        registry.poll_device(&poll("d", "x")).await?,
        DeviceOutcome::Pending
    );
    let hasty = registry.poll_device(&poll("d", "x")).await?;
    assert_eq!(hasty, DeviceOutcome::SlowDown(10_000));
    fixture.set_clock(START + 10_000);
    assert_eq!(
        registry.poll_device(&poll("d", "x")).await?,
        DeviceOutcome::Pending
    );
    let foreign = DevicePoll {
        client_id: "other".to_owned(),
        ..poll("d", "x")
    };
    let foreign = registry.poll_device(&foreign).await?;
    assert_eq!(foreign, DeviceOutcome::Refused(GrantRefusal::OtherClient));
    let shown = registry.find_device(&request.user_code).await?;
    assert_eq!(shown.user_agent, "Television");
    registry
        .decide_device(actor, &request.user_code, &ada.id, None, true)
        .await?;
    let again = registry
        .decide_device(actor, &request.user_code, &ada.id, None, false)
        .await;
    assert_eq!(code_of(again), "user_code_invalid");
    let mut tasks = Vec::new();
    for number in 0..50 {
        let (registry, asked) = (registry.clone(), poll("d", &format!("r{number}")));
        tasks.push(tokio::spawn(
            async move { registry.poll_device(&asked).await },
        ));
    }
    let mut redeemed = 0;
    for task in tasks {
        redeemed += usize::from(matches!(task.await??, DeviceOutcome::Redeemed(_)));
    }
    assert_eq!(redeemed, 1);
    let denied = registry.start_device(&device("e")).await?;
    registry
        .decide_device(actor, &denied.user_code, &ada.id, None, false)
        .await?;
    assert_eq!(
        registry.poll_device(&poll("e", "x")).await?,
        DeviceOutcome::Denied
    );
    let late = registry.start_device(&device("f")).await?;
    fixture.set_clock(START + 10_000 + 600_000);
    assert_eq!(
        registry.poll_device(&poll("f", "x")).await?,
        DeviceOutcome::Expired
    );
    assert_eq!(
        code_of(registry.find_device(&late.user_code).await),
        "user_code_invalid"
    );
    Ok(())
}

#[tokio::test]
async fn ac_117_s56_what_was_let_in_before_another_password_gets_nothing() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let hash = SecretText::new("$new".to_owned());
    for (code, at) in [("before", 1_000), ("after", 3_000)] {
        fixture.set_clock(START + at);
        let request = registry.start_device(&device(code)).await?;
        registry
            .decide_device(actor, &request.user_code, &ada.id, None, true)
            .await?;
        if code == "before" {
            fixture.set_clock(START + 2_000);
            registry
                .set_password_hash(actor, &ada.id, Some(&hash), None)
                .await?;
        }
    }
    let refused = registry.poll_device(&poll("before", "x")).await?;
    assert_eq!(refused, DeviceOutcome::Refused(GrantRefusal::Revoked));
    let given = registry.poll_device(&poll("after", "y")).await?;
    assert!(matches!(given, DeviceOutcome::Redeemed(_)), "{given:?}");
    Ok(())
}

#[tokio::test]
async fn s57_a_pushed_request_is_taken_once_by_its_client() -> Result<()> {
    let (fixture, _) = ready().await?;
    let registry = &fixture.registry;
    registry
        .push_request(&token("uri"), "app", "scope=openid", 60_000)
        .await?;
    assert_eq!(
        registry.take_pushed_request(&token("uri"), "other").await?,
        None
    );
    let taken = registry.take_pushed_request(&token("uri"), "app").await?;
    assert_eq!(taken.expect("the request").parameters, "scope=openid");
    assert_eq!(
        registry.take_pushed_request(&token("uri"), "app").await?,
        None
    );
    registry
        .push_request(&token("late"), "app", "", 60_000)
        .await?;
    fixture.set_clock(START + 60_000);
    assert_eq!(
        registry.take_pushed_request(&token("late"), "app").await?,
        None
    );
    Ok(())
}

/// Everybody can push in a public client's name: what they push is not kept for ever.
#[tokio::test]
async fn s57_the_trail_has_what_clients_pushed_that_proved_themselves() -> Result<()> {
    let (fixture, _) = ready().await?;
    let registry = &fixture.registry;
    for (id, client_type, events) in [
        ("public", ClientType::Public, 0),
        ("bank", ClientType::Confidential, 1),
    ] {
        let mut new = desktop();
        let is_public = client_type == ClientType::Public;
        new.client_type = client_type;
        if !is_public {
            new.auth_method = AuthMethod::ClientSecretBasic;
        }
        let secret = (!is_public).then(|| token("secret"));
        registry
            .add_client(&fixture.actor, id, &new, secret.as_ref())
            .await?;
        let uri = token(id);
        registry.push_request(&uri, id, "", 60_000).await?;
        let taken = registry.take_pushed_request(&uri, id).await?;
        assert!(taken.is_some());
        for action in ["request.pushed", "request.consumed"] {
            assert_eq!(count(&fixture, action).await?, events, "{id} {action}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn ac_206_what_is_over_goes_in_batches_and_what_is_not_stays() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let registry = &fixture.registry;
    for number in 0..5 {
        let code = format!("code {number}");
        registry
            .issue_code(&fixture.actor, &new_code(&ada, &code, None))
            .await?;
    }
    let grant = granted(&fixture, &ada, None).await?;
    registry.start_device(&device("d")).await?;
    registry
        .push_request(&token("uri"), "app", "", 60_000)
        .await?;
    registry
        .deny_access_token(&fixture.actor, "one", START + 900_000)
        .await?;
    let retention = PeopleRetention {
        batch: 2,
        ..PeopleRetention::default()
    };
    let none = registry.prune_people(&retention).await?;
    assert_eq!((none.deleted, none.more), (0, false));
    fixture.set_clock(START + 2 * DAY_MS);
    let first = registry.prune_people(&retention).await?;
    // Two codes, the device, the pushed request, the denial.
    assert_eq!((first.deleted, first.more), (5, true));
    let second = registry.prune_people(&retention).await?;
    assert_eq!((second.deleted, second.more), (2, true));
    let third = registry.prune_people(&retention).await?;
    assert_eq!((third.deleted, third.more), (2, true));
    assert_eq!(registry.prune_people(&retention).await?.deleted, 0);
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "rotated");
    fixture.set_clock(START + 121 * DAY_MS);
    let last = registry.prune_people(&retention).await?;
    assert_eq!(last.deleted, 3, "two tokens and their grant");
    assert_eq!(
        code_of(registry.find_grant(&grant.id).await),
        "grant_not_found"
    );
    Ok(())
}

#[tokio::test]
async fn s60_what_a_client_was_given_ends_with_it_and_its_id_is_free() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let series = async || -> Result<String> { Ok(registry.find_client("app").await?.own_tokens()) };
    let denied = async |gid: &str| registry.is_access_denied("", "", gid).await;
    // All that it was given ends, and it goes on.
    let grant = granted(&fixture, &ada, None).await?;
    registry
        .issue_code(actor, &new_code(&ada, "waiting", None))
        .await?;
    let own = series().await?;
    assert!(!denied(&own).await?);
    assert_eq!(registry.end_client_tokens(actor, "app").await?, 1);
    assert!(denied(&own).await? && denied(&grant.id).await?);
    assert_eq!(refreshed(&fixture, "r0", "r1").await?, "revoked");
    let waiting = registry.redeem_code(&exchange("waiting", "x")).await?;
    assert!(matches!(waiting, CodeOutcome::Refused(_)), "{waiting:?}");
    let next = series().await?;
    assert!(next != own && !denied(&next).await?);
    // Disabled and enabled again, its own tokens of before stay ended.
    registry.disable_client(actor, "app").await?;
    registry.enable_client(actor, "app").await?;
    assert!(denied(&next).await? && !denied(&series().await?).await?);

    registry
        .give_consent(actor, &ada.id, "app", None, &scopes("openid"))
        .await?;
    grant_of(&fixture, &ada, "second", "q0", None).await?;
    let last = series().await?;
    assert_eq!(registry.remove_client(actor, "app").await?, 1);
    assert_eq!(
        code_of(registry.find_client("app").await),
        "client_not_found"
    );
    assert_eq!(
        code_of(registry.remove_client(actor, "app").await),
        "client_not_found"
    );
    assert!(denied(&last).await?);
    assert_eq!(registry.find_consent(&ada.id, "app").await?, None);
    assert_ne!(refreshed(&fixture, "q0", "q1").await?, "rotated");
    // Another one under the id has nothing of it, and nothing of it is denied.
    registry.add_client(actor, "app", &desktop(), None).await?;
    assert!(!denied(&series().await?).await?);
    assert_ne!(refreshed(&fixture, "q0", "q1").await?, "rotated");
    Ok(())
}

#[tokio::test]
async fn a_change_made_of_what_a_client_was_is_refused_when_it_is_not_so_any_more() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let seen = registry.add_client(actor, "app", &desktop(), None).await?;
    let named = |name: &str| NewClient {
        name: name.to_owned(),
        ..desktop()
    };
    registry
        .change_client_since(actor, "app", &named("One"), Some(&seen))
        .await?;
    let late = registry
        .change_client_since(actor, "app", &named("Two"), Some(&seen))
        .await;
    assert_eq!(code_of(late), "changed_meanwhile");
    assert_eq!(registry.find_client("app").await?.settings.name, "One");
    Ok(())
}

#[tokio::test]
async fn s60_a_registration_token_makes_so_many_clients_and_no_more() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let new = NewRegistrationToken {
        digest: token("initial"),
        note: "build".to_owned(),
        lifetime_ms: 60_000,
        max_uses: 3,
    };
    let made = registry.add_registration_token(actor, &new).await?;
    // However many ask at once.
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (registry, id) = (registry.clone(), format!("dyn-{number}"));
        tasks.push(tokio::spawn(async move {
            let at = std::net::Ipv4Addr::LOCALHOST.into();
            registry
                .register_client(at, &token("initial"), (&id, &desktop()), None)
                .await
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await?);
    }
    let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (3, 17));
    for refused in bad {
        assert_eq!(code_of(refused), "registration_token_not_found");
    }
    let client = good.into_iter().next().expect("three")?;
    assert_eq!(client.registered_by.as_ref(), Some(&made.id));
    assert_eq!(*registry.find_client(&client.id).await?, client);
    let page = registry.list_registration_tokens(None, 10).await?;
    assert_eq!(page.items[0].uses, 3);
    let of = |digest: &str| NewRegistrationToken {
        digest: token(digest),
        ..new.clone()
    };
    // What is refused uses nothing up; what ended or is too old is refused.
    let second = registry
        .add_registration_token(actor, &of("second"))
        .await?;
    let taken = registry
        .register_client(
            "192.0.2.9".parse()?,
            &token("second"),
            (&client.id, &desktop()),
            None,
        )
        .await;
    assert_eq!(code_of(taken), "client_id_taken");
    let open = registry.find_registration_token(&token("second")).await?;
    assert_eq!((open.uses, open.id.as_str()), (0, second.id.as_str()));
    registry.end_registration_token(actor, &second.id).await?;
    let again = registry.end_registration_token(actor, &second.id).await?;
    assert_eq!(again.ended_at, Some(START));
    let ended = registry.find_registration_token(&token("second")).await;
    assert_eq!(code_of(ended), "registration_token_not_found");
    registry.add_registration_token(actor, &of("late")).await?;
    fixture.set_clock(START + 60_000);
    let late = registry.find_registration_token(&token("late")).await;
    assert_eq!(code_of(late), "registration_token_not_found");
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let trail = registry.list_audit_events(query).await?.items;
    let by = format!("registration-token:{}", made.id);
    assert_eq!(trail.iter().filter(|one| one.actor == by).count(), 3);
    Ok(())
}
