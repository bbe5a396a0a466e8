//! Signing in: attempts, second factors, passkeys, identity providers; and what signs tokens.

use anyhow::Result;
use keywright_domain::SecretText;
use keywright_domain::people::{Email, KeyState, LinkRefusal, Sealed};
use keywright_registry::AuditQuery;
use keywright_registry::people::{
    IdentityClaims, IdentityOutcome, LoginOutcome, NewInvitation, NewLogin, NewPasskey,
    NewProvider, NewSignIn, NewSigningKey, NewUser, PasskeyUse, User,
};

use super::START;
use super::people::{code_of, count, person, role, token};

fn attempt(user: Option<&User>, failure: Option<&str>) -> NewSignIn {
    NewSignIn {
        user_id: user.map(|user| user.id.clone()),
        identifier: "ada@example.com".to_owned(),
        method: "password".to_owned(),
        failure: failure.map(str::to_owned),
        network: "192.0.2.1".to_owned(),
        user_agent: "Firefox".to_owned(),
        session_id: None,
        device: failure.is_none().then(|| token("laptop")),
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
async fn ac_180_the_places_of_somebody_outlast_any_number_of_failures() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let ada = person(&fixture, "ada", &[]).await?;
    let at = |network: &str, failure| NewSignIn {
        network: network.to_owned(),
        ..attempt(Some(&ada), failure)
    };
    for (n, home) in ["192.0.2.1", "2001:db8::1", "192.0.2.1"].iter().enumerate() {
        fixture.set_clock(START + n as i64);
        registry.record_sign_in(&at(home, None)).await?;
    }
    for n in 0..60 {
        fixture.set_clock(START + 10 + n);
        let elsewhere = at(&format!("203.0.113.{n}"), Some("credentials_invalid"));
        registry.record_sign_in(&elsewhere).await?;
    }
    let known = registry.list_sign_in_networks(&ada.id).await?;
    assert_eq!(known, ["192.0.2.1", "2001:db8::1"]);
    let others = registry.list_sign_in_networks("nobody").await?;
    assert!(others.is_empty());
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
    let eve = person(&fixture, "eve", &[]).await?;
    assert!(!registry.use_recovery_code(actor, &eve.id, &code.id).await?);
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
    // What stood in for them is gone with them, and comes with them.
    assert!(registry.list_recovery_codes(&ada.id).await?.is_empty());
    registry
        .set_totp(actor, &ada.id, &Sealed::new(vec![4]))
        .await?;
    assert!(registry.confirm_totp(actor, &ada.id, 7, &hashes).await?);
    let confirmed = registry.find_totp(&ada.id).await?;
    assert_eq!(
        (confirmed.confirmed_at, confirmed.last_step),
        (Some(START), 7)
    );
    let codes = registry.list_recovery_codes(&ada.id).await?;
    assert_eq!(codes.len(), 2);
    // A step that was used replaces nothing.
    assert!(!registry.confirm_totp(actor, &ada.id, 7, &[]).await?);
    assert_eq!(registry.list_recovery_codes(&ada.id).await?.len(), 2);
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
async fn s65_an_address_alone_links_nobody_who_has_a_second_factor_or_a_passkey() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    registry
        .put_identity_provider(actor, &provider("idp"))
        .await?;
    let ada = person(&fixture, "ada", &[]).await?;
    registry
        .set_totp(actor, &ada.id, &Sealed::new(vec![1]))
        .await?;
    registry.accept_totp_step(actor, &ada.id, 1).await?;
    let bob = person(&fixture, "bob", &[]).await?;
    let passkey = NewPasskey {
        credential_id: vec![1, 2],
        user_id: bob.id.clone(),
        public_key: vec![9; 77],
        sign_count: 0,
        transports: String::new(),
        name: "Laptop".to_owned(),
    };
    registry.add_passkey(actor, &passkey).await?;
    for user in [&ada, &bob] {
        let address = user.email.as_ref().expect("has one").as_str();
        let verified = claims("idp", &user.id, address, true)?;
        let outcome = registry.accept_identity(&verified, None, Some(&[])).await?;
        assert_eq!(outcome, IdentityOutcome::Refused(LinkRefusal::SignInToLink));
        assert!(registry.list_identities(&user.id).await?.is_empty());
        // Signed in they may.
        let asked = registry.accept_identity(&verified, Some(&user.id), None);
        assert_eq!(asked.await?, IdentityOutcome::Linked(user.id.clone()));
    }
    // Codes that were begun and not confirmed are asked of nobody, and stand in nobody's way.
    let eve = person(&fixture, "eve", &[]).await?;
    registry
        .set_totp(actor, &eve.id, &Sealed::new(vec![1]))
        .await?;
    let verified = claims("idp", "eve", "eve@example.com", true)?;
    let outcome = registry.accept_identity(&verified, None, None).await?;
    assert_eq!(outcome, IdentityOutcome::Linked(eve.id));
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
    // For hints: for a while, and not one that was ended by hand.
    let retired = registry.list_retired_signing_keys(1_000).await?;
    assert_eq!(retired.len(), 1);
    assert_eq!(
        (retired[0].kid.as_str(), retired[0].state),
        ("a", KeyState::Retired)
    );
    registry
        .add_signing_key(actor, &signing_key("c", None))
        .await?;
    registry.promote_signing_key(actor, "c", 900_000).await?;
    registry.retire_signing_key(actor, "b").await?;
    assert_eq!(registry.list_retired_signing_keys(1_000).await?, retired);
    fixture.set_clock(START + 10 + 900_000 + 1_000);
    assert!(registry.list_retired_signing_keys(1_000).await?.is_empty());
    let back = registry.promote_signing_key(actor, "a", 1).await;
    assert_eq!(code_of(back), "signing_key_state");
    Ok(())
}

/// People call themselves what they like: `keywright` is the name of the program in the trail.
#[tokio::test]
async fn the_trail_names_people_by_what_they_did_not_choose() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    registry
        .put_identity_provider(actor, &provider("idp"))
        .await?;
    let invitation = NewInvitation {
        digest: token("link"),
        email: Email::new("invited@example.com")?,
        roles: vec![role("member")],
        lifetime_ms: 60_000,
    };
    registry.invite_user(actor, &invitation).await?;
    let new = NewUser {
        name: "keywright".to_owned(),
        email: None,
        email_verified: false,
        roles: Vec::new(),
        password_hash: Some(SecretText::new("$argon2id$canary".to_owned())),
    };
    let invited = registry.accept_invitation(&token("link"), &new).await?;
    let there = claims("idp", "1", "invited@example.com", true)?;
    let linked = registry.accept_identity(&there, None, None).await?;
    assert_eq!(linked, IdentityOutcome::Linked(invited.id.clone()));
    let stranger = IdentityClaims {
        name: "key:abc".to_owned(),
        ..claims("idp", "2", "eve@example.com", true)?
    };
    let outcome = registry.accept_identity(&stranger, None, Some(&[])).await?;
    let IdentityOutcome::Created(eve) = outcome else {
        panic!("{outcome:?}")
    };
    registry
        .record_sign_in(&attempt(Some(&invited), None))
        .await?;
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let trail = registry.list_audit_events(query).await?.items;
    for (action, who) in [
        ("user.invitation_accepted", &invited.id),
        ("user.identity_linked", &invited.id),
        ("user.created", &eve),
        ("user.sign_in_succeeded", &invited.id),
    ] {
        let mut of_it = trail.iter().filter(|one| one.action == action);
        let event = of_it.next().expect(action);
        assert_eq!(&event.actor, who, "{action}");
        assert!(of_it.next().is_none());
    }
    Ok(())
}

#[tokio::test]
async fn a_browser_is_known_by_its_own_token_and_not_by_what_it_says_it_is() -> Result<()> {
    let fixture = super::fixture().await?;
    let registry = &fixture.registry;
    let (ada, bob) = (
        person(&fixture, "ada", &[]).await?,
        person(&fixture, "bob", &[]).await?,
    );
    for (user, device, agent, is_new) in [
        (&ada, Some("laptop"), "Firefox/1", true),
        (&ada, Some("laptop"), "Firefox/2", false),
        (&ada, Some("phone"), "Firefox/2", true),
        // One that says nothing of itself is not known.
        (&ada, None, "Firefox/2", true),
        (&bob, Some("laptop"), "Firefox/2", true),
    ] {
        let new = NewSignIn {
            user_agent: agent.to_owned(),
            device: device.map(token),
            ..attempt(Some(user), None)
        };
        let standing = registry.record_sign_in(&new).await?;
        assert_eq!(standing.new_device, is_new, "{device:?} {agent}");
    }
    // A failure makes none known.
    let failed = NewSignIn {
        device: Some(token("thief")),
        ..attempt(Some(&ada), Some("credentials_invalid"))
    };
    registry.record_sign_in(&failed).await?;
    let thief = NewSignIn {
        failure: None,
        ..failed
    };
    assert!(registry.record_sign_in(&thief).await?.new_device);
    let page = registry.list_sign_ins(Some(&bob.id), None, 1).await?;
    assert_eq!(page.items[0].device, Some(token("laptop")));
    Ok(())
}
