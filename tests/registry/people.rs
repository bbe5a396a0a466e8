//! Users, roles, sessions, second factors, identity providers and signing keys.

use anyhow::Result;
use keywright_domain::SecretText;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Owner, OwnerKind};
use keywright_domain::people::{
    Email, EndReason, KeyState, LinkRefusal, RoleName, Sealed, Session, SessionLives, SessionState,
    TokenDigest,
};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_registry::people::{
    IdentityClaims, IdentityOutcome, LoginOutcome, NewInvitation, NewLogin, NewPasskey,
    NewProvider, NewSession, NewSignIn, NewSigningKey, NewUser, PasskeyUse, PeopleRetention, User,
    UserChange, UserOrder, UserQuery,
};
use keywright_registry::{RegistryError, VerifyRequest};

use super::{Fixture, START, wish};

const MINUTE_MS: i64 = 60_000;

pub(crate) fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

pub(crate) fn token(text: &str) -> TokenDigest {
    TokenDigest::of(&SecretText::new(text.to_owned()))
}

pub(crate) fn code_of<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> &'static str {
    result.expect_err("refused").code()
}

pub(crate) async fn person(fixture: &Fixture, name: &str, roles: &[&str]) -> Result<User> {
    let new = NewUser {
        name: name.to_owned(),
        email: Some(Email::new(&format!("{name}@example.com"))?),
        email_verified: true,
        roles: roles.iter().map(|name| role(name)).collect(),
        password_hash: Some(SecretText::new("$argon2id$canary".to_owned())),
    };
    Ok(fixture.registry.create_user(&fixture.actor, &new).await?)
}

pub(crate) async fn session(fixture: &Fixture, user: &User, cookie: &str) -> Result<Session> {
    let new = NewSession {
        digest: token(cookie),
        user_id: user.id.clone(),
        acr: "1".to_owned(),
        amr: "pwd".to_owned(),
        user_agent: "Firefox\u{7}".to_owned(),
        network: "192.0.2.1".to_owned(),
        lives: SessionLives::default(),
    };
    Ok(fixture.registry.start_session(&fixture.actor, &new).await?)
}

async fn state_of(fixture: &Fixture, cookie: &str) -> Result<Option<&'static str>> {
    let found = fixture.registry.find_session(&token(cookie)).await?;
    Ok(found.map(|(_, state)| state.code()))
}

async fn count(fixture: &Fixture, action: &str) -> Result<usize> {
    let actions = fixture.actions().await?;
    Ok(actions.iter().filter(|one| *one == action).count())
}

#[tokio::test]
async fn a_user_has_one_row_one_event_and_an_email_of_their_own() -> Result<()> {
    let fixture = super::fixture().await?;
    let ada = person(&fixture, "Ada", &["owner"]).await?;
    assert_eq!(
        ada.email.as_ref().map(Email::as_str),
        Some("ada@example.com")
    );
    assert_eq!(ada.permissions.to_string(), "*:*");
    assert_eq!(fixture.registry.find_user(&ada.id).await?, ada);
    assert_eq!(count(&fixture, "user.created").await?, 1);
    let again = person(&fixture, "ADA", &[])
        .await
        .expect_err("the same address");
    assert_eq!(again.downcast::<RegistryError>()?.code(), "email_taken");
    let found = fixture
        .registry
        .find_credentials(&Email::new("ADA@example.com")?)
        .await?;
    let credentials = found.expect("her credentials");
    assert!(credentials.user_id == ada.id && !credentials.needs_totp && !credentials.disabled);
    assert!(!format!("{credentials:?}").contains("canary"));
    let change = UserChange::Email(Some(Email::new("ada@example.org")?), false);
    let ada = fixture
        .registry
        .change_user(&fixture.actor, &ada.id, &change)
        .await?;
    assert!(!ada.email_verified);
    let renamed = UserChange::Name(" Ada L. ".to_owned());
    fixture
        .registry
        .change_user(&fixture.actor, &ada.id, &renamed)
        .await?;
    assert_eq!(
        fixture.registry.find_principal(&ada.id).await?.name,
        "Ada L."
    );
    let unknown = fixture
        .registry
        .set_user_roles(&fixture.actor, &ada.id, &[role("nobody")])
        .await;
    assert_eq!(code_of(unknown), "role_not_found");
    Ok(())
}

#[tokio::test]
async fn the_last_owner_stays_an_owner() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada = person(&fixture, "ada", &["owner", "member"]).await?;
    let bob = person(&fixture, "bob", &["admin"]).await?;
    for refused in [
        registry.disable_user(actor, &ada.id, "").await.map(|_| ()),
        registry.delete_user(actor, &ada.id).await,
        registry
            .set_user_roles(actor, &ada.id, &[role("admin")])
            .await
            .map(|_| ()),
    ] {
        assert_eq!(code_of(refused), "last_owner");
    }
    registry
        .set_user_roles(actor, &bob.id, &[role("owner")])
        .await?;
    registry.disable_user(actor, &bob.id, "on leave").await?;
    // An owner who is disabled cannot help anybody.
    let refused = registry.disable_user(actor, &ada.id, "").await;
    assert_eq!(code_of(refused), "last_owner");
    registry.enable_user(actor, &bob.id).await?;
    registry.delete_user(actor, &ada.id).await?;
    assert_eq!(code_of(registry.find_user(&ada.id).await), "user_not_found");
    let left = registry.find_principal(&ada.id).await?;
    assert!(left.disabled_at.is_some() && left.name == "Deleted person");
    let refused = registry.set_user_roles(actor, &bob.id, &[]).await;
    assert_eq!(code_of(refused), "last_owner");
    Ok(())
}

#[tokio::test]
async fn two_owners_who_leave_at_once_do_not_both_leave() -> Result<()> {
    let fixture = super::fixture().await?;
    let ada = person(&fixture, "ada", &["owner"]).await?;
    let bob = person(&fixture, "bob", &["owner"]).await?;
    let other = fixture.second().await?;
    let (one, two) = tokio::join!(
        fixture.registry.disable_user(&fixture.actor, &ada.id, ""),
        other.disable_user(&fixture.actor, &bob.id, ""),
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    Ok(())
}

fn key_of(user: &User, scopes: &[&str]) -> Result<NewApiKey> {
    Ok(NewApiKey {
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        owner: Some(Owner::new(OwnerKind::Person, &user.id)?),
        creator: Some(user.id.clone()),
        ..wish("of a person")
    })
}

#[tokio::test]
async fn ac_131_a_key_can_do_no_more_than_its_creators_roles_now() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada = person(&fixture, "ada", &["key-admin"]).await?;
    let wide = registry
        .issue_api_key(actor, &key_of(&ada, &["users:write"])?, &fixture.peppers)
        .await;
    assert_eq!(
        wide.expect_err("more than she may").code(),
        "scope_exceeds_creator"
    );
    let issued = fixture
        .issue_as(&key_of(&ada, &["keys:read", "keys:write"])?)
        .await?;
    assert_eq!(needs(&fixture, &issued, "keys:write").await?, "valid");
    registry
        .set_user_roles(actor, &ada.id, &[role("auditor")])
        .await?;
    assert_eq!(
        needs(&fixture, &issued, "keys:write").await?,
        "insufficient_scope"
    );
    assert_eq!(needs(&fixture, &issued, "keys:read").await?, "valid");
    // A role of one's own shrinks for everybody who has it.
    let helper = role("helper");
    let may = |text: &str| ScopeSet::parse(text).unwrap();
    registry
        .define_role(actor, &helper, "", &may("keys:write keys:read"))
        .await?;
    registry
        .set_user_roles(actor, &ada.id, std::slice::from_ref(&helper))
        .await?;
    assert_eq!(needs(&fixture, &issued, "keys:write").await?, "valid");
    registry
        .define_role(actor, &helper, "", &may("keys:read"))
        .await?;
    assert_eq!(
        needs(&fixture, &issued, "keys:write").await?,
        "insufficient_scope"
    );
    assert_eq!(
        code_of(registry.delete_role(actor, &helper).await),
        "role_in_use"
    );
    let owner = registry
        .define_role(actor, &role("owner"), "", &may("keys:read"))
        .await;
    assert_eq!(code_of(owner), "role_built_in");
    registry.set_user_roles(actor, &ada.id, &[]).await?;
    registry.delete_role(actor, &helper).await?;
    assert_eq!(registry.list_roles().await?.len(), 5);
    Ok(())
}

async fn needs(
    fixture: &Fixture,
    issued: &keywright_registry::Issued,
    scope: &str,
) -> Result<&'static str> {
    let requirement = ScopeRequirement::parse(scope)?;
    let request = VerifyRequest {
        presented: issued.plain.text().expose(),
        requirement: Some(&requirement),
        ..VerifyRequest::default()
    };
    Ok(fixture
        .registry
        .verify_api_key(&request, &fixture.peppers)
        .await?
        .code())
}

#[tokio::test]
async fn ac_146_keys_of_a_disabled_person_are_suspended_and_sessions_end() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada = person(&fixture, "ada", &["key-admin"]).await?;
    session(&fixture, &ada, "cookie").await?;
    let issued = fixture.issue_as(&key_of(&ada, &["keys:read"])?).await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    registry.disable_user(actor, &ada.id, "left").await?;
    assert_eq!(fixture.code(&issued).await?, "owner_disabled");
    assert_eq!(state_of(&fixture, "cookie").await?, Some("session_revoked"));
    let refused = session(&fixture, &ada, "later")
        .await
        .expect_err("disabled");
    assert_eq!(refused.downcast::<RegistryError>()?.code(), "user_disabled");
    registry.enable_user(actor, &ada.id).await?;
    assert_eq!(fixture.code(&issued).await?, "valid");
    assert_eq!(state_of(&fixture, "cookie").await?, Some("session_revoked"));
    Ok(())
}

#[tokio::test]
async fn of_fifty_acceptances_of_an_invitation_one_counts() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let invitation = NewInvitation {
        digest: token("link"),
        email: Email::new("new@example.com")?,
        roles: vec![role("member")],
        lifetime_ms: DAY_MS,
    };
    registry.invite_user(actor, &invitation).await?;
    let mut tasks = Vec::new();
    for number in 0..50 {
        let registry = registry.clone();
        tasks.push(tokio::spawn(async move {
            let new = NewUser {
                name: format!("New {number}"),
                email: None,
                email_verified: false,
                roles: vec![RoleName::new("owner")?],
                password_hash: None,
            };
            registry.accept_invitation(&token("link"), &new).await
        }));
    }
    let mut made = Vec::new();
    for task in tasks {
        match task.await? {
            Ok(user) => made.push(user),
            Err(error) => assert_eq!(error.code(), "invitation_invalid"),
        }
    }
    assert_eq!(made.len(), 1);
    // The invitation says what somebody becomes, not the one who accepts it.
    assert_eq!(made[0].roles, [role("member")]);
    let late = NewInvitation {
        digest: token("late"),
        email: Email::new("late@example.com")?,
        ..invitation
    };
    let late = registry.invite_user(actor, &late).await?;
    assert!(registry.find_invitation(&token("late")).await.is_ok());
    fixture.set_clock(START + DAY_MS);
    assert_eq!(
        code_of(registry.find_invitation(&token("late")).await),
        "invitation_invalid"
    );
    registry.withdraw_invitation(actor, &late.id).await?;
    assert_eq!(registry.list_invitations(None, 10).await?.items.len(), 2);
    Ok(())
}

#[tokio::test]
async fn ac_106_a_session_has_two_ages_and_says_expired() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let ada = person(&fixture, "ada", &[]).await?;
    let first = session(&fixture, &ada, "cookie").await?;
    assert_eq!(first.user_agent, "Firefox");
    fixture.set_clock(START + MINUTE_MS - 1);
    assert!(
        !registry.touch_session(&first, "192.0.2.2").await?,
        "once a minute"
    );
    let mut now = START;
    for _ in 0..5 {
        now += 6 * DAY_MS - 1;
        fixture.set_clock(now);
        let (seen, state) = registry.find_session(&token("cookie")).await?.expect("it");
        assert_eq!(state, SessionState::Active);
        assert!(registry.touch_session(&seen, "192.0.2.2").await?);
        assert!(
            !registry.touch_session(&seen, "192.0.2.2").await?,
            "by one request"
        );
    }
    fixture.set_clock(START + 30 * DAY_MS);
    assert_eq!(state_of(&fixture, "cookie").await?, Some("session_expired"));
    let idle = session(&fixture, &ada, "idle").await?;
    fixture.set_clock(START + 37 * DAY_MS);
    assert_eq!(state_of(&fixture, "idle").await?, Some("session_expired"));
    let pruned = registry.prune_people(&PeopleRetention::default()).await?;
    assert_eq!(pruned.expired_sessions, 2);
    let kept = registry
        .list_sessions(&ada.id, false, None, 10)
        .await?
        .items;
    assert!(
        kept.iter()
            .all(|one| one.end_reason == Some(EndReason::Expired))
    );
    let ended = registry
        .end_session(&fixture.actor, &ada.id, &idle.id, EndReason::SignedOut)
        .await?;
    assert!(ended.sessions.is_empty(), "it is over");
    assert_eq!(state_of(&fixture, "idle").await?, Some("session_expired"));
    Ok(())
}

#[tokio::test]
async fn ac_107_ac_108_a_renewed_or_ended_session_leaves_no_good_token() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada = person(&fixture, "ada", &[]).await?;
    let first = session(&fixture, &ada, "before").await?;
    let renewed = registry
        .renew_session(actor, &token("before"), &token("after"), "2", "pwd otp")
        .await?;
    assert_eq!(
        (renewed.id.as_str(), renewed.acr.as_str()),
        (first.id.as_str(), "2")
    );
    assert_eq!(state_of(&fixture, "before").await?, None);
    let again = registry
        .renew_session(actor, &token("before"), &token("x"), "2", "")
        .await;
    assert_eq!(code_of(again), "session_not_found");
    let ended = registry
        .end_session(actor, &ada.id, &first.id, EndReason::SignedOut)
        .await?;
    assert_eq!(ended.sessions, [first.id.clone()]);
    assert_eq!(state_of(&fixture, "after").await?, Some("session_revoked"));
    assert!(registry.is_access_denied("", &first.id, "").await?);
    let foreign = registry
        .end_session(actor, "other", &first.id, EndReason::SignedOut)
        .await;
    assert_eq!(code_of(foreign), "session_not_found");
    Ok(())
}

#[tokio::test]
async fn others_end_and_one_stays_and_pages_go_on_where_they_ended() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada = person(&fixture, "ada", &[]).await?;
    let mut ids = Vec::new();
    for number in 0..7 {
        fixture.set_clock(START + number / 2);
        ids.push(
            session(&fixture, &ada, &format!("cookie {number}"))
                .await?
                .id,
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = registry
            .list_sessions(&ada.id, true, cursor.as_deref(), 3)
            .await?;
        seen.extend(page.items.into_iter().map(|one| one.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    seen.sort();
    let mut all = ids.clone();
    all.sort();
    assert_eq!(seen, all);
    let ended = registry.end_other_sessions(actor, &ada.id, &ids[3]).await?;
    assert_eq!(ended.sessions.len(), 6);
    let left = registry.list_sessions(&ada.id, true, None, 10).await?.items;
    assert_eq!((left.len(), &left[0].id), (1, &ids[3]));
    let again = registry.end_other_sessions(actor, &ada.id, &ids[3]).await?;
    assert!(again.sessions.is_empty());
    let ended = registry
        .set_password_hash(actor, &ada.id, Some(&SecretText::new("$new".into())), None)
        .await?;
    assert_eq!(ended.sessions, [ids[3].clone()]);
    Ok(())
}

fn attempt(user: Option<&User>, failure: Option<&str>) -> NewSignIn {
    NewSignIn {
        user_id: user.map(|user| user.id.clone()),
        identifier: "ada@example.com".to_owned(),
        method: "password".to_owned(),
        failure: failure.map(str::to_owned),
        network: "192.0.2.1".to_owned(),
        user_agent: "Firefox".to_owned(),
        session_id: None,
    }
}

#[tokio::test]
async fn wrong_passwords_make_an_account_wait_longer_each_time() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let ada = person(&fixture, "ada", &[]).await?;
    let wrong = attempt(Some(&ada), Some("wrong_password"));
    for _ in 0..4 {
        assert_eq!(registry.record_sign_in(&wrong).await?.locked_until, None);
    }
    let fifth = registry.record_sign_in(&wrong).await?;
    assert_eq!(fifth.locked_until, Some(START + 30_000));
    let sixth = registry.record_sign_in(&wrong).await?;
    assert_eq!(sixth.locked_until, Some(START + 60_000));
    let email = Email::new("ada@example.com")?;
    let waiting = registry.find_credentials(&email).await?.expect("hers");
    assert_eq!(waiting.locked_until, Some(START + 60_000));
    let right = registry.record_sign_in(&attempt(Some(&ada), None)).await?;
    assert!(right.new_device && right.locked_until.is_none());
    assert!(
        !registry
            .record_sign_in(&attempt(Some(&ada), None))
            .await?
            .new_device
    );
    assert_eq!(
        registry
            .find_credentials(&email)
            .await?
            .expect("hers")
            .locked_until,
        None
    );
    registry
        .record_sign_in(&attempt(None, Some("unknown_user")))
        .await?;
    let (mut seen, mut cursor) = (0, None);
    loop {
        let page = registry
            .list_sign_ins(Some(&ada.id), cursor.as_deref(), 3)
            .await?;
        seen += page.items.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, 8);
    assert_eq!(
        registry.list_sign_ins(None, None, 100).await?.items.len(),
        9
    );
    assert_eq!(count(&fixture, "user.locked").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_step_a_recovery_code_and_a_counter_are_good_once() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada = person(&fixture, "ada", &[]).await?;
    registry
        .set_totp(actor, &ada.id, &Sealed::new(vec![1, 2, 3]))
        .await?;
    let email = Email::new("ada@example.com")?;
    assert!(
        !registry
            .find_credentials(&email)
            .await?
            .expect("hers")
            .needs_totp
    );
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let (registry, id) = (registry.clone(), ada.id.clone());
        let actor = actor.clone();
        tasks.push(tokio::spawn(async move {
            registry.accept_totp_step(&actor, &id, 100).await
        }));
    }
    let mut accepted = 0;
    for task in tasks {
        accepted += usize::from(task.await??);
    }
    assert_eq!(accepted, 1);
    assert!(
        !registry.accept_totp_step(actor, &ada.id, 99).await?,
        "an older step"
    );
    assert!(
        registry
            .find_credentials(&email)
            .await?
            .expect("hers")
            .needs_totp
    );
    assert_eq!(
        registry.find_totp(&ada.id).await?.sealed.as_bytes(),
        [1, 2, 3]
    );

    let hashes = [SecretText::new("h1".into()), SecretText::new("h2".into())];
    registry.set_recovery_codes(actor, &ada.id, &hashes).await?;
    let code = registry.list_recovery_codes(&ada.id).await?.remove(0);
    assert!(
        !registry
            .use_recovery_code(actor, "other", &code.id)
            .await
            .is_ok_and(|used| used)
    );
    assert!(registry.use_recovery_code(actor, &ada.id, &code.id).await?);
    assert!(!registry.use_recovery_code(actor, &ada.id, &code.id).await?);
    assert_eq!(registry.list_recovery_codes(&ada.id).await?.len(), 1);

    let passkey = NewPasskey {
        credential_id: vec![0, 255, 7],
        user_id: ada.id.clone(),
        public_key: vec![9; 77],
        sign_count: 5,
        transports: "internal usb".to_owned(),
        name: "Laptop".to_owned(),
    };
    registry.add_passkey(actor, &passkey).await?;
    assert_eq!(
        code_of(registry.add_passkey(actor, &passkey).await),
        "passkey_taken"
    );
    let id = passkey.credential_id.as_slice();
    assert_eq!(
        registry.use_passkey(actor, id, 6).await?,
        PasskeyUse::Accepted
    );
    assert_eq!(
        registry.use_passkey(actor, id, 6).await?,
        PasskeyUse::Suspect
    );
    let stored = registry.find_passkey(id).await?;
    assert_eq!((stored.sign_count, stored.suspect_at), (6, Some(START)));
    registry
        .rename_passkey(actor, &ada.id, id, "Old laptop")
        .await?;
    registry
        .set_password_hash(actor, &ada.id, None, None)
        .await?;
    let last = registry.remove_passkey(actor, &ada.id, id).await;
    assert_eq!(code_of(last), "last_sign_in_method");
    registry.remove_totp(actor, &ada.id).await?;
    assert_eq!(code_of(registry.find_totp(&ada.id).await), "totp_not_found");
    Ok(())
}

fn provider(id: &str) -> NewProvider {
    NewProvider {
        id: id.to_owned(),
        kind: "openid".to_owned(),
        name: "Example".to_owned(),
        issuer: format!("https://{id}.example.com"),
        client_id: "keywright".to_owned(),
        sealed_secret: Some(Sealed::new(vec![4, 5])),
        settings: String::new(),
        trusts_email: true,
        enabled: true,
    }
}

fn claims(provider: &str, subject: &str, email: &str, verified: bool) -> Result<IdentityClaims> {
    Ok(IdentityClaims {
        provider_id: provider.to_owned(),
        issuer: format!("https://{provider}.example.com"),
        subject: subject.to_owned(),
        name: "Ada".to_owned(),
        email: Some(Email::new(email)?),
        email_verified: verified,
    })
}

#[tokio::test]
async fn ac_070_ac_076_ac_077_identities_are_linked_by_issuer_and_subject() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let ada = person(&fixture, "ada", &[]).await?;
    let bob = person(&fixture, "bob", &[]).await?;
    registry
        .put_identity_provider(actor, &provider("idp"))
        .await?;
    let unverified = claims("idp", "1", "ada@example.com", false)?;
    let outcome = registry
        .accept_identity(&unverified, None, Some(&[]))
        .await?;
    assert_eq!(outcome, IdentityOutcome::Refused(LinkRefusal::SignInToLink));
    assert!(registry.list_identities(&ada.id).await?.is_empty());
    let outcome = registry
        .accept_identity(&unverified, Some(&ada.id), None)
        .await?;
    assert_eq!(outcome, IdentityOutcome::Linked(ada.id.clone()));
    let outcome = registry.accept_identity(&unverified, None, None).await?;
    assert_eq!(outcome, IdentityOutcome::SignedIn(ada.id.clone()));
    let outcome = registry
        .accept_identity(&unverified, Some(&bob.id), None)
        .await?;
    assert_eq!(
        outcome,
        IdentityOutcome::Refused(LinkRefusal::IdentityInUse)
    );
    let verified = claims("idp", "2", "bob@example.com", true)?;
    let outcome = registry.accept_identity(&verified, None, None).await?;
    assert_eq!(outcome, IdentityOutcome::Linked(bob.id.clone()));
    let stranger = claims("idp", "3", "eve@example.com", true)?;
    let outcome = registry.accept_identity(&stranger, None, None).await?;
    assert_eq!(outcome, IdentityOutcome::Refused(LinkRefusal::SignUpClosed));
    let roles = [role("member")];
    let outcome = registry
        .accept_identity(&stranger, None, Some(&roles))
        .await?;
    let IdentityOutcome::Created(eve) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(registry.find_user(&eve).await?.roles, roles);
    let own = registry.list_identities(&eve).await?.remove(0);
    let last = registry.unlink_identity(actor, &eve, &own.id).await;
    assert_eq!(code_of(last), "last_sign_in_method");
    let own = registry.list_identities(&ada.id).await?.remove(0);
    let foreign = registry.unlink_identity(actor, &bob.id, &own.id).await;
    assert_eq!(code_of(foreign), "identity_not_found");
    registry.unlink_identity(actor, &ada.id, &own.id).await?;
    Ok(())
}

#[tokio::test]
async fn ac_079_a_disabled_provider_is_like_none() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    registry
        .put_identity_provider(actor, &provider("idp"))
        .await?;
    let (_, secret) = registry.find_identity_provider("idp").await?;
    assert_eq!(secret.expect("its secret").as_bytes(), [4, 5]);
    let off = NewProvider {
        enabled: false,
        sealed_secret: None,
        ..provider("idp")
    };
    registry.put_identity_provider(actor, &off).await?;
    for id in ["idp", "none"] {
        assert_eq!(
            code_of(registry.find_identity_provider(id).await),
            "provider_not_found"
        );
        assert_eq!(
            code_of(registry.start_login(&login("s", id)).await),
            "provider_not_found"
        );
    }
    registry
        .put_identity_provider(
            actor,
            &NewProvider {
                sealed_secret: None,
                ..provider("idp")
            },
        )
        .await?;
    assert!(
        registry.find_identity_provider("idp").await?.1.is_some(),
        "the secret stayed"
    );
    let moved = NewProvider {
        issuer: "https://evil.example".to_owned(),
        ..provider("idp")
    };
    assert_eq!(
        code_of(registry.put_identity_provider(actor, &moved).await),
        "provider_taken"
    );
    Ok(())
}

fn login(state: &str, provider: &str) -> NewLogin {
    NewLogin {
        state: token(state),
        browser: token("browser"),
        provider_id: provider.to_owned(),
        nonce: "n".to_owned(),
        sealed_verifier: Sealed::new(vec![8]),
        redirect_to: "/dashboard".to_owned(),
        user_id: None,
        lifetime_ms: 600_000,
    }
}

#[tokio::test]
async fn ac_071_to_074_a_browser_comes_back_once_by_its_own_cookie() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    registry
        .put_identity_provider(&fixture.actor, &provider("github"))
        .await?;
    registry.start_login(&login("state", "github")).await?;
    let (state, own) = (token("state"), token("browser"));
    let without = registry.finish_login(&state, None, "github").await?;
    assert_eq!(without.code(), Some("state_mismatch"));
    let foreign = registry
        .finish_login(&state, Some(&token("other")), "github")
        .await?;
    assert_eq!(foreign.code(), Some("state_mismatch"));
    let elsewhere = registry.finish_login(&state, Some(&own), "google").await?;
    assert_eq!(elsewhere.code(), Some("provider_mismatch"));
    let unknown = registry
        .finish_login(&token("x"), Some(&own), "github")
        .await?;
    assert_eq!(unknown.code(), Some("state_unknown"));
    let other = fixture.second().await?;
    let mut tasks = Vec::new();
    for number in 0..50 {
        let registry = if number % 2 == 0 {
            registry.clone()
        } else {
            other.clone()
        };
        tasks.push(tokio::spawn(async move {
            registry
                .finish_login(&token("state"), Some(&token("browser")), "github")
                .await
        }));
    }
    let mut returned = 0;
    for task in tasks {
        if let LoginOutcome::Returned(login) = task.await?? {
            assert_eq!(login.sealed_verifier.as_bytes(), [8]);
            returned += 1;
        }
    }
    assert_eq!(returned, 1);
    registry.start_login(&login("old", "github")).await?;
    fixture.set_clock(START + 600_000);
    let late = registry
        .finish_login(&token("old"), Some(&own), "github")
        .await?;
    assert_eq!(late.code(), Some("state_unknown"));
    Ok(())
}

fn signing_key(kid: &str, activate_at: Option<i64>) -> NewSigningKey {
    NewSigningKey {
        kid: kid.to_owned(),
        alg: "ES256".to_owned(),
        public_jwk: "{}".to_owned(),
        sealed: Sealed::new(kid.as_bytes().to_vec()),
        activate_at,
    }
}

#[tokio::test]
async fn ac_201_s38_signing_keys_are_published_until_their_last_token_has_expired() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    registry
        .add_signing_key(actor, &signing_key("a", None))
        .await?;
    let taken = registry
        .add_signing_key(actor, &signing_key("a", None))
        .await;
    assert_eq!(code_of(taken), "signing_key_taken");
    assert_eq!(
        code_of(registry.find_active_signing_key("ES256").await),
        "signing_key_not_found"
    );
    registry.promote_signing_key(actor, "a", 900_000).await?;
    registry
        .add_signing_key(actor, &signing_key("b", None))
        .await?;
    registry
        .schedule_signing_key(actor, "b", Some(START + 10))
        .await?;
    assert_eq!(registry.settle_signing_keys(900_000).await?, 0);
    fixture.set_clock(START + 10);
    assert_eq!(registry.settle_signing_keys(900_000).await?, 1);
    let (active, sealed) = registry.find_active_signing_key("ES256").await?;
    assert_eq!(
        (active.kid.as_str(), sealed.as_bytes()),
        ("b", b"b".as_slice())
    );
    let published = registry.list_signing_keys().await?;
    let states: Vec<_> = published
        .iter()
        .map(|key| (key.kid.as_str(), key.state))
        .collect();
    assert_eq!(states, [("a", KeyState::Retiring), ("b", KeyState::Active)]);
    let in_use = registry.retire_signing_key(actor, "b").await;
    assert_eq!(code_of(in_use), "signing_key_state");
    fixture.set_clock(START + 10 + 900_000 - 1);
    assert_eq!(registry.settle_signing_keys(900_000).await?, 0);
    fixture.set_clock(START + 10 + 900_000);
    assert_eq!(registry.settle_signing_keys(900_000).await?, 1);
    assert_eq!(registry.list_signing_keys().await?.len(), 1);
    let back = registry.promote_signing_key(actor, "a", 1).await;
    assert_eq!(code_of(back), "signing_key_state");
    Ok(())
}

#[tokio::test]
async fn lists_of_people_are_stable_while_people_come() -> Result<()> {
    let fixture = super::fixture().await?;
    for number in 0..9 {
        person(&fixture, &format!("person{number}"), &["member"]).await?;
    }
    for order in [UserOrder::NameAsc, UserOrder::CreatedDesc] {
        let mut query = UserQuery {
            text: "PERSON".to_owned(),
            order,
            cursor: None,
            limit: 4,
        };
        let mut names = Vec::new();
        loop {
            let page = fixture.registry.list_users(&query).await?;
            assert!(page.items.iter().all(|user| user.roles == [role("member")]));
            names.extend(page.items.into_iter().map(|user| user.name));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
            // Somebody before the place where the page ended changes nothing after it.
            let name = format!("aaa{}-{order:?}", names.len());
            person(&fixture, &name, &[]).await?;
        }
        if order == UserOrder::NameAsc {
            assert!(names.is_sorted());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 9, "{names:?}");
    }
    let foreign = UserQuery {
        cursor: Some("1~x".to_owned()),
        ..UserQuery::default()
    };
    assert_eq!(
        code_of(fixture.registry.list_users(&foreign).await),
        "invalid_cursor"
    );
    Ok(())
}
