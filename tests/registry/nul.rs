//! U+0000, which PostgreSQL has no place for: the registry answers alike on both databases, whichever way a text came
//! to it. (What comes by HTTP is refused before.)

use anyhow::Result;
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::scopes::Scope;
use keywright_registry::{AuditQuery, ImportFormat, PrincipalChange, RegistryError};

use super::wish;

const ID: &str = "a\0b";

/// The code of a refusal.
fn code<T>(answer: Result<T, RegistryError>) -> &'static str {
    answer.map_or_else(|error| error.code(), |_| "none")
}

#[tokio::test]
async fn nothing_has_an_id_with_u_0000_in_it() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let all = [
        (code(registry.find_api_key(ID).await), "key_not_found"),
        (
            code(registry.revoke_api_key(actor, ID, "").await),
            "key_not_found",
        ),
        (
            code(registry.disable_api_key(actor, ID, "").await),
            "key_not_found",
        ),
        (
            code(registry.enable_api_key(actor, ID).await),
            "key_not_found",
        ),
        (code(registry.find_principal(ID).await), "owner_not_found"),
        (
            code(registry.list_principals(None, ID, 1).await),
            "invalid_cursor",
        ),
        (code(registry.find_delivery(ID).await), "rotation_not_found"),
        (code(registry.find_campaign(ID).await), "campaign_not_found"),
        (
            code(registry.find_question(ID, ID).await),
            "question_not_found",
        ),
        (code(registry.find_account(ID).await), "account_not_found"),
        (code(registry.find_webhook(ID).await), "webhook_not_found"),
        (
            code(registry.remove_webhook(actor, ID).await),
            "webhook_not_found",
        ),
        (code(registry.find_message(ID).await), "message_not_found"),
        (code(registry.find_bulk(ID).await), "operation_not_found"),
        (code(registry.find_later(ID).await), "operation_not_found"),
        (
            code(registry.find_session_by_id(ID).await),
            "session_not_found",
        ),
        (code(registry.find_client(ID).await), "client_not_found"),
        (
            code(registry.remove_client(actor, ID).await),
            "client_not_found",
        ),
        (code(registry.find_grant(ID).await), "grant_not_found"),
        (
            code(registry.find_identity_provider(ID).await),
            "provider_not_found",
        ),
        (code(registry.find_user(ID).await), "user_not_found"),
        (
            code(registry.disable_user(actor, ID, "").await),
            "user_not_found",
        ),
    ];
    let others = all.iter().filter(|(came, expected)| came != expected);
    let others: Vec<_> = others.collect();
    assert!(others.is_empty(), "came, and was expected: {others:?}");
    for (action, target, by) in [
        (Some(ID), None, None),
        (None, Some(ID), None),
        (None, None, Some(ID)),
    ] {
        let query = AuditQuery {
            action: action.map(str::to_owned),
            target: target.map(str::to_owned),
            actor: by.map(str::to_owned),
            limit: 10,
            ..AuditQuery::default()
        };
        assert_eq!(registry.list_audit_events(query).await?.items.len(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_text_with_u_0000_is_refused_by_name_and_nothing_of_it_is_done() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let issued = fixture.issue("one").await?;
    let (id, kid) = (issued.key.id, issued.key.secrets[0].kid.clone());
    let text = "why\0";
    let scope = KnownScope {
        scope: Scope::new("some:thing")?,
        description: text.to_owned(),
        low_risk: false,
    };
    let revoke_all = PrincipalChange::RevokeKeys(text.to_owned());
    let refused = [
        code(registry.revoke_api_key(actor, &id, text).await),
        code(registry.disable_api_key(actor, &id, text).await),
        code(registry.revoke_secret(actor, &id, &kid, text).await),
        code(registry.define_scope(actor, scope).await),
        code(registry.change_principal(actor, "local", &revoke_all).await),
    ];
    assert_eq!(refused, ["invalid_character"; 5]);
    let mut named = wish("a\0");
    assert_eq!(
        code(
            registry
                .issue_api_key(actor, &named, &fixture.peppers)
                .await
        ),
        "invalid_name"
    );
    named.name = "two".to_owned();
    // Nothing of it was done, and the writer goes on.
    let (key, events) = registry.find_api_key(&id).await?;
    assert!(key.revoked_at.is_none() && key.disabled_at.is_none());
    assert_eq!(events.len(), 1, "{events:?}");
    let known = registry.list_scopes().await?;
    assert!(
        known
            .iter()
            .all(|known| known.scope.as_str() != "some:thing")
    );
    registry
        .issue_api_key(actor, &named, &fixture.peppers)
        .await?;
    assert!(
        registry
            .revoke_api_key(actor, &id, "why")
            .await?
            .revoked_at
            .is_some()
    );
    Ok(())
}

/// Many are written by one transaction: only the one that holds it hears of it.
#[tokio::test]
async fn whoever_writes_beside_a_text_with_u_0000_is_not_refused_for_it() -> Result<()> {
    let fixture = super::fixture().await?;
    let mut ids = Vec::new();
    for number in 0..12 {
        ids.push(fixture.issue(&format!("key {number}")).await?.key.id);
    }
    let all = ids.iter().enumerate().map(|(at, id)| {
        let (registry, actor) = (fixture.registry.clone(), fixture.actor.clone());
        let (id, reason) = (id.clone(), if at % 3 == 0 { "why\0" } else { "why" });
        tokio::spawn(async move { code(registry.disable_api_key(&actor, &id, reason).await) })
    });
    for (at, one) in all.collect::<Vec<_>>().into_iter().enumerate() {
        let expected = if at % 3 == 0 {
            "invalid_character"
        } else {
            "none"
        };
        assert_eq!(one.await?, expected, "{at}");
    }
    Ok(())
}

#[tokio::test]
async fn a_line_of_an_import_that_holds_it_is_refused_and_the_others_are_not() -> Result<()> {
    let fixture = super::fixture().await?;
    let hash = |letter: &str| format!("sha256:{}", letter.repeat(64));
    let good = |letter: &str| serde_json::json!({ "name": "a", "hash": hash(letter), "scopes": ["keys:read"] });
    let mut lines = Vec::new();
    for name in [
        "name",
        "last_four",
        "prefix",
        "owner",
        "environment",
        "note",
        "hash",
    ] {
        let mut line = good("a");
        line[name] = "a\0b".into();
        lines.push(line);
    }
    for name in ["scopes", "tags", "networks"] {
        let mut line = good("a");
        line[name] = serde_json::json!(["a\0b"]);
        lines.push(line);
    }
    for pair in [
        serde_json::json!({ "a": "b\0" }),
        serde_json::json!({ "a\0": "b" }),
    ] {
        let mut line = good("a");
        line["metadata"] = pair;
        lines.push(line);
    }
    let many = lines.len();
    lines.push(good("b"));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let options = super::portable::options(ImportFormat::NdJson);
    let report = fixture
        .registry
        .import_api_keys(&fixture.actor, text.as_bytes(), &fixture.peppers, &options)
        .await?;
    assert_eq!(report.refused.len(), many, "{report:?}");
    assert_eq!(report.imported.len(), 1, "{report:?}");
    Ok(())
}
