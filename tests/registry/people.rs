//! Users, roles, invitations and sessions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a test's parts is a failed test"
)]

use anyhow::Result;
use keywright_domain::SecretText;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Owner, OwnerKind};
use keywright_domain::audit::Actor;
use keywright_domain::people::{
    Email, EndReason, RoleName, Session, SessionLives, SessionState, TokenDigest,
};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_registry::people::{
    NewInvitation, NewRegistrationToken, NewSession, NewUser, PeopleRetention, User, UserChange,
    UserOrder, UserQuery,
};
use keywright_registry::{PrincipalChange, RegistryError, VerifyRequest};

use super::grants::{grant_of, ready};
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
    session_by(fixture, user, cookie, "pwd").await
}

/// The same, proven in this way.
pub(crate) async fn session_by(
    fixture: &Fixture,
    user: &User,
    cookie: &str,
    amr: &str,
) -> Result<Session> {
    let new = NewSession {
        digest: token(cookie),
        user_id: user.id.clone(),
        acr: "1".to_owned(),
        amr: amr.to_owned(),
        proven_at: Some(fixture.now()),
        user_agent: "Firefox\u{7}".to_owned(),
        network: "192.0.2.1".to_owned(),
        lives: SessionLives::default(),
    };
    Ok(fixture.registry.start_session(&fixture.actor, &new).await?)
}

pub(crate) async fn state_of(fixture: &Fixture, cookie: &str) -> Result<Option<&'static str>> {
    let found = fixture.registry.find_session(&token(cookie)).await?;
    Ok(found.map(|(_, state)| state.code()))
}

pub(crate) async fn count(fixture: &Fixture, action: &str) -> Result<usize> {
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
    assert_eq!(*fixture.registry.find_user(&ada.id).await?, ada);
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
    let past = PrincipalChange::Disable(String::new());
    let refused = registry.change_principal(actor, &ada.id, &past).await;
    assert_eq!(code_of(refused), "principal_is_user");
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
    // What a receipt is asked of.
    let before = registry.newest_change_of_holders(&helper).await?;
    registry
        .define_role(actor, &helper, "", &may("keys:read"))
        .await?;
    let newest = registry.newest_change_of_holders(&helper).await?;
    assert_eq!(newest, Some(registry.find_principal(&ada.id).await?.epoch));
    assert!(before.is_some() && newest > before, "{before:?} {newest:?}");
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
    assert_eq!(registry.newest_change_of_holders(&helper).await?, None);
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
    fixture.set_clock(START + 5 * MINUTE_MS - 1);
    assert!(
        !registry.touch_session(&first, "192.0.2.2").await?,
        "once in five minutes"
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
        .renew_session(
            actor,
            &token("before"),
            &token("after"),
            ("2", "pwd otp"),
            None,
        )
        .await?;
    assert_eq!(
        (renewed.id.as_str(), renewed.acr.as_str()),
        (first.id.as_str(), "2")
    );
    assert_eq!(state_of(&fixture, "before").await?, None);
    let again = registry
        .renew_session(actor, &token("before"), &token("x"), ("2", ""), None)
        .await;
    assert_eq!(code_of(again), "session_not_found");
    let ended = registry
        .end_session(actor, &ada.id, &first.id, EndReason::SignedOut)
        .await?;
    assert_eq!(ended.sessions, std::slice::from_ref(&first.id));
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
    assert_eq!(ended.sessions, std::slice::from_ref(&ids[3]));
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
        let given = names.len();
        names.sort();
        names.dedup();
        assert_eq!((given, names.len()), (9, 9), "{names:?}");
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

/// AC-117: what was given without a session, by a device or a sign-in of a page, ends as well.
#[tokio::test]
async fn ac_117_another_password_ends_every_refresh_family_but_the_callers_own() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let bob = person(&fixture, "bob", &[]).await?;
    let hash = SecretText::new("$new".to_owned());
    for keeps in [true, false] {
        let own = session(&fixture, &ada, &format!("own {keeps}")).await?;
        let other = session(&fixture, &ada, &format!("other {keeps}")).await?;
        let mut grants = Vec::new();
        for (at, session_id) in [Some(&own.id), Some(&other.id), None]
            .into_iter()
            .enumerate()
        {
            let (code, refresh) = (format!("c{keeps}{at}"), format!("r{keeps}{at}"));
            let session_id = session_id.map(String::as_str);
            grants.push(grant_of(&fixture, &ada, &code, &refresh, session_id).await?);
        }
        let code = format!("bob {keeps}");
        let bobs = grant_of(&fixture, &bob, &code, &code, None).await?;
        let keep = keeps.then_some(own.id.as_str());
        let ended = registry
            .set_password_hash(actor, &ada.id, Some(&hash), keep)
            .await?;
        // What the first round kept ends in the second.
        let expected = if keeps { (1, 2) } else { (3, 4) };
        assert_eq!((ended.sessions.len(), ended.grants), expected);
        for (at, grant) in grants.iter().enumerate() {
            let ends = at > 0 || !keeps;
            let now = registry.find_grant(&grant.id).await?;
            assert_eq!(now.revoked_at.is_some(), ends, "{keeps} {at}");
            assert_eq!(registry.is_access_denied("", "", &grant.id).await?, ends);
            let reason = ends.then_some(EndReason::PasswordChanged);
            assert_eq!(now.revoke_reason, reason);
        }
        assert!(registry.find_grant(&bobs.id).await?.revoked_at.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn ac_117_a_password_is_reset_and_chosen_once() -> Result<()> {
    let (fixture, ada) = ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let (hash, by) = (SecretText::new("$chosen".to_owned()), actor.as_str());
    let own = session(&fixture, &ada, "own").await?;
    let grant = grant_of(&fixture, &ada, "code", "refresh", Some(&own.id)).await?;
    let (first, ended) = registry.reset_password(actor, &ada.id).await?;
    assert_eq!((ended.sessions.len(), ended.grants), (1, 1));
    let revoked = registry.find_grant(&grant.id).await?;
    assert_eq!(revoked.revoke_reason, Some(EndReason::PasswordChanged));
    assert!(!registry.find_user(&ada.id).await?.has_password);
    // Another reset in the same millisecond is another link.
    let (second, _) = registry.reset_password(actor, &ada.id).await?;
    assert!(second > first);
    let invalid = "password_reset_invalid";
    assert_eq!(
        code_of(registry.find_password_reset(&ada.id, first, by).await),
        invalid
    );
    assert_eq!(
        code_of(registry.choose_password((&ada.id, first, by), &hash).await),
        invalid
    );
    assert_eq!(
        code_of(
            registry
                .choose_password(("nobody", second, by), &hash)
                .await
        ),
        invalid
    );
    assert_eq!(
        registry.find_password_reset(&ada.id, second, by).await?.id,
        ada.id
    );
    let mut tasks = Vec::new();
    for number in 0..50 {
        let (registry, id, by) = (registry.clone(), ada.id.clone(), by.to_owned());
        let hash = SecretText::new(format!("$chosen {number}"));
        let chosen = async move { registry.choose_password((&id, second, &by), &hash).await };
        tasks.push(tokio::spawn(chosen));
    }
    let mut chosen = 0;
    for task in tasks {
        chosen += usize::from(task.await?.is_ok());
    }
    assert_eq!(chosen, 1);
    assert!(registry.find_user(&ada.id).await?.has_password);
    // A link is for who is there: not for somebody who was disabled meanwhile.
    let (third, _) = registry.reset_password(actor, &ada.id).await?;
    registry.disable_user(actor, &ada.id, "").await?;
    assert_eq!(
        code_of(registry.choose_password((&ada.id, third, by), &hash).await),
        invalid
    );
    let refused = registry.reset_password(actor, &ada.id).await;
    assert_eq!(code_of(refused), "user_disabled");
    Ok(())
}

/// An administrator who is about to be removed, or whoever has their session, leaves no door open.
#[tokio::test]
async fn what_somebody_made_for_later_does_not_outlive_them() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    person(&fixture, "boss", &["owner"]).await?;
    let at = std::net::Ipv4Addr::LOCALHOST.into();
    let hash = SecretText::new("$chosen".to_owned());
    // One who may invite and reset, and hold nothing that they would give by it.
    let bare = ScopeSet::parse("users:write clients:write")?;
    registry
        .define_role(actor, &role("bare"), "", &bare)
        .await?;
    for end in ["disabled", "deleted", "less", "bare", "reset"] {
        let adam = person(&fixture, end, &["admin"]).await?;
        let mia = person(&fixture, &format!("mia-{end}"), &["key-admin"]).await?;
        let his = Actor::person(&adam.id);
        let (link, registration) = (token(&format!("link {end}")), token(&format!("reg {end}")));
        let invitation = NewInvitation {
            digest: link,
            email: Email::new(&format!("own-{end}@example.com"))?,
            roles: vec![role("admin")],
            lifetime_ms: 30 * DAY_MS,
        };
        registry.invite_user(&his, &invitation).await?;
        let new = NewRegistrationToken {
            digest: registration,
            note: String::new(),
            lifetime_ms: 30 * DAY_MS,
            max_uses: 9,
        };
        registry.add_registration_token(&his, &new).await?;
        let (moment, _) = registry.reset_password(&his, &mia.id).await?;
        let reset = (mia.id.as_str(), moment, adam.id.as_str());
        registry.find_invitation(&link).await?;
        registry.find_registration_token(&registration).await?;
        registry
            .find_password_reset(reset.0, reset.1, reset.2)
            .await?;
        match end {
            "disabled" => registry.disable_user(actor, &adam.id, "").await.map(drop)?,
            "deleted" => registry.delete_user(actor, &adam.id).await?,
            "less" => {
                let less = [role("key-admin")];
                registry.set_user_roles(actor, &adam.id, &less).await?;
            }
            "bare" => {
                let bare = [role("bare")];
                registry.set_user_roles(actor, &adam.id, &bare).await?;
            }
            _ => registry.reset_password(actor, &adam.id).await.map(drop)?,
        }
        let nobody = async || {
            let new = NewUser {
                name: "Adam again".to_owned(),
                email: None,
                email_verified: false,
                roles: Vec::new(),
                password_hash: Some(SecretText::new("$argon2id$canary".to_owned())),
            };
            let (invalid, gone) = ("invitation_invalid", "registration_token_not_found");
            assert_eq!(code_of(registry.find_invitation(&link).await), invalid);
            let accepted = registry.accept_invitation(&link, &new).await;
            assert_eq!(code_of(accepted), invalid, "{end}");
            let found = registry.find_registration_token(&registration).await;
            if end == "bare" {
                // That takes no more than he has.
                return assert!(found.is_ok());
            }
            assert_eq!(code_of(found), gone);
            let client = (end, &super::grants::desktop());
            let made = registry
                .register_client(at, &registration, client, None)
                .await;
            assert_eq!(code_of(made), gone, "{end}");
        };
        nobody().await;
        let found = registry
            .find_password_reset(reset.0, reset.1, reset.2)
            .await;
        if end == "reset" {
            // He is there still, and may.
            registry.choose_password(reset, &hash).await?;
            continue;
        }
        assert_eq!(code_of(found), "password_reset_invalid");
        let chosen = registry.choose_password(reset, &hash).await;
        assert_eq!(code_of(chosen), "password_reset_invalid", "{end}");
        if end == "disabled" {
            // What was taken back stays so.
            registry.enable_user(actor, &adam.id).await?;
            nobody().await;
        }
    }
    let withdrawn = count(&fixture, "user.invitation_withdrawn").await?;
    assert_eq!(withdrawn, 3, "whoever may do less may do more again");
    assert_eq!(count(&fixture, "registration_token.ended").await?, 3);
    Ok(())
}
