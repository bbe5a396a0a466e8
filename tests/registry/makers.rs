//! What somebody made for later, and their end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a test's parts is a failed test"
)]

use anyhow::Result;
use keywright_domain::SecretText;
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Owner, OwnerKind};
use keywright_domain::audit::Actor;
use keywright_domain::people::Email;
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::people::{NewInvitation, NewRegistrationToken, NewUser};
use keywright_registry::{ApiKeyChange, PrincipalChange};

use super::people::{code_of, count, person, role, token};
use super::wish;

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

#[tokio::test]
async fn what_a_key_or_a_client_made_for_later_does_not_outlive_it() -> Result<()> {
    const MAY: &str = "clients:write";
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let scope = KnownScope {
        scope: Scope::new(MAY)?,
        description: String::new(),
        low_risk: false,
    };
    registry.define_scope(actor, scope).await?;
    let everything = ScopeSet::everything();
    let nothing = PrincipalChange::Permissions(ScopeSet::parse("keys:read")?);
    let away = PrincipalChange::Disable("away".into());
    let leak = PrincipalChange::RevokeKeys("leak".into());
    let ends = [
        "key revoked",
        "key disabled",
        "key expired",
        "key of less",
        "owner away",
        "owner's keys ended",
        "creator away",
        "creator of less",
        "client away",
        "client of less",
    ];
    for (at, end) in ends.into_iter().enumerate() {
        let [owner, creator, client] =
            ["owner", "creator", "client"].map(|of| format!("{of}-{at}"));
        for id in [&owner, &creator] {
            registry
                .create_principal(actor, id, OwnerKind::Service, id, &everything)
                .await?;
        }
        let wish = NewApiKey {
            owner: Some(Owner::new(OwnerKind::Service, &owner)?),
            creator: Some(creator.clone()),
            scopes: vec![MAY.into()],
            lifetime_ms: Some(DAY_MS),
            ..wish("maker")
        };
        let key = fixture.issue_as(&wish).await?.key.id;
        let mut program = super::grants::confidential();
        program.scopes = super::grants::scopes(MAY);
        registry
            .add_client(actor, &client, &program, Some(&token(&client)))
            .await?;
        let by_client = end.starts_with("client");
        let maker = if by_client {
            format!("client:{client}")
        } else {
            format!("key:{key}")
        };
        let new = NewRegistrationToken {
            digest: token(&format!("registration {at}")),
            note: String::new(),
            lifetime_ms: 30 * DAY_MS,
            max_uses: 9,
        };
        registry
            .add_registration_token(&Actor::person(&maker), &new)
            .await?;
        registry.find_registration_token(&new.digest).await?;
        match end {
            "key revoked" => registry.revoke_api_key(actor, &key, "").await.map(drop)?,
            "key disabled" => registry.disable_api_key(actor, &key, "").await.map(drop)?,
            "key expired" => fixture.set_clock(fixture.now() + DAY_MS),
            "key of less" => {
                let less = ApiKeyChange {
                    scopes: Some(vec!["keys:read".into()]),
                    ..ApiKeyChange::default()
                };
                registry.change_api_key(actor, &key, &less).await?;
            }
            "owner away" => registry
                .change_principal(actor, &owner, &away)
                .await
                .map(drop)?,
            "owner's keys ended" => registry
                .change_principal(actor, &owner, &leak)
                .await
                .map(drop)?,
            "creator away" => registry
                .change_principal(actor, &creator, &away)
                .await
                .map(drop)?,
            "creator of less" => registry
                .change_principal(actor, &creator, &nothing)
                .await
                .map(drop)?,
            "client away" => registry.disable_client(actor, &client).await.map(drop)?,
            _ => {
                program.scopes = super::grants::scopes("openid");
                registry.change_client(actor, &client, &program).await?;
            }
        }
        let found = registry.find_registration_token(&new.digest).await;
        assert_eq!(
            found.err().map(|error| error.code()),
            Some("registration_token_not_found"),
            "{end}"
        );
    }
    Ok(())
}
