//! What keys and clients made for others to use later, and what becomes of it when their makers end.

use anyhow::Result;
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Owner, OwnerKind};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::people::NewRegistrationToken;
use keywright_registry::{ApiKeyChange, PrincipalChange};

use super::people::token;
use super::wish;

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
